//! Deciding again about a client that was admitted, from what its path has proved.

use std::sync::Arc;

use rustls_pki_types::CertificateDer;

use super::{
    Ca, NOW, admitted, at, blocking_peers, date, frontends, peers, policy, policy_for, profile,
};
use crate::{
    config::{ClientAuth, EkuRule},
    trust::{Permit, Policy, Refusal},
};

/// The second in which 2031 begins, when leaves end.
const END: u64 = 1_924_992_000;

/// A permit for `fe01.contoso.test` through an intermediate CA, by [`frontends`].
fn permit(ca: &Ca) -> Permit {
    let sub = ca.sub("Contoso Issuing");
    let chain = [sub.leaf("fe01.contoso.test"), sub.der.clone()];
    admitted(&frontends(ca, |_| {}), &chain)
}

#[track_caller]
fn assert_refused_again(policy: &Policy, permit: &Permit, at_second: u64, reason: Refusal) {
    let refused = policy.decide_again(permit, at(at_second)).expect_err("a refusal");
    assert_eq!(refused.reason, reason, "{refused}");
    assert_eq!(refused.identity.as_deref(), permit.peer().map(|peer| peer.identity()));
}

#[test]
fn the_same_policy_admits_a_client_again_until_its_certificate_ends() {
    let ca = Ca::root("Contoso Root");
    let chain = [ca.leaf("fe01.contoso.test")];
    let policy = frontends(&ca, |_| {});
    let permit = admitted(&policy, &chain);
    let again = policy.decide_again(&permit, at(END)).unwrap();
    assert!(std::ptr::eq(again.peer().unwrap(), permit.peer().unwrap()));
    assert_refused_again(&policy, &permit, END + 1, Refusal::Expired);
}

#[test]
fn an_intermediate_that_ends_before_the_client_ends_its_permit() {
    let ca = Ca::root("Contoso Root");
    let sub = ca.sub_with("Contoso Issuing", |sub| sub.not_after = date(2030));
    let policy = frontends(&ca, |_| {});
    let permit = admitted(&policy, &[sub.leaf("fe01.contoso.test"), sub.der.clone()]);
    assert_refused_again(&policy, &permit, NOW + 1, Refusal::Expired);
}

#[test]
fn a_later_policy_that_lists_the_client_by_another_entry_says_so() {
    let ca = Ca::root("Contoso Root");
    let trust = Arc::new(profile("contoso", &[&ca], &["*.contoso.test"]));
    let later = policy(&[peers("all", &trust, &["*.contoso.test"])]);
    let again = later.decide_again(&permit(&ca), at(NOW)).unwrap();
    let peer = again.peer().unwrap();
    assert_eq!(
        (&**peer.peer_set(), peer.matched_pattern().to_string()),
        ("all", "*.contoso.test".into())
    );
    assert_eq!(peer.identity().subject(), "CN=fe01.contoso.test");
}

#[test]
fn a_later_policy_without_the_client_s_ca_knows_no_issuer_of_it() {
    let ca = Ca::root("Contoso Root");
    // The same name with another key is another CA.
    let later = frontends(&Ca::root("Contoso Root"), |_| {});
    assert_refused_again(&later, &permit(&ca), NOW, Refusal::UnknownIssuer);
}

#[test]
fn a_later_policy_without_the_client_s_name_does_not_list_it() {
    let ca = Ca::root("Contoso Root");
    let trust = Arc::new(profile("contoso", &[&ca], &["*.contoso.test"]));
    let later = policy(&[peers("frontends", &trust, &["fe02.contoso.test"])]);
    assert_refused_again(&later, &permit(&ca), NOW, Refusal::NameNotListed);
}

#[test]
fn a_later_policy_that_blocks_the_client_s_name_refuses_it_before_all_else() {
    let ca = Ca::root("Contoso Root");
    let trust = Arc::new(profile("contoso", &[&ca], &["*.contoso.test"]));
    let blocking = ["fe01.contoso.test"];
    let later = policy(&[blocking_peers("frontends", &trust, &["*.contoso.test"], &blocking)]);
    assert_refused_again(&later, &permit(&ca), END + 1, Refusal::Blocked);
}

#[test]
fn a_later_policy_with_a_stricter_profile_refuses_what_the_path_lacks() {
    let ca = Ca::root("Contoso Root");
    let shorter = frontends(&ca, |trust| trust.max_intermediates = 0);
    assert_refused_again(&shorter, &permit(&ca), NOW, Refusal::ChainTooLong);

    let leaf = ca.leaf_with("fe01.contoso.test", |leaf| {
        leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    });
    let permit = admitted(&frontends(&ca, |trust| trust.eku = EkuRule::Either), &[leaf]);
    assert_refused_again(&frontends(&ca, |_| {}), &permit, NOW, Refusal::WrongKeyUsage);
}

#[test]
fn a_later_policy_that_asks_for_a_certificate_refuses_who_showed_none() {
    let ca = Ca::root("Contoso Root");
    let trust = Arc::new(profile("contoso", &[&ca], &["*.contoso.test"]));
    let sets = [peers("frontends", &trust, &["fe01.contoso.test"])];
    let optional = policy_for(ClientAuth::Optional, &sets);
    let nobody: [CertificateDer<'_>; 0] = [];
    let anonymous = optional.decide(&nobody, at(NOW)).unwrap();
    assert!(optional.decide_again(&anonymous, at(NOW)).is_ok());
    assert_refused_again(&policy(&sets), &anonymous, NOW, Refusal::NoCertificate);
}

#[test]
fn a_later_policy_that_asks_nobody_for_a_certificate_proves_nobody() {
    let ca = Ca::root("Contoso Root");
    let later = policy_for(ClientAuth::None, &[]);
    assert!(later.decide_again(&permit(&ca), at(NOW)).unwrap().peer().is_none());
}
