//! Files that are either whole or not there: written beside their place, then moved into it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// A file that couldn't be written.
#[derive(Debug, thiserror::Error)]
#[error("can't write {}: {source}", path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// What the operating system said.
    pub source: io::Error,
}

/// A file that couldn't be read.
#[derive(Debug, thiserror::Error)]
#[error("can't read {}: {source}", path.display())]
pub struct ReadError {
    /// The file.
    pub path: PathBuf,
    /// What the operating system said.
    pub source: io::Error,
}

/// Reads a text file as a whole.
pub fn read(path: &Path) -> Result<String, ReadError> {
    fs::read_to_string(path).map_err(|source| ReadError { path: path.to_owned(), source })
}

/// Writes a file that everybody may read (mode 0644), replacing any; a symbolic link is replaced,
/// not followed.
pub fn write_public(path: &Path, content: &[u8]) -> Result<(), FileError> {
    replace(path, content, 0o644)
}

/// Writes a file that its owner alone may read (mode 0600), otherwise as [`write_public`]. At no
/// moment may others read a part of it.
pub fn write_secret(path: &Path, content: &[u8]) -> Result<(), FileError> {
    replace(path, content, 0o600)
}

fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    let attempt = || {
        let temporary = beside(path)?;
        let written = write_new(&temporary, content, mode)
            .and_then(|()| fs::rename(&temporary, path))
            .and_then(|()| sync_folder(path));
        if written.is_err() {
            // Whether this works changes nothing: the first error is the one to tell.
            let _ = fs::remove_file(&temporary);
        }
        written
    };
    attempt().map_err(|source| FileError { path: path.to_owned(), source })
}

/// A name in the same folder (so that moving is atomic) that nobody can guess.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidFilename))?;
    let mut random = [0; 8];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| io::Error::other("no random number"))?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{:016x}", u64::from_be_bytes(random)));
    Ok(path.with_file_name(temporary))
}

fn write_new(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    // Created with no more than owner's rights, and widened after: the umask must not decide.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.sync_all()
}

/// The move itself lasts only once the folder is on the disk.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
