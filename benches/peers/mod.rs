//! The servers that are compared, and what it takes to run them.

pub(crate) mod config;
pub(crate) mod floor;
pub(crate) mod handshakes;
pub(crate) mod pki;
pub(crate) mod plots;
pub(crate) mod results;
pub(crate) mod rows;
pub(crate) mod site;
pub(crate) mod tables;
pub(crate) mod throughput;

// The record layer's tests know how to connect it to rustls.
#[path = "../../tests/record_layer/offline.rs"]
#[allow(dead_code, reason = "tests use the rest")]
#[allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "tests may panic")]
mod offline;
#[path = "../../tests/record_layer/rustls_peer.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "as above")]
mod rustls_peer;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use clap::ValueEnum;
use countersign::load::LoadError;
use rows::Table;

/// A server under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Peer {
    /// The release build of this crate, or `COUNTERSIGN_BIN`.
    Countersign,
    /// The same, computing each handshake for itself.
    CountersignScalar,
    /// The same, with crypto_mb verifying clients' signatures as well.
    CountersignVerify,
    /// nginx with its stream module.
    Nginx,
    /// HAProxy in TCP mode.
    Haproxy,
    /// stunnel as a TLS server.
    Stunnel,
    /// hitch.
    Hitch,
    /// No terminator: a plain TCP relay on countersign's sockets, which this program is itself.
    Floor,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    #[error("no server to measure: build countersign with --release, or install one of the others")]
    NothingToMeasure,
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("rows of two tables can't be measured in one run: --handshakes has rows of its own")]
    Rows,
    #[error("{peer} didn't start: {reason}; {state}")]
    NotStarted { peer: Peer, reason: String, state: String },
    #[error("can't make certificates: {0}")]
    Pki(#[from] rcgen::Error),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("{row}: {failed} of {attempts} operations failed, so the numbers mean nothing: {why}")]
    Failed { row: String, failed: u64, attempts: u64, why: String },
    #[error("{row}: {why}")]
    OtherWork { row: String, why: String },
    #[error("{0}: the run measured nothing")]
    Empty(String),
    #[error("can't draw {file}: {reason}")]
    Plot { file: PathBuf, reason: String },
}

impl BenchError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// Whether it means that a server can't do the work of a row, and no more than that. A
    /// `strict` comparison forgives no failed operation.
    pub(crate) fn leaves_out(&self, strict: bool) -> bool {
        match self {
            Self::OtherWork { .. } => true,
            Self::Failed { .. } => !strict,
            _ => false,
        }
    }
}

impl Peer {
    const ALL: [Self; 8] = [
        Self::Countersign,
        Self::CountersignScalar,
        Self::CountersignVerify,
        Self::Nginx,
        Self::Haproxy,
        Self::Stunnel,
        Self::Hitch,
        Self::Floor,
    ];

