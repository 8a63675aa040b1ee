//! `countersign pki`: what it makes is what openssl and a running terminator take it for.

#![allow(clippy::unwrap_used, reason = "a test that can't set up its scene has failed")]

mod support;

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use support::{Backend, Process, Run, eventually, free_port, wait_listening};
use tempfile::TempDir;

const NAME: &str = "fe01.contoso.test";

/// The alert (RFC 8446 §6.2).
const CERTIFICATE_REVOKED: u8 = 44;

/// A folder in which commands are run.
struct Scene(TempDir);

impl Scene {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With a root in the folder `ca`.
    fn with_root() -> Self {
        let scene = Self::new();
        scene.pki("init ca").succeeded();
        scene
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.file(name)).unwrap()
    }

    fn run<S: AsRef<OsStr>>(&self, program: &str, arguments: impl IntoIterator<Item = S>) -> Run {
        Run::of(Command::new(program).args(arguments).current_dir(self.0.path()))
    }

    /// `countersign pki`, its arguments with a space between each.
    fn pki(&self, arguments: &str) -> Run {
        let arguments = ["pki"].into_iter().chain(arguments.split(' '));
        self.run(env!("CARGO_BIN_EXE_countersign"), arguments)
    }

    /// The same, which must fail with these words and nothing on standard output.
    fn pki_fails(&self, arguments: &str, why: &str) {
        let run = self.pki(arguments);
        assert!(!run.status.success() && run.stdout.is_empty(), "{arguments}: {run:#?}");
        assert!(run.stderr.contains(why), "{arguments}: {why:?} in {run:#?}");
    }

    fn openssl(&self, arguments: &str) -> Run {
        self.run("openssl", arguments.split(' '))
    }
}

/// Names of all below a folder with their content.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

/// Root, intermediate, server, client; openssl verifies each chain with the CRLs of both CAs, and
/// no longer once the client, and then the intermediate, is revoked.
#[test]
fn openssl_verifies_what_is_issued_until_it_is_revoked() {
    let scene = Scene::with_root();
    scene.pki("issue ca Issuing --ca --path-length 0 --out issuing").succeeded();
    scene.pki("issue issuing www.contoso.test 127.0.0.1 --server --out www").succeeded();
    scene.pki(&format!("issue issuing {NAME} --client --out fe01")).succeeded();
    let verify = |purpose: &str, file: &str| {
        for ca in ["ca", "issuing"] {
            scene.pki(&format!("crl {ca}")).succeeded();
        }
        let crls = [scene.read("ca/crl.pem"), scene.read("issuing/crl.pem")].concat();
        fs::write(scene.file("crls.pem"), crls).unwrap();
        scene.openssl(&format!(
            "verify -x509_strict -purpose {purpose} -crl_check_all -CRLfile crls.pem \
             -CAfile ca/ca.pem -untrusted issuing/chain.pem {file}"
        ))
    };
    verify("sslserver", "www.pem").succeeded();
    verify("sslclient", "fe01.pem").succeeded();
    assert!(!verify("sslclient", "www.pem").status.success(), "it is for servers");

    let run = scene.pki("revoke issuing fe01.pem --reason keyCompromise").succeeded();
    assert!(run.stdout.contains("countersign pki crl issuing"), "{run:#?}");
    let refused = verify("sslclient", "fe01.pem");
    assert!(refused.stderr.contains("certificate revoked"), "{refused:#?}");
    verify("sslserver", "www.pem").succeeded();

    scene.pki("revoke ca issuing/ca.pem --reason cACompromise").succeeded();
    let refused = verify("sslserver", "www.pem");
    assert!(refused.stderr.contains("certificate revoked"), "{refused:#?}");
}

/// The number grows with each CRL, wherever it goes and in whichever form; entries have time and
/// reason.
#[test]
fn crls_are_numbered_and_say_why() {
    let scene = Scene::with_root();
    scene.pki(&format!("issue ca {NAME}")).succeeded();
    let serial = scene.openssl(&format!("x509 -noout -serial -in ca/{NAME}.pem")).succeeded();
    let serial = serial.stdout.trim().trim_start_matches("serial=").to_owned();
    scene.pki(&format!("revoke ca --serial {serial} --reason superseded")).succeeded();
    scene.pki("crl ca --days 3").succeeded();
    scene.pki("crl ca --out second.crl --der").succeeded();
    for (file, form, number) in [("ca/crl.pem", "PEM", "1"), ("second.crl", "DER", "2")] {
        let text = scene.openssl(&format!("crl -noout -text -inform {form} -in {file}"));
        let text = text.succeeded().stdout;
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let after = |heading: &str| {
            lines[1 + lines.iter().position(|line| line.starts_with(heading)).expect(heading)]
        };
        assert_eq!(after("X509v3 CRL Number"), number);
        assert_eq!(after("X509v3 CRL Reason Code"), "Superseded");
        assert!(lines.contains(&&*format!("Serial Number: {serial}")), "{text}");
        let verified =
            scene.openssl(&format!("crl -noout -inform {form} -in {file} -CAfile ca/ca.pem"));
        assert!(verified.stderr.contains("verify OK"), "{verified:#?}");
    }
}

