//! The trust decision, as clients of both protocol versions meet it.

#![allow(clippy::unwrap_used, reason = "a test that can't set up its scene has failed")]

mod support;

use std::sync::Arc;

use countersign::pki::{Authority, Spec};
use rustls::{
    ClientConfig, RootCertStore, SignatureScheme, client::ResolvesClientCert,
    crypto::aws_lc_rs::sign::any_supported_type, sign::CertifiedKey,
};
use support::{Backend, Config, Files, Listener, Pki, SClient, Server, TlsClient};

const VERSIONS: [(&str, &str); 2] = [("-tls1_3", "1.3"), ("-tls1_2", "1.2")];

const BAD_CERTIFICATE: u8 = 42;
const UNSUPPORTED_CERTIFICATE: u8 = 43;
const CERTIFICATE_EXPIRED: u8 = 45;
const UNKNOWN_CA: u8 = 48;
const ACCESS_DENIED: u8 = 49;
const HANDSHAKE_FAILURE: u8 = 40;
const CERTIFICATE_REQUIRED: u8 = 116;

/// Shows `files` to a listener that requires a certificate, under both versions; holds metric, log
/// line and the client's alert to the reason.
fn assert_refused(pki: &Pki, files: &Files, reason: &str, alert: u8) {
    let server = Server::start(Config::simple(pki, Backend::echo().addr()));
    for (number, (option, version)) in (1..).zip(VERSIONS) {
        let run = SClient::new(pki, server.addr()).certificate(files).arg(option).end();
        assert_eq!(run.alert(), Some(alert), "{version}: {run:?}");
        let line = server.wait_connection(number);
        assert_eq!(line["handshake"], "refused", "{line}");
        assert_eq!(line["refusal"], reason, "{line}");
        assert_eq!(line["cause"], "refused", "{line}");
        assert!(!line["detail"].as_str().unwrap().is_empty(), "{line}");
        assert_eq!(line["version"], version, "{line}");
    }
    server.wait_metric("refusals_total", &[("reason", reason)], 2.0);
    server.wait_metric("refusals_total", &[], 2.0);
    server.wait_metric("handshakes_total", &[("result", "refused")], 2.0);
    server.wait_metric("backend_connects_total", &[], 0.0);
    server.stop();
}

/// The right certificate, directly from the CA and by an intermediate that the client sends.
#[test]
fn a_listed_client_is_let_in_under_both_versions() {
    let pki = Pki::new();
    let server = Server::start(Config::simple(&pki, Backend::echo().addr()));
    let mut number = 0;
    for files in [pki.client(), pki.client_with_intermediate()] {
        for (option, version) in VERSIONS {
            SClient::new(&pki, server.addr()).certificate(&files).arg(option).echo().succeeded();
            number += 1;
            let line = server.wait_connection(number);
            assert_eq!(line["handshake"], "accepted", "{line}");
            assert_eq!(line["version"], version, "{line}");
            assert_eq!(line["name"], Pki::CLIENT, "{line}");
            assert_eq!(line["peers"], "clients", "{line}");
        }
    }
    server.wait_metric("refusals_total", &[], 0.0);
    server.stop();
}

/// TLS 1.2 has no `certificate_required`; `handshake_failure` stands in for it.
#[test]
fn a_client_without_a_certificate_is_refused_where_one_is_required() {
    let pki = Pki::new();
    let server = Server::start(Config::simple(&pki, Backend::echo().addr()));
    let alerts = [CERTIFICATE_REQUIRED, HANDSHAKE_FAILURE];
    for (number, ((option, _), alert)) in (1..).zip(VERSIONS.into_iter().zip(alerts)) {
        let run = SClient::new(&pki, server.addr()).arg(option).end();
        assert_eq!(run.alert(), Some(alert), "{run:?}");
        assert_eq!(server.wait_connection(number)["refusal"], "no_certificate");
    }
    server.wait_metric("refusals_total", &[("reason", "no_certificate")], 2.0);
    server.stop();
}

/// Whoever shows nothing is anonymous; whoever shows something has to be right.
#[test]
fn an_optional_certificate_must_still_be_a_good_one() {
    let pki = Pki::new();
    let listener = Listener::new("main", "app", &[&pki.server()]).client_auth("optional");
    let config = Config::new(&pki).backend("app", Backend::echo().addr()).listener(listener);
    let server = Server::start(config);
    let (client, stranger) = (pki.client(), pki.stranger());
    for (option, _) in VERSIONS {
        SClient::new(&pki, server.addr()).arg(option).echo().succeeded();
        SClient::new(&pki, server.addr()).arg(option).certificate(&client).echo().succeeded();
        let run = SClient::new(&pki, server.addr()).arg(option).certificate(&stranger).end();
        assert_eq!(run.alert(), Some(UNKNOWN_CA), "{run:?}");
    }
    server.wait_metric("handshakes_total", &[("result", "accepted")], 4.0);
    server.wait_metric("refusals_total", &[("reason", "unknown_issuer")], 2.0);
    server.stop();
}

