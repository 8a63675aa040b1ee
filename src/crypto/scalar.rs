//! The operations by aws-lc-rs, one by one: where there is no multi-buffer library, too few lanes
//! are filled, or a result of the library's is doubted.

use aws_lc_rs::{
    agreement::{self, PrivateKey, UnparsedPublicKey, X25519},
    digest::Digest,
    rand,
};

use super::{
    Agreement, EcdsaSigning, Failed, RsaSigning, SharedSecret, Verification,
    keys::encoding,
    primitives::{KeyPair, Secret32},
};

/// A new X25519 key pair.
pub(super) fn key_pair() -> Result<KeyPair, Failed> {
    let mut pair = KeyPair::new()?;
    pair.public = public_key(&pair.secret)?;
    Ok(pair)
}

/// The public key of an X25519 secret.
pub(super) fn public_key(secret: &[u8; 32]) -> Result<[u8; 32], Failed> {
    let secret = PrivateKey::from_private_key(&X25519, secret).map_err(|_| Failed)?;
    let public = secret.compute_public_key().map_err(|_| Failed)?;
    public.as_ref().try_into().map_err(|_| Failed)
}

/// X25519, which fails if the shared secret is zero (RFC 7748 §6.1).
pub(super) fn agree(job: &Agreement) -> Result<SharedSecret, Failed> {
    let secret = PrivateKey::from_private_key(&X25519, &job.ours.secret[..]);
    let peer = UnparsedPublicKey::new(&X25519, job.peer);
    agreement::agree(&secret.map_err(|_| Failed)?, peer, Failed, |shared| {
        let mut secret = Secret32::default();
        if shared.len() != secret.len() {
            return Err(Failed);
        }
        secret.copy_from_slice(shared);
        Ok(SharedSecret(secret))
    })
}

/// An ECDSA signature in DER.
pub(super) fn sign(job: &EcdsaSigning) -> Result<Vec<u8>, Failed> {
    job.key.pair.sign_digest(&job.digest).map(|s| s.as_ref().to_vec()).map_err(|_| Failed)
}

/// Whether an ECDSA signature is valid.
pub(super) fn verify(job: &Verification) -> bool {
    job.key.key.verify_digest_sig(&job.digest, &job.signature.der).is_ok()
}

/// Whether `signature`, by the private key of `job`, is valid.
pub(super) fn is_signed(job: &EcdsaSigning, signature: &[u8]) -> bool {
    job.key.public.key.verify_digest_sig(&job.digest, signature).is_ok()
}

/// An RSA signature.
pub(super) fn rsa_sign(job: &RsaSigning) -> Result<Vec<u8>, Failed> {
    let mut signature = vec![0; job.key.pair.public_modulus_len()];
    let padding = encoding(job.padding, job.hash);
    job.key.pair.sign_digest(padding, &job.digest, &mut signature).map_err(|_| Failed)?;
    Ok(signature)
}

/// Whether an RSA signature is valid.
pub(super) fn is_rsa_signed(job: &RsaSigning, signature: &[u8]) -> bool {
    let public = job.key.public(job.padding, job.hash);
    public.verify_digest_sig(&job.digest, signature).is_ok()
}

/// Another digest than `digest`, of the same kind.
pub(super) fn another_digest(digest: &Digest) -> Result<Digest, Failed> {
    let mut bytes = digest.as_ref().to_vec();
    bytes[0] ^= 1;
    Digest::import_less_safe(&bytes, digest.algorithm()).map_err(|_| Failed)
}

impl KeyPair {
    /// A new secret, whose public key is still to be computed.
    pub(super) fn new() -> Result<Self, Failed> {
        let mut secret = Secret32::default();
        rand::fill(&mut secret[..]).map_err(|_| Failed)?;
        secret[0] &= 248;
        secret[31] &= 127;
        secret[31] |= 64;
        Ok(Self { secret, public: [0; 32] })
    }

    /// The public key, as a key share of TLS (RFC 8446 §4.2.8.2).
    pub fn public(&self) -> &[u8; 32] {
        &self.public
    }
}
