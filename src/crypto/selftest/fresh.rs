//! Questions that are new each time and another one in each lane: keys, peers, nonces, messages.
//! Of published answers there are too few for that, so that lanes with the same one could be mixed
//! up unnoticed. Whichever two are, an answer here shows it. RSA has one key for all lanes, since
//! making one takes too long, and another message in each.

use std::sync::Arc;

use aws_lc_rs::{
    digest::{Digest, digest},
    rand,
};

use super::{all, padded, rsa_key};
use crate::crypto::{
    Agreement, EcdsaKey, EcdsaSignature, Failed, Hash, LANES, Padding, PublicPoint, RsaSigning,
    SharedSecret, Verification,
    der::write_ecdsa_signature,
    padding,
    primitives::{
        AgreeLane, CompleteLane, Curve, KeyPair, Primitives, RsaPrivateLane, RsaPublicLane,
        RsaSize, Secret32, SetupLane, VerifyLane, Words,
    },
    scalar,
};

/// Key pairs, whose public keys are right.
pub(super) fn key_pairs(library: &dyn Primitives) -> Option<Vec<KeyPair>> {
    let mut pairs = each(|_| KeyPair::new().ok())?;
    let done = all(library.x25519_public(&mut pairs));
    let right = |pair: &KeyPair| scalar::public_key(&pair.secret).is_ok_and(|p| p == pair.public);
    (done && pairs.iter().all(right)).then_some(pairs)
}

/// What these key pairs and eight peers agree on.
pub(super) fn agreements(library: &dyn Primitives, pairs: Vec<KeyPair>) -> Option<()> {
    let peers = each(|_| Some(*scalar::key_pair().ok()?.public()))?;
    let lane = |(pair, peer)| AgreeLane { secret: secret(pair), peer, shared: Secret32::default() };
    let mut lanes: Vec<_> = pairs.iter().zip(&peers).map(lane).collect();
    let done = all(library.x25519(&mut lanes));
    let found: Vec<_> = lanes.into_iter().map(|lane| SharedSecret(lane.shared)).collect();
    let jobs = pairs.into_iter().zip(peers).map(|(ours, peer)| Agreement { ours, peer });
    let right = jobs.zip(found).all(|(job, found)| scalar::agree(&job) == Ok(found));
    (done && right).then_some(())
}

fn secret(pair: &KeyPair) -> &[u8; 32] {
    &pair.secret
}

/// Signatures by eight keys, which are right.
pub(super) fn signatures(library: &dyn Primitives, curve: Curve) -> Option<Vec<Verification>> {
    let keys = each(|_| EcdsaKey::generate(curve))?;
    // A nonce is the secret of a key, and the first half of its signature the first coordinate of
    // that key's point (FIPS 186-5 §6.4.1): aws-lc-rs tells what has to come out. That it isn't
    // below the order happens once in 2^128 times.
    let nonces = each(|_| EcdsaKey::generate(curve))?;
    let (mut nonces, halves): (Vec<_>, Vec<_>) =
        nonces.into_iter().map(|key| (SetupLane::of(key.secret), key.public.x)).unzip();
    if !all(library.ecdsa_setup(curve, &mut nonces)) {
        return None;
    }
    let messages = each(|_| message(curve.hash()))?;
    let digests: Vec<_> = messages.iter().map(padded).collect();
    let mut lanes: Vec<_> = nonces
        .iter()
        .zip(keys.iter().zip(&digests))
        .map(|(nonce, (key, digest))| {
            CompleteLane::of(&key.secret, digest, (&nonce.inverse, &nonce.r))
        })
        .collect();
    let done = all(library.ecdsa_complete(curve, &mut lanes));
    let halves_right = lanes
        .iter()
        .zip(&halves)
        .all(|(lane, half)| Words::from_be_bytes(&lane.r[..curve.bytes()]) == *half);
    let signatures = lanes
        .iter()
        .map(|lane| write_ecdsa_signature(&lane.r[..curve.bytes()], &lane.s[..curve.bytes()]))
        .map(|der| EcdsaSignature::parse(curve, &der))
        .collect::<Option<Vec<_>>>()?;
    let signed: Vec<_> = keys
        .into_iter()
        .zip(messages)
        .zip(signatures)
        .map(|((key, digest), signature)| Verification { key: key.public, digest, signature })
        .collect();
    (done && halves_right && signed.iter().all(scalar::verify)).then_some(signed)
}

/// A verification whose parts are of one or of two signatures.
#[derive(Clone, Copy)]
struct Question<'a> {
    key: &'a PublicPoint,
    digest: &'a Digest,
    signature: &'a EcdsaSignature,
}

