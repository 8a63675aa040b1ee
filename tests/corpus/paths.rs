//! Certificates and paths, by what is wrong with them.

use rcgen::{
    ExtendedKeyUsagePurpose::{Any, CodeSigning, ServerAuth},
    IsCa, KeyUsagePurpose,
};
use rustls_pki_types::CertificateDer;

use super::{
    table::{
        BAD_CERTIFICATE, CERTIFICATE_EXPIRED, CERTIFICATE_REQUIRED, CERTIFICATE_UNKNOWN,
        DECRYPT_ERROR, FE01, Outcome::Ended, Row, UNKNOWN_CA, UNSUPPORTED_CERTIFICATE, at, refused,
        row,
    },
    world::{
        Ca, ED25519, P256, P256_COMPRESSED, P384, P384_COMPRESSED, P521, P521_COMPRESSED, RSA_1024,
        RSA_2048, RSA_3072, RSA_4096, Shown, World, filler, good, hours, key_usages, path_length,
        purposes, read, serial, through, unknown_extension, via,
    },
};

/// What the log says of a path without the purpose that its profile asks for.
const LACKS_CLIENT: &str = "lacks what trust.contoso asks for: clientAuth";

/// Certificates and paths, by what is wrong with them.
pub const PATHS: &[Row] = &[
    // Good ones.
    row("a client of the root", |w| w.root.client(good), FE01),
    row("a client of an intermediate CA", |w| via_issuing(w, &[&w.issuing.der]), FE01),
    // Validity.
    row(
        "an expired certificate",
        |w| w.root.client(hours(-48, -1)),
        refused("expired", CERTIFICATE_EXPIRED, "CN=fe01.contoso.test expired at 2"),
    ),
    row(
        "a certificate of tomorrow",
        |w| w.root.client(hours(24, 48)),
        refused("not_yet_valid", CERTIFICATE_EXPIRED, "CN=fe01.contoso.test isn't valid before 2"),
    ),
    row(
        "an expired intermediate CA",
        |w| via(&w.root.below("Old", hours(-48, -1))),
        refused("expired", CERTIFICATE_EXPIRED, "CN=Old expired at 2"),
    ),
    row(
        "an intermediate CA of tomorrow",
        |w| via(&w.root.below("Young", hours(24, 48))),
        refused("not_yet_valid", CERTIFICATE_EXPIRED, "CN=Young isn't valid before 2"),
    ),
    // Issuers.
    row(
        "no certificate",
        |_| Shown::Nothing,
        refused("no_certificate", CERTIFICATE_REQUIRED, "showed no certificate"),
    ),
    row(
        "a certificate of a strange CA",
        |w| w.stranger.client(good),
        refused("unknown_issuer", UNKNOWN_CA, "leads to the issuer CN=Stranger Root"),
    ),
    row(
        "a certificate of a strange CA with that CA's",
        |w| w.stranger.client_above(&[&w.stranger.der], good),
        refused("unknown_issuer", UNKNOWN_CA, "leads to the issuer CN=Stranger Root"),
    ),
    row(
        "a certificate by a namesake of the root",
        |w| w.namesake.client(good),
        refused("bad_signature", BAD_CERTIFICATE, "doesn't verify"),
    ),
    row(
        "a self-signed certificate",
        World::self_signed,
        refused("unknown_issuer", UNKNOWN_CA, "leads to the issuer CN=fe01.contoso.test"),
    ),
    row(
        "a certificate without its intermediate CA's",
        |w| via_issuing(w, &[]),
        refused("unknown_issuer", UNKNOWN_CA, "leads to the issuer CN=Contoso Issuing"),
    ),
    row(
        "a certificate with the intermediate CA of another",
        |w| via_issuing(w, &[&w.root.below("Other", good).der]),
        refused("unknown_issuer", UNKNOWN_CA, "leads to the issuer CN=Contoso Issuing"),
    ),
    row(
        "an issuer that is no CA",
        |w| via(&w.root.below("Peer", |ca| ca.is_ca = IsCa::ExplicitNoCa)),
        refused("wrong_key_usage", UNSUPPORTED_CERTIFICATE, "isn't a CA"),
    ),
    row(
        "an issuer without basic constraints",
        |w| via(&w.root.below("Plain", |ca| ca.is_ca = IsCa::NoCa)),
        refused("wrong_key_usage", UNSUPPORTED_CERTIFICATE, "isn't a CA"),
    ),
    row(
        "an intermediate CA that may sign CRLs alone",
        |w| via(&w.root.below("Lister", key_usages(vec![KeyUsagePurpose::CrlSign]))),
        refused("wrong_key_usage", UNSUPPORTED_CERTIFICATE, "CN=Lister doesn't allow it to sign"),
    ),
    row(
        "a changed certificate",
        |w| damaged(w.root.client(good), |der| *der.last_mut().unwrap() ^= 1),
        refused("bad_signature", BAD_CERTIFICATE, "doesn't verify"),
    ),
    row(
        "somebody else's certificate",
        |w| match (w.root.client(good), w.stranger.client(good)) {
            (Shown::Chain(victim, _), Shown::Chain(_, own)) => Shown::Chain(victim, own),
            _ => unreachable!("both are chains"),
        },
        refused("bad_signature", DECRYPT_ERROR, ""),
    ),
    // Purposes.
    row(
        "a certificate for servers, shown as a client",
        |w| w.root.client(purposes(vec![ServerAuth])),
        refused("wrong_key_usage", UNSUPPORTED_CERTIFICATE, LACKS_CLIENT),
    ),
    row(
        "a certificate for signing code",
        |w| w.root.client(purposes(vec![CodeSigning])),
        refused("wrong_key_usage", UNSUPPORTED_CERTIFICATE, LACKS_CLIENT),
    ),
    row(
        "a certificate for any purpose by name",
        |w| w.root.client(purposes(vec![Any])),
        refused("wrong_key_usage", UNSUPPORTED_CERTIFICATE, LACKS_CLIENT),
    ),
    row("a certificate without purposes", |w| w.root.client(purposes(vec![])), FE01),
    row(
        "an intermediate CA for servers",
        |w| via(&w.root.below("Servers", purposes(vec![ServerAuth]))),
        refused("wrong_key_usage", UNSUPPORTED_CERTIFICATE, LACKS_CLIENT),
    ),
    row(
        "an intermediate CA for any purpose by name",
        |w| via(&w.root.below("Any", purposes(vec![Any]))),
        FE01,
    ),
    at(
        "servers",
        "a certificate for clients, shown as a server",
        |w| w.root.client(good),
        refused("wrong_key_usage", UNSUPPORTED_CERTIFICATE, "trust.servers asks for: serverAuth"),
    ),
    at("servers", "a server", |w| w.root.client(purposes(vec![ServerAuth])), FE01),
    at("either", "a server among either", |w| w.root.client(purposes(vec![ServerAuth])), FE01),
    at("either", "a client among either", |w| w.root.client(good), FE01),
    at(
        "either",
        "neither client nor server",
        |w| w.root.client(purposes(vec![CodeSigning])),
        refused("wrong_key_usage", UNSUPPORTED_CERTIFICATE, "asks for: clientAuth or serverAuth"),
    ),
    row(
        "a key for encryption alone",
        |w| w.root.client(key_usages(vec![KeyUsagePurpose::KeyEncipherment])),
        refused("wrong_key_usage", UNSUPPORTED_CERTIFICATE, "digitalSignature"),
    ),
    row(
        "a CA as a client",
        |w| {
            w.root.client(|client| {
                path_length(0)(client);
                client.key_usages.push(KeyUsagePurpose::KeyCertSign);
            })
        },
        refused("wrong_key_usage", UNSUPPORTED_CERTIFICATE, "is that of a CA"),
    ),
    // Lengths.
    row(
        "a CA below one that allows none",
        |w| {
            let upper = w.root.below("Last", path_length(0));
            through(&[&upper.below("One more", good), &upper])
        },
        refused("chain_too_long", CERTIFICATE_UNKNOWN, "longer than a CA on it allows"),
    ),
    at(
        "limited",
        "a CA below a root that allows none",
        |w| via(&w.short.below("One more", good)),
        refused("chain_too_long", CERTIFICATE_UNKNOWN, "than its CA CN=Short Root allows"),
    ),
    at("limited", "a client of a root that allows no CA", |w| w.short.client(good), FE01),
    row("a chain as long as allowed", |w| long_chain(w, 4), FE01),
    row(
        "a chain longer than the profile allows",
        |w| long_chain(w, 5),
        refused("chain_too_long", CERTIFICATE_UNKNOWN, "has 5 intermediate certificates"),
    ),
    row(
        "more certificates than are looked at",
        |w| long_chain(w, 9),
        refused("chain_too_long", CERTIFICATE_UNKNOWN, "sent 9 intermediate certificates"),
    ),
    row("a chain of nearly 64 KiB", |w| huge_chain(w, 15_000), FE01),
    row("a chain that no message of TLS can carry", |w| huge_chain(w, 17_000), Ended),
    row(
        "three CAs of one name",
        |w| {
            let same: Vec<Ca> = (1..=3).map(|n| w.root.below("Same", serial(n))).collect();
            same[0].client_above(&same.iter().map(|ca| &ca.der).collect::<Vec<_>>(), good)
        },
        refused("chain_too_long", CERTIFICATE_UNKNOWN, "more than 2 intermediate certificates"),
    ),
    // Order.
    row(
        "an unordered chain",
        |w| {
            let upper = w.issuing.below("Upper", good);
            let lower = upper.below("Lower", good);
            lower.client_above(&[&w.issuing.der, &lower.der, &upper.der], good)
        },
        FE01,
    ),
    row(
        "a chain with everything twice",
        |w| match via_issuing(w, &[&w.issuing.der]) {
            Shown::Chain(chain, key) => Shown::Chain([chain.clone(), chain].concat(), key),
            other => other,
        },
        FE01,
    ),
    row("a chain with its root", |w| via_issuing(w, &[&w.issuing.der, &w.root.der]), FE01),
    row(
        "a CA that a stranger has certified as well",
        |w| cross_signed(w, |by_stranger, by_root| vec![by_stranger, by_root]),
        FE01,
    ),
    row(
        "a CA shown as the stranger has certified it alone",
        |w| cross_signed(w, |by_stranger, _| vec![by_stranger]),
        refused("unknown_issuer", UNKNOWN_CA, "leads to the issuer CN=Stranger Root"),
    ),
    // Keys and signatures.
    row("a P-384 key", |w| w.root.client_with(w.key(P384), &[], good), FE01),
    row("a P-521 key", |w| w.root.client_with(w.key(P521), &[], good), FE01),
    row(
        "a P-256 key whose point is compressed",
        |w| compressed(w, P256_COMPRESSED),
        refused("unsupported_algorithm", UNSUPPORTED_CERTIFICATE, "a compressed point"),
    ),
    row(
        "a P-384 key whose point is compressed",
        |w| compressed(w, P384_COMPRESSED),
        refused("unsupported_algorithm", UNSUPPORTED_CERTIFICATE, "a compressed point"),
    ),
    row(
        "a P-521 key whose point is compressed",
        |w| compressed(w, P521_COMPRESSED),
        refused("unsupported_algorithm", UNSUPPORTED_CERTIFICATE, "a compressed point"),
    ),
    row("an Ed25519 key", |w| w.root.client_with(w.key(ED25519), &[], good), FE01),
    row("an RSA key of 2048 bits", |w| w.root.client_with(w.key(RSA_2048), &[], good), FE01),
    row("an RSA key of 3072 bits", |w| w.root.client_with(w.key(RSA_3072), &[], good), FE01),
    row("an RSA key of 4096 bits", |w| w.root.client_with(w.key(RSA_4096), &[], good), FE01),
    row(
        "an RSA key of 1024 bits",
        |w| {
            let (certificate, key) = w.openssl_client(RSA_1024, "-sha256 -extfile client.ext");
            Shown::Files(certificate, key)
        },
        refused("weak_key", UNSUPPORTED_CERTIFICATE, "the client's key is RSA1024"),
    ),
    row(
        "an intermediate CA with an RSA key of 1024 bits",
        World::below_weak,
        refused("weak_key", UNSUPPORTED_CERTIFICATE, "CN=Weak has an RSA key that is too short"),
    ),
    row(
        "a signature with SHA-1",
        |w| read(&w.openssl_client(P256, "-sha1 -extfile client.ext")),
        refused("unsupported_algorithm", UNSUPPORTED_CERTIFICATE, "SHA-1"),
    ),
    // Form.
    row(
        "an unknown critical extension",
        |w| w.root.client(unknown_extension(true, 1)),
        refused("unknown_critical_extension", UNSUPPORTED_CERTIFICATE, "critical extension"),
    ),
    row(
        "an intermediate CA with an unknown critical extension",
        |w| via(&w.root.below("Odd", unknown_extension(true, 1))),
        refused("unknown_critical_extension", UNSUPPORTED_CERTIFICATE, "critical extension"),
    ),
    row("an unknown extension", |w| w.root.client(unknown_extension(false, 1)), FE01),
    row(
        "an extension twice",
        |w| w.root.client(unknown_extension(false, 2)),
        refused("malformed", BAD_CERTIFICATE, "an extension twice"),
    ),
    row(
        "a certificate that something follows",
        |w| damaged(w.root.client(good), |der| der.push(0)),
        refused("malformed", BAD_CERTIFICATE, "followed by other bytes"),
    ),
    row(
        "half a certificate",
        |w| damaged(w.root.client(good), |der| der.truncate(der.len() / 2)),
        refused("malformed", BAD_CERTIFICATE, "the client's certificate is malformed"),
    ),
    row(
        "an intermediate certificate that is none",
        |w| via_issuing(w, &[&CertificateDer::from(vec![0x30, 0])]),
        refused("malformed", BAD_CERTIFICATE, "the client's intermediate certificate"),
    ),
    row(
        "a certificate of version 1",
        |w| read(&w.openssl_client(P256, "-sha256")),
        refused("malformed", BAD_CERTIFICATE, "version 3"),
    ),
];

