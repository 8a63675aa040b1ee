//! CAs, and what they sign.

use std::path::Path;

use rcgen::{CertificateParams, Issuer, KeyIdMethod, KeyPair, PublicKeyData, SerialNumber};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use x509_parser::prelude::{ParsedExtension, X509Certificate};
use zeroize::Zeroizing;

use super::{CrlSpec, PkiError, SignedCrl, Spec, files};

/// A CA with its key.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    pem: String,
    serial: Vec<u8>,
    /// What its certificates and CRLs call its key (RFC 5280 §4.2.1.1).
    key_id: KeyIdMethod,
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
        let params = spec.params(true)?;
        let key = spec.key_type.generate()?;
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            serial: serial(certificate.der())?,
            der: certificate.der().clone(),
            pem: certificate.pem(),
            key_id: params.key_identifier_method.clone(),
            issuer: Issuer::new(params, key),
            chain: Vec::new(),
            chain_pem: String::new(),
            may_follow: spec.max_intermediates,
        })
    }

    /// Makes an intermediate CA below this one. Its certificate says how many CAs may follow it,
    /// if this one's says so.
    ///
    /// # Errors
    /// Also [`PkiError::PathLength`] if this CA may have none below it.
    pub fn intermediate(&self, spec: &Spec) -> Result<Self, PkiError> {
        let may_follow = match (self.may_follow, spec.max_intermediates) {
            (Some(0), _) => return Err(PkiError::PathLength),
            (Some(above), own) => Some(own.map_or(above - 1, |own| own.min(above - 1))),
            (None, own) => own,
        };
        let mut spec = spec.clone();
        spec.max_intermediates = may_follow;
        let params = spec.params(true)?;
        let key = spec.key_type.generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let (der, pem) = (certificate.der().clone(), certificate.pem());
        Ok(Self {
            chain: [std::slice::from_ref(&der), &self.chain].concat(),
            chain_pem: pem.clone() + &self.chain_pem,
            serial: serial(&der)?,
            der,
            pem,
            key_id: params.key_identifier_method.clone(),
            issuer: Issuer::new(params, key),
            may_follow,
        })
    }

    /// The CA of these files: its certificate and, for an intermediate CA, those above it without
    /// the root, PEM; and its private key, PKCS #8 PEM.
    ///
    /// # Errors
    /// [`PkiError::Read`], and those of [`from_pem`](Self::from_pem) with the files' names.
    pub fn load(chain_file: &Path, key_file: &Path) -> Result<Self, PkiError> {
        let chain = files::read(chain_file)?;
        let key = Zeroizing::new(files::read(key_file)?);
        Self::from_pem(&chain, &key).map_err(|error| match error {
            PkiError::NoAuthority(why) => PkiError::NoAuthority(format!(
                "{why} ({} with {})",
                chain_file.display(),
                key_file.display()
            )),
            other => other,
        })
    }

    /// The CA with this certificate, which those above it may follow, without the root, PEM; and
    /// this private key, PKCS #8 PEM.
    ///
    /// # Errors
    /// [`PkiError::NoAuthority`] if this isn't the certificate of a CA, the key isn't its key, or
    /// its subject can't be written as it stands there: what it issued would name another issuer.
    pub fn from_pem(chain: &str, key: &str) -> Result<Self, PkiError> {
        let blocks = certificate_blocks(chain);
        let chain: Vec<_> = blocks
            .iter()
            .map(|block| CertificateDer::from_pem_slice(block.as_bytes()))
            .collect::<Result<_, _>>()
            .map_err(|error| no_authority(format!("a certificate can't be read: {error}")))?;
        let (Some(der), Some(pem)) = (chain.first().cloned(), blocks.first().cloned()) else {
            return Err(no_authority("there is no PEM certificate"));
        };
        let key = PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes())
            .map_err(|error| no_authority(format!("the key isn't a PKCS #8 one: {error}")))?;
        let key = KeyPair::try_from(&key)
            .map_err(|error| no_authority(format!("the key can't be used: {error}")))?;
        let certificate = parse(&der)?;
        if certificate.public_key().raw != key.subject_public_key_info() {
            return Err(no_authority("the key isn't that of the certificate"));
        }
        if !certificate.is_ca() {
            return Err(no_authority("its certificate isn't that of a CA"));
        }
        let is_root = certificate.subject().as_raw() == certificate.issuer().as_raw();
        let key_id = key_id(&certificate);
        let may_follow = may_follow(&chain)?;
        let issuer = Issuer::from_ca_cert_der(&der, key)
            .map_err(|error| no_authority(format!("its certificate can't be used: {error}")))?;
        check_subject(&certificate, &issuer)?;
        let (chain, chain_pem) =
            if is_root { (Vec::new(), String::new()) } else { (chain, blocks.concat()) };
        let serial = certificate.raw_serial().to_vec();
        Ok(Self { issuer, der, pem, serial, key_id, chain, chain_pem, may_follow })
    }

    /// Issues a certificate with a new key.
    pub fn issue(&self, spec: &Spec) -> Result<Identity, PkiError> {
        let key = spec.key_type.generate()?;
        let leaf = spec.params(false)?.signed_by(&key, &self.issuer)?;
        let chain = [std::slice::from_ref(leaf.der()), &self.chain].concat();
        let chain_pem = leaf.pem() + &self.chain_pem;
        Ok(Identity { serial: serial(leaf.der())?, chain, chain_pem, key })
    }

    /// Signs a CRL.
    ///
    /// # Errors
    /// Also where nextUpdate isn't after thisUpdate.
    pub fn crl(&self, spec: &CrlSpec) -> Result<SignedCrl, PkiError> {
        SignedCrl::of(&spec.params(self.key_id.clone())?.signed_by(&self.issuer)?)
    }

    /// The CA's certificate.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// The CA's certificate, PEM.
    pub fn pem(&self) -> String {
        self.pem.clone()
    }

    /// The CA's certificate and those above it without the root, PEM; empty for a root.
    pub fn chain_pem(&self) -> &str {
        &self.chain_pem
    }

    /// The serial number of the CA's certificate, as [`Identity::serial`].
    pub fn serial(&self) -> &[u8] {
        &self.serial
    }

    /// The CA's private key, PKCS #8 PEM.
    pub fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.issuer.key().serialize_pem())
    }

    /// Writes the CA's certificate as a PEM file that everybody may read, replacing any.
    pub fn write_certificate(&self, file: &Path) -> Result<(), PkiError> {
        Ok(files::write_public(file, self.pem.as_bytes())?)
    }
}

