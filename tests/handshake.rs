//! What is agreed in a handshake, and what ends one.

#![allow(clippy::unwrap_used, reason = "a test that can't set up its scene has failed")]

mod support;

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    crypto::{CryptoProvider, aws_lc_rs},
};
use support::{
    Backend, Config, DEADLINE, Files, Listener, Pki, SClient, Server, TlsClient, client_config,
};

/// A client with the right certificate gets its bytes back: the whole way works.
#[test]
fn an_admitted_client_reaches_the_backend() {
    let pki = Pki::new();
    let server = Server::start(Config::simple(&pki, Backend::echo().addr()));
    SClient::new(&pki, server.addr()).certificate(&pki.client()).echo().succeeded();
    assert_eq!(server.wait_connection(1)["cause"], "complete");
    server.wait_metric("handshakes_total", &[("result", "accepted"), ("kind", "full")], 1.0);
    server.stop();
}

/// openssl offers one suite at a time; the data comes back under it, and the log names it.
#[test]
fn every_tls13_suite_carries_data() {
    let pki = Pki::new();
    let server = Server::start(Config::simple(&pki, Backend::echo().addr()));
    let client = pki.client();
    let suites =
        ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];
    for (number, suite) in (1..).zip(suites) {
        let run = SClient::new(&pki, server.addr())
            .certificate(&client)
            .args(["-tls1_3", "-ciphersuites", suite])
            .echo()
            .succeeded();
        assert!(run.stdout.contains(&format!("New, TLSv1.3, Cipher is {suite}")), "{run:?}");
        let line = server.wait_connection(number);
        assert_eq!(line["cipher"], suite);
        assert_eq!(line["version"], "1.3");
    }
    server.wait_metric("handshakes_total", &[("result", "accepted"), ("version", "1.3")], 3.0);
    server.stop();
}

/// An ECDSA and an RSA certificate for one name, side by side: each of the six AEAD suites of
/// TLS 1.2 finds the one it needs.
#[test]
fn every_tls12_suite_carries_data_with_the_certificate_of_its_kind() {
    let pki = Pki::new();
    let listener = Listener::new("main", "app", &[&pki.server(), &pki.server_rsa()]);
    let config = Config::new(&pki).backend("app", Backend::echo().addr()).listener(listener);
    let server = Server::start(config);
    let client = pki.client();
    for kind in ["ECDSA", "RSA"] {
        for aead in ["AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305"] {
            let suite = format!("ECDHE-{kind}-{aead}");
            let run = SClient::new(&pki, server.addr())
                .certificate(&client)
                .args(["-tls1_2", "-cipher", &suite])
                .echo()
                .succeeded();
            assert!(run.stdout.contains(&format!("New, TLSv1.2, Cipher is {suite}")), "{run:?}");
        }
    }
    server.wait_metric("handshakes_total", &[("result", "accepted"), ("version", "1.2")], 6.0);
    server.stop();
}

/// openssl offers one group at a time, under both versions. In TLS 1.2 its list holds for the
/// curve of an ECDSA key as well (RFC 8422 §5.1.1), so there it gets an RSA certificate.
#[test]
fn every_classical_group_is_agreed_on() {
    let pki = Pki::new();
    let listener = Listener::new("main", "app", &[&pki.server(), &pki.server_rsa()]);
    let config = Config::new(&pki).backend("app", Backend::echo().addr()).listener(listener);
    let server = Server::start(config);
    let client = pki.client();
    let groups = [("X25519", "X25519"), ("P-256", "secp256r1"), ("P-384", "secp384r1")];
    let versions: [&[&str]; 2] =
        [&["-tls1_3"], &["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"]];
    let mut number = 0;
    for version in versions {
        for (group, name) in groups {
            SClient::new(&pki, server.addr())
                .certificate(&client)
                .args(version)
                .args(["-groups", group])
                .echo()
                .succeeded();
            number += 1;
            assert_eq!(server.wait_connection(number)["group"], name);
        }
    }
    server.stop();
}

