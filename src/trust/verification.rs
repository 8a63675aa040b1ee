//! webpki's terms in ours: the signature algorithms that count, and what its errors mean.

use std::sync::LazyLock;

use rustls_pki_types::{SignatureVerificationAlgorithm, UnixTime};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use webpki::Error;

use super::{Refusal, Refused, presented::Presented};

/// What certificates may be signed with: what the TLS stack verifies with, so no SHA-1, and no
/// RSA below 2048 bits.
pub(super) fn signature_algorithms() -> &'static [&'static dyn SignatureVerificationAlgorithm] {
    static ALGORITHMS: LazyLock<&'static [&'static dyn SignatureVerificationAlgorithm]> =
        LazyLock::new(|| {
            let all = rustls::crypto::aws_lc_rs::default_provider();
            let all = all.signature_verification_algorithms.all;
            #[cfg(test)]
            let all = super::tests::counted(all);
            all
        });
    &ALGORITHMS
}

/// Whether the search was given up, so that what was found until then proves nothing.
pub(super) fn is_exhausted(error: &Error) -> bool {
    refusal(error).0 == Refusal::PathTooComplex
}

/// The refusal that an error of the path search means.
pub(super) fn refused(error: &Error, presented: &Presented<'_>) -> Refused {
    let (reason, what) = refusal(error);
    match error {
        Error::CertExpired { not_after, .. } => {
            let which = subject_of(presented, |other| other.not_after == *not_after);
            Refused::new(reason, format!("{which} expired at {}", rfc3339(*not_after)))
        }
        Error::CertNotValidYet { not_before, .. } => {
            let which = subject_of(presented, |other| other.not_before == *not_before);
            Refused::new(reason, format!("{which} isn't valid before {}", rfc3339(*not_before)))
        }
        Error::UnknownIssuer => Refused::new(
            reason,
            format!(
                "the chain leads to the issuer {}, which is no CA that the listener admits (if it \
                 is an intermediate one, the client has to send its certificate)",
                presented.last_issuer()
            ),
        ),
        // A short key is refused by not verifying with it.
        Error::InvalidSignatureForPublicKey
            if presented.intermediates.iter().any(|other| other.key.is_weak()) =>
        {
            let which = subject_of(presented, |other| other.key.is_weak());
            Refused::new(Refusal::WeakKey, format!("{which} has an RSA key that is too short"))
        }
        _ => Refused::new(reason, what),
    }
}

/// Seconds since 1970 in UTC, as RFC 3339 writes them.
pub(super) fn rfc3339(time: UnixTime) -> String {
    i64::try_from(time.as_secs())
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{} seconds after 1970", time.as_secs()))
}

