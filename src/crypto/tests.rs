//! Both engines pass the same tests, each one's results hold for the other, and an engine that is
//! wrong is found out.
//!
//! The library is looked for where `auto` looks, or is the file that the environment variable
//! `COUNTERSIGN_TEST_CRYPTO_MB` names, which has to work then. Without either, aws-lc-rs alone is
//! tested.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use aws_lc_rs::{
    digest::{Digest, digest},
    signature::{EcdsaKeyPair, KeyPair as _},
};
use rustls_pki_types::PrivateKeyDer;

use super::{
    engine::Thresholds,
    mb::CryptoMb,
    primitives::{
        AgreeLane, CompleteLane, Primitives, RsaPrivateLane, RsaPublicLane, SetupLane, Status,
        VerifyLane,
    },
    selftest::{self, rsa_key},
    *,
};
use crate::metrics::{CryptoMetrics, Metrics};

/// The library, where it has to be or happens to be.
pub(super) fn library() -> Option<CryptoMb> {
    match std::env::var_os("COUNTERSIGN_TEST_CRYPTO_MB").filter(|path| !path.is_empty()) {
        Some(path) => Some(CryptoMb::load(Path::new(&path)).expect("the library that is named")),
        None => load::SYSTEM_PATHS.iter().find_map(|path| CryptoMb::load(Path::new(path)).ok()),
    }
}

/// aws-lc-rs, and the library for every batch of whatever size.
fn engines() -> Vec<Engine> {
    let multi = library().map(|found| Engine::with(Box::new(found), Thresholds::ALWAYS));
    [Engine::scalar()].into_iter().chain(multi).collect()
}

fn ecdsa_key(curve: Curve) -> (Arc<EcdsaKey>, Vec<u8>) {
    let pair = EcdsaKeyPair::generate(curve.signing()).unwrap();
    let der = pair.to_pkcs8v1().unwrap();
    let key = EcdsaKey::from_der(&PrivateKeyDer::Pkcs8(der.as_ref().into())).unwrap();
    (Arc::new(key), pair.public_key().as_ref().to_vec())
}

fn message(number: usize, algorithm: &'static aws_lc_rs::digest::Algorithm) -> Digest {
    digest(algorithm, &number.to_le_bytes())
}

fn verification(curve: Curve, public: &[u8], digest: Digest, signature: &[u8]) -> Verification {
    Verification {
        key: PublicPoint::parse(curve, public).unwrap(),
        digest,
        signature: EcdsaSignature::parse(curve, signature).unwrap(),
    }
}

fn agreement(ours: &KeyPair, peer: [u8; 32]) -> Agreement {
    Agreement { ours: ours.clone(), peer }
}

#[test]
fn the_library_gives_all_published_answers() {
    if let Some(library) = library() {
        selftest::run(&library, || ()).unwrap();
    }
}

#[test]
fn two_key_pairs_agree_whichever_engine_made_or_used_them() {
    let mut ahead = Ahead::default();
    for one in &engines() {
        for other in &engines() {
            for lanes in 1..=LANES {
                let pairs: Vec<_> = (0..lanes)
                    .map(|_| {
                        let ours = one.key_pair(&mut ahead).unwrap();
                        (ours, other.key_pair(&mut Ahead::default()).unwrap())
                    })
                    .collect();
                let there: Vec<_> = pairs.iter().map(|(a, b)| agreement(a, *b.public())).collect();
                let back: Vec<_> = pairs.iter().map(|(a, b)| agreement(b, *a.public())).collect();
                let (there, back) = (one.agree(&there), other.agree(&back));
                assert!(there.len() == lanes && there == back && there.iter().all(Result::is_ok));
                assert!(lanes < 2 || there[0] != there[1]);
            }
            assert_eq!(one.is_accelerated(), one.name() != "aws-lc-rs");
        }
    }
}

