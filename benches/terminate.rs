//! What TLS termination costs: countersign beside nginx, HAProxy, stunnel and hitch, doing the
//! same work on the same machine in alternating rounds.
//!
//! ```sh
//! cargo build --release && cargo bench --bench terminate
//! cargo bench --bench terminate -- --rounds 5 --peers countersign,nginx --rows full,resumed
//! cargo bench --bench terminate -- --workers 2      # and countersign with two workers
//! cargo bench --bench terminate -- --smoke          # does it run at all: for CI
//! ```
//!
//! The server under test has CPU 0; the load generator and the backends, which are threads of
//! this process, have CPU 1. What is compared is the server's CPU time an operation, not the
//! rate: on two CPUs the generator is often the limit. Each round starts each server anew; the
//! medians over the rounds and every sample go to `bench-results/DATE-HOST.json`, tables to
//! `bench-results/DATE-HOST.md`, plots to `bench-results/DATE-HOST-*.svg`.
//!
//! The `floor` is no terminator but a plain TCP relay: what the same connections and bytes cost
//! without TLS.
//!
//! Servers are looked for where Debian has them; `COUNTERSIGN_BIN` and `COUNTERSIGN_BENCH_NGINX`,
//! `_HAPROXY`, `_STUNNEL` and `_HITCH` name other programs.

mod peers;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;
use countersign::load::Report;
use peers::{
    BenchError, Peer,
    results::{Results, Series},
    rows::{Load, Row, Scale},
    site::{Placement, Site},
    throughput,
};
use rustix::process::{Resource, getrlimit, setrlimit};

#[derive(Debug, Parser)]
#[command(version)]
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

    /// Measure countersign also with one and with this many workers, load on the same CPUs; 1 for
    /// none of it
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: u16,

    /// Where results go (default: bench-results; nowhere with --smoke)
    #[arg(long)]
    out: Option<PathBuf>,

    /// One short round, in which no operation of any server may fail
    #[arg(long)]
    smoke: bool,

    /// Serve as the plain TCP relay, by the routes of this file
    #[arg(long, hide = true)]
    floor: Option<PathBuf>,

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
    let done = match &options.floor {
        Some(routes) => peers::floor::serve(routes).map_err(BenchError::io("the plain relay")),
        None => measure(&options),
    };
    match done {
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

    allow_descriptors()?;
    let site = Site::open()?;
    let load = Load {
        site: &site,
        cipher: &options.cipher,
        scale,
        placement: Placement::Apart,
        strict: options.smoke,
    };
    let mut results = Results::new(&peers, &rows, &options.cipher, rounds, scale)?;
    for round in 0..usize::from(rounds) {
        for turn in 0..peers.len() {
            // Another server goes first in each round, so that none profits from its place.
            let peer = peers[(turn + round) % peers.len()];
            eprintln!("round {} of {rounds}: {peer}", round + 1);
            measure_server(load, peer, &rows, &mut results)?;
        }
        if options.workers > 1 && peers.contains(&Peer::Countersign) {
            for workers in [1, options.workers] {
                eprintln!("round {} of {rounds}: countersign, workers: {workers}", round + 1);
                let placement = Placement::Together { workers, load_threads: options.workers };
                measure_scaling(Load { placement, ..load }, &rows, &mut results)?;
            }
        }
    }
    let throughput = throughput::measure(&options.cipher);
    throughput::check(&throughput)?;
    results.set_throughput(throughput);
    println!("{}", results.markdown());
    // Writing is a part of what has to work.
    let scratch = tempfile::tempdir().map_err(BenchError::io("a temporary folder"))?;
    let folder = match &options.out {
        Some(folder) => folder,
        None if options.smoke => scratch.path(),
        None => Path::new("bench-results"),
    };
    let files = results.write(folder)?;
    if folder != scratch.path() {
        for file in files {
            eprintln!("wrote {}", file.display());
        }
    }
    Ok(())
}

/// Load, backends and, by inheritance, the servers may have as many descriptors as this user may:
/// the usual limit of 1024 is less than the rows of idle connections need.
fn allow_descriptors() -> Result<(), BenchError> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)
        .map_err(|error| BenchError::io("raising the limit of descriptors")(error.into()))
}

/// All rows of one server: memory with a process of its own for each number of connections, the
/// others with one process.
fn measure_server(
    load: Load<'_>,
    peer: Peer,
    rows: &[Row],
    results: &mut Results,
) -> Result<(), BenchError> {
    let mut take = |row: Row, report: Result<Report, BenchError>| match report {
        Ok(report) => results.add(row, Series::Peer(peer), &report),
        Err(why) if peer != Peer::Countersign && why.leaves_out(load.strict) => {
            eprintln!("  LEFT OUT: {why}");
            results.leave_out(row, peer, &why);
            Ok(())
        }
        Err(error) => Err(error),
    };
    if rows.contains(&Row::Idle) {
        for &connections in load.scale.idle_connections {
            let server = load.site.start(peer, load.placement)?;
            take(Row::Idle, Row::Idle.run(load, &server, Some(connections)))?;
            server.stop()?;
        }
    }
    let server = load.site.start(peer, load.placement)?;
    for &row in rows.iter().filter(|row| **row != Row::Idle) {
        take(row, row.run(load, &server, None))?;
    }
    server.stop()
}

/// What an operation costs however many workers there are.
fn measure_scaling(load: Load<'_>, rows: &[Row], results: &mut Results) -> Result<(), BenchError> {
    let server = load.site.start(Peer::Countersign, load.placement)?;
    for row in Row::SCALING.into_iter().filter(|row| rows.contains(row)) {
        let report = row.run(load, &server, None)?;
        results.add(row, Series::Workers(load.placement.workers()), &report)?;
    }
    server.stop()
}
