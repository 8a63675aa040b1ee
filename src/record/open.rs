//! Receiving: records are opened where they lie.

use std::ops::Range;

use aws_lc_rs::aead::{Aad, Nonce};
use rustls::AlertDescription;

use super::handshake::Message;
use super::{
    GCM_EXPLICIT_NONCE_LEN, MAX_CONSECUTIVE_RECORDS_WITHOUT_DATA, MAX_PLAINTEXT_LEN, Protocol,
    RECORD_HEADER_LEN, ReceiveError, Receiving, RecordLayer, TAG_LEN, content_type,
    tls12_additional_data,
};

/// What came of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Bytes at the start of the input that are done with; the next record begins there.
    pub consumed: usize,
    /// What they meant.
    pub content: Content,
}

/// What a record meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// At least one byte of application data, in the input at this range.
    ApplicationData(Range<usize>),
    /// The peer will send nothing more; it may still receive.
    CloseNotify,
    /// The peer changed its keys, and so have we for receiving. If `response_requested`, send
    /// [`write_key_update(false)`](RecordLayer::write_key_update) before the next application
    /// data (RFC 8446 §4.6.3).
    KeyUpdate {
        /// The peer asks that we change ours too.
        response_requested: bool,
    },
    /// Nothing to act upon: an empty record, a tolerated alert, a session ticket, a piece of a
    /// message, or anything after `close_notify`.
    Nothing,
}

impl RecordLayer {
    /// The length, header included, of the record that `input` starts with; `None` while its
    /// header isn't whole. At most [`MAX_RECORD_LEN`](super::MAX_RECORD_LEN). Fails as soon as
    /// the bytes at hand can't begin a permitted record, so that nobody waits for the rest.
    ///
    /// After `close_notify` or a failure it answers as [`Self::open`] does.
    ///
    /// # Errors
    /// [`ReceiveError::UnexpectedContentType`], [`ReceiveError::WrongVersion`],
    /// [`ReceiveError::RecordOverflow`], or [`ReceiveError::BadRecordMac`] for a record too
    /// short to have a tag.
    #[inline]
    pub fn peek_len(&self, input: &[u8]) -> Result<Option<usize>, ReceiveError> {
        match self.receiving {
            Receiving::Open => self.check_header(input),
            Receiving::Closed => Ok((!input.is_empty()).then_some(input.len())),
            Receiving::Failed(error) => Err(error),
        }
    }

    /// Opens the record at the start of `input`, in place; `None` while it isn't whole.
    ///
    /// Call it again with what follows [`Opened::consumed`]. On failure no plaintext is left in
    /// `input`, and every later call fails alike.
    ///
    /// After `close_notify` whatever comes is consumed and ignored (RFC 8446 §6.1).
    ///
    /// # Errors
    /// [`ReceiveError`]: send its [`alert`](ReceiveError::alert), if it has one, and close.
    #[inline]
    pub fn open(&mut self, input: &mut [u8]) -> Result<Option<Opened>, ReceiveError> {
        match self.receiving {
            Receiving::Open => {}
            Receiving::Closed if input.is_empty() => return Ok(None),
            Receiving::Closed => {
                return Ok(Some(Opened { consumed: input.len(), content: Content::Nothing }));
            }
            Receiving::Failed(error) => return Err(error),
        }
        let opened = self.open_next(input);
        if let Err(error) = opened {
            self.receiving = Receiving::Failed(error);
        }
        opened
    }

    #[inline]
    fn open_next(&mut self, input: &mut [u8]) -> Result<Option<Opened>, ReceiveError> {
        let Some(consumed) = self.check_header(input)? else { return Ok(None) };
        let Some(record) = input.get_mut(..consumed) else { return Ok(None) };
        let (kind, plaintext) = match self.protocol {
            Protocol::Tls13 => self.open_tls13(record)?,
            Protocol::Tls12Gcm | Protocol::Tls12ChaCha20Poly1305 => self.open_tls12(record)?,
        };
        if self.post_handshake.is_inside_message() && kind != content_type::HANDSHAKE {
            record[plaintext].fill(0);
            return Err(ReceiveError::InterruptedHandshakeMessage);
        }
        let content = if kind == content_type::APPLICATION_DATA && !plaintext.is_empty() {
            self.records_without_data = 0;
            Content::ApplicationData(plaintext)
        } else {
            self.control(kind, &record[plaintext])?
        };
        Ok(Some(Opened { consumed, content }))
    }

    /// RFC 8446 §5.1 and §5.2, RFC 5246 §6.2: whatever of the header is there must be right.
    #[inline]
    fn check_header(&self, input: &[u8]) -> Result<Option<usize>, ReceiveError> {
        let Some(&kind) = input.first() else { return Ok(None) };
        let is_permitted = match self.protocol {
            Protocol::Tls13 => kind == content_type::APPLICATION_DATA,
            Protocol::Tls12Gcm | Protocol::Tls12ChaCha20Poly1305 => {
                (content_type::ALERT..=content_type::APPLICATION_DATA).contains(&kind)
            }
        };
        if !is_permitted {
            return Err(ReceiveError::UnexpectedContentType);
        }
        let Some(&[_, major, minor, high, low]) = input.first_chunk::<RECORD_HEADER_LEN>() else {
            return Ok(None);
        };
        // RFC 8446 §5.1 has TLS 1.3 ignore the version; it is authenticated all the same, and
        // only what still looks like TLS is read on.
        if major != 3 || (minor != 3 && self.protocol != Protocol::Tls13) {
            return Err(ReceiveError::WrongVersion);
        }
        let len = usize::from(u16::from_be_bytes([high, low]));
        let overhead = self.explicit_nonce_len() + self.trailer_len();
        if len > MAX_PLAINTEXT_LEN + overhead {
            return Err(ReceiveError::RecordOverflow);
        }
        // In TLS 1.3 a tag around nothing authenticates, and is refused for want of content.
        if len < self.explicit_nonce_len() + TAG_LEN {
            return Err(ReceiveError::BadRecordMac);
        }
        Ok(Some(RECORD_HEADER_LEN + len))
    }

