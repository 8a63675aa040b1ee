//! `[[listener]]` and `[backends.NAME]`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::{GOOD, changed, errors, good, refused, warned};
use crate::config::{ClientAuth, Enforce, ProxyProtocol, ServerAddress, SniPolicy, TlsVersion};

/// A second listener, `{}` being its addresses.
fn with_second(name: &str, listen: &str) -> String {
    format!(
        r#"{GOOD}
[[listener]]
name = "{name}"
listen = ["{listen}"]
client_auth = "none"
certificates = [{{ chain = "own.pem", key = "own.key" }}]
backend = "sip"
"#
    )
}

/// The good listener with more lines.
fn with(lines: &str) -> String {
    format!("{GOOD}{lines}\n")
}

#[test]
fn a_listener_is_read_with_its_defaults() {
    let config = good(GOOD);
    let listener = &config.listeners[0];
    assert_eq!(listener.client_auth, ClientAuth::Required);
    assert_eq!(listener.sni, SniPolicy::Default);
    assert_eq!(listener.enforce, Enforce::Close);
    assert!(listener.alpn.is_empty());
    assert_eq!(listener.tls.versions, [TlsVersion::V13, TlsVersion::V12]);
    assert_eq!((listener.tls.cipher_suites.len(), listener.tls.groups.len()), (9, 4));
    assert_eq!(listener.backend.proxy_protocol, ProxyProtocol::Off);
    assert_eq!(listener.backend.connect_timeout, Duration::from_secs(5));
}

#[test]
fn a_listener_says_what_becomes_of_connections_that_lose_their_authorisation() {
    for (word, enforce) in
        [("close", Enforce::Close), ("drain", Enforce::Drain), ("log", Enforce::Log)]
    {
        let config = good(&with(&format!("enforce = \"{word}\"")));
        assert_eq!(config.listeners[0].enforce, enforce);
    }
    let told = errors(&with("enforce = \"off\""));
    assert!(told.contains("\"close\"") && told.contains("\"log\""), "{told}");
}

#[test]
fn a_backend_is_read_as_it_is_written() {
    let text = changed(
        "[\"127.0.0.1:5060\"]",
        "[\"localhost:5060\", \"[::1]:5060\", \"unix:/run/sip.sock\"]\n\
         proxy_protocol = \"v2\"\nconnect_timeout = \"250ms\"",
    );
    let config = good(&text);
    let backend = &config.backends["sip"];
    let tcp = |text: &str| ServerAddress::Tcp(text.parse::<SocketAddr>().unwrap());
    let unix = ServerAddress::Unix(PathBuf::from("/run/sip.sock"));
    assert_eq!(backend.servers, [tcp("127.0.0.1:5060"), tcp("[::1]:5060"), unix]);
    assert_eq!(backend.proxy_protocol, ProxyProtocol::V2);
    assert_eq!(backend.connect_timeout, Duration::from_millis(250));
}

#[test]
fn a_server_that_is_a_name_is_refused() {
    refused(
        &changed("127.0.0.1:5060", "sip.contoso.test:5060"),
        "conf/cs.toml:12:12: [backends.sip.servers] found \"sip.contoso.test:5060\"; it takes an \
         IP address (or localhost) and a port from 1 to 65535, \"127.0.0.1:5060\", \
         \"[::1]:5060\", or \"unix:/path\"; names are not looked up",
    );
}

#[test]
fn an_unknown_reference_is_refused_with_the_nearest_name() {
    refused(
        &changed("peers = [\"frontends\"]", "peers = [\"frontend\"]"),
        "conf/cs.toml:18:10: [listener.sip-mtls.peers] found \"frontend\", which is no \
         [peers.NAME]; did you mean \"frontends\"?",
    );
    refused(
        &changed("backend = \"sip\"", "backend = \"http\""),
        "conf/cs.toml:20:11: [listener.sip-mtls.backend] found \"http\", which is no \
         [backends.NAME]; there are: \"sip\"",
    );
    refused(
        &changed("[backends.sip]\nservers = [\"127.0.0.1:5060\"]", ""),
        "conf/cs.toml:19:11: [listener.sip-mtls.backend] found \"sip\", which is no \
         [backends.NAME]; write a section [backends.NAME]",
    );
}

