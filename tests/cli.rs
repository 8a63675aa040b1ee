//! The command line: what it prints, and how it ends.

#![allow(clippy::unwrap_used, reason = "a test that can't set up its scene has failed")]

mod support;

use std::{
    ffi::OsStr,
    fs::File,
    net::{TcpListener, TcpStream},
    path::Path,
    process::Command,
};

use countersign::pki::{Spec, Validity};
use rustix::process::Signal;
use support::{Backend, Config, Listener, Pki, Process, Run, Server};
use time::OffsetDateTime;

fn countersign<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Run {
    Run::of(Command::new(env!("CARGO_BIN_EXE_countersign")).args(arguments))
}

fn check(file: &Path) -> Run {
    countersign([OsStr::new("check"), OsStr::new("--config"), file.as_os_str()])
}

/// `check` of a good file: what would be served, where, and for whom; nothing on standard error.
#[test]
fn check_prints_what_would_be_served() {
    let pki = Pki::new();
    let config = Config::simple(&pki, Backend::dead().addr());
    let run = check(&config.write()).succeeded();
    let address = config.addr().to_string();
    for part in ["listener main\n", &address, Pki::SERVER, Pki::CLIENT, "CN=Contoso Root"] {
        assert!(run.stdout.contains(part), "{part}: {run:#?}");
    }
    assert_eq!(run.stderr, "");
    assert!(TcpStream::connect(config.addr()).is_err(), "check serves nothing");
}

/// Several mistakes in one file: each has a line of its own with its place, and nothing is printed
/// as if it would be served. `run` ends with the very same words.
#[test]
fn check_shows_all_errors_at_once_with_their_places() {
    let pki = Pki::new();
    let config = Config::simple(&pki, Backend::dead().addr())
        .limit("idle_timeout", "3600")
        .trust_toml("eku = \"clients\"")
        .raw("[nonsense]\nanswer = 42");
    let file = config.write();
    let text = config.text();
    let run = check(&file);
    assert_eq!(run.status.code(), Some(1));
    assert_eq!(run.stdout, "");
    for wrong in ["idle_timeout = 3600", "eku = \"clients\"", "[nonsense]"] {
        let number = 1 + text.lines().position(|line| line == wrong).unwrap();
        let place = format!("{}:{number}:", file.display());
        assert!(run.stderr.contains(&place), "{place} {run:#?}");
    }
    assert_eq!(run.stderr.lines().count(), 3, "{run:#?}");
    let unstarted = Server::fail_to_start(&config, None);
    assert_eq!(unstarted.status.code(), Some(1));
    assert_eq!(unstarted.stderr, run.stderr);
}

/// A file that isn't there is named.
#[test]
fn check_of_a_missing_file_names_it() {
    let run = check(Path::new("/nonexistent/countersign.toml"));
    assert_eq!(run.status.code(), Some(1));
    assert!(run.stderr.contains("/nonexistent/countersign.toml"), "{run:?}");
}

/// The key of one certificate beside the chain of another.
#[test]
fn a_key_of_another_certificate_is_an_error() {
    let pki = Pki::new();
    let mut server = pki.server();
    server.key = pki.client().key;
    let listener = Listener::new("main", "app", &[&server]);
    let config = Config::new(&pki).backend("app", Backend::dead().addr()).listener(listener);
    let run = check(&config.write());
    assert_eq!(run.status.code(), Some(1));
    assert!(run.stderr.contains("the key does not match the certificate"), "{run:?}");
}

/// No client would take it, so it isn't served.
#[test]
fn an_own_certificate_that_has_expired_is_an_error() {
    let pki = Pki::new();
    let now = OffsetDateTime::now_utc();
    let validity = Validity {
        not_before: now - time::Duration::days(2),
        not_after: now - time::Duration::HOUR,
    };
    let spec = Spec::new(Pki::SERVER, validity).dns(Pki::SERVER).server();
    let listener = Listener::new("main", "app", &[&pki.issue(&pki.ca, "expired", &spec)]);
    let config = Config::new(&pki).backend("app", Backend::dead().addr()).listener(listener);
    let run = check(&config.write());
    assert_eq!(run.status.code(), Some(1));
    assert!(run.stderr.contains("expired.pem") && run.stderr.contains("expired"), "{run:?}");
}

/// Two listeners, the second one's port is taken: the message says whose address it is, and the
/// first one isn't served either.
#[test]
fn a_port_in_use_is_named_and_nothing_is_served() {
    let pki = Pki::new();
    let taken = TcpListener::bind(("127.0.0.1", support::free_port())).unwrap();
    let address = taken.local_addr().unwrap();
    let second = Listener::new("second", "app", &[&pki.server()]).at(address);
    let config = Config::simple(&pki, Backend::dead().addr()).listener(second);
    let unstarted = Server::fail_to_start(&config, None);
    assert_eq!(unstarted.status.code(), Some(1));
    let wanted =
        format!("listener second can't listen on {address}: another process listens there already");
    assert!(unstarted.stderr.contains(&wanted), "{}", unstarted.stderr);
    assert!(!unstarted.stderr.contains("serving"), "{}", unstarted.stderr);
}

