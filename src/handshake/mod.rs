//! The TLS handshake of one connection: rustls on aws-lc-rs, until the keys are ours.

mod certificates;
mod config;
mod context;
mod coroutine;
mod failure;
mod full;
mod kept;
mod machine;
mod policy_tag;
mod preamble;
mod rule;
#[cfg(test)]
mod tests;
mod tickets;
mod turn;
mod verifier;

use std::{rc::Rc, sync::Arc};

use rustls::{HandshakeKind as RustlsKind, ProtocolVersion, ServerConfig, SupportedCipherSuite};
use rustls_pki_types::{CertificateDer, UnixTime};

pub use certificates::{CertificateAlgorithms, certificates_for};
pub use config::server_config;
pub use coroutine::{serve_aside, serve_lanes};
pub use failure::Failure;
pub use turn::charge;

use preamble::NotTls;

use failure::End;
use machine::{Machine, Step};

use crate::{
    admission::HandshakePlace,
    crypto::lanes,
    metrics::{HandshakeKind, ResumptionOutcome, VerificationOutcome, VersionLabel},
    record::{RecordLayer, Side},
    ring::{Io, Peek, Socket},
    shadow::Shadow,
    trust::{Permit, Policy, Refusal, Refused},
};

/// What client and server agreed on.
#[derive(Debug, Clone)]
pub struct Agreed {
    /// 1.3 or 1.2.
    pub version: VersionLabel,
    /// The cipher suite.
    pub cipher_suite: SupportedCipherSuite,
    /// The algorithms of the certificate that the client was shown, or would have been.
    pub shown: Option<Arc<CertificateAlgorithms>>,
    /// The group of the key agreement, by its IANA name; none for a resumed TLS 1.2 session.
    pub group: Option<rustls::NamedGroup>,
    /// Full or resumed.
    pub kind: HandshakeKind,
    /// The application protocol, if one was negotiated.
    pub alpn: Option<Box<[u8]>>,
}

impl Agreed {
    /// The cipher suite's name as IANA registers it; rustls writes `TLS13_` for `TLS_`.
    pub fn cipher_name(&self) -> String {
        self.cipher_suite.suite().as_str().unwrap_or_default().replacen("TLS13_", "TLS_", 1)
    }
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
    /// Records that came along with the end of the handshake; the last may be incomplete.
    pub unread: Vec<u8>,
    /// A session ticket that has to go out before, or together with, the first data.
    pub ticket: Vec<u8>,
    /// What became of a ticket that the client offered.
    pub resumption: Option<ResumptionOutcome>,
    /// Whether the client's chain had been verified before.
    pub verification: Option<VerificationOutcome>,
}

impl Established {
    /// Refuses the client after all: it is sent the alert of the refusal, as far as its socket
    /// takes it, and nothing is left of the connection but to close it.
    pub fn refuse(mut self, client: &Socket, refused: Refused) -> Failure {
        // A ticket that was sealed already has to go first. Without an alert the client just sees
        // the connection end.
        let mut farewell = self.ticket;
        let _ = self.record.write_fatal_alert(refused.reason.alert(), &mut farewell);
        let _ = client.try_write(&farewell);
        let facts = Facts {
            server_name: self.server_name,
            kind: self.agreed.kind,
            version: self.agreed.version,
            resumption: self.resumption,
            verification: self.verification,
        };
        Failure { facts, ..Failure::refused(refused) }
    }
}

/// What a listener shakes hands by.
pub struct Terms<'l> {
    /// rustls' configuration, of [`server_config`].
    pub tls: &'l Arc<ServerConfig>,
    /// One of its keys is an RSA key.
    pub signs_by_rsa: bool,
    /// Who is admitted.
    pub policy: &'l Policy,
    /// Who looks on.
    pub shadow: Option<&'l Shadow>,
}

/// Shakes hands on a connection that was just accepted, as long as it has its `place`. There is no
/// time-out here: whoever watches the connection cancels its socket.
///
/// The handshake may take as long as others change their minds: `confirm` gets what was decided
/// in it when it is over, and has the last word. `None` is a connection that was ended meanwhile.
///
/// # Errors
/// Why it failed; the alert, if one is due, has been written to the socket as far as it takes it.
pub async fn perform(
    client: &Rc<Socket>,
    place: &Rc<HandshakePlace>,
    terms: &Terms<'_>,
    confirm: impl FnOnce(Permit) -> Result<Permit, Option<Refused>>,
) -> Result<Established, Failure> {
    let &Terms { tls, signs_by_rsa, policy, shadow } = terms;
    let machine = Machine::new(tls.clone(), place, signs_by_rsa)
        .map_err(|error| Failure::internal(error.to_string()))?;
    let mut slot = Some(Box::new(machine));
    let handshake = lanes::Handshake::begin();
    let driven = drive(client, place, &handshake, &mut slot).await;
    let concluded = match (driven, slot, place.shed()) {
        (_, Some(machine), Some(limit)) => Err(Failure::shed(limit, *machine)),
        (Ok(()), Some(machine), None) => {
            conclude(machine, &handshake, policy, shadow, confirm).await
        }
        (Err(end), Some(machine), None) => Err(look_on(shadow, Failure::describe(end, *machine))),
        (_, None, _) => Err(Failure::internal("a panic in the handshake".into())),
    };
    if let Err(failure) = &concluded
        && !failure.farewell.is_empty()
    {
        // Best effort: a client that doesn't read its alert goes without.
        let _ = client.try_write(&failure.farewell);
    }
    concluded
}