fn subject_of(
    presented: &Presented<'_>,
    is_meant: impl Fn(&super::certificate::Certificate<'_>) -> bool,
) -> String {
    match presented.all().find(|other| is_meant(other)) {
        Some(certificate) => format!("the certificate {}", certificate.subject()),
        None => "a certificate of the path".to_owned(),
    }
}

/// Each error of webpki, in our terms. What it may learn in later versions is a refusal too.
fn refusal(error: &Error) -> (Refusal, &'static str) {
    // Names that webpki has deprecated are listed as well: they are errors that it may return.
    #[allow(deprecated)]
    match error {
        Error::UnknownIssuer => (Refusal::UnknownIssuer, "no admitted CA issued it"),
        Error::CertDistrusted => {
            (Refusal::UnknownIssuer, "the path has a key that is known to be abused")
        }
        Error::CertExpired { .. } => (Refusal::Expired, "a certificate of the path has expired"),
        Error::CertNotValidYet { .. } => {
            (Refusal::NotYetValid, "a certificate of the path isn't valid yet")
        }
        Error::CertRevoked => (Refusal::Revoked, "its CA has revoked it"),
        Error::CrlExpired { .. } => (Refusal::CrlStale, "the CRL is out of date"),
        Error::UnknownRevocationStatus
        | Error::InvalidCrlNumber
        | Error::InvalidCrlSignatureForPublicKey
        | Error::IssuerNotCrlSigner
        | Error::UnsupportedCrlIssuingDistributionPoint
        | Error::UnsupportedCrlVersion
        | Error::UnsupportedDeltaCrl
        | Error::UnsupportedIndirectCrl
        | Error::UnsupportedRevocationReason
        | Error::UnsupportedRevocationReasonsPartitioning
        | Error::UnsupportedCrlSignatureAlgorithm
        | Error::UnsupportedCrlSignatureAlgorithmContext(_)
        | Error::UnsupportedCrlSignatureAlgorithmForPublicKey
        | Error::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(_) => {
            (Refusal::RevocationUnknown, "whether it is revoked can't be told")
        }
        Error::CaUsedAsEndEntity => {
            (Refusal::WrongKeyUsage, "the client's own certificate is that of a CA")
        }
        Error::EndEntityUsedAsCa => {
            (Refusal::WrongKeyUsage, "an issuer on the path isn't a CA by its basic constraints")
        }
        Error::RequiredEkuNotFound
        | Error::RequiredEkuNotFoundContext(_)
        | Error::EmptyEkuExtension => {
            (Refusal::WrongKeyUsage, "a certificate of the path has no extended key usage for TLS")
        }
        Error::InvalidSignatureForPublicKey => (
            Refusal::BadSignature,
            "a signature of the path doesn't verify with the key of the issuer it names",
        ),
        Error::SignatureAlgorithmMismatch => {
            (Refusal::BadSignature, "a certificate names two different signature algorithms")
        }
        Error::PathLenConstraintViolated => {
            (Refusal::ChainTooLong, "the path is longer than a CA on it allows")
        }
        Error::MaximumPathDepthExceeded => {
            (Refusal::ChainTooLong, "the path has more than 6 intermediate certificates")
        }
        Error::MaximumSignatureChecksExceeded
        | Error::MaximumPathBuildCallsExceeded
        | Error::MaximumNameConstraintComparisonsExceeded => {
            (Refusal::PathTooComplex, "the search for a path took too many steps")
        }
        Error::NameConstraintViolation => (
            Refusal::NameConstraint,
            "a name is outside the name constraints of a CA of the path, or they are of a kind \
             that isn't supported",
        ),
        Error::MalformedNameConstraint | Error::InvalidNetworkMaskConstraint => {
            (Refusal::Malformed, "the name constraints of a CA of the path are malformed")
        }
        Error::UnsupportedSignatureAlgorithm
        | Error::UnsupportedSignatureAlgorithmContext(_)
        | Error::UnsupportedSignatureAlgorithmForPublicKey
        | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => (
            Refusal::UnsupportedAlgorithm,
            "a certificate of the path is signed with an algorithm that isn't accepted (SHA-1, \
             perhaps)",
        ),
        Error::UnsupportedCriticalExtension => (
            Refusal::UnknownCriticalExtension,
            "a certificate of the path has a critical extension that isn't understood",
        ),
        Error::UnsupportedCertVersion => {
            (Refusal::Malformed, "a certificate of the path isn't of version 3")
        }
        Error::InvalidCertValidity => {
            (Refusal::Malformed, "a certificate of the path ends before it begins")
        }
        Error::BadDer
        | Error::BadDerTime
        | Error::ExtensionValueInvalid
        | Error::InvalidSerialNumber
        | Error::MalformedDnsIdentifier
        | Error::MalformedExtensions
        | Error::TrailingData(_)
        | Error::CertNotValidForName(_)
        | Error::UnsupportedNameType => {
            (Refusal::Malformed, "a certificate of the path is malformed")
        }
        _ => (Refusal::Malformed, "a certificate of the path isn't acceptable to the verifier"),
    }
}
