//! The order of life: load, probe, bind, spawn, serve, reload, drain.

mod reload;
mod selftest;
mod signals;
mod start;
#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant, SystemTime},
};

use rustls_pki_types::UnixTime;
use sd_notify::NotifyState;

pub use start::StartError;

use crate::{
    admin::Snapshot,
    config::{Config, Disk},
    crls::Crls,
    generation::Generation,
    metrics::{CacheMetrics, ReloadResult},
    process::Process,
    quota::Usage,
    resumption::SessionStore,
    worker::{Command, Handle, Serves},
};
use signals::Signal;

/// How often latencies are folded into their buckets.
const UPKEEP: Duration = Duration::from_secs(5);

/// How often some of the sessions that are over are dropped.
const TIDYING: Duration = Duration::from_secs(1);

/// How soon it is noticed that a worker is gone.
const WATCH: Duration = Duration::from_secs(1);

/// How long connections may take to end once they were told to.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// A serving process.
pub struct App {
    path: PathBuf,
    snapshot: Arc<Snapshot>,
    process: Arc<Process>,
    sessions: SessionStore,
    cache_metrics: CacheMetrics,
    usage: Arc<Usage>,
    _self_test: Option<selftest::Running>,
    generation: Arc<Generation>,
    workers: Vec<Handle>,
    events: mpsc::Receiver<Serves>,
    signals: mpsc::Receiver<Signal>,
    descriptors: u64,
    disk: Disk,
    crls: Crls,
    /// Set by the thread of the CRLs when answers about certificates may have changed.
    crls_changed: Arc<AtomicBool>,
}

/// Serves the configuration at `path` until it is told to end; `ready` is called once, when
/// every worker accepts.
///
/// # Errors
/// Whatever keeps it from serving, before anything is served; [`StartError::WorkerLost`] when a
/// worker died on the way.
pub fn run(path: &Path, ready: impl FnOnce(&Config)) -> Result<(), StartError> {
    let disk = Disk::default();
    let config = Config::load_from(path, &disk)?;
    let _log = crate::logging::start(&config.log);
    let mut app = App::start(path, config, disk)?;
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
    let served = app.serve();
    let limit = match &served {
        Ok(()) => app.generation.config.limits.drain_timeout,
        Err(lost) => {
            tracing::error!("{lost}");
            Duration::ZERO
        }
    };
    let drained = app.drain(limit);
    served.and(drained)
}

impl App {
    /// Serves until a signal says to end.
    ///
    /// # Errors
    /// A worker is gone. The others could go on, but with less than what was configured, and
    /// with whatever killed it: the process ends, so that the service manager starts it anew.
    fn serve(&mut self) -> Result<(), StartError> {
        let mut upkeep = Instant::now() + UPKEEP;
        let mut tidying = Instant::now();
        loop {
            match self.signals.recv_timeout(WATCH) {
                Ok(Signal::Reload) => {
                    if self.end_is_waiting() {
                        return Ok(());
                    }
                    self.reload()?;
                }
                Ok(Signal::End) | Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
                Ok(Signal::Wake) | Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
            if self.crls_changed.swap(false, Ordering::Relaxed) {
                self.recheck();
            }
            if let Some(worker) = self.workers.iter().find(|worker| worker.has_ended()) {
                return Err(StartError::WorkerLost { cpu: worker.cpu });
            }
            if Instant::now() >= tidying {
                self.sessions.tidy(UnixTime::now().as_secs(), &self.cache_metrics);
                tidying = Instant::now() + TIDYING;
            }
            if Instant::now() >= upkeep {
                self.snapshot.metrics.run_upkeep();
                upkeep = Instant::now() + UPKEEP;
            }
        }
    }

    /// CRLs have changed: what was admitted under the old ones may have been revoked.
    fn recheck(&self) {
        tracing::debug!("CRLs have changed");
        self.tell_all(|| Command::Recheck);
    }

    /// Takes the signals that wait: the reload that is about to begin answers all that asked for
    /// one, and none of them holds back the end.
    fn end_is_waiting(&self) -> bool {
        self.signals.try_iter().any(|signal| signal == Signal::End)
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

    /// Stops accepting, gives connections `limit` to end, ends the rest.
    ///
    /// # Errors
    /// A worker panicked, or is stuck.
    fn drain(mut self, limit: Duration) -> Result<(), StartError> {
        tracing::info!(limit_s = limit.as_secs_f64(), "draining; a second signal ends at once");
        notify(&[NotifyState::Stopping]);
        self.snapshot.ready.store(false, Ordering::Relaxed);
        self.tell_all(|| Command::Drain);
        if !self.all_ended_within(limit) {
            self.tell_all(|| Command::Close);
            if !self.all_ended_within(CLOSE_TIMEOUT) {
                self.tell_all(|| Command::Stop);
                self.all_ended_within(CLOSE_TIMEOUT);
            }
        }
        let mut outcome = Ok(());
        for worker in self.workers.drain(..) {
            let cpu = worker.cpu;
            // One that is stuck is not waited for: it would keep the process from its end.
            if !worker.has_ended() || !worker.join() {
                outcome = Err(StartError::WorkerLost { cpu });
            }
        }
        tracing::info!("ended");
        outcome
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
