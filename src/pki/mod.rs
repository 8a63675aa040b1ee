//! A small certificate authority, for first steps, the demo and tests: CAs, intermediates, the
//! certificates of servers and clients, and revocation lists, written as PEM files.
//!
//! An [`Authority`] keeps no state and checks no policy: whoever holds one may issue what it
//! likes. A [`folder::Folder`] keeps one on the disk, with a list of what it has issued and
//! revoked; it is what `countersign pki` works on. Both are for throw-away trust, not a
//! replacement for a real CA.

mod authority;
mod crl;
mod error;
pub mod files;
pub mod folder;
mod index;
mod key;
mod spec;
#[cfg(test)]
mod tests;

pub use authority::{Authority, Identity};
pub use crl::{CrlSpec, Reason, Scope, SignedCrl};
pub use error::PkiError;
pub use key::KeyType;
pub use spec::{CLOCK_SKEW, Spec, Validity};
