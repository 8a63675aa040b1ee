//! Handshake messages after the handshake: KeyUpdate, and session tickets at a client.
//!
//! RFC 8446 §5.1 lets a message be split over records and, but for KeyUpdate, lets several
//! share one. Nothing of a message but its header is kept.

use super::{ReceiveError, Side};

const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

const HEADER_LEN: u8 = 4;

/// The longest NewSessionTicket that RFC 8446 §4.6.1 can express: lifetime, age_add, nonce,
/// ticket, extensions.
const MAX_TICKET_MESSAGE_LEN: u32 = 4 + 4 + (1 + 255) + (2 + 65_535) + (2 + 65_534);

/// What a record of handshake content amounted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    /// A piece of a message, or messages that need no answer.
    Nothing,
    /// The peer's next record is protected with its next keys.
    KeyUpdate { response_requested: bool },
}

/// Reads handshake messages from the records of a TLS 1.3 connection.
#[derive(Debug)]
pub(super) struct PostHandshakeReader {
    /// Type and 24-bit length of the message at hand, as far as they came.
    header: [u8; HEADER_LEN as usize],
    header_len: u8,
    /// Once the header is whole: bytes of the body that are still to come.
    body_left: u32,
    side: Side,
}

impl PostHandshakeReader {
    pub(super) fn new(side: Side) -> Self {
        Self { header: [0; HEADER_LEN as usize], header_len: 0, body_left: 0, side }
    }

    /// Whether a message has begun but not ended, so that no other record may come.
    #[inline]
    pub(super) fn is_inside_message(&self) -> bool {
        self.header_len != 0
    }

    /// Reads the content of one record.
    pub(super) fn read(&mut self, mut content: &[u8]) -> Result<Message, ReceiveError> {
        if content.is_empty() {
            return Err(ReceiveError::NoContent);
        }
        while let Some((&byte, rest)) = content.split_first() {
            if self.header_len < HEADER_LEN {
                self.header[usize::from(self.header_len)] = byte;
                self.header_len += 1;
                content = rest;
                self.check_header()?;
                continue;
            }
            if self.header[0] == KEY_UPDATE {
                self.header_len = 0;
                return key_update(byte, rest);
            }
            let here = content.len().min(self.body_left as usize);
            content = &content[here..];
            // `here` is at most `body_left`, so that the cast can't cut anything off.
            self.body_left = self.body_left.saturating_sub(u32::try_from(here).unwrap_or(u32::MAX));
            if self.body_left == 0 {
                self.header_len = 0;
            }
        }
        Ok(Message::Nothing)
    }

    /// Refuses as soon as the bytes that came so far can't become a permitted message.
    fn check_header(&mut self) -> Result<(), ReceiveError> {
        let [kind, length @ ..] = self.header;
        match kind {
            KEY_UPDATE => {}
            NEW_SESSION_TICKET if self.side == Side::Client => {}
            _ => return Err(ReceiveError::UnexpectedHandshakeMessage),
        }
        if self.header_len < HEADER_LEN {
            return Ok(());
        }
        self.body_left = u32::from_be_bytes([0, length[0], length[1], length[2]]);
        let is_possible = match kind {
            KEY_UPDATE => self.body_left == 1,
            _ => (1..=MAX_TICKET_MESSAGE_LEN).contains(&self.body_left),
        };
        if is_possible { Ok(()) } else { Err(ReceiveError::Decode) }
    }
}

/// The body of a KeyUpdate (RFC 8446 §4.6.3) and what follows it in its record.
fn key_update(request: u8, rest: &[u8]) -> Result<Message, ReceiveError> {
    let response_requested = match request {
        0 => false,
        1 => true,
        _ => return Err(ReceiveError::IllegalParameter),
    };
    if !rest.is_empty() {
        return Err(ReceiveError::KeyChangeInsideRecord);
    }
    Ok(Message::KeyUpdate { response_requested })
}
