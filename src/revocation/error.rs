//! Why a CRL isn't taken.

/// Why a CRL can't be used at all, whoever signed it. What its signature and its age say comes
/// later, as an [`Offered`](super::Offered).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CrlError {
    /// Larger than [`MAX_CRL_BYTES`](super::MAX_CRL_BYTES), or a file larger than twice that.
    #[error("it has {bytes} bytes, and at most {limit} are read")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit that it exceeds.
        limit: usize,
    },
    /// More than [`MAX_ENTRIES`](super::MAX_ENTRIES).
    #[error("it has more than {0} entries")]
    TooManyEntries(usize),
    /// More CRLs in one file than are read.
    #[error("the file has more than {0} CRLs")]
    TooManyCrls(usize),
    /// Neither DER nor PEM with a CRL in it.
    #[error("there is no CRL in it, neither in DER nor as `X509 CRL` in PEM")]
    NoCrl,
    /// A broken PEM section.
    #[error("its PEM can't be read: {0}")]
    Pem(String),
    /// Not DER, or not what RFC 5280 §5.1 says; with the part that is wrong.
    #[error("it is malformed: {0}")]
    Malformed(&'static str),
    /// Version 1 has no extensions: nothing would tell its scope (RFC 5280 §5.1.2.1).
    #[error("it isn't of version 2; ask its CA for one as RFC 5280 wants it")]
    Version,
    /// The signed and the unsigned algorithm identifier differ (RFC 5280 §5.1.1.2).
    #[error("it names two different signature algorithms")]
    AlgorithmsDiffer,
    /// Signed with what isn't accepted for certificates either.
    #[error("it is signed with an algorithm that isn't accepted (SHA-1, perhaps)")]
    UnsupportedAlgorithm,
    /// Signed with an algorithm that takes the whole message, and larger than is kept for that.
    #[error(
        "it has {bytes} bytes; with Ed25519 or ML-DSA at most {limit} are kept to verify, use ECDSA or RSA"
    )]
    TooLargeToKeep {
        /// Size of what is signed.
        bytes: usize,
        /// The limit that it exceeds.
        limit: usize,
    },
    /// Without it nobody could tell when it is stale (RFC 5280 §5.1.2.5).
    #[error("it has no nextUpdate, so nothing says how long it holds")]
    NoNextUpdate,
    /// nextUpdate isn't after thisUpdate.
    #[error("its nextUpdate isn't later than its thisUpdate")]
    EndsBeforeItBegins,
    /// deltaCRLIndicator (RFC 5280 §5.2.4).
    #[error("it is a delta CRL, which isn't supported; use the complete one")]
    Delta,
    /// indirectCRL, or an entry with certificateIssuer (RFC 5280 §5.2.5, §5.3.3).
    #[error("it is an indirect CRL, with entries of other CAs, which isn't supported")]
    Indirect,
    /// onlySomeReasons (RFC 5280 §5.2.5).
    #[error(
        "it covers only some reasons of revocation, which isn't supported; use the complete one"
    )]
    SomeReasons,
    /// onlyContainsAttributeCerts (RFC 5280 §5.2.5).
    #[error("it is about attribute certificates, which TLS doesn't use")]
    AttributeCertificates,
    /// Its issuingDistributionPoint can match no certificate here (RFC 5280 §5.2.5).
    #[error("its issuing distribution point is named by no URI, so that no certificate matches it")]
    ScopeWithoutUri,
    /// An entry with the reason removeFromCRL, which only delta CRLs may have (RFC 5280 §5.3.1).
    #[error("an entry has the reason removeFromCRL, which only a delta CRL may have")]
    RemoveFromCrl,
    /// A critical extension of the CRL that isn't understood, in dotted form (RFC 5280 §5.2).
    #[error("it has the critical extension {0}, which isn't understood")]
    UnknownCriticalExtension(String),
    /// The same, of an entry (RFC 5280 §5.3).
    #[error("an entry has the critical extension {0}, which isn't understood")]
    UnknownCriticalEntryExtension(String),
}
