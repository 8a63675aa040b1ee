//! Whose CRL it is: keys, names, algorithms, and the room of those that nobody vouches for.

use std::{collections::BTreeSet, sync::Arc};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{self, Ed25519KeyPair, KeyPair as _, PqdsaKeyPair, RsaKeyPair},
};
use rustls_pki_types::{AlgorithmIdentifier, alg_id};

use super::{
    Ca, Crl, CrlError, CrlState, Draft, Link, Mode, Offered, Rules, Store, UNKNOWN, entry, is_good,
    is_revoked, offer, reason, required, sequence, standard, tlv, why_unknown,
};
use crate::revocation::{IssuerId, algorithms::ALGORITHMS};

#[test]
fn the_algorithms_are_those_that_certificates_may_be_signed_with() {
    let ids = |key: &[u8], signature: &[u8]| (key.to_vec(), signature.to_vec());
    let ours: BTreeSet<_> =
        ALGORITHMS.iter().map(|known| ids(&known.key, &known.signature)).collect();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let theirs: BTreeSet<_> = provider
        .signature_verification_algorithms
        .all
        .iter()
        .map(|known| ids(&known.public_key_alg_id(), &known.signature_alg_id()))
        .collect();
    assert_eq!(ours, theirs);
}

#[test]
fn a_forged_crl_is_said_to_be_and_counts_for_nothing() {
    let (ca, store) = (Ca::new("Contoso Root"), required());
    ca.learned_by(&store);
    let genuine = ca.crl(1, &[7]);
    offer(&store, "a.crl", &genuine);
    let forger = Ca::new("Contoso Root");
    let key_identifier = standard(35, false, &sequence(&[&tlv(0x80, &[0xab, 0xcd])]));
    let forged = Draft::new(99, &[8]).with(key_identifier).signed_by(&forger);
    let Offered::Unverified { why } = offer(&store, "b.crl", &forged) else { panic!("taken") };
    assert!(why.contains("CN=Contoso Root (1 tried)"), "{why}");
    assert!(why.ends_with("whose key has the identifier ABCD"), "{why}");
    assert!(is_revoked(&store, ca.link(7)) && is_good(&store, ca.link(8)));
    // It is remembered, and said again.
    assert_eq!(offer(&store, "b.crl", &forged), Offered::Unverified { why });
    assert_eq!(store.status().len(), 2);
}

#[test]
fn a_changed_octet_of_what_is_signed_or_of_the_signature_is_found() {
    let (ca, store) = (Ca::new("Contoso Root"), required());
    ca.learned_by(&store);
    let der = Draft::new(1, &[0x77]).der_by(&ca);
    let entry = der.windows(3).position(|octets| octets == [0x02, 0x01, 0x77]).unwrap();
    for position in [entry + 2, der.len() - 1] {
        let mut changed = der.clone();
        changed[position] ^= 1;
        let crl = Arc::new(Crl::parse(&changed).unwrap());
        assert!(matches!(offer(&store, "a", &crl), Offered::Unverified { .. }), "{position}");
    }
    assert!(why_unknown(&store, ca.link(1)).contains("isn't signed with its key"));
}

#[test]
fn two_cas_of_one_name_never_answer_for_each_other() {
    let [first, second] = ["Contoso Root"; 2].map(Ca::new);
    let store = required();
    assert_ne!(first.id(), second.id());
    offer(&store, "first.crl", &first.crl(1, &[7]));
    offer(&store, "second.crl", &second.crl(5, &[8]));
    first.learned_by(&store);
    assert!(is_revoked(&store, first.link(7)) && is_good(&store, first.link(8)));
    assert_eq!(why_unknown(&store, second.link(8)), UNKNOWN);
    second.learned_by(&store);
    assert!(is_revoked(&store, second.link(8)) && is_good(&store, second.link(7)));
    assert!(is_revoked(&store, first.link(7)) && is_good(&store, first.link(8)));
}

#[test]
fn an_issuer_is_its_name_and_its_key_together() {
    assert_ne!(IssuerId::of(b"ab", b"c"), IssuerId::of(b"a", b"bc"));
    assert_eq!(IssuerId::of(b"ab", b"c"), IssuerId::of(b"ab", b"c"));
}

#[test]
fn a_crl_waits_for_its_issuer_and_is_used_when_it_gets_known() {
    let (ca, store) = (Ca::new("Contoso Sub"), required());
    let Offered::Waiting { why } = offer(&store, "a.crl", &ca.crl(1, &[7])) else { panic!("used") };
    assert!(why.contains("no CA named CN=Contoso Sub"), "{why}");
    assert!(matches!(offer(&store, "a.crl", &ca.crl(2, &[8])), Offered::Waiting { .. }));
    assert!(store.status().iter().all(|status| status.state == CrlState::Waiting));
    assert_eq!(why_unknown(&store, ca.link(7)), UNKNOWN);
    ca.learned_by(&store);
    assert!(is_good(&store, ca.link(7)) && is_revoked(&store, ca.link(8)), "the newer one");
    assert_eq!(store.status().len(), 1);
}

