//! Batches as they fill, run and are given up, with a library that computes nothing but X25519.

mod aside;
mod handshakes;

use std::{
    pin::Pin,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    thread,
};

use super::{
    super::{
        coroutine::{Run, run, running},
        engine::Thresholds,
        primitives::{
            AgreeLane, CompleteLane, Primitives, RsaPrivateLane, RsaPublicLane, SetupLane, Status,
            VerifyLane,
        },
        scalar,
    },
    *,
};

/// X25519 by aws-lc-rs in the form of a library, which counts its calls and their lanes.
#[derive(Default)]
pub(crate) struct Plain {
    calls: AtomicUsize,
    lanes: AtomicUsize,
    /// Panics from now on.
    pub(crate) broken: AtomicBool,
}

impl Primitives for Arc<Plain> {
    fn name(&self) -> &str {
        "a plain one"
    }

    fn x25519_public(&self, lanes: &mut [KeyPair]) -> Status {
        for pair in lanes {
            pair.public = scalar::public_key(&pair.secret).unwrap();
        }
        Status(0)
    }

    fn x25519(&self, lanes: &mut [AgreeLane<'_>]) -> Status {
        assert!(!self.broken.load(Relaxed), "in a batch");
        self.calls.fetch_add(1, Relaxed);
        self.lanes.fetch_add(lanes.len(), Relaxed);
        for lane in lanes {
            let ours = KeyPair { secret: Box::new(lane.secret.to_owned().into()), public: [0; 32] };
            let shared = scalar::agree(&Agreement { ours, peer: *lane.peer }).unwrap();
            lane.shared.copy_from_slice(shared.as_bytes());
        }
        Status(0)
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
        Status::ALL_FAILED
    }

    fn rsa_public(&self, _: RsaSize, _: &mut [RsaPublicLane<'_>]) -> Status {
        Status::ALL_FAILED
    }
}

/// Makes one that of this thread, for agreements and key pairs; all else waits in the lanes too,
/// and is aws-lc-rs' then.
pub(crate) fn installed() -> Arc<Plain> {
    let plain = Arc::new(Plain::default());
    // Verifications wait, for more than a batch has room for.
    let verify = [VERIFY_LANES + 1; 2];
    let thresholds = Thresholds { agree: 1, verify, key_pairs_ahead: true, ..Thresholds::NEVER };
    install(Arc::new(Engine::with(Box::new(plain.clone()), thresholds)));
    plain
}

/// An agreement through the lanes, and whether it came out as it does alone.
fn agreement() -> Run<bool> {
    let call = || {
        let (ours, peer) = (key_pair().unwrap(), scalar::key_pair().unwrap());
        let job = Agreement { ours, peer: *peer.public() };
        let expected = scalar::agree(&job);
        agree(job) == expected
    };
    run(call).ok().expect("a stack")
}

fn poll(run: &mut Run<bool>) -> Poll<thread::Result<bool>> {
    Pin::new(run).poll(&mut std::task::Context::from_waker(Waker::noop()))
}

fn counts(plain: &Plain) -> (usize, usize) {
    (plain.calls.load(Relaxed), plain.lanes.load(Relaxed))
}

#[test]
fn operations_wait_until_eight_are_there_and_run_in_one_call() {
    let plain = installed();
    let mut runs: Vec<_> = (0..LANES).map(|_| agreement()).collect();
    for run in &mut runs[..LANES - 1] {
        assert!(poll(run).is_pending());
        run_full();
    }
    assert_eq!((waiting(), counts(&plain)), (LANES - 1, (0, 0)));
    assert!(poll(&mut runs[LANES - 1]).is_pending());
    run_full();
    assert_eq!((waiting(), counts(&plain)), (0, (1, LANES)));
    assert!(runs.iter_mut().all(|run| matches!(poll(run), Poll::Ready(Ok(true)))));
    assert_eq!(running(), 0);
}

#[test]
fn what_does_not_fill_runs_once_nobody_else_has_anything_to_do() {
    let plain = installed();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        tokio::task::spawn_local(serve(async || ()));
        let tasks: Vec<_> = (0..LANES + 3)
            .map(|_| {
                let mut run = agreement();
                tokio::task::spawn_local(poll_fn(move |cx| {
                    let polled = Pin::new(&mut run).poll(cx);
                    run_full();
                    polled
                }))
            })
            .collect();
        for task in tasks {
            assert!(task.await.unwrap().unwrap());
        }
    });
    assert_eq!((waiting(), counts(&plain)), (0, (2, LANES + 3)));
}

