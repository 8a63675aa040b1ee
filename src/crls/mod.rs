//! Where CRLs come from: files and folders that are watched, URLs that are fetched, and the copies
//! of what was fetched, on disk.
//!
//! A generation gets its [stores](make) from the files that its configuration names. From then on
//! one thread of its own ([`Crls`]) keeps them up to date, never a worker: it polls the files
//! every two seconds, asks for URLs when the schedule says so, on threads of their own, and offers
//! what it finds to the stores, which verify it and keep the newest. Nothing that fails takes a
//! good CRL away: it is counted, logged once, and tried again.
//!
//! A reload makes new stores from the old ones, and [retargets](Crls::retarget) the thread.

mod copies;
mod fetch;
mod fetching;
mod offer;
mod schedule;
mod stores;
mod targets;
mod watch;
mod work;

use std::{io, sync::mpsc};

pub use copies::Copies;
pub use stores::{Before, Made, Stamps, make};
pub use targets::Targets;

use crate::config::Disk;
use work::{Event, Work};

/// The thread that keeps stores up to date; it ends when this is dropped.
#[derive(Debug)]
pub struct Crls {
    events: mpsc::Sender<Event>,
}

impl Crls {
    /// Starts it. `copies` is what was on disk; `on_change` is called, on that thread, each time
    /// when the answers of a store may have changed.
    ///
    /// # Errors
    /// If the thread can't be made.
    pub fn spawn(
        disk: Disk,
        targets: Targets,
        copies: Copies,
        on_change: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        let (events, receiver) = mpsc::channel();
        let work = Work::new(disk, targets, copies, events.clone(), Box::new(on_change));
        std::thread::Builder::new().name("crls".into()).spawn(move || work.run(&receiver))?;
        Ok(Self { events })
    }

    /// Keeps other stores up to date from now on, those of the generation that serves.
    pub fn retarget(&self, targets: Targets) {
        // If the thread is gone there is nobody left to tell; it doesn't end by itself.
        let _ = self.events.send(Event::Retarget(Box::new(targets)));
    }
}

impl Drop for Crls {
    fn drop(&mut self) {
        let _ = self.events.send(Event::End);
    }
}
