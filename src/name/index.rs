//! Patterns that are found by the name they match, without a look at all of them.

use std::{
    collections::{BTreeSet, HashMap},
    iter,
};

use super::{NamePattern, Pattern, PeerName, ip::Network, uri};

/// Patterns, each with a value of the caller's. A search costs a few look-ups, one for each label,
/// path segment, or prefix length in use, however many patterns there are.
///
/// This works because patterns are laminar: whatever contains a name is one of its ancestors.
#[derive(Debug, Clone)]
pub struct PatternIndex<T> {
    /// DNS names and URIs, whose texts have nothing in common.
    exact: HashMap<Box<str>, Vec<T>>,
    /// Exact DNS names by what follows their first label.
    by_parent: HashMap<Box<str>, Vec<T>>,
    /// DNS subtrees by their domain, SPIFFE subtrees by their prefix, which ends in a slash.
    below: HashMap<Box<str>, Vec<T>>,
    any_dns: Vec<T>,
    networks: HashMap<Network, Vec<T>>,
    /// The prefix lengths of these networks, in bits.
    prefixes: BTreeSet<u8>,
}

impl<T> Default for PatternIndex<T> {
    fn default() -> Self {
        Self {
            exact: HashMap::new(),
            by_parent: HashMap::new(),
            below: HashMap::new(),
            any_dns: Vec::new(),
            networks: HashMap::new(),
            prefixes: BTreeSet::new(),
        }
    }
}

impl<T: Copy> PatternIndex<T> {
    /// Adds a pattern. The same one may be there several times, each with its value.
    pub fn insert(&mut self, pattern: &NamePattern, value: T) {
        let values = match &pattern.0 {
            Pattern::Dns(name) => {
                if let Some(parent) = name.parent() {
                    self.by_parent.entry(parent.into()).or_default().push(value);
                }
                self.exact.entry(name.as_str().into()).or_default()
            }
            Pattern::Uri(uri) => self.exact.entry(uri.as_str().into()).or_default(),
            Pattern::DnsBelow(base) => self.below.entry(base.as_str().into()).or_default(),
            Pattern::SpiffeBelow(prefix) => self.below.entry(prefix.clone()).or_default(),
            Pattern::AnyDns => &mut self.any_dns,
            Pattern::Network(network) => {
                self.prefixes.insert(network.prefix_bits());
                self.networks.entry(*network).or_default()
            }
        };
        values.push(value);
    }

    /// Shows `visit` the value of each pattern that [matches](NamePattern::matches) `name`,
    /// those of the narrowest pattern first, until it gives something.
    pub fn matching<R>(&self, name: &PeerName, mut visit: impl FnMut(T) -> Option<R>) -> Option<R> {
        let visit = &mut visit;
        match name {
            PeerName::Dns(name) => self.around_name(name.as_str(), visit),
            PeerName::DnsWildcard(parent) => self.around_domain(Some(parent.as_str()), visit),
            PeerName::Uri(uri) => self.around_uri(uri.as_str(), visit),
            PeerName::Ip(address) => self.around_network(&Network::of(*address), visit),
        }
    }

    /// Shows `visit` the value of each pattern that [touches](NamePattern::touches) `name`, until
    /// it gives something.
    pub fn touching<R>(&self, name: &PeerName, mut visit: impl FnMut(T) -> Option<R>) -> Option<R> {
        let could_stand_for = match name {
            PeerName::DnsWildcard(parent) => self.by_parent.get(parent.as_str()),
            _ => None,
        };
        values(could_stand_for, &mut visit).or_else(|| self.matching(name, visit))
    }

    /// Shows `visit` the value of each pattern that `pattern` [is within](NamePattern::is_within),
    /// those of the narrowest first, until it gives something.
    pub fn containing<R>(
        &self,
        pattern: &NamePattern,
        mut visit: impl FnMut(T) -> Option<R>,
    ) -> Option<R> {
        let visit = &mut visit;
        match &pattern.0 {
            Pattern::Dns(name) => self.around_name(name.as_str(), visit),
            Pattern::DnsBelow(base) => self.around_domain(Some(base.as_str()), visit),
            Pattern::AnyDns => self.around_domain(None, visit),
            Pattern::Uri(uri) => self.around_uri(uri.as_str(), visit),
            Pattern::SpiffeBelow(prefix) => self.around_prefixes(prefix, visit),
            Pattern::Network(network) => self.around_network(network, visit),
        }
    }

    fn around_name<R>(&self, name: &str, visit: &mut impl FnMut(T) -> Option<R>) -> Option<R> {
        let parent = name.split_once('.').map(|(_, parent)| parent);
        values(self.exact.get(name), visit).or_else(|| self.around_domain(parent, visit))
    }

    /// Subtrees of the domain and of its ancestors.
    fn around_domain<R>(
        &self,
        domain: Option<&str>,
        visit: &mut impl FnMut(T) -> Option<R>,
    ) -> Option<R> {
        iter::successors(domain, |domain| domain.split_once('.').map(|(_, parent)| parent))
            .find_map(|domain| values(self.below.get(domain), visit))
            .or_else(|| values(Some(&self.any_dns), visit))
    }

    fn around_uri<R>(&self, uri: &str, visit: &mut impl FnMut(T) -> Option<R>) -> Option<R> {
        let around = |visit| match uri.rfind('/') {
            Some(slash) if uri::is_spiffe(uri) => self.around_prefixes(&uri[..=slash], visit),
            _ => None,
        };
        values(self.exact.get(uri), visit).or_else(|| around(visit))
    }

    /// The SPIFFE subtree of the prefix, which ends in a slash, and those around it.
    fn around_prefixes<R>(
        &self,
        prefix: &str,
        visit: &mut impl FnMut(T) -> Option<R>,
    ) -> Option<R> {
        iter::successors(Some(prefix), |prefix| {
            let path = prefix.strip_suffix('/')?;
            Some(&path[..=path.rfind('/')?])
        })
        .find_map(|prefix| values(self.below.get(prefix), visit))
    }

    fn around_network<R>(
        &self,
        network: &Network,
        visit: &mut impl FnMut(T) -> Option<R>,
    ) -> Option<R> {
        let around = self.prefixes.range(..=network.prefix_bits()).rev();
        around
            .map(|bits| network.widened_to(*bits))
            .find_map(|wider| values(self.networks.get(&wider), visit))
    }
}

fn values<T: Copy, R>(found: Option<&Vec<T>>, visit: &mut impl FnMut(T) -> Option<R>) -> Option<R> {
    found?.iter().find_map(|value| visit(*value))
}
