//! What was verified before: a client that comes back is not verified from scratch.
//!
//! What a path proves doesn't change, so it is kept with the permit, under the digest of the whole
//! chain. Whoever shows that chain again is decided about from there, by all that can change:
//! time, names, revocation. That the client has the key is proved in each handshake, here as
//! there.
//!
//! Successes only: a stranger can neither fill the memory nor push anybody out of it. A policy's
//! memory ends with the policy, so nothing survives a reload.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use aws_lc_rs::digest::{Context, SHA256};
use rustls_pki_types::CertificateDer;

use super::Permit;

/// Shards, so that workers rarely wait for each other.
const SHARDS: usize = 16;

/// Chains in the younger half of a shard; with the older half, 8192 chains in a policy. A chain
/// takes some 700 bytes, so some 6 MB; 72 MB if all have as many names as are remembered.
const CHAINS_A_HALF: usize = 256;

/// Bytes of names and URIs of a chain that is remembered: 100 names and more. A CA that issues
/// larger certificates pays for them with a verification each time, not others with memory.
const MAX_TEXT_BYTES: usize = 8 * 1024;

/// SHA-256 of a chain as the client presented it, each certificate with its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ChainDigest([u8; 32]);

impl ChainDigest {
    pub(super) fn of(chain: &[CertificateDer<'_>]) -> Self {
        let mut context = Context::new(&SHA256);
        for certificate in chain {
            context.update(&certificate.len().to_be_bytes());
            context.update(certificate);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        Self(digest)
    }

    /// The digest is uniform, so any of its bytes chooses as well as another.
    fn shard(self) -> usize {
        usize::from(self.0[0]) % SHARDS
    }
}

/// Two halves: when the younger one is full it becomes the older one, and what was in that is
/// forgotten. Whoever is seen again moves to the younger half.
#[derive(Debug, Default)]
struct Shard {
    younger: HashMap<ChainDigest, Permit>,
    older: HashMap<ChainDigest, Permit>,
}

impl Shard {
    fn insert(&mut self, digest: ChainDigest, permit: Permit) {
        if self.younger.len() >= CHAINS_A_HALF {
            self.older = std::mem::take(&mut self.younger);
        }
        self.younger.insert(digest, permit);
    }

    fn get(&mut self, digest: ChainDigest) -> Option<Permit> {
        if let Some(permit) = self.older.remove(&digest) {
            self.insert(digest, permit);
        }
        self.younger.get(&digest).cloned()
    }
}

/// The chains that a policy has admitted lately.
#[derive(Debug, Default)]
pub(super) struct Verified([Mutex<Shard>; SHARDS]);

impl Verified {
    /// What a chain was given before. By itself it is worth nothing: it has to be decided again.
    pub(super) fn get(&self, digest: ChainDigest) -> Option<Permit> {
        self.shard(digest, |shard| shard.get(digest))
    }

    /// Remembers that a chain was admitted, unless it takes too much memory.
    pub(super) fn insert(&self, digest: ChainDigest, permit: &Permit) {
        if permit.peer().is_some_and(|peer| peer.proof.text_bytes() > MAX_TEXT_BYTES) {
            return;
        }
        self.shard(digest, |shard| shard.insert(digest, permit.clone()));
    }

    /// A panic while a shard was locked can't leave it half changed in any way that matters: it
    /// holds whole entries only.
    fn shard<R>(&self, digest: ChainDigest, use_it: impl FnOnce(&mut Shard) -> R) -> R {
        use_it(&mut self.0[digest.shard()].lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: usize) -> ChainDigest {
        ChainDigest::of(&[CertificateDer::from(number.to_be_bytes().to_vec())])
    }

    #[test]
    fn the_boundaries_of_certificates_and_their_order_count() {
        let of = |parts: &[&[u8]]| {
            let chain: Vec<_> = parts.iter().map(|part| CertificateDer::from(*part)).collect();
            ChainDigest::of(&chain)
        };
        assert_ne!(of(&[b"ab", b"c"]), of(&[b"a", b"bc"]));
        assert_ne!(of(&[b"a", b"b"]), of(&[b"b", b"a"]));
        assert_ne!(of(&[b"a"]), of(&[b"a", b""]));
        assert_eq!(of(&[b"a", b"b"]), of(&[b"a", b"b"]));
    }

    #[test]
    fn memory_is_bounded_and_who_comes_back_stays() {
        let mut shard = Shard::default();
        shard.insert(digest(0), Permit::anonymous());
        for number in 1..10 * CHAINS_A_HALF {
            shard.insert(digest(number), Permit::anonymous());
            let _ = shard.get(digest(0));
        }
        assert!(shard.younger.len() <= CHAINS_A_HALF && shard.older.len() <= CHAINS_A_HALF);
        let known =
            |digest| shard.younger.contains_key(&digest) || shard.older.contains_key(&digest);
        assert!(known(digest(0)) && !known(digest(1)));
    }
}
