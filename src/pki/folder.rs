//! A CA that is kept in a folder, with a list of what it has issued and revoked.
//!
//! | File | What it is |
//! |---|---|
//! | `ca.pem` | its certificate, for those who shall trust it |
//! | `ca.key` | its private key, which its owner alone may read |
//! | `chain.pem` | of an intermediate CA: its certificate and those above it, without the root |
//! | `index.txt` | what it has issued, one line each |
//! | `crl.number` | the number of its last CRL |
//! | `.lock` | held by the one process that works on the folder |
//!
//! Each file is replaced as a whole, and what must not be lost is written first: a certificate
//! stands in the index before it is handed out, and a CRL's number is used up before the CRL is.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use time::OffsetDateTime;

use super::{
    Authority, CrlSpec, PkiError, Reason, Spec, files,
    index::{self, Index},
};

pub use super::index::{Entry, Kind, from_hex, to_hex};

/// Why something wasn't done in a folder. What was there is as it was, unless it says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// There is something already where a new file would go.
    #[error("{} is there already; nothing was changed", path.display())]
    Occupied {
        /// The file.
        path: PathBuf,
    },
    /// The file that would be written is one of the CA's own.
    #[error("{} would be in the place of the CA's own file: choose another --out", path.display())]
    Reserved {
        /// The file.
        path: PathBuf,
    },
    /// There is no CA.
    #[error("{} holds no CA: make one with `countersign pki init {}`", dir.display(), dir.display())]
    NoCa {
        /// The folder.
        dir: PathBuf,
    },
    /// Another process works on the folder.
    #[error("another process works on {}: try again when it is done", dir.display())]
    Busy {
        /// The folder.
        dir: PathBuf,
    },
    /// A file of the folder isn't as it was written.
    #[error("{}: {why}; it was changed by hand or belongs to something else", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A certificate that this CA didn't issue was to be revoked.
    #[error(
        "the CA in {} hasn't issued a certificate with serial number {serial}; its index.txt says \
         which it has",
        dir.display()
    )]
    NotIssued {
        /// The folder.
        dir: PathBuf,
        /// The serial number, hexadecimal.
        serial: String,
    },
    /// A certificate that is revoked was to be revoked again.
    #[error("the certificate {serial} is revoked since {since} ({reason})")]
    AlreadyRevoked {
        /// The serial number, hexadecimal.
        serial: String,
        /// When, in RFC 3339.
        since: String,
        /// Why.
        reason: &'static str,
    },
    /// All CRL numbers are used up.
    #[error("the CA in {} has no CRL number left", dir.display())]
    Exhausted {
        /// The folder.
        dir: PathBuf,
    },
    /// The folder can't be used.
    #[error("can't use {}: {source}", path.display())]
    Io {
        /// The folder, or a file in it.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A certificate, CRL or file couldn't be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
}

/// The files of a CA.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    chain: PathBuf,
    index: PathBuf,
    number: PathBuf,
    lock: PathBuf,
}

impl Files {
    fn of(dir: &Path) -> Self {
        Self {
            certificate: dir.join("ca.pem"),
            key: dir.join("ca.key"),
            chain: dir.join("chain.pem"),
            index: dir.join("index.txt"),
            number: dir.join("crl.number"),
            lock: dir.join(".lock"),
        }
    }

    fn all(&self) -> [&Path; 6] {
        let Self { certificate, key, chain, index, number, lock } = self;
        [certificate, key, chain, index, number, lock]
    }
}

/// A CA in a folder, which no other process works on meanwhile.
#[derive(Debug)]
pub struct Folder {
    dir: PathBuf,
    authority: Authority,
    index: Index,
    crl_number: u64,
    /// Held until this is dropped, or the process ends.
    _lock: File,
}

/// A certificate that was issued, and its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// What stands in the index.
    pub entry: Entry,
    /// The certificate and those above it, without the root, PEM.
    pub chain: PathBuf,
    /// Its private key, PKCS #8 PEM.
    pub key: PathBuf,
}

impl Folder {
    /// Makes a root, and its folder if there is none.
    ///
    /// # Errors
    /// [`FolderError::Occupied`] if the folder has a file of a CA.
    pub fn init(dir: &Path, spec: &Spec) -> Result<Self, FolderError> {
        let lock = claim(dir)?;
        Self::create(dir, lock, Authority::root(spec)?)
    }

