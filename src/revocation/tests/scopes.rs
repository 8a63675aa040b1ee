//! Which certificates a CRL speaks for: the issuing distribution point (RFC 5280 §5.2.5).

use super::{
    Ca, CrlError, Draft, Link, NOW, Stale, at, is_good, is_revoked, offer, required, sequence,
    standard, tlv, why_unknown,
};
use crate::revocation::{Offered, Verdict};

const TRUE: [u8; 1] = [0xff];

/// The extension with these fields.
fn issuing_distribution_point(fields: &[Vec<u8>]) -> Vec<u8> {
    standard(28, true, &sequence(&[&fields.concat()]))
}

/// distributionPoint with URIs in fullName.
fn point(uris: &[&str]) -> Vec<u8> {
    let names: Vec<u8> = uris.iter().flat_map(|uri| tlv(0x86, uri.as_bytes())).collect();
    tlv(0xa0, &tlv(0xa0, &names))
}

fn flag(tag: u8) -> Vec<u8> {
    tlv(0x80 | tag, &TRUE)
}

fn refused(fields: &[Vec<u8>]) -> CrlError {
    Draft::new(1, &[]).with(issuing_distribution_point(fields)).refused()
}

fn at_point(ca: &Ca, serial: u64, uris: &[&str]) -> Link {
    let distribution_points = uris.iter().map(|uri| (*uri).into()).collect();
    Link { distribution_points, ..ca.link(serial) }
}

fn of_ca(ca: &Ca, serial: u64) -> Link {
    Link { is_ca: true, ..ca.link(serial) }
}

#[test]
fn an_indirect_crl_is_refused() {
    assert_eq!(refused(&[flag(4)]), CrlError::Indirect);
}

#[test]
fn a_crl_for_some_reasons_is_refused() {
    assert_eq!(refused(&[tlv(0x83, &[1, 0x40])]), CrlError::SomeReasons);
}

#[test]
fn a_crl_of_attribute_certificates_is_refused() {
    assert_eq!(refused(&[flag(5)]), CrlError::AttributeCertificates);
}

#[test]
fn a_distribution_point_that_no_certificate_can_match_is_refused() {
    let relative = tlv(0xa0, &tlv(0xa1, &[]));
    let directory = tlv(0xa0, &tlv(0xa0, &tlv(0xa4, &Ca::name("Contoso Root"))));
    for field in [relative, directory] {
        assert_eq!(refused(&[field]), CrlError::ScopeWithoutUri);
    }
}

#[test]
fn a_malformed_or_contradictory_one_is_refused() {
    let malformed = CrlError::Malformed("its issuing distribution point");
    assert_eq!(refused(&[]), malformed, "empty");
    assert_eq!(refused(&[flag(1), flag(2)]), malformed, "for users and for CAs only");
    assert_eq!(refused(&[flag(2), flag(1)]), malformed, "out of order");
    assert_eq!(refused(&[tlv(0x81, &[1])]), malformed, "neither true nor false");
    assert_eq!(refused(&[point(&["http://crl.test/\n"])]), malformed, "no URI");
}

#[test]
fn a_crl_of_end_entities_doesn_t_speak_for_a_ca() {
    let (ca, store) = (Ca::new("Contoso Root"), required());
    ca.learned_by(&store);
    let users = Draft::new(1, &[7]).with(issuing_distribution_point(&[flag(1)])).signed_by(&ca);
    assert_eq!(users.scope(), "end-entity certificates only");
    offer(&store, "users.crl", &users);
    assert!(is_good(&store, ca.link(8)) && is_revoked(&store, ca.link(7)));
    for serial in [7, 8] {
        let why = why_unknown(&store, of_ca(&ca, serial));
        assert!(why.contains("no CRL of its issuer covers it"), "{why}");
    }
}

