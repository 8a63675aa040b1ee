//! One slot: a connection at a time, doing the run's operations one after the other.

use std::{
    cell::RefCell,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{Semaphore, watch};

use super::{
    channel::Channel,
    failure::Failure,
    options::Mode,
    pace::{Schedule, Timer},
    stats::{Stats, Totals},
    tls::SlotTls,
    units::Rate,
};

/// Pause after a failed operation in closed loop, so that a server that refuses isn't flooded.
const BACKOFF: Duration = Duration::from_millis(5);
/// Connections that one thread opens at a time before the window: a listen queue is finite.
pub(super) const OPENING_AT_A_TIME: usize = 64;

/// Where the run stands; only the coordinator moves it, and only forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// What ends well or badly now is counted apart.
    Warmup,
    /// The measured window, since when.
    Measure(Instant),
    /// Nothing starts any more, since when.
    Done(Instant),
}

/// What every slot of a thread knows.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) mode: Mode,
    pub(super) target: SocketAddr,
    pub(super) request_bytes: usize,
    pub(super) timeout: Duration,
    /// Without a ramp, slots wait for the window as soon as they are ready.
    pub(super) warm_up: bool,
    pub(super) totals: Arc<Totals>,
    /// What is left of `--count`.
    pub(super) budget: Option<Arc<AtomicU64>>,
    /// Open loop; starts anew with the window.
    pub(super) pace: Option<RefCell<Pace>>,
    pub(super) stats: RefCell<Stats>,
    pub(super) opening: Semaphore,
}

/// A thread's part of the open loop: its share of the rate, and the starts of the current phase.
#[derive(Debug)]
pub(super) struct Pace {
    rate: Rate,
    thread: u16,
    threads: u16,
    schedule: Schedule,
    measured: bool,
}

impl Pace {
    pub(super) fn new(rate: Rate, thread: u16, threads: u16) -> Self {
        let schedule = Schedule::share(Instant::now(), rate, thread, threads);
        Self { rate, thread, threads, schedule, measured: false }
    }

    /// The next intended start. A window starts with a clean slate: what warm-up fell behind
    /// isn't the window's.
    fn take(&mut self, phase: Phase) -> Instant {
        if let (Phase::Measure(since), false) = (phase, self.measured) {
            self.schedule = Schedule::share(since, self.rate, self.thread, self.threads);
            self.measured = true;
        }
        self.schedule.take()
    }

    /// Starts of the window that were due before its end and that no slot was free to take.
    pub(super) fn unstarted(&self, end: Instant) -> u64 {
        if self.measured { self.schedule.overdue(end) } else { 0 }
    }
}

/// One slot; lives on one thread.
#[derive(Debug)]
pub(super) struct Slot {
    context: Rc<Context>,
    tls: Option<SlotTls>,
    phase: watch::Receiver<Phase>,
    channel: Option<Channel>,
}

impl Slot {
    pub(super) fn new(
        context: Rc<Context>,
        tls: Option<SlotTls>,
        phase: watch::Receiver<Phase>,
    ) -> Self {
        Self { context, tls, phase, channel: None }
    }

    /// Runs until the run is over.
    pub(super) async fn run(mut self, starts_after: Duration) {
        tokio::time::sleep(starts_after).await;
        self.prime().await;
        self.context.totals.ready.fetch_add(1, Ordering::Relaxed);
        if !self.context.warm_up {
            let _ = self.phase.wait_for(|phase| *phase != Phase::Warmup).await;
        }
        match self.context.mode {
            Mode::Hold => self.hold().await,
            mode if mode.is_bulk() => self.stream().await,
            _ => self.operate().await,
        }
    }

    /// Does what must be done before the first operation: get a ticket, open the connection.
    async fn prime(&mut self) {
        let context = Rc::clone(&self.context);
        let Ok(_permit) = context.opening.acquire().await else { return };
        let started = Instant::now();
        let outcome = match self.context.mode {
            Mode::Full => return,
            Mode::Resumed => self.within_timeout(Self::whole_connection, false).await,
            Mode::Hold => {
                let opened = self.within_timeout(Self::prove, true).await;
                let mut stats = self.context.stats.borrow_mut();
                match opened {
                    // It counts as held when it is still there at the end.
                    Ok(()) => stats.record_latency(started.elapsed()),
                    Err(failure) => {
                        self.channel = None;
                        stats.count_error(failure);
                    }
                }
                return;
            }
            // In TLS 1.3 we are ready before the server is: an answer shows that both are.
            Mode::Request if context.warm_up => self.within_timeout(Self::request, false).await,
            _ => self.within_timeout(Self::ensure_open, false).await,
        };
        if outcome.is_err() {
            self.context.stats.borrow_mut().record(false, started.elapsed(), outcome);
        }
    }

    /// Handshake and request modes: one operation after the other.
    async fn operate(mut self) {
        let timer = match self.context.pace.as_ref().map(|_| Timer::new()).transpose() {
            Ok(timer) => timer,
            Err(error) => return self.context.stats.borrow_mut().count_error(error.into()),
        };
        loop {
            let intended = match &timer {
                None => None,
                Some(timer) => match self.await_turn(timer).await {
                    Some(intended) => Some(intended),
                    None => break,
                },
            };
            let measured = match *self.phase.borrow() {
                Phase::Warmup => false,
                Phase::Measure(_) => true,
                Phase::Done(_) => break,
            };
            if measured && !self.take_from_budget() {
                break;
            }
            let started = intended.unwrap_or_else(Instant::now);
            let outcome = match self.context.mode {
                Mode::Request => self.within_timeout(Self::request, measured).await,
                _ => self.within_timeout(Self::whole_connection, measured).await,
            };
            let failed = outcome.is_err();
            if failed {
                self.channel = None;
            } else {
                self.context.totals.operations.fetch_add(1, Ordering::Relaxed);
            }
            self.context.stats.borrow_mut().record(measured, started.elapsed(), outcome);
            if failed && intended.is_none() {
                tokio::time::sleep(BACKOFF).await;
            }
        }
        if let Some(channel) = self.channel.take() {
            channel.close();
        }
    }

