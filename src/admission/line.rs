//! The line of those that have spoken and wait to begin their handshake, on one worker.
//!
//! Under overload this is where waiting happens: what was begun is finished before more is begun.
//! Who is next is decided by address, each of which has its turn after all the others that wait,
//! however many connections it has opened: a thousand of one address keep nobody else waiting. Of
//! two such rounds, that of known addresses and that of strangers, the former goes
//! [`KNOWN_TO_A_STRANGER`] times as fast.
//!
//! The round tells how long a newcomer would have to wait, so that whoever would wait for longer
//! than clients do is turned away at once instead. That is an extrapolation: nobody is turned away
//! by it unless somebody ahead has really waited for half of that time.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    time::{Duration, Instant},
};

use super::addresses::Origin;

/// Known addresses that have their turn before a stranger has one, where both wait.
const KNOWN_TO_A_STRANGER: u32 = 7;

/// Of so many turns what was waited for them is averaged.
const SMOOTHING: u32 = 32;

/// This part of the time that it may wait has to have passed for somebody who is ahead of a newcomer
/// that is turned away: a halt of the whole machine would be taken for so many turns otherwise.
const EVIDENCE: u32 = 2;

/// Those of one round.
#[derive(Debug)]
struct Round<T> {
    /// Addresses of which somebody waits, in the order of their turns; since when each waits for
    /// its own.
    order: VecDeque<(Origin, Instant)>,
    /// Who waits, by address, first come first; since when.
    waiting: HashMap<Origin, VecDeque<(T, Instant)>>,
    /// How long a turn is waited for, as a moving mean.
    lasts: Duration,
    /// Of how many turns, since somebody waits.
    turns: u32,
}

impl<T> Round<T> {
    fn new() -> Self {
        Self { order: VecDeque::new(), waiting: HashMap::new(), lasts: Duration::ZERO, turns: 0 }
    }

    fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    fn push(&mut self, origin: Origin, item: T, now: Instant) {
        match self.waiting.entry(origin) {
            Entry::Occupied(mut queue) => queue.get_mut().push_back((item, now)),
            Entry::Vacant(place) => {
                place.insert(VecDeque::from([(item, now)]));
                self.order.push_back((origin, now));
            }
        }
    }

    fn pop(&mut self, now: Instant) -> Option<T> {
        let (origin, since) = self.order.pop_front()?;
        let waited = now.saturating_duration_since(since);
        self.turns = (self.turns + 1).min(SMOOTHING);
        self.lasts = (self.lasts * (self.turns - 1) + waited) / self.turns;
        let queue = self.waiting.get_mut(&origin)?;
        let item = queue.pop_front().map(|(item, _)| item);
        if queue.is_empty() {
            self.waiting.remove(&origin);
        } else {
            self.order.push_back((origin, now));
        }
        if self.is_empty() {
            // Nothing is known of the next crowd.
            (self.lasts, self.turns) = (Duration::ZERO, 0);
        }
        item
    }

    /// How long somebody would wait who comes from there now.
    fn wait(&self, origin: Origin, now: Instant) -> Duration {
        let Some(&(_, since)) = self.order.front() else { return Duration::ZERO };
        let own = self.waiting.get(&origin).map_or(0, VecDeque::len);
        let own = self.lasts.saturating_mul(u32::try_from(own).unwrap_or(u32::MAX));
        // A moment's halt is waited for once, not once for each.
        own.saturating_add(self.lasts.max(now.saturating_duration_since(since)))
    }

