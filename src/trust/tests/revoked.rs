//! What CRLs say about a path, asked in each decision.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rcgen::{
    CertificateRevocationListParams, CrlDistributionPoint, KeyIdMethod, KeyUsagePurpose,
    RevokedCertParams, SerialNumber,
};
use time::OffsetDateTime;

use super::*;
use crate::revocation::{Crl, Mode, Offered, Rules, Stale, Store, Stores};

/// Serial numbers of the leaf and of the intermediate.
const LEAF: [u8; 2] = [0x0a, 0xbc];
const SUB: [u8; 2] = [0x51, 0x0b];

const REQUIRED: Rules = Rules { mode: Mode::Require, stale: Stale::Refuse, grace: Duration::ZERO };

fn crl(ca: &Ca, number: u8, revoked: &[&[u8]], next_update: OffsetDateTime) -> Arc<Crl> {
    let revoked = revoked.iter().map(|serial| RevokedCertParams {
        serial_number: SerialNumber::from_slice(serial),
        revocation_time: date(2029),
        reason_code: None,
        invalidity_date: None,
    });
    let params = CertificateRevocationListParams {
        this_update: date(2029),
        next_update,
        crl_number: SerialNumber::from_slice(&[number]),
        issuing_distribution_point: None,
        revoked_certs: revoked.collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    Arc::new(Crl::parse(params.signed_by(&ca.issuer).unwrap().der()).unwrap())
}

/// A root, an intermediate CA, a client of it, and a policy whose profile has the store.
struct Scene {
    root: Ca,
    sub: Ca,
    chain: [CertificateDer<'static>; 2],
    store: Arc<Store>,
    policy: Policy,
}

impl Scene {
    fn new(rules: Rules) -> Self {
        Self::with_sub(rules, |_| {})
    }

    fn with_sub(rules: Rules, edit: impl FnOnce(&mut CertificateParams)) -> Self {
        let root = Ca::root("Contoso Root");
        let sub = root.sub_with("Contoso Issuing", |params| {
            params.serial_number = Some(SerialNumber::from_slice(&SUB));
            edit(params);
        });
        let leaf = sub.leaf_with("fe01.contoso.test", |leaf| {
            leaf.serial_number = Some(SerialNumber::from_slice(&LEAF));
            leaf.crl_distribution_points =
                vec![CrlDistributionPoint { uris: vec!["http://crl.contoso.test/sub".into()] }];
        });
        let store = Arc::new(Store::new(rules));
        let trust = Arc::new(profile("contoso", &[&root], &["*.contoso.test"]));
        let sets = [peers("frontends", &trust, &["fe01.contoso.test"])];
        let stores = Stores::from(BTreeMap::from([(trust.name.clone(), store.clone())]));
        let policy = Policy::new(ClientAuth::Required, &sets, &stores).unwrap();
        let chain = [leaf, sub.der.clone()];
        Self { root, sub, chain, store, policy }
    }

    /// The CRLs of both CAs, the second in its `number` of that list.
    fn offer(&self, number: u8, by_root: &[&[u8]], by_sub: &[&[u8]]) -> Vec<Offered> {
        let crls = vec![
            crl(&self.root, number, by_root, date(2031)),
            crl(&self.sub, number, by_sub, date(2031)),
        ];
        self.store.offer("crls", crls, at(NOW))
    }
}

#[test]
fn a_path_of_which_every_certificate_is_looked_up_and_good_is_admitted() {
    let scene = Scene::new(REQUIRED);
    scene.offer(1, &[&[1]], &[&[2]]);
    admitted(&scene.policy, &scene.chain);
}

#[test]
fn a_revoked_client_is_refused_and_the_reason_says_since_when() {
    let scene = Scene::new(REQUIRED);
    scene.offer(1, &[], &[&LEAF]);
    let refused = assert_refused(&scene.policy, &scene.chain, Refusal::Revoked);
    assert!(refused.detail.contains("client's") && refused.detail.contains("2029"), "{refused}");
}

#[test]
fn a_crl_of_one_profile_outweighs_the_want_of_one_in_another() {
    let root = Ca::root("Shared Root");
    let leaf = root.leaf_with("fe01.contoso.test", |leaf| {
        leaf.serial_number = Some(SerialNumber::from_slice(&LEAF));
    });
    let [without, with] = [(); 2].map(|()| Arc::new(Store::new(REQUIRED)));
    let profiles = ["first", "second"].map(|name| {
        Arc::new(TrustProfile { shared: true, ..profile(name, &[&root], &["*.contoso.test"]) })
    });
    let sets = profiles.each_ref().map(|it| peers(&it.name, it, &["fe01.contoso.test"]));
    let [first, second] = profiles.each_ref().map(|it| it.name.clone());
    let stores = Stores::from(BTreeMap::from([(first, without), (second, with.clone())]));
    let policy = Policy::new(ClientAuth::Required, &sets, &stores).unwrap();
    with.offer("crls", vec![crl(&root, 1, &[], date(2031))], at(NOW));
    let permit = admitted(&policy, std::slice::from_ref(&leaf));
    with.offer("crls", vec![crl(&root, 2, &[&LEAF], date(2031))], at(NOW));
    assert_refused(&policy, &[leaf], Refusal::Revoked);
    let again = policy.decide_again(&permit, at(NOW)).unwrap_err();
    assert_eq!(again.reason, Refusal::Revoked, "{again}");
}

#[test]
fn a_client_of_a_revoked_intermediate_is_refused_and_the_reason_names_it() {
    let scene = Scene::new(REQUIRED);
    scene.offer(1, &[&SUB], &[]);
    let refused = assert_refused(&scene.policy, &scene.chain, Refusal::Revoked);
    assert!(refused.detail.contains("intermediate certificate 510B"), "{refused}");
}

#[test]
fn a_serial_number_revoked_by_another_ca_is_nobody_s() {
    let scene = Scene::new(REQUIRED);
    scene.offer(1, &[&LEAF], &[&SUB]);
    admitted(&scene.policy, &scene.chain);
}

#[test]
fn a_path_with_one_certificate_that_no_crl_speaks_for_is_refused_unless_that_is_preferred_only() {
    let scene = Scene::new(REQUIRED);
    scene.store.offer("crls", vec![crl(&scene.sub, 1, &[], date(2031))], at(NOW));
    let refused = assert_refused(&scene.policy, &scene.chain, Refusal::RevocationUnknown);
    assert!(refused.detail.contains("510B") && refused.detail.contains("trust.contoso"));

    let scene = Scene::new(Rules { mode: Mode::Prefer, ..REQUIRED });
    admitted(&scene.policy, &scene.chain);
    scene.offer(1, &[], &[&LEAF]);
    assert_refused(&scene.policy, &scene.chain, Refusal::Revoked);
}

#[test]
fn a_crl_that_is_out_of_date_refuses() {
    let scene = Scene::new(REQUIRED);
    let crls = vec![
        crl(&scene.root, 1, &[], date(2031)),
        crl(&scene.sub, 1, &[], date(2029) + time::Duration::DAY),
    ];
    scene.store.offer("crls", crls, at(NOW));
    let refused = assert_refused(&scene.policy, &scene.chain, Refusal::CrlStale);
    assert!(refused.detail.contains("2029-01-02"), "{refused}");
}

#[test]
fn a_crl_of_an_intermediate_that_may_not_sign_any_says_nothing() {
    let scene = Scene::with_sub(REQUIRED, |sub| {
        sub.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    });
    let root = crl(&scene.root, 1, &[], date(2031));
    // The CRL is made with the very key, as an issuer that ignores its key usage would.
    let mut params = scene.sub.params.clone();
    params.key_usages.push(KeyUsagePurpose::CrlSign);
    let key = KeyPair::from_pem(&scene.sub.issuer.key().serialize_pem()).unwrap();
    let forger =
        Ca { der: scene.sub.der.clone(), issuer: Issuer::new(params.clone(), key), params };
    scene.store.offer("crls", vec![root, crl(&forger, 1, &[], date(2031))], at(NOW));
    assert_refused(&scene.policy, &scene.chain, Refusal::RevocationUnknown);
}

#[test]
fn what_was_verified_before_is_still_looked_up() {
    let scene = Scene::new(REQUIRED);
    scene.offer(1, &[], &[]);
    let permit = admitted(&scene.policy, &scene.chain);
    assert!(scene.policy.admitted_before(&scene.chain, at(NOW)).is_some());
    scene.offer(2, &[], &[&LEAF]);
    assert!(scene.policy.admitted_before(&scene.chain, at(NOW)).is_none());
    let refused = scene.policy.decide_again(&permit, at(NOW)).expect_err("revoked since");
    assert_eq!(refused.reason, Refusal::Revoked, "{refused}");
}

#[test]
fn the_distribution_points_of_a_verified_certificate_without_a_crl_are_wanted() {
    let scene = Scene::new(REQUIRED);
    let stranger =
        Ca::root("Contoso Root").sub("Contoso Issuing").leaf_with("fe01.contoso.test", |leaf| {
            leaf.crl_distribution_points =
                vec![CrlDistributionPoint { uris: vec!["http://stranger.test/".into()] }];
        });
    assert_refused(&scene.policy, &[stranger], Refusal::UnknownIssuer);
    assert!(scene.store.take_wanted().is_empty());
    assert_refused(&scene.policy, &scene.chain, Refusal::RevocationUnknown);
    assert_eq!(*scene.store.take_wanted(), [Box::from("http://crl.contoso.test/sub")]);
}