#[test]
fn a_share_of_low_order_is_refused_and_harms_no_other_lane() {
    // RFC 7748 §6.1: zero, one, and a point of order eight.
    let mut low = [[0; 32]; 3];
    low[1][0] = 1;
    low[2] = *b"\xe0\xeb\x7a\x7c\x3b\x41\xb8\xae\x16\x56\xe3\xfa\xf1\x9f\xc4\x6a\
                \xda\x09\x8d\xeb\x9c\x32\xb1\xfd\x86\x62\x05\x16\x5f\x49\xb8\x00";
    for engine in engines() {
        let mut ahead = Ahead::default();
        let ours = engine.key_pair(&mut ahead).unwrap();
        let good = *engine.key_pair(&mut ahead).unwrap().public();
        let peers = [good, low[0], good, low[1], low[2], good];
        let jobs: Vec<_> = peers.iter().map(|&peer| agreement(&ours, peer)).collect();
        let found: Vec<_> = engine.agree(&jobs).iter().map(Result::is_ok).collect();
        assert_eq!(found, [true, false, true, false, false, true], "{engine:?}");
        // It was the peer's fault, not the engine's.
        assert!(engine.is_accelerated() || engine.name() == "aws-lc-rs");
    }
}

#[test]
fn signatures_of_each_engine_are_valid_to_the_other_and_all_differ() {
    for curve in Curve::ALL {
        let (key, public) = ecdsa_key(curve);
        for signer in engines() {
            let mut ahead = Ahead::default();
            for lanes in 1..=LANES {
                let jobs: Vec<_> = (0..lanes)
                    .map(|_| EcdsaSigning { key: key.clone(), digest: message(7, curve.hash()) })
                    .collect();
                let mut signatures: Vec<_> =
                    signer.sign(&jobs, &mut ahead).into_iter().map(Result::unwrap).collect();
                for verifier in engines() {
                    let jobs: Vec<_> = signatures
                        .iter()
                        .take(VERIFY_LANES)
                        .map(|s| verification(curve, &public, message(7, curve.hash()), s))
                        .collect();
                    assert!(verifier.verify(&jobs).iter().all(|&valid| valid), "{verifier:?}");
                }
                // The same message twice under the same nonce would be the same signature.
                signatures.sort();
                signatures.dedup();
                assert_eq!(signatures.len(), lanes);
            }
        }
    }
}

#[test]
fn a_wrong_signature_is_found_in_whichever_lane() {
    for curve in Curve::ALL {
        let (key, public) = ecdsa_key(curve);
        let (_, stranger) = ecdsa_key(curve);
        for engine in engines() {
            for lanes in 1..=VERIFY_LANES {
                for wrong in 0..lanes {
                    let jobs: Vec<_> = (0..lanes)
                        .map(|lane| {
                            let digest = message(lane, curve.hash());
                            let job = EcdsaSigning { key: key.clone(), digest };
                            let signature = scalar::sign(&job).unwrap();
                            let is_wrong = lane == wrong;
                            let other = is_wrong && lanes % 2 == 0;
                            let digest =
                                if is_wrong { message(lane + 1, curve.hash()) } else { digest };
                            let public = if other { &stranger } else { &public };
                            verification(curve, public, digest, &signature)
                        })
                        .collect();
                    let right: Vec<_> = (0..lanes).map(|lane| lane != wrong).collect();
                    assert_eq!(engine.verify(&jobs), right, "{engine:?}");
                }
            }
        }
    }
}

#[test]
fn a_signature_out_of_range_or_a_point_off_the_curve_gets_nowhere() {
    for curve in Curve::ALL {
        let (_, public) = ecdsa_key(curve);
        let length = curve.bytes();
        let order: Vec<u8> = curve.order().0[..length / 8]
            .iter()
            .rev()
            .flat_map(|word| word.to_be_bytes())
            .collect();
        let zero = [0x30, 6, 2, 1, 0, 2, 1, 1];
        assert!(EcdsaSignature::parse(curve, &zero).is_none());
        assert!(EcdsaSignature::parse(curve, &der::write_ecdsa_signature(&order, &[1])).is_none());
        assert!(EcdsaSignature::parse(curve, &der::write_ecdsa_signature(&[1], &[1])).is_some());
        let mut off = public.clone();
        off[length] ^= 1;
        assert!(PublicPoint::parse(curve, &off).is_none());
        assert!(PublicPoint::parse(curve, &public[..1 + length]).is_none());
        let mut compressed = public[..1 + length].to_vec();
        compressed[0] = 2;
        assert!(PublicPoint::parse(curve, &compressed).is_none());
        assert!(PublicPoint::parse(curve, &public).is_some());
    }
}

