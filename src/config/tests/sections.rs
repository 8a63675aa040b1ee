//! The shape of the file, and the sections that only set values.

use std::{path::Path, time::Duration};

use proptest::{prop_assert, prop_assert_eq, proptest};

use super::{GOOD, changed, errors, good, parse, refused, warned};
use crate::config::{ClientAuth, Config, LogFormat, LogLevel};

fn with(section: &str) -> String {
    format!("{section}\n{GOOD}")
}

#[test]
fn a_good_configuration_has_the_documented_defaults() {
    let config = good(GOOD);
    assert_eq!(config.warnings, [""; 0]);
    assert_eq!(config.workers.cpus, None);
    assert_eq!(config.admin.listen, Some("127.0.0.1:9464".parse().unwrap()));
    assert_eq!((config.log.format, config.log.level), (LogFormat::Text, LogLevel::Info));
    assert!(config.log.connections);
    let limits = &config.limits;
    assert_eq!((limits.max_connections, limits.max_handshakes), (None, 4096));
    assert_eq!((limits.max_full_handshakes, limits.reserved_handshakes), (3072, 1024));
    assert_eq!(limits.max_handshakes_per_address, Some(1024));
    assert_eq!(limits.max_handshake_wait, Duration::from_secs(1));
    assert_eq!(limits.handshake_timeout, Duration::from_secs(10));
    assert_eq!(limits.idle_timeout, Some(Duration::from_secs(3600)));
    assert_eq!(limits.max_lifetime, None);
    assert_eq!(limits.half_open_timeout, Duration::from_secs(60));
    assert_eq!(limits.drain_timeout, Duration::from_secs(30));
    assert_eq!(limits.max_session_age, Duration::from_secs(12 * 3600));
}

#[test]
fn values_that_are_set_are_taken() {
    let config = good(&with(
        r#"
        workers.cpus = "0-1,5"
        admin.listen = "off"
        log = { format = "json", level = "debug", connections = false }
        [limits]
        max_connections = 1_000
        max_handshakes = 0x10
        max_handshake_wait = "50ms"
        handshake_timeout = "1500ms"
        idle_timeout = "off"
        max_lifetime = "1h 30m"
        half_open_timeout = "1s"
        drain_timeout = "366days"
        max_session_age = "7days"
        "#,
    ));
    assert_eq!(config.workers.cpus, Some(vec![0, 1, 5]));
    assert_eq!(config.admin.listen, None);
    assert_eq!((config.log.format, config.log.level), (LogFormat::Json, LogLevel::Debug));
    assert!(!config.log.connections);
    let limits = &config.limits;
    assert_eq!((limits.max_connections, limits.max_handshakes), (Some(1000), 16));
    assert_eq!(limits.max_handshake_wait, Duration::from_millis(50));
    assert_eq!(limits.handshake_timeout, Duration::from_millis(1500));
    assert_eq!(limits.idle_timeout, None);
    assert_eq!(limits.max_lifetime, Some(Duration::from_secs(5400)));
    assert_eq!(limits.max_session_age, Duration::from_secs(7 * 24 * 3600));
}

/// The places for handshakes that these lines of `[limits]` give: all, full, reserved, of one
/// address.
fn places(lines: &str) -> (usize, usize, usize, Option<usize>) {
    let limits = good(&with(&format!("[limits]\n{lines}"))).limits;
    let (all, full) = (limits.max_handshakes, limits.max_full_handshakes);
    (all, full, limits.reserved_handshakes, limits.max_handshakes_per_address)
}