    /// Bulk modes: one connection that never ends by itself.
    async fn stream(mut self) {
        let mut over = self.phase.clone();
        loop {
            let failure = tokio::select! {
                biased;
                _ = over.wait_for(|phase| matches!(phase, Phase::Done(_))) => break,
                failure = self.transfer() => failure,
            };
            self.channel = None;
            let measured = matches!(*self.phase.borrow(), Phase::Measure(_));
            self.context.stats.borrow_mut().record(measured, Duration::ZERO, Err(failure));
            tokio::time::sleep(BACKOFF).await;
        }
        if let Some(channel) = self.channel.take() {
            self.context.stats.borrow_mut().ok += 1;
            channel.close();
        }
    }

    /// Moves bytes until something breaks.
    async fn transfer(&mut self) -> Failure {
        loop {
            if let Err(failure) = self.within_timeout(Self::move_some, false).await {
                return failure;
            }
            // The socket is hardly ever what we wait for in bulk: let others have their turn.
            tokio::task::yield_now().await;
        }
    }

    async fn move_some(&mut self, measured: bool) -> Result<(), Failure> {
        let mode = self.context.mode;
        let totals = Arc::clone(&self.context.totals);
        let channel = self.opened(measured).await?;
        channel.prepare_for_bulk();
        let (up, down) = match mode {
            Mode::Down => (0, channel.receive().await?),
            Mode::Up => (channel.push().await?, 0),
            _ => channel.push_and_receive().await?,
        };
        totals.bytes_up.fetch_add(up as u64, Ordering::Relaxed);
        totals.bytes_down.fetch_add(down as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Hold mode: nothing may happen until the end.
    async fn hold(mut self) {
        let Some(mut channel) = self.channel.take() else {
            // Counted already. A thread whose slots have all failed still waits for the end.
            let _ = self.phase.wait_for(|phase| matches!(phase, Phase::Done(_))).await;
            return;
        };
        tokio::select! {
            biased;
            failure = channel.stay_idle() => {
                self.context.stats.borrow_mut().count_error(failure);
            }
            _ = self.phase.wait_for(|phase| matches!(phase, Phase::Done(_))) => {
                self.context.stats.borrow_mut().ok += 1;
                channel.close();
            }
        }
    }

    /// Waits for this thread's next intended start; `None` when the run is over.
    async fn await_turn(&mut self, timer: &Timer) -> Option<Instant> {
        loop {
            let phase = *self.phase.borrow_and_update();
            if let Phase::Done(_) = phase {
                return None;
            }
            let intended = self.context.pace.as_ref()?.borrow_mut().take(phase);
            tokio::select! {
                biased;
                changed = self.phase.changed() => {
                    let Phase::Done(end) = *self.phase.borrow() else {
                        // A start of the warm-up is void once the window is open.
                        changed.ok()?;
                        continue;
                    };
                    if intended < end {
                        self.context.stats.borrow_mut().unstarted += 1;
                    }
                    return None;
                }
                slept = timer.sleep_until(intended) => {
                    if let Err(error) = slept {
                        self.context.stats.borrow_mut().count_error(error.into());
                        return None;
                    }
                    return Some(intended);
                }
            }
        }
    }

    fn take_from_budget(&self) -> bool {
        self.context.budget.as_ref().is_none_or(|budget| {
            budget
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok()
        })
    }

    async fn within_timeout(
        &mut self,
        operation: impl AsyncFnOnce(&mut Self, bool) -> Result<(), Failure>,
        measured: bool,
    ) -> Result<(), Failure> {
        let limit = self.context.timeout;
        match tokio::time::timeout(limit, operation(self, measured)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::timed_out("the operation")),
        }
    }

    async fn whole_connection(&mut self, measured: bool) -> Result<(), Failure> {
        self.prove(measured).await?;
        if let Some(channel) = self.channel.take() {
            channel.close();
        }
        Ok(())
    }

    /// One byte to the backend and back shows that the server has accepted us.
    async fn prove(&mut self, measured: bool) -> Result<(), Failure> {
        self.channel = None;
        self.opened(measured).await?.exchange(1).await
    }

    async fn request(&mut self, measured: bool) -> Result<(), Failure> {
        let bytes = self.context.request_bytes;
        self.opened(measured).await?.exchange(bytes).await
    }

    async fn ensure_open(&mut self, measured: bool) -> Result<(), Failure> {
        self.opened(measured).await.map(drop)
    }

    /// The open connection, or a new one.
    async fn opened(&mut self, measured: bool) -> Result<&mut Channel, Failure> {
        if self.channel.is_none() {
            let channel = Channel::open(self.context.target, self.tls.as_ref()).await?;
            let mut stats = self.context.stats.borrow_mut();
            stats.count_handshake(measured && self.tls.is_some(), channel.is_resumed());
            if stats.negotiated.is_none() {
                stats.negotiated = channel.negotiated();
            }
            drop(stats);
            self.channel = Some(channel);
        }
        self.channel.as_mut().ok_or_else(|| Failure::closed_early("it"))
    }
}
