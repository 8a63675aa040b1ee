//! The engine: a multi-buffer library whose results were checked, or aws-lc-rs one by one.

use std::{
    fmt,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed},
    },
};

use super::{
    Agreement, EcdsaSigning, Failed, RsaSigning, SharedSecret, Verification,
    ahead::{Ahead, Prepared, nonce},
    der::write_ecdsa_signature,
    padding,
    primitives::{
        AgreeLane, CompleteLane, Curve, KeyPair, LANES, MAX_SCALAR_BYTES, Primitives,
        RsaPrivateLane, Secret32, SetupLane, VerifyLane,
    },
    scalar,
};
use crate::metrics::{
    CryptoEngine::{AwsLcRs, CryptoMb},
    CryptoMetrics, CryptoOperation,
};

/// Batches of which one has a lane of its results computed again by aws-lc-rs.
const SAMPLE_EVERY: u32 = 8;

/// Lanes of a verification that are the callers'; in each other one sits a canary.
pub const VERIFY_LANES: usize = LANES - 1;

/// More lanes than there are.
pub(super) const NEVER: usize = LANES + 1;

/// From how many lanes on a batch is cheaper than aws-lc-rs one by one; more than [`LANES`] is
/// never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// Key agreements.
    pub agree: usize,
    /// ECDSA signatures from nonces that were made ahead, by [`Curve::ALL`].
    pub sign: [usize; 2],
    /// Verifications, by [`Curve::ALL`].
    pub verify: [usize; 2],
    /// RSA signatures, by [`RsaSize::ALL`](super::RsaSize::ALL).
    pub rsa: [usize; 3],
    /// Whether key pairs are cheaper eight at a time.
    pub key_pairs_ahead: bool,
}

impl Thresholds {
    /// The library is used for whatever it can.
    pub(super) const ALWAYS: Self =
        Self { agree: 1, sign: [1; 2], verify: [1; 2], rsa: [1; 3], key_pairs_ahead: true };

    /// It isn't used at all.
    pub(super) const NEVER: Self = Self {
        agree: NEVER,
        sign: [NEVER; 2],
        verify: [NEVER; 2],
        rsa: [NEVER; 3],
        key_pairs_ahead: false,
    };
}

/// A library in use, until a result of its turns out wrong.
struct Multi {
    primitives: Box<dyn Primitives>,
    trusted: AtomicBool,
    thresholds: Thresholds,
    /// Batches by [`CryptoOperation::ALL`].
    batches: Box<[AtomicU32]>,
    /// Batches of verifications, by [`Curve::ALL`].
    verifications: [AtomicUsize; 2],
    canaries: [OnceLock<Verification>; 2],
}

/// Carries out operations, up to eight of a kind at a time. All workers share one.
///
/// Whatever the library does, no wrong RSA signature leaves: each is verified by aws-lc-rs. ECDSA
/// signatures, key pairs and agreements are sampled. A verification that succeeds wrongly is
/// looked for in every batch by canaries: at least one lane, another one each time, has a signature
/// that is known to be wrong. A verification that fails is repeated by aws-lc-rs. The first wrong
/// result switches the library off for good, and its batch is computed again.
pub struct Engine {
    multi: Option<Multi>,
    metrics: Option<CryptoMetrics>,
}

impl Engine {
    /// aws-lc-rs alone.
    pub fn scalar() -> Self {
        Self { multi: None, metrics: None }
    }

    /// With a library that has yet to be tested.
    pub(super) fn with(primitives: Box<dyn Primitives>, thresholds: Thresholds) -> Self {
        Self {
            multi: Some(Multi {
                primitives,
                trusted: AtomicBool::new(true),
                thresholds,
                batches: CryptoOperation::ALL.iter().map(|_| AtomicU32::default()).collect(),
                verifications: Default::default(),
                canaries: Default::default(),
            }),
            metrics: None,
        }
    }

