//! A step of a handshake that may pause inside of rustls' cryptography.

use std::{future::poll_fn, pin::Pin};

use super::{
    context,
    failure::End,
    machine::{Machine, Step},
};
use crate::crypto::{coroutine, lanes};

/// Runs [`Machine::step`]: at once, or while others are shaking hands too, so that its
/// cryptography can wait for theirs. Dropped meanwhile, the machine goes with it.
///
/// # Errors
/// If it panicked; the machine is gone then.
pub(super) async fn step(
    slot: &mut Option<Box<Machine>>,
    handshake: &lanes::Handshake,
) -> Result<Step, End> {
    let mut machine = slot.take().ok_or(End::Panicked)?;
    if !handshake.may_wait() {
        let step = machine.step();
        *slot = Some(machine);
        return Ok(step);
    }
    let call = move || {
        let step = machine.step();
        (machine, step)
    };
    let (machine, step) = match coroutine::run(call) {
        Ok(run) => paused(run).await?,
        // No memory for a stack: it still fits this one.
        Err(call) => call(),
    };
    *slot = Some(machine);
    Ok(step)
}

/// Polls the call until it is over. While it pauses, other handshakes use this thread's slot for
/// the context of rustls' callbacks: its own context is put there for each of its turns.
async fn paused<R>(mut run: coroutine::Run<R>) -> Result<R, End> {
    let mut own = None;
    let outcome = poll_fn(|cx| {
        let others = context::exchange(own.take());
        let polled = Pin::new(&mut run).poll(cx);
        own = context::exchange(others);
        lanes::run_full();
        polled
    })
    .await;
    // What it said went through the panic hook.
    outcome.map_err(|_| End::Panicked)
}
