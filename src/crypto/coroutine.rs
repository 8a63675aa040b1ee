//! Plain calls that can pause in the middle, each on a stack of its own.
//!
//! rustls calls its cryptography and wants an answer. Inside of [`run`], such a call may
//! `pause` until a batch has its answer, and the worker goes on with something else. A stack is
//! taken only for as long as one call into rustls lasts, never while a handshake waits for the
//! network.
#![allow(unsafe_code)]

use std::{
    cell::{Cell, RefCell},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    ptr,
    task::{Context, Poll, Waker},
    thread,
};

use corosensei::{Coroutine, CoroutineResult, Yielder, stack::DefaultStack};

/// Bytes of a stack, with a page below it that nothing may touch. Only what was used takes memory:
/// a handshake uses less than a quarter of it, which a test holds.
pub const STACK_BYTES: usize = 512 * 1024;

/// Stacks that a worker keeps for reuse; more are given back.
const KEPT_STACKS: usize = 64;

thread_local! {
    /// How the call that runs on this thread pauses; null where none runs that can.
    static CURRENT: Cell<*const Yielder<(), ()>> = const { Cell::new(ptr::null()) };
    /// Who is told that it may go on.
    static WAKER: RefCell<Option<Waker>> = const { RefCell::new(None) };
    static STACKS: RefCell<Vec<DefaultStack>> = const { RefCell::new(Vec::new()) };
    static RUNNING: Cell<usize> = const { Cell::new(0) };
}

/// Calls on this thread that have begun and neither ended nor been dropped.
pub fn running() -> usize {
    RUNNING.get()
}

/// Stacks that this thread keeps for reuse.
#[cfg(test)]
pub(super) fn kept() -> usize {
    STACKS.with(|stacks| stacks.borrow().len())
}

/// Who to wake when the call that runs may go on; none if it can't pause.
pub(super) fn waker() -> Option<Waker> {
    if CURRENT.get().is_null() { None } else { WAKER.with(|waker| waker.borrow().clone()) }
}

/// Pauses the call that runs until its future is polled again; does nothing if it can't pause.
pub(super) fn pause() {
    // What runs meanwhile isn't this call; a destructor that runs because the call is dropped
    // while it pauses can't pause either.
    let current = CURRENT.replace(ptr::null());
    if current.is_null() {
        return;
    }
    // JUSTIFICATION: the yielder is only lent to the call, and rustls can't hand it through.
    // SAFETY: the pointer is set only while its call runs on this thread (here and in `run`), and
    // the yielder lives on that call's stack, below everything that this function is called by.
    unsafe { (*current).suspend(()) };
    CURRENT.set(current);
}

/// A call that may pause.
pub struct Run<R: 'static> {
    coroutine: Option<Coroutine<(), (), R, DefaultStack>>,
}

/// Prepares `call` to run when the future is polled, with the result or the panic that it ends
/// with. To drop the future while the call pauses unwinds it, so that all that it owns is dropped.
///
/// # Errors
/// If there is no memory for a stack: the call comes back.
pub fn run<R, F>(call: F) -> Result<Run<R>, F>
where
    R: 'static,
    F: FnOnce() -> R + 'static,
{
    let kept = STACKS.with(|stacks| stacks.borrow_mut().pop());
    let Some(stack) = kept.or_else(|| DefaultStack::new(STACK_BYTES).ok()) else {
        return Err(call);
    };
    RUNNING.set(RUNNING.get() + 1);
    let coroutine = Coroutine::with_stack(stack, move |yielder: &Yielder<(), ()>, ()| {
        /// Takes the pointer away before the yielder is gone.
        struct Leave;
        impl Drop for Leave {
            fn drop(&mut self) {
                CURRENT.set(ptr::null());
            }
        }
        CURRENT.set(yielder);
        let _leave = Leave;
        call()
    });
    Ok(Run { coroutine: Some(coroutine) })
}

