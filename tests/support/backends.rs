//! Backends: threads of this process behind TCP sockets. They end with the process.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        mpsc::{self, Receiver},
    },
};

use super::{DEADLINE, free_port};

/// A backend that runs.
#[derive(Debug, Clone, Copy)]
pub struct Backend {
    address: SocketAddr,
}

impl Backend {
    /// Runs `serve` for each connection, on a thread of its own.
    pub fn new(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).unwrap();
        let address = listener.local_addr().unwrap();
        let serve = Arc::new(serve);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let serve = serve.clone();
                std::thread::spawn(move || serve(stream));
            }
        });
        Self { address }
    }

    /// Sends back what it gets, and ends its stream when the other ends.
    pub fn echo() -> Self {
        Self::new(echo)
    }

    /// Reads to the end, and tells how much of what it was.
    pub fn sink() -> (Self, Receiver<SinkReport>) {
        let (sender, receiver) = mpsc::channel();
        let sender = Mutex::new(sender);
        let backend = Self::new(move |mut stream| {
            let mut hash = FNV_START;
            let mut bytes = 0;
            let mut buffer = vec![0; 64 * 1024];
            let clean = loop {
                match stream.read(&mut buffer) {
                    Ok(0) => break true,
                    Ok(read) => {
                        bytes += read as u64;
                        hash = fnv(hash, &buffer[..read]);
                    }
                    Err(_) => break false,
                }
            };
            // The test may have its answer already.
            let report = SinkReport { bytes, checksum: hash, clean };
            let _ = sender.lock().unwrap().send(report);
        });
        (backend, receiver)
    }

    /// Sends that many bytes of [`pattern`], ends its stream, and reads until the other ends.
    pub fn source(bytes: u64) -> Self {
        Self::new(move |mut stream| {
            let mut sent = 0;
            while sent < bytes {
                let piece = pattern(sent, (bytes - sent).min(64 * 1024));
                if stream.write_all(&piece).is_err() {
                    return;
                }
                sent += piece.len() as u64;
            }
            let _ = stream.shutdown(Shutdown::Write);
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        })
    }

    /// Sends `farewell` and ends its stream at once; what it then gets, it tells when the other
    /// ends.
    pub fn half_closing(farewell: &'static [u8]) -> (Self, Receiver<Vec<u8>>) {
        let (sender, receiver) = mpsc::channel();
        let sender = Mutex::new(sender);
        let backend = Self::new(move |mut stream| {
            if stream.write_all(farewell).is_err() || stream.shutdown(Shutdown::Write).is_err() {
                return;
            }
            let mut got = Vec::new();
            if stream.read_to_end(&mut got).is_ok() {
                // The test may have its answer already.
                let _ = sender.lock().unwrap().send(got);
            }
        });
        (backend, receiver)
    }

    /// Nobody listens there.
    pub fn dead() -> Self {
        Self { address: (Ipv4Addr::LOCALHOST, free_port()).into() }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }
}

/// What [`Backend::sink`] got from one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SinkReport {
    /// How much.
    pub bytes: u64,
    /// [`checksum`] of it.
    pub checksum: u64,
    /// Whether the stream ended in order.
    pub clean: bool,
}

/// Keeps the PROXY header of each connection, and then is an echo.
pub struct Recorder {
    backend: Backend,
    headers: Receiver<Vec<u8>>,
}

impl Recorder {
    /// Starts it.
    pub fn new() -> Self {
        let (sender, headers) = mpsc::channel();
        let sender = Mutex::new(sender);
        let backend = Backend::new(move |mut stream| {
            let mut header = vec![0; 16];
            if stream.read_exact(&mut header).is_err() {
                return;
            }
            let body = usize::from(u16::from_be_bytes([header[14], header[15]]));
            header.resize(16 + body, 0);
            if stream.read_exact(&mut header[16..]).is_err() {
                return;
            }
            // The test may have its answer already.
            let _ = sender.lock().unwrap().send(header);
            echo(stream);
        });
        Self { backend, headers }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.backend.addr()
    }

    /// The next connection's header, for `countersign::proxy::parse`.
    pub fn next(&self) -> Vec<u8> {
        self.headers.recv_timeout(DEADLINE).expect("a connection with a PROXY header")
    }

    /// Whether a connection came that [`Recorder::next`] hasn't given.
    pub fn has_next(&self) -> Option<Vec<u8>> {
        self.headers.try_recv().ok()
    }
}

fn echo(mut stream: TcpStream) {
    let Ok(mut reader) = stream.try_clone() else { return };
    if std::io::copy(&mut reader, &mut stream).is_ok() {
        let _ = stream.shutdown(Shutdown::Write);
    }
}

/// Bytes from place `from` of an endless sequence without a short period.
pub fn pattern(from: u64, bytes: u64) -> Vec<u8> {
    (from..from + bytes)
        .map(|place| (place.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56).to_be_bytes()[7])
        .collect()
}

/// FNV-1a with 64 bits: enough to see that a byte is lost, doubled or moved.
pub fn checksum(bytes: &[u8]) -> u64 {
    fnv(FNV_START, bytes)
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

fn fnv(start: u64, bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(start, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
