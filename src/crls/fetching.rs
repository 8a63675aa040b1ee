//! The URLs: when each is asked, what was got, and who is given it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use rustls_pki_types::UnixTime;

use super::{
    copies::{self, Copies},
    fetch::{Answer, Failure, Validators, fetch},
    offer::{Taken, is_verified, offer},
    schedule::{Jitter, MAX_URLS, Schedule},
    targets::Target,
    work::Event,
};
use crate::{
    config::{CrlFetching, Crls, Disk, HttpUrl},
    metrics::CrlFetchResult,
};

/// URLs of which something is known, beyond which those are forgotten that aren't asked for.
const MAX_SOURCES: usize = 2 * MAX_URLS;

/// What a fetch brought.
#[derive(Debug)]
pub(super) enum Got {
    /// CRLs; `bytes` are what they were read from.
    Crls { crls: Crls, bytes: Vec<u8>, validators: Validators },
    /// Nothing new.
    NotModified,
}

/// A fetch that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    url: HttpUrl,
    outcome: Result<Got, Failure>,
}

/// All URLs.
#[derive(Debug)]
pub(super) struct Fetching {
    disk: Disk,
    settings: CrlFetching,
    schedule: Schedule,
    sources: BTreeMap<HttpUrl, Source>,
    going_on: usize,
    events: mpsc::Sender<Event>,
    /// What was said once.
    has_said_full: bool,
    has_said_unwritable: bool,
}

/// What is known of a URL beside when it is due.
#[derive(Debug, Default)]
struct Source {
    /// The last good CRLs; `None` before the first.
    held: Option<Held>,
    /// How the last fetch failed, so that the log says it once.
    failing: Option<CrlFetchResult>,
}

/// The last good thing that a URL gave.
#[derive(Debug)]
struct Held {
    crls: Crls,
    /// What tells the server that we have them; `None` for a copy from disk.
    validators: Option<Validators>,
    /// Whether a signature of them was verified.
    is_verified: bool,
}

impl Fetching {
    /// Nothing is asked for yet.
    pub(super) fn new(
        disk: Disk,
        settings: CrlFetching,
        copies: Copies,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let copies = copies.0.into_iter().map(|(url, copy)| {
            let held = Held { crls: copy.crls, validators: None, is_verified: false };
            (url, Source { held: Some(held), failing: None })
        });
        Self {
            disk,
            schedule: Schedule::new(settings.interval),
            settings,
            sources: copies.collect(),
            going_on: 0,
            events,
            has_said_full: false,
            has_said_unwritable: false,
        }
    }

    /// Asks for the URLs of these profiles from now on, and gives them what is there already.
    pub(super) fn retarget(&mut self, targets: &[Target], settings: CrlFetching, now: Instant) {
        self.schedule.set_interval(settings.interval);
        self.settings = settings;
        let used: BTreeSet<&HttpUrl> =
            targets.iter().flat_map(|it| it.points.iter().chain(it.configured())).collect();
        self.schedule.retain(|url| used.contains(url));
        // What nobody asks for now may be a distribution point that is named again.
        let may_be_named = targets.iter().any(Target::follows_points);
        self.sources.retain(|url, _| may_be_named || used.contains(url));
        for target in targets {
            for url in target.configured() {
                self.schedule.want_configured(url, now);
            }
            for url in &target.points {
                self.want_point(url, now);
            }
            for url in target.points.iter().chain(target.configured()) {
                self.give_held(target, url);
            }
        }
    }

    /// Asks for the distribution points that certificates of the profiles have named lately.
    pub(super) fn take_wanted(&mut self, targets: &mut [Target], now: Instant) {
        let mut has_new = false;
        for target in targets.iter_mut().filter(|target| target.follows_points()) {
            for point in target.store.take_wanted() {
                // What can't be fetched (LDAP, mostly) is left to the certificate's other points.
                let Ok(url) = HttpUrl::parse(&point) else { continue };
                let is_known = target.points.contains(&url) && self.schedule.has(&url);
                if !is_known && self.want_point(&url, now) {
                    tracing::info!(profile = &*target.name, %url, "a distribution point is new");
                    target.points.insert(url.clone());
                    self.give_held(target, &url);
                    has_new = true;
                }
            }
        }
        if has_new {
            self.forget_those_that_made_room(targets);
        }
    }

    /// Nobody whose certificates name ever new distribution points fills the memory with old ones.
    fn forget_those_that_made_room(&mut self, targets: &mut [Target]) {
        let schedule = &self.schedule;
        for target in targets {
            target.points.retain(|url| schedule.has(url));
        }
        if self.sources.len() > MAX_SOURCES {
            self.sources.retain(|url, _| schedule.has(url));
        }
    }