/// A server's or client's certificate chain and key.
#[derive(Debug)]
pub struct Identity {
    /// Its own certificate, then the intermediates, the nearest first; no root.
    chain: Vec<CertificateDer<'static>>,
    /// The same as PEM.
    chain_pem: String,
    serial: Vec<u8>,
    key: KeyPair,
}

impl Identity {
    /// The certificate, then the intermediates, the nearest first; no root.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The certificate's serial number, big-endian, as it is encoded: a number whose first bit is
    /// set has a zero before it.
    pub fn serial(&self) -> &[u8] {
        &self.serial
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

fn no_authority(why: impl Into<String>) -> PkiError {
    PkiError::NoAuthority(why.into())
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, PkiError> {
    match x509_parser::parse_x509_certificate(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(no_authority("a certificate can't be parsed")),
    }
}

fn serial(der: &CertificateDer<'_>) -> Result<Vec<u8>, PkiError> {
    Ok(parse(der)?.raw_serial().to_vec())
}

/// The certificates of a PEM text, each on its own, without what stands between them.
fn certificate_blocks(text: &str) -> Vec<String> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    text.split_inclusive(END)
        .filter_map(|piece| Some(format!("{}\n", &piece[piece.rfind(BEGIN)?..])))
        .collect()
}

/// Its subjectKeyIdentifier, or what is derived from its key where there is none.
fn key_id(certificate: &X509Certificate<'_>) -> KeyIdMethod {
    certificate
        .extensions()
        .iter()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => {
                Some(KeyIdMethod::PreSpecified(id.0.to_vec()))
            }
            _ => None,
        })
        .unwrap_or(KeyIdMethod::Sha256)
}

/// The least that the CAs of a chain leave to those that follow its first one.
fn may_follow(chain: &[CertificateDer<'_>]) -> Result<Option<u8>, PkiError> {
    let mut least = None;
    for (followed_by, der) in (0..).zip(chain) {
        let certificate = parse(der)?;
        let constraints = certificate.basic_constraints().ok().flatten();
        let allowed = constraints.and_then(|constraints| constraints.value.path_len_constraint);
        let left = allowed
            .map(|allowed| u8::try_from(allowed).unwrap_or(u8::MAX).saturating_sub(followed_by));
        least = least.into_iter().chain(left).min();
    }
    Ok(least)
}

/// Holds what it would issue to name it as its own certificate does.
fn check_subject(
    certificate: &X509Certificate<'_>,
    issuer: &Issuer<'static, KeyPair>,
) -> Result<(), PkiError> {
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from(1));
    let trial = params.signed_by(issuer.key(), issuer)?;
    if parse(trial.der())?.issuer().as_raw() != certificate.subject().as_raw() {
        return Err(no_authority(format!(
            "its subject {} is written in a way that can't be kept: make a new CA",
            certificate.subject()
        )));
    }
    Ok(())
}
