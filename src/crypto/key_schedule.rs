//! The hash and HMAC of TLS 1.3's key schedule and transcript (RFC 8446 §4.4.1, §7.1).
//!
//! A handshake expands some twenty secrets, and each takes two blocks of SHA-256: what surrounds
//! the blocks counts. RustCrypto's hashes keep their state in place, where aws-lc-rs allocates one
//! for each call, and an HMAC key whose two pads are hashed once serves all secrets that are
//! expanded from it: a quarter of the cost of an expansion (see docs/performance.md).

use std::sync::LazyLock;

use hmac::{EagerHash, Hmac, KeyInit as _, Mac as _};
use rustls::{
    SupportedCipherSuite, Tls13CipherSuite,
    crypto::{
        CipherSuiteCommon,
        aws_lc_rs::cipher_suite,
        hash::{Context, Hash, HashAlgorithm, Output},
        hmac::{Hmac as TlsHmac, Key, Tag},
        tls13::{Hkdf, HkdfUsingHmac},
    },
};
use sha2::{Digest, Sha256, Sha384};

/// A hash that the key schedule works with.
trait Transcript: Digest + EagerHash + Clone + Send + Sync + 'static {
    const ALGORITHM: HashAlgorithm;
    const BYTES: usize;
}

impl Transcript for Sha256 {
    const ALGORITHM: HashAlgorithm = HashAlgorithm::SHA256;
    const BYTES: usize = 32;
}

impl Transcript for Sha384 {
    const ALGORITHM: HashAlgorithm = HashAlgorithm::SHA384;
    const BYTES: usize = 48;
}

/// The hash `D` as rustls asks for it.
struct Of<D>(std::marker::PhantomData<fn() -> D>);

static SHA256: Of<Sha256> = Of(std::marker::PhantomData);
static SHA384: Of<Sha384> = Of(std::marker::PhantomData);

/// HKDF (RFC 5869) with SHA-256.
pub static HKDF_SHA256: HkdfUsingHmac<'static> = HkdfUsingHmac(&SHA256);

/// HKDF (RFC 5869) with SHA-384.
pub static HKDF_SHA384: HkdfUsingHmac<'static> = HkdfUsingHmac(&SHA384);

/// The suite with this key schedule, if it is one of TLS 1.3; others stay as they are. Records are
/// protected by the same AEAD of aws-lc-rs.
pub fn suite(suite: SupportedCipherSuite) -> SupportedCipherSuite {
    let same = |ours: &&&Tls13CipherSuite| ours.common.suite == suite.suite();
    SUITES.iter().find(same).map_or(suite, |ours| SupportedCipherSuite::Tls13(ours))
}

/// Made once, and as long-lived as rustls wants them.
static SUITES: LazyLock<Vec<&'static Tls13CipherSuite>> = LazyLock::new(|| {
    let all = [
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        cipher_suite::TLS13_AES_256_GCM_SHA384,
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    all.iter().filter_map(|suite| suite.tls13()).filter_map(rescheduled).collect()
});

fn rescheduled(suite: &Tls13CipherSuite) -> Option<&'static Tls13CipherSuite> {
    let (hash_provider, hkdf_provider): (&'static dyn Hash, &'static dyn Hkdf) =
        match suite.common.hash_provider.algorithm() {
            HashAlgorithm::SHA256 => (&SHA256, &HKDF_SHA256),
            HashAlgorithm::SHA384 => (&SHA384, &HKDF_SHA384),
            _ => return None,
        };
    let common = CipherSuiteCommon { hash_provider, ..suite.common };
    let ours = Tls13CipherSuite { common, hkdf_provider, ..*suite };
    Some(Box::leak(Box::new(ours)))
}

impl<D: Transcript> Hash for Of<D> {
    fn start(&self) -> Box<dyn Context> {
        Box::new(Running(D::new()))
    }

    fn hash(&self, data: &[u8]) -> Output {
        Output::new(&D::digest(data))
    }

    fn output_len(&self) -> usize {
        D::BYTES
    }

    fn algorithm(&self) -> HashAlgorithm {
        D::ALGORITHM
    }
}

/// A hash that isn't finished.
struct Running<D>(D);

impl<D: Transcript> Context for Running<D> {
    fn fork_finish(&self) -> Output {
        Output::new(&self.0.clone().finalize())
    }

    fn fork(&self) -> Box<dyn Context> {
        Box::new(Self(self.0.clone()))
    }

    fn finish(self: Box<Self>) -> Output {
        Output::new(&self.0.finalize())
    }

    fn update(&mut self, data: &[u8]) {
        Digest::update(&mut self.0, data);
    }
}

