//! What came of it, for people and for machines.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use countersign::load::Report;
use serde::Serialize;
use time::{OffsetDateTime, macros::format_description};

use crate::{Failed, client::Counts};

/// Where it was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    date: String,
    host: String,
    cpu: String,
    kernel: String,
}

impl Machine {
    pub(crate) fn here() -> Result<Self, Failed> {
        let info = fs::read_to_string("/proc/cpuinfo")?;
        let model = info.lines().find_map(|line| line.strip_prefix("model name"));
        let trimmed =
            |file: &str| -> io::Result<String> { Ok(fs::read_to_string(file)?.trim().to_owned()) };
        Ok(Self {
            date: OffsetDateTime::now_utc().format(format_description!("[year]-[month]-[day]"))?,
            host: trimmed("/proc/sys/kernel/hostname")?,
            cpu: model.unwrap_or("unknown").trim_start_matches([' ', '\t', ':']).to_owned(),
            kernel: trimmed("/proc/sys/kernel/osrelease")?,
        })
    }
}

/// How long round trips took, µs from their intended start.
#[derive(Debug, Serialize)]
pub(crate) struct Times {
    p50_us: f64,
    p99_us: f64,
    max_us: f64,
}

impl Times {
    pub(crate) fn of(report: &Report) -> Result<Self, Failed> {
        let latency = report.latency.as_ref().ok_or("no round trip was measured")?;
        Ok(Self { p50_us: latency.p50_us, p99_us: latency.p99_us, max_us: latency.max_us })
    }
}

/// What became of the handshakes of a window, a second.
#[derive(Debug, Serialize)]
pub(crate) struct Loads {
    pub(crate) offered_per_s: f64,
    pub(crate) served_per_s: f64,
    turned_away: u64,
    gave_up: u64,
    stuck: u64,
    served_p50_ms: f64,
    served_p99_ms: f64,
    /// Of the server's CPU, and of the one of everything else.
    server_busy: f64,
    load_busy: f64,
}

impl Loads {
    pub(crate) fn new(counts: &Counts) -> Self {
        let window_s = counts.window.as_secs_f64();
        let share = |used: Duration| used.as_secs_f64() / window_s;
        let mut took_us = counts.took_us.clone();
        took_us.sort_unstable();
        Self {
            offered_per_s: number(counts.offered) / window_s,
            served_per_s: number(counts.served_in_window) / window_s,
            turned_away: counts.turned_away,
            gave_up: counts.gave_up,
            stuck: counts.stuck,
            served_p50_ms: quantile_ms(&took_us, 50),
            served_p99_ms: quantile_ms(&took_us, 99),
            server_busy: share(counts.server_cpu),
            load_busy: share(counts.own_cpu),
        }
    }
}

/// What became of the partner.
#[derive(Debug, Serialize)]
pub(crate) struct Partner {
    attempts: u64,
    served: u64,
    p50_ms: f64,
    p99_ms: f64,
}

