//! What a run found out, for people and for machines.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::Serialize;

use super::{
    options::{Mode, RunArgs},
    stats::{Stats, TotalsAt},
};

/// One run. Units are in the names; `GB` is 10⁹ bytes, `kb` of memory is 1024 bytes as in `/proc`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// `--mode`.
    pub mode: &'static str,
    /// `--target`.
    pub target: String,
    /// As negotiated by the first handshake; `None` without TLS.
    pub tls_version: Option<String>,
    /// IANA name; `None` without TLS.
    pub cipher_suite: Option<String>,
    /// IANA name, `none` where no key was agreed on; `None` without TLS.
    pub key_exchange_group: Option<String>,
    /// `--connections`.
    pub connections: u32,
    /// `--threads`.
    pub threads: u16,
    /// `--size`; `None` where operations have no size.
    pub request_bytes: Option<u64>,
    /// `--rate`; `None` in closed loop.
    pub intended_rate_per_s: Option<f64>,
    /// Length of the measured window.
    pub window_s: f64,
    /// Operations that started in the window: `ok` plus all of `errors`. In bulk and hold modes,
    /// connections.
    pub attempts: u64,
    /// Those that ended well.
    pub ok: u64,
    /// Those that didn't, by kind.
    pub errors: BTreeMap<String, u64>,
    /// What the first error of each kind said.
    pub error_examples: BTreeMap<String, String>,
    /// Open loop: starts that were due in the window while every connection was still busy.
    pub unstarted: u64,
    /// Operations before the window that ended well.
    pub warmup_ok: u64,
    /// Operations before the window that failed.
    pub warmup_errors: u64,
    /// Operations that ended well within the window, whenever they started.
    pub completed_in_window: u64,
    /// Of them, a second.
    pub operations_per_s: f64,
    /// Handshakes of the window's operations.
    pub handshakes: u64,
    /// Those that resumed a session.
    pub handshakes_resumed: u64,
    /// Their share, 0 to 1; `None` if there was no handshake.
    pub resumed_share: Option<f64>,
    /// Of operations that ended well; in hold mode of opening the connections.
    pub latency: Option<Latency>,
    /// Plaintext received in the window (bulk modes).
    pub bytes_down: u64,
    /// Plaintext handed to sockets in the window (bulk modes).
    pub bytes_up: u64,
    /// Received, 10⁶ bytes a second.
    pub down_mb_per_s: f64,
    /// Sent, 10⁶ bytes a second.
    pub up_mb_per_s: f64,
    /// What the server used, if asked.
    pub server: Option<ServerCost>,
    /// CPU time of the generator in the window; with all else that its process does.
    pub generator_cpu_s: f64,
    /// That by operation; `None` in bulk and hold modes.
    pub generator_cpu_us_per_operation: Option<f64>,
    /// That by its threads' time, 0 to 1. Near 1, the generator is the limit.
    pub generator_busy_share: f64,
}

/// Microseconds from the intended start, which in closed loop is the start.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Latency {
    /// Whether waiting for a free connection counts (open loop).
    pub from_intended_start: bool,
    /// The shortest.
    pub min_us: f64,
    /// The mean.
    pub mean_us: f64,
    /// Half took at most this long.
    pub p50_us: f64,
    /// 90% took at most this long.
    pub p90_us: f64,
    /// 99% took at most this long.
    pub p99_us: f64,
    /// 99.9% took at most this long.
    pub p99_9_us: f64,
    /// The longest.
    pub max_us: f64,
}

/// What the server's processes used in the window.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServerCost {
    /// CPU time, user and system.
    pub cpu_s: f64,
    /// CPU time by the window's length; 1 is one CPU all the time.
    pub cpu_busy: f64,
    /// CPU time by operation; `None` in bulk and hold modes.
    pub cpu_us_per_operation: Option<f64>,
    /// CPU time by 10⁹ bytes in both directions; `None` but in bulk modes.
    pub cpu_s_per_gb: Option<f64>,
    /// Resident memory before the first connection (hold mode).
    pub rss_before_kb: Option<u64>,
    /// Resident memory with all connections open and idle (hold mode).
    pub rss_held_kb: Option<u64>,
    /// The difference by connection (hold mode).
    pub rss_kb_per_connection: Option<f64>,
}

