//! Revocation as an operator and a client meet it: CRLs in files, in folders and on servers that
//! misbehave, and who is let in meanwhile. The terminator runs as a process of its own.

#![allow(clippy::unwrap_used, reason = "a test that can't set up its scene has failed")]

#[path = "revocation/fetched.rs"]
mod fetched;
#[path = "revocation/files.rs"]
mod files;
#[path = "revocation/points.rs"]
mod points;
#[path = "revocation/verdicts.rs"]
mod verdicts;

mod support;

use std::{fs, time::Duration};

use countersign::pki::{Authority, CrlSpec, Reason};
use time::OffsetDateTime;

use support::{Backend, Config, Files, Pki, SClient, Server, TlsClient, client_config};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A CRL of `ca`, good for a day, that revokes these certificates.
fn crl(ca: &Authority, number: u64, revoked: &[&[u8]]) -> Vec<u8> {
    let spec = CrlSpec::from_now(number, DAY);
    let since = OffsetDateTime::now_utc() - Duration::from_secs(60);
    let revoke = |spec: CrlSpec, serial: &&[u8]| spec.revoke(serial, since, Reason::KeyCompromise);
    ca.crl(&revoked.iter().fold(spec, revoke)).unwrap().der().to_vec()
}

/// A CA with revocation, a client of it, and a backend that echoes.
struct Scene {
    pki: Pki,
    client: Files,
    backend: Backend,
}

impl Scene {
    fn new() -> Self {
        let pki = Pki::new();
        let client = pki.client();
        Self { pki, client, backend: Backend::echo() }
    }

    /// A CRL of the trusted CA.
    fn crl(&self, number: u64, revoked: &[&[u8]]) -> Vec<u8> {
        crl(&self.pki.ca, number, revoked)
    }

    /// Serial numbers that are no client's.
    fn others(count: u8) -> Vec<Vec<u8>> {
        (1..=count).map(|serial| vec![0x10, serial]).collect()
    }

    /// A CRL of the trusted CA with as many entries, none of them for a client.
    fn crl_of_others(&self, number: u64, count: u8) -> Vec<u8> {
        let others = Self::others(count);
        self.crl(number, &others.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    /// Puts a file where the configuration finds it, in one step as a careful operator does.
    fn put(&self, name: &str, bytes: &[u8]) {
        let file = self.pki.file(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        let temporary = file.with_extension("new");
        fs::write(&temporary, bytes).unwrap();
        fs::rename(temporary, file).unwrap();
    }

    fn config(&self, revocation: &str) -> Config {
        Config::simple(&self.pki, self.backend.addr()).revocation(revocation)
    }

    fn start(&self, revocation: &str) -> Server {
        Server::start(self.config(revocation))
    }

    /// The client is let in, by a full handshake.
    fn admitted(&self, server: &Server, client: &Files) {
        let config = client_config(&self.pki, Some(client));
        TlsClient::connect(server.addr(), config).unwrap().echo(b"hello");
    }

    /// The client is refused for `reason`, which the alert, the metric and the log tell.
    fn refused(&self, server: &Server, client: &Files, reason: &str) -> String {
        let before = server.metric("refusals_total", &[("reason", reason)]);
        let ended = server.metric("connections_closed_total", &[]);
        let number = format!("{ended}").parse::<usize>().unwrap() + 1;
        let end = SClient::new(&self.pki, server.addr()).certificate(client).end();
        let alert = match reason {
            "revoked" => 44,
            _ => 46,
        };
        assert_eq!(end.alert(), Some(alert), "{end:?}");
        server.wait_metric("refusals_total", &[("reason", reason)], before + 1.0);
        let line = server.wait_connection(number);
        assert_eq!(line["refusal"], reason, "{line}");
        line["detail"].as_str().unwrap_or_default().to_owned()
    }
}

fn entries(server: &Server) -> f64 {
    server.metric("crl_entries", &[("profile", "contoso")])
}

fn wait_entries(server: &Server, count: f64) {
    server.wait_metric("crl_entries", &[("profile", "contoso")], count);
}
