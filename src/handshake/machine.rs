//! One handshake as a state machine: bytes in, bytes out, no I/O and no `await`.
//!
//! [`Machine::step`] runs rustls until it needs the network. Nothing else calls rustls'
//! processing, so that a coroutine around this one call is all it takes to suspend inside of
//! rustls' cryptography.
//!
//! rustls sees one record of the client's at a time, and none after its Finished: a KeyUpdate in
//! the same segment would move its keys on from the secrets that it hands over, with the answer
//! still inside of it.

use std::{ops::RangeInclusive, rc::Rc, sync::Arc};

use rustls::{
    ProtocolVersion, ServerConfig,
    server::UnbufferedServerConnection,
    unbuffered::{
        ConnectionState, EncodeError, EncodeTlsData, InsufficientSizeError, UnbufferedStatus,
    },
};

use super::context::{self, Context};
use crate::admission::HandshakePlace;

/// Most bytes of a ClientHello: one record. Hybrid key shares and all extensions in use take
/// 2 kB.
pub(super) const MAX_CLIENT_HELLO_BYTES: usize = 16 * 1024;

/// Most bytes of the client's later flights that may wait to be understood: the largest
/// certificate message that rustls takes is 64 KiB.
pub(super) const MAX_FLIGHT_BYTES: usize = 96 * 1024;

/// What is read at a time; also what the output starts with.
const CHUNK_BYTES: usize = 4096;

/// What a handshake needs to go on.
#[derive(Debug)]
pub(super) enum Step {
    /// More bytes from the client.
    Read,
    /// The output has to reach the client first.
    Write,
    /// Keys are agreed; the output may hold a session ticket that can wait for the first data.
    Done,
    /// It failed; the output may hold an alert.
    Failed(rustls::Error),
}

/// The client sent more than a handshake may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLong;

pub(super) struct Machine {
    pub(super) connection: UnbufferedServerConnection,
    pub(super) context: Option<Box<Context>>,
    input: Vec<u8>,
    filled: usize,
    /// Bytes of the input that rustls sees.
    offered: usize,
    /// Bytes of whole records among these.
    whole: usize,
    pub(super) output: Vec<u8>,
    answered: bool,
    failed: Option<rustls::Error>,
    signs_by_rsa: bool,
}

impl Machine {
    /// For a handshake that has this place among those in flight, and in which we may have to sign
    /// by an RSA key.
    pub(super) fn new(
        config: Arc<ServerConfig>,
        place: &Rc<HandshakePlace>,
        signs_by_rsa: bool,
    ) -> Result<Self, rustls::Error> {
        let context = Context { place: Some(place.clone()), ..Context::default() };
        Ok(Self {
            connection: UnbufferedServerConnection::new(config)?,
            context: Some(Box::new(context)),
            input: vec![0; CHUNK_BYTES],
            filled: 0,
            offered: 0,
            whole: 0,
            output: Vec::new(),
            answered: false,
            failed: None,
            signs_by_rsa,
        })
    }

    /// Where the next bytes from the client belong; never empty.
    pub(super) fn space(&mut self) -> Result<&mut [u8], TooLong> {
        let limit = if self.answered { MAX_FLIGHT_BYTES } else { MAX_CLIENT_HELLO_BYTES };
        if self.filled >= limit {
            return Err(TooLong);
        }
        if self.input.len() - self.filled < CHUNK_BYTES / 2 {
            self.input.resize((self.input.len() * 2).min(limit.max(self.input.len() + 1)), 0);
        }
        Ok(&mut self.input[self.filled..])
    }

    /// That many bytes were put into [`Machine::space`].
    pub(super) fn received(&mut self, bytes: usize) {
        self.filled += bytes;
    }

    /// What the client has sent and no step has consumed.
    pub(super) fn unread(&self) -> &[u8] {
        &self.input[..self.filled]
    }

    /// Whether the client's last bytes are the beginning of a record, about which nothing can be said
    /// before it is whole.
    pub(super) fn is_amid_record(&self) -> bool {
        begins_record(&self.input[self.whole..self.filled])
    }

    /// Whether the client's very first bytes are still to be judged.
    pub(super) fn is_fresh(&self) -> bool {
        !self.answered && self.failed.is_none()
    }

    /// Whether something was computed for the client. A HelloRetryRequest (RFC 8446 §4.1.4) costs
    /// nothing: whoever was sent one has yet to begin.
    pub(super) fn has_begun(&self) -> bool {
        let has_begun = |context: &Context| {
            context.lineage.is_some() || context.place.as_ref().is_some_and(|place| place.is_full())
        };
        self.failed.is_some() || self.context.as_deref().is_some_and(has_begun)
    }

    /// Whether we may have to sign by an RSA key.
    pub(super) fn signs_by_rsa(&self) -> bool {
        self.signs_by_rsa
    }

