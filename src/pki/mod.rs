//! A small certificate authority, for first steps, the demo and tests: CAs, intermediates, the
//! certificates of servers and clients, and revocation lists, written as PEM files.
//!
//! It keeps no state and checks no policy: whoever holds an [`Authority`] may issue what it likes.
//! It is for throw-away trust, not a replacement for a real CA.

mod authority;
mod crl;
mod error;
pub mod files;
mod key;
mod spec;
#[cfg(test)]
mod tests;

pub use authority::{Authority, Identity};
pub use crl::{CrlSpec, Reason, Scope, SignedCrl};
pub use error::PkiError;
pub use key::KeyType;
pub use spec::{CLOCK_SKEW, Spec, Validity};
