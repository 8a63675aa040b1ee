//! One connection to the terminator: TLS (or none) over a non-blocking socket.

use std::{fmt, io, net::SocketAddr};

use rustls::{
    HandshakeKind,
    client::UnbufferedClientConnection,
    unbuffered::{
        ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
    },
};
use tokio::{io::Interest, net::TcpStream};

use super::{buffer::Buffer, failure::Failure, pattern::Position, tls::SlotTls};

/// The most that is encrypted for one write: four records.
const SEND_CHUNK_BYTES: usize = 64 * 1024;
/// Room for a read during the handshake and for small answers: one record with its overhead.
const SMALL_READ_BYTES: usize = 17 * 1024;
/// Room for a read in bulk, some sixteen records.
const BULK_READ_BYTES: usize = 256 * 1024;
/// Room that an encoded handshake message or alert is first tried with.
const ENCODE_BYTES: usize = 4 * 1024;

/// An open connection whose handshake is done.
pub(super) struct Channel {
    socket: TcpStream,
    tls: Option<Box<UnbufferedClientConnection>>,
    incoming: Buffer,
    outgoing: Buffer,
    read_bytes: usize,
    sent: Position,
    received: Position,
    /// Bytes received and checked that no caller has been told of.
    unclaimed_bytes: usize,
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("socket", &self.socket).finish_non_exhaustive()
    }
}

/// Where TLS stands after all that was there has been processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The handshake needs more from the peer.
    Handshaking,
    /// Data may be sent.
    Open,
    /// The peer sent close_notify.
    PeerClosed,
}

impl Channel {
    /// Connects and, given `tls`, completes the handshake as far as the client can tell: in
    /// TLS 1.3 the server may still refuse the certificate (RFC 8446 §4.4.2.4).
    pub(super) async fn open(target: SocketAddr, tls: Option<&SlotTls>) -> Result<Self, Failure> {
        let socket = TcpStream::connect(target).await?;
        socket.set_nodelay(true)?;
        let tls = match tls {
            None => None,
            Some(SlotTls { config, name }) => {
                let client = UnbufferedClientConnection::new(config.clone(), name.clone())?;
                Some(Box::new(client))
            }
        };
        let mut channel = Self {
            socket,
            tls,
            incoming: Buffer::default(),
            outgoing: Buffer::default(),
            read_bytes: SMALL_READ_BYTES,
            sent: Position::default(),
            received: Position::default(),
            unclaimed_bytes: 0,
        };
        if channel.tls.is_some() {
            channel.handshake().await?;
        }
        Ok(channel)
    }

    /// Reads in large pieces from now on.
    pub(super) fn prepare_for_bulk(&mut self) {
        self.read_bytes = BULK_READ_BYTES;
    }

    /// Version, suite and group, as the report names them; `None` without TLS.
    pub(super) fn negotiated(&self) -> Option<[String; 3]> {
        let tls = self.tls.as_ref()?;
        let version = format!("{:?}", tls.protocol_version()?).replacen("TLSv1_", "1.", 1);
        let suite = super::tls::iana_name(tls.negotiated_cipher_suite()?.suite());
        // A resumption of TLS 1.2 agrees on no new key.
        let group = tls
            .negotiated_key_exchange_group()
            .map_or_else(|| "none".to_owned(), |group| format!("{:?}", group.name()));
        Some([version, suite, group])
    }

    /// Whether the handshake resumed a session.
    pub(super) fn is_resumed(&self) -> bool {
        self.tls.as_ref().and_then(|tls| tls.handshake_kind()) == Some(HandshakeKind::Resumed)
    }

    /// Sends `size` bytes and waits for the same bytes to come back.
    pub(super) async fn exchange(&mut self, size: usize) -> Result<(), Failure> {
        let mut missing = size;
        while missing > 0 {
            // An echo sends while it reads, so what is under way is bounded to one chunk.
            let chunk = missing.min(SEND_CHUNK_BYTES);
            self.enqueue(chunk)?;
            self.flush().await?;
            let mut awaited = chunk;
            while awaited > 0 {
                let got = self.receive().await?;
                awaited = awaited.checked_sub(got).ok_or_else(|| {
                    Failure::wrong_data("the answer is longer than the request".to_owned())
                })?;
            }
            missing -= chunk;
        }
        Ok(())
    }

