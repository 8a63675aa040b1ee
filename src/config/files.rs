//! The files that a configuration names: CA certificates, own chains, private keys.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::Arc,
};

use rustls::sign::SigningKey;
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};
use x509_parser::{
    oid_registry::{OID_EC_P256, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_SIG_ED25519},
    prelude::{FromDer, GeneralName, SubjectPublicKeyInfo, X509Certificate},
    public_key::PublicKey,
};
use zeroize::{Zeroize, Zeroizing};

use super::crl_files::{self, CrlFile, CrlFileError, Crls, Folder, Parsed};
use crate::{
    crypto::provider::signing_key,
    revocation::{CrlError, parse_all},
};

/// The largest file that is read, in bytes. The CA bundles of operating systems have 0.2 MB.
const FILE_LEN_MAX: u64 = 4 << 20;

/// Where the files come from, so that the loader can be tested and fuzzed without a disk.
pub trait Files {
    /// Reads a whole file; at most some megabytes are to be expected.
    ///
    /// # Errors
    /// Whatever the system says; also if the file isn't a regular one.
    fn read(&self, path: &Path) -> io::Result<FileData>;

    /// Reads a whole file of CRLs, at most [`CRL_FILE_LEN_MAX`](super::CRL_FILE_LEN_MAX) bytes.
    ///
    /// # Errors
    /// If it can't be read, or isn't a CRL that can be used.
    fn crls(&self, path: &Path) -> Result<CrlFile, CrlFileError> {
        Ok(CrlFile { stamp: None, crls: parse_all(&self.read(path)?.bytes)?.into() })
    }

    /// What the folder at `path` has; `None` if there is something else.
    ///
    /// # Errors
    /// Whatever the system says, also if nothing is there.
    fn folder(&self, path: &Path) -> io::Result<Option<Folder>> {
        let _ = path;
        Ok(None)
    }
}

/// What a file holds, and who may read it.
pub struct FileData {
    /// The bytes, overwritten when they are no longer needed: it may be a private key.
    pub bytes: Zeroizing<Vec<u8>>,
    /// The permission bits, as `chmod` takes them.
    pub mode: u32,
}

impl fmt::Debug for FileData {
    /// Without the content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = format_args!("{:04o}", self.mode);
        f.debug_struct("FileData").field("mode", &mode).finish_non_exhaustive()
    }
}

/// The file system of this host. It knows the CRLs that it has parsed and that are still in use;
/// its clones share that.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    parsed: Arc<Parsed>,
}

impl Disk {
    /// The CRLs of a file's content that came another way: parsed, unless they are in use.
    ///
    /// # Errors
    /// If `bytes` aren't CRLs that can be used.
    pub fn parse_crls(&self, bytes: &[u8]) -> Result<Crls, CrlError> {
        self.parsed.parse(bytes)
    }
}

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<FileData> {
        // A FIFO in the place of a file must not make the start wait for a writer.
        let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it isn't a regular file"));
        }
        // Room for the whole file from the start: growing would leave a copy of a key behind.
        let room = usize::try_from(metadata.size().min(FILE_LEN_MAX)).unwrap_or_default() + 64;
        let mut bytes = Zeroizing::new(Vec::with_capacity(room));
        file.take(FILE_LEN_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > FILE_LEN_MAX {
            return Err(io::Error::other(format!("it has more than {FILE_LEN_MAX} bytes")));
        }
        Ok(FileData { bytes, mode: metadata.permissions().mode() & 0o7777 })
    }

    fn crls(&self, path: &Path) -> Result<CrlFile, CrlFileError> {
        crl_files::read(path, &self.parsed)
    }

    fn folder(&self, path: &Path) -> io::Result<Option<Folder>> {
        crl_files::read_folder(path)
    }
}

