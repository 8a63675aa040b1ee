//! Where a comparison takes place: certificates, ports, backends, and one server at a time.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use countersign::load::{Backend, BackendMode, CpuList};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{
    BenchError, Peer,
    config::{ConfigFile, Route},
    pki::Pki,
};

/// The server's CPU.
const SERVER_CPU: usize = 0;
/// The CPU of load and backends.
const LOAD_CPU: &str = "1";
/// How long a server may take to listen, or to end.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);
/// No process may have come within this time, before the server counts as started.
const SETTLE: Duration = Duration::from_millis(100);

/// Certificates, ports and running backends, the same for all servers.
#[derive(Debug)]
pub(crate) struct Site {
    // Before the folder, so that nothing uses it when it goes.
    _backends: [Backend; 3],
    pub(crate) pki: Pki,
    routes: [Route; 3],
    folder: TempDir,
}

/// A running server; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Server {
    children: Vec<Child>,
    /// Each child and its descendants.
    pids: Vec<Vec<u32>>,
    speaks_tls: bool,
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

/// Which backend is wanted; routes, and processes that serve one each, are in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behind {
    Echo,
    Source,
    Discard,
}

impl Site {
    pub(crate) fn open() -> Result<Self, BenchError> {
        let folder = TempDir::new().map_err(BenchError::io("a temporary folder"))?;
        let cpus = LOAD_CPU.parse().ok();
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let backend = |mode| Backend::start(mode, local, 1, cpus.as_ref());
        let backends = [
            backend(BackendMode::Echo)?,
            backend(BackendMode::Source)?,
            backend(BackendMode::Discard)?,
        ];
        let ports = free_ports()?;
        let route = |index: usize, name| Route {
            name,
            port: ports[index],
            backend_port: backends[index].address().port(),
        };
        let routes = [route(0, "echo"), route(1, "source"), route(2, "discard")];
        Ok(Self { pki: Pki::write(folder.path())?, routes, _backends: backends, folder })
    }

    /// The server's address that leads to that backend.
    pub(crate) fn address(&self, behind: Behind) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.routes[behind as usize].port))
    }

    /// Starts `peer` in a folder of its own and waits until it listens everywhere.
    pub(crate) fn start(&self, peer: Peer, placement: Placement) -> Result<Server, BenchError> {
        let folder =
            TempDir::new_in(self.folder.path()).map_err(BenchError::io("a temporary folder"))?;
        let log = folder.path().join("log");
        let mut children = Vec::new();
        for ConfigFile { name, text } in
            peer.configuration(&self.pki, &self.routes, placement.workers())
        {
            let config = folder.path().join(name);
            fs::write(&config, text).map_err(BenchError::io(config.display().to_string()))?;
            children.push(spawn(peer, &config, &log, placement)?);
        }
        let mut server =
            Server { children, pids: Vec::new(), speaks_tls: peer.speaks_tls(), _folder: folder };
        let not_started = |reason: String| BenchError::NotStarted {
            peer,
            reason,
            log: fs::read_to_string(&log).unwrap_or_default(),
        };

        let deadline = Instant::now() + PATIENCE;
        for behind in [Behind::Echo, Behind::Source, Behind::Discard] {
            while let Err(error) = TcpStream::connect(self.address(behind)) {
                if let Some(status) = server.ended() {
                    return Err(not_started(format!("it ended with {status}")));
                }
                if Instant::now() > deadline {
                    return Err(not_started(format!("it doesn't listen: {error}")));
                }
                thread::sleep(POLL);
            }
        }
        // A master listens before its workers are there.
        while server.pids.is_empty() || server.pids != server.descendants() {
            server.pids = server.descendants();
            thread::sleep(SETTLE);
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

    /// Whether the client speaks TLS to it.
    pub(crate) fn speaks_tls(&self) -> bool {
        self.speaks_tls
    }

    /// The processes that serve this backend.
    pub(crate) fn pids(&self, behind: Behind) -> Vec<u32> {
        let place = if self.pids.len() == 1 { 0 } else { behind as usize };
        self.pids[place].clone()
    }

    fn descendants(&self) -> Vec<Vec<u32>> {
        self.children.iter().map(|child| descendants(child.id())).collect()
    }

    /// Asks first, so that a master process takes its workers along; then insists.
    fn end(&mut self) -> std::io::Result<()> {
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
        .unwrap_or_else(|_| Err(std::io::Error::other("the spawning thread panicked")))
        .map_err(BenchError::io(peer.program().display().to_string()))
}

/// Three ports that were free a moment ago.
fn free_ports() -> Result<[u16; 3], BenchError> {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let ports = || {
        let held = [bind()?, bind()?, bind()?];
        let [a, b, c] = &held;
        Ok([a.local_addr()?.port(), b.local_addr()?.port(), c.local_addr()?.port()])
    };
    ports().map_err(BenchError::io("finding free ports"))
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