    fn want_point(&mut self, url: &HttpUrl, now: Instant) -> bool {
        let is_wanted = self.schedule.want_point(url, now);
        if !is_wanted && !self.has_said_full {
            self.has_said_full = true;
            tracing::warn!(%url, "not fetched: {MAX_URLS} distribution points are, and more aren't");
        }
        is_wanted
    }

    /// A profile that comes to a URL later gets what others have fetched.
    fn give_held(&mut self, target: &Target, url: &HttpUrl) {
        if let Some(held) = self.sources.get_mut(url).and_then(|source| source.held.as_mut()) {
            let taken = offer(&target.store, url.as_str(), &held.crls, UnixTime::now());
            held.is_verified |= taken.is_verified;
        }
    }

    /// When there is something to do next.
    pub(super) fn start_due(&mut self, now: Instant) {
        for url in self.schedule.take_due(self.going_on, now) {
            let held = self.sources.get(&url).and_then(|source| source.held.as_ref());
            let have = held.and_then(|held| held.validators.clone());
            let (disk, timeout) = (self.disk.clone(), self.settings.timeout);
            let report = Report::new(url.clone(), self.events.clone());
            let fetching = std::thread::Builder::new().name("crl-fetch".into());
            self.going_on += 1;
            // If there is no thread, the report is dropped, and says so.
            let _ = fetching.spawn(move || {
                report.end(get(&url, have.as_ref(), timeout, &disk));
            });
        }
    }

    /// A fetch has ended: its CRLs go to the profiles that use its URL.
    pub(super) fn ended(&mut self, ended: Ended, targets: &[Target], now: Instant) {
        self.going_on = self.going_on.saturating_sub(1);
        let Ended { url, outcome } = ended;
        if !self.schedule.has(&url) {
            return;
        }
        let users: Vec<&Target> = targets.iter().filter(|target| target.uses(&url)).collect();
        let outcome = match outcome {
            Ok(Got::Crls { crls, bytes, validators }) => {
                self.give(&url, &users, crls, &bytes, validators)
            }
            Ok(Got::NotModified) => {
                count(&users, CrlFetchResult::NotModified);
                Ok(())
            }
            Err(failure) => {
                count(&users, failure.result);
                Err(failure)
            }
        };
        let source = self.sources.entry(url.clone()).or_default();
        match outcome {
            Ok(()) => {
                if source.failing.take().is_some() {
                    tracing::info!(%url, "the CRL can be fetched again");
                }
                let left = source.held.as_ref().map_or(Duration::ZERO, Held::left);
                self.schedule.succeeded(&url, left, now, random());
            }
            Err(Failure { result, detail }) => {
                if source.failing.replace(result) != Some(result) {
                    let result = result.as_str();
                    tracing::warn!(%url, result, %detail, "no CRL fetched; the last good one stays");
                } else {
                    tracing::debug!(%url, result = result.as_str(), %detail, "no CRL fetched again");
                }
                self.schedule.failed(&url, now, random());
            }
        }
    }

    /// Offers what was fetched to its users, and keeps it if it is any good.
    fn give(
        &mut self,
        url: &HttpUrl,
        users: &[&Target],
        crls: Crls,
        bytes: &[u8],
        validators: Validators,
    ) -> Result<(), Failure> {
        let now = UnixTime::now();
        let offers = users.iter().map(|target| offer(&target.store, url.as_str(), &crls, now));
        let takes: Vec<Taken> = offers.collect();
        // An older one is verified too, and must not take the place of the newer one on disk.
        let is_verified = takes.iter().any(|it| it.is_verified && it.problem.is_none());
        let held = self.sources.get(url).and_then(|source| source.held.as_ref());
        // What nobody could verify never takes the place of what somebody could.
        let is_doubtful = !is_verified && held.is_some_and(|held| held.is_verified_by(users));
        let mut failure = None;
        let mut is_taken = false;
        for (target, taken) in users.iter().zip(takes) {
            let problem = match taken.problem {
                Some((problem, why)) => Some(Failure::new(problem.of_fetch(), why)),
                None if is_doubtful => {
                    let why = "no CA is known that could have signed it, unlike the last one";
                    Some(Failure::new(CrlFetchResult::BadSignature, why))
                }
                None => None,
            };
            is_taken |= problem.is_none();
            target
                .metrics
                .fetched(problem.as_ref().map_or(CrlFetchResult::Fetched, |it| it.result));
            failure = problem.or(failure);
        }
        if let Some(failure) = failure.filter(|_| !is_taken) {
            return Err(failure);
        }
        let is_new = held.is_none_or(|held| !Arc::ptr_eq(&held.crls, &crls));
        // After a start nobody may have shown yet whose key verified the copy. The stores keep both
        // until somebody does; the copy stays what a next start begins with, and this one is asked
        // for again.
        if is_new && !is_verified && held.is_some_and(|held| !held.left().is_zero()) {
            return Ok(());
        }
        if is_new {
            let entries: usize = crls.iter().map(|crl| crl.entries()).sum();
            tracing::info!(%url, entries, "a new CRL was fetched");
            self.write_copy(url, users, bytes);
        }
        let held = Held { crls, validators: Some(validators), is_verified };
        self.sources.entry(url.clone()).or_default().held = Some(held);
        Ok(())
    }

