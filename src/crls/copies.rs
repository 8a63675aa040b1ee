//! The last good CRL of each URL, on disk, so that a restart needs no CRL server.
//!
//! A URL has two files, called by its SHA-256 in hexadecimal digits: `HASH.crl` holds what came, as
//! it came; `HASH.url` holds the URL and, a line each, the profiles that use it, since nothing else
//! remembers the distribution points of certificates that were seen. Both are written whole: under
//! another name, flushed to the disk, renamed. What is read is believed as little as what is
//! fetched: without its CA's signature it counts for nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use rustls_pki_types::UnixTime;

use super::schedule::MAX_URLS;
use crate::config::{CrlFetch, Crls, Disk, Files, HttpUrl};

/// How long a copy is kept after the last nextUpdate in it.
const KEPT_AFTER_END: Duration = Duration::from_secs(30 * 24 * 3600);

/// Profiles that a copy is remembered to be for.
const PROFILES_MAX: usize = 1024;

/// What was fetched from one URL.
#[derive(Debug, Clone)]
pub(super) struct Copy {
    pub(super) crls: Crls,
    /// The profiles that use it.
    pub(super) profiles: BTreeSet<Arc<str>>,
}

/// What was fetched in an earlier life of the process, by URL.
#[derive(Debug, Default)]
pub struct Copies(pub(super) BTreeMap<HttpUrl, Copy>);

impl Copies {
    /// Reads all that is in `folder`, `MAX_URLS` at most, and leaves it as it is. What can't be used
    /// is left out and logged; what has long ended is left out.
    pub fn read(folder: &Path, disk: &Disk, now: UnixTime) -> Self {
        Self::visit(folder, disk, now, |_| {})
    }

    /// Reads it for the service, which owns it: what has long ended, and what was never finished,
    /// is removed.
    pub fn read_and_tidy(folder: &Path, disk: &Disk, now: UnixTime) -> Self {
        Self::visit(folder, disk, now, remove)
    }

    fn visit(folder: &Path, disk: &Disk, now: UnixTime, useless: impl Fn(&Path)) -> Self {
        let mut copies = Self::default();
        let files = match fs::read_dir(folder) {
            Ok(files) => files,
            Err(error) => {
                let folder = folder.display();
                tracing::warn!(%folder, %error, "the copies of fetched CRLs can't be read");
                return copies;
            }
        };
        for file in files.filter_map(Result::ok).map(|entry| entry.path()) {
            let ending = file.extension().and_then(|ending| ending.to_str());
            if is_left_over(&file) {
                // The process ended while it wrote it.
                useless(&file);
            }
            if ending != Some("url") || copies.0.len() == MAX_URLS {
                continue;
            }
            match read_copy(&file, disk) {
                Ok((_, copy)) if is_long_over(&copy.crls, now) => {
                    useless(&file.with_extension("crl"));
                    useless(&file);
                }
                Ok((url, copy)) => drop(copies.0.insert(url, copy)),
                Err(problem) => {
                    let file = file.display();
                    tracing::warn!(%file, %problem, "a copy of a fetched CRL is ignored");
                }
            }
        }
        copies
    }

    /// The distribution points that certificates of a profile named.
    pub(super) fn points_of(&self, profile: &str) -> BTreeSet<HttpUrl> {
        let own = self.0.iter().filter(|(_, copy)| copy.profiles.contains(profile));
        own.map(|(url, _)| url.clone()).collect()
    }

    /// Those for a profile that fetches like this.
    pub(super) fn of<'c>(
        &'c self,
        profile: &'c str,
        fetch: &'c CrlFetch,
    ) -> impl Iterator<Item = (&'c HttpUrl, &'c Crls)> {
        let is_for = move |url: &HttpUrl, copy: &Copy| match fetch {
            CrlFetch::Off => false,
            CrlFetch::DistributionPoints => copy.profiles.contains(profile),
            CrlFetch::Urls(urls) => urls.contains(url),
        };
        let own = self.0.iter().filter(move |(url, copy)| is_for(url, copy));
        own.map(|(url, copy)| (url, &copy.crls))
    }
}

/// Writes what came from `url` for these profiles.
///
/// # Errors
/// Those of the file system; what was there before is still there, whole.
pub(super) fn write(
    folder: &Path,
    url: &HttpUrl,
    profiles: &BTreeSet<Arc<str>>,
    bytes: &[u8],
) -> io::Result<()> {
    let mut lines = format!("{url}\n");
    for profile in profiles.iter().take(PROFILES_MAX) {
        lines.push_str(profile);
        lines.push('\n');
    }
    let name = file_name(url);
    replace(folder, &format!("{name}.crl"), bytes)?;
    replace(folder, &format!("{name}.url"), lines.as_bytes())
}

fn file_name(url: &HttpUrl) -> String {
    HEXLOWER.encode(digest(&SHA256, url.as_str().as_bytes()).as_ref())
}

