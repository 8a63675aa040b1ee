//! Sessions: who may resume, where, and until when.

#![allow(clippy::unwrap_used, reason = "a test that can't set up its scene has failed")]

mod support;

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};

use countersign::{
    pki::{Authority, CrlSpec, Reason, Spec, Validity},
    proxy::{self, ClientCertificate},
};
use rustls::{ClientConfig, ClientConnection};
use support::{
    Backend, Config, KEPT, Listener, Pki, Recorder, Returning as Client, SClient, Server, TICKETS,
    TlsClient, VERSIONS, client_config, client_config_of, was_resumed,
};
use time::OffsetDateTime;

/// The second connection resumes the first one's session: the log and the metrics say so, and the
/// backend learns who it is, and that the certificate was shown earlier.
#[test]
fn a_session_is_resumed_and_the_backend_still_learns_who_it_is() {
    for kept in KEPT {
        let pki = Pki::new();
        let recorder = Recorder::new();
        let listener = Listener::new("main", "app", &[&pki.server()]);
        let config =
            Config::new(&pki).raw(kept).backend_v2("app", recorder.addr()).listener(listener);
        let server = Server::start(config);
        let client = Client::new(&pki);
        for (round, (option, version)) in VERSIONS.into_iter().enumerate() {
            client.begin(server.addr(), option);
            let run = client.offer(server.addr(), option).echo().succeeded();
            assert!(was_resumed(&run), "{run:?}");
            let line = server.wait_connection(2 * round + 2);
            assert_eq!(line["kind"], "resumed", "{line}");
            assert_eq!(line["version"], version, "{line}");
            assert_eq!(line["name"], Pki::CLIENT, "{line}");
            for shown in [ClientCertificate::Connection, ClientCertificate::Session] {
                let header = recorder.next();
                let (header, _) = proxy::parse(&header).unwrap().unwrap();
                let tls = header.tls.unwrap();
                assert_eq!(tls.client_certificate, shown);
                assert!(tls.is_verified());
                assert_eq!(tls.common_name, Some(Pki::CLIENT));
                assert_eq!(tls.certificate, Some(client.files.der()));
            }
            let resumed = [("result", "accepted"), ("kind", "resumed"), ("version", version)];
            server.wait_metric("handshakes_total", &resumed, 1.0);
        }
        server.wait_metric("resumption_total", &[("outcome", "resumed")], 2.0);
        server.stop();
    }
}

/// Two listeners with the same policy: a session of one gets a full handshake at the other.
#[test]
fn a_session_belongs_to_its_listener() {
    for kept in KEPT {
        let pki = Pki::new();
        let backend = Backend::echo().addr();
        let config = Config::simple(&pki, backend).raw(kept).listener(Listener::new(
            "other",
            "app",
            &[&pki.server()],
        ));
        let server = Server::start(config);
        let client = Client::new(&pki);
        for (option, version) in VERSIONS {
            client.begin(server.addr_of("main"), option);
            let run = client.offer(server.addr_of("other"), option).echo().succeeded();
            assert!(!was_resumed(&run), "{version}: {run:?}");
        }
        let other = [("listener", "other"), ("outcome", "vetoed")];
        server.wait_metric("resumption_total", &other, 2.0);
        server.stop();
    }
}

/// A reload takes the client's name from the list: its session is worth nothing, and the full
/// handshake that it gets instead is refused.
#[test]
fn a_session_does_not_outlive_the_permission_it_came_from() {
    for kept in KEPT {
        let pki = Pki::new();
        let config = Config::simple(&pki, Backend::echo().addr()).raw(kept);
        let mut server = Server::start(config.clone());
        let client = Client::new(&pki);
        let mut expected = 0.0;
        for (option, version) in VERSIONS {
            client.begin(server.addr(), option);
            server.reload(config.clone().peer_names(&[Pki::UNLISTED]));
            let run = client.offer(server.addr(), option).end();
            assert_eq!(run.alert(), Some(49), "{version}: {run:?}");
            assert!(!run.stdout.contains("Reused, "), "{version}: {run:?}");
            expected += 1.0;
            server.wait_metric("resumption_total", &[("outcome", "vetoed")], expected);
            server.wait_metric("refusals_total", &[("reason", "name_not_listed")], expected);
            server.reload(config.clone());
        }
        server.stop();
    }
}

