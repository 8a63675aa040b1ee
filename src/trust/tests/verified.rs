//! What a policy remembers of those it has admitted.

use rcgen::SanType;

use super::{Ca, NOW, admitted, at, date, frontends};

/// The second in which 2029 begins, when leaves do.
const BEGIN: u64 = 1_861_920_000;

/// The second in which 2031 begins, when leaves end.
const END: u64 = 1_924_992_000;

#[test]
fn a_client_that_comes_back_gets_the_same_permit_without_being_verified_again() {
    let ca = Ca::root("Contoso Root");
    let policy = frontends(&ca, |_| {});
    let chain = [ca.leaf("fe01.contoso.test")];
    assert!(policy.admitted_before(&chain, at(NOW)).is_none());
    let first = admitted(&policy, &chain);
    let again = policy.admitted_before(&chain, at(NOW + 1)).unwrap();
    assert!(std::ptr::eq(first.peer().unwrap(), again.peer().unwrap()));
}

#[test]
fn what_was_verified_before_does_not_outlive_its_certificates() {
    let ca = Ca::root("Contoso Root");
    let policy = frontends(&ca, |_| {});
    let chain = [ca.leaf_with("fe01.contoso.test", |leaf| leaf.not_after = date(2031))];
    admitted(&policy, &chain);
    assert!(policy.admitted_before(&chain, at(END)).is_some());
    assert!(policy.admitted_before(&chain, at(END + 1)).is_none());
}

#[test]
fn a_clock_that_goes_back_before_the_certificate_begins_ends_what_was_verified() {
    let ca = Ca::root("Contoso Root");
    let policy = frontends(&ca, |_| {});
    let chain = [ca.leaf("fe01.contoso.test")];
    admitted(&policy, &chain);
    assert!(policy.admitted_before(&chain, at(BEGIN)).is_some());
    assert!(policy.admitted_before(&chain, at(BEGIN - 1)).is_none());
}

#[test]
fn a_refusal_is_not_remembered_and_another_chain_is_not_known() {
    let ca = Ca::root("Contoso Root");
    let policy = frontends(&ca, |_| {});
    let stranger = [Ca::root("Contoso Root").leaf("fe01.contoso.test")];
    assert!(policy.decide(&stranger, at(NOW)).is_err());
    assert!(policy.admitted_before(&stranger, at(NOW)).is_none());
    let one = ca.leaf("fe01.contoso.test");
    admitted(&policy, std::slice::from_ref(&one));
    assert!(policy.admitted_before(&[one, ca.der.clone()], at(NOW)).is_none());
}

#[test]
fn another_policy_knows_nothing_of_it() {
    let ca = Ca::root("Contoso Root");
    let chain = [ca.leaf("fe01.contoso.test")];
    admitted(&frontends(&ca, |_| {}), &chain);
    assert!(frontends(&ca, |_| {}).admitted_before(&chain, at(NOW)).is_none());
}

#[test]
fn a_chain_with_very_many_names_is_admitted_and_not_remembered() {
    let ca = Ca::root("Contoso Root");
    let policy = frontends(&ca, |_| {});
    let with_names = |count: usize| {
        [ca.leaf_with("fe01.contoso.test", |leaf| {
            let name = |n: usize| format!("{n}.{}.contoso.test", "x".repeat(60));
            let san = |n| SanType::DnsName(name(n).try_into().unwrap());
            leaf.subject_alt_names.extend((0..count).map(san));
        })]
    };
    for (count, is_remembered) in [(20, true), (250, false)] {
        let chain = with_names(count);
        admitted(&policy, &chain);
        assert_eq!(policy.admitted_before(&chain, at(NOW)).is_some(), is_remembered, "{count}");
    }
}
