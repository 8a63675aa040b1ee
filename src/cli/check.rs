//! `countersign check`

use std::{path::Path, process::ExitCode};

use super::outcome;
use crate::{config::Config, generation::Generation, handshake, metrics::Metrics, quota::Usage};

/// Loads `path` as `run` does, prints what would be served, and what deserves a second look.
pub(super) fn main(path: &Path) -> ExitCode {
    outcome(check(path))
}

fn check(path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let config = Config::load(path)?;
    let (summary, warnings) = (config.summary(), config.warnings.clone());
    // Also what is only made for serving must be makeable.
    Generation::new(1, config, &Metrics::new()?, &handshake::ticket_encryption()?, &Usage::new())?;
    print!("{summary}");
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
    Ok(())
}
