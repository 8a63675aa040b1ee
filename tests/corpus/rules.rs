//! What profiles and peer sets ask for beyond a name: the lengths of keys, pins, and that discovered
//! peers have nobody else's name.

use rcgen::CertificateParams;

use super::{
    table::{ACCESS_DENIED, FE01, Outcome::Admitted, Row, UNSUPPORTED_CERTIFICATE, at, refused},
    world::{ED25519, P384, RSA_2048, RSA_3072, common_name, dns, good, uris, via},
};

/// Keys, pins, and discovered peers.
pub const RULES: &[Row] = &[
    // Lengths of keys, where 384 bits of ECDSA and 3072 of RSA are asked for.
    at("strong", "a long ECDSA key", |w| w.strong.client_with(w.key(P384), &[], good), FE01),
    at(
        "strong",
        "a short ECDSA key",
        |w| w.strong.client(good),
        refused("weak_key", UNSUPPORTED_CERTIFICATE, "trust.strong asks for 384 bits"),
    ),
    at(
        "strong",
        "an Ed25519 key where that is short",
        |w| w.strong.client_with(w.key(ED25519), &[], good),
        refused("weak_key", UNSUPPORTED_CERTIFICATE, "trust.strong asks for 384 bits"),
    ),
    at("strong", "a long RSA key", |w| w.strong.client_with(w.key(RSA_3072), &[], good), FE01),
    at(
        "strong",
        "a short RSA key",
        |w| w.strong.client_with(w.key(RSA_2048), &[], good),
        refused("weak_key", UNSUPPORTED_CERTIFICATE, "trust.strong asks for 3072 bits"),
    ),
    at(
        "strong",
        "a long key below an intermediate CA with a short one",
        |w| {
            let short = w.strong.below("Short key", good);
            short.client_with(w.key(P384), &[&short.der], good)
        },
        refused("weak_key", UNSUPPORTED_CERTIFICATE, "the key of an intermediate certificate"),
    ),
    // Pins.
    at("pinned", "the pinned key", |w| w.root.client_with(w.key(P384), &[], good), FE01),
    at(
        "pinned",
        "another key than the pinned one",
        |w| w.root.client(good),
        refused("key_not_pinned", ACCESS_DENIED, "peers.pinned pins the keys of fe01.contoso.test"),
    ),
    // Discovered peers.
    at(
        "public",
        "a peer that nobody knew",
        |w| w.public.client(elsewhere(&["mail.example.test"])),
        Admitted("mail.example.test"),
    ),
    at(
        "public",
        "our name from a public CA",
        |w| w.public.client(good),
        refused("name_not_allowed_for_ca", ACCESS_DENIED, "CN=Public Root isn't one of its CAs"),
    ),
    at(
        "public",
        "our name beside another from a public CA",
        |w| w.public.client(elsewhere(&["mail.example.test", "fe02.contoso.test"])),
        refused("name_not_allowed_for_ca", ACCESS_DENIED, "CN=Public Root isn't one of its CAs"),
    ),
    at(
        "public",
        "our common name beside another's name from a public CA",
        |w| w.public.client(dns(&["mail.example.test"])),
        refused("name_not_allowed_for_ca", ACCESS_DENIED, "CN=Public Root isn't one of its CAs"),
    ),
    at(
        "public",
        "a SPIFFE ID from a public CA",
        |w| {
            w.public.client(|client| {
                elsewhere(&[])(client);
                uris(&["spiffe://example.test/x"])(client);
            })
        },
        refused("name_not_listed", ACCESS_DENIED, "spiffe://example.test/x is listed in no"),
    ),
    at(
        "public",
        "our name from an intermediate CA of a public CA",
        |w| via(&w.public.below("Public Issuing", good)),
        refused("name_not_allowed_for_ca", ACCESS_DENIED, "CN=Public Root isn't one of its CAs"),
    ),
];

/// With these DNS names alone, and another common name than that of a client of ours.
fn elsewhere(names: &[&str]) -> impl FnOnce(&mut CertificateParams) + use<> {
    let names = dns(names);
    |params| {
        common_name("elsewhere.example.test")(params);
        names(params);
    }
}
