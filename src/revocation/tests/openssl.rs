//! CRLs of openssl and of rcgen, with the names and keys that stand in their CAs' certificates.

use std::{fs, path::Path, process::Command};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    CrlDistributionPoint, CrlIssuingDistributionPoint, CrlScope, DnType, IsCa, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevocationReason, RevokedCertParams, SerialNumber,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{
    DAY, IssuerId, Link, NOW, Offered, Problem, Reason, UnixTime, Verdict, at, is_good, is_revoked,
    offer, parse_all, required,
};

/// Runs openssl, which has to succeed.
fn openssl(dir: &Path, arguments: &str) {
    let run = Command::new("openssl").current_dir(dir).args(arguments.split(' ')).output().unwrap();
    let errors = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "openssl {arguments}: {errors}");
}

/// A CA's name and key as they stand in its certificate.
fn name_and_key(certificate: &CertificateDer<'_>) -> (Vec<u8>, Vec<u8>) {
    let (_, certificate) = X509Certificate::from_der(certificate).unwrap();
    (certificate.subject().as_raw().to_vec(), certificate.public_key().raw.to_vec())
}

fn link(issuer: IssuerId, serial: &[u8]) -> Link {
    Link { issuer, serial: serial.into(), is_ca: false, distribution_points: Box::default() }
}

#[test]
fn crls_of_openssl_are_read_and_verified() {
    const CONFIG: &str = "[ca]\ndefault_ca = this\n[this]\ndatabase = index.txt\n\
        crlnumber = number\ndefault_crl_days = 1\ncrl_extensions = extensions\n\
        [extensions]\nauthorityKeyIdentifier = keyid:always\n";
    // A revoked certificate and a valid one, as `openssl ca` keeps them.
    const DATABASE: &str = "R\t350101000000Z\t250101000000Z,keyCompromise\t00F1AB\tunknown\t/CN=a\n\
        V\t350101000000Z\t\t00F1AC\tunknown\t/CN=b\n";

    let keys = [
        ("ec -pkeyopt ec_paramgen_curve:P-256", "-md sha256"),
        ("ec -pkeyopt ec_paramgen_curve:P-384", "-md sha384"),
        ("rsa:2048", "-md sha512"),
        ("rsa:2048", "-md sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32"),
        ("ed25519", "-md null"),
    ];
    for (key, signature) in keys {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("ca.cnf", CONFIG), ("index.txt", DATABASE), ("number", "0100\n")] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        openssl(
            dir.path(),
            &format!("req -x509 -newkey {key} -nodes -keyout ca.key -out ca.pem -subj /CN=Contoso"),
        );
        openssl(
            dir.path(),
            &format!(
                "ca -config ca.cnf -gencrl -cert ca.pem -keyfile ca.key -out ca.crl {signature}"
            ),
        );
        let certificate = CertificateDer::from_pem_file(dir.path().join("ca.pem")).unwrap();
        let (name, spki) = name_and_key(&certificate);
        let crls = parse_all(&fs::read(dir.path().join("ca.crl")).unwrap()).unwrap();
        assert_eq!(crls[0].issuer(), "CN=Contoso");
        assert_eq!(crls[0].number().unwrap().to_string(), "0100");
        assert!(crls[0].authority_key_id().is_some());
        let store = required();
        let issuer = store.learn(&name, &spki, true);
        let now = UnixTime::now();
        assert_eq!(store.offer("ca.crl", crls, now), [Offered::InUse], "{key} {signature}");
        let check = |serial| store.check(&[link(issuer, serial)], now);
        let revoked = Verdict::Bad(Problem::Revoked {
            link: 0,
            at: at(1_735_689_600),
            reason: Reason::KeyCompromise,
        });
        assert_eq!(check(&[0x00, 0xf1, 0xab]), revoked);
        assert!(matches!(check(&[0x00, 0xf1, 0xac]), Verdict::Good { until: Some(_) }));
    }
}

#[test]
fn a_crl_of_rcgen_with_a_partition_is_read_and_verified() {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Contoso Root");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let time = |seconds: u64| OffsetDateTime::from_unix_timestamp(seconds.cast_signed()).unwrap();
    let uri = "http://crl.test/1".to_owned();
    let crl = CertificateRevocationListParams {
        this_update: time(NOW - DAY),
        next_update: time(NOW + DAY),
        crl_number: SerialNumber::from(300),
        issuing_distribution_point: Some(CrlIssuingDistributionPoint {
            distribution_point: CrlDistributionPoint { uris: vec![uri.clone()] },
            scope: Some(CrlScope::UserCertsOnly),
        }),
        revoked_certs: vec![RevokedCertParams {
            serial_number: SerialNumber::from(0xabcd),
            revocation_time: time(NOW - DAY),
            reason_code: Some(RevocationReason::CaCompromise),
            invalidity_date: Some(time(NOW - 2 * DAY)),
        }],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let crl = crl.signed_by(&ca).unwrap();
    let crls = parse_all(crl.pem().unwrap().as_bytes()).unwrap();
    assert_eq!(crls[0].scope(), "end-entity certificates only, http://crl.test/1");
    let store = required();
    let (name, spki) = name_and_key(ca.der());
    let issuer = store.learn(&name, &spki, true);
    assert_eq!(offer(&store, "a.crl", &crls[0]), Offered::InUse);
    let named = |serial: &[u8]| {
        let distribution_points = Box::new([uri.clone().into()]);
        Link { distribution_points, ..link(issuer, serial) }
    };
    assert!(is_revoked(&store, named(&[0xab, 0xcd])) && is_good(&store, named(&[0xab, 0xce])));
}
