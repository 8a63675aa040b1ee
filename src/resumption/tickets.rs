//! Sessions that clients keep themselves, sealed into tickets.
//!
//! A ticket begins with the name of its key, as in RFC 5077 §4, so that of several keys the right
//! one is tried and no other. What follows is sealed with AES-256-GCM under a key that serves this
//! ticket alone, derived by HKDF-SHA256 (RFC 5869) from the shared secret and 32 random bytes. So
//! the number of tickets that a secret may seal isn't bounded by nonces that might meet.
//!
//! ```text
//! name of the key (16) | salt (32) | sealed session | tag (16)
//! ```

use std::fmt;

use arc_swap::ArcSwapOption;
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    error::Unspecified,
    hkdf::{HKDF_SHA256, KeyType, Prk, Salt},
    rand,
};
use rustls::{crypto::GetRandomFailed, server::ProducesTickets, ticketer::TicketRotator};
use zeroize::Zeroizing;

use crate::config::TicketKey;

/// How long the process seals with a key that it has made itself, seconds. Such a key opens tickets
/// for the same time again, then it is gone.
const ROTATION_S: u32 = 6 * 3600;

/// The longest that a ticket may be kept (RFC 8446 §4.6.1), seconds: files of keys stay for as long
/// as the operator leaves them.
const LIFETIME_S: u32 = 7 * 24 * 3600;

/// Bytes of a secret, and of what it is made into.
const SECRET_LEN: usize = 64;
const NAME_LEN: usize = 16;
const SALT_LEN: usize = 32;
const KEY_LEN: usize = 32;

/// What tells the keys derived from a secret apart, and the format from later ones.
const NAME_LABEL: &[u8] = b"countersign ticket v1 name";
const MASTER_LABEL: &[u8] = b"countersign ticket v1 master";
const KEY_LABEL: &[u8] = b"countersign ticket v1 key";

/// Seals sessions into tickets, and opens them.
#[derive(Debug)]
pub struct Sealing {
    lifetime_s: u32,
    /// None once others have taken their place.
    keys: ArcSwapOption<Box<dyn ProducesTickets>>,
}

impl Sealing {
    /// By a key that is made here and changed every [`ROTATION_S`].
    pub(super) fn by_own_keys() -> Result<Self, rustls::Error> {
        let generate = || -> Result<Box<dyn ProducesTickets>, GetRandomFailed> {
            let mut secret = Zeroizing::new([0; SECRET_LEN]);
            rand::fill(&mut *secret).map_err(|_| GetRandomFailed)?;
            let key = Key::new(&*secret).map_err(|_| GetRandomFailed)?;
            Ok(Box::new(Keys { keys: vec![key], lifetime_s: 2 * ROTATION_S }))
        };
        Ok(Self::by(2 * ROTATION_S, Box::new(TicketRotator::new(ROTATION_S, generate)?)))
    }

    /// By the first of these keys; all of them open.
    pub(super) fn by_shared_keys(keys: &[TicketKey]) -> Result<Self, rustls::Error> {
        let keys: Result<_, _> = keys.iter().map(|key| Key::new(&key.secret)).collect();
        let keys = keys.map_err(|_| rustls::Error::General("a ticket key can't be used".into()))?;
        Ok(Self::by(LIFETIME_S, Box::new(Keys { keys, lifetime_s: LIFETIME_S })))
    }

    fn by(lifetime_s: u32, keys: Box<dyn ProducesTickets>) -> Self {
        Self { lifetime_s, keys: ArcSwapOption::from_pointee(keys) }
    }

    /// Forgets the keys; nothing is sealed or opened any more.
    pub(super) fn close(&self) {
        self.keys.store(None);
    }
}

impl ProducesTickets for Sealing {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.lifetime_s
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        self.keys.load().as_ref()?.encrypt(session)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.keys.load().as_ref()?.decrypt(ticket)
    }
}

/// The first one seals.
#[derive(Debug)]
struct Keys {
    keys: Vec<Key>,
    lifetime_s: u32,
}

impl ProducesTickets for Keys {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.lifetime_s
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        self.keys.first()?.seal(session).ok()
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME_LEN>()?;
        let key = self.keys.iter().find(|key| key.name == *name)?;
        key.open(rest).ok()
    }
}

/// What a secret is made into.
struct Key {
    /// Derived from it, so that processes that share it agree, and nothing is learned from it.
    name: [u8; NAME_LEN],
    /// What the keys of tickets are derived from. aws-lc-rs overwrites it when it is dropped.
    master: Prk,
}

impl Key {
    fn new(secret: &[u8]) -> Result<Self, Unspecified> {
        let secret = Salt::new(HKDF_SHA256, &[]).extract(secret);
        let mut name = [0; NAME_LEN];
        secret.expand(&[NAME_LABEL], Bytes(NAME_LEN))?.fill(&mut name)?;
        // aws-lc-rs would extract again for each ticket.
        let mut master = Zeroizing::new([0; KEY_LEN]);
        secret.expand(&[MASTER_LABEL], Bytes(KEY_LEN))?.fill(&mut *master)?;
        Ok(Self { name, master: Prk::new_less_safe(HKDF_SHA256, &*master) })
    }

    /// The key of the one ticket that has this salt.
    fn for_ticket(&self, salt: &[u8; SALT_LEN]) -> Result<LessSafeKey, Unspecified> {
        let mut key = Zeroizing::new([0; KEY_LEN]);
        self.master.expand(&[KEY_LABEL, salt], Bytes(KEY_LEN))?.fill(&mut *key)?;
        Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &*key)?))
    }

    /// The format and the name are bound to what is sealed.
    fn associated(&self) -> Aad<[u8; NAME_LEN + 1]> {
        let mut associated = [1; NAME_LEN + 1];
        associated[1..].copy_from_slice(&self.name);
        Aad::from(associated)
    }

    fn seal(&self, session: &[u8]) -> Result<Vec<u8>, Unspecified> {
        const FRONT: usize = NAME_LEN + SALT_LEN;
        let mut salt = [0; SALT_LEN];
        rand::fill(&mut salt)?;
        let key = self.for_ticket(&salt)?;
        let mut ticket = Vec::with_capacity(FRONT + session.len() + AES_256_GCM.tag_len());
        ticket.extend_from_slice(&self.name);
        ticket.extend_from_slice(&salt);
        ticket.extend_from_slice(session);
        let tag =
            key.seal_in_place_separate_tag(once(), self.associated(), &mut ticket[FRONT..])?;
        ticket.extend_from_slice(tag.as_ref());
        Ok(ticket)
    }

    /// Opens what follows the name.
    fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let (salt, sealed) = sealed.split_first_chunk::<SALT_LEN>().ok_or(Unspecified)?;
        let key = self.for_ticket(salt)?;
        let mut session = Zeroizing::new(sealed.to_vec());
        let len = key.open_in_place(once(), self.associated(), &mut session)?.len();
        session.truncate(len);
        Ok(std::mem::take(&mut *session))
    }
}

impl fmt::Debug for Key {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}

/// The only nonce of a key that serves once.
fn once() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

/// The length of what HKDF is to make.
#[derive(Debug, Clone, Copy)]
struct Bytes(usize);

impl KeyType for Bytes {
    fn len(&self) -> usize {
        self.0
    }
}
