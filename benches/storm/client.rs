//! The clients of the storm: real ones, each of which gives up after a while, and such as never
//! finish.

use std::{
    cell::RefCell,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{ClientConfig, ClientConnection, client::Resumption};
use rustls_pki_types::ServerName;
use tokio::{
    net::{TcpSocket, TcpStream},
    task::LocalSet,
};

use crate::{
    Failed,
    site::{SERVER_NAME, Site, cpu_time},
};

/// Addresses that the storm comes from.
const ADDRESSES: usize = 250;

/// How long one that never finishes holds on.
const HOLD: Duration = Duration::from_secs(5);

/// Clients that may be at it at a time: those beyond it count as not offered.
const MOST_AT_A_TIME: usize = 12_000;

/// How often the storm looks at its clock.
const STEP: Duration = Duration::from_millis(1);

/// What became of the clients that began in a window.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// All that began, those that never finish included.
    pub(crate) offered: u64,
    /// Handshakes that succeeded, proved by a byte to the backend and back.
    pub(crate) served: u64,
    /// Those of them that ended within the window.
    pub(crate) served_in_window: u64,
    /// Ended by the server before that.
    pub(crate) turned_away: u64,
    /// They lost their patience.
    pub(crate) gave_up: u64,
    /// They never meant to finish.
    pub(crate) stuck: u64,
    /// What was served took so long, µs.
    pub(crate) took_us: Vec<u64>,
    /// How long the window was.
    pub(crate) window: Duration,
    /// What the server's process used in it.
    pub(crate) server_cpu: Duration,
    /// And this one, with the backend and everything else on the load's CPU.
    pub(crate) own_cpu: Duration,
}

/// How one client ended.
enum End {
    Served(Duration),
    TurnedAway,
    GaveUp,
}

impl Counts {
    fn note(&mut self, end: &End) {
        match end {
            End::Served(took) => {
                self.served += 1;
                self.took_us.push(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
            }
            End::TurnedAway => self.turned_away += 1,
            End::GaveUp => self.gave_up += 1,
        }
    }
}

/// Clients at work.
struct Run {
    clients: Clients,
    ends: Instant,
    counts: RefCell<Counts>,
}

impl Run {
    /// One client from one of the storm's addresses.
    async fn client(&self, number: usize, is_stuck: bool) {
        self.counts.borrow_mut().offered += 1;
        if is_stuck {
            self.counts.borrow_mut().stuck += 1;
            // However it ends, it isn't served.
            let _ = self.clients.begin_and_hold(address(number)).await;
            return;
        }
        let end = self.clients.attempt(address(number)).await;
        let mut counts = self.counts.borrow_mut();
        counts.note(&end);
        if matches!(end, End::Served(_)) && Instant::now() <= self.ends {
            counts.served_in_window += 1;
        }
    }
}

/// What clients connect with.
#[derive(Debug, Clone)]
pub(crate) struct Clients {
    pid: u32,
    target: SocketAddr,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    patience: Duration,
}

impl Clients {
    pub(crate) fn new(site: &Site, patience: Duration) -> Result<Self, Failed> {
        let mut config = site.client_config()?;
        config.resumption = Resumption::disabled();
        let name = ServerName::try_from(SERVER_NAME)?;
        Ok(Self {
            pid: site.pid(),
            target: site.address(),
            config: Arc::new(config),
            name,
            patience,
        })
    }

    /// One client from there, which has to be served.
    pub(crate) fn once(&self, from: Ipv4Addr) -> Result<(), Failed> {
        match runtime()?.block_on(self.attempt(from)) {
            End::Served(_) => Ok(()),
            End::TurnedAway | End::GaveUp => Err("the partner isn't let in".into()),
        }
    }

    /// So many clients at a time, each followed by the next.
    pub(crate) fn closed_loop(&self, clients: usize, window: Duration) -> Result<Counts, Failed> {
        self.run(window, async |run, ends| {
            for number in 0..clients {
                let run = run.clone();
                tokio::task::spawn_local(async move {
                    while Instant::now() < ends {
                        run.client(number, false).await;
                    }
                });
            }
            tokio::time::sleep_until(ends.into()).await;
        })
    }

    /// One client after the other from there, so often.
    pub(crate) fn again_and_again(
        &self,
        from: Ipv4Addr,
        every: Duration,
        window: Duration,
    ) -> Result<Counts, Failed> {
        let mut counts = Counts::default();
        let ends = Instant::now() + window;
        runtime()?.block_on(async {
            let mut clock = tokio::time::interval(every);
            while Instant::now() < ends {
                clock.tick().await;
                counts.offered += 1;
                let end = self.attempt(from).await;
                counts.note(&end);
            }
        });
        Ok(counts)
    }