    fn write_copy(&mut self, url: &HttpUrl, users: &[&Target], bytes: &[u8]) {
        let Some(folder) = &self.settings.state_dir else { return };
        let profiles = users.iter().map(|target| Arc::clone(&target.name)).collect();
        match copies::write(folder, url, &profiles, bytes) {
            Ok(()) => self.has_said_unwritable = false,
            Err(error) if !self.has_said_unwritable => {
                self.has_said_unwritable = true;
                let folder = folder.display();
                let lost = "a restart will need the CRL server";
                tracing::warn!(%folder, %error, "fetched CRLs can't be kept: {lost}");
            }
            Err(_) => {}
        }
    }
}

impl Held {
    /// Whether a signature of them was verified: when they came, or since, when a client showed
    /// their CA.
    fn is_verified_by(&self, users: &[&Target]) -> bool {
        let by = |target: &Target| self.crls.iter().any(|crl| is_verified(&target.store, crl));
        self.is_verified || users.iter().any(|target| by(target))
    }

    /// How long all of them are still good for.
    fn left(&self) -> Duration {
        let ends = self.crls.iter().map(|crl| crl.next_update().as_secs());
        let left = ends.min().unwrap_or_default().saturating_sub(UnixTime::now().as_secs());
        Duration::from_secs(left)
    }
}

/// On a thread of its own: fetches and parses.
fn get(
    url: &HttpUrl,
    have: Option<&Validators>,
    timeout: Duration,
    disk: &Disk,
) -> Result<Got, Failure> {
    match fetch(url, have, timeout)? {
        Answer::NotModified => Ok(Got::NotModified),
        Answer::Body { bytes, validators } => match disk.parse_crls(&bytes) {
            Ok(crls) => Ok(Got::Crls { crls, bytes, validators }),
            Err(error) => Err(Failure::new(CrlFetchResult::Malformed, error.to_string())),
        },
    }
}

/// Says how a fetch ended, also if its thread never came to be or panicked.
struct Report {
    url: HttpUrl,
    events: mpsc::Sender<Event>,
    outcome: Option<Result<Got, Failure>>,
}

impl Report {
    fn new(url: HttpUrl, events: mpsc::Sender<Event>) -> Self {
        Self { url, events, outcome: None }
    }

    fn end(mut self, outcome: Result<Got, Failure>) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        let lost =
            || Err(Failure::new(CrlFetchResult::Unreachable, "this host has no thread for it"));
        let outcome = self.outcome.take().unwrap_or_else(lost);
        // Nobody listens any more when the process ends.
        let _ = self.events.send(Event::Ended(Box::new(Ended { url: self.url.clone(), outcome })));
    }
}

fn count(users: &[&Target], result: CrlFetchResult) {
    for target in users {
        target.metrics.fetched(result);
    }
}

