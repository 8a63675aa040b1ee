//! What `countersign load` takes on the command line.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Subcommand, ValueEnum};

use super::units::{ByteSize, Rate};

/// `countersign load`: put a TLS terminator under load and say what it cost.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct LoadArgs {
    /// `backend`, or nothing to generate load.
    #[command(subcommand)]
    pub command: Option<LoadCommand>,
    /// The load to generate.
    #[command(flatten)]
    pub run: Option<RunArgs>,
}

/// The other halves of the load generator.
#[derive(Debug, Subcommand)]
pub enum LoadCommand {
    /// Serve as the plain-TCP server behind the terminator
    Backend(BackendArgs),
}

/// What one operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Connect, full handshake, one byte there and back, close (echo backend).
    Full,
    /// The same with a resumed session.
    Resumed,
    /// A round trip of --size bytes on an open connection (echo backend).
    Request,
    /// Receive as fast as it comes (source backend).
    Down,
    /// Send as fast as it goes (discard backend).
    Up,
    /// Send and receive at once (echo backend).
    Both,
    /// Open the connections, prove each with one byte, then stay idle (echo backend).
    Hold,
}

impl Mode {
    /// The word of the command line and the report.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Resumed => "resumed",
            Self::Request => "request",
            Self::Down => "down",
            Self::Up => "up",
            Self::Both => "both",
            Self::Hold => "hold",
        }
    }

    /// Whether bytes are counted rather than operations.
    #[must_use]
    pub fn is_bulk(self) -> bool {
        matches!(self, Self::Down | Self::Up | Self::Both)
    }
}

/// TLS versions that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TlsVersion {
    /// RFC 5246.
    #[value(name = "1.2")]
    Tls12,
    /// RFC 8446.
    #[value(name = "1.3")]
    Tls13,
}

/// Key-exchange groups that can be asked for, by their IANA names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Group {
    /// RFC 7748.
    #[value(name = "X25519")]
    X25519,
    /// draft-ietf-tls-ecdhe-mlkem.
    #[value(name = "X25519MLKEM768")]
    X25519MlKem768,
    /// NIST P-256.
    #[value(name = "secp256r1")]
    Secp256r1,
    /// NIST P-384.
    #[value(name = "secp384r1")]
    Secp384r1,
}

/// One run of the generator.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// The terminator, as address:port or name:port
    #[arg(long, value_name = "ADDR")]
    pub target: String,

    /// What one operation is
    #[arg(long, value_enum)]
    pub mode: Mode,

    /// CA certificates (PEM) that the terminator's certificate must chain to
    #[arg(long, value_name = "FILE", required_unless_present = "plain")]
    pub ca: Option<PathBuf>,

    /// Server name to ask for and to verify (default: the host of --target)
    #[arg(long, value_name = "NAME")]
    pub sni: Option<String>,

    /// Client certificate chain (PEM); several are used in rotation
    #[arg(long, value_name = "FILE")]
    pub cert: Vec<PathBuf>,

    /// Private key (PEM) of the --cert at the same position
    #[arg(long, value_name = "FILE")]
    pub key: Vec<PathBuf>,

    /// Offer this TLS version only
    #[arg(long, value_enum, value_name = "VERSION")]
    pub tls: Option<TlsVersion>,

    /// Offer this key-exchange group only
    #[arg(long, value_enum, value_name = "GROUP")]
    pub group: Option<Group>,

    /// Offer this cipher suite only, by its IANA name
    #[arg(long, value_name = "SUITE")]
    pub cipher: Option<String>,

    /// Connections at a time
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections: u32,

    /// How long to measure (default 10s)
    #[arg(long, value_parser = humantime::parse_duration, conflicts_with = "count")]
    pub duration: Option<Duration>,

    /// How many operations to measure, instead of --duration
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// Bytes of a request and of its answer
    #[arg(long, default_value = "1KiB", value_name = "SIZE")]
    pub size: ByteSize,

    /// Open loop: start this many operations a second, however long each takes
    #[arg(long)]
    pub rate: Option<Rate>,

    /// Generator threads
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: u16,

    /// CPUs to pin the threads to, in turn, such as 1,3 or 4-7
    #[arg(long, value_name = "LIST")]
    pub cpus: Option<CpuList>,

    /// Warm-up: connections start over this time, nothing of it is counted
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    pub ramp: Duration,

    /// How long one operation, connect or handshake may take
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    pub timeout: Duration,

    /// Processes whose CPU time and memory are the server's
    #[arg(long, value_name = "PID", value_delimiter = ',', conflicts_with = "server_cgroup")]
    pub server_pid: Vec<u32>,

    /// Control group whose CPU time and memory are the server's
    #[arg(long, value_name = "PATH")]
    pub server_cgroup: Option<PathBuf>,

    /// One JSON object instead of the table
    #[arg(long)]
    pub json: bool,

    /// No TLS: what the same work costs without a terminator's cryptography
    #[arg(long, conflicts_with_all = ["ca", "sni", "cert", "key", "tls", "group", "cipher"])]
    pub plain: bool,
}

