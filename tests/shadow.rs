//! A candidate configuration beside the one that serves: it decides nothing, and tells what it
//! would have decided.

#![allow(clippy::unwrap_used, reason = "a test that can't set up its scene has failed")]

mod support;

use std::{fs, path::PathBuf, process::Command, time::Duration};

use countersign::pki::{CrlSpec, Reason};
use support::{Backend, Config, Listener, LogLine, Pki, Run, SClient, Server};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

const CANDIDATE: &str = "candidate.toml";

/// Writes the candidate, and names it in the configuration.
fn with_candidate(pki: &Pki, config: Config, candidate: &Config) -> Config {
    write(pki, candidate);
    config.top(&format!("shadow = \"{CANDIDATE}\""))
}

fn write(pki: &Pki, candidate: &Config) -> PathBuf {
    let file = pki.file(CANDIDATE);
    fs::write(&file, candidate.text()).unwrap();
    file
}

fn wait_outcome(server: &Server, outcome: &str, times: f64) {
    server.wait_metric("shadow_decisions_total", &[("outcome", outcome)], times);
}

fn disagreements(server: &Server) -> Vec<LogLine> {
    let mut lines = server.log();
    lines.retain(|line| line["message"] == "the candidate decides otherwise");
    lines
}

/// The candidate doesn't list the client: it is served as before, in a full and in a resumed
/// handshake, and each time it is counted and logged what the candidate says.
#[test]
fn a_name_that_the_candidate_removes_is_still_admitted_and_told_about() {
    let pki = Pki::new();
    let config = Config::simple(&pki, Backend::echo().addr());
    let candidate = config.clone().peer_names(&["fe02.contoso.test"]);
    let server = Server::start(with_candidate(&pki, config, &candidate));
    let (client, session) = (pki.client(), pki.file("session.pem"));
    for outcome in ["agree_admit", "agree_refuse", "would_admit", "differs_in_peer", "no_listener"]
    {
        wait_outcome(&server, outcome, 0.0);
    }
    let to = || SClient::new(&pki, server.addr()).certificate(&client);
    to().arg("-sess_out").arg(&session).echo().succeeded();
    wait_outcome(&server, "would_refuse", 1.0);
    let run = to().arg("-sess_in").arg(&session).echo().succeeded();
    assert!(run.stdout.contains("Reused, TLSv1.3"), "{run:?}");
    wait_outcome(&server, "would_refuse", 2.0);
    server.wait_metric("shadow_decisions_total", &[], 2.0);
    server.wait_metric("refusals_total", &[], 0.0);
    let lines = disagreements(&server);
    assert_eq!(lines.len(), 2);
    for line in lines {
        assert_eq!(line["level"], "INFO", "{line}");
        assert_eq!(line["listener"], "main", "{line}");
        assert_eq!(line["outcome"], "would_refuse", "{line}");
        assert_eq!(line["decision"], "admitted: fe01.contoso.test in peers.clients", "{line}");
        let candidate = line["candidate"].as_str().unwrap();
        assert!(candidate.starts_with("refused: name_not_listed: fe01.contoso.test"), "{line}");
        assert_eq!(line["subject"], "CN=fe01.contoso.test", "{line}");
    }
    server.stop();
}

/// The other way round: the client stays refused. Who is refused by both is agreed on.
#[test]
fn a_name_that_the_candidate_adds_is_still_refused_and_told_about() {
    let pki = Pki::new();
    let config = Config::simple(&pki, Backend::echo().addr());
    let candidate = config.clone().peer_names(&[Pki::CLIENT, Pki::UNLISTED]);
    let server = Server::start(with_candidate(&pki, config, &candidate));
    for option in ["-tls1_3", "-tls1_2"] {
        let to = || SClient::new(&pki, server.addr()).arg(option);
        assert_eq!(to().certificate(&pki.wrong_name()).end().alert(), Some(49));
        assert_eq!(to().certificate(&pki.stranger()).end().alert(), Some(48));
        to().certificate(&pki.client()).echo().succeeded();
    }
    wait_outcome(&server, "would_admit", 2.0);
    wait_outcome(&server, "agree_refuse", 2.0);
    wait_outcome(&server, "agree_admit", 2.0);
    server.wait_metric("refusals_total", &[("reason", "name_not_listed")], 2.0);
    let lines = disagreements(&server);
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["candidate"], "admitted: other.contoso.test in peers.clients");
    server.stop();
}