#[test]
fn what_is_not_said_of_the_places_for_handshakes_follows_from_what_is() {
    assert_eq!(places("max_handshakes = 1"), (1, 1, 0, Some(64)));
    assert_eq!(places("max_handshakes = 8"), (8, 6, 2, Some(64)));
    assert_eq!(places("max_handshakes = 1000000"), (1_000_000, 750_000, 250_000, Some(250_000)));
    assert_eq!(places("max_full_handshakes = 30"), (4096, 30, 10, Some(1024)));
    assert_eq!(places("reserved_handshakes = 0"), (4096, 3072, 0, Some(1024)));
    assert_eq!(places("max_handshakes_per_address = \"off\""), (4096, 3072, 1024, None));
    assert_eq!(places("max_handshakes_per_address = 1"), (4096, 3072, 1024, Some(1)));
}

#[test]
fn places_for_handshakes_that_nobody_could_have_are_errors() {
    for (lines, problem) in [
        (
            "max_handshakes = 8\nmax_full_handshakes = 9",
            "found 9; it takes max_handshakes, 8, at most",
        ),
        (
            "max_handshakes = 8\nreserved_handshakes = 6",
            "found 6; it takes less than max_full_handshakes, 6, or no stranger could ever connect",
        ),
        (
            "max_handshakes_per_address = \"none\"",
            "found \"none\"; it takes an integer from 1 to 1000000, or \"off\"",
        ),
        ("max_handshakes_per_address = 0", "found 0; it takes an integer from 1 to 1000000"),
    ] {
        let errors = errors(&with(&format!("[limits]\n{lines}")));
        assert!(errors.contains(problem), "{lines}: {errors}");
    }
}

#[test]
fn every_error_of_the_file_is_told_at_once_in_its_order() {
    let text = r#"
[limits]
max_conections = 5
max_handshakes = 0
idle_timeout = "never"
[log]
level = "loud"
connections = "yes"
[workers]
cpus = "7-3"
[admin]
listen = 9464
[[listener]]
"#;
    assert_eq!(
        errors(text).lines().collect::<Vec<_>>(),
        [
            "conf/cs.toml:3:1: [limits.max_conections] is not a key that is known here; did you \
             mean \"max_connections\"?",
            "conf/cs.toml:4:18: [limits.max_handshakes] found 0; it takes an integer from 1 to \
             1000000",
            "conf/cs.toml:5:16: [limits.idle_timeout] found \"never\"; it takes a time from \
             \"1ms\" to \"366days\", such as \"10s\", or \"off\"",
            "conf/cs.toml:7:9: [log.level] found \"loud\"; accepted: \"error\", \"warn\", \
             \"info\", \"debug\"",
            "conf/cs.toml:8:15: [log.connections] found the string \"yes\"; it takes true or \
             false",
            "conf/cs.toml:10:8: [workers.cpus] found \"7-3\"; it takes \"auto\" or different \
             CPUs and ranges from 0 to 1023: \"0-7,16\"",
            "conf/cs.toml:12:10: [admin.listen] found the integer 9464; it takes a string",
            "conf/cs.toml:13:1: [listener.1.name] is missing; it takes a name of its own, which \
             metrics carry",
            "conf/cs.toml:13:1: [listener.1.listen] is missing; it takes at least one address: \
             \"0.0.0.0:5061\", \"[::]:5061\"",
            "conf/cs.toml:13:1: [listener.1.backend] is missing; it takes the name of a \
             [backends.NAME]",
            "conf/cs.toml:13:1: [listener.1.client_auth] is missing; it takes \"required\", \
             \"optional\" or \"none\": there is no default",
            "conf/cs.toml:13:1: [listener.1.certificates] is missing; it takes a list of own \
             certificates: [{ chain = FILE, key = FILE }]",
        ]
    );
}

#[test]
fn zero_and_endless_times_are_refused() {
    for time in ["0s", "1us", "367days", "-1s", "", "5"] {
        let text = with(&format!("limits.drain_timeout = {time:?}"));
        assert!(errors(&text).contains("[limits.drain_timeout] found"), "{time}");
    }
    refused(
        &with("limits.idle_timeout = 3600"),
        "conf/cs.toml:1:23: [limits.idle_timeout] found the integer 3600; it takes a time from \
         \"1ms\" to \"366days\", such as \"10s\", or \"off\"",
    );
    let text = with("limits.drain_timeout = \"off\"");
    assert!(errors(&text).contains("found \"off\""), "only documented times can be off");
}

