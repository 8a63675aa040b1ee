//! The rules of a policy, one for each peer set, and the names that they mention. Names are
//! indexed: a decision costs the same whether a set lists ten of them or ten thousand.

use std::sync::Arc;

use super::{Identity, policy::Anchor};
use crate::{
    config::{KeyPin, PeerSet, TrustProfile},
    name::{PatternIndex, PeerName},
    revocation::Store,
};

/// A peer set, bound to its profile.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) set: Arc<PeerSet>,
    /// The CRLs of its profile.
    pub(super) crls: Arc<Store>,
}

/// An entry in a list of names of a rule's peer set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// Index of the rule.
    pub(super) rule: usize,
    /// Index in the list.
    pub(super) pattern: usize,
}

/// A name of a client's, and the entry that lists it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim<'a> {
    pub(super) name: &'a PeerName,
    pub(super) entry: Entry,
}

/// A client, by the names that can be listed.
#[derive(Debug)]
pub(super) struct Client<'a> {
    pub(super) identity: &'a Identity,
    /// Counts for want of a subjectAltName, where the profile says so.
    common_name: Option<PeerName>,
}

impl<'a> Client<'a> {
    pub(super) fn of(identity: &'a Identity) -> Self {
        let common_name = identity.common_name_as_dns().filter(|_| identity.names().is_empty());
        Self { identity, common_name: common_name.cloned().map(PeerName::Dns) }
    }

    pub(super) fn names(&self) -> &[PeerName] {
        match &self.common_name {
            Some(name) => std::slice::from_ref(name),
            None => self.identity.names(),
        }
    }
}

/// All rules of a policy, in the order of the listener's `peers`.
#[derive(Debug, Default)]
pub(super) struct Rules {
    all: Vec<Rule>,
    /// For each rule the first one of its profile, which stands for the profile below.
    profiles: Vec<usize>,
    names: PatternIndex<Entry>,
    blocked: PatternIndex<Entry>,
    /// What CAs may vouch for, by profile.
    vouched_for: PatternIndex<usize>,
    /// Names that aren't for the discovered peers of a rule, by that rule and the index of their
    /// profile among those that it leaves alone.
    reserved: PatternIndex<(usize, usize)>,
    has_pins: bool,
}

impl Rules {
    /// Adds a rule behind the others.
    pub(super) fn push(&mut self, rule: Rule) {
        let (number, set) = (self.all.len(), &rule.set);
        let known = self.all.iter().position(|other| Arc::ptr_eq(&other.set.trust, &set.trust));
        if known.is_none() {
            for name in &set.trust.names {
                self.vouched_for.insert(name, number);
            }
        }
        self.profiles.push(known.unwrap_or(number));
        let entry = |pattern| Entry { rule: number, pattern };
        for (index, name) in set.names.iter().enumerate() {
            self.names.insert(name, entry(index));
        }
        for (index, name) in set.blocked.iter().enumerate() {
            self.blocked.insert(name, entry(index));
        }
        let reserved = set.discovered.iter().flat_map(|discovered| &discovered.reserved);
        for (index, profile) in reserved.enumerate() {
            for name in &profile.names {
                self.reserved.insert(name, (number, index));
            }
        }
        self.has_pins |= !set.pins.is_empty();
        self.all.push(rule);
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Rule> {
        self.all.iter()
    }

    pub(super) fn get(&self, number: usize) -> &Rule {
        &self.all[number]
    }

    /// The first name of the client's that could pass for a blocked one, and the entry that blocks
    /// it.
    pub(super) fn blocking<'a>(&self, client: &'a Identity) -> Option<(&'a PeerName, Entry)> {
        client.all_names().find_map(|name| {
            let entry = self.blocked.touching(name, Some)?;
            Some((name, entry))
        })
    }

    /// By what the client is listed, for the CAs of the anchor's profiles, in the order of the
    /// rules. Of several entries of one profile for one name the narrowest counts alone.
    pub(super) fn claims<'a>(&self, client: &'a Client<'_>, anchor: &Anchor) -> Vec<Claim<'a>> {
        let mut claims: Vec<Claim<'a>> = Vec::new();
        for name in client.names() {
            let first = claims.len();
            self.names.matching(name, |entry| {
                let is_another = |other: &Claim<'_>| !self.is_same_profile(other.entry, entry.rule);
                if anchor.is_bound_to(self.get(entry.rule))
                    && claims[first..].iter().all(is_another)
                    && self.may_list(client, name, entry)
                {
                    claims.push(Claim { name, entry });
                }
                None::<()>
            });
        }
        claims.sort_by_key(|claim| claim.entry.rule);
        claims
    }

