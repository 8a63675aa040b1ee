//! Our own certificates, chosen by the client's SNI and by what the client can verify.

use std::{collections::HashMap, sync::Arc};

use rustls::{
    CipherSuite, SignatureAlgorithm,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::{context, full};
use crate::{
    config::{Listener, OwnCertificate, SniPolicy},
    trust::Identity,
};

/// The algorithms of a certificate of ours, in the words of the PROXY protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateAlgorithms {
    /// Of its key, such as `EC256` or `RSA2048`.
    pub key: Box<str>,
    /// Of its signature, such as `SHA256`.
    pub signature: &'static str,
}

/// One certificate with what is told about it.
#[derive(Debug)]
struct Own {
    /// For looking at.
    certified_key: Arc<CertifiedKey>,
    /// For rustls, whose use of it makes a handshake a full one.
    for_handshakes: Arc<CertifiedKey>,
    algorithms: Option<Arc<CertificateAlgorithms>>,
}

impl Own {
    fn new(certificate: &OwnCertificate) -> Self {
        let certified_key = certificate.certified_key.clone();
        // What can't be described is just not told.
        let algorithms = certified_key.cert.first().and_then(|leaf| {
            let identity = Identity::from_der(leaf).ok()?;
            Some(Arc::new(CertificateAlgorithms {
                key: identity.key_algorithm().to_string().into(),
                signature: identity.signature_algorithm(),
            }))
        });
        let for_handshakes = full::certificate_held_to_budget(&certified_key);
        Self { certified_key, for_handshakes, algorithms }
    }
}

/// All certificates of one listener.
#[derive(Debug)]
pub(super) struct Certificates {
    /// In the order of the configuration; the first ones are preferred.
    all: Vec<Own>,
    /// Places in `all` by exact name.
    exact: HashMap<Box<str>, Vec<usize>>,
    /// Places in `all` by the parent `x` of a wildcard `*.x`.
    wildcard: HashMap<Box<str>, Vec<usize>>,
    sni: SniPolicy,
}

impl Certificates {
    pub(super) fn new(certificates: &[OwnCertificate], sni: SniPolicy) -> Self {
        let mut exact: HashMap<Box<str>, Vec<usize>> = HashMap::new();
        let mut wildcard: HashMap<Box<str>, Vec<usize>> = HashMap::new();
        for (place, certificate) in certificates.iter().enumerate() {
            for name in &certificate.dns_names {
                match name.strip_prefix("*.") {
                    Some(parent) => wildcard.entry(parent.into()).or_default().push(place),
                    None => exact.entry(name.as_str().into()).or_default().push(place),
                }
            }
        }
        let all = certificates.iter().map(Own::new).collect();
        Self { all, exact, wildcard, sni }
    }

    /// The certificates for a name: exact before wildcard (one label, RFC 6125 §6.4.3) before
    /// the default, which is all of them, the first one preferred.
    fn candidates(&self, name: Option<&str>) -> Option<Vec<&Own>> {
        let named = name.and_then(|name| {
            self.exact.get(name).or_else(|| self.wildcard.get(name.split_once('.')?.1))
        });
        match (named, self.sni) {
            (Some(places), _) => Some(places.iter().map(|&place| &self.all[place]).collect()),
            (None, SniPolicy::Default) => Some(self.all.iter().collect()),
            (None, SniPolicy::Strict) => None,
        }
    }
}