    /// Runs rustls until it needs the network.
    pub(super) fn step(&mut self) -> Step {
        let mut context = self.context.take();
        let step = context::enter(&mut context, || self.run());
        self.context = context;
        step
    }

    fn run(&mut self) -> Step {
        loop {
            if let Some(step) = self.turn() {
                return step;
            }
        }
    }

    /// One call into rustls; `None` says that it can go on at once.
    fn turn(&mut self) -> Option<Step> {
        // What rustls has refused it must not look at again; it only has its alert to give.
        if !self.connection.wants_write()
            && let Some(error) = self.failed.take()
        {
            return Some(Step::Failed(error));
        }
        let handshaking = self.connection.is_handshaking();
        let UnbufferedStatus { discard, state, .. } =
            self.connection.process_tls_records(&mut self.input[..self.offered]);
        let mut blocked = false;
        let step = match state {
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                self.answered = true;
                encode(&mut data, &mut self.output).err().map(Step::Failed)
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                // What TLS 1.3 says after its handshake is a ticket, which isn't urgent.
                let urgent = handshaking
                    || self.connection.protocol_version() != Some(ProtocolVersion::TLSv1_3);
                urgent.then_some(Step::Write)
            }
            Ok(ConnectionState::BlockedHandshake) => {
                blocked = true;
                None
            }
            // A close_notify in the middle of the handshake; the end of the stream follows.
            Ok(ConnectionState::PeerClosed) => None,
            Ok(ConnectionState::WriteTraffic(_)) => Some(Step::Done),
            Ok(_) => Some(Step::Failed(rustls::Error::HandshakeNotComplete)),
            Err(error) => {
                self.failed = Some(error);
                None
            }
        };
        self.input.copy_within(discard..self.filled, 0);
        self.filled -= discard;
        self.offered = self.offered.saturating_sub(discard);
        self.whole = self.whole.saturating_sub(discard);
        if blocked && !self.offer_more() { Some(Step::Read) } else { step }
    }
}

impl Machine {
    /// Lets rustls see the next record, or whatever there is of it, so that it can refuse what
    /// can't become one; false if it has seen all.
    fn offer_more(&mut self) -> bool {
        let seen = self.offered;
        let end = self.whole + record_len(&self.input[self.whole..self.filled]);
        if end <= self.filled {
            self.whole = end;
            self.offered = end;
            return true;
        }
        self.offered = self.filled;
        self.offered > seen
    }
}

/// Whether that may become a record (RFC 8446 §5.1, §5.2), and isn't a whole one.
fn begins_record(input: &[u8]) -> bool {
    const KINDS: RangeInclusive<u8> = 20..=23;
    const MAX_CIPHERTEXT_BYTES: usize = (1 << 14) + 256;
    let is_record = match *input {
        [kind, 3, _, high, low, ..] => {
            let length = usize::from(u16::from_be_bytes([high, low]));
            KINDS.contains(&kind) && length <= MAX_CIPHERTEXT_BYTES
        }
        [kind] | [kind, 3] | [kind, 3, _] | [kind, 3, _, _] => KINDS.contains(&kind),
        _ => false,
    };
    is_record && record_len(input) > input.len()
}

/// The length of the record that begins there, header included; more than there is while it
/// isn't whole.
fn record_len(input: &[u8]) -> usize {
    match *input {
        [_, _, _, high, low, ..] => 5 + usize::from(u16::from_be_bytes([high, low])),
        _ => input.len() + 1,
    }
}

fn encode<D>(data: &mut EncodeTlsData<'_, D>, output: &mut Vec<u8>) -> Result<(), rustls::Error> {
    let start = output.len();
    let mut room = CHUNK_BYTES / 2;
    loop {
        output.resize(start + room, 0);
        match data.encode(&mut output[start..]) {
            Ok(bytes) => {
                output.truncate(start + bytes);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size }))
                if required_size > room =>
            {
                room = required_size;
            }
            Err(error) => {
                output.truncate(start);
                return Err(rustls::Error::General(error.to_string()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_a_record_is_waited_for_until_it_is_whole() {
        let record = [&[22, 3, 1, 0, 3][..], b"abc"].concat();
        for bytes in 1..record.len() {
            assert!(begins_record(&record[..bytes]), "{bytes}");
        }
        assert!(!begins_record(&record));
        assert!(!begins_record(&[&record[..], &record[..4]].concat()));
    }

    #[test]
    fn what_can_not_become_a_record_is_refused_without_waiting_for_more() {
        let all: [&[u8]; 6] =
            [&[], &[19], &[24, 3], &[22, 2], &[22, 2, 0, 0], &[22, 3, 3, 0xff, 0xff]];
        for input in all {
            assert!(!begins_record(input), "{input:?}");
        }
    }
}
