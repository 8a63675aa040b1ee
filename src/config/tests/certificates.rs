//! The files that a configuration names.

use std::path::Path;

use super::{GOOD, changed, errors, good, pki::pki, refused, warned};
use crate::config::Files;

/// The one error of a trust anchor file, without place and key.
fn anchor_error(file: &str) -> String {
    let errors = errors(&changed("ca.pem", file));
    let prefix = "conf/cs.toml:3:7: [trust.contoso.ca] ";
    errors.strip_prefix(prefix).unwrap_or_else(|| panic!("{errors}")).to_owned()
}

fn own(chain: &str, key: &str) -> String {
    changed("\"own.pem\", key = \"own.key\"", &format!("{chain:?}, key = {key:?}"))
}

#[test]
fn a_trust_anchor_can_be_pem_or_der() {
    let (pem, der) = (good(GOOD), good(&changed("ca.pem", "ca.der")));
    assert_eq!(pem.trust["contoso"].ca[0].der, der.trust["contoso"].ca[0].der);
}

#[test]
fn a_file_that_is_no_good_as_trust_anchor_is_refused_by_name() {
    for (file, error) in [
        ("none.pem", "conf/none.pem can't be read: no such file"),
        ("empty.pem", "conf/empty.pem holds no certificate; it takes PEM or DER"),
        ("garbage.pem", "conf/garbage.pem is not valid PEM: the base64 is malformed"),
        (
            "bom.pem",
            "conf/bom.pem is not valid PEM: a section doesn't start or end as RFC 7468 says",
        ),
        ("no-end.pem", "conf/no-end.pem is not valid PEM: a section has no END line"),
        ("crl.pem", "conf/crl.pem holds a PEM section \"X509 CRL\"; it takes CERTIFICATE"),
        (
            "ca-with-key.pem",
            "conf/ca-with-key.pem holds a private key; a file of trust anchors takes \
             certificates only",
        ),
        (
            "own.pem",
            "conf/own.pem (CN=own) is not a CA certificate: its basicConstraints don't say cA; \
             give the certificate of the CA that issued it",
        ),
        (
            "no-sign-ca.pem",
            "conf/no-sign-ca.pem (CN=No Sign) may not issue certificates: its keyUsage has no \
             keyCertSign; give another CA certificate",
        ),
        (
            "expired-ca.pem",
            "conf/expired-ca.pem (CN=Old Root) expired on 2026-05-31; replace it or take it out \
             of the list",
        ),
        (
            "future-ca.pem",
            "conf/future-ca.pem (CN=Next Root) is not valid before 2026-07-01; replace it or \
             take it out of the list",
        ),
        (
            "ca-and-expired.pem",
            "conf/ca-and-expired.pem certificate 2 (CN=Old Root) expired on 2026-05-31; replace \
             it or take it out of the list",
        ),
    ] {
        assert_eq!(anchor_error(file), error);
    }
    let error = "conf/constrained-twice-ca.pem is not valid X.509: ";
    assert!(anchor_error("constrained-twice-ca.pem").starts_with(error));
    assert!(anchor_error("not-x509.pem").starts_with("conf/not-x509.pem is not valid X.509: "));
}

#[test]
fn a_profile_needs_a_file() {
    let errors = errors(&changed("[\"ca.pem\"]", "[]"));
    assert!(errors.contains("[trust.contoso.ca] found an empty list; it takes at least one file"));
}

#[test]
fn own_dns_names_are_lower_case_and_expiry_is_known() {
    let config = good(GOOD);
    let certificate = &config.listeners[0].certificates[0];
    assert_eq!(certificate.dns_names, ["pool01.contoso.test", "*.apps.contoso.test"]);
    assert_eq!(certificate.not_after, 1_798_761_600);
    assert_eq!(certificate.chain_file.to_str(), Some("conf/own.pem"));
}

#[test]
fn chain_and_key_may_share_a_file() {
    good(&own("own-and-key.pem", "own-and-key.pem"));
}

