//! Counts with limits that a reload may change, shared by all workers.

use std::sync::atomic::{AtomicUsize, Ordering};

/// So many at a time.
#[derive(Debug)]
pub(super) struct Budget {
    used: AtomicUsize,
    limit: AtomicUsize,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Self {
        Self { used: AtomicUsize::new(0), limit: AtomicUsize::new(limit) }
    }

    /// Takes one, if the limit allows it.
    pub(super) fn take(&self) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        if self.used.fetch_add(1, Ordering::Relaxed) < limit {
            return true;
        }
        self.give_back();
        false
    }

    pub(super) fn give_back(&self) {
        self.used.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn is_full(&self) -> bool {
        self.used() >= self.limit.load(Ordering::Relaxed)
    }
}

/// Which limit has no place left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exhausted {
    /// That of all.
    All,
    /// That of strangers: the rest is reserved.
    Reserved,
}

/// A budget of which strangers get all but a reserve.
#[derive(Debug)]
pub(super) struct Places {
    all: Budget,
    strangers: Budget,
}

impl Places {
    /// `limit` places, `reserved` of them for whoever is known.
    pub(super) fn new(limit: usize, reserved: usize) -> Self {
        Self { all: Budget::new(limit), strangers: Budget::new(limit.saturating_sub(reserved)) }
    }

    pub(super) fn set_limits(&self, limit: usize, reserved: usize) {
        self.all.set_limit(limit);
        self.strangers.set_limit(limit.saturating_sub(reserved));
    }

    /// Takes a place for somebody who is known, or for a stranger.
    pub(super) fn take(&self, known: bool) -> Result<(), Exhausted> {
        if !known && !self.strangers.take() {
            return Err(if self.all.is_full() { Exhausted::All } else { Exhausted::Reserved });
        }
        if self.all.take() {
            return Ok(());
        }
        if !known {
            self.strangers.give_back();
        }
        Err(Exhausted::All)
    }

    pub(super) fn give_back(&self, known: bool) {
        if !known {
            self.strangers.give_back();
        }
        self.all.give_back();
    }

    /// Hands the place of one on to another, so that nobody comes between. Nobody who is known
    /// makes room for a stranger.
    pub(super) fn hand_on(&self, from_known: bool, to_known: bool) {
        debug_assert!(to_known || !from_known, "a stranger in the reserve");
        if to_known && !from_known {
            self.strangers.give_back();
        }
    }

    pub(super) fn used(&self) -> usize {
        self.all.used()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_get_all_but_the_reserve_and_the_known_get_whatever_is_free() {
        let places = Places::new(4, 1);
        for _ in 0..3 {
            assert_eq!(places.take(false), Ok(()));
        }
        assert_eq!(places.take(false), Err(Exhausted::Reserved));
        assert_eq!(places.take(true), Ok(()));
        assert_eq!(places.take(true), Err(Exhausted::All));
        places.give_back(false);
        assert_eq!(places.take(true), Ok(()));
        // Strangers have a place of theirs left, but the known have taken it.
        assert_eq!(places.take(false), Err(Exhausted::All));
        places.give_back(true);
        assert_eq!(places.take(false), Ok(()));
        assert_eq!(places.used(), 4);
    }

    #[test]
    fn a_place_that_is_handed_on_is_counted_for_its_new_owner() {
        let places = Places::new(2, 1);
        assert_eq!(places.take(false), Ok(()));
        assert_eq!(places.take(true), Ok(()));
        places.hand_on(false, true);
        assert_eq!(places.take(false), Err(Exhausted::All));
        places.give_back(true);
        assert_eq!(places.take(false), Ok(()));
        places.give_back(true);
        places.give_back(false);
        assert_eq!((places.used(), places.strangers.used()), (0, 0));
    }

    #[test]
    fn threads_that_race_for_the_last_places_get_no_more_than_there_are() {
        let places = Places::new(50, 20);
        let taken: Vec<bool> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|number| {
                    let known = number % 2 == 0;
                    let places = &places;
                    let take = move || (0..100).filter(|_| places.take(known).is_ok()).count();
                    scope.spawn(move || vec![known; take()])
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
        });
        assert_eq!(taken.len(), 50);
        assert!(taken.iter().filter(|known| !**known).count() <= 30);
    }
}
