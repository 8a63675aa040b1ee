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

/// The same outside of a call into rustls, which has its turn. What may cost signatures waits for a
/// `turn` here and has it until it is over: a chain that isn't remembered (the first one after a
/// reload), and whatever a shadow looks at, which decides from scratch where it disagrees. A chain
/// that is remembered waits for nothing.
pub(super) async fn decide_in_turn<T>(
    policy: &Policy,
    shadow: Option<&Shadow>,
    chain: &[CertificateDer<'_>],
    turn: impl AsyncFnOnce() -> T,
) -> (Result<Permit, Refused>, VerificationOutcome) {
    if shadow.is_none()
        && let Some(permit) = policy.admitted_before(chain, UnixTime::now())
    {
        return (Ok(permit), VerificationOutcome::Hit);
    }
    let _turn = turn().await;
    // Time may have gone by, and somebody else may have had this chain verified.
    decide(policy, shadow, chain, UnixTime::now())
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
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
        time::Duration,
    };

    use tokio::sync::Semaphore;

    use super::*;
    use crate::{
        config::Config,
        pki::{Authority, Spec, Validity},
        revocation::Stores,
        trust::Refusal,
    };

    /// The policy of a listener that admits a client, and that client's chain.
    fn scene() -> (Policy, Vec<CertificateDer<'static>>) {
        const TEXT: &str = r#"
[trust.contoso]
ca = ["ca.pem"]
names = ["*.contoso.test"]
revocation = "off"

[peers.clients]
trust = "contoso"
names = ["fe01.contoso.test"]

[backends.app]
servers = ["127.0.0.1:1"]

[[listener]]
name = "main"
listen = ["127.0.0.1:2"]
client_auth = "required"
peers = ["clients"]
certificates = [{ chain = "own.pem", key = "own.key" }]
backend = "app"
"#;
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str| folder.path().join(name);
        let validity = Validity::from_now(Duration::from_secs(3600));
        let ca = Authority::root(&Spec::new("Contoso Root", validity)).expect("a CA");
        let own = Spec::new("www", validity).dns("www.contoso.test").server();
        let own = ca.issue(&own).expect("a certificate");
        own.write(&file("own.pem"), &file("own.key")).expect("written");
        std::fs::write(file("ca.pem"), ca.pem()).expect("written");
        std::fs::write(file("countersign.toml"), TEXT).expect("written");
        let config = Config::load(&file("countersign.toml")).expect("good");
        let listener = &config.listeners[0];
        let stores = Stores::off(config.trust.keys());
        let policy = Policy::new(listener.client_auth, &listener.peers, &stores).expect("good");
        let client = Spec::new("fe01", validity).dns("fe01.contoso.test").client();
        (policy, ca.issue(&client).expect("a certificate").chain().to_vec())
    }

    /// While others compute, nothing of an unknown chain is looked at; once it is remembered, it
    /// waits for nobody.
    #[test]
    fn a_chain_is_verified_in_a_turn_and_one_that_is_remembered_takes_none() {
        let (policy, chain) = scene();
        let turns = Semaphore::new(0);
        let turn = async || turns.acquire().await.expect("it is open");
        let mut cx = Context::from_waker(Waker::noop());
        let mut first = pin!(decide_in_turn(&policy, None, &chain, turn));
        assert!(first.as_mut().poll(&mut cx).is_pending());
        assert!(policy.admitted_before(&chain, UnixTime::now()).is_none());
        turns.add_permits(1);
        let Poll::Ready((decision, verification)) = first.as_mut().poll(&mut cx) else {
            panic!("it waits though it is its turn")
        };
        assert!(decision.is_ok());
        assert_eq!(verification, VerificationOutcome::Miss);
        assert_eq!(turns.available_permits(), 1, "the turn is over");
        turns.forget_permits(1);
        let mut again = pin!(decide_in_turn(&policy, None, &chain, turn));
        let Poll::Ready((decision, verification)) = again.as_mut().poll(&mut cx) else {
            panic!("it waits")
        };
        assert!(decision.is_ok());
        assert_eq!(verification, VerificationOutcome::Hit);
    }

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