    /// The same engine, which counts what it does from now on.
    pub fn counted(self, metrics: CryptoMetrics) -> Self {
        metrics.in_use(if self.is_accelerated() { CryptoMb } else { AwsLcRs });
        Self { metrics: Some(metrics), ..self }
    }

    /// The same library with other thresholds.
    pub(super) fn with_thresholds(mut self, thresholds: Thresholds) -> Self {
        if let Some(multi) = &mut self.multi {
            multi.thresholds = thresholds;
        }
        self
    }

    /// Whether verifications are worth waiting for others.
    pub(super) fn verifies_in_batches(&self, curve: Curve) -> bool {
        self.thresholds().is_some_and(|least| least.verify[curve as usize] < NEVER)
    }

    /// What it is, for people.
    pub fn name(&self) -> &str {
        self.trusted().map_or("aws-lc-rs", |multi| multi.primitives.name())
    }

    /// Whether batches go to a library; false for good once a result of its was wrong.
    pub fn is_accelerated(&self) -> bool {
        self.trusted().is_some()
    }

    /// When batches go to the library; none where there isn't any.
    pub fn thresholds(&self) -> Option<Thresholds> {
        self.trusted().map(|multi| multi.thresholds)
    }

    /// What its operations are counted by.
    pub(super) fn metrics(&self) -> Option<&CryptoMetrics> {
        self.metrics.as_ref()
    }

    /// A batch of the library's.
    fn count_batch(&self, operation: CryptoOperation, operations: usize) {
        if let Some(metrics) = &self.metrics {
            metrics.computed(operation, CryptoMb, 1, operations);
        }
    }

    /// What `jobs` come to by aws-lc-rs, one by one.
    fn one_by_one<J, R>(
        &self,
        operation: CryptoOperation,
        jobs: &[J],
        one: impl Fn(&J) -> R,
    ) -> Vec<R> {
        if let Some(metrics) = &self.metrics {
            metrics.computed(operation, AwsLcRs, jobs.len(), jobs.len());
        }
        jobs.iter().map(one).collect()
    }

    /// A new X25519 key pair, from the stock if that is cheaper.
    ///
    /// # Errors
    /// If the system gives no random bytes.
    pub fn key_pair(&self, ahead: &mut Ahead) -> Result<KeyPair, Failed> {
        let Some(multi) = self.trusted().filter(|multi| multi.thresholds.key_pairs_ahead) else {
            ahead.key_pairs.clear();
            return self.one_key_pair();
        };
        if ahead.key_pairs.is_empty() {
            ahead.key_pairs = self.key_pairs(multi)?;
        }
        ahead.key_pairs.pop().map_or_else(|| self.one_key_pair(), Ok)
    }

    fn one_key_pair(&self) -> Result<KeyPair, Failed> {
        let made = self.one_by_one(CryptoOperation::X25519KeyPair, &[()], |()| scalar::key_pair());
        made.into_iter().next().unwrap_or(Err(Failed))
    }

    fn key_pairs(&self, multi: &Multi) -> Result<Vec<KeyPair>, Failed> {
        let mut pairs = (0..LANES).map(|_| KeyPair::new()).collect::<Result<Vec<_>, _>>()?;
        let status = multi.primitives.x25519_public(&mut pairs);
        self.count_batch(CryptoOperation::X25519KeyPair, LANES);
        let lane = multi.sampled(CryptoOperation::X25519KeyPair, LANES);
        let good = (0..LANES).all(|lane| status.succeeded(lane));
        let good = good
            && lane.is_none_or(|lane| {
                scalar::public_key(&pairs[lane].secret).is_ok_and(|key| key == pairs[lane].public)
            });
        if good {
            return Ok(pairs);
        }
        self.switch_off("an X25519 key pair");
        Ok(Vec::new())
    }

