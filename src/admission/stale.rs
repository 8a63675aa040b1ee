//! The handshakes of one worker in the order in which they last got on, so that the one that
//! waits longest for its client is found at once.
//!
//! What counts as getting on is a whole flight of the protocol, not a byte: whoever drips stays
//! where it is. There are four lists, by whether the client's address is known and whether the
//! handshake has a place for its full cryptography; each is in order by itself, since whatever
//! gets on goes to its end.

use std::time::{Duration, Instant};

use slab::Slab;

/// How long a client may keep a handshake waiting for its next flight where others need the
/// place: a lost segment is repeated by then (RFC 6298 §2), and a flight crosses any network. While
/// there is room, `handshake_timeout` alone counts.
pub(super) const STALE_AFTER: Duration = Duration::from_secs(1);

/// Handshakes that are looked at for one that comes.
const MAX_LOOKS: usize = 8;

/// What a handshake is, which says in which list it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    /// Its client's address is.
    pub(super) known: bool,
    /// It has a place for its full cryptography.
    pub(super) full: bool,
}

impl Kind {
    const COUNT: usize = 4;

    fn index(self) -> usize {
        usize::from(self.known) * 2 + usize::from(self.full)
    }
}

/// The ends of a list.
#[derive(Debug, Clone, Copy, Default)]
struct Ends {
    first: Option<usize>,
    last: Option<usize>,
}

#[derive(Debug)]
struct Node<T> {
    item: T,
    /// Its list; `None` once it can't be dropped any more.
    kind: Option<Kind>,
    /// When it last got on.
    since: Instant,
    /// Its client's turn it is, not ours.
    waits: bool,
    before: Option<usize>,
    after: Option<usize>,
}

/// The handshakes of one worker.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    nodes: Slab<Node<T>>,
    lists: [Ends; Kind::COUNT],
}

impl<T> Waiting<T> {
    pub(super) fn new() -> Self {
        Self { nodes: Slab::new(), lists: [Ends::default(); Kind::COUNT] }
    }

    /// One that has just begun; its key.
    pub(super) fn insert(&mut self, item: T, kind: Kind, now: Instant) -> usize {
        let node = Node { item, kind: None, since: now, waits: false, before: None, after: None };
        let key = self.nodes.insert(node);
        self.append(key, kind);
        key
    }

    pub(super) fn get(&self, key: usize) -> &T {
        &self.nodes[key].item
    }

    pub(super) fn get_mut(&mut self, key: usize) -> &mut T {
        &mut self.nodes[key].item
    }

    /// In which list it stands.
    pub(super) fn kind(&self, key: usize) -> Option<Kind> {
        self.nodes[key].kind
    }

    /// Whether it is its client's turn.
    pub(super) fn set_waits(&mut self, key: usize, waits: bool) {
        self.nodes[key].waits = waits;
    }

    /// It got on, and is of that kind now.
    pub(super) fn got_on(&mut self, key: usize, kind: Kind, now: Instant) {
        if self.unlink(key).is_some() {
            self.nodes[key].since = now;
            self.append(key, kind);
        }
    }

    /// Takes it out of its list: it can't be dropped any more. Of which kind it was, if it was in
    /// one.
    pub(super) fn unlink(&mut self, key: usize) -> Option<Kind> {
        let node = &mut self.nodes[key];
        let kind = node.kind.take()?;
        let (before, after) = (node.before.take(), node.after.take());
        let ends = &mut self.lists[kind.index()];
        match before {
            Some(before) => self.nodes[before].after = after,
            None => ends.first = after,
        }
        match after {
            Some(after) => self.nodes[after].before = before,
            None => ends.last = before,
        }
        Some(kind)
    }

    /// Forgets it.
    pub(super) fn remove(&mut self, key: usize) -> T {
        self.unlink(key);
        self.nodes.remove(key).item
    }

    /// One of these kinds that has kept us waiting for [`STALE_AFTER`] for its client alone, which
    /// `is_silent` confirms. One whose turn it is ours, or whose client has spoken, goes to the
    /// end of its list instead.
    pub(super) fn stalest(
        &mut self,
        kinds: &[Kind],
        now: Instant,
        is_silent: impl Fn(&T) -> bool,
    ) -> Option<usize> {
        for _ in 0..MAX_LOOKS {
            let firsts = kinds.iter().filter_map(|kind| self.lists[kind.index()].first);
            let key = firsts.min_by_key(|&key| self.nodes[key].since)?;
            let node = &self.nodes[key];
            if now.saturating_duration_since(node.since) < STALE_AFTER {
                return None;
            }
            if node.waits && is_silent(&node.item) {
                return Some(key);
            }
            let kind = node.kind?;
            self.got_on(key, kind, now);
        }
        None
    }

