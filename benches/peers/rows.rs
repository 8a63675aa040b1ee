//! What is measured: one figure a row.

use std::time::Duration;

use clap::ValueEnum;
use countersign::load::{self, ByteSize, Mode, Report, RunArgs};

use super::{
    BenchError,
    pki::SERVER_NAME,
    site::{Behind, LOAD_CPU, Server, Site},
};

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Row {
    /// Memory of an idle connection.
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
}

/// How much of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scale {
    pub(crate) ramp: Duration,
    pub(crate) duration: Duration,
    pub(crate) idle_connections: u32,
}

impl Scale {
    pub(crate) const FULL: Self = Self {
        ramp: Duration::from_millis(500),
        duration: Duration::from_secs(4),
        idle_connections: 1000,
    };
    pub(crate) const SMOKE: Self = Self {
        ramp: Duration::from_millis(50),
        duration: Duration::from_millis(200),
        idle_connections: 50,
    };
}

impl Row {
    /// In the order of measuring: memory first, while the process is fresh.
    pub(crate) const ALL: [Self; 6] =
        [Self::Idle, Self::Full, Self::Resumed, Self::Request, Self::Down, Self::Up];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Full => "full",
            Self::Resumed => "resumed",
            Self::Request => "request",
            Self::Down => "down",
            Self::Up => "up",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Idle => "memory of an idle connection",
            Self::Full => "full mutual-TLS handshake, one byte there and back, close",
            Self::Resumed => "the same, resumed",
            Self::Request => "1 KiB round trip on 64 connections",
            Self::Down => "bulk to the client, 4 connections",
            Self::Up => "bulk to the backend, 4 connections",
        }
    }

    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Idle => "kB",
            Self::Full | Self::Resumed | Self::Request => "µs of CPU",
            Self::Down | Self::Up => "CPU-s a GB",
        }
    }

    fn mode(self) -> Mode {
        match self {
            Self::Idle => Mode::Hold,
            Self::Full => Mode::Full,
            Self::Resumed => Mode::Resumed,
            Self::Request => Mode::Request,
            Self::Down => Mode::Down,
            Self::Up => Mode::Up,
        }
    }

    fn connections(self, scale: Scale) -> u32 {
        match self {
            Self::Idle => scale.idle_connections,
            Self::Full | Self::Resumed => 16,
            Self::Request => 64,
            Self::Down | Self::Up => 4,
        }
    }

    /// Measures the row once.
    pub(crate) fn run(
        self,
        site: &Site,
        server: &Server,
        cipher: &str,
        scale: Scale,
    ) -> Result<Report, BenchError> {
        let behind = match self {
            Self::Down => Behind::Source,
            Self::Up => Behind::Discard,
            _ => Behind::Echo,
        };
        let duration = if self == Self::Idle { scale.duration / 4 } else { scale.duration };
        let report = load::run(&RunArgs {
            target: site.address(behind).to_string(),
            mode: self.mode(),
            ca: Some(site.pki.ca.clone()),
            sni: Some(SERVER_NAME.to_owned()),
            cert: vec![site.pki.client.clone()],
            key: vec![site.pki.client_key.clone()],
            tls: None,
            group: Some(load::Group::X25519),
            cipher: Some(cipher.to_owned()),
            connections: self.connections(scale),
            duration: Some(duration),
            count: None,
            size: ByteSize(1024),
            rate: None,
            threads: 1,
            cpus: LOAD_CPU.parse().ok(),
            ramp: scale.ramp,
            timeout: Duration::from_secs(10),
            server_pid: server.pids.clone(),
            server_cgroup: None,
            json: false,
            plain: false,
        })?;
        self.accept(&report)?;
        Ok(report)
    }

    /// The figure of the row.
    pub(crate) fn cost(self, report: &Report) -> Result<f64, BenchError> {
        let server = report.server.as_ref();
        match self {
            Self::Idle => server.and_then(|server| server.rss_kb_per_connection),
            Self::Down | Self::Up => server.and_then(|server| server.cpu_s_per_gb),
            _ => server.and_then(|server| server.cpu_us_per_operation),
        }
        .ok_or(BenchError::Empty(self.title()))
    }

    /// A figure counts only if all of the work was done, and was the work that the row names.
    fn accept(self, report: &Report) -> Result<(), BenchError> {
        let resumed = report.resumed_share.unwrap_or(0.0);
        let why = if !report.errors.is_empty() {
            format!("{:?}", report.error_examples)
        } else if self == Self::Resumed && resumed < MIN_RESUMED_SHARE {
            format!("only {:.1}% were resumed", resumed * 100.0)
        } else if self == Self::Full && report.handshakes_resumed > 0 {
            "some handshakes were resumed".to_owned()
        } else {
            return Ok(());
        };
        Err(BenchError::Failed {
            row: self.title(),
            failed: report.attempts - report.ok,
            attempts: report.attempts,
            why,
        })
    }
}

/// Below this, the row of resumed handshakes would be a mixture.
const MIN_RESUMED_SHARE: f64 = 0.99;
