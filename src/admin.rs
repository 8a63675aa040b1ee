//! The admin side, on a thread of its own: it sees snapshots and can't slow a worker.

use std::{
    future::Future,
    io,
    net::{SocketAddr, TcpListener},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep},
};

use crate::metrics::Metrics;

/// Connections to the admin side at a time; more wait in the kernel's queue. They come out of the
/// descriptors that are kept back from clients, so that nobody here can take those away.
const MAX_CONNECTIONS: usize = 64;

/// How long a connection may go without a byte of an answer. Longer than Prometheus' scrape
/// interval of a minute, so that its connection is kept.
const QUIET_LIMIT: Duration = Duration::from_secs(90);

/// What the admin side knows.
#[derive(Debug)]
pub struct Snapshot {
    /// The metrics.
    pub metrics: Metrics,
    /// New connections are taken.
    pub ready: AtomicBool,
}

/// Binds the admin address.
///
/// # Errors
/// Those of bind(2).
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves `/metrics` and `/healthz` until the process ends.
///
/// # Errors
/// If the thread can't be made.
pub fn spawn(listener: TcpListener, snapshot: Arc<Snapshot>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("admin".into()).spawn(move || {
        runtime.block_on(async {
            let routes = Router::new()
                .route("/metrics", get(metrics))
                .route("/healthz", get(health))
                .with_state(snapshot);
            let served = match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => axum::serve(Limited::new(listener), routes).await,
                Err(error) => Err(error),
            };
            if let Err(error) = served {
                tracing::error!(%error, "the admin side ended");
            }
        });
    })?;
    Ok(())
}

async fn metrics(State(snapshot): State<Arc<Snapshot>>) -> impl IntoResponse {
    let format = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (format, snapshot.metrics.render())
}

async fn health(State(snapshot): State<Arc<Snapshot>>) -> impl IntoResponse {
    if snapshot.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "serving\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    }
}

/// Accepts no more than [`MAX_CONNECTIONS`] at a time.
struct Limited {
    listener: tokio::net::TcpListener,
    places: Arc<Semaphore>,
}

impl Limited {
    fn new(listener: tokio::net::TcpListener) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(MAX_CONNECTIONS)) }
    }
}

impl axum::serve::Listener for Limited {
    type Io = Visit;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Visit, SocketAddr) {
        // The semaphore is never closed, so that there always comes a place.
        let place = self.places.clone().acquire_owned().await.ok();
        let (stream, peer) = axum::serve::Listener::accept(&mut self.listener).await;
        (Visit { stream, quiet: Box::pin(sleep(QUIET_LIMIT)), _place: place }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends when it was quiet for [`QUIET_LIMIT`].
struct Visit {
    stream: TcpStream,
    quiet: Pin<Box<Sleep>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Visit {
    /// An error once the connection was quiet for too long; else wakes it when it will have been.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.quiet.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Visit {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Visit {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.quiet.as_mut().reset(Instant::now() + QUIET_LIMIT);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_holds_connections_to_the_admin_side_takes_no_descriptors_from_clients() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = socket.local_addr().unwrap();
            let mut limited = Limited::new(socket);
            let mut clients = Vec::new();
            let mut visits = Vec::new();
            for _ in 0..MAX_CONNECTIONS {
                clients.push(TcpStream::connect(address).await.unwrap());
                visits.push(axum::serve::Listener::accept(&mut limited).await);
            }
            clients.push(TcpStream::connect(address).await.unwrap());
            assert_eq!(limited.places.available_permits(), 0);
            let mut next = std::pin::pin!(axum::serve::Listener::accept(&mut limited));
            let is_waiting = std::future::poll_fn(|context| {
                Poll::Ready(next.as_mut().poll(context).is_pending())
            });
            assert!(is_waiting.await);
            drop(visits.pop());
            next.await;
        });
    }
}