pub(super) fn rsa_jobs(size: RsaSize, lanes: usize) -> Vec<RsaSigning> {
    let key = Arc::new(rsa_key(size).unwrap());
    let kinds = [
        (Padding::Pss, Hash::Sha256),
        (Padding::Pkcs1, Hash::Sha512),
        (Padding::Pss, Hash::Sha384),
        (Padding::Pkcs1, Hash::Sha256),
        (Padding::Pss, Hash::Sha512),
        (Padding::Pkcs1, Hash::Sha384),
    ];
    let jobs = (0..lanes).map(|lane| {
        let (padding, hash) = kinds[lane % kinds.len()];
        let digest = message(lane, hash.algorithm());
        RsaSigning { key: key.clone(), padding, hash, digest }
    });
    jobs.collect()
}

#[test]
fn rsa_signatures_of_either_engine_are_valid_in_every_padding() {
    for size in RsaSize::ALL {
        for engine in engines() {
            for lanes in [1, 3, LANES] {
                let jobs = rsa_jobs(size, lanes);
                for (job, signature) in jobs.iter().zip(engine.rsa_sign(&jobs)) {
                    assert!(scalar::is_rsa_signed(job, &signature.unwrap()), "{engine:?}");
                }
            }
            assert!(engine.is_accelerated() || engine.name() == "aws-lc-rs");
        }
    }
}

#[test]
fn a_digest_of_another_hash_is_never_signed() {
    for engine in engines() {
        let (key, _) = ecdsa_key(Curve::P256);
        let job = EcdsaSigning { key, digest: message(1, Curve::P384.hash()) };
        assert!(engine.sign(&[job], &mut Ahead::default())[0].is_err());
        let mut jobs = rsa_jobs(RsaSize::Rsa2048, 1);
        jobs[0].digest = message(1, Hash::Sha512.algorithm());
        assert!(engine.rsa_sign(&jobs)[0].is_err());
    }
}

/// What goes wrong in a library that is right otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It says yes to everything and computes nothing.
    Nothing,
    /// One bit of each result of one lane, for which success is reported all the same.
    Bit(usize),
    /// Every signature is valid in one lane.
    Gullible(usize),
    /// No signature is valid.
    Stubborn,
}

/// A library with a fault from some call on. Without a library inside, it says yes.
struct Faulty {
    inside: Option<CryptoMb>,
    fault: Fault,
    good_calls: AtomicUsize,
}

impl Faulty {
    fn engine(fault: Fault, good_calls: usize) -> Engine {
        let good_calls = AtomicUsize::new(good_calls);
        let faulty = Self { inside: library(), fault, good_calls };
        Engine::with(Box::new(faulty), Thresholds::ALWAYS)
    }

    /// Runs the call, and then the fault on the lane it is about, if it is time for it.
    fn call<L>(
        &self,
        lanes: &mut [L],
        call: impl FnOnce(&CryptoMb, &mut [L]) -> Status,
        spoil: impl FnOnce(&mut L),
    ) -> Status {
        let late =
            self.good_calls.fetch_update(Relaxed, Relaxed, |calls| calls.checked_sub(1)).is_err();
        let Some(inside) = self.inside.as_ref().filter(|_| !late || self.fault != Fault::Nothing)
        else {
            return Status(0);
        };
        let status = call(inside, lanes);
        match self.fault {
            Fault::Bit(lane) if late && lane < lanes.len() => spoil(&mut lanes[lane]),
            _ => (),
        }
        status
    }
}

impl Primitives for Faulty {
    fn name(&self) -> &str {
        "a faulty one"
    }

    fn x25519_public(&self, lanes: &mut [KeyPair]) -> Status {
        self.call(lanes, |inside, l| inside.x25519_public(l), |lane| lane.public[5] ^= 1)
    }

