//! Who a peer is, and whether it may come in: the decision at the heart of the product.
//!
//! A listener compiles its peer sets into a [`Policy`]. When the TLS handshake has proved that
//! the client holds the key of the certificate that it showed, [`Policy::decide`] takes the chain
//! and the time and answers with a [`Permit`] or with [`Refused`]. Nothing else makes a permit,
//! and nothing is dialled without one.
//!
//! The decision is pure: no I/O, no clock, no state that changes. The same chain at the same time
//! gives the same answer. It goes from cheap to dear, so that strangers cost little:
//!
//! 1. The presented chain is capped (count, bytes, certificates of one subject) and parsed
//!    strictly; what the leaf says about itself is its [`Identity`].
//! 2. Blocked names are refused, then keys and key usages that can't do what is needed.
//! 3. Paths to the anchors are searched (RFC 5280 §6.1). What a path proves is judged: an anchor
//!    belongs to one or more trust profiles, and a path that its anchor's profiles don't admit is
//!    set aside and the search goes on, so that a cross-signed CA leads to the profile that does
//!    admit it.
//! 4. The first path that a peer set admits is the permit. If none is, the refusal is the one
//!    that came furthest: it tells most about what is wrong.
//!
//! The judgement needs the proof alone, not the certificates. So a permit can be
//! [decided again](Policy::decide_again) at any later time and under another configuration
//! without a signature being verified: for a chain that comes back, for a session that is
//! resumed, and for connections that are open.
//!
//! Whoever wants to know why gets it [explained](Policy::explain) by the very same code.
//!
//! Validity is inclusive at both ends (RFC 5280 §4.1.2.5): a certificate is good in the very
//! second of its notBefore and of its notAfter.

mod advice;
mod certificate;
mod dn;
mod explanation;
mod identity;
mod judge;
mod nearest;
mod partners;
mod path;
mod permit;
mod policy;
mod presented;
mod proof;
mod refusal;
mod rules;
#[cfg(test)]
mod tests;
mod verification;
mod verified;
mod witness;

pub use certificate::{KeyAlgorithm, MalformedCertificate};
pub use explanation::{Alert, Contents, Explanation, Shown, Verdict};
pub use identity::Identity;
pub use permit::{Peer, Permit};
pub use policy::{Policy, PolicyError};
pub use refusal::{Refusal, Refused};
pub use witness::{Check, Link, Step};
