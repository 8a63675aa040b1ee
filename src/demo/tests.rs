use std::{fs, os::unix::fs::PermissionsExt};

use time::OffsetDateTime;
use toml::de::{DeTable, DeValue};

use super::*;

const NAMES: [&str; 9] = [
    "ca.pem",
    "client.key",
    "client.pem",
    "server.key",
    "server.pem",
    "stranger-ca.pem",
    "stranger.key",
    "stranger.pem",
    "countersign.toml",
];

fn backend() -> SocketAddr {
    "127.0.0.1:4711".parse().unwrap()
}

/// The content of every file but the configuration.
fn certificates(dir: &Path) -> Vec<Vec<u8>> {
    NAMES[..8].iter().map(|name| fs::read(dir.join(name)).unwrap()).collect()
}

#[test]
fn a_new_folder_gets_all_files_and_keys_that_only_the_owner_may_read() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("a/demo");
    let demo = prepare(&dir, backend()).unwrap();
    assert!(folder::is_whole(&demo));
    for name in NAMES {
        let mode = fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if name.ends_with(".key") { 0o600 } else { 0o644 }, "{name}");
    }
}

/// The text at a path such as `listener.0.name`, or nothing.
fn text_at(config: &str, path: &str) -> Option<String> {
    let mut value = DeValue::Table(DeTable::parse(config).unwrap().into_inner());
    for step in path.split('.') {
        let next = match step.parse::<usize>() {
            Ok(index) => value.get(index),
            Err(_) => value.get(step),
        };
        value = next?.get_ref().clone();
    }
    value.as_str().map(str::to_owned)
}

#[test]
fn the_configuration_names_what_was_made() {
    let config = configuration(backend(), true);
    for (path, text) in [
        ("admin.listen", "127.0.0.1:9464"),
        ("trust.demo.ca.0", "ca.pem"),
        ("trust.demo.names.0", "*.demo.test"),
        ("peers.demo.trust", "demo"),
        ("peers.demo.names.0", CLIENT_NAME),
        ("backends.demo.servers.0", "127.0.0.1:4711"),
        ("backends.demo.proxy_protocol", "v2"),
        ("listener.0.listen.0", "127.0.0.1:8443"),
        ("listener.0.listen.1", "[::1]:8443"),
        ("listener.0.client_auth", "required"),
        ("listener.0.peers.0", "demo"),
        ("listener.0.certificates.0.chain", "server.pem"),
        ("listener.0.certificates.0.key", "server.key"),
        ("listener.0.alpn.0", "http/1.1"),
        ("listener.0.backend", "demo"),
    ] {
        assert_eq!(text_at(&config, path).as_deref(), Some(text), "{path}");
    }
    assert_eq!(text_at(&configuration(backend(), false), "listener.0.listen.1"), None);
}

#[test]
fn a_whole_demo_is_used_again_with_the_backends_new_address() {
    let dir = tempfile::tempdir().unwrap();
    let demo = prepare(dir.path(), backend()).unwrap();
    let before = certificates(dir.path());
    fs::write(dir.path().join("notes.txt"), "the user's own").unwrap();

    assert_eq!(prepare(dir.path(), "127.0.0.1:4712".parse().unwrap()).unwrap(), demo);
    assert_eq!(certificates(dir.path()), before);
    assert!(fs::read_to_string(&demo.config).unwrap().contains("\"127.0.0.1:4712\""));
    assert_eq!(fs::read_to_string(dir.path().join("notes.txt")).unwrap(), "the user's own");
}

