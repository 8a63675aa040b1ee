//! What keeps partners apart: the lengths of keys, pins, discovered peers, and which entry counts.

use std::sync::Arc;

use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Ca, NOW, admitted, assert_refused, at, frontends, patterns, peers, policy, profile};
use crate::{
    config::{Discovered, KeyPin, PeerLimits, PeerSet, TrustProfile},
    name::NamePattern,
    trust::{Check, Permit, Policy, Refusal, Step},
};

fn pin_of(certificate: &CertificateDer<'_>) -> KeyPin {
    KeyPin::of(X509Certificate::from_der(certificate).unwrap().1.public_key().raw)
}

fn pinned(name: &str, trust: &Arc<TrustProfile>, names: &[&str], pins: &[KeyPin]) -> Arc<PeerSet> {
    let set = peers(name, trust, names);
    let set = Arc::into_inner(set).expect("nobody else has it");
    Arc::new(PeerSet { pins: pins.to_vec(), ..set })
}

/// peers.world: whoever `ca` vouches for, but for the names of `reserved`.
fn world(cas: &[&Ca], reserved: &[&Arc<TrustProfile>]) -> Arc<PeerSet> {
    let mut trust = profile("public", cas, &[]);
    trust.names = vec![NamePattern::ANY_DNS];
    Arc::new(PeerSet {
        name: "world".into(),
        trust: trust.into(),
        names: vec![NamePattern::ANY_DNS],
        blocked: Vec::new(),
        pins: Vec::new(),
        limits: PeerLimits::default(),
        discovered: Some(Discovered { reserved: reserved.iter().copied().cloned().collect() }),
    })
}

fn with_names(names: &[&str]) -> impl Fn(&mut CertificateParams) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    move |leaf| {
        let san = |name: &String| SanType::DnsName(name.as_str().try_into().unwrap());
        leaf.subject_alt_names = names.iter().map(san).collect();
    }
}

fn set_of(permit: &Permit) -> &str {
    permit.peer().expect("a peer").peer_set()
}

#[test]
fn every_key_of_a_path_is_as_long_as_the_profile_asks_for() {
    let key = |algorithm| KeyPair::generate_for(algorithm).unwrap();
    let (p256, p384) = (&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384);
    let root = Ca::root_for(key(p384), "Long Root");
    let short = Ca::root("Short Root");
    let strict = |trust: &mut TrustProfile| trust.min_ec_bits = 384;
    let policy = frontends(&root, strict);
    let leaf = |ca: &Ca, algorithm| ca.leaf_for(&key(algorithm), "fe01.contoso.test", |_| {});

    admitted(&policy, &[leaf(&root, p384)]);
    let refused = assert_refused(&policy, &[leaf(&root, p256)], Refusal::WeakKey);
    assert!(refused.detail.contains("the client's key is EC256"), "{refused}");
    assert!(refused.detail.contains("trust.contoso asks for 384 bits"), "{refused}");
    let refused = assert_refused(&policy, &[leaf(&root, &rcgen::PKCS_ED25519)], Refusal::WeakKey);
    assert!(refused.detail.contains("ED25519"), "{refused}");
    admitted(&frontends(&root, |_| {}), &[leaf(&root, &rcgen::PKCS_ED25519)]);

    let sub = root.sub("Short Sub");
    let refused = assert_refused(&policy, &[leaf(&sub, p384), sub.der.clone()], Refusal::WeakKey);
    assert!(refused.detail.contains("of an intermediate certificate is EC256"), "{refused}");

    let policy = frontends(&short, strict);
    let refused = assert_refused(&policy, &[leaf(&short, p384)], Refusal::WeakKey);
    assert!(refused.detail.contains("the key of its CA is EC256"), "{refused}");

    let rsa = key(&rcgen::PKCS_RSA_SHA256);
    let chain = [root.leaf_for(&rsa, "fe01.contoso.test", |_| {})];
    admitted(&frontends(&root, |_| {}), &chain);
    let policy = frontends(&root, |trust| trust.min_rsa_bits = 3072);
    let refused = assert_refused(&policy, &chain, Refusal::WeakKey);
    assert!(refused.detail.contains("RSA2048; trust.contoso asks for 3072"), "{refused}");
}