/// The client of an intermediate CA is let in, until it is revoked and the CRL says so: the
/// terminator runs on meanwhile.
#[test]
fn a_terminator_admits_what_was_issued_until_a_crl_revokes_it() {
    let scene = Scene::with_root();
    scene.pki("issue ca Issuing --ca --out issuing").succeeded();
    scene.pki("issue ca www.contoso.test --server --out www").succeeded();
    scene.pki(&format!("issue issuing {NAME} --client --out fe01")).succeeded();
    scene.pki("crl ca").succeeded();
    scene.pki("crl issuing").succeeded();
    let (port, admin) = (free_port(), free_port());
    let backend = Backend::echo();
    let config = format!(
        r#"
        [admin]
        listen = "127.0.0.1:{admin}"
        [trust.contoso]
        ca = ["ca/ca.pem"]
        names = ["*.contoso.test"]
        crl = ["ca/crl.pem", "issuing/crl.pem"]
        revocation = "require"
        [peers.frontends]
        trust = "contoso"
        names = ["{NAME}"]
        [backends.app]
        servers = ["{}"]
        [[listener]]
        name = "main"
        listen = ["127.0.0.1:{port}"]
        client_auth = "required"
        peers = ["frontends"]
        certificates = [{{ chain = "www.pem", key = "www.key" }}]
        backend = "app"
        "#,
        backend.addr()
    );
    let file = scene.file("countersign.toml");
    fs::write(&file, config).unwrap();
    let mut server = Process::spawn(
        Command::new(env!("CARGO_BIN_EXE_countersign")).arg("run").arg("--config").arg(&file),
    );
    wait_listening(port);
    let connect = || {
        let arguments = format!(
            "s_client -connect 127.0.0.1:{port} -servername www.contoso.test \
             -verify_hostname www.contoso.test -verify_return_error -CAfile ca/ca.pem \
             -cert fe01.pem -key fe01.key -cert_chain fe01.pem"
        );
        let mut client = Command::new("openssl");
        client.args(arguments.split(' ')).current_dir(scene.0.path());
        Process::spawn(&mut client)
    };
    let mut client = connect();
    client.say(b"hello from the other side\n");
    client.wait_stdout("hello from the other side");

    scene.pki("revoke issuing fe01.pem --reason keyCompromise").succeeded();
    scene.pki("crl issuing").succeeded();
    eventually(
        || format!("the refusal; log:\n{}", server.stderr()),
        || {
            let mut client = connect();
            client.close_stdin();
            (client.wait_end().alert() == Some(CERTIFICATE_REVOKED)).then_some(())
        },
    );
    server.wait_stderr("was revoked at");
    assert!(!server.has_ended());
}

/// The how-to can be pasted: its commands in their order, then its configuration.
#[test]
fn the_how_to_works_as_it_stands() {
    let scene = Scene::new();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pki.md");
    let text = fs::read_to_string(path).unwrap();
    let blocks = |language: &str| -> Vec<String> {
        let fence = format!("```{language}\n");
        let pieces = text.split(&fence).skip(1);
        pieces.map(|piece| piece.split("```").next().unwrap().to_owned()).collect()
    };
    let commands = blocks("sh").concat();
    let commands = commands.lines().filter(|line| line.starts_with("countersign "));
    let program = Path::new(env!("CARGO_BIN_EXE_countersign")).parent().unwrap();
    for command in commands {
        let shell = format!("PATH={}:$PATH {command}", program.display());
        scene.run("sh", ["-c", &shell]).succeeded();
    }
    let [config] = &blocks("toml")[..] else { panic!("one configuration") };
    fs::write(scene.file("countersign.toml"), config).unwrap();
    let check = ["check", "--config", "countersign.toml"];
    let checked = scene.run(env!("CARGO_BIN_EXE_countersign"), check).succeeded();
    assert_eq!(checked.stderr, "", "no warning");
}

/// Every type of key can be that of a CA.
#[test]
fn what_a_ca_of_any_key_type_issues_verifies() {
    let scene = Scene::new();
    for key_type in ["p256", "p384", "p521", "ed25519", "rsa2048", "rsa3072", "rsa4096"] {
        scene.pki(&format!("init {key_type} --key-type {key_type}")).succeeded();
        scene.pki(&format!("issue {key_type} {NAME}")).succeeded();
        for purpose in ["sslclient", "sslserver"] {
            let file = format!("{key_type}/{NAME}.pem");
            let arguments = format!("verify -CAfile {key_type}/ca.pem -purpose {purpose} {file}");
            scene.openssl(&arguments).succeeded();
        }
    }
}

