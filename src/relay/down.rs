//! From the backend to the client: read into the places of records, seal in place, write.

use std::{
    io::{self, IoSliceMut},
    pin::pin,
    time::Duration,
};

use super::{Relay, Stop, outbox::Parcel, pace::Pace};
use crate::{
    metrics::Direction,
    record::MAX_PLAINTEXT_LEN,
    ring::{Buffer, BufferSize, Io},
    sessions::Tick,
};

/// How long a session ticket waits for data to travel with. A segment of its own would cost
/// both sides some 7 µs each.
const TICKET_DELAY: Duration = Duration::from_millis(20);

/// Plaintext bytes of a record after a pause: the client can use its first bytes before all of
/// a full record has arrived.
const EARLY_RECORD_BYTES: usize = 4096;

/// Ticks of silence after which records start small again: one second.
const PAUSE_TICKS: u32 = 10;

/// Most records in one buffer.
const MAX_RECORDS: usize = 8;

/// How plaintext is laid out in a buffer, so that it can be sealed where it lies.
#[derive(Debug, Clone, Copy)]
struct Layout {
    header: usize,
    plaintext: usize,
    trailer: usize,
    records: usize,
}

impl Layout {
    fn stride(self) -> usize {
        self.header + self.plaintext + self.trailer
    }

    fn capacity(self) -> usize {
        self.records * self.plaintext
    }

    /// The places of the plaintext in `buffer`; those beyond the layout's records are empty.
    fn places(self, buffer: &mut [u8]) -> [IoSliceMut<'_>; MAX_RECORDS] {
        let mut places = [(); MAX_RECORDS].map(|()| IoSliceMut::new(&mut []));
        let records = buffer.chunks_exact_mut(self.stride()).take(self.records);
        for (place, record) in places.iter_mut().zip(records) {
            *place = IoSliceMut::new(&mut record[self.header..self.header + self.plaintext]);
        }
        places
    }
}

/// What the downward direction remembers while it waits.
#[derive(Debug, Default)]
struct Progress {
    pace: Pace,
    /// When data was last sent.
    sent: Option<Tick>,
}

/// Records that were sealed, on their way.
struct Work<'a> {
    parcel: Parcel<'a>,
    buffer: Buffer,
    sealed: usize,
}

/// How a turn without waiting ended.
enum Turn<'a> {
    /// All is passed on.
    Done,
    /// The backend has ended its stream.
    Ended,
    /// The upward direction sends.
    Held,
    /// The client's socket is full.
    Blocked(Box<Work<'a>>),
}

impl Relay {
    /// What only runs while a socket is full is boxed: an idle connection has no room for it.
    pub(super) async fn down(&self) -> Result<(), Stop> {
        if !self.outbox.is_empty() {
            Box::pin(self.flush_ticket_unless_data_comes()).await?;
        }
        let mut progress = Progress::default();
        loop {
            self.backend.readable().await.map_err(Stop::Backend)?;
            match self.turn_down(&mut progress)? {
                Turn::Done => {}
                Turn::Held => drop(self.outbox.acquire().await.map_err(Stop::Client)?),
                Turn::Blocked(work) => {
                    let Work { parcel, buffer, sealed } = *work;
                    let rest = parcel.finish(&self.client, self.session(), &buffer[..sealed]);
                    Box::pin(rest).await.map_err(Stop::Client)?;
                }
                Turn::Ended => return Box::pin(self.end_down()).await,
            }
        }
    }

