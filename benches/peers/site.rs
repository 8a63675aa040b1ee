//! Where a comparison takes place: certificates, ports, backends, and one server at a time.

use std::{
    fmt::Write,
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    ops::Range,
    path::{Path, PathBuf},
    process::{Child, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use countersign::load::{Backend, BackendMode, CpuList};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{
    BenchError, Peer,
    config::{ConfigFile, Route, Setup},
    pki::{Pki, ServerKey},
};

/// The server's CPU.
const SERVER_CPU: usize = 0;
/// The CPU of load and backends.
const LOAD_CPU: &str = "1";
/// Of servers: below those that outgoing connections get by default, which would be in the way
/// between one server and the next.
const PORTS: Range<u16> = 30_480..32_768;
/// How long a server may take to listen, or to end.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);
/// No process may have come within this time, before the server counts as started.
const SETTLE: Duration = Duration::from_millis(100);
/// How often a server is started before it counts as one that doesn't start.
const STARTS: u32 = 3;
/// Between two such attempts.
const PAUSE: Duration = Duration::from_secs(1);
/// What is shown of the log of a server that failed: its end.
const LOG_SHOWN_BYTES: usize = 4 * 1024;

/// Certificates, ports and running backends, the same for all servers.
#[derive(Debug)]
pub(crate) struct Site {
    // Before the folder, so that nothing uses it when it goes.
    _backends: Vec<Backend>,
    pub(crate) pki: Pki,
    routes: Vec<Route>,
    crypto_mb: Option<PathBuf>,
    folder: TempDir,
}

/// A running server; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Server {
    peer: Peer,
    children: Vec<Child>,
    /// Each child and its descendants.
    pids: Vec<Vec<u32>>,
    routes: Vec<Route>,
    log: PathBuf,
    // After the children: the folder outlives them.
    _folder: TempDir,
}

/// Who has which CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placement {
    /// One worker of the server on CPU 0, load and backends on CPU 1.
    Apart,
    /// The server's workers and the load's threads share the first CPUs, one of each a CPU;
    /// backends stay on CPU 1.
    Together {
        /// At least 1.
        workers: u16,
        /// At least 1.
        load_threads: u16,
    },
}

impl Placement {
    pub(crate) fn workers(self) -> u16 {
        match self {
            Self::Apart => 1,
            Self::Together { workers, .. } => workers,
        }
    }

    pub(crate) fn load_threads(self) -> u16 {
        match self {
            Self::Apart => 1,
            Self::Together { load_threads, .. } => load_threads,
        }
    }

    /// The CPUs of the load's threads.
    pub(crate) fn load_cpus(self) -> Option<CpuList> {
        match self {
            Self::Apart => LOAD_CPU.parse().ok(),
            Self::Together { load_threads, .. } => format!("0-{}", load_threads - 1).parse().ok(),
        }
    }
}

/// Which port of the server is wanted: what is behind it, and what it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behind {
    Echo,
    Source,
    Discard,
    /// An echo as well, where the server's certificate is for an RSA key.
    RsaEcho,
}

impl Behind {
    fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Source => "source",
            Self::Discard => "discard",
            Self::RsaEcho => "rsa-echo",
        }
    }

    fn mode(self) -> BackendMode {
        match self {
            Self::Echo | Self::RsaEcho => BackendMode::Echo,
            Self::Source => BackendMode::Source,
            Self::Discard => BackendMode::Discard,
        }
    }

    fn key(self) -> ServerKey {
        match self {
            Self::RsaEcho => ServerKey::Rsa2048,
            _ => ServerKey::P256,
        }
    }
}

