//! A live connection never outlives its authorisation: what ends it, what its client and its
//! backend see, and what the operator is told.

#![allow(clippy::unwrap_used, reason = "a test that can't set up its scene has failed")]

mod support;
mod support_relay;

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::Receiver,
    },
    time::Duration,
};

use countersign::pki::{CrlSpec, Reason, Spec, Validity};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, StreamOwned, SupportedProtocolVersion,
    version::{TLS12, TLS13},
};
use support::{
    Config, DEADLINE, Files, Listener, LogLine, Pki, Process, Server, TlsClient, alert_of,
    client_config, client_config_of, eventually, free_port, wait_listening,
};
use support_relay::{backend, got};
use time::OffsetDateTime;

const DAY: Duration = Duration::from_secs(24 * 3600);

const VERSIONS: [(&SupportedProtocolVersion, &str); 2] = [(&TLS13, "1.3"), (&TLS12, "1.2")];

/// A terminator in front of an echo that tells how each of its connections ended.
struct Scene {
    pki: Pki,
    server: Server,
    address: SocketAddr,
    /// What it was started with.
    config: Config,
    /// Whether a backend's connection ended in order.
    ends: Receiver<bool>,
}

impl Scene {
    fn new(change: impl FnOnce(Config) -> Config) -> Self {
        Self::of(Pki::new(), change)
    }

    fn of(pki: Pki, change: impl FnOnce(Config) -> Config) -> Self {
        let (echo, ends) = backend(echo_to_the_end);
        let config = change(Config::simple(&pki, echo.addr()));
        let server = Server::start(config.clone());
        Self { address: server.addr(), pki, server, config, ends }
    }

    /// With a CRL of the CA that is good for so long and revokes nobody.
    fn revoking(length: Duration) -> Self {
        let pki = Pki::new();
        fs::create_dir(pki.file("crl")).unwrap();
        put_crl(&pki, 1, length, &[]);
        Self::of(pki, |config| config.revocation("crl = [\"crl\"]"))
    }

    fn connect(
        &self,
        certificate: Option<&Files>,
        version: &'static SupportedProtocolVersion,
    ) -> TlsClient {
        let config = client_config_of(&self.pki, certificate, &[version]);
        TlsClient::connect(self.address, config).unwrap()
    }

    /// Holds the connection to be ended for that reason, and both sides and the operator to be
    /// told. It is the only one so far that ended for it with this version of TLS.
    fn is_ended(&self, client: &mut TlsClient, version: &str, expected: &Expected) {
        let Expected { alert, cause, detail } = *expected;
        assert_eq!(client.alert(), alert);
        assert!(!got(&self.ends), "the backend must not take it for the client's own end");
        let line =
            self.server.wait_log(|line| line["cause"] == cause && line["version"] == version);
        assert_eq!(line["handshake"], "accepted", "{line}");
        assert!(line["detail"].as_str().unwrap().contains(detail), "{line}");
    }

    fn counts(&self, cause: &str, count: u32) {
        let by = [("listener", "main"), ("cause", cause)];
        self.server.wait_metric("connections_closed_total", &by, count.into());
        let by = [("listener", "main"), ("reason", cause)];
        self.server.wait_metric("sessions_terminated_total", &by, count.into());
    }
}

/// What becomes of a connection.
struct Expected {
    alert: AlertDescription,
    /// The cause, which is also the reason of the metric.
    cause: &'static str,
    detail: &'static str,
}

/// Puts a CRL of the CA where a terminator with revocation finds it, whole from the beginning.
fn put_crl(pki: &Pki, number: u64, length: Duration, revoked: &[&[u8]]) {
    let since = OffsetDateTime::now_utc() - Duration::from_secs(60);
    let spec = revoked.iter().fold(CrlSpec::from_now(number, length), |spec, serial| {
        spec.revoke(serial, since, Reason::KeyCompromise)
    });
    let new = pki.file("root.new");
    fs::write(&new, pki.ca.crl(&spec).unwrap().der()).unwrap();
    fs::rename(new, pki.file("crl/root.crl")).unwrap();
}

fn echo_to_the_end(mut stream: TcpStream) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(bytes) if stream.write_all(&buffer[..bytes]).is_ok() => {}
            _ => return false,
        }
    }
}

