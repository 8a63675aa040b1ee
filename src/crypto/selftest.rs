//! What a multi-buffer library has to compute right before it is used, and each minute from then
//! on: published answers, and questions that are new each time ([`fresh`]), another one in each
//! lane, whose answers aws-lc-rs has.

mod fresh;
#[cfg(test)]
mod tests;

use aws_lc_rs::digest::{Digest, digest};
use data_encoding::HEXUPPER_PERMISSIVE;
use rustls_pki_types::PrivateKeyDer;

use super::{
    EcdsaSignature, Failed, PublicPoint, RsaKey, Verification,
    der::write_ecdsa_signature,
    primitives::{
        AgreeLane, CompleteLane, Curve, KeyPair, LANES, MAX_SCALAR_BYTES, Primitives, RsaSize,
        Secret32, SetupLane, Status, VerifyLane, Words,
    },
    scalar,
};

/// The library computes something wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it computes {0} wrong")]
pub struct Untrue(&'static str);

/// Puts all questions, with `breath` before each but the first.
///
/// # Errors
/// What was answered wrong.
pub(super) fn run(library: &dyn Primitives, breath: impl Fn()) -> Result<(), Untrue> {
    key_pairs(library).ok_or(Untrue("X25519 key pairs"))?;
    breath();
    agreements(library).ok_or(Untrue("X25519 agreements"))?;
    breath();
    let pairs = fresh::key_pairs(library).ok_or(Untrue("X25519 key pairs"))?;
    fresh::agreements(library, pairs).ok_or(Untrue("X25519 agreements"))?;
    for curve in Curve::ALL {
        breath();
        signatures(library, curve).ok_or(Untrue("ECDSA signatures"))?;
        breath();
        verifications(library, curve).ok_or(Untrue("ECDSA verifications"))?;
        breath();
        let signed = fresh::signatures(library, curve).ok_or(Untrue("ECDSA signatures"))?;
        breath();
        fresh::verifications(library, curve, &signed).ok_or(Untrue("ECDSA verifications"))?;
    }
    for size in RsaSize::ALL {
        breath();
        fresh::rsa(library, size).ok_or(Untrue("RSA"))?;
    }
    Ok(())
}

/// Whether all lanes succeeded.
fn all(status: Status) -> bool {
    (0..LANES).all(|lane| status.succeeded(lane))
}

fn bytes<const N: usize>(hex: &str) -> Option<[u8; N]> {
    HEXUPPER_PERMISSIVE.decode(hex.as_bytes()).ok()?.try_into().ok()
}

/// RFC 7748 §6.1: two secrets and their public keys.
const PAIRS: [(&str, &str); 2] = [
    (
        "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
        "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
    ),
    (
        "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
        "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
    ),
];

/// RFC 7748 §6.1: what they agree on.
const SHARED: &str = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742";

/// RFC 7748 §5.2: secret, share and result.
const PRODUCT: [&str; 3] = [
    "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
    "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
    "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
];

fn clamped(hex: &str) -> Option<Secret32> {
    let mut secret: [u8; 32] = bytes(hex)?;
    secret[0] &= 248;
    secret[31] &= 127;
    secret[31] |= 64;
    Some(Box::new(secret.into()))
}

fn key_pairs(library: &dyn Primitives) -> Option<()> {
    let mut lanes = (0..LANES)
        .map(|lane| Some(KeyPair { secret: clamped(PAIRS[lane % 2].0)?, public: [0; 32] }))
        .collect::<Option<Vec<_>>>()?;
    let done = all(library.x25519_public(&mut lanes));
    let right = |(lane, pair): (usize, &KeyPair)| bytes(PAIRS[lane % 2].1) == Some(pair.public);
    (done && lanes.iter().enumerate().all(right)).then_some(())
}

fn agreements(library: &dyn Primitives) -> Option<()> {
    let questions = [
        (clamped(PAIRS[0].0)?, bytes(PAIRS[1].1)?, bytes(SHARED)?),
        (clamped(PRODUCT[0])?, bytes(PRODUCT[1])?, bytes(PRODUCT[2])?),
        (clamped(PAIRS[1].0)?, bytes(PAIRS[0].1)?, bytes::<32>(SHARED)?),
    ];
    let lane = |(secret, peer, _)| AgreeLane { secret, peer, shared: Secret32::default() };
    let mut lanes: Vec<_> = questions
        .iter()
        .cycle()
        .take(LANES)
        .map(|(secret, peer, shared)| lane((secret, peer, shared)))
        .collect();
    let done = all(library.x25519(&mut lanes));
    let mut answers = lanes.iter().zip(questions.iter().cycle());
    if !done || !answers.all(|(lane, (.., shared))| **lane.shared == *shared) {
        return None;
    }
    // A share of low order fails or gives zero, which the engine takes for the same.
    let mut lanes =
        [AgreeLane { secret: &questions[0].0, peer: &[0; 32], shared: Box::new([1; 32].into()) }];
    let status = library.x25519(&mut lanes);
    (!status.succeeded(0) || **lanes[0].shared == [0; 32]).then_some(())
}

/// RFC 6979 §A.2.5 and §A.2.6: a key, and two messages with their nonces and signatures.
struct Ecdsa {
    secret: &'static str,
    x: &'static str,
    y: &'static str,
    /// Message, nonce, r, s.
    signed: [[&'static str; 4]; 2],
}

const P256: Ecdsa = Ecdsa {
    secret: "C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721",
    x: "60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6",
    y: "7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299",
    signed: [
        [
            "sample",
            "A6E3C57DD01ABE90086538398355DD4C3B17AA873382B0F24D6129493D8AAD60",
            "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716",
            "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8",
        ],
        [
            "test",
            "D16B6AE827F17175E040871A1C7EC3500192C4C92677336EC2537ACAEE0008E0",
            "F1ABB023518351CD71D881567B1EA663ED3EFCF6C5132B354F28D3B0B7D38367",
            "019F4113742A2B14BD25926B49C649155F267E60D3814B4C0CC84250E46F0083",
        ],
    ],
};

const P384: Ecdsa = Ecdsa {
    secret: "6B9D3DAD2E1B8C1C05B19875B6659F4DE23C3B667BF297BA9AA47740787137D8\
             96D5724E4C70A825F872C9EA60D2EDF5",
    x: "EC3A4E415B4E19A4568618029F427FA5DA9A8BC4AE92E02E06AAE5286B300C64\
        DEF8F0EA9055866064A254515480BC13",
    y: "8015D9B72D7D57244EA8EF9AC0C621896708A59367F9DFB9F54CA84B3F1C9DB1\
        288B231C3AE0D4FE7344FD2533264720",
    signed: [
        [
            "sample",
            "94ED910D1A099DAD3254E9242AE85ABDE4BA15168EAF0CA87A555FD56D10FBCA\
             2907E3E83BA95368623B8C4686915CF9",
            "94EDBB92A5ECB8AAD4736E56C691916B3F88140666CE9FA73D64C4EA95AD133C\
             81A648152E44ACF96E36DD1E80FABE46",
            "99EF4AEB15F178CEA1FE40DB2603138F130E740A19624526203B6351D0A3A94F\
             A329C145786E679E7B82C71A38628AC8",
        ],
        [
            "test",
            "015EE46A5BF88773ED9123A5AB0807962D193719503C527B031B4C2D225092AD\
             A71F4A459BC0DA98ADB95837DB8312EA",
            "8203B63D3C853E8D77227FB377BCF7B7B772E97892A80F36AB775D509D7A5FEB\
             0542A7F0812998DA8F1DD3CA3CF023DB",
            "DDD0760448D42D8A43AF45AF836FCE4DE8BE06B485E9B61B827C2F13173923E0\
             6A739F040649A667BF3B828246BAA5A5",
        ],
    ],
};

/// One signed message of those.
struct Signed {
    digest: Digest,
    nonce: Words,
    r: [u8; MAX_SCALAR_BYTES],
    s: [u8; MAX_SCALAR_BYTES],
}

impl Ecdsa {
    fn of(curve: Curve) -> &'static Self {
        match curve {
            Curve::P256 => &P256,
            Curve::P384 => &P384,
        }
    }

    fn signed(&self, curve: Curve, lane: usize) -> Option<Signed> {
        let [message, nonce, r, s] = self.signed[lane % 2];
        let digest = digest(curve.hash(), message.as_bytes());
        Some(Signed { digest, nonce: number(nonce)?, r: half(r)?, s: half(s)? })
    }
}

fn number(hex: &str) -> Option<Words> {
    Some(Words::from_be_bytes(&HEXUPPER_PERMISSIVE.decode(hex.as_bytes()).ok()?))
}

fn half(hex: &str) -> Option<[u8; MAX_SCALAR_BYTES]> {
    let mut half = [0; MAX_SCALAR_BYTES];
    HEXUPPER_PERMISSIVE.decode_mut(hex.as_bytes(), &mut half[..hex.len() / 2]).ok()?;
    Some(half)
}

fn padded(digest: &Digest) -> [u8; MAX_SCALAR_BYTES] {
    let mut bytes = [0; MAX_SCALAR_BYTES];
    bytes[..digest.as_ref().len()].copy_from_slice(digest.as_ref());
    bytes
}

fn signatures(library: &dyn Primitives, curve: Curve) -> Option<()> {
    let known = Ecdsa::of(curve);
    let secret = number(known.secret)?;
    let signed = (0..LANES).map(|lane| known.signed(curve, lane)).collect::<Option<Vec<_>>>()?;
    let mut nonces: Vec<_> =
        signed.iter().map(|s| SetupLane::of(Box::new(s.nonce.clone()))).collect();
    if !all(library.ecdsa_setup(curve, &mut nonces)) {
        return None;
    }
    let digests: Vec<_> = signed.iter().map(|signed| padded(&signed.digest)).collect();
    let mut lanes: Vec<_> = nonces
        .iter()
        .zip(&digests)
        .map(|(nonce, digest)| CompleteLane::of(&secret, digest, (&nonce.inverse, &nonce.r)))
        .collect();
    let done = all(library.ecdsa_complete(curve, &mut lanes));
    let right =
        lanes.iter().zip(&signed).all(|(lane, known)| (lane.r, lane.s) == (known.r, known.s));
    (done && right).then_some(())
}

/// Right signatures in every other lane, wrong ones between them; then the other way round.
fn verifications(library: &dyn Primitives, curve: Curve) -> Option<()> {
    let known = Ecdsa::of(curve);
    let (x, y) = (number(known.x)?, number(known.y)?);
    for right_lanes in [0, 1] {
        let is_right = |lane: usize| lane % 2 == right_lanes;
        let questions = (0..LANES)
            .map(|lane| {
                let signed = known.signed(curve, lane / 2)?;
                let mut question = [padded(&signed.digest), signed.r, signed.s];
                if !is_right(lane) {
                    question[lane / 2 % 3][lane] ^= 1;
                }
                Some(question)
            })
            .collect::<Option<Vec<_>>>()?;
        let lanes: Vec<_> = questions
            .iter()
            .map(|[digest, r, s]| VerifyLane { x: &x, y: &y, digest, r, s })
            .collect();
        let status = library.ecdsa_verify(curve, &lanes);
        if !(0..LANES).all(|lane| status.succeeded(lane) == is_right(lane)) {
            return None;
        }
    }
    Some(())
}

/// Keys that were made for this, and are used for nothing else.
pub(super) fn rsa_key(size: RsaSize) -> Option<RsaKey> {
    let der: &[u8] = match size {
        RsaSize::Rsa2048 => include_bytes!("selftest/rsa2048.der"),
        RsaSize::Rsa3072 => include_bytes!("selftest/rsa3072.der"),
        RsaSize::Rsa4096 => include_bytes!("selftest/rsa4096.der"),
    };
    RsaKey::from_der(&PrivateKeyDer::Pkcs1(der.into()))
}

impl Verification {
    /// A right signature of RFC 6979, under another digest.
    pub(super) fn wrong(curve: Curve) -> Result<Self, Failed> {
        let known = Ecdsa::of(curve);
        let signed = known.signed(curve, 0).ok_or(Failed)?;
        let point = format!("04{}{}", known.x, known.y);
        let point = HEXUPPER_PERMISSIVE.decode(point.as_bytes()).map_err(|_| Failed)?;
        let length = curve.bytes();
        let der = write_ecdsa_signature(&signed.r[..length], &signed.s[..length]);
        Ok(Self {
            key: PublicPoint::parse(curve, &point).ok_or(Failed)?,
            digest: scalar::another_digest(&signed.digest)?,
            signature: EcdsaSignature::parse(curve, &der).ok_or(Failed)?,
        })
    }
}