    /// Those of a table whose program is there; says on standard error which are not.
    pub(crate) fn installed(table: Table) -> Vec<Self> {
        // How handshakes are computed shows in the table of handshakes.
        let wanted = |peer: &Self| {
            *peer == Self::Countersign || !peer.is_ours() || table == Table::Handshakes
        };
        let (there, missing): (Vec<_>, Vec<_>) =
            Self::ALL.into_iter().filter(wanted).partition(|peer| peer.program().is_file());
        for peer in missing {
            let program = peer.program();
            let variable = peer.variable();
            eprintln!("LEFT OUT: {peer}, there is no {} (see {variable})", program.display());
        }
        there
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Countersign => "countersign",
            Self::CountersignScalar => "countersign-scalar",
            Self::CountersignVerify => "countersign-verify",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Stunnel => "stunnel",
            Self::Hitch => "hitch",
            Self::Floor => "floor",
        }
    }

    /// Whether the client speaks TLS to it.
    pub(crate) fn speaks_tls(self) -> bool {
        self != Self::Floor
    }

    /// Whether it is what is compared with the others, in one form or another.
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Countersign | Self::CountersignScalar | Self::CountersignVerify)
    }

    /// Whether countersign is compared with it.
    pub(crate) fn is_other_terminator(self) -> bool {
        !self.is_ours() && self != Self::Floor
    }

    /// The environment variable that names another program.
    fn variable(self) -> &'static str {
        match self {
            Self::Countersign | Self::CountersignScalar | Self::CountersignVerify => {
                "COUNTERSIGN_BIN"
            }
            Self::Nginx => "COUNTERSIGN_BENCH_NGINX",
            Self::Haproxy => "COUNTERSIGN_BENCH_HAPROXY",
            Self::Stunnel => "COUNTERSIGN_BENCH_STUNNEL",
            Self::Hitch => "COUNTERSIGN_BENCH_HITCH",
            Self::Floor => "COUNTERSIGN_BENCH_FLOOR",
        }
    }

    pub(crate) fn program(self) -> PathBuf {
        std::env::var_os(self.variable()).map_or_else(
            || match self {
                Self::Countersign | Self::CountersignScalar | Self::CountersignVerify => {
                    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/release/countersign")
                }
                Self::Nginx => "/usr/sbin/nginx".into(),
                Self::Haproxy => "/usr/sbin/haproxy".into(),
                Self::Stunnel => "/usr/bin/stunnel4".into(),
                Self::Hitch => "/usr/sbin/hitch".into(),
                Self::Floor => std::env::current_exe().unwrap_or_default(),
            },
            PathBuf::from,
        )
    }

    /// How it is started in the foreground with `config`.
    pub(crate) fn command(self, config: &Path) -> Command {
        let mut command = Command::new(self.program());
        match self {
            Self::Countersign | Self::CountersignScalar | Self::CountersignVerify => {
                command.arg("run").arg("--config").arg(config)
            }
            Self::Nginx => command.arg("-e").arg("stderr").arg("-c").arg(config),
            Self::Haproxy => command.arg("-db").arg("-f").arg(config),
            Self::Stunnel => command.arg(config),
            Self::Hitch => command.arg("--config").arg(config),
            Self::Floor => command.args(["--bench", "--floor"]).arg(config),
        };
        command
    }

    /// What it calls itself, with the TLS library where it names one.
    pub(crate) fn version(self) -> String {
        if self == Self::Floor {
            return "a plain TCP relay on the sockets and the ring of this countersign".to_owned();
        }
        let text = self.about(&[match self {
            Self::Nginx | Self::Hitch => "-V",
            Self::Haproxy => "-vv",
            Self::Stunnel => "-version",
            _ => "--version",
        }]);
        let name = if self.is_ours() { Self::Countersign.name() } else { self.name() };
        let own = text.lines().find(|line| line.to_ascii_lowercase().starts_with(name));
        let library = text.lines().find(|line| {
            line.starts_with("built with")
                || (line.starts_with("Running ") && line.contains("OpenSSL"))
        });
        [own.or(Some("unknown")), library].into_iter().flatten().collect::<Vec<_>>().join("; ")
    }

    /// What countersign's doctor says of crypto_mb, from that file or where it looks itself;
    /// `None` if nothing.
    pub(crate) fn engine(self, library: Option<&Path>) -> Option<String> {
        let library = library.and_then(Path::to_str);
        let arguments: Vec<_> =
            ["doctor"].into_iter().chain(library.map(|_| "--crypto-mb")).chain(library).collect();
        let text = self.about(&arguments);
        let mut lines = text.lines().filter_map(|line| line.split_once(" crypto_mb "));
        // The version, and behind more than one space what else there is to say; or why not.
        lines.next()?.1.trim().split("  ").next().map(str::to_owned)
    }

    /// All that it prints when run with these arguments; nothing if it can't be run.
    fn about(self, arguments: &[&str]) -> String {
        let output = Command::new(self.program()).args(arguments).stdin(Stdio::null()).output();
        output.map_or_else(
            |_| String::new(),
            |output| {
                String::from_utf8_lossy(&output.stdout).into_owned()
                    + &String::from_utf8_lossy(&output.stderr)
            },
        )
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
