//! A cursor over DER (X.690): no allocation, and nothing let through that isn't canonical.
//!
//! The libraries at hand read a CRL into one allocation or more for each entry, and accept lengths
//! that aren't minimal. Only what CRLs need is here: tags of one byte, definite lengths.

use time::{Date, Month};

use super::CrlError;

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const ENUMERATED: u8 = 0x0a;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;

/// Context-specific, primitive.
pub(super) const fn context(number: u8) -> u8 {
    0x80 | number
}

/// Context-specific, constructed.
pub(super) const fn constructed(number: u8) -> u8 {
    0xa0 | number
}

/// What is left of the contents of one element.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

/// One element.
#[derive(Debug, Clone, Copy)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    /// Its contents.
    pub(super) value: &'a [u8],
    /// With tag and length.
    pub(super) whole: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) const fn is_empty(self) -> bool {
        self.rest.is_empty()
    }

    /// The tag of the next element.
    pub(super) fn peek(self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The next element, whatever it is; `None` at the end or if it isn't DER.
    pub(super) fn any(&mut self) -> Option<Element<'a>> {
        /// Bytes of a length: 4 GiB at most.
        const MAX_LENGTH_BYTES: usize = 4;

        let &[tag, first, ref after @ ..] = self.rest else { return None };
        // Tags above 30 take further bytes; X.509 has none.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (length, contents) = if first < 0x80 {
            (usize::from(first), after)
        } else {
            let count = usize::from(first & 0x7f);
            if count == 0 || count > MAX_LENGTH_BYTES {
                return None;
            }
            let (bytes, contents) = after.split_at_checked(count)?;
            let length = bytes.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
            // X.690 §10.1: as few bytes as possible.
            if bytes[0] == 0 || length < 0x80 {
                return None;
            }
            (length, contents)
        };
        let (value, rest) = contents.split_at_checked(length)?;
        let whole = &self.rest[..self.rest.len() - rest.len()];
        self.rest = rest;
        Some(Element { tag, value, whole })
    }

    /// The next element, which has to have this tag.
    pub(super) fn element(&mut self, tag: u8, what: &'static str) -> Result<Element<'a>, CrlError> {
        self.any().filter(|element| element.tag == tag).ok_or(CrlError::Malformed(what))
    }

    /// The contents of the next element, which has to have this tag.
    pub(super) fn value(&mut self, tag: u8, what: &'static str) -> Result<&'a [u8], CrlError> {
        Ok(self.element(tag, what)?.value)
    }

    /// A reader of the contents of the next element, which has to have this tag.
    pub(super) fn inside(&mut self, tag: u8, what: &'static str) -> Result<Self, CrlError> {
        self.value(tag, what).map(Reader::new)
    }

    /// The contents of the next element if it has this tag.
    pub(super) fn optional(
        &mut self,
        tag: u8,
        what: &'static str,
    ) -> Result<Option<&'a [u8]>, CrlError> {
        if self.peek() == Some(tag) { self.value(tag, what).map(Some) } else { Ok(None) }
    }

    /// Nothing may follow.
    pub(super) fn end(self, what: &'static str) -> Result<(), CrlError> {
        if self.is_empty() { Ok(()) } else { Err(CrlError::Malformed(what)) }
    }

    /// The contents of an INTEGER, in the one encoding that X.690 §8.3.2 allows.
    pub(super) fn integer(&mut self, what: &'static str) -> Result<&'a [u8], CrlError> {
        match self.value(INTEGER, what)? {
            [] => Err(CrlError::Malformed(what)),
            [0x00, second, ..] if *second < 0x80 => Err(CrlError::Malformed(what)),
            [0xff, second, ..] if *second >= 0x80 => Err(CrlError::Malformed(what)),
            value => Ok(value),
        }
    }

    /// The octets of a BIT STRING that has no unused bits.
    pub(super) fn bit_string(&mut self, what: &'static str) -> Result<&'a [u8], CrlError> {
        match self.value(BIT_STRING, what)? {
            [0, octets @ ..] => Ok(octets),
            _ => Err(CrlError::Malformed(what)),
        }
    }

    /// A Time (RFC 5280 §5.1.2.4) as seconds since 1970, negative before.
    pub(super) fn time(&mut self, what: &'static str) -> Result<i64, CrlError> {
        self.any()
            .and_then(|element| match element.tag {
                UTC_TIME => utc_time(element.value),
                GENERALIZED_TIME => generalized_time(element.value),
                _ => None,
            })
            .ok_or(CrlError::Malformed(what))
    }
}

/// A BOOLEAN's contents (X.690 §11.1).
pub(super) fn boolean(value: &[u8], what: &'static str) -> Result<bool, CrlError> {
    match value {
        [0x00] => Ok(false),
        [0xff] => Ok(true),
        _ => Err(CrlError::Malformed(what)),
    }
}

/// `YYMMDDHHMMSSZ`; years from 50 on are of the last century (RFC 5280 §4.1.2.5.1).
fn utc_time(text: &[u8]) -> Option<i64> {
    let (year, rest) = text.split_at_checked(2)?;
    let year = digits(year)?;
    seconds(if year >= 50 { 1900 + year } else { 2000 + year }, rest)
}

/// `YYYYMMDDHHMMSSZ`, without fractions (RFC 5280 §4.1.2.5.2).
fn generalized_time(text: &[u8]) -> Option<i64> {
    let (year, rest) = text.split_at_checked(4)?;
    seconds(digits(year)?, rest)
}

fn seconds(year: u16, rest: &[u8]) -> Option<i64> {
    let &[m0, m1, d0, d1, h0, h1, min0, min1, s0, s1, b'Z'] = rest else { return None };
    let two = |tens, ones| digits(&[tens, ones]).and_then(|number| u8::try_from(number).ok());
    let month = Month::try_from(two(m0, m1)?).ok()?;
    let date = Date::from_calendar_date(i32::from(year), month, two(d0, d1)?).ok()?;
    let time = date.with_hms(two(h0, h1)?, two(min0, min1)?, two(s0, s1)?).ok()?;
    Some(time.assume_utc().unix_timestamp())
}

/// At most four decimal digits.
fn digits(text: &[u8]) -> Option<u16> {
    text.iter().try_fold(0, |number, byte| {
        byte.is_ascii_digit().then(|| number * 10 + u16::from(byte - b'0'))
    })
}

/// An object identifier in dotted form, for messages.
pub(super) fn dotted(oid: &[u8]) -> String {
    x509_parser::asn1_rs::Oid::new(oid.into()).to_id_string()
}
