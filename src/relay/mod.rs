//! Two directions between a TLS client and a plaintext backend, until both have ended.
//!
//! Both directions live in one task and are polled together, so that they share state without
//! locks. Neither is ever dropped while it waits: when one fails, the sockets are cancelled and
//! the other ends by itself. An idle relay holds no buffer.

mod down;
mod outbox;
mod pace;
mod up;

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    io,
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use rustls::AlertDescription;

use crate::{
    metrics::{CloseCause, ListenerMetrics},
    record::{ReceiveError, RecordLayer, SealError},
    ring::{BufferSize, Io, Pool, Socket},
    sessions::{self, Phase, Registration, Session},
};

use outbox::Outbox;

/// What the handshake leaves for the relay to begin with.
#[derive(Debug, Default)]
pub struct Start {
    /// What the backend is told before any plaintext.
    pub preface: Vec<u8>,
    /// Records that the client has sent already; the last may be incomplete.
    pub unread: Vec<u8>,
    /// Sealed bytes that must reach the client before any data.
    pub ticket: Vec<u8>,
}

/// How a relay ended.
#[derive(Debug)]
pub struct Outcome {
    /// The first cause.
    pub cause: CloseCause,
    /// More for the log where there is more to say.
    pub detail: Option<String>,
    /// Plaintext bytes from the client to the backend.
    pub up_bytes: u64,
    /// Plaintext bytes from the backend to the client.
    pub down_bytes: u64,
}

/// Why a direction stopped before its end.
#[derive(Debug)]
enum Stop {
    /// The client broke the record protocol, or said that we did.
    Receive(ReceiveError),
    /// The client's stream ended without close_notify.
    Truncated,
    /// The client's connection failed.
    Client(io::Error),
    /// The backend's connection failed.
    Backend(io::Error),
    /// Nothing more can be sealed.
    Seal(SealError),
}

/// One connection's relay.
pub struct Relay {
    client: Rc<Socket>,
    backend: Rc<Socket>,
    pool: Rc<Pool>,
    metrics: Arc<ListenerMetrics>,
    registration: Registration,
    start: Cell<Option<Box<Start>>>,
    record: RefCell<RecordLayer>,
    outbox: Outbox,
    up_bytes: Cell<u64>,
    down_bytes: Cell<u64>,
    /// The client's stream has ended in order, and the backend was told.
    up_ended: Cell<bool>,
    /// The backend's stream has ended, and the client was told.
    down_ended: Cell<bool>,
    /// The backend's connection failed while we wrote: whatever can still be read from it, its
    /// stream has no orderly end.
    backend_cut: Cell<bool>,
    /// Both ends were told how it ended.
    concluded: Cell<bool>,
}

impl Relay {
    /// A relay that has not begun, between a client and a backend that are both connected.
    pub fn new(
        ends: (Rc<Socket>, Rc<Socket>),
        record: RecordLayer,
        mut start: Start,
        pool: Rc<Pool>,
        metrics: Arc<ListenerMetrics>,
        registration: Registration,
    ) -> Self {
        let outbox = Outbox::default();
        outbox.append(std::mem::take(&mut start.ticket));
        Self {
            client: ends.0,
            backend: ends.1,
            pool,
            metrics,
            registration,
            start: Cell::new(Some(Box::new(start))),
            record: RefCell::new(record),
            outbox,
            up_bytes: Cell::new(0),
            down_bytes: Cell::new(0),
            up_ended: Cell::new(false),
            down_ended: Cell::new(false),
            backend_cut: Cell::new(false),
            concluded: Cell::new(false),
        }
    }

    /// Relays until both directions have ended, and ends both connections the way their peers
    /// must understand it. It runs once.
    pub async fn run(&self) -> Outcome {
        let stop = self.both().await;
        let (cause, detail) = Box::pin(self.conclude(stop)).await;
        self.concluded.set(true);
        Outcome { cause, detail, up_bytes: self.up_bytes.get(), down_bytes: self.down_bytes.get() }
    }

    fn session(&self) -> &Session {
        self.registration.session()
    }

