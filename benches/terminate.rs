//! What TLS termination costs: countersign beside nginx and HAProxy, doing the same work on the
//! same machine in alternating rounds.
//!
//! ```sh
//! cargo build --release && cargo bench --bench terminate
//! cargo bench --bench terminate -- --rounds 5 --peers countersign,nginx --rows full,resumed
//! cargo bench --bench terminate -- --smoke          # does it run at all: for CI
//! ```
//!
//! The server under test has CPU 0; the load generator and the backends, which are threads of
//! this process, have CPU 1. What is compared is the server's CPU time an operation, not the
//! rate: on two CPUs the generator is often the limit. Each round starts each server anew; the
//! medians over the rounds and every sample go to `bench-results/DATE-HOST.json`, a table to
//! `bench-results/DATE-HOST.md`.

mod peers;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use peers::{
    BenchError, Peer,
    results::Results,
    rows::{Row, Scale},
    site::Site,
};

#[derive(Debug, Parser)]
struct Options {
    /// How often each server is started and measured
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,

    /// Servers to measure (default: those that are installed)
    #[arg(long, value_delimiter = ',')]
    peers: Vec<Peer>,

    /// Rows to measure (default: all)
    #[arg(long, value_delimiter = ',')]
    rows: Vec<Row>,

    /// The cipher suite that the client offers, so that all servers do the same work
    #[arg(long, default_value = "TLS_AES_128_GCM_SHA256")]
    cipher: String,

    /// Where results go
    #[arg(long, default_value = "bench-results")]
    out: PathBuf,

    /// One short round that writes no results
    #[arg(long)]
    smoke: bool,

    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if !options.bench {
        // `cargo test --all-targets` runs this as well; minutes of load are no test.
        println!("skipped: run it with `cargo bench --bench terminate`");
        return ExitCode::SUCCESS;
    }
    match measure(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("terminate: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<(), BenchError> {
    let peers = match &*options.peers {
        [] => Peer::installed(),
        chosen => chosen.to_vec(),
    };
    if peers.is_empty() {
        return Err(BenchError::NothingToMeasure);
    }
    let rows = if options.rows.is_empty() { Row::ALL.to_vec() } else { options.rows.clone() };
    let (rounds, scale) =
        if options.smoke { (1, Scale::SMOKE) } else { (options.rounds, Scale::FULL) };

    let site = Site::open()?;
    let mut results = Results::new(&peers, &rows, &options.cipher, rounds, scale)?;
    for round in 0..usize::from(rounds) {
        for turn in 0..peers.len() {
            // Another server goes first in each round, so that none profits from its place.
            let peer = peers[(turn + round) % peers.len()];
            let server = site.start(peer)?;
            for &row in &rows {
                let report = row.run(&site, &server, &options.cipher, scale)?;
                let cost = row.cost(&report)?;
                eprintln!("round {round}: {peer}, {}: {cost:.2} {}", row.title(), row.unit());
                results.add(row, peer, cost, &report);
            }
            server.stop()?;
        }
    }
    println!("{}", results.markdown());
    if !options.smoke {
        for file in results.write(&options.out)? {
            eprintln!("wrote {}", file.display());
        }
    }
    Ok(())
}
