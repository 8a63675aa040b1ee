//! Traffic keys of one direction, and how TLS 1.3 derives the next ones.

use std::fmt;

use aws_lc_rs::aead::{self, LessSafeKey, NONCE_LEN, UnboundKey};
use aws_lc_rs::error::Unspecified;
use rustls::ConnectionTrafficSecrets;
use rustls::crypto::hash::HashAlgorithm;
use rustls::crypto::tls13::{Hkdf, HkdfExpander, OkmBlock};
use zeroize::Zeroize;

use super::{SetupError, Side};
use crate::crypto::key_schedule::{HKDF_SHA256, HKDF_SHA384};

/// SHA-384, the longest hash of a TLS 1.3 suite.
const MAX_SECRET_LEN: usize = 48;

/// AES-256 and ChaCha20, the longest keys.
const MAX_KEY_LEN: usize = 32;

/// KeyUpdates that rustls may have processed before its handover: more than it takes in a row.
const MAX_UPDATES_BEFORE_HANDOVER: usize = 64;

const CLIENT_LABEL: &str = "CLIENT_TRAFFIC_SECRET_0";
const SERVER_LABEL: &str = "SERVER_TRAFFIC_SECRET_0";

/// The two application traffic secrets of a TLS 1.3 connection (RFC 8446 §7.1), from which the
/// keys after each KeyUpdate follow. Wiped when dropped.
#[derive(Debug)]
pub struct TrafficSecrets {
    client: Secret,
    server: Secret,
}

impl TrafficSecrets {
    /// Takes `client_application_traffic_secret_0` and `server_application_traffic_secret_0`.
    ///
    /// # Errors
    /// [`SetupError::WrongSecretLength`] unless both have 32 (SHA-256) or both 48 (SHA-384)
    /// bytes.
    pub fn new(client: &[u8], server: &[u8]) -> Result<Self, SetupError> {
        let client = Secret::new(client).ok_or(SetupError::WrongSecretLength)?;
        let server = Secret::new(server).ok_or(SetupError::WrongSecretLength)?;
        if client.hash != server.hash {
            return Err(SetupError::WrongSecretLength);
        }
        Ok(Self { client, server })
    }

    pub(super) fn fit(&self, hash: HashAlgorithm) -> bool {
        match self.client.hash {
            Hash::Sha256 => hash == HashAlgorithm::SHA256,
            Hash::Sha384 => hash == HashAlgorithm::SHA384,
        }
    }

    /// The secrets to receive and to send with.
    pub(super) fn for_side(self, side: Side) -> (Secret, Secret) {
        match side {
            Side::Server => (self.client, self.server),
            Side::Client => (self.server, self.client),
        }
    }
}

/// Collects a connection's traffic secrets from the calls that a [`rustls::KeyLog`] receives.
///
/// rustls shares one `KeyLog` among all connections of a configuration and calls it on the
/// thread that processes the handshake: keep one capture a connection, and route the calls of
/// the connection at work to it.
#[derive(Debug, Default)]
pub struct TrafficSecretsCapture {
    client: Option<Secret>,
    server: Option<Secret>,
}

impl TrafficSecretsCapture {
    /// What [`rustls::KeyLog::will_log`] has to answer for `label`, so that no other secret is
    /// handed out.
    pub fn wants(label: &str) -> bool {
        label == CLIENT_LABEL || label == SERVER_LABEL
    }

    /// Takes note of what [`rustls::KeyLog::log`] was told; other labels, and secrets of a
    /// length that no suite has, are passed over.
    pub fn note(&mut self, label: &str, secret: &[u8]) {
        match label {
            CLIENT_LABEL => self.client = Secret::new(secret),
            SERVER_LABEL => self.server = Secret::new(secret),
            _ => {}
        }
    }

    /// Whether both were seen: the handshake is one of TLS 1.3, and our Finished is out.
    pub fn is_complete(&self) -> bool {
        self.client.is_some() && self.server.is_some()
    }

    /// The two secrets, once both were seen; the capture is empty afterwards.
    pub fn take(&mut self) -> Option<TrafficSecrets> {
        let (client, server) = (self.client.take()?, self.server.take()?);
        (client.hash == server.hash).then_some(TrafficSecrets { client, server })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hash {
    Sha256,
    Sha384,
}

impl Hash {
    fn len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => MAX_SECRET_LEN,
        }
    }

    fn hkdf(self) -> &'static dyn Hkdf {
        match self {
            Self::Sha256 => &HKDF_SHA256,
            Self::Sha384 => &HKDF_SHA384,
        }
    }
}

/// One traffic secret; as long as its hash.
pub(super) struct Secret {
    bytes: [u8; MAX_SECRET_LEN],
    hash: Hash,
}

impl Secret {
    fn new(secret: &[u8]) -> Option<Self> {
        let hash = match secret.len() {
            32 => Hash::Sha256,
            48 => Hash::Sha384,
            _ => return None,
        };
        let mut bytes = [0; MAX_SECRET_LEN];
        bytes[..secret.len()].copy_from_slice(secret);
        Some(Self { bytes, hash })
    }

    fn expander(&self) -> Box<dyn HkdfExpander> {
        self.hash.hkdf().expander_for_okm(&OkmBlock::new(&self.bytes[..self.hash.len()]))
    }

