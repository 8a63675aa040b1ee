//! Who is how often shaking hands: handshakes in flight by address, in the whole process.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Whose address it is, as far as addresses tell: an IPv4 address, or an IPv6 network of 64 bits,
/// of which a single host may use every address (RFC 4291 §2.5.4, RFC 8981).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Origin {
    V4(Ipv4Addr),
    V6([u16; 4]),
}

impl From<IpAddr> for Origin {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self::V6([a, b, c, d])
            }
        }
    }
}

/// Parts of the table, each behind a lock of its own: workers seldom meet at one.
const SHARDS: usize = 64;

/// Handshakes in flight by origin. It holds no more entries than there are handshakes in flight:
/// one that falls to 0 is taken out.
#[derive(Debug)]
pub(super) struct Addresses {
    /// Keyed at random, so that nobody can choose addresses that meet in one shard.
    hasher: RandomState,
    shards: [Mutex<HashMap<Origin, usize>>; SHARDS],
    limit: AtomicUsize,
}

impl Addresses {
    /// With a limit for each origin; `None` is none.
    pub(super) fn new(limit: Option<usize>) -> Self {
        let addresses = Self {
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| Mutex::default()),
            limit: AtomicUsize::default(),
        };
        addresses.set_limit(limit);
        addresses
    }

    pub(super) fn set_limit(&self, limit: Option<usize>) {
        self.limit.store(limit.unwrap_or(usize::MAX), Ordering::Relaxed);
    }

    /// One more, if the limit allows it. It is counted without a limit too: a reload may set one.
    pub(super) fn take(&self, origin: Origin) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        self.with_shard(origin, |shard| {
            let count = shard.entry(origin).or_default();
            if *count >= limit {
                return false;
            }
            *count += 1;
            true
        })
    }

    pub(super) fn give_back(&self, origin: Origin) {
        self.with_shard(origin, |shard| {
            if let Some(count) = shard.get_mut(&origin) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    shard.remove(&origin);
                }
            }
        });
    }

    fn with_shard<R>(
        &self,
        origin: Origin,
        use_it: impl FnOnce(&mut HashMap<Origin, usize>) -> R,
    ) -> R {
        #[allow(clippy::cast_possible_truncation)] // only the low bits are wanted
        let shard = self.hasher.hash_one(origin) as usize % SHARDS;
        // Whatever panicked while it was locked: it holds whole entries only.
        use_it(&mut self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().expect("no panic").len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(address: &str) -> Origin {
        Origin::from(address.parse::<IpAddr>().expect("an address"))
    }

    #[test]
    fn an_origin_is_an_ipv4_address_or_an_ipv6_network() {
        assert_ne!(origin("192.0.2.1"), origin("192.0.2.2"));
        assert_eq!(origin("192.0.2.1"), origin("::ffff:192.0.2.1"));
        assert_eq!(origin("2001:db8:0:1::1"), origin("2001:db8:0:1:ffff::2"));
        assert_ne!(origin("2001:db8:0:1::1"), origin("2001:db8:0:2::1"));
        assert_ne!(origin("::1"), origin("0.0.0.1"));
    }

    #[test]
    fn an_origin_has_its_limit_and_leaves_others_theirs() {
        let addresses = Addresses::new(Some(2));
        let (one, other) = (origin("192.0.2.1"), origin("192.0.2.2"));
        assert!(addresses.take(one) && addresses.take(one) && !addresses.take(one));
        assert!(addresses.take(other));
        addresses.give_back(one);
        assert!(addresses.take(one));
        addresses.set_limit(None);
        assert!((0..100).all(|_| addresses.take(one)));
    }

    #[test]
    fn nothing_is_kept_of_whom_nothing_is_in_flight() {
        let addresses = Addresses::new(Some(1));
        for number in 0..1000_u32 {
            assert!(addresses.take(Origin::V4(Ipv4Addr::from(number))));
            assert!(!addresses.take(Origin::V4(Ipv4Addr::from(number))));
        }
        assert_eq!(addresses.len(), 1000);
        for number in 0..1000_u32 {
            addresses.give_back(Origin::V4(Ipv4Addr::from(number)));
        }
        assert_eq!(addresses.len(), 0);
    }
}