#[test]
fn an_unknown_section_is_refused_with_the_nearest_name() {
    refused(
        &with("[limit]"),
        "conf/cs.toml:1:2: [limit] is not a key that is known here; did you mean \"limits\"?",
    );
    refused(
        &with("speed = 11"),
        "conf/cs.toml:1:1: [speed] is not a key that is known here; accepted: workers, accel, \
         admin, log, limits, resumption, trust, revocation, peers, backends, listener, shadow",
    );
}

#[test]
fn unknown_keys_are_refused_in_every_section() {
    for (at, label) in [
        ("[trust.contoso]\n", "trust.contoso.zzzzzz"),
        ("[peers.frontends]\n", "peers.frontends.zzzzzz"),
        ("[backends.sip]\n", "backends.sip.zzzzzz"),
        ("[[listener]]\n", "listener.sip-mtls.zzzzzz"),
        ("[[listener]]\ntls.", "listener.sip-mtls.tls.zzzzzz"),
    ] {
        let section = at.split_inclusive('\n').next().unwrap();
        let errors = errors(&changed(section, &format!("{at}zzzzzz = 1\n")));
        assert!(errors.contains(&format!("[{label}] is not a key")), "{errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
    let text = changed("key = \"own.key\" }", "key = \"own.key\", ocsp = \"x\" }");
    assert!(errors(&text).contains("[listener.sip-mtls.certificates.1.ocsp] is not a key"));
    for section in ["workers", "admin", "log", "limits"] {
        let text = with(&format!("{section}.zzzzzz = 1"));
        assert!(errors(&text).contains(&format!("[{section}.zzzzzz] is not a key")));
    }
}

#[test]
fn broken_toml_is_told_with_its_place_and_nothing_else() {
    refused(
        "[trust.contoso]\nca = [\"ca.pem\"\nnames = 1\n",
        "conf/cs.toml:3:1: not valid TOML: missing comma between array elements, expected `,`",
    );
}

#[test]
fn a_key_given_twice_is_refused() {
    let text = changed("name = \"sip-mtls\"", "name = \"sip-mtls\"\nname = \"sip-mtls\"");
    assert!(errors(&text).contains("not valid TOML: duplicate key"));
}

#[test]
fn a_section_of_the_wrong_shape_is_refused() {
    for (text, error) in [
        ("limits = 5", "[limits] found the integer 5; it takes a table"),
        ("trust = []", "[trust] found a list; it takes a table"),
        ("backends.x = true", "[backends.x] found true; it takes a table: [backends.NAME]"),
        ("[listener]", "[listener] found a table; it takes a list of tables: [[listener]]"),
        ("listener = []", "[listener] found an empty list; it takes at least one [[listener]]"),
        ("listener = [1]", "[listener.1] found the integer 1; it takes a table"),
        ("", "[listener] is missing; it takes at least one [[listener]]"),
    ] {
        let errors = errors(text);
        assert!(errors.contains(error), "{text}: {errors}");
    }
}

#[test]
fn names_that_make_no_label_are_refused() {
    let text = changed("name = \"sip-mtls\"", "name = \"sip mtls\"");
    refused(
        &text,
        "conf/cs.toml:15:8: [listener.1.name] found \"sip mtls\"; a name has 1 to 64 letters \
         (a-z, A-Z), digits, and any of - _ .",
    );
    let text = with("[backends.\"a\\nb\"]\nservers = [\"127.0.0.1:1\"]");
    assert!(errors(&text).contains("[backends.a\\nb] found \"a\\nb\"; a name has 1 to 64"));
}

#[test]
fn admin_on_an_open_address_is_warned_of() {
    warned(
        &with("admin.listen = \"0.0.0.0:9464\""),
        "conf/cs.toml:1:16: admin.listen: 0.0.0.0:9464 is open to other hosts and asks for no \
         password; 127.0.0.1 is safer",
    );
}

#[test]
fn sessions_may_be_resumed_for_a_minute_at_least_and_a_week_at_most() {
    for wrong in ["59s", "7days 1s", "off", "12"] {
        refused(
            &with(&format!("limits.max_session_age = \"{wrong}\"")),
            &format!(
                "conf/cs.toml:1:26: [limits.max_session_age] found \"{wrong}\"; it takes a time \
                 from \"1m\" to \"7days\", such as \"12h\""
            ),
        );
    }
    good(&with("limits.max_session_age = \"1m\""));
}

#[test]
fn a_file_that_is_not_there_or_not_text_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cs.toml");
    let error = Config::load(&path).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}: can't be read: ", path.display())), "{error}");
    std::fs::write(&path, b"[log]\nlevel = \"\xff\"\n").unwrap();
    let error = Config::load(&path).unwrap_err().to_string();
    assert!(error.ends_with("line 2 is not UTF-8; TOML is UTF-8 text"), "{error}");
    let error = Config::load(folder.path()).unwrap_err().to_string();
    assert!(error.contains("isn't a regular file"), "{error}");
    assert_eq!(Config::load(Path::new("/")).unwrap_err().iter().len(), 1);
}