    /// The CA of a folder.
    ///
    /// # Errors
    /// [`FolderError::NoCa`], [`FolderError::Busy`], [`FolderError::Damaged`].
    pub fn open(dir: &Path) -> Result<Self, FolderError> {
        let files = Files::of(dir);
        if !exists(&files.certificate)? {
            return Err(FolderError::NoCa { dir: dir.to_owned() });
        }
        let lock = lock(dir, &files.lock)?;
        let chain = if exists(&files.chain)? { &files.chain } else { &files.certificate };
        let authority = Authority::load(chain, &files.key)?;
        let damaged = |path: &Path, why| FolderError::Damaged { path: path.to_owned(), why };
        let index = Index::parse(&files::read(&files.index).map_err(PkiError::from)?)
            .map_err(|why| damaged(&files.index, why))?;
        let number = files::read(&files.number).map_err(PkiError::from)?;
        let crl_number = number
            .trim_end()
            .parse()
            .map_err(|_| damaged(&files.number, "it holds no number".to_owned()))?;
        Ok(Self { dir: dir.to_owned(), authority, index, crl_number, _lock: lock })
    }

    /// The CA.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// What it has issued, the oldest first.
    pub fn entries(&self) -> &[Entry] {
        self.index.entries()
    }

    /// The CA's certificate.
    pub fn certificate_file(&self) -> PathBuf {
        Files::of(&self.dir).certificate
    }

    /// The CA's private key.
    pub fn key_file(&self) -> PathBuf {
        Files::of(&self.dir).key
    }

    /// What it has issued.
    pub fn index_file(&self) -> PathBuf {
        Files::of(&self.dir).index
    }

    /// Issues the certificate of a server or client, to `PREFIX.pem` and `PREFIX.key`.
    ///
    /// # Errors
    /// [`FolderError::Occupied`] or [`FolderError::Reserved`] if one of the files can't be new.
    pub fn issue(&mut self, spec: &Spec, prefix: &Path) -> Result<Issued, FolderError> {
        let [chain, key] = [".pem", ".key"].map(|ending| {
            let mut name = prefix.as_os_str().to_owned();
            name.push(ending);
            PathBuf::from(name)
        });
        for file in [&chain, &key] {
            self.check_free(file)?;
        }
        let identity = self.authority.issue(spec)?;
        let entry = self.enter(spec, Kind::Peer, identity.serial())?;
        identity.write(&chain, &key)?;
        Ok(Issued { entry, chain, key })
    }

    /// Makes an intermediate CA below this one, in a folder of its own.
    ///
    /// # Errors
    /// As those of [`init`](Self::init), and [`PkiError::PathLength`].
    pub fn issue_ca(&mut self, spec: &Spec, dir: &Path) -> Result<Self, FolderError> {
        if is_same_place(&Files::of(dir).certificate, &self.certificate_file()) {
            return Err(FolderError::Occupied { path: Files::of(dir).certificate });
        }
        let lock = claim(dir)?;
        let authority = self.authority.intermediate(spec)?;
        self.enter(spec, Kind::Authority, authority.serial())?;
        Self::create(dir, lock, authority)
    }

    /// Revokes a certificate from now on. Nobody knows until there is a [CRL](Self::crl).
    ///
    /// # Errors
    /// [`FolderError::NotIssued`], [`FolderError::AlreadyRevoked`].
    pub fn revoke(&mut self, serial: &[u8], reason: Reason) -> Result<Entry, FolderError> {
        let mut index = self.index.clone();
        let entry = index.find_mut(serial).ok_or_else(|| FolderError::NotIssued {
            dir: self.dir.clone(),
            serial: to_hex(serial),
        })?;
        if let Some((since, reason)) = entry.revoked {
            return Err(FolderError::AlreadyRevoked {
                serial: to_hex(&entry.serial),
                since: index::rfc3339(since),
                reason: reason.as_str(),
            });
        }
        entry.revoked = Some((OffsetDateTime::now_utc(), reason));
        let revoked = entry.clone();
        self.write_index(index)?;
        Ok(revoked)
    }

    /// Signs a CRL of all that is revoked, with the next number, from
    /// [`CLOCK_SKEW`](super::CLOCK_SKEW) before now until `length` after now, and writes it to
    /// `file`, replacing any. Gives its number.
    ///
    /// # Errors
    /// [`FolderError::Reserved`] if the file is one of the CA's own.
    pub fn crl(
        &mut self,
        length: Duration,
        file: &Path,
        encoding: Encoding,
    ) -> Result<u64, FolderError> {
        let own = Files::of(&self.dir);
        if own.all().into_iter().any(|own| is_same_place(own, file)) {
            return Err(FolderError::Reserved { path: file.to_owned() });
        }
        let exhausted = || FolderError::Exhausted { dir: self.dir.clone() };
        let number = self.crl_number.checked_add(1).ok_or_else(exhausted)?;
        let revoked =
            self.index.entries().iter().filter_map(|entry| Some((&entry.serial, entry.revoked?)));
        let spec = revoked
            .fold(CrlSpec::from_now(number, length), |spec, (serial, (at, reason))| {
                spec.revoke(serial, at, reason)
            });
        let signed = self.authority.crl(&spec)?;
        write_public(&own.number, &format!("{number}\n"))?;
        self.crl_number = number;
        let bytes = match encoding {
            Encoding::Pem => signed.pem().as_bytes(),
            Encoding::Der => signed.der(),
        };
        files::write_public(file, bytes).map_err(PkiError::from)?;
        Ok(number)
    }

