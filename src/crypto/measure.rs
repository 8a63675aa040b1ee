//! What operations cost here and now, and from how many lanes on a batch is cheaper.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use aws_lc_rs::{
    digest::digest,
    signature::{EcdsaKeyPair, KeyPair as _},
};
use rustls_pki_types::PrivateKeyDer;

use super::{
    Agreement, Ahead, Curve, EcdsaKey, EcdsaSignature, EcdsaSigning, Engine, Hash, LANES, Padding,
    PublicPoint, RsaSigning, RsaSize, Thresholds, VERIFY_LANES, Verification, engine::NEVER,
    scalar, selftest::rsa_key,
};

/// How often something is timed; the shortest time counts, as the others were disturbed.
const RUNS: usize = 17;

/// How often RSA is, whose operations take long enough to be measured well.
const RSA_RUNS: usize = 5;

/// How long a handshake may be held up by a batch; a library that takes longer isn't used for that
/// kind, however cheap each operation is. Batches that take long, those of RSA, are computed beside
/// the worker.
const MAX_BATCH: Duration = Duration::from_millis(25);

/// What an operation costs.
#[derive(Debug, Clone)]
pub struct Speed {
    /// The operation, in words.
    pub operation: String,
    /// By aws-lc-rs.
    pub one: Duration,
    /// Each of a full batch, where that is cheaper.
    pub of_batch: Option<Duration>,
    /// From how many on a batch is cheaper; none if never, or without a library.
    pub from_lanes: Option<usize>,
}

/// Measures every operation, which takes some 50 ms.
pub fn speeds(engine: &Engine) -> Vec<Speed> {
    let thresholds = engine.thresholds();
    let speed = |work: Work| {
        let from = thresholds.map_or(NEVER, |thresholds| work.threshold(&thresholds));
        let full = || work.time(engine, work.most() as usize) / work.most();
        Speed {
            operation: work.name(),
            one: work.time(&Engine::scalar(), 1),
            of_batch: (from != NEVER).then(full),
            from_lanes: (from != NEVER).then_some(from),
        }
    };
    Work::all().into_iter().map(speed).collect()
}

/// Measures from how many lanes on `engine`, which takes batches of any size, is cheaper.
pub(super) fn thresholds(engine: &Engine) -> Thresholds {
    let mut found = Thresholds::NEVER;
    for work in Work::all() {
        let least = work.cost(engine).least(work.most()).map_or(NEVER, |least| least as usize);
        match work {
            Work::KeyPair => found.key_pairs_ahead = least != NEVER,
            Work::Agree(_) => found.agree = least,
            Work::Sign(curve, _) => found.sign[curve as usize] = least,
            Work::Verify(curve, _) => found.verify[curve as usize] = least,
            Work::Rsa(size, _) => found.rsa[size as usize] = least,
        }
    }
    found
}

/// What is measured, with as much work as a batch holds.
enum Work {
    KeyPair,
    Agree(Vec<Agreement>),
    Sign(Curve, Vec<EcdsaSigning>),
    Verify(Curve, Vec<Verification>),
    Rsa(RsaSize, Vec<RsaSigning>),
}

/// What a number of operations costs.
struct Cost {
    /// One by aws-lc-rs.
    one: Duration,
    /// A batch with one of them.
    single: Duration,
    /// A full batch.
    full: Duration,
}

impl Cost {
    /// The smallest batch of at most `most` that costs less than its operations one by one, if a
    /// full one does, and doesn't take too long. What a batch costs rises evenly with its lanes.
    fn least(&self, most: u32) -> Option<u32> {
        let rise = self.full.saturating_sub(self.single) / (most - 1).max(1);
        let pays = |lanes: u32| self.single + rise * (lanes - 1) < self.one * lanes;
        let bearable = self.full <= MAX_BATCH;
        (1..=most).find(|&lanes| pays(lanes)).filter(|_| pays(most) && bearable)
    }
}

impl Work {
    /// Whatever can be made: a kind that can't be isn't measured, and so isn't used either.
    fn all() -> Vec<Self> {
        let mut all = vec![Self::KeyPair];
        all.extend(agreements().map(Self::Agree));
        for curve in Curve::ALL {
            if let Some((signing, verifying)) = ecdsa(curve) {
                all.push(Self::Sign(curve, signing));
                all.push(Self::Verify(curve, verifying));
            }
        }
        all.extend(RsaSize::ALL.into_iter().filter_map(|size| Some(Self::Rsa(size, rsa(size)?))));
        all
    }

    fn name(&self) -> String {
        match self {
            Self::KeyPair => "X25519 key pair".into(),
            Self::Agree(_) => "X25519 agreement".into(),
            Self::Sign(curve, _) => format!("ECDSA {} signature", curve.name()),
            Self::Verify(curve, _) => format!("ECDSA {} verification", curve.name()),
            Self::Rsa(size, _) => format!("RSA-{} signature", size.bits()),
        }
    }