#[test]
fn an_operation_whose_handshake_was_given_up_takes_no_lane() {
    let plain = installed();
    let mut runs: Vec<_> = (0..3).map(|_| agreement()).collect();
    assert!(runs.iter_mut().all(|run| poll(run).is_pending()));
    drop(runs.remove(1));
    assert_eq!(running(), 2);
    worker().run(Kind::Agree);
    assert_eq!((waiting(), counts(&plain)), (0, (1, 2)));
    assert!(runs.iter_mut().all(|run| matches!(poll(run), Poll::Ready(Ok(true)))));
    assert_eq!(running(), 0);
}

#[test]
fn nothing_waits_outside_of_a_call_that_can_pause_or_without_a_library() {
    let plain = installed();
    let (ours, peer) = (key_pair().unwrap(), scalar::key_pair().unwrap());
    assert!(agree(Agreement { ours, peer: *peer.public() }).is_ok());
    assert_eq!(counts(&plain), (1, 1));
    install(Arc::new(Engine::scalar()));
    assert!(matches!(poll(&mut agreement()), Poll::Ready(Ok(true))));
    assert_eq!((waiting(), counts(&plain)), (0, (1, 1)));
}

#[test]
fn a_lone_handshake_does_not_wait_for_company() {
    let _plain = installed();
    let one = Handshake::begin();
    let two = Handshake::begin();
    assert!(!one.may_wait() && !two.may_wait());
    let three = Handshake::begin();
    assert!(one.may_wait() && three.may_wait());
    drop(two);
    assert!(!one.may_wait());
    let _two = Handshake::begin();
    install(Arc::new(Engine::scalar()));
    assert!(!one.may_wait());
}

/// Six silent clients, and a lone one that goes on: it waits for none of them.
#[test]
fn silent_clients_are_no_company_to_wait_for() {
    let _plain = installed();
    let silent: Vec<_> = (0..MIN_COMPANY).map(|_| Handshake::begin()).collect();
    let one = Handshake::begin();
    assert!(one.may_wait() && worker().expects_more());
    let turns: Vec<_> = silent.iter().map(|handshake| handshake.waits(false)).collect();
    assert!(!one.may_wait() && !worker().expects_more());
    // Their flights may be there already, though: everybody else has a turn between any two.
    assert!(!one.is_alone());
    drop(turns);
    assert!(one.may_wait() && worker().expects_more());
}

#[test]
fn a_panic_in_a_batch_fails_its_operations_alone() {
    let plain = installed();
    let call = || {
        let (ours, peer) = (key_pair().unwrap(), scalar::key_pair().unwrap());
        agree(Agreement { ours, peer: *peer.public() }).is_err()
    };
    let mut runs: Vec<_> = (0..LANES).map(|_| run(call).ok().expect("a stack")).collect();
    assert!(runs.iter_mut().all(|run| poll(run).is_pending()));
    plain.broken.store(true, Relaxed);
    run_full();
    plain.broken.store(false, Relaxed);
    assert!(runs.iter_mut().all(|run| matches!(poll(run), Poll::Ready(Ok(true)))));
    let mut next = agreement();
    assert!(poll(&mut next).is_pending());
    worker().run(Kind::Agree);
    assert!(matches!(poll(&mut next), Poll::Ready(Ok(true))));
    assert_eq!((running(), waiting()), (0, 0));
}
