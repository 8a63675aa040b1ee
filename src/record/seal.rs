//! Sending: application data in place, and the control records.

use aws_lc_rs::aead::{Aad, Nonce};
use rustls::AlertDescription;

use super::{
    GCM_EXPLICIT_NONCE_LEN, MAX_CONTROL_BODY_LEN, MAX_CONTROL_RECORD_LEN, MAX_PLAINTEXT_LEN,
    Protocol, RECORD_HEADER_LEN, RESERVED_CONTROL_RECORDS, RecordLayer, SealError, Sending,
    TAG_LEN, content_type, tls12_additional_data,
};

const LEGACY_VERSION: [u8; 2] = [3, 3];

const WARNING: u8 = 1;
const FATAL: u8 = 2;

impl RecordLayer {
    /// Makes a record of application data where it lies.
    ///
    /// The plaintext is at `record[header_len()..][..plaintext_len]`; header and trailer are
    /// written around it. Returns the length of the record, which starts at `record[0]`. An
    /// empty plaintext is legal but tells the peer nothing.
    ///
    /// # Errors
    /// [`SealError`]; the record is unusable then, and only [`SealError::LimitReached`],
    /// [`SealError::PlaintextTooLong`] and [`SealError::BufferTooSmall`] leave the connection
    /// usable.
    #[inline]
    pub fn seal(&mut self, record: &mut [u8], plaintext_len: usize) -> Result<usize, SealError> {
        if self.records_until_limit() == 0 {
            return Err(match self.sending {
                Sending::Open => SealError::LimitReached,
                Sending::Closed => SealError::Closed,
            });
        }
        self.seal_as(content_type::APPLICATION_DATA, record, plaintext_len)
    }

    /// How many more records of application data the current key may protect
    /// (RFC 8446 §5.5). Practically unlimited with ChaCha20-Poly1305, 2^24 with AES-GCM at
    /// first.
    #[inline]
    pub fn records_until_limit(&self) -> u64 {
        self.confidentiality_limit
            .saturating_sub(RESERVED_CONTROL_RECORDS)
            .saturating_sub(self.tx.sequence())
    }

    /// Whether it is time for [`Self::write_key_update`]: the last eighth of the key's records
    /// has begun. Never with TLS 1.2, which runs to the limit and must close there.
    #[inline]
    pub fn needs_key_update(&self) -> bool {
        self.protocol == Protocol::Tls13
            && self.records_until_limit() <= self.confidentiality_limit / 8
    }

    /// Appends `close_notify` (RFC 8446 §6.1) to `out`. Nothing may be sealed afterwards;
    /// receiving goes on.
    ///
    /// # Errors
    /// [`SealError::Closed`] the second time or after a fatal alert; [`SealError::Crypto`].
    pub fn write_close_notify(&mut self, out: &mut Vec<u8>) -> Result<(), SealError> {
        self.write_alert(WARNING, AlertDescription::CloseNotify, out)
    }

    /// Appends a fatal alert (RFC 8446 §6.2) to `out`. Nothing may be sealed afterwards.
    ///
    /// # Errors
    /// [`SealError::Closed`] after `close_notify` or another fatal alert;
    /// [`SealError::Crypto`].
    pub fn write_fatal_alert(
        &mut self,
        description: AlertDescription,
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        self.write_alert(FATAL, description, out)
    }

    /// Appends a KeyUpdate (RFC 8446 §4.6.3) to `out` and moves to our next keys: records
    /// sealed before must reach the peer before it, those sealed later after it.
    ///
    /// Pass `request_response: false` to answer a peer that asked; several requests may share
    /// one answer. After `close_notify` there is nothing to answer with, nor a need.
    ///
    /// # Errors
    /// [`SealError::NotTls13`], [`SealError::Closed`]; after [`SealError::Crypto`] our side is
    /// closed.
    pub fn write_key_update(
        &mut self,
        request_response: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        if self.protocol != Protocol::Tls13 {
            return Err(SealError::NotTls13);
        }
        let message = [24, 0, 0, 1, u8::from(request_response)];
        self.write_control(content_type::HANDSHAKE, &message, out)?;
        self.tx.update().map_err(|_| self.close_sending())
    }

    fn write_alert(
        &mut self,
        level: u8,
        description: AlertDescription,
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        self.write_control(content_type::ALERT, &[level, u8::from(description)], out)?;
        self.sending = Sending::Closed;
        Ok(())
    }