/// What the backend does with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BackendMode {
    /// Send back what comes.
    Echo,
    /// Read until the end.
    Discard,
    /// Write until the peer closes.
    Source,
}

/// The plain-TCP server behind the terminator.
#[derive(Debug, Clone, Args)]
pub struct BackendArgs {
    /// What to do with each connection
    #[arg(long, value_enum)]
    pub mode: BackendMode,

    /// Where to listen
    #[arg(long, value_name = "ADDR")]
    pub listen: SocketAddr,

    /// Threads, each with its own listening socket
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: u16,

    /// CPUs to pin the threads to, in turn, such as 1,3 or 4-7
    #[arg(long, value_name = "LIST")]
    pub cpus: Option<CpuList>,
}

/// CPU numbers, never empty: `1`, `0,2` or `4-7`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuList(Vec<usize>);

impl CpuList {
    /// The CPU of the `index`-th thread.
    #[must_use]
    pub fn cpu_of(&self, index: usize) -> usize {
        self.0[index % self.0.len()]
    }
}

impl std::str::FromStr for CpuList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` isn't a list of CPUs such as 1,3 or 4-7");
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let first: usize = first.trim().parse().map_err(|_| wrong())?;
            let last: usize = last.trim().parse().map_err(|_| wrong())?;
            if first > last || last >= MAX_CPUS {
                return Err(wrong());
            }
            cpus.extend(first..=last);
        }
        Ok(Self(cpus))
    }
}

/// What a `cpu_set_t` has room for (CPU_SET(3)); placing a thread beyond it would panic.
const MAX_CPUS: usize = 1024;

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        load: LoadArgs,
    }

    fn parse(line: &str) -> Result<LoadArgs, clap::Error> {
        Cli::try_parse_from(line.split_whitespace()).map(|cli| cli.load)
    }

    #[test]
    fn a_run_needs_a_target_a_mode_and_a_ca() {
        assert!(parse("load").is_err());
        assert!(parse("load --target a:1 --mode full").is_err());
        let run = parse("load --target a:1 --mode full --ca ca.pem").unwrap().run.unwrap();
        assert_eq!((run.mode, run.connections, run.size), (Mode::Full, 16, ByteSize(1024)));
    }

    #[test]
    fn a_plain_run_takes_no_tls_options() {
        assert!(parse("load --target a:1 --mode request --plain").is_ok());
        assert!(parse("load --target a:1 --mode request --plain --ca ca.pem").is_err());
    }

    #[test]
    fn the_backend_needs_nothing_of_a_run() {
        let args = parse("load backend --mode echo --listen 127.0.0.1:1 --cpus 1").unwrap();
        let Some(LoadCommand::Backend(backend)) = args.command else {
            panic!("not the backend");
        };
        assert_eq!(backend.mode, BackendMode::Echo);
        assert!(args.run.is_none());
    }

    #[test]
    fn several_pids_and_the_iana_names_of_groups_are_understood() {
        let run = parse(
            "load --target a:1 --mode full --ca c --server-pid 1,2 --group X25519MLKEM768 \
             --tls 1.3 --rate 2k/s --duration 1500ms",
        )
        .unwrap()
        .run
        .unwrap();
        assert_eq!(run.server_pid, [1, 2]);
        assert_eq!(run.group, Some(Group::X25519MlKem768));
        assert_eq!(run.duration, Some(Duration::from_millis(1500)));
    }

    #[test]
    fn lists_of_cpus_wrap_around() {
        let cpus: CpuList = "1,4-5".parse().unwrap();
        assert_eq!([0, 1, 2, 3].map(|i| cpus.cpu_of(i)), [1, 4, 5, 1]);
        assert!("1024".parse::<CpuList>().is_err());
        assert!("5-4".parse::<CpuList>().is_err());
        assert!("".parse::<CpuList>().is_err());
    }
}
