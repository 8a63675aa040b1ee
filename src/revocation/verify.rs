//! Who signed a CRL: issuers, their keys, and the signature.

use aws_lc_rs::{digest, signature::UnparsedPublicKey};
use rustls_pki_types::alg_id;

use super::{
    CrlError,
    algorithms::ALGORITHMS,
    der::{Reader, SEQUENCE},
};

/// Bytes that are kept to be verified, where the algorithm takes no digest: some 25 000 entries.
const MAX_KEPT_BYTES: usize = 1024 * 1024;

/// An issuer: a name and a key. Two CAs of one name with different keys are two issuers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IssuerId([u8; 32]);

impl IssuerId {
    /// The SHA-256 of the name's length, the name and the key: `name` is a whole Name in DER, as
    /// it stands in the issuer field of certificates and CRLs, `spki` a whole SubjectPublicKeyInfo.
    pub fn of(name: &[u8], spki: &[u8]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&(name.len() as u64).to_be_bytes());
        context.update(name);
        context.update(spki);
        Self(sha256_octets(&context.finish()))
    }
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    sha256_octets(&digest::digest(&digest::SHA256, bytes))
}

fn sha256_octets(digest: &digest::Digest) -> [u8; 32] {
    let mut octets = [0; 32];
    octets.copy_from_slice(digest.as_ref());
    octets
}

/// A CA's key.
#[derive(Debug, Clone)]
pub(super) struct PublicKey {
    /// Contents of the AlgorithmIdentifier.
    algorithm: Box<[u8]>,
    key: Box<[u8]>,
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo (RFC 5280 §4.1.2.7); `None` if it is none.
    pub(super) fn parse(spki: &[u8]) -> Option<Self> {
        const WHAT: &str = "SubjectPublicKeyInfo";

        let mut outer = Reader::new(spki);
        let mut info = outer.inside(SEQUENCE, WHAT).ok()?;
        outer.end(WHAT).ok()?;
        let algorithm = info.value(SEQUENCE, WHAT).ok()?.into();
        let key = info.bit_string(WHAT).ok()?.into();
        info.end(WHAT).ok()?;
        Some(Self { algorithm, key })
    }

    /// RFC 5480 §2.2 allows three encodings of a point, by the first octet.
    fn is_well_formed(&self) -> bool {
        let is_ec = [alg_id::ECDSA_P256, alg_id::ECDSA_P384, alg_id::ECDSA_P521]
            .iter()
            .any(|curve| **curve == *self.algorithm);
        !is_ec || matches!(self.key.first(), Some(0x02..=0x04))
    }
}

/// What is signed, as much of it as verifying takes, and the signature.
#[derive(Debug)]
pub(super) struct Signed {
    /// Contents of the AlgorithmIdentifier.
    algorithm: Box<[u8]>,
    message: Message,
    signature: Box<[u8]>,
}

#[derive(Debug)]
enum Message {
    Digest(digest::Digest),
    Whole(Box<[u8]>),
}

impl Signed {
    /// Of a message, the contents of an AlgorithmIdentifier and a signature. Hashes the message.
    pub(super) fn new(
        message: &[u8],
        algorithm: &[u8],
        signature: &[u8],
    ) -> Result<Self, CrlError> {
        let known = ALGORITHMS
            .iter()
            .find(|known| *known.signature == *algorithm)
            .ok_or(CrlError::UnsupportedAlgorithm)?;
        let message = match known.digest {
            Some(hash) => Message::Digest(digest::digest(hash, message)),
            None if message.len() > MAX_KEPT_BYTES => {
                let (bytes, limit) = (message.len(), MAX_KEPT_BYTES);
                return Err(CrlError::TooLargeToKeep { bytes, limit });
            }
            None => Message::Whole(message.into()),
        };
        Ok(Self { algorithm: algorithm.into(), message, signature: signature.into() })
    }

    /// Bytes that are kept to be verified.
    pub(super) fn kept_bytes(&self) -> usize {
        match &self.message {
            Message::Digest(_) => 0,
            Message::Whole(message) => message.len(),
        }
    }

    /// Whether this key made the signature.
    pub(super) fn is_by(&self, key: &PublicKey) -> bool {
        key.is_well_formed()
            && ALGORITHMS
                .iter()
                .filter(|known| *known.signature == *self.algorithm && *known.key == *key.algorithm)
                .any(|known| {
                    let verifier = UnparsedPublicKey::new(known.verification, &*key.key);
                    match &self.message {
                        Message::Digest(digest) => verifier.verify_digest(digest, &self.signature),
                        Message::Whole(message) => verifier.verify(message, &self.signature),
                    }
                    .is_ok()
                })
    }
}
