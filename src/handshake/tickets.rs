//! Stateless session tickets that never outlive what they rest on.
//!
//! rustls' ticketer encrypts and rotates its keys; what it encrypts for us begins with a header
//! that binds the session to its listener, to the trust policy that admitted the client, and to
//! the time when the client proved who it is. A ticket that doesn't fit is vetoed before rustls
//! resumes anything: the client gets a full handshake, and its refusal there if it is due.

use std::{sync::Arc, time::Duration};

use rustls::{server::ProducesTickets, time_provider::TimeProvider};
use rustls_pki_types::UnixTime;

use super::context::{self, Context, Lineage};
use crate::metrics::ResumptionOutcome;

/// Most bytes of a session that goes into a ticket. A session holds the client's whole chain, and
/// the client has to send the ticket back within a ClientHello of
/// [`MAX_CLIENT_HELLO_BYTES`](super::MAX_CLIENT_HELLO_BYTES), beside 2 kB of all else. A client
/// with a longer chain gets no ticket and makes full handshakes.
pub(super) const MAX_SESSION_BYTES: usize = 8 * 1024;

/// SHA-256 of all that a listener's decision depends on.
pub(super) type PolicyTag = [u8; 32];

/// Tag, time of authentication and end of validity (seconds since 1970, big endian).
const HEADER_BYTES: usize = 32 + 8 + 8;

/// The tickets of one listener.
#[derive(Debug)]
pub(super) struct Tickets {
    /// Shared by all listeners and generations, so that a reload keeps sessions alive.
    pub(super) encryption: Arc<dyn ProducesTickets>,
    pub(super) policy: PolicyTag,
    /// How long a session may be resumed after the client proved who it is, however often it is
    /// resumed on the way. It holds for tickets that were given under another limit too.
    pub(super) max_age: Duration,
    /// That of rustls.
    pub(super) time: Arc<dyn TimeProvider>,
}

