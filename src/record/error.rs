//! What can go wrong, and which alert tells the peer.

use rustls::AlertDescription;
use thiserror::Error;

/// The keys that rustls handed over don't make a record layer: always our own mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SetupError {
    /// TLS 1.3 was negotiated but no application traffic secrets were captured.
    #[error("our handshake did not capture the TLS 1.3 application traffic secrets")]
    MissingTrafficSecrets,
    /// A traffic secret has another length than the suite's hash.
    #[error("a captured traffic secret does not have the length of the cipher suite's hash")]
    WrongSecretLength,
    /// A traffic secret is not the one that the connection's keys were derived from.
    #[error("a captured traffic secret belongs to another connection")]
    ForeignTrafficSecret,
    /// The cipher suite is none that this record layer knows.
    #[error("the negotiated cipher suite is not one that our record layer implements")]
    UnsupportedSuite,
    /// A key has a length that its algorithm can't use.
    #[error("the cryptography library refused a traffic key")]
    KeyRejected,
}

/// A record could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SealError {
    /// More than [`MAX_PLAINTEXT_LEN`](super::MAX_PLAINTEXT_LEN) bytes; nothing was sealed.
    #[error("the plaintext is longer than a record can carry")]
    PlaintextTooLong,
    /// The buffer ends before the record does; nothing was sealed.
    #[error("the buffer has no room for the header, plaintext and trailer of the record")]
    BufferTooSmall,
    /// The key has sealed as many records as it safely can (RFC 8446 §5.5). With TLS 1.3 call
    /// [`write_key_update`](super::RecordLayer::write_key_update) and go on; with TLS 1.2 say
    /// `close_notify` and close.
    #[error("the key has protected as many records as it safely can")]
    LimitReached,
    /// `close_notify` or a fatal alert was sent before, or the keys were lost to an earlier
    /// failure: nothing may follow.
    #[error("our side of the connection is closed already")]
    Closed,
    /// TLS 1.2 has no KeyUpdate.
    #[error("the connection speaks TLS 1.2, which cannot change its keys")]
    NotTls13,
    /// The cryptography library refused; our side is closed from now on.
    #[error("the cryptography library failed to seal or to derive a key")]
    Crypto,
}

/// The connection can't go on: what the peer sent is refused, or the peer gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ReceiveError {
    /// The peer sent a fatal alert; there is nothing to answer.
    #[error("the peer ended the connection with the alert {0:?}")]
    PeerAlert(AlertDescription),
    /// The record was not protected with our keys, or was changed, lost, repeated or moved on
    /// the way.
    #[error("a record of the peer failed authentication")]
    BadRecordMac,
    /// The record or its plaintext is longer than permitted.
    #[error("the peer sent a record longer than TLS permits")]
    RecordOverflow,
    /// The header names another protocol version.
    #[error("the peer sent a record with a wrong protocol version")]
    WrongVersion,
    /// A content type that has no place after the handshake: ChangeCipherSpec, an unprotected
    /// record in TLS 1.3, or something unknown.
    #[error("the peer sent a record of a type that has no place after the handshake")]
    UnexpectedContentType,
    /// The plaintext was nothing but padding, or an alert or handshake record was empty
    /// (RFC 8446 §5.4).
    #[error("the peer sent a record without content where content is required")]
    NoContent,
    /// A handshake message other than those allowed after the handshake.
    #[error("the peer sent a handshake message that has no place after the handshake")]
    UnexpectedHandshakeMessage,
    /// Another record came in the middle of a handshake message (RFC 8446 §5.1).
    #[error("the peer interrupted a handshake message with another record")]
    InterruptedHandshakeMessage,
    /// Something followed KeyUpdate in its record, which must end there (RFC 8446 §5.1).
    #[error("the peer changed its keys in the middle of a record")]
    KeyChangeInsideRecord,
    /// The peer asked to renegotiate a TLS 1.2 connection, which this side never does.
    #[error("the peer tried to renegotiate, which is not supported")]
    Renegotiation,
    /// More than
    /// [`MAX_CONSECUTIVE_RECORDS_WITHOUT_DATA`](super::MAX_CONSECUTIVE_RECORDS_WITHOUT_DATA)
    /// records in a row carried no data.
    #[error("the peer sent too many records in a row that carry no data")]
    TooManyRecordsWithoutData,
    /// An alert or handshake message has a length that it can't have.
    #[error("the peer sent a malformed alert or handshake message")]
    Decode,
    /// A field has a value outside its range.
    #[error("the peer sent an alert or handshake message with an impossible value")]
    IllegalParameter,
    /// The sequence number has run out, or the next key could not be derived.
    #[error("our record layer cannot continue to receive")]
    Internal,
}

impl ReceiveError {
    /// The fatal alert to send (RFC 8446 §6.2); none where the peer already gave up.
    pub fn alert(self) -> Option<AlertDescription> {
        Some(match self {
            Self::PeerAlert(_) => return None,
            Self::BadRecordMac => AlertDescription::BadRecordMac,
            Self::RecordOverflow => AlertDescription::RecordOverflow,
            Self::WrongVersion => AlertDescription::ProtocolVersion,
            // RFC 5246 §7.2.2 makes no_renegotiation a warning always, after which the
            // connection would go on; ours ends.
            Self::UnexpectedContentType
            | Self::NoContent
            | Self::UnexpectedHandshakeMessage
            | Self::InterruptedHandshakeMessage
            | Self::KeyChangeInsideRecord
            | Self::Renegotiation
            | Self::TooManyRecordsWithoutData => AlertDescription::UnexpectedMessage,
            Self::Decode => AlertDescription::DecodeError,
            Self::IllegalParameter => AlertDescription::IllegalParameter,
            Self::Internal => AlertDescription::InternalError,
        })
    }
}
