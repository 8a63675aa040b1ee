//! Explanations: what a decision says of itself to whoever asks.

use std::sync::Arc;

use rcgen::SanType;
use rustls_pki_types::CertificateDer;

use super::{
    Ca, NOW, admitted, assert_refused, at, blocking_peers, date, frontends, peers, policy,
    policy_for, profile,
};
use crate::{
    config::ClientAuth,
    trust::{Check, Explanation, Policy, Refusal, Step, Verdict},
};

fn explain(policy: &Policy, chain: &[CertificateDer<'_>]) -> Explanation {
    policy.explain(chain, at(NOW))
}

fn failed(explanation: &Explanation) -> Vec<Check> {
    let failed = explanation.steps.iter().filter_map(|step| match step {
        Step::Check { check, passed: false, .. } => Some(*check),
        _ => None,
    });
    failed.collect()
}

fn reason(explanation: &Explanation) -> Option<Refusal> {
    match &explanation.verdict {
        Verdict::Refused { reason, .. } => Some(*reason),
        _ => None,
    }
}

#[test]
fn an_admitted_client_is_explained_from_its_chain_to_its_rule() {
    let ca = Ca::root("Contoso Root");
    let sub = ca.sub("Contoso Sub");
    let explanation =
        explain(&frontends(&ca, |_| {}), &[sub.leaf("fe01.contoso.test"), sub.der.clone()]);
    let leaf = explanation.chain[0].contents.as_ref().expect("it can be read");
    assert_eq!((&*leaf.subject, &*leaf.issuer), ("CN=fe01.contoso.test", "CN=Contoso Sub"));
    assert_eq!((&*leaf.key, leaf.signature), ("EC256", "SHA256"));
    assert_eq!(leaf.names, ["fe01.contoso.test"]);
    assert_eq!(leaf.not_after, "2031-01-01T00:00:00Z");
    let Verdict::Admitted { peers, profile, name, listed, anchor, valid_until } =
        &explanation.verdict
    else {
        panic!("{explanation:#?}")
    };
    assert_eq!((&**peers, &**profile, &**anchor), ("frontends", "contoso", "CN=Contoso Root"));
    assert_eq!((&**name, &**listed), ("fe01.contoso.test", "fe01.contoso.test"));
    assert_eq!(valid_until, "2031-01-01T00:00:00Z");
    assert_eq!(failed(&explanation), []);
    let checks: Vec<Check> = explanation
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Check { check, .. } => Some(*check),
            _ => None,
        })
        .collect();
    assert!(checks.is_sorted_by_key(|check| Check::ALL.iter().position(|one| one == check)));
    let subjects = explanation.steps.iter().find_map(|step| match step {
        Step::Path { certificates, .. } => {
            Some(certificates.iter().map(|link| link.subject.clone()).collect::<Vec<_>>())
        }
        _ => None,
    });
    assert_eq!(subjects.expect("a path"), ["CN=fe01.contoso.test", "CN=Contoso Sub"]);
}

/// Each way to be refused before, while and after a path is found: the refusal is that of the
/// decision, word for word, and the step that it comes from is there.
#[test]
fn a_refusal_is_explained_by_the_check_that_failed() {
    let ca = Ca::root("Contoso Root");
    let trust = Arc::new(profile("contoso", &[&ca], &["*.contoso.test"]));
    let sets = [blocking_peers("frontends", &trust, &["fe01.contoso.test"], &["bad.contoso.test"])];
    let policy = policy(&sets);
    let leaf = |name: &str| vec![ca.leaf(name)];
    let with =
        |edit: fn(&mut rcgen::CertificateParams)| vec![ca.leaf_with("fe01.contoso.test", edit)];
    let mut deep = Vec::new();
    let issuer = (1..=5).fold(ca.sub("Sub 0"), |above, number| {
        deep.push(above.der.clone());
        above.sub(&format!("Sub {number}"))
    });
    deep.splice(..0, [issuer.leaf("fe01.contoso.test"), issuer.der]);
    let cases = [
        (vec![], Check::Certificate),
        (vec![vec![0; 65 * 1024].into()], Check::Size),
        (vec![vec![0; 64].into()], Check::Form),
        (leaf("bad.contoso.test"), Check::Blocked),
        (
            with(|leaf| leaf.key_usages = vec![rcgen::KeyUsagePurpose::KeyAgreement]),
            Check::KeyUsage,
        ),
        (vec![Ca::root("Stranger").leaf("fe01.contoso.test")], Check::Search),
        (with(|leaf| leaf.not_after = date(2029)), Check::Search),
        (
            with(|leaf| {
                leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
            }),
            Check::Purpose,
        ),
        (deep, Check::Length),
    ];
    for (chain, check) in cases {
        let explanation = explain(&policy, &chain);
        let refused = policy.decide(&chain, at(NOW)).expect_err("a refusal");
        let Verdict::Refused { reason, detail, advice, .. } = &explanation.verdict else {
            panic!("{check:?}: {explanation:#?}")
        };
        assert_eq!((*reason, detail), (refused.reason, &refused.detail), "{check:?}");
        assert_eq!(*advice, refused.reason.advice());
        assert_eq!(failed(&explanation), [check]);
    }
}

