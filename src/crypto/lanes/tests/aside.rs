//! Batches beside the worker, with a library that takes as long for one as the test likes.

use super::{super::beside::MAX_ASIDE, *};
use crate::crypto::{RsaKey, selftest::rsa_key, tests::rsa_jobs};

/// Looks for the test's leave until it gives up, a millisecond each.
const MOST_LOOKS: u32 = 20_000;

/// A library that holds a batch until it is let go, and then has no result, so that aws-lc-rs
/// signs.
#[derive(Default)]
struct Held {
    is_free: AtomicBool,
    /// It panics instead.
    breaks: bool,
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

    fn rsa_private(&self, _: RsaSize, _: &mut [RsaPrivateLane<'_>]) -> Status {
        assert!(!self.breaks, "in a batch");
        for _ in 0..MOST_LOOKS {
            if self.is_free.load(Relaxed) {
                return Status::ALL_FAILED;
            }
            thread::sleep(Duration::from_millis(1));
        }
        panic!("the worker doesn't go on");
    }

    fn rsa_public(&self, _: RsaSize, _: &mut [RsaPublicLane<'_>]) -> Status {
        Status::ALL_FAILED
    }
}

fn install_held(held: Held) -> Arc<Held> {
    let held = Arc::new(held);
    let thresholds = Thresholds { rsa: [1; 3], ..Thresholds::NEVER };
    install(Arc::new(Engine::with(Box::new(held.clone()), thresholds)));
    held
}

/// Signs through the lanes; whether the signature is valid, where there is one.
fn signature(key: &Arc<RsaKey>) -> Run<Option<bool>> {
    let key = key.clone();
    let job = move || {
        let mut job = rsa_jobs(RsaSize::Rsa2048, 1).remove(0);
        job.key = key.clone();
        job
    };
    let call = move || {
        let signed = rsa_sign(job()).ok()?;
        Some(scalar::is_rsa_signed(&job(), &signed))
    };
    run(call).ok().expect("a stack")
}

/// Makes so many of them on a worker with a thread beside it, and `while_held` meanwhile, which gets
/// how many turns were taken.
fn on_a_worker(
    signatures: usize,
    while_held: impl AsyncFnOnce(&Cell<u32>) + 'static,
) -> Vec<Option<bool>> {
    let key = Arc::new(rsa_key(RsaSize::Rsa2048).unwrap());
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
        tokio::task::spawn_local(async move { while_held(&all).await });
        let tasks: Vec<_> = (0..signatures)
            .map(|_| {
                let mut run = signature(&key);
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
        signed
    })
}

// The batch isn't over before the worker has done something else, three slices later.
#[test]
fn a_worker_goes_on_while_rsa_signatures_are_computed_beside_it() {
    let held = install_held(Held::default());
    let signed = on_a_worker(LANES, async move |turns| {
        while turns.get() < 3 {
            ring::others().await;
        }
        held.is_free.store(true, Relaxed);
    });
    assert_eq!(signed, [Some(true); LANES]);
    assert_eq!((waiting(), running()), (0, 0));
}

#[test]
fn signatures_that_fill_no_batch_beside_the_worker_are_not_forgotten() {
    for signatures in [1, 3, LANES + 3, 3 * LANES + 1] {
        install_held(Held { is_free: true.into(), breaks: false });
        let signed = on_a_worker(signatures, async |_| ());
        assert_eq!(signed, vec![Some(true); signatures]);
        assert_eq!((waiting(), running()), (0, 0));
    }
}

#[test]
fn a_panic_beside_the_worker_fails_the_signatures_of_its_batch() {
    install_held(Held { breaks: true, ..Held::default() });
    assert_eq!(on_a_worker(LANES, async |_| ()), [None; LANES]);
    assert_eq!((waiting(), running()), (0, 0));
}

#[test]
fn signatures_whose_handshakes_are_gone_are_not_computed_beside_the_worker() {
    let key = Arc::new(rsa_key(RsaSize::Rsa2048).unwrap());
    install_held(Held { breaks: true, ..Held::default() });
    let mut gone: Vec<_> = (0..LANES).map(|_| signature(&key)).collect();
    for run in &mut gone {
        let polled = Pin::new(run).poll(&mut std::task::Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
    }
    assert_eq!(waiting(), LANES);
    drop(gone);
    install_held(Held { is_free: true.into(), breaks: false });
    assert_eq!(on_a_worker(1, async |_| ()), [Some(true)]);
    assert_eq!((waiting(), running()), (0, 0));
}

// Two batches wait, one is held: a handshake that has yet to begin waits for the first of them.
#[test]
fn no_handshake_begins_while_more_signatures_wait_than_the_next_batches_take() {
    let held = install_held(Held::default());
    let begun = Rc::new(Cell::new(false));
    let seen = begun.clone();
    let signed = on_a_worker(LANES + MAX_ASIDE, async move |turns| {
        while turns.get() < 3 {
            ring::others().await;
        }
        assert_eq!(waiting(), MAX_ASIDE);
        tokio::task::spawn_local(async move {
            room().await;
            begun.set(true);
        });
        for _ in 0..10 {
            ring::others().await;
        }
        assert!(!seen.get());
        held.is_free.store(true, Relaxed);
        while !seen.get() {
            ring::others().await;
        }
        assert!(waiting() < MAX_ASIDE);
    });
    assert_eq!(signed, [Some(true); LANES + MAX_ASIDE]);
    assert_eq!((waiting(), running()), (0, 0));
}
