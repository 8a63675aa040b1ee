//! `countersign demo`

use std::{path::Path, process::ExitCode};

use super::outcome;
use crate::{app, demo};

/// Prepares `dir`, starts the embedded backend and the terminator, prints commands to paste,
/// and serves until Ctrl-C.
pub(super) fn main(dir: &Path) -> ExitCode {
    outcome(run(dir))
}

fn run(dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let backend = demo::backend::Backend::start()?;
    let files = demo::prepare(dir, backend.address())?;
    app::run(&files.config, |_| println!("{}", demo::instructions(&files)))?;
    Ok(())
}