    /// Where a CRL goes unless somebody says otherwise.
    pub fn crl_file(&self) -> PathBuf {
        self.dir.join("crl.pem")
    }

    /// Fills a folder that is claimed; the certificate comes last and says that all is there.
    fn create(dir: &Path, lock: File, authority: Authority) -> Result<Self, FolderError> {
        let files = Files::of(dir);
        let created = Self {
            dir: dir.to_owned(),
            authority,
            index: Index::default(),
            crl_number: 0,
            _lock: lock,
        };
        let authority = &created.authority;
        files::write_secret(&files.key, authority.key_pem().as_bytes()).map_err(PkiError::from)?;
        write_public(&files.number, "0\n")?;
        write_public(&files.index, &created.index.to_text())?;
        if !authority.chain_pem().is_empty() {
            write_public(&files.chain, authority.chain_pem())?;
        }
        write_public(&files.certificate, &authority.pem())?;
        Ok(created)
    }

    /// Whether a certificate or key may go there.
    fn check_free(&self, file: &Path) -> Result<(), FolderError> {
        let path = file.to_owned();
        let crl = self.crl_file();
        let own = Files::of(&self.dir);
        if own.all().into_iter().chain([&*crl]).any(|own| is_same_place(own, file)) {
            return Err(FolderError::Reserved { path });
        }
        if exists(file)? { Err(FolderError::Occupied { path }) } else { Ok(()) }
    }

    fn enter(&mut self, spec: &Spec, kind: Kind, serial: &[u8]) -> Result<Entry, FolderError> {
        let entry = Entry {
            serial: serial.to_vec(),
            kind,
            not_after: spec.validity().not_after,
            revoked: None,
            subject: spec.common_name().to_owned(),
            names: spec.names().join(" "),
        };
        let mut index = self.index.clone();
        index.push(entry.clone());
        self.write_index(index)?;
        Ok(entry)
    }

    /// What the file says counts: in memory it changes after that.
    fn write_index(&mut self, index: Index) -> Result<(), FolderError> {
        write_public(&self.index_file(), &index.to_text())?;
        self.index = index;
        Ok(())
    }
}

/// How a CRL is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Encoding {
    /// `X509 CRL`
    #[default]
    Pem,
    /// As HTTP servers give it (RFC 5280 §4.2.1.13).
    Der,
}

/// Makes the folder, if there is none, and holds it; no CA is in it.
fn claim(dir: &Path) -> Result<File, FolderError> {
    let io_error = |source| FolderError::Io { path: dir.to_owned(), source };
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(io_error)?;
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(io_error(error)),
        _ => {}
    }
    let files = Files::of(dir);
    let lock = lock(dir, &files.lock)?;
    for file in files.all().into_iter().filter(|file| *file != files.lock) {
        if exists(file)? {
            return Err(FolderError::Occupied { path: file.to_owned() });
        }
    }
    Ok(lock)
}

fn lock(dir: &Path, file: &Path) -> Result<File, FolderError> {
    let io_error = |source| FolderError::Io { path: file.to_owned(), source };
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(file)
        .map_err(io_error)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(FolderError::Busy { dir: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(io_error(source)),
    }
}

/// A symbolic link that leads nowhere is something that is there.
fn exists(file: &Path) -> Result<bool, FolderError> {
    match fs::symlink_metadata(file) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(FolderError::Io { path: file.to_owned(), source }),
    }
}

/// Whether both are the same name in the same folder, whichever way leads there.
fn is_same_place(one: &Path, other: &Path) -> bool {
    let folder = |path: &Path| {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        fs::canonicalize(folder.unwrap_or(Path::new("."))).ok()
    };
    one.file_name() == other.file_name() && folder(one) == folder(other)
}

fn write_public(file: &Path, text: &str) -> Result<(), FolderError> {
    Ok(files::write_public(file, text.as_bytes()).map_err(PkiError::from)?)
}
