//! The servers behind a listener.

use std::{
    fmt, io,
    pin::pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use socket2::SockAddr;

use crate::{
    config::{self, ServerAddress},
    metrics::{BackendMetrics, BackendResult},
    ring::Socket,
    sessions::Session,
    trust::Permit,
};

/// One backend of a generation, shared by all workers.
#[derive(Debug)]
pub struct Backend {
    /// What the configuration says.
    pub config: Arc<config::Backend>,
    metrics: BackendMetrics,
    /// Which server is tried first next time.
    next: AtomicUsize,
}

/// No server of a backend could be reached.
#[derive(Debug)]
pub struct Unreachable {
    /// What happened with each, in the order of the attempts.
    pub attempts: Vec<(ServerAddress, io::Error)>,
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (server, error)) in self.attempts.iter().enumerate() {
            let separator = if place == 0 { "" } else { "; " };
            write!(f, "{separator}{server}: {error}")?;
        }
        Ok(())
    }
}

impl Backend {
    /// A backend as the configuration says, counting into `metrics`.
    pub fn new(config: Arc<config::Backend>, metrics: BackendMetrics) -> Self {
        Self { config, metrics, next: AtomicUsize::new(0) }
    }

    /// Connects to the next server in turn, or to one after it that can be reached. Only who
    /// has a permit gets here; `session`'s end also ends the attempt.
    ///
    /// # Errors
    /// What happened with each server.
    pub async fn dial(
        &self,
        _permit: &Permit,
        session: &Session,
    ) -> Result<Rc<Socket>, Unreachable> {
        let servers = &self.config.servers;
        let first = self.next.fetch_add(1, Ordering::Relaxed) % servers.len();
        let mut attempts = Vec::new();
        for server in servers[first..].iter().chain(&servers[..first]) {
            let began = Instant::now();
            let result = self.connect(server, session).await;
            let outcome = match &result {
                Ok(_) => BackendResult::Connected,
                Err(error) => match error.kind() {
                    io::ErrorKind::ConnectionRefused => BackendResult::Refused,
                    io::ErrorKind::TimedOut => BackendResult::TimedOut,
                    _ => BackendResult::Failed,
                },
            };
            self.metrics.attempted(outcome, began.elapsed());
            match result {
                Ok(socket) => return Ok(socket),
                Err(error) => attempts.push((server.clone(), error)),
            }
            if session.ended().is_some() {
                break;
            }
        }
        Err(Unreachable { attempts })
    }

    async fn connect(&self, server: &ServerAddress, session: &Session) -> io::Result<Rc<Socket>> {
        let address = match server {
            ServerAddress::Tcp(address) => SockAddr::from(*address),
            ServerAddress::Unix(path) => SockAddr::unix(path)?,
        };
        let socket = Socket::open(&address)?;
        if matches!(server, ServerAddress::Tcp(_)) {
            socket.options().set_tcp_nodelay(true)?;
        }
        session.attach(socket.clone());
        let mut connecting = pin!(socket.connect(address));
        let timer = tokio::time::sleep(self.config.connect_timeout);
        tokio::select! {
            biased;
            result = &mut connecting => return result.map(|()| socket.clone()),
            () = timer => socket.cancel(),
        }
        // The operation in flight is waited for, never dropped; it may have succeeded just now.
        let _ = connecting.await;
        Err(io::Error::new(io::ErrorKind::TimedOut, "not connected within connect_timeout"))
    }
}
