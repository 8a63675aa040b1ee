//! `countersign doctor`

use std::{path::PathBuf, process::ExitCode};

use crate::{
    crypto::{self, Choice, Engine},
    ring, sys,
};

/// Open descriptors below which a busy terminator soon runs out: some 32,000 connections.
const WANTED_DESCRIPTORS: u64 = 65_536;

/// Prints what this host offers and what to change; fails if `run` could not work here, or if the
/// library of cryptography that is named doesn't.
pub(super) fn main(crypto_mb: Option<PathBuf>) -> ExitCode {
    println!("countersign {}", env!("CARGO_PKG_VERSION"));
    cpu();
    let named = crypto_mb.is_some();
    let accelerated = cryptography(&crypto_mb.map_or(Choice::Auto, Choice::File));
    let works = kernel() && (accelerated || !named);
    limits();
    if works { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn line(good: bool, what: &str, found: &str) {
    println!("  {} {what:<34} {found}", if good { "ok " } else { "-- " });
}

fn cpu() {
    let cpus = sys::usable_cpus();
    println!("CPU: one worker each on {cpus:?}");
    let features = [
        ("AES-NI", std::arch::is_x86_feature_detected!("aes"), "record encryption in hardware"),
        ("PCLMULQDQ", std::arch::is_x86_feature_detected!("pclmulqdq"), "AES-GCM authentication"),
        ("VAES", std::arch::is_x86_feature_detected!("vaes"), "four AES blocks at a time"),
        ("AVX2", std::arch::is_x86_feature_detected!("avx2"), "ChaCha20, elliptic curves"),
        ("AVX-512F", std::arch::is_x86_feature_detected!("avx512f"), "wide vectors"),
        ("AVX-512IFMA", std::arch::is_x86_feature_detected!("avx512ifma"), "big-number arithmetic"),
        ("SHA-NI", std::arch::is_x86_feature_detected!("sha"), "SHA-256 in hardware"),
        ("ADX", std::arch::is_x86_feature_detected!("adx"), "RSA and elliptic curves"),
    ];
    for (name, found, purpose) in features {
        line(found, name, if found { purpose } else { "not there; slower without" });
    }
}

/// Whether a library was found, and computes right.
fn cryptography(choice: &Choice) -> bool {
    println!("Cryptography: each operation alone, and in a batch where that is cheaper");
    let (engine, accelerated) = match Engine::load(choice) {
        Ok(engine) => {
            line(true, engine.name(), "its answers are right");
            (engine, true)
        }
        Err(why) => {
            line(false, "crypto_mb", &format!("not used: {why}"));
            (Engine::scalar(), false)
        }
    };
    for speed in crypto::speeds(&engine) {
        let one = speed.one.as_secs_f64() * 1e6;
        let batch = speed.of_batch.zip(speed.from_lanes).map(|(of_batch, from)| {
            format!(", {:.1} µs in a full batch, used from {from} on", of_batch.as_secs_f64() * 1e6)
        });
        let found = format!("{one:.1} µs{}", batch.unwrap_or_default());
        line(true, &speed.operation, &found);
    }
    accelerated
}

fn kernel() -> bool {
    println!("Kernel: io_uring");
    match ring::probe() {
        Ok(needs) => {
            for need in needs {
                line(true, need.name, "needed, there");
            }
            true
        }
        Err(missing) => {
            line(false, "io_uring", &missing.to_string());
            false
        }
    }
}

fn limits() {
    println!("Limits");
    match sys::limits() {
        Ok(limits) => {
            let enough = limits.descriptors.hard >= WANTED_DESCRIPTORS;
            let found = format!(
                "{} now, {} can be had: some {} connections{}",
                limits.descriptors.soft,
                limits.descriptors.hard,
                limits.descriptors.hard / 2,
                if enough { "" } else { "; raise LimitNOFILE= for more" },
            );
            line(enough, "open descriptors", &found);
            line(true, "locked memory", &describe_bytes(limits.locked_memory.soft));
        }
        Err(error) => line(false, "limits", &format!("can't be read: {error}")),
    }
}

fn describe_bytes(bytes: u64) -> String {
    match bytes {
        libc::RLIM_INFINITY => "unlimited".into(),
        bytes => format!("{} kB", bytes / 1024),
    }
}
