//! Keys in the forms that both engines take: as aws-lc-rs' own, and as numbers.

use std::fmt;

use aws_lc_rs::{
    digest::Digest,
    encoding::{AsBigEndian, EcPrivateKeyBin},
    rsa::KeyPair as RsaKeyPair,
    signature::{
        self, EcdsaKeyPair, EcdsaSigningAlgorithm, EcdsaVerificationAlgorithm, KeyPair as _,
        ParsedPublicKey, RsaEncoding, RsaParameters,
    },
};
use rustls_pki_types::PrivateKeyDer;
use zeroize::Zeroizing;

use super::{
    der::{self, Reader},
    padding::{Hash, Padding},
    primitives::{Curve, MAX_SCALAR_BYTES, RsaParts, RsaSize, Words, be_word},
};

/// The one public exponent that is computed side by side.
const PUBLIC_EXPONENT: [u8; 3] = [1, 0, 1];

impl Curve {
    pub(super) fn verification(self) -> &'static EcdsaVerificationAlgorithm {
        match self {
            Self::P256 => &signature::ECDSA_P256_SHA256_ASN1,
            Self::P384 => &signature::ECDSA_P384_SHA384_ASN1,
        }
    }

    pub(super) fn signing(self) -> &'static EcdsaSigningAlgorithm {
        match self {
            Self::P256 => &signature::ECDSA_P256_SHA256_ASN1_SIGNING,
            Self::P384 => &signature::ECDSA_P384_SHA384_ASN1_SIGNING,
        }
    }

    /// Whether this digest can be signed and verified side by side: by the hash of the curve, and
    /// within 1..order, as the library takes it. ECDSA has others too (FIPS 186-5 §6.4), one in
    /// 2³² for P-256.
    pub(super) fn takes(self, digest: &Digest) -> bool {
        let number = Words::from_be_bytes(digest.as_ref());
        digest.algorithm() == self.hash() && !number.is_zero() && number.is_below(self.order())
    }

    /// The hash of its signatures.
    pub fn hash(self) -> &'static aws_lc_rs::digest::Algorithm {
        match self {
            Self::P256 => &aws_lc_rs::digest::SHA256,
            Self::P384 => &aws_lc_rs::digest::SHA384,
        }
    }
}

/// A private key for ECDSA.
pub struct EcdsaKey {
    pub(super) curve: Curve,
    /// It stays where it is when the key is moved.
    pub(super) secret: Box<Words>,
    pub(super) pair: EcdsaKeyPair,
    pub(super) public: PublicPoint,
}

impl EcdsaKey {
    /// Reads PKCS #8 or SEC 1; none if it is no such key of a curve that is known here.
    pub fn from_der(der: &PrivateKeyDer<'_>) -> Option<Self> {
        Curve::ALL.into_iter().find_map(|curve| {
            let pair = EcdsaKeyPair::from_private_key_der(curve.signing(), der.secret_der());
            Self::of_pair(curve, pair.ok()?)
        })
    }

    /// A new one.
    pub(super) fn generate(curve: Curve) -> Option<Self> {
        Self::of_pair(curve, EcdsaKeyPair::generate(curve.signing()).ok()?)
    }

    fn of_pair(curve: Curve, pair: EcdsaKeyPair) -> Option<Self> {
        let secret: EcPrivateKeyBin<'_> = pair.private_key().as_be_bytes().ok()?;
        let secret = Words::secret_from_be_bytes(secret.as_ref());
        let public = PublicPoint::parse(curve, pair.public_key().as_ref())?;
        Some(Self { curve, secret, pair, public })
    }

    /// Its curve.
    pub fn curve(&self) -> Curve {
        self.curve
    }
}

impl fmt::Debug for EcdsaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EcdsaKey({:?})", self.curve)
    }
}

/// A public key for ECDSA, a point of its curve.
pub struct PublicPoint {
    pub(super) curve: Curve,
    pub(super) key: ParsedPublicKey,
    pub(super) x: Words,
    pub(super) y: Words,
}

