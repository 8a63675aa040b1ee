//! Several organisations on one listener, over live handshakes: each CA speaks for its own names
//! and for nobody else's, pins hold, and whoever isn't listed comes in within limits.

#![allow(clippy::unwrap_used, reason = "a test that can't set up its scene has failed")]

mod support;

use std::fs;

use countersign::{
    config::KeyPin,
    pki::{Authority, Spec},
    proxy,
};
use support::{
    Config, Files, Listener, Pki, Recorder, SClient, Server, TlsClient, client_config, eventually,
};
use x509_parser::prelude::{FromDer, X509Certificate};

const VERSIONS: [&str; 2] = ["-tls1_3", "-tls1_2"];

/// RFC 8446 §6.2
const ACCESS_DENIED: u8 = 49;

/// Contoso (which is `pki`), two partners with their own CAs, and a public CA.
struct Federation {
    pki: Pki,
    fabrikam: Authority,
    litware: Authority,
    public: Authority,
    recorder: Recorder,
    pins: Vec<String>,
    limits: [usize; 2],
}

impl Federation {
    fn new() -> Self {
        let pki = Pki::new();
        let [fabrikam, litware, public] = ["fabrikam", "litware", "public"].map(|name| {
            let ca = Authority::root(&Spec::new(format!("{name} root"), Pki::validity())).unwrap();
            fs::write(pki.file(&format!("{name}.pem")), ca.pem()).unwrap();
            ca
        });
        let recorder = Recorder::new();
        Self { pki, fabrikam, litware, public, recorder, pins: Vec::new(), limits: [100, 1000] }
    }

    /// The listener admits ours, Fabrikam's, and whoever is discovered; Litware's it admits not,
    /// but its names are Litware's all the same.
    fn config(&self) -> Config {
        let Self { pki, pins, limits: [connections, handshakes], .. } = self;
        let listener = Listener::new("main", "app", &[&pki.server()]).peers(&[
            "clients",
            "fabrikam",
            "discovered",
        ]);
        let spare = Listener::new("spare", "app", &[&pki.server()]).peers(&["litware"]);
        Config::new(pki)
            .backend_v2("app", self.recorder.addr())
            .listener(listener)
            .listener(spare)
            .raw(&format!(
                r#"
[trust.fabrikam]
ca = ["fabrikam.pem"]
names = ["*.fabrikam.test"]
revocation = "off"

[peers.fabrikam]
trust = "fabrikam"
names = ["edge.fabrikam.test"]
pins = {pins:?}

[trust.litware]
ca = ["litware.pem"]
names = ["*.litware.test"]
revocation = "off"

[peers.litware]
trust = "litware"
names = ["*.litware.test"]

[trust.public]
ca = ["public.pem"]
names = ["*"]
revocation = "off"

[peers.discovered]
trust = "public"
discovered = true
max_connections = {connections}
max_handshakes_per_second = {handshakes}
"#
            ))
    }

    fn issue(&self, by: &Authority, file: &str, names: &[&str]) -> Files {
        let spec = Spec::new(names[0], Pki::validity()).client();
        let spec = names.iter().fold(spec, |spec, name| spec.dns(*name));
        self.pki.issue(by, file, &spec)
    }

    /// Is admitted, and the backend is told by what.
    fn admitted(&self, server: &Server, files: &Files, [peers, name, profile]: [&str; 3]) {
        for version in VERSIONS {
            SClient::new(&self.pki, server.addr())
                .certificate(files)
                .arg(version)
                .echo()
                .succeeded();
            let bytes = self.recorder.next();
            let (header, _) = proxy::parse(&bytes).unwrap().unwrap();
            assert_eq!(header.peer_set, Some(peers));
            assert_eq!(header.matched_name, Some(name));
            assert_eq!(header.profile, Some(profile));
        }
    }

    /// Is refused for that reason with TLS 1.3 and 1.2, and the backend hears nothing of it.
    fn refused(&self, server: &Server, files: &Files, reason: &str, detail: &str) {
        let count = || server.metric("refusals_total", &[("reason", reason)]);
        for version in VERSIONS {
            let (before, lines) = (count(), ended(server));
            let run = SClient::new(&self.pki, server.addr()).certificate(files).arg(version).end();
            assert_eq!(run.alert(), Some(ACCESS_DENIED), "{version}: {run:?}");
            server.wait_metric("refusals_total", &[("reason", reason)], before + 1.0);
            let line = server.wait_connection(lines + 1);
            assert_eq!(line["refusal"], reason, "{line}");
            assert!(line["detail"].as_str().unwrap().contains(detail), "{line}");
        }
        assert_eq!(self.recorder.has_next(), None, "nothing is dialled");
    }
}

/// Connections whose line is in the log.
fn ended(server: &Server) -> usize {
    server.log().iter().filter(|line| line["message"] == "connection ended").count()
}

fn pin_of(files: &Files) -> String {
    KeyPin::of(X509Certificate::from_der(files.der()).unwrap().1.public_key().raw).to_string()
}