/// With each version of TLS a client connects, `change` is reloaded, and that ends it.
fn a_reload_ends(
    scene: &mut Scene,
    certificate: Option<&Files>,
    change: impl Fn(&Pki, Config) -> Config,
    expected: &Expected,
) {
    let ca = fs::read(scene.pki.file("ca.pem")).unwrap();
    for (round, (version, name)) in (1..).zip(VERSIONS) {
        let mut client = scene.connect(certificate, version);
        client.echo(b"before");
        let changed = change(&scene.pki, scene.config.clone());
        scene.server.reload(changed);
        scene.is_ended(&mut client, name, expected);
        scene.counts(expected.cause, round);
        fs::write(scene.pki.file("ca.pem"), &ca).unwrap();
        scene.server.reload(scene.config.clone());
    }
}

/// A reload takes the client's name from the list. Another client, which stays on it, doesn't
/// notice.
#[test]
fn a_reload_that_removes_a_name_ends_its_connections_and_no_others() {
    let mut scene = Scene::new(|config| config.peer_names(&[Pki::CLIENT, Pki::UNLISTED]));
    let (client, other) = (scene.pki.client(), scene.pki.wrong_name());
    let mut stays = scene.connect(Some(&other), &TLS13);
    stays.echo(b"before");
    let expected = Expected {
        alert: AlertDescription::AccessDenied,
        cause: "rule_removed",
        detail: "name_not_listed: fe01.contoso.test",
    };
    let change = |_: &Pki, config: Config| config.peer_names(&[Pki::UNLISTED]);
    a_reload_ends(&mut scene, Some(&client), change, &expected);
    stays.echo(b"after four reloads");
    drop(stays);
    scene.server.stop();
}

/// A reload replaces the CA by another one.
#[test]
fn a_reload_that_removes_a_ca_ends_the_connections_it_vouched_for() {
    let mut scene = Scene::new(|config| config);
    let client = scene.pki.client();
    let expected = Expected {
        alert: AlertDescription::UnknownCA,
        cause: "ca_removed",
        detail: "unknown_issuer",
    };
    let change = |pki: &Pki, config: Config| {
        fs::write(pki.file("ca.pem"), pki.stranger_ca.pem()).unwrap();
        config
    };
    a_reload_ends(&mut scene, Some(&client), change, &expected);
    scene.server.stop();
}

/// A reload blocks a name that a wildcard lists.
#[test]
fn a_reload_that_blocks_a_name_ends_its_connections() {
    let mut scene = Scene::new(|config| config.peer_names(&["*.contoso.test"]));
    let client = scene.pki.client();
    let expected =
        Expected { alert: AlertDescription::AccessDenied, cause: "blocked", detail: "blocked by" };
    let change = |_: &Pki, config: Config| config.blocked_names(&[Pki::CLIENT]);
    a_reload_ends(&mut scene, Some(&client), change, &expected);
    scene.server.stop();
}

/// A reload replaces the listener by one of another name, at another address.
#[test]
fn a_reload_that_removes_a_listener_ends_its_connections() {
    let mut scene = Scene::new(|config| config);
    let client = scene.pki.client();
    let expected = Expected {
        alert: AlertDescription::AccessDenied,
        cause: "listener_removed",
        detail: "a reload removed the listener",
    };
    let change = |pki: &Pki, config: Config| {
        config.without_listener("main").listener(Listener::new("other", "app", &[&pki.server()]))
    };
    a_reload_ends(&mut scene, Some(&client), change, &expected);
    scene.server.stop();
}

/// A reload asks for another extended key usage than the client's certificate has.
#[test]
fn a_reload_that_asks_for_more_ends_the_connections_that_have_less() {
    let mut scene = Scene::new(|config| config);
    let client = scene.pki.client();
    let expected = Expected {
        alert: AlertDescription::AccessDenied,
        cause: "rule_removed",
        detail: "wrong_key_usage",
    };
    let change = |_: &Pki, config: Config| config.trust_toml("eku = \"server\"");
    a_reload_ends(&mut scene, Some(&client), change, &expected);
    scene.server.stop();
}