impl PublicPoint {
    /// Reads an uncompressed point (SEC 1 §2.3.4). None if it is anything else, or not on the
    /// curve (SEC 1 §3.2.2.1), which aws-lc-rs finds out.
    pub fn parse(curve: Curve, point: &[u8]) -> Option<Self> {
        let bytes = curve.bytes();
        if point.len() != 1 + 2 * bytes || point[0] != 4 {
            return None;
        }
        let key = ParsedPublicKey::new(curve.verification(), point).ok()?;
        let x = Words::from_be_bytes(&point[1..=bytes]);
        let y = Words::from_be_bytes(&point[1 + bytes..]);
        Some(Self { curve, key, x, y })
    }

    /// Its curve.
    pub fn curve(&self) -> Curve {
        self.curve
    }
}

/// An ECDSA signature whose halves are within their range (FIPS 186-5 §6.4.2, step 1).
#[derive(Clone)]
pub struct EcdsaSignature {
    pub(super) der: Vec<u8>,
    pub(super) r: [u8; MAX_SCALAR_BYTES],
    pub(super) s: [u8; MAX_SCALAR_BYTES],
}

impl EcdsaSignature {
    /// Reads DER (RFC 3279 §2.2.3); none if it can't be a signature by a key of that curve.
    pub fn parse(curve: Curve, signature: &[u8]) -> Option<Self> {
        let (r, s) = der::ecdsa_signature(signature)?;
        let half = |half: &[u8]| {
            let mut fixed = [0; MAX_SCALAR_BYTES];
            let start = curve.bytes().checked_sub(half.len())?;
            fixed[start..curve.bytes()].copy_from_slice(half);
            let words = Words::from_be_bytes(half);
            (!words.is_zero() && words.is_below(curve.order())).then_some(fixed)
        };
        Some(Self { der: signature.to_vec(), r: half(r)?, s: half(s)? })
    }
}

/// A private RSA key of a size that is computed side by side.
pub struct RsaKey {
    pub(super) size: RsaSize,
    pub(super) parts: RsaParts,
    pub(super) pair: RsaKeyPair,
    public: [ParsedPublicKey; 6],
}

impl RsaKey {
    /// Reads PKCS #8 or PKCS #1. None if it is no RSA key, or one of another size, with another
    /// public exponent than 65537, or with primes that no usual tool makes.
    pub fn from_der(der: &PrivateKeyDer<'_>) -> Option<Self> {
        let (pair, parts) = match der {
            PrivateKeyDer::Pkcs1(key) => {
                let der = key.secret_pkcs1_der();
                (RsaKeyPair::from_der(der).ok()?, rsa_parts(der)?)
            }
            PrivateKeyDer::Pkcs8(key) => {
                let der = key.secret_pkcs8_der();
                // RFC 5208 §5: version, algorithm, key; aws-lc-rs has seen that it is RSA.
                let pair = RsaKeyPair::from_pkcs8(der).ok()?;
                let mut inside = Reader::new(der).sequence()?;
                inside.unsigned()?;
                inside.sequence()?;
                (pair, rsa_parts(inside.octets()?)?)
            }
            _ => return None,
        };
        let size = RsaSize::of_bits(pair.public_modulus_len() * 8).filter(|&s| parts.fits(s))?;
        let public = [Padding::Pss, Padding::Pkcs1]
            .into_iter()
            .flat_map(|padding| {
                [Hash::Sha256, Hash::Sha384, Hash::Sha512].map(|hash| verification(padding, hash))
            })
            .map(|algorithm| ParsedPublicKey::new(algorithm, pair.public_key().as_ref()).ok())
            .collect::<Option<Vec<_>>>()?;
        Some(Self { size, parts, public: public.try_into().ok()?, pair })
    }

    /// Its size.
    pub fn size(&self) -> RsaSize {
        self.size
    }

    /// The public key, for signatures of that kind.
    pub(super) fn public(&self, padding: Padding, hash: Hash) -> &ParsedPublicKey {
        &self.public[3 * padding as usize + hash as usize]
    }
}

impl fmt::Debug for RsaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RsaKey({:?})", self.size)
    }
}

