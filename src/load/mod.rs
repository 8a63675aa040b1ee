//! `countersign load`: a load generator for any TLS terminator, and the plain-TCP backend that
//! belongs behind it.
//!
//! [`run`] coordinates: generator threads, each with its own slots (`client`), warm up, a window
//! is measured, the threads' counts are added up into a [`Report`]. An operation belongs to the
//! window if it *started* in it, and every such operation is awaited, so that attempts are always
//! successes plus errors. CPU time is read at both ends of the window and divided by what was
//! *completed* between them.

mod backend;
mod buffer;
mod channel;
mod client;
mod failure;
mod options;
mod pace;
mod pattern;
mod report;
mod server;
mod stats;
mod tickets;
mod tls;
mod units;

use std::{
    cell::RefCell,
    io::{self, IsTerminal},
    net::{SocketAddr, ToSocketAddrs},
    path::PathBuf,
    process::ExitCode,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::{Semaphore, watch};

pub use backend::Backend;
pub use options::{
    BackendArgs, BackendMode, CpuList, Group, LoadArgs, LoadCommand, Mode, RunArgs, TlsVersion,
};
pub use report::{Latency, Report, ServerCost};
pub use units::{ByteSize, Rate};

use client::{Context, OPENING_AT_A_TIME, Pace, Phase, Slot};
use report::Measured;
use server::Server;
use stats::{Stats, Totals};
use tls::TlsPlan;

/// Measured if neither `--duration` nor `--count` says otherwise.
const DEFAULT_DURATION: Duration = Duration::from_secs(10);
/// How often the coordinator looks whether something has ended.
const POLL: Duration = Duration::from_millis(1);
/// How often the progress line changes.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);
/// After the last connection is ready, for the server to finish and to free what it can.
const SETTLE: Duration = Duration::from_millis(500);

/// Why no load could be generated.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The options contradict each other or name something that isn't there.
    #[error("{0}")]
    Usage(String),
    /// A file can't be read.
    #[error("{}: {reason}", file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// The target's name doesn't resolve.
    #[error("--target {target}: {reason}; give an address and a port")]
    Target {
        /// As given.
        target: String,
        /// Why.
        reason: String,
    },
    /// The server's CPU time or memory can't be read.
    #[error("can't read what the server uses: {0}; check --server-pid or --server-cgroup")]
    Server(#[source] io::Error),
    /// The backend can't listen.
    #[error("can't listen on {listen}: {source}")]
    Listen {
        /// Where.
        listen: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A generator thread can't work.
    #[error("a generator thread failed: {0}")]
    Thread(String),
    /// A thread can't be placed.
    #[error("CPU {0} can't be used by this process; see --cpus")]
    Cpu(usize),
    /// Latencies can't be stored.
    #[error("the histogram failed: {0}")]
    Histogram(String),
}

/// Runs `countersign load …`: 0 if all operations succeeded, 1 if some failed, 2 if there was no
/// run.
#[must_use]
pub fn main(args: LoadArgs) -> ExitCode {
    let outcome = match args {
        LoadArgs { command: Some(LoadCommand::Backend(backend)), .. } => {
            backend::serve_until_signal(&backend).map(|()| true)
        }
        LoadArgs { run: Some(run), .. } => self::run(&run).map(|report| {
            if run.json {
                println!("{}", report.to_json());
            } else {
                print!("{report}");
            }
            report.all_succeeded()
        }),
        LoadArgs { .. } => Err(LoadError::Usage("--target and --mode are needed".to_owned())),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("countersign load: {error}");
            ExitCode::from(2)
        }
    }
}

/// Generates the load and reports what came of it.
///
/// # Errors
/// Nothing was measured: see [`LoadError`]. Failed operations are in the report, not here.
pub fn run(args: &RunArgs) -> Result<Report, LoadError> {
    let plan = Arc::new(Plan::new(args)?);
    let (phase, watcher) = watch::channel(Phase::Warmup);
    let progress = progress_line();
    let idle_kb = plan.resident_kb()?;

    let mut threads = Threads::default();
    for index in 0..args.threads {
        let (plan, watcher) = (Arc::clone(&plan), watcher.clone());
        let thread = std::thread::Builder::new()
            .name(format!("load-{index}"))
            .spawn(move || plan.run_thread(index, watcher))
            .map_err(|error| LoadError::Thread(error.to_string()))?;
        threads.0.push(thread);
    }

    let window = plan.coordinate(&threads, &phase, &progress);
    // Whatever happened, the threads end.
    phase.send_replace(Phase::Done(
        window.as_ref().map_or_else(|_| Instant::now(), |window| window.end.at),
    ));
    let stats = threads.join();
    progress.clear();

    // What a thread says comes first: it may be why there was no window.
    let stats = stats?;
    let Window { start, end, held_kb } = window?;
    let measured = Measured {
        window: end.at - start.at,
        completed: end.totals.since(start.totals),
        server_cpu_ns: end.server.zip(start.server).map(|(end, start)| end.since(&start)),
        generator_cpu_ns: end.generator_ns.saturating_sub(start.generator_ns),
        resident_kb: idle_kb.zip(held_kb),
    };
    Ok(Report::new(args, &stats, &measured))
}

/// One run, ready to start; shared by all threads.
#[derive(Debug)]
struct Plan {
    args: RunArgs,
    target: SocketAddr,
    request_bytes: usize,
    tls: Option<TlsPlan>,
    duration: Option<Duration>,
    server: Option<Server>,
    totals: Arc<Totals>,
    budget: Option<Arc<AtomicU64>>,
}

/// The measured window.
#[derive(Debug)]
struct Window {
    start: Sample,
    end: Sample,
    /// Resident memory with all connections open.
    held_kb: Option<u64>,
}

/// What was used and done up to one instant.
#[derive(Debug)]
struct Sample {
    at: Instant,
    totals: stats::TotalsAt,
    server: Option<server::CpuTime>,
    generator_ns: u64,
}

impl Plan {
    fn new(args: &RunArgs) -> Result<Self, LoadError> {
        let usage = |message: &str| Err(LoadError::Usage(message.to_owned()));
        if args.count.is_some() && (args.mode.is_bulk() || args.mode == Mode::Hold) {
            return usage("--count counts operations: use --duration with down, up, both and hold");
        }
        if args.rate.is_some() && (args.mode.is_bulk() || args.mode == Mode::Hold) {
            return usage("--rate paces operations: it goes with full, resumed and request");
        }
        if args.mode == Mode::Resumed && args.plain {
            return usage("without TLS there is no session to resume: use full with --plain");
        }
        if args.connections < u32::from(args.threads) {
            return usage("--connections is less than --threads: some threads would have nothing");
        }
        let request_bytes = usize::try_from(args.size.0).unwrap_or(0);
        if request_bytes == 0 {
            return usage("--size must be at least one byte");
        }
        let target = resolve(&args.target)?;
        let host = args.target.rsplit_once(':').map_or(&*args.target, |(host, _)| host);
        let tls = match (&args.ca, args.plain) {
            (_, true) => None,
            (Some(ca), false) => Some(TlsPlan::new(args, ca, host.trim_matches(['[', ']']))?),
            (None, false) => return usage("--ca is needed: the server is always verified"),
        };
        let server = match &args.server_cgroup {
            Some(path) => Some(Server::Cgroup(path.clone())),
            None if args.server_pid.is_empty() => None,
            None => Some(Server::Processes(args.server_pid.clone())),
        };
        let duration = args.count.is_none().then_some(args.duration.unwrap_or(DEFAULT_DURATION));
        Ok(Self {
            target,
            request_bytes,
            tls,
            duration,
            server,
            totals: Arc::default(),
            budget: args.count.map(|count| Arc::new(AtomicU64::new(count))),
            args: args.clone(),
        })
    }

    /// Moves the run from warm-up to the window, and returns at the window's end.
    fn coordinate(
        &self,
        threads: &Threads,
        phase: &watch::Sender<Phase>,
        progress: &Progress,
    ) -> Result<Window, LoadError> {
        let warm_up_ends = Instant::now() + self.args.ramp;
        let connections = u64::from(self.args.connections);
        while Instant::now() < warm_up_ends || self.ready() < connections {
            if threads.any_ended() {
                return Err(LoadError::Thread("it ended before the window".to_owned()));
            }
            progress.show("warm-up", &self.totals);
            std::thread::sleep(POLL);
        }
        // The server may still be at the handshakes that are over for us.
        std::thread::sleep(match self.args.mode {
            Mode::Hold => SETTLE,
            _ => SETTLE.min(self.args.ramp),
        });
        let held_kb = self.resident_kb()?;

        let start = self.sample()?;
        phase.send_replace(Phase::Measure(start.at));
        let ends = self.duration.map(|duration| start.at + duration);
        while !threads.all_ended() && ends.is_none_or(|ends| Instant::now() < ends) {
            progress.show(self.args.mode.name(), &self.totals);
            let left = ends.map_or(POLL, |ends| ends.saturating_duration_since(Instant::now()));
            std::thread::sleep(POLL.min(left));
        }
        Ok(Window { start, end: self.sample()?, held_kb })
    }

    fn ready(&self) -> u64 {
        self.totals.ready.load(Ordering::Relaxed)
    }

    fn sample(&self) -> Result<Sample, LoadError> {
        let server = self.server.as_ref().map(Server::cpu_time).transpose();
        Ok(Sample {
            server: server.map_err(LoadError::Server)?,
            generator_ns: server::own_cpu_ns(),
            totals: self.totals.now(),
            at: Instant::now(),
        })
    }

    /// In kB; `None` where it is nobody's question.
    fn resident_kb(&self) -> Result<Option<u64>, LoadError> {
        match &self.server {
            Some(server) if self.args.mode == Mode::Hold => {
                server.resident_kb().map(Some).map_err(LoadError::Server)
            }
            _ => Ok(None),
        }
    }

    /// The life of generator thread `index`, with every `threads`-th slot.
    fn run_thread(&self, index: u16, phase: watch::Receiver<Phase>) -> Result<Stats, LoadError> {
        if let Some(cpus) = &self.args.cpus {
            pin(cpus.cpu_of(usize::from(index)))?;
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| LoadError::Thread(error.to_string()))?;
        let context = Rc::new(Context {
            mode: self.args.mode,
            target: self.target,
            request_bytes: self.request_bytes,
            timeout: self.args.timeout,
            warm_up: !self.args.ramp.is_zero(),
            totals: Arc::clone(&self.totals),
            budget: self.budget.clone(),
            pace: self
                .args
                .rate
                .map(|rate| Pace::new(rate, index, self.args.threads))
                .map(RefCell::new),
            stats: RefCell::new(Stats::new()?),
            opening: Semaphore::new(OPENING_AT_A_TIME),
        });
        let tasks = tokio::task::LocalSet::new();
        for slot in (u32::from(index)..self.args.connections).step_by(self.args.threads.into()) {
            let tls = self.tls.as_ref().map(|tls| tls.slot(slot as usize));
            let starts_after =
                self.args.ramp.mul_f64(f64::from(slot) / f64::from(self.args.connections));
            let slot = Slot::new(Rc::clone(&context), tls, phase.clone());
            tasks.spawn_local(slot.run(starts_after));
        }
        runtime.block_on(tasks);
        let Some(context) = Rc::into_inner(context) else {
            return Err(LoadError::Thread("a connection outlived its run".to_owned()));
        };
        let mut stats = context.stats.into_inner();
        if let (Some(pace), Phase::Done(end)) = (context.pace, *phase.borrow()) {
            stats.unstarted += pace.into_inner().unstarted(end);
        }
        Ok(stats)
    }
}

/// The generator threads, joined even when the run fails.
#[derive(Debug, Default)]
struct Threads(Vec<JoinHandle<Result<Stats, LoadError>>>);

impl Threads {
    fn any_ended(&self) -> bool {
        self.0.iter().any(JoinHandle::is_finished)
    }

    fn all_ended(&self) -> bool {
        self.0.iter().all(JoinHandle::is_finished)
    }

    fn join(self) -> Result<Stats, LoadError> {
        let mut sum = Stats::new()?;
        for thread in self.0 {
            let stats = thread
                .join()
                .map_err(|_| LoadError::Thread("it panicked, which is our fault".to_owned()))??;
            sum.merge(stats)?;
        }
        Ok(sum)
    }
}

fn resolve(target: &str) -> Result<SocketAddr, LoadError> {
    let failed = |reason: String| LoadError::Target { target: target.to_owned(), reason };
    let mut addresses = target.to_socket_addrs().map_err(|error| failed(error.to_string()))?;
    addresses.next().ok_or_else(|| failed("the name has no address".to_owned()))
}

/// Pins the calling thread.
fn pin(cpu: usize) -> Result<(), LoadError> {
    if core_affinity::set_for_current(core_affinity::CoreId { id: cpu }) {
        Ok(())
    } else {
        Err(LoadError::Cpu(cpu))
    }
}

/// A line that shows on a terminal only.
struct Progress {
    bar: ProgressBar,
    shown: std::cell::Cell<Option<Instant>>,
}

fn progress_line() -> Progress {
    let bar =
        if io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
        bar.set_style(style);
    }
    Progress { bar, shown: std::cell::Cell::new(None) }
}

impl Progress {
    fn show(&self, phase: &str, totals: &Totals) {
        if self.bar.is_hidden() || self.shown.get().is_some_and(|at| at.elapsed() < PROGRESS_EVERY)
        {
            return;
        }
        self.shown.set(Some(Instant::now()));
        let now = totals.now();
        self.bar.set_message(format!(
            "{phase}: {} connections ready, {} operations, {} down, {} up",
            totals.ready.load(Ordering::Relaxed),
            now.operations,
            indicatif::DecimalBytes(now.bytes_down),
            indicatif::DecimalBytes(now.bytes_up),
        ));
        self.bar.tick();
    }

    fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
