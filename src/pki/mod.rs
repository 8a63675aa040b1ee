//! A small certificate authority, for the demo and for tests: CAs, intermediates, and the
//! certificates of servers and clients, written as PEM files.
//!
//! It keeps no state and checks no policy: whoever holds an [`Authority`] may issue what it likes.
//! It is for throw-away trust, not a replacement for a real CA.

pub mod files;

use std::{net::IpAddr, path::Path, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, RsaKeySize, SanType, SerialNumber,
    string::Ia5String,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use files::FileError;

/// How long before now a certificate of [`Validity::from_now`] starts, so that hosts whose clocks
/// lag take it too.
pub const CLOCK_SKEW: Duration = Duration::from_secs(60 * 60);

/// Why a certificate wasn't made or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PkiError {
    /// A name that can't stand in a certificate.
    #[error("{name:?} can't stand in a certificate: use ASCII, A-labels for international names")]
    Name {
        /// The name.
        name: String,
    },
    /// A validity that ends before it starts, or a year that a certificate can't carry.
    #[error(
        "a validity from {not_before} to {not_after} is none: give years 1950 to 9999 in order"
    )]
    Validity {
        /// Its start.
        not_before: OffsetDateTime,
        /// Its end.
        not_after: OffsetDateTime,
    },
    /// A CA that may have no CA below it was asked to issue one (RFC 5280 §4.2.1.9).
    #[error("this CA's path length allows no CA below it")]
    PathLength,
    /// The operating system's source of randomness failed.
    #[error("no random number for a serial number")]
    Random,
    /// Key generation or signing failed.
    #[error("making a key or a signature failed: {0}")]
    Crypto(#[from] rcgen::Error),
    /// A file wasn't written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The type of a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KeyType {
    /// ECDSA over P-256, signing with SHA-256.
    #[default]
    P256,
    /// ECDSA over P-384, signing with SHA-384.
    P384,
    /// Ed25519
    Ed25519,
    /// RSA with 2048 bits, signing certificates by PKCS #1 v1.5 with SHA-256. Takes up to some
    /// seconds to generate, as does the next.
    Rsa2048,
    /// RSA with 3072 bits, otherwise as with 2048.
    Rsa3072,
}

impl KeyType {
    fn generate(self) -> Result<KeyPair, rcgen::Error> {
        match self {
            Self::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            Self::P384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
            Self::Ed25519 => KeyPair::generate_for(&rcgen::PKCS_ED25519),
            Self::Rsa2048 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048),
            Self::Rsa3072 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_3072),
        }
    }
}

/// When a certificate is valid, in whole seconds, both ends included (RFC 5280 §4.1.2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first moment.
    pub not_before: OffsetDateTime,
    /// The last moment.
    pub not_after: OffsetDateTime,
}

impl Validity {
    /// From [`CLOCK_SKEW`] before now until `length` after now.
    pub fn from_now(length: Duration) -> Self {
        let now = OffsetDateTime::now_utc();
        Self { not_before: now - CLOCK_SKEW, not_after: now + length }
    }
}

/// What a certificate shall say. Nothing of it is checked before it is issued.
#[derive(Debug, Clone)]
pub struct Spec {
    common_name: String,
    validity: Validity,
    key_type: KeyType,
    dns: Vec<String>,
    uris: Vec<String>,
    ips: Vec<IpAddr>,
    usages: Vec<ExtendedKeyUsagePurpose>,
    max_intermediates: Option<u8>,
}

impl Spec {
    /// A certificate with this common name as its subject, a P-256 key, no subject alternative
    /// names and no extended key usage.
    pub fn new(common_name: impl Into<String>, validity: Validity) -> Self {
        Self {
            common_name: common_name.into(),
            validity,
            key_type: KeyType::default(),
            dns: Vec::new(),
            uris: Vec::new(),
            ips: Vec::new(),
            usages: Vec::new(),
            max_intermediates: None,
        }
    }

    /// With a key of this type.
    #[must_use]
    pub fn key_type(mut self, key_type: KeyType) -> Self {
        self.key_type = key_type;
        self
    }

    /// With a DNS name more, exact or `*.x`.
    #[must_use]
    pub fn dns(mut self, name: impl Into<String>) -> Self {
        self.dns.push(name.into());
        self
    }

    /// With a URI more, such as a SPIFFE ID.
    #[must_use]
    pub fn uri(mut self, uri: impl Into<String>) -> Self {
        self.uris.push(uri.into());
        self
    }

    /// With an IP address more.
    #[must_use]
    pub fn ip(mut self, address: impl Into<IpAddr>) -> Self {
        self.ips.push(address.into());
        self
    }

    /// With the extended key usage `serverAuth`.
    #[must_use]
    pub fn server(mut self) -> Self {
        self.usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        self
    }

    /// With the extended key usage `clientAuth`.
    #[must_use]
    pub fn client(mut self) -> Self {
        self.usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        self
    }

    /// For a CA: how many CAs may follow it in a path; unlimited if not said.
    #[must_use]
    pub fn max_intermediates(mut self, count: u8) -> Self {
        self.max_intermediates = Some(count);
        self
    }