/// A name is what it looks like; what was asked for stands in the certificate.
#[test]
fn names_and_times_are_those_asked_for() {
    let scene = Scene::with_root();
    scene
        .pki(
            "issue ca *.contoso.test spiffe://contoso.test/fe 10.0.0.1 ::1 --dns a.contoso.test \
             --uri sip:b@contoso.test --ip 10.0.0.2 --cn front --client \
             --not-before 2020-01-31T00:00:00Z --not-after 2020-02-01T12:00:00Z \
             --crl-url http://crl.contoso.test/ca.crl --out x",
        )
        .succeeded();
    let text = scene.openssl("x509 -noout -text -in x.pem").succeeded().stdout;
    for part in [
        "Subject: CN = front",
        "DNS:*.contoso.test, DNS:a.contoso.test, URI:spiffe://contoso.test/fe, \
         URI:sip:b@contoso.test, IP Address:10.0.0.1, IP Address:0:0:0:0:0:0:0:1, \
         IP Address:10.0.0.2",
        "Not Before: Jan 31 00:00:00 2020 GMT",
        "Not After : Feb  1 12:00:00 2020 GMT",
        "TLS Web Client Authentication",
        "URI:http://crl.contoso.test/ca.crl",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("TLS Web Server Authentication"), "{text}");
    let index = String::from_utf8(scene.read("ca/index.txt")).unwrap();
    assert!(index.lines().nth(1).unwrap().contains("\tpeer\t2020-02-01T12:00:00Z\t-\t-\tfront\t"));
}

/// No certificate ends after the year 9999 (RFC 5280 §4.1.2.5).
#[test]
fn a_validity_that_no_certificate_can_have_is_refused() {
    let scene = Scene::with_root();
    let late = "issue ca a.contoso.test --not-before 9999-12-31T00:00:00Z";
    scene.pki_fails(late, "it would end after the year 9999");
}

/// What a listener would refuse for its form isn't issued.
#[test]
fn names_that_no_listener_would_take_are_refused() {
    let scene = Scene::with_root();
    let before = contents(&scene.file("ca"));
    for (arguments, why) in [
        ("issue ca bücher.test", "printable ASCII"),
        ("issue ca a..test", "a..test"),
        ("issue ca spiffe://contoso.test", "SPIFFE ID"),
        ("issue ca x --dns 10.0.0.999", "10.0.0.999"),
        ("issue ca x --ip 10.0.0.999", "invalid value '10.0.0.999'"),
        ("issue ca", "required"),
        ("issue ca x --days 0", "0 is not in"),
        ("issue ca x --not-after yesterday", "give a time such as"),
        ("issue ca x --not-after 2020-01-01T00:00:00Z", "before it starts"),
        ("issue ca x --key-type dsa", "possible values"),
        ("issue ca x --permit-dns y.test", "give --ca"),
        ("issue ca x y --ca", "one name"),
        ("revoke ca --serial xyz", "hexadecimal"),
        ("revoke ca --serial 1 --reason removeFromCRL", "possible values"),
    ] {
        scene.pki_fails(arguments, why);
    }
    assert_eq!(contents(&scene.file("ca")), before);
}

#[test]
fn nothing_that_is_there_is_overwritten() {
    let scene = Scene::with_root();
    scene.pki(&format!("issue ca {NAME}")).succeeded();
    fs::write(scene.file("lonely.key"), "precious").unwrap();
    let before = contents(&scene.file("ca"));
    scene.pki_fails("init ca", "ca/ca.pem is there already; nothing was changed");
    scene.pki_fails(&format!("issue ca {NAME}"), "is there already; nothing was changed");
    scene.pki_fails("issue ca lonely --out lonely", "lonely.key is there already");
    scene.pki_fails("issue ca Below --ca --out ca", "ca/ca.pem is there already");
    for own in ["ca", "chain", "crl"] {
        scene.pki_fails(&format!("issue ca {own}"), "in the place of the CA's own file");
        scene.pki_fails(&format!("issue ca x --out ./ca/../ca/{own}"), "CA's own file");
    }
    for own in ["ca.pem", "ca.key", "chain.pem", "index.txt", "crl.number", ".lock"] {
        scene.pki_fails(&format!("crl ca --out ca/{own}"), "in the place of the CA's own file");
    }
    assert_eq!(contents(&scene.file("ca")), before);
    assert_eq!(scene.read("lonely.key"), b"precious");
}

