//! Paths: who issued whom, when, and how much a client may show.

use std::sync::Arc;

use rcgen::{BasicConstraints, IsCa, KeyPair};
use rustls_pki_types::CertificateDer;

use super::*;

#[test]
fn a_listed_server_from_the_root_is_admitted_and_the_permit_says_why() {
    let ca = Ca::root("Contoso Root");
    let permit = admitted(&frontends(&ca, |_| {}), &[ca.leaf("fe01.contoso.test")]);
    let peer = permit.peer().expect("a peer");
    assert_eq!(&**peer.peer_set(), "frontends");
    assert_eq!(&**peer.profile(), "contoso");
    assert_eq!(peer.matched_name().to_string(), "fe01.contoso.test");
    assert_eq!(peer.matched_pattern().to_string(), "fe01.contoso.test");
    assert_eq!(peer.anchor_subject(), "CN=Contoso Root");
    assert_eq!(peer.identity().subject(), "CN=fe01.contoso.test");
    let end = u64::try_from(date(2031).unix_timestamp()).unwrap();
    assert_eq!(permit.valid_until(), Some(at(end)));
}

#[test]
fn a_path_ends_with_its_shortest_lived_certificate() {
    let ca = Ca::root("Contoso Root");
    let sub = ca.sub_with("Contoso Sub", |params| {
        params.not_after = date(2030) + time::Duration::days(10);
    });
    let chain = [sub.leaf("fe01.contoso.test"), sub.der.clone()];
    let policy = frontends(&ca, |_| {});
    let end = admitted(&policy, &chain).valid_until().expect("an end");
    assert_eq!(end.as_secs(), NOW + 10 * 86_400);
    assert!(policy.decide(&chain, end).is_ok());
    let after = policy.decide(&chain, at(end.as_secs() + 1)).expect_err("a refusal");
    assert_eq!(after.reason, Refusal::Expired);
    assert!(after.detail.contains("CN=Contoso Sub"), "{after}");
}

#[test]
fn a_certificate_is_good_in_the_seconds_of_its_not_before_and_not_after() {
    let ca = Ca::root("Contoso Root");
    let policy = frontends(&ca, |_| {});
    let chain = [ca.leaf("fe01.contoso.test")];
    let first = u64::try_from(date(2029).unix_timestamp()).unwrap();
    let last = u64::try_from(date(2031).unix_timestamp()).unwrap();
    let reason =
        |seconds| policy.decide(&chain, at(seconds)).map_err(|refused| refused.reason).err();
    assert_eq!(reason(first - 1), Some(Refusal::NotYetValid));
    assert_eq!(reason(first), None);
    assert_eq!(reason(last), None);
    assert_eq!(reason(last + 1), Some(Refusal::Expired));
}

#[test]
fn an_expired_trust_anchor_vouches_for_nobody() {
    let ca = Ca::root_with("Contoso Root", |params| params.not_after = date(2029));
    let refused =
        assert_refused(&frontends(&ca, |_| {}), &[ca.leaf("fe01.contoso.test")], Refusal::Expired);
    assert!(refused.detail.contains("trust.contoso"), "{refused}");
    let early = Ca::root_with("Contoso Root", |params| params.not_before = date(2031));
    let chain = [early.leaf("fe01.contoso.test")];
    assert_refused(&frontends(&early, |_| {}), &chain, Refusal::NotYetValid);
}

#[test]
fn a_renewed_trust_anchor_with_the_same_key_takes_over_from_the_expired_one() {
    let old = Ca::root_with("Contoso Root", |params| params.not_after = date(2029));
    let mut params = old.params.clone();
    params.not_after = date(2035);
    let renewed = CaCertificate {
        file: "renewed.pem".into(),
        not_after: 0,
        der: params.self_signed(old.issuer.key()).unwrap().der().clone(),
    };
    let policy = frontends(&old, |trust| trust.ca.push(renewed));
    admitted(&policy, &[old.leaf("fe01.contoso.test")]);
    assert_eq!(policy.root_hint_subjects().len(), 1);
}