#[test]
fn a_fault_of_what_is_referred_to_is_told_once() {
    for (from, to) in [
        ("names = [\"*.contoso.test\"]", "names = 5"),
        ("ca = [\"ca.pem\"]", "ca = 5"),
        ("ca = [\"ca.pem\"]", "ca = [5]"),
        ("trust = \"contoso\"", "trust = 5"),
        ("servers = [\"127.0.0.1:5060\"]", "servers = [5]"),
        ("peers = [\"frontends\"]", "peers = [5]"),
        ("certificates = [{", "certificates = [5] #"),
    ] {
        let errors = errors(&changed(from, to));
        assert_eq!(errors.lines().count(), 1, "{to}: {errors}");
    }
}

#[test]
fn asking_for_certificates_needs_peers() {
    for auth in ["required", "optional"] {
        let text = changed("client_auth = \"required\"", &format!("client_auth = {auth:?}"));
        let absent = errors(&text.replacen("peers = [\"frontends\"]\n", "", 1));
        assert!(absent.contains("[listener.sip-mtls.client_auth] found a client_auth that asks"));
        let empty = errors(&text.replacen("peers = [\"frontends\"]", "peers = []", 1));
        assert!(empty.contains("[listener.sip-mtls.peers] found a client_auth that asks"));
        good(&text);
    }
}

#[test]
fn asking_for_no_certificate_takes_no_peers() {
    refused(
        &changed("client_auth = \"required\"", "client_auth = \"none\""),
        "conf/cs.toml:18:9: [listener.sip-mtls.peers] found peers, but client_auth = \"none\" \
         asks nobody for a certificate; remove them, or say \"required\" or \"optional\"",
    );
}

#[test]
fn there_is_no_default_for_client_auth() {
    refused(
        &changed("client_auth = \"required\"\n", ""),
        "conf/cs.toml:14:1: [listener.sip-mtls.client_auth] is missing; it takes \"required\", \
         \"optional\" or \"none\": there is no default",
    );
}

#[test]
fn two_listeners_of_one_name_are_refused_with_both_places() {
    refused(
        &with_second("sip-mtls", "0.0.0.0:5062"),
        "conf/cs.toml:23:8: [listener.sip-mtls.name] \"sip-mtls\" is also the name of another \
         listener, [listener.sip-mtls.name] on line 15; choose another",
    );
}

#[test]
fn an_address_twice_is_refused_with_both_places() {
    refused(
        &with_second("second", "0.0.0.0:5061"),
        "conf/cs.toml:24:11: [listener.second.listen] 0.0.0.0:5061 is taken by \
         [listener.sip-mtls.listen] on line 16; choose another",
    );
    refused(
        &with_second("second", "127.0.0.1:9464"),
        "conf/cs.toml:24:11: [listener.second.listen] 127.0.0.1:9464 is taken by the default of \
         [admin.listen]; choose another",
    );
    let text = changed("[\"0.0.0.0:5061\"]", "[\"0.0.0.0:5061\", \"[::]:5061\"]");
    assert_eq!(good(&text).warnings, [""; 0], "the two families don't meet");
}

#[test]
fn a_wildcard_over_another_address_is_warned_of() {
    warned(
        &with_second("second", "127.0.0.1:5061"),
        "conf/cs.toml:24:11: listener.second.listen: 127.0.0.1:5061 overlaps 0.0.0.0:5061 of \
         [listener.sip-mtls.listen] on line 16",
    );
}

#[test]
fn a_backend_that_is_a_listener_of_ours_is_refused() {
    let text = changed("0.0.0.0:5061", "127.0.0.1:5060");
    refused(
        &text,
        "conf/cs.toml:12:12: [backends.sip.servers] 127.0.0.1:5060 is a listener's own address, \
         [listener.sip-mtls.listen] on line 16; give the server's",
    );
    warned(
        &changed("0.0.0.0:5061", "0.0.0.0:5060"),
        "conf/cs.toml:12:12: backends.sip.servers: 127.0.0.1:5060 is also covered by a listener, \
         [listener.sip-mtls.listen] on line 16",
    );
}