/// With `client_auth = "none"` a client that has a certificate isn't even asked for it.
#[test]
fn a_listener_for_anybody_asks_for_no_certificate() {
    let pki = Pki::new();
    let listener = Listener::new("main", "app", &[&pki.server()]).client_auth("none");
    let config = Config::new(&pki).backend("app", Backend::echo().addr()).listener(listener);
    let server = Server::start(config);
    let stranger = pki.stranger();
    for (number, (option, _)) in (1..).zip(VERSIONS) {
        let run = SClient::new(&pki, server.addr()).arg(option).certificate(&stranger).echo();
        let run = run.succeeded();
        assert!(run.stdout.contains("No client certificate CA names sent"), "{run:?}");
        let line = server.wait_connection(number);
        assert!(line["subject"].is_null() && line["name"].is_null(), "{line}");
    }
    server.stop();
}

/// The right name from a CA that nobody trusts.
#[test]
fn a_strangers_certificate_is_refused() {
    let pki = Pki::new();
    assert_refused(&pki, &pki.stranger(), "unknown_issuer", UNKNOWN_CA);
}

#[test]
fn an_expired_certificate_is_refused() {
    let pki = Pki::new();
    assert_refused(&pki, &pki.expired(), "expired", CERTIFICATE_EXPIRED);
}

#[test]
fn a_certificate_of_tomorrow_is_refused() {
    let pki = Pki::new();
    assert_refused(&pki, &pki.not_yet_valid(), "not_yet_valid", CERTIFICATE_EXPIRED);
}

/// Only serverAuth, where the profile asks for clientAuth.
#[test]
fn a_certificate_for_servers_is_refused_to_a_client() {
    let pki = Pki::new();
    assert_refused(&pki, &pki.wrong_usage(), "wrong_key_usage", UNSUPPORTED_CERTIFICATE);
}

/// The CA may vouch for the name, but nobody lists it.
#[test]
fn a_name_that_nobody_lists_is_refused() {
    let pki = Pki::new();
    assert_refused(&pki, &pki.wrong_name(), "name_not_listed", ACCESS_DENIED);
}

#[test]
fn a_blocked_name_is_refused() {
    let pki = Pki::new();
    assert_refused(&pki, &pki.blocked(), "blocked", ACCESS_DENIED);
}

/// The client keeps its intermediate to itself, so nothing leads to the CA.
#[test]
fn a_chain_with_a_gap_is_refused() {
    let pki = Pki::new();
    assert_refused(&pki, &pki.client_without_intermediate(), "unknown_issuer", UNKNOWN_CA);
}

/// Any CA can call itself by the trusted one's name; it doesn't have its key.
#[test]
fn a_certificate_by_a_namesake_of_the_ca_is_refused() {
    let pki = Pki::new();
    let namesake = Authority::root(&Spec::new("Contoso Root", Pki::validity())).unwrap();
    let files = pki.issue(&namesake, "namesake", &Pki::client_spec(Pki::CLIENT));
    assert_refused(&pki, &files, "bad_signature", BAD_CERTIFICATE);
}

/// Shows a certificate, and signs with a key that isn't its own.
#[derive(Debug)]
struct Impostor(Arc<CertifiedKey>);

impl ResolvesClientCert for Impostor {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A certificate is public. Whoever shows that of an admitted client without its key is refused.
#[test]
fn a_certificate_without_its_key_is_refused() {
    let pki = Pki::new();
    let server = Server::start(Config::simple(&pki, Backend::echo().addr()));
    let (victim, own) = (pki.client(), pki.stranger());
    let key = any_supported_type(&own.identity.key_der()).unwrap();
    let impostor = Arc::new(CertifiedKey::new(victim.identity.chain().to_vec(), key));
    let mut roots = RootCertStore::empty();
    roots.add(pki.ca.der().clone()).unwrap();
    for (number, version) in (1..).zip([&rustls::version::TLS13, &rustls::version::TLS12]) {
        let config = ClientConfig::builder_with_protocol_versions(&[version])
            .with_root_certificates(roots.clone())
            .with_client_cert_resolver(Arc::new(Impostor(impostor.clone())));
        // In TLS 1.3 the client believes to be done before the server has looked at its proof.
        let ended =
            TlsClient::connect(server.addr(), config).and_then(|mut client| client.read_to_end());
        let error = ended.expect_err("the server refuses");
        assert!(error.to_string().contains("received fatal alert"), "{error}");
        let line = server.wait_connection(number);
        assert_eq!(line["handshake"], "refused", "{line}");
        assert_eq!(line["refusal"], "bad_signature", "{line}");
    }
    server.wait_metric("refusals_total", &[("reason", "bad_signature")], 2.0);
    server.wait_metric("backend_connects_total", &[], 0.0);
    server.stop();
}
