//! What each peer set uses, in the whole process, and its limits.
//!
//! Counting goes by the name of the set: a reload keeps what is in use, and all listeners that
//! admit a set share its limits. The limits themselves belong to a generation, so that a reload
//! that fails changes nothing.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::config::{Config, PeerLimits};

/// What all peer sets of the process use; kept through reloads.
#[derive(Debug)]
pub struct Usage {
    /// When it was made: what the clock of the rates counts from.
    began: Instant,
    /// By the name of the peer set, as long as a generation or a connection knows it.
    sets: Mutex<BTreeMap<Arc<str>, Weak<Counts>>>,
}

/// What one peer set uses.
#[derive(Debug, Default)]
struct Counts {
    connections: AtomicUsize,
    /// When the rate allows the next handshake if nothing is saved up, in ns since
    /// [`Usage::began`]: the theoretical arrival time of the generic cell rate algorithm (ITU-T
    /// I.371 annex A).
    next_handshake_ns: AtomicU64,
}

impl Usage {
    /// Nothing is used yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { began: Instant::now(), sets: Mutex::default() })
    }

    /// Forgets the sets that neither a generation nor a connection knows.
    fn tidy(&self) {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        sets.retain(|_, counts| counts.strong_count() > 0);
    }

    /// The counts of the set of that name: those that are known, or new ones.
    fn of(&self, name: &Arc<str>) -> Arc<Counts> {
        // Whatever panicked while it was locked: it holds whole entries only.
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counts) = sets.get(name).and_then(Weak::upgrade) {
            return counts;
        }
        let counts = Arc::new(Counts::default());
        sets.insert(name.clone(), Arc::downgrade(&counts));
        counts
    }
}

/// The quotas of one generation, by the name of the peer set.
#[derive(Debug)]
pub struct Quotas {
    usage: Arc<Usage>,
    sets: BTreeMap<Arc<str>, Quota>,
}

#[derive(Debug)]
struct Quota {
    limits: PeerLimits,
    counts: Arc<Counts>,
}

impl Quotas {
    /// The limits of the configuration's peer sets, on top of what is in use.
    pub fn new(usage: &Arc<Usage>, config: &Config) -> Arc<Self> {
        let limits = config.peers.values().map(|set| (set.name.clone(), set.limits));
        Self::with_limits(usage, limits)
    }

    fn with_limits(
        usage: &Arc<Usage>,
        limits: impl IntoIterator<Item = (Arc<str>, PeerLimits)>,
    ) -> Arc<Self> {
        usage.tidy();
        let quota = |(name, limits)| {
            let counts = usage.of(&name);
            (name, Quota { limits, counts })
        };
        let sets = limits.into_iter().map(quota).collect();
        Arc::new(Self { usage: usage.clone(), sets })
    }

    /// Gives a connection of the peer set its share, of which dropping it gives the connection
    /// back; a handshake that was made is made. Call it once a handshake.
    ///
    /// # Errors
    /// Which limit is reached. Nothing is taken then.
    pub fn take(&self, set: &str) -> Result<Share, OverLimit> {
        self.take_at(set, self.usage.began.elapsed())
    }

    fn take_at(&self, set: &str, now: Duration) -> Result<Share, OverLimit> {
        // Every peer set of a generation has its quota; without one there is nothing to share.
        let Some(quota) = self.sets.get(set) else { return Err(OverLimit::Unknown) };
        let share = quota.counts.connect(quota.limits.max_connections)?;
        if let Some(rate) = quota.limits.max_handshakes_per_second {
            // On an error the share goes back by itself.
            quota.counts.shake_hands(rate, now)?;
        }
        Ok(share)
    }
}

impl Counts {
    fn connect(self: &Arc<Self>, limit: Option<usize>) -> Result<Share, OverLimit> {
        let limit = limit.unwrap_or(usize::MAX);
        if self.connections.fetch_add(1, Ordering::Relaxed) < limit {
            return Ok(Share(self.clone()));
        }
        self.connections.fetch_sub(1, Ordering::Relaxed);
        Err(OverLimit::Connections(limit))
    }

    /// Lets `rate` handshakes pass in each second, of which those of one second may come at once.
    fn shake_hands(&self, rate: u32, now: Duration) -> Result<(), OverLimit> {
        let now_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let interval_ns = NS_PER_SECOND / u64::from(rate.max(1));
        // What may be ahead of the clock: all of a second but the handshake in question.
        let ahead_ns = NS_PER_SECOND - interval_ns;
        let pass = |next: u64| {
            let due = next.max(now_ns);
            (due - now_ns <= ahead_ns).then(|| due.saturating_add(interval_ns))
        };
        match self.next_handshake_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, pass) {
            Ok(_) => Ok(()),
            Err(_) => Err(OverLimit::Handshakes(rate)),
        }
    }
}

