//! Where sessions are kept: in the process, for all of its workers, or by clients in tickets that a
//! fleet can open.

#![allow(clippy::unwrap_used, reason = "a test that can't set up its scene has failed")]

mod support;

use std::{collections::BTreeSet, os::unix::fs::PermissionsExt, path::Path, process::Command};

use rustls::HandshakeKind;
use serde_json::Value;
use support::{
    Backend, Config, Files, Pki, Returning, Server, TICKETS, TlsClient, VERSIONS, client_config_of,
};

const TWO_WORKERS: &str = "workers.cpus = \"0-1\"";

fn simple(pki: &Pki) -> Config {
    Config::simple(pki, Backend::echo().addr())
}

/// The CPU of the worker that served a connection, which its id has.
fn cpu(line: &Value) -> String {
    line["id"].as_str().unwrap().split('-').nth(1).unwrap().to_owned()
}

/// Clients connect twice. The kernel chooses the worker by the client's port, so that some come
/// back to the other one; every session is resumed all the same.
#[test]
fn a_session_made_on_one_worker_is_resumed_on_the_other() {
    let pki = Pki::new();
    let server = Server::start(simple(&pki).top(TWO_WORKERS));
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let before = server.log().iter().filter(|l| l["message"] == "connection ended").count();
        let (mut ways, mut ended) = (BTreeSet::new(), before);
        while !["0 to 1", "1 to 0"].iter().all(|way| ways.contains(*way)) {
            assert!(ended < before + 200, "the kernel has used {ways:?} only");
            let config =
                std::sync::Arc::new(client_config_of(&pki, Some(&pki.client()), &[version]));
            let mut cpus = Vec::new();
            for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
                let mut client = TlsClient::connect(server.addr(), config.clone()).unwrap();
                client.echo(b"takes the session");
                assert_eq!(client.0.conn.handshake_kind(), Some(kind));
                drop(client);
                ended += 1;
                cpus.push(cpu(&server.wait_connection(ended)));
            }
            ways.insert(cpus.join(" to "));
        }
    }
    for outcome in ["vetoed", "unknown"] {
        assert_eq!(server.metric("resumption_total", &[("outcome", outcome)]), 0.0);
    }
    server.stop();
}

/// Runs `countersign load --json --mode resumed` with these options more.
fn load_resumed(pki: &Pki, client: &Files, server: &Server, options: &str) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_countersign"))
        .args(["load", "--json", "--mode", "resumed", "--sni", Pki::SERVER, "--ramp", "0s"])
        .args(["--target", &server.addr().to_string()])
        .arg("--ca")
        .arg(pki.file("ca.pem"))
        .arg("--cert")
        .arg(&client.chain)
        .arg("--key")
        .arg(&client.key)
        .args(options.split_whitespace())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Many clients at a time come back again and again, to whichever worker.
#[test]
fn under_load_every_session_is_resumed_on_whichever_worker() {
    let pki = Pki::new();
    for mode in ["cache", "tickets"] {
        let kept = format!("[resumption]\nmode = \"{mode}\"\n");
        let server = Server::start(simple(&pki).top(TWO_WORKERS).raw(&kept));
        let (client, mut resumed) = (pki.client(), 0.0);
        for version in ["1.3", "1.2"] {
            let options = format!("--tls {version} --count 300 --connections 16 --threads 2");
            let report = load_resumed(&pki, &client, &server, &options);
            assert_eq!(report["ok"], 300, "{report}");
            assert_eq!(report["handshakes_resumed"], 300, "{report}");
            resumed += 300.0;
            server.wait_metric("resumption_total", &[("outcome", "resumed")], resumed);
        }
        for outcome in ["vetoed", "unknown"] {
            assert_eq!(server.metric("resumption_total", &[("outcome", outcome)]), 0.0);
        }
        server.wait_metric("connections_open", &[], 0.0);
        let used: BTreeSet<_> = server.wait_connections(632).iter().map(cpu).collect();
        assert_eq!(used.len(), 2, "both workers had some: {used:?}");
        server.stop();
    }
}

