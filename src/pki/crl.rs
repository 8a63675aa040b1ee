//! Certificate revocation lists (RFC 5280 §5).

use std::time::Duration;

use rcgen::{
    CertificateRevocationList, CertificateRevocationListParams, CrlDistributionPoint,
    CrlIssuingDistributionPoint, CrlScope, KeyIdMethod, RevocationReason, RevokedCertParams,
    SerialNumber,
};
use time::OffsetDateTime;

use super::{
    CLOCK_SKEW, PkiError, Validity,
    spec::{checked_serial, ia5},
};

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident => $word:literal;)*) => {
        /// Why a certificate is revoked (RFC 5280 §5.3.1). `removeFromCRL` isn't among them: it is
        /// for delta CRLs, which nobody here makes.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
        }

        impl Reason {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name of RFC 5280.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }

            fn code(self) -> RevocationReason {
                match self {
                    $(Self::$variant => RevocationReason::$variant,)*
                }
            }
        }
    };
}

reasons! {
    /// No reason is given.
    #[default]
    Unspecified => "unspecified";
    /// Somebody else has the key.
    KeyCompromise => "keyCompromise";
    /// Somebody else has the key of the CA that it certifies.
    CaCompromise => "cACompromise";
    /// The subject's name or other information has changed.
    AffiliationChanged => "affiliationChanged";
    /// Another certificate takes its place.
    Superseded => "superseded";
    /// It is no longer needed.
    CessationOfOperation => "cessationOfOperation";
    /// It may become valid again.
    CertificateHold => "certificateHold";
    /// What it allowed is no longer allowed.
    PrivilegeWithdrawn => "privilegeWithdrawn";
    /// Somebody else has the key of the attribute authority that it certifies.
    AaCompromise => "aACompromise";
}

/// Which of its issuer's certificates a CRL is about (RFC 5280 §5.2.5).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    #[default]
    All,
    /// Those that aren't of CAs.
    Users,
    /// Those of CAs.
    Authorities,
}

/// What a CRL shall say. Nothing of it is checked before it is signed.
#[derive(Debug, Clone)]
pub struct CrlSpec {
    number: u64,
    this_update: OffsetDateTime,
    next_update: OffsetDateTime,
    revoked: Vec<(Vec<u8>, OffsetDateTime, Reason)>,
    distribution_point: Option<(String, Scope)>,
}

impl CrlSpec {
    /// An empty list with this cRLNumber, thisUpdate and nextUpdate. A CA's numbers must grow
    /// (RFC 5280 §5.2.3), which is up to the caller.
    pub fn new(number: u64, this_update: OffsetDateTime, next_update: OffsetDateTime) -> Self {
        Self { number, this_update, next_update, revoked: Vec::new(), distribution_point: None }
    }

    /// The same from [`CLOCK_SKEW`] before now until `length` after now.
    pub fn from_now(number: u64, length: Duration) -> Self {
        let now = OffsetDateTime::now_utc();
        Self::new(number, now - CLOCK_SKEW, now + length)
    }

    /// With an entry more: the serial number, big-endian, and since when it is revoked.
    #[must_use]
    pub fn revoke(mut self, serial: &[u8], at: OffsetDateTime, reason: Reason) -> Self {
        self.revoked.push((serial.to_vec(), at, reason));
        self
    }

    /// With an issuing distribution point: where this CRL is to be had, and what it is about. It
    /// is a critical extension.
    #[must_use]
    pub fn distribution_point(mut self, url: impl Into<String>, scope: Scope) -> Self {
        self.distribution_point = Some((url.into(), scope));
        self
    }

    pub(super) fn params(
        &self,
        key_id: KeyIdMethod,
    ) -> Result<CertificateRevocationListParams, PkiError> {
        let Self { number, this_update, next_update, .. } = *self;
        Validity { not_before: this_update, not_after: next_update }.check()?;
        let revoked_certs = self
            .revoked
            .iter()
            .map(|(serial, at, reason)| {
                Ok(RevokedCertParams {
                    serial_number: checked_serial(serial)?,
                    revocation_time: *at,
                    reason_code: Some(reason.code()),
                    invalidity_date: None,
                })
            })
            .collect::<Result<_, PkiError>>()?;
        let issuing_distribution_point = self
            .distribution_point
            .as_ref()
            .map(|(url, scope)| {
                ia5(url)?;
                Ok::<_, PkiError>(CrlIssuingDistributionPoint {
                    distribution_point: CrlDistributionPoint { uris: vec![url.clone()] },
                    scope: match scope {
                        Scope::All => None,
                        Scope::Users => Some(CrlScope::UserCertsOnly),
                        Scope::Authorities => Some(CrlScope::CaCertsOnly),
                    },
                })
            })
            .transpose()?;
        Ok(CertificateRevocationListParams {
            this_update,
            next_update,
            crl_number: SerialNumber::from(number),
            issuing_distribution_point,
            revoked_certs,
            key_identifier_method: key_id,
        })
    }
}

/// A CRL with its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCrl {
    der: Vec<u8>,
    pem: String,
}

impl SignedCrl {
    pub(super) fn of(list: &CertificateRevocationList) -> Result<Self, PkiError> {
        Ok(Self { der: list.der().to_vec(), pem: list.pem()? })
    }

    /// DER
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// PEM (`X509 CRL`)
    pub fn pem(&self) -> &str {
        &self.pem
    }
}