/// Each organisation's CA is good for its own names. Whichever other CA vouches for one of them is
/// refused for that, whether the CA is another partner's, a public one, or ours.
#[test]
fn a_ca_that_signs_another_organisations_name_is_refused_for_it() {
    let federation = Federation::new();
    let Federation { pki, fabrikam, public, .. } = &federation;
    let server = Server::start(federation.config());
    let edge = ["edge.fabrikam.test"];
    federation.admitted(&server, &pki.client(), ["clients", Pki::CLIENT, "contoso"]);
    let theirs = federation.issue(fabrikam, "edge", &edge);
    federation.admitted(&server, &theirs, ["fabrikam", edge[0], "fabrikam"]);
    let stranger = federation.issue(public, "stranger", &["sip.example.net"]);
    federation.admitted(&server, &stranger, ["discovered", "sip.example.net", "public"]);

    let reason = "name_not_allowed_for_ca";
    let cases = [
        (fabrikam, Pki::CLIENT, "is listed in peers.clients for the CAs of trust.contoso"),
        (&pki.ca, edge[0], "is listed in peers.fabrikam for the CAs of trust.fabrikam"),
        (public, Pki::CLIENT, "is a name of trust.contoso"),
        (public, edge[0], "is a name of trust.fabrikam"),
        (public, "edge.litware.test", "is a name of trust.litware"),
    ];
    for (number, (ca, name, detail)) in cases.into_iter().enumerate() {
        let files = federation.issue(ca, &format!("wrong-{number}"), &[name]);
        federation.refused(&server, &files, reason, detail);
    }
    let both = federation.issue(public, "both", &["sip.example.net", edge[0]]);
    federation.refused(&server, &both, reason, "is a name of trust.fabrikam");
    // Whoever is the CA's own, but not listed, is a matter of the list.
    let unlisted = federation.issue(fabrikam, "unlisted", &["new.fabrikam.test"]);
    federation.refused(&server, &unlisted, "name_not_listed", "nearest is edge.fabrikam.test");
    server.stop();
}

/// A profile that the listener doesn't admit is none of its issuers, however well it is known.
#[test]
fn a_partner_of_another_listener_is_a_stranger_here() {
    const UNKNOWN_CA: u8 = 48;
    let federation = Federation::new();
    let server = Server::start(federation.config());
    let files = federation.issue(&federation.litware, "litware-edge", &["edge.litware.test"]);
    for version in VERSIONS {
        let client =
            |address| SClient::new(&federation.pki, address).certificate(&files).arg(version);
        client(server.addr_of("spare")).echo().succeeded();
        assert_eq!(client(server.addr()).end().alert(), Some(UNKNOWN_CA));
    }
    server.stop();
}

/// The partner's CA issues a second certificate for the pinned name. It is refused until its pin,
/// which the log shows, stands in the configuration.
#[test]
fn a_pinned_edge_server_needs_its_key_and_the_log_shows_the_other_one() {
    let mut federation = Federation::new();
    let name = ["edge.fabrikam.test"];
    let edge = federation.issue(&federation.fabrikam, "edge", &name);
    let second = federation.issue(&federation.fabrikam, "second", &name);
    federation.pins = vec![pin_of(&edge)];
    let mut server = Server::start(federation.config());
    let admitted = ["fabrikam", name[0], "fabrikam"];
    federation.admitted(&server, &edge, admitted);
    let pin = pin_of(&second);
    federation.refused(&server, &second, "key_not_pinned", &pin);

    federation.pins.push(pin);
    server.reload(federation.config().moved_to(server.config()));
    federation.admitted(&server, &second, admitted);
    federation.admitted(&server, &edge, admitted);
    server.stop();
}

/// Discovered peers have so many connections together. One more is refused before the backend
/// hears of it, until another ends; a reload in between forgets none of them.
#[test]
fn discovered_peers_have_so_many_connections_together_also_across_a_reload() {
    let mut federation = Federation::new();
    federation.limits = [2, 1000];
    let mut server = Server::start(federation.config());
    let issue = |file: &str, name: &str| federation.issue(&federation.public, file, &[name]);
    let (one, other) = (issue("one", "sip.example.net"), issue("other", "sip.example.org"));
    let connect = |server: &Server, files: &Files| {
        let mut client =
            TlsClient::connect(server.addr(), client_config(&federation.pki, Some(files))).unwrap();
        client.echo(b"hello");
        federation.recorder.next();
        client
    };
    let first = connect(&server, &one);
    let second = connect(&server, &other);
    let detail = "peers.discovered: max_connections = 2 is reached";
    federation.refused(&server, &one, "over_limit", detail);
    // Those who are listed have their own way in.
    federation.admitted(&server, &federation.pki.client(), ["clients", Pki::CLIENT, "contoso"]);

    server.reload(federation.config().moved_to(server.config()));
    federation.refused(&server, &other, "over_limit", detail);

    let lines = ended(&server);
    drop(first);
    server.wait_connection(lines + 1);
    let third = connect(&server, &one);
    federation.refused(&server, &one, "over_limit", detail);
    drop((second, third));
    server.stop();
}

/// With one handshake a second, whoever doesn't wait is refused soon, and told so.
#[test]
fn discovered_peers_have_so_many_handshakes_in_a_second() {
    let mut federation = Federation::new();
    federation.limits = [100, 1];
    let server = Server::start(federation.config());
    let files = federation.issue(&federation.public, "one", &["sip.example.net"]);
    let refused = || server.metric("refusals_total", &[("reason", "over_limit")]);
    eventually(
        || "a refusal".to_owned(),
        || {
            // The client's side of the handshake may be done before it hears of the refusal.
            drop(TlsClient::connect(server.addr(), client_config(&federation.pki, Some(&files))));
            (refused() > 0.0).then_some(())
        },
    );
    let line = server.wait_log(|line| line["refusal"] == "over_limit");
    let detail = line["detail"].as_str().unwrap();
    assert_eq!(detail, "peers.discovered: max_handshakes_per_second = 1 is reached");
    assert_eq!(line["cause"], "refused");
    assert_eq!(line["subject"], "CN=sip.example.net");
    server.stop();
}
