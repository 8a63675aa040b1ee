//! The countersign command.

use std::process::ExitCode;

use clap::Parser;
use countersign::load::LoadArgs;

/// Mutual-TLS termination.
#[derive(Debug, Parser)]
#[command(name = "countersign", version)]
enum Command {
    /// Put a TLS terminator under load and say what it cost
    Load(LoadArgs),
}

fn main() -> ExitCode {
    let Command::Load(args) = Command::parse();
    countersign::load::main(args)
}
