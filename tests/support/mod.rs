//! What the end-to-end tests share: certificates, the running terminator, backends and clients.
//!
//! Everything is real: the `countersign` binary as a process of its own, backends behind TCP
//! sockets, and the clients that people use. Nothing waits without a deadline, and no test depends
//! on how long anything takes.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that can't set up its scene has failed")]
#![allow(unused_imports, reason = "each test binary uses a part of it")]
#![allow(unreachable_pub, reason = "a test binary exports nothing")]

mod backends;
mod clients;
mod config;
mod crl_server;
mod pki;
mod ports;
mod returning;
mod server;
mod tools;

pub use backends::{Backend, Recorder, SinkReport, checksum, pattern};
pub use clients::{Finished, SClient, TlsClient, alert_of, client_config, client_config_of};
pub use config::{Config, Listener};
pub use crl_server::{CrlServer, Reply};
pub use pki::{Files, Pki};
pub use ports::free_port;
pub use returning::{KEPT, Returning, TICKETS, VERSIONS, was_resumed};
pub use server::{LogLine, Sample, Server, Unstarted};
pub use tools::{Process, Run, curl, require_tool, wait_listening};

use std::time::{Duration, Instant};

/// When a test gives up. Far longer than anything takes: reaching it is a failure by itself.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Asks `attempt` again and again until it gives something; fails at the deadline with what
/// `describe` says.
pub fn eventually<T>(describe: impl Fn() -> String, mut attempt: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < until, "not within {DEADLINE:?}: {}", describe());
        std::thread::sleep(Duration::from_millis(10));
    }
}
