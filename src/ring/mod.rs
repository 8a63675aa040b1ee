//! Sockets on io_uring: the only module that names `tokio_uring` or `io_uring`.
//!
//! What waits goes through the worker's rings (watches of incoming data on one of its own;
//! accept, connect, room to write and cancellation on the runtime's); what is ready is read and written by non-blocking calls at once. So the kernel never holds a
//! buffer of ours across an `await`, a dropped future can't be written into, and all of the
//! data path stays safe code. Measured beside receives and sends through the ring, this is the
//! cheapest for bulk (see `docs/performance.md`).

mod op;
mod pool;
mod probe;
mod socket;
#[cfg(test)]
mod tests;
mod watch;

use std::{future::Future, io};

use io_uring::opcode;

pub use pool::{Buffer, BufferSize, Pool, PoolLimits};
pub use probe::{KernelNeed, MissingNeed, probe};
pub use socket::{Accepted, Io, Peek, Socket};

/// Entries of a worker's submission queue. A full queue is submitted at once, so this bounds
/// only how much one system call carries.
const SUBMISSION_ENTRIES: u32 = 2048;

/// Entries of a worker's completion queue: what may complete between two turns without the
/// kernel having to keep an overflow list.
const COMPLETION_ENTRIES: u32 = 16384;

/// Runs `main` on this thread's own ring until it returns.
///
/// # Panics
/// If the kernel refuses the ring; [`probe`] has asked it before with the same flags.
pub fn run<F: Future>(main: F) -> F::Output {
    // Before the runtime, so that it is dropped after all tasks and their sockets.
    let _watches = watch::Installed::new().expect("the kernel has offered it before");
    let mut ring = tokio_uring::uring_builder();
    ring.setup_coop_taskrun().setup_single_issuer().setup_cqsize(COMPLETION_ENTRIES);
    tokio_uring::builder().entries(SUBMISSION_ENTRIES).uring_builder(&ring).start(async {
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
}

/// The last error of a system call, or its result.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The same for calls that return a length.
fn check_len(result: libc::c_long) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
