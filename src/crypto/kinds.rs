//! What operations are called where they are counted.

use super::primitives::{Curve, RsaSize};
use crate::metrics::CryptoOperation;

impl Curve {
    pub(super) fn signing_kind(self) -> CryptoOperation {
        match self {
            Self::P256 => CryptoOperation::P256Sign,
            Self::P384 => CryptoOperation::P384Sign,
        }
    }

    pub(super) fn verifying_kind(self) -> CryptoOperation {
        match self {
            Self::P256 => CryptoOperation::P256Verify,
            Self::P384 => CryptoOperation::P384Verify,
        }
    }

    pub(super) fn nonce_kind(self) -> CryptoOperation {
        match self {
            Self::P256 => CryptoOperation::P256Nonce,
            Self::P384 => CryptoOperation::P384Nonce,
        }
    }
}

impl RsaSize {
    pub(super) fn signing_kind(self) -> CryptoOperation {
        match self {
            Self::Rsa2048 => CryptoOperation::Rsa2048Sign,
            Self::Rsa3072 => CryptoOperation::Rsa3072Sign,
            Self::Rsa4096 => CryptoOperation::Rsa4096Sign,
        }
    }
}
