//! The load generator against a rustls server in this process: what it says happened is what the
//! server saw.
#![allow(clippy::unwrap_used, reason = "a test that can't set up its scene has failed")]

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use clap::Parser;
use countersign::load::{self, Backend, BackendMode, LoadArgs, LoadError, Report, RunArgs};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::{
    HandshakeKind, RootCertStore, ServerConfig, ServerConnection, Stream,
    crypto::aws_lc_rs,
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// What the server saw.
#[derive(Debug, Default)]
struct Seen {
    full: AtomicU64,
    resumed: AtomicU64,
    refused: AtomicU64,
    bytes: AtomicU64,
}

struct Bed {
    folder: tempfile::TempDir,
    address: SocketAddr,
    seen: Arc<Seen>,
}

impl Bed {
    /// An echo server that demands a client certificate; its threads end with the process.
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = Arc::new(write_pki(folder.path()));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let counts = Arc::clone(&seen);
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let (config, counts) = (Arc::clone(&config), Arc::clone(&counts));
                std::thread::spawn(move || echo(socket.unwrap(), config, &counts));
            }
        });
        Self { folder, address, seen }
    }

    fn run(&self, options: &str) -> Report {
        let folder = self.folder.path().display();
        run(&format!(
            "--target {} --ca {folder}/ca.pem --sni server.test --cert {folder}/client.pem \
             --key {folder}/client.key {options}",
            self.address
        ))
    }

    fn seen(&self) -> [u64; 4] {
        let Seen { full, resumed, refused, bytes } = &*self.seen;
        [full, resumed, refused, bytes].map(|count| count.load(Ordering::Relaxed))
    }
}

fn run(options: &str) -> Report {
    load::run(&parse(options)).unwrap()
}

fn parse(options: &str) -> RunArgs {
    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        load: LoadArgs,
    }
    let words = ["load"].into_iter().chain(options.split_whitespace());
    Cli::try_parse_from(words).unwrap().load.run.unwrap()
}

fn echo(mut socket: TcpStream, config: Arc<ServerConfig>, seen: &Seen) {
    let mut tls = ServerConnection::new(config).unwrap();
    while tls.is_handshaking() {
        if tls.complete_io(&mut socket).is_err() {
            seen.refused.fetch_add(1, Ordering::Relaxed);
            return;
        }
    }
    match tls.handshake_kind() {
        Some(HandshakeKind::Resumed) => seen.resumed.fetch_add(1, Ordering::Relaxed),
        _ => seen.full.fetch_add(1, Ordering::Relaxed),
    };
    let mut stream = Stream::new(&mut tls, &mut socket);
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        // Counted before the answer: once that is read, the count is what the client expects.
        seen.bytes.fetch_add(read as u64, Ordering::Relaxed);
        if stream.write_all(&buffer[..read]).is_err() {
            return;
        }
    }
}

/// Writes `ca.pem`, `client.pem`, `client.key` and `other-ca.pem`; returns the server's side.
fn write_pki(folder: &Path) -> ServerConfig {
    let ca = authority("load test CA");
    let leaf = |name: &str, usage| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        (params.signed_by(&key, &ca).unwrap(), key)
    };
    let (server, server_key) = leaf("server.test", ExtendedKeyUsagePurpose::ServerAuth);
    let (client, client_key) = leaf("client.test", ExtendedKeyUsagePurpose::ClientAuth);
    fs::write(folder.join("ca.pem"), ca.pem()).unwrap();
    fs::write(folder.join("other-ca.pem"), authority("another CA").pem()).unwrap();
    fs::write(folder.join("client.pem"), client.pem()).unwrap();
    fs::write(folder.join("client.key"), client_key.serialize_pem()).unwrap();

    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(ca.der().to_vec())).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider))
        .build()
        .unwrap();
    let key = PrivateKeyDer::try_from(server_key.serialize_der()).unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![server.der().clone()], key)
        .unwrap();
    // Stateless tickets, so that what the server could remember is no limit.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = aws_lc_rs::Ticketer::new().unwrap();
    config
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

#[test]
fn full_handshakes_are_as_many_as_the_server_saw() {
    let bed = Bed::start();
    let report = bed.run("--mode full --count 50 --connections 4 --threads 2 --ramp 0s");
    assert_eq!((report.attempts, report.ok, report.handshakes), (50, 50, 50));
    assert_eq!(report.handshakes_resumed, 0);
    assert_eq!(report.tls_version.as_deref(), Some("1.3"));
    assert_eq!(bed.seen(), [50, 0, 0, 50]);
    assert!(report.all_succeeded());
}

#[test]
fn every_counted_handshake_is_resumed_after_one_full_handshake_a_connection() {
    for version in ["1.2", "1.3"] {
        let bed = Bed::start();
        let report = bed
            .run(&format!("--mode resumed --count 60 --connections 5 --ramp 0s --tls {version}"));
        assert_eq!((report.attempts, report.ok, report.handshakes_resumed), (60, 60, 60));
        assert_eq!(report.resumed_share, Some(1.0));
        assert_eq!(report.tls_version.as_deref(), Some(version));
        assert_eq!(bed.seen(), [5, 60, 0, 65]);
    }
}

