use std::{
    fs,
    net::Ipv6Addr,
    os::unix::fs::{MetadataExt, symlink},
    time::Duration,
};

use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use time::OffsetDateTime;
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{CertificateRevocationList, FromDer, ParsedExtension, X509Certificate};

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

fn validity() -> Validity {
    Validity::from_now(DAY)
}

fn verify(identity: &Identity, root: &Authority, usage: KeyUsage) -> Result<(), webpki::Error> {
    let anchor = anchor_from_trusted_cert(root.der()).unwrap();
    let (leaf, intermediates) = identity.chain().split_first().unwrap();
    EndEntityCert::try_from(leaf)
        .unwrap()
        .verify_for_usage(
            ALL_VERIFICATION_ALGS,
            &[anchor],
            intermediates,
            UnixTime::now(),
            usage,
            None,
            None,
        )
        .map(drop)
}

#[test]
fn a_chain_verifies_up_to_its_root_and_no_other() {
    let root = Authority::root(&Spec::new("root", validity())).unwrap();
    let stranger = Authority::root(&Spec::new("root", validity())).unwrap();
    let upper = root.intermediate(&Spec::new("upper", validity())).unwrap();
    let lower = upper.intermediate(&Spec::new("lower", validity()).max_intermediates(0)).unwrap();
    let server = lower.issue(&Spec::new("a.test", validity()).dns("a.test").server()).unwrap();

    assert_eq!(server.chain().len(), 3);
    assert_eq!(server.chain()[1..], [lower.der().clone(), upper.der().clone()]);
    verify(&server, &root, KeyUsage::server_auth()).unwrap();
    verify(&server, &stranger, KeyUsage::server_auth()).unwrap_err();
    verify(&server, &root, KeyUsage::client_auth()).unwrap_err();
}

#[test]
fn names_and_usages_are_those_asked_for() {
    let root = Authority::root(&Spec::new("root", validity())).unwrap();
    let spec = Spec::new("a", validity())
        .dns("*.a.test")
        .uri("spiffe://a.test/x")
        .ip(Ipv6Addr::LOCALHOST)
        .server()
        .client();
    let leaf = root.issue(&spec).unwrap();
    let certificate = EndEntityCert::try_from(&leaf.chain()[0]).unwrap();
    for name in ["b.a.test", "::1"] {
        certificate.verify_is_valid_for_subject_name(&ServerName::try_from(name).unwrap()).unwrap();
    }
    assert_eq!(certificate.valid_uri_names().collect::<Vec<_>>(), ["spiffe://a.test/x"]);
    let (_, parsed) = X509Certificate::from_der(&leaf.chain()[0]).unwrap();
    let eku = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(eku.server_auth && eku.client_auth);
    assert!(!parsed.is_ca());
}

#[test]
fn every_key_type_signs_and_is_certified() {
    for (key_type, bits) in [
        (KeyType::P256, 256),
        (KeyType::P384, 384),
        (KeyType::P521, 521),
        (KeyType::Ed25519, 256),
        (KeyType::Rsa2048, 2048),
        (KeyType::Rsa3072, 3072),
    ] {
        let spec = Spec::new("x", validity()).key_type(key_type);
        let root = Authority::root(&spec).unwrap();
        let leaf = root.issue(&spec.client()).unwrap();
        verify(&leaf, &root, KeyUsage::client_auth()).unwrap();
        let (_, parsed) = X509Certificate::from_der(&leaf.chain()[0]).unwrap();
        let size = parsed.public_key().parsed().unwrap().key_size();
        // x509-parser counts a P-521 key by its octets.
        let size = if key_type == KeyType::P521 { size.min(521) } else { size };
        assert!(key_type == KeyType::Ed25519 || size == bits, "{key_type:?} has {size} bits");
        rustls::crypto::aws_lc_rs::default_provider()
            .key_provider
            .load_private_key(leaf.key_der())
            .unwrap();
    }
}

#[test]
fn a_root_is_accepted_as_a_client_ca_by_rustls() {
    let root = Authority::root(&Spec::new("root", validity())).unwrap();
    let mut store = rustls::RootCertStore::empty();
    store.add(root.der().clone()).unwrap();
    let provider = rustls::crypto::aws_lc_rs::default_provider().into();
    WebPkiClientVerifier::builder_with_provider(store.into(), provider).build().unwrap();
}

#[test]
fn a_ca_below_one_that_allows_none_is_refused() {
    let root = Authority::root(&Spec::new("root", validity()).max_intermediates(1)).unwrap();
    let only = root.intermediate(&Spec::new("only", validity())).unwrap();
    let refused = only.intermediate(&Spec::new("more", validity()));
    assert!(matches!(refused, Err(PkiError::PathLength)));
}

#[test]
fn an_intermediate_says_what_its_issuer_leaves_it() {
    let root = Authority::root(&Spec::new("root", validity()).max_intermediates(2)).unwrap();
    let middle = root.intermediate(&Spec::new("middle", validity())).unwrap();
    let (_, parsed) = X509Certificate::from_der(middle.der()).unwrap();
    let constraints = parsed.basic_constraints().unwrap().unwrap().value;
    assert_eq!(constraints.path_len_constraint, Some(1));
}

