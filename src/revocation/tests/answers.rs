//! Verdicts over a path: modes, staleness, what outweighs what.

use std::{sync::Arc, time::Duration};

use super::{
    Ca, DAY, Draft, Link, Mode, NOW, Problem, Reason, Rules, Stale, Store, UNKNOWN, Verdict, at,
    entry, is_good, is_revoked, offer, reason, required, why_unknown,
};

const GRACE: u64 = 3600;

fn store(mode: Mode, stale: Stale) -> Store {
    Store::new(Rules { mode, stale, grace: Duration::from_secs(GRACE) })
}

fn revoked(link: usize) -> Verdict {
    Verdict::Bad(Problem::Revoked { link, at: at(NOW - 2 * DAY), reason: Reason::Unspecified })
}

#[test]
fn a_revoked_certificate_is_bad_with_date_and_reason_and_others_are_good() {
    let (ca, store) = (Ca::new("Contoso Root"), required());
    ca.learned_by(&store);
    let crl = Draft::new(1, &[3]).entry(entry(&[7], &[reason(4)])).signed_by(&ca);
    offer(&store, "a.crl", &crl);
    let superseded =
        Problem::Revoked { link: 1, at: at(NOW - 2 * DAY), reason: Reason::Superseded };
    assert_eq!(store.check(&[ca.link(8), ca.link(7)], at(NOW)), Verdict::Bad(superseded));
    let good = Verdict::Good { until: Some(at(NOW + DAY)) };
    assert_eq!(store.check(&[ca.link(8), ca.link(9)], at(NOW)), good);
}

#[test]
fn a_certificate_on_hold_is_revoked() {
    let (ca, store) = (Ca::new("Contoso Root"), required());
    ca.learned_by(&store);
    let crl = Draft::new(1, &[]).entry(entry(&[7], &[reason(6)])).signed_by(&ca);
    offer(&store, "a.crl", &crl);
    assert!(is_revoked(&store, ca.link(7)));
}

#[test]
fn each_certificate_of_a_path_needs_an_answer_of_its_own_issuer() {
    let (root, sub, store) = (Ca::new("Contoso Root"), Ca::new("Contoso Sub"), required());
    root.learned_by(&store);
    sub.learned_by(&store);
    offer(&store, "sub.crl", &sub.crl(1, &[]));
    let path = [sub.link(7), Link { is_ca: true, ..root.link(2) }];
    let Verdict::Bad(Problem::Unknown { link: 1, why }) = store.check(&path, at(NOW)) else {
        panic!("the intermediate has no CRL")
    };
    assert_eq!(why, "there is no CRL of its issuer");
    offer(&store, "root.crl", &root.crl(1, &[7]));
    assert_eq!(store.check(&path, at(NOW)), Verdict::Good { until: Some(at(NOW + DAY)) });
    offer(&store, "root.crl", &root.crl(2, &[2]));
    assert_eq!(store.check(&path, at(NOW)), revoked(1));
}

#[test]
fn the_answer_holds_until_the_first_crl_of_the_path_ends() {
    let (root, sub) = (Ca::new("Contoso Root"), Ca::new("Contoso Sub"));
    let store = store(Mode::Require, Stale::Refuse);
    root.learned_by(&store);
    sub.learned_by(&store);
    offer(&store, "root.crl", &Draft::new(1, &[]).times(NOW - 1, NOW + 500).signed_by(&root));
    offer(&store, "sub.crl", &Draft::new(1, &[]).times(NOW - 1, NOW + 300).signed_by(&sub));
    let path = [sub.link(7), root.link(2)];
    let until = Some(at(NOW + 300 + GRACE));
    assert_eq!(store.check(&path, at(NOW)), Verdict::Good { until });
}

#[test]
fn a_crl_counts_until_its_grace_is_over_and_not_a_second_longer() {
    let ca = Ca::new("Contoso Root");
    let store = store(Mode::Require, Stale::Refuse);
    ca.learned_by(&store);
    offer(&store, "a.crl", &ca.crl(1, &[7]));
    let end = NOW + DAY + GRACE;
    let check = |time| store.check(&[ca.link(8)], at(time));
    assert_eq!(check(end), Verdict::Good { until: Some(at(end)) });
    let stale = Problem::Stale { link: 0, since: at(NOW + DAY) };
    assert_eq!(check(end + 1), Verdict::Bad(stale));
    assert_eq!(store.check(&[ca.link(7)], at(end + 1)), revoked(0), "what it lists stays revoked");
}

#[test]
fn a_stale_crl_goes_on_counting_where_that_is_said() {
    let ca = Ca::new("Contoso Root");
    let store = store(Mode::Require, Stale::Accept);
    ca.learned_by(&store);
    offer(&store, "a.crl", &ca.crl(1, &[7]));
    let later = at(NOW + 1000 * DAY);
    assert_eq!(store.check(&[ca.link(8)], later), Verdict::Good { until: None });
    assert_eq!(store.check(&[ca.link(7)], later), revoked(0));
}

#[test]
fn a_grace_without_end_doesn_t_overflow() {
    let ca = Ca::new("Contoso Root");
    let store =
        Store::new(Rules { mode: Mode::Require, stale: Stale::Refuse, grace: Duration::MAX });
    ca.learned_by(&store);
    offer(&store, "a.crl", &ca.crl(1, &[]));
    let good = Verdict::Good { until: Some(at(u64::MAX)) };
    assert_eq!(store.check(&[ca.link(8)], at(u64::MAX)), good);
}

