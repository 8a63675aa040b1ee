//! What the record layer alone seals by size of record, beside rustls' own: in memory, on one CPU.

use std::{
    hint::black_box,
    io::Write,
    time::{Duration, Instant},
};

use countersign::record::{RecordLayer, Side};
use rustls::{Connection, SupportedCipherSuite, crypto::aws_lc_rs};

use super::{BenchError, rustls_peer::connect};

/// Bytes of plaintext in a record.
const LENGTHS: [usize; 5] = [64, 256, 1024, 4096, 16_384];

/// Records between two looks at the clock; far below what a key may protect.
const BATCH: u32 = 2_000;

/// Batches of which the fastest counts: others had to share their CPU.
const BATCHES: u32 = 25;

/// GB of plaintext a second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Throughput {
    /// Bytes of plaintext in a record.
    pub(crate) length: usize,
    pub(crate) countersign: f64,
    pub(crate) rustls: f64,
}

/// Measures with the TLS 1.3 suite of that name, or the default one if it is none.
pub(crate) fn measure(cipher: &str) -> Vec<Throughput> {
    let suite = *aws_lc_rs::ALL_CIPHER_SUITES
        .iter()
        .find(|suite| {
            let name = suite.suite().as_str().unwrap_or_default();
            suite.tls13().is_some() && name.replacen("TLS13_", "TLS_", 1) == cipher
        })
        .unwrap_or(&aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256);
    LENGTHS
        .iter()
        .map(|&length| Throughput {
            length,
            countersign: ours(suite, length),
            rustls: theirs(suite, length),
        })
        .collect()
}

fn ours(suite: SupportedCipherSuite, length: usize) -> f64 {
    let mut layer: RecordLayer = connect(suite, Side::Server).layer;
    let mut record = vec![0; layer.header_len() + length + layer.trailer_len()];
    fastest(length, || layer.seal(black_box(&mut record), length).is_ok())
}

fn theirs(suite: SupportedCipherSuite, length: usize) -> f64 {
    let mut peer: Connection = connect(suite, Side::Client).peer;
    let data = vec![0; length];
    let mut out = Vec::with_capacity(2 * length + 1024);
    fastest(length, || {
        out.clear();
        let written = peer.writer().write_all(black_box(&data)).is_ok();
        while peer.wants_write() {
            if peer.write_tls(&mut out).is_err() {
                return false;
            }
        }
        written
    })
}

/// GB a second of the fastest batch; zero if a record can't be sealed.
fn fastest(length: usize, mut seal: impl FnMut() -> bool) -> f64 {
    let mut best = Duration::MAX;
    for _ in 0..BATCHES {
        let began = Instant::now();
        for _ in 0..BATCH {
            if !seal() {
                return 0.0;
            }
        }
        best = best.min(began.elapsed());
    }
    #[expect(clippy::cast_precision_loss, reason = "a batch has fewer than 2^52 bytes")]
    let bytes = (length * BATCH as usize) as f64;
    bytes / best.as_secs_f64() / 1e9
}

/// Every record was sealed.
pub(crate) fn check(points: &[Throughput]) -> Result<(), BenchError> {
    if points.iter().all(|point| point.countersign > 0.0 && point.rustls > 0.0) {
        return Ok(());
    }
    Err(BenchError::Empty("throughput by size of record".to_owned()))
}
