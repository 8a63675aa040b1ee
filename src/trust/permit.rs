//! The proof that a peer may come in.

use std::sync::Arc;

use rustls_pki_types::UnixTime;

use super::{Identity, proof::Proof};
use crate::{
    config::PeerSet,
    name::{NamePattern, PeerName},
};

/// The right to be connected to the backend. Only a [`Policy`](super::Policy) makes one.
///
/// An anonymous one takes one word; any other one shares its allocation with all connections
/// that show the same chain.
#[derive(Debug, Clone)]
pub struct Permit(Option<Arc<Peer>>);

impl Permit {
    pub(super) fn anonymous() -> Self {
        Self(None)
    }

    pub(super) fn granted(peer: Peer) -> Self {
        Self(Some(Arc::new(peer)))
    }

    /// Who was let in; `None` is an anonymous client of a listener that allows them.
    pub fn peer(&self) -> Option<&Peer> {
        self.0.as_deref()
    }

    /// The last second in which it holds: see [`Peer::valid_until`]. An anonymous one has no end.
    pub fn valid_until(&self) -> Option<UnixTime> {
        self.peer().map(Peer::valid_until)
    }
}

/// A trusted server that was let in, and why.
#[derive(Debug)]
pub struct Peer {
    pub(super) set: Arc<PeerSet>,
    /// Index into the names of the set.
    pub(super) pattern: usize,
    pub(super) matched_name: PeerName,
    pub(super) anchor_subject: Arc<str>,
    pub(super) valid_until: UnixTime,
    pub(super) proof: Arc<Proof>,
}

impl Peer {
    /// NAME of the `[peers.NAME]` that admits it.
    pub fn peer_set(&self) -> &Arc<str> {
        &self.set.name
    }

    /// NAME of the `[trust.NAME]` whose CA vouches for it.
    pub fn profile(&self) -> &Arc<str> {
        &self.set.trust.name
    }

    /// The name of its certificate that is listed.
    pub fn matched_name(&self) -> &PeerName {
        &self.matched_name
    }

    /// The entry of the peer set that lists it.
    pub fn matched_pattern(&self) -> &NamePattern {
        &self.set.names[self.pattern]
    }

    /// The subject of the trust anchor at the end of its path, in the form of
    /// [`Identity::subject`].
    pub fn anchor_subject(&self) -> &str {
        &self.anchor_subject
    }

    /// The last second in which every certificate of its path is valid, the anchor's included.
    /// Before that the policy may think otherwise: names may be blocked, certificates revoked.
    pub fn valid_until(&self) -> UnixTime {
        self.valid_until
    }

    /// Who its certificate says it is.
    pub fn identity(&self) -> &Identity {
        &self.proof.identity
    }
}
