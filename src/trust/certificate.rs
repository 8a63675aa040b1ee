//! What the decision needs to know of one certificate, read strictly.
//!
//! The signatures, name constraints and basic constraints are webpki's business; it doesn't hand
//! out what it parsed, so the same bytes are read here for the rest. Both readers must accept a
//! certificate: where they differ, it is refused.

use std::fmt;

use rustls_pki_types::UnixTime;
use x509_parser::{
    asn1_rs::{Oid, oid},
    certificate::{X509Certificate, X509CertificateParser},
    extensions::{
        BasicConstraints, CRLDistributionPoints, DistributionPointName, ExtendedKeyUsage,
        GeneralName, KeyUsage, SubjectAlternativeName,
    },
    nom::Parser as _,
    oid_registry,
    prelude::FromDer,
    public_key::PublicKey,
    signature_algorithm::RsaSsaPssParams,
    x509::{AlgorithmIdentifier, SubjectPublicKeyInfo},
};

use super::dn;
use crate::name::PeerName;

/// Names that one certificate may carry. Public CAs stop at 100 to 250; the cap bounds the work
/// of matching and the memory of a connection.
const MAX_NAMES: usize = 256;

/// Extensions of one certificate; real ones have about ten. Looking for repeated ones takes time
/// that grows with the square.
const MAX_EXTENSIONS: usize = 64;

/// Octets of a serial number; RFC 5280 §4.1.2.2 asks CAs for 20 at most, some don't care.
const MAX_SERIAL_BYTES: usize = 64;

/// Distribution points of one certificate that are kept; each takes memory while a client is
/// connected.
const MAX_DISTRIBUTION_POINTS: usize = 8;

/// Bytes of a distribution point's URI; longer ones are left out.
const MAX_URI_BYTES: usize = 512;

/// Shortest RSA key, for peers and CAs.
pub(super) const MIN_RSA_BITS: u16 = 2048;

/// Longest RSA key: checking a signature takes time that grows with its square.
pub(super) const MAX_RSA_BITS: u16 = 8192;

/// A certificate that can't be read, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MalformedCertificate(pub(super) String);

/// The kind of a certificate's public key. Displayed as PROXY protocol users know it: `RSA2048`,
/// `EC256`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyAlgorithm {
    /// RSA (PKCS #1), with the bits of its modulus.
    Rsa(u16),
    /// ECDSA on the NIST curve with so many bits: 256, 384 or 521.
    Ec(u16),
    /// Ed25519 (RFC 8410).
    Ed25519,
    /// ML-DSA (FIPS 204) with its parameter set: 44, 65 or 87.
    MlDsa(u16),
    /// Anything else; a peer with such a key is refused.
    Unsupported,
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(bits) => write!(f, "RSA{bits}"),
            Self::Ec(bits) => write!(f, "EC{bits}"),
            Self::Ed25519 => f.write_str("ED25519"),
            Self::MlDsa(parameter_set) => write!(f, "ML-DSA-{parameter_set}"),
            Self::Unsupported => f.write_str("unsupported"),
        }
    }
}

impl KeyAlgorithm {
    /// Whether it is RSA below [`MIN_RSA_BITS`].
    pub(super) fn is_weak(self) -> bool {
        matches!(self, Self::Rsa(bits) if bits < MIN_RSA_BITS)
    }

    /// Whether signatures by it can be verified.
    pub(super) fn is_supported(self) -> bool {
        !matches!(self, Self::Unsupported)
            && !matches!(self, Self::Rsa(bits) if bits > MAX_RSA_BITS)
    }
}

/// Which of the two TLS purposes certificates may serve (RFC 5280 §4.2.1.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Purposes {
    pub(super) client: bool,
    pub(super) server: bool,
}

/// One certificate.
#[derive(Debug)]
pub(super) struct Certificate<'a> {
    x509: X509Certificate<'a>,
    /// First second of its validity.
    pub(super) not_before: UnixTime,
    /// Last second of its validity.
    pub(super) not_after: UnixTime,
    pub(super) key: KeyAlgorithm,
    key_usage: Option<KeyUsage>,
    extended_key_usage: Option<ExtendedKeyUsage<'a>>,
    /// pathLenConstraint: how many CA certificates may follow.
    pub(super) path_length: Option<u32>,
    /// Whether it is a CA's by its basic constraints.
    pub(super) is_ca: bool,
    /// Whether it restricts the names of what it issues.
    pub(super) constrains_names: bool,
    alternative_names: Option<&'a [u8]>,
    /// Where its CA publishes CRLs, the URIs in its order.
    pub(super) distribution_points: Vec<&'a str>,
}

