use std::{
    fs,
    net::Ipv6Addr,
    os::unix::fs::{MetadataExt, symlink},
};

use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::{ServerName, UnixTime, pem::PemObject};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{FromDer, X509Certificate};

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
