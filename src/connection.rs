//! The story of one connection: handshake, decide, dial, relay, close.

use std::{net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use rustls_pki_types::CertificateDer;

use crate::{
    config::ProxyProtocol,
    generation::Service,
    handshake::{self, Agreed, Established, Failure},
    journal::Journal,
    metrics::{CloseCause, HandshakeKind, HandshakeResult},
    process::Admission,
    proxy::{ClientCertificate, Endpoints, Header, Tls},
    record::RecordLayer,
    relay::{self, Outcome, Relay, Start, Tools},
    ring::{Accepted, Io, Socket},
    sessions::{Phase, Registration},
    trust::Permit,
    worker::Worker,
};

/// Serves one accepted connection from its first byte to its last, and tells the story.
pub async fn serve(
    worker: Rc<Worker>,
    service: Arc<Service>,
    accepted: Accepted,
    mut admission: Admission,
) {
    let Accepted { socket: client, peer } = accepted;
    let registration = worker.sessions.open(client.clone(), service.limits);
    let mut counted = Counted { service: &service, cause: CloseCause::Internal };
    let mut journal = Journal::open(worker.next_connection_id(), peer, &service);
    let shaken = Box::pin(handshake::perform(&client, &service.tls, &service.policy)).await;
    admission.handshake_ended();
    let outcome = match shaken {
        Ok(established) => {
            count_success(&service, &established, journal.elapsed());
            let connection = Connection { worker: &worker, service: &service, client: &client };
            connection.go_on(peer, established, &registration, &mut journal).await
        }
        Err(failure) => {
            let cause = count_failure(&service, failure, &registration, &mut journal);
            relay::linger(&client, &worker.pool, &registration).await;
            Outcome { cause, detail: None, up_bytes: 0, down_bytes: 0 }
        }
    };
    counted.cause = outcome.cause;
    drop(counted);
    if service.log_connections {
        journal.write(&outcome);
    }
}

/// A connection that counts as open; its end is counted also when its task panics.
struct Counted<'a> {
    service: &'a Service,
    cause: CloseCause,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.service.metrics.closed(self.cause);
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
    let result = match registration.session().ended() {
        Some(CloseCause::HandshakeFailed) => HandshakeResult::TimedOut,
        Some(CloseCause::Drained) => HandshakeResult::Shutdown,
        _ => failure.result,
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
    let cause = match result {
        HandshakeResult::Refused => CloseCause::Refused,
        HandshakeResult::Shutdown => CloseCause::Drained,
        _ => CloseCause::HandshakeFailed,
    };
    journal.note_failure(result, failure);
    cause
}

/// A client that was admitted.
struct Connection<'a> {
    worker: &'a Rc<Worker>,
    service: &'a Arc<Service>,
    client: &'a Rc<Socket>,
}

impl Connection<'_> {
    async fn go_on(
        &self,
        peer: SocketAddr,
        established: Established,
        registration: &Registration,
        journal: &mut Journal,
    ) -> Outcome {
        registration.enter(Phase::Dial);
        let Established { permit, agreed, server_name, certificate, record, .. } = established;
        let preface = match self.service.backend.config.proxy_protocol {
            ProxyProtocol::Off => Vec::new(),
            ProxyProtocol::V2 => {
                let certificate = certificate.as_ref();
                let told =
                    Told { peer, agreed: &agreed, name: server_name.as_deref(), certificate };
                self.proxy_header(&told, &permit, journal.id())
            }
        };
        drop(certificate);
        let dial = self.service.backend.dial(&permit, registration.session());
        let dialled = Box::pin(dial).await;
        journal.note_success(agreed, server_name, permit);
        let start = Start { preface, unread: established.unread, ticket: established.ticket };
        match dialled {
            Ok(backend) => {
                registration.enter(Phase::Relay);
                let tools =
                    Tools { pool: &self.worker.pool, metrics: &self.service.metrics, registration };
                Relay::new(self.client, &backend, record, tools).run(start).await
            }
            Err(unreachable) => {
                if let Some(cause) = registration.session().ended() {
                    self.say_close_notify(record, start.ticket, registration).await;
                    return Outcome { cause, detail: None, up_bytes: 0, down_bytes: 0 };
                }
                let backend = &*self.service.backend.config.name;
                tracing::warn!(backend, "no server of the backend can be reached: {unreachable}");
                self.say_close_notify(record, start.ticket, registration).await;
                Outcome {
                    cause: CloseCause::BackendUnreachable,
                    detail: Some(format!("backend {backend}: {unreachable}")),
                    up_bytes: 0,
                    down_bytes: 0,
                }
            }
        }
    }

    /// Ends the client's connection in order, before any data.
    async fn say_close_notify(
        &self,
        mut record: RecordLayer,
        mut last: Vec<u8>,
        registration: &Registration,
    ) {
        if record.write_close_notify(&mut last).is_ok()
            && matches!(self.client.try_write(&last), Ok(Io::Bytes(_)))
        {
            relay::linger(self.client, &self.worker.pool, registration).await;
        }
    }

    fn proxy_header(&self, told: &Told<'_>, permit: &Permit, id: &str) -> Vec<u8> {
        let endpoints = self.client.local_addr().map_or(Endpoints::Unknown, |destination| {
            Endpoints::Tcp { source: told.peer, destination }
        });
        let identity = permit.peer().map(|peer| peer.identity());
        let key_algorithm = identity.map(|identity| identity.key_algorithm().to_string());
        let cipher = told.agreed.cipher_suite.suite();
        let cipher = cipher.as_str().map(|name| name.replacen("TLS13_", "TLS_", 1));
        let client_certificate = match (identity, told.agreed.kind) {
            (None, _) => ClientCertificate::None,
            (Some(_), HandshakeKind::Resumed) => ClientCertificate::Session,
            (Some(_), _) => ClientCertificate::Connection,
        };
        let header = Header {
            endpoints,
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
                cipher: cipher.as_deref(),
                sig_alg: identity.map(|identity| identity.signature_algorithm()),
                key_alg: key_algorithm.as_deref(),
                certificate: told.certificate.map(|certificate| &**certificate),
            }),
        };
        let mut encoded = Vec::with_capacity(1024);
        let omitted = header.encode(&mut encoded);
        if !omitted.is_empty() {
            tracing::warn!(id, "the PROXY header would be too long; left out: {omitted}");
        }
        encoded
    }
}

/// What the backend is told besides the identity.
struct Told<'a> {
    peer: SocketAddr,
    agreed: &'a Agreed,
    name: Option<&'a str>,
    certificate: Option<&'a CertificateDer<'static>>,
}
