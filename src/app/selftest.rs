//! The crypto engine answers what it was asked at start again and again, on the CPU of each worker.

use std::{
    convert::Infallible,
    io,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use crate::{crypto::Engine, sys};

/// How often each worker's CPU is asked. All questions take it some tens of milliseconds.
const SELF_TEST_EVERY: Duration = Duration::from_secs(60);

/// Between two questions, so that the worker of that CPU goes on meanwhile.
const BREATH: Duration = Duration::from_millis(5);

/// Ends the tests when it is dropped.
pub(super) type Running = mpsc::Sender<Infallible>;

/// Starts a thread that asks, until a wrong answer has switched the library off or the process
/// ends; none where there is no library. It is a thread of its own, so that no worker waits for
/// answers, and it visits the CPU of each, since a single core may be what computes wrong.
pub(super) fn spawn(engine: Arc<Engine>, cpus: Vec<usize>) -> io::Result<Option<Running>> {
    if !engine.is_accelerated() {
        return Ok(None);
    }
    let (running, stopped) = mpsc::channel();
    thread::Builder::new().name("self-test".into()).spawn(move || {
        let waiting = |result| result == Err(mpsc::RecvTimeoutError::Timeout);
        while engine.is_accelerated() && waiting(stopped.recv_timeout(SELF_TEST_EVERY)) {
            for &cpu in &cpus {
                // Where that isn't allowed any more, another CPU is as good as none.
                sys::pin_to_cpu(cpu);
                engine.test_again(|| thread::sleep(BREATH));
            }
        }
    })?;
    Ok(Some(running))
}
