//! Chains that are made to cost: what a stranger can have us do before it is refused.
//!
//! What is dear in a decision is to verify a signature, some 50 to 100 µs; all else is bounded by
//! the caps on what may be presented. So the tests count signatures, which are the same on every
//! machine. `benches/trust.rs` has the times.

use std::cell::Cell;

use rcgen::{GeneralSubtree, NameConstraints, SanType};
use rustls_pki_types::{
    AlgorithmIdentifier, CertificateDer, InvalidSignature, SignatureVerificationAlgorithm,
};

use super::{Ca, NOW, assert_refused, at, frontends, peers, policy, profile};
use crate::trust::{Policy, Refusal};

thread_local! {
    static VERIFIED: Cell<usize> = const { Cell::new(0) };
}

/// Counts what it verifies, on the thread that asks.
#[derive(Debug)]
struct Counted(&'static dyn SignatureVerificationAlgorithm);

impl SignatureVerificationAlgorithm for Counted {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        VERIFIED.set(VERIFIED.get() + 1);
        self.0.verify_signature(public_key, message, signature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.0.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.0.signature_alg_id()
    }
}

/// The same algorithms, which count; made once for all tests.
pub(in crate::trust) fn counted(
    all: &'static [&'static dyn SignatureVerificationAlgorithm],
) -> &'static [&'static dyn SignatureVerificationAlgorithm] {
    let count = |algorithm: &&'static dyn SignatureVerificationAlgorithm| {
        let counted: &'static dyn SignatureVerificationAlgorithm =
            Box::leak(Box::new(Counted(*algorithm)));
        counted
    };
    all.iter().map(count).collect::<Vec<_>>().leak()
}

