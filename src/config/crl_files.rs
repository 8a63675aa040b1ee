//! Files with CRLs, and folders of them: how they are read, at load and ever after.
//!
//! A CRL may have a million entries, so that parsing it takes seconds. What was parsed once is
//! known again by the digest of its file, as long as anybody uses it: a reload, a second profile
//! that names the same file, and a file that was only touched cost a hash.

use std::{
    collections::HashMap,
    fmt,
    fs::{self, File, Metadata},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use aws_lc_rs::digest::{SHA256, digest};

use crate::revocation::{Crl, CrlError, parse_all};

/// The largest file with CRLs, or answer of a CRL server, in bytes.
pub const CRL_FILE_LEN_MAX: u64 = 64 << 20;

/// Files of a folder that are read as CRLs.
const FOLDER_FILES_MAX: usize = 1024;

/// How names of files end that are read as CRLs when they lie in a folder.
const ENDINGS: [&str; 3] = ["crl", "pem", "der"];

/// The CRLs of one file, never empty, shared by all that read the same bytes.
pub type Crls = Arc<[Arc<Crl>]>;

/// Why a file gives no CRL.
#[derive(Debug, thiserror::Error)]
pub enum CrlFileError {
    /// The system doesn't give it.
    #[error("can't be read: {0}")]
    Unreadable(#[from] io::Error),
    /// More than [`CRL_FILE_LEN_MAX`].
    #[error("has more than {CRL_FILE_LEN_MAX} bytes")]
    TooLarge,
    /// It isn't a CRL that can be used.
    #[error("is no CRL that can be used: {0}")]
    Unusable(#[from] CrlError),
}

/// A file of CRLs as it was read.
#[derive(Debug, Clone)]
pub struct CrlFile {
    /// What the file looked like from outside; `None` if it isn't one of a disk.
    pub stamp: Option<Stamp>,
    /// What is in it.
    pub crls: Crls,
}

/// What changes when a file is written or replaced: polling compares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Of the content, and of anything: seconds and nanoseconds since 1970. The second one also
    /// tells when a file was replaced by one of the same size and date.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// That of the file at `path`; links are followed.
    ///
    /// # Errors
    /// Those of stat(2).
    pub fn read(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|metadata| Self::of(&metadata))
    }
}

/// What was parsed and is in use somewhere, by the digest of its bytes.
#[derive(Default)]
pub(super) struct Parsed(Mutex<HashMap<[u8; 32], InUse>>);

/// CRLs that are gone once nobody uses them.
type InUse = Weak<[Arc<Crl>]>;

impl fmt::Debug for Parsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Parsed")
    }
}

impl Parsed {
    /// The CRLs of `bytes`, parsed unless somebody has them.
    pub(super) fn parse(&self, bytes: &[u8]) -> Result<Crls, CrlError> {
        let hash = digest(&SHA256, bytes);
        let mut key = [0; 32];
        key.copy_from_slice(hash.as_ref());
        // Nothing panics while it is locked; a map that is poisoned all the same is still a map.
        let locked = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = locked().get(&key).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let crls: Crls = parse_all(bytes)?.into();
        let mut known = locked();
        known.retain(|_, crls| crls.strong_count() > 0);
        known.insert(key, Arc::downgrade(&crls));
        Ok(crls)
    }
}

/// Reads a file of the disk.
pub(super) fn read(path: &Path, parsed: &Parsed) -> Result<CrlFile, CrlFileError> {
    // A FIFO in the place of a file must not make anybody wait for a writer.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it isn't a regular file").into());
    }
    if metadata.size() > CRL_FILE_LEN_MAX {
        return Err(CrlFileError::TooLarge);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.size()).unwrap_or_default() + 1);
    file.take(CRL_FILE_LEN_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > CRL_FILE_LEN_MAX {
        return Err(CrlFileError::TooLarge);
    }
    Ok(CrlFile { stamp: Some(Stamp::of(&metadata)), crls: parsed.parse(&bytes)? })
}

/// What a folder has.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Folder {
    /// The files that are read as CRLs, sorted: their names end in `.crl`, `.pem` or `.der`
    /// (in either case) and don't begin with a dot.
    pub files: Vec<PathBuf>,
    /// Other files, sorted; hidden ones aren't among them. Folders within it are not entered.
    pub others: Vec<PathBuf>,
}

/// Reads a folder of the disk; `None` if `path` isn't one.
pub(super) fn read_folder(path: &Path) -> io::Result<Option<Folder>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(None);
    }
    let mut folder = Folder::default();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let file = entry.path();
        let ending = file.extension().and_then(|ending| ending.to_str());
        let is_crl = ending
            .is_some_and(|found| ENDINGS.iter().any(|ending| ending.eq_ignore_ascii_case(found)));
        if is_crl {
            folder.files.push(file);
        } else if !file.is_dir() {
            folder.others.push(file);
        }
        if folder.files.len() > FOLDER_FILES_MAX {
            return Err(io::Error::other(format!("it has more than {FOLDER_FILES_MAX} CRL files")));
        }
    }
    folder.files.sort();
    folder.others.sort();
    Ok(Some(folder))
}
