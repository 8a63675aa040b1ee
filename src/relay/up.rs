//! From the client to the backend: read, open in place, write the plaintext pieces.

use std::io::{self, IoSlice};

use super::{Relay, Start, Stop, pace::Pace};
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

/// What the upward direction remembers while it waits.
#[derive(Debug)]
struct Progress {
    /// The beginning of a record, in an allocation of just its size.
    tail: Vec<u8>,
    pace: Pace,
}

/// What a buffer full of records came to.
struct Batch {
    /// Plaintext that the backend has not taken yet.
    pieces: Pieces,
    /// Bytes that are done with.
    consumed: usize,
    /// The client has ended its stream.
    ended: bool,
    /// It broke the protocol after all that.
    failed: Option<Stop>,
}

/// A batch with its buffer.
struct Work {
    buffer: Buffer,
    filled: usize,
    batch: Batch,
}

/// How a turn without waiting ended.
enum Turn {
    /// All is passed on.
    Done,
    /// The client has ended its stream.
    Ended,
    /// A socket is full.
    Blocked(Box<Work>),
}

impl Relay {
    /// What only runs while a socket is full is boxed: an idle connection has no room for it.
    pub(super) async fn up(&self) -> Result<(), Stop> {
        let Some(tail) = Box::pin(self.begin()).await? else {
            return self.end_up();
        };
        let mut progress = Progress { tail, pace: Pace::default() };
        loop {
            self.client.readable().await.map_err(Stop::Client)?;
            let turn = match self.turn_up(&mut progress)? {
                Turn::Blocked(work) => Box::pin(self.finish_up(&mut progress, work)).await?,
                turn => turn,
            };
            if matches!(turn, Turn::Ended) {
                return self.end_up();
            }
        }
    }

    /// Writes what the handshake left for the backend, as one segment where it fits; returns
    /// the beginning of a record that it left too, or nothing if the client's stream has ended.
    async fn begin(&self) -> Result<Option<Vec<u8>>, Stop> {
        let Start { mut preface, mut unread, .. } = *self.start.take().unwrap_or_default();
        let batch = self.open_all(&mut unread);
        self.answer_key_update().await?;
        for piece in &slices(&unread, &batch.pieces)[..batch.pieces.count] {
            preface.extend_from_slice(piece);
        }
        self.backend.write_all(&preface).await.map_err(|error| self.backend_refuses(error))?;
        if batch.pieces.total() > 0 {
            self.count_up(batch.pieces.total());
        }
        match (batch.failed, batch.ended) {
            (Some(stop), _) => Err(stop),
            (None, true) => Ok(None),
            (None, false) => Ok(Some(unread[batch.consumed..].to_vec())),
        }
    }

    /// Reads once, opens what came, and passes it on as far as that goes without waiting.
    fn turn_up(&self, progress: &mut Progress) -> Result<Turn, Stop> {
        let mut buffer = self.pool.take(progress.pace.size());
        let kept = progress.tail.len();
        buffer[..kept].copy_from_slice(&progress.tail);
        let limit = self.read_limit(&buffer);
        let filled = match self.client.try_read(&mut buffer[kept..limit]) {
            Ok(Io::WouldBlock) => return Ok(Turn::Done),
            Ok(Io::Bytes(0)) => return Err(Stop::Truncated),
            Ok(Io::Bytes(bytes)) => kept + bytes,
            Err(error) => return Err(Stop::Client(error)),
        };
        self.session().touch();
        progress.pace.note(filled, limit);
        let batch = self.open_all(&mut buffer[..filled]);
        let mut work = Work { buffer, filled, batch };
        if self.key_update_is_due() || !self.try_write_pieces(&mut work)? {
            return Ok(Turn::Blocked(Box::new(work)));
        }
        settle(progress, work)
    }

