//! Which certificates their CAs have revoked: CRLs (RFC 5280 §5) read, indexed, verified and asked.
//!
//! A [`Crl`] is read once from its DER: strictly, in one pass, into an index of serial numbers that
//! answers in well under a microsecond and costs some 26 bytes an entry. What it says counts for
//! nothing until its signature is verified, and for that the key of its CA has to be known.
//!
//! A [`Store`] holds the CRLs of one trust profile. It [learns](Store::learn) the CAs whose keys are
//! proved: the profile's own, and each intermediate one of a path whose signatures verified. It is
//! [offered](Store::offer) CRLs by those who read files and fetch URLs. Whichever comes first, the
//! CRL waits for its CA; each pair of the two is tried once. The digest that is signed was computed
//! when the CRL was read, so that trying costs one signature verification and not another pass over
//! tens of megabytes.
//!
//! An issuer is a name *and* a key ([`IssuerId`]): two CAs of one name never answer for each other.
//! Of several CRLs of one issuer and one scope (`scope`) the newest counts, from wherever it comes;
//! what is older, forged or half never replaces it. CRLs of different scopes count side by side.
//!
//! [`Store::check`] looks every certificate of a verified path up. It takes no lock: what is known is
//! an immutable snapshot. "Revoked" wins over every doubt elsewhere in the path, also if the CRL
//! that says so is stale; then the first doubt from the peer's end counts.
//!
//! Refused, each with its reason: version 1, delta and indirect CRLs, those for some reasons or for
//! attribute certificates only, those without nextUpdate, and critical extensions that aren't
//! understood. Nothing here does I/O or reads a clock.

mod algorithms;
mod crl;
mod der;
mod error;
mod index;
mod rules;
mod scope;
mod shelf;
mod status;
mod store;
mod stores;
#[cfg(test)]
mod tests;
mod verify;
mod waiting;

pub use crl::{Crl, CrlNumber, MAX_CRL_BYTES, MAX_ENTRIES, parse_all};
pub use error::CrlError;
pub use index::{Reason, Revocation};
pub use rules::{Link, Mode, Problem, Rules, Stale, Verdict};
pub use status::{CrlState, CrlStatus, Offered};
pub use store::Store;
pub use stores::Stores;
pub use verify::IssuerId;
