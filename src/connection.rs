//! The story of one connection: handshake, decide, dial, relay, close.

use std::{net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use rustls_pki_types::CertificateDer;

use crate::{
    admission::{Admission, ConnectionPlace},
    config::ProxyProtocol,
    generation::Service,
    handshake::{self, Agreed, Established, Failure},
    journal::Journal,
    metrics::{CloseCause, HandshakeKind, HandshakeResult},
    proxy::{ClientCertificate, Endpoints, Header, Tls},
    quota::Share,
    record::RecordLayer,
    relay::{self, Outcome, Relay, Start},
    ring::{Accepted, Io, Socket},
    sessions::{self, NotAdmitted, Phase, Registration},
    trust::{Permit, Refusal, Refused},
    worker::Worker,
};

/// Serves one accepted connection from its first byte to its last, and tells the story.
pub async fn serve(
    worker: Rc<Worker>,
    service: Arc<Service>,
    accepted: Accepted,
    admission: Admission,
) {
    // Each part is boxed: an open connection keeps no room for its handshake.
    match Box::pin(open(worker, service, accepted, admission)).await {
        Ok(open) => open.relay().await,
        Err(ended) => ended.tell(),
    }
}

/// A connection whose bytes flow.
struct Open {
    relay: Relay,
    story: Story,
}

impl Open {
    async fn relay(self: Box<Self>) {
        let outcome = self.relay.run().await;
        self.story.end(&outcome);
    }
}

/// A connection that ended before any byte flowed.
struct Ended {
    story: Story,
    outcome: Outcome,
}

impl Ended {
    fn tell(self) {
        self.story.end(&self.outcome);
    }
}

/// What is told of a connection, and its share of the budgets, until it ends.
struct Story {
    service: Arc<Service>,
    journal: Journal,
    /// Among all connections.
    _place: ConnectionPlace,
    /// Of its peer set's quota; an anonymous client has none.
    share: Option<Share>,
    /// Our own fault, until another cause is known: a task that panics is counted too.
    cause: CloseCause,
}

impl Story {
    fn new(service: Arc<Service>, journal: Journal, place: ConnectionPlace) -> Self {
        Self { service, journal, _place: place, share: None, cause: CloseCause::Internal }
    }

    fn end(mut self, outcome: &Outcome) {
        self.cause = outcome.cause;
        // Where many are turned away, a line for each would be the dearest part of it.
        if self.service.log_connections && outcome.cause != CloseCause::Shed {
            self.journal.write(outcome);
        }
    }
}

impl Drop for Story {
    fn drop(&mut self) {
        self.service.metrics.closed(self.cause);
    }
}

/// No byte of plaintext was relayed.
fn nothing_relayed(cause: CloseCause, detail: Option<String>) -> Outcome {
    Outcome { cause, detail, up_bytes: 0, down_bytes: 0 }
}

/// Shakes hands, and connects an admitted client to its backend.
async fn open(
    worker: Rc<Worker>,
    service: Arc<Service>,
    accepted: Accepted,
    admission: Admission,
) -> Result<Box<Open>, Box<Ended>> {
    let Accepted { socket: client, peer } = accepted;
    let Admission { connection: place, handshake } = admission;
    let registration =
        worker
            .sessions
            .open(client.clone(), service.limits, &service.config.name, || service.terms());
    let journal = Journal::open(worker.next_connection_id(), peer, service.config.clone());
    service.metrics.opened();
    let mut story = Story::new(service, journal, place);
    let service = story.service.clone();
    let confirm = |permit| {
        registration.admit(&service.policy, permit).map_err(|why| match why {
            NotAdmitted::Refused(refused) => Some(refused),
            NotAdmitted::Ended => None,
        })
    };
    let terms = handshake::Terms {
        tls: &service.tls,
        signs_by_rsa: service.signs_by_rsa,
        policy: &service.policy,
        shadow: service.shadow.as_deref(),
    };
    let shaken = handshake::perform(&client, &handshake, &terms, confirm).await;
    drop(handshake);
    let verification = match &shaken {
        Ok(established) => established.verification,
        Err(failure) => failure.facts.verification,
    };
    if let Some(outcome) = verification {
        worker.process.metrics.verified(outcome);
    }
    let share = |established| take_share(&mut story, &client, &registration, established);
    match shaken.and_then(share) {
        Ok(established) => {
            if established.permit.peer().is_some() {
                worker.process.budgets.remember(peer.ip());
            }
            count_success(&service, &established, story.journal.elapsed());
            connect(worker, story, client, peer, established, registration).await
        }
        Err(failure) => {
            if let Some(limit) = failure.shed {
                worker.process.budgets.tell(limit);
            }
            let cause = count_failure(&service, failure, &registration, &mut story.journal);
            // Nothing was said that our close could reset away.
            if cause != CloseCause::Shed {
                relay::linger(&client, &worker.pool, &registration).await;
            }
            Err(Box::new(Ended { story, outcome: nothing_relayed(cause, None) }))
        }
    }
}

/// Counts an admitted client against the limits of its peer set, or refuses it.
fn take_share(
    story: &mut Story,
    client: &Socket,
    registration: &Registration,
    established: Established,
) -> Result<Established, Failure> {
    let Some(peer) = established.permit.peer() else { return Ok(established) };
    match registration.share(peer.peer_set()) {
        Ok(share) => {
            story.share = Some(share);
            Ok(established)
        }
        Err(over) => {
            let refused = Refused {
                reason: Refusal::OverLimit,
                detail: format!("peers.{}: {over}", peer.peer_set()),
                identity: Some(Box::new(peer.identity().clone())),
            };
            Err(established.refuse(client, refused))
        }
    }
}

/// Connects an admitted client to its backend.
async fn connect(
    worker: Rc<Worker>,
    mut story: Story,
    client: Rc<Socket>,
    peer: SocketAddr,
    established: Established,
    registration: Registration,
) -> Result<Box<Open>, Box<Ended>> {
    registration.enter(Phase::Dial);
    let Established { permit, agreed, server_name, certificate, record, .. } = established;
    let preface = match story.service.backend.config.proxy_protocol {
        ProxyProtocol::Off => Vec::new(),
        ProxyProtocol::V2Addresses => {
            let mut header = Vec::new();
            let omitted = Header { endpoints: endpoints(&client, peer), ..Header::default() }
                .encode(&mut header);
            debug_assert!(omitted.is_empty(), "addresses always fit");
            header
        }
        ProxyProtocol::V2 => {
            let certificate = certificate.as_ref();
            let name = server_name.as_deref();
            let told = Told { client: &client, peer, agreed: &agreed, name, certificate };
            proxy_header(&told, &permit, story.journal.id())
        }
    };
    let dialled = story.service.backend.dial(&permit, registration.session()).await;
    story.journal.note_success(agreed, server_name, permit);
    let Established { unread, ticket, .. } = established;
    match dialled {
        Ok(backend) if registration.session().ended().is_none() => {
            registration.enter(Phase::Relay);
            let start = Start { preface, unread, ticket };
            let metrics = story.service.metrics.clone();
            let pool = worker.pool.clone();
            let relay = Relay::new((client, backend), record, start, pool, metrics, registration);
            Ok(Box::new(Open { relay, story }))
        }
        undone => {
            let session = registration.session();
            if let Ok(backend) = &undone {
                backend.reset_on_close();
            }
            let outcome = match (session.ended(), undone.err()) {
                (Some(cause), _) => nothing_relayed(cause, session.take_loss()),
                (None, why) => {
                    let backend = &*story.service.backend.config.name;
                    let why = why.map(|unreachable| unreachable.to_string()).unwrap_or_default();
                    tracing::warn!(backend, "no server of the backend can be reached: {why}");
                    let detail = format!("backend {backend}: {why}");
                    nothing_relayed(CloseCause::BackendUnreachable, Some(detail))
                }
            };
            say_last(&worker, &client, record, ticket, &registration).await;
            Err(Box::new(Ended { story, outcome }))
        }
    }
}

fn count_success(service: &Service, established: &Established, elapsed: Duration) {
    let agreed = &established.agreed;
    service.metrics.handshake(HandshakeResult::Accepted, agreed.kind, agreed.version);
    service.metrics.handshake_duration(agreed.kind, elapsed);
    if let Some(outcome) = established.resumption {
        service.metrics.resumption(outcome);
    }
}

/// Counts a failed handshake and notes it; why the connection closes.
fn count_failure(
    service: &Service,
    failure: Failure,
    registration: &Registration,
    journal: &mut Journal,
) -> CloseCause {
    let (result, cause) = match registration.session().ended() {
        Some(cause @ CloseCause::HandshakeFailed) => (HandshakeResult::TimedOut, cause),
        Some(cause @ (CloseCause::Drained | CloseCause::ListenerRemoved)) => {
            (HandshakeResult::Shutdown, cause)
        }
        _ if failure.result == HandshakeResult::Shed => (failure.result, CloseCause::Shed),
        _ if failure.result == HandshakeResult::Refused => (failure.result, CloseCause::Refused),
        _ => (failure.result, CloseCause::HandshakeFailed),
    };
    service.metrics.handshake(result, failure.facts.kind, failure.facts.version);
    if let Some(outcome) = failure.facts.resumption {
        service.metrics.resumption(outcome);
    }
    if let Some(refused) = &failure.refused {
        service.metrics.refused(refused.reason.as_str());
    }
    if result == HandshakeResult::Internal {
        tracing::error!(listener = &*service.config.name, detail = failure.detail, "our own fault");
    }
    journal.note_failure(result, failure);
    cause
}

/// Ends the client's connection before any data: in order, or with the alert of what it lost.
async fn say_last(
    worker: &Worker,
    client: &Rc<Socket>,
    mut record: RecordLayer,
    mut last: Vec<u8>,
    registration: &Registration,
) {
    let written = match registration.session().ended().and_then(sessions::alert) {
        Some(alert) => record.write_fatal_alert(alert, &mut last),
        None => record.write_close_notify(&mut last),
    };
    if written.is_ok() && matches!(client.try_write(&last), Ok(Io::Bytes(_))) {
        relay::linger(client, &worker.pool, registration).await;
    }
}

fn endpoints(client: &Socket, source: SocketAddr) -> Endpoints {
    client
        .local_addr()
        .map_or(Endpoints::Unknown, |destination| Endpoints::Tcp { source, destination })
}

fn proxy_header(told: &Told<'_>, permit: &Permit, id: &str) -> Vec<u8> {
    let peer = permit.peer();
    let identity = peer.map(|peer| peer.identity());
    let name = peer.map(|peer| peer.matched_name().to_string());
    let cipher = told.agreed.cipher_name();
    let shown = told.agreed.shown.as_deref();
    let client_certificate = match (identity, told.agreed.kind) {
        (None, _) => ClientCertificate::None,
        (Some(_), HandshakeKind::Resumed) => ClientCertificate::Session,
        (Some(_), _) => ClientCertificate::Connection,
    };
    let header = Header {
        endpoints: endpoints(told.client, told.peer),
        alpn: told.agreed.alpn.as_deref(),
        authority: told.name,
        unique_id: Some(id.as_bytes()),
        tls: Some(Tls {
            client_certificate,
            verify: if identity.is_some() { Tls::VERIFIED } else { Tls::NOT_VERIFIED },
            version: match told.agreed.cipher_suite {
                rustls::SupportedCipherSuite::Tls13(_) => Some("TLSv1.3"),
                rustls::SupportedCipherSuite::Tls12(_) => Some("TLSv1.2"),
            },
            common_name: identity.and_then(|identity| identity.common_name()),
            cipher: Some(&cipher),
            sig_alg: shown.map(|shown| shown.signature),
            key_alg: shown.map(|shown| &*shown.key),
            certificate: told.certificate.map(|certificate| &**certificate),
        }),
        matched_name: name.as_deref(),
        peer_set: peer.map(|peer| &**peer.peer_set()),
        profile: peer.map(|peer| &**peer.profile()),
    };
    let mut encoded = Vec::with_capacity(1024);
    let omitted = header.encode(&mut encoded);
    if !omitted.is_empty() {
        tracing::warn!(id, "the PROXY header would be too long; left out: {omitted}");
    }
    encoded
}

/// What the backend is told besides the identity.
struct Told<'a> {
    client: &'a Socket,
    peer: SocketAddr,
    agreed: &'a Agreed,
    name: Option<&'a str>,
    certificate: Option<&'a CertificateDer<'static>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of the future that a function of four arguments returns.
    fn size_of_future<A, B, C, D, F>(_: fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    /// With the allocations that these two own (keys, identity, registration) an idle
    /// connection stays below 4 kB; see `docs/performance.md`.
    #[test]
    fn the_state_of_an_idle_connection_stays_small() {
        assert!(size_of_future(serve) <= 512, "{}", size_of_future(serve));
        assert!(size_of::<Open>() <= 704, "{}", size_of::<Open>());
    }
}
