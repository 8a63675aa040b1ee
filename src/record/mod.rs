//! The TLS record layer after the handshake: bytes in, bytes out, in place.
//!
//! rustls carries a connection through its handshake; then its traffic keys come here and its
//! state is dropped. A [`RecordLayer`] seals ([`RecordLayer::seal`]) and opens
//! ([`RecordLayer::open`]) records where they lie, answers for alerts, `close_notify` and
//! KeyUpdate, and keeps the limits of RFC 8446 §5 and RFC 5246 §6.2. It has no I/O, no clock,
//! and allocates nothing for a record.
//!
//! TLS 1.3 (RFC 8446) and the AEAD suites of TLS 1.2 (RFC 5288 AES-GCM with an explicit nonce,
//! RFC 7905 ChaCha20-Poly1305) are known; nothing else can be negotiated.
//!
//! # Layout of a record
//! ```text
//! | header_len()            | plaintext, 0..=MAX_PLAINTEXT_LEN | trailer_len()       |
//! | 5, or 13 (TLS 1.2 GCM)  |                                  | 16, or 17 (TLS 1.3) |
//! ```
//! So plaintext that was read at a stride of `header_len() + MAX_PLAINTEXT_LEN + trailer_len()`
//! becomes a run of adjacent records without being moved.
//!
//! # Failure
//! Both directions fail closed. The first error of [`RecordLayer::open`] is the answer of every
//! later call; nothing is sealed after `close_notify`, after a fatal alert, or after a
//! cryptographic failure.

mod error;
mod handshake;
mod keys;
mod open;
mod seal;

use std::fmt;

use rustls::{ConnectionTrafficSecrets, ExtractedSecrets, SupportedCipherSuite};

pub use error::{ReceiveError, SealError, SetupError};
pub use keys::{TrafficSecrets, TrafficSecretsCapture};
pub use open::{Content, Opened};

use handshake::PostHandshakeReader;
use keys::Keys;

/// Most bytes of plaintext in one record (RFC 8446 §5.1, RFC 5246 §6.2.1).
pub const MAX_PLAINTEXT_LEN: usize = 1 << 14;

/// Most bytes before the plaintext in any record: what to leave free in front of data that is
/// to be sealed in place when the protocol version isn't known yet. See
/// [`RecordLayer::header_len`] for the exact number.
pub const HEADROOM: usize = RECORD_HEADER_LEN + GCM_EXPLICIT_NONCE_LEN;

/// Most bytes after the plaintext in any record: tag, and TLS 1.3's content type. See
/// [`RecordLayer::trailer_len`] for the exact number.
pub const TAILROOM: usize = TAG_LEN + 1;

/// Most bytes of a whole record, header included, that [`RecordLayer::open`] accepts or
/// [`RecordLayer::seal`] makes: a receive buffer needs no more to make progress.
///
/// RFC 8446 §5.2 and RFC 5246 §6.2.3 let a ciphertext be longer, but with these suites what
/// exceeds this can't decrypt to a permitted plaintext.
pub const MAX_RECORD_LEN: usize = HEADROOM + MAX_PLAINTEXT_LEN + TAG_LEN;

/// Most bytes that one `write_…` call appends: give the vector this much spare capacity and it
/// never allocates.
pub const MAX_CONTROL_RECORD_LEN: usize = HEADROOM + MAX_CONTROL_BODY_LEN + TAILROOM;

/// Most records in a row that may carry no application data (alerts that are tolerated, empty
/// records, KeyUpdate, session tickets); one more ends the connection.
///
/// Each costs a decryption, a KeyUpdate three key derivations too, and none moves the connection
/// on. Honest peers send one or two.
pub const MAX_CONSECUTIVE_RECORDS_WITHOUT_DATA: u8 = 32;

/// Records that are kept back from application data at the confidentiality limit, so that the
/// connection can still be told why it ends, or move to new keys.
const RESERVED_CONTROL_RECORDS: u64 = 2;

/// KeyUpdate (RFC 8446 §4.6.3): four bytes of handshake header and one of body.
const MAX_CONTROL_BODY_LEN: usize = 5;

const RECORD_HEADER_LEN: usize = 5;
const GCM_EXPLICIT_NONCE_LEN: usize = 8;
const TAG_LEN: usize = 16;

/// `ContentType` of RFC 8446 §5.1, as far as it can be answered after the handshake.
mod content_type {
    pub(super) const ALERT: u8 = 21;
    pub(super) const HANDSHAKE: u8 = 22;
    pub(super) const APPLICATION_DATA: u8 = 23;
}

/// Which end of the connection we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// We accepted the connection: we receive under the client's keys.
    Server,
    /// We opened the connection: we receive under the server's keys, and session tickets may
    /// come at any time.
    Client,
}

/// How the records of a connection are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    /// RFC 8446 §5.2: the true content type is inside, the nonce is implicit.
    Tls13,
    /// RFC 5288: the last eight bytes of the nonce precede the ciphertext.
    Tls12Gcm,
    /// RFC 7905: the nonce is implicit, as in TLS 1.3.
    Tls12ChaCha20Poly1305,
}

/// Whether more may be received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Receiving {
    Open,
    /// The peer said `close_notify`: what follows is ignored (RFC 8446 §6.1).
    Closed,
    Failed(ReceiveError),
}