    /// Sends one chunk of bulk data; returns its bytes.
    pub(super) async fn push(&mut self) -> Result<usize, Failure> {
        // Tickets, and the reason if the server refuses us after the handshake.
        if self.try_fill()? {
            self.process()?;
        }
        self.enqueue(SEND_CHUNK_BYTES)?;
        self.flush().await?;
        Ok(SEND_CHUNK_BYTES)
    }

    /// Receives and checks what comes next, at least one byte; returns the bytes.
    pub(super) async fn receive(&mut self) -> Result<usize, Failure> {
        loop {
            let standing = self.process()?;
            if self.unclaimed_bytes > 0 {
                return Ok(std::mem::take(&mut self.unclaimed_bytes));
            }
            if standing == Standing::PeerClosed {
                return Err(Failure::closed_early("with close_notify"));
            }
            self.fill().await?;
        }
    }

    /// Sends and receives whatever is possible next; returns the bytes sent and received.
    pub(super) async fn push_and_receive(&mut self) -> Result<(usize, usize), Failure> {
        let mut sent = 0;
        if self.outgoing.is_empty() {
            self.enqueue(SEND_CHUNK_BYTES)?;
            sent = SEND_CHUNK_BYTES;
        }
        let ready = self.socket.ready(Interest::READABLE | Interest::WRITABLE).await?;
        if ready.is_writable() {
            self.try_flush()?;
        }
        if ready.is_readable() && self.try_fill()? && self.process()? == Standing::PeerClosed {
            return Err(Failure::closed_early("with close_notify"));
        }
        Ok((sent, std::mem::take(&mut self.unclaimed_bytes)))
    }

    /// Waits, holding no buffers, for the connection to break; data is an error as well.
    pub(super) async fn stay_idle(&mut self) -> Failure {
        self.incoming.release();
        self.outgoing.release();
        // Look before reading: reading takes a buffer.
        match self.socket.peek(&mut [0]).await {
            Err(error) => error.into(),
            Ok(_) => match self.receive().await {
                Ok(_) => Failure::wrong_data("data on an idle connection".to_owned()),
                Err(failure) => failure,
            },
        }
    }

    /// Ends the connection in order: close_notify, then FIN with the drop.
    pub(super) fn close(mut self) {
        if let Some(tls) = &mut self.tls {
            // What the peer still sends is nobody's interest any more.
            let status = tls.process_tls_records(self.incoming.filled());
            if let Ok(ConnectionState::WriteTraffic(mut traffic)) = status.state {
                let _ = append(&mut self.outgoing, ENCODE_BYTES, |room| {
                    traffic.queue_close_notify(room).map_err(encrypt_size)
                });
            }
            let _ = self.try_flush();
        }
    }

    async fn handshake(&mut self) -> Result<(), Failure> {
        loop {
            let outcome = self.process();
            // A failure may leave an alert to send, which helps whoever reads the server's log.
            if let Err(failure) = outcome {
                let _ = self.try_flush();
                return Err(failure);
            }
            self.flush().await?;
            match outcome? {
                Standing::Open => return Ok(()),
                Standing::Handshaking => self.fill().await?,
                Standing::PeerClosed => {
                    return Err(Failure::closed_early("during the handshake"));
                }
            }
        }
    }