/// A reload blocks the client, which a wildcard lists: the same.
#[test]
fn a_session_ends_when_its_client_is_blocked() {
    for kept in KEPT {
        let pki = Pki::new();
        let config =
            Config::simple(&pki, Backend::echo().addr()).raw(kept).peer_names(&["*.contoso.test"]);
        let mut server = Server::start(config.clone());
        let client = Client::new(&pki);
        let mut expected = 0.0;
        for (option, version) in VERSIONS {
            client.begin(server.addr(), option);
            server.reload(config.clone().blocked_names(&[Pki::CLIENT]));
            let run = client.offer(server.addr(), option).end();
            assert_eq!(run.alert(), Some(49), "{version}: {run:?}");
            assert!(!run.stdout.contains("Reused, "), "{version}: {run:?}");
            expected += 1.0;
            server.wait_metric("resumption_total", &[("outcome", "vetoed")], expected);
            server.wait_metric("refusals_total", &[("reason", "blocked")], expected);
            server.reload(config.clone());
        }
        server.stop();
    }
}

/// A CRL revokes the client's certificate while it is away. The ticket is good by itself, and it is
/// refused for the same reason as a full handshake would be.
#[test]
fn a_session_does_not_outlive_the_revocation_of_its_certificate() {
    const CERTIFICATE_REVOKED: u8 = 44;
    const DAY: Duration = Duration::from_secs(24 * 3600);
    for kept in KEPT {
        let pki = Pki::new();
        let put_crl = |number, revoked: &[Vec<u8>]| {
            let since = OffsetDateTime::now_utc() - Duration::from_secs(60);
            let spec = revoked.iter().fold(CrlSpec::from_now(number, DAY), |spec, serial| {
                spec.revoke(serial, since, Reason::KeyCompromise)
            });
            std::fs::write(pki.file("root.new"), pki.ca.crl(&spec).unwrap().der()).unwrap();
            std::fs::rename(pki.file("root.new"), pki.file("root.crl")).unwrap();
        };
        put_crl(1, &[]);
        let config = Config::simple(&pki, Backend::echo().addr())
            .raw(kept)
            .revocation("crl = [\"root.crl\"]");
        let server = Server::start(config);
        let mut revoked = Vec::new();
        for (number, (option, version)) in (2..).zip(VERSIONS) {
            let client = Client::new(&pki);
            client.begin(server.addr(), option);
            let run = client.go_on(server.addr(), option);
            assert!(was_resumed(&run), "{version}: {run:?}");
            revoked.push(client.files.identity.serial().to_vec());
            put_crl(number, &revoked);
            server.wait_metric("crl_entries", &[("profile", "contoso")], revoked.len() as f64);
            let run = client.offer(server.addr(), option).end();
            assert_eq!(run.alert(), Some(CERTIFICATE_REVOKED), "{version}: {run:?}");
            server.wait_metric("refusals_total", &[("reason", "revoked")], revoked.len() as f64);
            let refused = [("result", "refused"), ("kind", "resumed"), ("version", version)];
            assert_eq!(server.metric("handshakes_total", &refused), 1.0);
        }
        server.stop();
    }
}

/// A ticket is stateless, so the client that has its secret may use it again. Each time it is
/// decided about again: the log has who it is, and when its permission is gone, so is the ticket's
/// worth.
#[test]
fn a_ticket_that_is_used_again_is_decided_about_again() {
    let pki = Pki::new();
    let config = Config::simple(&pki, Backend::echo().addr()).raw(TICKETS);
    let mut server = Server::start(config.clone());
    let client = Client::new(&pki);
    for (round, (option, version)) in VERSIONS.into_iter().enumerate() {
        client.begin(server.addr(), option);
        for number in 2..=4 {
            let run = client.offer(server.addr(), option).echo().succeeded();
            assert!(was_resumed(&run), "{version}: {run:?}");
            let line = server.wait_connection(5 * round + number);
            assert_eq!((&line["kind"], &line["name"]), (&"resumed".into(), &Pki::CLIENT.into()));
        }
        server.reload(config.clone().peer_names(&[Pki::UNLISTED]));
        let run = client.offer(server.addr(), option).end();
        assert_eq!(run.alert(), Some(49), "{version}: {run:?}");
        server.reload(config.clone());
    }
    server.stop();
}

