//! What a multi-buffer library computes: the same operation for up to eight inputs in one call.
//!
//! Nothing here decides anything. A [`Primitives`] may be wrong; [`super::Engine`] is what makes
//! its results fit to leave.

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

/// Operations that one call carries out side by side.
pub const LANES: usize = 8;

/// Bytes of the largest scalar, coordinate or digest: those of P-384.
pub(super) const MAX_SCALAR_BYTES: usize = 48;

/// 64-bit words of the same.
pub(super) const MAX_SCALAR_WORDS: usize = 6;

/// The curves of ECDSA, each with the hash that its name in TLS says (RFC 8446 §4.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Curve {
    /// secp256r1, with SHA-256.
    P256,
    /// secp384r1, with SHA-384.
    P384,
}

impl Curve {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::P256, Self::P384];

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
        }
    }

    /// Bytes of a scalar, a coordinate and a digest.
    pub fn bytes(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
        }
    }

    /// The order of the group (FIPS 186-5, SP 800-186 §3.2.1), least significant word first.
    pub(super) fn order(self) -> &'static Words {
        static P256: Words = Words([
            0xf3b9_cac2_fc63_2551,
            0xbce6_faad_a717_9e84,
            0xffff_ffff_ffff_ffff,
            0xffff_ffff_0000_0000,
            0,
            0,
        ]);
        static P384: Words = Words([
            0xecec_196a_ccc5_2973,
            0x581a_0db2_48b0_a77a,
            0xc763_4d81_f437_2ddf,
            0xffff_ffff_ffff_ffff,
            0xffff_ffff_ffff_ffff,
            0xffff_ffff_ffff_ffff,
        ]);
        match self {
            Self::P256 => &P256,
            Self::P384 => &P384,
        }
    }
}

/// The sizes of RSA keys that are computed side by side, with public exponent 65537.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RsaSize {
    /// 2048 bits.
    Rsa2048,
    /// 3072 bits.
    Rsa3072,
    /// 4096 bits.
    Rsa4096,
}

impl RsaSize {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Rsa2048, Self::Rsa3072, Self::Rsa4096];

    /// Bits of the modulus.
    pub fn bits(self) -> usize {
        match self {
            Self::Rsa2048 => 2048,
            Self::Rsa3072 => 3072,
            Self::Rsa4096 => 4096,
        }
    }

    /// The size with that many bits.
    pub fn of_bits(bits: usize) -> Option<Self> {
        Self::ALL.into_iter().find(|size| size.bits() == bits)
    }
}

/// A number of up to 384 bits, least significant word first; wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Words(pub(super) [u64; MAX_SCALAR_WORDS]);

impl Words {
    pub(super) const ZERO: Self = Self([0; MAX_SCALAR_WORDS]);

    /// A public number from big-endian bytes, at most [`MAX_SCALAR_BYTES`] of them.
    pub(super) fn from_be_bytes(bytes: &[u8]) -> Self {
        let mut words = Self::ZERO;
        words.read_be_bytes(bytes);
        words
    }

    /// The same of a number that nobody else may know. It is read into the place where it stays:
    /// one that is moved leaves a copy behind, which nothing wipes.
    pub(super) fn secret_from_be_bytes(bytes: &[u8]) -> Box<Self> {
        let mut words = Box::new(Self::ZERO);
        words.read_be_bytes(bytes);
        words
    }

    fn read_be_bytes(&mut self, bytes: &[u8]) {
        for (word, chunk) in self.0.iter_mut().zip(bytes.rchunks(8)) {
            *word = be_word(chunk);
        }
    }

    /// Whether it is less than `other`; takes the same time for all numbers.
    pub(super) fn is_below(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).fold(false, |borrow, (&a, &b)| {
            let (difference, first) = a.overflowing_sub(b);
            let (_, second) = difference.overflowing_sub(u64::from(borrow));
            first | second
        })
    }

    /// Whether it is zero; takes the same time for all numbers.
    pub(super) fn is_zero(&self) -> bool {
        self.0.iter().fold(0, |all, word| all | word) == 0
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Words(..)")
    }
}

/// A word from at most eight big-endian bytes.
pub(super) fn be_word(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |word, &byte| word << 8 | u64::from(byte))
}

/// Which lanes of a call came to a result: four bits each, zero for success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Status(pub(super) u32);

impl Status {
    /// No lane did.
    pub(super) const ALL_FAILED: Self = Self(u32::MAX);

    /// Whether that lane did; there are [`LANES`].
    pub(super) fn succeeded(self, lane: usize) -> bool {
        lane < LANES && self.0 >> (lane * 4) & 0xf == 0
    }
}

/// 32 bytes that nobody else may know. They stay where they are when their owner is moved, which
/// would leave a copy behind otherwise, and are wiped when that is dropped.
pub(super) type Secret32 = Box<Zeroizing<[u8; 32]>>;

/// An X25519 key pair (RFC 7748 §6.1), for one key agreement.
#[cfg_attr(test, derive(Clone))]
pub struct KeyPair {
    /// The secret, clamped (RFC 7748 §5).
    pub(super) secret: Secret32,
    /// Our key share.
    pub(super) public: [u8; 32],
}

