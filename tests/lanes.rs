//! Handshakes that go on at the same time and share their cryptography.
//!
//! With crypto_mb where it is installed, or from the file that the environment variable
//! `COUNTERSIGN_TEST_CRYPTO_MB` names; without it, the same tests show that handshakes one by one
//! do the same.

#![allow(clippy::unwrap_used, reason = "a test that can't set up its scene has failed")]

mod support;

use std::{
    env, fs,
    io::{self, Write},
    net::TcpStream,
    sync::{Arc, Barrier},
    thread,
    time::Duration,
};

use countersign::{
    crypto::{Choice, Engine, coroutine, lanes},
    handshake::{in_memory, server_config},
    metrics::{CacheMetrics, Metrics},
    resumption::SessionStore,
    revocation::Stores,
    trust::Policy,
};
use rustls::{
    ClientConfig, ClientConnection, ServerConnection, SignatureScheme, SupportedProtocolVersion,
    client::{ResolvesClientCert, Resumption},
    crypto::aws_lc_rs,
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use support::{Backend, Config, Files, Listener, Pki, Server, TlsClient, client_config};

fn library() -> Option<String> {
    env::var("COUNTERSIGN_TEST_CRYPTO_MB").ok().filter(|path| !path.is_empty())
}

/// Shows a chain that belongs to another key.
#[derive(Debug)]
struct WrongKey(Arc<CertifiedKey>);

impl ResolvesClientCert for WrongKey {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn wrong_key(pki: &Pki, chain: &Files, key: &Files) -> ClientConfig {
    let key = aws_lc_rs::sign::any_supported_type(&key.identity.key_der()).unwrap();
    let shown = CertifiedKey::new(chain.identity.chain().to_vec(), key);
    let mut config = client_config(pki, None);
    config.client_auth_cert_resolver = Arc::new(WrongKey(Arc::new(shown)));
    config
}

/// What becomes of a client of the crowd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Admitted,
    UnknownIssuer,
    WrongKey,
}

/// Sixty clients at once, of each kind a third, each with a name of its own in certificate and
/// SNI. Everybody is decided about by its own certificate and key, whoever shares a batch with it;
/// twice, since the second time the chains are known. Half of them meet an RSA certificate.
#[test]
fn in_a_crowd_each_client_gets_its_own_decision() {
    const CLIENTS: usize = 60;
    let pki = Pki::new();
    let wildcard = Pki::server_spec(&["*.contoso.test"]);
    let ec = pki.issue(&pki.ca, "ec", &wildcard);
    let rsa = pki.issue(&pki.ca, "rsa", &wildcard.key_type(countersign::pki::KeyType::Rsa2048));
    let names: Vec<String> = (0..CLIENTS).map(|i| format!("n{i:02}.contoso.test")).collect();
    let listed: Vec<&str> = names.iter().map(String::as_str).collect();
    let config = Config::new(&pki)
        .backend("app", Backend::echo().addr())
        .listener(Listener::new("ec", "app", &[&ec]))
        .listener(Listener::new("rsa", "app", &[&rsa]))
        .peer_names(&listed);
    let server = Server::start(config);
    let other = pki.client();
    let crowd: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(i, name)| {
            let fate = [Fate::Admitted, Fate::UnknownIssuer, Fate::WrongKey][i % 3];
            let by = if fate == Fate::UnknownIssuer { &pki.stranger_ca } else { &pki.ca };
            let files = pki.issue(by, &format!("c{i}"), &Pki::client_spec(name));
            let mut config = match fate {
                Fate::WrongKey => wrong_key(&pki, &files, &other),
                _ => client_config(&pki, Some(&files)),
            };
            config.resumption = Resumption::disabled();
            let address = server.addr_of(if i % 2 == 0 { "ec" } else { "rsa" });
            let name: &'static str = name.clone().leak();
            (fate, address, Arc::new(config), name)
        })
        .collect();
    for _ in 0..2 {
        let together = Barrier::new(CLIENTS);
        thread::scope(|scope| {
            for (fate, address, config, name) in &crowd {
                let together = &together;
                scope.spawn(move || {
                    together.wait();
                    // In TLS 1.3 a client usually hears of its refusal when it reads.
                    let client = TlsClient::connect_to(*address, config.clone(), name);
                    if *fate == Fate::Admitted {
                        client.unwrap().echo(name.as_bytes());
                    } else if let Ok(mut client) = client {
                        assert!(client.0.write_all(b"?").is_err() || client.read_to_end().is_err());
                    }
                });
            }
        });
    }
    for line in server.wait_connections(2 * CLIENTS) {
        let sni = line["sni"].as_str().unwrap().to_owned();
        let (fate, ..) = crowd.iter().find(|(.., name)| *name == sni).unwrap();
        let found = match fate {
            Fate::Admitted => line["name"] == *sni && line["handshake"] == "accepted",
            Fate::UnknownIssuer => line["refusal"] == "unknown_issuer",
            Fate::WrongKey => line["refusal"] == "bad_signature",
        };
        assert!(found, "{fate:?}: {line:?}");
    }
    server.wait_metric("handshakes_in_flight", &[], 0.0);
    server.stop();
}

