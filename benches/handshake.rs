//! A whole mutual-TLS handshake in memory, client and server together, with the very
//! configuration that a listener serves: `cargo bench --bench handshake`.
//!
//! The client is rustls as well, so about half of each figure is the client's. What a server
//! alone takes on a socket is measured by `benches/terminate.rs`.

#![allow(clippy::unwrap_used, reason = "a benchmark that can't set up its scene has failed")]

use std::{fs, hint::black_box, sync::Arc, time::Duration};

use countersign::{
    config::Config,
    handshake::{self, server_config},
    metrics::{CacheMetrics, Metrics},
    pki::{Authority, Identity, KeyType, Spec, Validity},
    resumption::SessionStore,
    revocation::Stores,
    trust::Policy,
};
use criterion::{Criterion, criterion_group, criterion_main};
use rustls::{
    ClientConfig, ClientConnection, ConnectionCommon, HandshakeKind, RootCertStore, ServerConfig,
    ServerConnection, SideData, SupportedProtocolVersion,
    client::Resumption,
    crypto::aws_lc_rs,
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};

const SERVER: &str = "www.contoso.test";
const CLIENT: &str = "fe01.contoso.test";

/// Both sides' configuration, with one type of key on both.
struct Scene {
    ca: Authority,
    client: Identity,
    server: Arc<ServerConfig>,
}

impl Scene {
    fn new(key_type: KeyType, client_auth: &str) -> Self {
        let validity = Validity::from_now(Duration::from_secs(24 * 3600));
        let ca = Authority::root(&Spec::new("Contoso Root", validity)).unwrap();
        let spec = |name: &str| Spec::new(name, validity).dns(name).key_type(key_type);
        let server = ca.issue(&spec(SERVER).server()).unwrap();
        let client = ca.issue(&spec(CLIENT).client()).unwrap();

        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("ca.pem", &ca.pem());
        write("server.pem", server.chain_pem());
        write("server.key", &server.key_pem());
        let peers = if client_auth == "none" { "" } else { "peers = [\"clients\"]" };
        write(
            "countersign.toml",
            &format!(
                r#"
[trust.contoso]
ca = ["ca.pem"]
names = ["*.contoso.test"]

[peers.clients]
trust = "contoso"
names = ["{CLIENT}"]

[backends.app]
servers = ["127.0.0.1:9"]

[[listener]]
name = "main"
listen = ["127.0.0.1:8443"]
client_auth = "{client_auth}"
{peers}
certificates = [{{ chain = "server.pem", key = "server.key" }}]
backend = "app"
"#
            ),
        );
        let config = Config::load(&folder.path().join("countersign.toml")).unwrap();
        let listener = &config.listeners[0];
        let stores = Stores::off(config.trust.keys());
        let policy = Arc::new(Policy::new(listener.client_auth, &listener.peers, &stores).unwrap());
        let metrics = CacheMetrics::new(&Metrics::new().unwrap());
        let sessions = SessionStore::new(&config.resumption, &metrics).unwrap();
        let server =
            server_config(listener, &policy, None, &sessions, config.limits.max_session_age)
                .unwrap();
        Self { ca, client, server }
    }

    fn client(&self, version: &'static SupportedProtocolVersion) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca.pem().as_bytes()).unwrap()).unwrap();
        let chain = self.client.chain().to_vec();
        ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, self.client.key_der())
            .unwrap()
    }

    /// Shakes hands, and has the client take the tickets.
    fn shake(&self, client: &Arc<ClientConfig>) -> HandshakeKind {
        let name = ServerName::try_from(SERVER).unwrap();
        let mut client = ClientConnection::new(client.clone(), name).unwrap();
        let mut server = ServerConnection::new(self.server.clone()).unwrap();
        handshake::in_memory(|| {
            while client.wants_write() || server.wants_write() {
                pass(&mut client, &mut server);
                pass(&mut server, &mut client);
            }
        });
        assert!(!client.is_handshaking() && !server.is_handshaking());
        server.handshake_kind().unwrap()
    }
}

/// Moves what one side has to say to the other.
fn pass<A: SideData, B: SideData>(from: &mut ConnectionCommon<A>, to: &mut ConnectionCommon<B>) {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    let mut bytes = &bytes[..];
    while !bytes.is_empty() {
        to.read_tls(&mut bytes).unwrap();
        to.process_new_packets().unwrap();
    }
}

fn handshakes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("handshake");
    for (key_name, key_type) in [("p256", KeyType::P256), ("rsa2048", KeyType::Rsa2048)] {
        let mutual = Scene::new(key_type, "required");
        let plain = Scene::new(key_type, "none");
        for (version_name, version) in [("tls13", &TLS13), ("tls12", &TLS12)] {
            for (kind, scene) in [("mutual", &mutual), ("server-only", &plain)] {
                let mut config = scene.client(version);
                config.resumption = Resumption::disabled();
                let config = Arc::new(config);
                assert_ne!(scene.shake(&config), HandshakeKind::Resumed);
                group.bench_function(format!("{version_name}/{key_name}/{kind}"), |bencher| {
                    bencher.iter(|| black_box(scene.shake(&config)));
                });
            }
            // The client keeps the newest tickets, so that each handshake resumes the last one.
            let config = Arc::new(mutual.client(version));
            assert_ne!(mutual.shake(&config), HandshakeKind::Resumed);
            group.bench_function(format!("{version_name}/{key_name}/resumed"), |bencher| {
                bencher.iter(|| assert_eq!(mutual.shake(&config), HandshakeKind::Resumed));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, handshakes);
criterion_main!(benches);
