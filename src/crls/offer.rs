//! What a store said of the CRLs of one source.

use rustls_pki_types::UnixTime;

use crate::{
    config::Crls,
    metrics::{CrlFetchResult, CrlFileResult},
    revocation::{Crl, CrlState, Offered, Store},
};

/// What a store said of the CRLs of one source.
#[derive(Debug)]
pub(super) struct Taken {
    /// The first one that isn't used: which kind of problem, and why.
    pub(super) problem: Option<(Problem, String)>,
    /// Whether the signature of one of them is verified.
    pub(super) is_verified: bool,
}

/// Why a CRL that can be read isn't used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Problem {
    /// No key of its issuer's name verifies it.
    BadSignature,
    /// A newer one is in use.
    Older,
    /// There is no room for it.
    Refused,
}

impl Problem {
    /// How it is counted where it was fetched.
    pub(super) const fn of_fetch(self) -> CrlFetchResult {
        match self {
            Self::BadSignature => CrlFetchResult::BadSignature,
            Self::Older => CrlFetchResult::Older,
            Self::Refused => CrlFetchResult::Refused,
        }
    }

    /// How it is counted where it came from a file.
    pub(super) const fn of_file(self) -> CrlFileResult {
        match self {
            Self::BadSignature => CrlFileResult::BadSignature,
            Self::Older => CrlFileResult::Older,
            Self::Refused => CrlFileResult::Refused,
        }
    }
}

/// Offers what a source holds to a store.
pub(super) fn offer(store: &Store, source: &str, crls: &Crls, now: UnixTime) -> Taken {
    let offered = store.offer(source, crls.to_vec(), now);
    let mut taken = Taken { problem: None, is_verified: false };
    for (crl, offered) in crls.iter().zip(offered) {
        taken.is_verified |= match &offered {
            Offered::Same => is_verified(store, crl),
            offered => offered.is_verified(),
        };
        let problem = match offered {
            Offered::InUse | Offered::Same | Offered::NotYet { .. } | Offered::Waiting { .. } => {
                continue;
            }
            Offered::Older { why } => (Problem::Older, why),
            Offered::Unverified { why } => (Problem::BadSignature, why),
            Offered::Refused { why } => (Problem::Refused, why),
        };
        taken.problem.get_or_insert(problem);
    }
    taken
}

/// Whether the store has verified the CRL, and keeps it.
pub(super) fn is_verified(store: &Store, crl: &Crl) -> bool {
    let is_it = |found: &Crl| found.digest() == crl.digest();
    store.status().iter().any(|it| it.state != CrlState::Waiting && is_it(&it.crl))
}
