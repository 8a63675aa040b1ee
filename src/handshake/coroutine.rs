//! A step of a handshake that may pause inside of rustls' cryptography.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    thread,
};

use super::{
    context,
    failure::End,
    machine::{Machine, Step},
    turn,
};
use crate::{
    admission::HandshakePlace,
    crypto::{coroutine, lanes},
};

/// Runs [`Machine::step`] when it is its turn (the first one of a handshake: when its `place` in
/// line was called), unless `is_gone` says by then that nobody waits for
/// it: in one go, or while others are shaking hands too, so that its cryptography can wait for
/// theirs. Dropped meanwhile, the machine goes with it.
///
/// # Errors
/// If nobody waits for it. If it panicked; the machine is gone then.
pub(super) async fn step(
    slot: &mut Option<Box<Machine>>,
    place: &HandshakePlace,
    handshake: &lanes::Handshake,
    is_gone: impl FnOnce(&Machine) -> bool,
) -> Result<Step, End> {
    let alone = handshake.is_alone();
    let turn = match slot.as_deref().filter(|machine| !machine.has_begun()) {
        Some(machine) => {
            // Only one of these asks for a turn at a time, so that what was begun is finished
            // before much else is begun: under overload, the wait is in front of the first turn,
            // and a client that gives up then has cost nothing.
            let _called = place.called().await;
            if machine.signs_by_rsa() {
                lanes::room().await;
            }
            turn::take(alone).await
        }
        None => turn::take(alone).await,
    };
    if slot.as_deref().is_some_and(is_gone) {
        return Err(End::Eof);
    }
    let mut machine = slot.take().ok_or(End::Panicked)?;
    if !handshake.may_wait() {
        let step = machine.step();
        drop(turn);
        *slot = Some(machine);
        return Ok(step);
    }
    let call = move || {
        let step = machine.step();
        (machine, step)
    };
    let (machine, step) = match coroutine::run(call) {
        Ok(run) => paused(run, turn, handshake).await?,
        // No memory for a stack: it still fits this one.
        Err(call) => call(),
    };
    *slot = Some(machine);
    Ok(step)
}

/// Goes on with the call in turns, the first of which it has, until it is over.
async fn paused<R>(
    mut run: coroutine::Run<R>,
    mut turn: turn::Turn,
    handshake: &lanes::Handshake,
) -> Result<R, End> {
    let mut own = None;
    loop {
        let polled = poll_fn(|cx| Poll::Ready(resume(&mut run, &mut own, cx))).await;
        drop(turn);
        match polled {
            // What it said went through the panic hook.
            Poll::Ready(outcome) => return outcome.map_err(|_| End::Panicked),
            Poll::Pending => answered().await,
        }
        turn = turn::take(handshake.is_alone()).await;
    }
}

/// One turn of the call. While it pauses, other handshakes use this thread's slot for the context
/// of rustls' callbacks: its own context is put there for each of its turns.
fn resume<R>(
    run: &mut coroutine::Run<R>,
    own: &mut Option<Box<context::Context>>,
    cx: &mut Context<'_>,
) -> Poll<thread::Result<R>> {
    let others = context::exchange(own.take());
    let polled = Pin::new(run).poll(cx);
    *own = context::exchange(others);
    lanes::run_full();
    polled
}

/// Waits until the lanes wake the task that asked them.
async fn answered() {
    let mut asked = false;
    poll_fn(|_| if std::mem::replace(&mut asked, true) { Poll::Ready(()) } else { Poll::Pending })
        .await;
}

/// Runs what waits in the lanes of this worker, in turns like the handshakes that wait for it.
/// Never ends.
pub async fn serve_lanes() {
    lanes::serve(async || turn::take(false).await).await;
}

/// The same for what is computed beside the worker.
pub async fn serve_aside() {
    lanes::serve_aside(async || turn::take(false).await).await;
}
