//! The bytes that are sent, known at every offset, so that every byte received can be checked.

/// A prime, so that no buffer, record or segment boundary coincides with a repetition.
const PERIOD: usize = 251;
/// The longest run that is compared or lent at a time.
const RUN: usize = 64 * 1024;

static PATTERN: [u8; RUN + PERIOD] = {
    let mut bytes = [0; RUN + PERIOD];
    let mut i = 0;
    let mut value: u8 = 0;
    while i < bytes.len() {
        bytes[i] = value;
        value = if value as usize == PERIOD - 1 { 0 } else { value + 1 };
        i += 1;
    }
    bytes
};

/// A position in the endless pattern.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Position(usize);

impl Position {
    /// The next bytes to send: `limit`, or 64 KiB if that is less.
    pub(super) fn upcoming(self, limit: usize) -> &'static [u8] {
        &PATTERN[self.0..self.0 + limit.min(RUN)]
    }

    /// Moves on by what was sent.
    pub(super) fn advance(&mut self, bytes: usize) {
        self.0 = (self.0 + bytes) % PERIOD;
    }

    /// Moves on over what was received; `false` if it isn't what was sent.
    pub(super) fn accept(&mut self, bytes: &[u8]) -> bool {
        bytes.chunks(RUN).all(|chunk| {
            let expected = chunk == self.upcoming(chunk.len());
            self.advance(chunk.len());
            expected
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_in_pieces_is_accepted_in_other_pieces() {
        let mut sent = Vec::new();
        let mut writer = Position::default();
        for size in [1, 700, 65_536, 13, 40_000] {
            sent.extend_from_slice(writer.upcoming(size));
            writer.advance(size);
        }
        let mut reader = Position::default();
        assert!(sent.chunks(4097).all(|chunk| reader.accept(chunk)));
        assert_eq!(reader, writer);
    }

    #[test]
    fn a_lost_or_changed_byte_is_noticed() {
        let mut sent = Position::default().upcoming(1000).to_vec();
        sent.remove(500);
        assert!(!Position::default().accept(&sent));
        let mut sent = Position::default().upcoming(1000).to_vec();
        sent[999] ^= 1;
        assert!(!Position::default().accept(&sent));
    }
}
