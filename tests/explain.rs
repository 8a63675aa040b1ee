//! `countersign explain`: what it says, how it ends, and that a handshake decides the same.

#![allow(clippy::unwrap_used, reason = "a test that can't set up its scene has failed")]

mod support;

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use countersign::{
    pki::{Authority, Spec},
    trust::Check,
};
use serde_json::Value;
use support::{Backend, Config, Files, Listener, Pki, Process, Run, SClient, Server};

const ADMITTED: i32 = 0;
const ERROR: i32 = 1;
const USAGE: i32 = 2;
const REFUSED: i32 = 3;

fn command(config: &Path, listener: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command.arg("explain").arg("--config").arg(config).args(["--listener", listener]);
    command
}

fn explain<S: AsRef<OsStr>>(config: &Path, arguments: impl IntoIterator<Item = S>) -> Run {
    Run::of(command(config, "main").args(arguments))
}

/// What `--json` says, and the exit code.
fn explain_json<S: AsRef<OsStr>>(
    config: &Path,
    arguments: impl IntoIterator<Item = S>,
) -> (Value, i32) {
    let run = Run::of(command(config, "main").arg("--json").args(arguments));
    assert_eq!(run.stderr, "", "{run:#?}");
    let answer = serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("{run:#?}"));
    (answer, run.status.code().unwrap())
}

/// The chain as openssl would send it: the own certificate and then its intermediates.
fn shown(files: &Files) -> [PathBuf; 2] {
    ["--cert".into(), files.chain.clone()]
}

fn config(pki: &Pki) -> PathBuf {
    Config::simple(pki, Backend::dead().addr()).write()
}

#[test]
fn an_admitted_client_is_explained_step_by_step() {
    let pki = Pki::new();
    let run = explain(&config(&pki), shown(&pki.client_with_intermediate()));
    assert_eq!(run.status.code(), Some(ADMITTED), "{run:#?}");
    for part in [
        "listener main of ",
        "  1  CN=fe01.contoso.test (its own)",
        "issuer                 CN=Contoso Issuing",
        "ok blocked names",
        "path 1: CN=fe01.contoso.test from CN=Contoso Issuing from CN=Contoso Root",
        "its CA belongs to trust.contoso",
        "peers.clients, for the CAs of trust.contoso",
        "listed as fe01.contoso.test; the CA may vouch for it by *.contoso.test",
        "ok validity",
        "ok admitted               by peers.clients",
        "valid until",
        "whether the client has the key isn't checked here",
    ] {
        assert!(run.stdout.contains(part), "{part}\n{}", run.stdout);
    }
    assert_eq!(run.stderr, "");
}

/// A slip of the operator's: the entry that was meant is named, and what to do.
#[test]
fn a_name_that_is_nearly_listed_is_refused_with_the_nearest_one_and_advice() {
    let pki = Pki::new();
    let files = pki.issue(&pki.ca, "slip", &Pki::client_spec("fe1.contoso.test"));
    let run = explain(&config(&pki), shown(&files));
    assert_eq!(run.status.code(), Some(REFUSED), "{run:#?}");
    for part in [
        "NO fe1.contoso.test",
        "nearest is fe01.contoso.test in peers.clients",
        "NO refused                name_not_listed",
        "alert                  access_denied",
        "what to do             list the name in a peer set",
    ] {
        assert!(run.stdout.contains(part), "{part}\n{}", run.stdout);
    }
}

