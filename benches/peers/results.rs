//! All samples and their medians, and the files that they go to.

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
    rows::{Line, Row, Scale, Table},
    tables,
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
    pub(super) plan: Plan,
    pub(super) date: String,
    host: String,
    pub(super) cpu: String,
    pub(super) cpus: usize,
    pub(super) kernel: String,
    pub(super) versions: BTreeMap<Peer, String>,
    pub(super) command: String,
    /// By the name of the line.
    samples: BTreeMap<(String, Series), Vec<f64>>,
    /// What the generator used itself, by the name of the line.
    own_costs: BTreeMap<(String, Series), Vec<f64>>,
    reports: BTreeMap<(Row, Series), Vec<Value>>,
    /// Rows that a server couldn't do in one round or another, and why.
    pub(super) left_out: BTreeMap<(Row, Peer), String>,
    pub(super) throughput: Vec<Throughput>,
}

/// What is to be measured.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) table: Table,
    pub(crate) peers: Vec<Peer>,
    pub(crate) rows: Vec<Row>,
    pub(crate) cipher: String,
    pub(crate) rounds: u16,
    pub(crate) scale: Scale,
    /// The library that countersign computes handshakes with, if it is told.
    pub(crate) crypto_mb: Option<PathBuf>,
}

/// Lowest, median and highest sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// `None` of no samples.
    fn of(samples: &[f64]) -> Option<Self> {
        let mut samples = samples.to_vec();
        samples.sort_by(f64::total_cmp);
        let middle = samples.len() / 2;
        let median = if samples.len().is_multiple_of(2) {
            f64::midpoint(*samples.get(middle.checked_sub(1)?)?, *samples.get(middle)?)
        } else {
            *samples.get(middle)?
        };
        Some(Self { low: *samples.first()?, median, high: *samples.last()? })
    }
}

impl Plan {
    /// What a server calls itself, and how it computes handshakes where that was chosen.
    fn version(&self, peer: Peer) -> String {
        let version = peer.version();
        match (peer, &self.crypto_mb) {
            (Peer::CountersignScalar, _) => version + "; crypto_mb off",
            (Peer::Countersign | Peer::CountersignVerify, library) => {
                let engine = peer.engine(library.as_deref());
                engine.map_or_else(|| version.clone(), |it| format!("{version}; crypto_mb {it}"))
            }
            _ => version,
        }
    }
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
    pub(crate) fn new(plan: Plan) -> Result<Self, BenchError> {
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
            versions: plan.peers.iter().map(|&peer| (peer, plan.version(peer))).collect(),
            command: format!("cargo bench --bench terminate -- {}", arguments.join(" ")),
            plan,
            samples: BTreeMap::new(),
            own_costs: BTreeMap::new(),
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
        let figures = row.figures(self.plan.scale, report)?;
        if let Some((cost, (name, _))) = row.own_cost(report).zip(figures.first()) {
            self.own_costs.entry((name.clone(), series)).or_default().push(cost);
        }
        for (name, figure) in figures {
            eprintln!("  {name}: {figure:.2}");
            self.samples.entry((name, series)).or_default().push(figure);
        }
        let report = serde_json::to_value(report).unwrap_or(Value::Null);
        self.reports.entry((row, series)).or_default().push(report);
        Ok(())
    }

    /// Shows the row of that server as left out, whatever other rounds gave.
    pub(crate) fn leave_out(&mut self, row: Row, peer: Peer, why: &BenchError) {
        for line in row.lines(self.plan.scale) {
            let key = (line.name, Series::Peer(peer));
            self.samples.remove(&key);
            self.own_costs.remove(&key);
        }
        self.left_out.entry((row, peer)).or_insert_with(|| why.to_string());
    }

    /// Whether a server couldn't do the row in an earlier round.
    pub(crate) fn is_left_out(&self, row: Row, peer: Peer) -> bool {
        self.left_out.contains_key(&(row, peer))
    }

    /// Takes what the record layer alone does.
    pub(crate) fn set_throughput(&mut self, points: Vec<Throughput>) {
        self.throughput = points;
    }

    pub(crate) fn throughput(&self) -> &[Throughput] {
        &self.throughput
    }

    pub(crate) fn peers(&self) -> &[Peer] {
        &self.plan.peers
    }

    pub(crate) fn rows(&self) -> &[Row] {
        &self.plan.rows
    }

    pub(crate) fn scale(&self) -> Scale {
        self.plan.scale
    }

    /// What stands below each plot.
    pub(crate) fn caption(&self) -> String {
        format!("{} · {} · Linux {} · {}", self.date, self.cpu, self.kernel, self.plan.cipher)
    }

    /// The spread of a line's samples, if there are any.
    pub(crate) fn spread(&self, line: &str, series: Series) -> Option<Spread> {
        Spread::of(self.samples.get(&(line.to_owned(), series))?)
    }

    /// What the generator used itself.
    pub(super) fn own_cost(&self, line: &str, series: Series) -> Option<Spread> {
        Spread::of(self.own_costs.get(&(line.to_owned(), series))?)
    }

    pub(super) fn lines(&self) -> impl Iterator<Item = (Row, Line)> {
        let scale = self.plan.scale;
        self.plan
            .rows
            .iter()
            .flat_map(move |row| row.lines(scale).into_iter().map(|line| (*row, line)))
    }

    /// The tables for people.
    pub(crate) fn markdown(&self) -> String {
        tables::markdown(self)
    }

    /// The numbers of workers that were measured, ascending, each once.
    pub(super) fn workers(&self) -> impl Iterator<Item = u16> {
        let numbers = self.reports.keys().filter_map(|(_, series)| match series {
            Series::Workers(count) => Some(*count),
            Series::Peer(_) => None,
        });
        numbers.collect::<std::collections::BTreeSet<_>>().into_iter()
    }

    /// Writes the file for machines, the tables and the plots.
    pub(crate) fn write(&self, folder: &Path) -> Result<Vec<PathBuf>, BenchError> {
        fs::create_dir_all(folder).map_err(BenchError::io(folder.display().to_string()))?;
        let table = match self.plan.table {
            Table::Work => "",
            Table::Handshakes => "-handshakes",
        };
        let stem = format!("{}-{}{table}", self.date, self.host);
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
        let all = self.plan.peers.iter().map(|&peer| Series::Peer(peer));
        let all: Vec<_> = all.chain(self.workers().map(Series::Workers)).collect();
        let lines: Map<_, _> = self
            .lines()
            .map(|(_, line)| {
                let series: Map<_, _> = all
                    .iter()
                    .filter_map(|&series| {
                        let Spread { low, median, high } = self.spread(&line.name, series)?;
                        let samples = self.samples.get(&(line.name.clone(), series))?;
                        let own = self.own_cost(&line.name, series).map(|own| own.median);
                        let value = json!({
                            "median": median, "lowest": low, "highest": high, "samples": samples,
                            "generator_median": own,
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
            reports.insert(format!("{}, {series}", row.name()), json!(values));
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
                json!({ "row": row.name(), "peer": peer.to_string(), "why": why })
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
            "cipher_suite": self.plan.cipher,
            "rounds": self.plan.rounds,
            "window_s": self.plan.scale.duration.as_secs_f64(),
            "ramp_s": self.plan.scale.ramp.as_secs_f64(),
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