/// A rustls client that offers nothing but the hybrid with ML-KEM.
#[test]
fn the_post_quantum_hybrid_is_agreed_on() {
    let pki = Pki::new();
    let server = Server::start(Config::simple(&pki, Backend::echo().addr()));
    let mut roots = RootCertStore::empty();
    roots.add(pki.ca.der().clone()).unwrap();
    let provider = CryptoProvider {
        kx_groups: vec![aws_lc_rs::kx_group::X25519MLKEM768],
        ..aws_lc_rs::default_provider()
    };
    let identity = pki.client().identity;
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(identity.chain().to_vec(), identity.key_der())
        .unwrap();
    let mut client = TlsClient::connect(server.addr(), config).unwrap();
    client.echo(b"under a hybrid key");
    drop(client);
    assert_eq!(server.wait_connection(1)["group"], "X25519MLKEM768");
    server.stop();
}

/// A client that knows nothing newer than TLS 1.1, and one that knows no AEAD suite. The first is
/// missed for the signature algorithms that TLS 1.1 doesn't have, before its version is looked at:
/// so it gets the same alert.
#[test]
fn old_versions_and_cbc_suites_are_refused() {
    const HANDSHAKE_FAILURE: u8 = 40;
    let pki = Pki::new();
    let server = Server::start(Config::simple(&pki, Backend::echo().addr()));
    let old =
        SClient::new(&pki, server.addr()).args(["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]).end();
    assert_eq!(old.alert(), Some(HANDSHAKE_FAILURE), "{old:?}");
    let cbc = SClient::new(&pki, server.addr())
        .args(["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"])
        .end();
    assert_eq!(cbc.alert(), Some(HANDSHAKE_FAILURE), "{cbc:?}");
    server.wait_metric("handshakes_total", &[("result", "no_common_parameters")], 2.0);
    server.stop();
}

/// The listener prefers h2, the client http/1.1: h2 it is. A client with neither is refused, and
/// one that doesn't negotiate goes without.
#[test]
fn alpn_goes_by_the_servers_preference_and_refuses_when_nothing_is_common() {
    const NO_APPLICATION_PROTOCOL: u8 = 120;
    let pki = Pki::new();
    let listener = Listener::new("main", "app", &[&pki.server()]).alpn(&["h2", "http/1.1"]);
    let config = Config::new(&pki).backend("app", Backend::echo().addr()).listener(listener);
    let server = Server::start(config);
    let client = pki.client();
    let with =
        |arguments: &[&str]| SClient::new(&pki, server.addr()).certificate(&client).args(arguments);
    for version in ["-tls1_3", "-tls1_2"] {
        let run = with(&[version, "-alpn", "http/1.1,h2"]).echo().succeeded();
        assert!(run.stdout.contains("ALPN protocol: h2"), "{run:?}");
        let run = with(&[version, "-alpn", "sip"]).end();
        assert_eq!(run.alert(), Some(NO_APPLICATION_PROTOCOL), "{run:?}");
        let run = with(&[version]).echo().succeeded();
        assert!(run.stdout.contains("No ALPN negotiated"), "{run:?}");
    }
    server.wait_metric("handshakes_total", &[("result", "no_common_parameters")], 2.0);
    server.stop();
}

struct Named {
    pki: Pki,
    certificates: [Files; 3],
}

/// Certificates for a default name, a wildcard, and a name below the wildcard.
fn named() -> Named {
    let pki = Pki::new();
    let issue = |file: &str, name: &str| pki.issue(&pki.ca, file, &Pki::server_spec(&[name]));
    let certificates = [
        issue("default", "default.contoso.test"),
        issue("wildcard", "*.pool.contoso.test"),
        issue("exact", "a.pool.contoso.test"),
    ];
    Named { pki, certificates }
}

fn listener_of(named: &Named) -> Listener {
    let [default, wildcard, exact] = &named.certificates;
    Listener::new("main", "app", &[default, wildcard, exact]).client_auth("none")
}

/// The exact name wins over the wildcard, which stands for one label, and whoever asks for
/// something else, or for nothing, gets the first certificate.
#[test]
fn the_certificate_is_chosen_by_sni() {
    let named = named();
    let config = Config::new(&named.pki)
        .backend("app", Backend::echo().addr())
        .listener(listener_of(&named));
    let server = Server::start(config);
    let cases = [
        (Some("a.pool.contoso.test"), "a.pool.contoso.test"),
        (Some("A.Pool.Contoso.Test"), "a.pool.contoso.test"),
        (Some("b.pool.contoso.test"), "*.pool.contoso.test"),
        (Some("b.b.pool.contoso.test"), "default.contoso.test"),
        (Some("elsewhere.test"), "default.contoso.test"),
        (None, "default.contoso.test"),
    ];
    for (name, subject) in cases {
        let run = SClient::asking_for(&named.pki, server.addr(), name).echo().succeeded();
        assert!(run.stdout.contains(&format!("subject=CN = {subject}\n")), "{name:?}: {run:?}");
    }
    server.stop();
}

/// With `sni = "strict"` a name that no certificate has, or none at all, ends in an alert.
#[test]
fn a_strict_listener_refuses_other_names() {
    const UNRECOGNIZED_NAME: u8 = 112;
    let named = named();
    let config = Config::new(&named.pki)
        .backend("app", Backend::echo().addr())
        .listener(listener_of(&named).strict_sni());
    let server = Server::start(config);
    let ask = |name| SClient::asking_for(&named.pki, server.addr(), name);
    ask(Some("b.pool.contoso.test")).echo().succeeded();
    for name in [Some("b.b.pool.contoso.test"), None] {
        let run = ask(name).end();
        assert_eq!(run.alert(), Some(UNRECOGNIZED_NAME), "{name:?}: {run:?}");
        assert!(!run.stdout.contains("BEGIN CERTIFICATE"), "{run:?}");
    }
    server.wait_metric("handshakes_total", &[("result", "unknown_server_name")], 2.0);
    assert_eq!(server.wait_connection(2)["sni"], "b.b.pool.contoso.test");
    server.stop();
}

/// The ECDSA certificate is preferred; a client that can't verify it gets the other one.
#[test]
fn a_client_that_knows_only_rsa_gets_the_rsa_certificate() {
    let pki = Pki::new();
    let listener =
        Listener::new("main", "app", &[&pki.server(), &pki.server_rsa()]).client_auth("none");
    let config = Config::new(&pki).backend("app", Backend::echo().addr()).listener(listener);
    let server = Server::start(config);
    let any = SClient::new(&pki, server.addr()).echo().succeeded();
    assert!(any.stdout.contains("Peer signature type: ECDSA"), "{any:?}");
    // RSA PKCS #1 is for the CA's signature alone, which is ECDSA here: it has to be allowed.
    let rsa = SClient::new(&pki, server.addr())
        .args(["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"])
        .echo()
        .succeeded();
    assert!(rsa.stdout.contains("Peer signature type: RSA"), "{rsa:?}");
    server.stop();
}

/// What a peer gets that sends `bytes`, up to the end of the connection.
fn answer_to(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    // The other side may have closed before it has read everything.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

/// Noise, plain HTTP, a PROXY header and an oversized ClientHello: the peer gets one alert record
/// and nothing else, the operator gets a count and a line that says what it was.
#[test]
fn what_is_not_a_client_hello_gets_an_alert_and_nothing_else() {
    const UNEXPECTED_MESSAGE: u8 = 10;
    const RECORD_OVERFLOW: u8 = 22;
    let pki = Pki::new();
    let server = Server::start(Config::simple(&pki, Backend::echo().addr()));
    // A ClientHello that announces 65535 bytes, in a first record of the largest size.
    let oversized = [&[22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff][..], &[0; 16 * 1024 - 4]].concat();
    let proxied = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01\x1f\x90\x1f\x91";
    let cases: [(&[u8], u8, &str, &str); 5] = [
        (b"\x00\x01\x02\x03\x04\x05\x06\x07", UNEXPECTED_MESSAGE, "not_tls", "no TLS"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", UNEXPECTED_MESSAGE, "not_tls", "plain HTTP"),
        (proxied, UNEXPECTED_MESSAGE, "not_tls", "a PROXY header"),
        (
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
            UNEXPECTED_MESSAGE,
            "not_tls",
            "a PROXY header",
        ),
        (&oversized, RECORD_OVERFLOW, "malformed", "more than a handshake may hold"),
    ];
    for (number, (bytes, alert, result, detail)) in (1..).zip(cases) {
        let answer = answer_to(server.addr(), bytes);
        assert_eq!(answer, [21, 3, 3, 0, 2, 2, alert], "{detail}");
        let line = server.wait_connection(number);
        assert_eq!(line["handshake"], result);
        assert!(line["detail"].as_str().unwrap().contains(detail), "{line}");
    }
    server.wait_metric("handshakes_total", &[("result", "not_tls")], 4.0);
    server.wait_metric("handshakes_total", &[("result", "malformed")], 1.0);
    server.stop();
}

/// The first bytes that a client sends.
fn client_hello(config: ClientConfig, name: &'static str) -> Vec<u8> {
    let name = name.try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

/// Whoever asks a strict listener for a name that it doesn't have learns that, and nothing of the
/// names and certificates that it does have.
#[test]
fn a_refused_client_hello_is_answered_with_an_alert_alone() {
    const UNRECOGNIZED_NAME: u8 = 112;
    let named = named();
    let config = Config::new(&named.pki)
        .backend("app", Backend::echo().addr())
        .listener(listener_of(&named).strict_sni());
    let server = Server::start(config);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let config = ClientConfig::builder_with_protocol_versions(&[version])
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let answer = answer_to(server.addr(), &client_hello(config, "elsewhere.test"));
        assert_eq!(answer, [21, 3, 3, 0, 2, 2, UNRECOGNIZED_NAME]);
    }
    server.stop();
}

/// A peer that sends one byte at a time never runs out of bytes, but of time: the limit is for
/// the handshake as a whole.
#[test]
fn a_handshake_that_drips_is_ended_by_its_total_deadline() {
    let pki = Pki::new();
    let config = Config::simple(&pki, Backend::echo().addr()).limit("handshake_timeout", "\"1s\"");
    let server = Server::start(config);
    let mut stream = TcpStream::connect(server.addr()).unwrap();
    // The start of a ClientHello of 508 bytes, then zeros.
    let mut bytes = [22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3].into_iter().chain(std::iter::repeat(0));
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let timed_out = [("result", "timed_out")];
    support::eventually(
        || format!("the end; log:\n{}", server.stderr()),
        || {
            let _ = stream.write_all(&[bytes.next().unwrap()]);
            match stream.read(&mut [0; 64]) {
                Ok(0) => Some(()),
                Ok(_) => None,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => None,
                Err(_) => Some(()),
            }
        },
    );
    server.wait_metric("handshakes_total", &timed_out, 1.0);
    assert_eq!(server.wait_connection(1)["handshake"], "timed_out");
    server.stop();
}

/// Half a ClientHello, and the client is gone.
#[test]
fn a_client_that_leaves_midway_is_counted_as_such() {
    let pki = Pki::new();
    let server = Server::start(Config::simple(&pki, Backend::echo().addr()));
    let mut stream = TcpStream::connect(server.addr()).unwrap();
    stream.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).unwrap();
    stream.shutdown(Shutdown::Both).unwrap();
    drop(stream);
    server.wait_metric("handshakes_total", &[("result", "client_closed")], 1.0);
    assert_eq!(server.wait_connection(1)["cause"], "handshake_failed");
    server.stop();
}

/// A client that doesn't trust us says so with an alert, which is told apart from a refusal.
#[test]
fn a_client_that_refuses_us_is_counted_as_such() {
    let pki = Pki::new();
    let stranger = Pki::new();
    let server = Server::start(Config::simple(&pki, Backend::echo().addr()));
    let config = client_config(&stranger, None);
    assert!(TlsClient::connect(server.addr(), config).is_err());
    server.wait_metric("handshakes_total", &[("result", "client_alert")], 1.0);
    server.stop();
}