/// Revocation is off where it counts, and required by the candidate, whose CRL is replaced while
/// both run: first it says nothing of the client, then it revokes it.
#[test]
fn revocation_can_be_tried_before_it_is_required() {
    let pki = Pki::new();
    let client = pki.client();
    let crl = |number, revoked: &[&[u8]]| {
        let spec = CrlSpec::from_now(number, Duration::from_secs(3600));
        let since = OffsetDateTime::now_utc() - Duration::from_secs(60);
        let revoke = |spec: CrlSpec, serial: &&[u8]| spec.revoke(serial, since, Reason::Superseded);
        let signed = pki.ca.crl(&revoked.iter().fold(spec, revoke)).unwrap();
        // A file that is replaced at once is never seen half written.
        fs::write(pki.file("next.crl"), signed.der()).unwrap();
        fs::rename(pki.file("next.crl"), pki.file("ca.crl")).unwrap();
    };
    crl(1, &[]);
    let config = Config::simple(&pki, Backend::echo().addr());
    let candidate = config.clone().revocation("revocation = \"require\"\ncrl = [\"ca.crl\"]");
    let server = Server::start(with_candidate(&pki, config, &candidate));
    let connect = || SClient::new(&pki, server.addr()).certificate(&client).echo().succeeded();
    connect();
    wait_outcome(&server, "agree_admit", 1.0);
    server.wait_metric("crl_entries", &[("profile", "candidate/contoso")], 0.0);
    let (_, certificate) = X509Certificate::from_der(client.der()).unwrap();
    crl(2, &[certificate.raw_serial()]);
    server.wait_metric("crl_entries", &[("profile", "candidate/contoso")], 1.0);
    connect();
    wait_outcome(&server, "would_refuse", 1.0);
    let line = disagreements(&server).remove(0);
    assert!(line["candidate"].as_str().unwrap().starts_with("refused: revoked: "), "{line}");
    server.wait_metric("refusals_total", &[], 0.0);
    server.stop();
}

/// Clients without a certificate, whom TLS itself refuses under 1.3 and 1.2, where the candidate
/// lets them be anonymous.
#[test]
fn a_client_without_a_certificate_is_put_to_the_candidate_as_well() {
    let pki = Pki::new();
    let backend = Backend::echo();
    let config = Config::simple(&pki, backend.addr());
    let listener = Listener::new("main", "app", &[&pki.server()]).client_auth("optional");
    let candidate = Config::new(&pki).backend("app", backend.addr()).listener(listener);
    let server = Server::start(with_candidate(&pki, config, &candidate));
    for option in ["-tls1_3", "-tls1_2"] {
        assert!(SClient::new(&pki, server.addr()).arg(option).end().alert().is_some());
    }
    wait_outcome(&server, "would_admit", 2.0);
    server.wait_metric("refusals_total", &[("reason", "no_certificate")], 2.0);
    assert_eq!(disagreements(&server)[0]["candidate"], "admitted: without a certificate");
    server.stop();
}

