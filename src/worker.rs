//! One pinned thread: its ring, its listening sockets, its connections.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io,
    net::{SocketAddr, TcpListener},
    rc::Rc,
    sync::{Arc, mpsc},
    thread::JoinHandle,
};

use tokio::{sync::mpsc as commands, time::MissedTickBehavior};

use crate::{
    admission::Door,
    crypto::{Engine, lanes},
    generation::{Generation, Service},
    handshake,
    listener::Listening,
    metrics::{CloseCause, WorkerMetrics},
    process::Process,
    ring::{self, Pool, PoolLimits},
    sessions::{PAUSE, Sessions, Swept, TICK},
    sys,
};

/// Ticks between two readings of the thread's CPU time: one second.
const TICKS_A_READING: u32 = 10;

/// What a worker is told.
#[derive(Debug)]
pub enum Command {
    /// Serve this generation from now on.
    Apply {
        /// The generation.
        generation: Arc<Generation>,
        /// This worker's sockets for those addresses that it doesn't listen on yet.
        bound: HashMap<SocketAddr, TcpListener>,
    },
    /// Decide about every live connection again: whether certificates are revoked may have
    /// changed.
    Recheck,
    /// Stop accepting; end when the last connection has.
    Drain,
    /// The time for draining is over: end the connections.
    Close,
    /// End at once.
    Stop,
}

/// What a worker tells: it serves the generation of that number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Serves(pub u64);

/// What a worker's tasks share.
#[derive(Debug)]
pub struct Worker {
    /// What all workers share.
    pub process: Arc<Process>,
    /// Its live connections.
    pub sessions: Rc<Sessions>,
    /// Its buffers.
    pub pool: Rc<Pool>,
    /// Where its connections come in.
    pub door: Rc<Door>,
    cpu: usize,
    next_id: Cell<u64>,
    /// Listening sockets that may still hand over connections.
    accepting: Cell<usize>,
}

impl Worker {
    /// A listening socket begins, or has ended, to hand over connections.
    pub fn accepts(&self, begins: bool) {
        let now = self.accepting.get();
        self.accepting.set(if begins { now + 1 } else { now - 1 });
    }

    /// A name for the next connection, unique among all runs on this host: the run, the
    /// worker's CPU and a count, in hexadecimal.
    pub fn next_connection_id(&self) -> String {
        let count = self.next_id.get();
        self.next_id.set(count + 1);
        format!("{:08x}-{:x}-{count:x}", self.process.run_id, self.cpu)
    }
}

/// The controlling end of a worker.
#[derive(Debug)]
pub struct Handle {
    /// The CPU that it is pinned to.
    pub cpu: usize,
    commands: commands::UnboundedSender<Command>,
    thread: JoinHandle<()>,
}

impl Handle {
    /// Tells it. A worker that is gone hears nothing; see [`Handle::has_ended`].
    pub fn tell(&self, command: Command) {
        let _ = self.commands.send(command);
    }

    /// Whether its thread is over.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for its thread; false if it panicked.
    pub fn join(self) -> bool {
        self.thread.join().is_ok()
    }
}

/// Starts a worker on `cpu`, whose handshakes use `engine`, and which reports to `events`.
///
/// # Errors
/// If the thread can't be made.
pub fn spawn(
    cpu: usize,
    process: Arc<Process>,
    engine: Arc<Engine>,
    metrics: WorkerMetrics,
    events: mpsc::Sender<Serves>,
) -> io::Result<Handle> {
    let (sender, receiver) = commands::unbounded_channel();
    let thread = std::thread::Builder::new().name(format!("worker-{cpu}")).spawn(move || {
        if !sys::pin_to_cpu(cpu) {
            tracing::warn!(cpu, "worker could not be pinned to its CPU; it runs unpinned");
        }
        // Without a library nothing ever waits in the lanes.
        let batches = engine.is_accelerated();
        lanes::install(engine);
        ring::run(async move {
            if batches {
                ring::spawn(handshake::serve_lanes());
                ring::spawn(handshake::serve_aside());
            }
            let worker = Rc::new(Worker {
                door: Door::new(process.budgets.clone()),
                process,
                sessions: Sessions::new(),
                pool: Pool::new(PoolLimits::default()),
                cpu,
                next_id: Cell::new(0),
                accepting: Cell::new(0),
            });
            Life { worker, metrics, events, listening: RefCell::default() }.run(receiver).await;
        });
    })?;
    Ok(Handle { cpu, commands: sender, thread })
}

/// A worker's own loop: commands and the clock.
struct Life {
    worker: Rc<Worker>,
    metrics: WorkerMetrics,
    events: mpsc::Sender<Serves>,
    listening: RefCell<HashMap<SocketAddr, Listening>>,
}

impl Life {
    async fn run(&self, mut commands: commands::UnboundedReceiver<Command>) {
        let mut clock = tokio::time::interval(TICK);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut draining = false;
        let mut ticks = 0_u32;
        loop {
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(Command::Apply { generation, bound }) => self.apply(&generation, bound),
                    Some(Command::Recheck) => self.worker.sessions.recheck(),
                    Some(Command::Drain) => {
                        draining = true;
                        self.listening.borrow_mut().clear();
                    }
                    Some(Command::Close) => self.worker.sessions.end_all(CloseCause::Drained),
                    Some(Command::Stop) | None => return,
                },
                _ = clock.tick() => {
                    self.worker.sessions.tick();
                    self.enforce();
                    ticks = ticks.wrapping_add(1);
                    if ticks.is_multiple_of(TICKS_A_READING) {
                        self.metrics.busy(sys::thread_cpu_time() + lanes::aside_cpu_time());
                    }
                }
                () = tokio::time::sleep(PAUSE), if self.worker.sessions.has_work() => {
                    self.enforce();
                }
            }
            let accepting = self.worker.accepting.get() > 0;
            if draining && !accepting && self.worker.sessions.is_empty() {
                // What was just written to sockets is with the kernel; nothing is lost.
                return;
            }
        }
    }

    /// Ends connections whose time is up, and decides again about others: a turn of it.
    fn enforce(&self) {
        if let Some(Swept { looked_at, ended }) = self.worker.sessions.work()
            && ended > 0
        {
            let worker = self.worker.cpu;
            tracing::info!(worker, looked_at, ended, "live connections lost their authorisation");
        }
    }

    /// Serves `generation`: sockets that stay get its services, others are closed or opened.
    fn apply(&self, generation: &Generation, mut bound: HashMap<SocketAddr, TcpListener>) {
        let services = generation.services.iter();
        // First, so that no connection of the new generation is held to the old one.
        let terms = services.map(|service| (service.config.name.clone(), service.terms()));
        self.worker.sessions.apply(terms);
        let mut listening = self.listening.borrow_mut();
        let mut next = HashMap::new();
        for service in &generation.services {
            for &address in &service.config.listen {
                if let Some(open) = self.listen(&mut listening, &mut bound, address, service) {
                    next.insert(address, open);
                }
            }
        }
        // What is left in the old map closes here.
        *listening = next;
        let _ = self.events.send(Serves(generation.number));
    }

    fn listen(
        &self,
        open: &mut HashMap<SocketAddr, Listening>,
        bound: &mut HashMap<SocketAddr, TcpListener>,
        address: SocketAddr,
        service: &Arc<Service>,
    ) -> Option<Listening> {
        if let Some(listening) = open.remove(&address) {
            listening.serve(service.clone());
            return Some(listening);
        }
        let socket = bound.remove(&address)?;
        Some(Listening::start(&self.worker, socket, service.clone()))
    }
}
