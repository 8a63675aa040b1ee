//! From a configuration to workers that accept. Nothing is served before all of it is ready.

use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use rustls_pki_types::UnixTime;

use super::{
    App, now_s, selftest,
    signals::{self, Signal},
};
use crate::{
    admin::{self, Snapshot},
    admission,
    config::{Accel, Config, ConfigErrors, CrlFetch, Disk},
    crls::{Before, Copies, Crls, Targets},
    crypto::{Choice, Engine, WhyNot},
    generation::{Generation, GenerationError},
    listener,
    metrics::{CacheMetrics, CryptoMetrics, Metrics, ProcessMetrics, WorkerMetrics},
    process::Process,
    quota::Usage,
    resumption::SessionStore,
    ring::{self, MissingNeed},
    sys,
    worker::{self, Command, Serves},
};

/// Descriptors that are not connections: rings, sockets, files, the log.
const RESERVED_DESCRIPTORS: u64 = 256;

/// Descriptors of a connection: the client's and the backend's.
const DESCRIPTORS_A_CONNECTION: u64 = 2;

/// What `max_connections` is unless the configuration or the descriptor limit says otherwise.
const DEFAULT_MAX_CONNECTIONS: usize = 100_000;

/// How long a worker may take to serve a generation before that is an error.
const APPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The configuration can't be served.
    #[error(transparent)]
    Generation(#[from] GenerationError),
    /// The kernel lacks something.
    #[error(transparent)]
    Kernel(#[from] MissingNeed),
    /// The library of cryptography that the configuration names can't be used.
    #[error("accel.crypto_mb: {0}")]
    Engine(WhyNot),
    /// Too few descriptors for the configured number of connections.
    #[error(
        "limits.max_connections = {wanted} needs {needed} descriptors, but this process may open \
         {limit}: raise LimitNOFILE= (ulimit -n), or set max_connections to {possible} or less"
    )]
    Descriptors {
        /// What the configuration says.
        wanted: usize,
        /// What that takes.
        needed: u64,
        /// What is there.
        limit: u64,
        /// What would fit.
        possible: u64,
    },
    /// Too few descriptors for any connection at all.
    #[error(
        "this process may open {limit} descriptors, of which it needs {RESERVED_DESCRIPTORS} for \
         itself and {DESCRIPTORS_A_CONNECTION} for each connection: raise LimitNOFILE= (ulimit -n)"
    )]
    NoDescriptors {
        /// What is there.
        limit: u64,
    },
    /// A configured CPU can't be used.
    #[error(
        "workers.cpus names CPU {cpu}, which this process may not use; it may use {usable:?}: \
         correct the list, or the affinity that the process was started with"
    )]
    Cpu {
        /// The CPU.
        cpu: usize,
        /// The ones that can be used.
        usable: Vec<usize>,
    },
    /// An address can't be bound.
    #[error("{what} can't listen on {address}: {}", advice(.error))]
    Bind {
        /// Which listener, or the admin side.
        what: String,
        /// The address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// Whatever else the operating system refused.
    #[error("{doing}: {error}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        error: io::Error,
    },
    /// The metrics can't be set up.
    #[error("the metrics can't be set up: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
    /// The ticket keys can't be made.
    #[error("the session ticket keys can't be made: {0}")]
    Tickets(rustls::Error),
    /// A worker is gone while it should serve.
    #[error(
        "the worker on CPU {cpu} died, which is our own fault: ending, so that the service \
         manager starts anew (please report what the log says above)"
    )]
    WorkerLost {
        /// Its CPU.
        cpu: usize,
    },
    /// A worker does not take over a generation.
    #[error("a worker did not take over the configuration in time; the log has more")]
    Worker,
}

fn advice(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another process listens there already (ss -ltnp shows which)".into()
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE (AmbientCapabilities= in systemd)".into()
        }
        io::ErrorKind::AddrNotAvailable => "this host doesn't have that address".into(),
        _ => error.to_string(),
    }
}

/// A failed call, with what it was for.
fn system(doing: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |error| StartError::System { doing, error }
}

/// For each worker its own sockets by address.
pub(super) type Bound = Vec<HashMap<SocketAddr, TcpListener>>;

/// Binds all addresses of `generation` that `open` doesn't have, one socket a worker.
pub(super) fn bind_new(
    generation: &Generation,
    open: impl Fn(SocketAddr) -> bool,
    workers: usize,
) -> Result<Bound, StartError> {
    let mut bound: Bound = (0..workers).map(|_| HashMap::new()).collect();
    for service in &generation.services {
        for &address in service.config.listen.iter().filter(|&&address| !open(address)) {
            let sockets = listener::bind(address, workers).map_err(|error| {
                let what = format!("listener {}", service.config.name);
                StartError::Bind { what, address, error }
            })?;
            for (own, socket) in bound.iter_mut().zip(sockets) {
                own.insert(address, socket);
            }
        }
    }
    Ok(bound)
}

