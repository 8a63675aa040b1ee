//! What only a full handshake does needs a place among the full handshakes in flight.
//!
//! rustls looks a client's session up before it agrees on keys, and says nothing of what came of
//! it. Two of its calls do:
//!
//! - the key agreement: unless our own tickets have accepted a session of TLS 1.3 just before,
//!   there is none to resume, and the handshake is a full one. It is the first asymmetric
//!   cryptography of a handshake, so nothing has been spent on it that counts;
//! - the choice of the scheme of our signature, which a resumed handshake doesn't make: rustls may
//!   turn down what our tickets have accepted (for another suite, say), and this is where such a
//!   handshake is held to the budget too.
//!
//! Whoever only claims to resume is therefore held to the budget of full handshakes as everybody
//! else is.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::{
    Error, NamedGroup, ProtocolVersion, SignatureAlgorithm, SignatureScheme,
    crypto::{ActiveKeyExchange, CompletedKeyExchange, SupportedKxGroup},
    ffdhe_groups::FfdheGroup,
    sign::{CertifiedKey, Signer, SigningKey},
};
use rustls_pki_types::SubjectPublicKeyInfoDer;

use super::context;

type Group = &'static dyn SupportedKxGroup;

/// `group`, for handshakes that have a place.
pub(super) fn held_to_budget(group: Group) -> Group {
    /// Made once for each group there is, since rustls wants them to last.
    static GUARDED: Mutex<Vec<&'static GuardedGroup>> = Mutex::new(Vec::new());
    let mut all = GUARDED.lock().unwrap_or_else(PoisonError::into_inner);
    let same = |known: &&&GuardedGroup| {
        known.0.name() == group.name() && std::ptr::addr_eq(known.0, group)
    };
    if let Some(known) = all.iter().find(same) {
        return *known;
    }
    let guarded: &'static GuardedGroup = Box::leak(Box::new(GuardedGroup(group)));
    all.push(guarded);
    guarded
}

/// Our certificate and key, for handshakes that have a place.
pub(super) fn certificate_held_to_budget(certificate: &CertifiedKey) -> Arc<CertifiedKey> {
    let key = Arc::new(GuardedKey(certificate.key.clone()));
    Arc::new(CertifiedKey { key, ..certificate.clone() })
}

/// Takes a place for the handshake that rustls is at.
fn has_place() -> bool {
    let place = context::current(|context| context.place.clone()).flatten();
    place.is_none_or(|place| place.take_full())
}

#[derive(Debug)]
struct GuardedGroup(Group);

fn no_place() -> Error {
    Error::General("no place".into())
}

impl SupportedKxGroup for GuardedGroup {
    /// In TLS 1.2, whose resumed handshakes agree on no keys.
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        if !has_place() {
            return Err(no_place());
        }
        self.0.start()
    }

    /// In TLS 1.3, whose resumed handshakes do.
    fn start_and_complete(&self, peer: &[u8]) -> Result<CompletedKeyExchange, Error> {
        let resumes = context::current(|context| context.lineage.is_some()).unwrap_or(false);
        if !resumes && !has_place() {
            return Err(no_place());
        }
        self.0.start_and_complete(peer)
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        self.0.ffdhe_group()
    }

    fn name(&self) -> NamedGroup {
        self.0.name()
    }

    fn fips(&self) -> bool {
        self.0.fips()
    }

    fn usable_for_version(&self, version: ProtocolVersion) -> bool {
        self.0.usable_for_version(version)
    }
}

#[derive(Debug)]
struct GuardedKey(Arc<dyn SigningKey>);

impl SigningKey for GuardedKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        // Whatever session was accepted before, rustls has turned it down.
        context::current(|context| context.lineage = None);
        if has_place() { self.0.choose_scheme(offered) } else { None }
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        self.0.public_key()
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.0.algorithm()
    }
}

#[cfg(test)]
mod tests {
    use rustls::crypto::aws_lc_rs::kx_group::{SECP256R1, X25519};

    use super::*;

    #[test]
    fn each_group_is_wrapped_once_however_often_a_configuration_is_loaded() {
        let first = held_to_budget(X25519);
        assert!(std::ptr::addr_eq(first, held_to_budget(X25519)));
        assert!(!std::ptr::addr_eq(first, held_to_budget(SECP256R1)));
        assert_eq!(first.name(), NamedGroup::X25519);
    }
}