#[test]
fn a_pinned_peer_needs_its_own_key_and_the_refusal_shows_the_one_it_had() {
    let ca = Ca::root("Fabrikam Root");
    let trust = Arc::new(profile("fabrikam", &[&ca], &["*.fabrikam.test"]));
    let key = KeyPair::generate().unwrap();
    let right = ca.leaf_for(&key, "edge.fabrikam.test", |_| {});
    let other = KeyPin::of(b"another key");
    let policy =
        policy(&[pinned("edge", &trust, &["edge.fabrikam.test"], &[other, pin_of(&right)])]);
    admitted(&policy, std::slice::from_ref(&right));
    let renewed = ca.leaf_for(&key, "edge.fabrikam.test", |leaf| {
        leaf.distinguished_name.push(DnType::OrganizationName, "renewed");
    });
    admitted(&policy, &[renewed]);
    let misissued = ca.leaf("edge.fabrikam.test");
    let shown = pin_of(&misissued).to_string();
    let refused = assert_refused(&policy, &[misissued], Refusal::KeyNotPinned);
    assert!(refused.detail.contains(&shown), "{refused}");
    assert!(refused.detail.contains("peers.edge"), "{refused}");
}

#[test]
fn no_second_name_and_no_wildcard_gets_round_a_pin() {
    let ca = Ca::root("Fabrikam Root");
    let trust = Arc::new(profile("fabrikam", &[&ca], &["*.fabrikam.test"]));
    let right = ca.leaf("edge.fabrikam.test");
    let edge = pinned("edge", &trust, &["edge.fabrikam.test"], &[pin_of(&right)]);
    let all = peers("all", &trust, &["*.fabrikam.test"]);
    for sets in [[edge.clone(), all.clone()], [all, edge]] {
        let policy = policy(&sets);
        assert_eq!(set_of(&admitted(&policy, std::slice::from_ref(&right))), "edge");
        assert_eq!(set_of(&admitted(&policy, &[ca.leaf("www.fabrikam.test")])), "all");
        for names in [
            &["edge.fabrikam.test"][..],
            &["www.fabrikam.test", "edge.fabrikam.test"],
            &["*.fabrikam.test"],
        ] {
            let leaf = ca.leaf_with(names[0], with_names(names));
            assert_refused(&policy, &[leaf], Refusal::KeyNotPinned);
        }
    }
}

#[test]
fn a_name_of_another_profile_of_the_ca_doesnt_get_round_a_pin() {
    let ca = Ca::root("Shared Root");
    let [fabrikam, litware] = ["fabrikam", "litware"]
        .map(|name| Arc::new(profile(name, &[&ca], &[&format!("*.{name}.test")])));
    let right = ca.leaf("edge.fabrikam.test");
    let edge = pinned("edge", &fabrikam, &["edge.fabrikam.test"], &[pin_of(&right)]);
    let other = peers("other", &litware, &["www.litware.test"]);
    for sets in [[edge.clone(), other.clone()], [other, edge]] {
        let policy = policy(&sets);
        admitted(&policy, std::slice::from_ref(&right));
        admitted(&policy, &[ca.leaf("www.litware.test")]);
        let both = with_names(&["www.litware.test", "edge.fabrikam.test"]);
        let leaf = ca.leaf_with("www.litware.test", both);
        assert_refused(&policy, &[leaf], Refusal::KeyNotPinned);
    }
}

#[test]
fn a_pin_of_one_profile_doesnt_bind_the_ca_of_another() {
    let [old, new] = ["Old Root", "New Root"].map(Ca::root);
    let [before, after] = [("before", &old), ("after", &new)]
        .map(|(name, ca)| Arc::new(profile(name, &[ca], &["*.fabrikam.test"])));
    let name = "edge.fabrikam.test";
    let policy = policy(&[
        pinned("before", &before, &[name], &[KeyPin::of(b"the old key")]),
        peers("after", &after, &[name]),
    ]);
    assert_eq!(set_of(&admitted(&policy, &[new.leaf(name)])), "after");
    assert_refused(&policy, &[old.leaf(name)], Refusal::KeyNotPinned);
}

