//! The terminator as a process of its own.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{Config, DEADLINE, eventually};

/// A line of the log; fields as they were logged, the text under `message`.
pub type LogLine = serde_json::Value;

/// One sample of the metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// With the prefix `countersign_`.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// A terminator that ended before it served.
#[derive(Debug)]
pub struct Unstarted {
    /// Its exit status.
    pub status: ExitStatus,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// A terminator that serves. Dropping it kills it.
pub struct Server {
    child: Child,
    log_file: PathBuf,
    config: Config,
}

impl Server {
    /// Starts it and waits until it serves.
    pub fn start(config: Config) -> Self {
        let mut server = Self::spawn(&config, Command::new(env!("CARGO_BIN_EXE_countersign")));
        server.wait_ready();
        server
    }

    /// Starts it through another program, such as `prlimit`, whose arguments come first.
    pub fn start_through(config: Config, mut wrapper: Command) -> Self {
        wrapper.arg(env!("CARGO_BIN_EXE_countersign"));
        let mut server = Self::spawn(&config, wrapper);
        server.wait_ready();
        server
    }

    /// Starts what must not serve, and waits for its end.
    pub fn fail_to_start(config: &Config, wrapper: Option<Command>) -> Unstarted {
        let program = env!("CARGO_BIN_EXE_countersign");
        let command = match wrapper {
            None => Command::new(program),
            Some(mut wrapper) => {
                wrapper.arg(program);
                wrapper
            }
        };
        let mut server = Self::spawn(config, command);
        let status = server.wait_end();
        Unstarted { status, stderr: server.stderr() }
    }

    fn spawn(config: &Config, mut command: Command) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let path = config.write();
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let log_file = path.with_file_name(format!("stderr-{number}.log"));
        let child = command
            .args(["run", "--config"])
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log_file).unwrap())
            .spawn()
            .unwrap();
        Self { child, log_file, config: config.clone() }
    }

    fn wait_ready(&mut self) {
        let admin = self.config.admin();
        let Self { child, log_file, .. } = self;
        let stderr = || fs::read_to_string(&*log_file).unwrap_or_default();
        eventually(
            || format!("/healthz; standard error:\n{}", stderr()),
            || {
                if let Some(status) = child.try_wait().unwrap() {
                    panic!("ended with {status} before it served:\n{}", stderr());
                }
                try_get(admin, "/healthz")?.starts_with("HTTP/1.1 200").then_some(())
            },
        );
    }

    /// The first listener's address.
    pub fn addr(&self) -> SocketAddr {
        self.config.addr()
    }

    /// The address of the listener of that name.
    pub fn addr_of(&self, listener: &str) -> SocketAddr {
        self.config.addr_of(listener)
    }

    /// The configuration that was written last.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the admin side answers, head and body; `None` if it doesn't.
    pub fn get(&self, path: &str) -> Option<String> {
        try_get(self.config.admin(), path)
    }

    /// All samples.
    pub fn metrics(&self) -> Vec<Sample> {
        let answer = self.get("/metrics").expect("the admin side answers");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        body.lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| parse_sample(line).unwrap_or_else(|| panic!("no sample: {line}")))
            .collect()
    }

    /// The sum of the samples of `countersign_NAME` that have all of `labels`. There has to be
    /// at least one: labels exist at 0 from the start.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let name = format!("countersign_{name}");
        let metrics = self.metrics();
        let fits = |sample: &&Sample| {
            sample.name == name
                && labels
                    .iter()
                    .all(|(key, value)| sample.labels.get(*key).is_some_and(|found| found == value))
        };
        let mut found = metrics.iter().filter(fits).peekable();
        assert!(found.peek().is_some(), "no sample of {name} with {labels:?}");
        found.map(|sample| sample.value).sum()
    }

    /// Waits until [`Server::metric`] is `value`.
    pub fn wait_metric(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        eventually(
            || {
                let now = self.metric(name, labels);
                format!("{name}{labels:?} is {now}, not {value}; log:\n{}", self.stderr())
            },
            || (self.metric(name, labels) == value).then_some(()),
        );
    }

    /// Everything on standard error.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log_file).unwrap_or_default()).into_owned()
    }

    /// The lines of the log so far.
    pub fn log(&self) -> Vec<LogLine> {
        self.stderr().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits for the first line that `wanted` takes.
    pub fn wait_log(&self, wanted: impl Fn(&LogLine) -> bool) -> LogLine {
        eventually(
            || format!("the log line; log:\n{}", self.stderr()),
            || self.log().into_iter().find(&wanted),
        )
    }

    /// Waits until `count` connections have ended, and gives their lines in order.
    pub fn wait_connections(&self, count: usize) -> Vec<LogLine> {
        eventually(
            || format!("{count} ended connections; log:\n{}", self.stderr()),
            || {
                let mut ended = self.log();
                ended.retain(|line| line["message"] == "connection ended");
                (ended.len() >= count).then_some(ended)
            },
        )
    }

    /// Waits for the line of the connection that ended as the `number`th, from 1.
    pub fn wait_connection(&self, number: usize) -> LogLine {
        self.wait_connections(number).swap_remove(number - 1)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Writes another configuration, asks for a reload, and waits until it serves.
    pub fn reload(&mut self, config: Config) {
        let before = self.reloads("applied");
        self.ask_to_reload(config);
        eventually(
            || format!("the reload; log:\n{}", self.stderr()),
            || (self.reloads("applied") > before).then_some(()),
        );
    }

    /// The same with a configuration that must not be taken.
    pub fn fail_to_reload(&mut self, config: Config) {
        let before = self.reloads("failed");
        self.ask_to_reload(config);
        eventually(
            || format!("the reload's failure; log:\n{}", self.stderr()),
            || (self.reloads("failed") > before).then_some(()),
        );
    }

    fn ask_to_reload(&mut self, config: Config) {
        config.write();
        self.config = config;
        self.signal(Signal::HUP);
    }

    fn reloads(&self, result: &str) -> f64 {
        self.metric("config_reloads_total", &[("result", result)])
    }

    /// Waits for its end.
    pub fn wait_end(&mut self) -> ExitStatus {
        let Self { child, log_file, .. } = self;
        eventually(
            || {
                let log = fs::read_to_string(&*log_file).unwrap_or_default();
                format!("the end of the process; standard error:\n{log}")
            },
            || child.try_wait().unwrap(),
        )
    }

    /// Asks it to end, and holds it to exit code 0. Gives standard error.
    pub fn stop(mut self) -> String {
        self.signal(Signal::TERM);
        let status = self.wait_end();
        let stderr = self.stderr();
        assert_eq!(status.code(), Some(0), "{stderr}");
        stderr
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of countersign\n{}", self.stderr());
        }
    }
}

/// What an HTTP server answers, head and body.
fn try_get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, DEADLINE).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// A line of the text format: `name{label="value",…} value`. No label here holds a quote.
fn parse_sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        None => (series, ""),
        Some((name, labels)) => (name, labels.strip_suffix('}')?),
    };
    let labels = labels
        .split("\",")
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once("=\"")?;
            Some((key.to_owned(), value.trim_end_matches('"').to_owned()))
        })
        .collect::<Option<_>>()?;
    Some(Sample { name: name.to_owned(), labels, value: value.parse().ok()? })
}