/// What the coordinator read at the ends of the window.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) window: Duration,
    pub(super) completed: TotalsAt,
    pub(super) server_cpu_ns: Option<u64>,
    pub(super) generator_cpu_ns: u64,
    /// Before and with the connections.
    pub(super) resident_kb: Option<(u64, u64)>,
}

impl Report {
    pub(super) fn new(args: &RunArgs, stats: &Stats, measured: &Measured) -> Self {
        let window_s = measured.window.as_secs_f64();
        let TotalsAt { operations, bytes_down, bytes_up } = measured.completed;
        let [tls_version, cipher_suite, key_exchange_group] = match stats.negotiated.clone() {
            Some(names) => names.map(Some),
            None => [const { None }; 3],
        };
        let generator_cpu_s = seconds(measured.generator_cpu_ns);
        let errors: u64 = stats.errors.values().map(|errors| errors.count).sum();
        Self {
            mode: args.mode.name(),
            target: args.target.clone(),
            tls_version,
            cipher_suite,
            key_exchange_group,
            connections: args.connections,
            threads: args.threads,
            request_bytes: (args.mode == Mode::Request).then_some(args.size.0),
            intended_rate_per_s: args.rate.map(super::units::Rate::per_second),
            window_s,
            attempts: stats.ok + errors,
            ok: stats.ok,
            errors: stats.errors.iter().map(|(kind, e)| (kind.to_string(), e.count)).collect(),
            error_examples: stats
                .errors
                .iter()
                .map(|(kind, e)| (kind.to_string(), e.example.clone()))
                .collect(),
            unstarted: stats.unstarted,
            warmup_ok: stats.warmup_ok,
            warmup_errors: stats.warmup_errors,
            completed_in_window: operations,
            operations_per_s: ratio(operations, window_s),
            handshakes: stats.handshakes,
            handshakes_resumed: stats.resumed,
            resumed_share: (stats.handshakes > 0)
                .then(|| ratio(stats.resumed, real(stats.handshakes))),
            latency: Latency::new(stats, args.rate.is_some()),
            bytes_down,
            bytes_up,
            down_mb_per_s: ratio(bytes_down, window_s * 1e6),
            up_mb_per_s: ratio(bytes_up, window_s * 1e6),
            server: measured.server_cpu_ns.map(|ns| ServerCost::new(args, stats, measured, ns)),
            generator_cpu_s,
            generator_cpu_us_per_operation: (operations > 0)
                .then(|| generator_cpu_s * 1e6 / real(operations)),
            generator_busy_share: generator_cpu_s / (window_s * f64::from(args.threads)),
        }
    }

    /// Whether something was done and nothing failed.
    #[must_use]
    pub fn all_succeeded(&self) -> bool {
        self.ok > 0 && self.errors.is_empty()
    }

    /// One line of JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }
}

impl Latency {
    fn new(stats: &Stats, from_intended_start: bool) -> Option<Self> {
        let histogram = &stats.latency_ns;
        let us = |ns: u64| real(ns) / 1e3;
        let at = |quantile| us(histogram.value_at_quantile(quantile));
        (!histogram.is_empty()).then(|| Self {
            from_intended_start,
            min_us: us(histogram.min()),
            mean_us: histogram.mean() / 1e3,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p99_9_us: at(0.999),
            max_us: us(histogram.max()),
        })
    }
}