    /// Clients that come at that rate whatever becomes of the others, a share of which never
    /// finishes.
    pub(crate) fn open_loop(
        &self,
        rate: f64,
        stuck: f64,
        window: Duration,
    ) -> Result<Counts, Failed> {
        self.run(window, async |run, ends| {
            let began = Instant::now();
            let mut clock = tokio::time::interval(STEP);
            let (mut due, mut stuck_due, mut number) = (0.0, 0.0, 0);
            while Instant::now() < ends {
                clock.tick().await;
                let until = began.elapsed().as_secs_f64() * rate;
                while due < until {
                    due += 1.0;
                    if Rc::strong_count(&run) > MOST_AT_A_TIME {
                        continue;
                    }
                    number += 1;
                    stuck_due += stuck;
                    let is_stuck = stuck_due >= 1.0;
                    stuck_due -= f64::from(u8::from(is_stuck));
                    let run = run.clone();
                    tokio::task::spawn_local(async move { run.client(number, is_stuck).await });
                }
            }
        })
    }

    /// Counts what `begin` begins until the window ends, and lets it come to its end.
    fn run(
        &self,
        window: Duration,
        begin: impl AsyncFnOnce(Rc<Run>, Instant),
    ) -> Result<Counts, Failed> {
        let (runtime, tasks) = (runtime()?, LocalSet::new());
        let (server, own) = (cpu_time(self.pid)?, cpu_time(std::process::id())?);
        let began = Instant::now();
        let run = Rc::new(Run {
            clients: self.clone(),
            ends: began + window,
            counts: RefCell::default(),
        });
        tasks.block_on(&runtime, begin(run.clone(), run.ends));
        let window = began.elapsed();
        let (server, own) = (cpu_time(self.pid)? - server, cpu_time(std::process::id())? - own);
        runtime.block_on(tasks);
        let run = Rc::into_inner(run).ok_or("a client outlived its run")?;
        let counts = run.counts.into_inner();
        Ok(Counts { window, server_cpu: server, own_cpu: own, ..counts })
    }

    async fn attempt(&self, from: Ipv4Addr) -> End {
        let began = Instant::now();
        match tokio::time::timeout(self.patience, self.exchange(from)).await {
            Ok(Ok(())) => End::Served(began.elapsed()),
            Ok(Err(_)) => End::TurnedAway,
            Err(_) => End::GaveUp,
        }
    }

    /// Shakes hands, and has a byte sent to the backend and back.
    async fn exchange(&self, from: Ipv4Addr) -> io::Result<()> {
        let (stream, mut tls) = self.open(from).await?;
        pump(&stream, &mut tls, |tls| !tls.is_handshaking()).await?;
        tls.writer().write_all(b"x")?;
        pump(&stream, &mut tls, |tls| matches!(tls.reader().read(&mut [0]), Ok(1))).await?;
        tls.send_close_notify();
        pump(&stream, &mut tls, |_| true).await
    }

    /// Sends its ClientHello and nothing more.
    async fn begin_and_hold(&self, from: Ipv4Addr) -> io::Result<()> {
        let (stream, mut tls) = self.open(from).await?;
        pump(&stream, &mut tls, |_| true).await?;
        tokio::time::sleep(HOLD).await;
        drop(stream);
        Ok(())
    }

    async fn open(&self, from: Ipv4Addr) -> io::Result<(TcpStream, ClientConnection)> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        let stream = socket.connect(self.target).await?;
        stream.set_nodelay(true)?;
        let tls = ClientConnection::new(self.config.clone(), self.name.clone());
        Ok((stream, tls.map_err(io::Error::other)?))
    }
}

/// One of the storm's addresses: each of them in turn, and in every round from another one on, so
/// that those who never finish come from all of them.
fn address(number: usize) -> Ipv4Addr {
    let host = u8::try_from((number + number / ADDRESSES) % ADDRESSES).unwrap_or(0);
    Ipv4Addr::new(127, 0, 1, host + 1)
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Moves bytes until `done` says so; it is asked when all that there is was written.
async fn pump(
    stream: &TcpStream,
    tls: &mut ClientConnection,
    mut done: impl FnMut(&mut ClientConnection) -> bool,
) -> io::Result<()> {
    loop {
        while tls.wants_write() {
            match tls.write_tls(&mut Nonblocking(stream)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    stream.writable().await?;
                }
                Err(error) => return Err(error),
            }
        }
        if done(tls) {
            return Ok(());
        }
        stream.readable().await?;
        match tls.read_tls(&mut Nonblocking(stream)) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => tls.process_new_packets().map(drop).map_err(io::Error::other)?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// A stream as rustls reads and writes it.
struct Nonblocking<'s>(&'s TcpStream);

impl Read for Nonblocking<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Nonblocking<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