/// One key agreement.
pub(super) struct AgreeLane<'a> {
    pub(super) secret: &'a [u8; 32],
    pub(super) peer: &'a [u8; 32],
    pub(super) shared: Secret32,
}

/// From the nonce of one signature to what a signature needs of it. The nonce and its inverse give
/// the key away; in boxes, they leave no copy behind when they are moved.
pub(super) struct SetupLane {
    pub(super) nonce: Box<Words>,
    /// The nonce's inverse, in the library's own representation.
    pub(super) inverse: Box<Words>,
    /// The first half of the signature.
    pub(super) r: Words,
}

impl SetupLane {
    pub(super) fn of(nonce: Box<Words>) -> Self {
        Self { nonce, inverse: Box::new(Words::ZERO), r: Words::ZERO }
    }
}

/// The end of one signature.
pub(super) struct CompleteLane<'a> {
    pub(super) key: &'a Words,
    pub(super) digest: &'a [u8; MAX_SCALAR_BYTES],
    pub(super) inverse: &'a Words,
    pub(super) prepared: &'a Words,
    pub(super) r: [u8; MAX_SCALAR_BYTES],
    pub(super) s: [u8; MAX_SCALAR_BYTES],
}

impl<'a> CompleteLane<'a> {
    /// With this key, of this digest, by what was prepared from a nonce.
    pub(super) fn of(
        key: &'a Words,
        digest: &'a [u8; MAX_SCALAR_BYTES],
        (inverse, prepared): (&'a Words, &'a Words),
    ) -> Self {
        let unset = [0; MAX_SCALAR_BYTES];
        Self { key, digest, inverse, prepared, r: unset, s: unset }
    }
}

/// One signature to verify. The point is on the curve: that was checked before.
pub(super) struct VerifyLane<'a> {
    pub(super) x: &'a Words,
    pub(super) y: &'a Words,
    pub(super) digest: &'a [u8; MAX_SCALAR_BYTES],
    pub(super) r: &'a [u8; MAX_SCALAR_BYTES],
    pub(super) s: &'a [u8; MAX_SCALAR_BYTES],
}

/// One RSA private operation by the Chinese remainder theorem (RFC 8017 §5.1.2).
pub(super) struct RsaPrivateLane<'a> {
    pub(super) key: &'a RsaParts,
    /// As long as the modulus, big-endian, and less than it.
    pub(super) input: &'a [u8],
    /// As long.
    pub(super) output: Vec<u8>,
}

/// One RSA public operation with exponent 65537 (RFC 8017 §5.2.2).
pub(super) struct RsaPublicLane<'a> {
    /// Least significant word first.
    pub(super) modulus: &'a [u64],
    pub(super) input: &'a [u8],
    pub(super) output: Vec<u8>,
}

/// An RSA private key's numbers (RFC 8017 §3.2), each least significant word first.
pub(super) struct RsaParts {
    pub(super) modulus: Vec<u64>,
    /// This and the following have half as many words.
    pub(super) p: Zeroizing<Vec<u64>>,
    pub(super) q: Zeroizing<Vec<u64>>,
    pub(super) dp: Zeroizing<Vec<u64>>,
    pub(super) dq: Zeroizing<Vec<u64>>,
    pub(super) q_inverse: Zeroizing<Vec<u64>>,
}

impl RsaParts {
    /// Whether each number has as many words as `size` asks for.
    pub(super) fn fits(&self, size: RsaSize) -> bool {
        let words = size.bits() / 64;
        let halves = [&self.p, &self.q, &self.dp, &self.dq, &self.q_inverse];
        self.modulus.len() == words && halves.iter().all(|half| half.len() == words / 2)
    }
}

/// The operations of a multi-buffer library. Each takes 1 to [`LANES`] lanes; it fails all of
/// them rather than read or write what isn't there.
pub(super) trait Primitives: Send + Sync {
    /// What it is, for people.
    fn name(&self) -> &str;

    /// The public keys of clamped secrets.
    fn x25519_public(&self, lanes: &mut [KeyPair]) -> Status;

    /// Shared secrets, which may be all zero.
    fn x25519(&self, lanes: &mut [AgreeLane<'_>]) -> Status;

    /// What signatures need of their nonces, which are in 1..order.
    fn ecdsa_setup(&self, curve: Curve, lanes: &mut [SetupLane]) -> Status;

    /// Signatures.
    fn ecdsa_complete(&self, curve: Curve, lanes: &mut [CompleteLane<'_>]) -> Status;

    /// Whether signatures are valid.
    fn ecdsa_verify(&self, curve: Curve, lanes: &[VerifyLane<'_>]) -> Status;

    /// Private operations.
    fn rsa_private(&self, size: RsaSize, lanes: &mut [RsaPrivateLane<'_>]) -> Status;

    /// Public operations.
    fn rsa_public(&self, size: RsaSize, lanes: &mut [RsaPublicLane<'_>]) -> Status;
}