impl ServerCost {
    fn new(args: &RunArgs, stats: &Stats, measured: &Measured, cpu_ns: u64) -> Self {
        let cpu_s = seconds(cpu_ns);
        let TotalsAt { operations, bytes_down, bytes_up } = measured.completed;
        let bytes = bytes_down + bytes_up;
        let held = stats.ok;
        Self {
            cpu_s,
            cpu_busy: cpu_s / measured.window.as_secs_f64(),
            cpu_us_per_operation: (operations > 0).then(|| cpu_s * 1e6 / real(operations)),
            cpu_s_per_gb: (args.mode.is_bulk() && bytes > 0).then(|| cpu_s * 1e9 / real(bytes)),
            rss_before_kb: measured.resident_kb.map(|(before, _)| before),
            rss_held_kb: measured.resident_kb.map(|(_, held)| held),
            rss_kb_per_connection: measured
                .resident_kb
                .filter(|_| held > 0)
                .map(|(before, with)| (real(with) - real(before)) / real(held)),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts and bytes of a run are below 2^52")]
fn real(count: u64) -> f64 {
    count as f64
}

fn ratio(count: u64, by: f64) -> f64 {
    if by > 0.0 { real(count) / by } else { 0.0 }
}

fn seconds(ns: u64) -> f64 {
    real(ns) / 1e9
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows: Vec<(&str, String)> = vec![("mode", self.mode.to_owned())];
        let tls = [&self.tls_version, &self.cipher_suite, &self.key_exchange_group];
        rows.push(match tls {
            [Some(version), Some(suite), Some(group)] => {
                ("TLS", format!("{version}, {suite}, {group}"))
            }
            _ => ("TLS", "none".to_owned()),
        });
        rows.push(("connections", format!("{} on {} threads", self.connections, self.threads)));
        rows.push(("window", format!("{:.2} s", self.window_s)));
        rows.push(("attempts", format!("{} ({} ok)", self.attempts, self.ok)));
        for (kind, count) in &self.errors {
            let example = self.error_examples.get(kind).map_or("", |text| text);
            rows.push(("  errors", format!("{count} {kind}: {example}")));
        }
        if self.warmup_errors > 0 {
            rows.push(("warm-up", format!("{} errors not counted above", self.warmup_errors)));
        }
        if let Some(rate) = self.intended_rate_per_s {
            rows.push(("intended rate", format!("{rate}/s, {} never started", self.unstarted)));
        }
        if self.completed_in_window > 0 {
            rows.push(("rate", format!("{:.0}/s", self.operations_per_s)));
        }
        if let Some(share) = self.resumed_share {
            rows.push(("resumed", format!("{:.2}% of {}", share * 100.0, self.handshakes)));
        }
        if self.bytes_down > 0 {
            rows.push(("down", format!("{:.1} MB/s", self.down_mb_per_s)));
        }
        if self.bytes_up > 0 {
            rows.push(("up", format!("{:.1} MB/s", self.up_mb_per_s)));
        }
        if let Some(latency) = &self.latency {
            for (name, us) in [
                ("p50", latency.p50_us),
                ("p90", latency.p90_us),
                ("p99", latency.p99_us),
                ("p99.9", latency.p99_9_us),
                ("max", latency.max_us),
            ] {
                rows.push((name, format!("{us:.1} µs")));
            }
        }
        if let Some(server) = &self.server {
            rows.push((
                "server CPU",
                format!("{:.3} s, {:.0}% of one CPU", server.cpu_s, server.cpu_busy * 100.0),
            ));
            if let Some(us) = server.cpu_us_per_operation {
                rows.push(("  an operation", format!("{us:.2} µs")));
            }
            if let Some(s) = server.cpu_s_per_gb {
                rows.push(("  a GB", format!("{s:.3} s")));
            }
            if let Some(kb) = server.rss_kb_per_connection {
                rows.push(("  memory a connection", format!("{kb:.1} kB")));
            }
        }
        rows.push(("generator", format!("{:.0}% busy", self.generator_busy_share * 100.0)));
        if let Some(us) = self.generator_cpu_us_per_operation {
            rows.push(("  an operation", format!("{us:.2} µs")));
        }
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in rows {
            writeln!(f, "{name:width$}  {value}")?;
        }
        Ok(())
    }
}
