//! The lanes of one worker: operations of its handshakes wait here until eight of a kind are
//! there, or the worker has nothing else to do.
//!
//! An operation may wait only inside of [`super::coroutine::run`]; anywhere else, and while few
//! handshakes are going on, it is carried out at once.

mod beside;
#[cfg(test)]
pub(crate) mod tests;

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::Arc,
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::{
    Agreement, Ahead, Curve, EcdsaSigning, Engine, Failed, KeyPair, LANES, RsaSigning, RsaSize,
    SharedSecret, VERIFY_LANES, Verification,
    aside::Aside,
    company::{ClientsTurn, Company},
    coroutine,
};
use crate::ring;

pub(crate) use beside::room;
pub use beside::{aside_cpu_time, serve_aside};

/// Handshakes that have to be going on ([`Company::size`]) before any of them waits for company: a
/// lone client would wait for nothing.
const MIN_HANDSHAKES: usize = 3;

/// Handshakes that have to be going on before a batch that isn't full waits for more of them.
const MIN_COMPANY: usize = 6;

/// How long it does at most. Whoever waits that long has company to share the cost with; the clock
/// of the worker has no finer steps.
const LINGER: Duration = Duration::from_millis(1);

/// Turns that others may take, while new operations come in, before a batch runs as it is.
const MAX_TURNS: u32 = 64;

/// An operation whose result is still to come.
struct Waiting<J, R> {
    since: Instant,
    job: J,
    answer: Rc<Answer<R>>,
}

/// Where the result goes. Who waits for it holds it as well: held by the queue alone, it is
/// nobody's.
struct Answer<R> {
    /// Within: none if the batch panicked.
    result: RefCell<Option<Option<R>>>,
    waker: Waker,
}

/// Operations of a kind, oldest first. Each is one of a connection in its handshake, so that there
/// are never more than handshakes are allowed.
struct Queue<J, R> {
    waiting: RefCell<VecDeque<Waiting<J, R>>>,
}

impl<J, R> Default for Queue<J, R> {
    fn default() -> Self {
        Self { waiting: RefCell::default() }
    }
}

impl<J, R> Queue<J, R> {
    fn len(&self) -> usize {
        self.waiting.borrow().len()
    }

    /// Since when the oldest one waits.
    fn since(&self) -> Option<Instant> {
        self.waiting.borrow().front().map(|waiting| waiting.since)
    }

    /// Takes the oldest operations, as many as a batch holds, that somebody still waits for.
    fn take(&self, most: usize, engine: &Engine) -> (Vec<J>, Answers<R>) {
        let now = Instant::now();
        let (mut jobs, mut answers) = (Vec::with_capacity(most), Vec::with_capacity(most));
        while jobs.len() < most {
            let Some(Waiting { since, job, answer }) = self.waiting.borrow_mut().pop_front() else {
                break;
            };
            if Rc::strong_count(&answer) > 1 {
                if let Some(metrics) = engine.metrics() {
                    metrics.waited(now.duration_since(since));
                }
                jobs.push(job);
                answers.push(answer);
            }
        }
        (jobs, Answers(answers))
    }

    /// Runs a batch of them.
    fn run(&self, most: usize, engine: &Engine, batch: impl FnOnce(&[J]) -> Vec<R>) {
        let (jobs, answers) = self.take(most, engine);
        if jobs.is_empty() {
            return;
        }
        // A panic may not end the task that happens to run the batch: it fails the operations of
        // this one, and what it said went through the panic hook.
        answers.give(catch_unwind(AssertUnwindSafe(|| batch(&jobs))).unwrap_or_default());
    }
}

/// Whom the results of a batch go to, in the order of its operations.
struct Answers<R>(Vec<Rc<Answer<R>>>);

impl<R> Answers<R> {
    /// Where there is no result for it, an operation has failed.
    fn give(self, results: Vec<R>) {
        let mut results = results.into_iter();
        for answer in self.0 {
            *answer.result.borrow_mut() = Some(results.next());
            answer.waker.wake_by_ref();
        }
    }
}

/// What one worker's operations wait in.
struct Lanes {
    engine: RefCell<Arc<Engine>>,
    ahead: RefCell<Ahead>,
    agree: Queue<Agreement, Result<SharedSecret, Failed>>,
    sign: [Queue<EcdsaSigning, Result<Vec<u8>, Failed>>; 2],
    verify: [Queue<Verification, bool>; 2],
    rsa: [Queue<RsaSigning, Result<Vec<u8>, Failed>>; 3],
    /// Where batches of these are computed, once somebody serves it.
    aside: RefCell<Option<Rc<Aside>>>,
    /// Of which sizes a batch is due there though it isn't full.
    due: [Cell<bool>; 3],
    /// Tells that a batch is due there.
    is_due: Notify,
    /// Tells that fewer wait than did.
    has_room: Notify,
    company: Rc<Company>,
    /// Operations that ever waited.
    submitted: Cell<u64>,
    /// Who runs batches that don't fill, while there is nothing to run.
    idle: RefCell<Option<Waker>>,
}