#[test]
fn a_name_that_is_nearly_listed_is_explained_with_the_entry_that_was_meant() {
    let ca = Ca::root("Contoso Root");
    let explanation = explain(&frontends(&ca, |_| {}), &[ca.leaf("fe1.contoso.test")]);
    assert_eq!(reason(&explanation), Some(Refusal::NameNotListed));
    let wanted = [
        Step::Name {
            name: "fe1.contoso.test".into(),
            vouched_for: Some("*.contoso.test".into()),
            listed: None,
        },
        Step::Nearest { listed: "fe01.contoso.test".into(), peers: "frontends".into() },
    ];
    for step in wanted {
        assert!(explanation.steps.contains(&step), "{step:?} {explanation:#?}");
    }
}

#[test]
fn a_rule_for_another_ca_is_explained_as_having_no_say() {
    let (ours, theirs) = (Ca::root("Contoso Root"), Ca::root("Fabrikam Root"));
    let contoso = Arc::new(profile("contoso", &[&ours], &["*.contoso.test"]));
    let fabrikam = Arc::new(profile("fabrikam", &[&theirs], &["*.fabrikam.test"]));
    let policy = policy(&[
        peers("frontends", &contoso, &["fe01.contoso.test"]),
        peers("partners", &fabrikam, &["edge.fabrikam.test"]),
    ]);
    let explanation = explain(&policy, &[theirs.leaf("fe01.contoso.test")]);
    assert_eq!(reason(&explanation), Some(Refusal::NameNotAllowedForCa));
    let rules: Vec<(&str, bool)> = explanation
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Rule { peers, bound, .. } => Some((&**peers, *bound)),
            _ => None,
        })
        .collect();
    assert_eq!(rules, [("frontends", false), ("partners", true)]);
}

/// A cross-signed CA: the path to the first anchor is set aside, the one to the other admitted.
#[test]
fn every_path_is_explained_until_one_is_admitted() {
    let (ours, theirs) = (Ca::root("Contoso Root"), Ca::root("Fabrikam Root"));
    let bridge = ours.sub("Bridge");
    let crossed = theirs.cross_sign(&bridge);
    let contoso = Arc::new(profile("contoso", &[&ours], &["*.contoso.test"]));
    let fabrikam = Arc::new(profile("fabrikam", &[&theirs], &["*.fabrikam.test"]));
    let policy = policy(&[
        peers("ours", &contoso, &["fe01.contoso.test"]),
        peers("partners", &fabrikam, &["edge.fabrikam.test"]),
    ]);
    let mut set_aside = 0;
    for name in ["fe01.contoso.test", "edge.fabrikam.test"] {
        let chain = [bridge.leaf(name), bridge.der.clone(), crossed.clone()];
        let explanation = explain(&policy, &chain);
        assert_eq!(reason(&explanation), None);
        for step in &explanation.steps {
            if let Step::SetAside { reason, most_telling, .. } = step {
                assert_eq!((*reason, *most_telling), (Refusal::NameNotAllowedForCa, true));
                set_aside += 1;
            }
        }
    }
    assert_eq!(set_aside, 1, "webpki tries one of the two anchors first");
}

/// Asking why doesn't put a chain among those that were admitted.
#[test]
fn an_explanation_is_not_remembered() {
    let ca = Ca::root("Contoso Root");
    let chain = [ca.leaf("fe01.contoso.test")];
    let policy = frontends(&ca, |_| {});
    explain(&policy, &chain);
    assert!(policy.admitted_before(&chain, at(NOW)).is_none());
    admitted(&policy, &chain);
    assert!(policy.admitted_before(&chain, at(NOW)).is_some());
}

#[test]
fn what_cant_be_read_is_explained_as_far_as_it_can() {
    let ca = Ca::root("Contoso Root");
    let policy = frontends(&ca, |_| {});
    let bad = ca.leaf_with("fe01.contoso.test", |leaf| {
        leaf.subject_alt_names = vec![SanType::DnsName("f*.contoso.test".try_into().unwrap())];
    });
    let chain = [bad, vec![0; 64].into()];
    assert_refused(&policy, &chain, Refusal::Malformed);
    let explanation = explain(&policy, &chain);
    assert!(explanation.chain[0].problem.is_some());
    assert!(explanation.chain[0].contents.is_some());
    assert!(explanation.chain[1].problem.is_some());
    assert!(explanation.chain[1].contents.is_none());
}

#[test]
fn the_words_of_an_explanation_are_stable() {
    let ca = Ca::root("Contoso Root");
    let policy = frontends(&ca, |_| {});
    let json = |explanation: &Explanation| serde_json::to_value(explanation).unwrap();
    let refused = json(&explain(&policy, &[]));
    assert_eq!(refused["at"], "2030-01-01T00:00:00Z");
    assert_eq!(refused["steps"][0]["step"], "check");
    assert_eq!(refused["steps"][0]["check"], "certificate");
    assert_eq!(refused["steps"][0]["passed"], false);
    assert_eq!(refused["verdict"]["decision"], "refused");
    assert_eq!(refused["verdict"]["reason"], "no_certificate");
    assert_eq!(refused["verdict"]["alert"]["tls13"], "certificate_required");
    assert_eq!(refused["verdict"]["alert"]["tls12"], "handshake_failure");
    let admitted = json(&explain(&policy, &[ca.leaf("fe01.contoso.test")]));
    assert_eq!(admitted["verdict"]["decision"], "admitted");
    assert_eq!(admitted["verdict"]["peers"], "frontends");
    assert_eq!(admitted["chain"][0]["subject"], "CN=fe01.contoso.test");
    for check in Check::ALL {
        assert_eq!(serde_json::to_value(check).unwrap(), check.as_str());
    }
    let anybody = policy_for(ClientAuth::Optional, &[]);
    assert_eq!(json(&explain(&anybody, &[]))["verdict"]["decision"], "anonymous");
}
