//! Client chains of every kind, each shown to a running terminator over TLS 1.3 and TLS 1.2: the
//! client gets the alert, one metric moves by one, and the log says why.
//!
//! The corpus is data, by what it is about: `corpus/paths.rs`, `corpus/names.rs`,
//! `corpus/rules.rs`, `corpus/revoked.rs`. `corpus/world.rs` makes what it names.

#![allow(clippy::unwrap_used, reason = "a test that can't set up its scene has failed")]
#![allow(unreachable_pub, reason = "a test binary exports nothing")]

#[path = "corpus/names.rs"]
mod names;
#[path = "corpus/paths.rs"]
mod paths;
#[path = "corpus/revoked.rs"]
mod revoked;
#[path = "corpus/rules.rs"]
mod rules;
mod support;
#[path = "corpus/table.rs"]
mod table;
#[path = "corpus/world.rs"]
mod world;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    io::{self, ErrorKind},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use countersign::trust::Refusal;
use names::NAMES;
use paths::PATHS;
use revoked::REVOCATION;
use rules::RULES;
use rustls::{
    ClientConfig, RootCertStore, SignatureScheme, SupportedProtocolVersion,
    client::ResolvesClientCert, crypto::aws_lc_rs::sign::any_supported_type, sign::CertifiedKey,
};
use support::{Backend, Config, Listener, LogLine, Pki, SClient, Server, TlsClient, eventually};
use table::{Outcome, Row};
use world::{P384, Shown, World};

/// TLS versions: as rustls names them, as openssl does, as the log does.
const VERSIONS: [(&SupportedProtocolVersion, &str, &str); 2] =
    [(&rustls::version::TLS13, "-tls1_3", "1.3"), (&rustls::version::TLS12, "-tls1_2", "1.2")];

/// Certificates and paths.
#[test]
fn every_chain_of_the_corpus_is_judged_as_the_table_says() {
    run(PATHS);
}

/// Names, and who may vouch for them.
#[test]
fn every_name_of_the_corpus_is_judged_as_the_table_says() {
    run(NAMES);
}

/// Keys, pins, and discovered peers.
#[test]
fn every_rule_of_the_corpus_is_held_as_the_table_says() {
    run(RULES);
}

/// What CRLs say.
#[test]
fn every_revocation_of_the_corpus_is_found_as_the_table_says() {
    run(REVOCATION);
}

/// Each reason for a refusal has a row, but for those that no chain by itself can provoke.
#[test]
fn the_corpus_has_every_reason_that_a_chain_can_be_refused_for() {
    let elsewhere = [
        // This one is about a set of peers as a whole.
        Refusal::OverLimit,
        // What may be shown is capped below what the search can bear.
        Refusal::PathTooComplex,
    ];
    let listed: HashSet<&str> = rows().filter_map(reason).collect();
    for refusal in Refusal::ALL {
        let is_listed = listed.contains(refusal.as_str());
        assert!(is_listed != elsewhere.contains(refusal), "{refusal}");
    }
    assert!(listed.iter().all(|word| Refusal::ALL.iter().any(|known| known.as_str() == *word)));
}

/// A row is found by its name.
#[test]
fn no_two_rows_have_the_same_name() {
    let names: HashSet<&str> = rows().map(|row| row.name).collect();
    assert_eq!(names.len(), rows().count());
}

fn rows() -> impl Iterator<Item = &'static Row> {
    [PATHS, NAMES, RULES, REVOCATION].into_iter().flatten()
}

fn reason(row: &Row) -> Option<&'static str> {
    match row.outcome {
        Outcome::Admitted(_) | Outcome::Ended => None,
        Outcome::Refused { reason, .. } => Some(reason),
    }
}

/// Shows all rows to one terminator, and fails with each that isn't as it should be.
fn run(rows: &[Row]) {
    let world = World::new();
    let backend = Backend::echo();
    let server = Server::start(config(&world, &backend, rows));
    let mut scene = Scene { counted: counts(&server), world, server, ended: 0 };
    let mut wrong = Vec::new();
    for row in rows {
        let shown = (row.show)(&scene.world);
        for (number, version) in VERSIONS.iter().enumerate() {
            // What it says is what was printed: the row's name is what is missing.
            if catch_unwind(AssertUnwindSafe(|| scene.check(row, &shown, number))).is_err() {
                wrong.push(format!("{} (TLS {})", row.name, version.2));
                scene.settle();
            }
        }
    }
    assert!(wrong.is_empty(), "not as the table says: {wrong:#?}");
    scene.server.stop();
}

