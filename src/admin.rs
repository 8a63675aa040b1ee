//! The admin side, on a thread of its own: it sees snapshots and can't slow a worker.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};

use crate::metrics::Metrics;

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
                Ok(listener) => axum::serve(listener, routes).await,
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
