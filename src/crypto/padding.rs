//! What RSA signs: the digest in its padding (RFC 8017 §9).

use aws_lc_rs::{
    digest::{self, Digest},
    rand,
};

use super::Failed;

/// The paddings of TLS: PSS in TLS 1.3 and 1.2, the older one in TLS 1.2 alone (RFC 8446 §4.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// RSASSA-PSS, MGF1 with the same hash, a salt as long as the digest.
    Pss,
    /// RSASSA-PKCS1-v1_5.
    Pkcs1,
}

/// The hashes of RSA signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Hash {
    /// aws-lc-rs' name of it.
    pub(super) fn algorithm(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        }
    }

    /// What stands before the digest (RFC 8017 §9.2, note 1).
    fn digest_info(self) -> [u8; 19] {
        let (identifier, bytes) = match self {
            Self::Sha256 => (1, 32),
            Self::Sha384 => (2, 48),
            Self::Sha512 => (3, 64),
        };
        let rest = [0x30, 13, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, identifier, 5, 0, 4, bytes];
        let mut info = [0x30, 17 + bytes, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        info[2..].copy_from_slice(&rest);
        info
    }
}

/// The number that the private operation is applied to, as long as the modulus, `bytes`, which is
/// a whole number of bytes with its top bit set.
pub(super) fn encode(
    padding: Padding,
    hash: Hash,
    digest: &Digest,
    bytes: usize,
) -> Result<Vec<u8>, Failed> {
    if digest.algorithm() != hash.algorithm() {
        return Err(Failed);
    }
    match padding {
        Padding::Pkcs1 => pkcs1(hash, digest.as_ref(), bytes),
        Padding::Pss => pss(hash, digest.as_ref(), bytes),
    }
}

/// RFC 8017 §9.2
fn pkcs1(hash: Hash, digest: &[u8], bytes: usize) -> Result<Vec<u8>, Failed> {
    let info = hash.digest_info();
    let filling = bytes.checked_sub(3 + info.len() + digest.len()).ok_or(Failed)?;
    let mut encoded = vec![0, 1];
    encoded.resize(2 + filling, 0xff);
    encoded.push(0);
    encoded.extend_from_slice(&info);
    encoded.extend_from_slice(digest);
    Ok(encoded)
}

/// RFC 8017 §9.1.1, with emBits = 8 · `bytes` - 1
fn pss(hash: Hash, digest: &[u8], bytes: usize) -> Result<Vec<u8>, Failed> {
    let length = digest.len();
    let masked = bytes.checked_sub(length + 1).filter(|&m| m > length).ok_or(Failed)?;
    let mut salt = vec![0; length];
    rand::fill(&mut salt).map_err(|_| Failed)?;
    let mut context = digest::Context::new(hash.algorithm());
    context.update(&[0; 8]);
    context.update(digest);
    context.update(&salt);
    let seed = context.finish();

    let mut encoded = vec![0; masked - length - 1];
    encoded.push(1);
    encoded.extend_from_slice(&salt);
    let mut mask = Vec::with_capacity(masked + length);
    for counter in 0_u32.. {
        if mask.len() >= masked {
            break;
        }
        let mut context = digest::Context::new(hash.algorithm());
        context.update(seed.as_ref());
        context.update(&counter.to_be_bytes());
        mask.extend_from_slice(context.finish().as_ref());
    }
    for (byte, mask) in encoded.iter_mut().zip(&mask) {
        *byte ^= mask;
    }
    encoded[0] &= 0x7f;
    encoded.extend_from_slice(seed.as_ref());
    encoded.push(0xbc);
    Ok(encoded)
}
