//! Which addresses were let in lately: a table of fixed size that all workers share without a
//! lock.
//!
//! An entry is one word: a fingerprint of the origin and the time. The hash that the fingerprint
//! and the bucket come from is keyed at random when the process starts (SipHash), so that nobody
//! can choose an address that passes for another one. A stranger is taken for somebody known if
//! one of the [`WAYS`] entries of its bucket has its fingerprint by chance: with
//! [`FINGERPRINT_BITS`] at most once in 2^37 strangers, and then it has a share of the reserve for
//! a while, which is all that is known by.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use super::addresses::Origin;

/// How long an address is known after its last handshake that was authorised.
pub(super) const KNOWN_FOR: Duration = Duration::from_secs(3600);

/// Addresses that are remembered: 512 KiB. Of more, those of a bucket that were not seen for the
/// longest time are forgotten.
const MAX_KNOWN_ADDRESSES: usize = 65_536;

/// Entries that an address may lie in: those of one cache line.
const WAYS: usize = 8;

const BUCKETS: usize = MAX_KNOWN_ADDRESSES / WAYS;

/// The rest of a word is the time, in units that last for eight years.
const FINGERPRINT_BITS: u32 = 40;
const TIME_BITS: u32 = u64::BITS - FINGERPRINT_BITS;
const TIME_UNIT_S: u64 = 16;

#[derive(Debug, Default)]
#[repr(align(64))]
struct Bucket([AtomicU64; WAYS]);

/// The addresses that were let in lately.
#[derive(Debug)]
pub(super) struct Recent {
    began: Instant,
    hasher: RandomState,
    buckets: Box<[Bucket]>,
}

impl Recent {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            hasher: RandomState::new(),
            buckets: (0..BUCKETS).map(|_| Bucket::default()).collect(),
        }
    }

    /// Somebody from there was let in.
    pub(super) fn note(&self, origin: Origin) {
        self.note_at(origin, self.began.elapsed());
    }

    /// Whether somebody from there was let in lately.
    pub(super) fn contains(&self, origin: Origin) -> bool {
        self.contains_at(origin, self.began.elapsed())
    }

    fn note_at(&self, origin: Origin, now: Duration) {
        let (bucket, fingerprint) = self.place(origin);
        let now = units(now);
        let entry = fingerprint | now;
        let seen = bucket.0.each_ref().map(|slot| slot.load(Ordering::Relaxed));
        let own = seen.iter().position(|seen| seen & !TIME_MASK == fingerprint && *seen != 0);
        // The oldest; one that was never used is older than all.
        let oldest = || (0..WAYS).min_by_key(|&way| seen[way] & TIME_MASK).unwrap_or(0);
        let way = own.unwrap_or_else(oldest);
        // Where two workers write at once, one of them loses: it is noted the next time. What is
        // known already isn't written again, so that workers don't take the line from each other.
        if seen[way] != entry {
            bucket.0[way].store(entry, Ordering::Relaxed);
        }
    }

    fn contains_at(&self, origin: Origin, now: Duration) -> bool {
        let (bucket, fingerprint) = self.place(origin);
        let now = units(now);
        bucket.0.iter().any(|slot| {
            let entry = slot.load(Ordering::Relaxed);
            let age = now.saturating_sub(entry & TIME_MASK);
            entry != 0
                && entry & !TIME_MASK == fingerprint
                && age <= KNOWN_FOR.as_secs() / TIME_UNIT_S
        })
    }

    /// Bucket and fingerprint come from different bits of the hash.
    fn place(&self, origin: Origin) -> (&Bucket, u64) {
        let hash = self.hasher.hash_one(origin);
        #[allow(clippy::cast_possible_truncation)] // below the number of buckets
        let bucket = ((hash & TIME_MASK) % BUCKETS as u64) as usize;
        (&self.buckets[bucket], hash & !TIME_MASK)
    }
}

const TIME_MASK: u64 = (1 << TIME_BITS) - 1;

/// Never 0, which is an entry that was never used.
fn units(now: Duration) -> u64 {
    (now.as_secs() / TIME_UNIT_S + 1).min(TIME_MASK)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn origin(number: u32) -> Origin {
        Origin::V4(Ipv4Addr::from(number))
    }

    #[test]
    fn an_address_is_known_for_an_hour_after_it_was_let_in_last() {
        let recent = Recent::new();
        let (hour, begin) = (KNOWN_FOR, Duration::from_secs(100));
        assert!(!recent.contains_at(origin(1), begin));
        recent.note_at(origin(1), begin);
        assert!(recent.contains_at(origin(1), begin));
        assert!(recent.contains_at(origin(1), begin + hour));
        assert!(!recent.contains_at(origin(1), begin + hour + Duration::from_secs(TIME_UNIT_S)));
        recent.note_at(origin(1), begin + hour);
        assert!(recent.contains_at(origin(1), begin + hour * 2));
        assert!(!recent.contains_at(origin(2), begin));
    }

    #[test]
    fn an_address_that_comes_again_takes_no_second_entry() {
        let recent = Recent::new();
        for hour in 0..20 {
            recent.note_at(origin(7), KNOWN_FOR * hour);
        }
        let (bucket, _) = recent.place(origin(7));
        let used = bucket.0.iter().filter(|slot| slot.load(Ordering::Relaxed) != 0).count();
        assert_eq!(used, 1);
    }

    /// Shows the bound: twice as many addresses as there is room for leave the table as it is,
    /// full of the newest, and strangers are still strangers.
    #[test]
    fn more_addresses_than_fit_push_out_the_oldest_and_let_no_stranger_in() {
        let recent = Recent::new();
        let number = u32::try_from(MAX_KNOWN_ADDRESSES).expect("a small number");
        let later = Duration::from_secs(TIME_UNIT_S);
        (0..number).for_each(|n| recent.note_at(origin(n), Duration::ZERO));
        (number..2 * number).for_each(|n| recent.note_at(origin(n), later));
        let known =
            |from: u32| (from..from + number).filter(|n| recent.contains_at(origin(*n), later));
        let (old, new) = (known(0).count(), known(number).count());
        assert!(old + new <= MAX_KNOWN_ADDRESSES, "{old} + {new}");
        assert!(new > MAX_KNOWN_ADDRESSES * 8 / 10, "{new}");
        assert_eq!(known(2 * number).count(), 0, "strangers");
    }

    #[test]
    fn the_table_is_as_large_as_its_documentation_says() {
        assert_eq!(Recent::new().buckets.len() * size_of::<Bucket>(), 512 * 1024);
    }
}
