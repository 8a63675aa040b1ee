//! Why a peer isn't let in, as a closed set.

use std::fmt;

use rustls::AlertDescription;

use super::Identity;

macro_rules! refusals {
    ($($(#[$doc:meta])* $variant:ident => $label:literal, $alert:ident;)*) => {
        /// Why a peer was refused. Each is one metric label, one log word and one TLS alert.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Refusal {
            $($(#[$doc])* $variant,)*
        }

        impl Refusal {
            /// All of them, in the order of their declaration.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The metric label and log word.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)*
                }
            }

            /// The alert that tells the peer (RFC 8446 §6.2). In TLS 1.2, which doesn't have
            /// `certificate_required`, `handshake_failure` stands in for it (RFC 5246 §7.4.6).
            pub const fn alert(self) -> AlertDescription {
                match self {
                    $(Self::$variant => AlertDescription::$alert,)*
                }
            }
        }
    };
}

refusals! {
    /// The listener requires a certificate, and the client showed none.
    NoCertificate => "no_certificate", CertificateRequired;
    /// No path leads to a CA that the listener admits.
    UnknownIssuer => "unknown_issuer", UnknownCA;
    /// A certificate of the path, or the anchor itself, is past its notAfter.
    Expired => "expired", CertificateExpired;
    /// A certificate of the path, or the anchor itself, is before its notBefore. The alert is
    /// the same as for an expired one: "has expired or is not currently valid".
    NotYetValid => "not_yet_valid", CertificateExpired;
    /// The issuing CA has revoked a certificate of the path.
    Revoked => "revoked", CertificateRevoked;
    /// Revocation is required to be checked, and there is nothing to check it with.
    RevocationUnknown => "revocation_unknown", CertificateUnknown;
    /// The CRL is past its nextUpdate and its grace.
    CrlStale => "crl_stale", CertificateUnknown;
    /// Key usage, extended key usage or basic constraints forbid what the certificate is used
    /// for.
    WrongKeyUsage => "wrong_key_usage", UnsupportedCertificate;
    /// A signature of the path doesn't verify.
    BadSignature => "bad_signature", BadCertificate;
    /// The certificate is good, but the listener's peer sets list none of its names.
    NameNotListed => "name_not_listed", AccessDenied;
    /// A name is listed, but for the CAs of another trust profile.
    NameNotAllowedForCa => "name_not_allowed_for_ca", AccessDenied;
    /// A name is blocked.
    Blocked => "blocked", AccessDenied;
    /// A key is too short.
    WeakKey => "weak_key", UnsupportedCertificate;
    /// The client showed too many certificates, or the path is longer than a CA or the profile
    /// allows.
    ChainTooLong => "chain_too_long", CertificateUnknown;
    /// A certificate can't be parsed, or holds a name that isn't well-formed.
    Malformed => "malformed", BadCertificate;
    /// A name is outside the name constraints of a CA of the path (RFC 5280 §4.2.1.10).
    NameConstraint => "name_constraint", CertificateUnknown;
    /// The search for a path was given up because it took too many steps.
    PathTooComplex => "path_too_complex", CertificateUnknown;
    /// A signature or public key algorithm isn't supported.
    UnsupportedAlgorithm => "unsupported_algorithm", UnsupportedCertificate;
    /// A certificate has a critical extension that isn't understood (RFC 5280 §4.2).
    UnknownCriticalExtension => "unknown_critical_extension", UnsupportedCertificate;
    /// The peer set pins other keys than the client's.
    KeyNotPinned => "key_not_pinned", AccessDenied;
    /// The peer set has as many connections, or handshakes in a second, as it may have.
    OverLimit => "over_limit", AccessDenied;
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A peer that isn't let in.
#[derive(Debug)]
pub struct Refused {
    /// Why, as a member of a closed set.
    pub reason: Refusal,
    /// Why, in words for the operator: which certificate, which name, which rule.
    pub detail: String,
    /// Who the certificate says it is for, if it could be read. Take it for a claim: most reasons
    /// mean that nobody has vouched for it.
    pub identity: Option<Box<Identity>>,
}

impl Refused {
    pub(super) fn new(reason: Refusal, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), identity: None }
    }

    pub(super) fn of(self, identity: Identity) -> Self {
        Self { identity: Some(Box::new(identity)), ..self }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.detail)
    }
}

impl std::error::Error for Refused {}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::Refusal;

    #[test]
    fn every_refusal_has_a_label_of_its_own_made_for_metrics() {
        let labels: HashSet<_> = Refusal::ALL.iter().map(|refusal| refusal.as_str()).collect();
        assert_eq!(labels.len(), Refusal::ALL.len());
        for label in labels {
            assert!(label.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{label}");
        }
    }
}
