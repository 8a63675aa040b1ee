//! What to do about a refusal.

use rustls::AlertDescription;

use super::Refusal;

impl Refusal {
    /// The alert that a client of TLS 1.2 gets, which has no `certificate_required`:
    /// `handshake_failure` stands in for it (RFC 5246 §7.4.6).
    pub const fn alert_tls12(self) -> AlertDescription {
        match self {
            Self::NoCertificate => AlertDescription::HandshakeFailure,
            other => other.alert(),
        }
    }

    /// What the operator can do about it, in one line; `docs/trust.md` has more.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::NoCertificate => {
                "configure the client's certificate; if it has one, its CA must be among those \
                 that the listener asks for"
            }
            Self::UnknownIssuer => {
                "let the client send its intermediate certificates; or, if the root is to be \
                 trusted, add it to a trust profile together with the names it may vouch for"
            }
            Self::Expired => "renew the certificate; if it looks valid, compare the clocks",
            Self::NotYetValid => "compare the clocks of the CA and of this host",
            Self::Revoked => "find out why the CA revoked it; if by mistake, have it reissued",
            Self::RevocationUnknown => {
                "give the trust profile a CRL of every CA on the path, or say that it may pass \
                 without"
            }
            Self::CrlStale => "have the CA publish a new CRL, and see why it wasn't fetched",
            Self::WrongKeyUsage => {
                "if the client is a server with serverAuth only, set eku = \"either\" in its trust \
                 profile; else have the certificate reissued for TLS clients"
            }
            Self::BadSignature => {
                "look for a CA that has the same name and another key, or a certificate that was \
                 changed"
            }
            Self::NameNotListed => {
                "list the name in a peer set of the listener, or have the certificate reissued \
                 for a name that is listed"
            }
            Self::NameNotAllowedForCa => {
                "a CA vouches for a name that is somebody else's: find out why before you change \
                 anything"
            }
            Self::Blocked => "take the name out of blocked, if it isn't meant to be there",
            Self::WeakKey => "have the certificate reissued with a longer key, or with ECDSA",
            Self::KeyNotPinned => {
                "find out why the key has changed; if it is meant, put the pin that the detail \
                 shows into pins"
            }
            Self::OverLimit => {
                "if the peers are known, list them in a set of their own; else raise the limits \
                 of the set"
            }
            Self::ChainTooLong => {
                "let the client send only the certificates of its own path; if the path itself is \
                 too long, raise max_intermediates"
            }
            Self::Malformed => "have the certificate reissued",
            Self::NameConstraint => "the CA may not issue for this name: ask whoever runs it",
            Self::PathTooComplex => {
                "let the client send fewer certificates with the same subjects and keys"
            }
            Self::UnsupportedAlgorithm => {
                "have the certificate reissued with RSA from 2048 bits or ECDSA (its point not \
                 compressed), signed with SHA-2"
            }
            Self::UnknownCriticalExtension => {
                "have the certificate reissued without that extension, or not critical"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Refusal;

    #[test]
    fn every_refusal_has_advice_of_one_line() {
        for refusal in Refusal::ALL {
            let advice = refusal.advice();
            assert!(advice.len() > 20 && !advice.contains('\n') && !advice.ends_with('.'));
        }
    }
}