const NS_PER_SECOND: u64 = 1_000_000_000;

/// A connection's share of its peer set's quota; dropping it gives it back.
#[derive(Debug)]
pub struct Share(Arc<Counts>);

impl Drop for Share {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The limit of a peer set that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverLimit {
    /// `max_connections`, which is this.
    Connections(usize),
    /// `max_handshakes_per_second`, which is this.
    Handshakes(u32),
    /// The peer set has no quota, which is our own fault.
    Unknown,
}

impl fmt::Display for OverLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connections(limit) => write!(f, "max_connections = {limit} is reached"),
            Self::Handshakes(limit) => {
                write!(f, "max_handshakes_per_second = {limit} is reached")
            }
            Self::Unknown => f.write_str("it has no quota, which is our own fault"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(connections: Option<usize>, rate: Option<u32>) -> PeerLimits {
        PeerLimits { max_connections: connections, max_handshakes_per_second: rate }
    }

    fn quotas(usage: &Arc<Usage>, limits: PeerLimits) -> Arc<Quotas> {
        Quotas::with_limits(usage, [("world".into(), limits), ("other".into(), limits)])
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_connection_beyond_the_limit_is_refused_until_one_ends() {
        let quotas = quotas(&Usage::new(), limits(Some(2), None));
        let first = quotas.take("world").expect("room");
        let _second = quotas.take("world").expect("room");
        assert_eq!(quotas.take("world").unwrap_err(), OverLimit::Connections(2));
        let _other_set = quotas.take("other").expect("room of its own");
        drop(first);
        quotas.take("world").expect("room again");
    }

    #[test]
    fn a_set_without_limits_takes_whoever_comes() {
        let quotas = quotas(&Usage::new(), PeerLimits::default());
        let shares: Vec<_> = (0..1000).map(|_| quotas.take("world").expect("room")).collect();
        assert_eq!(shares.len(), 1000);
    }

    #[test]
    fn handshakes_pass_at_their_rate_and_those_of_one_second_may_come_at_once() {
        let quotas = quotas(&Usage::new(), limits(None, Some(4)));
        let passed = |at: Duration| (0..10).filter(|_| quotas.take_at("world", at).is_ok()).count();
        assert_eq!(passed(ms(5000)), 4);
        assert_eq!(passed(ms(5100)), 0);
        assert_eq!(passed(ms(5250)), 1);
        assert_eq!(passed(ms(5750)), 2);
        assert_eq!(passed(ms(60_000)), 4, "a long pause saves up a second's worth, no more");
        let error = quotas.take_at("world", ms(60_000)).unwrap_err();
        assert_eq!(error, OverLimit::Handshakes(4));
    }

    #[test]
    fn a_handshake_over_its_rate_takes_no_connection() {
        let quotas = quotas(&Usage::new(), limits(Some(1), Some(1)));
        drop(quotas.take_at("world", ms(0)).expect("the first"));
        assert_eq!(quotas.take_at("world", ms(0)).unwrap_err(), OverLimit::Handshakes(1));
        quotas.take_at("world", ms(1000)).expect("its connection was given back");
    }

    #[test]
    fn a_reload_keeps_the_counts_of_sets_that_stay_and_has_its_own_limits() {
        let usage = Usage::new();
        let old = quotas(&usage, limits(None, None));
        let share = old.take("world").expect("room");
        let new = quotas(&usage, limits(Some(1), None));
        assert_eq!(new.take("world").unwrap_err(), OverLimit::Connections(1));
        old.take("world").expect("the old generation keeps its limits");
        drop(old);
        drop(share);
        new.take("world").expect("the old connection has ended");
    }

    #[test]
    fn a_set_that_is_gone_for_a_while_finds_its_live_connections_again() {
        let usage = Usage::new();
        let share = quotas(&usage, limits(None, None)).take("world").expect("room");
        let without = Quotas::with_limits(&usage, [("other".into(), limits(None, None))]);
        assert_eq!(without.take("world").unwrap_err(), OverLimit::Unknown);
        let again = quotas(&usage, limits(Some(1), None));
        assert_eq!(again.take("world").unwrap_err(), OverLimit::Connections(1));
        drop((share, without, again));
        assert!(quotas(&usage, limits(Some(1), None)).take("world").is_ok());
        assert_eq!(usage.sets.lock().unwrap().len(), 2, "nothing is kept for sets that are gone");
    }

    #[test]
    fn threads_that_race_for_the_last_places_get_no_more_than_there_are() {
        let quotas = quotas(&Usage::new(), limits(Some(50), Some(40)));
        let taken: Vec<_> = std::thread::scope(|scope| {
            let take = || {
                let take = |_| quotas.take_at("world", ms(1)).ok();
                (0..100).filter_map(take).collect::<Vec<_>>()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
        });
        assert_eq!(taken.len(), 40);
    }
}
