//! What was verified before: a client that comes back is not verified from scratch.
//!
//! A decision depends on the chain, the policy and the time alone. Under one policy a chain that
//! was admitted is admitted again at any later second in which all of its path is still valid, so
//! the permit can be handed out without verifying the path's signatures again. That the client
//! has the key is proved in each handshake, here as there.
//!
//! Successes only: a stranger can neither fill the memory nor push anybody out of it. A policy's
//! memory ends with the policy, so nothing survives a reload.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use aws_lc_rs::digest::{Context, SHA256};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::Permit;

/// Shards, so that workers rarely wait for each other.
const SHARDS: usize = 16;

/// Chains in the younger half of a shard; with the older half, 8192 chains in a policy. A chain
/// takes some 700 bytes, so at most 6 MB.
const CHAINS_A_HALF: usize = 256;

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

#[derive(Debug)]
struct Admitted {
    /// The certificates' first seconds had all come by then.
    since: UnixTime,
    permit: Permit,
}

/// Two halves: when the younger one is full it becomes the older one, and what was in that is
/// forgotten. Whoever is seen again moves to the younger half.
#[derive(Debug, Default)]
struct Shard {
    younger: HashMap<ChainDigest, Admitted>,
    older: HashMap<ChainDigest, Admitted>,
}

impl Shard {
    fn insert(&mut self, digest: ChainDigest, admitted: Admitted) {
        if self.younger.len() >= CHAINS_A_HALF {
            self.older = std::mem::take(&mut self.younger);
        }
        self.younger.insert(digest, admitted);
    }

    fn get(&mut self, digest: ChainDigest, now: UnixTime) -> Option<Permit> {
        if let Some(admitted) = self.older.remove(&digest) {
            self.insert(digest, admitted);
        }
        let admitted = self.younger.get(&digest)?;
        let until = admitted.permit.valid_until()?;
        (admitted.since <= now && now <= until).then(|| admitted.permit.clone())
    }
}

/// The chains that a policy has admitted lately.
#[derive(Debug, Default)]
pub(super) struct Verified([Mutex<Shard>; SHARDS]);

impl Verified {
    /// The permit of a chain that was admitted before and whose path is valid at `now`.
    pub(super) fn get(&self, digest: ChainDigest, now: UnixTime) -> Option<Permit> {
        self.shard(digest, |shard| shard.get(digest, now))
    }

    /// Remembers that a chain was admitted at `now`.
    pub(super) fn insert(&self, digest: ChainDigest, now: UnixTime, permit: &Permit) {
        let admitted = Admitted { since: now, permit: permit.clone() };
        self.shard(digest, |shard| shard.insert(digest, admitted));
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
        let now = UnixTime::now();
        let admitted = || Admitted { since: now, permit: Permit::anonymous() };
        shard.insert(digest(0), admitted());
        for number in 1..10 * CHAINS_A_HALF {
            shard.insert(digest(number), admitted());
            let _ = shard.get(digest(0), now);
        }
        assert!(shard.younger.len() <= CHAINS_A_HALF && shard.older.len() <= CHAINS_A_HALF);
        let known =
            |digest| shard.younger.contains_key(&digest) || shard.older.contains_key(&digest);
        assert!(known(digest(0)) && !known(digest(1)));
    }
}
