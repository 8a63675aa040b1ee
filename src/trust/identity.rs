//! Who a certificate says it is for.

use aws_lc_rs::digest;
use data_encoding::HEXUPPER;
use rustls_pki_types::CertificateDer;

use super::{KeyAlgorithm, MalformedCertificate, certificate::Certificate, dn};
use crate::name::{DnsName, PeerName};

/// Common names that one subject may have. Real ones have one.
const MAX_COMMON_NAMES: usize = 16;

/// Who a certificate says it is for, as text that is safe to log and to pass on.
///
/// It lives as long as the connection, so its text is one allocation. By itself it proves
/// nothing: the one in a [`Permit`](super::Permit) is proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Subject, issuer, serial number and common name, one after the other.
    text: Box<str>,
    /// Where the first three of them end.
    ends: [u16; 3],
    key_algorithm: KeyAlgorithm,
    signature_algorithm: &'static str,
    names: Box<[PeerName]>,
    /// Those common names of the subject that could pass for a name.
    common_names: Box<[PeerName]>,
    /// Whether the only one of them is the only common name, and a DNS name.
    common_name_counts: bool,
    fingerprint: [u8; 32],
}

impl Identity {
    /// Reads a certificate.
    ///
    /// # Errors
    /// Says what is malformed: the encoding, an extension, or a single name.
    pub fn from_der(der: &CertificateDer<'_>) -> Result<Self, MalformedCertificate> {
        Self::of(&Certificate::parse(der)?)
    }

    pub(super) fn of(certificate: &Certificate<'_>) -> Result<Self, MalformedCertificate> {
        let names = certificate.names()?;
        let common_names = certificate.common_names();
        if common_names.len() > MAX_COMMON_NAMES {
            let why = format!("it has more than {MAX_COMMON_NAMES} common names");
            return Err(MalformedCertificate(why));
        }
        // Two common names are two answers to the question who this is: then none counts.
        let common_name_counts =
            matches!(&*common_names, [Some(only)] if DnsName::parse(only).is_ok());
        let mut text = String::new();
        let mut end_of = |part: &str| {
            text.push_str(part);
            u16::try_from(text.len())
                .map_err(|_| MalformedCertificate("its names are too long".to_owned()))
        };
        let ends = [
            end_of(&certificate.subject())?,
            end_of(&certificate.issuer())?,
            end_of(&hex(certificate.serial()))?,
        ];
        // The most specific one comes last in the encoding.
        if let Some(Some(common_name)) = common_names.last() {
            end_of(&dn::printable(common_name))?;
        }
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest::digest(&digest::SHA256, certificate.der()).as_ref());
        Ok(Self {
            text: text.into(),
            ends,
            key_algorithm: certificate.key,
            signature_algorithm: certificate.signature_algorithm(),
            names: names.into(),
            common_names: common_names.iter().flatten().filter_map(|it| as_name(it)).collect(),
            common_name_counts,
            fingerprint,
        })
    }

    /// The subject, most specific part first, after RFC 4514. Control characters are escaped; it
    /// has at most 512 bytes and then ends in an ellipsis. May be empty.
    pub fn subject(&self) -> &str {
        self.part(0)
    }

    /// The issuer, in the form of [`subject`](Self::subject).
    pub fn issuer(&self) -> &str {
        self.part(1)
    }

    /// The serial number in upper-case hexadecimal digits, two an octet, without leading zero
    /// octets.
    pub fn serial(&self) -> &str {
        self.part(2)
    }

    /// The most specific commonName of the subject, control characters escaped, at most 512
    /// bytes; `None` if there is none, or none that is text.
    pub fn common_name(&self) -> Option<&str> {
        Some(self.part(3)).filter(|name| !name.is_empty())
    }

    /// The DNS, URI and IP names of the subjectAltName, in its order.
    pub fn names(&self) -> &[PeerName] {
        &self.names
    }

    /// What kind of key the certificate is for; displayed like `RSA2048` or `EC256`.
    pub fn key_algorithm(&self) -> KeyAlgorithm {
        self.key_algorithm
    }

    /// What the issuer signed the certificate with: `SHA256`, `SHA384`, `SHA512`, or the
    /// algorithm where it hashes by itself, as `ED25519` does; else `unsupported`.
    pub fn signature_algorithm(&self) -> &'static str {
        self.signature_algorithm
    }

    /// SHA-256 of the certificate in DER.
    pub fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }

    /// Whatever could pass for a name of the certificate's holder: its names, and its common names
    /// even where they don't count, since backends are told of them.
    pub(super) fn all_names(&self) -> impl Iterator<Item = &PeerName> {
        self.names.iter().chain(&self.common_names)
    }

    /// The common name, if there is exactly one and it is a DNS name.
    pub(super) fn common_name_as_dns(&self) -> Option<&DnsName> {
        match &*self.common_names {
            [PeerName::Dns(only)] if self.common_name_counts => Some(only),
            _ => None,
        }
    }

    fn part(&self, index: usize) -> &str {
        let start = index.checked_sub(1).map_or(0, |before| usize::from(self.ends[before]));
        let end = self.ends.get(index).map_or(self.text.len(), |&end| usize::from(end));
        &self.text[start..end]
    }
}

/// What whoever compares common names could take this one for; a dot at its end is no difference.
fn as_name(common_name: &str) -> Option<PeerName> {
    let text = common_name.strip_suffix('.').unwrap_or(common_name);
    let address = || text.parse().ok().map(PeerName::Ip);
    let dns = || PeerName::from_dns_san(text.as_bytes()).ok();
    address().or_else(dns).or_else(|| PeerName::from_uri_san(text.as_bytes()).ok())
}

/// A serial number in upper-case hexadecimal digits, without leading zero octets.
pub(super) fn hex(serial: &[u8]) -> String {
    let start = serial.iter().position(|&byte| byte != 0).unwrap_or(serial.len());
    match &serial[start..] {
        [] => "00".to_owned(),
        significant => HEXUPPER.encode(significant),
    }
}