thread_local! {
    static WORKER: Rc<Lanes> = Rc::new(Lanes {
        engine: RefCell::new(Arc::new(Engine::scalar())),
        ahead: RefCell::default(),
        agree: Queue::default(),
        sign: std::array::from_fn(|_| Queue::default()),
        verify: std::array::from_fn(|_| Queue::default()),
        rsa: std::array::from_fn(|_| Queue::default()),
        aside: RefCell::default(),
        due: Default::default(),
        is_due: Notify::new(),
        has_room: Notify::new(),
        company: Rc::default(),
        submitted: Cell::new(0),
        idle: RefCell::new(None),
    });
}

fn worker() -> Rc<Lanes> {
    WORKER.with(Rc::clone)
}

/// Makes `engine` that of this thread; until then it is aws-lc-rs.
pub fn install(engine: Arc<Engine>) {
    *worker().engine.borrow_mut() = engine;
}

/// A handshake of this worker, which others may count on as company for as long as it lives.
pub(crate) struct Handshake(Rc<Lanes>);

impl Handshake {
    pub(crate) fn begin() -> Self {
        let lanes = worker();
        lanes.company.enter();
        Self(lanes)
    }

    /// It is its client's turn until the answer is dropped. Who `has_spoken` is expected to go on.
    pub(crate) fn waits(&self, has_spoken: bool) -> ClientsTurn {
        self.0.company.wait(has_spoken, Instant::now())
    }

    /// Whether there is no other one. One whose client is waited for counts: the client's flight
    /// may have come already, and have yet to be noticed.
    pub(crate) fn is_alone(&self) -> bool {
        self.0.company.all() == 1
    }

    /// Whether its operations may wait for those of others.
    pub(crate) fn may_wait(&self) -> bool {
        let company = self.0.company.size(Instant::now());
        company >= MIN_HANDSHAKES && self.0.engine.borrow().is_accelerated()
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.0.company.leave();
    }
}

/// Operations that wait now.
pub fn waiting() -> usize {
    worker().waiting()
}

/// Runs the batches that are full.
pub(crate) fn run_full() {
    let lanes = worker();
    if lanes.aside_due().is_some() {
        lanes.is_due.notify_one();
    }
    let is_full = |kind: &Kind| lanes.len(*kind) >= kind.most() && !lanes.is_aside(*kind);
    while let Some(kind) = Kind::ALL.into_iter().find(is_full) {
        lanes.run(kind);
    }
}

/// Runs batches that don't fill once no handshake has anything else to do. Each waits for its
/// `turn`, behind those who asked for theirs before, and has it until that is dropped. Never ends.
pub async fn serve<T>(turn: impl AsyncFn() -> T) {
    let lanes = worker();
    loop {
        poll_fn(|cx| {
            if lanes.unattended() > 0 {
                return Poll::Ready(());
            }
            *lanes.idle.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
        lanes.settle(&turn).await;
        if lanes.expects_more() {
            tokio::time::sleep(LINGER).await;
            lanes.settle(&turn).await;
        }
        for kind in Kind::ALL.into_iter().filter(|&kind| lanes.len(kind) > 0) {
            match kind {
                Kind::Rsa(size) if lanes.is_aside(kind) => {
                    lanes.due[size as usize].set(true);
                    lanes.is_due.notify_one();
                }
                _ => {
                    let _turn = turn().await;
                    lanes.run(kind);
                }
            }
        }
    }
}

/// A queue of the lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Agree,
    Sign(Curve),
    Verify(Curve),
    Rsa(RsaSize),
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::Agree,
        Self::Sign(Curve::P256),
        Self::Sign(Curve::P384),
        Self::Verify(Curve::P256),
        Self::Verify(Curve::P384),
        Self::Rsa(RsaSize::Rsa2048),
        Self::Rsa(RsaSize::Rsa3072),
        Self::Rsa(RsaSize::Rsa4096),
    ];

    /// The most operations of a batch.
    fn most(self) -> usize {
        match self {
            Self::Verify(_) => VERIFY_LANES,
            Self::Agree | Self::Sign(_) | Self::Rsa(_) => LANES,
        }
    }
}

impl Lanes {
    /// Lets handshakes go on until no operation of theirs comes in any more.
    async fn settle<T>(&self, turn: impl AsyncFn() -> T) {
        for _ in 0..MAX_TURNS {
            let before = self.submitted.get();
            // Those who can go on ask for their turns, and have them before this one.
            ring::others().await;
            drop(turn().await);
            if self.submitted.get() == before {
                break;
            }
        }
    }

    /// Whether others may be expected to ask before long.
    fn expects_more(&self) -> bool {
        let company = self.company.size(Instant::now());
        company >= MIN_COMPANY && company > self.waiting()
    }

    fn len(&self, kind: Kind) -> usize {
        match kind {
            Kind::Agree => self.agree.len(),
            Kind::Sign(curve) => self.sign[curve as usize].len(),
            Kind::Verify(curve) => self.verify[curve as usize].len(),
            Kind::Rsa(size) => self.rsa[size as usize].len(),
        }
    }