/// The candidate admits the client by another peer set, and has no second listener, which is a
/// warning.
#[test]
fn another_peer_set_and_a_missing_listener_are_outcomes_of_their_own() {
    let pki = Pki::new();
    let backend = Backend::echo();
    let second = Listener::new("second", "app", &[&pki.server()]);
    let main = Listener::new("main", "app", &[&pki.server()]);
    let base = Config::new(&pki).backend("app", backend.addr());
    let config = base.clone().listener(main.clone()).listener(second);
    let others = "[peers.others]\ntrust = \"contoso\"\nnames = [\"fe01.contoso.test\"]";
    let candidate = base.peer_names(&["x.contoso.test"]).raw(others);
    let candidate = candidate.listener(main.peers(&["clients", "others"]));
    let server = Server::start(with_candidate(&pki, config, &candidate));
    let client = pki.client();
    for listener in ["main", "second"] {
        SClient::new(&pki, server.addr_of(listener)).certificate(&client).echo().succeeded();
    }
    wait_outcome(&server, "differs_in_peer", 1.0);
    wait_outcome(&server, "no_listener", 1.0);
    assert_eq!(disagreements(&server).len(), 1);
    let warning = server.log().into_iter().find(|line| line["level"] == "WARN").unwrap();
    assert!(warning["message"].as_str().unwrap().contains("has no listener second"), "{warning}");
    server.stop();
}

/// A candidate that can't be loaded is an error of the reload, which names both files; the old
/// generation goes on with the old candidate. Taking the key out ends the comparison.
#[test]
fn a_broken_candidate_fails_the_reload_and_the_old_generation_goes_on() {
    let pki = Pki::new();
    let plain = Config::simple(&pki, Backend::echo().addr());
    let candidate = plain.clone().peer_names(&["fe02.contoso.test"]);
    let config = with_candidate(&pki, plain.clone(), &candidate);
    let mut server = Server::start(config.clone());
    write(&pki, &candidate.trust_toml("eku = \"clients\""));
    server.fail_to_reload(config.clone());
    let told: Vec<LogLine> =
        server.log().into_iter().filter(|line| line["level"] == "ERROR").collect();
    for part in ["countersign.toml:1:", "has errors, which follow", "candidate.toml:"] {
        let is_told = |line: &LogLine| line["message"].as_str().unwrap().contains(part);
        assert!(told.iter().any(is_told), "{part} {told:#?}");
    }
    let client = pki.client();
    let connect = || SClient::new(&pki, server.addr()).certificate(&client).echo().succeeded();
    connect();
    wait_outcome(&server, "would_refuse", 1.0);
    write(&pki, &plain);
    server.reload(config);
    let connect = || SClient::new(&pki, server.addr()).certificate(&client).echo().succeeded();
    connect();
    wait_outcome(&server, "agree_admit", 1.0);
    server.reload(plain);
    SClient::new(&pki, server.addr()).certificate(&client).echo().succeeded();
    server.wait_metric("connections_closed_total", &[("cause", "complete")], 3.0);
    server.wait_metric("shadow_decisions_total", &[], 2.0);
    server.stop();
}

#[test]
fn check_tells_which_candidate_is_tried_and_in_what_it_differs() {
    let pki = Pki::new();
    let config = Config::simple(&pki, Backend::dead().addr());
    let check = |config: &Config| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        Run::of(command.args(["check", "--config"]).arg(config.write())).succeeded().stdout
    };
    let same = check(&with_candidate(&pki, config.clone(), &config));
    let line = same.lines().find(|line| line.starts_with("shadow")).unwrap();
    assert!(line.ends_with("candidate.toml, which decides as this one does"), "{line}");
    let candidate = config
        .clone()
        .peer_names(&[Pki::CLIENT, Pki::UNLISTED])
        .trust_toml("eku = \"either\"\nmax_intermediates = 1");
    let other = check(&with_candidate(&pki, config, &candidate));
    for part in [
        "candidate.toml, which serves nobody, and differs in:\n  listener main\n    - peers",
        "clients by trust contoso: fe01.contoso.test\n    + peers",
        "clients by trust contoso: fe01.contoso.test, other.contoso.test\n  trust contoso\n",
        "- key usage    clientAuth\n",
        "+ key usage    clientAuth or serverAuth\n",
    ] {
        assert!(other.contains(part), "{part}\n{other}");
    }
}