/// All profiles and peer sets, and the listeners that the rows are for.
fn config(world: &World, backend: &Backend, rows: &[Row]) -> Config {
    let certificates = world.pki.server();
    let pin = world.pin(P384);
    let config = Config::new(&world.pki)
        .backend("app", backend.addr())
        .trust_toml("shared = true")
        .peer_names(&[Pki::CLIENT, "fe01.cell.contoso.test", "*.pool.contoso.test"])
        .raw(
            r#"
            [trust.fabrikam]
            ca = ["fabrikam.pem"]
            names = ["*.fabrikam.test"]
            revocation = "off"

            [trust.servers]
            ca = ["ca.pem"]
            names = ["*.contoso.test"]
            eku = "server"
            shared = true
            revocation = "off"

            [trust.either]
            ca = ["ca.pem"]
            names = ["*.contoso.test"]
            eku = "either"
            shared = true
            revocation = "off"

            [trust.named]
            ca = ["ca.pem"]
            names = ["*.contoso.test"]
            common_name = true
            shared = true
            revocation = "off"

            [trust.limited]
            ca = ["short.pem", "bound.pem"]
            names = ["*.contoso.test"]
            common_name = true
            shared = true
            revocation = "off"

            [trust.kinds]
            ca = ["ca.pem"]
            names = ["spiffe://contoso.test/*", "10.1.0.0/16"]
            shared = true
            revocation = "off"

            [peers]
            fabrikam = { trust = "fabrikam", names = ["edge.fabrikam.test"] }
            servers = { trust = "servers", names = ["fe01.contoso.test"] }
            either = { trust = "either", names = ["fe01.contoso.test"] }
            named = { trust = "named", names = ["fe01.contoso.test"] }
            limited = { trust = "limited", names = ["fe01.contoso.test"] }
            kinds = { trust = "kinds", names = ["spiffe://contoso.test/fe/*", "10.1.2.0/24"] }
            strong = { trust = "strong", names = ["fe01.contoso.test"] }
            checked = { trust = "checked", names = ["fe01.contoso.test"] }
            preferred = { trust = "preferred", names = ["fe01.contoso.test"] }
            "#,
        )
        .raw(&format!(
            r#"
            [trust.strong]
            ca = ["strong.pem"]
            names = ["*.contoso.test"]
            min_rsa_bits = 3072
            min_ec_bits = 384
            shared = true
            revocation = "off"

            [trust.public]
            ca = ["public.pem"]
            names = ["*"]
            revocation = "off"

            [trust.checked]
            ca = ["listed.pem", "silent.pem", "forged.pem", "early.pem", "stale.pem"]
            names = ["*.contoso.test"]
            crl = ["crls"]
            shared = true

            [trust.preferred]
            ca = ["listed.pem", "silent.pem", "stale.pem"]
            names = ["*.contoso.test"]
            crl = ["crls"]
            revocation = "prefer"
            crl_stale = "accept"
            shared = true

            [peers.pinned]
            trust = "contoso"
            names = ["fe01.contoso.test"]
            pins = ["{pin}"]

            [peers.discovered]
            trust = "public"
            discovered = true
            max_connections = 1000
            max_handshakes_per_second = 1000
            "#
        ));
    let needed: BTreeSet<&str> = rows.iter().map(|row| row.listener).collect();
    needed.into_iter().fold(config, |config, name| {
        let peers: &[&str] = match name {
            "main" => &["clients", "fabrikam"],
            "public" => &["discovered"],
            other => &[other],
        };
        config.listener(Listener::new(name, "app", &[&certificates]).peers(peers))
    })
}

/// A terminator, and what it has counted so far.
struct Scene {
    world: World,
    server: Server,
    /// Refusals by listener and reason.
    counted: BTreeMap<(String, String), f64>,
    /// Connections that have ended.
    ended: usize,
}

impl Scene {
    /// Holds one handshake to what the table says.
    fn check(&mut self, row: &Row, shown: &Shown, version: usize) {
        let seen = self.connect(row, shown, version);
        self.ended += 1;
        let line = self.last_connection();
        let (name, version_word) = (row.name, VERSIONS[version].2);
        assert_eq!(line["listener"], row.listener, "{name}: {line}");
        assert_eq!(line["version"], version_word, "{name}: {line}");
        match row.outcome {
            Outcome::Admitted(peer) => {
                assert_eq!(seen, Seen::Echo, "{name}: {line}");
                assert_eq!(line["handshake"], "accepted", "{name}: {line}");
                assert_eq!(line["name"], peer, "{name}: {line}");
            }
            Outcome::Refused { reason, alerts, detail } => {
                assert_eq!(line["refusal"], reason, "{name}: {line}");
                assert_eq!(line["handshake"], "refused", "{name}: {line}");
                let found = line["detail"].as_str().unwrap();
                assert!(found.contains(detail) && !found.is_empty(), "{name}: {line}");
                assert_eq!(seen, Seen::Alert(alerts[version]), "{name}: {line}");
                *self.counted.get_mut(&(row.listener.into(), reason.into())).unwrap() += 1.0;
            }
            Outcome::Ended => {
                assert_eq!(line["handshake"], "malformed", "{name}: {line}");
                assert!(line["refusal"].is_null(), "{name}: {line}");
                assert_eq!(seen, Seen::End, "{name}: {line}");
            }
        }
        eventually(
            || format!("{name}: the one refusal in {:?}", changed(&self.counted, &self.server)),
            || (counts(&self.server) == self.counted).then_some(()),
        );
    }

