//! Of several CRLs of one issuer and scope the newest counts, whatever comes when from where.

use std::sync::Arc;

use proptest::prelude::{Just, ProptestConfig, Strategy, prop_assert_eq, proptest};

use super::{
    Ca, Crl, CrlState, DAY, Draft, Mode, NOW, Offered, Problem, Rules, Verdict, at, is_good,
    is_revoked, offer, required, why_unknown,
};

#[test]
fn an_older_crl_never_replaces_a_newer_one_from_whatever_source() {
    let (ca, store) = (Ca::new("Contoso Root"), required());
    ca.learned_by(&store);
    let newer = ca.crl(0x100, &[7]);
    let older = ca.crl(0xff, &[]);
    assert_eq!(offer(&store, "a.crl", &newer), Offered::InUse);
    for source in ["a.crl", "b.crl", "http://crl.test/a.crl"] {
        let Offered::Older { why } = offer(&store, source, &older) else { panic!("{source}") };
        assert!(why.contains("0x0100 from a.crl"), "{why}");
        assert!(is_revoked(&store, ca.link(7)));
    }
}

#[test]
fn the_number_counts_before_this_update_and_this_update_where_numbers_are_equal() {
    let (ca, store) = (Ca::new("Contoso Root"), required());
    ca.learned_by(&store);
    let crl = |number, this_update, revoked: &[u64]| {
        Draft::new(number, revoked).times(this_update, NOW + DAY).signed_by(&ca)
    };
    offer(&store, "a", &crl(5, NOW - 50, &[]));
    assert_eq!(offer(&store, "b", &crl(6, NOW - 90, &[7])), Offered::InUse);
    assert!(is_revoked(&store, ca.link(7)));
    assert!(matches!(offer(&store, "c", &crl(5, NOW - 10, &[])), Offered::Older { .. }));
    assert!(matches!(offer(&store, "d", &crl(6, NOW - 91, &[])), Offered::Older { .. }));
    assert_eq!(offer(&store, "e", &crl(6, NOW - 89, &[8])), Offered::InUse);
    assert!(is_revoked(&store, ca.link(8)) && is_good(&store, ca.link(7)));
}

#[test]
fn without_numbers_this_update_decides_and_any_number_is_newer() {
    let (ca, store) = (Ca::new("Contoso Root"), required());
    ca.learned_by(&store);
    let crl = |this_update| {
        let mut draft = Draft::new(1, &[]).times(this_update, NOW + DAY);
        draft.extensions.clear();
        draft.signed_by(&ca)
    };
    assert_eq!(offer(&store, "a", &crl(NOW - 50)), Offered::InUse);
    assert!(matches!(offer(&store, "a", &crl(NOW - 60)), Offered::Older { .. }));
    assert_eq!(offer(&store, "a", &crl(NOW - 40)), Offered::InUse);
    assert_eq!(offer(&store, "a", &ca.crl(0, &[])), Offered::InUse);
    assert!(matches!(offer(&store, "a", &crl(NOW - 30)), Offered::Older { .. }));
}

#[test]
fn the_same_crl_again_changes_nothing() {
    let (ca, store) = (Ca::new("Contoso Root"), required());
    ca.learned_by(&store);
    let crl = ca.crl(1, &[7]);
    offer(&store, "a.crl", &crl);
    let epoch = store.epoch();
    assert_eq!(offer(&store, "b.crl", &crl), Offered::Same);
    assert_eq!((store.epoch(), store.status().len()), (epoch, 1));
    assert_eq!(&*store.status()[0].source, "a.crl");
}

#[test]
fn the_epoch_changes_with_what_is_in_use_and_with_nothing_else() {
    let (ca, store) = (Ca::new("Contoso Root"), required());
    let mut last = store.epoch();
    let mut has_changed = || std::mem::replace(&mut last, store.epoch()) != store.epoch();
    offer(&store, "a", &ca.crl(1, &[]));
    assert!(!has_changed(), "it waits");
    ca.learned_by(&store);
    assert!(has_changed());
    ca.learned_by(&store);
    assert!(!has_changed(), "known already");
    offer(&store, "a", &ca.crl(2, &[]));
    assert!(has_changed());
    offer(&store, "a", &ca.crl(1, &[]));
    offer(&store, "a", &Ca::new("Contoso Root").crl(9, &[]));
    assert!(!has_changed(), "older, and forged");
}

#[test]
fn a_crl_of_the_future_isn_t_used_and_replaces_nothing_until_its_time_has_come() {
    let (ca, store) = (Ca::new("Contoso Root"), required());
    ca.learned_by(&store);
    let check = |serial, time| store.check(&[ca.link(serial)], at(time));
    let future = Draft::new(2, &[7]).times(NOW + 100, NOW + 2 * DAY).signed_by(&ca);
    assert_eq!(offer(&store, "a", &future), Offered::NotYet { from: at(NOW + 100) });
    let Verdict::Bad(Problem::Unknown { why, .. }) = check(7, NOW) else { panic!("in use") };
    assert!(why.contains("thisUpdate, 100 seconds from now"), "{why}");

    offer(&store, "a", &ca.crl(1, &[]));
    let states: Vec<CrlState> = store.status().iter().map(|status| status.state).collect();
    assert_eq!(states, [CrlState::InUse, CrlState::NotYet]);
    let until_then = Verdict::Good { until: Some(at(NOW + 99)) };
    assert_eq!(check(7, NOW), until_then, "the answer holds until the next one counts");
    assert_eq!(check(7, NOW + 99), until_then);
    assert!(matches!(check(7, NOW + 100), Verdict::Bad(Problem::Revoked { .. })));
    assert_eq!(check(8, NOW + 100), Verdict::Good { until: Some(at(NOW + 2 * DAY)) });
}

