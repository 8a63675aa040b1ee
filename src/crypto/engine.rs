//! The engine: a multi-buffer library whose results were checked, or aws-lc-rs one by one.

use std::{
    fmt,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
};

use zeroize::Zeroizing;

use super::{
    Agreement, EcdsaSigning, Failed, RsaSigning, SharedSecret, Verification,
    ahead::{Ahead, Prepared, nonce},
    der::write_ecdsa_signature,
    padding,
    primitives::{
        AgreeLane, CompleteLane, Curve, KeyPair, LANES, MAX_SCALAR_BYTES, Primitives,
        RsaPrivateLane, SetupLane, VerifyLane, Words,
    },
    scalar,
};

/// Batches of which one has a lane of its results computed again by aws-lc-rs.
const SAMPLE_EVERY: u32 = 8;

/// Lanes of a verification that are the callers'; the last one is the canary's.
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
    /// RSA signatures, by [`RsaSize::ALL`].
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
    batches: AtomicU32,
    calls: AtomicU64,
    operations: AtomicU64,
    canaries: [OnceLock<Verification>; 2],
}

/// Carries out operations, up to eight of a kind at a time. All workers share one.
///
/// Whatever the library does, no wrong RSA signature leaves: each is verified by aws-lc-rs. ECDSA
/// signatures, key pairs and agreements are sampled. A verification that succeeds wrongly is
/// looked for in every batch by a canary, a lane whose signature is known to be wrong; a
/// verification that fails is repeated by aws-lc-rs. The first wrong result switches the library
/// off for good, and its batch is computed again.
pub struct Engine {
    multi: Option<Multi>,
}

impl Engine {
    /// aws-lc-rs alone.
    pub fn scalar() -> Self {
        Self { multi: None }
    }

    /// With a library that has yet to be tested.
    pub(super) fn with(primitives: Box<dyn Primitives>, thresholds: Thresholds) -> Self {
        Self {
            multi: Some(Multi {
                primitives,
                trusted: AtomicBool::new(true),
                thresholds,
                batches: AtomicU32::new(0),
                calls: AtomicU64::new(0),
                operations: AtomicU64::new(0),
                canaries: [OnceLock::new(), OnceLock::new()],
            }),
        }
    }

