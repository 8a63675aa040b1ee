//! The order of life: load, probe, bind, spawn, serve, reload, drain.

mod reload;
mod signals;
mod start;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering, mpsc},
    time::{Duration, Instant, SystemTime},
};

use rustls::server::ProducesTickets;
use sd_notify::NotifyState;

pub use start::StartError;

use crate::{
    admin::Snapshot,
    config::Config,
    generation::Generation,
    metrics::ReloadResult,
    process::Process,
    worker::{Command, Handle, Serves},
};
use signals::Signal;

/// How often latencies are folded into their buckets, and workers are looked after.
const UPKEEP: Duration = Duration::from_secs(1);

/// How long connections may take to end once they were told to.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// A serving process.
pub struct App {
    path: PathBuf,
    snapshot: Arc<Snapshot>,
    process: Arc<Process>,
    tickets: Arc<dyn ProducesTickets>,
    generation: Arc<Generation>,
    workers: Vec<Handle>,
    events: mpsc::Receiver<Serves>,
    signals: mpsc::Receiver<Signal>,
    descriptors: u64,
}

/// Serves the configuration at `path` until it is told to end; `ready` is called once, when
/// every worker accepts.
///
/// # Errors
/// Whatever keeps it from serving, before anything is served.
pub fn run(path: &Path, ready: impl FnOnce(&Config)) -> Result<(), StartError> {
    let config = Config::load(path)?;
    let _log = crate::logging::start(&config.log);
    let mut app = App::start(path, config)?;
    notify(&[NotifyState::Ready]);
    for warning in &app.generation.config.warnings {
        tracing::warn!("{warning}");
    }
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        workers = app.workers.len(),
        listeners = app.generation.services.len(),
        "serving"
    );
    ready(&app.generation.config);
    app.serve()?;
    app.drain();
    Ok(())
}

impl App {
    /// Serves until a signal says to end.
    ///
    /// # Errors
    /// If a worker is gone: its share of the clients would wait in vain, so the process ends
    /// and whoever supervises it starts a whole one.
    fn serve(&mut self) -> Result<(), StartError> {
        let mut upkeep = Instant::now() + UPKEEP;
        loop {
            match self.signals.recv_timeout(upkeep.saturating_duration_since(Instant::now())) {
                Ok(Signal::Reload) => self.reload()?,
                Ok(Signal::End) | Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    self.snapshot.metrics.run_upkeep();
                    upkeep = Instant::now() + UPKEEP;
                    if self.workers.iter().any(Handle::has_ended) {
                        tracing::error!("a worker is gone; the process ends");
                        return Err(StartError::Worker);
                    }
                }
            }
        }
    }

    /// A generation that can't be prepared changes nothing.
    ///
    /// # Errors
    /// If a worker doesn't take over a generation that was prepared: it is gone or stuck.
    fn reload(&mut self) -> Result<(), StartError> {
        tracing::info!(file = %self.path.display(), "reloading");
        notify(&[NotifyState::Reloading]);
        match self.prepare() {
            Ok(prepared) => {
                self.commit(prepared)?;
                self.process.metrics.reloaded(ReloadResult::Applied);
                tracing::info!(generation = self.generation.number, "reloaded");
            }
            Err(error) => {
                self.process.metrics.reloaded(ReloadResult::Failed);
                for line in error.to_string().lines() {
                    tracing::error!("not reloaded: {line}");
                }
                let generation = self.generation.number;
                tracing::error!(generation, "the old generation goes on unchanged");
            }
        }
        notify(&[NotifyState::Ready]);
        Ok(())
    }

    /// Stops accepting, gives connections their time to end, ends the rest.
    fn drain(mut self) {
        let limit = self.generation.config.limits.drain_timeout;
        tracing::info!(limit_s = limit.as_secs_f64(), "draining; a second signal ends at once");
        notify(&[NotifyState::Stopping]);
        self.snapshot.ready.store(false, Ordering::Relaxed);
        self.tell_all(|| Command::Drain);
        if !self.all_ended_within(limit) {
            self.tell_all(|| Command::Close);
            if !self.all_ended_within(CLOSE_TIMEOUT) {
                self.tell_all(|| Command::Stop);
            }
        }
        let panicked = self.workers.drain(..).map(Handle::join).filter(|clean| !clean).count();
        tracing::info!(panicked, "ended");
    }

    fn tell_all(&self, command: impl Fn() -> Command) {
        for worker in &self.workers {
            worker.tell(command());
        }
    }

    /// Whether all workers ended in time, before a second signal.
    fn all_ended_within(&self, limit: Duration) -> bool {
        /// How often signals are looked for.
        const STEP: Duration = Duration::from_millis(20);
        let until = Instant::now() + limit;
        loop {
            if self.workers.iter().all(Handle::has_ended) {
                return true;
            }
            if Instant::now() >= until || matches!(self.signals.try_recv(), Ok(Signal::End)) {
                return false;
            }
            std::thread::sleep(STEP);
        }
    }
}

/// Tells the service manager; without one this does nothing.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}

/// Seconds since 1970.
fn now_s() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
