//! The TLS handshake of one connection: rustls on aws-lc-rs, until the keys are ours.

mod certificates;
mod config;
mod context;
mod failure;
mod machine;
mod preamble;
mod tickets;
mod verifier;

use std::{io, rc::Rc, sync::Arc};

use rustls::{
    AlertDescription, HandshakeKind as RustlsKind, ProtocolVersion, ServerConfig,
    SupportedCipherSuite, kernel::KernelConnection, server::ServerConnectionData,
};
use rustls_pki_types::{CertificateDer, UnixTime};

pub use config::{server_config, ticket_encryption};
pub use failure::{Failure, FailureKind};
pub use machine::{MAX_CLIENT_HELLO_BYTES, MAX_FLIGHT_BYTES};
pub use preamble::NotTls;
pub use tickets::MAX_SESSION_AGE;

use context::Context;
use machine::{Machine, Step};

use crate::{
    metrics::{HandshakeKind, ResumptionOutcome, VersionLabel},
    record::{RecordLayer, Side, TrafficSecrets},
    ring::{Io, Socket},
    trust::{Permit, Policy},
};

/// What client and server agreed on.
#[derive(Debug, Clone)]
pub struct Agreed {
    /// 1.3 or 1.2.
    pub version: VersionLabel,
    /// The cipher suite.
    pub cipher_suite: SupportedCipherSuite,
    /// The group of the key agreement, by its IANA name; none for a resumed TLS 1.2 session.
    pub group: Option<rustls::NamedGroup>,
    /// Full or resumed.
    pub kind: HandshakeKind,
    /// The application protocol, if one was negotiated.
    pub alpn: Option<Box<[u8]>>,
}

/// A handshake that succeeded.
pub struct Established {
    /// Who the client is, and what admits it.
    pub permit: Permit,
    /// What was agreed.
    pub agreed: Agreed,
    /// The client's SNI.
    pub server_name: Option<Box<str>>,
    /// The client's own certificate.
    pub certificate: Option<CertificateDer<'static>>,
    /// The record layer that goes on where rustls stopped.
    pub record: RecordLayer,
    /// Plaintext that came along with the end of the handshake.
    pub early: Vec<u8>,
    /// Bytes of a record that isn't complete yet.
    pub unread: Vec<u8>,
    /// The client's stream has ended already, in order.
    pub closed: bool,
    /// A session ticket that has to go out before, or together with, the first data.
    pub ticket: Vec<u8>,
    /// What became of a ticket that the client offered.
    pub resumption: Option<ResumptionOutcome>,
}

/// Shakes hands on a connection that was just accepted. There is no time-out here: whoever
/// watches the connection cancels its socket.
///
/// # Errors
/// Why it failed; the alert, if one is due, has been written to the socket as far as it takes it.
pub async fn perform(
    client: &Rc<Socket>,
    config: &Arc<ServerConfig>,
    policy: &Policy,
) -> Result<Established, Failure> {
    let mut machine =
        Machine::new(config.clone()).map_err(|error| Failure::internal(error.to_string()))?;
    match drive(client, &mut machine).await {
        Ok(()) => {}
        Err(kind) => {
            // Best effort: a client that doesn't read its alert goes without.
            let _ = client.try_write(&machine.output);
            return Err(failure::describe(kind, machine));
        }
    }
    let mut established = conclude(machine, policy)?;
    match established.permit {
        Ok(permit) => Ok(Established { permit, ..established.rest }),
        Err(refused) => {
            let alert = refused.reason.alert();
            let rest = &mut established.rest;
            if rest.record.write_fatal_alert(alert, &mut rest.ticket).is_ok() {
                let _ = client.try_write(&rest.ticket);
            }
            Err(Failure::refused_after_resumption(refused, established.rest.agreed))
        }
    }
}

/// Moves bytes between the client and the machine until it is done.
async fn drive(client: &Rc<Socket>, machine: &mut Machine) -> Result<(), FailureKind> {
    loop {
        read(client, machine).await?;
        loop {
            match machine.step() {
                Step::Read => break,
                Step::Done if machine.is_ticket_only() => return Ok(()),
                Step::Done => {
                    write(client, machine).await?;
                    return Ok(());
                }
                Step::Write => write(client, machine).await?,
                Step::Failed(error) => return Err(FailureKind::Tls(error)),
            }
        }
    }
}

async fn write(client: &Rc<Socket>, machine: &mut Machine) -> Result<(), FailureKind> {
    client.write_all(&machine.output).await.map_err(FailureKind::Io)?;
    machine.output.clear();
    Ok(())
}

/// Reads once, waiting if there is nothing yet.
async fn read(client: &Rc<Socket>, machine: &mut Machine) -> Result<(), FailureKind> {
    loop {
        let space = machine.space().map_err(|_| FailureKind::TooLong)?;
        match client.try_read(space).map_err(FailureKind::Io)? {
            Io::Bytes(0) => return Err(FailureKind::Eof),
            Io::Bytes(bytes) => {
                machine.received(bytes);
                if machine.is_fresh() {
                    preamble::judge(machine.unread()).map_err(FailureKind::NotTls)?;
                }
                return Ok(());
            }
            Io::WouldBlock => client.readable().await.map_err(FailureKind::Io)?,
        }
    }
}