    /// The line of the connection that ended last.
    fn last_connection(&self) -> LogLine {
        let nth = |log: &str| {
            let mut lines = log.lines().filter(|line| line.contains("\"connection ended\""));
            lines.nth(self.ended - 1).and_then(|line| serde_json::from_str(line).ok())
        };
        eventually(
            || format!("{} ended connections; log:\n{}", self.ended, self.server.stderr()),
            || nth(&self.server.stderr()),
        )
    }

    /// Connects as the row says, and tells how it went for the client.
    fn connect(&self, row: &Row, shown: &Shown, version: usize) -> Seen {
        let address = self.server.addr_of(row.listener);
        let (rustls_version, option, _) = VERSIONS[version];
        let (chain, key) = match shown {
            Shown::Nothing => (Vec::new(), None),
            Shown::Chain(chain, key) => (chain.clone(), Some(any_supported_type(key).unwrap())),
            Shown::Files(certificate, key) => {
                let client = SClient::new(&self.world.pki, address)
                    .args(["-cipher", "DEFAULT@SECLEVEL=0"])
                    .arg(option)
                    .arg("-cert")
                    .arg(certificate)
                    .arg("-key")
                    .arg(key);
                return Seen::Alert(client.end().alert().expect("openssl got an alert"));
            }
        };
        let mut roots = RootCertStore::empty();
        roots.add(self.world.root.der.clone()).unwrap();
        let config = ClientConfig::builder_with_protocol_versions(&[rustls_version])
            .with_root_certificates(roots);
        let config = match key {
            None => config.with_no_client_auth(),
            Some(key) => {
                let shown = Arc::new(CertifiedKey::new(chain, key));
                config.with_client_cert_resolver(Arc::new(Shows(shown)))
            }
        };
        let done = TlsClient::connect(address, config).and_then(|mut client| match row.outcome {
            Outcome::Admitted(_) => {
                client.echo(b"hello");
                Ok(())
            }
            // In TLS 1.3 a client believes to be done before the server has looked at what it
            // showed.
            Outcome::Refused { .. } | Outcome::Ended => client.read_to_end().map(drop),
        });
        done.map_or_else(|error| seen(&error), |()| Seen::Echo)
    }

    /// After a row that wasn't as it should be: what has happened is where the next one starts.
    fn settle(&mut self) {
        self.ended = eventually(
            || "no connection is open".to_owned(),
            || (self.server.metric("connections_open", &[]) == 0.0).then(|| self.ended_so_far()),
        );
        self.counted = counts(&self.server);
    }

    fn ended_so_far(&self) -> usize {
        self.server.log().iter().filter(|line| line["message"] == "connection ended").count()
    }
}

/// Shows a certificate to whomever asks for one, whichever CAs that names.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// How a connection went for the client.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// What it sent came back.
    Echo,
    /// It was told off.
    Alert(u8),
    /// The connection ended without a word.
    End,
}

fn seen(error: &io::Error) -> Seen {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::AlertReceived(alert)) => Seen::Alert(u8::from(*alert)),
        _ if error.kind() == ErrorKind::UnexpectedEof => Seen::End,
        _ => panic!("neither an alert nor the end: {error}"),
    }
}

/// Refusals by listener and reason. The rest of the metrics isn't looked at: this is asked often.
fn counts(server: &Server) -> BTreeMap<(String, String), f64> {
    let metrics = server.get("/metrics").expect("the admin side answers");
    let samples =
        metrics.lines().filter_map(|line| line.strip_prefix("countersign_refusals_total{"));
    samples
        .map(|sample| {
            let (labels, value) = sample.rsplit_once("} ").unwrap();
            let label = |name: &str| {
                let (_, rest) = labels.split_once(&format!("{name}=\"")).unwrap();
                rest.split('"').next().unwrap().to_owned()
            };
            ((label("listener"), label("reason")), value.parse().unwrap())
        })
        .collect()
}

/// Where the terminator has counted something else.
fn changed(
    expected: &BTreeMap<(String, String), f64>,
    server: &Server,
) -> Vec<((String, String), f64)> {
    counts(server).into_iter().filter(|(labels, value)| expected[labels] != *value).collect()
}