/// A session of TLS 1.3 that is kept here is for one use; one of TLS 1.2 may be used until its end.
#[test]
fn a_session_that_is_kept_is_resumed_once_with_tls_1_3() {
    let pki = Pki::new();
    let server = Server::start(simple(&pki));
    let client = Returning::new(&pki);
    client.begin(server.addr(), "-tls1_3");
    assert!(client.resumes(server.addr(), "-tls1_3"));
    assert!(!client.resumes(server.addr(), "-tls1_3"));
    server.wait_metric("resumption_total", &[("outcome", "unknown")], 1.0);
    client.begin(server.addr(), "-tls1_2");
    for _ in 0..3 {
        assert!(client.resumes(server.addr(), "-tls1_2"));
    }
    server.wait_metric("resumption_total", &[("outcome", "resumed")], 4.0);
    server.wait_metric("resumption_total", &[("outcome", "unknown")], 1.0);
    server.stop();
}

#[test]
fn what_is_kept_is_counted() {
    let pki = Pki::new();
    let server = Server::start(simple(&pki));
    server.wait_metric("resumption_cache_entries", &[], 0.0);
    let client = Returning::new(&pki);
    for (number, (option, _)) in (1_u8..).zip(VERSIONS) {
        client.begin(server.addr(), option);
        server.wait_metric("resumption_cache_entries", &[], number.into());
    }
    assert!(server.metric("resumption_cache_bytes", &[]) > 1000.0);
    server.stop();
}

/// More clients than there is room for: what is kept stays within its bound, and everybody is
/// served.
#[test]
fn sessions_take_no_more_memory_than_they_may() {
    let pki = Pki::new();
    let small = "[resumption]\ncache_bytes = \"1MiB\"\n";
    let config = simple(&pki).raw(small).log_toml("connections = false\n");
    // They all come from one address.
    let server = Server::start(config.limit("max_handshakes_per_address", "\"off\""));
    let client = pki.client();
    // Each of the slots begins with a full handshake.
    load_resumed(&pki, &client, &server, "--count 1500 --connections 1500 --threads 2");
    let room = [("reason", "room")];
    support::eventually(
        || format!("evictions; log:\n{}", server.stderr()),
        || (server.metric("resumption_cache_evictions_total", &room) > 0.0).then_some(()),
    );
    let bytes = server.metric("resumption_cache_bytes", &[]);
    assert!((500_000.0..=1_048_576.0).contains(&bytes), "{bytes}");
    server.stop();
}

/// The session would be good for hours more; its memory isn't kept for it.
#[test]
fn a_session_that_is_over_is_dropped_though_nobody_asks() {
    let pki = Pki::new();
    let server = Server::start(simple(&pki));
    let validity = countersign::pki::Validity::from_now(std::time::Duration::from_secs(4));
    let spec = countersign::pki::Spec::new(Pki::CLIENT, validity).dns(Pki::CLIENT).client();
    let files = pki.issue(&pki.ca, "brief", &spec);
    let client = Returning { files, ..Returning::new(&pki) };
    client.begin(server.addr(), "-tls1_3");
    let expired = [("reason", "expired")];
    server.wait_metric("resumption_cache_evictions_total", &expired, 1.0);
    server.wait_metric("resumption_cache_entries", &[], 0.0);
    server.stop();
}

#[test]
fn a_service_that_keeps_no_sessions_gives_nothing_to_come_back_with() {
    let pki = Pki::new();
    let server = Server::start(simple(&pki).raw("[resumption]\nmode = \"off\"\n"));
    for (option, version) in VERSIONS {
        let run = Returning::new(&pki).begin(server.addr(), option);
        assert!(!run.stdout.contains("New Session Ticket arrived"), "{version}: {run:?}");
        assert!(!run.stdout.contains("TLS session ticket:"), "{version}: {run:?}");
        let id = run.stdout.lines().find(|line| line.trim().starts_with("Session-ID:"));
        assert!(id.is_none_or(|line| line.trim() == "Session-ID:"), "{version}: {run:?}");
    }
    // One that has a session of before gets a full handshake.
    server.stop();
    let mut server = Server::start(simple(&pki));
    let client = Returning::new(&pki);
    client.begin(server.addr(), "-tls1_3");
    let off = server.config().clone().raw("[resumption]\nmode = \"off\"\n");
    server.reload(off);
    assert!(!client.resumes(server.addr(), "-tls1_3"));
    server.wait_metric("resumption_total", &[("outcome", "unknown")], 1.0);
    server.wait_metric("resumption_cache_entries", &[], 0.0);
    server.stop();
}

