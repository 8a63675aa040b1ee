//! Signals, as messages.

use std::{io, sync::mpsc};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// SIGHUP
    Reload,
    /// SIGTERM, SIGINT
    End,
    /// No signal of the system: something within the process wants to be looked at.
    Wake,
}

/// Receives signals from now on, on a thread of its own. The sender is for [`Signal::Wake`].
pub(super) fn receive() -> io::Result<(mpsc::Sender<Signal>, mpsc::Receiver<Signal>)> {
    let mut signals = Signals::new([SIGHUP, SIGTERM, SIGINT])?;
    let (sender, receiver) = mpsc::channel();
    let wake = sender.clone();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            let asked = if signal == SIGHUP { Signal::Reload } else { Signal::End };
            if sender.send(asked).is_err() {
                return;
            }
        }
    })?;
    Ok((wake, receiver))
}
