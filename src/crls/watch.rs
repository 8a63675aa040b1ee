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

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::pki::{Authority, CrlSpec, Spec, Validity};

    /// A folder with CRLs of one CA, and the watch of it.
    struct Scene {
        folder: TempDir,
        ca: Authority,
        watch: Watch,
    }

    impl Scene {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let spec = Spec::new("Contoso Root", Validity::from_now(DAY));
            let source = CrlSource::Folder(folder.path().to_owned());
            let watch = Watch::new([source].into(), Stamps::new());
            Self { folder, ca: Authority::root(&spec).unwrap(), watch }
        }

        fn crl(&self, number: u64) -> Vec<u8> {
            self.ca.crl(&CrlSpec::from_now(number, DAY)).unwrap().der().to_vec()
        }

        fn file(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        /// The changes, in words, with the file's name.
        fn poll(&mut self) -> Vec<(String, &'static str)> {
            let changes = self.watch.poll(&Disk::default());
            let word = |change: &Change| match change {
                Change::Read(_) => "read",
                Change::Bad(_) => "bad",
                Change::Vanished => "vanished",
            };
            let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
            changes.iter().map(|(path, change)| (name(path), word(change))).collect()
        }
    }

    const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

    fn one(name: &str, change: &'static str) -> Vec<(String, &'static str)> {
        vec![(name.to_owned(), change)]
    }

    #[test]
    fn a_file_is_read_when_it_comes_and_when_it_changes_and_not_in_between() {
        let mut scene = Scene::new();
        assert_eq!(scene.poll(), []);
        fs::write(scene.file("a.crl"), scene.crl(1)).unwrap();
        fs::write(scene.file("notes.txt"), "not a CRL").unwrap();
        fs::write(scene.file(".hidden.crl"), "not a CRL").unwrap();
        assert_eq!(scene.poll(), one("a.crl", "read"));
        assert_eq!(scene.poll(), []);
        fs::write(scene.file("a.new"), scene.crl(2)).unwrap();
        fs::rename(scene.file("a.new"), scene.file("a.crl")).unwrap();
        assert_eq!(scene.poll(), one("a.crl", "read"));
        assert_eq!(scene.poll(), []);
    }

    #[test]
    fn a_replacement_of_the_same_size_and_date_is_seen() {
        let mut scene = Scene::new();
        fs::write(scene.file("a.crl"), scene.crl(1)).unwrap();
        let modified = fs::metadata(scene.file("a.crl")).unwrap().modified().unwrap();
        assert_eq!(scene.poll(), one("a.crl", "read"));
        let mut other = fs::read(scene.file("a.crl")).unwrap();
        *other.last_mut().unwrap() ^= 1;
        std::thread::sleep(std::time::Duration::from_millis(20));
        let file = fs::File::options().write(true).open(scene.file("a.crl")).unwrap();
        std::io::Write::write_all(&mut &file, &other).unwrap();
        file.set_modified(modified).unwrap();
        assert_eq!(scene.poll(), one("a.crl", "read"));
    }

    #[test]
    fn a_file_that_is_being_written_is_not_called_bad_before_a_second_look() {
        let mut scene = Scene::new();
        let crl = scene.crl(1);
        fs::write(scene.file("a.crl"), &crl[..100]).unwrap();
        assert_eq!(scene.poll(), []);
        fs::write(scene.file("a.crl"), &crl).unwrap();
        assert_eq!(scene.poll(), one("a.crl", "read"));
        fs::write(scene.file("a.crl"), &crl[..100]).unwrap();
        assert_eq!(scene.poll(), []);
        assert_eq!(scene.poll(), one("a.crl", "bad"));
        assert_eq!(scene.poll(), [], "it is said once");
        fs::write(scene.file("a.crl"), &crl[..101]).unwrap();
        assert_eq!(scene.poll(), []);
        assert_eq!(scene.poll(), one("a.crl", "bad"), "it is bad in another way");
    }

    #[test]
    fn a_file_that_is_gone_is_told_of_once_and_read_when_it_is_back() {
        let mut scene = Scene::new();
        let file = scene.file("a.crl");
        scene.watch = Watch::new([CrlSource::File(file.clone())].into(), Stamps::new());
        fs::write(&file, scene.crl(1)).unwrap();
        assert_eq!(scene.poll(), one("a.crl", "read"));
        fs::remove_file(&file).unwrap();
        assert_eq!(scene.poll(), one("a.crl", "vanished"));
        assert_eq!(scene.poll(), []);
        fs::write(&file, scene.crl(1)).unwrap();
        assert_eq!(scene.poll(), one("a.crl", "read"));
    }

    #[test]
    fn a_file_that_leaves_its_folder_is_told_of_once() {
        let mut scene = Scene::new();
        fs::write(scene.file("a.crl"), scene.crl(1)).unwrap();
        assert_eq!(scene.poll(), one("a.crl", "read"));
        fs::remove_file(scene.file("a.crl")).unwrap();
        assert_eq!(scene.poll(), one("a.crl", "vanished"));
        assert_eq!(scene.poll(), []);
    }

    #[test]
    fn a_folder_that_can_not_be_read_is_told_of_once_and_its_files_are_not() {
        let mut scene = Scene::new();
        let inner = scene.file("crl");
        scene.watch = Watch::new([CrlSource::Folder(inner.clone())].into(), Stamps::new());
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("a.crl"), scene.crl(1)).unwrap();
        assert_eq!(scene.poll(), one("a.crl", "read"));
        fs::rename(&inner, scene.file("away")).unwrap();
        assert_eq!(scene.poll(), one("crl", "bad"));
        assert_eq!(scene.poll(), []);
        fs::rename(scene.file("away"), &inner).unwrap();
        fs::write(inner.join("b.crl"), scene.crl(2)).unwrap();
        assert_eq!(scene.poll(), one("b.crl", "read"), "the other one is as it was");
    }

    #[test]
    fn what_was_read_at_load_is_not_read_again() {
        let mut scene = Scene::new();
        let file = scene.file("a.crl");
        fs::write(&file, scene.crl(1)).unwrap();
        let stamp = Disk::default().crls(&file).unwrap().stamp;
        let source = CrlSource::Folder(scene.folder.path().to_owned());
        scene.watch = Watch::new([source].into(), Stamps::from([(file, stamp)]));
        assert_eq!(scene.poll(), []);
    }
}