#[test]
fn a_ca_that_may_not_sign_crls_verifies_none_until_it_may() {
    let (ca, store) = (Ca::new("Contoso Root"), required());
    let crl = ca.crl(1, &[7]);
    store.learn(&ca.name, &ca.spki(), false);
    let Offered::Waiting { why } = offer(&store, "a.crl", &crl) else { panic!("used") };
    assert!(why.contains("that may sign CRLs"), "{why}");
    assert!(why_unknown(&store, ca.link(8)).contains("has no cRLSign"));
    // Another certificate of the same CA allows it.
    let epoch = store.epoch();
    ca.learned_by(&store);
    assert_ne!(store.epoch(), epoch);
    assert!(is_revoked(&store, ca.link(7)) && is_good(&store, ca.link(8)));
    store.learn(&ca.name, &ca.spki(), false);
    assert!(is_good(&store, ca.link(8)), "and no certificate takes that back");
}

#[test]
fn a_key_that_can_t_be_read_verifies_nothing() {
    let (ca, store) = (Ca::new("Contoso Root"), required());
    let id = store.learn(&ca.name, b"no key", true);
    offer(&store, "a.crl", &ca.crl(1, &[]));
    let link = Link { issuer: id, ..ca.link(1) };
    assert_eq!(why_unknown(&store, link), "the key of its issuer can't be read");
}

/// Whether a store that knows this key takes a CRL of this algorithm, signed so.
fn takes(
    algorithm: AlgorithmIdentifier,
    key_algorithm: AlgorithmIdentifier,
    key: &[u8],
    sign: impl Fn(&[u8]) -> Vec<u8>,
) -> bool {
    let name = Ca::name("Contoso Root");
    let mut draft = Draft::new(1, &[7]);
    draft.algorithms = [algorithm.to_vec(), algorithm.to_vec()];
    let crl = Arc::new(Crl::parse(&draft.der(&name, sign)).unwrap());
    let key = [&[0], key].concat();
    let spki = sequence(&[&sequence(&[&key_algorithm]), &tlv(0x03, &key)]);
    let store = required();
    store.learn(&name, &spki, true);
    offer(&store, "a.crl", &crl) == Offered::InUse
}

#[test]
fn signatures_over_the_whole_message_are_verified() {
    let key = Ed25519KeyPair::generate().unwrap();
    let sign = |message: &[u8]| key.sign(message).as_ref().to_vec();
    let public = key.public_key().as_ref();
    assert!(takes(alg_id::ED25519, alg_id::ED25519, public, sign));
    assert!(!takes(alg_id::ED25519, alg_id::ED25519, public, |_| sign(b"something else")));
    assert!(!takes(alg_id::ED25519, alg_id::ECDSA_P256, public, sign));

    let key = PqdsaKeyPair::generate(&signature::ML_DSA_65_SIGNING).unwrap();
    let sign = |message: &[u8]| {
        let mut made = vec![0; key.algorithm().signature_len()];
        let length = key.sign(message, &mut made).unwrap();
        made.truncate(length);
        made
    };
    let public = key.public_key().as_ref();
    assert!(takes(alg_id::ML_DSA_65, alg_id::ML_DSA_65, public, sign));
    assert!(!takes(alg_id::ML_DSA_65, alg_id::ML_DSA_65, public, |_| sign(b"something else")));
}

#[test]
fn signatures_of_rsa_are_verified_with_both_paddings() {
    let key = RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let sign = |padding: &'static dyn signature::RsaEncoding, message: &[u8]| {
        let mut made = vec![0; key.public_modulus_len()];
        key.sign(padding, &SystemRandom::new(), message, &mut made).unwrap();
        made
    };
    let pkcs1 = |message: &[u8]| sign(&signature::RSA_PKCS1_SHA384, message);
    let pss = |message: &[u8]| sign(&signature::RSA_PSS_SHA256, message);
    let public = key.public_key().as_ref();
    let rsa = alg_id::RSA_ENCRYPTION;
    assert!(takes(alg_id::RSA_PKCS1_SHA384, rsa, public, pkcs1));
    assert!(takes(alg_id::RSA_PSS_SHA256, rsa, public, pss));
    assert!(!takes(alg_id::RSA_PSS_SHA256, rsa, public, pkcs1));
    assert!(!takes(alg_id::RSA_PKCS1_SHA256, rsa, public, pkcs1));
}

#[test]
fn a_key_on_a_curve_is_a_point_in_an_encoding_that_is_allowed() {
    let ca = Ca::new("Contoso Root");
    let sign = |message: &[u8]| rcgen::SigningKey::sign(&ca.key, message).unwrap();
    let point = ca.key.public_key_raw();
    let mut hybrid = point.to_vec();
    hybrid[0] = 0x06 | (point[64] & 1);
    let ids = (alg_id::ECDSA_SHA256, alg_id::ECDSA_P256);
    assert!(takes(ids.0, ids.1, point, sign));
    assert!(!takes(ids.0, ids.1, &hybrid, sign));
    assert!(!takes(ids.0, ids.1, &[], sign));
}

