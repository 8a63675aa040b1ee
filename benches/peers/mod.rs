//! The servers that are compared, and what it takes to run them.

pub(crate) mod config;
pub(crate) mod pki;
pub(crate) mod results;
pub(crate) mod rows;
pub(crate) mod site;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use clap::ValueEnum;
use countersign::load::LoadError;

/// A server under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Peer {
    /// The release build of this crate, or `COUNTERSIGN_BIN`.
    Countersign,
    /// nginx with its stream module.
    Nginx,
    /// HAProxy in TCP mode.
    Haproxy,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    #[error("no server to measure: build countersign with --release, or install nginx or haproxy")]
    NothingToMeasure,
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("{peer} didn't start: {reason}\n{log}")]
    NotStarted { peer: Peer, reason: String, log: String },
    #[error("can't make certificates: {0}")]
    Pki(#[from] rcgen::Error),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("{row}: {failed} of {attempts} operations failed, so the numbers mean nothing: {why}")]
    Failed { row: &'static str, failed: u64, attempts: u64, why: String },
    #[error("{0}: the run measured nothing")]
    Empty(&'static str),
}

impl BenchError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

impl Peer {
    const ALL: [Self; 3] = [Self::Countersign, Self::Nginx, Self::Haproxy];

    /// Those whose program is there.
    pub(crate) fn installed() -> Vec<Self> {
        let (there, missing): (Vec<_>, Vec<_>) =
            Self::ALL.into_iter().partition(|peer| peer.program().is_file());
        for peer in missing {
            eprintln!("left out: {peer}, there is no {}", peer.program().display());
        }
        there
    }

    pub(crate) fn program(self) -> PathBuf {
        match self {
            Self::Countersign => std::env::var_os("COUNTERSIGN_BIN").map_or_else(
                || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/release/countersign"),
                PathBuf::from,
            ),
            Self::Nginx => "/usr/sbin/nginx".into(),
            Self::Haproxy => "/usr/sbin/haproxy".into(),
        }
    }

    /// How it is started in the foreground with `config`.
    pub(crate) fn command(self, config: &Path) -> Command {
        let mut command = Command::new(self.program());
        match self {
            Self::Countersign => command.arg("run").arg("--config").arg(config),
            Self::Nginx => command.arg("-e").arg("stderr").arg("-c").arg(config),
            Self::Haproxy => command.arg("-db").arg("-f").arg(config),
        };
        command
    }

    /// The first line of what it says about itself, with the TLS library where it names one.
    pub(crate) fn version(self) -> String {
        let flag = match self {
            Self::Countersign => "--version",
            Self::Nginx => "-V",
            Self::Haproxy => "-vv",
        };
        let output = Command::new(self.program()).arg(flag).stdin(Stdio::null()).output();
        let Ok(output) = output else { return "unknown".to_owned() };
        let text =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        let library = text
            .lines()
            .find(|line| line.starts_with("built with") || line.starts_with("Running on OpenSSL"));
        let first = text.lines().next().unwrap_or("unknown");
        [Some(first), library].into_iter().flatten().collect::<Vec<_>>().join("; ")
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Countersign => "countersign",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
        })
    }
}
