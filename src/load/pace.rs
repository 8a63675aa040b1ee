//! When operations start in open loop, and how to wait for that to better than a millisecond.

use std::{
    io,
    time::{Duration, Instant},
};

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use tokio::net::unix::pipe;

use super::units::Rate;

/// The intended starts of an open-loop run: evenly spaced, whatever the server does.
///
/// Latency is counted from the intended start, not from when a connection was free to begin, so
/// a stalled server's delay shows in every operation that it held up (no coordinated omission).
#[derive(Debug)]
pub(super) struct Schedule {
    origin: Instant,
    interval_s: f64,
    taken: u64,
}

impl Schedule {
    /// Starts at `origin`, one every `1/rate`.
    pub(super) fn new(origin: Instant, rate_per_second: f64) -> Self {
        Self { origin, interval_s: 1.0 / rate_per_second, taken: 0 }
    }

    /// One thread's share of `rate`, shifted so that the threads' starts interleave.
    pub(super) fn share(origin: Instant, rate: Rate, thread: u16, threads: u16) -> Self {
        let shift = Duration::from_secs_f64(f64::from(thread) / rate.per_second());
        Self::new(origin + shift, rate.per_second() / f64::from(threads))
    }

    /// The next intended start; it may have passed already.
    pub(super) fn take(&mut self) -> Instant {
        let start = self.start_of(self.taken);
        self.taken += 1;
        start
    }

    /// How many starts were due before `end` that nobody has taken.
    pub(super) fn overdue(&self, end: Instant) -> u64 {
        let mut due = 0;
        while self.start_of(self.taken + due) < end {
            due += 1;
        }
        due
    }

    // From the origin each time: adding up intervals would add up rounding errors as well.
    #[expect(clippy::cast_precision_loss, reason = "a run has far fewer than 2^52 operations")]
    fn start_of(&self, index: u64) -> Instant {
        self.origin + Duration::from_secs_f64(index as f64 * self.interval_s)
    }
}

/// A timer of the kernel's resolution; the runtime's own has one millisecond, as long as many
/// operations take.
///
/// To the runtime, a timerfd is a pipe: a descriptor that becomes readable and is read with
/// read(2). Its general type for descriptors can no longer be made without `unsafe`.
#[derive(Debug)]
pub(super) struct Timer(pipe::Receiver);

impl Timer {
    /// Needs a runtime with I/O enabled.
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self(pipe::Receiver::from_owned_fd_unchecked(fd)?))
    }

    /// Waits until `when`; returns at once if that has passed.
    pub(super) async fn sleep_until(&self, when: Instant) -> io::Result<()> {
        let wait = when.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            return Ok(());
        }
        let value = Timespec::try_from(wait).map_err(io::Error::other)?;
        let once = Itimerspec { it_interval: Timespec::default(), it_value: value };
        // Setting it also forgets an expiration that nobody waited for.
        rustix::time::timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once)?;
        loop {
            self.0.readable().await?;
            match self.0.try_read(&mut [0; EXPIRATIONS_BYTES]) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// What a timerfd is read as (timerfd_create(2)).
const EXPIRATIONS_BYTES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_evenly_spaced_from_the_origin_and_never_drift() {
        let origin = Instant::now();
        let mut schedule = Schedule::new(origin, 3.0);
        let starts: Vec<_> = (0..=3_000).map(|_| schedule.take() - origin).collect();
        assert_eq!(starts[0], Duration::ZERO);
        assert_eq!(starts[3_000], Duration::from_secs(1000));
    }

    #[tokio::test]
    async fn the_timer_never_fires_early_and_can_be_set_again() {
        let timer = Timer::new().unwrap();
        for wait_us in [150, 0, 300] {
            let when = Instant::now() + Duration::from_micros(wait_us);
            timer.sleep_until(when).await.unwrap();
            assert!(Instant::now() >= when);
        }
    }

    #[test]
    fn a_stall_is_charged_to_every_operation_that_it_held_up() {
        // 100/s; the first operation blocks the only connection for 50 ms, the rest take none.
        let origin = Instant::now();
        let mut schedule = Schedule::new(origin, 100.0);
        let stall_ends = origin + Duration::from_millis(50);
        let latencies: Vec<_> = (0..6)
            .map(|_| {
                let intended = schedule.take();
                let finished = stall_ends.max(intended);
                (finished - intended).as_millis()
            })
            .collect();
        assert_eq!(latencies, [50, 40, 30, 20, 10, 0]);
    }

    #[test]
    fn operations_that_were_due_but_never_started_are_known() {
        let origin = Instant::now();
        let mut schedule = Schedule::new(origin, 10.0);
        schedule.take();
        schedule.take();
        assert_eq!(schedule.overdue(origin + Duration::from_millis(1_001)), 9);
    }

    #[test]
    fn threads_interleave_to_the_whole_rate() {
        let origin = Instant::now();
        let rate: Rate = "100/s".parse().unwrap();
        let mut starts: Vec<_> = (0..2)
            .flat_map(|thread| {
                let mut schedule = Schedule::share(origin, rate, thread, 2);
                [schedule.take() - origin, schedule.take() - origin]
            })
            .collect();
        starts.sort();
        assert_eq!(starts, [0, 10, 20, 30].map(Duration::from_millis));
    }
}