impl<'a> Certificate<'a> {
    pub(super) fn parse(der: &'a [u8]) -> Result<Self, MalformedCertificate> {
        let malformed = |what: &str| MalformedCertificate(what.to_owned());
        // Extensions are read below: only the needed ones, each at most once, none half.
        let (rest, x509) = X509CertificateParser::new()
            .with_deep_parse_extensions(false)
            .parse(der)
            .map_err(|_| malformed("it is no X.509 certificate in DER"))?;
        if !rest.is_empty() {
            return Err(malformed("it is followed by other bytes"));
        }
        if x509.raw_serial().len() > MAX_SERIAL_BYTES {
            return Err(malformed("its serial number is too long"));
        }
        if x509.extensions().len() > MAX_EXTENSIONS {
            return Err(malformed("it has too many extensions"));
        }
        let mut certificate = Self {
            not_before: unix_time(x509.validity().not_before.timestamp()),
            not_after: unix_time(x509.validity().not_after.timestamp()),
            key: key_algorithm(&x509.subject_pki),
            key_usage: None,
            extended_key_usage: None,
            path_length: None,
            is_ca: false,
            constrains_names: false,
            alternative_names: None,
            distribution_points: Vec::new(),
            x509,
        };
        let mut seen: Vec<Oid<'a>> = Vec::new();
        for extension in certificate.x509.extensions() {
            // RFC 5280 §4.2: at most one instance of an extension.
            if seen.contains(&extension.oid) {
                return Err(malformed("it has an extension twice"));
            }
            seen.push(extension.oid.clone());
            let value = extension.value;
            if extension.oid == oid_registry::OID_X509_EXT_KEY_USAGE {
                certificate.key_usage = Some(whole(KeyUsage::from_der(value), "key usage")?);
            } else if extension.oid == oid_registry::OID_X509_EXT_EXTENDED_KEY_USAGE {
                certificate.extended_key_usage =
                    Some(whole(ExtendedKeyUsage::from_der(value), "extended key usage")?);
            } else if extension.oid == oid_registry::OID_X509_EXT_BASIC_CONSTRAINTS {
                let constraints = whole(BasicConstraints::from_der(value), "basic constraints")?;
                certificate.path_length = constraints.path_len_constraint;
                certificate.is_ca = constraints.ca;
            } else if extension.oid == oid_registry::OID_X509_EXT_NAME_CONSTRAINTS {
                certificate.constrains_names = true;
            } else if extension.oid == oid_registry::OID_X509_EXT_SUBJECT_ALT_NAME {
                certificate.alternative_names = Some(value);
            } else if extension.oid == oid_registry::OID_X509_EXT_CRL_DISTRIBUTION_POINTS {
                let points = CRLDistributionPoints::from_der(value);
                certificate.distribution_points = uris(&whole(points, "CRL distribution points")?);
            }
        }
        Ok(certificate)
    }