    fn append(&mut self, key: usize, kind: Kind) {
        let ends = &mut self.lists[kind.index()];
        let before = ends.last.replace(key);
        match before {
            Some(before) => self.nodes[before].after = Some(key),
            None => ends.first = Some(key),
        }
        let node = &mut self.nodes[key];
        node.kind = Some(kind);
        node.before = before;
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRANGER: Kind = Kind { known: false, full: false };
    const FULL: Kind = Kind { known: false, full: true };
    const KNOWN: Kind = Kind { known: true, full: false };

    /// Handshakes by name, and a clock.
    struct Worker {
        waiting: Waiting<&'static str>,
        now: Instant,
    }

    impl Worker {
        fn new() -> Self {
            Self { waiting: Waiting::new(), now: Instant::now() }
        }

        fn begin(&mut self, name: &'static str, kind: Kind) -> usize {
            let key = self.waiting.insert(name, kind, self.now);
            self.waiting.set_waits(key, true);
            key
        }

        fn pass(&mut self, ms: u64) {
            self.now += Duration::from_millis(ms);
        }

        fn stalest(&mut self, kinds: &[Kind]) -> Option<&'static str> {
            let key = self.waiting.stalest(kinds, self.now, |_| true)?;
            Some(*self.waiting.get(key))
        }
    }

    #[test]
    fn the_one_that_waits_longest_is_found_once_it_has_waited_long_enough() {
        let mut worker = Worker::new();
        worker.begin("first", STRANGER);
        worker.pass(500);
        worker.begin("second", FULL);
        assert_eq!(worker.stalest(&[STRANGER, FULL]), None);
        worker.pass(500);
        assert_eq!(worker.stalest(&[FULL]), None);
        assert_eq!(worker.stalest(&[STRANGER, FULL]), Some("first"));
        worker.pass(500);
        assert_eq!(worker.stalest(&[FULL]), Some("second"));
        assert_eq!(worker.stalest(&[FULL, STRANGER]), Some("first"));
        assert_eq!(worker.stalest(&[KNOWN]), None);
    }

    #[test]
    fn whoever_gets_on_begins_anew_and_whoever_drips_does_not() {
        let mut worker = Worker::new();
        let slow = worker.begin("slow", STRANGER);
        let drips = worker.begin("drips", STRANGER);
        worker.pass(900);
        worker.waiting.got_on(slow, FULL, worker.now);
        // A byte comes, and isn't a flight.
        worker.waiting.set_waits(drips, false);
        worker.waiting.set_waits(drips, true);
        worker.pass(900);
        assert_eq!(worker.stalest(&[STRANGER, FULL]), Some("drips"));
        assert!(worker.waiting.unlink(drips).is_some() && worker.waiting.unlink(drips).is_none());
        assert_eq!(worker.stalest(&[STRANGER, FULL]), None);
        worker.pass(100);
        assert_eq!(worker.stalest(&[STRANGER, FULL]), Some("slow"));
    }

    #[test]
    fn who_waits_for_us_is_not_dropped_for_it() {
        let mut worker = Worker::new();
        let ours = worker.begin("our turn", STRANGER);
        worker.begin("spoke", STRANGER);
        worker.begin("silent", STRANGER);
        worker.waiting.set_waits(ours, false);
        worker.pass(2000);
        let silent = |name: &&str| *name == "silent";
        let key = worker.waiting.stalest(&[STRANGER], worker.now, silent).expect("the third one");
        assert_eq!(*worker.waiting.get(key), "silent");
        worker.waiting.remove(key);
        assert_eq!(worker.stalest(&[STRANGER]), None, "the others begin anew");
        worker.waiting.set_waits(ours, true);
        worker.pass(1000);
        assert_eq!(worker.stalest(&[STRANGER]), Some("our turn"));
    }

    #[test]
    fn a_newcomer_looks_at_a_few_and_no_more() {
        let mut worker = Worker::new();
        for _ in 0..MAX_LOOKS {
            worker.begin("spoke", STRANGER);
        }
        worker.begin("silent", STRANGER);
        worker.pass(2000);
        let silent = |name: &&str| *name == "silent";
        assert_eq!(worker.waiting.stalest(&[STRANGER], worker.now, silent), None);
        assert!(worker.waiting.stalest(&[STRANGER], worker.now, silent).is_some());
    }

    #[test]
    fn the_lists_hold_together_whatever_is_taken_out() {
        let mut worker = Worker::new();
        let names = ["a", "b", "c", "d", "e"];
        let keys = names.map(|name| worker.begin(name, STRANGER));
        for gone in [2, 0, 4] {
            assert_eq!(worker.waiting.remove(keys[gone]), names[gone]);
        }
        worker.pass(1000);
        assert_eq!(worker.stalest(&[STRANGER]), Some("b"));
        worker.waiting.remove(keys[1]);
        assert_eq!(worker.stalest(&[STRANGER]), Some("d"));
        worker.waiting.remove(keys[3]);
        assert_eq!(worker.stalest(&[STRANGER]), None);
        worker.begin("f", STRANGER);
        worker.pass(1000);
        assert_eq!(worker.stalest(&[STRANGER]), Some("f"));
        assert_eq!(worker.waiting.len(), 1);
    }
}
