//! Medians, the tables for people and the file for machines.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    fs,
    path::{Path, PathBuf},
};

use countersign::load::Report;
use serde_json::{Map, Value, json};
use time::{OffsetDateTime, macros::format_description};

use super::{
    BenchError, Peer, plots,
    rows::{Line, Row, Scale},
    throughput::Throughput,
};

/// Whose figures these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Series {
    /// A server with one worker on a CPU of its own.
    Peer(Peer),
    /// countersign with that many workers, load on the same CPUs.
    Workers(u16),
}

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
    /// By the name of the line.
    samples: BTreeMap<(String, Series), Vec<f64>>,
    reports: BTreeMap<(Row, Series), Vec<Value>>,
    /// Rows that a server couldn't do in one round or another, and why.
    left_out: BTreeMap<(Row, Peer), String>,
    throughput: Vec<Throughput>,
}

/// Lowest, median and highest sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(peer) => peer.fmt(f),
            Self::Workers(workers) => write!(f, "countersign, workers: {workers}"),
        }
    }
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
            reports: BTreeMap::new(),
            left_out: BTreeMap::new(),
            throughput: Vec::new(),
        })
    }

    /// Takes the figures out of a report.
    pub(crate) fn add(
        &mut self,
        row: Row,
        series: Series,
        report: &Report,
    ) -> Result<(), BenchError> {
        if let Series::Peer(peer) = series
            && self.left_out.contains_key(&(row, peer))
        {
            return Ok(());
        }
        for (name, figure) in row.figures(self.scale, report)? {
            eprintln!("  {name}: {figure:.2}");
            self.samples.entry((name, series)).or_default().push(figure);
        }
        let report = serde_json::to_value(report).unwrap_or(Value::Null);
        self.reports.entry((row, series)).or_default().push(report);
        Ok(())
    }

    /// Shows the row of that server as left out, whatever other rounds gave.
    pub(crate) fn leave_out(&mut self, row: Row, peer: Peer, why: &BenchError) {
        for line in row.lines(self.scale) {
            self.samples.remove(&(line.name, Series::Peer(peer)));
        }
        self.left_out.entry((row, peer)).or_insert_with(|| why.to_string());
    }

    /// Takes what the record layer alone does.
    pub(crate) fn set_throughput(&mut self, points: Vec<Throughput>) {
        self.throughput = points;
    }

    pub(crate) fn throughput(&self) -> &[Throughput] {
        &self.throughput
    }

    pub(crate) fn peers(&self) -> &[Peer] {
        &self.peers
    }

    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub(crate) fn scale(&self) -> Scale {
        self.scale
    }

    /// What stands below each plot.
    pub(crate) fn caption(&self) -> String {
        format!("{} · {} · Linux {} · {}", self.date, self.cpu, self.kernel, self.cipher)
    }

    /// The spread of a line's samples, if there are any.
    pub(crate) fn spread(&self, line: &str, series: Series) -> Option<Spread> {
        let mut samples = self.samples.get(&(line.to_owned(), series))?.clone();
        samples.sort_by(f64::total_cmp);
        let middle = samples.len() / 2;
        let median = if samples.len().is_multiple_of(2) {
            f64::midpoint(samples[middle - 1], samples[middle])
        } else {
            samples[middle]
        };
        Some(Spread { low: *samples.first()?, median, high: *samples.last()? })
    }

    fn lines(&self) -> impl Iterator<Item = (Row, Line)> {
        let scale = self.scale;
        self.rows.iter().flat_map(move |row| row.lines(scale).into_iter().map(|line| (*row, line)))
    }

    /// The tables; ratios are countersign's figure by the peer's, below 1 it costs less.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!(
            "# Termination cost, {}\n\n{} CPUs of {}, Linux {}. Server on CPU 0, load and \
             backends on CPU 1, loopback; {}, X25519, P-256 certificates, client certificate \
             required. A handshake is accept, handshake, dial, one byte there and back, close. \
             Medians of {} rounds of {:?} (lowest–highest); less is better. Each ratio is \
             countersign's median by the peer's. Only ratios within this run count: absolute \
             figures vary with the machine. Latencies hold the share of the generator and the \
             backends, which have one CPU together.\n\n",
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
                line + &format!(" {peer} | ratio |")
            } else {
                line + &format!(" {peer} |")
            }
        });
        let columns = header.matches('|').count() - 2;
        let _ = writeln!(text, "{header}\n|---|{}", "---|".repeat(columns));
        for (_, line) in self.lines() {
            let _ = write!(text, "| {}, {} |", line.title, line.unit);
            for &peer in &self.peers {
                let spread = self.spread(&line.name, Series::Peer(peer));
                let _ = write!(text, " {} |", cell(spread));
                if let Some(base) = base.filter(|base| *base != peer) {
                    let own = self.spread(&line.name, Series::Peer(base));
                    let _ = match spread.zip(own) {
                        Some((theirs, own)) => write!(text, " {:.2} |", own.median / theirs.median),
                        None => write!(text, " – |"),
                    };
                }
            }
            text.push('\n');
        }
        self.write_left_out(&mut text);
        self.write_scaling(&mut text);
        self.write_throughput(&mut text);
        text += "\nVersions:\n\n";
        for (peer, version) in &self.versions {
            let _ = writeln!(text, "- {peer}: {version}");
        }
        let _ = writeln!(text, "\nCommand: `{}`", self.command.trim_end_matches(" -- "));
        text
    }

    fn write_left_out(&self, text: &mut String) {
        for ((row, peer), why) in &self.left_out {
            let titles: Vec<_> = row.lines(self.scale).into_iter().map(|line| line.title).collect();
            let _ = writeln!(text, "\n–: {peer}, {}: left out, {why}.", titles.join(", "));
        }
    }

    fn write_scaling(&self, text: &mut String) {
        let workers: Vec<_> = self.workers().collect();
        if workers.is_empty() {
            return;
        }
        *text += "\ncountersign by number of workers, each on a CPU of its own, which it shares \
                  with a thread of the load:\n\n| |";
        for count in &workers {
            let _ = write!(text, " workers: {count} |");
        }
        let _ = writeln!(text, "\n|---|{}", "---|".repeat(workers.len()));
        for (_, line) in self.lines().filter(|(row, _)| Row::SCALING.contains(row)) {
            let _ = write!(text, "| {}, {} |", line.title, line.unit);
            for &count in &workers {
                let spread = self.spread(&line.name, Series::Workers(count));
                let _ = write!(text, " {} |", cell(spread));
            }
            text.push('\n');
        }
    }

    fn write_throughput(&self, text: &mut String) {
        *text += "\nRecords sealed in memory on one CPU, GB of plaintext a second:\n\n\
                  | bytes a record | countersign | rustls |\n|---|---|---|\n";
        for point in &self.throughput {
            let Throughput { length, countersign, rustls } = point;
            let _ = writeln!(text, "| {length} | {countersign:.2} | {rustls:.2} |");
        }
    }

    /// The numbers of workers that were measured, ascending, each once.
    fn workers(&self) -> impl Iterator<Item = u16> {
        let numbers = self.reports.keys().filter_map(|(_, series)| match series {
            Series::Workers(count) => Some(*count),
            Series::Peer(_) => None,
        });
        numbers.collect::<std::collections::BTreeSet<_>>().into_iter()
    }

    /// Writes the file for machines, the tables and the plots.
    pub(crate) fn write(&self, folder: &Path) -> Result<Vec<PathBuf>, BenchError> {
        fs::create_dir_all(folder).map_err(BenchError::io(folder.display().to_string()))?;
        let stem = format!("{}-{}", self.date, self.host);
        let write = |extension: &str, text: String| {
            let file = folder.join(format!("{stem}.{extension}"));
            fs::write(&file, text).map_err(BenchError::io(file.display().to_string()))?;
            Ok::<_, BenchError>(file)
        };
        let plots = plots::draw(self, folder, &stem)?;
        let mut markdown = self.markdown();
        for plot in &plots {
            if let Some(name) = plot.file_name().and_then(|name| name.to_str()) {
                let about = name.trim_start_matches(&stem).trim_matches(['-', '.']);
                let _ = write!(markdown, "\n![{}]({name})\n", about.trim_end_matches(".svg"));
            }
        }
        let mut files =
            vec![write("json", format!("{:#}\n", self.json()))?, write("md", markdown)?];
        files.extend(plots);
        Ok(files)
    }

    fn json(&self) -> Value {
        let all = self.peers.iter().map(|&peer| Series::Peer(peer));
        let all: Vec<_> = all.chain(self.workers().map(Series::Workers)).collect();
        let lines: Map<_, _> = self
            .lines()
            .map(|(_, line)| {
                let series: Map<_, _> = all
                    .iter()
                    .filter_map(|&series| {
                        let Spread { low, median, high } = self.spread(&line.name, series)?;
                        let samples = self.samples.get(&(line.name.clone(), series))?;
                        let value = json!({
                            "median": median, "lowest": low, "highest": high, "samples": samples,
                        });
                        Some((series.to_string(), value))
                    })
                    .collect();
                let value = json!({ "title": line.title, "unit": line.unit, "series": series });
                (line.name, value)
            })
            .collect();
        let mut reports = Map::new();
        for ((row, series), values) in &self.reports {
            reports.insert(format!("{row:?}, {series}").to_lowercase(), json!(values));
        }
        let versions: Map<_, _> = self
            .versions
            .iter()
            .map(|(peer, version)| (peer.to_string(), json!(version)))
            .collect();
        let left_out: Vec<_> = self
            .left_out
            .iter()
            .map(|((row, peer), why)| {
                let row = format!("{row:?}").to_lowercase();
                json!({ "row": row, "peer": peer.to_string(), "why": why })
            })
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
            "left_out": left_out,
            "lines": lines,
            "sealed_gb_per_s": self.throughput.iter().map(|point| json!({
                "record_bytes": point.length,
                "countersign": point.countersign,
                "rustls": point.rustls,
            })).collect::<Vec<_>>(),
            "reports": reports,
        })
    }
}

/// A spread as a cell of a table.
fn cell(spread: Option<Spread>) -> String {
    spread.map_or_else(
        || "–".to_owned(),
        |Spread { low, median, high }| {
            let digits = digits(median);
            format!("**{median:.digits$}** ({low:.digits$}–{high:.digits$})")
        },
    )
}

/// Decimals that show three significant digits, roughly.
pub(crate) fn digits(value: f64) -> usize {
    if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    }
}