    /// The shared secrets of up to [`LANES`] key agreements, in their order.
    ///
    /// # Errors
    /// For each whose shared secret would be zero, which is the peer's fault (RFC 8446 §7.4.2).
    pub fn agree(&self, jobs: &[Agreement]) -> Vec<Result<SharedSecret, Failed>> {
        const KIND: CryptoOperation = CryptoOperation::X25519;
        let one_by_one = || self.one_by_one(KIND, jobs, scalar::agree);
        let multi = self.worth(KIND, jobs.len(), LANES, |t| t.agree);
        let Some(multi) = multi else { return one_by_one() };
        let mut lanes: Vec<_> = jobs
            .iter()
            .map(|job| AgreeLane {
                secret: &job.ours.secret,
                peer: &job.peer,
                shared: Secret32::default(),
            })
            .collect();
        let status = multi.primitives.x25519(&mut lanes);
        let sampled = multi.sampled(KIND, jobs.len());
        let mut results = Vec::with_capacity(jobs.len());
        for (lane, (job, AgreeLane { shared, .. })) in jobs.iter().zip(lanes).enumerate() {
            let zero = shared.iter().fold(0, |all, byte| all | byte) == 0;
            let found = if status.succeeded(lane) && !zero {
                Ok(SharedSecret(shared))
            } else {
                Err(Failed)
            };
            // What failed is the peer's fault only if aws-lc-rs finds so as well.
            if (found.is_err() || sampled == Some(lane)) && scalar::agree(job) != found {
                self.switch_off("an X25519 agreement");
                return one_by_one();
            }
            results.push(found);
        }
        results
    }

    /// ECDSA signatures in DER for up to [`LANES`] jobs of one curve, in their order.
    ///
    /// # Errors
    /// If the system gives no random bytes.
    pub fn sign(&self, jobs: &[EcdsaSigning], ahead: &mut Ahead) -> Vec<Result<Vec<u8>, Failed>> {
        let Some(first) = jobs.first() else { return Vec::new() };
        let kind = first.key.curve.signing_kind();
        let one_by_one = || self.one_by_one(kind, jobs, scalar::sign);
        let curve = one_of_all(jobs.iter().map(|job| job.key.curve));
        let Some(curve) = curve.filter(|curve| jobs.iter().all(|job| curve.takes(&job.digest)))
        else {
            return one_by_one();
        };
        let multi = self.worth(kind, jobs.len(), LANES, |t| t.sign[curve as usize]);
        let Some(multi) = multi else { return one_by_one() };
        let Some(nonces) = self.take_prepared(multi, curve, ahead, jobs.len()) else {
            return one_by_one();
        };
        let digests: Vec<_> = jobs.iter().map(|job| fixed(job.digest.as_ref())).collect();
        let mut lanes: Vec<_> = jobs
            .iter()
            .zip(&digests)
            .zip(&nonces)
            .map(|((job, digest), nonce)| {
                CompleteLane::of(&job.key.secret, digest, (&nonce.inverse, &nonce.r))
            })
            .collect();
        let status = multi.primitives.ecdsa_complete(curve, &mut lanes);
        let bytes = curve.bytes();
        let signatures: Vec<_> = lanes
            .iter()
            .map(|lane| write_ecdsa_signature(&lane.r[..bytes], &lane.s[..bytes]))
            .collect();
        // Two signatures from one nonce would give the key away, though both are valid.
        let good = (0..jobs.len()).all(|lane| status.succeeded(lane))
            && !has_twice(lanes.iter().map(|lane| lane.r))
            && multi
                .sampled(kind, jobs.len())
                .is_none_or(|lane| scalar::is_signed(&jobs[lane], &signatures[lane]));
        if !good {
            self.switch_off("an ECDSA signature");
            return one_by_one();
        }
        signatures.into_iter().map(Ok).collect()
    }