impl Tickets {
    fn header(&self, lineage: Lineage) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..32].copy_from_slice(&self.policy);
        header[32..40].copy_from_slice(&lineage.authenticated_at.as_secs().to_be_bytes());
        header[40..].copy_from_slice(&lineage.valid_until.as_secs().to_be_bytes());
        header
    }

    /// The lineage and what rustls encrypted, or `None` if this session must not go on at `now`.
    fn admit<'a>(&self, plain: &'a [u8], now: UnixTime) -> Option<(Lineage, &'a [u8])> {
        let (header, session) = plain.split_first_chunk::<HEADER_BYTES>()?;
        let (policy, times) = header.split_first_chunk::<32>()?;
        let (authenticated_at, valid_until) = times.split_first_chunk::<8>()?;
        let time = |bytes: [u8; 8]| {
            UnixTime::since_unix_epoch(Duration::from_secs(u64::from_be_bytes(bytes)))
        };
        let lineage = Lineage {
            authenticated_at: time(*authenticated_at),
            valid_until: time(valid_until.try_into().ok()?),
        };
        let end = lineage.valid_until.min(self.oldest_end(lineage.authenticated_at));
        let in_time = now <= end && now >= lineage.authenticated_at;
        (policy == &self.policy && in_time).then_some((lineage, session))
    }

    /// The last second in which a session may be resumed whose client proved then who it is.
    fn oldest_end(&self, authenticated_at: UnixTime) -> UnixTime {
        let seconds = authenticated_at.as_secs().saturating_add(self.max_age.as_secs());
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    /// When the session that `context` has just agreed on ends.
    fn lineage_of(&self, context: &Context, now: UnixTime) -> Option<Lineage> {
        if let Some(lineage) = context.lineage {
            return Some(lineage);
        }
        let limit = self.oldest_end(now);
        let valid_until = match &context.decision {
            Some(Ok(permit)) => permit.valid_until().map_or(limit, |until| until.min(limit)),
            Some(Err(_)) => return None,
            None => limit,
        };
        Some(Lineage { authenticated_at: now, valid_until })
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        self.encryption.enabled()
    }

    fn lifetime(&self) -> u32 {
        let max_age = u32::try_from(self.max_age.as_secs()).unwrap_or(u32::MAX);
        self.encryption.lifetime().min(max_age)
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        if session.len() > MAX_SESSION_BYTES {
            return None;
        }
        let now = self.time.current_time()?;
        let lineage = context::current(|context| self.lineage_of(context, now))??;
        let mut plain = zeroize::Zeroizing::new(Vec::with_capacity(HEADER_BYTES + session.len()));
        plain.extend_from_slice(&self.header(lineage));
        plain.extend_from_slice(session);
        self.encryption.encrypt(&plain)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let plain = self.encryption.decrypt(ticket).map(zeroize::Zeroizing::new);
        let admitted =
            plain.as_ref().and_then(|plain| self.admit(plain, self.time.current_time()?));
        context::current(|context| {
            context.lineage = admitted.map(|(lineage, _)| lineage);
            context.ticket = Some(match (&plain, admitted) {
                (None, _) => ResumptionOutcome::Unknown,
                (Some(_), None) => ResumptionOutcome::Vetoed,
                (Some(_), Some(_)) => ResumptionOutcome::Resumed,
            });
        });
        admitted.map(|(_, session)| session.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustls::{
        ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConfig,
        ServerConnection,
        time_provider::DefaultTimeProvider,
        version::{TLS12, TLS13},
    };

    use super::*;
    use crate::pki::{Authority, Spec, Validity};

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    fn tickets(policy: u8) -> Tickets {
        let encryption = rustls::crypto::aws_lc_rs::Ticketer::new().expect("ticketer");
        let time = Arc::new(DefaultTimeProvider);
        Tickets { encryption, policy: [policy; 32], max_age: Duration::from_secs(10_000), time }
    }

    fn plain(of: &Tickets, authenticated_at: u64, valid_until: u64) -> Vec<u8> {
        let lineage =
            Lineage { authenticated_at: at(authenticated_at), valid_until: at(valid_until) };
        [&of.header(lineage)[..], b"session"].concat()
    }

    #[test]
    fn a_session_goes_on_until_the_second_in_which_its_proof_ends() {
        let ours = tickets(1);
        let plain = plain(&ours, 1000, 2000);
        assert_eq!(ours.admit(&plain, at(2000)).expect("in time").1, b"session");
        assert_eq!(ours.admit(&plain, at(2001)), None);
    }

    #[test]
    fn a_limit_that_was_lowered_holds_for_tickets_that_exist() {
        let plain = plain(&tickets(1), 1000, 9000);
        let lowered = Tickets { max_age: Duration::from_secs(60), ..tickets(1) };
        assert!(lowered.admit(&plain, at(1060)).is_some());
        assert_eq!(lowered.admit(&plain, at(1061)), None);
    }

    #[test]
    fn a_limit_that_was_raised_lengthens_no_ticket_that_exists() {
        let plain = plain(&tickets(1), 1000, 9000);
        let raised = Tickets { max_age: Duration::from_secs(100_000), ..tickets(1) };
        assert!(raised.admit(&plain, at(9000)).is_some());
        assert_eq!(raised.admit(&plain, at(9001)), None);
    }

    #[test]
    fn a_ticket_from_the_future_is_vetoed() {
        let ours = tickets(1);
        assert_eq!(ours.admit(&plain(&ours, 1000, 2000), at(999)), None);
    }

    #[test]
    fn a_ticket_of_another_policy_is_vetoed() {
        let plain = plain(&tickets(1), 1000, 2000);
        assert_eq!(tickets(2).admit(&plain, at(1500)), None);
    }

    #[test]
    fn a_ticket_too_short_for_its_header_is_vetoed() {
        assert_eq!(tickets(1).admit(&[1; HEADER_BYTES - 1], at(1)), None);
    }

    #[test]
    fn a_resumed_session_keeps_the_lineage_it_came_from() {
        let lineage = Lineage { authenticated_at: at(10), valid_until: at(20) };
        let context = Context { lineage: Some(lineage), ..Context::default() };
        assert_eq!(tickets(1).lineage_of(&context, at(15)), Some(lineage));
    }

    #[test]
    fn a_session_that_no_client_hello_has_room_for_gets_no_ticket() {
        let mut context = Some(Box::<Context>::default());
        context::enter(&mut context, || {
            let ours = tickets(1);
            let ticket = ours.encrypt(&[0; MAX_SESSION_BYTES]).expect("it fits");
            assert!(ticket.len() < crate::handshake::machine::MAX_CLIENT_HELLO_BYTES - 4096);
            assert!(ours.encrypt(&[0; MAX_SESSION_BYTES + 1]).is_none());
        });
    }

    /// A clock that a test moves.
    #[derive(Debug)]
    struct Hands(AtomicU64);

    impl TimeProvider for Hands {
        fn current_time(&self) -> Option<UnixTime> {
            Some(at(self.0.load(Ordering::Relaxed)))
        }
    }

    /// Shakes hands in memory, and has the client take its next ticket.
    fn shake_hands(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> HandshakeKind {
        let name = "www.contoso.test".try_into().expect("a name");
        let mut client = ClientConnection::new(client.clone(), name).expect("a client");
        let mut server = ServerConnection::new(server.clone()).expect("a server");
        crate::handshake::in_memory(|| {
            let mut wire = Vec::new();
            while client.wants_write() || server.wants_write() {
                client.write_tls(&mut wire).expect("written to memory");
                while !wire.is_empty() {
                    let read = server.read_tls(&mut wire.as_slice()).expect("read from memory");
                    wire.drain(..read);
                }
                server.process_new_packets().expect("the client is in order");
                server.write_tls(&mut wire).expect("written to memory");
                while !wire.is_empty() {
                    let read = client.read_tls(&mut wire.as_slice()).expect("read from memory");
                    wire.drain(..read);
                }
                client.process_new_packets().expect("the server is in order");
            }
        });
        server.handshake_kind().expect("it is complete")
    }

    /// A client comes back every six minutes, each time with the ticket of the last time. After
    /// ten hours, which is the limit here, it has to show who it is again.
    #[test]
    fn a_session_that_is_resumed_a_hundred_times_ends_when_the_first_one_would_have() {
        const STEP_S: u64 = 360;
        let validity = Validity::from_now(Duration::from_secs(24 * 3600));
        let ca = Authority::root(&Spec::new("Contoso Root", validity)).expect("a CA");
        let own = Spec::new("www", validity).dns("www.contoso.test").server();
        let own = ca.issue(&own).expect("a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(ca.der().clone()).expect("a root");
        for version in [&TLS13, &TLS12] {
            let time = Arc::new(Hands(AtomicU64::new(UnixTime::now().as_secs())));
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let mut server = ServerConfig::builder_with_details(provider.clone(), time.clone())
                .with_protocol_versions(&[version])
                .expect("a version")
                .with_no_client_auth()
                .with_single_cert(own.chain().to_vec(), own.key_der())
                .expect("a certificate");
            let max_age = Duration::from_secs(100 * STEP_S);
            server.ticketer = Arc::new(Tickets { max_age, time: time.clone(), ..tickets(1) });
            server.send_tls13_tickets = 1;
            let client = ClientConfig::builder_with_details(provider, time.clone())
                .with_protocol_versions(&[version])
                .expect("a version")
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            let (client, server) = (Arc::new(client), Arc::new(server));
            assert_eq!(shake_hands(&client, &server), HandshakeKind::Full);
            for number in 1..=100 {
                time.0.fetch_add(STEP_S, Ordering::Relaxed);
                let kind = shake_hands(&client, &server);
                assert_eq!(kind, HandshakeKind::Resumed, "{number}");
            }
            time.0.fetch_add(1, Ordering::Relaxed);
            assert_eq!(shake_hands(&client, &server), HandshakeKind::Full);
        }
    }

    #[test]
    fn an_anonymous_session_ends_at_the_maximal_age() {
        let lineage = tickets(1).lineage_of(&Context::default(), at(100)).expect("a ticket");
        assert_eq!(lineage.valid_until, at(10_100));
    }
}