#[test]
fn strangers_are_told_whose_signature_is_missing() {
    let ca = Ca::root("Contoso Root");
    let stranger = Ca::root("Stranger Root");
    let sub = stranger.sub("Stranger Sub");
    let policy = frontends(&ca, |_| {});
    let refused =
        assert_refused(&policy, &[stranger.leaf("fe01.contoso.test")], Refusal::UnknownIssuer);
    assert!(refused.detail.contains("CN=Stranger Root"), "{refused}");
    assert_eq!(refused.identity.expect("an identity").subject(), "CN=fe01.contoso.test");
    let chain = [sub.leaf("fe01.contoso.test"), sub.der.clone(), stranger.der.clone()];
    assert_refused(&policy, &chain, Refusal::UnknownIssuer);
    let impostor = Ca::root("Contoso Root");
    assert_refused(&policy, &[impostor.leaf("fe01.contoso.test")], Refusal::BadSignature);
}

#[test]
fn a_self_signed_certificate_is_nobodys() {
    let ca = Ca::root("Contoso Root");
    let own = leaf_params("fe01.contoso.test").self_signed(&KeyPair::generate().unwrap()).unwrap();
    assert_refused(&frontends(&ca, |_| {}), &[own.der().clone()], Refusal::UnknownIssuer);
}

#[test]
fn a_ca_certificate_is_no_peer() {
    let ca = Ca::root("Contoso Root");
    let policy = frontends(&ca, |_| {});
    assert_refused(&policy, std::slice::from_ref(&ca.der), Refusal::WrongKeyUsage);
}

#[test]
fn the_order_of_intermediates_and_superfluous_ones_dont_matter() {
    let ca = Ca::root("Contoso Root");
    let (one, other) = (ca.sub("One"), Ca::root("Other"));
    let two = one.sub("Two");
    let leaf = two.leaf("fe01.contoso.test");
    let policy = frontends(&ca, |_| {});
    admitted(&policy, &[leaf.clone(), two.der.clone(), one.der.clone()]);
    admitted(&policy, &[leaf.clone(), one.der.clone(), two.der.clone()]);
    let whole = [leaf, other.der.clone(), ca.der.clone(), one.der.clone(), two.der.clone()];
    admitted(&policy, &whole);
    assert_refused(&policy, &whole[..3], Refusal::UnknownIssuer);
}

#[test]
fn an_intermediate_that_is_no_ca_issues_nothing() {
    let ca = Ca::root("Contoso Root");
    let policy = frontends(&ca, |_| {});
    for is_ca in [IsCa::NoCa, IsCa::ExplicitNoCa] {
        let sub = ca.sub_with("Contoso Sub", |params| params.is_ca = is_ca);
        let chain = [sub.leaf("fe01.contoso.test"), sub.der.clone()];
        assert_refused(&policy, &chain, Refusal::WrongKeyUsage);
    }
}

#[test]
fn an_intermediate_without_key_cert_sign_issues_nothing() {
    let ca = Ca::root("Contoso Root");
    let sub = ca.sub_with("Contoso Sub", |params| {
        params.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign];
    });
    let chain = [sub.leaf("fe01.contoso.test"), sub.der.clone()];
    let refused = assert_refused(&frontends(&ca, |_| {}), &chain, Refusal::WrongKeyUsage);
    assert!(refused.detail.contains("keyCertSign"), "{refused}");
}

#[test]
fn path_lengths_of_intermediate_anchor_and_profile_are_kept() {
    let chain_under = |ca: &Ca, length: u8| {
        let one = ca.sub_with("One", |params| {
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(length));
        });
        let two = one.sub("Two");
        [two.leaf("fe01.contoso.test"), two.der, one.der]
    };
    let ca = Ca::root("Contoso Root");
    admitted(&frontends(&ca, |_| {}), &chain_under(&ca, 1));
    assert_refused(&frontends(&ca, |_| {}), &chain_under(&ca, 0), Refusal::ChainTooLong);
    let strict = frontends(&ca, |trust| trust.max_intermediates = 1);
    let refused = assert_refused(&strict, &chain_under(&ca, 1), Refusal::ChainTooLong);
    assert!(refused.detail.contains("trust.contoso allows 1"), "{refused}");
    let short = Ca::root_with("Short Root", |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    });
    assert_refused(&frontends(&short, |_| {}), &chain_under(&short, 1), Refusal::ChainTooLong);
}