/// What the loader needs to know of a certificate.
#[derive(Debug)]
pub(super) struct CertificateFacts {
    /// The subject as RFC 4514 writes it, or nearly so; for messages.
    pub(super) subject: String,
    /// DER of the subject, and of the issuer.
    pub(super) subject_der: Vec<u8>,
    pub(super) issuer_der: Vec<u8>,
    /// DER of the SubjectPublicKeyInfo.
    pub(super) spki: Vec<u8>,
    pub(super) key: KeyFacts,
    /// notBefore and notAfter, seconds since 1970.
    pub(super) not_before: i64,
    pub(super) not_after: i64,
    /// DNS names of the SAN extension, lower case.
    pub(super) dns_names: Vec<String>,
    /// basicConstraints says cA (RFC 5280 §4.2.1.9).
    pub(super) is_ca: bool,
    /// keyUsage is absent or has keyCertSign (RFC 5280 §4.2.1.3).
    pub(super) may_sign_certificates: bool,
    /// extendedKeyUsage is absent or has serverAuth or any (RFC 5280 §4.2.1.12).
    pub(super) may_be_server: bool,
}

/// How long a public key is, in bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyFacts {
    Rsa(u16),
    /// P-256, P-384 or P-521; Ed25519 counts as 256.
    Ec(u16),
    /// Of a kind whose length isn't asked about.
    Other,
}

impl KeyFacts {
    fn of(key: &SubjectPublicKeyInfo<'_>) -> Self {
        let curve = || key.algorithm.parameters.as_ref()?.as_oid().ok();
        match key.parsed() {
            Ok(PublicKey::RSA(rsa)) => Self::Rsa(bits(rsa.modulus)),
            Ok(PublicKey::EC(_)) => match curve() {
                Some(curve) if curve == OID_EC_P256 => Self::Ec(256),
                Some(curve) if curve == OID_NIST_EC_P384 => Self::Ec(384),
                Some(curve) if curve == OID_NIST_EC_P521 => Self::Ec(521),
                _ => Self::Other,
            },
            _ if key.algorithm.algorithm == OID_SIG_ED25519 => Self::Ec(256),
            _ => Self::Other,
        }
    }
}

/// Bits of an unsigned big-endian integer.
fn bits(integer: &[u8]) -> u16 {
    let significant = integer.iter().skip_while(|byte| **byte == 0).count();
    let first = integer.iter().find(|byte| **byte != 0);
    let unused = first.map_or(0, |byte| byte.leading_zeros() as usize);
    u16::try_from(significant * 8 - unused).unwrap_or(u16::MAX)
}

impl CertificateFacts {
    /// Parses a certificate; the error says what is wrong with it.
    pub(super) fn parse(der: &CertificateDer<'_>) -> Result<Self, String> {
        let malformed = |error: &dyn fmt::Display| format!("is not valid X.509: {error}");
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|error| malformed(&error))?;
        if !rest.is_empty() {
            return Err(malformed(&"bytes follow the certificate"));
        }
        // No extension may be there twice (RFC 5280 §4.2): which one would count?
        certificate.extensions_map().map_err(|error| malformed(&error))?;
        let constraints = certificate.basic_constraints().map_err(|error| malformed(&error))?;
        let usage = certificate.key_usage().map_err(|error| malformed(&error))?;
        let extended = certificate.extended_key_usage().map_err(|error| malformed(&error))?;
        let san = certificate.subject_alternative_name().map_err(|error| malformed(&error))?;
        let general_names = san.map_or(&[][..], |san| san.value.general_names.as_slice());
        let dns_names = general_names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        });
        Ok(Self {
            subject: certificate.subject().to_string().escape_debug().to_string(),
            subject_der: certificate.subject().as_raw().to_vec(),
            issuer_der: certificate.issuer().as_raw().to_vec(),
            spki: certificate.public_key().raw.to_vec(),
            key: KeyFacts::of(certificate.public_key()),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
            dns_names: dns_names.collect(),
            is_ca: constraints.is_some_and(|constraints| constraints.value.ca),
            may_sign_certificates: usage.is_none_or(|usage| usage.value.key_cert_sign()),
            may_be_server: extended
                .is_none_or(|extended| extended.value.server_auth || extended.value.any),
        })
    }
}