#[test]
fn strict_sni_needs_a_name_to_be_strict_about() {
    assert_eq!(good(&with("sni = \"strict\"")).listeners[0].sni, SniPolicy::Strict);
    let errors = errors(&with("sni = \"strict\"").replacen("own.pem", "nameless.pem", 1));
    assert!(
        errors.contains("[listener.sip-mtls.sni] found \"strict\", but no certificate has a DNS"),
        "{errors}"
    );
}

#[test]
fn protocols_of_alpn_have_one_to_255_bytes() {
    let config = good(&with("alpn = [\"h2\", \"http/1.1\"]"));
    assert_eq!(config.listeners[0].alpn, ["h2", "http/1.1"]);
    good(&with(&format!("alpn = [{:?}]", "a".repeat(255))));
    let errors = |protocol: &str| errors(&with(&format!("alpn = [{protocol:?}]")));
    assert!(errors("").contains("it has 0 bytes; a protocol name has 1 to 255"));
    assert!(errors(&"a".repeat(256)).contains("it has 256 bytes; a protocol name has 1 to 255"));
}

#[test]
fn tls_settings_are_read_in_their_order() {
    let config = good(&with(
        r#"tls = { versions = ["1.2"], cipher_suites = ["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"],
        groups = ["secp384r1", "X25519"] }"#,
    ));
    let tls = &config.listeners[0].tls;
    assert_eq!(tls.versions, [TlsVersion::V12]);
    assert_eq!(tls.cipher_suites.len(), 1);
    let groups: Vec<_> = tls.groups.iter().map(|group| group.name()).collect();
    assert_eq!(groups, [rustls::NamedGroup::secp384r1, rustls::NamedGroup::X25519]);
    let config = good(&with("tls.versions = [\"1.3\"]"));
    assert_eq!(config.listeners[0].tls.cipher_suites.len(), 3, "those of 1.3 alone");
}

#[test]
fn unknown_words_of_tls_list_what_is_accepted() {
    for (line, error) in [
        ("tls.versions = [\"1.1\"]", "found \"1.1\"; accepted: \"1.3\", \"1.2\""),
        (
            "tls.groups = [\"P-256\"]",
            "found \"P-256\"; accepted: \"X25519MLKEM768\", \"X25519\", \"secp256r1\", \
             \"secp384r1\"",
        ),
        (
            "tls.cipher_suites = [\"AES128-SHA\"]",
            "found \"AES128-SHA\"; accepted: \"TLS_AES_128_GCM_SHA256\", ",
        ),
        ("tls.versions = []", "found an empty list; it takes at least one of \"1.3\", \"1.2\""),
    ] {
        let errors = errors(&with(line));
        assert!(errors.contains(error), "{errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
}

#[test]
fn a_version_without_a_suite_or_group_is_refused() {
    const SUITE_12: &str = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";
    for (tls, error) in [
        (
            format!("versions = [\"1.3\"], cipher_suites = [\"{SUITE_12}\"]"),
            "cipher suite for TLS 1.3",
        ),
        ("cipher_suites = [\"TLS_AES_128_GCM_SHA256\"]".to_owned(), "cipher suite for TLS 1.2"),
        (
            "versions = [\"1.2\"], cipher_suites = [\"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256\"]"
                .to_owned(),
            "cipher suite of TLS 1.2 that fits a certificate",
        ),
        ("groups = [\"X25519MLKEM768\"]".to_owned(), "group for TLS 1.2"),
    ] {
        let errors = errors(&with(&format!("tls = {{ {tls} }}")));
        assert!(errors.contains(&format!("has no {error}")), "{errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
}

#[test]
fn a_suite_of_a_version_that_is_not_on_is_warned_of_and_left_out() {
    let config = warned(
        &with(
            "tls = { versions = [\"1.3\"], cipher_suites = [\"TLS_AES_128_GCM_SHA256\", \
             \"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256\"] }",
        ),
        "conf/cs.toml:21:72: listener.sip-mtls.tls.cipher_suites: \
         TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 is never used: its version is not on",
    );
    assert_eq!(config.listeners[0].tls.cipher_suites.len(), 1);
}
