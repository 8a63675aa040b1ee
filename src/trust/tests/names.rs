//! Names: which are listed, for whose CA, and what a certificate may call itself.

use std::sync::Arc;

use rcgen::{DnType, GeneralSubtree, NameConstraints, SanType};

use super::*;

#[test]
fn a_name_that_isnt_listed_is_refused_with_the_nearest_one_that_is() {
    let ca = Ca::root("Contoso Root");
    let policy = frontends(&ca, |_| {});
    let refused = assert_refused(&policy, &[ca.leaf("fe1.contoso.test")], Refusal::NameNotListed);
    assert!(
        refused.detail.contains("fe1.contoso.test")
            && refused.detail.contains("nearest is fe01.contoso.test in peers.frontends"),
        "{refused}"
    );
    let far = assert_refused(&policy, &[ca.leaf("x.example")], Refusal::NameNotListed);
    assert!(!far.detail.contains("nearest"), "{far}");
}

#[test]
fn the_name_may_be_any_of_the_certificates() {
    let ca = Ca::root("Contoso Root");
    let leaf = ca.leaf_with("other.contoso.test", |params| {
        params.subject_alt_names.push(SanType::DnsName("FE01.contoso.test".try_into().unwrap()));
    });
    let permit = admitted(&frontends(&ca, |_| {}), &[leaf]);
    assert_eq!(permit.peer().unwrap().matched_name().to_string(), "fe01.contoso.test");
}

#[test]
fn a_partners_ca_cant_vouch_for_our_names() {
    let (ours, theirs) = (Ca::root("Contoso Root"), Ca::root("Fabrikam Root"));
    let contoso: Arc<_> = profile("contoso", &[&ours], &["*.contoso.test"]).into();
    let fabrikam: Arc<_> = profile("fabrikam", &[&theirs], &["*.fabrikam.test"]).into();
    let policy = policy(&[
        peers("ours", &contoso, &["fe01.contoso.test"]),
        peers("partners", &fabrikam, &["*.fabrikam.test"]),
    ]);
    admitted(&policy, &[ours.leaf("fe01.contoso.test")]);
    admitted(&policy, &[theirs.leaf("edge.fabrikam.test")]);
    let chain = [theirs.leaf("fe01.contoso.test")];
    let refused = assert_refused(&policy, &chain, Refusal::NameNotAllowedForCa);
    assert!(
        refused.detail.contains("peers.ours") && refused.detail.contains("CN=Fabrikam Root"),
        "{refused}"
    );
    assert_refused(&policy, &[theirs.leaf("fe02.contoso.test")], Refusal::NameNotListed);
}

#[test]
fn a_partners_ca_cant_vouch_for_our_names_beside_one_of_its_own_either() {
    let (ours, theirs) = (Ca::root("Contoso Root"), Ca::root("Fabrikam Root"));
    let contoso: Arc<_> = profile("contoso", &[&ours], &["*.contoso.test"]).into();
    let fabrikam: Arc<_> = profile("fabrikam", &[&theirs], &["*.fabrikam.test"]).into();
    let policy = policy(&[
        peers("partners", &fabrikam, &["*.fabrikam.test"]),
        peers("ours", &contoso, &["fe01.contoso.test"]),
    ]);
    let beside = |common_name: &str, other: &str| {
        theirs.leaf_with("edge.fabrikam.test", |leaf| {
            leaf.distinguished_name.push(DnType::CommonName, common_name);
            leaf.subject_alt_names.push(SanType::DnsName(other.try_into().unwrap()));
        })
    };
    admitted(&policy, &[beside("Edge", "www.example.net")]);
    for leaf in [
        beside("fe01.contoso.test", "edge.fabrikam.test"),
        beside("edge.fabrikam.test", "fe01.contoso.test"),
        beside("edge.fabrikam.test", "*.contoso.test"),
    ] {
        let refused = assert_refused(&policy, &[leaf], Refusal::NameNotAllowedForCa);
        assert!(refused.detail.contains("is a name of trust.contoso"), "{refused}");
    }
}

#[test]
fn a_name_that_profiles_share_is_the_name_of_each_of_their_cas() {
    let (old, new) = (Ca::root("Old Root"), Ca::root("New Root"));
    let [before, after] = [("before", &old), ("after", &new)]
        .map(|(name, ca)| Arc::new(profile(name, &[ca], &["*.contoso.test"])));
    let policy = policy(&[
        peers("before", &before, &["*.contoso.test"]),
        peers("after", &after, &["fe01.contoso.test"]),
    ]);
    admitted(&policy, &[old.leaf("fe01.contoso.test")]);
    admitted(&policy, &[new.leaf("fe01.contoso.test")]);
}

