//! Sessions in whole handshakes in memory, on a clock that the tests move, wherever they are kept.

mod begun;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConfig, ServerConnection,
    SupportedProtocolVersion,
    crypto::aws_lc_rs::default_provider,
    time_provider::TimeProvider,
    version::{TLS12, TLS13},
};
use rustls_pki_types::UnixTime;

use super::{
    config::{SecretCapture, keep_sessions},
    context::{self, Context},
    machine::MAX_CLIENT_HELLO_BYTES,
    rule::{MAX_SESSION_BYTES, Rule},
};
use crate::{
    config::Resumption,
    metrics::{CacheMetrics, Metrics},
    pki::{Authority, Identity, Spec, Validity},
    resumption::{SessionPlace, SessionStore},
};

const CACHE: Resumption = Resumption::Cache { bytes: 1 << 20 };
const TICKETS: Resumption = Resumption::Tickets { keys: Vec::new() };

/// A clock that a test moves.
#[derive(Debug)]
struct Hands(AtomicU64);

impl Hands {
    fn go_on(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl TimeProvider for Hands {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = self.0.load(Ordering::Relaxed);
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

/// A CA, a server's certificate, and a clock.
struct Scene {
    own: Identity,
    roots: RootCertStore,
    time: Arc<Hands>,
}

impl Scene {
    fn new() -> Self {
        let validity = Validity::from_now(Duration::from_secs(24 * 3600));
        let ca = Authority::root(&Spec::new("Contoso Root", validity)).expect("a CA");
        let own = Spec::new("www", validity).dns("www.contoso.test").server();
        let own = ca.issue(&own).expect("a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(ca.der().clone()).expect("a root");
        Self { own, roots, time: Arc::new(Hands(AtomicU64::new(UnixTime::now().as_secs()))) }
    }

    fn rule(&self, policy: u8, max_age_s: u64) -> Rule {
        let max_age = Duration::from_secs(max_age_s);
        Rule { policy: [policy; 32], max_age, time: self.time.clone() }
    }

    fn server(
        &self,
        version: &'static SupportedProtocolVersion,
        store: &SessionStore,
        rule: Rule,
    ) -> Arc<ServerConfig> {
        let provider = Arc::new(default_provider());
        let mut server = ServerConfig::builder_with_details(provider, self.time.clone())
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_no_client_auth()
            .with_single_cert(self.own.chain().to_vec(), self.own.key_der())
            .expect("a certificate");
        server.key_log = Arc::new(SecretCapture);
        keep_sessions(&mut server, store, rule);
        Arc::new(server)
    }

    fn client(&self, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
        let provider = Arc::new(default_provider());
        let client = ClientConfig::builder_with_details(provider, self.time.clone())
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        Arc::new(client)
    }
}

fn store(config: &Resumption) -> SessionStore {
    let metrics = CacheMetrics::new(&Metrics::new().expect("fixed buckets"));
    SessionStore::new(config, &metrics).expect("random bytes")
}

/// Shakes hands in memory, and has the client take its next session.
fn shake_hands(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> HandshakeKind {
    let name = "www.contoso.test".try_into().expect("a name");
    let mut client = ClientConnection::new(client.clone(), name).expect("a client");
    let mut server = ServerConnection::new(server.clone()).expect("a server");
    super::in_memory(|| {
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

/// A client comes back every six minutes, each time with the session of the last time. After ten
/// hours, which is the limit here, it has to show who it is again.
#[test]
fn a_session_that_is_resumed_a_hundred_times_ends_when_the_first_one_would_have() {
    const STEP_S: u64 = 360;
    for (config, version) in
        [(&CACHE, &TLS13), (&CACHE, &TLS12), (&TICKETS, &TLS13), (&TICKETS, &TLS12)]
    {
        let scene = Scene::new();
        let server = scene.server(version, &store(config), scene.rule(1, 100 * STEP_S));
        let client = scene.client(version);
        assert_eq!(shake_hands(&client, &server), HandshakeKind::Full);
        for number in 1..=100 {
            scene.time.go_on(STEP_S);
            let kind = shake_hands(&client, &server);
            assert_eq!(kind, HandshakeKind::Resumed, "{config:?} {version:?} {number}");
        }
        scene.time.go_on(1);
        assert_eq!(shake_hands(&client, &server), HandshakeKind::Full, "{config:?} {version:?}");
    }
}

#[test]
fn a_server_that_keeps_no_sessions_shakes_hands_in_full() {
    for version in [&TLS13, &TLS12] {
        let scene = Scene::new();
        let server = scene.server(version, &store(&Resumption::Off), scene.rule(1, 3600));
        let client = scene.client(version);
        for _ in 0..2 {
            assert_eq!(shake_hands(&client, &server), HandshakeKind::Full);
        }
    }
}

/// Two listeners, or two generations, share what keeps sessions, and not the sessions.
#[test]
fn a_session_of_another_policy_is_not_resumed_wherever_it_is_kept() {
    for (config, version) in
        [(&CACHE, &TLS13), (&CACHE, &TLS12), (&TICKETS, &TLS13), (&TICKETS, &TLS12)]
    {
        let (scene, store) = (Scene::new(), store(config));
        let client = scene.client(version);
        let first = scene.server(version, &store, scene.rule(1, 3600));
        let second = scene.server(version, &store, scene.rule(2, 3600));
        assert_eq!(shake_hands(&client, &first), HandshakeKind::Full);
        assert_eq!(shake_hands(&client, &first), HandshakeKind::Resumed);
        assert_eq!(shake_hands(&client, &second), HandshakeKind::Full, "{config:?} {version:?}");
    }
}

/// A session of TLS 1.3 makes room for the next one of its client (RFC 8446 §C.4); one of TLS 1.2
/// stays until its end, with no other beside it.
#[test]
fn a_client_that_comes_back_has_one_session_however_often_it_does() {
    for version in [&TLS13, &TLS12] {
        let (scene, store) = (Scene::new(), store(&CACHE));
        let server = scene.server(version, &store, scene.rule(1, 3600));
        let SessionPlace::Here(cache) = store.place() else { unreachable!("it is a cache") };
        let client = scene.client(version);
        shake_hands(&client, &server);
        for _ in 0..5 {
            assert_eq!(cache.size().0, 1, "{version:?}");
            assert_eq!(shake_hands(&client, &server), HandshakeKind::Resumed);
        }
        shake_hands(&scene.client(version), &server);
        assert_eq!(cache.size().0, 2, "another client has a session of its own");
    }
}

#[test]
fn a_session_that_no_client_hello_has_room_for_gets_no_ticket() {
    let (scene, store) = (Scene::new(), store(&TICKETS));
    let server = scene.server(&TLS13, &store, scene.rule(1, 3600));
    context::enter(&mut Some(Box::<Context>::default()), || {
        let ticket = server.ticketer.encrypt(&[0; MAX_SESSION_BYTES]).expect("it fits");
        assert!(ticket.len() < MAX_CLIENT_HELLO_BYTES - 4096);
        assert!(server.ticketer.encrypt(&[0; MAX_SESSION_BYTES + 1]).is_none());
    });
}
