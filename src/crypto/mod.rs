//! The cryptography of handshakes, up to eight operations of a kind at a time.
//!
//! Where Intel's `crypto_mb` and a CPU with AVX-512 IFMA are there, eight key agreements or
//! signatures cost little more than one. An [`Engine`] runs them there, checks what comes out,
//! and otherwise asks aws-lc-rs, one by one; callers can't tell which.

mod ahead;
mod aside;
mod company;
pub mod coroutine;
mod der;
mod engine;
pub mod key_schedule;
mod keys;
mod kinds;
pub mod lanes;
mod load;
mod mb;
mod measure;
mod padding;
mod primitives;
pub mod provider;
mod scalar;
mod selftest;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use aws_lc_rs::digest::Digest;

pub use ahead::Ahead;
pub use engine::{Engine, Thresholds, VERIFY_LANES};
pub use keys::{EcdsaKey, EcdsaSignature, PublicPoint, RsaKey};
pub use load::{Choice, Verifying, WhyNot};
pub use mb::LoadError;
pub use measure::{Speed, speeds};
pub use padding::{Hash, Padding};
pub use primitives::{Curve, KeyPair, LANES, RsaSize};
pub use selftest::Untrue;

/// An operation had no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operation failed")]
pub struct Failed;

/// A shared secret of X25519, never zero; wiped when dropped.
#[derive(PartialEq, Eq)]
pub struct SharedSecret(primitives::Secret32);

impl SharedSecret {
    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedSecret(..)")
    }
}

/// A key agreement by X25519 to carry out.
pub struct Agreement {
    /// Our key pair, which isn't used again.
    pub ours: KeyPair,
    /// The peer's key share.
    pub peer: [u8; 32],
}

/// An ECDSA signature to make.
pub struct EcdsaSigning {
    /// By this key.
    pub key: Arc<EcdsaKey>,
    /// Of this digest, by the hash of the key's curve ([`Curve::hash`]).
    pub digest: Digest,
}

/// An ECDSA signature to verify.
pub struct Verification {
    /// The signer's key.
    pub key: PublicPoint,
    /// The digest that was signed, by the hash of the key's curve.
    pub digest: Digest,
    /// The signature.
    pub signature: EcdsaSignature,
}

/// An RSA signature to make.
pub struct RsaSigning {
    /// By this key.
    pub key: Arc<RsaKey>,
    /// With this padding.
    pub padding: Padding,
    /// And this hash.
    pub hash: Hash,
    /// Of this digest, by that hash.
    pub digest: Digest,
}