impl<R> Future for Run<R> {
    type Output = thread::Result<R>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        /// Puts back what was there: a call may itself poll another one.
        struct Restore(*const Yielder<(), ()>, Option<Waker>);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.set(self.0);
                WAKER.with(|waker| *waker.borrow_mut() = self.1.take());
            }
        }
        let Some(mut coroutine) = self.coroutine.take() else { return Poll::Pending };
        let waker = WAKER.with(|waker| waker.borrow_mut().replace(cx.waker().clone()));
        let restore = Restore(CURRENT.replace(ptr::null()), waker);
        let resumed = catch_unwind(AssertUnwindSafe(|| coroutine.resume(())));
        drop(restore);
        match resumed {
            Ok(CoroutineResult::Yield(())) => {
                self.coroutine = Some(coroutine);
                Poll::Pending
            }
            Ok(CoroutineResult::Return(result)) => {
                keep(coroutine);
                Poll::Ready(Ok(result))
            }
            Err(panic) => {
                keep(coroutine);
                Poll::Ready(Err(panic))
            }
        }
    }
}

impl<R> Drop for Run<R> {
    fn drop(&mut self) {
        if let Some(mut coroutine) = self.coroutine.take() {
            let current = CURRENT.replace(ptr::null());
            coroutine.force_unwind();
            CURRENT.set(current);
            keep(coroutine);
        }
    }
}

/// Keeps the stack of a call that is over.
fn keep<R>(coroutine: Coroutine<(), (), R, DefaultStack>) {
    RUNNING.set(RUNNING.get() - 1);
    let stack = coroutine.into_stack();
    // While the thread ends there may be nothing left to keep it in.
    let _ = STACKS.try_with(|stacks| {
        let mut stacks = stacks.borrow_mut();
        if stacks.len() < KEPT_STACKS {
            stacks.push(stack);
        }
    });
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    fn poll<R>(run: &mut Run<R>) -> Poll<thread::Result<R>> {
        Pin::new(run).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn start<R>(call: impl FnOnce() -> R + 'static) -> Run<R> {
        run(call).ok().expect("a stack")
    }

    #[test]
    fn calls_pause_and_go_on_in_any_order() {
        let call = |number: u32| {
            start(move || {
                pause();
                pause();
                number
            })
        };
        let (mut one, mut two) = (call(1), call(2));
        assert!(poll(&mut one).is_pending() && poll(&mut two).is_pending());
        assert!(poll(&mut two).is_pending() && poll(&mut one).is_pending());
        assert!(matches!(poll(&mut one), Poll::Ready(Ok(1))));
        assert!(matches!(poll(&mut two), Poll::Ready(Ok(2))));
        assert_eq!(running(), 0);
    }

    #[test]
    fn outside_of_a_call_nothing_pauses() {
        pause();
        assert!(waker().is_none());
        let mut run = start(|| waker().is_some());
        assert!(matches!(poll(&mut run), Poll::Ready(Ok(true))));
        assert!(waker().is_none());
    }

    #[test]
    fn a_call_that_is_dropped_while_it_pauses_drops_what_it_owns() {
        let owned = Rc::new(());
        for pauses in 0..3 {
            let token = owned.clone();
            let mut run = start(move || {
                let _token = token;
                for _ in 0..3 {
                    pause();
                }
            });
            for _ in 0..pauses {
                assert!(poll(&mut run).is_pending());
            }
            assert_eq!((running(), Rc::strong_count(&owned)), (1, 2));
            drop(run);
            assert_eq!((running(), Rc::strong_count(&owned)), (0, 1));
        }
    }

    #[test]
    fn a_panic_ends_its_own_call_alone() {
        let mut other = start(pause);
        assert!(poll(&mut other).is_pending());
        let mut run = start(|| {
            pause();
            panic!("in the call");
        });
        assert!(poll(&mut run).is_pending());
        let Poll::Ready(result): Poll<thread::Result<()>> = poll(&mut run) else { panic!() };
        assert!(result.is_err());
        assert!(matches!(poll(&mut other), Poll::Ready(Ok(()))));
        assert!(waker().is_none() && running() == 0);
    }

    #[test]
    fn stacks_are_used_again() {
        for _ in 0..2 * KEPT_STACKS {
            let mut run = start(pause);
            assert!(poll(&mut run).is_pending());
        }
        assert!(kept() <= 1);
    }
}
