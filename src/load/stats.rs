//! What one thread counted, and what all of them add up to.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use hdrhistogram::Histogram;

use super::{LoadError, failure::Failure};

/// The longest latency that is told apart from longer ones.
const MAX_LATENCY_NS: u64 = 600_000_000_000;
/// Significant decimal digits of a latency.
const LATENCY_DIGITS: u8 = 3;

/// Live totals of the whole run, warm-up and measured; read at both ends of the window.
#[derive(Debug, Default)]
pub(super) struct Totals {
    /// Operations that ended well.
    pub(super) operations: AtomicU64,
    /// Plaintext bytes received, from the terminator's backend.
    pub(super) bytes_down: AtomicU64,
    /// Plaintext bytes handed to the socket.
    pub(super) bytes_up: AtomicU64,
    /// Connections that are ready for the window.
    pub(super) ready: AtomicU64,
}

/// The totals at one instant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TotalsAt {
    pub(super) operations: u64,
    pub(super) bytes_down: u64,
    pub(super) bytes_up: u64,
}

impl Totals {
    pub(super) fn now(&self) -> TotalsAt {
        TotalsAt {
            operations: self.operations.load(Ordering::Relaxed),
            bytes_down: self.bytes_down.load(Ordering::Relaxed),
            bytes_up: self.bytes_up.load(Ordering::Relaxed),
        }
    }
}

impl TotalsAt {
    pub(super) fn since(self, start: Self) -> Self {
        Self {
            operations: self.operations - start.operations,
            bytes_down: self.bytes_down - start.bytes_down,
            bytes_up: self.bytes_up - start.bytes_up,
        }
    }
}

/// Every attempt of one thread, by how it ended: attempts = ok + errors.
#[derive(Debug)]
pub(super) struct Stats {
    /// Nanoseconds of the measured operations that ended well.
    pub(super) latency_ns: Histogram<u64>,
    pub(super) ok: u64,
    pub(super) errors: BTreeMap<Cow<'static, str>, Errors>,
    /// Handshakes of measured operations.
    pub(super) handshakes: u64,
    /// Those of them that resumed a session.
    pub(super) resumed: u64,
    pub(super) warmup_ok: u64,
    pub(super) warmup_errors: u64,
    /// Open loop: starts that were due in the window, with every connection still busy.
    pub(super) unstarted: u64,
    /// Version, cipher suite and group of the first handshake.
    pub(super) negotiated: Option<[String; 3]>,
}

/// Failures of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Errors {
    pub(super) count: u64,
    /// What the first of them said.
    pub(super) example: String,
}

impl Stats {
    pub(super) fn new() -> Result<Self, LoadError> {
        let latency_ns = Histogram::new_with_bounds(1, MAX_LATENCY_NS, LATENCY_DIGITS)
            .map_err(|error| LoadError::Histogram(error.to_string()))?;
        Ok(Self {
            latency_ns,
            ok: 0,
            errors: BTreeMap::new(),
            handshakes: 0,
            resumed: 0,
            warmup_ok: 0,
            warmup_errors: 0,
            unstarted: 0,
            negotiated: None,
        })
    }

    /// Counts one attempt. Warm-up counts apart and has no latency.
    pub(super) fn record(&mut self, measured: bool, took: Duration, outcome: Result<(), Failure>) {
        match (measured, outcome) {
            (false, Ok(())) => self.warmup_ok += 1,
            (false, Err(_)) => self.warmup_errors += 1,
            (true, Ok(())) => {
                self.ok += 1;
                self.record_latency(took);
            }
            (true, Err(failure)) => self.count_error(failure),
        }
    }

    pub(super) fn record_latency(&mut self, took: Duration) {
        self.latency_ns.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(super) fn count_error(&mut self, failure: Failure) {
        self.errors
            .entry(failure.kind.label())
            .or_insert(Errors { count: 0, example: failure.detail })
            .count += 1;
    }

    pub(super) fn count_handshake(&mut self, measured: bool, resumed: bool) {
        if measured {
            self.handshakes += 1;
            self.resumed += u64::from(resumed);
        }
    }

    /// Adds another thread's.
    pub(super) fn merge(&mut self, other: Self) -> Result<(), LoadError> {
        self.latency_ns
            .add(&other.latency_ns)
            .map_err(|error| LoadError::Histogram(error.to_string()))?;
        self.ok += other.ok;
        for (kind, errors) in other.errors {
            self.errors.entry(kind).and_modify(|mine| mine.count += errors.count).or_insert(errors);
        }
        self.handshakes += other.handshakes;
        self.resumed += other.resumed;
        self.warmup_ok += other.warmup_ok;
        self.warmup_errors += other.warmup_errors;
        self.unstarted += other.unstarted;
        self.negotiated = self.negotiated.take().or(other.negotiated);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attempt_is_counted_once_and_errors_by_kind() {
        let mut one = Stats::new().unwrap();
        let mut two = Stats::new().unwrap();
        one.record(false, Duration::from_micros(1), Ok(()));
        one.record(true, Duration::from_micros(10), Ok(()));
        one.record(true, Duration::from_micros(1), Err(Failure::timed_out("the handshake")));
        two.record(true, Duration::from_micros(1), Err(Failure::timed_out("the answer")));
        two.record(true, Duration::from_micros(1), Err(Failure::closed_early("it")));
        one.merge(two).unwrap();
        assert_eq!((one.ok, one.warmup_ok, one.latency_ns.len()), (1, 1, 1));
        assert_eq!(one.errors["timed_out"].count, 2);
        assert_eq!(one.errors["timed_out"].example, "the handshake took longer than --timeout");
        assert_eq!(one.errors["closed_early"].count, 1);
    }

    #[test]
    fn a_latency_beyond_the_range_still_counts() {
        let mut stats = Stats::new().unwrap();
        stats.record(true, Duration::from_secs(100_000), Ok(()));
        assert_eq!(stats.latency_ns.len(), 1);
    }
}
