//! Keys and what they may be used for.

use rcgen::{ExtendedKeyUsagePurpose as Eku, KeyPair, KeyUsagePurpose};

use super::*;

#[test]
fn each_rule_asks_for_its_extended_key_usage_or_none() {
    let ca = Ca::root("Contoso Root");
    let usages: [(&[Eku], [bool; 3]); 6] = [
        (&[], [true, true, true]),
        (&[Eku::ClientAuth], [true, false, true]),
        (&[Eku::ServerAuth], [false, true, true]),
        (&[Eku::ServerAuth, Eku::ClientAuth], [true, true, true]),
        (&[Eku::CodeSigning], [false, false, false]),
        (&[Eku::Any], [false, false, false]),
    ];
    for (usage, expected) in usages {
        let leaf = [ca.leaf_with("fe01.contoso.test", |params| {
            params.extended_key_usages = usage.to_vec();
        })];
        for (rule, good) in
            [EkuRule::Client, EkuRule::Server, EkuRule::Either].into_iter().zip(expected)
        {
            let policy = frontends(&ca, |trust| trust.eku = rule);
            if good {
                admitted(&policy, &leaf);
            } else {
                assert_refused(&policy, &leaf, Refusal::WrongKeyUsage);
            }
        }
    }
}

#[test]
fn an_intermediate_passes_on_no_other_purpose_than_its_own() {
    let ca = Ca::root("Contoso Root");
    let policy = frontends(&ca, |trust| trust.eku = EkuRule::Either);
    let through = |issuer: &[Eku], leaf: &[Eku]| {
        let sub = ca.sub_with("Sub", |params| params.extended_key_usages = issuer.to_vec());
        let leaf =
            sub.leaf_with("fe01.contoso.test", |params| params.extended_key_usages = leaf.to_vec());
        policy.decide(&[leaf, sub.der.clone()], at(NOW)).map_err(|refused| refused.reason).err()
    };
    assert_eq!(through(&[Eku::ClientAuth], &[Eku::ClientAuth]), None);
    assert_eq!(through(&[Eku::Any], &[Eku::ServerAuth]), None);
    assert_eq!(through(&[Eku::ServerAuth], &[Eku::ClientAuth]), Some(Refusal::WrongKeyUsage));
    assert_eq!(through(&[Eku::CodeSigning], &[]), Some(Refusal::WrongKeyUsage));
}

#[test]
fn a_key_that_may_not_sign_handshakes_is_refused() {
    let ca = Ca::root("Contoso Root");
    let policy = frontends(&ca, |_| {});
    let with =
        |usage| [ca.leaf_with("fe01.contoso.test", |params| params.key_usages = vec![usage])];
    admitted(&policy, &with(KeyUsagePurpose::DigitalSignature));
    assert_refused(&policy, &with(KeyUsagePurpose::KeyEncipherment), Refusal::WrongKeyUsage);
}

/// A public key that nobody has the private key of.
struct PublicKey {
    bytes: Vec<u8>,
    algorithm: &'static rcgen::SignatureAlgorithm,
}

impl rcgen::PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.algorithm
    }
}

/// An RSA public key of so many bytes (RFC 8017 §A.1.1), with the highest bit set.
fn rsa(bytes: u16) -> PublicKey {
    let [high, low] = (bytes + 1).to_be_bytes();
    let mut integers = vec![0x02, 0x82, high, low, 0x00, 0x80];
    integers.resize(usize::from(bytes) + 5, 0x01);
    integers.extend([0x02, 0x03, 0x01, 0x00, 0x01]);
    let [high, low] = u16::try_from(integers.len()).unwrap().to_be_bytes();
    let bytes = [vec![0x30, 0x82, high, low], integers].concat();
    PublicKey { bytes, algorithm: &rcgen::PKCS_RSA_SHA256 }
}

#[test]
fn short_rsa_keys_are_weak_and_giant_ones_unsupported() {
    let ca = Ca::root("Contoso Root");
    let policy = frontends(&ca, |_| {});
    let with = |key: PublicKey| [ca.leaf_for(&key, "fe01.contoso.test", |_| {})];
    let refused = assert_refused(&policy, &with(rsa(128)), Refusal::WeakKey);
    assert!(refused.detail.contains("RSA1024"), "{refused}");
    assert_refused(&policy, &with(rsa(255)), Refusal::WeakKey);
    let permit = admitted(&policy, &with(rsa(256)));
    assert_eq!(permit.peer().unwrap().identity().key_algorithm().to_string(), "RSA2048");
    assert_refused(&policy, &with(rsa(2048)), Refusal::UnsupportedAlgorithm);
}

#[test]
fn the_algorithms_of_key_and_signature_are_named_as_headers_want_them() {
    let ca = Ca::root("Contoso Root");
    let policy = frontends(&ca, |_| {});
    for (algorithm, name) in [
        (&rcgen::PKCS_ECDSA_P256_SHA256, "EC256"),
        (&rcgen::PKCS_ECDSA_P384_SHA384, "EC384"),
        (&rcgen::PKCS_ED25519, "ED25519"),
    ] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let permit = admitted(&policy, &[ca.leaf_for(&key, "fe01.contoso.test", |_| {})]);
        let identity = permit.peer().unwrap().identity();
        assert_eq!(identity.key_algorithm().to_string(), name);
        assert_eq!(identity.signature_algorithm(), "SHA256");
    }
}

/// The same point in its compressed form (SEC 1 §2.3.3): the first coordinate, and in the first byte
/// which of the two others it is.
fn compressed(key: &KeyPair) -> PublicKey {
    let whole = rcgen::PublicKeyData::der_bytes(key);
    let form = 2 + (whole[whole.len() - 1] & 1);
    let bytes = [&[form], &whole[1..=whole.len() / 2]].concat();
    PublicKey { bytes, algorithm: rcgen::PublicKeyData::algorithm(key) }
}

#[test]
fn a_client_s_compressed_point_is_refused_before_any_signature() {
    let ca = Ca::root("Contoso Root");
    let policy = frontends(&ca, |_| {});
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        admitted(&policy, &[ca.leaf_for(&key, "fe01.contoso.test", |_| {})]);
        let chain = [ca.leaf_for(&compressed(&key), "fe01.contoso.test", |_| {})];
        let refused = assert_refused(&policy, &chain, Refusal::UnsupportedAlgorithm);
        assert!(refused.detail.contains("compressed point"), "{refused}");
    }
}

/// Only certificates are verified with it, which aws-lc-rs does with either form.
#[test]
fn a_ca_s_key_may_be_a_compressed_point() {
    let root = Ca::root("Contoso Root");
    let policy = frontends(&root, |_| {});
    let sub = root.sub("Contoso Issuing");
    let der = sub.params.signed_by(&compressed(sub.issuer.key()), &root.issuer).unwrap();
    admitted(&policy, &[sub.leaf("fe01.contoso.test"), der.der().clone()]);
}