/// A reload requires a certificate, and the client hasn't shown one.
#[test]
fn a_reload_that_requires_certificates_ends_anonymous_connections() {
    let listener = |pki: &Pki| Listener::new("main", "app", &[&pki.server()]);
    let mut scene = Scene::new(|config| config);
    let address = scene.address;
    let optional = scene.config.clone().without_listener("main");
    scene.config = optional.listener(listener(&scene.pki).at(address).client_auth("optional"));
    scene.server.reload(scene.config.clone());
    let expected = Expected {
        alert: AlertDescription::AccessDenied,
        cause: "rule_removed",
        detail: "no_certificate",
    };
    let change = |pki: &Pki, config: Config| {
        config.without_listener("main").listener(listener(pki).at(address))
    };
    a_reload_ends(&mut scene, None, change, &expected);
    scene.server.stop();
}

/// The certificates of two connections end while they are live.
#[test]
fn a_connection_ends_when_its_certificate_expires() {
    let scene = Scene::new(|config| config);
    // Long enough for two handshakes on a busy host.
    let validity = Validity::from_now(Duration::from_secs(6));
    let spec = Spec::new(Pki::CLIENT, validity).dns(Pki::CLIENT).client();
    let brief = scene.pki.issue(&scene.pki.ca, "brief", &spec);
    let mut clients = VERSIONS.map(|(version, name)| (scene.connect(Some(&brief), version), name));
    for (client, _) in &mut clients {
        client.echo(b"while it is valid");
    }
    let expected = Expected {
        alert: AlertDescription::CertificateExpired,
        cause: "expired",
        detail: "the client's certificate expired at",
    };
    for (client, name) in &mut clients {
        scene.is_ended(client, name, &expected);
        assert!(OffsetDateTime::now_utc() > validity.not_after, "it was valid still");
    }
    scene.counts("expired", 2);
    scene.server.stop();
}

/// A CRL that revokes a client comes into the folder that is watched. The other client doesn't
/// notice.
#[test]
fn a_connection_ends_when_a_crl_revokes_its_certificate() {
    let scene = Scene::revoking(DAY);
    let (client, other) = (scene.pki.client(), scene.pki.issue_client("other", Pki::CLIENT));
    let mut stays = scene.connect(Some(&other), &TLS13);
    stays.echo(b"before");
    let mut clients = VERSIONS.map(|(version, name)| (scene.connect(Some(&client), version), name));
    for (client, _) in &mut clients {
        client.echo(b"before");
    }
    put_crl(&scene.pki, 2, DAY, &[client.identity.serial()]);
    let expected = Expected {
        alert: AlertDescription::CertificateRevoked,
        cause: "revoked",
        detail: "revoked: ",
    };
    for (client, name) in &mut clients {
        scene.is_ended(client, name, &expected);
    }
    scene.counts("revoked", 2);
    stays.echo(b"after");
    drop(stays);
    scene.server.stop();
}

/// The CRL is out of date. Nobody comes in any more, but who is in isn't known to be bad. When the
/// next CRL says so of one of them, that one ends.
#[test]
fn a_crl_that_gets_stale_keeps_clients_out_and_ends_no_connection() {
    // Long enough for two handshakes on a busy host.
    let scene = Scene::revoking(Duration::from_secs(6));
    let (client, other) = (scene.pki.client(), scene.pki.issue_client("other", Pki::CLIENT));
    let mut live = scene.connect(Some(&client), &TLS13);
    let mut revoked = scene.connect(Some(&other), &TLS12);
    live.echo(b"before");
    revoked.echo(b"before");
    eventually(
        || "a refusal by crl_stale".into(),
        || {
            let config = client_config(&scene.pki, Some(&client));
            let refused = TlsClient::connect(scene.address, config).and_then(|mut client| {
                client.0.write_all(b"x")?;
                client.0.read_exact(&mut [0])
            });
            let alert = alert_of(&refused.err()?);
            assert_eq!(alert, AlertDescription::CertificateUnknown);
            Some(())
        },
    );
    // The alert is out before the refusal is counted.
    let counted = || scene.server.metric("refusals_total", &[("reason", "crl_stale")]) >= 1.0;
    eventually(|| "it is counted".into(), || counted().then_some(()));
    live.echo(b"while it is stale");
    revoked.echo(b"while it is stale");
    put_crl(&scene.pki, 2, DAY, &[other.identity.serial()]);
    assert_eq!(revoked.alert(), AlertDescription::CertificateRevoked);
    live.echo(b"after");
    scene.counts("revoked", 1);
    drop(live);
    scene.server.stop();
}

