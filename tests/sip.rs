//! SIP over mutual TLS, with the programs that people use: sipp calls through stunnel, which has
//! the client's certificate, countersign, and answers as a plain TCP server behind it.

#![allow(clippy::unwrap_used, reason = "a test that can't set up its scene has failed")]

mod support;

use std::{fs, process::Command};

use support::{Config, Files, Pki, Process, Run, Server, free_port, require_tool, wait_listening};

/// A sipp that answers calls.
fn answering(pki: &Pki, port: u16) -> Process {
    require_tool("sipp");
    let folder = pki.file("uas");
    fs::create_dir(&folder).unwrap();
    let mut command = Command::new("sipp");
    command
        .args(["-sn", "uas", "-t", "t1", "-i", "127.0.0.1", "-p", &port.to_string(), "-nostdin"])
        .args(["-mp", &free_port().to_string()])
        .current_dir(folder)
        .env("TERM", "xterm");
    let process = Process::spawn(&mut command);
    wait_listening(port);
    process
}

/// A stunnel that turns plain TCP into mutual TLS to `server`; the port it takes.
fn client_side(pki: &Pki, files: &Files, server: &Server) -> (Process, u16) {
    require_tool("stunnel");
    let port = free_port();
    let file = pki.file("stunnel.conf");
    let text = format!(
        "foreground = yes\nsyslog = no\npid =\ndebug = warning\n\
         [sip]\nclient = yes\naccept = 127.0.0.1:{port}\nconnect = {}\n\
         cert = {}\nkey = {}\nCAfile = {}\nverifyChain = yes\nsni = {name}\ncheckHost = {name}\n",
        server.addr(),
        files.chain.display(),
        files.key.display(),
        pki.file("ca.pem").display(),
        name = Pki::SERVER,
    );
    fs::write(&file, text).unwrap();
    let process = Process::spawn(Command::new("stunnel").arg(&file));
    wait_listening(port);
    (process, port)
}

/// Twenty calls over one connection; how they ended.
fn call(pki: &Pki, through: u16) -> Run {
    let folder = pki.file("uac");
    fs::create_dir(&folder).unwrap();
    let mut command = Command::new("sipp");
    command
        .args(["-sn", "uac", "-t", "t1", "-i", "127.0.0.1", "-p", &free_port().to_string()])
        .args(["-m", "20", "-r", "10", "-nostdin", "-timeout", "10", "-timeout_error"])
        .args(["-mp", &free_port().to_string()])
        .arg(format!("127.0.0.1:{through}"))
        .current_dir(folder)
        .env("TERM", "xterm");
    Run::of(&mut command)
}

fn scene() -> (Pki, Process, Server) {
    let pki = Pki::new();
    let port = free_port();
    let answering = answering(&pki, port);
    let server = Server::start(Config::simple(&pki, ([127, 0, 0, 1], port).into()));
    (pki, answering, server)
}

/// All calls come through, over one connection that was authorised once.
#[test]
fn calls_of_a_listed_server_succeed() {
    let (pki, _answering, server) = scene();
    let (_stunnel, port) = client_side(&pki, &pki.client(), &server);
    let run = call(&pki, port);
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    let line = server.wait_connection(1);
    assert_eq!(line["name"], Pki::CLIENT, "{line}");
    // Each call is at least INVITE, ACK and BYE up, and their answers down.
    assert!(line["up_bytes"].as_u64().unwrap() > 20 * 500, "{line}");
    assert!(line["down_bytes"].as_u64().unwrap() > 20 * 500, "{line}");
    server.wait_metric("handshakes_total", &[("result", "accepted")], 1.0);
    server.stop();
}

/// The same programs with a stranger's certificate: no call is made, nothing reaches the backend.
#[test]
fn calls_of_a_stranger_never_reach_the_server() {
    let (pki, _answering, server) = scene();
    let (_stunnel, port) = client_side(&pki, &pki.stranger(), &server);
    let run = call(&pki, port);
    assert_ne!(run.status.code(), Some(0), "{run:?}");
    assert_eq!(server.wait_connection(1)["refusal"], "unknown_issuer");
    server.wait_metric("handshakes_total", &[("result", "accepted")], 0.0);
    server.wait_metric("backend_connects_total", &[], 0.0);
    server.stop();
}