/// The certificates of a file, PEM (one or more) or DER (one), in its order; never empty.
pub(super) fn certificates(data: &FileData) -> Result<Vec<CertificateDer<'static>>, String> {
    // A DER certificate is a SEQUENCE of more than 127 bytes (X.690 §8.1.3.5).
    if data.bytes.starts_with(&[0x30, 0x82]) || data.bytes.starts_with(&[0x30, 0x81]) {
        return Ok(vec![CertificateDer::from(data.bytes.to_vec())]);
    }
    let labels = pem_labels(&data.bytes);
    for label in &labels {
        match label.as_str() {
            "CERTIFICATE" => {}
            // A file with chain and key together is common for own certificates.
            "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY" | "EC PARAMETERS" => {}
            _ => return Err(format!("holds a PEM section {label:?}; it takes CERTIFICATE")),
        }
    }
    let sections = labels.iter().filter(|label| *label == "CERTIFICATE").count();
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&data.bytes).collect();
    let certificates =
        certificates.map_err(|error| format!("is not valid PEM: {}", pem_error(&error)))?;
    // A decoder that passes over what it can't read would leave out a certificate silently.
    if certificates.len() != sections || has_stray_begin(data) {
        return Err("is not valid PEM: a section doesn't start or end as RFC 7468 says".to_owned());
    }
    if certificates.is_empty() {
        return Err("holds no certificate; it takes PEM or DER".to_owned());
    }
    Ok(certificates)
}

/// Whether a file holds a private key in PEM.
pub(super) fn holds_private_key(data: &FileData) -> bool {
    pem_labels(&data.bytes).iter().any(|label| label.ends_with("PRIVATE KEY"))
}

/// The one private key of a PEM file (PKCS #8, PKCS #1 or SEC 1).
///
/// The DER form is overwritten; what aws-lc keeps it overwrites itself. The PEM decoder's
/// base64 scratch is out of reach.
pub(super) fn private_key(data: &FileData) -> Result<Arc<dyn SigningKey>, String> {
    const PLAIN: &str = "it takes one unencrypted PEM private key (PKCS #8, PKCS #1 or SEC 1)";
    let labels = pem_labels(&data.bytes);
    let keys = labels.iter().filter(|label| label.ends_with("PRIVATE KEY")).count();
    if keys != 1 {
        return Err(format!("holds {keys} private keys; {PLAIN}"));
    }
    if labels.iter().any(|label| label == "ENCRYPTED PRIVATE KEY") || has_legacy_encryption(data) {
        return Err(format!("holds an encrypted private key; {PLAIN}"));
    }
    let mut der = PrivateKeyDer::from_pem_slice(&data.bytes).map_err(|error| {
        format!("holds no readable private key: {}; {PLAIN}", pem_error(&error))
    })?;
    let key = signing_key(&der);
    der.zeroize();
    key.map_err(|_| {
        "holds a private key that can't be used; it takes RSA (2048 to 8192 bits), \
         ECDSA (P-256, P-384, P-521) or Ed25519"
            .to_owned()
    })
}

/// RFC 1421 encryption: a header line within the section.
fn has_legacy_encryption(data: &FileData) -> bool {
    lines(&data.bytes).any(|line| line.starts_with(b"Proc-Type:") && line.ends_with(b"ENCRYPTED"))
}

/// A BEGIN line that isn't one: indented, behind a byte order mark, or without its end.
fn has_stray_begin(data: &FileData) -> bool {
    const BEGIN: &[u8] = b"-----BEGIN ";
    lines(&data.bytes).any(|line| {
        let well_formed = line.starts_with(BEGIN) && line.ends_with(b"-----");
        !well_formed && line.windows(BEGIN.len()).any(|window| window == BEGIN)
    })
}

/// The labels of the sections of a PEM file (RFC 7468 §2), in its order.
fn pem_labels(bytes: &[u8]) -> Vec<String> {
    let label = |line: &[u8]| -> Option<String> {
        let label = line.strip_prefix(b"-----BEGIN ")?.strip_suffix(b"-----")?;
        Some(String::from_utf8_lossy(label).into_owned())
    };
    lines(bytes).filter_map(label).collect()
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| matches!(byte, b'\n' | b'\r')).map(<[u8]>::trim_ascii_end)
}

/// What is wrong with a PEM file, without its content: it may be a key.
fn pem_error(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no END line",
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line is malformed",
        pem::Error::Base64Decode(_) => "the base64 is malformed",
        pem::Error::NoItemsFound => "no section of the kind that is needed",
        _ => "it can't be decoded",
    }
}