    /// Seals a short record on the stack and appends it. These may use the records that are
    /// kept back from application data.
    fn write_control(
        &mut self,
        content_type: u8,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        debug_assert!(body.len() <= MAX_CONTROL_BODY_LEN);
        let mut record = [0; MAX_CONTROL_RECORD_LEN];
        record[self.header_len()..][..body.len()].copy_from_slice(body);
        let len = self.seal_as(content_type, &mut record, body.len())?;
        out.extend_from_slice(&record[..len]);
        Ok(())
    }

    #[inline]
    pub(super) fn seal_as(
        &mut self,
        content_type: u8,
        record: &mut [u8],
        plaintext_len: usize,
    ) -> Result<usize, SealError> {
        if self.sending == Sending::Closed {
            return Err(SealError::Closed);
        }
        if plaintext_len > MAX_PLAINTEXT_LEN {
            return Err(SealError::PlaintextTooLong);
        }
        let total = self.header_len() + plaintext_len + self.trailer_len();
        let record = record.get_mut(..total).ok_or(SealError::BufferTooSmall)?;
        if self.tx.sequence() >= self.confidentiality_limit {
            return Err(SealError::LimitReached);
        }
        match self.protocol {
            Protocol::Tls13 => self.seal_tls13(content_type, record, plaintext_len),
            Protocol::Tls12Gcm | Protocol::Tls12ChaCha20Poly1305 => {
                self.seal_tls12(content_type, record, plaintext_len)
            }
        }
        .map_err(|()| self.close_sending())?;
        Ok(total)
    }

    /// RFC 8446 §5.2. `record` is exactly as long as the record becomes.
    #[inline]
    fn seal_tls13(&mut self, content_type: u8, record: &mut [u8], n: usize) -> Result<(), ()> {
        let [high, low] = be_len(record.len() - RECORD_HEADER_LEN)?;
        let header =
            [content_type::APPLICATION_DATA, LEGACY_VERSION[0], LEGACY_VERSION[1], high, low];
        let (head, rest) = record.split_at_mut(RECORD_HEADER_LEN);
        head.copy_from_slice(&header);
        rest[n] = content_type;
        let (inner, tag) = rest.split_at_mut(n + 1);
        self.protect(Aad::from(&header[..]), inner, tag)
    }

    /// RFC 5246 §6.2.3.3 with the nonce of RFC 5288 or RFC 7905. `record` is exactly as long
    /// as the record becomes.
    #[inline]
    fn seal_tls12(&mut self, content_type: u8, record: &mut [u8], n: usize) -> Result<(), ()> {
        let [high, low] = be_len(record.len() - RECORD_HEADER_LEN)?;
        let kind = [content_type, LEGACY_VERSION[0], LEGACY_VERSION[1]];
        let (head, rest) = record.split_at_mut(self.header_len());
        head[..3].copy_from_slice(&kind);
        head[3..RECORD_HEADER_LEN].copy_from_slice(&[high, low]);
        if self.protocol == Protocol::Tls12Gcm {
            let nonce = self.tx.nonce();
            head[RECORD_HEADER_LEN..]
                .copy_from_slice(&nonce[nonce.len() - GCM_EXPLICIT_NONCE_LEN..]);
        }
        let plaintext_len = u16::from_be_bytes(be_len(n)?);
        let additional = tls12_additional_data(self.tx.sequence(), kind, plaintext_len);
        let (plaintext, tag) = rest.split_at_mut(n);
        self.protect(Aad::from(&additional[..]), plaintext, tag)
    }

    #[inline]
    fn protect(&mut self, aad: Aad<&[u8]>, data: &mut [u8], tag_out: &mut [u8]) -> Result<(), ()> {
        debug_assert_eq!(tag_out.len(), TAG_LEN);
        let nonce = Nonce::assume_unique_for_key(self.tx.nonce());
        let tag = self.tx.key().seal_in_place_separate_tag(nonce, aad, data).map_err(|_| ())?;
        tag_out.copy_from_slice(tag.as_ref());
        // The limit lies at or below the last sequence number, so that it can't wrap; were it
        // to, the nonce must not be used again.
        self.tx.advance().ok_or(())
    }

    /// After a failure a nonce may have been used; nothing more is sealed under it.
    fn close_sending(&mut self) -> SealError {
        self.sending = Sending::Closed;
        SealError::Crypto
    }
}

#[inline]
fn be_len(len: usize) -> Result<[u8; 2], ()> {
    Ok(u16::try_from(len).map_err(|_| ())?.to_be_bytes())
}