#[test]
fn the_narrowest_entry_counts_and_with_it_the_pins_of_its_set() {
    let ca = Ca::root("Fabrikam Root");
    let trust = Arc::new(profile("fabrikam", &[&ca], &["*.fabrikam.test"]));
    let nobody = KeyPin::of(b"nobody's key");
    let policy = policy(&[
        pinned("all", &trust, &["*.fabrikam.test"], &[nobody]),
        peers("new", &trust, &["new.fabrikam.test", "*.new.fabrikam.test"]),
    ]);
    for name in ["new.fabrikam.test", "a.new.fabrikam.test"] {
        let permit = admitted(&policy, &[ca.leaf(name)]);
        assert_eq!(set_of(&permit), "new");
    }
    assert_refused(&policy, &[ca.leaf("old.fabrikam.test")], Refusal::KeyNotPinned);
    let explanation = policy.explain(&[ca.leaf("new.fabrikam.test")], at(NOW));
    let told = Step::Check {
        check: Check::Narrowest,
        passed: false,
        detail: "peers.new lists new.fabrikam.test more narrowly".into(),
    };
    assert!(explanation.steps.contains(&told), "{explanation:#?}");
}

#[test]
fn a_later_policy_with_pins_refuses_who_was_admitted_without() {
    let ca = Ca::root("Fabrikam Root");
    let trust = Arc::new(profile("fabrikam", &[&ca], &["*.fabrikam.test"]));
    let leaf = [ca.leaf("edge.fabrikam.test")];
    let permit = admitted(&policy(&[peers("edge", &trust, &["edge.fabrikam.test"])]), &leaf);
    let pins = |pin| policy(&[pinned("edge", &trust, &["edge.fabrikam.test"], &[pin])]);
    assert!(pins(pin_of(&leaf[0])).decide_again(&permit, at(NOW)).is_ok());
    let refused = pins(KeyPin::of(b"x")).decide_again(&permit, at(NOW)).unwrap_err();
    assert_eq!(refused.reason, Refusal::KeyNotPinned);
}

struct Federation {
    ours: Ca,
    theirs: Ca,
    public: Ca,
    policy: Policy,
}

/// Ours is admitted, a partner's profile isn't, and everybody else is discovered.
fn federation() -> Federation {
    let [ours, theirs, public] = ["Contoso Root", "Fabrikam Root", "Public Root"].map(Ca::root);
    let contoso = Arc::new(profile("contoso", &[&ours], &["*.contoso.test"]));
    let networks = ["*.fabrikam.test", "spiffe://fabrikam.test/*", "192.0.2.0/24"];
    let fabrikam = Arc::new(profile("fabrikam", &[&theirs], &networks));
    let policy = policy(&[
        world(&[&public], &[&contoso, &fabrikam]),
        peers("ours", &contoso, &["fe01.contoso.test"]),
    ]);
    Federation { ours, theirs, public, policy }
}

#[test]
fn a_discovered_peer_is_any_name_that_no_other_profile_is_for() {
    let Federation { ours, public, policy, .. } = federation();
    for name in ["sip.example.net", "*.example.net", "contoso.test", "evilcontoso.test"] {
        let permit = admitted(&policy, &[public.leaf(name)]);
        let peer = permit.peer().unwrap();
        assert_eq!((set_of(&permit), &**peer.profile()), ("world", "public"));
        assert_eq!(peer.matched_pattern().to_string(), "*");
        assert_eq!(peer.matched_name().to_string(), name);
    }
    assert_eq!(set_of(&admitted(&policy, &[ours.leaf("fe01.contoso.test")])), "ours");
}

#[test]
fn a_public_ca_speaks_neither_for_us_nor_for_a_partner_even_beside_another_name() {
    let Federation { public, policy, .. } = federation();
    for names in [
        &["fe01.contoso.test"][..],
        &["fe99.contoso.test"],
        &["edge.fabrikam.test"],
        &["sip.example.net", "edge.fabrikam.test"],
        &["*.contoso.test"],
    ] {
        let leaf = public.leaf_with("sip.example.net", with_names(names));
        let refused = assert_refused(&policy, &[leaf], Refusal::NameNotAllowedForCa);
        assert!(refused.detail.contains("CN=Public Root"), "{refused}");
    }
    let common_name = public.leaf_with("fe01.contoso.test", with_names(&["sip.example.net"]));
    assert_refused(&policy, &[common_name], Refusal::NameNotAllowedForCa);
    let two_common_names = public.leaf_with("sip.example.net", |leaf| {
        let kind = DnType::CustomDnType(vec![2, 5, 4, 3]);
        leaf.distinguished_name.push(kind, "fe01.contoso.test");
    });
    assert_refused(&policy, &[two_common_names], Refusal::NameNotAllowedForCa);
    let others = [
        SanType::URI("spiffe://fabrikam.test/a".try_into().unwrap()),
        SanType::IpAddress("192.0.2.7".parse().unwrap()),
    ];
    for other in others {
        let leaf = public.leaf_with("sip.example.net", |leaf| {
            leaf.subject_alt_names.push(other.clone());
        });
        assert_refused(&policy, &[leaf], Refusal::NameNotAllowedForCa);
    }
}

