//! `tls = { versions, cipher_suites, groups }` of a listener.

use rustls::{
    NamedGroup, ProtocolVersion, SupportedCipherSuite,
    crypto::{
        SupportedKxGroup,
        aws_lc_rs::{cipher_suite as suite, kx_group},
    },
};

use super::{
    OwnCertificate, TlsSettings, TlsVersion,
    errors::{Located, Place},
    reader::{Reader, one_of},
};

const VERSIONS: [(&str, TlsVersion); 2] = [("1.3", TlsVersion::V13), ("1.2", TlsVersion::V12)];

/// In the default order. The names are IANA's (RFC 8446 §B.4, RFC 5289, RFC 7905).
const SUITES: [(&str, SupportedCipherSuite); 9] = [
    ("TLS_AES_128_GCM_SHA256", suite::TLS13_AES_128_GCM_SHA256),
    ("TLS_AES_256_GCM_SHA384", suite::TLS13_AES_256_GCM_SHA384),
    ("TLS_CHACHA20_POLY1305_SHA256", suite::TLS13_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
];

/// In the default order. The names are IANA's (RFC 8446 §4.2.7).
static GROUPS: [(&str, &dyn SupportedKxGroup); 4] = [
    ("X25519MLKEM768", kx_group::X25519MLKEM768),
    ("X25519", kx_group::X25519),
    ("secp256r1", kx_group::SECP256R1),
    ("secp384r1", kx_group::SECP384R1),
];

/// Reads the settings; without a table they are the defaults. `certificates` are those of the
/// listener: a TLS 1.2 suite is tied to the kind of their keys.
pub(super) fn read(reader: Option<Reader<'_>>, certificates: &[OwnCertificate]) -> TlsSettings {
    let Some(mut reader) = reader else { return defaults() };
    let report = reader.report();
    let at = reader.at().clone();
    let versions =
        reader.some_parsed("versions", &accepted(&VERSIONS), |text| one_of(text, &VERSIONS));
    let suites =
        reader.some_parsed("cipher_suites", &accepted(&SUITES), |text| one_of(text, &SUITES));
    let groups = reader.some_parsed("groups", &accepted(&GROUPS), |text| one_of(text, &GROUPS));
    reader.finish();

    let versions = versions.map_or(defaults().versions, |versions| {
        versions.into_iter().map(|version| version.value).collect()
    });
    for suite in suites.iter().flatten() {
        if !versions.iter().any(|version| suits(suite.value, *version)) {
            let name = suite_name(suite.value);
            report.warn(&suite.at, format_args!("{name} is never used: its version is not on"));
        }
    }
    for version in &versions {
        let problem = missing_for(*version, suites.as_deref(), groups.as_deref(), certificates);
        if let Some((at, problem)) = problem.map(|(place, text)| (place.unwrap_or(&at), text)) {
            report.error(at, problem);
        }
    }
    let suites = suites.map_or(defaults().cipher_suites, |suites| {
        suites.into_iter().map(|suite| suite.value).collect()
    });
    TlsSettings {
        cipher_suites: suites
            .into_iter()
            .filter(|suite| versions.iter().any(|version| suits(*suite, *version)))
            .collect(),
        versions,
        groups: groups.map_or(defaults().groups, |groups| {
            groups.into_iter().map(|group| group.value).collect()
        }),
    }
}

/// What stands in the way of any handshake of `version`, and where it stands.
fn missing_for<'r>(
    version: TlsVersion,
    suites: Option<&'r [Located<SupportedCipherSuite>]>,
    groups: Option<&'r [Located<&'static dyn SupportedKxGroup>]>,
    certificates: &[OwnCertificate],
) -> Option<(Option<&'r Place>, String)> {
    let label = version_name(version);
    let at = suites.and_then(|suites| suites.first()).map(|suite| &suite.at);
    let known = match suites {
        Some(suites) => suites.iter().map(|suite| suite.value).collect(),
        None => defaults().cipher_suites,
    };
    // A list without a known word has been noted.
    if !known.is_empty() {
        let mut usable = known.into_iter().filter(|suite| suits(*suite, version)).peekable();
        if usable.peek().is_none() {
            let problem = "add one, or take the version out of versions";
            return Some((at, format!("has no cipher suite for TLS {label}; {problem}")));
        }
        let fits = |suite: SupportedCipherSuite| {
            certificates.iter().any(|certificate| {
                suite.usable_for_signature_algorithm(certificate.certified_key.key.algorithm())
            })
        };
        if !certificates.is_empty() && !usable.any(fits) {
            let problem = "add one (ECDSA or RSA), or take the version out of versions";
            return Some((
                at,
                format!("has no cipher suite of TLS {label} that fits a certificate; {problem}"),
            ));
        }
    }
    let protocol = match version {
        TlsVersion::V13 => ProtocolVersion::TLSv1_3,
        TlsVersion::V12 => ProtocolVersion::TLSv1_2,
    };
    let first = groups?.first()?;
    if groups?.iter().any(|group| group.value.usable_for_version(protocol)) {
        return None;
    }
    let problem = "add \"X25519\", or take the version out of versions";
    Some((Some(&first.at), format!("has no group for TLS {label}; {problem}")))
}

/// What a listener without `tls` gets.
pub(super) fn defaults() -> TlsSettings {
    TlsSettings {
        versions: VERSIONS.iter().map(|(_, version)| *version).collect(),
        cipher_suites: SUITES.iter().map(|(_, suite)| *suite).collect(),
        groups: GROUPS.iter().map(|(_, group)| *group).collect(),
    }
}

/// The IANA name of a suite of ours.
pub(super) fn suite_name(suite: SupportedCipherSuite) -> &'static str {
    SUITES.iter().find(|(_, known)| *known == suite).map_or("unknown", |(name, _)| name)
}

/// The IANA name of a group of ours.
pub(super) fn group_name(group: NamedGroup) -> &'static str {
    GROUPS.iter().find(|(_, known)| known.name() == group).map_or("unknown", |(name, _)| name)
}

/// `1.3` or `1.2`.
pub(super) fn version_name(version: TlsVersion) -> &'static str {
    match version {
        TlsVersion::V13 => "1.3",
        TlsVersion::V12 => "1.2",
    }
}

fn suits(suite: SupportedCipherSuite, version: TlsVersion) -> bool {
    match version {
        TlsVersion::V13 => suite.tls13().is_some(),
        TlsVersion::V12 => suite.tls13().is_none(),
    }
}

fn accepted<T>(words: &[(&'static str, T)]) -> String {
    let words: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
    format!("at least one of {}", words.join(", "))
}
