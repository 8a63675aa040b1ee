//! What a large CRL costs: reading it, asking it, and asking about a whole path:
//! `cargo bench --bench revocation`.

use std::{hint::black_box, sync::Arc, time::Duration};

use countersign::revocation::{Crl, Link, Mode, Offered, Rules, Store, Verdict};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rcgen::{
    CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, KeyIdMethod,
    KeyPair, RevocationReason, RevokedCertParams, SerialNumber,
};
use rustls_pki_types::UnixTime;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

/// 2030-01-01
const NOW: u64 = 1_893_456_000;

const ENTRIES: u64 = 1_000_000;

type Ca = CertifiedIssuer<'static, KeyPair>;

fn ca(name: &str) -> Ca {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a P-256 key")).expect("a CA")
}

fn now() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(NOW))
}

/// 16 octets without visible order, as most CAs choose them: SplitMix64 twice.
fn serial(number: u64) -> [u8; 16] {
    let half = |number: u64| {
        let mut mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    let number = u128::from(half(number)) << 64 | u128::from(half(!number));
    // Without the first bits, so that all have one length.
    (number >> 2 | 1 << 120).to_be_bytes()
}

/// A CRL in DER, with the reason superseded in each entry.
fn crl(ca: &Ca, entries: u64) -> Vec<u8> {
    let time = |seconds: u64| {
        OffsetDateTime::from_unix_timestamp(seconds.cast_signed()).expect("a time of this century")
    };
    let params = CertificateRevocationListParams {
        this_update: time(NOW - 1),
        next_update: time(NOW + 86_400),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: (0..entries)
            .map(|number| RevokedCertParams {
                serial_number: SerialNumber::from_slice(&serial(number)),
                revocation_time: time(NOW - number),
                reason_code: Some(RevocationReason::Superseded),
                invalidity_date: None,
            })
            .collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(ca).expect("a CRL").der().to_vec()
}

/// A store that knows these CAs and their CRLs.
fn store(cas: &[(&Ca, Arc<Crl>)]) -> (Store, Vec<Link>) {
    let store = Store::new(Rules { mode: Mode::Require, ..Rules::default() });
    let mut links = Vec::new();
    for (ca, crl) in cas {
        let (_, certificate) = X509Certificate::from_der(ca.der()).expect("a certificate");
        let issuer =
            store.learn(certificate.subject().as_raw(), certificate.public_key().raw, true);
        assert_eq!(store.offer("bench", vec![Arc::clone(crl)], now()), [Offered::InUse]);
        links.push(Link {
            issuer,
            serial: serial(ENTRIES).into(),
            is_ca: !links.is_empty(),
            distribution_points: Box::default(),
        });
    }
    (store, links)
}

fn large_crl(c: &mut Criterion) {
    let cas = [ca("Contoso Sub 2"), ca("Contoso Sub 1"), ca("Contoso Root")];
    let der = crl(&cas[0], ENTRIES);
    let large = Arc::new(Crl::parse(&der).expect("a CRL"));
    println!(
        "{} entries: {} bytes of DER, {} bytes in memory",
        large.entries(),
        der.len(),
        large.memory_bytes()
    );

    let mut group = c.benchmark_group("revocation");
    group.sample_size(10).throughput(Throughput::Bytes(der.len() as u64));
    group.bench_function("load/1000000-entries", |b| b.iter(|| Crl::parse(black_box(&der))));
    group.finish();

    let mut group = c.benchmark_group("revocation");
    let mut ask = |name: &str, first: u64| {
        // A different serial each time, so that nothing of it is in the caches.
        let mut number = first;
        group.bench_function(name, |b| {
            b.iter_batched(
                || {
                    number = (number + 7919) % ENTRIES;
                    serial(first + number)
                },
                |serial| large.find(black_box(&serial)),
                BatchSize::SmallInput,
            );
        });
    };
    ask("find/hit", 0);
    ask("find/miss", ENTRIES);

    let small = |ca| Arc::new(Crl::parse(&crl(ca, 100)).expect("a CRL"));
    let (store, path) = store(&[
        (&cas[0], Arc::clone(&large)),
        (&cas[1], small(&cas[1])),
        (&cas[2], small(&cas[2])),
    ]);
    assert!(matches!(store.check(&path, now()), Verdict::Good { .. }));
    group.bench_function("check/path-of-3", |b| b.iter(|| store.check(black_box(&path), now())));
    group.finish();
}

criterion_group!(benches, large_crl);
criterion_main!(benches);