#[test]
fn a_large_crl_is_only_taken_with_a_signature_over_its_digest() {
    let mut draft = Draft::new(1, &[]);
    draft.entries = vec![[entry(&[1; 20], &[reason(1)])].concat().repeat(20_000)];
    assert!(Crl::parse(&draft.der(&Ca::name("Contoso Root"), |_| vec![1; 64])).is_ok());
    draft.algorithms = [alg_id::ED25519.to_vec(), alg_id::ED25519.to_vec()];
    let refused = draft.refused();
    assert!(matches!(refused, CrlError::TooLargeToKeep { limit: 1_048_576, .. }), "{refused}");
}

#[test]
fn garbage_that_waits_pushes_out_neither_the_first_of_its_source_nor_what_others_brought() {
    let (ca, store) = (Ca::new("Contoso Sub"), required());
    let forger = Ca::new("Contoso Sub");
    let genuine = ca.crl(5, &[7]);
    offer(&store, "http://crl.test", &genuine);
    offer(&store, "file.crl", &ca.crl(4, &[8]));
    for number in 0..20 {
        let fate = offer(&store, "http://crl.test", &forger.crl(number, &[]));
        assert!(matches!(fate, Offered::Waiting { .. }));
    }
    assert_eq!(store.status().len(), 5, "four of one kind, one of another source");
    ca.learned_by(&store);
    assert!(is_revoked(&store, ca.link(7)) && is_good(&store, ca.link(8)));
}

#[test]
fn one_source_can_t_fill_the_room_for_a_name() {
    let (ca, store) = (Ca::new("Contoso Sub"), required());
    let forger = Ca::new("Contoso Sub");
    let part = |number: u32| {
        let uri = format!("http://crl.test/{number}");
        let point = tlv(0xa0, &tlv(0xa0, &tlv(0x86, uri.as_bytes())));
        Draft::new(1, &[]).with(standard(28, true, &sequence(&[&point]))).signed_by(&forger)
    };
    let fates: Vec<_> = (0..130).map(|number| offer(&store, "http", &part(number))).collect();
    let refused = fates.iter().filter(|fate| matches!(fate, Offered::Refused { .. })).count();
    assert_eq!((fates.len(), refused), (130, 2));
    offer(&store, "file.crl", &ca.crl(1, &[7]));
    ca.learned_by(&store);
    assert!(is_revoked(&store, ca.link(7)));
}

#[test]
fn the_number_of_issuers_is_bounded_and_one_too_many_is_a_doubt() {
    let store = Store::new(Rules { mode: Mode::Prefer, ..Rules::default() });
    let first = Ca::new("Contoso Root");
    first.learned_by(&store);
    for number in 0..1024_u32 {
        store.learn(&number.to_be_bytes(), &first.spki(), true);
    }
    assert!(is_good(&store, first.link(1)));
    let last = IssuerId::of(&1023_u32.to_be_bytes(), &first.spki());
    let why = why_unknown(&store, Link { issuer: last, ..first.link(1) });
    assert!(why.contains("no more issuers are kept"), "{why}");
    let epoch = store.epoch();
    Ca::new("One More").learned_by(&store);
    assert_eq!(store.epoch(), epoch);
}

#[test]
fn the_number_of_issuers_of_one_name_is_bounded_too() {
    let store = required();
    let keys: Vec<Ca> = (0..65).map(|_| Ca::new("Contoso Sub")).collect();
    for ca in &keys {
        ca.learned_by(&store);
        offer(&store, "a.crl", &ca.crl(1, &[7]));
    }
    assert!(is_revoked(&store, keys[63].link(7)));
    assert_eq!(why_unknown(&store, keys[64].link(7)), UNKNOWN);
    let other = Ca::new("Contoso Sub 2");
    other.learned_by(&store);
    offer(&store, "a.crl", &other.crl(1, &[7]));
    assert!(is_revoked(&store, other.link(7)));
}

#[test]
fn readers_answer_while_others_learn_and_offer() {
    let (ca, store) = (Ca::new("Contoso Root"), required());
    ca.learned_by(&store);
    offer(&store, "a.crl", &ca.crl(0, &[7]));
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                for _ in 0..2000 {
                    assert!(is_revoked(&store, ca.link(7)) && is_good(&store, ca.link(8)));
                }
            });
        }
        threads.spawn(|| {
            for number in 1..40 {
                assert_eq!(offer(&store, "a.crl", &ca.crl(number, &[7])), Offered::InUse);
                Ca::new("Another").learned_by(&store);
            }
        });
    });
    assert_eq!(store.epoch(), 2 + 2 * 39);
}