    fn params(&self, ca: bool) -> Result<CertificateParams, PkiError> {
        let Validity { not_before, not_after } = self.validity;
        let years = 1950..=9999;
        if not_before > not_after
            || !years.contains(&not_before.year())
            || !years.contains(&not_after.year())
        {
            return Err(PkiError::Validity { not_before, not_after });
        }
        let mut params = CertificateParams::default();
        params.not_before = not_before;
        params.not_after = not_after;
        params.serial_number = Some(random_serial()?);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, self.common_name.as_str());
        for name in &self.dns {
            params.subject_alt_names.push(SanType::DnsName(ia5(name)?));
        }
        for uri in &self.uris {
            params.subject_alt_names.push(SanType::URI(ia5(uri)?));
        }
        params.subject_alt_names.extend(self.ips.iter().copied().map(SanType::IpAddress));
        params.extended_key_usages.clone_from(&self.usages);
        params.use_authority_key_identifier_extension = true;
        if ca {
            params.is_ca = IsCa::Ca(match self.max_intermediates {
                None => BasicConstraints::Unconstrained,
                Some(count) => BasicConstraints::Constrained(count),
            });
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        } else {
            params.is_ca = IsCa::ExplicitNoCa;
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        }
        Ok(params)
    }
}

/// A CA with its key.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// This CA's certificate and those above it, without the root; empty for a root.
    chain: Vec<CertificateDer<'static>>,
    /// The same as PEM.
    chain_pem: String,
    /// How many CAs may still follow; `None`: any number.
    may_follow: Option<u8>,
}

impl Authority {
    /// Makes a root: a CA that signs itself.
    pub fn root(spec: &Spec) -> Result<Self, PkiError> {
        let key = spec.key_type.generate()?;
        let issuer = CertifiedIssuer::self_signed(spec.params(true)?, key)?;
        Ok(Self {
            issuer,
            chain: Vec::new(),
            chain_pem: String::new(),
            may_follow: spec.max_intermediates,
        })
    }

    /// Makes an intermediate CA below this one.
    ///
    /// # Errors
    /// Also [`PkiError::PathLength`] if this CA may have none below it.
    pub fn intermediate(&self, spec: &Spec) -> Result<Self, PkiError> {
        let may_follow = match (self.may_follow, spec.max_intermediates) {
            (Some(0), _) => return Err(PkiError::PathLength),
            (Some(above), Some(own)) => Some(own.min(above - 1)),
            (Some(above), None) => Some(above - 1),
            (None, own) => own,
        };
        let key = spec.key_type.generate()?;
        let issuer = CertifiedIssuer::signed_by(spec.params(true)?, key, &self.issuer)?;
        let chain = [std::slice::from_ref(issuer.der()), &self.chain].concat();
        let chain_pem = issuer.pem() + &self.chain_pem;
        Ok(Self { issuer, chain, chain_pem, may_follow })
    }

    /// Issues a certificate with a new key.
    pub fn issue(&self, spec: &Spec) -> Result<Identity, PkiError> {
        let key = spec.key_type.generate()?;
        let leaf = spec.params(false)?.signed_by(&key, &self.issuer)?;
        let chain = [std::slice::from_ref(leaf.der()), &self.chain].concat();
        Ok(Identity { chain, chain_pem: leaf.pem() + &self.chain_pem, key })
    }

    /// The CA's certificate.
    pub fn der(&self) -> &CertificateDer<'static> {
        self.issuer.der()
    }

    /// The CA's certificate, PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// The CA's private key, PKCS #8 PEM.
    pub fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.issuer.key().serialize_pem())
    }

    /// Writes the CA's certificate as a PEM file that everybody may read, replacing any.
    pub fn write_certificate(&self, file: &Path) -> Result<(), PkiError> {
        Ok(files::write_public(file, self.pem().as_bytes())?)
    }
}

/// A server's or client's certificate chain and key.
#[derive(Debug)]
pub struct Identity {
    /// Its own certificate, then the intermediates, the nearest first; no root.
    chain: Vec<CertificateDer<'static>>,
    /// The same as PEM.
    chain_pem: String,
    key: KeyPair,
}

impl Identity {
    /// The certificate, then the intermediates, the nearest first; no root.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The private key, PKCS #8.
    pub fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }

    /// The chain, PEM.
    pub fn chain_pem(&self) -> &str {
        &self.chain_pem
    }

    /// The private key, PKCS #8 PEM.
    pub fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.key.serialize_pem())
    }

    /// Writes the chain as a PEM file that everybody may read, and the key as one that its owner
    /// alone may read, replacing any. The key comes first, so that a chain that is there has its
    /// key.
    pub fn write(&self, chain_file: &Path, key_file: &Path) -> Result<(), PkiError> {
        files::write_secret(key_file, self.key_pem().as_bytes())?;
        Ok(files::write_public(chain_file, self.chain_pem().as_bytes())?)
    }
}

fn ia5(name: &str) -> Result<Ia5String, PkiError> {
    Ia5String::try_from(name).map_err(|_| PkiError::Name { name: name.to_owned() })
}

/// Positive, without leading zeros, 127 bits, 126 of them random (RFC 5280 §4.1.2.2 asks for at
/// most 20 octets).
fn random_serial() -> Result<SerialNumber, PkiError> {
    let mut serial = [0; 16];
    aws_lc_rs::rand::fill(&mut serial).map_err(|_| PkiError::Random)?;
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&serial))
}

#[cfg(test)]
mod tests;
