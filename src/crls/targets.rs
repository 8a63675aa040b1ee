//! The stores of a generation, and where the CRLs of each come from.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls_pki_types::UnixTime;

use super::stores::{Stamps, is_of};
use crate::{
    config::{Config, CrlFetch, CrlFetching, CrlSource, HttpUrl, Revocation},
    metrics::{CrlMetrics, Metrics},
    revocation::{CrlState, Mode, Store, Stores},
};

/// The stores of a generation, with all that it takes to keep them up to date.
#[derive(Debug)]
pub struct Targets {
    pub(super) profiles: Vec<Target>,
    pub(super) stamps: Stamps,
    pub(super) fetching: CrlFetching,
}

impl Targets {
    /// Those of `config`, whose files looked like `stamps`. Copies of what is fetched go to the
    /// configuration's folder, else to `state_dir`, else nowhere. The metrics of each profile that
    /// checks revocation are registered and set.
    pub fn new(
        config: &Config,
        stores: &Stores,
        stamps: Stamps,
        state_dir: Option<&Path>,
        metrics: &Metrics,
    ) -> Self {
        let profiles = targets_of(config, stores, |_| true, Arc::clone, metrics).collect();
        let mut fetching = config.crl_fetching.clone();
        fetching.state_dir = fetching.state_dir.or_else(|| state_dir.map(PathBuf::from));
        Self { profiles, stamps, fetching }
    }

    /// With those of a candidate that is tried, which are kept up to date in the same way, but for
    /// stores that it shares with the profiles that serve. Its profiles are called
    /// `candidate/NAME`, which is the name of no other.
    pub fn with_candidate(mut self, config: &Config, stores: &Stores, metrics: &Metrics) -> Self {
        let called = |name: &Arc<str>| format!("candidate/{name}").into();
        let serving: Vec<_> = self.profiles.iter().map(|target| target.store.clone()).collect();
        let is_own = |store: &Arc<Store>| !serving.iter().any(|other| Arc::ptr_eq(other, store));
        self.profiles.extend(targets_of(config, stores, is_own, called, metrics));
        self
    }
}

fn targets_of(
    config: &Config,
    stores: &Stores,
    is_wanted: impl Fn(&Arc<Store>) -> bool,
    called: impl Fn(&Arc<str>) -> Arc<str>,
    metrics: &Metrics,
) -> impl Iterator<Item = Target> {
    let checked = config.trust.values().filter(|it| it.revocation.rules.mode != Mode::Off);
    checked.filter_map(move |profile| {
        let store = stores.get(&profile.name).filter(|store| is_wanted(store))?;
        let name = called(&profile.name);
        Some(Target::new(name, Arc::clone(store), profile.revocation.clone(), metrics))
    })
}

/// One profile that checks revocation.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) name: Arc<str>,
    pub(super) store: Arc<Store>,
    pub(super) revocation: Revocation,
    /// Distribution points that its certificates named.
    pub(super) points: BTreeSet<HttpUrl>,
    pub(super) metrics: CrlMetrics,
    /// That of the store when its metrics were set.
    epoch: u64,
}

impl Target {
    /// One that no certificate has named a distribution point for yet. Its metrics are set.
    pub(super) fn new(
        name: Arc<str>,
        store: Arc<Store>,
        revocation: Revocation,
        metrics: &Metrics,
    ) -> Self {
        let metrics = CrlMetrics::new(metrics, &name);
        let (points, epoch) = (BTreeSet::new(), store.epoch());
        let mut target = Self { name, store, revocation, points, metrics, epoch };
        target.publish();
        target
    }

    /// The URLs that the configuration names.
    pub(super) fn configured(&self) -> &[HttpUrl] {
        match &self.revocation.fetch {
            CrlFetch::Urls(urls) => urls,
            CrlFetch::Off | CrlFetch::DistributionPoints => &[],
        }
    }

    /// Whether it follows distribution points.
    pub(super) fn follows_points(&self) -> bool {
        self.revocation.fetch == CrlFetch::DistributionPoints
    }

    /// Whether what `url` gives is for it.
    pub(super) fn uses(&self, url: &HttpUrl) -> bool {
        self.points.contains(url) || self.configured().contains(url)
    }

    /// Whether `path`, a file or a folder, is one of its sources or in one.
    pub(super) fn reads(&self, path: &Path) -> bool {
        let is_own = |source: &CrlSource| {
            is_of(source, path) || matches!(source, CrlSource::Folder(own) if own == path)
        };
        self.revocation.sources.iter().any(is_own)
    }

    /// Sets its metrics anew if the answers of its store may have changed since the last time: by
    /// what was offered, or since the time of a CRL has come.
    pub(super) fn has_changed(&mut self, now: UnixTime) -> bool {
        self.store.advance(now);
        let epoch = self.store.epoch();
        if epoch == self.epoch {
            return false;
        }
        self.epoch = epoch;
        self.publish();
        true
    }

    fn publish(&mut self) {
        let status = self.store.status();
        let in_use = status.iter().filter(|it| it.state == CrlState::InUse).map(|it| &it.crl);
        let next_update = in_use.clone().map(|crl| crl.next_update().as_secs()).min();
        self.metrics.in_use(next_update, in_use.map(|crl| crl.entries()).sum());
    }
}
