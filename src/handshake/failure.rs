//! Why a handshake failed, in the words of the metric and of the log.

use std::io;

use rustls::{AlertDescription, Error};

use super::{Facts, NotTls, machine::Machine};
use crate::{
    metrics::{HandshakeKind, HandshakeResult, ShedReason, VersionLabel},
    trust::{Refusal, Refused},
};

/// What stopped the driver.
#[derive(Debug)]
pub(super) enum End {
    /// rustls, which has encoded the alert.
    Tls(Error),
    /// The first bytes.
    NotTls(NotTls),
    /// The client sent more than a handshake may hold.
    TooLong,
    /// The client closed the connection.
    Eof,
    /// The socket, or whoever cancelled it.
    Io(io::Error),
    /// It has lost its place among the handshakes in flight.
    Shed,
    /// A call into rustls panicked, and took the machine along.
    Panicked,
}

/// A handshake that failed.
#[derive(Debug)]
pub struct Failure {
    /// How, as the metric counts it. [`HandshakeResult::ClientClosed`] also stands for a
    /// handshake that was cancelled: whoever cancelled it knows better.
    pub result: HandshakeResult,
    /// More for the log, in our words.
    pub detail: String,
    /// The trust decision, if that is what failed.
    pub refused: Option<Refused>,
    /// The limit that turned the client away, if that is what failed.
    pub shed: Option<ShedReason>,
    /// What was known of the handshake.
    pub facts: Facts,
    /// The alert, as it goes over the wire; empty if none is due.
    pub(super) farewell: Vec<u8>,
}

const NO_FACTS: Facts = Facts {
    server_name: None,
    kind: HandshakeKind::None,
    version: VersionLabel::None,
    resumption: None,
    verification: None,
};

/// A fatal alert in the clear, as before any keys (RFC 8446 §6).
fn plain_alert(alert: AlertDescription) -> Vec<u8> {
    const ALERT: u8 = 21;
    const FATAL: u8 = 2;
    vec![ALERT, 3, 3, 0, 2, FATAL, u8::from(alert)]
}

impl Failure {
    fn new(result: HandshakeResult, detail: String) -> Self {
        Self { result, detail, refused: None, shed: None, facts: NO_FACTS, farewell: Vec::new() }
    }

    pub(super) fn internal(detail: String) -> Self {
        Self::new(HandshakeResult::Internal, detail)
    }

    /// Whoever ended the connection knows why.
    pub(super) fn ended() -> Self {
        Self::new(HandshakeResult::ClientClosed, "ended before the client was let in".into())
    }

    pub(super) fn refused(refused: Refused) -> Self {
        let detail = refused.detail.clone();
        Self { refused: Some(refused), ..Self::new(HandshakeResult::Refused, detail) }
    }

    /// A limit turned its client away. Nothing is said to it: that would be the dearest part.
    pub(super) fn shed(limit: ShedReason, mut machine: Machine) -> Self {
        let facts = Facts::of(&mut machine);
        let detail = format!("no room: {}", limit.as_str());
        Self { facts, shed: Some(limit), ..Self::new(HandshakeResult::Shed, detail) }
    }

    /// What the machine knows about its end.
    pub(super) fn describe(end: End, mut machine: Machine) -> Self {
        let fresh = machine.is_fresh();
        let facts = Facts::of(&mut machine);
        let mut failure = match end {
            End::Tls(error) => from_tls(&error, &mut machine),
            End::NotTls(what) => Self {
                farewell: plain_alert(AlertDescription::UnexpectedMessage),
                ..Self::new(HandshakeResult::NotTls, format!("client sent {}", what.as_str()))
            },
            End::TooLong => Self {
                // Later flights are encrypted; there the connection just ends.
                farewell: if fresh {
                    plain_alert(AlertDescription::RecordOverflow)
                } else {
                    Vec::new()
                },
                ..Self::new(
                    HandshakeResult::Malformed,
                    "client sent more than a handshake may hold".into(),
                )
            },
            End::Eof => Self::new(HandshakeResult::ClientClosed, "client closed".into()),
            End::Shed => Self::ended(),
            End::Panicked => Self::internal("a panic in the handshake".into()),
            End::Io(error) => Self::new(HandshakeResult::ClientClosed, format!("client: {error}")),
        };
        failure.facts = facts;
        if failure.facts.version == VersionLabel::V12
            && let Some(Refused { reason, .. }) = &failure.refused
            && reason.alert_tls12() != reason.alert()
        {
            // rustls sends what TLS 1.2 doesn't know. Nothing is encrypted yet at that point.
            failure.farewell = plain_alert(reason.alert_tls12());
        }
        if failure.result == HandshakeResult::UnknownServerName {
            // rustls sends access_denied; RFC 6066 §3 has an alert for it.
            failure.farewell = plain_alert(AlertDescription::UnrecognisedName);
        }
        if failure.farewell.is_empty() {
            failure.farewell = std::mem::take(&mut machine.output);
        }
        failure
    }
}

/// Sorts rustls' errors. Its list is open; what isn't known here is the client's breach of the
/// protocol, since our own configuration was checked before.
fn from_tls(error: &Error, machine: &mut Machine) -> Failure {
    let context = machine.context.as_mut();
    let unknown_name = context.as_ref().is_some_and(|context| context.unknown_server_name);
    let decision = context.and_then(|context| context.decision.take());
    let result = match error {
        Error::NoCertificatesPresented => {
            return Failure::refused(Refused {
                reason: Refusal::NoCertificate,
                detail: "client showed no certificate".into(),
                identity: None,
            });
        }
        Error::InvalidCertificate(problem) => {
            return Failure::refused(match decision {
                Some(Err(refused)) => refused,
                // The certificate was in order, so it is the proof of its key that failed.
                Some(Ok(_)) | None => Refused {
                    reason: Refusal::BadSignature,
                    detail: format!("client did not prove that it has the key: {problem}"),
                    identity: None,
                },
            });
        }
        Error::General(_) if unknown_name => {
            let detail = "client asked for a name that none of our certificates has, or for none";
            return Failure::new(HandshakeResult::UnknownServerName, detail.into());
        }
        Error::General(_) | Error::PeerIncompatible(_) | Error::NoApplicationProtocol => {
            HandshakeResult::NoCommonParameters
        }
        Error::AlertReceived(_) => HandshakeResult::ClientAlert,
        Error::FailedToGetCurrentTime
        | Error::FailedToGetRandomBytes
        | Error::HandshakeNotComplete
        | Error::EncryptError => HandshakeResult::Internal,
        _ => HandshakeResult::Malformed,
    };
    Failure::new(result, error.to_string())
}