/// Each chain is shown to a listener and to `explain`: both give the same reason.
#[test]
fn a_handshake_is_refused_for_the_reason_that_explain_gives() {
    let pki = Pki::new();
    let config = Config::simple(&pki, Backend::echo().addr());
    let server = Server::start(config.trust_toml("max_intermediates = 1"));
    let file = server.config().path();
    let namesake = Authority::root(&Spec::new("Contoso Root", Pki::validity())).unwrap();
    let below = pki.intermediate.intermediate(&Spec::new("Below", Pki::validity())).unwrap();
    let client = Pki::client_spec(Pki::CLIENT);
    let cases = [
        (pki.client(), None),
        (pki.client_with_intermediate(), None),
        (pki.client_without_intermediate(), Some("unknown_issuer")),
        (pki.stranger(), Some("unknown_issuer")),
        (pki.expired(), Some("expired")),
        (pki.not_yet_valid(), Some("not_yet_valid")),
        (pki.wrong_usage(), Some("wrong_key_usage")),
        (pki.wrong_name(), Some("name_not_listed")),
        (pki.blocked(), Some("blocked")),
        (pki.issue(&namesake, "namesake", &client), Some("bad_signature")),
        (pki.issue(&below, "below", &client), Some("chain_too_long")),
        (pki.issue(&pki.ca, "wildcard", &Pki::client_spec("*.contoso.test")), Some("blocked")),
    ];
    for (number, (files, reason)) in (1..).zip(cases) {
        let chain = files.chain.display();
        let client = SClient::new(&pki, server.addr()).certificate(&files);
        let run = if reason.is_some() { client.end() } else { client.echo() };
        let line = server.wait_connection(number);
        assert_eq!(line["refusal"].as_str(), reason, "{chain}: {run:?} {line}");
        let (answer, code) = explain_json(&file, shown(&files));
        assert_eq!(code, if reason.is_some() { REFUSED } else { ADMITTED }, "{chain}: {answer}");
        assert_eq!(answer["admitted"], reason.is_none(), "{chain}: {answer}");
        assert_eq!(answer["verdict"]["reason"].as_str(), reason, "{chain}: {answer}");
        if reason.is_some() {
            assert_eq!(answer["verdict"]["detail"], line["detail"], "{chain}: {answer}");
        }
    }
    let run = SClient::new(&pki, server.addr()).end();
    assert_eq!(run.alert(), Some(116), "{run:?}");
    let (answer, code) = explain_json(&file, ["--no-cert"]);
    assert_eq!((code, &answer["verdict"]["reason"]), (REFUSED, &"no_certificate".into()));
    let alert = serde_json::json!({"tls13": "certificate_required", "tls12": "handshake_failure"});
    assert_eq!(answer["verdict"]["alert"], alert);
    server.stop();
}

#[test]
fn a_chain_is_read_from_standard_input_as_pem_or_der() {
    let pki = Pki::new();
    let file = config(&pki);
    let client = pki.client();
    let pem = fs::read(&client.chain).unwrap();
    for bytes in [&*pem, client.der()] {
        let mut process = Process::spawn(command(&file, "main").args(["--cert", "-"]));
        process.say(bytes);
        process.close_stdin();
        process.wait_end().succeeded();
    }
    let run = explain(&file, ["--cert", "-"]);
    assert_eq!(run.status.code(), Some(ERROR), "{run:#?}");
    assert!(run.stderr.starts_with("standard input: holds no certificate"), "{run:#?}");
}

/// The same chain today, when its certificate has ended, and before it began.
#[test]
fn the_time_of_the_decision_can_be_chosen() {
    let pki = Pki::new();
    let file = config(&pki);
    let [option, chain] = shown(&pki.client());
    let at = |time: &str| {
        let arguments = [option.as_os_str(), chain.as_os_str(), "--at".as_ref(), time.as_ref()];
        explain_json(&file, arguments).0
    };
    assert_eq!(at("4102444800")["verdict"]["reason"], "expired");
    let before = at("2000-01-01T00:00:00Z");
    assert_eq!(before["verdict"]["reason"], "not_yet_valid");
    assert_eq!(before["at"], "2000-01-01T00:00:00Z");
    let arguments = [option.as_os_str(), chain.as_os_str(), "--at".as_ref(), "soon".as_ref()];
    let run = explain(&file, arguments);
    assert_eq!(run.status.code(), Some(USAGE), "{run:#?}");
    assert!(run.stderr.contains("RFC 3339"), "{run:#?}");
}

/// With the steps of an admitted client: what scripts rely on, see `docs/explain.md`.
#[test]
fn json_tells_chain_steps_and_verdict() {
    let pki = Pki::new();
    let (answer, code) = explain_json(&config(&pki), shown(&pki.client_with_intermediate()));
    assert_eq!(code, ADMITTED);
    assert_eq!(answer["listener"], "main");
    assert_eq!(answer["client_auth"], "required");
    assert_eq!(answer["server_name"], Value::Null);
    assert_eq!(answer["chain"][0]["subject"], "CN=fe01.contoso.test");
    assert_eq!(answer["chain"][0]["names"], serde_json::json!([Pki::CLIENT]));
    let steps = answer["steps"].as_array().unwrap();
    let path = steps.iter().find(|step| step["step"] == "path").unwrap();
    assert_eq!(path["anchor"], "CN=Contoso Root");
    assert_eq!(path["certificates"][1]["fingerprint"], answer["chain"][1]["fingerprint"]);
    assert!(steps.iter().all(|step| step["passed"] != false), "{answer:#}");
    assert_eq!(answer["verdict"]["decision"], "admitted");
    assert_eq!(answer["verdict"]["peers"], "clients");
    assert_eq!(answer["verdict"]["listed"], Pki::CLIENT);
}

#[test]
fn an_unknown_listener_is_an_error_that_names_the_nearest() {
    let pki = Pki::new();
    let file = config(&pki);
    let client = pki.client();
    let run = Run::of(command(&file, "man").args(shown(&client)));
    assert_eq!(run.status.code(), Some(ERROR), "{run:#?}");
    assert_eq!(run.stdout, "");
    let wanted = "the configuration has no listener \"man\"; it has main; did you mean \"main\"?\n";
    assert_eq!(run.stderr, wanted);
}

