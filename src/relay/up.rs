//! From the client to the backend: read, open in place, write the plaintext pieces.

use std::io::{self, IoSlice};

use super::{Relay, Start, Stop};
use crate::{
    metrics::Direction,
    record::{Content, MAX_PLAINTEXT_LEN, RecordLayer},
    ring::{Buffer, BufferSize, Io},
};

/// Pieces of plaintext in one write: more than a large buffer has full records. Small
/// neighbours are moved together, so more are never needed.
const MAX_PIECES: usize = 12;

/// A piece of plaintext below this is moved behind its predecessor rather than written apart.
const MOVE_BELOW_BYTES: usize = 4096;

/// Reads in a row that did not need a large buffer before a small one is taken again.
const QUIET_READS: u8 = 4;

/// Where the plaintext of one buffer lies, as begin and end.
#[derive(Debug, Default)]
struct Pieces {
    places: [(u32, u32); MAX_PIECES],
    count: usize,
}

impl Pieces {
    /// Adds `begin..end` of `buffer`, behind all that was added before.
    fn add(&mut self, buffer: &mut [u8], begin: usize, end: usize) {
        let len = end - begin;
        let full = self.count == MAX_PIECES;
        match self.places[..self.count].last_mut() {
            Some(last) if full || len < MOVE_BELOW_BYTES => {
                let at = last.1 as usize;
                buffer.copy_within(begin..end, at);
                last.1 = offset(at + len);
            }
            _ => {
                self.places[self.count] = (offset(begin), offset(end));
                self.count += 1;
            }
        }
    }

    fn total(&self) -> usize {
        self.places[..self.count].iter().map(|(begin, end)| (end - begin) as usize).sum()
    }

    /// Takes away `written` bytes from the front.
    fn advance(&mut self, mut written: usize) {
        for place in &mut self.places[..self.count] {
            let step = written.min((place.1 - place.0) as usize);
            place.0 += offset(step);
            written -= step;
        }
    }
}

/// Offsets into a buffer fit 32 bits: buffers have a fixed size far below.
#[allow(clippy::cast_possible_truncation)]
fn offset(at: usize) -> u32 {
    at as u32
}

/// What a buffer full of records came to.
struct Read {
    /// Bytes that are done with.
    consumed: usize,
    /// The client has ended its stream.
    ended: bool,
    /// It broke the protocol after all that.
    failed: Option<Stop>,
}