#[test]
fn a_client_may_not_show_too_many_certificates() {
    let ca = Ca::root("Contoso Root");
    let policy = frontends(&ca, |_| {});
    let mut chain = vec![ca.leaf("fe01.contoso.test")];
    chain.extend((0..8).map(|n| Ca::root(&format!("Other {n}")).der));
    admitted(&policy, &chain);
    chain.push(Ca::root("One more").der);
    assert_refused(&policy, &chain, Refusal::ChainTooLong);
}

#[test]
fn a_client_may_not_show_too_many_bytes() {
    let ca = Ca::root("Contoso Root");
    let big = ca.leaf_with("fe01.contoso.test", |params| {
        let padding = rcgen::CustomExtension::from_oid_content(&[1, 3, 9999], vec![0; 63 * 1024]);
        params.custom_extensions.push(padding);
    });
    let policy = frontends(&ca, |_| {});
    admitted(&policy, std::slice::from_ref(&big));
    let refused = assert_refused(&policy, &[big, vec![0; 2048].into()], Refusal::ChainTooLong);
    assert!(refused.identity.is_none());
}

#[test]
fn many_intermediates_of_one_subject_are_refused_but_copies_count_once() {
    let ca = Ca::root("Contoso Root");
    let policy = frontends(&ca, |_| {});
    let [a, b, c] = [(); 3].map(|()| ca.sub("Twin"));
    let leaf = a.leaf("fe01.contoso.test");
    let copies =
        [leaf.clone(), leaf.clone(), b.der.clone(), b.der.clone(), a.der.clone(), a.der.clone()];
    admitted(&policy, &copies);
    let three = [leaf, a.der, b.der, c.der];
    assert_refused(&policy, &three, Refusal::ChainTooLong);
}

#[test]
fn garbage_is_malformed_wherever_it_stands() {
    let ca = Ca::root("Contoso Root");
    let policy = frontends(&ca, |_| {});
    let leaf = ca.leaf("fe01.contoso.test");
    assert_refused(&policy, &[vec![0x30, 0x03, 1, 2].into()], Refusal::Malformed);
    assert_refused(&policy, &[Vec::new().into()], Refusal::Malformed);
    assert_refused(&policy, &[leaf.clone(), vec![0; 64].into()], Refusal::Malformed);
    let mut longer = leaf.to_vec();
    longer.push(0);
    assert_refused(&policy, &[longer.into()], Refusal::Malformed);
    let mut broken = leaf.to_vec();
    *broken.last_mut().unwrap() ^= 1;
    assert_refused(&policy, &[broken.into()], Refusal::BadSignature);
    for length in 0..leaf.len() {
        assert_refused(&policy, &[CertificateDer::from(&leaf[..length])], Refusal::Malformed);
    }
}

#[test]
fn a_critical_extension_that_nobody_understands_is_refused() {
    let ca = Ca::root("Contoso Root");
    let leaf = ca.leaf_with("fe01.contoso.test", |params| {
        let mut extension = rcgen::CustomExtension::from_oid_content(&[1, 3, 9999], vec![5, 0]);
        extension.set_criticality(true);
        params.custom_extensions.push(extension);
    });
    assert_refused(&frontends(&ca, |_| {}), &[leaf], Refusal::UnknownCriticalExtension);
}

#[test]
fn extensions_by_the_dozen_or_repeated_are_malformed() {
    let ca = Ca::root("Contoso Root");
    let policy = frontends(&ca, |_| {});
    let with = |ids: std::ops::Range<u64>| {
        [ca.leaf_with("fe01.contoso.test", |params| {
            let extension =
                |id| rcgen::CustomExtension::from_oid_content(&[1, 3, 9999, id], vec![5, 0]);
            params.custom_extensions = ids.map(extension).collect();
        })]
    };
    admitted(&policy, &with(0..32));
    assert_refused(&policy, &with(0..65), Refusal::Malformed);
    let twice = ca.leaf_with("fe01.contoso.test", |params| {
        let names = rcgen::CustomExtension::from_oid_content(&[2, 5, 29, 17], vec![0x30, 0]);
        params.custom_extensions.push(names);
    });
    assert_refused(&policy, &[twice], Refusal::Malformed);
}

