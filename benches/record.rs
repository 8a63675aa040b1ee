//! Seals and opens records of several lengths with our record layer and with rustls' buffered
//! connection, in memory.
//!
//! `cargo bench --bench record` writes its results under `target/criterion`. Only ratios within
//! one run mean something on a shared machine.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

#[path = "../tests/record_layer/offline.rs"]
#[allow(dead_code)]
mod offline;
#[path = "../tests/record_layer/rustls_peer.rs"]
#[allow(dead_code)]
mod rustls_peer;

use std::hint::black_box;
use std::io::{Read, Write};

use countersign::record::{Content, Side};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rustls::SupportedCipherSuite;
use rustls::crypto::aws_lc_rs::cipher_suite;

use rustls_peer::connect;

static SUITES: [(&str, SupportedCipherSuite); 6] = [
    ("tls13-aes-128-gcm", cipher_suite::TLS13_AES_128_GCM_SHA256),
    ("tls13-aes-256-gcm", cipher_suite::TLS13_AES_256_GCM_SHA384),
    ("tls13-chacha20-poly1305", cipher_suite::TLS13_CHACHA20_POLY1305_SHA256),
    ("tls12-aes-128-gcm", cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("tls12-aes-256-gcm", cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("tls12-chacha20-poly1305", cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
];

static LENGTHS: [usize; 4] = [64, 1024, 4096, 16_384];

/// Records a connection protects before it is replaced: the limits of AES-GCM end at 2^23.
const RECORDS_A_CONNECTION: u64 = 1 << 22;

fn seal(criterion: &mut Criterion) {
    for (name, suite) in SUITES {
        let mut group = criterion.benchmark_group(format!("seal/{name}"));
        for len in LENGTHS {
            group.throughput(Throughput::Bytes(len as u64));
            group.bench_function(format!("countersign/{len}"), |bencher| {
                let mut layer = connect(suite, Side::Server).layer;
                let mut record = vec![0; layer.header_len() + len + layer.trailer_len()];
                let mut sealed = 0;
                bencher.iter(|| {
                    sealed += 1;
                    if sealed % RECORDS_A_CONNECTION == 0 {
                        layer = connect(suite, Side::Server).layer;
                    }
                    layer.seal(black_box(&mut record), len).unwrap()
                });
            });
            group.bench_function(format!("rustls/{len}"), |bencher| {
                let mut peer = connect(suite, Side::Client).peer;
                let data = vec![0; len];
                let mut out = Vec::with_capacity(2 * len + 1024);
                bencher.iter(|| {
                    out.clear();
                    peer.writer().write_all(black_box(&data)).unwrap();
                    while peer.wants_write() {
                        peer.write_tls(&mut out).unwrap();
                    }
                    out.len()
                });
            });
        }
    }
}

/// Opening changes both the buffer and the sequence number, so records are sealed ahead of each
/// batch, outside of what is measured.
fn open(criterion: &mut Criterion) {
    for (name, suite) in SUITES {
        let mut group = criterion.benchmark_group(format!("open/{name}"));
        for len in LENGTHS {
            group.throughput(Throughput::Bytes(len as u64));
            group.bench_function(format!("countersign/{len}"), |bencher| {
                let pair = connect(suite, Side::Server);
                let (mut layer, mut forger) = (pair.layer, pair.forger);
                let data = vec![1; len];
                bencher.iter_batched_ref(
                    || forger.record(offline::DATA, &data),
                    |record| match layer.open(record).unwrap().unwrap().content {
                        Content::ApplicationData(range) => range.len(),
                        content => panic!("not data: {content:?}"),
                    },
                    BatchSize::LargeInput,
                );
            });
            group.bench_function(format!("rustls/{len}"), |bencher| {
                let mut pair = connect(suite, Side::Client);
                let data = vec![1; len];
                let mut plaintext = vec![0; len];
                // `connect` leaves rustls' session tickets unsent; they don't matter here.
                let (mut layer, peer) = (pair.layer, &mut pair.peer);
                bencher.iter_batched(
                    || offline::seal(&mut layer, &data),
                    |record| {
                        let mut tls = &record[..];
                        while !tls.is_empty() {
                            peer.read_tls(&mut tls).unwrap();
                            peer.process_new_packets().unwrap();
                        }
                        peer.reader().read_exact(&mut plaintext).unwrap();
                    },
                    BatchSize::LargeInput,
                );
            });
        }
    }
}

criterion_group!(benches, seal, open);
criterion_main!(benches);
