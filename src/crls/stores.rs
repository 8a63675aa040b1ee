//! The stores of a generation: what the configuration's files hold, and what is known already.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls_pki_types::UnixTime;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Copies;
use crate::{
    config::{
        Config, CrlFetch, CrlSource, Crls, HttpUrl, LoadedCrls, Revocation, Stamp, TrustProfile,
    },
    revocation::{IssuerId, Mode, Offered, Store, Stores},
};

/// What is known before a generation is made.
#[derive(Debug, Default, Clone, Copy)]
pub struct Before<'a> {
    /// The stores of the generation that it takes the place of.
    pub stores: Option<&'a Stores>,
    /// What was fetched in an earlier life of the process.
    pub copies: Option<&'a Copies>,
}

/// The stores of a generation, and what came of making them.
#[derive(Debug)]
pub struct Made {
    /// By the names of the profiles.
    pub stores: Stores,
    /// What the files looked like when they were read.
    pub stamps: Stamps,
    /// What deserves a second look, each with its profile.
    pub warnings: Vec<String>,
}

/// What files of CRLs looked like when they were read.
pub type Stamps = BTreeMap<PathBuf, Option<Stamp>>;

/// Makes a store for each profile of `config`, from `loaded`, which are its files. It begins with
/// what the store before it knew, as far as that came from a source that the profile still has.
pub fn make(config: &Config, loaded: LoadedCrls, before: Before<'_>, now: UnixTime) -> Made {
    let mut stores = BTreeMap::new();
    let mut warnings = Vec::new();
    for (name, profile) in &config.trust {
        let files = files_of(&profile.revocation, &loaded);
        let store = begin(profile, &files, before);
        if profile.revocation.rules.mode != Mode::Off {
            learn_anchors(&store, profile);
            let copies = before.copies.map(|copies| copies.of(name, &profile.revocation.fetch));
            for (url, crls) in copies.into_iter().flatten() {
                store.offer(url.as_str(), crls.to_vec(), now);
            }
            for (file, crls) in &files {
                for (crl, offered) in crls.iter().zip(store.offer(file, crls.to_vec(), now)) {
                    if let Some(why) = doubt(&offered) {
                        let issuer = crl.issuer();
                        warnings.push(format!("trust.{name}: {file}, CRL of {issuer}: {why}"));
                    }
                }
            }
        }
        stores.insert(Arc::clone(name), Arc::new(store));
    }
    let stamps = loaded.0.into_iter().map(|(path, file)| (path, file.stamp)).collect();
    Made { stores: stores.into(), stamps, warnings }
}

/// How a store calls the CRLs of a file.
pub(super) fn file_source(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Whether the file is one of the source.
pub(super) fn is_of(source: &CrlSource, file: &Path) -> bool {
    match source {
        CrlSource::File(path) => path == file,
        CrlSource::Folder(folder) => file.parent() == Some(folder),
    }
}

/// The CRLs of a profile's files, by what a store calls them.
fn files_of<'l>(revocation: &Revocation, loaded: &'l LoadedCrls) -> BTreeMap<String, &'l Crls> {
    let is_own = |path: &Path| revocation.sources.iter().any(|source| is_of(source, path));
    let own = loaded.0.iter().filter(|(path, _)| is_own(path));
    own.map(|(path, file)| (file_source(path), &file.crls)).collect()
}

/// An empty store, or one that takes the place of another.
fn begin(profile: &TrustProfile, files: &BTreeMap<String, &Crls>, before: Before<'_>) -> Store {
    let Revocation { rules, fetch, .. } = &profile.revocation;
    let urls: BTreeSet<&str> = match fetch {
        CrlFetch::Urls(urls) => urls.iter().map(|url| url.as_str()).collect(),
        CrlFetch::Off | CrlFetch::DistributionPoints => BTreeSet::new(),
    };
    let is_source = |source: &str| {
        // No file is called like that: the configuration takes it for a slip of crl_fetch.
        let is_point = *fetch == CrlFetch::DistributionPoints && HttpUrl::parse(source).is_ok();
        is_point || urls.contains(source) || files.contains_key(source)
    };
    let Some(stores) = before.stores else { return Store::new(*rules) };
    let old = stores.get(&profile.name);
    let store = old.map_or_else(|| Store::new(*rules), |old| old.successor(*rules, is_source));
    // A CA that came from another profile, or a profile that was renamed: clients that are
    // connected don't show their intermediate CAs again, and still are to be looked up.
    let cas = anchors(profile).map(|ca| IssuerId::of(ca.subject().as_raw(), ca.public_key().raw));
    let cas: Vec<IssuerId> = cas.collect();
    for (_, other) in stores.iter().filter(|(_, other)| cas.iter().any(|ca| other.knows(ca))) {
        store.learn_from(other);
    }
    store
}

/// The profile's own CAs are known from the start, so that their CRLs needn't wait.
fn learn_anchors(store: &Store, profile: &TrustProfile) {
    for certificate in anchors(profile) {
        let usage = certificate.key_usage().ok().flatten();
        let may_sign_crls = usage.is_none_or(|usage| usage.value.crl_sign());
        let (name, spki) = (certificate.subject().as_raw(), certificate.public_key().raw);
        store.learn(name, spki, may_sign_crls);
    }
}

/// Every anchor was parsed when it was loaded; one that isn't would leave its CRL waiting.
fn anchors(profile: &TrustProfile) -> impl Iterator<Item = X509Certificate<'_>> {
    let parse = |ca| X509Certificate::from_der(ca).ok().map(|(_, certificate)| certificate);
    profile.ca.iter().filter_map(move |ca| parse(&ca.der))
}

/// What an operator should know of a CRL from a file.
fn doubt(offered: &Offered) -> Option<&str> {
    match offered {
        Offered::InUse | Offered::Same => None,
        Offered::NotYet { .. } => Some("its thisUpdate lies in the future; look at the clocks"),
        Offered::Waiting { why }
        | Offered::Older { why }
        | Offered::Unverified { why }
        | Offered::Refused { why } => Some(why),
    }
}