impl<'a> Question<'a> {
    fn right(signed: &'a Verification) -> Self {
        Self { key: &signed.key, digest: &signed.digest, signature: &signed.signature }
    }

    /// With one part, picked by `which`, of another signature.
    fn wrong(signed: &'a Verification, other: &'a Verification, which: u8) -> Self {
        let (right, other) = (Self::right(signed), Self::right(other));
        match which % 3 {
            0 => Self { key: other.key, ..right },
            1 => Self { digest: other.digest, ..right },
            _ => Self { signature: other.signature, ..right },
        }
    }

    /// What aws-lc-rs says.
    fn is_valid(&self) -> bool {
        self.key.key.verify_digest_sig(self.digest, &self.signature.der).is_ok()
    }
}

/// These signatures, and wrong ones made of them. Lanes are numbered at random; in three rounds,
/// a lane's signature is right where a bit of its number is set, so that any two lanes differ in
/// one of them.
pub(super) fn verifications(
    library: &dyn Primitives,
    curve: Curve,
    signed: &[Verification],
) -> Option<()> {
    let which: [u8; LANES] = random()?;
    let wrong = |lane: usize| {
        Question::wrong(signed.get(lane)?, signed.get((lane + 1) % LANES)?, which[lane]).into()
    };
    let wrong: Vec<Question<'_>> = each(wrong)?;
    if wrong.iter().any(Question::is_valid) {
        return None;
    }
    let numbers = shuffled()?;
    for bit in 0..LANES.ilog2() {
        let is_right = |lane: usize| numbers[lane] >> bit & 1 == 1;
        let questions = each(|lane| {
            Some(if is_right(lane) { Question::right(signed.get(lane)?) } else { wrong[lane] })
        })?;
        let digests: Vec<_> = questions.iter().map(|question| padded(question.digest)).collect();
        let lanes: Vec<_> = questions
            .iter()
            .zip(&digests)
            .map(|(Question { key, signature, .. }, digest)| VerifyLane {
                x: &key.x,
                y: &key.y,
                digest,
                r: &signature.r,
                s: &signature.s,
            })
            .collect();
        let status = library.ecdsa_verify(curve, &lanes);
        if !(0..LANES).all(|lane| status.succeeded(lane) == is_right(lane)) {
            return None;
        }
    }
    Some(())
}

/// Signatures of eight messages. PKCS #1 v1.5 has nothing random in it: what aws-lc-rs verifies is
/// the only one there is.
pub(super) fn rsa(library: &dyn Primitives, size: RsaSize) -> Option<()> {
    const HASH: Hash = Hash::Sha256;
    let key = Arc::new(rsa_key(size)?);
    let jobs = each(|_| {
        let digest = message(HASH.algorithm())?;
        Some(RsaSigning { key: key.clone(), padding: Padding::Pkcs1, hash: HASH, digest })
    })?;
    let length = size.bits() / 8;
    let encoded = jobs
        .iter()
        .map(|job| padding::encode(job.padding, job.hash, &job.digest, length))
        .collect::<Result<Vec<_>, Failed>>()
        .ok()?;
    let mut lanes: Vec<_> = encoded
        .iter()
        .map(|input| RsaPrivateLane { key: &key.parts, input, output: vec![0; length] })
        .collect();
    let signed = all(library.rsa_private(size, &mut lanes));
    let mut opened: Vec<_> = lanes
        .iter()
        .map(|lane| RsaPublicLane {
            modulus: &key.parts.modulus,
            input: &lane.output,
            output: vec![0; length],
        })
        .collect();
    let opens = all(library.rsa_public(size, &mut opened));
    let right = jobs.iter().zip(&lanes).zip(opened.iter().zip(&encoded)).all(
        |((job, signed), (opened, encoded))| {
            scalar::is_rsa_signed(job, &signed.output) && opened.output == *encoded
        },
    );
    (signed && opens && right).then_some(())
}

/// One for each lane.
fn each<T>(make: impl FnMut(usize) -> Option<T>) -> Option<Vec<T>> {
    (0..LANES).map(make).collect()
}

fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).ok()?;
    Some(bytes)
}

/// The digest of a message that nobody has seen before.
fn message(algorithm: &'static aws_lc_rs::digest::Algorithm) -> Option<Digest> {
    Some(digest(algorithm, &random::<32>()?))
}

/// The numbers of all lanes, in any order.
fn shuffled() -> Option<[usize; LANES]> {
    let mut numbers = std::array::from_fn(|lane| lane);
    let random: [u8; LANES] = random()?;
    for last in (1..LANES).rev() {
        numbers.swap(last, usize::from(random[last]) % (last + 1));
    }
    Some(numbers)
}
