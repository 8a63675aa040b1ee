//! CRLs of rcgen, openssl's, and some that nobody would issue.

use std::{sync::Arc, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason, RevokedCertParams, SerialNumber,
};
use rustls_pki_types::UnixTime;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::*;

/// 2030-01-01
const NOW: u64 = 1_893_456_000;
const DAY: u64 = 86_400;

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// A CA with what a store learns of it.
struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
    name: Vec<u8>,
    spki: Vec<u8>,
}

impl Ca {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let (_, certificate) = X509Certificate::from_der(issuer.der()).unwrap();
        let name = certificate.subject().as_raw().to_vec();
        let spki = certificate.public_key().raw.to_vec();
        Self { issuer, name, spki }
    }

    fn id(&self) -> IssuerId {
        IssuerId::of(&self.name, &self.spki)
    }

    fn link(&self, serial: u64) -> Link {
        Link {
            issuer: self.id(),
            serial: serial.to_be_bytes().into(),
            is_ca: false,
            distribution_points: Box::default(),
        }
    }

    fn crl(&self, number: u64, revoked: &[u64]) -> Arc<Crl> {
        let time = |seconds: u64| {
            OffsetDateTime::from_unix_timestamp(seconds.try_into().unwrap()).unwrap()
        };
        let params = CertificateRevocationListParams {
            this_update: time(NOW - DAY),
            next_update: time(NOW + DAY),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked
                .iter()
                .map(|serial| RevokedCertParams {
                    serial_number: SerialNumber::from(*serial),
                    revocation_time: time(NOW - 2 * DAY),
                    reason_code: Some(RevocationReason::KeyCompromise),
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Arc::new(Crl::parse(params.signed_by(&self.issuer).unwrap().der()).unwrap())
    }
}

fn required() -> Store {
    Store::new(Rules { mode: Mode::Require, ..Rules::default() })
}

#[test]
fn a_revoked_certificate_is_found_with_its_reason_and_others_are_good() {
    let ca = Ca::new("Contoso Root");
    let store = required();
    let offered = store.offer("a.crl", vec![ca.crl(1, &[7, 0x1234_5678])], at(NOW));
    assert!(matches!(&offered[..], [Offered::Waiting { .. }]), "{offered:?}");
    store.learn(&ca.name, &ca.spki, true);
    assert_eq!(store.check(&[ca.link(8)], at(NOW)), Verdict::Good { until: Some(at(NOW + DAY)) });
    let revoked =
        Problem::Revoked { link: 1, at: at(NOW - 2 * DAY), reason: Reason::KeyCompromise };
    assert_eq!(store.check(&[ca.link(8), ca.link(7)], at(NOW)), Verdict::Bad(revoked));
}
