//! As much DER (X.690) as private keys and ECDSA signatures need. Anything that isn't the one
//! encoding of a value is refused.

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;

/// What is left of some DER.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(der: &'a [u8]) -> Self {
        Self(der)
    }

    /// The inside of the sequence that comes next.
    pub(super) fn sequence(&mut self) -> Option<Self> {
        self.value(SEQUENCE).map(Self)
    }

    /// The octet string that comes next.
    pub(super) fn octets(&mut self) -> Option<&'a [u8]> {
        self.value(OCTET_STRING)
    }

    /// The integer that comes next, which isn't negative, without leading zeros: zero is empty.
    pub(super) fn unsigned(&mut self) -> Option<&'a [u8]> {
        match self.value(INTEGER)? {
            [] | [0x80..=0xff, ..] | [0, 0..=0x7f, ..] => None,
            [0, rest @ ..] => Some(rest),
            value => Some(value),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn value(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (&found, rest) = self.0.split_first()?;
        let (length, rest) = length(rest)?;
        if found != tag || rest.len() < length {
            return None;
        }
        let (value, rest) = rest.split_at(length);
        self.0 = rest;
        Some(value)
    }
}

/// A length in as few bytes as it takes, and what follows.
fn length(der: &[u8]) -> Option<(usize, &[u8])> {
    match *der {
        [short @ 0..=0x7f, ref rest @ ..] => Some((short.into(), rest)),
        [0x81, one @ 0x80..=0xff, ref rest @ ..] => Some((one.into(), rest)),
        [0x82, high @ 1..=0xff, low, ref rest @ ..] => {
            Some((usize::from(high) << 8 | usize::from(low), rest))
        }
        _ => None,
    }
}

/// The two halves of an ECDSA signature (RFC 3279 §2.2.3), without leading zeros.
pub(super) fn ecdsa_signature(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut outer = Reader::new(der);
    let mut inside = outer.sequence()?;
    let halves = (inside.unsigned()?, inside.unsigned()?);
    (outer.is_empty() && inside.is_empty()).then_some(halves)
}

/// An ECDSA signature of two big-endian halves, neither of them zero and each at most 48 bytes.
pub(super) fn write_ecdsa_signature(r: &[u8], s: &[u8]) -> Vec<u8> {
    let mut inside = Vec::with_capacity(2 * (r.len() + 3));
    for half in [r, s] {
        let zeros = half.iter().take_while(|&&byte| byte == 0).count();
        let half = &half[zeros..];
        let pad = half.first().is_some_and(|&first| first >= 0x80);
        inside.push(INTEGER);
        inside.push(short(half.len()) + u8::from(pad));
        inside.extend(pad.then_some(0));
        inside.extend_from_slice(half);
    }
    let mut der = vec![SEQUENCE, short(inside.len())];
    der.append(&mut inside);
    der
}

/// A length of one byte: 48 bytes and one of padding have it, and two of those as well.
fn short(length: usize) -> u8 {
    u8::try_from(length).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_reads_as_it_was_written() {
        for (r, s) in [(&[1_u8][..], &[0x80][..]), (&[0xff; 48], &[0x7f; 48]), (&[0, 0, 5], &[9])] {
            let der = write_ecdsa_signature(r, s);
            let trim =
                |half: &[u8]| half.iter().copied().skip_while(|&b| b == 0).collect::<Vec<_>>();
            let (read_r, read_s) = ecdsa_signature(&der).unwrap();
            assert_eq!((read_r, read_s), (&trim(r)[..], &trim(s)[..]));
        }
    }

    #[test]
    fn another_encoding_of_a_signature_is_none() {
        let good = [0x30, 6, 2, 1, 5, 2, 1, 7];
        assert!(ecdsa_signature(&good).is_some());
        for bad in [
            &[0x30, 0x81, 6, 2, 1, 5, 2, 1, 7][..],
            &[0x30, 6, 2, 1, 5, 2, 1, 7, 0],
            &[0x30, 7, 2, 1, 5, 2, 1, 7, 0],
            &[0x30, 7, 2, 2, 0, 5, 2, 1, 7],
            &[0x30, 6, 2, 1, 0x85, 2, 1, 7],
            &[0x30, 5, 2, 0, 2, 1, 7],
            &[0x30, 3, 2, 1, 5],
            &[0x31, 6, 2, 1, 5, 2, 1, 7],
            &[0x30, 6, 2, 1, 5, 2, 2, 7],
            &[],
        ] {
            assert!(ecdsa_signature(bad).is_none(), "{bad:?}");
        }
    }
}