/// A file of 64 random bytes for `ticket_keys`.
fn ticket_key(pki: &Pki, name: &str) {
    let mut key = [0; 64];
    aws_lc_rs::rand::fill(&mut key).unwrap();
    let path = pki.file(name);
    std::fs::write(&path, key).unwrap();
    set_mode(&path, 0o600);
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn tickets_by(keys: &[&str]) -> String {
    format!("{TICKETS}ticket_keys = {keys:?}\n")
}

#[test]
fn hosts_with_the_same_ticket_keys_resume_each_other_s_sessions() {
    let pki = Pki::new();
    ticket_key(&pki, "current.key");
    let kept = tickets_by(&["current.key"]);
    // Other addresses, the same settings.
    let (one, other) =
        (Server::start(simple(&pki).raw(&kept)), Server::start(simple(&pki).raw(&kept)));
    let stranger = Server::start(simple(&pki).raw(TICKETS));
    let client = Returning::new(&pki);
    for (option, version) in VERSIONS {
        client.begin(one.addr(), option);
        assert!(client.resumes(other.addr(), option), "{version}");
        assert!(client.resumes(one.addr(), option), "{version}");
        assert!(!client.resumes(stranger.addr(), option), "{version}: it has keys of its own");
    }
    stranger.wait_metric("resumption_total", &[("outcome", "unknown")], 2.0);
    for server in [one, other, stranger] {
        server.stop();
    }
}

/// The next key is put before the old one, which stays until its tickets are over, and then goes.
#[test]
fn ticket_keys_are_changed_by_reloads() {
    let pki = Pki::new();
    for name in ["first.key", "second.key"] {
        ticket_key(&pki, name);
    }
    let config = simple(&pki);
    let by = |keys: &[&str]| config.clone().raw(&tickets_by(keys));
    let mut server = Server::start(by(&["first.key"]));
    let (old, new) =
        (Returning::new(&pki), Returning { session: pki.file("new.pem"), ..Returning::new(&pki) });
    for (option, version) in VERSIONS {
        server.reload(by(&["first.key"]));
        old.begin(server.addr(), option);
        server.reload(by(&["second.key", "first.key"]));
        assert!(old.resumes(server.addr(), option), "{version}: while it is listed");
        new.begin(server.addr(), option);
        server.reload(by(&["second.key"]));
        assert!(!old.resumes(server.addr(), option), "{version}: and no longer");
        assert!(new.resumes(server.addr(), option), "{version}: the first one seals");
    }
    server.stop();
}

#[test]
fn a_reload_with_a_bad_ticket_key_leaves_the_old_ones() {
    let pki = Pki::new();
    for name in ["good.key", "open.key"] {
        ticket_key(&pki, name);
    }
    set_mode(&pki.file("open.key"), 0o644);
    let config = simple(&pki);
    let by = |keys: &[&str]| config.clone().raw(&tickets_by(keys));
    let mut server = Server::start(by(&["good.key"]));
    let client = Returning::new(&pki);
    client.begin(server.addr(), "-tls1_3");
    server.fail_to_reload(by(&["open.key"]));
    server.fail_to_reload(by(&["none.key"]));
    assert!(client.resumes(server.addr(), "-tls1_3"));
    let log = server.stop();
    assert!(log.contains("is a ticket key that every user may read or write (mode 0644)"), "{log}");
}

/// Another mode after a reload: sessions of the one before are not known, nobody is refused.
#[test]
fn a_reload_may_change_where_sessions_are_kept() {
    let pki = Pki::new();
    let config = simple(&pki);
    let mut server = Server::start(config.clone());
    let client = Returning::new(&pki);
    for (option, version) in VERSIONS {
        for kept in support::KEPT {
            server.reload(config.clone().raw(kept));
            client.begin(server.addr(), option);
            assert!(client.resumes(server.addr(), option), "{version}");
            client.begin(server.addr(), option);
        }
        server.reload(config.clone());
        assert!(!client.resumes(server.addr(), option), "{version}");
    }
    server.stop();
}