#[test]
fn requests_are_as_many_bytes_as_the_server_saw() {
    let bed = Bed::start();
    let report = bed.run("--mode request --size 3000B --count 70 --connections 4 --ramp 0s");
    assert_eq!((report.attempts, report.ok), (70, 70));
    assert!(report.latency.unwrap().p50_us > 0.0);
    assert_eq!(bed.seen(), [4, 0, 0, 70 * 3000]);
}

#[test]
fn the_generator_says_what_it_took_itself_for_an_operation() {
    let bed = Bed::start();
    let report = bed.run("--mode full --count 20 --connections 2 --ramp 0s");
    let own_us = report.generator_cpu_us_per_operation.unwrap();
    assert!(own_us > 0.0);
    assert_eq!(report.completed_in_window, 20);
    assert!((own_us * 20.0 - report.generator_cpu_s * 1e6).abs() < 1.0);
}

#[test]
fn requests_larger_than_a_record_come_back_whole() {
    let bed = Bed::start();
    let report = bed.run("--mode request --size 200KiB --count 6 --connections 2 --ramp 0s");
    assert_eq!((report.attempts, report.ok), (6, 6));
    assert_eq!(bed.seen(), [2, 0, 0, 6 * 200 * 1024]);
}

#[test]
fn an_open_loop_starts_every_operation() {
    let bed = Bed::start();
    let report = bed.run("--mode request --rate 500/s --count 40 --connections 4 --ramp 0s");
    assert_eq!((report.attempts, report.ok), (40, 40));
    assert!(report.latency.unwrap().from_intended_start);
}

#[test]
fn a_server_that_wants_a_certificate_is_heard_to_say_so() {
    let bed = Bed::start();
    let ca = bed.folder.path().join("ca.pem");
    let report = run(&format!(
        "--target {} --ca {} --sni server.test --mode full --count 8 --connections 2 --ramp 0s",
        bed.address,
        ca.display()
    ));
    assert_eq!((report.attempts, report.ok), (8, 0));
    assert_eq!(
        report.errors.into_iter().collect::<Vec<_>>(),
        [("tls_alert_certificate_required".to_owned(), 8)]
    );
    assert_eq!(bed.seen(), [0, 0, 8, 0]);
}

#[test]
fn a_server_of_another_ca_is_never_talked_to() {
    let bed = Bed::start();
    let ca = bed.folder.path().join("other-ca.pem");
    let report = run(&format!(
        "--target {} --ca {} --sni server.test --mode full --count 3 --connections 1 --ramp 0s",
        bed.address,
        ca.display()
    ));
    assert_eq!(report.errors.get("certificate_invalid"), Some(&3));
    assert_eq!((report.attempts, report.ok), (3, 0));
    assert!(!report.all_succeeded());
}

#[test]
fn a_port_that_nothing_listens_on_is_counted_and_not_hidden() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let report =
        run(&format!("--target {free} --plain --mode request --count 5 --connections 1 --ramp 0s"));
    assert_eq!(report.errors.get("connect_refused"), Some(&5));
    assert_eq!((report.attempts, report.ok, report.warmup_errors), (5, 0, 1));
}

#[test]
fn held_connections_are_all_open_at_the_end() {
    let bed = Bed::start();
    let pid = std::process::id();
    let report = bed
        .run(&format!("--mode hold --connections 30 --duration 50ms --ramp 0s --server-pid {pid}"));
    assert_eq!((report.attempts, report.ok), (30, 30));
    assert!(report.server.unwrap().rss_held_kb.is_some());
    assert_eq!(bed.seen(), [30, 0, 0, 30]);
}

#[test]
fn bulk_bytes_are_checked_and_counted_in_both_directions() {
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    for (mode, backend_mode) in
        [("down", BackendMode::Source), ("up", BackendMode::Discard), ("both", BackendMode::Echo)]
    {
        let backend = Backend::start(backend_mode, local, 1, None).unwrap();
        let report = run(&format!(
            "--target {} --plain --mode {mode} --connections 2 --duration 200ms --ramp 10ms",
            backend.address()
        ));
        assert_eq!((report.attempts, report.ok), (2, 2), "{mode}: {:?}", report.error_examples);
        assert_eq!(report.bytes_down > 0, mode != "up");
        assert_eq!(report.bytes_up > 0, mode != "down");
        assert_eq!(backend.connections(), 2);
        assert!(backend.sent_bytes() >= report.bytes_down);
    }
    // Through TLS as well.
    let bed = Bed::start();
    let report = bed.run("--mode both --connections 2 --duration 200ms --ramp 10ms");
    assert_eq!((report.attempts, report.ok), (2, 2), "{:?}", report.error_examples);
    assert!(report.bytes_down > 0);
}

#[test]
fn a_cpu_that_there_is_not_ends_the_run_before_it_starts() {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let cpus = "1023".parse().unwrap();
    let backend = Backend::start(BackendMode::Echo, listen, 1, Some(&cpus));
    assert!(matches!(backend, Err(LoadError::Cpu(1023))), "{backend:?}");

    let backend = Backend::start(BackendMode::Echo, listen, 1, None).unwrap();
    let options = format!("--target {} --plain --mode full --cpus 1023", backend.address());
    let error = load::run(&parse(&options)).unwrap_err();
    assert!(matches!(error, LoadError::Cpu(1023)), "{error}");
}