/// Somebody has recorded the first message of a client that resumes, and sends it again. The
/// answer is encrypted for the one who has the session's secret; the handshake comes to no end, and
/// the backend isn't dialled.
#[test]
fn a_recorded_resumption_is_worth_nothing_without_the_session_s_secret() {
    let pki = Pki::new();
    let server = Server::start(Config::simple(&pki, Backend::echo().addr()).raw(TICKETS));
    for (round, version) in [&rustls::version::TLS13, &rustls::version::TLS12].iter().enumerate() {
        let config = Arc::new(client_config_of(&pki, Some(&pki.client()), &[version]));
        TlsClient::connect(server.addr(), config.clone()).unwrap().echo(b"takes the ticket");
        let name = Pki::SERVER.try_into().unwrap();
        let mut resuming = ClientConnection::new(config, name).unwrap();
        let mut recorded = Vec::new();
        while resuming.wants_write() {
            resuming.write_tls(&mut recorded).unwrap();
        }
        let attack = |bytes: &[u8]| {
            let mut socket = TcpStream::connect(server.addr()).unwrap();
            socket.set_read_timeout(Some(support::DEADLINE)).unwrap();
            socket.write_all(bytes).unwrap();
            let mut answer = [0; 5];
            socket.read_exact(&mut answer).unwrap();
            assert_eq!(answer[0], 22, "a ServerHello");
            // All that is left to do without keys.
            socket.write_all(&recorded).unwrap();
            let _ = socket.read_to_end(&mut Vec::new());
        };
        attack(&recorded);
        attack(&recorded);
        if **version == rustls::version::TLS13 {
            // Whoever has the ticket and not the secret can't make a first message of their own
            // either: its last bytes are the binder (RFC 8446 §4.2.11).
            let mut forged = recorded.clone();
            *forged.last_mut().unwrap() ^= 1;
            let mut socket = TcpStream::connect(server.addr()).unwrap();
            socket.set_read_timeout(Some(support::DEADLINE)).unwrap();
            socket.write_all(&forged).unwrap();
            let mut answer = Vec::new();
            socket.read_to_end(&mut answer).unwrap();
            assert_eq!((answer[0], answer[6]), (21, 51), "decrypt_error");
        }
        let begun = (round + 1) as f64;
        let accepted = [("result", "accepted")];
        server.wait_metric("connections_open", &[], 0.0);
        assert_eq!(server.metric("handshakes_total", &accepted), begun);
        assert_eq!(server.metric("backend_connects_total", &[]), begun);
        // Nobody has resumed anything: not by a session that was accepted, but not gone on with.
        for outcome in ["resumed", "vetoed", "unknown"] {
            let outcome = [("outcome", outcome)];
            assert_eq!(server.metric("resumption_total", &outcome), 0.0, "{outcome:?}");
        }
    }
    server.stop();
}

/// A reload that changes nothing keeps sessions alive.
#[test]
fn a_session_survives_a_reload_that_changes_nothing() {
    for kept in KEPT {
        let pki = Pki::new();
        let config = Config::simple(&pki, Backend::echo().addr()).raw(kept);
        let mut server = Server::start(config.clone());
        let client = Client::new(&pki);
        for (option, version) in VERSIONS {
            client.begin(server.addr(), option);
            server.reload(config.clone());
            let run = client.offer(server.addr(), option).echo().succeeded();
            assert!(was_resumed(&run), "{version}: {run:?}");
        }
        server.stop();
    }
}

/// A session that was agreed under one name isn't resumed under another (RFC 6066 §3).
#[test]
fn a_session_is_not_resumed_under_another_name() {
    for kept in KEPT {
        let pki = Pki::new();
        let server = Server::start(Config::simple(&pki, Backend::echo().addr()).raw(kept));
        let client = Client::new(&pki);
        for (option, version) in VERSIONS {
            client.begin(server.addr(), option);
            let run = SClient::asking_for(&pki, server.addr(), Some("alt.contoso.test"))
                .certificate(&client.files)
                .args([option, "-sess_in"])
                .arg(&client.session)
                .echo()
                .succeeded();
            assert!(!was_resumed(&run), "{version}: {run:?}");
        }
        server.wait_metric("resumption_total", &[("outcome", "vetoed")], 2.0);
        server.wait_metric("resumption_total", &[("outcome", "resumed")], 0.0);
        server.stop();
    }
}