#[test]
fn a_key_that_is_not_that_of_the_certificate_is_refused() {
    refused(
        &own("own.pem", "other.key"),
        "conf/cs.toml:19:44: [listener.sip-mtls.certificates.1.key] the key does not match the \
         certificate, [listener.sip-mtls.certificates.1.chain] on line 19; give the key that it \
         was issued for",
    );
    let errors = errors(&own("reversed.pem", "own.key"));
    assert!(errors.contains("the key is that of certificate 2 of the chain, [listener"));
}

#[test]
fn a_key_that_cannot_be_used_is_refused_by_name() {
    const PLAIN: &str = "it takes one unencrypted PEM private key (PKCS #8, PKCS #1 or SEC 1)";
    for (file, error) in [
        ("none.key", "can't be read: no such file".to_owned()),
        ("own.pem", format!("holds 0 private keys; {PLAIN}")),
        ("two.key", format!("holds 2 private keys; {PLAIN}")),
        ("encrypted.key", format!("holds an encrypted private key; {PLAIN}")),
        ("legacy.key", format!("holds an encrypted private key; {PLAIN}")),
        (
            "odd.key",
            "holds a private key that can't be used; it takes RSA (2048 to 8192 bits), ECDSA \
             (P-256, P-384, P-521) or Ed25519"
                .to_owned(),
        ),
    ] {
        let place = "conf/cs.toml:19:44: [listener.sip-mtls.certificates.1.key]";
        refused(&own("own.pem", file), &format!("{place} conf/{file} {error}"));
    }
}

#[test]
fn an_own_chain_that_clients_would_refuse_is_refused() {
    let place = "conf/cs.toml:19:27: [listener.sip-mtls.certificates.1.chain]";
    for (file, error) in [
        ("none.pem", "can't be read: no such file"),
        ("empty.pem", "holds no certificate; it takes PEM or DER"),
        ("too-long.pem", "holds 17 certificates; a chain takes at most 16"),
        ("old.pem", "(CN=old) expired on 2026-05-31; clients would refuse it, replace it"),
        (
            "early.pem",
            "(CN=early) is not valid before 2026-07-01; clients would refuse it, replace it",
        ),
    ] {
        refused(&own(file, "own.key"), &format!("{place} conf/{file} {error}"));
    }
}

#[test]
fn what_clients_may_dislike_in_an_own_chain_is_warned_of() {
    let place = "conf/cs.toml:19:27: listener.sip-mtls.certificates.1.chain:";
    warned(
        &own("client.pem", "own.key"),
        &format!(
            "{place} conf/client.pem its extendedKeyUsage has no serverAuth: most clients will \
             refuse it"
        ),
    );
    warned(
        &own("own-with-stranger.pem", "own.key"),
        &format!(
            "{place} conf/own-with-stranger.pem is out of order: certificate 2 did not issue \
             certificate 1"
        ),
    );
    let config = good(&own("own-with-expired.pem", "own.key"));
    assert!(
        config.warnings.iter().any(|warning| {
            warning.ends_with("certificate 2 (CN=Old Root) expired on 2026-05-31")
        })
    );
    assert_eq!(good(&own("own-with-ca.pem", "own.key")).warnings, [""; 0]);
}

#[test]
fn a_key_that_every_user_may_read_is_warned_of() {
    warned(
        &own("own.pem", "open.key"),
        "conf/cs.toml:19:44: listener.sip-mtls.certificates.1.key: conf/open.key is a private \
         key that every user may read or write (mode 0644); chmod o-rw",
    );
}

#[test]
fn the_debug_form_of_a_configuration_shows_no_key() {
    let debug = format!("{:?}", good(GOOD));
    let data = pki().read(Path::new("conf/own.key")).unwrap();
    assert_eq!(format!("{data:?}"), "FileData { mode: 0600, .. }");
    assert!(debug.contains("EcdsaSigningKey") && !debug.contains("PRIVATE KEY"), "{debug}");
}
