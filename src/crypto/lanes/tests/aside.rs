//! Batches beside the worker, with a library that takes as long for one as the test likes.

use std::{sync::Mutex, thread::ThreadId};

use super::{
    super::beside::{MAX_ASIDE, MAX_SLICES},
    *,
};
use crate::crypto::{selftest::rsa_key, tests::rsa_jobs};

/// Looks for the test's leave until it gives up, a millisecond each.
const MOST_LOOKS: u32 = 20_000;

/// A library that holds a batch until it is let go. It knows the answer to [`job`] alone.
#[derive(Default)]
struct Held {
    is_free: AtomicBool,
    /// It panics instead.
    breaks: AtomicBool,
    /// By which thread it was called, and for which size.
    calls: Mutex<Vec<(ThreadId, RsaSize)>>,
}

/// A signature with one right answer only (RFC 8017 §8.2).
fn job(size: RsaSize) -> RsaSigning {
    rsa_jobs(size, 2).remove(1)
}

impl Primitives for Arc<Held> {
    fn name(&self) -> &str {
        "a slow one"
    }

    fn x25519_public(&self, _: &mut [KeyPair]) -> Status {
        Status::ALL_FAILED
    }

    fn x25519(&self, _: &mut [AgreeLane<'_>]) -> Status {
        Status::ALL_FAILED
    }

    fn ecdsa_setup(&self, _: Curve, _: &mut [SetupLane]) -> Status {
        Status::ALL_FAILED
    }

    fn ecdsa_complete(&self, _: Curve, _: &mut [CompleteLane<'_>]) -> Status {
        Status::ALL_FAILED
    }

    fn ecdsa_verify(&self, _: Curve, _: &[VerifyLane<'_>]) -> Status {
        Status::ALL_FAILED
    }

    fn rsa_private(&self, size: RsaSize, lanes: &mut [RsaPrivateLane<'_>]) -> Status {
        self.calls.lock().unwrap().push((thread::current().id(), size));
        assert!(!self.breaks.load(Relaxed), "in a batch");
        for _ in 0..MOST_LOOKS {
            if self.is_free.load(Relaxed) {
                let answer = scalar::rsa_sign(&job(size)).unwrap();
                lanes.iter_mut().for_each(|lane| lane.output.copy_from_slice(&answer));
                return Status(0);
            }
            thread::sleep(Duration::from_millis(1));
        }
        panic!("the worker doesn't go on");
    }

    fn rsa_public(&self, _: RsaSize, _: &mut [RsaPublicLane<'_>]) -> Status {
        Status::ALL_FAILED
    }
}

/// Makes one that of this thread, which lets batches go at once if `is_free`.
fn install_held(is_free: bool) -> Arc<Held> {
    let held = Arc::new(Held { is_free: is_free.into(), ..Held::default() });
    let thresholds = Thresholds { rsa: [1; 3], ..Thresholds::NEVER };
    install(Arc::new(Engine::with(Box::new(held.clone()), thresholds)));
    held
}

/// Signs through the lanes; whether the signature is valid, where there is one.
fn signature(size: RsaSize) -> Run<Option<bool>> {
    assert!(rsa_key(size).is_some());
    let call = move || Some(scalar::is_rsa_signed(&job(size), &rsa_sign(job(size)).ok()?));
    run(call).ok().expect("a stack")
}

/// Makes signatures of these sizes on a worker with a thread beside it, in order, and `meanwhile`,
/// which gets how many turns were taken.
fn on_a_worker(
    sizes: &[RsaSize],
    meanwhile: impl AsyncFnOnce(&Cell<u32>) + 'static,
) -> Vec<Option<bool>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let turns = Rc::new(Cell::new(0));
        let (all, aside) = (turns.clone(), turns.clone());
        tokio::task::spawn_local(serve(async || ()));
        tokio::task::spawn_local(async move {
            let turn = async || {
                aside.set(aside.get() + 1);
                // Others go first between two slices.
                ring::others().await;
            };
            serve_aside(turn).await;
        });
        tokio::task::spawn_local(async move { meanwhile(&all).await });
        let tasks: Vec<_> = sizes
            .iter()
            .map(|&size| {
                let mut run = signature(size);
                tokio::task::spawn_local(poll_fn(move |cx| {
                    let polled = Pin::new(&mut run).poll(cx);
                    run_full();
                    polled
                }))
            })
            .collect();
        let mut signed = Vec::new();
        for task in tasks {
            signed.push(task.await.unwrap().unwrap());
        }
        assert_eq!((waiting(), running()), (0, 0));
        signed
    })
}

async fn three_turns(turns: &Cell<u32>) {
    while turns.get() < 3 {
        ring::others().await;
    }
}

const BATCH: [RsaSize; LANES] = [RsaSize::Rsa2048; LANES];

// The batch isn't over before the worker has done something else, three slices later.
#[test]
fn a_worker_goes_on_while_rsa_signatures_are_computed_beside_it() {
    let held = install_held(false);
    let library = held.clone();
    let signed = on_a_worker(&BATCH, async move |turns| {
        three_turns(turns).await;
        library.is_free.store(true, Relaxed);
    });
    assert_eq!(signed, [Some(true); LANES]);
    let calls = held.calls.lock().unwrap();
    assert!(matches!(calls[..], [(thread, _)] if thread != thread::current().id()));
}

#[test]
fn signatures_that_fill_no_batch_beside_the_worker_are_not_forgotten() {
    for signatures in [1, 3, LANES + 3, 3 * LANES + 1] {
        install_held(true);
        let sizes = vec![RsaSize::Rsa2048; signatures];
        assert_eq!(on_a_worker(&sizes, async |_| ()), vec![Some(true); signatures]);
    }
}

// While a batch is held, one of a larger key and then two more of the first key come.
#[test]
fn the_size_that_has_waited_longest_is_next() {
    let held = install_held(false);
    let library = held.clone();
    let sizes = [&BATCH[..], &[RsaSize::Rsa3072], &BATCH, &BATCH].concat();
    let signed = on_a_worker(&sizes, async move |turns| {
        three_turns(turns).await;
        library.is_free.store(true, Relaxed);
    });
    assert_eq!(signed, vec![Some(true); sizes.len()]);
    let calls: Vec<_> = held.calls.lock().unwrap().iter().map(|(_, size)| *size).collect();
    let (small, large) = (RsaSize::Rsa2048, RsaSize::Rsa3072);
    assert_eq!(calls, [small, large, small, small]);
}

// Somebody else has the CPU for longer than a batch may take: the worker does without that thread.
#[test]
fn a_worker_signs_by_itself_while_it_gets_no_time_beside_it() {
    let held = install_held(false);
    let library = held.clone();
    let sizes = [BATCH, BATCH].concat();
    let signed = on_a_worker(&sizes, async move |turns| {
        while turns.get() <= MAX_SLICES + 1 {
            ring::others().await;
        }
        library.is_free.store(true, Relaxed);
    });
    assert_eq!(signed, [Some(true); 2 * LANES]);
    let own = thread::current().id();
    let calls: Vec<_> = held.calls.lock().unwrap().iter().map(|(id, _)| *id == own).collect();
    assert_eq!(calls, [false, true]);
}

#[test]
fn a_panic_beside_the_worker_fails_the_signatures_of_its_batch() {
    let held = install_held(true);
    held.breaks.store(true, Relaxed);
    assert_eq!(on_a_worker(&BATCH, async |_| ()), [None; LANES]);
    held.breaks.store(false, Relaxed);
    assert_eq!(on_a_worker(&BATCH, async |_| ()), [Some(true); LANES]);
}

#[test]
fn signatures_whose_handshakes_are_gone_are_not_computed_beside_the_worker() {
    let held = install_held(true);
    let mut gone: Vec<_> = BATCH.iter().map(|&size| signature(size)).collect();
    for run in &mut gone {
        let polled = Pin::new(run).poll(&mut std::task::Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
    }
    assert_eq!(waiting(), LANES);
    drop(gone);
    assert_eq!(on_a_worker(&[RsaSize::Rsa3072], async |_| ()), [Some(true)]);
    let calls: Vec<_> = held.calls.lock().unwrap().iter().map(|(_, size)| *size).collect();
    assert_eq!(calls, [RsaSize::Rsa3072]);
}

// Two batches wait, one is held: a handshake that has yet to begin waits for the first of them.
#[test]
fn no_handshake_begins_while_more_signatures_wait_than_the_next_batches_take() {
    let held = install_held(false);
    let signed = on_a_worker(&[BATCH; 3].concat(), async move |turns| {
        three_turns(turns).await;
        assert_eq!(waiting(), MAX_ASIDE);
        let begun = Rc::new(Cell::new(false));
        let begins = begun.clone();
        tokio::task::spawn_local(async move {
            room().await;
            begins.set(true);
        });
        for _ in 0..10 {
            ring::others().await;
        }
        assert!(!begun.get());
        held.is_free.store(true, Relaxed);
        while !begun.get() {
            ring::others().await;
        }
        assert!(waiting() < MAX_ASIDE);
    });
    assert_eq!(signed, [Some(true); 3 * LANES]);
}