/// Each ticket costs a round of cryptography and bytes: there is one.
#[test]
fn one_handshake_gives_one_ticket() {
    let pki = Pki::new();
    let server = Server::start(Config::simple(&pki, Backend::echo().addr()));
    let run = Client::new(&pki).begin(server.addr(), "-tls1_3");
    assert_eq!(run.stdout.matches("New Session Ticket arrived").count(), 1, "{run:?}");
    server.stop();
}

/// A ticket of an earlier process is no error: the client gets a full handshake.
#[test]
fn a_ticket_of_an_earlier_process_leads_to_a_full_handshake() {
    for kept in KEPT {
        let pki = Pki::new();
        let config = Config::simple(&pki, Backend::echo().addr()).raw(kept);
        let client = Client::new(&pki);
        let server = Server::start(config.clone());
        client.begin(server.addr(), "-tls1_3");
        server.stop();
        let server = Server::start(config);
        let run = client.offer(server.addr(), "-tls1_3").echo().succeeded();
        assert!(!was_resumed(&run), "{run:?}");
        server.wait_metric("resumption_total", &[("outcome", "unknown")], 1.0);
        server.stop();
    }
}

/// The certificate expires while the client is away. Its session would be good for hours, but not
/// without the certificate: a ticket is vetoed, and what is kept here isn't kept any longer.
#[test]
fn a_session_does_not_outlive_its_certificate() {
    const CERTIFICATE_EXPIRED: u8 = 45;
    let pki = Pki::new();
    for (kept, outcome) in KEPT.into_iter().zip(["unknown", "vetoed"]) {
        let server = Server::start(Config::simple(&pki, Backend::echo().addr()).raw(kept));
        // Long enough for a handshake on a busy host.
        let validity = Validity::from_now(Duration::from_secs(6));
        let spec = Spec::new(Pki::CLIENT, validity).dns(Pki::CLIENT).client();
        let client = Client { files: pki.issue(&pki.ca, "brief", &spec), ..Client::new(&pki) };
        client.begin(server.addr(), "-tls1_3");
        assert!(was_resumed(&client.go_on(server.addr(), "-tls1_3")));
        while OffsetDateTime::now_utc() <= validity.not_after + Duration::from_secs(1) {
            std::thread::sleep(Duration::from_millis(100));
        }
        let run = client.offer(server.addr(), "-tls1_3").end();
        assert_eq!(run.alert(), Some(CERTIFICATE_EXPIRED), "{run:?}");
        assert!(!run.stdout.contains("Reused, "), "{run:?}");
        server.wait_metric("resumption_total", &[("outcome", outcome)], 1.0);
        server.wait_metric("refusals_total", &[("reason", "expired")], 1.0);
        server.stop();
    }
}

/// A client sends certificates that nobody needs, more than a ClientHello could carry back in a
/// ticket. It is let in each time: it never gets a ticket that it could only be refused with.
#[test]
fn a_client_with_a_long_chain_comes_back_without_a_ticket() {
    let pki = Pki::new();
    let server = Server::start(Config::simple(&pki, Backend::echo().addr()));
    let client = pki.client();
    let mut chain = client.identity.chain().to_vec();
    for number in 0..5 {
        let name = format!("superfluous {number} {}", "x".repeat(2000));
        chain.push(Authority::root(&Spec::new(name, Pki::validity())).unwrap().der().clone());
    }
    assert!(chain.iter().map(|der| der.len()).sum::<usize>() > 16 * 1024);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(pki.ca.der().clone()).unwrap();
    let config =
        ClientConfig::builder_with_provider(client_config(&pki, None).crypto_provider().clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, client.identity.key_der())
            .unwrap();
    for _ in 0..2 {
        let mut connection = TlsClient::connect(server.addr(), config.clone()).unwrap();
        connection.echo(b"again");
        assert_eq!(connection.0.conn.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
    server.stop();
}