/// The certificates of a listener that a client may be shown which asks for that name: the first
/// of them that it can verify. `None` if the listener refuses to serve the name.
pub fn certificates_for<'l>(listener: &'l Listener, name: &str) -> Option<Vec<&'l OwnCertificate>> {
    let certificates = Certificates::new(&listener.certificates, listener.sni);
    let candidates = certificates.candidates(Some(&name.to_ascii_lowercase()))?;
    let is_candidate = |own: &Own| candidates.iter().any(|candidate| std::ptr::eq(*candidate, own));
    // Each was made of the one in the same place.
    let places = certificates.all.iter().zip(&listener.certificates);
    Some(places.filter(|(own, _)| is_candidate(own)).map(|(_, configured)| configured).collect())
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let candidates = self.candidates(name.as_deref());
        context::current(|context| {
            context.unknown_server_name = candidates.is_none();
            context.server_name = name.map(Into::into);
        });
        let usable = |own: &&Own| {
            let key = &own.certified_key.key;
            key.choose_scheme(hello.signature_schemes()).is_some()
                && suite_fits(hello.cipher_suites(), key.algorithm())
        };
        let candidates = candidates?;
        // With one that doesn't fit, rustls finds the lack of common parameters and says so; with
        // none, it would send access_denied.
        let chosen = candidates.iter().find(|own| usable(own)).or(candidates.first())?;
        context::current(|context| context.shown = chosen.algorithms.clone());
        Some(chosen.for_handshakes.clone())
    }
}

/// Whether one of the client's suites works with a key of that kind: TLS 1.3 suites work with
/// any, those of TLS 1.2 name theirs.
fn suite_fits(offered: &[CipherSuite], key: SignatureAlgorithm) -> bool {
    offered.iter().any(|suite| match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256
        | CipherSuite::TLS13_AES_256_GCM_SHA384
        | CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => true,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => {
            matches!(key, SignatureAlgorithm::ECDSA | SignatureAlgorithm::ED25519)
        }
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
        | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => {
            key == SignatureAlgorithm::RSA
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(names: &[&str]) -> OwnCertificate {
        let key = rcgen::KeyPair::generate().expect("key");
        let names: Vec<String> = names.iter().map(|&n| n.to_owned()).collect();
        let made = rcgen::CertificateParams::new(names.clone())
            .expect("names")
            .self_signed(&key)
            .expect("signed");
        let der = rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("key");
        let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&der).expect("key");
        OwnCertificate {
            chain_file: "x.pem".into(),
            certified_key: Arc::new(CertifiedKey::new(vec![made.der().clone()], signing)),
            dns_names: names,
            not_after: 0,
        }
    }

    fn place(certificates: &Certificates, name: Option<&str>) -> Option<usize> {
        let found = certificates.candidates(name)?;
        certificates.all.iter().position(|own| std::ptr::eq(own, found[0]))
    }

    #[test]
    fn an_exact_name_wins_over_a_wildcard_and_a_wildcard_over_the_default() {
        let own = [
            certificate(&["default.test"]),
            certificate(&["*.pool.test"]),
            certificate(&["a.pool.test"]),
        ];
        let all = Certificates::new(&own, SniPolicy::Default);
        assert_eq!(place(&all, Some("a.pool.test")), Some(2));
        assert_eq!(place(&all, Some("b.pool.test")), Some(1));
        assert_eq!(place(&all, Some("b.b.pool.test")), Some(0));
        assert_eq!(place(&all, Some("pool.test")), Some(0));
        assert_eq!(place(&all, None), Some(0));
    }

    #[test]
    fn a_strict_listener_has_no_certificate_for_another_name_or_none() {
        let all = Certificates::new(&[certificate(&["a.test"])], SniPolicy::Strict);
        assert_eq!(place(&all, Some("a.test")), Some(0));
        assert_eq!(place(&all, Some("b.test")), None);
        assert_eq!(place(&all, None), None);
    }

    #[test]
    fn a_tls12_suite_is_matched_with_the_kind_of_key_it_names() {
        use CipherSuite::{
            TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 as ECDSA,
            TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 as RSA, TLS13_AES_128_GCM_SHA256 as V13,
        };
        assert!(suite_fits(&[RSA, V13], SignatureAlgorithm::ECDSA));
        assert!(suite_fits(&[ECDSA], SignatureAlgorithm::ECDSA));
        assert!(!suite_fits(&[ECDSA], SignatureAlgorithm::RSA));
        assert!(!suite_fits(&[], SignatureAlgorithm::RSA));
    }
}
