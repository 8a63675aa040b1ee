//! A part of the cache behind one lock: sessions by their id, bounded in bytes.
//!
//! Who goes when there is no room is decided as in S3-FIFO (Yang et al., SOSP 2023), with what is
//! known of sessions. There are two queues. A session of a client that was never seen before waits
//! in the first one, which is the first to make room while it takes more than a tenth of the
//! memory. Sessions of clients that have come back are in the second. So a flood of clients that
//! never come back pushes out each other, and not those that do.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use zeroize::Zeroizing;

/// Bytes of a session's id: of those that rustls makes for TLS 1.3, and the most that TLS 1.2
/// allows (RFC 5246 §7.4.1.2).
pub const SESSION_ID_LEN: usize = 32;

/// What identifies a session. Those that are kept were made at random here, so that the bytes are
/// as good as their hash: whoever asks for others can't make them meet.
pub(super) type SessionId = [u8; SESSION_ID_LEN];

/// The share of the memory that new clients may take while others wait for room: one in that many.
const NEW_CLIENTS_SHARE: usize = 10;

/// Sessions that are spared, since they were used, while room is made for one: bounds the work.
const MAX_SPARED: usize = 8;

/// Slots that are looked at for what is over when a session is put in.
const SWEPT_A_PUT: usize = 4;

/// Places for sessions that are made at a time.
const SLOTS_AT_A_TIME: usize = 64;

/// Memory for each of the buckets that ids are looked up in: about a session, so that a bucket has
/// about one.
const BYTES_A_BUCKET: usize = 1024;

/// No slot.
const NONE: u32 = u32::MAX;

/// How often a session may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uses {
    /// Once: it is taken out (TLS 1.3, RFC 8446 §C.4).
    Once,
    /// Until its end (TLS 1.2 by session id, RFC 5246 §F.1.4).
    Many,
}

/// How a session is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// How often it may be asked for.
    pub uses: Uses,
    /// The last second in which it may be, since 1970.
    pub ends_at_s: u64,
    /// Whether its client has resumed one before.
    pub came_back: bool,
}

/// How many sessions had to go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Gone {
    /// Since they were over.
    pub(super) expired: usize,
    /// For others.
    pub(super) evicted: usize,
}

/// A place for a session.
#[derive(Debug)]
struct Slot {
    id: SessionId,
    /// Overwritten when it is dropped. Empty in a slot that is vacant.
    session: Zeroizing<Box<[u8]>>,
    ends_at_s: u64,
    /// Neighbours in the queue.
    older: u32,
    newer: u32,
    /// The next one in its bucket, or the next vacant one.
    chained: u32,
    uses: Uses,
    state: State,
    /// Asked for since it came to where it is in the queue.
    was_used: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Vacant,
    New,
    Back,
}

/// A queue of slots; it is read from the oldest on.
#[derive(Debug)]
struct Queue {
    oldest: u32,
    newest: u32,
    /// Of its sessions, without their slots.
    bytes: usize,
}

impl Queue {
    const EMPTY: Self = Self { oldest: NONE, newest: NONE, bytes: 0 };
}

/// A part of the cache.
#[derive(Debug)]
pub(super) struct Shard {
    slots: Vec<Slot>,
    vacant: u32,
    /// The first slot of each; their number is a power of two.
    buckets: Box<[u32]>,
    new: Queue,
    back: Queue,
    entries: usize,
    /// Where the search for sessions that are over goes on.
    hand: usize,
    capacity: usize,
}

impl Shard {
    /// An empty one that takes `capacity` bytes at most.
    pub(super) fn new(capacity: usize) -> Self {
        let buckets = (capacity / BYTES_A_BUCKET).next_power_of_two();
        Self {
            slots: Vec::new(),
            vacant: NONE,
            buckets: vec![NONE; buckets].into(),
            new: Queue::EMPTY,
            back: Queue::EMPTY,
            entries: 0,
            hand: 0,
            capacity,
        }
    }

    /// How many sessions there are.
    pub(super) fn entries(&self) -> usize {
        self.entries
    }

    /// The memory that they take, with all that they need.
    pub(super) fn bytes(&self) -> usize {
        let fixed = size_of_val(&*self.buckets) + self.slots.capacity() * size_of::<Slot>();
        fixed + self.new.bytes + self.back.bytes
    }