    /// The same, waiting.
    async fn finish_up(&self, progress: &mut Progress, mut work: Box<Work>) -> Result<Turn, Stop> {
        self.answer_key_update().await?;
        while !self.try_write_pieces(&mut work)? {
            self.backend.writable().await.map_err(Stop::Backend)?;
        }
        settle(progress, *work)
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

    /// Opens every whole record of `input` in place.
    fn open_all(&self, input: &mut [u8]) -> Batch {
        let pieces = Pieces::default();
        let mut batch = Batch { pieces, consumed: 0, ended: false, failed: None };
        let mut record = self.record.borrow_mut();
        while !batch.ended && batch.failed.is_none() {
            let begin = batch.consumed;
            let opened = match record.open(&mut input[begin..]) {
                Ok(Some(opened)) => opened,
                Ok(None) => break,
                Err(error) => {
                    batch.failed = Some(Stop::Receive(error));
                    break;
                }
            };
            batch.consumed += opened.consumed;
            match opened.content {
                Content::ApplicationData(place) => {
                    batch.pieces.add(input, begin + place.start, begin + place.end);
                }
                Content::CloseNotify => batch.ended = true,
                Content::KeyUpdate { response_requested: true } => {
                    batch.failed = self.queue_key_update(&mut record).err();
                }
                Content::KeyUpdate { response_requested: false } | Content::Nothing => {}
            }
        }
        batch
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

    /// Sends our KeyUpdate, if it is for us to send.
    async fn answer_key_update(&self) -> Result<(), Stop> {
        if self.outbox.holds_key_update()
            && let Some(hold) = self.outbox.try_acquire()
        {
            let sent = hold.parcel().finish(&self.client, self.session(), &[]).await;
            sent.map_err(Stop::Client)?;
        }
        Ok(())
    }

    /// Whether our KeyUpdate is for us to send: the other direction takes it along if it sends.
    fn key_update_is_due(&self) -> bool {
        self.outbox.holds_key_update() && !self.outbox.is_held()
    }

    /// Writes the pieces as far as the backend takes them now; whether that was all.
    fn try_write_pieces(&self, work: &mut Work) -> Result<bool, Stop> {
        let Work { buffer, batch: Batch { pieces, .. }, .. } = work;
        let mut left = pieces.total();
        while left > 0 {
            let written = match pieces.places[..pieces.count] {
                [(begin, end)] => self.backend.try_write(&buffer[begin as usize..end as usize]),
                _ => self.backend.try_write_vectored(&slices(buffer, pieces)[..pieces.count]),
            };
            match written {
                Ok(Io::Bytes(bytes)) => {
                    pieces.advance(bytes);
                    left -= bytes;
                    self.count_up(bytes);
                }
                Ok(Io::WouldBlock) => return Ok(false),
                Err(error) => return Err(self.backend_refuses(error)),
            }
        }
        Ok(true)
    }

    /// The backend takes nothing more. EPIPE says that its own stream had ended in order before;
    /// with any other error it is cut, and this was the only time that the kernel says so: the
    /// next read would find what looks like its orderly end.
    fn backend_refuses(&self, error: io::Error) -> Stop {
        self.backend_cut.set(error.raw_os_error() != Some(libc::EPIPE));
        Stop::Backend(error)
    }

    fn count_up(&self, bytes: usize) {
        self.session().touch();
        self.up_bytes.set(self.up_bytes.get() + bytes as u64);
        self.metrics.relayed(Direction::Up, bytes);
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

/// All is passed on: keeps the beginning of a record, if there is one.
fn settle(progress: &mut Progress, work: Work) -> Result<Turn, Stop> {
    let Work { buffer, filled, batch } = work;
    progress.tail = buffer[batch.consumed..filled].to_vec();
    match (batch.failed, batch.ended) {
        (Some(stop), _) => Err(stop),
        (None, true) => Ok(Turn::Ended),
        (None, false) => Ok(Turn::Done),
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
        let mut buffer: Vec<u8> = (0..20u8).flat_map(|i| vec![i; 5000]).collect();
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