/// How many connections may be open, given the descriptors there are.
pub(super) fn max_connections(config: &Config, descriptors: u64) -> Result<usize, StartError> {
    let possible = descriptors.saturating_sub(RESERVED_DESCRIPTORS) / DESCRIPTORS_A_CONNECTION;
    let fits = usize::try_from(possible).unwrap_or(usize::MAX);
    match config.limits.max_connections {
        None if fits == 0 => Err(StartError::NoDescriptors { limit: descriptors }),
        None => Ok(fits.min(DEFAULT_MAX_CONNECTIONS)),
        Some(wanted) if wanted <= fits => Ok(wanted),
        Some(wanted) => Err(StartError::Descriptors {
            wanted,
            needed: wanted as u64 * DESCRIPTORS_A_CONNECTION + RESERVED_DESCRIPTORS,
            limit: descriptors,
            possible,
        }),
    }
}

/// How many connections and handshakes the configuration has room for.
pub(super) fn admission_limits(config: &Config, connections: usize) -> admission::Limits {
    let limits = &config.limits;
    admission::Limits {
        connections,
        handshakes: limits.max_handshakes,
        full: limits.max_full_handshakes,
        reserved: limits.reserved_handshakes,
        of_one_address: limits.max_handshakes_per_address,
        wait: limits.max_handshake_wait,
    }
}

/// The CPUs to run a worker each on.
fn worker_cpus(config: &Config) -> Result<Vec<usize>, StartError> {
    let usable = sys::usable_cpus();
    let Some(wanted) = &config.workers.cpus else {
        return Ok(usable);
    };
    match wanted.iter().find(|cpu| !usable.contains(cpu)) {
        Some(&cpu) => Err(StartError::Cpu { cpu, usable }),
        None => Ok(wanted.clone()),
    }
}

impl App {
    /// Prepares everything that can fail, then starts the workers.
    pub(super) fn start(path: &Path, config: Config, disk: Disk) -> Result<Self, StartError> {
        ring::probe()?;
        let descriptors =
            sys::raise_descriptor_limit().map_err(system("the descriptor limit can't be read"))?;
        let connections = max_connections(&config, descriptors)?;
        let cpus = worker_cpus(&config)?;
        let metrics = Metrics::new()?;
        let engine = engine(&config.accel)?.counted(CryptoMetrics::new(&metrics));
        let engine = Arc::new(engine);
        let cache_metrics = CacheMetrics::new(&metrics);
        let sessions = SessionStore::new(&config.resumption, &cache_metrics);
        let sessions = sessions.map_err(StartError::Tickets)?;
        let limits = admission_limits(&config, connections);
        let usage = Usage::new();
        let copies = crl_copies(&config, &disk);
        let before = Before { stores: None, copies: Some(&copies) };
        let generation = Generation::new(1, config, &metrics, &sessions, &usage, before)?;
        let generation = Arc::new(generation);
        let admin_socket = bind_admin(&generation.config)?;
        let bound = bind_new(&generation, |_| false, cpus.len())?;
        let (wake, signals) = signals::receive().map_err(system("signals can't be received"))?;

        let mut run_id = [0; 4];
        aws_lc_rs::rand::fill(&mut run_id)
            .map_err(|_| system("no random bytes")(io::Error::other("the generator failed")))?;
        let process = Arc::new(Process::new(
            ProcessMetrics::new(&metrics),
            u32::from_be_bytes(run_id),
            limits,
        ));
        let crls_changed = Arc::new(AtomicBool::new(false));
        let changed = crls_changed.clone();
        let targets = crl_targets(&generation, &metrics);
        let crls = Crls::spawn(disk.clone(), targets, copies, move || {
            changed.store(true, Ordering::Relaxed);
            // Without a receiver the process is at its end.
            let _ = wake.send(Signal::Wake);
        });
        let crls = crls.map_err(system("the thread of the CRLs can't be made"))?;
        let (events_in, events) = mpsc::channel();
        let mut workers = Vec::new();
        for &cpu in &cpus {
            let counters = WorkerMetrics::new(&metrics, cpu);
            let events = events_in.clone();
            let worker = worker::spawn(cpu, process.clone(), engine.clone(), counters, events)
                .map_err(system("a worker's thread can't be made"))?;
            workers.push(worker);
        }
        let self_test = selftest::spawn(engine, cpus)
            .map_err(system("the thread of the self-tests can't be made"))?;
        let snapshot = Arc::new(Snapshot { metrics, ready: AtomicBool::new(true) });
        let app = Self {
            path: path.to_owned(),
            snapshot: snapshot.clone(),
            process,
            sessions,
            cache_metrics,
            usage,
            _self_test: self_test,
            generation,
            workers,
            events,
            signals,
            descriptors,
            disk,
            crls,
            crls_changed,
        };
        app.apply(bound)?;
        app.publish_expiry();
        if let Some(socket) = admin_socket {
            admin::spawn(socket, snapshot).map_err(system("the admin side can't start"))?;
        }
        Ok(app)
    }

