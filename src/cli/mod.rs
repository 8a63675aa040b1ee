//! Arguments → command → exit code. Nothing else reads the command line.

mod check;
mod demo;
mod doctor;
mod explain;
mod pki;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use rustls_pki_types::UnixTime;

use crate::{
    app,
    config::{Config, Disk},
    crls::{self, Copies},
    generation::Generation,
    load,
    metrics::{CacheMetrics, Metrics},
    quota::Usage,
    resumption::SessionStore,
};

/// Mutual-TLS termination for dedicated Linux hosts.
#[derive(Debug, Parser)]
#[command(name = "countersign", version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a configuration until SIGTERM; SIGHUP reloads it
    Run {
        /// The configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Load a configuration exactly as `run` does, and print what would be served
    Check {
        /// The configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Try it: make a throw-away CA, serve on 127.0.0.1:8443, print commands to paste
    Demo {
        /// Where certificates and configuration go
        #[arg(long, value_name = "DIR", default_value = "./countersign-demo")]
        dir: PathBuf,
    },
    /// Explain what a listener would decide about a client, step by step; exit code 3 if it refuses
    Explain(Box<explain::ExplainArgs>),
    /// Print what this host offers, and what to change
    Doctor {
        /// Look at this libcrypto_mb.so (an absolute path) instead of the system's
        #[arg(long, value_name = "FILE")]
        crypto_mb: Option<PathBuf>,
    },
    /// A small CA for first steps and tests: throw-away certificates and CRLs
    ///
    /// It is for trust that is thrown away: keys lie unencrypted in files, and nobody is asked who
    /// wants a certificate. What it makes is what any CA makes, so that a real one can follow.
    #[command(subcommand)]
    Pki(pki::PkiCommand),
    /// Put a TLS terminator under load and say what it cost
    Load(Box<load::LoadArgs>),
}

/// Runs what the command line asks for.
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run { config } => run(&config),
        Command::Check { config } => check::main(&config),
        Command::Demo { dir } => demo::main(&dir),
        Command::Doctor { crypto_mb } => doctor::main(crypto_mb),
        Command::Explain(arguments) => explain::main(&arguments),
        Command::Pki(command) => pki::main(command),
        Command::Load(arguments) => load::main(*arguments),
    }
}

fn run(config: &Path) -> ExitCode {
    outcome(app::run(config, |_| {}))
}

/// What `run` would serve, for a command that only looks at it. Of what the service has fetched it
/// has the copies that are kept; nothing is fetched here.
fn generation(path: &Path) -> Result<Generation, Box<dyn std::error::Error>> {
    let disk = Disk::default();
    let config = Config::load_from(path, &disk)?;
    let kept = config.crl_fetching.state_dir.as_deref();
    let kept = kept.map(|folder| Copies::read(folder, &disk, UnixTime::now()));
    let before = crls::Before { stores: None, copies: kept.as_ref() };
    let metrics = Metrics::new()?;
    let sessions = SessionStore::new(&config.resumption, &CacheMetrics::new(&metrics))?;
    Ok(Generation::new(1, config, &metrics, &sessions, &Usage::new(), before)?)
}

/// Errors go to standard error, each on its own line.
fn outcome(result: Result<(), impl std::fmt::Display>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