/// Lets the shadow look on where rustls itself has refused a client without a certificate.
fn look_on(shadow: Option<&Shadow>, mut failure: Failure) -> Failure {
    if let Some(shadow) = shadow
        && let Some(refused) = failure.refused.take_if(|r| r.reason == Refusal::NoCertificate)
    {
        let decision = Err(refused);
        shadow.observe(&[], &decision, UnixTime::now());
        failure.refused = decision.err();
    }
    failure
}

/// Runs `call`, which drives one connection of a [`server_config`] in memory and without
/// [`perform`], from its first byte to the end of its handshake. Outside of either, such a
/// connection trusts nobody and gives no ticket: its callbacks don't know whom they work for.
pub fn in_memory<R>(call: impl FnOnce() -> R) -> R {
    context::enter(&mut Some(Box::default()), call)
}

/// Moves bytes between the client and the machine until it is done.
async fn drive(
    client: &Rc<Socket>,
    place: &HandshakePlace,
    handshake: &lanes::Handshake,
    slot: &mut Option<Box<Machine>>,
) -> Result<(), End> {
    let is_gone = |machine: &Machine| has_gone(client, place, machine);
    loop {
        read(client, place, handshake, slot.as_mut().ok_or(End::Panicked)?).await?;
        loop {
            match coroutine::step(slot, place, handshake, is_gone).await? {
                Step::Read => break,
                Step::Done => return Ok(()),
                Step::Write => {
                    write(client, place, handshake, slot.as_mut().ok_or(End::Panicked)?).await?;
                }
                Step::Failed(error) => return Err(End::Tls(error)),
            }
        }
    }
}

async fn write(
    client: &Rc<Socket>,
    place: &HandshakePlace,
    handshake: &lanes::Handshake,
    machine: &mut Machine,
) -> Result<(), End> {
    let waiting = (place.waits(), handshake.waits(true));
    client.write_all(&machine.output).await.map_err(End::Io)?;
    drop(waiting);
    machine.output.clear();
    place.got_on();
    still_in(place)
}

/// A place that was taken away while the client was waited for: this may be over at the same time.
fn still_in(place: &HandshakePlace) -> Result<(), End> {
    if place.shed().is_some() { Err(End::Shed) } else { Ok(()) }
}

/// Whether nobody waits any more for what we have let wait for its turn: its time is over, or its
/// client has given up. Nothing is computed for it.
fn has_gone(client: &Socket, place: &HandshakePlace, machine: &Machine) -> bool {
    let has_given_up =
        || !machine.has_begun() && place.is_crowded() && client.peek() == Peek::Ended;
    client.is_cancelled() || has_given_up()
}

/// Reads once, waiting if there is nothing yet.
async fn read(
    client: &Rc<Socket>,
    place: &HandshakePlace,
    handshake: &lanes::Handshake,
    machine: &mut Machine,
) -> Result<(), End> {
    loop {
        let space = machine.space().map_err(|_| End::TooLong)?;
        match client.try_read(space).map_err(End::Io)? {
            Io::Bytes(0) => return Err(End::Eof),
            Io::Bytes(bytes) => {
                machine.received(bytes);
                if machine.is_fresh() {
                    preamble::judge(machine.unread()).map_err(End::NotTls)?;
                }
                // Whoever drips gets no turn for it, and stays stale.
                if machine.is_amid_record() {
                    continue;
                }
                return Ok(());
            }
            Io::WouldBlock => {
                let waiting = (place.waits(), handshake.waits(!machine.is_fresh()));
                client.readable().await.map_err(End::Io)?;
                drop(waiting);
                still_in(place)?;
            }
        }
    }
}

/// Decides about the client, if that wasn't done when it showed its certificate, and takes the
/// connection over from rustls.
async fn conclude(
    mut machine: Box<Machine>,
    handshake: &lanes::Handshake,
    policy: &Policy,
    shadow: Option<&Shadow>,
    confirm: impl FnOnce(Permit) -> Result<Permit, Option<Refused>>,
) -> Result<Established, Failure> {
    let mut facts = Facts::of(&mut machine);
    let decision = match machine.context.as_mut().and_then(|context| context.decision.take()) {
        Some(decision) => decision,
        None => decide(&machine, &mut facts, handshake, policy, shadow).await?,
    };
    take_over(machine, facts, decision, confirm)
}

