//! What is measured: one run of the load generator, and the figures that it gives.

use std::{slice, thread, time::Duration};

use clap::ValueEnum;
use countersign::load::{self, ByteSize, Group, Latency, Mode, Report, RunArgs, ServerCost};

use super::{
    BenchError, Peer,
    handshakes::Handshake,
    pki::{Files, SERVER_NAME},
    site::{Behind, Placement, Server, Site},
};

/// Which question a run answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    /// What all kinds of work cost.
    Work,
    /// What handshakes cost by their kind and by how many there are at a time.
    Handshakes,
}

/// One kind of work. Those from [`Row::Lone`] on belong to [`Table::Handshakes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Row {
    /// Memory of idle connections.
    Idle,
    /// A full mutual-TLS handshake.
    Full,
    /// A resumed handshake.
    Resumed,
    /// A round trip of 1 KiB.
    Request,
    /// Bulk from the backend to the client.
    Down,
    /// Bulk from the client to the backend.
    Up,
    /// How long round trips take beside bulk.
    Beside,
    /// How long a lone client waits for a full handshake.
    Lone,
    /// Full handshakes at a time: P-256, X25519.
    Ecdsa,
    /// The same, where the server's certificate is for an RSA key.
    Rsa,
    /// The same, where the client shows an intermediate CA as well.
    Intermediate,
    /// The same, with many clients of such a CA in rotation.
    Identities,
    /// The same, where no client has been seen before.
    NewChains,
    /// The same as `ecdsa`, with X25519MLKEM768.
    Hybrid,
    /// Resumed handshakes at a time.
    ResumedMany,
}

/// One figure of a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Line {
    /// Its name in the file for machines.
    pub(crate) name: String,
    /// What it is.
    pub(crate) title: String,
    /// Of the figure; less is always better.
    pub(crate) unit: &'static str,
}

/// How much of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scale {
    pub(crate) ramp: Duration,
    pub(crate) duration: Duration,
    /// Numbers of idle connections, ascending; each is measured with a server of its own.
    pub(crate) idle_connections: &'static [u32],
    /// How many clients make handshakes at a time.
    pub(crate) clients: &'static [u32],
    /// Handshakes with chains that are new to the server.
    pub(crate) new_chains: usize,
}

/// Whom to load and how, apart from what the row says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load<'a> {
    pub(crate) site: &'a Site,
    pub(crate) cipher: &'a str,
    pub(crate) scale: Scale,
    pub(crate) placement: Placement,
    /// Whether a failed operation of any server ends the comparison, instead of leaving out that
    /// row of that server.
    pub(crate) strict: bool,
}

impl Scale {
    pub(crate) const FULL: Self = Self {
        ramp: Duration::from_millis(500),
        duration: Duration::from_secs(4),
        idle_connections: &[250, 500, 1000],
        clients: &[64, 256],
        new_chains: 4096,
    };
    pub(crate) const SMOKE: Self = Self {
        ramp: Duration::from_millis(50),
        duration: Duration::from_millis(500),
        idle_connections: &[50],
        clients: &[8, 16],
        new_chains: 64,
    };

    /// The highest number of idle connections: its memory is the row's figure.
    fn most_idle(self) -> u32 {
        self.idle_connections.last().copied().unwrap_or(1)
    }
}

/// Below this, the row of resumed handshakes would be a mixture.
const MIN_RESUMED_SHARE: f64 = 0.99;
/// Bulk connections, alone and beside round trips.
const BULK_CONNECTIONS: u32 = 4;
/// How much longer the downloads go on than the round trips beside them.
const OVERLAP: Duration = Duration::from_millis(300);

impl Row {
    const WORK: [Self; 7] =
        [Self::Idle, Self::Full, Self::Resumed, Self::Request, Self::Down, Self::Up, Self::Beside];
    const HANDSHAKES: [Self; 8] = [
        Self::Lone,
        Self::Ecdsa,
        Self::Rsa,
        Self::Intermediate,
        Self::Identities,
        Self::NewChains,
        Self::Hybrid,
        Self::ResumedMany,
    ];

