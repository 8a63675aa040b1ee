//! Medians, the table for people and the file for machines.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use countersign::load::Report;
use serde_json::{Value, json};
use time::{OffsetDateTime, macros::format_description};

use super::{
    BenchError, Peer,
    rows::{Row, Scale},
};

/// All samples of one comparison, and where they were taken.
#[derive(Debug)]
pub(crate) struct Results {
    date: String,
    host: String,
    cpu: String,
    cpus: usize,
    kernel: String,
    versions: BTreeMap<Peer, String>,
    command: String,
    cipher: String,
    rounds: u16,
    scale: Scale,
    peers: Vec<Peer>,
    rows: Vec<Row>,
    samples: BTreeMap<(Row, Peer), Vec<Sample>>,
}

#[derive(Debug)]
struct Sample {
    cost: f64,
    report: Value,
}

impl Results {
    pub(crate) fn new(
        peers: &[Peer],
        rows: &[Row],
        cipher: &str,
        rounds: u16,
        scale: Scale,
    ) -> Result<Self, BenchError> {
        let read = |file: &str| fs::read_to_string(file).map_err(BenchError::io(file.to_owned()));
        let cpuinfo = read("/proc/cpuinfo")?;
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
        let day = format_description!("[year]-[month]-[day]");
        let arguments: Vec<_> =
            std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
        Ok(Self {
            date: OffsetDateTime::now_utc()
                .format(day)
                .map_err(std::io::Error::other)
                .map_err(BenchError::io("today's date"))?,
            host: read("/proc/sys/kernel/hostname")?.trim().to_owned(),
            cpu: model
                .map_or("unknown", |text| text.trim_start_matches([' ', '\t', ':']))
                .to_owned(),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            versions: peers.iter().map(|&peer| (peer, peer.version())).collect(),
            command: format!("cargo bench --bench terminate -- {}", arguments.join(" ")),
            cipher: cipher.to_owned(),
            rounds,
            scale,
            peers: peers.to_vec(),
            rows: rows.to_vec(),
            samples: BTreeMap::new(),
        })
    }

    pub(crate) fn add(&mut self, row: Row, peer: Peer, cost: f64, report: &Report) {
        let report = serde_json::to_value(report).unwrap_or(Value::Null);
        self.samples.entry((row, peer)).or_default().push(Sample { cost, report });
    }

    /// The table; ratios are to countersign where it takes part, above 1 is more costly.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!(
            "# Termination cost, {}\n\n{} CPUs of {}, Linux {}. Server on CPU 0, load and \
             backends on CPU 1, loopback; {}, X25519, P-256 certificates, client certificate \
             required. Medians of {} rounds of {:?} (lowest–highest); ratios within this run \
             count, absolute figures vary with the machine.\n\n",
            self.date,
            self.cpus,
            self.cpu,
            self.kernel,
            self.cipher,
            self.rounds,
            self.scale.duration,
        );
        let base = self.peers.contains(&Peer::Countersign).then_some(Peer::Countersign);
        let header = self.peers.iter().fold("| |".to_owned(), |line, peer| {
            if base.is_some_and(|base| base != *peer) {
                line + &format!(" {peer} | by countersign |")
            } else {
                line + &format!(" {peer} |")
            }
        });
        let columns = header.matches('|').count() - 2;
        let _ = writeln!(text, "{header}\n|---|{}", "---|".repeat(columns));
        for &row in &self.rows {
            let _ = write!(text, "| {}, {} |", row.title(), row.unit());
            for &peer in &self.peers {
                let Some((low, median, high)) = self.spread(row, peer) else {
                    text += " – |";
                    continue;
                };
                let digits = digits(median);
                let _ = write!(text, " **{median:.digits$}** ({low:.digits$}–{high:.digits$}) |");
                if let Some(base) = base.filter(|base| *base != peer) {
                    let ratio = self.spread(row, base).map_or(f64::NAN, |(_, own, _)| median / own);
                    let _ = write!(text, " {ratio:.2} × |");
                }
            }
            text.push('\n');
        }
        text += "\nVersions:\n\n";
        for (peer, version) in &self.versions {
            let _ = writeln!(text, "- {peer}: {version}");
        }
        let _ = writeln!(text, "\nCommand: `{}`", self.command.trim_end_matches(" -- "));
        text
    }

    /// Writes both files.
    pub(crate) fn write(&self, folder: &Path) -> Result<[PathBuf; 2], BenchError> {
        fs::create_dir_all(folder).map_err(BenchError::io(folder.display().to_string()))?;
        let stem = format!("{}-{}", self.date, self.host);
        let write = |extension: &str, text: String| {
            let file = folder.join(format!("{stem}.{extension}"));
            fs::write(&file, text).map_err(BenchError::io(file.display().to_string()))?;
            Ok::<_, BenchError>(file)
        };
        Ok([write("json", format!("{:#}\n", self.json()))?, write("md", self.markdown())?])
    }

    fn json(&self) -> Value {
        let rows: serde_json::Map<_, _> = self
            .rows
            .iter()
            .map(|&row| {
                let peers: serde_json::Map<_, _> = self
                    .peers
                    .iter()
                    .filter_map(|&peer| {
                        let (low, median, high) = self.spread(row, peer)?;
                        let samples = self.samples.get(&(row, peer))?;
                        let value = json!({
                            "median": median,
                            "lowest": low,
                            "highest": high,
                            "samples": samples.iter().map(|s| s.cost).collect::<Vec<_>>(),
                            "reports": samples.iter().map(|s| &s.report).collect::<Vec<_>>(),
                        });
                        Some((peer.to_string(), value))
                    })
                    .collect();
                let value = json!({ "title": row.title(), "unit": row.unit(), "peers": peers });
                (row.name().to_owned(), value)
            })
            .collect();
        let versions: serde_json::Map<_, _> = self
            .versions
            .iter()
            .map(|(peer, version)| (peer.to_string(), json!(version)))
            .collect();
        json!({
            "date": self.date,
            "host": self.host,
            "cpu": self.cpu,
            "cpus": self.cpus,
            "kernel": self.kernel,
            "versions": versions,
            "command": self.command,
            "cipher_suite": self.cipher,
            "rounds": self.rounds,
            "window_s": self.scale.duration.as_secs_f64(),
            "ramp_s": self.scale.ramp.as_secs_f64(),
            "idle_connections": self.scale.idle_connections,
            "rows": rows,
        })
    }

    /// Lowest, median and highest sample.
    fn spread(&self, row: Row, peer: Peer) -> Option<(f64, f64, f64)> {
        let mut costs: Vec<_> =
            self.samples.get(&(row, peer))?.iter().map(|sample| sample.cost).collect();
        costs.sort_by(f64::total_cmp);
        let middle = costs.len() / 2;
        let median = if costs.len().is_multiple_of(2) {
            f64::midpoint(costs[middle - 1], costs[middle])
        } else {
            costs[middle]
        };
        Some((*costs.first()?, median, *costs.last()?))
    }
}

/// Three significant digits, roughly.
fn digits(value: f64) -> usize {
    if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    }
}
