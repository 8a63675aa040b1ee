//! Reload and shutdown, with connections that live through them.

#![allow(clippy::unwrap_used, reason = "a test that can't set up its scene has failed")]

mod support;

use std::net::TcpStream;

use rustix::process::Signal;
use support::{
    Backend, Config, Listener, Pki, SClient, Server, TlsClient, client_config, eventually,
};

/// A reload lists another client instead of one, and a third one as before. The connection of that
/// goes on, the first one is refused from now on, and the other is let in.
#[test]
fn a_reload_decides_about_new_connections_and_leaves_those_that_it_admits_alone() {
    const STAYS: &str = "stays.contoso.test";
    let pki = Pki::new();
    let config = Config::simple(&pki, Backend::echo().addr()).peer_names(&[Pki::CLIENT, STAYS]);
    let mut server = Server::start(config.clone());
    let (client, other) = (pki.client(), pki.wrong_name());
    let stays = pki.issue(&pki.ca, "stays", &Pki::client_spec(STAYS));
    let mut old = TlsClient::connect(server.addr(), client_config(&pki, Some(&stays))).unwrap();
    old.echo(b"before");
    SClient::new(&pki, server.addr()).certificate(&client).echo().succeeded();
    server.reload(config.peer_names(&[Pki::UNLISTED, STAYS]));
    old.echo(b"after");
    let refused = SClient::new(&pki, server.addr()).certificate(&client).end();
    assert_eq!(refused.alert(), Some(49), "{refused:?}");
    SClient::new(&pki, server.addr()).certificate(&other).echo().succeeded();
    old.echo(b"and still");
    server.wait_metric("config_generation", &[], 2.0);
    drop(old);
    server.stop();
}

/// A file with a mistake: the log has the mistake with its line, nothing else changes.
#[test]
fn a_reload_of_a_wrong_file_changes_nothing_and_says_why() {
    let pki = Pki::new();
    let config = Config::simple(&pki, Backend::echo().addr());
    let mut server = Server::start(config.clone());
    let bad = config.peer_names(&[Pki::UNLISTED]).raw("[nonsense]\nanswer = 42");
    server.fail_to_reload(bad);
    let line = server
        .wait_log(|line| line["message"].as_str().is_some_and(|m| m.starts_with("not reloaded: ")));
    assert_eq!(line["level"], "ERROR");
    let message = line["message"].as_str().unwrap();
    assert!(message.contains("countersign.toml:") && message.contains("nonsense"), "{message}");
    SClient::new(&pki, server.addr()).certificate(&pki.client()).echo().succeeded();
    server.wait_metric("config_generation", &[], 1.0);
    server.wait_metric("config_reloads_total", &[("result", "applied")], 0.0);
    server.stop();
}

/// A reload moves the listener to another address: the new one is served, the old one refuses,
/// and the connection that came over the old one goes on, as its listener is still there.
#[test]
fn a_reload_opens_new_addresses_and_closes_removed_ones() {
    let pki = Pki::new();
    let backend = Backend::echo().addr();
    let config = Config::simple(&pki, backend);
    let mut server = Server::start(config.clone());
    let old = server.addr();
    let tls = client_config(&pki, Some(&pki.client()));
    let mut connection = TlsClient::connect(old, tls.clone()).unwrap();
    connection.echo(b"before");
    let moved = Listener::new("main", "app", &[&pki.server()]);
    server.reload(config.without_listener("main").listener(moved));
    TlsClient::connect(server.addr(), tls).unwrap().echo(b"at the new address");
    eventually(|| format!("{old} is closed"), || TcpStream::connect(old).err());
    connection.echo(b"after");
    drop(connection);
    server.stop();
}

/// An address that another process has: the reload fails as a whole.
#[test]
fn a_reload_that_cannot_bind_changes_nothing() {
    let pki = Pki::new();
    let config = Config::simple(&pki, Backend::echo().addr());
    let mut server = Server::start(config.clone());
    let main = server.addr();
    let taken = std::net::TcpListener::bind(("127.0.0.1", support::free_port())).unwrap();
    let second = Listener::new("second", "app", &[&pki.server()]).at(taken.local_addr().unwrap());
    server.fail_to_reload(config.peer_names(&[Pki::UNLISTED]).listener(second));
    assert!(server.stderr().contains("another process listens there already"));
    SClient::new(&pki, main).certificate(&pki.client()).echo().succeeded();
    server.stop();
}

/// SIGTERM: nobody new is taken, the live connection has its time, and then ends with a
/// close_notify rather than a cut.
#[test]
fn shutdown_drains_and_then_ends_connections_in_order() {
    let pki = Pki::new();
    let config = Config::simple(&pki, Backend::echo().addr()).limit("drain_timeout", "\"2s\"");
    let mut server = Server::start(config);
    let tls = client_config(&pki, Some(&pki.client()));
    let mut client = TlsClient::connect(server.addr(), tls).unwrap();
    client.echo(b"before");
    let address = server.addr();
    server.signal(Signal::TERM);
    eventually(|| "the listener is closed".into(), || TcpStream::connect(address).err());
    client.echo(b"while it drains");
    // Without a close_notify this is an error.
    assert_eq!(client.read_to_end().unwrap(), b"");
    assert_eq!(server.wait_end().code(), Some(0));
    let line = server.wait_log(|line| line["handshake"] == "accepted");
    assert_eq!(line["cause"], "drained", "{line}");
}

/// When the last connection ends, so does the process: it doesn't wait for the limit.
#[test]
fn shutdown_ends_with_the_last_connection() {
    let pki = Pki::new();
    let config = Config::simple(&pki, Backend::echo().addr()).limit("drain_timeout", "\"1h\"");
    let mut server = Server::start(config);
    let tls = client_config(&pki, Some(&pki.client()));
    let mut client = TlsClient::connect(server.addr(), tls).unwrap();
    client.echo(b"before");
    server.signal(Signal::TERM);
    server.wait_log(|line| line["message"].as_str().is_some_and(|m| m.starts_with("draining")));
    client.close_notify();
    assert_eq!(client.read_to_end().unwrap(), b"");
    drop(client);
    assert_eq!(server.wait_end().code(), Some(0));
    assert_eq!(server.wait_connection(1)["cause"], "complete");
}

/// Whoever asks twice doesn't want to wait for an hour.
#[test]
fn a_second_signal_ends_the_drain() {
    let pki = Pki::new();
    let config = Config::simple(&pki, Backend::echo().addr()).limit("drain_timeout", "\"1h\"");
    let mut server = Server::start(config);
    let tls = client_config(&pki, Some(&pki.client()));
    let mut client = TlsClient::connect(server.addr(), tls).unwrap();
    client.echo(b"before");
    server.signal(Signal::TERM);
    server.wait_log(|line| line["message"].as_str().is_some_and(|m| m.starts_with("draining")));
    server.signal(Signal::TERM);
    assert_eq!(client.read_to_end().unwrap(), b"");
    assert_eq!(server.wait_end().code(), Some(0));
}
