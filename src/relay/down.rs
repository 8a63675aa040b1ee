//! From the backend to the client: read into the places of records, seal in place, write.

use std::{
    io::{self, IoSliceMut},
    pin::pin,
    time::Duration,
};

use super::{Relay, Stop};
use crate::{
    metrics::Direction,
    record::MAX_PLAINTEXT_LEN,
    ring::{Buffer, BufferSize, Io},
};

/// How long a session ticket waits for data to travel with. A segment of its own would cost
/// both sides some 7 µs each.
const TICKET_DELAY: Duration = Duration::from_millis(20);

/// Plaintext bytes of a record after a pause: the client can use its first bytes before all of
/// a full record has arrived.
const EARLY_RECORD_BYTES: usize = 4096;

/// Reads in a row that did not need a large buffer before a small one is taken again.
const QUIET_READS: u8 = 4;

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

    /// The places of the plaintext in `buffer`, and how many they are.
    fn places(self, buffer: &mut [u8]) -> ([IoSliceMut<'_>; MAX_RECORDS], usize) {
        let mut places = [(); MAX_RECORDS].map(|()| IoSliceMut::new(&mut []));
        let records = buffer.chunks_exact_mut(self.stride()).take(self.records);
        for (place, record) in places.iter_mut().zip(records) {
            *place = IoSliceMut::new(&mut record[self.header..self.header + self.plaintext]);
        }
        (places, self.records)
    }
}

/// How much to read at a time: small and early at first, large and full for bulk.
#[derive(Debug)]
struct Pace {
    size: BufferSize,
    quiet: u8,
    early: bool,
}

impl Pace {
    fn note(&mut self, bytes: usize, capacity: usize) {
        self.early = false;
        if bytes == capacity {
            (self.size, self.quiet) = (BufferSize::Large, 0);
        } else if bytes < MAX_PLAINTEXT_LEN {
            self.quiet += 1;
            if self.quiet > QUIET_READS {
                (self.size, self.quiet, self.early) = (BufferSize::Small, 0, true);
            }
        }
    }
}

impl Relay<'_> {
    pub(super) async fn down(&self) -> Result<(), Stop> {
        if !self.outbox.is_empty() {
            self.flush_ticket_unless_data_comes().await?;
        }
        let mut pace = Pace { size: BufferSize::Small, quiet: 0, early: true };
        loop {
            self.backend.readable().await.map_err(Stop::Backend)?;
            let mut buffer = self.tools.pool.take(pace.size);
            let layout = self.layout(&buffer, pace.early);
            let (mut places, records) = layout.places(&mut buffer);
            let bytes = match self.backend.try_read_vectored(&mut places[..records]) {
                Ok(Io::WouldBlock) => continue,
                Ok(Io::Bytes(0)) if self.backend_cut.get() => {
                    return Err(Stop::Backend(io::ErrorKind::ConnectionReset.into()));
                }
                Ok(Io::Bytes(0)) => break,
                Ok(Io::Bytes(bytes)) => bytes,
                Err(error) => return Err(Stop::Backend(error)),
            };
            pace.note(bytes, layout.capacity());
            self.send(&mut buffer, layout, bytes).await?;
        }
        self.end_down().await
    }

    fn layout(&self, buffer: &Buffer, early: bool) -> Layout {
        let record = self.record.borrow();
        let (header, trailer) = (record.header_len(), record.trailer_len());
        let plaintext = if early { EARLY_RECORD_BYTES } else { MAX_PLAINTEXT_LEN };
        let records = (buffer.len() / (header + plaintext + trailer)).min(MAX_RECORDS);
        let records = if early { MAX_PLAINTEXT_LEN / EARLY_RECORD_BYTES } else { records };
        Layout { header, plaintext, trailer, records }
    }

    /// Seals `bytes` of plaintext where they lie, and sends them.
    async fn send(&self, buffer: &mut Buffer, layout: Layout, bytes: usize) -> Result<(), Stop> {
        let hold = self.outbox.acquire().await.map_err(Stop::Client)?;
        let sealed = self.seal(buffer, layout, bytes)?;
        let session = self.tools.registration.session();
        hold.send(self.client, session, &buffer[..sealed]).await.map_err(Stop::Client)?;
        self.down_bytes.set(self.down_bytes.get() + bytes as u64);
        self.tools.metrics.relayed(Direction::Down, bytes);
        Ok(())
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
        let timer = Box::pin(tokio::time::sleep(TICKET_DELAY));
        tokio::select! {
            biased;
            result = &mut readable => return result.map_err(Stop::Backend),
            () = timer => {}
        }
        let hold = self.outbox.acquire().await.map_err(Stop::Client)?;
        hold.send(self.client, self.tools.registration.session(), &[])
            .await
            .map_err(Stop::Client)?;
        drop(hold);
        // The operation in flight is waited for, never dropped.
        readable.await.map_err(Stop::Backend)
    }

    /// Passes the backend's orderly end on.
    async fn end_down(&self) -> Result<(), Stop> {
        let hold = self.outbox.acquire().await.map_err(Stop::Client)?;
        let mut last = Vec::new();
        self.record.borrow_mut().write_close_notify(&mut last).map_err(Stop::Seal)?;
        let session = self.tools.registration.session();
        hold.send(self.client, session, &last).await.map_err(Stop::Client)?;
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
        let (mut places, records) = layout.places(&mut buffer);
        for (mark, place) in (1..).zip(&mut places[..records]) {
            place.fill(mark);
        }
        assert_eq!(records, 3);
        assert_eq!((buffer[4], buffer[5], buffer[14], buffer[15]), (0, 1, 1, 0));
        assert_eq!((buffer[36], buffer[37], buffer[46], buffer[47]), (0, 2, 2, 0));
    }

    #[test]
    fn bulk_is_read_in_large_buffers_and_a_trickle_in_small_ones() {
        let mut pace = Pace { size: BufferSize::Small, quiet: 0, early: true };
        pace.note(16_384, 16_384);
        assert_eq!((pace.size, pace.early), (BufferSize::Large, false));
        for _ in 0..=QUIET_READS {
            pace.note(100, 131_072);
        }
        assert_eq!((pace.size, pace.early), (BufferSize::Small, true));
    }
}