    /// A name of the client's that is listed for other CAs than the anchor.
    pub(super) fn listed_elsewhere<'a>(
        &self,
        client: &'a Client<'_>,
        anchor: &Anchor,
    ) -> Option<Claim<'a>> {
        client.names().iter().find_map(|name| {
            self.names.matching(name, |entry| {
                let rule = self.get(entry.rule);
                let counts = rule.set.discovered.is_none()
                    && !anchor.is_bound_to(rule)
                    && self.may_list(client, name, entry);
                counts.then_some(Claim { name, entry })
            })
        })
    }

    /// A profile that one of the client's names is for, so that no rule for discovered peers may
    /// admit it: neither by that name nor by another one. What the certificate says is handed to
    /// the backend whole.
    pub(super) fn reserving<'a>(
        &self,
        number: usize,
        client: &'a Identity,
    ) -> Option<(&'a PeerName, &Arc<TrustProfile>)> {
        let discovered = self.get(number).set.discovered.as_ref()?;
        client.all_names().find_map(|name| {
            let profile = self.reserved.touching(name, |(rule, profile)| {
                (rule == number).then(|| &discovered.reserved[profile])
            })?;
            Some((name, profile))
        })
    }

    /// A name of the client's that another profile's CAs vouch for, and none of the anchor's
    /// profiles lists: a partner's CA can't speak for another partner, nor for us, beside a name
    /// of its own either. Profiles for discovered peers are neither.
    pub(super) fn foreign<'a>(
        &self,
        client: &'a Identity,
        anchor: &Anchor,
    ) -> Option<(&'a PeerName, &Arc<TrustProfile>)> {
        client.all_names().find_map(|name| {
            let profile_of = |rule| Some(&self.get(rule).set.trust);
            let closed = |rule| profile_of(rule).filter(|profile| !profile.vouches_for_any());
            let own = |rule| closed(rule).filter(|profile| anchor.is_of(profile));
            let other = |rule| closed(rule).filter(|profile| !anchor.is_of(profile));
            let profile = self.vouched_for.touching(name, other)?;
            self.vouched_for.matching(name, own).is_none().then_some((name, profile))
        })
    }

    /// A name of the client's whose peer set, in any profile of the anchor's, pins other keys. A
    /// wildcard in a certificate counts for each exact name that it could stand for.
    pub(super) fn pinned_otherwise<'a>(
        &self,
        client: &'a Client<'_>,
        anchor: &Anchor,
        key: KeyPin,
    ) -> Option<Claim<'a>> {
        if !self.has_pins {
            return None;
        }
        client.names().iter().find_map(|name| {
            // Profiles of which a narrower entry was met: their wider ones don't count.
            let mut met: Vec<usize> = Vec::new();
            self.names.touching(name, |entry| {
                let (profile, set) = (self.profiles[entry.rule], &self.get(entry.rule).set);
                if met.contains(&profile) || !anchor.is_of(&set.trust) {
                    return None;
                }
                if !set.pins.is_empty() && !set.pins.contains(&key) {
                    return Some(Claim { name, entry });
                }
                if set.names[entry.pattern].matches(name) {
                    met.push(profile);
                }
                None
            })
        })
    }

    fn is_same_profile(&self, entry: Entry, rule: usize) -> bool {
        self.profiles[entry.rule] == self.profiles[rule]
    }

    /// Whether the CAs of the entry's rule may vouch for the name, and the name counts there.
    fn may_list(&self, client: &Client<'_>, name: &PeerName, entry: Entry) -> bool {
        let counts = client.common_name.is_none() || self.get(entry.rule).set.trust.common_name;
        let profile = self.profiles[entry.rule];
        let vouched_for =
            || self.vouched_for.matching(name, |other| (other == profile).then_some(()));
        counts && vouched_for().is_some()
    }
}