#[test]
fn what_cant_be_explained_is_an_error_and_no_refusal() {
    let pki = Pki::new();
    let file = config(&pki);
    let run = explain(&file, ["--cert", "/nonexistent.pem"]);
    assert_eq!(run.status.code(), Some(ERROR), "{run:#?}");
    assert!(run.stderr.starts_with("/nonexistent.pem: can't be read"), "{run:#?}");
    let key = pki.client().key;
    let run = explain(&file, ["--cert".as_ref(), key.as_os_str()]);
    assert_eq!(run.status.code(), Some(ERROR), "{run:#?}");
    assert!(run.stderr.contains("holds no certificate"), "{run:#?}");
    let run = explain(&file, [""; 0]);
    assert_eq!(run.status.code(), Some(USAGE), "{run:#?}");

    let broken = Config::simple(&pki, Backend::dead().addr()).trust_toml("eku = \"clients\"");
    let broken = broken.write();
    let run = explain(&broken, ["--no-cert"]);
    assert_eq!(run.status.code(), Some(ERROR), "{run:#?}");
    let check = ["check", "--config"].map(OsStr::new);
    let check = Run::of(Command::new(env!("CARGO_BIN_EXE_countersign")).args(check).arg(&broken));
    assert_eq!(run.stderr, check.stderr);
}

/// Two certificates by name, and a strict listener that serves no other name.
#[test]
fn the_server_name_chooses_our_certificate_or_ends_the_handshake() {
    let pki = Pki::new();
    let other = pki.issue(&pki.ca, "api", &Pki::server_spec(&["api.contoso.test"]));
    let listener = Listener::new("main", "app", &[&pki.server(), &other]).strict_sni();
    let config = Config::new(&pki).backend("app", Backend::dead().addr()).listener(listener);
    let file = config.write();
    let [option, chain] = shown(&pki.client());
    let asking = |name: &str| {
        let arguments = [option.as_os_str(), chain.as_os_str(), "--sni".as_ref(), name.as_ref()];
        explain_json(&file, arguments)
    };
    let (answer, code) = asking("API.contoso.test");
    assert_eq!(code, ADMITTED, "{answer}");
    let certificates = answer["server_name"]["certificates"].as_array().unwrap();
    assert_eq!(certificates.len(), 1);
    assert!(certificates[0].as_str().unwrap().ends_with("api.pem"), "{answer}");
    let (answer, code) = asking("unknown.contoso.test");
    assert_eq!(code, REFUSED, "{answer}");
    assert_eq!(answer["server_name"]["accepted"], false);
    assert_eq!(answer["admitted"], false);
    assert_eq!(answer["verdict"]["decision"], "admitted", "by the certificate alone");
    let arguments = [option.as_os_str(), chain.as_os_str(), "--sni".as_ref(), "x.test".as_ref()];
    let run = explain(&file, arguments);
    for part in ["NO x.test", "unrecognized_name", "by its server name"] {
        assert!(run.stdout.contains(part), "{part}\n{}", run.stdout);
    }
    let run = explain(&file, &[option, chain]);
    assert!(run.stdout.contains("only names of our certificates are accepted"), "{run:#?}");
}

/// Whoever isn't asked for a certificate never shows it, so even a stranger's doesn't matter.
#[test]
fn a_listener_that_asks_for_no_certificate_admits_anybody() {
    let pki = Pki::new();
    let listener = Listener::new("main", "app", &[&pki.server()]).client_auth("none");
    let config = Config::new(&pki).backend("app", Backend::dead().addr()).listener(listener);
    let file = config.write();
    let stranger = pki.stranger();
    let (answer, code) = explain_json(&file, shown(&stranger));
    assert_eq!((code, &answer["verdict"]["decision"]), (ADMITTED, &"anonymous".into()));
    assert_eq!(answer["chain"], serde_json::json!([]));
    let run = explain(&file, shown(&stranger));
    assert!(run.stdout.contains("the listener asks for no certificate"), "{run:#?}");
}

#[test]
fn every_check_is_in_the_documentation_in_its_order() {
    let text = include_str!("../docs/explain.md");
    let (_, table) = text.split_once("| `check` | Looks at |\n|---|---|\n").unwrap();
    let rows = table.lines().map_while(|line| line.strip_prefix("| `")?.split_once('`'));
    let documented: Vec<&str> = rows.map(|(word, _)| word).collect();
    let checks: Vec<&str> = Check::ALL.iter().map(|check| check.as_str()).collect();
    assert_eq!(documented, checks);
}