impl Site {
    /// Starts these backends. `new_chains` is how many client certificates there shall be that
    /// are shown once, `crypto_mb` the library that countersign computes handshakes with, instead
    /// of one that it finds itself.
    pub(crate) fn open(
        wanted: &[Behind],
        new_chains: usize,
        crypto_mb: Option<PathBuf>,
    ) -> Result<Self, BenchError> {
        let folder = TempDir::new().map_err(BenchError::io("a temporary folder"))?;
        let pki = Pki::write(folder.path(), new_chains)?;
        let cpus = LOAD_CPU.parse().ok();
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let backends = wanted
            .iter()
            .map(|behind| Backend::start(behind.mode(), local, 1, cpus.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;
        let ports = free_ports(wanted.len())?;
        let routes = wanted
            .iter()
            .zip(ports)
            .zip(&backends)
            .map(|((&behind, port), backend)| Route {
                behind,
                name: behind.name(),
                port,
                backend_port: backend.address().port(),
                key: behind.key(),
            })
            .collect();
        Ok(Self { pki, routes, crypto_mb, _backends: backends, folder })
    }

    /// The server's address that leads to that backend, which has to be one of those wanted.
    pub(crate) fn address(&self, behind: Behind) -> SocketAddr {
        let route = self.routes.iter().find(|route| route.behind == behind);
        SocketAddr::from((Ipv4Addr::LOCALHOST, route.map_or(0, |route| route.port)))
    }

    /// Starts `peer` in a folder of its own and waits until it listens everywhere.
    ///
    /// While others fill the memory with what they write, the kernel may have no room for a ring
    /// for a moment (ENOMEM), and a server ends at once that would start a second later.
    pub(crate) fn start(&self, peer: Peer, placement: Placement) -> Result<Server, BenchError> {
        for _ in 1..STARTS {
            match self.try_start(peer, placement) {
                Err(why @ BenchError::NotStarted { .. }) => eprintln!("  AGAIN: {why}"),
                outcome => return outcome,
            }
            thread::sleep(PAUSE);
        }
        self.try_start(peer, placement)
    }

    fn try_start(&self, peer: Peer, placement: Placement) -> Result<Server, BenchError> {
        let folder =
            TempDir::new_in(self.folder.path()).map_err(BenchError::io("a temporary folder"))?;
        let setup = Setup {
            pki: &self.pki,
            routes: &self.routes,
            workers: placement.workers(),
            crypto_mb: self.crypto_mb.as_deref(),
        };
        let mut server = Server {
            peer,
            children: Vec::new(),
            pids: Vec::new(),
            routes: self.routes.clone(),
            log: folder.path().join("log"),
            _folder: folder,
        };
        for ConfigFile { name, text } in peer.configuration(&setup) {
            let config = server.log.with_file_name(name);
            fs::write(&config, text).map_err(BenchError::io(config.display().to_string()))?;
            server.children.push(spawn(peer, &config, &server.log, placement)?);
        }

        let deadline = Instant::now() + PATIENCE;
        for route in &self.routes {
            while let Err(error) = TcpStream::connect((Ipv4Addr::LOCALHOST, route.port)) {
                if server.ended().is_some() || Instant::now() > deadline {
                    return Err(server.not_started(format!("port {}: {error}", route.port)));
                }
                thread::sleep(POLL);
            }
        }
        // A master listens before its workers are there.
        while server.pids.is_empty() || server.pids != server.descendants() {
            server.pids = server.descendants();
            thread::sleep(SETTLE);
        }
        if server.ended().is_some() {
            return Err(server.not_started("another process has its port".to_owned()));
        }
        Ok(server)
    }
}

impl Server {
    /// Ends the server in order.
    pub(crate) fn stop(mut self) -> Result<(), BenchError> {
        self.end().map_err(BenchError::io("ending the server"))
    }

    /// How one of its processes ended, if one did.
    fn ended(&mut self) -> Option<ExitStatus> {
        self.children.iter_mut().find_map(|child| child.try_wait().ok().flatten())
    }

    fn not_started(&mut self, reason: String) -> BenchError {
        BenchError::NotStarted { peer: self.peer, reason, state: self.state() }
    }

    /// Whether it runs or how it ended, and what it logged last.
    pub(crate) fn state(&mut self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_SHOWN_BYTES)..]);
        let mut text = match self.ended() {
            Some(status) => format!("{} ended with {status}", self.peer),
            None => format!("{} is still running", self.peer),
        };
        let _ = match log.trim_end() {
            "" => write!(text, ", and has logged nothing"),
            log => write!(text, ", and has logged:\n{log}"),
        };
        text
    }

    /// Which it is.
    pub(crate) fn peer(&self) -> Peer {
        self.peer
    }

    /// The processes that serve this backend.
    pub(crate) fn pids(&self, behind: Behind) -> Vec<u32> {
        // Either one process serves all routes, or each has its own, in their order.
        let place = self.routes.iter().position(|route| route.behind == behind).unwrap_or(0);
        self.pids.get(place).or(self.pids.first()).cloned().unwrap_or_default()
    }

    fn descendants(&self) -> Vec<Vec<u32>> {
        self.children.iter().map(|child| descendants(child.id())).collect()
    }

    /// Asks first, so that a master process takes its workers along; then insists. The ports are
    /// free when it returns.
    fn end(&mut self) -> io::Result<()> {
        let pids = self.descendants();
        for child in &mut self.children {
            if child.try_wait()?.is_none() {
                signal(child.id(), Signal::TERM);
            }
        }
        let deadline = Instant::now() + PATIENCE;
        for child in &mut self.children {
            while child.try_wait()?.is_none() && Instant::now() < deadline {
                thread::sleep(POLL);
            }
        }
        for child in &mut self.children {
            if child.try_wait()?.is_none() {
                for &pid in pids.iter().flatten() {
                    signal(pid, Signal::KILL);
                }
                child.wait()?;
            }
        }
        self.wait_for_ports()
    }

    /// What an io_uring waits for keeps its sockets, and the kernel takes a ring apart after its
    /// process has ended: until then the next server could not have the ports, and who connects
    /// would take the last one's sockets for its.
    fn wait_for_ports(&self) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        for route in &self.routes {
            // Binds with SO_REUSEADDR, so that only one who listens is in the way.
            while let Err(error) = TcpListener::bind((Ipv4Addr::LOCALHOST, route.port)) {
                if Instant::now() > deadline {
                    let what =
                        format!("port {} after {} has ended: {error}", route.port, self.peer);
                    return Err(io::Error::new(error.kind(), what));
                }
                thread::sleep(POLL);
            }
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// Apart from the load, the child inherits the CPU of the thread that starts it, whatever its own
/// options do.
fn spawn(peer: Peer, config: &Path, log: &Path, placement: Placement) -> Result<Child, BenchError> {
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .map_err(BenchError::io(log.display().to_string()))?;
    let errors = log.try_clone().map_err(BenchError::io("the server's log"))?;
    let mut command = peer.command(config);
    command.stdin(Stdio::null()).stdout(log).stderr(errors);
    if let Some(folder) = config.parent() {
        command.current_dir(folder);
    }
    let spawner = thread::spawn(move || {
        if placement == Placement::Apart {
            core_affinity::set_for_current(core_affinity::CoreId { id: SERVER_CPU });
        }
        command.spawn()
    });
    spawner
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the spawning thread panicked")))
        .map_err(BenchError::io(peer.program().display().to_string()))
}

/// Ports that were free a moment ago; runs at the same time begin at different ones.
fn free_ports(count: usize) -> Result<Vec<u16>, BenchError> {
    let start = std::process::id() as usize % PORTS.len();
    let ports: Vec<_> = PORTS
        .skip(start)
        .chain(PORTS.take(start))
        .filter(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
        .take(count)
        .collect();
    if ports.len() < count {
        let none = io::Error::from(io::ErrorKind::AddrInUse);
        return Err(BenchError::io(format!("ports {PORTS:?}"))(none));
    }
    Ok(ports)
}

/// `pid` and all that it started, as far as the kernel lists them (proc(5), `children`).
fn descendants(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        next += 1;
        let tasks = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
        for task in tasks {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
    }
    found
}

fn signal(pid: u32, signal: Signal) {
    // A process that has ended already is what we want.
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}