#[test]
fn a_discovered_peer_needs_a_dns_name_of_a_ca_of_its_profile() {
    let Federation { ours, theirs, public, policy } = federation();
    let address = public.leaf_with("x.test", |leaf| {
        leaf.subject_alt_names = vec![SanType::IpAddress("198.51.100.7".parse().unwrap())];
    });
    assert_refused(&policy, &[address], Refusal::NameNotListed);
    // Our own CA vouches for nobody else's name, and nobody is told it was listed.
    let refused = assert_refused(&policy, &[ours.leaf("fe1.contoso.test")], Refusal::NameNotListed);
    assert!(refused.detail.contains("the nearest is fe01.contoso.test"), "{refused}");
    assert_refused(&policy, &[ours.leaf("sip.example.net")], Refusal::NameNotListed);
    assert_refused(&policy, &[theirs.leaf("edge.fabrikam.test")], Refusal::UnknownIssuer);
}

#[test]
fn a_ca_that_is_ours_and_public_admits_ours_by_its_list_and_others_as_discovered() {
    let shared = Ca::root("Public Root");
    let contoso = Arc::new(profile("contoso", &[&shared], &["*.contoso.test"]));
    let policy =
        policy(&[world(&[&shared], &[&contoso]), peers("ours", &contoso, &["fe01.contoso.test"])]);
    assert_eq!(set_of(&admitted(&policy, &[shared.leaf("fe01.contoso.test")])), "ours");
    assert_eq!(set_of(&admitted(&policy, &[shared.leaf("sip.example.net")])), "world");
    let refused =
        assert_refused(&policy, &[shared.leaf("fe1.contoso.test")], Refusal::NameNotListed);
    assert!(refused.detail.contains("the nearest is fe01.contoso.test"), "{refused}");
}

#[test]
fn a_later_policy_that_reserves_a_name_refuses_who_was_discovered_by_it() {
    let public = Ca::root("Public Root");
    let permit = admitted(&policy(&[world(&[&public], &[])]), &[public.leaf("a.fabrikam.test")]);
    let partner = Arc::new(profile("fabrikam", &[&Ca::root("Theirs")], &["*.fabrikam.test"]));
    let later = policy(&[world(&[&public], &[&partner])]);
    let refused = later.decide_again(&permit, at(NOW)).unwrap_err();
    assert_eq!(refused.reason, Refusal::NameNotAllowedForCa);
}

#[test]
fn of_ten_thousand_names_each_is_found_and_no_other() {
    let ca = Ca::root("Contoso Root");
    let trust = Arc::new(profile("contoso", &[&ca], &["*.contoso.test"]));
    let names: Vec<String> = (0..10_000).map(|n| format!("fe{n}.contoso.test")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let policy = policy(&[peers("frontends", &trust, &names)]);
    for number in [0, 5000, 9999] {
        let permit = admitted(&policy, &[ca.leaf(names[number])]);
        assert_eq!(permit.peer().unwrap().matched_pattern(), &patterns(&[names[number]])[0]);
    }
    assert_refused(&policy, &[ca.leaf("fe10000.contoso.test")], Refusal::NameNotListed);
}

#[test]
fn a_list_of_cas_that_is_too_long_for_a_handshake_isnt_sent_at_all() {
    let name = |n: usize| format!("{} {n}", "x".repeat(60));
    let cas: Vec<Ca> = (0..250).map(|n| Ca::root(&name(n))).collect();
    let few: Vec<&Ca> = cas.iter().take(100).collect();
    let policy_of = |cas: &[&Ca]| {
        let trust = Arc::new(profile("contoso", cas, &["*.contoso.test"]));
        policy(&[peers("frontends", &trust, &["fe01.contoso.test"])])
    };
    assert_eq!(policy_of(&few).root_hint_subjects().len(), 100);
    let all = policy_of(&cas.iter().collect::<Vec<_>>());
    assert!(all.root_hint_subjects().is_empty());
    admitted(&all, &[cas[249].leaf("fe01.contoso.test")]);
}