impl Relay<'_> {
    pub(super) async fn up(&self, start: Start) -> Result<(), Stop> {
        let Some(mut tail) = self.begin(start.preface, start.unread).await? else {
            return Ok(());
        };
        let mut size = BufferSize::Small;
        let mut quiet = 0;
        loop {
            self.client.readable().await.map_err(Stop::Client)?;
            let mut buffer = self.tools.pool.take(size);
            buffer[..tail.len()].copy_from_slice(&tail);
            let limit = self.read_limit(&buffer);
            let filled = match self.client.try_read(&mut buffer[tail.len()..limit]) {
                Ok(Io::WouldBlock) => continue,
                Ok(Io::Bytes(0)) => return Err(Stop::Truncated),
                Ok(Io::Bytes(bytes)) => tail.len() + bytes,
                Err(error) => return Err(Stop::Client(error)),
            };
            tail = Vec::new();
            self.tools.registration.session().touch();
            if filled == limit {
                (size, quiet) = (BufferSize::Large, 0);
            } else if filled < MAX_PLAINTEXT_LEN {
                quiet += 1;
                if quiet > QUIET_READS {
                    (size, quiet) = (BufferSize::Small, 0);
                }
            }
            let mut pieces = Pieces::default();
            let read = self.open_all(&mut buffer, filled, &mut pieces);
            self.answer_key_update().await?;
            self.write_pieces(&buffer, pieces).await?;
            if let Some(stop) = read.failed {
                return Err(stop);
            }
            if read.ended {
                drop(buffer);
                return self.end_up();
            }
            tail.extend_from_slice(&buffer[read.consumed..filled]);
        }
    }

    /// Writes what the handshake left for the backend, as one segment where it fits. Returns the
    /// beginning of a record, which always waits in an allocation of just its size, or nothing
    /// if the client's stream has ended.
    async fn begin(
        &self,
        mut preface: Vec<u8>,
        mut unread: Vec<u8>,
    ) -> Result<Option<Vec<u8>>, Stop> {
        let filled = unread.len();
        let mut pieces = Pieces::default();
        let read = self.open_all(&mut unread, filled, &mut pieces);
        self.answer_key_update().await?;
        for piece in &slices(&unread, &pieces)[..pieces.count] {
            preface.extend_from_slice(piece);
        }
        self.backend.write_all(&preface).await.map_err(|error| self.backend_refuses(error))?;
        if pieces.total() > 0 {
            self.count_up(pieces.total());
        }
        if let Some(stop) = read.failed {
            return Err(stop);
        }
        if read.ended {
            self.end_up()?;
            return Ok(None);
        }
        Ok(Some(unread[read.consumed..].to_vec()))
    }

    /// Bytes to read into a buffer: a large one takes a whole number of full records, so that a
    /// client that sends these never leaves a partial one.
    fn read_limit(&self, buffer: &Buffer) -> usize {
        match buffer.size() {
            BufferSize::Small => buffer.len(),
            BufferSize::Large => {
                let record = self.record.borrow();
                let full = record.header_len() + MAX_PLAINTEXT_LEN + record.trailer_len();
                buffer.len() / full * full
            }
        }
    }

    /// Opens every whole record of `buffer[..filled]` in place.
    fn open_all(&self, buffer: &mut [u8], filled: usize, pieces: &mut Pieces) -> Read {
        let mut record = self.record.borrow_mut();
        let mut read = Read { consumed: 0, ended: false, failed: None };
        loop {
            let begin = read.consumed;
            let opened = match record.open(&mut buffer[begin..filled]) {
                Ok(Some(opened)) => opened,
                Ok(None) => return read,
                Err(error) => {
                    read.failed = Some(Stop::Receive(error));
                    return read;
                }
            };
            read.consumed += opened.consumed;
            match opened.content {
                Content::ApplicationData(place) => {
                    pieces.add(buffer, begin + place.start, begin + place.end);
                }
                Content::CloseNotify => {
                    read.ended = true;
                    return read;
                }
                Content::KeyUpdate { response_requested: true } => {
                    if let Err(stop) = self.queue_key_update(&mut record) {
                        read.failed = Some(stop);
                        return read;
                    }
                }
                Content::KeyUpdate { response_requested: false } | Content::Nothing => {}
            }
        }
    }

    /// Seals our KeyUpdate behind all that was sealed before. One that still waits answers any
    /// number of requests (RFC 8446 §4.6.3).
    fn queue_key_update(&self, record: &mut RecordLayer) -> Result<(), Stop> {
        if record.has_closed() || self.outbox.holds_key_update() {
            return Ok(());
        }
        let mut sealed = Vec::new();
        record.write_key_update(false, &mut sealed).map_err(Stop::Seal)?;
        self.outbox.append_key_update(sealed);
        Ok(())
    }

    /// Sends our KeyUpdate now, unless the other direction is sending and takes it along.
    async fn answer_key_update(&self) -> Result<(), Stop> {
        if self.outbox.holds_key_update()
            && let Some(hold) = self.outbox.try_acquire()
        {
            let session = self.tools.registration.session();
            hold.send(self.client, session, &[]).await.map_err(Stop::Client)?;
        }
        Ok(())
    }

    async fn write_pieces(&self, buffer: &Buffer, mut pieces: Pieces) -> Result<(), Stop> {
        let total = pieces.total();
        let mut left = total;
        while left > 0 {
            match self.backend.try_write_vectored(&slices(buffer, &pieces)[..pieces.count]) {
                Ok(Io::Bytes(bytes)) => {
                    pieces.advance(bytes);
                    left -= bytes;
                    self.tools.registration.session().touch();
                }
                Ok(Io::WouldBlock) => self.backend.writable().await.map_err(Stop::Backend)?,
                Err(error) => return Err(self.backend_refuses(error)),
            }
        }
        self.count_up(total);
        Ok(())
    }

    /// The backend takes nothing more. EPIPE says that its own stream had ended in order before;
    /// with any other error it is cut, and this was the only time that the kernel says so: the
    /// next read would find what looks like its orderly end.
    fn backend_refuses(&self, error: io::Error) -> Stop {
        self.backend_cut.set(error.raw_os_error() != Some(libc::EPIPE));
        Stop::Backend(error)
    }

    fn count_up(&self, bytes: usize) {
        self.tools.registration.session().touch();
        self.up_bytes.set(self.up_bytes.get() + bytes as u64);
        self.tools.metrics.relayed(Direction::Up, bytes);
    }

    /// Passes the client's orderly end on.
    fn end_up(&self) -> Result<(), Stop> {
        self.up_ended.set(true);
        if !self.down_ended.get() {
            self.backend.finish();
        }
        Ok(())
    }
}

fn slices<'b>(buffer: &'b [u8], pieces: &Pieces) -> [IoSlice<'b>; MAX_PIECES] {
    pieces.places.map(|(begin, end)| IoSlice::new(&buffer[begin as usize..end as usize]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plaintext(buffer: &[u8], pieces: &Pieces) -> Vec<u8> {
        slices(buffer, pieces).iter().flat_map(|piece| piece.to_vec()).collect()
    }

    #[test]
    fn small_neighbours_are_moved_together_and_keep_their_order() {
        let mut buffer: Vec<u8> = (0..200).collect();
        let mut pieces = Pieces::default();
        for (begin, end) in [(5, 10), (20, 40), (100, 101)] {
            pieces.add(&mut buffer, begin, end);
        }
        assert_eq!((pieces.count, pieces.total()), (1, 26));
        let wanted: Vec<u8> = (5..10).chain(20..40).chain(100..101).collect();
        assert_eq!(plaintext(&buffer, &pieces), wanted);
    }

    #[test]
    fn large_pieces_stay_where_they_are_until_the_list_is_full() {
        let mut buffer: Vec<u8> = (0..20 * 5000).map(|i| (i / 5000) as u8).collect();
        let mut pieces = Pieces::default();
        for i in 0..20 {
            pieces.add(&mut buffer, i * 5000 + 10, (i + 1) * 5000);
        }
        assert_eq!((pieces.count, pieces.total()), (MAX_PIECES, 20 * 4990));
        let wanted: Vec<u8> = (0..20u8).flat_map(|i| vec![i; 4990]).collect();
        assert_eq!(plaintext(&buffer, &pieces), wanted);
    }

    #[test]
    fn a_partial_write_leaves_just_the_rest() {
        let mut buffer: Vec<u8> = vec![1; 30_000];
        let mut pieces = Pieces::default();
        pieces.add(&mut buffer, 0, 10_000);
        pieces.add(&mut buffer, 15_000, 25_000);
        pieces.advance(12_000);
        assert_eq!(pieces.total(), 8_000);
        assert_eq!(pieces.places[..2], [(10_000, 10_000), (17_000, 25_000)]);
    }
}