/// Signatures that a decision verifies.
fn signatures(policy: &Policy, chain: &[CertificateDer<'_>]) -> usize {
    VERIFIED.set(0);
    let _ = policy.decide(chain, at(NOW));
    VERIFIED.get()
}

/// What a decision about a good client costs, with one intermediate certificate: its own signature
/// and that of its issuer.
const GOOD: usize = 2;

/// What no chain may cost more than.
const MOST: usize = 20 * GOOD;

#[test]
fn a_good_client_costs_a_signature_for_each_certificate_and_none_when_it_comes_back() {
    let ca = Ca::root("Contoso Root");
    let sub = ca.sub("Contoso Sub");
    let policy = frontends(&ca, |_| {});
    let chain = [sub.leaf("fe01.contoso.test"), sub.der.clone()];
    assert_eq!(signatures(&policy, &chain), GOOD);
    VERIFIED.set(0);
    let permit = policy.admitted_before(&chain, at(NOW)).expect("it was admitted");
    assert!(policy.decide_again(&permit, at(NOW)).is_ok());
    assert_eq!(VERIFIED.get(), 0);
}

#[test]
fn sixty_intermediates_of_one_name_cost_no_signature() {
    let ca = Ca::root("Contoso Root");
    let policy = frontends(&ca, |_| {});
    let twins: Vec<Ca> = (0..60).map(|_| ca.sub("Twin")).collect();
    let mut chain = vec![twins[0].leaf("fe01.contoso.test")];
    chain.extend(twins.iter().map(|twin| twin.der.clone()));
    assert_refused(&policy, &chain, Refusal::ChainTooLong);
    assert_eq!(signatures(&policy, &chain), 0);
    // As many as may be presented, if they had not one name.
    assert_refused(&policy, &chain[..9], Refusal::ChainTooLong);
    assert_eq!(signatures(&policy, &chain[..9]), 0);
}

/// Every CA of a mesh has certified every other one, and none is certified by ours: each path
/// through it is tried in vain. As much of it is sent as may be.
#[test]
fn a_mesh_of_cross_signed_cas_costs_at_most_twenty_times_a_good_client() {
    let ours = Ca::root("Contoso Root");
    // The mesh ends in a CA that calls itself ours, so that the signature has to be looked at.
    let fake = Ca::root("Contoso Root");
    let policy = frontends(&ours, |_| {});
    let members: Vec<Ca> = (0..4).map(|n| fake.sub(&format!("Member {n}"))).collect();
    let mut mesh = Vec::new();
    for issuer in &members {
        mesh.push(issuer.der.clone());
        mesh.extend(members.iter().map(|member| issuer.cross_sign(member)));
    }
    let leaf = members[0].leaf("fe01.contoso.test");
    // Each choice of eight of these that the caps let through.
    let mut most = 0;
    for start in 0..mesh.len() {
        for step in [1, 2, 3, 5, 7] {
            let others = (0..8).map(|n| mesh[(start + n * step) % mesh.len()].clone());
            let mut chain = vec![leaf.clone()];
            for other in others {
                chain.push(other);
                let refused = policy.decide(&chain, at(NOW)).expect_err("nobody vouches for it");
                if refused.reason == Refusal::ChainTooLong {
                    chain.pop();
                }
            }
            most = most.max(signatures(&policy, &chain));
        }
    }
    assert!((1..=MOST).contains(&most), "{most} signatures");
}

/// The longest path with two certificates of two subjects, which is as far as one may branch.
#[test]
fn a_path_that_branches_as_often_as_it_may_costs_at_most_twenty_times_a_good_client() {
    let ours = Ca::root("Contoso Root");
    let fake = Ca::root("Contoso Root");
    let policy = frontends(&ours, |trust| trust.max_intermediates = 6);
    let mut most = 0;
    for branching in [[0, 1], [0, 5], [2, 3], [4, 5]] {
        let mut sent = Vec::new();
        let mut issuer: Option<Ca> = None;
        for level in 0..6 {
            let above = issuer.as_ref().unwrap_or(&fake);
            let one = above.sub(&format!("Level {level}"));
            sent.push(one.der.clone());
            if branching.contains(&level) {
                sent.push(above.cross_sign(&one_more(&one)));
            }
            issuer = Some(one);
        }
        sent.insert(0, issuer.expect("a level").leaf("fe01.contoso.test"));
        assert_refused(&policy, &sent, Refusal::BadSignature);
        most = most.max(signatures(&policy, &sent));
    }
    assert!((1..=MOST).contains(&most), "{most} signatures");
}

/// The same CA with another serial number, so that it is another certificate.
fn one_more(ca: &Ca) -> Ca {
    let mut params = ca.params.clone();
    params.serial_number = Some(7.into());
    let key = rcgen::KeyPair::try_from(ca.issuer.key().serialized_der()).unwrap();
    Ca { der: ca.der.clone(), issuer: rcgen::Issuer::new(params.clone(), key), params }
}

/// Many CAs of one name, as a shared root with many keys would be: a signature for each.
#[test]
fn a_stranger_with_the_name_of_a_ca_costs_a_signature_for_each_of_that_name() {
    let twins: Vec<Ca> = (0..8).map(|_| Ca::root("Twin")).collect();
    let trust = profile("contoso", &twins.iter().collect::<Vec<_>>(), &["*.contoso.test"]);
    let policy = policy(&[peers("frontends", &trust.into(), &["fe01.contoso.test"])]);
    let stranger = [Ca::root("Twin").leaf("fe01.contoso.test")];
    assert_refused(&policy, &stranger, Refusal::BadSignature);
    assert_eq!(signatures(&policy, &stranger), 8);
}

#[test]
fn two_hundred_and_fifty_names_and_a_ca_full_of_constraints_cost_no_more_signatures() {
    let ca = Ca::root("Contoso Root");
    let sub = ca.sub_with("Constrained", |params| {
        let subtrees = |prefix: &str| {
            let name = |n| GeneralSubtree::DnsName(format!("{prefix}{n}.test"));
            (0..250).map(name).collect::<Vec<_>>()
        };
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: subtrees("permitted"),
            excluded_subtrees: subtrees("excluded"),
        });
    });
    let policy = frontends(&ca, |_| {});
    let many = |leaf: &mut rcgen::CertificateParams| {
        let name = |n| SanType::DnsName(format!("n{n}.contoso.test").try_into().unwrap());
        leaf.subject_alt_names = (0..250).map(name).collect();
    };
    let direct = [ca.leaf_with("x.contoso.test", many)];
    assert_refused(&policy, &direct, Refusal::NameNotListed);
    assert_eq!(signatures(&policy, &direct), 1);
    let constrained = [sub.leaf_with("x.contoso.test", many), sub.der.clone()];
    assert_refused(&policy, &constrained, Refusal::NameConstraint);
    assert!(signatures(&policy, &constrained) <= GOOD);
}
