//! Sockets on io_uring: the only module that names `tokio_uring` or `io_uring`.
//!
//! What waits goes through the worker's rings: watches of incoming data on one of its own; accept,
//! connect, room to write and cancellation on the runtime's. What is ready is read and written by
//! non-blocking calls at once. So the kernel never holds a buffer of ours across an `await`, a
//! dropped future can't be written into, and all of the data path stays safe code. Measured beside
//! receives and sends through the ring, this is the cheapest for bulk (see `docs/performance.md`).

mod op;
mod pool;
mod probe;
mod setup;
mod socket;
#[cfg(test)]
mod tests;
mod watch;

use std::{
    future::{Future, poll_fn},
    io,
    task::Poll,
};

use io_uring::opcode;

pub use pool::{Buffer, BufferSize, Pool, PoolLimits};
pub use probe::{KernelNeed, MissingNeed, probe};
pub use socket::{Accepted, Io, Peek, Socket};

/// Runs `main` on this thread's own ring until it returns.
///
/// # Panics
/// If the kernel refuses the ring; [`probe`] has asked it before with the same flags.
pub fn run<F: Future>(main: F) -> F::Output {
    // Before the runtime, so that it is dropped after all tasks and their sockets.
    let _watches = watch::Installed::new().expect("the kernel has offered it before");
    let runtime = setup::sized(|entries| {
        let mut ring = tokio_uring::uring_builder();
        ring.setup_coop_taskrun().setup_single_issuer().setup_cqsize(entries.completion);
        let mut runtime = tokio_uring::builder();
        tokio_uring::Runtime::new(runtime.entries(entries.submission).uring_builder(&ring))
    });
    runtime.expect("the kernel has offered it before").block_on(async {
        spawn(watch::drive());
        main.await
    })
}

/// Starts a task on this worker. A panic in it ends that task alone.
pub fn spawn(task: impl Future<Output = ()> + 'static) {
    drop(tokio_uring::spawn(task));
}

/// Goes through the kernel once without waiting for anything: what was submitted is handed over,
/// and each task that is ready by then has its turn before this returns.
///
/// The runtime itself does so only when no task has anything to do, and a task that yields keeps
/// it from that. So this is an operation that is done at once: it completes behind all others, and
/// the runtime sleeps until it does.
pub async fn pass() {
    let (_, ()) = op::submit(opcode::Nop::new().build(), ()).await;
    watch::look();
    others().await;
}

/// Lets all tasks of this worker go first that are ready now.
pub async fn others() {
    let mut had_theirs = false;
    poll_fn(|context| {
        if std::mem::replace(&mut had_theirs, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The last error of a system call, or its result.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The same for calls that return a length.
fn check_len(result: libc::c_long) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
