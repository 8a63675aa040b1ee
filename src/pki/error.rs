//! What can go wrong.

use time::OffsetDateTime;

use super::files::{self, FileError};

/// Why a certificate or CRL wasn't made or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PkiError {
    /// A name that can't stand in a certificate.
    #[error("{name:?} can't stand in a certificate: use ASCII, A-labels for international names")]
    Name {
        /// The name.
        name: String,
    },
    /// A validity that ends before it starts, or a year that a certificate can't carry.
    #[error(
        "a validity from {not_before} to {not_after} is none: give years 1950 to 9999 in order"
    )]
    Validity {
        /// Its start.
        not_before: OffsetDateTime,
        /// Its end.
        not_after: OffsetDateTime,
    },
    /// A serial number that isn't one (RFC 5280 §4.1.2.2).
    #[error("a serial number has 1 to 20 octets and is greater than zero")]
    Serial,
    /// A CA that may have no CA below it was asked to issue one (RFC 5280 §4.2.1.9).
    #[error("this CA's path length allows no CA below it")]
    PathLength,
    /// What was read is no CA's certificate and key.
    #[error("this is no CA that can be used: {0}")]
    NoAuthority(String),
    /// A file wasn't read.
    #[error(transparent)]
    Read(#[from] files::ReadError),
    /// The operating system's source of randomness failed.
    #[error("no random number for a serial number")]
    Random,
    /// Key generation or signing failed.
    #[error("making a key or a signature failed: {0}")]
    Crypto(#[from] rcgen::Error),
    /// A file wasn't written.
    #[error(transparent)]
    File(#[from] FileError),
}
