//! The load generator against the terminator: what the one says it did is what the other counted.

#![allow(clippy::unwrap_used, reason = "a test that can't set up its scene has failed")]

mod support;

use std::process::{Command, Stdio};

use serde_json::Value;
use support::{Backend, Config, Files, Pki, Server};

struct Scene {
    pki: Pki,
    client: Files,
    server: Server,
}

impl Scene {
    fn new() -> Self {
        let pki = Pki::new();
        let server = Server::start(Config::simple(&pki, Backend::echo().addr()));
        Self { client: pki.client(), pki, server }
    }

    /// Runs `countersign load --json` with these options, and holds it to exit code 0.
    fn load(&self, options: &str) -> Value {
        let output = Command::new(env!("CARGO_BIN_EXE_countersign"))
            .args(["load", "--json", "--sni", Pki::SERVER, "--target"])
            .arg(self.server.addr().to_string())
            .arg("--ca")
            .arg(self.pki.file("ca.pem"))
            .arg("--cert")
            .arg(&self.client.chain)
            .arg("--key")
            .arg(&self.client.key)
            .args(options.split_whitespace())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Waits until the terminator has counted that many accepted handshakes of each kind, and
    /// that many connections that ended.
    fn wait_handshakes(&self, full: u32, resumed: u32) {
        for (kind, count) in [("full", full), ("resumed", resumed)] {
            let labels = [("result", "accepted"), ("kind", kind)];
            self.server.wait_metric("handshakes_total", &labels, count.into());
        }
        self.server.wait_metric("connections_closed_total", &[], (full + resumed).into());
        // Nothing beside what the generator reports.
        self.server.wait_metric("handshakes_total", &[], (full + resumed).into());
    }

    fn wait_bytes(&self, each_way: u32) {
        for direction in ["up", "down"] {
            let labels = [("direction", direction)];
            self.server.wait_metric("relay_bytes_total", &labels, each_way.into());
        }
    }
}

/// Each of forty operations is a connection with a full handshake and one byte each way.
#[test]
fn full_handshakes_of_the_generator_are_those_of_the_metrics() {
    let scene = Scene::new();
    let report = scene.load("--mode full --count 40 --connections 4 --threads 2 --ramp 0s");
    assert_eq!((&report["attempts"], &report["ok"]), (&40.into(), &40.into()), "{report}");
    assert_eq!((&report["handshakes"], &report["handshakes_resumed"]), (&40.into(), &0.into()));
    scene.wait_handshakes(40, 0);
    scene.wait_bytes(40);
}

/// Each of the four begins with a full handshake for its first ticket, which the report doesn't
/// count.
#[test]
fn resumed_handshakes_of_the_generator_are_those_of_the_metrics() {
    let scene = Scene::new();
    let report = scene.load("--mode resumed --count 40 --connections 4 --threads 2 --ramp 0s");
    assert_eq!((&report["attempts"], &report["ok"]), (&40.into(), &40.into()), "{report}");
    assert_eq!((&report["handshakes"], &report["handshakes_resumed"]), (&40.into(), &40.into()));
    scene.wait_handshakes(4, 40);
    scene.wait_bytes(44);
}

/// Thirty requests of 1000 bytes on three connections: all that was relayed is what they carried.
#[test]
fn bytes_of_requests_are_those_of_the_metrics() {
    let scene = Scene::new();
    let report = scene.load("--mode request --count 30 --connections 3 --size 1000B --ramp 0s");
    assert_eq!((&report["attempts"], &report["ok"]), (&30.into(), &30.into()), "{report}");
    scene.wait_handshakes(3, 0);
    scene.wait_bytes(30_000);
}