#[test]
fn private_keys_are_for_their_owner_alone() {
    let scene = Scene::with_root();
    scene.pki(&format!("issue ca {NAME}")).succeeded();
    let mode = |file: &str| fs::metadata(scene.file(file)).unwrap().permissions().mode() & 0o777;
    for (file, wanted) in [
        ("ca", 0o700),
        ("ca/ca.key", 0o600),
        (&format!("ca/{NAME}.key"), 0o600),
        ("ca/ca.pem", 0o644),
        (&format!("ca/{NAME}.pem"), 0o644),
    ] {
        assert_eq!(mode(file), wanted, "{file}");
    }
}

/// While one process works on a folder, others are told to wait; none is lost.
#[test]
fn two_at_once_do_not_disturb_each_other() {
    let scene = Scene::with_root();
    let lock = fs::File::open(scene.file("ca/.lock")).unwrap();
    lock.lock().unwrap();
    for command in [&*format!("issue ca {NAME}"), "revoke ca --serial 1", "crl ca"] {
        scene.pki_fails(command, "another process works on ca: try again when it is done");
    }
    lock.unlock().unwrap();

    let runs: Vec<_> = std::thread::scope(|scope| {
        let start = |number| {
            scope.spawn({
                let scene = &scene;
                move || scene.pki(&format!("issue ca fe{number}.contoso.test"))
            })
        };
        let threads: Vec<_> = (0..6).map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let issued = runs.iter().filter(|run| run.status.success()).count();
    assert!(issued > 0, "{runs:#?}");
    let index = String::from_utf8(scene.read("ca/index.txt")).unwrap();
    assert_eq!(index.lines().count(), 1 + issued, "{index}{runs:#?}");
}

#[test]
fn a_folder_that_was_changed_by_hand_is_not_worked_on() {
    let scene = Scene::with_root();
    scene.pki("init other").succeeded();
    scene.pki(&format!("issue ca {NAME}")).succeeded();
    for (file, content, why) in [
        ("index.txt", b"".to_vec(), "ca/index.txt: line 1"),
        ("index.txt", [scene.read("ca/index.txt"), b"x\n".to_vec()].concat(), "line 3"),
        ("crl.number", b"seven\n".to_vec(), "ca/crl.number: it holds no number"),
        ("ca.key", scene.read("other/ca.key"), "the key isn't that of the certificate"),
        ("ca.key", b"".to_vec(), "PKCS #8"),
    ] {
        let path = scene.file("ca").join(file);
        let good = fs::read(&path).unwrap();
        fs::write(&path, content).unwrap();
        scene.pki_fails("issue ca x", why);
        scene.pki_fails("crl ca", why);
        fs::write(&path, good).unwrap();
    }
    fs::remove_file(scene.file("ca/index.txt")).unwrap();
    scene.pki_fails("crl ca", "can't read ca/index.txt");
    scene.pki_fails("crl nothing", "nothing holds no CA: make one with");
}

#[test]
fn only_what_was_issued_can_be_revoked_and_only_once() {
    let scene = Scene::with_root();
    scene.pki("init other --name Other").succeeded();
    scene.pki(&format!("issue other {NAME}")).succeeded();
    scene.pki(&format!("issue ca {NAME}")).succeeded();
    let foreign = format!("revoke ca other/{NAME}.pem");
    scene.pki_fails(&foreign, "it was issued by CN=Other, not by this CA");
    scene.pki_fails(
        "revoke ca --serial 01:02",
        "hasn't issued a certificate with serial number 0102",
    );
    scene.pki_fails("revoke ca ca/ca.key", "no PEM certificate can be read");
    scene.pki(&format!("revoke ca ca/{NAME}.pem")).succeeded();
    scene.pki_fails(&format!("revoke ca ca/{NAME}.pem"), "is revoked since");
}

/// A CA's limits reach what is below it: openssl refuses names outside of them, and no CA is made
/// where none may follow.
#[test]
fn a_cas_limits_hold_below_it() {
    let scene = Scene::new();
    scene
        .pki("init ca --path-length 0 --permit-dns contoso.test --exclude-dns lab.contoso.test")
        .succeeded();
    for (name, good) in
        [(NAME, true), ("fe01.fabrikam.test", false), ("fe01.lab.contoso.test", false)]
    {
        scene.pki(&format!("issue ca {name}")).succeeded();
        let verified = scene.openssl(&format!("verify -CAfile ca/ca.pem ca/{name}.pem"));
        assert_eq!(verified.status.success(), good, "{name}: {verified:#?}");
    }
    scene.pki_fails("issue ca Below --ca --out below", "path length allows no CA below it");
}

#[test]
fn who_outlives_its_ca_is_warned_about() {
    let scene = Scene::new();
    scene.pki("init ca --days 10").succeeded();
    let run = scene.pki(&format!("issue ca {NAME} --days 11")).succeeded();
    assert!(run.stderr.contains("warning: its CA ends before it does"), "{run:#?}");
    let run = scene.pki("issue ca other.contoso.test --days 9").succeeded();
    assert_eq!(run.stderr, "");
}
