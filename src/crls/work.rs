//! The thread's work: one step after the other, each quick but for the parsing of a file.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::mpsc,
    time::{Duration, Instant},
};

use rustls_pki_types::UnixTime;

use super::{
    copies::Copies,
    fetching::{Ended, Fetching},
    offer::{Taken, offer},
    stores::file_source,
    targets::{Target, Targets},
    watch::{Change, Watch},
};
use crate::{
    config::{CrlFileError, CrlSource, Disk},
    metrics::CrlFileResult,
};

/// How often files are looked at.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// How often stores are asked for new distribution points, and for what has changed by itself:
/// a CRL that waited for a CA is in use once a client shows that one.
const TICK: Duration = Duration::from_millis(250);

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Event {
    /// Other stores from now on.
    Retarget(Box<Targets>),
    /// A fetch has ended.
    Ended(Box<Ended>),
    /// Nobody needs it any more.
    End,
}

/// What the thread has.
pub(super) struct Work {
    disk: Disk,
    targets: Vec<Target>,
    fetching: Fetching,
    watch: Watch,
    next_poll: Instant,
    on_change: Box<dyn Fn() + Send>,
}

impl Work {
    pub(super) fn new(
        disk: Disk,
        targets: Targets,
        copies: Copies,
        events: mpsc::Sender<Event>,
        on_change: Box<dyn Fn() + Send>,
    ) -> Self {
        let mut profiles = targets.profiles;
        for target in profiles.iter_mut().filter(|target| target.follows_points()) {
            target.points = copies.points_of(&target.name);
        }
        let settings = targets.fetching.clone();
        let mut fetching = Fetching::new(disk.clone(), settings, copies, events);
        let now = Instant::now();
        fetching.retarget(&profiles, targets.fetching, now);
        let watch = Watch::new(sources(&profiles), targets.stamps);
        Self { disk, targets: profiles, fetching, watch, next_poll: now + POLL_INTERVAL, on_change }
    }

    /// Works until it is told to end.
    pub(super) fn run(mut self, events: &mpsc::Receiver<Event>) {
        loop {
            let event = match self.targets.is_empty() {
                // There is nothing to look after.
                true => events.recv().ok(),
                false => match events.recv_timeout(TICK) {
                    Err(mpsc::RecvTimeoutError::Timeout) => None,
                    event => Some(event.unwrap_or(Event::End)),
                },
            };
            let now = Instant::now();
            match event {
                Some(Event::End) => return,
                Some(Event::Retarget(targets)) => self.retarget(*targets, now),
                Some(Event::Ended(ended)) => self.fetching.ended(*ended, &self.targets, now),
                None => {}
            }
            if now >= self.next_poll {
                self.poll();
                self.next_poll = Instant::now() + POLL_INTERVAL;
            }
            self.fetching.take_wanted(&mut self.targets, now);
            self.fetching.start_due(now);
            self.tell();
        }
    }

    fn retarget(&mut self, targets: Targets, now: Instant) {
        let old = std::mem::replace(&mut self.targets, targets.profiles);
        for old in old {
            match self.targets.iter_mut().find(|target| target.name == old.name) {
                Some(target) if target.follows_points() => target.points = old.points,
                Some(_) => {}
                None => old.metrics.forget(),
            }
        }
        self.watch = Watch::new(sources(&self.targets), targets.stamps);
        self.fetching.retarget(&self.targets, targets.fetching, now);
    }

    /// Looks at the files, and gives what has changed to the profiles that name them.
    fn poll(&mut self) {
        for (path, change) in self.watch.poll(&self.disk) {
            let file = path.display();
            match &change {
                Change::Read(crls) => {
                    let entries: usize = crls.iter().map(|crl| crl.entries()).sum();
                    tracing::info!(%file, entries, "a CRL file was read");
                }
                Change::Bad(error) => {
                    tracing::warn!(%file, %error, "a CRL file can't be used; the last good one stays");
                }
                Change::Vanished => {
                    let stays = "its CRL stays in use until the next reload";
                    tracing::warn!(%file, "a CRL file is gone; {stays}");
                }
            }
            for target in self.targets.iter().filter(|target| target.reads(&path)) {
                target.metrics.file(take(target, &path, &change));
            }
        }
    }

    /// Tells of stores whose answers may have changed.
    fn tell(&mut self) {
        let now = UnixTime::now();
        // All of them set their metrics, so no short cut.
        let changed = self.targets.iter_mut().filter_map(|it| it.has_changed(now).then_some(()));
        if changed.count() > 0 {
            (self.on_change)();
        }
    }
}

/// What became of a file's change in one profile.
fn take(target: &Target, path: &Path, change: &Change) -> CrlFileResult {
    let crls = match change {
        Change::Read(crls) => crls,
        Change::Vanished => return CrlFileResult::Vanished,
        Change::Bad(CrlFileError::Unreadable(_)) => return CrlFileResult::Unreadable,
        Change::Bad(CrlFileError::TooLarge) => return CrlFileResult::TooLarge,
        Change::Bad(CrlFileError::Unusable(_)) => return CrlFileResult::Malformed,
    };
    let Taken { problem, .. } = offer(&target.store, &file_source(path), crls, UnixTime::now());
    let Some((problem, why)) = problem else { return CrlFileResult::Loaded };
    let (profile, file) = (&*target.name, path.display());
    tracing::warn!(profile, %file, %why, "a CRL is not used; the last good one stays");
    problem.of_file()
}

fn sources(targets: &[Target]) -> BTreeSet<CrlSource> {
    targets.iter().flat_map(|target| target.revocation.sources.iter().cloned()).collect()
}
