//! `countersign doctor`

use std::process::ExitCode;

use crate::{ring, sys};

/// Open descriptors below which a busy terminator soon runs out: some 32,000 connections.
const WANTED_DESCRIPTORS: u64 = 65_536;

/// Prints what this host offers and what to change; fails if `run` could not work here.
pub(super) fn main() -> ExitCode {
    println!("countersign {}", env!("CARGO_PKG_VERSION"));
    cpu();
    let works = kernel();
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