    /// The same library with other thresholds.
    pub(super) fn with_thresholds(mut self, thresholds: Thresholds) -> Self {
        if let Some(multi) = &mut self.multi {
            multi.thresholds = thresholds;
        }
        self
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

    /// How many batches the library was given so far, and with how many operations in all; those
    /// that are made ahead aren't counted.
    pub fn work(&self) -> (u64, u64) {
        let multi = self.multi.as_ref();
        multi.map_or((0, 0), |multi| (multi.calls.load(Relaxed), multi.operations.load(Relaxed)))
    }

    /// A new X25519 key pair, from the stock if that is cheaper.
    ///
    /// # Errors
    /// If the system gives no random bytes.
    pub fn key_pair(&self, ahead: &mut Ahead) -> Result<KeyPair, Failed> {
        let Some(multi) = self.trusted().filter(|multi| multi.thresholds.key_pairs_ahead) else {
            ahead.key_pairs.clear();
            return scalar::key_pair();
        };
        if ahead.key_pairs.is_empty() {
            ahead.key_pairs = self.key_pairs(multi)?;
        }
        ahead.key_pairs.pop().map_or_else(scalar::key_pair, Ok)
    }

    fn key_pairs(&self, multi: &Multi) -> Result<Vec<KeyPair>, Failed> {
        let mut pairs = (0..LANES).map(|_| KeyPair::new()).collect::<Result<Vec<_>, _>>()?;
        let status = multi.primitives.x25519_public(&mut pairs);
        let lane = multi.sampled(LANES);
        let good = (0..LANES).all(|lane| status.succeeded(lane));
        let good = good
            && lane.is_none_or(|lane| {
                scalar::public_key(&pairs[lane].secret).is_ok_and(|key| key == pairs[lane].public)
            });
        if good {
            return Ok(pairs);
        }
        multi.switch_off("an X25519 key pair");
        Ok(Vec::new())
    }

    /// The shared secrets of up to [`LANES`] key agreements, in their order.
    ///
    /// # Errors
    /// For each whose shared secret would be zero, which is the peer's fault (RFC 8446 §7.4.2).
    pub fn agree(&self, jobs: &[Agreement]) -> Vec<Result<SharedSecret, Failed>> {
        let one_by_one = || jobs.iter().map(scalar::agree).collect();
        let Some(multi) = self.worth(jobs.len(), LANES, |t| t.agree) else { return one_by_one() };
        let mut lanes: Vec<_> = jobs
            .iter()
            .map(|job| AgreeLane {
                secret: &job.ours.secret,
                peer: &job.peer,
                shared: Zeroizing::new([0; 32]),
            })
            .collect();
        let status = multi.primitives.x25519(&mut lanes);
        let sampled = multi.sampled(jobs.len());
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
                multi.switch_off("an X25519 agreement");
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
        let one_by_one = || jobs.iter().map(scalar::sign).collect();
        let curve = one_of_all(jobs.iter().map(|job| job.key.curve));
        let Some(curve) = curve.filter(|c| jobs.iter().all(|j| j.digest.algorithm() == c.hash()))
        else {
            return one_by_one();
        };
        let multi = self.worth(jobs.len(), LANES, |t| t.sign[curve as usize]);
        let Some(multi) = multi else { return one_by_one() };
        let Some(nonces) = multi.take_prepared(curve, ahead, jobs.len()) else {
            return one_by_one();
        };
        let digests: Vec<_> = jobs.iter().map(|job| fixed(job.digest.as_ref())).collect();
        let mut lanes: Vec<_> = jobs
            .iter()
            .zip(&digests)
            .zip(&nonces)
            .map(|((job, digest), nonce)| CompleteLane {
                key: &job.key.secret,
                digest,
                inverse: &nonce.inverse,
                prepared: &nonce.r,
                r: [0; MAX_SCALAR_BYTES],
                s: [0; MAX_SCALAR_BYTES],
            })
            .collect();
        let status = multi.primitives.ecdsa_complete(curve, &mut lanes);
        let bytes = curve.bytes();
        let signatures: Vec<_> = lanes
            .iter()
            .map(|lane| write_ecdsa_signature(&lane.r[..bytes], &lane.s[..bytes]))
            .collect();
        let good = (0..jobs.len()).all(|lane| status.succeeded(lane))
            && multi
                .sampled(jobs.len())
                .is_none_or(|lane| scalar::is_signed(&jobs[lane], &signatures[lane]));
        if !good {
            multi.switch_off("an ECDSA signature");
            return one_by_one();
        }
        signatures.into_iter().map(Ok).collect()
    }

    /// Whether up to [`VERIFY_LANES`] ECDSA signatures of one curve are valid, in their order.
    pub fn verify(&self, jobs: &[Verification]) -> Vec<bool> {
        let one_by_one = || jobs.iter().map(scalar::verify).collect();
        let curve = one_of_all(jobs.iter().map(|job| job.key.curve));
        let Some(curve) = curve.filter(|c| jobs.iter().all(|j| j.digest.algorithm() == c.hash()))
        else {
            return one_by_one();
        };
        let multi = self.worth(jobs.len(), VERIFY_LANES, |t| t.verify[curve as usize]);
        let Some((multi, canary)) = multi.and_then(|multi| Some((multi, multi.canary(curve)?)))
        else {
            return one_by_one();
        };
        // The canary sits elsewhere each time, so that it finds a single broken lane as well.
        let place = multi.batches.load(Relaxed) as usize % (jobs.len() + 1);
        let mut order: Vec<&Verification> = jobs.iter().collect();
        order.insert(place, canary);
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
        let sampled = multi.sampled(order.len());
        let verdicts: Vec<_> = (0..order.len()).map(|lane| status.succeeded(lane)).collect();
        for (lane, (&valid, job)) in verdicts.iter().zip(&order).enumerate() {
            let wrong = if lane == place {
                valid
            } else {
                (!valid || sampled == Some(lane)) && scalar::verify(job) != valid
            };
            if wrong {
                multi.switch_off("an ECDSA verification");
                return one_by_one();
            }
        }
        let others = verdicts.into_iter().enumerate().filter(|&(lane, _)| lane != place);
        others.map(|(_, valid)| valid).collect()
    }

    /// RSA signatures for up to [`LANES`] jobs with keys of one size, in their order. Each was
    /// verified: one wrong result of the remainder theorem's halves would give the key away.
    ///
    /// # Errors
    /// If the system gives no random bytes, or a digest isn't of the hash that the job says.
    pub fn rsa_sign(&self, jobs: &[RsaSigning]) -> Vec<Result<Vec<u8>, Failed>> {
        let one_by_one = || jobs.iter().map(scalar::rsa_sign).collect();
        let Some(size) = one_of_all(jobs.iter().map(|job| job.key.size)) else {
            return one_by_one();
        };
        let multi = self.worth(jobs.len(), LANES, |t| t.rsa[size as usize]);
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
            multi.switch_off("an RSA signature");
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
        lanes: usize,
        most: usize,
        least: impl Fn(Thresholds) -> usize,
    ) -> Option<&Multi> {
        let multi = self.trusted()?;
        let worth = lanes <= most && lanes >= least(multi.thresholds).max(1);
        if worth {
            multi.calls.fetch_add(1, Relaxed);
            multi.operations.fetch_add(lanes as u64, Relaxed);
        }
        worth.then_some(multi)
    }

    /// Gives the library up, for a reason that isn't a result of a batch.
    pub(super) fn switch_off(&self, what: &str) {
        if let Some(multi) = &self.multi {
            multi.switch_off(what);
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Engine({})", self.name())
    }
}

impl Multi {
    /// Counts a batch, and picks the lane of it, if any, that is computed again.
    fn sampled(&self, lanes: usize) -> Option<usize> {
        let batch = self.batches.fetch_add(1, Relaxed);
        let turn = batch / SAMPLE_EVERY;
        (batch.is_multiple_of(SAMPLE_EVERY)).then_some(turn as usize % lanes)
    }

    fn switch_off(&self, what: &str) {
        if self.trusted.swap(false, Relaxed) {
            tracing::error!(
                engine = self.primitives.name(),
                result = what,
                "the crypto engine gave a wrong result, which was caught; it is not used any \
                 more: restart to try again, and suspect the CPU or the library"
            );
        }
    }

    /// So many nonces of the stock, which is filled up eight at a time.
    fn take_prepared(
        &self,
        curve: Curve,
        ahead: &mut Ahead,
        count: usize,
    ) -> Option<Vec<Prepared>> {
        let stock = ahead.prepared(curve);
        if stock.len() < count {
            let mut lanes = (0..LANES)
                .map(|_| {
                    Ok(SetupLane { nonce: nonce(curve)?, inverse: Words::ZERO, r: Words::ZERO })
                })
                .collect::<Result<Vec<_>, Failed>>()
                .ok()?;
            let status = self.primitives.ecdsa_setup(curve, &mut lanes);
            if !(0..LANES).all(|lane| status.succeeded(lane)) {
                self.switch_off("an ECDSA nonce");
                return None;
            }
            stock.extend(lanes.into_iter().map(Prepared::from));
        }
        Some(stock.split_off(stock.len() - count))
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

/// What all have, if they have the same and there are any.
fn one_of_all<T: PartialEq>(mut all: impl Iterator<Item = T>) -> Option<T> {
    let first = all.next()?;
    all.all(|other| other == first).then_some(first)
}