    /// Hands the generation to all workers and waits until each serves it.
    pub(super) fn apply(&self, bound: Bound) -> Result<(), StartError> {
        for (worker, bound) in self.workers.iter().zip(bound) {
            worker.tell(Command::Apply { generation: self.generation.clone(), bound });
        }
        let until = Instant::now() + APPLY_TIMEOUT;
        let mut serving = 0;
        while serving < self.workers.len() {
            match self.events.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Serves(number)) if number == self.generation.number => serving += 1,
                Ok(_) => {}
                Err(_) => return Err(StartError::Worker),
            }
        }
        self.process.metrics.generation(self.generation.number, now_s());
        Ok(())
    }

    /// Puts the dates of the generation's certificates into the metrics.
    pub(super) fn publish_expiry(&self) {
        #[allow(clippy::cast_precision_loss)] // seconds since 1970 fit a double's 53 bits
        self.set_expiry(|not_after| not_after as f64);
    }

    /// Takes them out again: what is no number alarms nobody.
    pub(super) fn forget_expiry(&self) {
        self.set_expiry(|_| f64::NAN);
    }

    fn set_expiry(&self, value: impl Fn(i64) -> f64) {
        let config = &self.generation.config;
        for certificate in config.listeners.iter().flat_map(|listener| &listener.certificates) {
            let file = certificate.chain_file.display().to_string();
            self.snapshot.metrics.register_expiry(&file, value(certificate.not_after));
        }
        for profile in config.trust.values() {
            if let Some(first) = profile.ca.iter().map(|ca| ca.not_after).min() {
                self.snapshot.metrics.register_trust_expiry(&profile.name, value(first));
            }
        }
    }
}

/// The engine of all workers. A library that is named has to work; where none was asked for, what
/// isn't there is only said.
fn engine(accel: &Accel) -> Result<Engine, StartError> {
    match Engine::load(&accel.crypto_mb) {
        Ok(engine) => {
            tracing::info!(engine = engine.name(), "handshakes are computed several at a time");
            Ok(engine.verifying_by(accel.verify))
        }
        Err(why) if matches!(accel.crypto_mb, Choice::File(_)) => Err(StartError::Engine(why)),
        Err(why) => {
            tracing::info!(%why, "handshakes are computed one at a time");
            Ok(Engine::scalar())
        }
    }
}

/// What keeps the CRLs of a generation up to date.
pub(super) fn crl_targets(generation: &Generation, metrics: &Metrics) -> Targets {
    let (config, stamps) = (&generation.config, generation.crl_stamps.clone());
    let targets = Targets::new(config, &generation.stores, stamps, state_dir().as_deref(), metrics);
    match &config.shadow {
        Some(candidate) => targets.with_candidate(candidate, &generation.candidate_stores, metrics),
        None => targets,
    }
}

/// What was fetched before the process was started again.
fn crl_copies(config: &Config, disk: &Disk) -> Copies {
    let fetches = config.trust.values().any(|profile| profile.revocation.fetch != CrlFetch::Off);
    match config.crl_fetching.state_dir.clone().or_else(state_dir) {
        Some(folder) if fetches => Copies::read_and_tidy(&folder, disk, UnixTime::now()),
        None if fetches => {
            let remedy = "set revocation.state_dir, or StateDirectory= of the unit";
            tracing::warn!("fetched CRLs don't outlive a restart: {remedy}");
            Copies::default()
        }
        _ => Copies::default(),
    }
}

/// The folder that systemd made for the service; of several, the first (systemd.exec(5)).
fn state_dir() -> Option<PathBuf> {
    let folders = std::env::var_os("STATE_DIRECTORY")?;
    let first = std::env::split_paths(&folders).next()?;
    first.is_absolute().then_some(first)
}

fn bind_admin(config: &Config) -> Result<Option<TcpListener>, StartError> {
    config
        .admin
        .listen
        .map(|address| {
            admin::bind(address).map_err(|error| StartError::Bind {
                what: "the admin side".into(),
                address,
                error,
            })
        })
        .transpose()
}
