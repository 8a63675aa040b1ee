//! Whose turn it is to compute: handshakes have theirs in slices, one after the other, and between
//! two slices everybody else of the worker goes on.
//!
//! Without this, a hundred handshakes that became ready together would keep the worker for ten
//! milliseconds, and every established connection with it.

use std::{
    cell::Cell,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::ring;

/// The shortest slice: a call or two into rustls, or one batch of the lanes. It is what a storm of
/// handshakes adds to a round trip on an established connection; a pass through the kernel costs
/// two per cent of it.
const SHORTEST_SLICE: Duration = Duration::from_micros(150);

/// The longest one. Where the others take long for a turn of theirs, handshakes have as long, so
/// that bulk transfers don't starve them; this is where that ends.
const LONGEST_SLICE: Duration = Duration::from_millis(2);

/// What is left of the slice that goes on. It is handed over in the order of asking.
type Slice = Mutex<Duration>;

thread_local! {
    static SLICE: Arc<Slice> = Arc::new(Mutex::new(SHORTEST_SLICE));
    /// What was done for handshakes outside of any turn, and isn't taken off a slice yet.
    static CHARGED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Leave to compute, until it is dropped. Nothing is awaited meanwhile.
pub(super) struct Turn {
    left: OwnedMutexGuard<Duration>,
    began: Instant,
}

/// Waits for leave to compute. Who is `alone` keeps nobody waiting and gets it at once.
pub(super) async fn take(alone: bool) -> Turn {
    let mut left = SLICE.with(Arc::clone).lock_owned().await;
    *left = left.saturating_sub(CHARGED.take());
    if alone {
        *left = SHORTEST_SLICE;
    } else if left.is_zero() {
        let began = Instant::now();
        ring::pass().await;
        let charged = CHARGED.take();
        let others = began.elapsed().saturating_sub(charged);
        *left = others.clamp(SHORTEST_SLICE, LONGEST_SLICE).saturating_sub(charged);
    }
    Turn { left, began: Instant::now() }
}

/// Does at once what can't wait for a turn, at the expense of the slice that goes on: those who
/// come in a crowd are accepted at the handshakes' expense, not at that of relays.
pub fn charge<R>(call: impl FnOnce() -> R) -> R {
    let began = Instant::now();
    let done = call();
    CHARGED.set(CHARGED.get() + began.elapsed());
    done
}

impl Drop for Turn {
    fn drop(&mut self) {
        *self.left = self.left.saturating_sub(self.began.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::RefCell,
        os::unix::net::UnixStream,
        pin::pin,
        rc::Rc,
        task::{Context, Poll, Waker},
    };

    use super::*;
    use crate::ring::{Io, Socket};

    /// Computes for longer than the slice lasts.
    fn compute_all(turn: &Turn) {
        while turn.began.elapsed() <= *turn.left {
            std::hint::spin_loop();
        }
    }

    fn wake(bell: &Socket) {
        assert_eq!(bell.try_write(b"x").unwrap(), Io::Bytes(1));
    }

    /// A storm of handshakes, each of which takes a whole slice and hands a byte to an established
    /// connection on the way. Its relay waits for each byte anew, so that what it submits has to
    /// reach the kernel, and what the kernel answers the relay, between any two handshakes.
    #[test]
    fn a_ready_connection_goes_on_before_the_next_slice_of_handshakes() {
        const STORM: usize = 50;
        ring::run(async {
            let (near, far) = UnixStream::pair().unwrap();
            let (near, far) = (Socket::new(near.into()), Socket::new(far.into()));
            let order = Rc::new(RefCell::new(Vec::new()));
            let log = order.clone();
            ring::spawn(async move {
                for _ in 0..STORM {
                    far.readable().await.unwrap();
                    assert_eq!(far.try_read(&mut [0; 8]).unwrap(), Io::Bytes(1));
                    log.borrow_mut().push("relay");
                }
            });
            for _ in 0..STORM {
                let (log, bell) = (order.clone(), near.clone());
                ring::spawn(async move {
                    let turn = take(false).await;
                    log.borrow_mut().push("handshake");
                    wake(&bell);
                    compute_all(&turn);
                });
            }
            while order.borrow().len() < 2 * STORM {
                ring::pass().await;
            }
            assert_eq!(*order.borrow(), ["handshake", "relay"].repeat(STORM));
        });
    }

    #[test]
    fn handshakes_have_their_turns_in_the_order_of_asking() {
        ring::run(async {
            let order = Rc::new(RefCell::new(Vec::new()));
            let before_all = take(false).await;
            for number in 0..20 {
                let log = order.clone();
                ring::spawn(async move {
                    for round in 0..3 {
                        let turn = take(false).await;
                        log.borrow_mut().push((round, number));
                        if number % 3 == 0 {
                            compute_all(&turn);
                        }
                    }
                });
            }
            ring::pass().await;
            drop(before_all);
            while order.borrow().len() < 60 {
                ring::pass().await;
            }
            let fair: Vec<_> =
                (0..3).flat_map(|r| (0..20).map(move |number| (r, number))).collect();
            assert_eq!(*order.borrow(), fair);
        });
    }

    /// Polled by hand, outside of any runtime: neither may wait, nor use the ring.
    #[test]
    fn a_lone_handshake_never_waits() {
        for _ in 0..10 {
            let mut taken = pin!(take(true));
            let Poll::Ready(turn) = taken.as_mut().poll(&mut Context::from_waker(Waker::noop()))
            else {
                panic!("it waits");
            };
            compute_all(&turn);
        }
    }

    /// What comes in a crowd is accepted between two turns: a slice's worth of it leaves nothing.
    #[test]
    fn what_is_charged_is_taken_off_the_slice_that_goes_on() {
        ring::run(async {
            let mut cx = Context::from_waker(Waker::noop());
            // One of these two begins a slice; both are short.
            drop(take(false).await);
            drop(take(false).await);
            charge(|| {
                let began = Instant::now();
                while began.elapsed() <= LONGEST_SLICE {
                    std::hint::spin_loop();
                }
            });
            let mut next = Box::pin(take(false));
            assert!(next.as_mut().poll(&mut cx).is_pending(), "it goes to the kernel first");
            drop(next.await);
        });
    }

    #[test]
    fn who_goes_away_while_waiting_keeps_nobody_from_a_turn() {
        ring::run(async {
            let mut cx = Context::from_waker(Waker::noop());
            let first = take(false).await;
            compute_all(&first);
            let (mut gone, mut next) = (Box::pin(take(false)), Box::pin(take(false)));
            assert!(gone.as_mut().poll(&mut cx).is_pending());
            assert!(next.as_mut().poll(&mut cx).is_pending());
            drop(first);
            // It is called up, goes to the kernel, and is gone.
            assert!(gone.as_mut().poll(&mut cx).is_pending());
            drop(gone);
            drop(next.await);
        });
    }
}