    pub(super) fn der(&self) -> &'a [u8] {
        self.x509.as_raw()
    }

    /// The subject in DER, to be compared.
    pub(super) fn raw_subject(&self) -> &[u8] {
        self.x509.subject().as_raw()
    }

    /// The issuer in DER, to be compared.
    pub(super) fn raw_issuer(&self) -> &[u8] {
        self.x509.issuer().as_raw()
    }

    /// The SubjectPublicKeyInfo in DER.
    pub(super) fn raw_public_key(&self) -> &'a [u8] {
        self.x509.subject_pki.raw
    }

    /// Whether its key is a point of a curve in another form than the uncompressed one (SEC 1
    /// §2.3.3): the compressed one, or the hybrid one of X9.62.
    pub(super) fn has_compressed_point(&self) -> bool {
        const UNCOMPRESSED: u8 = 4;
        let point = &self.x509.subject_pki.subject_public_key.data;
        matches!(self.key, KeyAlgorithm::Ec(_)) && point.first() != Some(&UNCOMPRESSED)
    }

    /// The subject as text.
    pub(super) fn subject(&self) -> String {
        dn::to_text(self.x509.subject())
    }

    /// The issuer as text.
    pub(super) fn issuer(&self) -> String {
        dn::to_text(self.x509.issuer())
    }

    /// The commonName values of the subject; `None` for one that isn't text.
    pub(super) fn common_names(&self) -> Vec<Option<String>> {
        dn::common_names(self.x509.subject())
    }

    /// The serial number, big-endian.
    pub(super) fn serial(&self) -> &'a [u8] {
        self.x509.raw_serial()
    }

    /// The hash of the algorithm that the issuer signed with, or the algorithm where it has none
    /// of its own.
    pub(super) fn signature_algorithm(&self) -> &'static str {
        signature_algorithm(&self.x509.signature_algorithm)
    }

    /// Whether its key may sign handshakes (RFC 5280 §4.2.1.3).
    pub(super) fn may_sign(&self) -> bool {
        self.key_usage.as_ref().is_none_or(KeyUsage::digital_signature)
    }

    /// Whether its key may sign certificates (RFC 5280 §4.2.1.3).
    pub(super) fn may_issue(&self) -> bool {
        self.key_usage.as_ref().is_none_or(KeyUsage::key_cert_sign)
    }

    /// Whether its key may sign CRLs (RFC 5280 §4.2.1.3).
    pub(super) fn may_sign_crls(&self) -> bool {
        self.key_usage.as_ref().is_none_or(KeyUsage::crl_sign)
    }

    /// The TLS purposes of a peer's certificate. `anyExtendedKeyUsage` isn't one of them: it says
    /// that nobody thought about the purpose.
    pub(super) fn own_purposes(&self) -> Purposes {
        self.extended_key_usage.as_ref().map_or(Purposes { client: true, server: true }, |eku| {
            Purposes { client: eku.client_auth, server: eku.server_auth }
        })
    }

    /// The TLS purposes that a CA certificate passes on. For a CA, `anyExtendedKeyUsage` is no
    /// restriction.
    pub(super) fn issuing_purposes(&self) -> Purposes {
        self.extended_key_usage.as_ref().map_or(Purposes { client: true, server: true }, |eku| {
            Purposes { client: eku.any || eku.client_auth, server: eku.any || eku.server_auth }
        })
    }

    /// The DNS, URI and IP names of its subjectAltName, in its order; other kinds are ignored. A
    /// single bad one spoils the certificate: its issuer didn't check what it signed.
    pub(super) fn names(&self) -> Result<Vec<PeerName>, MalformedCertificate> {
        let Some(value) = self.alternative_names else { return Ok(Vec::new()) };
        let extension = whole(SubjectAlternativeName::from_der(value), "subjectAltName")?;
        if extension.general_names.len() > MAX_NAMES {
            return Err(MalformedCertificate(format!("it has more than {MAX_NAMES} names")));
        }
        let mut names = Vec::with_capacity(extension.general_names.len());
        let mut uris = 0;
        for name in &extension.general_names {
            let name = match name {
                GeneralName::DNSName(name) => PeerName::from_dns_san(name.as_bytes()),
                GeneralName::URI(name) => {
                    uris += 1;
                    PeerName::from_uri_san(name.as_bytes())
                }
                GeneralName::IPAddress(octets) => PeerName::from_ip_san(octets),
                GeneralName::Invalid(..) => Err("a subjectAltName can't be read".to_owned()),
                _ => continue,
            };
            names.push(name.map_err(MalformedCertificate)?);
        }
        // X509-SVID §2: exactly one URI, so that it can't speak for two workloads.
        let is_spiffe = |name: &PeerName| matches!(name, PeerName::Uri(uri) if uri.is_spiffe());
        if uris > 1 && names.iter().any(is_spiffe) {
            return Err(MalformedCertificate("it has a SPIFFE ID beside another URI".to_owned()));
        }
        Ok(names)
    }
}

fn whole<T, E>(parsed: Result<(&[u8], T), E>, extension: &str) -> Result<T, MalformedCertificate> {
    match parsed {
        Ok(([], value)) => Ok(value),
        _ => Err(MalformedCertificate(format!("its {extension} extension can't be read"))),
    }
}

/// The URIs of full names (RFC 5280 §4.2.1.13). Points of which another issuer signs the CRL, or
/// whose CRL has some reasons only, lead to nothing that is accepted.
fn uris<'a>(points: &CRLDistributionPoints<'a>) -> Vec<&'a str> {
    let own = points.iter().filter(|point| point.crl_issuer.is_none() && point.reasons.is_none());
    let names = own.filter_map(|point| match &point.distribution_point {
        Some(DistributionPointName::FullName(names)) => Some(names),
        _ => None,
    });
    let uris = names.flatten().filter_map(|name| match name {
        GeneralName::URI(uri) if uri.len() <= MAX_URI_BYTES => Some(*uri),
        _ => None,
    });
    uris.take(MAX_DISTRIBUTION_POINTS).collect()
}