#[test]
fn a_ca_that_was_read_back_issues_as_before() {
    for key_type in [KeyType::P256, KeyType::P384, KeyType::P521, KeyType::Ed25519] {
        let spec = Spec::new("root", validity()).key_type(key_type);
        let root = Authority::root(&spec).unwrap();
        let upper = root.intermediate(&Spec::new("upper", validity()).key_type(key_type)).unwrap();

        let read = Authority::from_pem(&root.pem(), &root.key_pem()).unwrap();
        assert_eq!(
            (read.der(), read.serial(), read.pem()),
            (root.der(), root.serial(), root.pem())
        );
        assert_eq!(read.chain_pem(), "");
        verify(&read.issue(&spec.client()).unwrap(), &root, KeyUsage::client_auth()).unwrap();

        let read = Authority::from_pem(upper.chain_pem(), &upper.key_pem()).unwrap();
        assert_eq!((read.der(), read.chain_pem()), (upper.der(), upper.chain_pem()));
        let leaf = read.issue(&Spec::new("x", validity()).client()).unwrap();
        assert_eq!(leaf.chain()[1..], [upper.der().clone()]);
        verify(&leaf, &root, KeyUsage::client_auth()).unwrap();
    }
}

#[test]
fn a_ca_that_was_read_back_knows_how_many_may_follow() {
    let root = Authority::root(&Spec::new("root", validity())).unwrap();
    let upper = root.intermediate(&Spec::new("upper", validity()).max_intermediates(1)).unwrap();
    let lower = upper.intermediate(&Spec::new("lower", validity())).unwrap();
    let read = Authority::from_pem(lower.chain_pem(), &lower.key_pem()).unwrap();
    let refused = read.intermediate(&Spec::new("more", validity()));
    assert!(matches!(refused, Err(PkiError::PathLength)));
}

#[test]
fn what_is_no_ca_with_its_key_is_not_read_as_one() {
    let root = Authority::root(&Spec::new("root", validity())).unwrap();
    let other = Authority::root(&Spec::new("root", validity())).unwrap();
    let leaf = root.issue(&Spec::new("leaf", validity())).unwrap();
    for (chain, key, why) in [
        (root.pem(), other.key_pem(), "the key isn't that of the certificate"),
        (leaf.chain_pem().to_owned(), leaf.key_pem(), "isn't that of a CA"),
        (String::new(), root.key_pem(), "no PEM certificate"),
        (root.pem(), String::new().into(), "PKCS #8"),
    ] {
        let error = Authority::from_pem(&chain, &key).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[test]
fn a_crl_says_what_was_asked_for_and_verifies_with_the_cas_key() {
    let root = Authority::root(&Spec::new("root", validity())).unwrap();
    let leaf = root.issue(&Spec::new("leaf", validity()).serial([0x80, 1])).unwrap();
    assert_eq!(leaf.serial(), [0, 0x80, 1]);
    let at = OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap();
    let spec = CrlSpec::new(7, at, at + DAY)
        .revoke(leaf.serial(), at, Reason::KeyCompromise)
        .revoke(&[5], at, Reason::Unspecified)
        .distribution_point("http://crl.test/ca.crl", Scope::Users);
    let signed = root.crl(&spec).unwrap();
    assert!(signed.pem().starts_with("-----BEGIN X509 CRL-----"));

    let (rest, crl) = CertificateRevocationList::from_der(signed.der()).unwrap();
    assert!(rest.is_empty());
    assert_eq!(crl.last_update().timestamp(), at.unix_timestamp());
    assert_eq!(crl.next_update().unwrap().timestamp(), (at + DAY).unix_timestamp());
    assert_eq!(crl.crl_number().unwrap().to_bytes_be(), [7]);
    let entries: Vec<_> = crl.iter_revoked_certificates().collect();
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0].raw_serial(), leaf.serial());
    assert_eq!(entries[0].reason_code().unwrap().1.0, 1);
    assert!(entries[1].reason_code().is_none());
    let point = crl.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::IssuingDistributionPoint(point) => Some((extension.critical, point)),
        _ => None,
    });
    let (critical, point) = point.unwrap();
    assert!(critical && point.only_contains_user_certs && !point.only_contains_ca_certs);

    // A CRL of another key of the same name doesn't verify.
    let namesake = Authority::root(&Spec::new("root", validity())).unwrap();
    for (by, good) in [(&root, true), (&namesake, false)] {
        let (_, certificate) = X509Certificate::from_der(by.der()).unwrap();
        let key = aws_lc_rs::signature::UnparsedPublicKey::new(
            &aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1,
            &certificate.public_key().subject_public_key.data,
        );
        let signed = key.verify(crl.tbs_cert_list.as_ref(), &crl.signature_value.data);
        assert_eq!(signed.is_ok(), good);
    }
}