impl<D: Transcript> TlsHmac for Of<D>
where
    Hmac<D>: Clone + Send + Sync,
{
    fn with_key(&self, key: &[u8]) -> Box<dyn Key> {
        // HMAC takes keys of any length (RFC 2104 §3): what can't fail has no fallback.
        #[allow(clippy::expect_used)]
        Box::new(Keyed::<D>(Hmac::new_from_slice(key).expect("a key of any length")))
    }

    fn hash_output_len(&self) -> usize {
        D::BYTES
    }
}

/// An HMAC key, as the states of the hash after its two pads; wiped when dropped.
struct Keyed<D: EagerHash>(Hmac<D>);

impl<D: Transcript> Key for Keyed<D>
where
    Hmac<D>: Clone + Send + Sync,
{
    fn sign_concat(&self, first: &[u8], middle: &[&[u8]], last: &[u8]) -> Tag {
        let mut mac = self.0.clone();
        for part in std::iter::once(&first).chain(middle).chain([&last]) {
            mac.update(part);
        }
        Tag::new(&mac.finalize().into_bytes())
    }

    fn tag_len(&self) -> usize {
        D::BYTES
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    use super::*;

    /// The same suite as aws-lc-rs computes it, and as it is computed here.
    fn both() -> Vec<(&'static Tls13CipherSuite, &'static Tls13CipherSuite)> {
        let all = [
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ];
        let pairs = all.iter().map(|&theirs| {
            let ours = suite(theirs).tls13().expect("a suite of TLS 1.3");
            (theirs.tls13().expect("a suite of TLS 1.3"), ours)
        });
        pairs.collect()
    }

    #[test]
    fn every_suite_of_tls_1_3_is_computed_here_and_keeps_its_aead() {
        for (theirs, ours) in both() {
            assert!(!std::ptr::eq(theirs, ours), "{theirs:?}");
            assert_eq!(theirs.common.suite, ours.common.suite);
            assert_eq!(theirs.common.confidentiality_limit, ours.common.confidentiality_limit);
            assert!(std::ptr::addr_eq(theirs.aead_alg, ours.aead_alg));
        }
    }

    #[test]
    fn a_suite_of_tls_1_2_stays_as_it_is() {
        let tls12 = cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
        assert_eq!(suite(tls12), tls12);
        assert!(suite(tls12).tls13().is_none());
    }

    /// RFC 5869 §A.1.
    #[test]
    fn the_first_test_case_of_hkdf_comes_out_as_published() {
        let salt: Vec<u8> = (0..=0x0c).collect();
        let info: Vec<u8> = (0xf0..=0xf9).collect();
        let expander = HKDF_SHA256.extract_from_secret(Some(&salt), &[0x0b; 22]);
        let mut out = [0; 42];
        expander.expand_slice(&[&info], &mut out).expect("42 bytes are few");
        let published = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b8\
                         87185865";
        assert_eq!(HEXLOWER.encode(&out), published);
    }

    proptest! {
        #[test]
        fn what_comes_out_is_what_aws_lc_rs_computes(
            salt in proptest::collection::vec(any::<u8>(), 0..80),
            secret in proptest::collection::vec(any::<u8>(), 1..200),
            info in proptest::collection::vec(any::<u8>(), 0..200),
            cut in 0..200_usize,
            wanted in 1..120_usize,
        ) {
            let cut = cut.min(info.len());
            let parts = [&info[..cut], &info[cut..]];
            for (theirs, ours) in both() {
                let [a, b] = [theirs, ours].map(|suite| {
                    let hkdf = suite.hkdf_provider;
                    let expander = hkdf.extract_from_secret(Some(&salt), &secret);
                    let mut out = vec![0; wanted];
                    expander.expand_slice(&parts, &mut out).expect("not too much");
                    let block = expander.expand_block(&parts);
                    let again = hkdf.expander_for_okm(&block).expand_block(&parts);
                    let none = hkdf.extract_from_zero_ikm(Some(&salt)).expand_block(&parts);
                    let tag = hkdf.hmac_sign(&block, &info);
                    let all = [block, again, none].map(|block| block.as_ref().to_vec());
                    (out, all, tag.as_ref().to_vec())
                });
                prop_assert_eq!(a, b);

                let [a, b] = [theirs, ours].map(|suite| {
                    let hash = suite.common.hash_provider;
                    let mut running = hash.start();
                    running.update(parts[0]);
                    let early = running.fork_finish();
                    let mut fork = running.fork();
                    fork.update(parts[1]);
                    running.update(&secret);
                    let all = [early, fork.finish(), running.finish(), hash.hash(&info)];
                    (all.map(|output| output.as_ref().to_vec()), hash.output_len())
                });
                prop_assert_eq!(a, b);
            }
        }
    }
}