/// Two hundred clients say hello and are gone, some before the server has answered, while others
/// complete their handshakes. Nothing of those who left stays behind, and nobody else is harmed.
#[test]
fn clients_that_leave_in_the_middle_leave_nothing_behind() {
    let pki = Pki::new();
    let server = Server::start(Config::simple(&pki, Backend::echo().addr()));
    let config = Arc::new(client_config(&pki, Some(&pki.client())));
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count();
    // Those of the test's own questions come and go.
    let least = || {
        let read = |_| {
            thread::sleep(Duration::from_millis(10));
            descriptors()
        };
        (0..20).map(read).min().unwrap()
    };
    TlsClient::connect(server.addr(), config.clone()).unwrap().echo(b"first");
    server.wait_connections(1);
    let before = least();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let name = Pki::SERVER.try_into().unwrap();
                    let mut client = ClientConnection::new(config.clone(), name).unwrap();
                    let mut socket = TcpStream::connect(server.addr()).unwrap();
                    client.write_tls(&mut socket).unwrap();
                }
            });
            scope.spawn(|| {
                for _ in 0..10 {
                    TlsClient::connect(server.addr(), config.clone()).unwrap().echo(b"still here");
                }
            });
        }
    });
    server.wait_connections(241);
    server.wait_metric("handshakes_in_flight", &[], 0.0);
    server.wait_metric("connections_open", &[], 0.0);
    assert_eq!(least(), before, "descriptors");
    let accepted = server.metric("handshakes_total", &[("result", "accepted")]);
    assert!(accepted >= 40.0, "{accepted}");
    server.stop();
}

/// Clients that connect and say nothing, and others that say hello and then nothing more, more of
/// them than it takes for operations to wait for each other. Whoever comes alone beside them waits
/// for none of them.
#[test]
fn a_lone_client_waits_for_no_silent_ones() {
    let pki = Pki::new();
    let config = Config::simple(&pki, Backend::echo().addr()).raw("[workers]\ncpus = \"0\"");
    let server = Server::start(config);
    let mut client = client_config(&pki, Some(&pki.client()));
    client.resumption = Resumption::disabled();
    let client = Arc::new(client);
    let silent: Vec<_> = (0..8).map(|_| TcpStream::connect(server.addr()).unwrap()).collect();
    let stuck: Vec<_> = (0..8)
        .map(|_| {
            let mut socket = TcpStream::connect(server.addr()).unwrap();
            let name = Pki::SERVER.try_into().unwrap();
            ClientConnection::new(client.clone(), name).unwrap().write_tls(&mut socket).unwrap();
            // The server has answered.
            socket.peek(&mut [0]).unwrap();
            socket
        })
        .collect();
    server.wait_metric("handshakes_in_flight", &[], 16.0);
    // Those who have just spoken are expected to go on, for some milliseconds.
    thread::sleep(Duration::from_millis(200));
    let waited = || server.metric("crypto_queue_duration_seconds_count", &[]);
    let before = waited();
    for _ in 0..5 {
        TlsClient::connect(server.addr(), client.clone()).unwrap().echo(b"alone");
    }
    assert_eq!(waited(), before);
    drop((silent, stuck));
    server.stop();
}

/// Relays take the CPU at once from what signs by RSA beside their worker: the kernel knows it as
/// one of the nicest threads.
#[test]
fn what_signs_by_rsa_beside_a_worker_is_nicer_than_it() {
    let pki = Pki::new();
    let server = Server::start(Config::simple(&pki, Backend::echo().addr()));
    let nice = || nice_beside_workers(server.pid());
    // Each worker starts such a thread at its own time, and the thread makes itself nice.
    let workers = thread::available_parallelism().unwrap().get();
    let settled = || nice() == vec!["19"; workers];
    if library().is_some() {
        let waited = (0..1000).take_while(|_| !settled());
        waited.for_each(|_| thread::sleep(Duration::from_millis(10)));
        assert!(settled(), "{:?} of {workers}", nice());
    }
    server.stop();
}

