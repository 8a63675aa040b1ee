//! The stores of a generation, by trust profile.

use std::{collections::BTreeMap, sync::Arc};

use super::{Mode, Rules, Store};

/// The CRLs of all trust profiles of one generation.
#[derive(Debug, Clone, Default)]
pub struct Stores(BTreeMap<Arc<str>, Arc<Store>>);

impl Stores {
    /// Stores for profiles of which none looks at revocation.
    pub fn off<'a>(profiles: impl IntoIterator<Item = &'a Arc<str>>) -> Self {
        let off = || Arc::new(Store::new(Rules { mode: Mode::Off, ..Rules::default() }));
        Self(profiles.into_iter().map(|name| (Arc::clone(name), off())).collect())
    }

    /// The store of a profile, if it has one.
    pub fn get(&self, profile: &str) -> Option<&Arc<Store>> {
        self.0.get(profile)
    }

    /// The store of a profile. Without one nobody knows what is revoked: then it is an empty one
    /// that answers for no certificate.
    pub fn of(&self, profile: &str) -> Arc<Store> {
        self.get(profile).cloned().unwrap_or_else(|| {
            Arc::new(Store::new(Rules { mode: Mode::Require, ..Rules::default() }))
        })
    }

    /// All of them, by the names of their profiles.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Store>)> {
        self.0.iter()
    }
}

impl From<BTreeMap<Arc<str>, Arc<Store>>> for Stores {
    fn from(stores: BTreeMap<Arc<str>, Arc<Store>>) -> Self {
        Self(stores)
    }
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::UnixTime;

    use super::*;
    use crate::revocation::{IssuerId, Link, Problem, Verdict};

    #[test]
    fn a_profile_without_a_store_has_no_answer_for_any_certificate() {
        let link = Link {
            issuer: IssuerId::of(b"name", b"key"),
            serial: [1].into(),
            is_ca: false,
            distribution_points: [].into(),
        };
        let verdict = Stores::default().of("contoso").check(&[link], UnixTime::now());
        assert!(matches!(verdict, Verdict::Bad(Problem::Unknown { link: 0, .. })), "{verdict:?}");
    }
}
