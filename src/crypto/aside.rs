//! A second thread of a worker, for batches that take longer than a slice of its time: eight RSA
//! signatures keep a CPU for one to ten milliseconds, and nothing can be done in between.
//!
//! It is on the worker's CPU and nicer than the worker, so that whatever comes for established
//! connections interrupts it. Where the worker never rests, as in a storm, it hands its CPU over
//! in slices ([`Running::give_time`]), so that neither keeps the other out.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use tokio::sync::oneshot;

use super::{Engine, Failed, RsaSigning};
use crate::sys;

/// How much nicer it is than its worker: as much as can be. It interrupts a worker that never rests
/// for one or two per cent of the time, and is interrupted by it at once.
const NICER_BY: i32 = 19;

/// What a batch came to, by job; empty if it panicked.
pub(super) type Results = Vec<Result<Vec<u8>, Failed>>;

/// A batch to compute.
struct Task {
    engine: Arc<Engine>,
    jobs: Vec<RsaSigning>,
    results: oneshot::Sender<Results>,
    over: Arc<Over>,
}

/// Whether a batch is over, for who waits without doing anything else.
#[derive(Default)]
struct Over {
    is_over: Mutex<bool>,
    changed: Condvar,
}

impl Over {
    fn tell(&self) {
        *self.is_over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    fn wait(&self, most: Duration) -> bool {
        let is_over = self.is_over.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(is_over, most, |is_over| !*is_over);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// The thread; it ends when this is dropped and what it was given is done.
pub(super) struct Aside {
    tasks: mpsc::Sender<Task>,
    cpu_time_us: Arc<AtomicU64>,
}

impl Aside {
    /// Starts it on the CPUs of the calling thread.
    ///
    /// # Errors
    /// If the thread can't be made.
    pub(super) fn start() -> io::Result<Self> {
        let (tasks, given) = mpsc::channel();
        let cpu_time_us = Arc::new(AtomicU64::new(0));
        let used = cpu_time_us.clone();
        let name = thread::current().name().map_or("aside".into(), |own| format!("{own}-aside"));
        thread::Builder::new().name(name).spawn(move || {
            if let Err(error) = rustix::process::nice(NICER_BY) {
                tracing::warn!(%error, "RSA signatures compete with relays for the CPU");
            }
            given.into_iter().for_each(|task| {
                let Task { engine, jobs, results, over } = task;
                // The worker may be gone.
                let _ = results.send(compute(&engine, &jobs));
                over.tell();
                let total = sys::thread_cpu_time().as_micros();
                used.store(u64::try_from(total).unwrap_or(u64::MAX), Ordering::Relaxed);
            });
        })?;
        Ok(Self { tasks, cpu_time_us })
    }

    /// Begins to compute a batch.
    pub(super) fn begin(&self, engine: Arc<Engine>, jobs: Vec<RsaSigning>) -> Running {
        let (results, receiver) = oneshot::channel();
        let over = Arc::new(Over::default());
        // The thread is there as long as this is: it catches the panics of batches.
        let _ = self.tasks.send(Task { engine, jobs, results, over: over.clone() });
        Running { results: receiver, over }
    }

    /// CPU time that it has used until the end of its last batch.
    pub(super) fn cpu_time(&self) -> Duration {
        Duration::from_micros(self.cpu_time_us.load(Ordering::Relaxed))
    }
}

/// Computes a batch on the calling thread; nothing if that panics.
pub(super) fn compute(engine: &Engine, jobs: &[RsaSigning]) -> Results {
    // What it said went through the panic hook.
    catch_unwind(AssertUnwindSafe(|| engine.rsa_sign(jobs))).unwrap_or_default()
}

/// A batch that is being computed.
pub(super) struct Running {
    results: oneshot::Receiver<Results>,
    over: Arc<Over>,
}

impl Running {
    /// Waits for its end, and meanwhile for nothing else, no longer than `most`: the CPU is the
    /// batch's. Whether it is over.
    pub(super) fn give_time(&self, most: Duration) -> bool {
        self.over.wait(most)
    }

    /// What it came to, once it is over; nothing if it panicked.
    pub(super) async fn results(&mut self) -> Results {
        (&mut self.results).await.unwrap_or_default()
    }
}