fn unix_time(seconds: i64) -> UnixTime {
    // Before 1970 is the distant past for every comparison that is made.
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

fn key_algorithm(key: &SubjectPublicKeyInfo<'_>) -> KeyAlgorithm {
    let algorithm = &key.algorithm.algorithm;
    if *algorithm == oid_registry::OID_PKCS1_RSAENCRYPTION {
        match key.parsed() {
            Ok(PublicKey::RSA(rsa)) => KeyAlgorithm::Rsa(bits(rsa.modulus)),
            _ => KeyAlgorithm::Unsupported,
        }
    } else if *algorithm == oid_registry::OID_KEY_TYPE_EC_PUBLIC_KEY {
        let curve = key.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
        match curve {
            Some(curve) if curve == oid_registry::OID_EC_P256 => KeyAlgorithm::Ec(256),
            Some(curve) if curve == oid_registry::OID_NIST_EC_P384 => KeyAlgorithm::Ec(384),
            Some(curve) if curve == oid_registry::OID_NIST_EC_P521 => KeyAlgorithm::Ec(521),
            _ => KeyAlgorithm::Unsupported,
        }
    } else if *algorithm == oid_registry::OID_SIG_ED25519 {
        KeyAlgorithm::Ed25519
    } else {
        ml_dsa(algorithm).map_or(KeyAlgorithm::Unsupported, |(set, _)| KeyAlgorithm::MlDsa(set))
    }
}

/// Bits of an unsigned big-endian integer.
fn bits(integer: &[u8]) -> u16 {
    let start = integer.iter().position(|&byte| byte != 0).unwrap_or(integer.len());
    let significant = &integer[start..];
    let unused = significant.first().map_or(0, |byte| byte.leading_zeros() as usize);
    u16::try_from(significant.len() * 8 - unused).unwrap_or(u16::MAX)
}

/// FIPS 204 parameter set and name, by the object identifier of RFC 9881 §2.
fn ml_dsa(algorithm: &Oid<'_>) -> Option<(u16, &'static str)> {
    [
        (oid!(2.16.840.1.101.3.4.3.17), 44, "ML-DSA-44"),
        (oid!(2.16.840.1.101.3.4.3.18), 65, "ML-DSA-65"),
        (oid!(2.16.840.1.101.3.4.3.19), 87, "ML-DSA-87"),
    ]
    .into_iter()
    .find_map(|(known, set, name)| (known == *algorithm).then_some((set, name)))
}

fn signature_algorithm(identifier: &AlgorithmIdentifier<'_>) -> &'static str {
    let algorithm = &identifier.algorithm;
    let is_one_of = |oids: [&Oid<'_>; 2]| oids.contains(&algorithm);
    if is_one_of([&oid_registry::OID_PKCS1_SHA256WITHRSA, &oid_registry::OID_SIG_ECDSA_WITH_SHA256])
    {
        "SHA256"
    } else if is_one_of([
        &oid_registry::OID_PKCS1_SHA384WITHRSA,
        &oid_registry::OID_SIG_ECDSA_WITH_SHA384,
    ]) {
        "SHA384"
    } else if is_one_of([
        &oid_registry::OID_PKCS1_SHA512WITHRSA,
        &oid_registry::OID_SIG_ECDSA_WITH_SHA512,
    ]) {
        "SHA512"
    } else if *algorithm == oid_registry::OID_SIG_ED25519 {
        "ED25519"
    } else if *algorithm == oid_registry::OID_PKCS1_RSASSAPSS {
        pss_hash(identifier)
    } else {
        ml_dsa(algorithm).map_or("unsupported", |(_, name)| name)
    }
}

/// RFC 4055 §3.1
fn pss_hash(identifier: &AlgorithmIdentifier<'_>) -> &'static str {
    let parameters =
        identifier.parameters.as_ref().and_then(|any| RsaSsaPssParams::try_from(any).ok());
    match parameters.as_ref().map(RsaSsaPssParams::hash_algorithm_oid) {
        Some(hash) if *hash == oid_registry::OID_NIST_HASH_SHA256 => "SHA256",
        Some(hash) if *hash == oid_registry::OID_NIST_HASH_SHA384 => "SHA384",
        Some(hash) if *hash == oid_registry::OID_NIST_HASH_SHA512 => "SHA512",
        _ => "unsupported",
    }
}
