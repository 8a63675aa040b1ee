//! The lanes as rustls asks for them: key agreement, signing, verification. What isn't computed
//! side by side is aws-lc-rs' own, as rustls brings it.

use std::sync::{Arc, LazyLock};

use aws_lc_rs::digest::digest;
use rustls::{
    Error, NamedGroup, PeerMisbehaved, ProtocolVersion, SignatureAlgorithm, SignatureScheme,
    crypto::{
        ActiveKeyExchange, CompletedKeyExchange, SharedSecret, SupportedKxGroup,
        WebPkiSupportedAlgorithms,
        aws_lc_rs::{self as plain, kx_group::MLKEM768},
    },
    pki_types::{
        AlgorithmIdentifier, InvalidSignature, PrivateKeyDer, SignatureVerificationAlgorithm,
        SubjectPublicKeyInfoDer, alg_id,
    },
    sign::{Signer, SigningKey},
};

use super::{
    Agreement, Curve, EcdsaKey, EcdsaSignature, EcdsaSigning, Failed, Hash, KeyPair, Padding,
    PublicPoint, RsaKey, RsaSigning, Verification, lanes,
};

/// Bytes of the X25519 part of a hybrid key share, the last ones.
const X25519_BYTES: usize = 32;

/// The group as it is served here: X25519, alone or with ML-KEM, through the lanes.
pub fn group(group: &'static dyn SupportedKxGroup) -> &'static dyn SupportedKxGroup {
    match group.name() {
        NamedGroup::X25519 => &X25519,
        NamedGroup::X25519MLKEM768 => &X25519MlKem768,
        _ => group,
    }
}

/// A random number generator that fails is ours to answer for.
fn no_random(_: Failed) -> Error {
    Error::FailedToGetRandomBytes
}

const BAD_SHARE: Error = Error::PeerMisbehaved(PeerMisbehaved::InvalidKeyShare);

/// X25519 (RFC 7748, RFC 8446 §7.4.2).
#[derive(Debug)]
struct X25519;

impl SupportedKxGroup for X25519 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        Ok(Box::new(Started(lanes::key_pair().map_err(no_random)?)))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

/// Our half of an agreement.
struct Started(KeyPair);

impl ActiveKeyExchange for Started {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let peer = peer.try_into().map_err(|_| BAD_SHARE)?;
        let shared = lanes::agree(Agreement { ours: self.0, peer }).map_err(|_| BAD_SHARE)?;
        Ok(SharedSecret::from(&shared.as_bytes()[..]))
    }

    fn pub_key(&self) -> &[u8] {
        self.0.public()
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

/// ML-KEM-768 by aws-lc-rs, followed by X25519 (draft-ietf-tls-ecdhe-mlkem §4).
#[derive(Debug)]
struct X25519MlKem768;

impl SupportedKxGroup for X25519MlKem768 {
    /// A client's part, which has nothing to gain from the lanes.
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        plain::kx_group::X25519MLKEM768.start()
    }

    fn start_and_complete(&self, client_share: &[u8]) -> Result<CompletedKeyExchange, Error> {
        let split = client_share.len().checked_sub(X25519_BYTES).ok_or(BAD_SHARE)?;
        let (first, second) = client_share.split_at(split);
        let second = X25519.start_and_complete(second)?;
        // A first part of another length than an encapsulation key's is refused there.
        let first = MLKEM768.start_and_complete(first)?;
        Ok(CompletedKeyExchange {
            group: NamedGroup::X25519MLKEM768,
            pub_key: [first.pub_key, second.pub_key].concat(),
            secret: SharedSecret::from(
                [first.secret.secret_bytes(), second.secret.secret_bytes()].concat(),
            ),
        })
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519MLKEM768
    }

    fn usable_for_version(&self, version: ProtocolVersion) -> bool {
        version == ProtocolVersion::TLSv1_3
    }
}

/// A private key whose signatures go through the lanes where its kind does.
///
/// # Errors
/// If aws-lc-rs can't use the key.
pub fn signing_key(der: &PrivateKeyDer<'_>) -> Result<Arc<dyn SigningKey>, Error> {
    let plain = plain::sign::any_supported_type(der)?;
    Ok(match (EcdsaKey::from_der(der), RsaKey::from_der(der)) {
        (Some(key), _) => Arc::new(Key { plain, lanes: LanesKey::Ecdsa(Arc::new(key)) }),
        (_, Some(key)) => Arc::new(Key { plain, lanes: LanesKey::Rsa(Arc::new(key)) }),
        (None, None) => plain,
    })
}

#[derive(Debug)]
struct Key {
    plain: Arc<dyn SigningKey>,
    lanes: LanesKey,
}

#[derive(Debug, Clone)]
enum LanesKey {
    Ecdsa(Arc<EcdsaKey>),
    Rsa(Arc<RsaKey>),
}

impl SigningKey for Key {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let plain = self.plain.choose_scheme(offered)?;
        Some(match Kind::of(plain.scheme(), &self.lanes) {
            Some(kind) => Box::new(LanesSigner { scheme: plain.scheme(), kind }),
            None => plain,
        })
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        self.plain.public_key()
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.plain.algorithm()
    }
}

