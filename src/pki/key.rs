//! The kinds of keys.

use rcgen::{KeyPair, RsaKeySize};

/// The type of a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KeyType {
    /// ECDSA over P-256, signing with SHA-256.
    #[default]
    P256,
    /// ECDSA over P-384, signing with SHA-384.
    P384,
    /// ECDSA over P-521, signing with SHA-512.
    P521,
    /// Ed25519
    Ed25519,
    /// RSA with 2048 bits, signing certificates by PKCS #1 v1.5 with SHA-256. Takes up to some
    /// seconds to generate, as do the next two.
    Rsa2048,
    /// RSA with 3072 bits, otherwise as with 2048.
    Rsa3072,
    /// RSA with 4096 bits, otherwise as with 2048.
    Rsa4096,
}

impl KeyType {
    /// All of them, in the order of their declaration.
    pub const ALL: &[Self] = &[
        Self::P256,
        Self::P384,
        Self::P521,
        Self::Ed25519,
        Self::Rsa2048,
        Self::Rsa3072,
        Self::Rsa4096,
    ];

    /// The word of the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::P256 => "p256",
            Self::P384 => "p384",
            Self::P521 => "p521",
            Self::Ed25519 => "ed25519",
            Self::Rsa2048 => "rsa2048",
            Self::Rsa3072 => "rsa3072",
            Self::Rsa4096 => "rsa4096",
        }
    }

    pub(super) fn generate(self) -> Result<KeyPair, rcgen::Error> {
        let rsa = |size| KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size);
        match self {
            Self::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            Self::P384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
            Self::P521 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512),
            Self::Ed25519 => KeyPair::generate_for(&rcgen::PKCS_ED25519),
            Self::Rsa2048 => rsa(RsaKeySize::_2048),
            Self::Rsa3072 => rsa(RsaKeySize::_3072),
            Self::Rsa4096 => rsa(RsaKeySize::_4096),
        }
    }
}