#[test]
fn one_name_must_satisfy_the_profile_and_the_peer_set() {
    // The set lists more than the profile allows, which the configuration's loader wouldn't pass.
    let ca = Ca::root("Contoso Root");
    let trust = profile("contoso", &[&ca], &["*.contoso.test"]).into();
    let policy = policy(&[peers("frontends", &trust, &["fe01.fabrikam.test"])]);
    let leaf = ca.leaf_with("fe01.contoso.test", |params| {
        params.subject_alt_names.push(SanType::DnsName("fe01.fabrikam.test".try_into().unwrap()));
    });
    assert_refused(&policy, &[leaf], Refusal::NameNotListed);
}

#[test]
fn a_ca_of_two_profiles_vouches_under_each_for_its_own_names() {
    let ca = Ca::root("Shared Root");
    let front: Arc<_> = profile("front", &[&ca], &["*.front.test"]).into();
    let back: Arc<_> = profile("back", &[&ca], &["*.back.test"]).into();
    let policy = policy(&[
        peers("frontends", &front, &["*.front.test"]),
        peers("backends", &back, &["*.back.test"]),
    ]);
    for (name, profile) in [("a.front.test", "front"), ("a.back.test", "back")] {
        let permit = admitted(&policy, &[ca.leaf(name)]);
        assert_eq!(&**permit.peer().unwrap().profile(), profile);
    }
    assert_refused(&policy, &[ca.leaf("a.other.test")], Refusal::NameNotListed);
}

#[test]
fn of_two_profiles_the_objection_of_the_one_that_lists_the_name_is_told() {
    let ca = Ca::root("Shared Root");
    let front: Arc<_> = profile("front", &[&ca], &["*.front.test"]).into();
    let mut back = profile("back", &[&ca], &["*.back.test"]);
    back.max_intermediates = 0;
    let policy = policy(&[
        peers("backends", &back.into(), &["*.back.test"]),
        peers("frontends", &front, &["*.front.test"]),
    ]);
    let sub = ca.sub("Sub");
    let chain = [sub.leaf("a.back.test"), sub.der.clone()];
    assert_refused(&policy, &chain, Refusal::ChainTooLong);
}

#[test]
fn a_blocked_name_is_refused_before_all_else() {
    let ca = Ca::root("Contoso Root");
    let trust = profile("contoso", &[&ca], &["*.contoso.test"]).into();
    let blocked = ["stolen.contoso.test"];
    let policy = policy(&[
        peers("frontends", &trust, &["*.contoso.test"]),
        blocking_peers("others", &trust, &["x.contoso.test"], &blocked),
    ]);
    admitted(&policy, &[ca.leaf("good.contoso.test")]);
    let refused = assert_refused(&policy, &[ca.leaf("STOLEN.contoso.test")], Refusal::Blocked);
    assert!(refused.detail.contains("peers.others"), "{refused}");
    let stranger = Ca::root("Stranger Root");
    assert_refused(&policy, &[stranger.leaf("stolen.contoso.test")], Refusal::Blocked);
    let wildcard = ca.leaf("*.contoso.test");
    assert_refused(&policy, &[wildcard], Refusal::Blocked);
    let by_common_name = ca.leaf_with("stolen.contoso.test", |params| {
        params.subject_alt_names = vec![SanType::DnsName("good.contoso.test".try_into().unwrap())];
    });
    assert_refused(&policy, &[by_common_name], Refusal::Blocked);
}

#[test]
fn no_spelling_of_the_common_name_hides_a_blocked_name() {
    let ca = Ca::root("Contoso Root");
    let trust = profile("contoso", &[&ca], &["*.contoso.test"]).into();
    let blocked = ["stolen.contoso.test", "192.0.2.7", "spiffe://contoso.test/stolen"];
    let policy = policy(&[blocking_peers("frontends", &trust, &["good.contoso.test"], &blocked)]);
    let with = |first: &str, last: Option<&str>| {
        ca.leaf_with("good.contoso.test", |leaf| {
            leaf.distinguished_name.push(DnType::CommonName, first);
            // Of another type for the library, the same for everybody else.
            if let Some(last) = last {
                let kind = DnType::CustomDnType(vec![2, 5, 4, 3]);
                leaf.distinguished_name.push(kind, last);
            }
        })
    };
    admitted(&policy, &[with("good.contoso.test", Some("a good server"))]);
    for (first, last) in [
        ("x", Some("stolen.contoso.test")),
        ("stolen.contoso.test", Some("x")),
        ("STOLEN.contoso.test.", None),
        ("*.contoso.test", None),
        ("192.0.2.7", None),
        ("spiffe://contoso.test/stolen", None),
    ] {
        assert_refused(&policy, &[with(first, last)], Refusal::Blocked);
    }
}