    /// Keeps a session; one of the same id is replaced. What is over at `now_s`, and what others
    /// have to make room for, is dropped. `false`: it is too large.
    pub(super) fn put(
        &mut self,
        id: &SessionId,
        session: Zeroizing<Box<[u8]>>,
        kept: Kept,
        now_s: u64,
        gone: &mut Gone,
    ) -> bool {
        if let Some(slot) = self.find(id, None) {
            self.remove(slot);
        }
        gone.expired += self.sweep(now_s, SWEPT_A_PUT);
        if !self.make_room(allocated(session.len()), now_s, gone) {
            return false;
        }
        let Some(slot) = self.take_vacant() else { return false };
        let state = if kept.came_back { State::Back } else { State::New };
        let bucket = self.bucket(id);
        let chained = std::mem::replace(&mut self.buckets[bucket], slot);
        let Kept { uses, ends_at_s, .. } = kept;
        self.slots[slot as usize] = Slot {
            id: *id,
            session,
            ends_at_s,
            older: NONE,
            newer: NONE,
            chained,
            uses,
            state,
            was_used: false,
        };
        self.enqueue(slot);
        self.entries += 1;
        true
    }

    /// Takes a session out that is for one use; `None` if there is none, or it is over.
    pub(super) fn take(&mut self, id: &SessionId, now_s: u64) -> Option<Zeroizing<Box<[u8]>>> {
        let slot = self.find(id, Some(Uses::Once))?;
        let is_over = self.is_over(slot, now_s);
        let session = self.remove(slot);
        (!is_over).then_some(session)
    }

    /// Copies a session that is for many uses; `None` if there is none, or it is over.
    pub(super) fn get(&mut self, id: &SessionId, now_s: u64) -> Option<Zeroizing<Box<[u8]>>> {
        let slot = self.find(id, Some(Uses::Many))?;
        if self.is_over(slot, now_s) {
            self.remove(slot);
            return None;
        }
        let found = &mut self.slots[slot as usize];
        found.was_used = true;
        Some(found.session.clone())
    }

    /// Drops what is over at `now_s` among the next `slots` ones, and says how many that were.
    pub(super) fn sweep(&mut self, now_s: u64, slots: usize) -> usize {
        let mut expired = 0;
        for _ in 0..slots.min(self.slots.len()) {
            self.hand = (self.hand + 1) % self.slots.len();
            let Ok(slot) = u32::try_from(self.hand) else { break };
            if self.slots[self.hand].state != State::Vacant && self.is_over(slot, now_s) {
                self.remove(slot);
                expired += 1;
            }
        }
        expired
    }

    /// Drops sessions until one of `bytes` fits; `false` if none is left and it doesn't.
    fn make_room(&mut self, bytes: usize, now_s: u64, gone: &mut Gone) -> bool {
        let mut spare = MAX_SPARED;
        loop {
            let is_full = self.vacant == NONE && self.slots.len() == self.slots.capacity();
            let growth = if is_full { SLOTS_AT_A_TIME * size_of::<Slot>() } else { 0 };
            if self.bytes() + bytes + growth <= self.capacity {
                return true;
            }
            let Some(slot) = self.first_to_go() else { return false };
            let is_over = self.is_over(slot, now_s);
            if !is_over && spare > 0 && self.slots[slot as usize].was_used {
                spare -= 1;
                self.dequeue(slot);
                self.slots[slot as usize].state = State::Back;
                self.slots[slot as usize].was_used = false;
                self.enqueue(slot);
                continue;
            }
            self.remove(slot);
            *(if is_over { &mut gone.expired } else { &mut gone.evicted }) += 1;
        }
    }

    fn first_to_go(&self) -> Option<u32> {
        let new_first = self.new.bytes > self.capacity / NEW_CLIENTS_SHARE;
        let (first, second) =
            if new_first { (&self.new, &self.back) } else { (&self.back, &self.new) };
        [first.oldest, second.oldest].into_iter().find(|slot| *slot != NONE)
    }

    fn is_over(&self, slot: u32, now_s: u64) -> bool {
        self.slots[slot as usize].ends_at_s < now_s
    }