    /// All of a table, in its order.
    pub(crate) fn all(table: Table) -> &'static [Self] {
        match table {
            Table::Work => &Self::WORK,
            Table::Handshakes => &Self::HANDSHAKES,
        }
    }

    /// As on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    pub(crate) fn is_of(self, table: Table) -> bool {
        Self::all(table).contains(&self)
    }

    /// Those that are measured with several workers as well.
    pub(crate) const SCALING: [Self; 2] = [Self::Full, Self::Request];

    /// The figures, in the order of the table.
    pub(crate) fn lines(self, scale: Scale) -> Vec<Line> {
        let line = |name: &str, title: String, unit| Line { name: name.to_owned(), title, unit };
        let micros = "µs of CPU";
        let per_gb = "CPU-s a GB";
        match self {
            Self::Idle => {
                let most = scale.most_idle();
                let first = line("idle", format!("memory of an idle connection, of {most}"), "kB");
                let total = |&count: &u32| {
                    line(&rss_name(count), format!("memory with {count} idle connections"), "MB")
                };
                let totals = [0].iter().chain(scale.idle_connections).map(total);
                std::iter::once(first).chain(totals).collect()
            }
            Self::Full => vec![line("full", "full mTLS handshake".to_owned(), micros)],
            Self::Resumed => vec![line("resumed", "resumed handshake".to_owned(), micros)],
            Self::Request => {
                let title = "1 KiB round trip, 64 connections".to_owned();
                vec![line("request", title, micros)]
            }
            Self::Down => vec![line("down", "bulk to the client".to_owned(), per_gb)],
            Self::Up => vec![line("up", "bulk to the backend".to_owned(), per_gb)],
            Self::Beside => QUANTILES
                .iter()
                .map(|(quantile, _)| {
                    let title = format!("1 KiB round trip beside 4 downloads, {quantile}");
                    line(&format!("beside-{quantile}"), title, "µs")
                })
                .collect(),
            handshake => Handshake::of(handshake).lines(scale),
        }
    }

    fn mode(self) -> Mode {
        match self {
            Self::Idle => Mode::Hold,
            Self::Resumed | Self::ResumedMany => Mode::Resumed,
            Self::Request | Self::Beside => Mode::Request,
            Self::Down => Mode::Down,
            Self::Up => Mode::Up,
            _ => Mode::Full,
        }
    }

    /// How many connections there are at a time, in as many runs.
    pub(crate) fn connections(self, scale: Scale) -> &'static [u32] {
        match self {
            Self::Idle => scale.idle_connections,
            Self::Full | Self::Resumed => &[16],
            Self::Request => &[64],
            Self::Down | Self::Up => &[BULK_CONNECTIONS],
            Self::Beside => &[8],
            handshake => Handshake::of(handshake).clients(scale),
        }
    }

    /// Which port of the server it loads.
    pub(crate) fn behind(self) -> Behind {
        match self {
            Self::Down => Behind::Source,
            Self::Up => Behind::Discard,
            Self::Rsa => Behind::RsaEcho,
            _ => Behind::Echo,
        }
    }

    /// Whether it is a question to ask of that server: without TLS there is one kind of
    /// handshake, and no session.
    pub(crate) fn suits(self, peer: Peer) -> bool {
        let of_tls = match self {
            Self::Lone | Self::Ecdsa => false,
            Self::Resumed => true,
            row => row.is_of(Table::Handshakes),
        };
        peer.speaks_tls() || !of_tls
    }

    /// Measures the row once, with that many of its [`Row::connections`].
    pub(crate) fn run(
        self,
        load: Load<'_>,
        server: &Server,
        connections: u32,
    ) -> Result<Report, BenchError> {
        let mut args = self.args(load, server);
        args.connections = connections;
        if self == Self::Hybrid {
            can_agree(&args)?;
        }
        let downloads = (self == Self::Beside).then(|| {
            let mut args = Self::Down.args(load, server);
            args.duration = Some(load.scale.duration + OVERLAP);
            thread::spawn(move || load::run(&args))
        });
        let report = load::run(&args);
        if let Some(downloads) = downloads {
            let downloads =
                downloads.join().map_err(|_| BenchError::Empty("downloads".to_owned()))??;
            Self::Down.accept(&downloads)?;
        }
        let report = report?;
        self.accept(&report)?;
        Ok(report)
    }

    fn args(self, load: Load<'_>, server: &Server) -> RunArgs {
        let Load { site, cipher, scale, placement, .. } = load;
        let duration = if self == Self::Idle { scale.duration / 4 } else { scale.duration };
        let tls = server.peer().speaks_tls();
        let identities: &[Files] = match self {
            _ if !tls => &[],
            Self::Intermediate => site.pki.chained.get(..1).unwrap_or_default(),
            Self::Identities => &site.pki.chained,
            Self::NewChains => &site.pki.new_chains,
            _ => slice::from_ref(&site.pki.client),
        };
        let group = if self == Self::Hybrid { Group::X25519MlKem768 } else { Group::X25519 };
        // Each of the new chains is shown once, and so none before the window.
        let count = (self == Self::NewChains).then_some(identities.len() as u64);
        RunArgs {
            target: site.address(self.behind()).to_string(),
            mode: self.mode(),
            ca: tls.then(|| site.pki.ca.clone()),
            sni: tls.then(|| SERVER_NAME.to_owned()),
            cert: identities.iter().map(|files| files.chain.clone()).collect(),
            key: identities.iter().map(|files| files.key.clone()).collect(),
            // The suite is of one version.
            tls: None,
            group: tls.then_some(group),
            cipher: tls.then(|| cipher.to_owned()),
            connections: self.connections(scale).iter().copied().max().unwrap_or(1),
            duration: count.is_none().then_some(duration),
            count,
            size: ByteSize(1024),
            rate: None,
            threads: placement.load_threads(),
            cpus: placement.load_cpus(),
            ramp: if count.is_none() { scale.ramp } else { Duration::ZERO },
            timeout: Duration::from_secs(10),
            server_pid: server.pids(self.behind()),
            server_cgroup: None,
            json: false,
            plain: !tls,
        }
    }

    /// The figures that a report gives, with the names of their [`Row::lines`].
    pub(crate) fn figures(
        self,
        scale: Scale,
        report: &Report,
    ) -> Result<Vec<(String, f64)>, BenchError> {
        let figures = report.server.as_ref().and_then(|server| match self {
            Self::Idle => memory(server, report.connections, scale),
            Self::Full => Some(vec![("full".to_owned(), server.cpu_us_per_operation?)]),
            Self::Resumed => Some(vec![("resumed".to_owned(), server.cpu_us_per_operation?)]),
            Self::Request => Some(vec![("request".to_owned(), server.cpu_us_per_operation?)]),
            Self::Down => Some(vec![("down".to_owned(), server.cpu_s_per_gb?)]),
            Self::Up => Some(vec![("up".to_owned(), server.cpu_s_per_gb?)]),
            Self::Beside => {
                let latency = report.latency.as_ref()?;
                let figure =
                    |(name, of): &(&str, Quantile)| (format!("beside-{name}"), of(latency));
                Some(QUANTILES.iter().map(figure).collect())
            }
            handshake => Some(vec![Handshake::of(handshake).figure(report)?]),
        });
        figures.ok_or(BenchError::Empty(self.name()))
    }

    /// What the generator used itself, in the unit of the row's first line, with the backends, which
    /// are threads of its process. `None` where it does two kinds of work at once, or waits.
    pub(crate) fn own_cost(self, report: &Report) -> Option<f64> {
        let bytes = report.bytes_down + report.bytes_up;
        #[expect(clippy::cast_precision_loss, reason = "a run moves less than 2^52 bytes")]
        match self {
            Self::Idle | Self::Beside | Self::Lone => None,
            Self::Down | Self::Up if bytes == 0 => None,
            Self::Down | Self::Up => Some(report.generator_cpu_s * 1e9 / bytes as f64),
            _ => report.generator_cpu_us_per_operation,
        }
    }

    /// A figure counts only if all of the work was done, and was the work that the row names.
    fn accept(self, report: &Report) -> Result<(), BenchError> {
        let row = self.name();
        if !report.all_succeeded() || report.warmup_errors > 0 {
            return Err(BenchError::Failed {
                row,
                failed: report.attempts - report.ok + report.warmup_errors,
                attempts: report.attempts + report.warmup_errors,
                why: format!("{:?}", report.error_examples),
            });
        }
        let resumed = report.resumed_share.unwrap_or(0.0);
        if self.mode() == Mode::Resumed && resumed < MIN_RESUMED_SHARE {
            let why = format!("only {:.1}% of its handshakes were resumed", resumed * 100.0);
            return Err(BenchError::OtherWork { row, why });
        }
        if self.mode() == Mode::Full && report.handshakes_resumed > 0 {
            let why = "some of its handshakes were resumed".to_owned();
            return Err(BenchError::OtherWork { row, why });
        }
        Ok(())
    }
}

