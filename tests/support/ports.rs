//! Ports that nobody uses. The configuration refuses port 0, so they are chosen here.

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::atomic::{AtomicU32, Ordering},
};

/// Below the ephemeral range, whose ports outgoing connections take at any moment.
const FIRST: u32 = 10_000;

/// Ports that one process tries before it shares those of another.
const BLOCK: u32 = 32;

/// Blocks up to port 30479.
const BLOCKS: u32 = 640;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A port on 127.0.0.1 where nobody listens. Tests that run as processes side by side choose
/// from different ranges.
pub fn free_port() -> u16 {
    let block = std::process::id() % BLOCKS;
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(step < BLOCK * BLOCKS, "no port is free");
        let port = FIRST + (block * BLOCK + step) % (BLOCK * BLOCKS);
        let port = u16::try_from(port).unwrap();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
