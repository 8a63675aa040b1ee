//! Engines that mix up lanes. They need a library that is right otherwise: without one, there is
//! nothing to test.

use std::{
    mem::swap,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use super::*;
use crate::crypto::{
    mb::CryptoMb,
    primitives::{AgreeLane, KeyPair, RsaPrivateLane, RsaPublicLane},
    tests::library,
};

/// What is mixed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    KeyPair,
    Agree,
    Nonce(Curve),
    Sign(Curve),
    Verify(Curve),
    RsaPrivate(RsaSize),
    RsaPublic(RsaSize),
}

/// A library that exchanges the results of two lanes.
struct MixedUp<'l> {
    inside: &'l CryptoMb,
    operation: Operation,
    lanes: (usize, usize),
    exchanged: &'l AtomicUsize,
}

impl MixedUp<'_> {
    /// The two lanes, if it is they and this operation.
    fn two<'a, L>(
        &self,
        operation: Operation,
        lanes: &'a mut [L],
    ) -> Option<(&'a mut L, &'a mut L)> {
        let (one, other) = self.lanes;
        let is_it = operation == self.operation && other < lanes.len();
        let [one, other] = lanes.get_disjoint_mut([one, other]).ok().filter(|_| is_it)?;
        self.exchanged.fetch_add(1, Relaxed);
        Some((one, other))
    }
}

impl Primitives for MixedUp<'_> {
    fn name(&self) -> &str {
        "one that mixes up lanes"
    }

    fn x25519_public(&self, lanes: &mut [KeyPair]) -> Status {
        let status = self.inside.x25519_public(lanes);
        if let Some((one, other)) = self.two(Operation::KeyPair, lanes) {
            swap(&mut one.public, &mut other.public);
        }
        status
    }

    fn x25519(&self, lanes: &mut [AgreeLane<'_>]) -> Status {
        let status = self.inside.x25519(lanes);
        if let Some((one, other)) = self.two(Operation::Agree, lanes) {
            swap(&mut one.shared, &mut other.shared);
        }
        status
    }

    fn ecdsa_setup(&self, curve: Curve, lanes: &mut [SetupLane]) -> Status {
        let status = self.inside.ecdsa_setup(curve, lanes);
        if let Some((one, other)) = self.two(Operation::Nonce(curve), lanes) {
            swap(&mut one.inverse, &mut other.inverse);
            swap(&mut one.r, &mut other.r);
        }
        status
    }

    fn ecdsa_complete(&self, curve: Curve, lanes: &mut [CompleteLane<'_>]) -> Status {
        let status = self.inside.ecdsa_complete(curve, lanes);
        if let Some((one, other)) = self.two(Operation::Sign(curve), lanes) {
            swap(&mut one.r, &mut other.r);
            swap(&mut one.s, &mut other.s);
        }
        status
    }

    fn ecdsa_verify(&self, curve: Curve, lanes: &[VerifyLane<'_>]) -> Status {
        let Status(status) = self.inside.ecdsa_verify(curve, lanes);
        let mut lanes: Vec<u32> = (0..LANES).map(|lane| status >> (4 * lane) & 0xf).collect();
        if let Some((one, other)) = self.two(Operation::Verify(curve), &mut lanes) {
            swap(one, other);
        }
        Status(lanes.iter().rev().fold(0, |status, lane| status << 4 | lane))
    }

    fn rsa_private(&self, size: RsaSize, lanes: &mut [RsaPrivateLane<'_>]) -> Status {
        let status = self.inside.rsa_private(size, lanes);
        if let Some((one, other)) = self.two(Operation::RsaPrivate(size), lanes) {
            swap(&mut one.output, &mut other.output);
        }
        status
    }

    fn rsa_public(&self, size: RsaSize, lanes: &mut [RsaPublicLane<'_>]) -> Status {
        let status = self.inside.rsa_public(size, lanes);
        if let Some((one, other)) = self.two(Operation::RsaPublic(size), lanes) {
            swap(&mut one.output, &mut other.output);
        }
        status
    }
}

/// Any two, also those that published answers can't tell apart: they repeat each two or three
/// lanes.
#[test]
fn a_library_that_mixes_up_any_two_lanes_fails_its_self_test() {
    let Some(inside) = library() else { return };
    let operations = [Operation::KeyPair, Operation::Agree]
        .into_iter()
        .chain(Curve::ALL.map(Operation::Nonce))
        .chain(Curve::ALL.map(Operation::Sign))
        .chain(Curve::ALL.map(Operation::Verify))
        .chain([Operation::RsaPrivate(RsaSize::Rsa2048), Operation::RsaPublic(RsaSize::Rsa2048)]);
    for operation in operations {
        for other in 1..LANES {
            for one in 0..other {
                let exchanged = AtomicUsize::new(0);
                let lanes = (one, other);
                let mixed_up = MixedUp { inside: &inside, operation, lanes, exchanged: &exchanged };
                assert!(run(&mixed_up, || ()).is_err(), "{operation:?} {lanes:?}");
                assert!(exchanged.into_inner() > 0, "{operation:?} {lanes:?}");
            }
        }
    }
}