#[test]
fn a_cross_signed_ca_leads_to_the_profile_that_admits_the_peer() {
    let (ours, theirs) = (Ca::root("Contoso Root"), Ca::root("Fabrikam Root"));
    let bridge = ours.sub("Bridge");
    let crossed = theirs.cross_sign(&bridge);
    let contoso: Arc<_> = profile("contoso", &[&ours], &["*.contoso.test"]).into();
    let fabrikam: Arc<_> = profile("fabrikam", &[&theirs], &["*.fabrikam.test"]).into();
    let policy = policy(&[
        peers("ours", &contoso, &["fe01.contoso.test"]),
        peers("partners", &fabrikam, &["edge.fabrikam.test"]),
    ]);
    for (name, anchor) in
        [("fe01.contoso.test", "CN=Contoso Root"), ("edge.fabrikam.test", "CN=Fabrikam Root")]
    {
        let leaf = bridge.leaf(name);
        for chain in [
            [leaf.clone(), bridge.der.clone(), crossed.clone()],
            [leaf.clone(), crossed.clone(), bridge.der.clone()],
        ] {
            let permit = admitted(&policy, &chain);
            assert_eq!(permit.peer().expect("a peer").anchor_subject(), anchor);
        }
    }
}

#[test]
fn a_decision_can_be_repeated_from_the_same_chain() {
    let ca = Ca::root("Contoso Root");
    let policy = frontends(&ca, |_| {});
    let chain = [ca.leaf("fe01.contoso.test")];
    let (first, second) = (admitted(&policy, &chain), admitted(&policy, &chain));
    assert_eq!(first.peer().unwrap().identity(), second.peer().unwrap().identity());
    assert_eq!(first.valid_until(), second.valid_until());
}

#[test]
fn without_a_certificate_it_is_the_listener_that_decides() {
    let ca = Ca::root("Contoso Root");
    let trust = profile("contoso", &[&ca], &["*.contoso.test"]).into();
    let sets = [peers("frontends", &trust, &["fe01.contoso.test"])];
    let required = policy_for(ClientAuth::Required, &sets);
    assert_eq!(required.without_certificate().unwrap_err().reason, Refusal::NoCertificate);
    assert_refused(&required, &[], Refusal::NoCertificate);
    let optional = policy_for(ClientAuth::Optional, &sets);
    assert!(optional.without_certificate().unwrap().peer().is_none());
    assert_refused(&optional, &[ca.leaf("nobody.contoso.test")], Refusal::NameNotListed);
    let none = policy_for(ClientAuth::None, &[]);
    assert!(none.without_certificate().unwrap().valid_until().is_none());
    assert_refused(&none, &[ca.leaf("fe01.contoso.test")], Refusal::UnknownIssuer);
}

#[test]
fn a_ca_certificate_that_may_not_sign_is_an_error_of_the_policy() {
    let ca = Ca::root_with("Contoso Root", |params| {
        params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    });
    let trust = profile("contoso", &[&ca], &["*.contoso.test"]).into();
    let sets = [peers("frontends", &trust, &["a.contoso.test"])];
    let error =
        Policy::new(ClientAuth::Required, &sets, &unchecked(&sets)).unwrap_err().to_string();
    assert!(
        error.starts_with("trust.contoso: ca.pem:") && error.contains("keyCertSign"),
        "{error}"
    );
}

/// Two intermediates of one subject at each of several levels, as a client with cross-signed CAs
/// may send them, and as a stranger may to multiply the paths that have to be tried.
#[test]
fn a_chain_may_not_branch_at_every_level() {
    let root = Ca::root("Contoso Root");
    let policy = frontends(&root, |_| {});
    let chain = |top: &Ca, subjects: &[&str]| {
        let mut sent = Vec::new();
        let mut issuer: Option<Ca> = None;
        for subject in subjects {
            let above = issuer.as_ref().unwrap_or(top);
            let [one, other] = [(); 2].map(|()| above.sub(subject));
            sent.extend([one.der.clone(), other.der]);
            issuer = Some(one);
        }
        sent.insert(0, issuer.expect("a level").leaf("fe01.contoso.test"));
        sent
    };
    admitted(&policy, &chain(&root, &["A", "B"]));
    assert_refused(&policy, &chain(&root, &["A", "B", "C"]), Refusal::ChainTooLong);
    let fake = Ca::root("Contoso Root");
    assert_refused(&policy, &chain(&fake, &["A", "B"]), Refusal::BadSignature);
    assert_refused(&policy, &chain(&fake, &["A", "B", "C", "D"]), Refusal::ChainTooLong);
}