    /// Whether up to [`VERIFY_LANES`] ECDSA signatures of one curve are valid, in their order.
    pub fn verify(&self, jobs: &[Verification]) -> Vec<bool> {
        let Some(first) = jobs.first() else { return Vec::new() };
        let kind = first.key.curve.verifying_kind();
        let one_by_one = || self.one_by_one(kind, jobs, scalar::verify);
        let curve = one_of_all(jobs.iter().map(|job| job.key.curve));
        let Some(curve) = curve.filter(|curve| jobs.iter().all(|job| curve.takes(&job.digest)))
        else {
            return one_by_one();
        };
        let multi = self.worth(kind, jobs.len(), VERIFY_LANES, |t| t.verify[curve as usize]);
        let Some((multi, canary)) = multi.and_then(|multi| Some((multi, multi.canary(curve)?)))
        else {
            return one_by_one();
        };
        // Jobs begin in the next lane each time, and canaries have the rest, so that one of them
        // comes to each lane within so many batches as there are lanes.
        let begin = multi.verifications[curve as usize].fetch_add(1, Relaxed) % LANES;
        let job = |lane: usize| jobs.get((lane + LANES - begin) % LANES);
        let order: [_; LANES] = std::array::from_fn(|lane| job(lane).unwrap_or(canary));
        let digests: Vec<_> = order.iter().map(|job| fixed(job.digest.as_ref())).collect();
        let lanes: Vec<_> = order
            .iter()
            .zip(&digests)
            .map(|(job, digest)| VerifyLane {
                x: &job.key.x,
                y: &job.key.y,
                digest,
                r: &job.signature.r,
                s: &job.signature.s,
            })
            .collect();
        let status = multi.primitives.ecdsa_verify(curve, &lanes);
        let sampled = multi.sampled(kind, jobs.len());
        let lane_of = |number: usize| (begin + number) % LANES;
        let deceived = (jobs.len()..LANES).any(|number| status.succeeded(lane_of(number)));
        let mut verdicts = Vec::with_capacity(jobs.len());
        for (number, job) in jobs.iter().enumerate() {
            let valid = status.succeeded(lane_of(number));
            let doubted = !valid || sampled == Some(number);
            if deceived || (doubted && scalar::verify(job) != valid) {
                self.switch_off("an ECDSA verification");
                return one_by_one();
            }
            verdicts.push(valid);
        }
        verdicts
    }

    /// RSA signatures for up to [`LANES`] jobs with keys of one size, in their order. Each was
    /// verified: one wrong result of the remainder theorem's halves would give the key away.
    ///
    /// # Errors
    /// If the system gives no random bytes, or a digest isn't of the hash that the job says.
    pub fn rsa_sign(&self, jobs: &[RsaSigning]) -> Vec<Result<Vec<u8>, Failed>> {
        let Some(first) = jobs.first() else { return Vec::new() };
        let kind = first.key.size.signing_kind();
        let one_by_one = || self.one_by_one(kind, jobs, scalar::rsa_sign);
        let Some(size) = one_of_all(jobs.iter().map(|job| job.key.size)) else {
            return one_by_one();
        };
        let multi = self.worth(kind, jobs.len(), LANES, |t| t.rsa[size as usize]);
        let bytes = size.bits() / 8;
        let encoded: Result<Vec<_>, _> = jobs
            .iter()
            .map(|job| padding::encode(job.padding, job.hash, &job.digest, bytes))
            .collect();
        let (Some(multi), Ok(encoded)) = (multi, encoded) else { return one_by_one() };
        let mut lanes: Vec<_> = jobs
            .iter()
            .zip(&encoded)
            .map(|(job, input)| RsaPrivateLane {
                key: &job.key.parts,
                input,
                output: vec![0; bytes],
            })
            .collect();
        let status = multi.primitives.rsa_private(size, &mut lanes);
        let good = jobs.iter().zip(&lanes).enumerate().all(|(lane, (job, done))| {
            status.succeeded(lane) && scalar::is_rsa_signed(job, &done.output)
        });
        if !good {
            self.switch_off("an RSA signature");
            return one_by_one();
        }
        lanes.into_iter().map(|lane| Ok(lane.output)).collect()
    }

