//! Batches of RSA signatures, which are computed beside the worker.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use super::{
    super::{LANES, aside::compute},
    Aside, worker,
};

/// How long a batch of RSA signatures may take while the worker goes on as if there were none.
/// Where the worker rests, the batch is done by then; the clock has no finer steps.
const UNTIL_SLICES: Duration = Duration::from_millis(1);

/// What it has of the worker's time in a turn after that: as much as the shortest slice.
const ASIDE_SLICE: Duration = Duration::from_micros(150);

/// Signatures that may wait beside the worker before no more handshakes begin: enough for the next
/// batch to be full when one is over. What waits here was computed for already, and is lost if
/// its client goes.
pub(super) const MAX_ASIDE: usize = 2 * LANES;

/// A batch that isn't over after so many slices, several times as long as the longest batch takes,
/// has no CPU beside the worker: somebody else has it, who isn't as nice.
pub(super) const MAX_SLICES: u32 = 1000;

/// How long batches are computed by the worker itself then, as all others are.
const UNTIL_AGAIN: Duration = Duration::from_secs(10);

/// Has RSA signatures computed beside the worker, which goes on meanwhile, a batch after the other;
/// those that take too long for that have slices of its time, for each of which it waits for its
/// `turn`. Never ends, unless there is no thread for it; then they run as all other batches do.
pub async fn serve_aside<T>(turn: impl AsyncFn() -> T) {
    let lanes = worker();
    let aside = match Aside::start() {
        Ok(aside) => Rc::new(aside),
        Err(error) => {
            tracing::warn!(%error, "no thread for RSA signatures: relays wait for their batches");
            return;
        }
    };
    *lanes.aside.borrow_mut() = Some(aside.clone());
    let mut crowded_out: Option<Instant> = None;
    loop {
        let Some(size) = lanes.aside_due() else {
            lanes.is_due.notified().await;
            continue;
        };
        let (engine, queue) = (lanes.engine(), &lanes.rsa[size as usize]);
        let (jobs, answers) = queue.take(LANES, &engine);
        // What is left has waited for this one, and needs no more company.
        lanes.due[size as usize].set(queue.len() > 0);
        lanes.has_room.notify_one();
        if jobs.is_empty() {
            continue;
        }
        if crowded_out.is_some_and(|since| since.elapsed() < UNTIL_AGAIN) {
            let _turn = turn().await;
            answers.give(compute(&engine, &jobs));
            continue;
        }
        let mut running = aside.begin(engine, jobs);
        let results = match tokio::time::timeout(UNTIL_SLICES, running.results()).await {
            Ok(results) => results,
            Err(_) => {
                let mut slices = 0;
                loop {
                    let _turn = turn().await;
                    if running.give_time(ASIDE_SLICE) {
                        break;
                    }
                    slices += 1;
                }
                if slices > MAX_SLICES {
                    tracing::warn!(
                        "somebody else has the CPU of RSA signatures: for ten seconds, relays of \
                         this worker wait for whole batches"
                    );
                    crowded_out = Some(Instant::now());
                }
                running.results().await
            }
        };
        answers.give(results);
    }
}

/// Waits until the signatures that wait beside the worker are few enough for a handshake to begin.
pub(crate) async fn room() {
    let lanes = worker();
    while lanes.rsa.iter().any(|queue| queue.len() >= MAX_ASIDE) {
        lanes.has_room.notified().await;
    }
}

/// CPU time that batches beside this worker have used.
pub fn aside_cpu_time() -> Duration {
    worker().aside.borrow().as_ref().map_or(Duration::ZERO, |aside| aside.cpu_time())
}
