//! What clients show, and what becomes of them.

use rcgen::{
    ExtendedKeyUsagePurpose::{Any, CodeSigning, ServerAuth},
    IsCa, KeyUsagePurpose, SanType,
};
use rustls_pki_types::CertificateDer;

use super::world::{
    Ca, Shown, World, address, common_name, dns, filler, good, hours, key_usages, path_length,
    purposes, read, read_certificate, serial, unknown_extension, uris,
};

/// Alerts as the client sees them in TLS 1.3 and 1.2 (RFC 8446 §6.2).
type Alerts = [u8; 2];

const BAD_CERTIFICATE: Alerts = [42; 2];
const UNSUPPORTED_CERTIFICATE: Alerts = [43; 2];
const CERTIFICATE_EXPIRED: Alerts = [45; 2];
const CERTIFICATE_UNKNOWN: Alerts = [46; 2];
const UNKNOWN_CA: Alerts = [48; 2];
const ACCESS_DENIED: Alerts = [49; 2];
const DECRYPT_ERROR: Alerts = [51; 2];
/// certificate_required, for which handshake_failure stands in in TLS 1.2.
const CERTIFICATE_REQUIRED: Alerts = [116, 40];

/// What becomes of a client.
#[derive(Clone, Copy)]
pub enum Outcome {
    /// It is let in under this name.
    Admitted(&'static str),
    /// It is refused.
    Refused {
        /// The label of the metric and the word of the log.
        reason: &'static str,
        /// What the client is told.
        alerts: Alerts,
        /// A part of what the log says about it.
        detail: &'static str,
    },
    /// The handshake ends before there is anything to decide: it isn't TLS, and no alert says so.
    Ended,
}

use Outcome::{Admitted, Ended};

const fn refused(reason: &'static str, alerts: Alerts, detail: &'static str) -> Outcome {
    Outcome::Refused { reason, alerts, detail }
}

/// One client: what it is, the listener that it connects to, what it shows, what becomes of it.
pub struct Row {
    pub name: &'static str,
    pub listener: &'static str,
    pub show: fn(&World) -> Shown,
    pub outcome: Outcome,
}

/// A row for the listener of that name.
const fn at(
    listener: &'static str,
    name: &'static str,
    show: fn(&World) -> Shown,
    outcome: Outcome,
) -> Row {
    Row { name, listener, show, outcome }
}

/// A row for the listener `main`: trusts the root, asks for clientAuth.
const fn row(name: &'static str, show: fn(&World) -> Shown, outcome: Outcome) -> Row {
    at("main", name, show, outcome)
}

const FE01: Outcome = Admitted("fe01.contoso.test");

const RSA_1024: &str = "-algorithm RSA -pkeyopt rsa_keygen_bits:1024";
const RSA_2048: &str = "-algorithm RSA -pkeyopt rsa_keygen_bits:2048";
const RSA_3072: &str = "-algorithm RSA -pkeyopt rsa_keygen_bits:3072";
const RSA_4096: &str = "-algorithm RSA -pkeyopt rsa_keygen_bits:4096";
const P256: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256";
const P384: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-384";
const P521: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-521";
const ED25519: &str = "-algorithm ED25519";

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

/// Names, and who may vouch for them.
pub const NAMES: &[Row] = &[
    row(
        "a name that nobody lists",
        |w| w.root.client(dns(&["fe02.contoso.test"])),
        refused("name_not_listed", ACCESS_DENIED, "the nearest is fe01.contoso.test"),
    ),
    row("one name of several", |w| w.root.client(dns(&["x.test", "fe01.contoso.test"])), FE01),
    row("a name in capitals", |w| w.root.client(dns(&["FE01.Contoso.TEST"])), FE01),
    row(
        "a name that ends in a listed one",
        |w| w.root.client(dns(&["notfe01.contoso.test", "fe01.contoso.test.evil.test"])),
        refused("name_not_listed", ACCESS_DENIED, "is listed in no peer set"),
    ),
    row(
        "a certificate without names",
        |w| w.root.client(common_name("")),
        refused("name_not_listed", ACCESS_DENIED, "neither a subjectAltName"),
    ),
    row(
        "an e-mail address alone",
        |w| {
            w.root.client(|client| {
                let address = "fe01@contoso.test".try_into().unwrap();
                client.subject_alt_names = vec![SanType::Rfc822Name(address)];
            })
        },
        refused("name_not_listed", ACCESS_DENIED, "no subjectAltName"),
    ),
    row(
        "a malformed name beside a good one",
        |w| w.root.client(dns(&["fe01.contoso.test", "fe01..contoso.test"])),
        refused("malformed", BAD_CERTIFICATE, "the client's certificate is malformed"),
    ),
    row(
        "a name with a NUL",
        |w| w.root.client(dns(&["fe01.contoso.test\0.evil.test"])),
        refused("malformed", BAD_CERTIFICATE, "printable ASCII"),
    ),
    // Common names.
    row(
        "a common name alone",
        |w| w.root.client(common_name("fe01.contoso.test")),
        refused("name_not_listed", ACCESS_DENIED, "its common name fe01.contoso.test"),
    ),
    at(
        "named",
        "a common name alone where it counts",
        |w| w.root.client(common_name("fe01.contoso.test")),
        FE01,
    ),
    at(
        "named",
        "a common name beside other names",
        |w| w.root.client(dns(&["other.contoso.test"])),
        refused("name_not_listed", ACCESS_DENIED, "other.contoso.test is listed in no peer set"),
    ),
    // Wildcards.
    row(
        "a wildcard for a listed name",
        |w| w.root.client(dns(&["*.cell.contoso.test"])),
        refused("name_not_listed", ACCESS_DENIED, "*.cell.contoso.test is listed in no peer set"),
    ),
    row(
        "a name below a listed wildcard",
        |w| w.root.client(dns(&["a.b.pool.contoso.test"])),
        Admitted("a.b.pool.contoso.test"),
    ),
    row(
        "a wildcard within a listed wildcard",
        |w| w.root.client(dns(&["*.b.pool.contoso.test"])),
        Admitted("*.b.pool.contoso.test"),
    ),
    row(
        "the parent of a listed wildcard",
        |w| w.root.client(dns(&["pool.contoso.test"])),
        refused("name_not_listed", ACCESS_DENIED, "is listed in no peer set"),
    ),
    // Blocked names.
    row(
        "a blocked name",
        |w| w.root.client(dns(&["blocked.contoso.test"])),
        refused("blocked", ACCESS_DENIED, "blocked.contoso.test is blocked by"),
    ),
    row(
        "a blocked name beside a listed one",
        |w| w.root.client(dns(&["fe01.contoso.test", "blocked.contoso.test"])),
        refused("blocked", ACCESS_DENIED, "blocked.contoso.test is blocked by"),
    ),
    row(
        "a wildcard that could pass for a blocked name",
        |w| w.root.client(dns(&["*.contoso.test"])),
        refused("blocked", ACCESS_DENIED, "*.contoso.test is blocked by blocked.contoso.test"),
    ),
    row(
        "a blocked common name beside a listed name",
        |w| {
            w.root.client(|client| {
                common_name("blocked.contoso.test")(client);
                dns(&["fe01.contoso.test"])(client);
            })
        },
        refused("blocked", ACCESS_DENIED, "blocked.contoso.test is blocked by"),
    ),
    row(
        "a stranger's blocked name",
        |w| w.stranger.client(dns(&["blocked.contoso.test"])),
        refused("blocked", ACCESS_DENIED, "blocked.contoso.test is blocked by"),
    ),
    // Addresses and URIs.
    at(
        "kinds",
        "a listed address",
        |w| w.root.client(address([10, 1, 2, 3])),
        Admitted("10.1.2.3"),
    ),
    at(
        "kinds",
        "an address that nobody lists",
        |w| w.root.client(address([10, 1, 3, 3])),
        refused("name_not_listed", ACCESS_DENIED, "10.1.3.3 is listed in no peer set"),
    ),
    at(
        "kinds",
        "an address as a DNS name",
        |w| w.root.client(dns(&["10.1.2.3"])),
        refused("malformed", BAD_CERTIFICATE, "10.1.2.3"),
    ),
    at(
        "kinds",
        "a listed SPIFFE ID",
        |w| w.root.client(uris(&["spiffe://contoso.test/fe/1"])),
        Admitted("spiffe://contoso.test/fe/1"),
    ),
    at(
        "kinds",
        "a SPIFFE ID of another path",
        |w| w.root.client(uris(&["spiffe://contoso.test/be/1"])),
        refused("name_not_listed", ACCESS_DENIED, "spiffe://contoso.test/be/1 is listed in no"),
    ),
    at(
        "kinds",
        "a SPIFFE ID of another trust domain",
        |w| w.root.client(uris(&["spiffe://fabrikam.test/fe/1"])),
        refused("name_not_listed", ACCESS_DENIED, "spiffe://fabrikam.test/fe/1 is listed in no"),
    ),
    at(
        "kinds",
        "two SPIFFE IDs",
        |w| w.root.client(uris(&["spiffe://contoso.test/fe/1", "spiffe://contoso.test/fe/2"])),
        refused("malformed", BAD_CERTIFICATE, "a SPIFFE ID beside another URI"),
    ),
    // Two partners on one listener.
    row(
        "a partner",
        |w| w.fabrikam.client(dns(&["edge.fabrikam.test"])),
        Admitted("edge.fabrikam.test"),
    ),
    row(
        "our name from a partner's CA",
        |w| w.fabrikam.client(good),
        refused("name_not_allowed_for_ca", ACCESS_DENIED, "CN=Fabrikam Root isn't one of them"),
    ),
    row(
        "a partner's name from our CA",
        |w| w.root.client(dns(&["edge.fabrikam.test"])),
        refused("name_not_allowed_for_ca", ACCESS_DENIED, "for the CAs of trust.fabrikam"),
    ),
    // Name constraints.
    at("limited", "a name that its CA is permitted", |w| w.bound.client(good), FE01),
    at(
        "limited",
        "a name that its CA isn't permitted",
        |w| w.bound.client(dns(&["fe01.contoso.test", "fe01.fabrikam.test"])),
        refused("name_constraint", CERTIFICATE_UNKNOWN, "outside the name constraints"),
    ),
    at(
        "limited",
        "a name that its CA is excluded from",
        |w| w.bound.client(dns(&["fe01.contoso.test", "fe01.lab.contoso.test"])),
        refused("name_constraint", CERTIFICATE_UNKNOWN, "outside the name constraints"),
    ),
    at(
        "limited",
        "a common name from a CA with name constraints",
        |w| w.bound.client(common_name("fe01.contoso.test")),
        refused("name_constraint", CERTIFICATE_UNKNOWN, "fe01.contoso.test is a common name"),
    ),
];

/// A client of this intermediate CA, which it shows.
fn via(issuer: &Ca) -> Shown {
    through(&[issuer])
}

/// A client of the first of these CAs, all of which it shows.
fn through(issuers: &[&Ca]) -> Shown {
    issuers[0].client_above(&issuers.iter().map(|ca| &ca.der).collect::<Vec<_>>(), good)
}

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

impl World {
    /// A client of an intermediate CA with a short key.
    fn below_weak(&self) -> Shown {
        let arguments = "-sha256 -extfile ca.ext";
        let (weak, _) = self.openssl_issue(RSA_1024, "/CN=Weak", "ca", arguments);
        let by = weak.file_stem().unwrap().to_str().unwrap();
        let arguments = "-sha256 -extfile client.ext";
        let client = self.openssl_issue(P256, "/CN=fe01.contoso.test", by, arguments);
        let Shown::Chain(mut chain, key) = read(&client) else { unreachable!("it is a chain") };
        chain.push(read_certificate(&weak));
        Shown::Chain(chain, key)
    }
}