    fn x25519(&self, lanes: &mut [AgreeLane<'_>]) -> Status {
        self.call(lanes, |inside, l| inside.x25519(l), |lane| lane.shared[5] ^= 1)
    }

    fn ecdsa_setup(&self, curve: Curve, lanes: &mut [SetupLane]) -> Status {
        self.call(lanes, |inside, l| inside.ecdsa_setup(curve, l), |lane| lane.inverse.0[0] ^= 1)
    }

    fn ecdsa_complete(&self, curve: Curve, lanes: &mut [CompleteLane<'_>]) -> Status {
        self.call(lanes, |inside, l| inside.ecdsa_complete(curve, l), |lane| lane.s[5] ^= 1)
    }

    fn ecdsa_verify(&self, curve: Curve, lanes: &[VerifyLane<'_>]) -> Status {
        let status = self.inside.as_ref().map_or(Status(0), |i| i.ecdsa_verify(curve, lanes));
        match self.fault {
            Fault::Nothing => Status(0),
            Fault::Gullible(lane) => Status(status.0 & !(0xf << (4 * lane))),
            Fault::Stubborn => Status::ALL_FAILED,
            Fault::Bit(_) => status,
        }
    }

    fn rsa_private(&self, size: RsaSize, lanes: &mut [RsaPrivateLane<'_>]) -> Status {
        self.call(lanes, |inside, l| inside.rsa_private(size, l), |lane| lane.output[5] ^= 1)
    }

    fn rsa_public(&self, size: RsaSize, lanes: &mut [RsaPublicLane<'_>]) -> Status {
        self.call(lanes, |inside, l| inside.rsa_public(size, l), |lane| lane.output[5] ^= 1)
    }
}

#[test]
fn a_wrong_rsa_result_never_leaves_and_ends_the_engine_s_use() {
    for fault in [Fault::Nothing, Fault::Bit(0), Fault::Bit(3)] {
        if fault != Fault::Nothing && library().is_none() {
            continue;
        }
        let good_calls = if fault == Fault::Nothing { 0 } else { 2 };
        let engine = Faulty::engine(fault, good_calls);
        for call in 0..4 {
            let jobs = rsa_jobs(RsaSize::Rsa2048, 4);
            for (job, signature) in jobs.iter().zip(engine.rsa_sign(&jobs)) {
                assert!(scalar::is_rsa_signed(job, &signature.unwrap()), "{fault:?}");
            }
            assert_eq!(engine.is_accelerated(), call < good_calls, "{fault:?}");
        }
        assert_eq!(engine.name(), "aws-lc-rs");
    }
}

#[test]
fn an_engine_whose_ecdsa_signatures_go_wrong_is_found_by_sampling_and_switched_off() {
    for curve in Curve::ALL {
        let (key, _) = ecdsa_key(curve);
        for fault in [Fault::Nothing, Fault::Bit(2)] {
            if fault != Fault::Nothing && library().is_none() {
                continue;
            }
            let engine = Faulty::engine(fault, 0);
            let mut ahead = Ahead::default();
            let jobs: Vec<_> = (0..LANES)
                .map(|lane| EcdsaSigning { key: key.clone(), digest: message(lane, curve.hash()) })
                .collect();
            // Each lane's turn comes within as many samples as there are lanes.
            let batches = 8 * LANES + 1;
            let found = (0..batches).any(|_| {
                let signatures = engine.sign(&jobs, &mut ahead);
                let off = !engine.is_accelerated();
                // The batch that gave it away was signed anew.
                let valid = jobs
                    .iter()
                    .zip(&signatures)
                    .all(|(job, signed)| scalar::is_signed(job, signed.as_ref().unwrap()));
                assert!(!off || valid);
                off
            });
            assert!(found, "{curve:?} {fault:?}");
        }
    }
}

#[test]
fn an_engine_that_accepts_wrong_signatures_is_found_by_its_canary() {
    let curve = Curve::P256;
    let (key, public) = ecdsa_key(curve);
    let jobs = |wrong: bool| -> Vec<_> {
        let job = |lane| {
            let digest = message(lane, curve.hash());
            let signed = EcdsaSigning { key: key.clone(), digest };
            let signature = scalar::sign(&signed).unwrap();
            let digest = if wrong { message(lane + 1, curve.hash()) } else { digest };
            verification(curve, &public, digest, &signature)
        };
        (0..VERIFY_LANES).map(job).collect()
    };
    // All lanes say yes: no wrong verdict at all leaves.
    let engine = Faulty::engine(Fault::Nothing, 0);
    assert_eq!(engine.verify(&jobs(true)), [false; VERIFY_LANES]);
    assert!(!engine.is_accelerated());
    // One lane does: a canary comes to it within eight batches, however full these are and
    // whatever else is computed between them.
    for lane in (0..LANES).filter(|_| library().is_some()) {
        for jobs in [&jobs(false)[..], &jobs(false)[..1]] {
            let engine = Faulty::engine(Fault::Gullible(lane), 0);
            assert!((0..LANES).any(|_| {
                engine.verify(jobs);
                engine.key_pair(&mut Ahead::default()).unwrap();
                !engine.is_accelerated()
            }));
        }
    }
    // None does: right signatures stay right.
    let engine = Faulty::engine(Fault::Stubborn, 0);
    assert_eq!(engine.verify(&jobs(false)), [true; VERIFY_LANES]);
    assert!(!engine.is_accelerated());
}

/// A digest that isn't below the order of the curve, which the library refuses, is nobody's fault.
#[test]
fn digests_that_the_library_does_not_take_are_left_to_aws_lc_rs() {
    let (key, public) = ecdsa_key(Curve::P256);
    for byte in [0, 0xff] {
        let digest = Digest::import_less_safe(&[byte; 32], Curve::P256.hash()).unwrap();
        assert!(!Curve::P256.takes(&digest));
        let engine = Faulty::engine(Fault::Bit(LANES), 0);
        let jobs = [EcdsaSigning { key: key.clone(), digest }];
        let signatures = engine.sign(&jobs, &mut Ahead::default());
        let signature = signatures[0].as_ref().unwrap();
        assert!(scalar::is_signed(&jobs[0], signature));
        let jobs = [verification(Curve::P256, &public, digest, signature)];
        assert_eq!(engine.verify(&jobs), [true]);
        assert!(engine.is_accelerated());
    }
}

/// A library that says that all went well, and makes all nonces the same.
#[test]
fn signatures_that_share_a_nonce_do_not_leave() {
    let (key, _) = ecdsa_key(Curve::P256);
    let engine = Faulty::engine(Fault::Nothing, 0);
    let digest = |lane| message(lane, Curve::P256.hash());
    let jobs: Vec<_> =
        (0..2).map(|lane| EcdsaSigning { key: key.clone(), digest: digest(lane) }).collect();
    let signatures = engine.sign(&jobs, &mut Ahead::default());
    assert!(!engine.is_accelerated());
    for (job, signature) in jobs.iter().zip(&signatures) {
        assert!(scalar::is_signed(job, signature.as_ref().unwrap()));
    }
}

/// Unless the operator says otherwise, the library isn't asked at all.
#[test]
fn a_signature_that_lets_a_client_in_is_verified_by_aws_lc_rs_alone() {
    let curve = Curve::P256;
    let (key, public) = ecdsa_key(curve);
    let (right, wrong) = (message(0, curve.hash()), message(1, curve.hash()));
    let signature = scalar::sign(&EcdsaSigning { key, digest: right }).unwrap();
    let jobs = [right, wrong].map(|digest| verification(curve, &public, digest, &signature));
    for (verifying, asked) in [(Verifying::AwsLcRs, false), (Verifying::CryptoMb, true)] {
        let engine = Faulty::engine(Fault::Nothing, 0).verifying_by(verifying);
        assert_eq!(engine.verifies_in_batches(curve), asked);
        assert_eq!(engine.verify(&jobs), [true, false]);
        // The canary would have given away that the library says yes to everything.
        assert_eq!(engine.is_accelerated(), !asked);
    }
    assert_eq!(Verifying::default(), Verifying::AwsLcRs);
}

#[test]
fn wrong_key_pairs_and_agreements_are_found_by_sampling() {
    let engine = Faulty::engine(Fault::Nothing, 0);
    let mut ahead = Ahead::default();
    let pair = engine.key_pair(&mut ahead).unwrap();
    assert_eq!(scalar::public_key(&pair.secret).unwrap(), *pair.public());
    assert!(!engine.is_accelerated());

    let engine = Faulty::engine(Fault::Nothing, 0);
    let (ours, peer) = (scalar::key_pair().unwrap(), scalar::key_pair().unwrap());
    let jobs = [agreement(&ours, *peer.public())];
    assert_eq!(engine.agree(&jobs), [scalar::agree(&jobs[0])]);
    assert!(!engine.is_accelerated());
}

#[test]
fn a_library_that_fails_its_self_test_says_at_what() {
    let faulty = Faulty { inside: None, fault: Fault::Nothing, good_calls: AtomicUsize::new(0) };
    let untrue = selftest::run(&faulty, || ()).unwrap_err();
    assert_eq!(untrue.to_string(), "it computes X25519 key pairs wrong");
    let engine = Engine::with(Box::new(faulty), Thresholds::ALWAYS);
    engine.test_again(|| ());
    assert!(!engine.is_accelerated());
}

#[test]
fn a_library_is_only_taken_from_an_absolute_path_that_others_cannot_write() {
    use std::os::unix::fs::PermissionsExt;
    let choose = |path: &Path| Engine::load(&Choice::File(path.to_owned())).unwrap_err();
    // What the CPU lacks is said first.
    if matches!(choose(Path::new("libcrypto_mb.so")), WhyNot::Cpu(_)) {
        return;
    }
    assert!(matches!(choose(Path::new("libcrypto_mb.so")), WhyNot::Relative(_)));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("libcrypto_mb.so");
    assert!(matches!(choose(&path), WhyNot::File { .. }));
    std::fs::write(&path, "no library").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    assert!(matches!(choose(&path), WhyNot::Writable(_)));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(choose(&path), WhyNot::Load { error: LoadError::Open(_), .. }));
    assert!(matches!(Engine::load(&Choice::Off), Err(WhyNot::Off)));
}

#[test]
fn what_is_computed_is_counted_by_operation_and_engine() {
    let metrics = Metrics::new().unwrap();
    let engine = Faulty::engine(Fault::Nothing, 0).counted(CryptoMetrics::new(&metrics));
    let shown = |line: &str| {
        let text = metrics.render();
        assert!(text.contains(&format!("countersign_crypto_{line}\n")), "{line} in\n{text}");
    };
    shown(r#"engine_in_use{engine="crypto_mb"} 1"#);
    shown(r#"engine_in_use{engine="aws_lc_rs"} 0"#);
    // The batch is wrong, found out, and computed again one by one; the next doesn't go there.
    for _ in 0..2 {
        assert_eq!(engine.rsa_sign(&rsa_jobs(RsaSize::Rsa2048, 3)).len(), 3);
    }
    shown(r#"batches_total{operation="rsa_2048_sign",engine="crypto_mb"} 1"#);
    shown(r#"operations_total{operation="rsa_2048_sign",engine="crypto_mb"} 3"#);
    shown(r#"batches_total{operation="rsa_2048_sign",engine="aws_lc_rs"} 6"#);
    shown(r#"operations_total{operation="rsa_2048_sign",engine="aws_lc_rs"} 6"#);
    shown("engine_switched_off_total 1");
    shown(r#"engine_in_use{engine="crypto_mb"} 0"#);
    shown(r#"engine_in_use{engine="aws_lc_rs"} 1"#);
}

#[test]
fn secrets_don_t_show_in_what_is_printed() {
    let (key, _) = ecdsa_key(Curve::P256);
    let rsa = rsa_key(RsaSize::Rsa2048).unwrap();
    let secret = SharedSecret(Box::new([7; 32].into()));
    let shown = format!("{key:?} {rsa:?} {secret:?} {:?}", key.secret);
    assert_eq!(shown, "EcdsaKey(P256) RsaKey(Rsa2048) SharedSecret(..) Words(..)");
}