#[test]
fn prefer_lets_a_certificate_without_crl_pass_but_none_that_is_revoked_or_in_doubt() {
    let (ca, other) = (Ca::new("Contoso Root"), Ca::new("Fabrikam Root"));
    let store = store(Mode::Prefer, Stale::Refuse);
    ca.learned_by(&store);
    other.learned_by(&store);
    offer(&store, "a.crl", &ca.crl(1, &[7]));
    assert_eq!(store.check(&[other.link(7)], at(NOW)), Verdict::Good { until: None });
    let until = Some(at(NOW + DAY + GRACE));
    assert_eq!(store.check(&[ca.link(8), other.link(1)], at(NOW)), Verdict::Good { until });
    assert_eq!(store.check(&[ca.link(7)], at(NOW)), revoked(0));
    let late = at(NOW + 9 * DAY);
    assert_eq!(store.check(&[ca.link(7)], late), revoked(0));
    let stale = Problem::Stale { link: 0, since: at(NOW + DAY) };
    assert_eq!(store.check(&[ca.link(8)], late), Verdict::Bad(stale));
    let stranger = Ca::new("Contoso Root");
    assert_eq!(why_unknown(&store, stranger.link(8)), UNKNOWN);
}

#[test]
fn off_asks_nothing() {
    let ca = Ca::new("Contoso Root");
    let store = store(Mode::Off, Stale::Refuse);
    ca.learned_by(&store);
    offer(&store, "a.crl", &ca.crl(1, &[7]));
    assert_eq!(store.check(&[ca.link(7)], at(NOW)), Verdict::Good { until: None });
    assert!(store.take_wanted().is_empty());
    // A reload that asks for revocation finds everything in its place.
    let next = store.successor(Rules { mode: Mode::Require, ..*store.rules() }, |_| true);
    assert!(is_revoked(&next, ca.link(7)) && is_good(&next, ca.link(8)));
}

#[test]
fn revoked_outweighs_every_doubt_and_otherwise_the_first_doubt_counts() {
    let [good, stale, silent] = ["Good", "Stale", "Silent"].map(Ca::new);
    let store = store(Mode::Require, Stale::Refuse);
    for ca in [&good, &stale, &silent] {
        ca.learned_by(&store);
    }
    offer(&store, "good.crl", &good.crl(1, &[7]));
    offer(
        &store,
        "stale.crl",
        &Draft::new(1, &[7]).times(NOW - 9 * DAY, NOW - DAY).signed_by(&stale),
    );
    let check = |links: &[Link]| store.check(links, at(NOW));
    let doubts = [silent.link(1), stale.link(1)];
    assert!(matches!(check(&doubts), Verdict::Bad(Problem::Unknown { link: 0, .. })));
    let doubts = [good.link(1), stale.link(1), silent.link(1)];
    assert!(matches!(check(&doubts), Verdict::Bad(Problem::Stale { link: 1, .. })));
    for bad in [good.link(7), stale.link(7)] {
        assert_eq!(check(&[silent.link(1), stale.link(1), bad]), revoked(2));
    }
}

#[test]
fn an_empty_path_is_good() {
    assert_eq!(required().check(&[], at(NOW)), Verdict::Good { until: None });
}

#[test]
fn distribution_points_without_a_fresh_crl_are_wanted_once() {
    let ca = Ca::new("Contoso Root");
    let store = store(Mode::Prefer, Stale::Refuse);
    ca.learned_by(&store);
    let link = |name: &str| {
        let distribution_points = Box::new([name.into()]);
        Link { distribution_points, ..ca.link(8) }
    };
    let both = [link("http://a.test"), link("http://b.test"), link("http://a.test")];
    store.check(&both, at(NOW));
    assert_eq!(store.take_wanted(), ["http://a.test".into(), "http://b.test".into()]);
    assert!(store.take_wanted().is_empty());

    offer(&store, "a.crl", &ca.crl(1, &[]));
    store.check(&both, at(NOW));
    assert!(store.take_wanted().is_empty(), "there is one now");
    store.check(&both[..1], at(NOW + 9 * DAY));
    assert_eq!(store.take_wanted(), ["http://a.test".into()]);
}

#[test]
fn wanted_distribution_points_are_bounded() {
    let (ca, store) = (Ca::new("Contoso Root"), required());
    ca.learned_by(&store);
    let points = (0..5000).map(|number| format!("http://{number:04}.test").into());
    let many = Link { distribution_points: points.collect(), ..ca.link(1) };
    let long = Link { distribution_points: Box::new(["x".repeat(5000).into()]), ..ca.link(1) };
    store.check(&[long, many], at(NOW));
    let wanted = store.take_wanted();
    assert_eq!(wanted.len(), 256);
    assert!(wanted.iter().all(|point| point.len() < 100));
}

#[test]
fn one_crl_serves_several_stores() {
    let ca = Ca::new("Contoso Root");
    let crl = ca.crl(1, &[7]);
    for store in [required(), required()] {
        ca.learned_by(&store);
        offer(&store, "a.crl", &crl);
        assert!(is_revoked(&store, ca.link(7)) && is_good(&store, ca.link(8)));
        assert!(Arc::ptr_eq(&store.status()[0].crl, &crl));
    }
}