    /// Drives both directions to their ends; the first failure, if there was one.
    async fn both(&self) -> Option<Stop> {
        let mut up = pin!(self.up());
        let mut down = pin!(self.down());
        let (mut up_done, mut down_done) = (false, false);
        let mut first = None;
        poll_fn(|context| {
            // The upward direction comes first: see `Outbox::acquire`.
            if !up_done && let Poll::Ready(result) = up.as_mut().poll(context) {
                up_done = true;
                match result {
                    // What the backend said before it went may still be on its way.
                    Err(stop @ Stop::Backend(_)) if first.is_none() => {
                        self.registration.enter(Phase::HalfOpen);
                        first = Some(stop);
                    }
                    result => self.note_end(result, &mut first),
                }
            }
            if !down_done && let Poll::Ready(result) = down.as_mut().poll(context) {
                down_done = true;
                self.note_end(result, &mut first);
            }
            if up_done && down_done { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        first
    }

    fn note_end(&self, result: Result<(), Stop>, first: &mut Option<Stop>) {
        match result {
            Ok(()) => self.registration.enter(Phase::HalfOpen),
            Err(stop) => {
                self.stop();
                first.get_or_insert(stop);
            }
        }
    }

    /// Wakes the other direction, so that it ends too.
    fn stop(&self) {
        self.outbox.close();
        self.client.cancel();
        self.backend.cancel();
    }

    /// Ends both connections. The backend must never take a cut stream for a whole one, and the
    /// client must see our last words.
    async fn conclude(&self, stop: Option<Stop>) -> (CloseCause, Option<String>) {
        let ended = self.session().ended();
        let (cause, farewell, detail) = match (ended, stop) {
            (Some(cause), _) => {
                let farewell =
                    sessions::alert(cause).map_or(Farewell::CloseNotify, Farewell::Alert);
                (cause, farewell, self.session().take_loss())
            }
            (None, None) => (CloseCause::Complete, Farewell::None, None),
            (None, Some(stop)) => stop.judge(),
        };
        if cause != CloseCause::Complete && !self.up_ended.get() {
            self.backend.reset_on_close();
        }
        match farewell {
            Farewell::None => {}
            Farewell::Reset if self.record.borrow().has_closed() => {
                // All was said, but the client may still send: see `linger`.
                linger(&self.client, &self.pool, &self.registration).await;
            }
            Farewell::Reset => {
                // What the backend said before it went shall arrive before the reset does.
                delivered(&self.client).await;
                self.client.reset_on_close();
            }
            Farewell::CloseNotify => self.say(RecordLayer::write_close_notify).await,
            Farewell::Alert(alert) => {
                self.say(|record, out| record.write_fatal_alert(alert, out)).await;
            }
        }
        (cause, detail)
    }

    /// Sends a last record, unless part of another one is on its way: then nothing that follows
    /// could be understood, and the client sees a reset.
    async fn say(
        &self,
        write: impl FnOnce(&mut RecordLayer, &mut Vec<u8>) -> Result<(), SealError>,
    ) {
        if self.outbox.is_mid_record() {
            self.client.reset_on_close();
            return;
        }
        let mut last = self.outbox.take();
        // Where we have said close_notify before there is nothing left to say.
        if write(&mut self.record.borrow_mut(), &mut last).is_err() {
            return;
        }
        if matches!(self.client.try_write(&last), Ok(Io::Bytes(n)) if n == last.len()) {
            linger(&self.client, &self.pool, &self.registration).await;
        } else {
            self.client.reset_on_close();
        }
    }
}

impl Drop for Relay {
    /// A relay that is dropped on its way (a worker that is stopped at once, a panic) has cut the
    /// client's stream: the backend must not take the close for its end.
    fn drop(&mut self) {
        if !self.concluded.get() && !self.up_ended.get() {
            self.backend.reset_on_close();
        }
    }
}

/// What the client is told last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Farewell {
    /// Nothing: all is said, or nobody listens.
    None,
    /// That the stream ends here by our decision.
    CloseNotify,
    /// A fatal alert.
    Alert(AlertDescription),
    /// A reset, where it has not been told yet that the stream is whole.
    Reset,
}

impl Stop {
    fn judge(self) -> (CloseCause, Farewell, Option<String>) {
        match self {
            Self::Receive(error) => {
                let cause = match error {
                    ReceiveError::PeerAlert(_) => CloseCause::ClientAlert,
                    _ => CloseCause::BadRecord,
                };
                let farewell = error.alert().map_or(Farewell::None, Farewell::Alert);
                (cause, farewell, Some(error.to_string()))
            }
            Self::Truncated => (CloseCause::ClientTruncated, Farewell::None, None),
            Self::Client(error) => {
                (CloseCause::ClientReset, Farewell::None, Some(error.to_string()))
            }
            Self::Backend(error) => {
                (CloseCause::BackendReset, Farewell::Reset, Some(error.to_string()))
            }
            Self::Seal(SealError::LimitReached) => {
                (CloseCause::KeyExhausted, Farewell::CloseNotify, None)
            }
            Self::Seal(error) => (
                CloseCause::Internal,
                Farewell::Alert(AlertDescription::InternalError),
                Some(error.to_string()),
            ),
        }
    }
}

/// Most bytes that are read and discarded while the client's end is awaited.
const LINGER_BYTES: usize = 256 * 1024;

/// How often it is asked whether the client has all that was sent, and how long at most.
const DELIVERY_STEP: Duration = Duration::from_millis(20);
const DELIVERY_STEPS: u32 = 50;

/// Ends our stream and waits a moment for the client to end its own: closing a socket that
/// holds unread bytes would reset our last alert away. A client that keeps sending is stopped
/// by its window after 256 KiB.
pub async fn linger(client: &Rc<Socket>, pool: &Rc<Pool>, registration: &Registration) {
    client.revive();
    registration.enter(Phase::Linger);
    client.finish();
    let mut discarded = 0;
    while discarded < LINGER_BYTES {
        let found = client.try_read(&mut pool.take(BufferSize::Small));
        match found {
            Ok(Io::Bytes(0)) | Err(_) => return,
            Ok(Io::Bytes(bytes)) => discarded += bytes,
            Ok(Io::WouldBlock) => {
                if client.readable().await.is_err() {
                    return;
                }
            }
        }
    }
    delivered(client).await;
}

/// Waits a moment until the client's kernel has acknowledged all that was sent.
async fn delivered(client: &Socket) {
    for _ in 0..DELIVERY_STEPS {
        if !matches!(client.unacknowledged(), Ok(1..)) {
            return;
        }
        tokio::time::sleep(DELIVERY_STEP).await;
    }
}