/// Whether a file is one of ours that was never finished; the folder may have others.
fn is_left_over(file: &Path) -> bool {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let finished = name.strip_suffix(".crl.tmp").or_else(|| name.strip_suffix(".url.tmp"));
    finished.is_some_and(|hash| hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Never leaves a file that is half old, half new, or empty, wherever the power goes.
fn replace(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = folder.join(format!("{name}.tmp"));
    let mut file =
        File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, folder.join(name))?;
    File::open(folder)?.sync_all()
}

fn read_copy(file: &Path, disk: &Disk) -> Result<(HttpUrl, Copy), String> {
    let data = disk.read(file).map_err(|error| error.to_string())?;
    let text = std::str::from_utf8(&data.bytes).map_err(|_| "it isn't text")?;
    let mut lines = text.lines();
    let url = HttpUrl::parse(lines.next().unwrap_or_default())?;
    if file.file_stem().and_then(|stem| stem.to_str()) != Some(&file_name(&url)) {
        return Err("it isn't the one that its name says".to_owned());
    }
    let profiles = lines.take(PROFILES_MAX).map(Arc::from).collect();
    let crls = disk.crls(&file.with_extension("crl")).map_err(|error| error.to_string())?.crls;
    Ok((url, Copy { crls, profiles }))
}

fn is_long_over(crls: &Crls, now: UnixTime) -> bool {
    let over =
        |end: UnixTime| now.as_secs() > end.as_secs().saturating_add(KEPT_AFTER_END.as_secs());
    crls.iter().all(|crl| over(crl.next_update()))
}

fn remove(file: &Path) {
    if let Err(error) = fs::remove_file(file) {
        let file = file.display();
        tracing::warn!(%file, %error, "an old copy of a fetched CRL can't be removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{Authority, CrlSpec, Spec, Validity};

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn url(name: &str) -> HttpUrl {
        HttpUrl::parse(&format!("http://crl.contoso.test/{name}")).unwrap()
    }

    fn crl(ca: &Authority, number: u64) -> Vec<u8> {
        ca.crl(&CrlSpec::from_now(number, DAY)).unwrap().der().to_vec()
    }

    fn ca() -> Authority {
        Authority::root(&Spec::new("Contoso Root", Validity::from_now(DAY))).unwrap()
    }

    fn profiles(names: &[&str]) -> BTreeSet<Arc<str>> {
        names.iter().map(|&name| name.into()).collect()
    }

    #[test]
    fn what_is_written_is_read_again_for_its_profiles() {
        let (folder, ca) = (tempfile::tempdir().unwrap(), ca());
        let crl = crl(&ca, 5);
        write(folder.path(), &url("a"), &profiles(&["contoso"]), b"an older one").unwrap();
        write(folder.path(), &url("a"), &profiles(&["contoso", "fabrikam"]), &crl).unwrap();
        let copies = Copies::read(folder.path(), &Disk::default(), UnixTime::now());
        let points = CrlFetch::DistributionPoints;
        for (profile, fetch, count) in [
            ("contoso", &points, 1),
            ("fabrikam", &points, 1),
            ("litware", &points, 0),
            ("litware", &CrlFetch::Urls(vec![url("a")]), 1),
            ("contoso", &CrlFetch::Urls(vec![url("b")]), 0),
            ("contoso", &CrlFetch::Off, 0),
        ] {
            assert_eq!(copies.of(profile, fetch).count(), count, "{profile}, {fetch:?}");
        }
        assert_eq!(copies.points_of("fabrikam"), [url("a")].into());
        assert_eq!(copies.points_of("litware"), BTreeSet::new());
        assert_eq!(copies.0[&url("a")].crls.len(), 1);
    }

    #[test]
    fn a_copy_that_is_broken_or_of_another_url_or_half_there_is_left_out() {
        let (folder, ca) = (tempfile::tempdir().unwrap(), ca());
        for name in ["good", "broken", "renamed", "half", "text"] {
            write(folder.path(), &url(name), &profiles(&["contoso"]), &crl(&ca, 5)).unwrap();
        }
        let file = |name: &str, ending: &str| {
            folder.path().join(format!("{}.{ending}", file_name(&url(name))))
        };
        fs::write(file("broken", "crl"), b"0").unwrap();
        fs::write(file("renamed", "url"), "http://crl.fabrikam.test/\ncontoso\n").unwrap();
        fs::remove_file(file("half", "crl")).unwrap();
        fs::write(file("text", "url"), [0xff, 0xfe]).unwrap();
        let left = format!("{}.crl.tmp", file_name(&url("left")));
        for name in [&*left, "notes.tmp", "other.crl.tmp"] {
            fs::write(folder.path().join(name), b"half of it").unwrap();
        }
        let read = |read: fn(&Path, &Disk, UnixTime) -> Copies| {
            let copies = read(folder.path(), &Disk::default(), UnixTime::now());
            assert_eq!(copies.0.keys().collect::<Vec<_>>(), [&url("good")]);
        };
        read(Copies::read);
        assert!(folder.path().join(&left).exists(), "who only reads removes nothing");
        read(Copies::read_and_tidy);
        assert!(!folder.path().join(left).exists());
        let others = ["notes.tmp", "other.crl.tmp"];
        assert!(others.iter().all(|name| folder.path().join(name).exists()), "they aren't ours");
        assert!(file("broken", "crl").exists(), "it is there to be looked at");
    }

    #[test]
    fn a_copy_is_removed_a_month_after_its_end() {
        let (folder, ca) = (tempfile::tempdir().unwrap(), ca());
        write(folder.path(), &url("a"), &profiles(&["contoso"]), &crl(&ca, 5)).unwrap();
        let after = |days: u32| {
            UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs()) + DAY * days)
        };
        let (disk, left) = (Disk::default(), || fs::read_dir(folder.path()).unwrap().count());
        assert_eq!(Copies::read_and_tidy(folder.path(), &disk, after(30)).0.len(), 1);
        assert_eq!(Copies::read(folder.path(), &disk, after(32)).0.len(), 0);
        assert_eq!(left(), 2, "who only reads removes nothing");
        assert_eq!(Copies::read_and_tidy(folder.path(), &disk, after(32)).0.len(), 0);
        assert_eq!(left(), 0);
    }

    #[test]
    fn a_folder_that_is_not_there_gives_nothing_and_takes_nothing() {
        let folder = Path::new("/nonexistent/countersign");
        assert!(Copies::read(folder, &Disk::default(), UnixTime::now()).0.is_empty());
        assert!(write(folder, &url("a"), &profiles(&[]), b"").is_err());
    }
}