    /// Whether batches of that kind are computed beside the worker.
    fn is_aside(&self, kind: Kind) -> bool {
        matches!(kind, Kind::Rsa(_)) && self.aside.borrow().is_some()
    }

    /// The size of RSA signatures of which a batch is due beside the worker: that whose oldest one
    /// has waited longest.
    fn aside_due(&self) -> Option<RsaSize> {
        let is_due = |size: &RsaSize| {
            let waiting = self.rsa[*size as usize].len();
            let due = self.due[*size as usize].get();
            self.is_aside(Kind::Rsa(*size)) && (waiting >= LANES || waiting > 0 && due)
        };
        RsaSize::ALL.into_iter().filter(is_due).min_by_key(|&size| self.rsa[size as usize].since())
    }

    /// Operations whose batch isn't due yet, nor full.
    fn unattended(&self) -> usize {
        let unattended = |kind: &Kind| match kind {
            Kind::Rsa(size) => !(self.is_aside(*kind) && self.due[*size as usize].get()),
            _ => true,
        };
        Kind::ALL.into_iter().filter(unattended).map(|kind| self.len(kind)).sum()
    }

    fn waiting(&self) -> usize {
        Kind::ALL.into_iter().map(|kind| self.len(kind)).sum()
    }

    /// Runs a batch of that kind.
    fn run(&self, kind: Kind) {
        let engine = self.engine();
        match kind {
            Kind::Agree => self.agree.run(kind.most(), &engine, |jobs| engine.agree(jobs)),
            Kind::Sign(curve) => self.sign[curve as usize]
                .run(kind.most(), &engine, |jobs| engine.sign(jobs, &mut self.ahead.borrow_mut())),
            Kind::Verify(curve) => {
                self.verify[curve as usize].run(kind.most(), &engine, |jobs| engine.verify(jobs))
            }
            Kind::Rsa(size) => {
                self.rsa[size as usize].run(kind.most(), &engine, |jobs| engine.rsa_sign(jobs))
            }
        }
    }

    fn engine(&self) -> Arc<Engine> {
        self.engine.borrow().clone()
    }

    /// Waits for the answer in the queue, or has it computed at once; none if that panicked.
    fn ask<J, R>(
        &self,
        queue: &Queue<J, R>,
        job: J,
        alone: impl FnOnce(&[J]) -> Vec<R>,
    ) -> Option<R> {
        let waker = coroutine::waker().filter(|_| self.engine.borrow().is_accelerated());
        let Some(waker) = waker else { return alone(&[job]).pop() };
        let answer = Rc::new(Answer { result: RefCell::new(None), waker });
        queue.waiting.borrow_mut().push_back(Waiting {
            since: Instant::now(),
            job,
            answer: answer.clone(),
        });
        self.submitted.set(self.submitted.get() + 1);
        if let Some(idle) = self.idle.borrow_mut().take() {
            idle.wake();
        }
        loop {
            coroutine::pause();
            let result = answer.result.borrow_mut().take();
            if let Some(result) = result {
                return result;
            }
        }
    }
}

/// A new X25519 key pair.
pub(super) fn key_pair() -> Result<KeyPair, Failed> {
    let lanes = worker();
    lanes.engine().key_pair(&mut lanes.ahead.borrow_mut())
}

/// What [`Engine::agree`] finds.
pub(super) fn agree(job: Agreement) -> Result<SharedSecret, Failed> {
    let lanes = worker();
    let found = lanes.ask(&lanes.agree, job, |jobs| lanes.engine().agree(jobs));
    found.unwrap_or(Err(Failed))
}

/// What [`Engine::sign`] makes. Where nonces were made ahead, one alone costs little.
pub(super) fn sign(job: EcdsaSigning) -> Result<Vec<u8>, Failed> {
    let lanes = worker();
    let engine = lanes.engine();
    let alone = |jobs: &[EcdsaSigning]| engine.sign(jobs, &mut lanes.ahead.borrow_mut());
    let curve = job.key.curve();
    let found = if engine.thresholds().is_some_and(|least| least.sign[curve as usize] == 1) {
        alone(&[job]).pop()
    } else {
        lanes.ask(&lanes.sign[curve as usize], job, alone)
    };
    found.unwrap_or(Err(Failed))
}

/// What [`Engine::verify`] finds.
pub(super) fn verify(job: Verification) -> bool {
    let lanes = worker();
    let (engine, curve) = (lanes.engine(), job.key.curve());
    if !engine.verifies_in_batches(curve) {
        return engine.verify(&[job]).pop().unwrap_or(false);
    }
    let queue = &lanes.verify[curve as usize];
    lanes.ask(queue, job, |jobs| engine.verify(jobs)).unwrap_or(false)
}

/// What [`Engine::rsa_sign`] makes.
pub(super) fn rsa_sign(job: RsaSigning) -> Result<Vec<u8>, Failed> {
    let lanes = worker();
    let queue = &lanes.rsa[job.key.size() as usize];
    lanes.ask(queue, job, |jobs| lanes.engine().rsa_sign(jobs)).unwrap_or(Err(Failed))
}