#[test]
fn a_crl_by_a_ca_that_was_read_back_names_the_same_key() {
    let root = Authority::root(&Spec::new("root", validity())).unwrap();
    let read = Authority::from_pem(&root.pem(), &root.key_pem()).unwrap();
    let key_ids = [&root, &read].map(|by| {
        let signed = by.crl(&CrlSpec::from_now(1, DAY)).unwrap();
        let (_, crl) = CertificateRevocationList::from_der(signed.der()).unwrap();
        let found = crl.extensions().iter().find_map(|other| match other.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                Some(id.key_identifier.clone()?.0.to_vec())
            }
            _ => None,
        });
        found.unwrap()
    });
    assert_eq!(key_ids[0], key_ids[1]);
}

#[test]
fn name_constraints_and_distribution_points_are_where_they_were_put() {
    let spec = Spec::new("root", validity())
        .permit_dns("a.test")
        .exclude_dns("b.a.test")
        .permit_ip([10, 0, 0, 0], 8);
    let root = Authority::root(&spec).unwrap();
    let issue = |spec: Spec| {
        let leaf = root.issue(&spec.client()).unwrap();
        verify(&leaf, &root, KeyUsage::client_auth())
    };
    let leaf = || Spec::new("x", validity()).crl_url("http://crl.test/ca.crl");
    issue(leaf().dns("x.a.test").ip([10, 1, 2, 3])).unwrap();
    for outside in [leaf().dns("x.c.test"), leaf().dns("x.b.a.test"), leaf().ip([11, 0, 0, 1])] {
        assert_eq!(issue(outside).unwrap_err(), webpki::Error::NameConstraintViolation);
    }
    let with_url = root.issue(&leaf()).unwrap();
    let (_, parsed) = X509Certificate::from_der(&with_url.chain()[0]).unwrap();
    let has_url = parsed.extensions().iter().any(|extension| {
        matches!(extension.parsed_extension(), ParsedExtension::CRLDistributionPoints(points)
            if points.points.len() == 1)
    });
    assert!(has_url);
}

#[test]
fn serial_numbers_that_are_none_are_refused() {
    for octets in [&[][..], &[0, 0], &[1; 21], &[0x80; 20]] {
        let spec = Spec::new("x", validity()).serial(octets);
        assert!(matches!(Authority::root(&spec), Err(PkiError::Serial)), "{octets:?}");
    }
}

#[test]
fn names_and_validities_that_no_certificate_can_carry_are_refused() {
    let bad = Spec::new("x", validity()).dns("bücher.test");
    assert!(matches!(Authority::root(&bad), Err(PkiError::Name { name }) if name == "bücher.test"));
    let Validity { not_before, not_after } = validity();
    let turned = Validity { not_before: not_after, not_after: not_before };
    let refused = Authority::root(&Spec::new("x", turned));
    assert!(matches!(refused, Err(PkiError::Validity { .. })));
    let early = Validity { not_before: OffsetDateTime::UNIX_EPOCH - 40_000 * DAY, not_after };
    let refused = Authority::root(&Spec::new("x", early));
    assert!(matches!(refused, Err(PkiError::Validity { .. })));
}

#[test]
fn files_hold_the_chain_and_the_key_that_only_the_owner_may_read() {
    let folder = tempfile::tempdir().unwrap();
    let (chain_file, key_file) = (folder.path().join("a.pem"), folder.path().join("a.key"));
    let root = Authority::root(&Spec::new("root", validity())).unwrap();
    let intermediate = root.intermediate(&Spec::new("i", validity())).unwrap();
    let identity = intermediate.issue(&Spec::new("a", validity())).unwrap();
    fs::write(&key_file, "an older key that everybody may read").unwrap();

    identity.write(&chain_file, &key_file).unwrap();

    let chain: Vec<_> =
        CertificateDer::pem_file_iter(&chain_file).unwrap().map(Result::unwrap).collect();
    assert_eq!(chain, identity.chain());
    assert_eq!(PrivateKeyDer::from_pem_file(&key_file).unwrap(), identity.key_der());
    assert_eq!(fs::metadata(&key_file).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&chain_file).unwrap().mode() & 0o777, 0o644);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file is left");
}

#[test]
fn a_symbolic_link_in_a_files_place_is_replaced_and_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (target, link) = (folder.path().join("target"), folder.path().join("link"));
    fs::write(&target, "precious").unwrap();
    symlink(&target, &link).unwrap();
    files::write_secret(&link, b"new").unwrap();
    assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
    assert_eq!(fs::read_to_string(&link).unwrap(), "new");
}

#[test]
fn an_error_names_the_file_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none/a.key");
    let error = files::write_secret(&missing, b"x").unwrap_err();
    assert!(error.to_string().starts_with(&format!("can't write {}: ", missing.display())));

    let occupied = folder.path().join("occupied");
    fs::create_dir(&occupied).unwrap();
    files::write_secret(&occupied, b"x").unwrap_err();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
