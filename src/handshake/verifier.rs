//! The trust decision as rustls asks for it.

use std::sync::Arc;

use rustls::{
    AlertDescription, CertificateError, DigitallySignedStruct, DistinguishedName, Error,
    SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::WebPkiSupportedAlgorithms,
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::context;
use crate::{
    metrics::VerificationOutcome,
    shadow::Shadow,
    trust::{Permit, Policy, Refused},
};

/// Decides by the listener's policy, and leaves the decision in the handshake's context.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) policy: Arc<Policy>,
    pub(super) shadow: Option<Arc<Shadow>>,
    pub(super) mandatory: bool,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.policy.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let chain: Vec<_> = std::iter::once(end_entity)
            .chain(intermediates)
            .map(|certificate| CertificateDer::from(&**certificate))
            .collect();
        let (decision, verification) = decide(&self.policy, self.shadow.as_deref(), &chain, now);
        let verdict = match &decision {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(refused) => Err(Error::InvalidCertificate(error_for(refused))),
        };
        context::current(|context| {
            // Certificates are verified: this is no resumption, whatever ticket was offered.
            context.lineage = None;
            context.decision = Some(decision);
            context.verification = Some(verification);
        })
        .ok_or_else(|| Error::General("certificate verified outside of a handshake".into()))?;
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Decides, from memory if this very chain was admitted before. The shadow looks on.
pub(super) fn decide(
    policy: &Policy,
    shadow: Option<&Shadow>,
    chain: &[CertificateDer<'_>],
    now: UnixTime,
) -> (Result<Permit, Refused>, VerificationOutcome) {
    let (decision, verification) = match policy.admitted_before(chain, now) {
        Some(permit) => (Ok(permit), VerificationOutcome::Hit),
        None => (policy.decide(chain, now), VerificationOutcome::Miss),
    };
    if let Some(shadow) = shadow {
        shadow.observe(chain, &decision, now);
    }
    (decision, verification)
}

/// The error for which rustls sends the refusal's alert.
fn error_for(refused: &Refused) -> CertificateError {
    match refused.reason.alert() {
        AlertDescription::CertificateExpired => CertificateError::Expired,
        AlertDescription::CertificateRevoked => CertificateError::Revoked,
        AlertDescription::UnknownCA => CertificateError::UnknownIssuer,
        AlertDescription::BadCertificate => CertificateError::BadEncoding,
        AlertDescription::UnsupportedCertificate => CertificateError::InvalidPurpose,
        AlertDescription::DecryptError => CertificateError::BadSignature,
        AlertDescription::CertificateUnknown => {
            CertificateError::Other(rustls::OtherError(Arc::new(Unspecified)))
        }
        _ => CertificateError::ApplicationVerificationFailure,
    }
}

/// The decision's own words are in the context; this one only picks the alert.
#[derive(Debug, thiserror::Error)]
#[error("refused")]
struct Unspecified;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::Refusal;

    #[test]
    fn the_client_is_sent_the_alert_of_its_refusal() {
        for &reason in Refusal::ALL {
            // Without a certificate rustls never asks the verifier; it sends this one itself.
            if reason == Refusal::NoCertificate {
                continue;
            }
            let refused = Refused { reason, detail: String::new(), identity: None };
            let sent = AlertDescription::from(error_for(&refused));
            assert_eq!(sent, reason.alert(), "{}", reason.as_str());
        }
    }
}