    /// Works off all that was received. Answers of TLS are added to `outgoing`; data is checked
    /// against the pattern and added to `unclaimed_bytes`.
    fn process(&mut self) -> Result<Standing, Failure> {
        let Self { tls, incoming, outgoing, received, unclaimed_bytes, .. } = self;
        let Some(tls) = tls else {
            let got = incoming.filled().len();
            check(received, incoming.filled())?;
            incoming.consume(got);
            *unclaimed_bytes += got;
            return Ok(Standing::Open);
        };
        loop {
            let UnbufferedStatus { mut discard, state, .. } =
                tls.process_tls_records(incoming.filled());
            let mut standing = None;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        *unclaimed_bytes += record.payload.len();
                        check(received, record.payload)?;
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    append(outgoing, ENCODE_BYTES, |room| data.encode(room).map_err(encode_size))?;
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::BlockedHandshake) => standing = Some(Standing::Handshaking),
                Ok(ConnectionState::WriteTraffic(_)) => standing = Some(Standing::Open),
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                    standing = Some(Standing::PeerClosed);
                }
                Ok(state) => return Err(Failure::protocol(format!("unexpected {state:?}"))),
                Err(error) => {
                    queue_alert(tls, outgoing);
                    return Err(error.into());
                }
            }
            incoming.consume(discard);
            if let Some(standing) = standing {
                return Ok(standing);
            }
        }
    }

    /// Adds the next `size` bytes of the pattern to what is to be written.
    fn enqueue(&mut self, size: usize) -> Result<(), Failure> {
        let data = self.sent.upcoming(size);
        // TLS lets data out only when nothing that came in is left to process.
        self.process()?;
        let Self { tls, incoming, outgoing, .. } = self;
        match tls {
            None => append(outgoing, data.len(), |room| {
                room[..data.len()].copy_from_slice(data);
                Ok(data.len())
            })?,
            Some(tls) => match tls.process_tls_records(incoming.filled()).state? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    append(outgoing, sealed_bytes(data.len()), |room| {
                        traffic.encrypt(data, room).map_err(encrypt_size)
                    })?;
                }
                ConnectionState::PeerClosed | ConnectionState::Closed => {
                    return Err(Failure::closed_early("with close_notify"));
                }
                state => return Err(Failure::protocol(format!("can't send in {state:?}"))),
            },
        }
        self.sent.advance(data.len());
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        while !self.try_flush()? {
            self.socket.writable().await?;
        }
        Ok(())
    }

    /// Writes what the socket takes; `true` when nothing is left.
    fn try_flush(&mut self) -> Result<bool, Failure> {
        while !self.outgoing.is_empty() {
            match self.socket.try_write(self.outgoing.filled()) {
                Ok(written) => self.outgoing.consume(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(self.reason_of_write_error(error)),
            }
        }
        Ok(true)
    }

    /// A server that refuses sends its alert and closes; our write then fails before we have
    /// read why. The alert says more than the reset.
    fn reason_of_write_error(&mut self, error: io::Error) -> Failure {
        if matches!(self.try_fill(), Ok(true))
            && let Err(reason) = self.process()
        {
            return reason;
        }
        error.into()
    }

    async fn fill(&mut self) -> Result<(), Failure> {
        while !self.try_fill()? {
            self.socket.readable().await?;
        }
        Ok(())
    }

    /// Reads what is there; `false` when nothing is.
    fn try_fill(&mut self) -> Result<bool, Failure> {
        match self.socket.try_read(self.incoming.room(self.read_bytes)) {
            Ok(0) => Err(Failure::closed_early("without close_notify")),
            Ok(read) => {
                self.incoming.commit(read);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Ciphertext of `bytes` in records of 16 KiB: header, content type and tag for each, RFC 8446
/// §5.2; TLS 1.2 with an explicit nonce takes 29 bytes a record (RFC 5288 §3).
fn sealed_bytes(bytes: usize) -> usize {
    bytes + bytes.div_ceil(16 * 1024) * 29
}

fn check(position: &mut Position, bytes: &[u8]) -> Result<(), Failure> {
    if position.accept(bytes) {
        Ok(())
    } else {
        Err(Failure::wrong_data(format!("{} bytes aren't what the backend sends", bytes.len())))
    }
}

/// Lets `write` fill the room after `buffer`, with more room if it says what it needs.
fn append(
    buffer: &mut Buffer,
    expected_bytes: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Result<usize, Failure>>,
) -> Result<(), Failure> {
    let mut room_bytes = expected_bytes;
    loop {
        match write(buffer.room(room_bytes)) {
            Ok(written) => {
                buffer.commit(written);
                return Ok(());
            }
            Err(Ok(required)) if required > room_bytes => room_bytes = required,
            Err(Ok(_)) => return Err(Failure::protocol("an encoding that fits no buffer")),
            Err(Err(failure)) => return Err(failure),
        }
    }
}

fn encode_size(error: EncodeError) -> Result<usize, Failure> {
    match error {
        EncodeError::InsufficientSize(InsufficientSizeError { required_size }) => Ok(required_size),
        error @ EncodeError::AlreadyEncoded => Err(Failure::protocol(error)),
    }
}

fn encrypt_size(error: EncryptError) -> Result<usize, Failure> {
    match error {
        EncryptError::InsufficientSize(InsufficientSizeError { required_size }) => {
            Ok(required_size)
        }
        error @ EncryptError::EncryptExhausted => Err(Failure::protocol(error)),
    }
}

/// After an error, TLS has at most an alert left to say.
fn queue_alert(tls: &mut UnbufferedClientConnection, outgoing: &mut Buffer) {
    if let Ok(ConnectionState::EncodeTlsData(mut data)) = tls.process_tls_records(&mut []).state {
        let _ = append(outgoing, ENCODE_BYTES, |room| data.encode(room).map_err(encode_size));
    }
}