    /// How long the oldest one has waited that is ahead of who comes from there.
    fn waited(&self, origin: Origin, now: Instant) -> Duration {
        let own = self.waiting.get(&origin).and_then(VecDeque::front).map(|(_, since)| *since);
        let ahead = own.or_else(|| self.order.front().map(|(_, since)| *since));
        ahead.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

/// Who waits; one at a time is called.
#[derive(Debug)]
pub(super) struct Line<T> {
    /// Somebody was called and hasn't begun yet.
    called: bool,
    strangers: Round<T>,
    known: Round<T>,
    /// Known ones that were called in a row while strangers waited.
    in_a_row: u32,
}

impl<T> Line<T> {
    pub(super) fn new() -> Self {
        Self { called: false, strangers: Round::new(), known: Round::new(), in_a_row: 0 }
    }

    /// Calls the one that comes, if nobody is ahead. Else it has to [`Line::join`].
    pub(super) fn pass(&mut self) -> bool {
        // While nobody is called, nobody waits.
        !std::mem::replace(&mut self.called, true)
    }

    /// Waits with the others of its address.
    pub(super) fn join(&mut self, origin: Origin, known: bool, item: T, now: Instant) {
        self.round(known).push(origin, item, now);
    }

    /// Whoever was called has begun, or is gone: who is called next.
    pub(super) fn next(&mut self, now: Instant) -> Option<T> {
        let strangers_turn = self.in_a_row >= KNOWN_TO_A_STRANGER && !self.strangers.is_empty();
        let known = !self.known.is_empty() && !strangers_turn;
        self.in_a_row = if known && !self.strangers.is_empty() { self.in_a_row + 1 } else { 0 };
        let next = self.round(known).pop(now);
        self.called = next.is_some();
        next
    }

    /// Whether somebody who comes from there now would wait for longer than `most`.
    pub(super) fn is_too_long(
        &self,
        origin: Origin,
        known: bool,
        most: Duration,
        now: Instant,
    ) -> bool {
        let round = if known { &self.known } else { &self.strangers };
        round.wait(origin, now) > most && round.waited(origin, now) >= most / EVIDENCE
    }

    fn round(&mut self, known: bool) -> &mut Round<T> {
        if known { &mut self.known } else { &mut self.strangers }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        !self.called && self.strangers.is_empty() && self.known.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn origin(host: u8) -> Origin {
        Origin::V4(Ipv4Addr::new(192, 0, 2, host))
    }

    /// A line whose turns take a millisecond each, and somebody called already.
    struct Scene {
        line: Line<&'static str>,
        now: Instant,
    }

    impl Scene {
        fn new() -> Self {
            let mut line = Line::new();
            assert!(line.pass());
            Self { line, now: Instant::now() }
        }

        fn come(&mut self, host: u8, known: bool, name: &'static str) {
            assert!(!self.line.pass(), "somebody is ahead");
            self.line.join(origin(host), known, name, self.now);
        }

        fn next(&mut self) -> Option<&'static str> {
            self.now += MS;
            self.line.next(self.now)
        }

        fn all(&mut self) -> Vec<&'static str> {
            std::iter::from_fn(|| self.next()).collect()
        }

        fn wait_ms(&self, host: u8, known: bool) -> u128 {
            let round = if known { &self.line.known } else { &self.line.strangers };
            round.wait(origin(host), self.now).as_millis()
        }

        fn is_too_long(&self, host: u8, most: Duration) -> bool {
            self.line.is_too_long(origin(host), false, most, self.now)
        }
    }

    #[test]
    fn who_finds_nobody_ahead_never_waits() {
        let mut line = Line::<()>::new();
        for _ in 0..3 {
            assert!(line.pass());
            assert!(line.next(Instant::now()).is_none());
        }
        assert!(line.is_empty());
    }

    #[test]
    fn each_address_has_its_turn_however_many_wait_of_another() {
        let mut scene = Scene::new();
        ["a1", "a2", "a3", "a4"].iter().for_each(|name| scene.come(1, false, name));
        scene.come(2, false, "b1");
        ["c1", "c2"].iter().for_each(|name| scene.come(3, false, name));
        assert_eq!(scene.all(), ["a1", "b1", "c1", "a2", "c2", "a3", "a4"]);
        assert!(scene.line.is_empty());
    }

    #[test]
    fn known_addresses_go_ahead_and_strangers_are_not_forgotten() {
        let mut scene = Scene::new();
        ["s1", "s2", "s3"].iter().for_each(|name| scene.come(1, false, name));
        (0..10).for_each(|_| scene.come(2, true, "known"));
        let mut expected = vec!["known"; 10];
        expected.insert(7, "s1");
        expected.extend(["s2", "s3"]);
        assert_eq!(scene.all(), expected);
    }

    #[test]
    fn the_wait_of_an_address_grows_with_its_own_and_not_with_another_ones_connections() {
        let mut scene = Scene::new();
        (0..200).for_each(|_| scene.come(1, false, "crowd"));
        assert!((0..20).all(|_| scene.next().is_some()));
        // Two addresses would share the turns, of a millisecond each.
        assert!(scene.wait_ms(2, false) <= 2, "{}", scene.wait_ms(2, false));
        let crowd = scene.wait_ms(1, false);
        assert!((150..=200).contains(&crowd), "{crowd}");
        assert_eq!(scene.wait_ms(2, true), 0, "nobody known waits");
    }

    #[test]
    fn the_wait_of_a_newcomer_grows_with_the_addresses_that_wait() {
        let mut scene = Scene::new();
        (1..=100).for_each(|host| scene.come(host, false, "crowd"));
        for _ in 0..100 {
            assert!(scene.next().is_some());
            scene.come(1, false, "again");
        }
        let wait = scene.wait_ms(200, false);
        assert!((50..=100).contains(&wait), "{wait}");
    }

    #[test]
    fn a_worker_that_stands_still_makes_newcomers_wait() {
        let mut scene = Scene::new();
        scene.come(1, false, "first");
        assert_eq!(scene.wait_ms(2, false), 0);
        scene.now += 300 * MS;
        assert_eq!(scene.wait_ms(2, false), 300);
    }

    // Sixty clients behind one address, of which the first has waited for a stall.
    #[test]
    fn a_stall_turns_nobody_away_who_would_not_wait_for_long() {
        let mut scene = Scene::new();
        (0..60).for_each(|_| scene.come(1, false, "client"));
        scene.now += 30 * MS;
        for _ in 0..40 {
            assert!(!scene.is_too_long(1, 1000 * MS));
            assert!(scene.next().is_some());
            scene.come(1, false, "again");
        }
    }

    #[test]
    fn an_extrapolation_counts_once_somebody_has_waited_for_a_good_part_of_it() {
        let mut scene = Scene::new();
        (0..2000).for_each(|_| scene.come(1, false, "crowd"));
        let mut turned_away = Vec::new();
        for turn in 1..=900_u32 {
            assert!(scene.next().is_some());
            turned_away.push((turn, scene.is_too_long(1, 1000 * MS)));
            assert!(!scene.is_too_long(2, 1000 * MS), "another address waits for one turn");
        }
        let first = turned_away.iter().find(|(_, is)| *is).map(|(turn, _)| *turn);
        assert_eq!(first, Some(500));
        assert!(turned_away[499..].iter().all(|(_, is)| *is));
    }

    #[test]
    fn a_line_that_came_to_its_end_forgets_how_long_it_was() {
        let mut scene = Scene::new();
        (1..=100).for_each(|host| scene.come(host, false, "crowd"));
        assert_eq!(scene.all().len(), 100);
        assert_eq!(scene.wait_ms(1, false), 0);
        assert!(scene.line.pass());
        scene.come(1, false, "one");
        assert_eq!(scene.wait_ms(2, false), 0);
    }
}