/// Decides about a client that showed no certificate in this handshake: an anonymous one, or one
/// that resumed a session.
async fn decide(
    machine: &Machine,
    facts: &mut Facts,
    handshake: &lanes::Handshake,
    policy: &Policy,
    shadow: Option<&Shadow>,
) -> Result<Result<Permit, Refused>, Failure> {
    match machine.connection.peer_certificates().unwrap_or_default() {
        [] => {
            let decision = policy.without_certificate();
            if let Some(shadow) = shadow {
                shadow.observe(&[], &decision, UnixTime::now());
            }
            Ok(decision)
        }
        chain if facts.kind == HandshakeKind::Resumed => {
            let turn = async || turn::take(handshake.is_alone()).await;
            let (decision, verification) =
                verifier::decide_in_turn(policy, shadow, chain, turn).await;
            facts.verification = Some(verification);
            Ok(decision)
        }
        _ => Err(Failure::internal("a certificate nobody decided about".into())),
    }
}

/// Takes the connection over from rustls, after a decision that `confirm` has the last word about.
fn take_over(
    mut machine: Box<Machine>,
    facts: Facts,
    decision: Result<Permit, Refused>,
    confirm: impl FnOnce(Permit) -> Result<Permit, Option<Refused>>,
) -> Result<Established, Failure> {
    let certificates = machine.connection.peer_certificates().unwrap_or_default();
    let certificate = certificates.first().cloned();
    let agreed = Agreed::of(&machine, &facts)?;
    let mut secrets = machine.context.take().map(|context| context.secrets).unwrap_or_default();
    let mut ticket = std::mem::take(&mut machine.output);
    let unread = machine.unread().to_vec();
    let (extracted, _) = machine
        .connection
        .dangerous_into_kernel_connection()
        .map_err(|error| Failure::internal(error.to_string()))?;
    let mut record = RecordLayer::new(Side::Server, agreed.cipher_suite, extracted, secrets.take())
        .map_err(|error| Failure::internal(error.to_string()))?;
    match decision.map_err(Some).and_then(confirm) {
        Ok(permit) => Ok(Established {
            permit,
            agreed,
            server_name: facts.server_name,
            certificate,
            record,
            unread,
            ticket,
            resumption: facts.resumption,
            verification: facts.verification,
        }),
        Err(None) => Err(Failure { facts, ..Failure::ended() }),
        Err(Some(refused)) => {
            // Without an alert the client just sees the connection end.
            let _ = record.write_fatal_alert(refused.reason.alert(), &mut ticket);
            Err(Failure { facts, farewell: ticket, ..Failure::refused(refused) })
        }
    }
}

/// What is known of a handshake, also of one that failed.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The client's SNI.
    pub server_name: Option<Box<str>>,
    /// Full or resumed, as far as that was known.
    pub kind: HandshakeKind,
    /// The version, as far as that was known.
    pub version: VersionLabel,
    /// What became of a ticket that the client offered; nothing of one that was accepted, in a
    /// handshake that came to no end.
    pub resumption: Option<ResumptionOutcome>,
    /// Whether the client's chain had been verified before.
    pub verification: Option<VerificationOutcome>,
}

impl Facts {
    fn of(machine: &mut Machine) -> Self {
        let connection = &machine.connection;
        let kind = match connection.handshake_kind() {
            Some(RustlsKind::Resumed) => HandshakeKind::Resumed,
            Some(_) => HandshakeKind::Full,
            None => HandshakeKind::None,
        };
        let version = match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => VersionLabel::V13,
            Some(ProtocolVersion::TLSv1_2) => VersionLabel::V12,
            _ => VersionLabel::None,
        };
        let (server_name, ticket, verification) =
            machine.context.as_mut().map_or((None, None, None), |context| {
                (context.server_name.take(), context.ticket, context.verification)
            });
        let resumption = match (ticket, kind) {
            // A session may fit us and still not the client's other offers.
            (Some(ResumptionOutcome::Resumed), HandshakeKind::Full) => {
                Some(ResumptionOutcome::Vetoed)
            }
            // Whoever has an id or a ticket can offer it. That it has the session's secret too
            // shows at the end of the handshake.
            (Some(ResumptionOutcome::Resumed), _) if connection.is_handshaking() => None,
            (ticket, _) => ticket,
        };
        Self { server_name, kind, version, resumption, verification }
    }
}

impl Agreed {
    fn of(machine: &Machine, facts: &Facts) -> Result<Self, Failure> {
        let connection = &machine.connection;
        let cipher_suite = connection
            .negotiated_cipher_suite()
            .ok_or_else(|| Failure::internal("no cipher suite after the handshake".into()))?;
        Ok(Self {
            version: facts.version,
            cipher_suite,
            shown: machine.context.as_ref().and_then(|context| context.shown.clone()),
            group: connection.negotiated_key_exchange_group().map(|group| group.name()),
            kind: facts.kind,
            alpn: connection.alpn_protocol().map(Into::into),
        })
    }
}
