//! Bytes between a socket and TLS: filled at the end, consumed at the front.

use std::ops::Range;

/// A growing buffer; empty, it can give its memory back.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    filled: Range<usize>,
}

impl Buffer {
    /// What is there.
    pub(super) fn filled(&mut self) -> &mut [u8] {
        &mut self.bytes[self.filled.clone()]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.filled.is_empty()
    }

    /// Drops `bytes` from the front.
    pub(super) fn consume(&mut self, bytes: usize) {
        self.filled.start += bytes;
        if self.filled.is_empty() {
            self.filled = 0..0;
        }
    }

    /// At least `least` bytes of room after what is there, for [`Self::commit`].
    pub(super) fn room(&mut self, least: usize) -> &mut [u8] {
        if self.bytes.len() - self.filled.end < least {
            self.bytes.copy_within(self.filled.clone(), 0);
            self.filled = 0..self.filled.len();
            if self.bytes.len() - self.filled.end < least {
                self.bytes.resize(self.filled.end + least, 0);
            }
        }
        &mut self.bytes[self.filled.end..]
    }

    /// Adds the first `bytes` of the room to what is there.
    pub(super) fn commit(&mut self, bytes: usize) {
        self.filled.end += bytes;
    }

    /// Gives the memory back if nothing is there.
    pub(super) fn release(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_remains_moves_to_the_front_when_room_is_needed() {
        let mut buffer = Buffer::default();
        buffer.room(4)[..4].copy_from_slice(b"abcd");
        buffer.commit(4);
        buffer.consume(3);
        buffer.room(3)[..3].copy_from_slice(b"efg");
        buffer.commit(3);
        assert_eq!(buffer.filled(), b"defg");
        assert_eq!(buffer.bytes.len(), 4);
        buffer.consume(4);
        assert!(buffer.is_empty());
        buffer.release();
        assert_eq!(buffer.bytes.len(), 0);
    }
}