impl Partner {
    pub(crate) fn new(counts: &Counts) -> Self {
        let mut took_us = counts.took_us.clone();
        took_us.sort_unstable();
        Self {
            attempts: counts.offered,
            served: counts.served,
            p50_ms: quantile_ms(&took_us, 50),
            p99_ms: quantile_ms(&took_us, 99),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn number(count: u64) -> f64 {
    count as f64
}

/// Of sorted values; 0 of none.
fn quantile_ms(sorted_us: &[u64], percent: usize) -> f64 {
    let place = (sorted_us.len() * percent / 100).min(sorted_us.len().saturating_sub(1));
    sorted_us.get(place).map_or(0.0, |us| number(*us) / 1000.0)
}

/// All of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) command: Vec<String>,
    pub(crate) key: &'static str,
    /// In the server's words.
    pub(crate) engine: String,
    pub(crate) offered_times_capacity: f64,
    pub(crate) stuck_share: f64,
    pub(crate) patience_ms: u64,
    pub(crate) quiet: Times,
    pub(crate) beside: Times,
    /// Round trips that failed, or for which no connection was free.
    pub(crate) beside_failed: u64,
    pub(crate) capacity: Loads,
    pub(crate) storm: Loads,
    pub(crate) partner: Partner,
    pub(crate) rss_before_kb: u64,
    pub(crate) rss_peak_kb: u64,
    pub(crate) shed: BTreeMap<String, f64>,
    pub(crate) in_flight_after: f64,
}

impl Results {
    pub(crate) fn markdown(&self) -> String {
        let Self { machine, quiet, beside, capacity, storm, partner, .. } = self;
        let Machine { date, cpu, kernel, .. } = machine;
        let stuck = self.stuck_share * 100.0;
        let megabytes = |kb: u64| number(kb) * 1024.0 / 1e6;
        let shed: Vec<_> = self
            .shed
            .iter()
            .filter(|(_, count)| **count > 0.0)
            .map(|(reason, count)| format!("`{reason}` {count}"))
            .collect();
        let command = self.command.join(" ");
        format!(
            "# A storm of handshakes\n\n\
             {date} · {cpu} · Linux {kernel} · `cargo bench --bench storm -- {command}`\n\n\
             One worker on CPU 0, everything else on CPU 1. Server key {key}, X25519, TLS 1.3, \
             mutual; handshakes are {engine}. The storm offers {times} times the capacity from 250 addresses; {stuck:.0}% of \
             its clients never finish, the others give up after {patience} ms.\n\n\
             | | quiet | in the storm | ratio |\n|---|---|---|---|\n\
             | 1 KiB round trip on established connections, p50, µs | {:.0} | {:.0} | {:.1} |\n\
             | p99, µs | {:.0} | {:.0} | {:.1} |\n\
             | longest, µs | {:.0} | {:.0} | {:.1} |\n\n\
             Round trips that failed or found no connection in the storm: {}.\n\n\
             | | closed loop | storm | ratio |\n|---|---|---|---|\n\
             | offered, handshakes/s | {:.0} | {:.0} | {:.2} |\n\
             | served, handshakes/s | {:.0} | {:.0} | {:.2} |\n\
             | served within, p50, ms | {:.1} | {:.1} | |\n\
             | served within, p99, ms | {:.1} | {:.1} | |\n\
             | turned away | {} | {} | |\n\
             | gave up | {} | {} | |\n\
             | never finish | {} | {} | |\n\
             | server's CPU | {:.0}% | {:.0}% | |\n\
             | CPU of all else | {:.0}% | {:.0}% | |\n\n\
             The partner, whose address was let in before: {} of {} handshakes, p50 {:.1} ms, p99 \
             {:.1} ms.\n\n\
             Memory of the server: {:.1} MB before, {:.1} MB at most. Handshakes in flight \
             afterwards: {}.\n\n\
             Turned away by the server: {}.\n",
            quiet.p50_us,
            beside.p50_us,
            beside.p50_us / quiet.p50_us,
            quiet.p99_us,
            beside.p99_us,
            beside.p99_us / quiet.p99_us,
            quiet.max_us,
            beside.max_us,
            beside.max_us / quiet.max_us,
            self.beside_failed,
            capacity.offered_per_s,
            storm.offered_per_s,
            storm.offered_per_s / capacity.offered_per_s,
            capacity.served_per_s,
            storm.served_per_s,
            storm.served_per_s / capacity.served_per_s,
            capacity.served_p50_ms,
            storm.served_p50_ms,
            capacity.served_p99_ms,
            storm.served_p99_ms,
            capacity.turned_away,
            storm.turned_away,
            capacity.gave_up,
            storm.gave_up,
            capacity.stuck,
            storm.stuck,
            capacity.server_busy * 100.0,
            storm.server_busy * 100.0,
            capacity.load_busy * 100.0,
            storm.load_busy * 100.0,
            partner.served,
            partner.attempts,
            partner.p50_ms,
            partner.p99_ms,
            megabytes(self.rss_before_kb),
            megabytes(self.rss_peak_kb),
            self.in_flight_after,
            if shed.is_empty() { "nobody".to_owned() } else { shed.join(", ") },
            key = self.key,
            engine = self.engine,
            times = self.offered_times_capacity,
            patience = self.patience_ms,
        )
    }

    /// Writes both files; which they are.
    pub(crate) fn write(&self, folder: &Path) -> Result<[PathBuf; 2], Failed> {
        fs::create_dir_all(folder)?;
        let stem = format!("{}-{}-storm", self.machine.date, self.machine.host);
        let file = |extension: &str| folder.join(format!("{stem}.{extension}"));
        let (json, markdown) = (file("json"), file("md"));
        fs::write(&json, format!("{}\n", serde_json::to_string_pretty(self)?))?;
        fs::write(&markdown, self.markdown())?;
        Ok([json, markdown])
    }
}