/// A client of the issuing CA, which shows these beside its own.
fn via_issuing(world: &World, above: &[&CertificateDer<'static>]) -> Shown {
    world.issuing.client_above(above, good)
}

/// A client below so many intermediate CAs.
fn long_chain(world: &World, count: usize) -> Shown {
    let mut issuers: Vec<Ca> = Vec::new();
    for number in 0..count {
        let above = issuers.last().unwrap_or(&world.root);
        issuers.push(above.below(&format!("Level {number}"), good));
    }
    through(&issuers.iter().rev().collect::<Vec<_>>())
}

/// A client of the issuing CA, which shows four other CAs of so many bytes as well.
fn huge_chain(world: &World, bytes: u16) -> Shown {
    let other = |number| world.root.below(&format!("Huge {number}"), filler(bytes));
    let others: Vec<Ca> = (0..4).map(other).collect();
    let above: Vec<_> = [&world.issuing].into_iter().chain(&others).map(|ca| &ca.der).collect();
    via_issuing(world, &above)
}

/// A client of a CA that both the stranger and the root have certified.
fn cross_signed(
    world: &World,
    above: fn(CertificateDer<'static>, CertificateDer<'static>) -> Vec<CertificateDer<'static>>,
) -> Shown {
    let crossed = world.stranger.below("Crossed", good);
    let above = above(crossed.der.clone(), world.root.cross_certify(&crossed));
    crossed.client_above(&above.iter().collect::<Vec<_>>(), good)
}

/// The same with another first certificate.
fn damaged(shown: Shown, damage: impl FnOnce(&mut Vec<u8>)) -> Shown {
    let Shown::Chain(mut chain, key) = shown else { return shown };
    let mut der = chain[0].to_vec();
    damage(&mut der);
    chain[0] = der.into();
    Shown::Chain(chain, key)
}

/// A client whose key openssl writes as a compressed point.
fn compressed(world: &World, key: &'static str) -> Shown {
    let (certificate, key) = world.openssl_client(key, "-sha256 -extfile client.ext");
    Shown::Files(certificate, key)
}