/// The numbers of a key in PKCS #1 (RFC 8017 §A.1.2).
fn rsa_parts(der: &[u8]) -> Option<RsaParts> {
    let mut key = Reader::new(der).sequence()?;
    let two_primes = key.unsigned()?.is_empty();
    let modulus: Vec<u64> = words(key.unsigned()?).collect();
    let known_exponent = key.unsigned()? == PUBLIC_EXPONENT;
    let _private_exponent = key.unsigned()?;
    let half = modulus.len().div_ceil(2);
    let (p, q) = (key.unsigned()?, key.unsigned()?);
    // What the library computes with, as every usual tool makes them: the first prime is the
    // larger one, and the modulus fills all of its bits.
    let usual = p.len() == half * 8 && q.len() == half * 8 && p > q;
    let usual = usual && modulus.last().is_some_and(|top| top >> 63 == 1);
    let number = |value: &[u8]| secret_number(value, half);
    let parts = RsaParts {
        modulus,
        p: number(p)?,
        q: number(q)?,
        dp: number(key.unsigned()?)?,
        dq: number(key.unsigned()?)?,
        q_inverse: number(key.unsigned()?)?,
    };
    (two_primes && known_exponent && usual).then_some(parts)
}

/// From big-endian bytes to words, least significant first.
fn words(bytes: &[u8]) -> impl ExactSizeIterator<Item = u64> {
    bytes.rchunks(8).map(be_word)
}

/// A number of exactly `length` words that nobody else may know; none if it has more. It has all
/// of its room from the start: a vector that grows leaves a copy behind.
fn secret_number(bytes: &[u8], length: usize) -> Option<Zeroizing<Vec<u64>>> {
    let words = words(bytes);
    if words.len() > length {
        return None;
    }
    let mut number = Zeroizing::new(vec![0; length]);
    for (place, word) in number.iter_mut().zip(words) {
        *place = word;
    }
    Some(number)
}

/// aws-lc-rs' name of how a signature is verified.
fn verification(padding: Padding, hash: Hash) -> &'static RsaParameters {
    match (padding, hash) {
        (Padding::Pss, Hash::Sha256) => &signature::RSA_PSS_2048_8192_SHA256,
        (Padding::Pss, Hash::Sha384) => &signature::RSA_PSS_2048_8192_SHA384,
        (Padding::Pss, Hash::Sha512) => &signature::RSA_PSS_2048_8192_SHA512,
        (Padding::Pkcs1, Hash::Sha256) => &signature::RSA_PKCS1_2048_8192_SHA256,
        (Padding::Pkcs1, Hash::Sha384) => &signature::RSA_PKCS1_2048_8192_SHA384,
        (Padding::Pkcs1, Hash::Sha512) => &signature::RSA_PKCS1_2048_8192_SHA512,
    }
}

/// aws-lc-rs' name of how one is made.
pub(super) fn encoding(padding: Padding, hash: Hash) -> &'static dyn RsaEncoding {
    match (padding, hash) {
        (Padding::Pss, Hash::Sha256) => &signature::RSA_PSS_SHA256,
        (Padding::Pss, Hash::Sha384) => &signature::RSA_PSS_SHA384,
        (Padding::Pss, Hash::Sha512) => &signature::RSA_PSS_SHA512,
        (Padding::Pkcs1, Hash::Sha256) => &signature::RSA_PKCS1_SHA256,
        (Padding::Pkcs1, Hash::Sha384) => &signature::RSA_PKCS1_SHA384,
        (Padding::Pkcs1, Hash::Sha512) => &signature::RSA_PKCS1_SHA512,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::selftest::rsa_key;

    /// A copy that a move leaves behind isn't wiped by anybody.
    #[test]
    fn secret_numbers_stay_where_they_are_when_their_keys_are_moved() {
        let key = EcdsaKey::generate(Curve::P256).expect("a key");
        let place = key.secret.0.as_ptr();
        let moved = std::sync::Arc::new(key);
        assert_eq!(moved.secret.0.as_ptr(), place);
        let key = rsa_key(RsaSize::Rsa2048).expect("a key");
        let place = key.parts.dp.as_ptr();
        let moved = std::sync::Arc::new(key);
        assert_eq!(moved.parts.dp.as_ptr(), place);
    }

    /// A vector with more room than it needs has been moved while it grew, or will be.
    #[test]
    fn a_secret_number_has_its_whole_room_from_the_start_however_short_it_is() {
        for (bytes, expected) in [(&[7; 16][..], [0x0707_0707_0707_0707; 2]), (&[1, 2], [0x102, 0])]
        {
            let number = secret_number(bytes, 2).expect("it fits");
            assert_eq!((&number[..], number.capacity()), (&expected[..], 2));
        }
        assert!(secret_number(&[1; 17], 2).is_none());
    }
}