    fn bucket(&self, id: &SessionId) -> usize {
        // The first bytes choose the shard.
        let bytes = [id[8], id[9], id[10], id[11]];
        u32::from_le_bytes(bytes) as usize & (self.buckets.len() - 1)
    }

    /// The slot of a session that may be used in that way, if one is asked for. An id is a secret
    /// of its client: comparing takes the same time wherever it differs.
    fn find(&self, id: &SessionId, uses: Option<Uses>) -> Option<u32> {
        let mut next = self.buckets[self.bucket(id)];
        while next != NONE {
            let slot = &self.slots[next as usize];
            let fits = uses.is_none_or(|uses| uses == slot.uses);
            if fits && verify_slices_are_equal(&slot.id, id).is_ok() {
                return Some(next);
            }
            next = slot.chained;
        }
        None
    }

    /// A slot that is vacant; [`Shard::make_room`] has found that there is memory for it.
    fn take_vacant(&mut self) -> Option<u32> {
        if self.vacant != NONE {
            let slot = self.vacant;
            self.vacant = self.slots[slot as usize].chained;
            return Some(slot);
        }
        let slot = u32::try_from(self.slots.len()).ok().filter(|slot| *slot != NONE)?;
        if self.slots.len() == self.slots.capacity() {
            self.slots.reserve_exact(SLOTS_AT_A_TIME);
        }
        self.slots.push(Slot::vacant(NONE));
        Some(slot)
    }

    /// Takes a session out of its bucket and queue; its slot is vacant then.
    fn remove(&mut self, slot: u32) -> Zeroizing<Box<[u8]>> {
        let (id, chained) = (self.slots[slot as usize].id, self.slots[slot as usize].chained);
        let bucket = self.bucket(&id);
        if self.buckets[bucket] == slot {
            self.buckets[bucket] = chained;
        } else {
            let mut before = self.buckets[bucket];
            while self.slots[before as usize].chained != slot {
                before = self.slots[before as usize].chained;
            }
            self.slots[before as usize].chained = chained;
        }
        self.dequeue(slot);
        self.entries -= 1;
        let vacant = Slot::vacant(self.vacant);
        self.vacant = slot;
        std::mem::replace(&mut self.slots[slot as usize], vacant).session
    }

    /// Puts a slot at the end of the queue that its state says.
    fn enqueue(&mut self, slot: u32) {
        let state = self.slots[slot as usize].state;
        let bytes = allocated(self.slots[slot as usize].session.len());
        let queue = self.queue(state);
        queue.bytes += bytes;
        let older = std::mem::replace(&mut queue.newest, slot);
        if older == NONE {
            queue.oldest = slot;
        } else {
            self.slots[older as usize].newer = slot;
        }
        (self.slots[slot as usize].older, self.slots[slot as usize].newer) = (older, NONE);
    }

    /// Takes a slot out of its queue.
    fn dequeue(&mut self, slot: u32) {
        let Slot { older, newer, state, ref session, .. } = self.slots[slot as usize];
        let bytes = allocated(session.len());
        let queue = self.queue(state);
        queue.bytes -= bytes;
        if older == NONE {
            queue.oldest = newer;
        }
        if newer == NONE {
            queue.newest = older;
        }
        if older != NONE {
            self.slots[older as usize].newer = newer;
        }
        if newer != NONE {
            self.slots[newer as usize].older = older;
        }
    }

    fn queue(&mut self, state: State) -> &mut Queue {
        match state {
            State::Back => &mut self.back,
            State::New | State::Vacant => &mut self.new,
        }
    }
}

impl Slot {
    fn vacant(next: u32) -> Self {
        Self {
            id: [0; SESSION_ID_LEN],
            session: Zeroizing::default(),
            ends_at_s: 0,
            older: NONE,
            newer: NONE,
            chained: next,
            uses: Uses::Once,
            state: State::Vacant,
            was_used: false,
        }
    }
}

/// The memory that an allocation of `len` bytes takes. Allocators have a few sizes; a quarter of
/// the power of two below is the coarsest step between them.
fn allocated(len: usize) -> usize {
    const MIN: usize = 16;
    let len = len.max(MIN);
    len.next_multiple_of(((1 << len.ilog2()) / 4).max(MIN))
}
