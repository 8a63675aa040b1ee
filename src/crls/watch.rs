//! Files and folders of CRLs, looked at again and again.
//!
//! Polling works where notifications don't: on network and bind mounts, through symbolic links
//! that are switched, and however a file is replaced. A file is read when its device, inode, size
//! or a time of it has changed. One that can't be used is given a second look before it is
//! called bad: somebody may be writing it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

use super::stores::Stamps;
use crate::config::{CrlFileError, CrlSource, Crls, Disk, Files, Stamp};

/// What became of a file.
#[derive(Debug)]
pub(super) enum Change {
    /// It is new, or has changed.
    Read(Crls),
    /// It is new, or has changed, and can't be used.
    Bad(CrlFileError),
    /// It is gone.
    Vanished,
}

/// The files that are watched, and what is known of each.
#[derive(Debug, Default)]
pub(super) struct Watch {
    sources: BTreeSet<CrlSource>,
    files: BTreeMap<PathBuf, Known>,
    /// Folders that couldn't be read the last time.
    lost: BTreeSet<PathBuf>,
}

/// What is known of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// It was read like this, or called bad.
    Settled(Option<Stamp>),
    /// It couldn't be used when it looked like this; perhaps somebody writes it.
    Suspect(Stamp),
    /// It was said to be gone, or not to be given.
    Lost,
}

impl Watch {
    /// Watches `sources`, whose files were read when they looked like `stamps`.
    pub(super) fn new(sources: BTreeSet<CrlSource>, stamps: Stamps) -> Self {
        let files = stamps.into_iter().map(|(path, stamp)| (path, Known::Settled(stamp)));
        Self { sources, files: files.collect(), lost: BTreeSet::new() }
    }

    /// What has changed since the last time.
    pub(super) fn poll(&mut self, disk: &Disk) -> Vec<(PathBuf, Change)> {
        let mut changes = Vec::new();
        let mut there = BTreeSet::new();
        for source in &self.sources {
            match source {
                CrlSource::File(path) => {
                    there.insert(path.clone());
                }
                CrlSource::Folder(path) => match list(disk, path) {
                    Ok(files) => {
                        self.lost.remove(path);
                        there.extend(files);
                    }
                    Err(error) => {
                        // Nobody can tell what is in it: its files stay as they were.
                        let is_own = |file: &&PathBuf| file.parent() == Some(path);
                        there.extend(self.files.keys().filter(is_own).cloned());
                        if self.lost.insert(path.clone()) {
                            changes.push((path.clone(), Change::Bad(error.into())));
                        }
                        continue;
                    }
                },
            }
        }
        // Files of a folder that is lost are not asked for one by one.
        let lost = &self.lost;
        let is_lost = |file: &Path| file.parent().is_some_and(|folder| lost.contains(folder));
        for path in there.iter().filter(|path| !is_lost(path)) {
            let known = self.files.get(path).copied();
            let (next, change) = look(disk, path, known);
            self.files.insert(path.clone(), next);
            changes.extend(change.map(|change| (path.clone(), change)));
        }
        self.files.retain(|path, known| {
            let is_there = there.contains(path);
            if !is_there && *known != Known::Lost {
                changes.push((path.clone(), Change::Vanished));
            }
            is_there
        });
        changes
    }
}

fn list(disk: &Disk, path: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = disk.folder(path)?;
    let folder = folder.ok_or_else(|| io::Error::other("it isn't a folder any more"))?;
    Ok(folder.files)
}

/// Looks at one file: what is known of it now, and what has changed.
fn look(disk: &Disk, path: &Path, known: Option<Known>) -> (Known, Option<Change>) {
    let stamp = match Stamp::read(path) {
        Ok(stamp) => stamp,
        Err(_) if known == Some(Known::Lost) => return (Known::Lost, None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return (Known::Lost, Some(Change::Vanished));
        }
        Err(error) => return (Known::Lost, Some(Change::Bad(error.into()))),
    };
    if known == Some(Known::Settled(Some(stamp))) {
        return (Known::Settled(Some(stamp)), None);
    }
    match disk.crls(path) {
        // What was read may be newer than what was looked at; then the next look settles it.
        Ok(file) => (Known::Settled(file.stamp), Some(Change::Read(file.crls))),
        Err(error) if known == Some(Known::Suspect(stamp)) => {
            (Known::Settled(Some(stamp)), Some(Change::Bad(error)))
        }
        Err(_) => (Known::Suspect(stamp), None),
    }
}
