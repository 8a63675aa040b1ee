//! What the tests of the relay need besides the common support: bulk with checksums, both
//! directions at once, and a hand on the bytes of a connection.

#![allow(unreachable_pub, reason = "a module of a test binary")]
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that can't set up its scene has failed")]

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        mpsc::{self, Receiver},
    },
    thread::JoinHandle,
    time::Duration,
};

use aws_lc_rs::digest::{Context, SHA256};
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, RootCertStore,
    crypto::{CryptoProvider, aws_lc_rs as provider},
};

use crate::support::{Backend, Config, DEADLINE, Pki, Server, TlsClient, client_config};

pub const MB: u64 = 1_000_000;

/// What came over a stream: how much, and its SHA-256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sum {
    pub bytes: u64,
    digest: Vec<u8>,
}

/// Sums up a stream as it comes.
pub struct Summing(u64, Context);

impl Summing {
    pub fn new() -> Self {
        Self(0, Context::new(&SHA256))
    }

    pub fn add(&mut self, bytes: &[u8]) {
        self.0 += bytes.len() as u64;
        self.1.update(bytes);
    }

    pub fn end(self) -> Sum {
        Sum { bytes: self.0, digest: self.1.finish().as_ref().to_vec() }
    }
}

/// An endless sequence of bytes with a period that fits no record and no buffer, so that a piece
/// that is lost, doubled or moved shows.
pub struct Sequence {
    block: Vec<u8>,
    at: usize,
}

impl Sequence {
    pub fn new() -> Self {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let block = (0..1_000_003).map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        });
        Self { block: block.collect(), at: 0 }
    }

    /// The next piece, of at most that many bytes.
    pub fn next(&mut self, most: u64) -> &[u8] {
        let begin = self.at % self.block.len();
        let most = usize::try_from(most).unwrap();
        let end = self.block.len().min(begin + most.min(100_000));
        self.at += end - begin;
        &self.block[begin..end]
    }

    /// Writes that many bytes of it.
    pub fn write(bytes: u64, mut to: impl Write) -> io::Result<()> {
        let (mut sequence, mut left) = (Self::new(), bytes);
        while left > 0 {
            let piece = sequence.next(left);
            to.write_all(piece)?;
            left -= piece.len() as u64;
        }
        to.flush()
    }

    /// That many bytes of it.
    pub fn bytes(bytes: u64) -> Vec<u8> {
        let mut all = Vec::new();
        Self::write(bytes, &mut all).unwrap();
        all
    }

    /// What that many bytes of it sum up to.
    pub fn sum(bytes: u64) -> Sum {
        let mut summing = Summing::new();
        let (mut sequence, mut left) = (Self::new(), bytes);
        while left > 0 {
            let piece = sequence.next(left);
            summing.add(piece);
            left -= piece.len() as u64;
        }
        summing.end()
    }
}

/// Reads to the end, with a pause after each `burst` bytes; what came, and how it ended.
pub fn read_all(mut from: impl Read, pause: Option<(usize, Duration)>) -> (Sum, io::Result<()>) {
    let mut summing = Summing::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut since = 0;
    let end = loop {
        match from.read(&mut buffer) {
            Ok(0) => break Ok(()),
            Ok(bytes) => {
                summing.add(&buffer[..bytes]);
                since += bytes;
                if let Some((burst, pause)) = pause
                    && since >= burst
                {
                    since = 0;
                    std::thread::sleep(pause);
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => break Err(error),
        }
    };
    (summing.end(), end)
}

/// A backend that gives `serve` each connection and hands on what that returns.
pub fn backend<T: Send + 'static>(
    serve: impl Fn(TcpStream) -> T + Send + Sync + 'static,
) -> (Backend, Receiver<T>) {
    let (sender, receiver) = mpsc::channel();
    let sender = Mutex::new(sender);
    let backend = Backend::new(move |stream| {
        let result = serve(stream);
        // The test may be over.
        let _ = sender.lock().unwrap().send(result);
    });
    (backend, receiver)
}

/// What [`backend`] handed on.
pub fn got<T>(receiver: &Receiver<T>) -> T {
    receiver.recv_timeout(DEADLINE).expect("the backend had a connection that ended")
}

/// A backend that sends `down` bytes and reads to the end, both at once.
pub fn both_ways(down: u64) -> (Backend, Receiver<(Sum, io::Result<()>)>) {
    backend(move |stream| {
        let mut writer = stream.try_clone().unwrap();
        let sending = std::thread::spawn(move || {
            // An error shows at the other end.
            let _ = Sequence::write(down, &writer);
            let _ = writer.flush();
            let _ = writer.shutdown(Shutdown::Write);
        });
        let read = read_all(stream, None);
        sending.join().unwrap();
        read
    })
}

/// A terminator in front of one backend, with a client's configuration for it.
pub struct Scene {
    pub pki: Pki,
    pub server: Server,
    pub client: Arc<ClientConfig>,
}

impl Scene {
    pub fn new(backend: &Backend) -> Self {
        Self::with(backend, |config| config)
    }

    /// With more in its configuration.
    pub fn with(backend: &Backend, more: impl FnOnce(Config) -> Config) -> Self {
        let pki = Pki::new();
        let config = more(Config::simple(&pki, backend.addr()));
        Self::of(pki, Server::start(config))
    }

    pub fn of(pki: Pki, server: Server) -> Self {
        let client = Arc::new(client_config(&pki, Some(&pki.client())));
        Self { pki, server, client }
    }

    pub fn connect(&self) -> TlsClient {
        TlsClient::connect(self.server.addr(), self.client.clone()).unwrap()
    }

    /// A client's configuration with just one suite.
    pub fn suite(&self, suite: CipherSuite) -> Arc<ClientConfig> {
        let mut own = provider::default_provider();
        own.cipher_suites.retain(|one| one.suite() == suite);
        self.of_provider(own)
    }

    pub fn of_provider(&self, own: CryptoProvider) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.pki.ca.der().clone()).unwrap();
        let tls13 = own.cipher_suites.iter().any(|one| one.tls13().is_some());
        let versions = if tls13 { &[&rustls::version::TLS13] } else { &[&rustls::version::TLS12] };
        let identity = self.pki.client().identity;
        let mut config = ClientConfig::builder_with_provider(Arc::new(own))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(identity.chain().to_vec(), identity.key_der())
            .unwrap();
        config.enable_secret_extraction = true;
        Arc::new(config)
    }

    /// Waits until that many connections have ended for `cause`.
    pub fn closed(&self, cause: &str, count: u32) {
        self.server.wait_metric("connections_closed_total", &[("cause", cause)], count.into());
    }

    /// Holds the terminator to have nothing left of any connection.
    pub fn is_idle(&self) {
        self.server.wait_metric("connections_open", &[], 0.0);
        self.server.wait_metric("handshakes_in_flight", &[], 0.0);
    }
}