    /// Opens a whole record; returns its true content type and where its content is.
    #[inline]
    fn open_tls13(&mut self, record: &mut [u8]) -> Result<(u8, Range<usize>), ReceiveError> {
        let (header, body) = record.split_at_mut(RECORD_HEADER_LEN);
        let nonce = self.rx.nonce();
        let inner = self.unprotect(nonce, Aad::from(&*header), body)?;
        let type_at = last_non_zero(inner).ok_or(ReceiveError::NoContent)?;
        Ok((inner[type_at], RECORD_HEADER_LEN..RECORD_HEADER_LEN + type_at))
    }

    /// Opens a whole record; returns its content type and where its content is.
    #[inline]
    fn open_tls12(&mut self, record: &mut [u8]) -> Result<(u8, Range<usize>), ReceiveError> {
        let header_len = self.header_len();
        let (header, body) = record.split_at_mut(header_len);
        let nonce = match header.split_last_chunk::<GCM_EXPLICIT_NONCE_LEN>() {
            Some((_, explicit)) if self.protocol == Protocol::Tls12Gcm => {
                self.rx.nonce_with_explicit(*explicit)
            }
            _ => self.rx.nonce(),
        };
        let kind = [header[0], header[1], header[2]];
        let plaintext_len = body.len().saturating_sub(TAG_LEN);
        let additional = tls12_additional_data(
            self.rx.sequence(),
            kind,
            u16::try_from(plaintext_len).map_err(|_| ReceiveError::RecordOverflow)?,
        );
        self.unprotect(nonce, Aad::from(&additional[..]), body)?;
        Ok((kind[0], header_len..header_len + plaintext_len))
    }

    /// Decrypts what precedes the tag; on failure the library leaves zeros there.
    ///
    /// The tag is passed apart because the library's combined call ends by moving the plaintext
    /// onto itself.
    #[inline]
    fn unprotect<'a>(
        &mut self,
        nonce: [u8; 12],
        aad: Aad<&[u8]>,
        body: &'a mut [u8],
    ) -> Result<&'a mut [u8], ReceiveError> {
        let (ciphertext, tag) =
            body.split_last_chunk_mut::<TAG_LEN>().ok_or(ReceiveError::BadRecordMac)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let plaintext = self
            .rx
            .key()
            .open_in_place_separate_tag(nonce, aad, tag, ciphertext)
            .map_err(|_| ReceiveError::BadRecordMac)?;
        self.rx.advance().ok_or(ReceiveError::Internal)?;
        Ok(plaintext)
    }

    /// Everything that is not application data; seldom, so kept out of the way of what is.
    #[cold]
    fn control(&mut self, kind: u8, content: &[u8]) -> Result<Content, ReceiveError> {
        let meaning = match kind {
            content_type::APPLICATION_DATA => Content::Nothing,
            content_type::ALERT => self.alert(content)?,
            content_type::HANDSHAKE if self.protocol == Protocol::Tls13 => {
                match self.post_handshake.read(content)? {
                    Message::Nothing => Content::Nothing,
                    Message::KeyUpdate { response_requested } => {
                        self.rx.update().map_err(|_| ReceiveError::Internal)?;
                        Content::KeyUpdate { response_requested }
                    }
                }
            }
            content_type::HANDSHAKE => return Err(ReceiveError::Renegotiation),
            _ => return Err(ReceiveError::UnexpectedContentType),
        };
        if meaning == Content::CloseNotify {
            self.receiving = Receiving::Closed;
            return Ok(meaning);
        }
        self.records_without_data += 1;
        if self.records_without_data > MAX_CONSECUTIVE_RECORDS_WITHOUT_DATA {
            return Err(ReceiveError::TooManyRecordsWithoutData);
        }
        Ok(meaning)
    }

    /// RFC 8446 §6, RFC 5246 §7.2.
    fn alert(&self, content: &[u8]) -> Result<Content, ReceiveError> {
        const WARNING: u8 = 1;
        const FATAL: u8 = 2;
        let &[level, description] = content else {
            return Err(match content {
                [] => ReceiveError::NoContent,
                _ => ReceiveError::Decode,
            });
        };
        let description = AlertDescription::from(description);
        match (description, level) {
            (AlertDescription::CloseNotify, _) => Ok(Content::CloseNotify),
            // RFC 8446 §6.1: a close_notify follows. The level has no meaning in TLS 1.3.
            (AlertDescription::UserCanceled, _) if self.is_tls13() => Ok(Content::Nothing),
            // RFC 8446 §6: all others are errors there, known or not.
            _ if self.is_tls13() => Err(ReceiveError::PeerAlert(description)),
            (_, WARNING) => Ok(Content::Nothing),
            (_, FATAL) => Err(ReceiveError::PeerAlert(description)),
            _ => Err(ReceiveError::IllegalParameter),
        }
    }
}

/// Where the content type stands before the padding (RFC 8446 §5.4). Sixteen bytes at a time:
/// a peer may pad a byte to a whole record.
#[inline]
fn last_non_zero(inner: &[u8]) -> Option<usize> {
    let mut rest = inner;
    while let Some((before, chunk)) = rest.split_last_chunk::<16>() {
        if u128::from_ne_bytes(*chunk) != 0 {
            break;
        }
        rest = before;
    }
    rest.iter().rposition(|&byte| byte != 0)
}