#[test]
fn the_common_name_counts_only_where_the_profile_says_so_and_there_is_no_other_name() {
    let ca = Ca::root("Contoso Root");
    let strict = frontends(&ca, |_| {});
    let lenient = frontends(&ca, |trust| trust.common_name = true);
    let old = [ca.leaf_with("fe01.contoso.test", |params| params.subject_alt_names.clear())];
    let refused = assert_refused(&strict, &old, Refusal::NameNotListed);
    assert!(refused.detail.contains("common_name = true"), "{refused}");
    let permit = admitted(&lenient, &old);
    assert_eq!(permit.peer().unwrap().matched_name().to_string(), "fe01.contoso.test");
    let both = [ca.leaf_with("fe01.contoso.test", |params| {
        params.subject_alt_names = vec![SanType::DnsName("x.contoso.test".try_into().unwrap())];
    })];
    assert_refused(&lenient, &both, Refusal::NameNotListed);
}

#[test]
fn a_common_name_doesnt_go_round_name_constraints() {
    let ca = Ca::root("Contoso Root");
    let sub = ca.sub_with("Constrained", |params| {
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("other.test".into())],
            excluded_subtrees: Vec::new(),
        });
    });
    let policy = frontends(&ca, |trust| trust.common_name = true);
    let by_common_name =
        sub.leaf_with("fe01.contoso.test", |params| params.subject_alt_names.clear());
    assert_refused(&policy, &[by_common_name, sub.der.clone()], Refusal::NameConstraint);
    let by_alternative_name = sub.leaf("fe01.contoso.test");
    assert_refused(&policy, &[by_alternative_name, sub.der.clone()], Refusal::NameConstraint);
}

#[test]
fn a_wildcard_certificate_is_admitted_by_a_wider_wildcard_and_never_by_an_exact_name() {
    let ca = Ca::root("Contoso Root");
    let policy = frontends(&ca, |_| {});
    let permit = admitted(&policy, &[ca.leaf("*.pool.contoso.test")]);
    assert_eq!(permit.peer().unwrap().matched_name().to_string(), "*.pool.contoso.test");
    admitted(&policy, &[ca.leaf("*.a.pool.contoso.test")]);
    assert_refused(&policy, &[ca.leaf("*.contoso.test")], Refusal::NameNotListed);
}

#[test]
fn addresses_and_spiffe_ids_are_names_too() {
    let ca = Ca::root("Contoso Root");
    let names = ["192.0.2.0/24", "2001:db8::7", "spiffe://contoso.test/ns/prod/*"];
    let trust = profile("contoso", &[&ca], &names).into();
    let policy = policy(&[peers("frontends", &trust, &names)]);
    admitted(&policy, &[ca.leaf("192.0.2.7")]);
    admitted(&policy, &[ca.leaf("2001:db8::7")]);
    assert_refused(&policy, &[ca.leaf("192.0.3.7")], Refusal::NameNotListed);
    let workload = |ids: &[&str]| {
        [ca.leaf_with("ignored.test", |params| {
            params.subject_alt_names = ids.iter().map(|id| uri(id)).collect();
        })]
    };
    let permit = admitted(&policy, &workload(&["spiffe://contoso.test/ns/prod/sa/web"]));
    let matched = permit.peer().unwrap().matched_name().to_string();
    assert_eq!(matched, "spiffe://contoso.test/ns/prod/sa/web");
    assert_refused(
        &policy,
        &workload(&["spiffe://contoso.test/ns/dev/web"]),
        Refusal::NameNotListed,
    );
    let two = workload(&["spiffe://contoso.test/ns/prod/a", "spiffe://contoso.test/ns/dev/b"]);
    assert_refused(&policy, &two, Refusal::Malformed);
}

#[test]
fn one_malformed_name_spoils_the_certificate() {
    let ca = Ca::root("Contoso Root");
    let policy = frontends(&ca, |_| {});
    for bad in
        ["fe01.contoso.test\0.evil.test", " fe01.contoso.test", "", "f*.contoso.test", "192.0.2.7"]
    {
        let leaf = ca.leaf_with("fe01.contoso.test", |params| {
            params.subject_alt_names.push(SanType::DnsName(bad.try_into().unwrap()));
        });
        assert_refused(&policy, &[leaf], Refusal::Malformed);
    }
    let many = ca.leaf_with("fe01.contoso.test", |params| {
        params.subject_alt_names = vec![params.subject_alt_names[0].clone(); 257];
    });
    assert_refused(&policy, &[many], Refusal::Malformed);
}
