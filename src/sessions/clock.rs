//! A worker's two clocks: ticks, by which its own limits are kept, and the wall clock, by which
//! certificates are valid.

use std::{
    cell::Cell,
    time::{Duration, SystemTime},
};

use rustls_pki_types::UnixTime;

/// How fine deadlines are; a limit may be overrun by that much.
pub const TICK: Duration = Duration::from_millis(100);

/// Ticks of [`TICK`] since the register was made.
pub type Tick = u32;

/// A tick that doesn't come: it is 13 years away.
pub(super) const NEVER: Tick = Tick::MAX;

/// How far the wall clock may move against the ticks before deadlines that were computed from it
/// are computed anew. Below it is what a clock is slewed by.
const STEP_MS: u64 = 500;

/// What time it is, as of the last tick.
#[derive(Debug)]
pub(super) struct Clock {
    tick: Cell<Tick>,
    /// Milliseconds since 1970.
    wall_ms: Cell<i64>,
    /// The wall clock at tick 0, as deadlines took it.
    origin_ms: Cell<i64>,
}

impl Clock {
    /// At tick 0.
    pub(super) fn starting_at(wall_ms: i64) -> Self {
        Self { tick: Cell::new(0), wall_ms: Cell::new(wall_ms), origin_ms: Cell::new(wall_ms) }
    }

    /// The tick that it is.
    pub(super) fn tick(&self) -> Tick {
        self.tick.get()
    }

    /// The second that it is.
    pub(super) fn unix_time(&self) -> UnixTime {
        let ms = u64::try_from(self.wall_ms.get()).unwrap_or(0);
        UnixTime::since_unix_epoch(Duration::from_millis(ms))
    }

    /// Time has passed. True if the wall clock was stepped: what [`Clock::tick_after`] said
    /// before is wrong now.
    pub(super) fn advance(&self, tick: Tick, wall_ms: i64) -> bool {
        self.tick.set(tick);
        self.wall_ms.set(wall_ms);
        let origin_ms = wall_ms.saturating_sub(ms(tick));
        let stepped = origin_ms.abs_diff(self.origin_ms.get()) >= STEP_MS;
        if stepped {
            self.origin_ms.set(origin_ms);
        }
        stepped
    }

    /// The first tick at which the second `until` is over; [`NEVER`] if that is too far away.
    pub(super) fn tick_after(&self, until: UnixTime) -> Tick {
        let end_ms = i64::try_from(until.as_secs()).unwrap_or(i64::MAX).saturating_add(1);
        let left = end_ms.saturating_mul(1000).saturating_sub(self.wall_ms.get());
        let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
        // A tick is rounded up, so that the one that it is may not have passed yet.
        self.tick().saturating_add(ticks(left)).saturating_add(1)
    }
}

/// Whole ticks, rounded up, so that no limit is cut short.
pub(super) fn ticks(duration: Duration) -> Tick {
    Tick::try_from(duration.as_millis().div_ceil(TICK.as_millis())).unwrap_or(NEVER)
}

fn ms(tick: Tick) -> i64 {
    i64::from(tick) * i64::try_from(TICK.as_millis()).unwrap_or(i64::MAX)
}

/// Milliseconds since 1970 by the wall clock; before that it is 0, when no certificate is valid.
pub(super) fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn a_second_is_over_at_its_end_and_a_tick() {
        let clock = Clock::starting_at(1_000_000);
        assert_eq!(clock.tick_after(at(1000)), 11);
        assert_eq!(clock.tick_after(at(1009)), 101);
        // It is over already.
        assert_eq!(clock.tick_after(at(3)), 1);
        assert_eq!(clock.tick_after(at(u64::MAX)), NEVER);
    }

    #[test]
    fn a_clock_that_is_stepped_is_noticed_and_one_that_is_slewed_is_not() {
        let clock = Clock::starting_at(1_000_000);
        assert!(!clock.advance(10, 1_001_000));
        assert!(!clock.advance(20, 1_002_400));
        assert!(clock.advance(30, 1_063_000));
        assert!(!clock.advance(40, 1_064_000));
        assert!(clock.advance(50, 1_005_000));
        assert_eq!(clock.unix_time(), at(1005));
    }
}
