//! Revocation: the keys of `[trust.NAME]` that say where CRLs come from and what they decide, and
//! `[revocation]`, which says how they are fetched and kept.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use super::{
    certificates::{Surroundings, date},
    crl_files::CrlFile,
    errors::{Located, Place, Report},
    reader::Reader,
    url::HttpUrl,
};
use crate::revocation::{Mode, Rules, Stale};

/// What `crl` takes.
const SOURCES: &str = "at least one file or folder with CRLs, PEM or DER";

/// What `crl_fetch` takes.
const FETCH: &str = "\"off\", \"distribution-points\", or a list of URLs: [\"http://host/path\"]";

/// URLs of one profile.
const URLS_MAX: usize = 64;

/// The longest `crl_grace`: whoever wants more says `crl_stale = "accept"`.
const GRACE_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// The shortest `fetch_interval`; a CRL server is for many.
const INTERVAL_MIN: Duration = Duration::from_secs(1);

/// What a profile says about revocation; the default is that it is off.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revocation {
    /// `revocation`, `crl_stale` and `crl_grace`.
    pub rules: Rules,
    /// `crl`: files and folders, in the order of the list.
    pub sources: Vec<CrlSource>,
    /// `crl_fetch`
    pub fetch: CrlFetch,
}

/// An entry of `crl`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum CrlSource {
    /// A file with one or more CRLs.
    File(PathBuf),
    /// A folder of such files.
    Folder(PathBuf),
}

/// Which URLs CRLs are fetched from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum CrlFetch {
    /// None. The default.
    #[default]
    Off,
    /// Those that verified certificates name (RFC 5280 §4.2.1.13).
    DistributionPoints,
    /// These; never empty.
    Urls(Vec<HttpUrl>),
}

/// `[revocation]`: how CRLs are fetched, and where the last good ones are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrlFetching {
    /// `state_dir`: a folder for what was fetched; without it `$STATE_DIRECTORY`, if that is set.
    pub state_dir: Option<PathBuf>,
    /// `fetch_timeout`, for one fetch from the look-up of the name to the last byte. Default 30 s.
    pub timeout: Duration,
    /// `fetch_interval`: the longest pause between two fetches of a URL. Default 1 h.
    pub interval: Duration,
}

/// The CRLs of all files that a configuration names, by path; each was read once.
#[derive(Debug, Default, Clone)]
pub struct LoadedCrls(pub BTreeMap<PathBuf, CrlFile>);

/// What the revocation keys of the profiles led to, while the file is walked.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) loaded: LoadedCrls,
    fetches: bool,
}

/// The keys of one profile.
pub(super) fn read_rules(
    around: Surroundings<'_>,
    reader: &mut Reader<'_>,
    draft: &mut Draft,
) -> Revocation {
    const MODES: [(&str, Mode); 3] =
        [("require", Mode::Require), ("prefer", Mode::Prefer), ("off", Mode::Off)];
    const STALE: [(&str, Stale); 2] = [("refuse", Stale::Refuse), ("accept", Stale::Accept)];
    let report = around.report;
    let names = reader.some_strings("crl", SOURCES);
    let fetch = read_fetch(reader);
    let stale = reader.word("crl_stale", &STALE);
    let grace = reader.parsed("crl_grace", parse_grace);
    let said = reader.word("revocation", &MODES);

    let is_wrong = reader.present("revocation").is_some() && said.is_none();
    let has_source = reader.present("crl").is_some()
        || reader.present("crl_fetch").is_some() && !matches!(fetch, Some(CrlFetch::Off));
    let mode =
        said.as_ref().map_or(if has_source { Mode::Require } else { Mode::Off }, |word| word.value);
    match (mode, has_source) {
        (Mode::Off, true) if !is_wrong => refuse_idle(report, reader, &["crl", "crl_fetch"]),
        (Mode::Require | Mode::Prefer, false) => {
            if let Some(word) = &said {
                let remedy = "give crl = [files or folders], or crl_fetch";
                report.error(&word.at, format_args!("needs CRLs to check with; {remedy}"));
            }
        }
        (Mode::Off, false) if said.is_none() && !is_wrong => {
            let remedy = "say revocation = \"off\" to show that it is meant";
            report.warn(reader.at(), format_args!("revocation is off; {remedy}"));
        }
        _ => {}
    }
    if mode == Mode::Off && !is_wrong {
        refuse_idle(report, reader, &["crl_stale", "crl_grace"]);
    }
    let stale = stale.map_or(Stale::Refuse, |word| word.value);
    if let Some(grace) = grace.as_ref().filter(|_| stale == Stale::Accept) {
        let why = "has no effect: a stale CRL is accepted for ever; remove this key, or crl_stale = \
                   \"accept\"";
        report.error(&grace.at, why);
    }
    let names = names.iter().flatten();
    let sources = names.filter_map(|name| load_source(around, name, draft)).collect();
    let fetch = fetch.unwrap_or(CrlFetch::Off);
    draft.fetches |= fetch != CrlFetch::Off;
    let grace = grace.map_or(Duration::ZERO, |grace| grace.value);
    Revocation { rules: Rules { mode, stale, grace }, sources, fetch }
}