/// How nice the threads are that compute beside workers.
fn nice_beside_workers(pid: u32) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let nice = |thread: io::Result<fs::DirEntry>| {
        let stat = fs::read_to_string(thread.unwrap().path().join("stat")).ok()?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
        // The 19th field of proc(5), of which the third is the first after the name.
        let nice = rest.split_whitespace().nth(16)?.to_owned();
        (name.starts_with("worker-") && name.contains("-asi")).then_some(nice)
    };
    threads.filter_map(nice).collect()
}

/// A whole handshake, client and server, on one of the stacks that calls into rustls get, with the
/// longest chain that the tests have and each kind of key. What the stack takes of memory is read
/// from the kernel's own account of it.
#[test]
fn a_handshake_takes_less_than_a_quarter_of_its_stack() {
    if let Some(path) = library() {
        lanes::install(Arc::new(Engine::load(&Choice::File(path.into())).unwrap()));
    }
    let pki = Pki::new();
    for version in [&TLS12, &TLS13] {
        for certificate in [pki.server(), pki.server_rsa()] {
            let listener = Listener::new("main", "app", &[&certificate]);
            let file = Config::new(&pki).backend("app", Backend::dead().addr()).listener(listener);
            let config = countersign::config::Config::load(&file.write()).unwrap();
            let served = &config.listeners[0];
            let stores = Stores::off(config.trust.keys());
            let policy = Policy::new(served.client_auth, &served.peers, &stores).unwrap();
            let (policy, age) = (Arc::new(policy), config.limits.max_session_age);
            let kept = CacheMetrics::new(&Metrics::new().unwrap());
            let kept =
                SessionStore::new(&countersign::config::Resumption::default(), &kept).unwrap();
            let server = server_config(served, &policy, None, &kept, age).unwrap();
            let client =
                only(version, client_config(&pki, Some(&pki.client_with_intermediate())), &pki);
            let call = move || {
                let name = Pki::SERVER.try_into().unwrap();
                let client = ClientConnection::new(client.clone(), name).unwrap();
                in_memory(|| shake(client, ServerConnection::new(server.clone()).unwrap()));
                touched_bytes()
            };
            let run = coroutine::run(call).ok().unwrap();
            let touched = block_on(run).unwrap();
            assert!((4096..coroutine::STACK_BYTES / 4).contains(&touched), "{touched} bytes");
        }
    }
}

/// With lanes that are served.
fn block_on<R>(call: impl Future<Output = R>) -> R {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        tokio::task::spawn_local(lanes::serve(async || ()));
        call.await
    })
}

fn only(
    version: &'static SupportedProtocolVersion,
    all: ClientConfig,
    pki: &Pki,
) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(all.crypto_provider().clone())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates({
            let mut roots = rustls::RootCertStore::empty();
            roots.add(pki.ca.der().clone()).unwrap();
            roots
        })
        .with_no_client_auth();
    config.client_auth_cert_resolver = all.client_auth_cert_resolver;
    Arc::new(config)
}

fn shake(mut client: ClientConnection, mut server: ServerConnection) {
    while client.is_handshaking() || server.is_handshaking() {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut unread = &bytes[..];
        while !unread.is_empty() {
            server.read_tls(&mut unread).unwrap();
            server.process_new_packets().unwrap();
        }
        bytes.clear();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut unread = &bytes[..];
        while !unread.is_empty() {
            client.read_tls(&mut unread).unwrap();
            client.process_new_packets().unwrap();
        }
    }
}

/// How much of the mapping that holds this function's own variables is in memory.
fn touched_bytes() -> usize {
    let here = 0_u8;
    let here = (&raw const here).addr();
    let maps = fs::read_to_string("/proc/self/smaps").unwrap();
    let mut inside = false;
    for line in maps.lines() {
        let first = line.split_whitespace().next().unwrap();
        if let Some((start, end)) = first.split_once('-') {
            let [start, end] = [start, end].map(|at| usize::from_str_radix(at, 16).unwrap());
            inside = (start..end).contains(&here);
        } else if inside && first == "Rss:" {
            let kilobytes: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
            return kilobytes * 1024;
        }
    }
    panic!("this stack is in no mapping");
}