/// The same for the admin side.
#[test]
fn an_admin_port_in_use_is_named() {
    let pki = Pki::new();
    let config = Config::simple(&pki, Backend::dead().addr());
    let _taken = TcpListener::bind(config.admin()).unwrap();
    let unstarted = Server::fail_to_start(&config, None);
    assert_eq!(unstarted.status.code(), Some(1));
    assert!(unstarted.stderr.contains(&config.admin().to_string()), "{}", unstarted.stderr);
    assert!(unstarted.stderr.contains("can't listen on"), "{}", unstarted.stderr);
}

/// A promise that the descriptor limit can't keep is refused at the start, with what would fit.
#[test]
fn more_connections_than_descriptors_are_refused_at_the_start() {
    support::require_tool("prlimit");
    let pki = Pki::new();
    let config = Config::simple(&pki, Backend::dead().addr()).limit("max_connections", "100000");
    let mut limited = Command::new("prlimit");
    limited.arg("--nofile=1024:1024");
    let unstarted = Server::fail_to_start(&config, Some(limited));
    assert_eq!(unstarted.status.code(), Some(1));
    for part in ["limits.max_connections = 100000 needs", "may open 1024", "ulimit -n"] {
        assert!(unstarted.stderr.contains(part), "{part}: {}", unstarted.stderr);
    }
}

/// Where `run` works, `doctor` says so, and names what it looked at.
#[test]
fn doctor_names_what_it_looked_at() {
    let run = countersign(["doctor"]).succeeded();
    for part in ["CPU", "AES-NI", "crypto_mb", "µs", "Kernel", "io_uring", "open descriptors"] {
        assert!(run.stdout.contains(part), "{part}: {run:#?}");
    }
}

/// A library that is named has to work: `doctor` fails if it doesn't, and says why.
#[test]
fn doctor_fails_for_a_library_of_cryptography_that_is_none() {
    let run = countersign(["doctor", "--crypto-mb", "/nowhere/libcrypto_mb.so"]);
    assert_eq!(run.status.code(), Some(1));
    assert!(run.stdout.contains("crypto_mb") && run.stdout.contains("not used: "), "{run:#?}");
}

#[test]
fn an_unknown_option_is_an_error_of_usage() {
    let run = countersign(["run", "--confg", "x.toml"]);
    assert_eq!(run.status.code(), Some(2));
    assert!(run.stderr.contains("--confg") && run.stderr.contains("--config"), "{run:?}");
    assert_eq!(run.stdout, "");
}

#[test]
fn the_version_is_that_of_the_package() {
    let run = countersign(["--version"]).succeeded();
    assert_eq!(run.stdout, format!("countersign {}\n", env!("CARGO_PKG_VERSION")));
}

/// Runs a line as a user who pastes it into a shell.
fn paste(line: &str) -> Process {
    Process::spawn(Command::new("sh").args(["-c", line]))
}

/// The demo's own commands, pasted: the trusted client is let in and told about, the stranger and
/// the client without a certificate are refused, bytes that aren't HTTP come back, all of it is
/// counted. Its ports are fixed, so a lock keeps other processes of this test away.
#[test]
fn the_demo_keeps_what_its_instructions_promise() {
    support::require_tool("curl");
    support::require_tool("openssl");
    let lock = File::create(std::env::temp_dir().join("countersign-demo-test.lock")).unwrap();
    lock.lock().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("a demo");
    let mut demo = Process::spawn(
        Command::new(env!("CARGO_BIN_EXE_countersign")).arg("demo").arg("--dir").arg(&dir),
    );
    demo.wait_stdout("refusals_total");
    let printed = demo.stdout();
    let commands: Vec<&str> = printed.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    let [trusted, stranger, nobody, echo, metrics] = commands[..] else {
        panic!("five commands: {printed}")
    };

    let run = paste(trusted).wait_end().succeeded();
    assert!(run.stdout.contains("client.demo.test"), "{run:?}");
    for refused in [stranger, nobody] {
        let run = paste(refused).wait_end();
        assert!(!run.status.success() && run.stdout.is_empty(), "{refused}: {run:?}");
    }
    // Without a shell between, ending it ends the connection.
    let mut echo = paste(&format!("exec {echo}"));
    echo.say(b"hello, this is no HTTP\n");
    echo.wait_stdout("hello, this is no HTTP");
    drop(echo);
    let run = paste(metrics).wait_end().succeeded();
    for reason in ["unknown_issuer", "no_certificate"] {
        let counted = run.stdout.lines().any(|line| {
            line.starts_with("countersign_refusals_total{")
                && line.contains(&format!("reason=\"{reason}\""))
                && line.ends_with(" 1")
        });
        assert!(counted, "{reason}: {run:?}");
    }

    demo.signal(Signal::TERM);
    let run = demo.wait_end();
    assert_eq!(run.status.code(), Some(0), "{run:?}");
}
