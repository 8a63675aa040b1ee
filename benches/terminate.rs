//! What TLS termination costs: countersign beside nginx, HAProxy, stunnel and hitch, doing the
//! same work on the same machine in alternating rounds.
//!
//! ```sh
//! cargo build --release && cargo bench --bench terminate
//! cargo bench --bench terminate -- --rounds 5 --peers countersign,nginx --rows full,resumed
//! cargo bench --bench terminate -- --workers 2      # and countersign with two workers
//! cargo bench --bench terminate -- --handshakes     # by kind of key, of chain, and clients
//! cargo bench --bench terminate -- --smoke          # does it run at all: for CI
//! ```
//!
//! The server under test has CPU 0; the load generator and the backends, which are threads of
//! this process, have CPU 1. What is compared is the server's CPU time an operation, not the
//! rate: on two CPUs the generator is often the limit. In each round, each row is measured with one
//! server after the other, each started for it. The medians over the rounds and every sample go to
//! `bench-results/DATE-HOST.json`, tables to `bench-results/DATE-HOST.md`, plots to
//! `bench-results/DATE-HOST-*.svg`; those of handshakes to `bench-results/DATE-HOST-handshakes.*`.
//! The table in short at the end of the Markdown is what the README shows.
//!
//! The `floor` is no terminator but a plain TCP relay: what the same connections and bytes cost
//! without TLS.
//!
//! `countersign-scalar` is countersign with `crypto_mb = "off"`: what handshakes cost one by one.
//! `countersign-verify` is countersign with `verify = "crypto_mb"`: the library verifies the clients'
//! signatures, too, which `docs/threat-model.md` argues about.
//! `--crypto-mb` or `COUNTERSIGN_CRYPTO_MB` names the library for the other one, if it isn't where
//! countersign looks for it.
//!
//! Servers are looked for where Debian has them; `COUNTERSIGN_BIN` and `COUNTERSIGN_BENCH_NGINX`,
//! `_HAPROXY`, `_STUNNEL` and `_HITCH` name other programs.

mod peers;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use peers::{
    BenchError, Peer,
    results::{Plan, Results, Series},
    rows::{Load, Row, Scale, Table},
    site::{Behind, Placement, Site},
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

    /// Rows to measure (default: all of the table)
    #[arg(long, value_delimiter = ',')]
    rows: Vec<Row>,

    /// Measure what handshakes cost, by kind and by number of clients, instead of all work
    #[arg(long)]
    handshakes: bool,

    /// How long each row is measured, seconds
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=600), conflicts_with = "smoke")]
    seconds: Option<u16>,

    /// The library that countersign computes handshakes with (default: where it looks itself)
    #[arg(long, value_name = "PATH")]
    crypto_mb: Option<PathBuf>,

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

fn plan(options: &Options) -> Result<Plan, BenchError> {
    let table = if options.handshakes { Table::Handshakes } else { Table::Work };
    let peers = match &*options.peers {
        [] => Peer::installed(table),
        chosen => chosen.to_vec(),
    };
    if peers.is_empty() {
        return Err(BenchError::NothingToMeasure);
    }
    let rows = match &*options.rows {
        [] => Row::all(table).to_vec(),
        chosen => chosen.to_vec(),
    };
    if !rows.iter().all(|row| row.is_of(table)) {
        return Err(BenchError::Rows);
    }
    let mut scale = if options.smoke { Scale::SMOKE } else { Scale::FULL };
    if let Some(seconds) = options.seconds {
        scale.duration = Duration::from_secs(seconds.into());
    }
    // Servers run in folders of their own.
    let crypto_mb = options.crypto_mb.clone();
    let crypto_mb = crypto_mb.or_else(|| std::env::var_os("COUNTERSIGN_CRYPTO_MB").map(Into::into));
    let crypto_mb = crypto_mb.map(std::path::absolute).transpose();
    Ok(Plan {
        table,
        peers,
        rows,
        cipher: options.cipher.clone(),
        rounds: if options.smoke { 1 } else { options.rounds },
        scale,
        crypto_mb: crypto_mb.map_err(BenchError::io("the library's path"))?,
    })
}

fn measure(options: &Options) -> Result<(), BenchError> {
    let plan = plan(options)?;
    allow_descriptors()?;
    let mut wanted: Vec<Behind> = Vec::new();
    for behind in plan.rows.iter().map(|row| row.behind()) {
        if !wanted.contains(&behind) {
            wanted.push(behind);
        }
    }
    // Round trips are measured beside downloads.
    if plan.rows.contains(&Row::Beside) && !wanted.contains(&Behind::Source) {
        wanted.push(Behind::Source);
    }
    let new_chains = if plan.rows.contains(&Row::NewChains) { plan.scale.new_chains } else { 0 };
    let site = Site::open(&wanted, new_chains, plan.crypto_mb.clone())?;
    let load = Load {
        site: &site,
        cipher: &options.cipher,
        scale: plan.scale,
        placement: Placement::Apart,
        strict: options.smoke,
    };
    let Plan { peers, rows, rounds, table, .. } = plan.clone();
    let mut results = Results::new(plan)?;
    for round in 0..usize::from(rounds) {
        for (place, &row) in rows.iter().enumerate() {
            for turn in 0..peers.len() {
                // Another server goes first each time, so that none profits from its place.
                let peer = peers[(turn + round + place) % peers.len()];
                if row.suits(peer) && !results.is_left_out(row, peer) {
                    eprintln!("round {} of {rounds}: {peer}", round + 1);
                    measure_row(load, peer, row, &mut results)?;
                }
            }
        }
        if options.workers > 1 && peers.contains(&Peer::Countersign) {
            for workers in [1, options.workers] {
                eprintln!("round {} of {rounds}: countersign, workers: {workers}", round + 1);
                let placement = Placement::Together { workers, load_threads: options.workers };
                measure_scaling(Load { placement, ..load }, &rows, &mut results)?;
            }
        }
    }
    if table == Table::Work {
        let throughput = throughput::measure(&options.cipher);
        throughput::check(&throughput)?;
        results.set_throughput(throughput);
    }
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

/// One row of one server, with a process of its own; for memory, with one for each number of
/// connections, since what a process has had before shows.
fn measure_row(
    load: Load<'_>,
    peer: Peer,
    row: Row,
    results: &mut Results,
) -> Result<(), BenchError> {
    let all = row.connections(load.scale);
    let together = if row == Row::Idle { 1 } else { all.len().max(1) };
    for some in all.chunks(together) {
        let mut server = load.site.start(peer, load.placement)?;
        for &connections in some {
            match row.run(load, &server, connections) {
                Ok(report) => results.add(row, Series::Peer(peer), &report)?,
                Err(why) => {
                    if !matches!(why, BenchError::OtherWork { .. }) {
                        eprintln!("  {} failed; {}", row.name(), server.state());
                    }
                    if peer.is_ours() || !why.leaves_out(load.strict) {
                        return Err(why);
                    }
                    eprintln!("  LEFT OUT: {why}");
                    results.leave_out(row, peer, &why);
                    return server.stop();
                }
            }
        }
        server.stop()?;
    }
    Ok(())
}

/// What an operation costs however many workers there are.
fn measure_scaling(load: Load<'_>, rows: &[Row], results: &mut Results) -> Result<(), BenchError> {
    let server = load.site.start(Peer::Countersign, load.placement)?;
    for row in Row::SCALING.into_iter().filter(|row| rows.contains(row)) {
        for &connections in row.connections(load.scale) {
            let report = row.run(load, &server, connections)?;
            results.add(row, Series::Workers(load.placement.workers()), &report)?;
        }
    }
    server.stop()
}