/// Whether the server knows the group of these handshakes: one of them tells.
fn can_agree(args: &RunArgs) -> Result<(), BenchError> {
    let once = RunArgs {
        connections: 1,
        count: Some(1),
        duration: None,
        ramp: Duration::ZERO,
        ..args.clone()
    };
    if load::run(&once)?.all_succeeded() {
        return Ok(());
    }
    let why = "the server doesn't know the group".to_owned();
    Err(BenchError::OtherWork { row: Row::Hybrid.name(), why })
}

/// Reads a quantile, µs.
type Quantile = fn(&Latency) -> f64;

/// The quantiles of a latency that are shown.
pub(crate) const QUANTILES: [(&str, Quantile); 4] = [
    ("p50", |latency| latency.p50_us),
    ("p90", |latency| latency.p90_us),
    ("p99", |latency| latency.p99_us),
    ("p99.9", |latency| latency.p99_9_us),
];

/// The name of the figure of all memory with that many idle connections.
pub(crate) fn rss_name(connections: u32) -> String {
    format!("rss-{connections}")
}

/// Memory by connection comes from the highest number, that without any from the lowest.
fn memory(server: &ServerCost, connections: u32, scale: Scale) -> Option<Vec<(String, f64)>> {
    #[expect(clippy::cast_precision_loss, reason = "no process has 2^52 kB")]
    let megabytes = |kb: u64| kb as f64 * 1024.0 / 1e6;
    let mut figures = vec![(rss_name(connections), megabytes(server.rss_held_kb?))];
    if scale.idle_connections.first() == Some(&connections) {
        figures.push((rss_name(0), megabytes(server.rss_before_kb?)));
    }
    if connections == scale.most_idle() {
        figures.push(("idle".to_owned(), server.rss_kb_per_connection?));
    }
    Some(figures)
}
