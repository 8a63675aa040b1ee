//! The plain-TCP server that belongs behind the terminator under test.
//!
//! It understands nothing but bytes. An idle connection holds no buffer: each thread lends its
//! few buffers to the connections that have something to read.

use std::{
    cell::RefCell,
    io,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::watch,
};

use super::{
    LoadError,
    options::{BackendArgs, BackendMode, CpuList},
    pattern::Position,
    pin,
};

/// The listen queue of each thread.
const BACKLOG: i32 = 4096;
/// What is read or written at a time.
const BUFFER_BYTES: usize = 64 * 1024;
/// Pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// A running backend; dropping it ends its threads and connections.
#[derive(Debug)]
pub struct Backend {
    address: SocketAddr,
    served: Arc<Served>,
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Served {
    connections: AtomicU64,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
}

impl Backend {
    /// Listens and serves on its own threads.
    ///
    /// # Errors
    /// [`LoadError::Listen`] if the address can't be had.
    pub fn start(
        mode: BackendMode,
        listen: SocketAddr,
        threads: u16,
        cpus: Option<&CpuList>,
    ) -> Result<Self, LoadError> {
        let (stop, stopped) = watch::channel(false);
        let served = Arc::new(Served::default());
        let mut backend =
            Self { address: listen, served: Arc::clone(&served), stop, threads: Vec::new() };
        for index in 0..threads.max(1) {
            // The first socket may have got its port from the kernel; the others share it.
            let failed = |source| LoadError::Listen { listen, source };
            let socket = listening_socket(backend.address).map_err(failed)?;
            backend.address = socket.local_addr().map_err(failed)?;
            let cpu = cpus.map(|cpus| cpus.cpu_of(usize::from(index)));
            let (served, stopped) = (Arc::clone(&served), stopped.clone());
            let (report, started) = mpsc::channel();
            let thread = std::thread::Builder::new()
                .name(format!("backend-{index}"))
                .spawn(move || {
                    let runtime = match start_thread(cpu) {
                        Ok(runtime) => runtime,
                        Err(error) => return drop(report.send(Err(error))),
                    };
                    let _ = report.send(Ok(()));
                    serve(&runtime, socket, mode, served, stopped);
                })
                .map_err(|error| LoadError::Thread(error.to_string()))?;
            backend.threads.push(thread);
            started.recv().map_err(|error| LoadError::Thread(error.to_string()))??;
        }
        Ok(backend)
    }

    /// Where it listens, with the port that the kernel chose for port 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.served.connections.load(Ordering::Relaxed)
    }

    /// Bytes received so far.
    #[must_use]
    pub fn received_bytes(&self) -> u64 {
        self.served.received_bytes.load(Ordering::Relaxed)
    }

    /// Bytes handed to the kernel so far.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        self.served.sent_bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// `countersign load backend`: serves until SIGTERM or SIGINT, then says what it did.
pub(super) fn serve_until_signal(args: &BackendArgs) -> Result<(), LoadError> {
    let mut signals =
        Signals::new([SIGTERM, SIGINT]).map_err(|error| LoadError::Thread(error.to_string()))?;
    let backend = Backend::start(args.mode, args.listen, args.threads, args.cpus.as_ref())?;
    eprintln!("backend listens on {}", backend.address());
    let _ = signals.forever().next();
    eprintln!(
        "backend served {} connections, {} bytes received, {} bytes sent",
        backend.connections(),
        backend.received_bytes(),
        backend.sent_bytes()
    );
    Ok(())
}

fn listening_socket(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn start_thread(cpu: Option<usize>) -> Result<Runtime, LoadError> {
    cpu.map_or(Ok(()), pin)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| LoadError::Thread(error.to_string()))
}

fn serve(
    runtime: &Runtime,
    socket: std::net::TcpListener,
    mode: BackendMode,
    served: Arc<Served>,
    mut stopped: watch::Receiver<bool>,
) {
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(runtime, async {
        // Only a descriptor that epoll doesn't know could fail; a listening socket isn't one.
        let Ok(listener) = TcpListener::from_std(socket) else { return };
        let shared = Rc::new(Shared { mode, served, spare: RefCell::default() });
        loop {
            tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => return,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        shared.served.connections.fetch_add(1, Ordering::Relaxed);
                        tokio::task::spawn_local(Rc::clone(&shared).connection(stream));
                    }
                    // The client's fault or a shortage that passes; neither ends the backend.
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                },
            }
        }
    });
}

/// What the connections of a thread share.
struct Shared {
    mode: BackendMode,
    served: Arc<Served>,
    spare: RefCell<Vec<Box<[u8]>>>,
}

impl Shared {
    /// Serves one connection; how it ends is the peer's business.
    async fn connection(self: Rc<Self>, stream: TcpStream) {
        let _ = match self.mode {
            BackendMode::Echo => self.echo(&stream).await,
            BackendMode::Discard => self.discard(&stream).await,
            BackendMode::Source => self.source(&stream).await,
        };
    }

    async fn echo(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        loop {
            stream.readable().await?;
            let mut buffer = self.borrow();
            let outcome = match self.read(stream, &mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => self.write_all(stream, &buffer[..read]).await,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
                Err(error) => Err(error),
            };
            self.spare.borrow_mut().push(buffer);
            outcome?;
        }
    }

    async fn discard(&self, stream: &TcpStream) -> io::Result<()> {
        loop {
            stream.readable().await?;
            let mut buffer = self.borrow();
            let outcome = self.read(stream, &mut buffer);
            self.spare.borrow_mut().push(buffer);
            match outcome {
                Ok(0) => return Ok(()),
                Ok(_) => tokio::task::yield_now().await,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn source(&self, stream: &TcpStream) -> io::Result<()> {
        let mut position = Position::default();
        loop {
            let data = position.upcoming(BUFFER_BYTES);
            self.write_all(stream, data).await?;
            position.advance(data.len());
            tokio::task::yield_now().await;
        }
    }

    fn borrow(&self) -> Box<[u8]> {
        let spare = self.spare.borrow_mut().pop();
        spare.unwrap_or_else(|| vec![0; BUFFER_BYTES].into_boxed_slice())
    }

    fn read(&self, stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        let read = stream.try_read(buffer)?;
        self.served.received_bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }

    async fn write_all(&self, stream: &TcpStream, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            match stream.try_write(data) {
                Ok(written) => {
                    self.served.sent_bytes.fetch_add(written as u64, Ordering::Relaxed);
                    data = &data[written..];
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    stream.writable().await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