/// Whether more may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    Open,
    /// We said `close_notify` or sent a fatal alert, or a key could not be derived.
    Closed,
}

/// Both directions of one connection: keys, sequence numbers, and what the protocol remembers
/// between records.
pub struct RecordLayer {
    rx: Keys,
    tx: Keys,
    /// How many records may be sealed under one key (RFC 8446 §5.5).
    confidentiality_limit: u64,
    post_handshake: PostHandshakeReader,
    receiving: Receiving,
    sending: Sending,
    records_without_data: u8,
    protocol: Protocol,
    side: Side,
}

impl RecordLayer {
    /// Takes over from rustls.
    ///
    /// `extracted` comes from `dangerous_into_kernel_connection`, `suite` is what was
    /// negotiated (it implies the version). TLS 1.3 needs `traffic_secrets` (see
    /// [`TrafficSecretsCapture`]) to derive the keys that follow a KeyUpdate; TLS 1.2 has none
    /// and ignores them.
    ///
    /// # Errors
    /// [`SetupError`] says what doesn't fit together; all of them are our own mistakes, none can
    /// be caused by a peer.
    pub fn new(
        side: Side,
        suite: SupportedCipherSuite,
        extracted: ExtractedSecrets,
        traffic_secrets: Option<TrafficSecrets>,
    ) -> Result<Self, SetupError> {
        let (common, protocol, secrets) = match suite {
            SupportedCipherSuite::Tls13(suite) => {
                let secrets = traffic_secrets.ok_or(SetupError::MissingTrafficSecrets)?;
                if !secrets.fit(suite.common.hash_provider.algorithm()) {
                    return Err(SetupError::WrongSecretLength);
                }
                let (rx, tx) = secrets.for_side(side);
                (&suite.common, Protocol::Tls13, (Some(rx), Some(tx)))
            }
            SupportedCipherSuite::Tls12(suite) => {
                let protocol = match extracted.tx.1 {
                    ConnectionTrafficSecrets::Chacha20Poly1305 { .. } => {
                        Protocol::Tls12ChaCha20Poly1305
                    }
                    _ => Protocol::Tls12Gcm,
                };
                (&suite.common, protocol, (None, None))
            }
        };
        Ok(Self {
            rx: Keys::new(extracted.rx, secrets.0)?,
            tx: Keys::new(extracted.tx, secrets.1)?,
            confidentiality_limit: common.confidentiality_limit,
            post_handshake: PostHandshakeReader::new(side),
            receiving: Receiving::Open,
            sending: Sending::Open,
            records_without_data: 0,
            protocol,
            side,
        })
    }

    /// Bytes before the plaintext of each record: 13 with TLS 1.2 AES-GCM, else 5.
    #[inline]
    pub fn header_len(&self) -> usize {
        RECORD_HEADER_LEN + self.explicit_nonce_len()
    }

    /// Bytes after the plaintext of each record: 17 with TLS 1.3, else 16.
    #[inline]
    pub fn trailer_len(&self) -> usize {
        match self.protocol {
            Protocol::Tls13 => TAG_LEN + 1,
            Protocol::Tls12Gcm | Protocol::Tls12ChaCha20Poly1305 => TAG_LEN,
        }
    }

    /// Which end of the connection we are.
    pub fn side(&self) -> Side {
        self.side
    }

    /// Whether the connection speaks TLS 1.3, and so can change its keys; else it is TLS 1.2.
    pub fn is_tls13(&self) -> bool {
        self.protocol == Protocol::Tls13
    }

    /// Whether the peer has said `close_notify`: it will send nothing more.
    pub fn peer_has_closed(&self) -> bool {
        self.receiving == Receiving::Closed
    }

    /// Whether we have said `close_notify` or sent a fatal alert: nothing more can be sealed.
    pub fn has_closed(&self) -> bool {
        self.sending == Sending::Closed
    }

    /// Lowers the number of records that are sealed under one key; it never raises it above
    /// what the cipher suite permits. For operators who rotate keys more often, and for tests.
    pub fn lower_confidentiality_limit(&mut self, records: u64) {
        self.confidentiality_limit = self.confidentiality_limit.min(records);
    }

    #[inline]
    fn explicit_nonce_len(&self) -> usize {
        match self.protocol {
            Protocol::Tls12Gcm => GCM_EXPLICIT_NONCE_LEN,
            Protocol::Tls13 | Protocol::Tls12ChaCha20Poly1305 => 0,
        }
    }
}

impl fmt::Debug for RecordLayer {
    /// Says how far the connection has come; never a key, an IV or a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordLayer")
            .field("side", &self.side)
            .field("protocol", &self.protocol)
            .field("rx", &self.rx)
            .field("tx", &self.tx)
            .field("receiving", &self.receiving)
            .field("sending", &self.sending)
            .finish_non_exhaustive()
    }
}

/// The additional data of a TLS 1.2 record (RFC 5246 §6.2.3.3); `header` gives type and version,
/// the length is that of the plaintext.
#[inline]
fn tls12_additional_data(sequence: u64, header: [u8; 3], plaintext_len: u16) -> [u8; 13] {
    let mut data = [0; 13];
    data[..8].copy_from_slice(&sequence.to_be_bytes());
    data[8..11].copy_from_slice(&header);
    data[11..].copy_from_slice(&plaintext_len.to_be_bytes());
    data
}
