//! What is asked, by which rules, and what the answer may be.

use std::time::Duration;

use rustls_pki_types::UnixTime;

use super::{IssuerId, Reason};

/// One certificate of a verified path, as a CRL sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Who issued it.
    pub issuer: IssuerId,
    /// The octets of its serial number, with or without leading zeros.
    pub serial: Box<[u8]>,
    /// Whether it is a CA's by its basic constraints.
    pub is_ca: bool,
    /// The URIs of its cRLDistributionPoints (fullName; RFC 5280 §4.2.1.13).
    pub distribution_points: Box<[Box<str>]>,
}

/// Whether revocation is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// Not at all.
    #[default]
    Off,
    /// A certificate for which its issuer has no CRL passes. All else is as in
    /// [`Require`](Self::Require): a CRL that is stale, or not in use before a time to come, is a
    /// doubt.
    Prefer,
    /// Each certificate needs a CRL that speaks for it.
    Require,
}

/// What a CRL counts for after its nextUpdate and the grace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Stale {
    /// Nothing: what it doesn't list isn't known to be good.
    #[default]
    Refuse,
    /// The same as before.
    Accept,
}

/// The rules of a trust profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Rules {
    /// Whether revocation is looked at.
    pub mode: Mode,
    /// What becomes of CRLs that are out of date.
    pub stale: Stale,
    /// How long after nextUpdate that begins; whole seconds count.
    pub grace: Duration,
}

/// The answer about a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing against it.
    Good {
        /// The last second for which this holds, unless the [epoch](super::Store::epoch) changes;
        /// `None` if nothing known now ends it.
        until: Option<UnixTime>,
    },
    /// It can't be admitted.
    Bad(Problem),
}

/// Why a path can't be admitted. `link` is the index of the certificate among those asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// Its CA has revoked it.
    Revoked {
        /// Which certificate.
        link: usize,
        /// revocationDate; see [`Revocation::at`](super::Revocation::at).
        at: UnixTime,
        /// What the CA gives as reason.
        reason: Reason,
    },
    /// No CRL that may be used speaks for it.
    Unknown {
        /// Which certificate.
        link: usize,
        /// Why, and what to do.
        why: String,
    },
    /// The CRL that speaks for it is out of date.
    Stale {
        /// Which certificate.
        link: usize,
        /// The nextUpdate of the latest such CRL.
        since: UnixTime,
    },
}