#[test]
fn the_summary_says_what_is_served() {
    assert_eq!(
        good(GOOD).summary(),
        "\
configuration  conf/cs.toml
workers        one on each CPU that the process may use
admin          127.0.0.1:9464
log            text, from level info, a line for a connection
connections    as many as descriptors allow
handshakes     at most 4096, 10s each
               at most 3072 full ones, 1024 of either for addresses that were let in lately
               at most 1024 of one address
               none that would wait 1s to begin
times          idle 1h, lifetime off, half-open 1m, drain 30s, session age 12h
resumption     sessions are kept here, in 64 MiB at most

listener sip-mtls
  address      0.0.0.0:5061
  clients      must show a certificate
  peers        frontends by trust contoso: fe01.contoso.test, fe02.contoso.test
  enforce      a connection that isn't authorised any more is closed
  certificate  conf/own.pem until 2027-01-01: pool01.contoso.test, *.apps.contoso.test
  sni          any name; the first certificate unless another one has it
  tls          1.3, 1.2
  suites       TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256, \
TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, \
TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, \
TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
  groups       X25519MLKEM768, X25519, secp256r1, secp384r1
  backend      sip: 127.0.0.1:5060 (no PROXY header, dialled for 5s)

trust contoso
  ca           conf/ca.pem until 2027-01-01: CN=Contoso Root
  names        *.contoso.test
  key usage    clientAuth
  chain        at most 4 between peer and CA
  keys         RSA from 2048 bits, ECDSA from 256
  revocation   off
"
    );
}

proptest! {
    /// Whatever happens to the file, the loader answers, and what it lets through is complete.
    #[test]
    fn a_damaged_file_gives_errors_or_a_whole_configuration(
        at in 0..GOOD.len(), removed in 0..40_usize, put_in in "[ -~\n\u{e9}]{0,6}",
    ) {
        let mut text = GOOD.to_owned();
        text.replace_range(at..(at + removed).min(GOOD.len()), &put_in);
        match parse(&text) {
            Err(errors) => prop_assert!(errors.iter().len() > 0),
            Ok(config) => for listener in &config.listeners {
                prop_assert!(!listener.listen.is_empty() && !listener.certificates.is_empty());
                prop_assert_eq!(
                    listener.peers.is_empty(),
                    listener.client_auth == ClientAuth::None
                );
                prop_assert!(listener.peers.iter().all(|set| !set.names.is_empty()));
                prop_assert!(listener.peers.iter().all(|set| !set.trust.ca.is_empty()));
                prop_assert!(!listener.backend.servers.is_empty());
            },
        }
    }
}