/// Other words for the same: the name by a wildcard, and the listener at another address. And a
/// reload that fails. None of it is a reason to end anything.
#[test]
fn a_reload_that_still_admits_a_client_or_fails_leaves_its_connection_alone() {
    let mut scene = Scene::new(|config| config);
    let client = scene.pki.client();
    let mut live: Vec<_> =
        VERSIONS.iter().map(|(version, _)| scene.connect(Some(&client), version)).collect();
    let config = scene.config.clone();
    scene.server.reload(config.clone().peer_names(&["*.contoso.test"]));
    let elsewhere = Listener::new("main", "app", &[&scene.pki.server()]);
    scene.server.reload(config.clone().without_listener("main").listener(elsewhere));
    scene.server.fail_to_reload(config.peer_names(&[Pki::UNLISTED]).raw("[nonsense]\na = 1"));
    for client in &mut live {
        client.echo(b"still here");
        client.close_notify();
        assert_eq!(client.read_to_end().unwrap(), b"");
    }
    assert_eq!(scene.server.metric("sessions_terminated_total", &[]), 0.0);
    scene.server.wait_metric("connections_closed_total", &[("cause", "complete")], 2.0);
    scene.server.stop();
}

/// The handshake begins before a reload and ends after it: the client is judged by the new list,
/// also where a live connection would only be logged. The backend never hears of it.
#[test]
fn a_client_whose_handshake_a_reload_overtakes_is_refused() {
    let mut scene = Scene::new(|config| config.listener_toml("enforce = \"log\""));
    let client = scene.pki.client();
    for (round, (version, _)) in (1..).zip(VERSIONS) {
        let config = client_config_of(&scene.pki, Some(&client), &[version]);
        let name = Pki::SERVER.try_into().unwrap();
        let mut tls = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut socket = TcpStream::connect(scene.address).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        while tls.wants_write() {
            tls.write_tls(&mut socket).unwrap();
        }
        scene.server.wait_metric("handshakes_in_flight", &[], 1.0);
        scene.server.reload(scene.config.clone().peer_names(&[Pki::UNLISTED]));
        let error = loop {
            if !tls.is_handshaking() {
                break TlsClient(StreamOwned::new(tls, socket)).read_to_end().unwrap_err();
            }
            if let Err(error) = tls.complete_io(&mut socket) {
                break error;
            }
        };
        assert_eq!(alert_of(&error), AlertDescription::AccessDenied);
        let refused = [("listener", "main"), ("reason", "name_not_listed")];
        scene.server.wait_metric("refusals_total", &refused, round.into());
        scene.server.reload(scene.config.clone());
    }
    assert_eq!(scene.server.metric("backend_connects_total", &[]), 0.0);
    assert_eq!(scene.server.metric("sessions_tolerated_total", &[]), 0.0);
    scene.server.stop();
}

/// `enforce = "drain"`: the idle connection ends soon. The one that is busy all the time ends when
/// the drain time is over, and not with an error of its own before that.
#[test]
fn connections_that_drain_end_when_they_are_idle_or_out_of_time() {
    let mut scene = Scene::new(|config| {
        config.listener_toml("enforce = \"drain\"").limit("drain_timeout", "\"3s\"")
    });
    let client = scene.pki.client();
    let mut idle = scene.connect(Some(&client), &TLS12);
    let mut busy = scene.connect(Some(&client), &TLS13);
    idle.echo(b"before");
    busy.echo(b"before");
    scene.server.reload(scene.config.clone().peer_names(&[Pki::UNLISTED]));
    let error = loop {
        let mut byte = [7];
        let turn = busy.0.write_all(&byte).and_then(|()| busy.0.read_exact(&mut byte));
        if let Err(error) = turn {
            break error;
        }
    };
    assert_eq!(alert_of(&error), AlertDescription::AccessDenied);
    assert_eq!(idle.alert(), AlertDescription::AccessDenied);
    scene.counts("rule_removed", 2);
    scene.server.stop();
}