/// Without randomness hosts might ask together; that is no reason to fail.
fn random() -> Jitter {
    let mut bytes = [0; 4];
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    Jitter(f64::from(u32::from_be_bytes(bytes)) / (f64::from(u32::MAX) + 1.0))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tempfile::TempDir;
    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::*;
    use crate::{
        config::{CrlFetch, Revocation},
        metrics::Metrics,
        pki::{Authority, CrlSpec, Spec, Validity},
        revocation::{IssuerId, Link, Mode, Rules, Store},
    };

    const DAY: Duration = Duration::from_secs(24 * 3600);

    /// One URL, profiles that use it, and the folder of its copies.
    struct Scene {
        folder: TempDir,
        ca: Authority,
        url: HttpUrl,
        fetching: Fetching,
        targets: Vec<Target>,
        _events: mpsc::Receiver<Event>,
    }

    fn learn(store: &Store, ca: &Authority) -> IssuerId {
        let (_, certificate) = X509Certificate::from_der(ca.der()).unwrap();
        store.learn(certificate.subject().as_raw(), certificate.public_key().raw, true)
    }

    fn target(name: &str, fetch: CrlFetch) -> Target {
        let rules = Rules { mode: Mode::Require, ..Rules::default() };
        let revocation = Revocation { rules, sources: Vec::new(), fetch };
        let metrics = Metrics::new().unwrap();
        Target::new(name.into(), Arc::new(Store::new(rules)), revocation, &metrics)
    }

    fn kept(folder: &Path) -> Vec<String> {
        let copies = Copies::read(folder, &Disk::default(), UnixTime::now());
        let crls = copies.0.values().flat_map(|copy| copy.crls.iter());
        crls.map(|crl| crl.number().unwrap().to_string()).collect()
    }

    impl Scene {
        /// After a start, at which there was a copy of number 10 on disk.
        fn new(profiles: &[&str]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let ca = Authority::root(&Spec::new("Contoso Root", Validity::from_now(DAY))).unwrap();
            let url = HttpUrl::parse("http://crl.contoso.test/a.crl").unwrap();
            let copy = ca.crl(&CrlSpec::from_now(10, DAY)).unwrap().der().to_vec();
            copies::write(folder.path(), &url, &BTreeSet::new(), &copy).unwrap();
            let copies = Copies::read(folder.path(), &Disk::default(), UnixTime::now());
            let state_dir = Some(folder.path().to_owned());
            let settings = CrlFetching { state_dir, timeout: DAY, interval: DAY };
            let (events, receiver) = mpsc::channel();
            let mut fetching = Fetching::new(Disk::default(), settings.clone(), copies, events);
            let targets: Vec<Target> = profiles
                .iter()
                .map(|name| target(name, CrlFetch::Urls(vec![url.clone()])))
                .collect();
            fetching.retarget(&targets, settings, Instant::now());
            Self { folder, ca, url, fetching, targets, _events: receiver }
        }

        /// A fetch brings a CRL of this number.
        fn brings(&mut self, number: u64) {
            let bytes = self.ca.crl(&CrlSpec::from_now(number, DAY)).unwrap().der().to_vec();
            let crls = self.fetching.disk.parse_crls(&bytes).unwrap();
            let got = Got::Crls { crls, bytes, validators: Validators::default() };
            let ended = Ended { url: self.url.clone(), outcome: Ok(got) };
            self.fetching.ended(ended, &self.targets, Instant::now());
        }
    }

    #[test]
    fn what_nobody_can_verify_yet_does_not_take_the_place_of_the_copy_on_disk() {
        let mut scene = Scene::new(&["contoso"]);
        scene.brings(5);
        assert_eq!(kept(scene.folder.path()), ["0A"]);
        learn(&scene.targets[0].store, &scene.ca);
        scene.brings(11);
        assert_eq!(kept(scene.folder.path()), ["0B"]);
    }

    #[test]
    fn a_profile_that_does_not_know_the_ca_lets_no_older_crl_onto_the_disk() {
        let mut scene = Scene::new(&["contoso", "fabrikam"]);
        learn(&scene.targets[0].store, &scene.ca);
        scene.brings(5);
        assert_eq!(kept(scene.folder.path()), ["0A"]);
        scene.brings(11);
        assert_eq!(kept(scene.folder.path()), ["0B"]);
    }
    #[test]
    fn ever_new_distribution_points_that_fail_do_not_fill_the_memory() {
        let mut scene = Scene::new(&["contoso"]);
        let mut targets = [target("contoso", CrlFetch::DistributionPoints)];
        let issuer = learn(&targets[0].store, &scene.ca);
        for number in 0..3 * MAX_URLS {
            let point = format!("http://crl.contoso.test/{number}");
            let link = Link {
                issuer,
                serial: [1].into(),
                is_ca: false,
                distribution_points: [point.as_str().into()].into(),
            };
            let _ = targets[0].store.check(&[link], UnixTime::now());
            scene.fetching.take_wanted(&mut targets, Instant::now());
            let outcome = Err(Failure::new(CrlFetchResult::Unreachable, "nobody answers"));
            let ended = Ended { url: HttpUrl::parse(&point).unwrap(), outcome };
            scene.fetching.ended(ended, &targets, Instant::now());
        }
        assert!(targets[0].points.len() <= MAX_URLS, "{}", targets[0].points.len());
        assert!(scene.fetching.sources.len() <= MAX_SOURCES + 1);
    }
}
