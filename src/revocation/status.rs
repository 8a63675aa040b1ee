//! What a store says about its CRLs.

use std::sync::Arc;

use rustls_pki_types::UnixTime;

use super::Crl;

/// What became of a CRL that was offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offered {
    /// Its signature verified, and it is the newest of its issuer and scope: in use from now on.
    InUse,
    /// It is the one in use already, or the one that will be.
    Same,
    /// As [`InUse`](Self::InUse), but its thisUpdate lies in the future: in use from then on.
    NotYet {
        /// thisUpdate
        from: UnixTime,
    },
    /// Its CA isn't known yet, or may not sign CRLs as far as known: kept aside until it is.
    Waiting {
        /// Which of the two.
        why: String,
    },
    /// Its signature verified, but a newer one is in use, which stays.
    Older {
        /// What the newer one is.
        why: String,
    },
    /// Its signature doesn't verify with any key known of its issuer's name. Kept aside all the
    /// same, for another CA of that name; it counts for nothing.
    Unverified {
        /// Whose key was tried.
        why: String,
    },
    /// There is no room for it.
    Refused {
        /// Which limit is reached.
        why: String,
    },
}

impl Offered {
    /// Whether its signature verified, now or earlier.
    pub const fn is_verified(&self) -> bool {
        matches!(self, Self::InUse | Self::Same | Self::NotYet { .. } | Self::Older { .. })
    }
}

/// What a CRL counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CrlState {
    /// Verified, and the newest of its issuer and scope.
    InUse,
    /// Verified; its thisUpdate lay in the future when it was offered.
    NotYet,
    /// Not verified: its issuer isn't known, or is known with other keys only.
    Waiting,
}

/// A CRL of a store, for metrics and the log.
#[derive(Debug, Clone)]
pub struct CrlStatus {
    /// The CRL.
    pub crl: Arc<Crl>,
    /// Where it came from.
    pub source: Arc<str>,
    /// What it counts for.
    pub state: CrlState,
}