#[test]
fn a_demo_that_is_no_longer_whole_is_made_anew() {
    type Damage = fn(&DemoFiles);
    let damages: [(&str, Damage); 6] = [
        ("a missing file", |demo| fs::remove_file(&demo.stranger.key).unwrap()),
        ("an empty file", |demo| fs::write(&demo.server.chain, "").unwrap()),
        ("another's key", |demo| {
            fs::copy(&demo.stranger.key, &demo.client.key).unwrap();
        }),
        ("another's certificate", |demo| {
            fs::copy(&demo.stranger.chain, &demo.client.chain).unwrap();
            fs::copy(&demo.stranger.key, &demo.client.key).unwrap();
        }),
        ("a key that others may read", |demo| {
            fs::set_permissions(&demo.server.key, fs::Permissions::from_mode(0o644)).unwrap();
        }),
        ("a stranger who is none", |demo| {
            fs::copy(&demo.ca, &demo.stranger_ca).unwrap();
            fs::copy(&demo.client.chain, &demo.stranger.chain).unwrap();
            fs::copy(&demo.client.key, &demo.stranger.key).unwrap();
        }),
    ];
    for (what, damage) in damages {
        let dir = tempfile::tempdir().unwrap();
        let demo = prepare(dir.path(), backend()).unwrap();
        let before = certificates(dir.path());
        damage(&demo);
        assert!(!folder::is_whole(&demo), "{what}");
        prepare(dir.path(), backend()).unwrap();
        assert!(folder::is_whole(&demo), "{what}");
        assert_ne!(certificates(dir.path())[0], before[0], "{what}: all is new");
    }
}

#[test]
fn a_demo_whose_certificates_end_within_a_day_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let demo = prepare(dir.path(), backend()).unwrap();
    let now = OffsetDateTime::now_utc();
    let short = Validity { not_before: now - REUSE_VALIDITY, not_after: now + REUSE_VALIDITY / 2 };
    let long = Validity::from_now(CERTIFICATE_VALIDITY);
    for (ca_validity, client_validity) in [(short, long), (long, short)] {
        let ca = Authority::root(&Spec::new("ca", ca_validity)).unwrap();
        let client = Spec::new("c", client_validity).dns(CLIENT_NAME).client();
        let server = Spec::new("s", long)
            .dns("localhost")
            .ip(Ipv4Addr::LOCALHOST)
            .ip(Ipv6Addr::LOCALHOST)
            .server();
        ca.write_certificate(&demo.ca).unwrap();
        ca.issue(&server).unwrap().write(&demo.server.chain, &demo.server.key).unwrap();
        ca.issue(&client).unwrap().write(&demo.client.chain, &demo.client.key).unwrap();
        assert!(!folder::is_whole(&demo));
    }
    prepare(dir.path(), backend()).unwrap();
    assert!(folder::is_whole(&demo));
}

#[test]
fn a_folder_with_foreign_files_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("server.key"), "precious").unwrap();
    let error = prepare(dir.path(), backend()).unwrap_err();
    assert!(matches!(&error, DemoError::Foreign { entry, .. } if entry == "server.key"));
    assert!(error.to_string().contains("give --dir a new or empty folder"));
    assert_eq!(fs::read_to_string(dir.path().join("server.key")).unwrap(), "precious");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_file_in_the_folders_place_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("demo");
    fs::write(&file, "x").unwrap();
    let error = prepare(&file, backend()).unwrap_err();
    assert!(error.to_string().starts_with(&format!("can't use {}: ", file.display())));
}

#[test]
fn the_instructions_can_be_pasted_whatever_the_folder_is_called() {
    let plain = instructions(&DemoFiles::in_folder(Path::new("./countersign-demo")));
    assert!(plain.contains(
        "\n  curl --cacert ./countersign-demo/ca.pem --cert ./countersign-demo/client.pem \
         --key ./countersign-demo/client.key https://localhost:8443/\n"
    ));
    assert!(plain.contains("--cert ./countersign-demo/stranger.pem"));
    assert!(plain.contains("http://127.0.0.1:9464/metrics"));
    let odd = instructions(&DemoFiles::in_folder(Path::new("it's mine")));
    assert!(odd.contains(r"--cacert 'it'\''s mine/ca.pem' "));
    let dash = instructions(&DemoFiles::in_folder(Path::new("-d")));
    assert!(dash.contains("--cacert './-d/ca.pem' "));
}