    /// Reads once, seals what came, and sends it as far as that goes without waiting.
    fn turn_down(&self, progress: &mut Progress) -> Result<Turn<'_>, Stop> {
        let Some(hold) = self.outbox.try_acquire() else {
            return Ok(Turn::Held);
        };
        let mut buffer = self.pool.take(progress.pace.size());
        let paused =
            progress.sent.is_none_or(|sent| self.session().ticks_since(sent) >= PAUSE_TICKS);
        let layout = self.layout(&buffer, paused);
        let bytes = match self.read(&mut buffer, layout) {
            Ok(Io::WouldBlock) => return Ok(Turn::Done),
            Ok(Io::Bytes(0)) if self.backend_cut.get() => {
                return Err(Stop::Backend(io::ErrorKind::ConnectionReset.into()));
            }
            Ok(Io::Bytes(0)) => return Ok(Turn::Ended),
            Ok(Io::Bytes(bytes)) => bytes,
            Err(error) => return Err(Stop::Backend(error)),
        };
        progress.pace.note(bytes, layout.capacity());
        let sealed = self.seal(&mut buffer, layout, bytes)?;
        let mut parcel = hold.parcel();
        let all = parcel.push(&self.client, self.session(), &buffer[..sealed]);
        self.down_bytes.set(self.down_bytes.get() + bytes as u64);
        self.metrics.relayed(Direction::Down, bytes);
        progress.sent = Some(self.session().now());
        match all.map_err(Stop::Client)? {
            true => Ok(Turn::Done),
            false => Ok(Turn::Blocked(Box::new(Work { parcel, buffer, sealed }))),
        }
    }

    /// One record in a small buffer, eight in a large one; four early ones after a pause.
    fn layout(&self, buffer: &Buffer, paused: bool) -> Layout {
        let record = self.record.borrow();
        let (header, trailer) = (record.header_len(), record.trailer_len());
        let (plaintext, records) = match buffer.size() {
            _ if paused => (EARLY_RECORD_BYTES, MAX_PLAINTEXT_LEN / EARLY_RECORD_BYTES),
            BufferSize::Small => (MAX_PLAINTEXT_LEN, 1),
            BufferSize::Large => (MAX_PLAINTEXT_LEN, MAX_RECORDS),
        };
        Layout { header, plaintext, trailer, records }
    }

    fn read(&self, buffer: &mut Buffer, layout: Layout) -> io::Result<Io> {
        if layout.records == 1 {
            return self.backend.try_read(&mut buffer[layout.header..][..layout.plaintext]);
        }
        let mut places = layout.places(buffer);
        self.backend.try_read_vectored(&mut places[..layout.records])
    }

    /// The sealed records' length, all together. Keys are changed before their limit.
    fn seal(&self, buffer: &mut [u8], layout: Layout, bytes: usize) -> Result<usize, Stop> {
        let mut record = self.record.borrow_mut();
        if record.needs_key_update() {
            let mut update = Vec::new();
            record.write_key_update(false, &mut update).map_err(Stop::Seal)?;
            self.outbox.append_key_update(update);
        }
        let (mut at, mut left) = (0, bytes);
        while left > 0 {
            let plaintext = left.min(layout.plaintext);
            at += record.seal(&mut buffer[at..], plaintext).map_err(Stop::Seal)?;
            left -= plaintext;
        }
        Ok(at)
    }

    /// Gives the backend a moment to speak, so that the ticket can travel with its data.
    async fn flush_ticket_unless_data_comes(&self) -> Result<(), Stop> {
        let mut readable = pin!(self.backend.readable());
        tokio::select! {
            biased;
            result = &mut readable => return result.map_err(Stop::Backend),
            () = tokio::time::sleep(TICKET_DELAY) => {}
        }
        self.send_all(&[]).await?;
        // The operation in flight is waited for, never dropped.
        readable.await.map_err(Stop::Backend)
    }

    /// Sends what waits in the outbox, then `sealed`.
    async fn send_all(&self, sealed: &[u8]) -> Result<(), Stop> {
        let hold = self.outbox.acquire().await.map_err(Stop::Client)?;
        let sent = hold.parcel().finish(&self.client, self.session(), sealed).await;
        sent.map_err(Stop::Client)
    }

    /// Passes the backend's orderly end on.
    async fn end_down(&self) -> Result<(), Stop> {
        let hold = self.outbox.acquire().await.map_err(Stop::Client)?;
        let mut last = Vec::new();
        self.record.borrow_mut().write_close_notify(&mut last).map_err(Stop::Seal)?;
        let sent = hold.parcel().finish(&self.client, self.session(), &last).await;
        sent.map_err(Stop::Client)?;
        self.down_ended.set(true);
        // Where the client has ended too, the close that follows says the same.
        if !self.up_ended.get() {
            self.client.finish();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_buffer_holds_eight_full_records_of_every_protocol() {
        for (header, trailer) in [(5, 17), (5, 16), (13, 16)] {
            let layout = Layout { header, plaintext: MAX_PLAINTEXT_LEN, trailer, records: 8 };
            assert!(layout.stride() * layout.records <= BufferSize::LARGE_BYTES);
            let early = Layout { header, plaintext: EARLY_RECORD_BYTES, trailer, records: 4 };
            assert!(early.stride() * early.records <= BufferSize::SMALL_BYTES);
        }
    }

    #[test]
    fn plaintext_is_read_to_where_its_record_needs_it() {
        let layout = Layout { header: 5, plaintext: 10, trailer: 17, records: 3 };
        let mut buffer = vec![0; 100];
        let mut places = layout.places(&mut buffer);
        for (mark, place) in (1..).zip(&mut places) {
            place.fill(mark);
        }
        assert_eq!(places.iter().filter(|place| !place.is_empty()).count(), 3);
        assert_eq!((buffer[4], buffer[5], buffer[14], buffer[15]), (0, 1, 1, 0));
        assert_eq!((buffer[36], buffer[37], buffer[46], buffer[47]), (0, 2, 2, 0));
    }
}
