//! How much to read at a time: small at first, large for bulk, small again when it is over.

use crate::{record::MAX_PLAINTEXT_LEN, ring::BufferSize};

/// Reads in a row that did not need a large buffer before a small one is taken again.
const QUIET_READS: u8 = 4;

/// What one direction has learnt from its reads.
#[derive(Debug)]
pub(super) struct Pace {
    size: BufferSize,
    quiet: u8,
}

impl Default for Pace {
    fn default() -> Self {
        Self { size: BufferSize::Small, quiet: 0 }
    }
}

impl Pace {
    /// The buffer to take for the next read.
    pub(super) fn size(&self) -> BufferSize {
        self.size
    }

    /// A read filled `bytes` of the `capacity` that it had.
    pub(super) fn note(&mut self, bytes: usize, capacity: usize) {
        if bytes == capacity {
            *self = Self { size: BufferSize::Large, quiet: 0 };
        } else if bytes < MAX_PLAINTEXT_LEN {
            self.quiet += 1;
            if self.quiet > QUIET_READS {
                *self = Self::default();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bulk_is_read_in_large_buffers_and_a_trickle_in_small_ones() {
        let mut pace = Pace::default();
        pace.note(16_384, 16_384);
        assert_eq!(pace.size(), BufferSize::Large);
        for _ in 0..=QUIET_READS {
            pace.note(100, 131_072);
        }
        assert_eq!(pace.size(), BufferSize::Small);
    }
}