#[test]
fn a_crl_of_cas_doesn_t_speak_for_an_end_entity() {
    let (ca, store) = (Ca::new("Contoso Root"), required());
    ca.learned_by(&store);
    let cas = Draft::new(1, &[7]).with(issuing_distribution_point(&[flag(2)])).signed_by(&ca);
    offer(&store, "cas.crl", &cas);
    assert!(is_good(&store, of_ca(&ca, 8)) && is_revoked(&store, of_ca(&ca, 7)));
    assert!(why_unknown(&store, ca.link(8)).contains("covers it"));
    // With one of each the whole CA is covered, and neither replaces the other.
    let users = Draft::new(9, &[]).with(issuing_distribution_point(&[flag(1)])).signed_by(&ca);
    assert_eq!(offer(&store, "users.crl", &users), Offered::InUse);
    assert!(is_good(&store, ca.link(7)) && is_revoked(&store, of_ca(&ca, 7)));
}

#[test]
fn a_partition_speaks_only_for_certificates_that_name_it() {
    let (ca, store) = (Ca::new("Contoso Root"), required());
    ca.learned_by(&store);
    let part = |number, serial, uris: &[&str]| {
        Draft::new(number, &[serial])
            .with(issuing_distribution_point(&[point(uris)]))
            .signed_by(&ca)
    };
    offer(&store, "1", &part(5, 1, &["http://crl.test/1", "ldap://crl.test/1"]));
    offer(&store, "2", &part(1, 2, &["http://crl.test/2"]));
    assert!(is_revoked(&store, at_point(&ca, 1, &["http://crl.test/1"])));
    assert!(is_revoked(&store, at_point(&ca, 1, &["http://other.test", "ldap://crl.test/1"])));
    assert!(is_revoked(&store, at_point(&ca, 2, &["http://crl.test/2"])));
    assert!(is_good(&store, at_point(&ca, 1, &["http://crl.test/2"])));
    for uris in [&[][..], &["http://crl.test/3"], &["http://crl.test/"], &["http://crl.test/1/"]] {
        let why = why_unknown(&store, at_point(&ca, 1, uris));
        assert!(why.contains("issuing distribution points are for others"), "{why}");
    }
    assert_eq!(store.status()[0].crl.scope(), "http://crl.test/1");
}

#[test]
fn of_a_partition_only_a_newer_one_of_the_same_names_takes_the_place() {
    let (ca, store) = (Ca::new("Contoso Root"), required());
    ca.learned_by(&store);
    let part = |number, revoked: &[u64], uris: &[&str]| {
        let draft = Draft::new(number, revoked).with(issuing_distribution_point(&[point(uris)]));
        offer(&store, "parts", &draft.signed_by(&ca))
    };
    assert_eq!(part(1, &[], &["http://a.test", "http://b.test"]), Offered::InUse);
    assert_eq!(part(2, &[7], &["http://b.test", "http://a.test"]), Offered::InUse);
    assert!(is_revoked(&store, at_point(&ca, 7, &["http://a.test"])));
    assert_eq!(store.status().len(), 1, "the order of names makes no scope of its own");
}

#[test]
fn revoked_by_one_of_several_crls_is_revoked_and_the_longest_lasting_answers_otherwise() {
    let (ca, store) = (Ca::new("Contoso Root"), required());
    ca.learned_by(&store);
    let part = Draft::new(1, &[7])
        .times(NOW - 10, NOW + 10)
        .with(issuing_distribution_point(&[point(&["http://a.test"])]));
    offer(&store, "part", &part.signed_by(&ca));
    offer(&store, "all", &Draft::new(9, &[]).times(NOW - 10, NOW + 99).signed_by(&ca));
    assert!(is_revoked(&store, at_point(&ca, 7, &["http://a.test"])));
    assert!(is_good(&store, ca.link(7)), "it names no distribution point");
    let good = |until| Verdict::Good { until: Some(at(until)) };
    let named = [at_point(&ca, 8, &["http://a.test"])];
    assert_eq!(store.check(&named, at(NOW)), good(NOW + 99));
    assert_eq!(store.check(&named, at(NOW + 50)), good(NOW + 99), "one is stale, one isn't");
    assert_eq!(store.rules().stale, Stale::Refuse);
}