    /// `application_traffic_secret_N+1` (RFC 8446 §7.2).
    fn next(&self) -> Result<Self, Unspecified> {
        let mut next = Self { bytes: [0; MAX_SECRET_LEN], hash: self.hash };
        expand_label(&*self.expander(), b"traffic upd", &mut next.bytes[..self.hash.len()])?;
        Ok(next)
    }

    /// The secret that `iv` was derived from: this one, or a later one where rustls saw
    /// KeyUpdates before it handed over, in the segment that also held the client's Finished.
    fn advance_to(mut self, iv: [u8; NONCE_LEN]) -> Result<Self, SetupError> {
        for _ in 0..=MAX_UPDATES_BEFORE_HANDOVER {
            let mut derived = [0; NONCE_LEN];
            expand_label(&*self.expander(), b"iv", &mut derived)
                .map_err(|_| SetupError::KeyRejected)?;
            if derived == iv {
                return Ok(self);
            }
            self = self.next().map_err(|_| SetupError::KeyRejected)?;
        }
        Err(SetupError::ForeignTrafficSecret)
    }

    /// `[sender]_write_key` and `[sender]_write_iv` (RFC 8446 §7.3).
    fn derive(
        &self,
        algorithm: &'static aead::Algorithm,
    ) -> Result<(LessSafeKey, [u8; NONCE_LEN]), Unspecified> {
        let expander = self.expander();
        let mut iv = [0; NONCE_LEN];
        expand_label(&*expander, b"iv", &mut iv)?;
        let mut key = [0; MAX_KEY_LEN];
        let key_bytes = &mut key[..algorithm.key_len()];
        let unbound = expand_label(&*expander, b"key", key_bytes)
            .and_then(|()| UnboundKey::new(algorithm, key_bytes));
        key.zeroize();
        Ok((LessSafeKey::new(unbound?), iv))
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Secret").field(&self.hash).finish()
    }
}

/// HKDF-Expand-Label with an empty context (RFC 8446 §7.1). `out` has at most 48 bytes and
/// `label` at most 12.
fn expand_label(
    expander: &dyn HkdfExpander,
    label: &[u8],
    out: &mut [u8],
) -> Result<(), Unspecified> {
    const PREFIX: &[u8] = b"tls13 ";
    let out_len = u16::try_from(out.len()).map_err(|_| Unspecified)?.to_be_bytes();
    let label_len = [u8::try_from(PREFIX.len() + label.len()).map_err(|_| Unspecified)?];
    let context_len = [0];
    let info: [&[u8]; 5] = [&out_len, &label_len, PREFIX, label, &context_len];
    expander.expand_slice(&info, out).map_err(|_| Unspecified)
}

/// Everything that protects one direction.
pub(super) struct Keys {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    /// The number of the next record under this key.
    sequence: u64,
    /// Only TLS 1.3 has one.
    secret: Option<Secret>,
}

impl Keys {
    pub(super) fn new(
        (sequence, extracted): (u64, ConnectionTrafficSecrets),
        secret: Option<Secret>,
    ) -> Result<Self, SetupError> {
        let (algorithm, key, iv) = match &extracted {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&aead::AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&aead::AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
                (&aead::CHACHA20_POLY1305, key, iv)
            }
            _ => return Err(SetupError::UnsupportedSuite),
        };
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| SetupError::KeyRejected)?;
        let iv = iv.as_ref().try_into().map_err(|_| SetupError::KeyRejected)?;
        let secret = secret.map(|secret| secret.advance_to(iv)).transpose()?;
        Ok(Self { key: LessSafeKey::new(key), iv, sequence, secret })
    }

    #[inline]
    pub(super) fn key(&self) -> &LessSafeKey {
        &self.key
    }

    #[inline]
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The nonce of the next record: IV XOR sequence number (RFC 8446 §5.3, RFC 7905 §2). It is
    /// unique as long as [`Self::advance`] follows each use. With RFC 5288, which leaves the
    /// explicit part to the sender, it serves for sending alike.
    #[inline]
    pub(super) fn nonce(&self) -> [u8; NONCE_LEN] {
        let mut nonce = self.iv;
        for (byte, sequence) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= sequence;
        }
        nonce
    }

    /// The nonce of a received TLS 1.2 GCM record: our salt and what the peer chose
    /// (RFC 5288 §3).
    #[inline]
    pub(super) fn nonce_with_explicit(&self, explicit: [u8; 8]) -> [u8; NONCE_LEN] {
        let mut nonce = self.iv;
        nonce[4..].copy_from_slice(&explicit);
        nonce
    }

    /// Counts one record; `None` where the sequence number would wrap.
    #[inline]
    pub(super) fn advance(&mut self) -> Option<()> {
        self.sequence = self.sequence.checked_add(1)?;
        Some(())
    }

    /// Moves to the keys after a KeyUpdate (RFC 8446 §7.2); the old ones are wiped.
    pub(super) fn update(&mut self) -> Result<(), Unspecified> {
        let secret = self.secret.as_ref().ok_or(Unspecified)?.next()?;
        let (key, iv) = secret.derive(self.key.algorithm())?;
        self.key = key;
        self.iv = iv;
        self.sequence = 0;
        self.secret = Some(secret);
        Ok(())
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // The key itself lives with the cryptography library, which wipes what it frees.
        self.iv.zeroize();
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("algorithm", self.key.algorithm())
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}