/// Keys that would look as if revocation were checked.
fn refuse_idle(report: &Report<'_>, reader: &mut Reader<'_>, keys: &[&'static str]) {
    for key in keys {
        if let Some(at) = reader.present(key) {
            let remedy = "remove it, or say revocation = \"require\" with crl or crl_fetch";
            report.error(&at, format_args!("has no effect: revocation is off; {remedy}"));
        }
    }
}

fn read_fetch(reader: &mut Reader<'_>) -> Option<CrlFetch> {
    if reader.is_list("crl_fetch") {
        let urls = reader.some_parsed("crl_fetch", FETCH, HttpUrl::parse)?;
        if let Some(more) = urls.get(URLS_MAX) {
            let message = format_args!("has {} URLs; it takes {URLS_MAX} at most", urls.len());
            reader.report().error(&more.at, message);
        }
        return Some(CrlFetch::Urls(urls.into_iter().map(|url| url.value).collect()));
    }
    let word = reader.parsed("crl_fetch", |text| match text {
        "off" => Ok(CrlFetch::Off),
        "distribution-points" => Ok(CrlFetch::DistributionPoints),
        _ => Err(format!("it takes {FETCH}")),
    });
    word.map(|word| word.value)
}

fn parse_grace(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .ok()
        .filter(|time| *time <= GRACE_MAX)
        .ok_or_else(|| "it takes a time from \"0s\" to \"366days\", such as \"12h\"".to_owned())
}

/// One entry of `crl`; all faults are noted.
fn load_source(
    around: Surroundings<'_>,
    name: &Located<&str>,
    draft: &mut Draft,
) -> Option<CrlSource> {
    let report = around.report;
    if name.value.contains("://") {
        report.error(&name.at, format_args!("{} is a URL; give it in crl_fetch", name.value));
        return None;
    }
    let path = around.base_dir.join(name.value);
    let folder = match around.files.folder(&path) {
        Ok(folder) => folder,
        Err(error) => {
            report.error(&name.at, format_args!("{} can't be read: {error}", path.display()));
            return None;
        }
    };
    let Some(folder) = folder else {
        load_file(around, &name.at, path.clone(), draft);
        return Some(CrlSource::File(path));
    };
    if folder.files.is_empty() {
        let message = "has no CRL yet: no file whose name ends in .crl, .pem or .der";
        report.warn(&name.at, format_args!("{} {message}", path.display()));
    }
    if let Some(other) = folder.others.first() {
        let message = "is not read: in a folder names of CRLs end in .crl, .pem or .der";
        report.warn(&name.at, format_args!("{} {message}", other.display()));
    }
    for file in folder.files {
        load_file(around, &name.at, file, draft);
    }
    Some(CrlSource::Folder(path))
}

fn load_file(around: Surroundings<'_>, at: &Place, file: PathBuf, draft: &mut Draft) {
    let report = around.report;
    if !draft.loaded.0.contains_key(&file) {
        match around.files.crls(&file) {
            Ok(crls) => drop(draft.loaded.0.insert(file.clone(), crls)),
            Err(error) => return report.error(at, format_args!("{} {error}", file.display())),
        }
    }
    for crl in draft.loaded.0[&file].crls.iter() {
        let (path, issuer) = (file.display(), crl.issuer());
        let next_update = i64::try_from(crl.next_update().as_secs()).unwrap_or(i64::MAX);
        if next_update < around.now {
            let until = date(next_update);
            let message = "replace it by a newer one of that CA";
            report.warn(at, format_args!("{path}, of {issuer}, is stale since {until}; {message}"));
        }
    }
}

/// `[revocation]`
pub(super) fn read_fetching(
    around: Surroundings<'_>,
    reader: Option<Reader<'_>>,
    draft: &Draft,
) -> CrlFetching {
    let mut fetching = CrlFetching {
        state_dir: None,
        timeout: Duration::from_secs(30),
        interval: Duration::from_secs(3600),
    };
    let Some(mut reader) = reader else { return fetching };
    let report = around.report;
    if let Some(name) = reader.string("state_dir") {
        let path = around.base_dir.join(name.value);
        match around.files.folder(&path) {
            Ok(Some(_)) => fetching.state_dir = Some(path),
            Ok(None) => report.error(&name.at, format_args!("{} isn't a folder", path.display())),
            Err(error) => {
                let remedy = "make that folder, owned by the account of the service";
                let path = path.display();
                report.error(&name.at, format_args!("{path} can't be read: {error}; {remedy}"));
            }
        }
    }
    if let Some(time) = reader.duration("fetch_timeout") {
        fetching.timeout = time;
    }
    if let Some(time) = reader.duration("fetch_interval") {
        fetching.interval = time.max(INTERVAL_MIN);
        if time < INTERVAL_MIN
            && let Some(at) = reader.present("fetch_interval")
        {
            report.error(&at, format_args!("is too short; it takes \"1s\" or more"));
        }
    }
    if !draft.fetches {
        report.warn(reader.at(), "has no effect: no profile has crl_fetch");
    }
    reader.finish();
    fetching
}