#[test]
fn the_epoch_tells_when_the_time_of_a_crl_has_come() {
    let (ca, store) = (Ca::new("Contoso Root"), required());
    ca.learned_by(&store);
    offer(&store, "a", &ca.crl(1, &[]));
    offer(&store, "a", &Draft::new(2, &[7]).times(NOW + 100, NOW + 2 * DAY).signed_by(&ca));
    let epoch = store.epoch();
    store.advance(at(NOW + 99));
    assert_eq!(store.epoch(), epoch);
    store.advance(at(NOW + 100));
    assert_eq!(store.epoch(), epoch + 1);
    let states: Vec<CrlState> = store.status().iter().map(|status| status.state).collect();
    assert_eq!(states, [CrlState::InUse]);
    store.advance(at(NOW + 101));
    assert_eq!(store.epoch(), epoch + 1, "once");
}

#[test]
fn a_crl_of_the_future_is_forgotten_when_a_newer_one_comes() {
    let (ca, store) = (Ca::new("Contoso Root"), required());
    ca.learned_by(&store);
    let future = |number| Draft::new(number, &[7]).times(NOW + 100, NOW + DAY).signed_by(&ca);
    assert!(matches!(offer(&store, "a", &future(2)), Offered::NotYet { .. }));
    assert!(matches!(offer(&store, "a", &future(1)), Offered::Older { .. }));
    assert_eq!(offer(&store, "a", &ca.crl(3, &[])), Offered::InUse);
    let later = store.check(&[ca.link(7)], at(NOW + 200));
    assert_eq!(later, Verdict::Good { until: Some(at(NOW + DAY)) });
    assert!(matches!(offer(&store, "a", &future(2)), Offered::Older { .. }));
}

#[test]
fn a_clock_that_was_set_back_makes_nothing_good() {
    let (ca, store) = (Ca::new("Contoso Root"), required());
    ca.learned_by(&store);
    offer(&store, "a", &ca.crl(1, &[]));
    let before = store.check(&[ca.link(7)], at(NOW - 2 * DAY));
    assert!(matches!(before, Verdict::Bad(Problem::Unknown { .. })), "{before:?}");
}

#[test]
fn a_successor_keeps_what_its_sources_brought_and_whom_the_clients_have_shown() {
    let (ca, sub, store) = (Ca::new("Contoso Root"), Ca::new("Contoso Sub"), required());
    ca.learned_by(&store);
    sub.learned_by(&store);
    let unknown = Ca::new("Contoso Sub 2");
    for (source, ca) in [("kept", &sub), ("dropped", &ca), ("kept", &unknown)] {
        offer(&store, source, &ca.crl(1, &[7]));
    }
    offer(&store, "dropped", &unknown.crl(2, &[]));
    let rules = Rules { mode: Mode::Require, ..Rules::default() };
    let next = store.successor(rules, |source| source == "kept");
    assert_ne!(next.epoch(), store.epoch());
    assert!(is_revoked(&next, sub.link(7)) && is_good(&next, sub.link(8)));
    assert_eq!(why_unknown(&next, ca.link(7)), "there is no CRL of its issuer");
    unknown.learned_by(&next);
    assert!(is_revoked(&next, unknown.link(7)), "the one that was kept");
    assert!(is_revoked(&store, ca.link(7)), "the old store is as it was");
}

/// CRLs of one CA with every kind of neighbour: older, equal in number, of the future.
fn neighbours(ca: &Ca) -> Vec<Arc<Crl>> {
    let crl = |number, this_update, revoked: &[u64]| {
        Draft::new(number, revoked).times(this_update, NOW + 9 * DAY).signed_by(ca)
    };
    vec![
        crl(1, NOW - 9, &[1]),
        crl(2, NOW - 9, &[2]),
        crl(2, NOW - 8, &[3]),
        crl(2, NOW - 8, &[4, 5]),
        crl(3, NOW + 50, &[6]),
        crl(4, NOW + 40, &[7]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_order_of_offers_doesn_t_change_the_answer(
        order in Just((0..6).collect::<Vec<usize>>()).prop_shuffle(),
        taken in 1_usize..=6,
        known_after in 0_usize..=6,
    ) {
        let ca = Ca::new("Contoso Root");
        let crls = neighbours(&ca);
        let mut chosen: Vec<usize> = order[..taken].to_vec();
        let answers = |order: &[usize], known_after: usize| -> Vec<Verdict> {
            let store = required();
            for (position, index) in order.iter().enumerate() {
                if position == known_after {
                    ca.learned_by(&store);
                }
                store.offer(&format!("{index}.crl"), vec![Arc::clone(&crls[*index])], at(NOW));
            }
            ca.learned_by(&store);
            let ask = |serial, time| store.check(&[ca.link(serial)], at(time));
            (0..9).flat_map(|serial| [ask(serial, NOW), ask(serial, NOW + DAY)]).collect()
        };
        let shuffled = answers(&chosen, known_after);
        chosen.sort_unstable();
        prop_assert_eq!(shuffled, answers(&chosen, 0));
    }
}