#[derive(Debug)]
struct LanesSigner {
    scheme: SignatureScheme,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Ecdsa(Arc<EcdsaKey>),
    Rsa(Arc<RsaKey>, Padding, Hash),
}

impl Kind {
    /// How the lanes make a signature of that scheme, if they do.
    fn of(scheme: SignatureScheme, key: &LanesKey) -> Option<Self> {
        let key = match key {
            LanesKey::Ecdsa(key) => {
                let curve = match scheme {
                    SignatureScheme::ECDSA_NISTP256_SHA256 => Curve::P256,
                    SignatureScheme::ECDSA_NISTP384_SHA384 => Curve::P384,
                    _ => return None,
                };
                return (key.curve() == curve).then(|| Self::Ecdsa(key.clone()));
            }
            LanesKey::Rsa(key) => key.clone(),
        };
        let (padding, hash) = match scheme {
            SignatureScheme::RSA_PSS_SHA256 => (Padding::Pss, Hash::Sha256),
            SignatureScheme::RSA_PSS_SHA384 => (Padding::Pss, Hash::Sha384),
            SignatureScheme::RSA_PSS_SHA512 => (Padding::Pss, Hash::Sha512),
            SignatureScheme::RSA_PKCS1_SHA256 => (Padding::Pkcs1, Hash::Sha256),
            SignatureScheme::RSA_PKCS1_SHA384 => (Padding::Pkcs1, Hash::Sha384),
            SignatureScheme::RSA_PKCS1_SHA512 => (Padding::Pkcs1, Hash::Sha512),
            _ => return None,
        };
        Some(Self::Rsa(key, padding, hash))
    }
}

impl Signer for LanesSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signed = match &self.kind {
            Kind::Ecdsa(key) => {
                let digest = digest(key.curve().hash(), message);
                lanes::sign(EcdsaSigning { key: key.clone(), digest })
            }
            Kind::Rsa(key, padding, hash) => lanes::rsa_sign(RsaSigning {
                key: key.clone(),
                padding: *padding,
                hash: *hash,
                digest: digest(hash.algorithm(), message),
            }),
        };
        signed.map_err(no_random)
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

/// How signatures are verified: those of P-256 with SHA-256 and of P-384 with SHA-384 through the
/// lanes.
pub fn verification_algorithms() -> WebPkiSupportedAlgorithms {
    *VERIFICATION
}

type Algorithm = &'static dyn SignatureVerificationAlgorithm;

/// Made once, and as long-lived as rustls wants it.
static VERIFICATION: LazyLock<WebPkiSupportedAlgorithms> = LazyLock::new(|| {
    fn through_lanes(all: &[Algorithm]) -> &'static [Algorithm] {
        let replaced = all.iter().map(|&algorithm| {
            let mut ours = [&P256 as Algorithm, &P384].into_iter();
            let same = |ours: &Algorithm| {
                ours.public_key_alg_id() == algorithm.public_key_alg_id()
                    && ours.signature_alg_id() == algorithm.signature_alg_id()
            };
            ours.find(same).unwrap_or(algorithm)
        });
        replaced.collect::<Vec<_>>().leak()
    }
    let plain = plain::default_provider().signature_verification_algorithms;
    let mapping = plain.mapping.iter().map(|&(scheme, all)| (scheme, through_lanes(all)));
    WebPkiSupportedAlgorithms {
        all: through_lanes(plain.all),
        mapping: mapping.collect::<Vec<_>>().leak(),
    }
});

static P256: EcdsaVerification = EcdsaVerification(Curve::P256);
static P384: EcdsaVerification = EcdsaVerification(Curve::P384);

#[derive(Debug)]
struct EcdsaVerification(Curve);

impl SignatureVerificationAlgorithm for EcdsaVerification {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let Self(curve) = *self;
        let key = PublicPoint::parse(curve, public_key).ok_or(InvalidSignature)?;
        let signature = EcdsaSignature::parse(curve, signature).ok_or(InvalidSignature)?;
        let digest = digest(curve.hash(), message);
        let valid = lanes::verify(Verification { key, digest, signature });
        valid.then_some(()).ok_or(InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        match self.0 {
            Curve::P256 => alg_id::ECDSA_P256,
            Curve::P384 => alg_id::ECDSA_P384,
        }
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        match self.0 {
            Curve::P256 => alg_id::ECDSA_SHA256,
            Curve::P384 => alg_id::ECDSA_SHA384,
        }
    }
}
