//! The sessions that this process keeps for its clients, shared by all workers and listeners.

use std::sync::{Mutex, MutexGuard};

use zeroize::Zeroizing;

use super::shard::{Gone, Kept, SESSION_ID_LEN, SessionId, Shard};
use crate::metrics::CacheMetrics;

/// Memory behind one lock. A shard is small, so that whatever has to go over all of it is short.
const SHARD_BYTES: usize = 1 << 20;

/// The most shards: with 64 GiB, one has 16 MiB.
const MAX_SHARDS: usize = 4096;

/// Slots that are looked at in one [`SessionCache::tidy`], in all shards together.
const TIDIED_AT_A_TIME: usize = 16_384;

/// Sessions by their id, bounded in bytes.
///
/// It is in shards with a lock each, which is held for the time of a look-up and a copy. What an
/// operation does is bounded, however many sessions there are. A session is overwritten when it is
/// dropped, whatever for.
#[derive(Debug)]
pub struct SessionCache {
    /// Their number is a power of two.
    shards: Box<[Padded]>,
    metrics: CacheMetrics,
}

/// On cache lines of its own: workers that use neighbouring shards don't hinder each other.
#[derive(Debug)]
#[repr(align(128))]
struct Padded(Mutex<Shard>);

impl SessionCache {
    /// An empty one that takes `bytes` of memory at most, with all that it needs itself.
    pub fn new(bytes: usize, metrics: CacheMetrics) -> Self {
        let shards = 1_usize << (bytes / SHARD_BYTES).clamp(1, MAX_SHARDS).ilog2();
        let shard = |_| Padded(Mutex::new(Shard::new(bytes / shards)));
        Self { shards: (0..shards).map(shard).collect(), metrics }
    }

    /// Keeps a session under an id that was made at random. What has no room any more goes, or is
    /// over at `now_s` (seconds since 1970). `false`: it isn't kept.
    pub fn put(&self, id: &[u8], session: Zeroizing<Box<[u8]>>, kept: Kept, now_s: u64) -> bool {
        let mut gone = Gone::default();
        let is_kept = self
            .shard(id)
            .is_some_and(|(mut shard, id)| shard.put(id, session, kept, now_s, &mut gone));
        self.count(gone);
        is_kept
    }

    /// Takes out a session that is for one use. Of several who ask at the same time one gets it.
    pub fn take(&self, id: &[u8], now_s: u64) -> Option<Zeroizing<Box<[u8]>>> {
        self.shard(id).and_then(|(mut shard, id)| shard.take(id, now_s))
    }

    /// Copies a session that is for many uses.
    pub fn get(&self, id: &[u8], now_s: u64) -> Option<Zeroizing<Box<[u8]>>> {
        self.shard(id).and_then(|(mut shard, id)| shard.get(id, now_s))
    }

    /// Drops sessions that are over at `now_s`, some of them at a time, and publishes how many
    /// there are.
    pub fn tidy(&self, now_s: u64) {
        let (mut entries, mut bytes, mut gone) = (0, 0, Gone::default());
        for mut shard in self.shards.iter().filter_map(Padded::lock) {
            gone.expired += shard.sweep(now_s, (TIDIED_AT_A_TIME / self.shards.len()).max(1));
            entries += shard.entries();
            bytes += shard.bytes();
        }
        self.count(gone);
        self.metrics.holds(entries, bytes);
    }

    /// Drops all sessions; none is kept any more.
    pub(super) fn close(&self) {
        for mut shard in self.shards.iter().filter_map(Padded::lock) {
            *shard = Shard::new(0);
        }
    }

    /// How many sessions there are, and the bytes of memory that they take.
    pub fn size(&self) -> (usize, usize) {
        let sizes = self.shards.iter().filter_map(Padded::lock);
        sizes.fold((0, 0), |(entries, bytes), shard| {
            (entries + shard.entries(), bytes + shard.bytes())
        })
    }

    /// The shard of an id; none for what can't be one of ours.
    fn shard<'i>(&self, id: &'i [u8]) -> Option<(MutexGuard<'_, Shard>, &'i SessionId)> {
        let id: &[u8; SESSION_ID_LEN] = id.try_into().ok()?;
        let first = usize::from(u16::from_le_bytes([id[0], id[1]]));
        let shard = self.shards[first & (self.shards.len() - 1)].lock()?;
        Some((shard, id))
    }

    fn count(&self, gone: Gone) {
        if gone != Gone::default() {
            self.metrics.gone(gone.expired, gone.evicted);
        }
    }
}

impl Padded {
    /// A shard whose holder has panicked may be in any state: it keeps nothing from then on, and
    /// whoever asks makes a full handshake.
    fn lock(&self) -> Option<MutexGuard<'_, Shard>> {
        self.0.lock().ok()
    }
}