/// `enforce = "log"`: a line and a count say what would have been ended, and the connection goes
/// on to its own end.
#[test]
fn where_it_is_only_logged_a_connection_goes_on() {
    let mut scene = Scene::new(|config| config.listener_toml("enforce = \"log\""));
    let client = scene.pki.client();
    let mut live = scene.connect(Some(&client), &TLS13);
    live.echo(b"before");
    let changed = scene.config.clone().peer_names(&[Pki::UNLISTED]);
    scene.server.reload(changed.clone());
    let tolerated = [("listener", "main"), ("reason", "rule_removed")];
    scene.server.wait_metric("sessions_tolerated_total", &tolerated, 1.0);
    scene.server.reload(changed);
    live.echo(b"after two reloads");
    let is_told = |line: &LogLine| line["reason"] == "rule_removed";
    let line = scene.server.wait_log(is_told);
    assert_eq!((&line["level"], &line["name"]), (&"WARN".into(), &Pki::CLIENT.into()), "{line}");
    live.close_notify();
    assert_eq!(live.read_to_end().unwrap(), b"");
    assert!(got(&scene.ends), "the backend sees the client's own end");
    assert_eq!(scene.server.wait_connection(1)["cause"], "complete");
    assert_eq!(scene.server.log().into_iter().filter(is_told).count(), 1);
    assert_eq!(scene.server.metric("sessions_tolerated_total", &tolerated), 1.0);
    assert_eq!(scene.server.metric("sessions_terminated_total", &[]), 0.0);
    scene.server.stop();
}

/// From the reload to the end of each worker's round, for people.
fn spans(server: &Server) -> Vec<String> {
    let lines = server.log();
    let at = |line: &LogLine| {
        let text = line["timestamp"].as_str().unwrap_or_default();
        OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()
    };
    let began = lines.iter().find(|line| line["message"] == "reloading").and_then(at);
    let ended = lines.iter().filter(|line| line["ended"].is_number());
    ended.filter_map(|line| Some(format!("{} in {}", line["ended"], at(line)? - began?))).collect()
}

/// Ten thousand connections of one client (as many as the descriptors of this host allow), and one
/// of another. A reload removes the first client: all of its connections end, and the other one
/// gets its echo all the while.
///
/// A client keeps only its socket after the handshake; what comes at the end is the alert and then
/// the end of the stream.
#[test]
fn ten_thousand_connections_end_at_a_reload_while_another_one_goes_on() {
    const AT_A_TIME: usize = 8;
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    // 256 are for the process itself, and 2 are for each connection.
    let fitting = maximum.map_or(10_000, |most| usize::try_from((most - 256) / 2 - 2).unwrap());
    let each = fitting.min(10_000) / AT_A_TIME;
    let connections = each * AT_A_TIME;

    let pki = Pki::new();
    let echo = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command.args(["load", "backend", "--mode", "echo", "--listen", &echo.to_string()]);
    let _echo = Process::spawn(&mut command);
    wait_listening(echo.port());
    let config = Config::simple(&pki, echo).log_toml("format = \"json\"\nconnections = false");
    let both = config.clone().peer_names(&[Pki::CLIENT, Pki::UNLISTED]);
    let mut server = Server::start(both);
    let address = server.addr();

    let tls: Arc<ClientConfig> = client_config(&pki, Some(&pki.client())).into();
    let connect = || -> Vec<TcpStream> {
        let open = || {
            let mut client = TlsClient::connect(address, tls.clone()).unwrap();
            client.echo(b"x");
            client.0.sock
        };
        (0..each).map(|_| open()).collect()
    };
    let sockets: Vec<TcpStream> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(connect)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let other = client_config(&pki, Some(&pki.wrong_name()));
    let mut other = TlsClient::connect(address, other).unwrap();
    server.wait_metric("connections_open", &[], (connections + 1) as f64);

    let done = Arc::new(AtomicBool::new(false));
    let is_done = done.clone();
    let echoes = std::thread::spawn(move || {
        let mut echoes = 0_u32;
        while !is_done.load(Ordering::Relaxed) {
            other.echo(&echoes.to_be_bytes());
            echoes += 1;
        }
        (other, echoes)
    });
    server.reload(config.peer_names(&[Pki::UNLISTED]));
    for mut socket in sockets {
        let mut alert = Vec::new();
        socket.read_to_end(&mut alert).unwrap();
        assert!(!alert.is_empty());
    }
    let removed = [("reason", "rule_removed")];
    server.wait_metric("sessions_terminated_total", &removed, connections as f64);
    server.wait_metric("connections_open", &[], 1.0);
    done.store(true, Ordering::Relaxed);
    println!("{} connections: {}", connections, spans(&server).join(", "));
    let (mut other, echoes) = echoes.join().unwrap();
    assert!(echoes > 0);
    other.echo(b"and still");
    drop(other);
    server.stop();
}