    /// From how many on it goes to the library.
    fn threshold(&self, thresholds: &Thresholds) -> usize {
        match self {
            Self::KeyPair if thresholds.key_pairs_ahead => 1,
            Self::KeyPair => NEVER,
            Self::Agree(_) => thresholds.agree,
            Self::Sign(curve, _) => thresholds.sign[*curve as usize],
            Self::Verify(curve, _) => thresholds.verify[*curve as usize],
            Self::Rsa(size, _) => thresholds.rsa[*size as usize],
        }
    }

    /// The most operations of a batch.
    fn most(&self) -> u32 {
        match self {
            Self::Verify(..) => count(VERIFY_LANES),
            _ => count(LANES),
        }
    }

    fn cost(&self, engine: &Engine) -> Cost {
        let most = self.most() as usize;
        let full = self.time(engine, most);
        Cost {
            one: self.time(&Engine::scalar(), 1),
            // Key pairs are only ever made eight at a time.
            single: if matches!(self, Self::KeyPair) { full } else { self.time(engine, 1) },
            full,
        }
    }

    /// The shortest time that so many of it take.
    fn time(&self, engine: &Engine, lanes: usize) -> Duration {
        let mut ahead = Ahead::default();
        match self {
            Self::KeyPair => shortest(RUNS, || {
                for _ in 0..lanes {
                    black_box(engine.key_pair(&mut ahead)).ok();
                }
            }),
            Self::Agree(jobs) => shortest(RUNS, || drop(black_box(engine.agree(&jobs[..lanes])))),
            // As often as it takes for each to have paid for its share of the nonces.
            Self::Sign(_, jobs) => {
                shortest(RUNS, || {
                    for _ in 0..LANES {
                        drop(black_box(engine.sign(&jobs[..lanes], &mut ahead)));
                    }
                }) / count(LANES)
            }
            Self::Verify(_, jobs) => {
                shortest(RUNS, || drop(black_box(engine.verify(&jobs[..lanes]))))
            }
            Self::Rsa(_, jobs) => {
                shortest(RSA_RUNS, || drop(black_box(engine.rsa_sign(&jobs[..lanes]))))
            }
        }
    }
}

fn count(lanes: usize) -> u32 {
    u32::try_from(lanes).unwrap_or(u32::MAX)
}

fn shortest(runs: usize, mut work: impl FnMut()) -> Duration {
    let mut run = || {
        let start = Instant::now();
        work();
        start.elapsed()
    };
    // The first run is the one that finds cold caches.
    run();
    (0..runs).map(|_| run()).min().unwrap_or(Duration::MAX)
}

fn agreements() -> Option<Vec<Agreement>> {
    let agreement = |_| Some(Agreement { ours: scalar::key_pair().ok()?, peer: peer()? });
    (0..LANES).map(agreement).collect()
}

fn peer() -> Option<[u8; 32]> {
    Some(*scalar::key_pair().ok()?.public())
}

fn ecdsa(curve: Curve) -> Option<(Vec<EcdsaSigning>, Vec<Verification>)> {
    let pair = EcdsaKeyPair::generate(curve.signing()).ok()?;
    let document = pair.to_pkcs8v1().ok()?;
    let key = Arc::new(EcdsaKey::from_der(&PrivateKeyDer::Pkcs8(document.as_ref().into()))?);
    let digest = digest(curve.hash(), b"a message");
    let signing = (0..LANES).map(|_| EcdsaSigning { key: key.clone(), digest });
    let signing: Vec<_> = signing.collect();
    let verification = |signing: &EcdsaSigning| {
        let signature = scalar::sign(signing).ok()?;
        Some(Verification {
            key: PublicPoint::parse(curve, pair.public_key().as_ref())?,
            digest,
            signature: EcdsaSignature::parse(curve, &signature)?,
        })
    };
    let verifying = signing[..VERIFY_LANES].iter().map(verification).collect::<Option<_>>()?;
    Some((signing, verifying))
}

fn rsa(size: RsaSize) -> Option<Vec<RsaSigning>> {
    let key = Arc::new(rsa_key(size)?);
    let (padding, hash) = (Padding::Pss, Hash::Sha256);
    let digest = digest(hash.algorithm(), b"a message");
    let job = |_| RsaSigning { key: key.clone(), padding, hash, digest };
    Some((0..LANES).map(job).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(one: u64, single: u64, full: u64) -> Cost {
        let [one, single, full] = [one, single, full].map(Duration::from_nanos);
        Cost { one, single, full }
    }

    #[test]
    fn a_batch_pays_from_the_first_size_on_that_is_cheaper_than_one_by_one() {
        assert_eq!(cost(100, 250, 250).least(8), Some(3));
        assert_eq!(cost(100, 200, 200).least(8), Some(3));
        assert_eq!(cost(100, 60, 100).least(8), Some(1));
        assert_eq!(cost(100, 210, 560).least(8), Some(4));
        assert_eq!(cost(100, 900, 900).least(8), None);
        assert_eq!(cost(100, 700, 700).least(7), None);
        assert_eq!(cost(100, 50, 900).least(8), None);
        // 30 ms, though each of eight would cost 4 ms alone.
        assert_eq!(cost(4_000_000, 30_000_000, 30_000_000).least(8), None);
    }
}