/// Both directions of a client at once: one thread writes, this one reads.
pub struct Duplex {
    connection: Arc<Mutex<ClientConnection>>,
    socket: TcpStream,
}

impl Duplex {
    pub fn new(client: TlsClient) -> Self {
        let (connection, socket) = client.0.into_parts();
        Self { connection: Arc::new(Mutex::new(connection)), socket }
    }

    /// Sends that many bytes and then close_notify; after each piece `also` may do more. The
    /// thread's result is what writing came to.
    pub fn send(
        &self,
        bytes: u64,
        mut also: impl FnMut(&mut ClientConnection) + Send + 'static,
    ) -> JoinHandle<io::Result<()>> {
        let (connection, mut socket) = (self.connection.clone(), self.socket.try_clone().unwrap());
        std::thread::spawn(move || {
            let (mut sequence, mut left) = (Sequence::new(), bytes);
            let mut sealed = Vec::new();
            loop {
                {
                    let mut connection = connection.lock().unwrap();
                    let piece = sequence.next(left.min(32_000));
                    left -= piece.len() as u64;
                    connection.writer().write_all(piece)?;
                    also(&mut connection);
                    if left == 0 {
                        connection.send_close_notify();
                    }
                    while connection.wants_write() {
                        connection.write_tls(&mut sealed)?;
                    }
                }
                socket.write_all(&sealed)?;
                sealed.clear();
                if left == 0 {
                    return Ok(());
                }
            }
        })
    }

    /// Reads to the end.
    pub fn receive(&mut self) -> (Sum, io::Result<()>) {
        let mut summing = Summing::new();
        let mut wire = vec![0; 64 * 1024];
        let mut plain = vec![0; 64 * 1024];
        let end = loop {
            let bytes = match self.socket.read(&mut wire) {
                Ok(0) => break Err(ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => bytes,
                Err(error) => break Err(error),
            };
            let mut connection = self.connection.lock().unwrap();
            let mut rest = &wire[..bytes];
            let mut ended = None;
            while !rest.is_empty() && ended.is_none() {
                connection.read_tls(&mut rest).unwrap();
                if let Err(error) = connection.process_new_packets() {
                    ended = Some(Err(io::Error::other(error)));
                }
                loop {
                    match connection.reader().read(&mut plain) {
                        Ok(0) => {
                            ended = Some(Ok(()));
                            break;
                        }
                        Ok(bytes) => summing.add(&plain[..bytes]),
                        Err(_) => break,
                    }
                }
            }
            if let Some(end) = ended {
                break end;
            }
        };
        (summing.end(), end)
    }
}

/// A client whose handshake is done but whose last flight is not sent yet.
pub fn before_last_flight(
    address: SocketAddr,
    config: Arc<ClientConfig>,
) -> (ClientConnection, TcpStream) {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut connection = ClientConnection::new(config, Pki::SERVER.try_into().unwrap()).unwrap();
    send_all(&mut connection, &mut socket);
    while connection.is_handshaking() {
        assert!(connection.read_tls(&mut socket).unwrap() > 0, "the server ended");
        connection.process_new_packets().unwrap();
    }
    (connection, socket)
}

/// Sends what waits as one write.
pub fn send_all(connection: &mut ClientConnection, socket: &mut TcpStream) {
    let mut sealed = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut sealed).unwrap();
    }
    socket.write_all(&sealed).unwrap();
}

/// Stands between client and server: what the client sends goes through `change`, piece by
/// piece as it returns them.
pub fn middle(
    server: SocketAddr,
    change: impl Fn(&mut TcpStream, &mut TcpStream) + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let change = Arc::new(change);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut onward = TcpStream::connect(server).unwrap();
            onward.set_nodelay(true).unwrap();
            let (mut back_from, mut back_to) =
                (onward.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || {
                // The test sees what did not come through.
                let _ = io::copy(&mut back_from, &mut back_to);
                let _ = back_to.shutdown(Shutdown::Write);
            });
            let change = change.clone();
            std::thread::spawn(move || change(&mut client, &mut onward));
        }
    });
    address
}

/// Makes the coming close of a socket a reset.
pub fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Whether a read ended as one must after a cut, never as after close_notify.
pub fn is_cut(end: &io::Result<()>) -> bool {
    matches!(end, Err(error) if matches!(
        error.kind(),
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
    ))
}
