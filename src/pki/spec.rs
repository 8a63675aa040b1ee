//! What a certificate shall say.

use std::{net::IpAddr, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, CrlDistributionPoint, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyUsagePurpose, NameConstraints,
    SanType, SerialNumber, string::Ia5String,
};
use time::OffsetDateTime;

use super::{KeyType, PkiError};

/// How long before now a certificate of [`Validity::from_now`] starts, so that hosts whose clocks
/// lag take it too.
pub const CLOCK_SKEW: Duration = Duration::from_secs(60 * 60);

/// Octets of a serial number, at most (RFC 5280 §4.1.2.2).
pub(super) const MAX_SERIAL_BYTES: usize = 20;

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

    /// In order, and in years that a certificate and a CRL can carry.
    pub(super) fn check(self) -> Result<(), PkiError> {
        let Self { not_before, not_after } = self;
        let years = 1950..=9999;
        if not_before > not_after
            || !years.contains(&not_before.year())
            || !years.contains(&not_after.year())
        {
            return Err(PkiError::Validity { not_before, not_after });
        }
        Ok(())
    }
}

/// What a certificate shall say. Nothing of it is checked before it is issued.
#[derive(Debug, Clone)]
pub struct Spec {
    common_name: String,
    validity: Validity,
    pub(super) key_type: KeyType,
    serial: Option<Vec<u8>>,
    dns: Vec<String>,
    uris: Vec<String>,
    ips: Vec<IpAddr>,
    usages: Vec<ExtendedKeyUsagePurpose>,
    pub(super) max_intermediates: Option<u8>,
    permitted: Vec<GeneralSubtree>,
    excluded: Vec<GeneralSubtree>,
    crl_urls: Vec<String>,
}

impl Spec {
    /// A certificate with this common name as its subject, a P-256 key, a random serial number, no
    /// subject alternative names and no extended key usage.
    pub fn new(common_name: impl Into<String>, validity: Validity) -> Self {
        Self {
            common_name: common_name.into(),
            validity,
            key_type: KeyType::default(),
            serial: None,
            dns: Vec::new(),
            uris: Vec::new(),
            ips: Vec::new(),
            usages: Vec::new(),
            max_intermediates: None,
            permitted: Vec::new(),
            excluded: Vec::new(),
            crl_urls: Vec::new(),
        }
    }

    /// With a key of this type.
    #[must_use]
    pub fn key_type(mut self, key_type: KeyType) -> Self {
        self.key_type = key_type;
        self
    }

    /// With this serial number, big-endian, 1 to 20 octets, instead of a random one. That no two
    /// certificates of a CA share one is up to the caller.
    #[must_use]
    pub fn serial(mut self, octets: impl Into<Vec<u8>>) -> Self {
        self.serial = Some(octets.into());
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

    /// With the extended key usage of this object identifier, such as 1.3.6.1.5.5.7.3.3 for
    /// `codeSigning` (RFC 5280 §4.2.1.12).
    #[must_use]
    pub fn usage(mut self, object_identifier: &[u64]) -> Self {
        self.usages.push(ExtendedKeyUsagePurpose::Other(object_identifier.to_vec()));
        self
    }

    /// For a CA: how many CAs may follow it in a path; unlimited if not said.
    #[must_use]
    pub fn max_intermediates(mut self, count: u8) -> Self {
        self.max_intermediates = Some(count);
        self
    }

    /// For a CA: with a DNS name more that what it issues may carry, itself and all below it. Once
    /// there is one, no other DNS names may be (RFC 5280 §4.2.1.10).
    #[must_use]
    pub fn permit_dns(mut self, name: impl Into<String>) -> Self {
        self.permitted.push(GeneralSubtree::DnsName(name.into()));
        self
    }

    /// For a CA: with a DNS name more that nothing it issues may carry, nor any name below it.
    #[must_use]
    pub fn exclude_dns(mut self, name: impl Into<String>) -> Self {
        self.excluded.push(GeneralSubtree::DnsName(name.into()));
        self
    }

    /// For a CA: with addresses more that what it issues may carry: those that share the first
    /// `prefix` bits with `address`. Once there are some, no other addresses may be.
    #[must_use]
    pub fn permit_ip(mut self, address: impl Into<IpAddr>, prefix: u8) -> Self {
        let subnet = CidrSubnet::from_addr_prefix(address.into(), prefix);
        self.permitted.push(GeneralSubtree::IpAddress(subnet));
        self
    }

    /// With a URL more where the issuer's CRL is (RFC 5280 §4.2.1.13).
    #[must_use]
    pub fn crl_url(mut self, url: impl Into<String>) -> Self {
        self.crl_urls.push(url.into());
        self
    }

    /// The common name of its subject.
    pub fn common_name(&self) -> &str {
        &self.common_name
    }

    /// When it is valid.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// Its subject alternative names as text: DNS names, URIs, addresses.
    pub fn names(&self) -> Vec<String> {
        let addresses = self.ips.iter().map(ToString::to_string);
        self.dns.iter().chain(&self.uris).cloned().chain(addresses).collect()
    }

    pub(super) fn params(&self, ca: bool) -> Result<CertificateParams, PkiError> {
        self.validity.check()?;
        let mut params = CertificateParams::default();
        params.not_before = self.validity.not_before;
        params.not_after = self.validity.not_after;
        params.serial_number = Some(match &self.serial {
            None => random_serial()?,
            Some(octets) => checked_serial(octets)?,
        });
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
        for url in &self.crl_urls {
            ia5(url)?;
            params.crl_distribution_points.push(CrlDistributionPoint { uris: vec![url.clone()] });
        }
        if ca {
            params.is_ca = IsCa::Ca(match self.max_intermediates {
                None => BasicConstraints::Unconstrained,
                Some(count) => BasicConstraints::Constrained(count),
            });
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            params.name_constraints = self.name_constraints()?;
        } else {
            params.is_ca = IsCa::ExplicitNoCa;
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        }
        Ok(params)
    }

    fn name_constraints(&self) -> Result<Option<NameConstraints>, PkiError> {
        for subtree in self.permitted.iter().chain(&self.excluded) {
            if let GeneralSubtree::DnsName(name) = subtree {
                ia5(name)?;
            }
        }
        let any = !self.permitted.is_empty() || !self.excluded.is_empty();
        Ok(any.then(|| NameConstraints {
            permitted_subtrees: self.permitted.clone(),
            excluded_subtrees: self.excluded.clone(),
        }))
    }
}

pub(super) fn ia5(name: &str) -> Result<Ia5String, PkiError> {
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

/// Greater than zero, and in its encoding, which needs a zero before a first bit that is set, no
/// longer than [`MAX_SERIAL_BYTES`].
pub(super) fn checked_serial(octets: &[u8]) -> Result<SerialNumber, PkiError> {
    let first = octets.iter().position(|&octet| octet != 0).ok_or(PkiError::Serial)?;
    let significant = &octets[first..];
    if significant.len() + usize::from(significant[0] >> 7) > MAX_SERIAL_BYTES {
        return Err(PkiError::Serial);
    }
    Ok(SerialNumber::from_slice(significant))
}