    /// The library, whether or not it is still trusted.
    pub(super) fn library(&self) -> Option<&dyn Primitives> {
        self.multi.as_ref().map(|multi| &*multi.primitives)
    }

    fn trusted(&self) -> Option<&Multi> {
        self.multi.as_ref().filter(|multi| multi.trusted.load(Relaxed))
    }

    /// The library, if so many lanes are worth its while; counts them.
    fn worth(
        &self,
        operation: CryptoOperation,
        lanes: usize,
        most: usize,
        least: impl Fn(Thresholds) -> usize,
    ) -> Option<&Multi> {
        let multi = self.trusted()?;
        let worth = lanes <= most && lanes >= least(multi.thresholds).max(1);
        if worth {
            self.count_batch(operation, lanes);
        }
        worth.then_some(multi)
    }

    /// Gives the library up for good, since `what` it came to was wrong.
    pub(super) fn switch_off(&self, what: &str) {
        let Some(multi) = &self.multi else { return };
        if multi.trusted.swap(false, Relaxed) {
            tracing::error!(
                engine = multi.primitives.name(),
                result = what,
                "the crypto engine gave a wrong result, which was caught; it is not used any \
                 more: restart to try again, and suspect the CPU or the library"
            );
            if let Some(metrics) = &self.metrics {
                metrics.switched_off();
            }
        }
    }

    /// So many nonces of the stock, which is filled up eight at a time.
    fn take_prepared(
        &self,
        multi: &Multi,
        curve: Curve,
        ahead: &mut Ahead,
        count: usize,
    ) -> Option<Vec<Prepared>> {
        let stock = ahead.prepared(curve);
        if stock.len() < count {
            let mut lanes = (0..LANES)
                .map(|_| Ok(SetupLane::of(nonce(curve)?)))
                .collect::<Result<Vec<_>, Failed>>()
                .ok()?;
            let status = multi.primitives.ecdsa_setup(curve, &mut lanes);
            self.count_batch(curve.nonce_kind(), LANES);
            let made = lanes.iter().map(|lane| lane.r.0);
            let all = stock.iter().map(|nonce| nonce.r.0).chain(made);
            if !(0..LANES).all(|lane| status.succeeded(lane)) || has_twice(all) {
                self.switch_off("an ECDSA nonce");
                return None;
            }
            stock.extend(lanes.into_iter().map(Prepared::from));
        }
        Some(stock.split_off(stock.len() - count))
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Engine({})", self.name())
    }
}

impl Multi {
    /// Counts a batch of that kind, and picks the lane of it, if any, that is computed again.
    fn sampled(&self, kind: CryptoOperation, lanes: usize) -> Option<usize> {
        let batch = self.batches[kind as usize].fetch_add(1, Relaxed);
        let turn = batch / SAMPLE_EVERY;
        (batch.is_multiple_of(SAMPLE_EVERY)).then_some(turn as usize % lanes)
    }

    /// A signature that is known to be wrong: a right one, of another digest.
    fn canary(&self, curve: Curve) -> Option<&Verification> {
        let place = &self.canaries[curve as usize];
        if place.get().is_none() {
            let _ = place.set(Verification::wrong(curve).ok()?);
        }
        place.get()
    }
}

fn fixed(digest: &[u8]) -> [u8; MAX_SCALAR_BYTES] {
    let mut fixed = [0; MAX_SCALAR_BYTES];
    let length = digest.len().min(MAX_SCALAR_BYTES);
    fixed[..length].copy_from_slice(&digest[..length]);
    fixed
}

fn has_twice<T: PartialEq>(all: impl Iterator<Item = T>) -> bool {
    let all: Vec<T> = all.collect();
    (1..all.len()).any(|last| all[..last].contains(&all[last]))
}

/// What all have, if they have the same and there are any.
fn one_of_all<T: PartialEq>(mut all: impl Iterator<Item = T>) -> Option<T> {
    let first = all.next()?;
    all.all(|other| other == first).then_some(first)
}
