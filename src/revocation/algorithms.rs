//! The signature algorithms of CRLs: those that certificates may be signed with (a test compares
//! them with rustls' list), as aws-lc-rs has them. rustls' own objects only take whole messages; a
//! CRL's digest is computed when it is read.

use aws_lc_rs::{
    digest,
    signature::{self, VerificationAlgorithm},
};
use rustls_pki_types::{AlgorithmIdentifier, alg_id};

/// A kind of key, a kind of signature, and how the one verifies the other.
pub(super) struct Algorithm {
    pub(super) key: AlgorithmIdentifier,
    pub(super) signature: AlgorithmIdentifier,
    pub(super) verification: &'static dyn VerificationAlgorithm,
    /// The digest that is signed; `None` if the whole message is.
    pub(super) digest: Option<&'static digest::Algorithm>,
}

/// sha256WithRSAEncryption without its parameters, which RFC 4055 §5 wants to be accepted too.
const RSA_PKCS1_SHA256_ABSENT: AlgorithmIdentifier =
    AlgorithmIdentifier::from_slice(b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b");
const RSA_PKCS1_SHA384_ABSENT: AlgorithmIdentifier =
    AlgorithmIdentifier::from_slice(b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c");
const RSA_PKCS1_SHA512_ABSENT: AlgorithmIdentifier =
    AlgorithmIdentifier::from_slice(b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d");

const fn hashed(
    key: AlgorithmIdentifier,
    signature: AlgorithmIdentifier,
    verification: &'static dyn VerificationAlgorithm,
    digest: &'static digest::Algorithm,
) -> Algorithm {
    Algorithm { key, signature, verification, digest: Some(digest) }
}

const fn whole(
    algorithm: AlgorithmIdentifier,
    verification: &'static dyn VerificationAlgorithm,
) -> Algorithm {
    Algorithm { key: algorithm, signature: algorithm, verification, digest: None }
}

const fn rsa(
    id: AlgorithmIdentifier,
    verification: &'static signature::RsaParameters,
    digest: &'static digest::Algorithm,
) -> Algorithm {
    hashed(alg_id::RSA_ENCRYPTION, id, verification, digest)
}

pub(super) static ALGORITHMS: [Algorithm; 22] = [
    hashed(
        alg_id::ECDSA_P256,
        alg_id::ECDSA_SHA256,
        &signature::ECDSA_P256_SHA256_ASN1,
        &digest::SHA256,
    ),
    hashed(
        alg_id::ECDSA_P256,
        alg_id::ECDSA_SHA384,
        &signature::ECDSA_P256_SHA384_ASN1,
        &digest::SHA384,
    ),
    hashed(
        alg_id::ECDSA_P256,
        alg_id::ECDSA_SHA512,
        &signature::ECDSA_P256_SHA512_ASN1,
        &digest::SHA512,
    ),
    hashed(
        alg_id::ECDSA_P384,
        alg_id::ECDSA_SHA256,
        &signature::ECDSA_P384_SHA256_ASN1,
        &digest::SHA256,
    ),
    hashed(
        alg_id::ECDSA_P384,
        alg_id::ECDSA_SHA384,
        &signature::ECDSA_P384_SHA384_ASN1,
        &digest::SHA384,
    ),
    hashed(
        alg_id::ECDSA_P384,
        alg_id::ECDSA_SHA512,
        &signature::ECDSA_P384_SHA512_ASN1,
        &digest::SHA512,
    ),
    hashed(
        alg_id::ECDSA_P521,
        alg_id::ECDSA_SHA256,
        &signature::ECDSA_P521_SHA256_ASN1,
        &digest::SHA256,
    ),
    hashed(
        alg_id::ECDSA_P521,
        alg_id::ECDSA_SHA384,
        &signature::ECDSA_P521_SHA384_ASN1,
        &digest::SHA384,
    ),
    hashed(
        alg_id::ECDSA_P521,
        alg_id::ECDSA_SHA512,
        &signature::ECDSA_P521_SHA512_ASN1,
        &digest::SHA512,
    ),
    rsa(alg_id::RSA_PKCS1_SHA256, &signature::RSA_PKCS1_2048_8192_SHA256, &digest::SHA256),
    rsa(alg_id::RSA_PKCS1_SHA384, &signature::RSA_PKCS1_2048_8192_SHA384, &digest::SHA384),
    rsa(alg_id::RSA_PKCS1_SHA512, &signature::RSA_PKCS1_2048_8192_SHA512, &digest::SHA512),
    rsa(RSA_PKCS1_SHA256_ABSENT, &signature::RSA_PKCS1_2048_8192_SHA256, &digest::SHA256),
    rsa(RSA_PKCS1_SHA384_ABSENT, &signature::RSA_PKCS1_2048_8192_SHA384, &digest::SHA384),
    rsa(RSA_PKCS1_SHA512_ABSENT, &signature::RSA_PKCS1_2048_8192_SHA512, &digest::SHA512),
    rsa(alg_id::RSA_PSS_SHA256, &signature::RSA_PSS_2048_8192_SHA256, &digest::SHA256),
    rsa(alg_id::RSA_PSS_SHA384, &signature::RSA_PSS_2048_8192_SHA384, &digest::SHA384),
    rsa(alg_id::RSA_PSS_SHA512, &signature::RSA_PSS_2048_8192_SHA512, &digest::SHA512),
    whole(alg_id::ED25519, &signature::ED25519),
    whole(alg_id::ML_DSA_44, &signature::ML_DSA_44),
    whole(alg_id::ML_DSA_65, &signature::ML_DSA_65),
    whole(alg_id::ML_DSA_87, &signature::ML_DSA_87),
];
