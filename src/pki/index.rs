//! What a CA has issued and revoked, as a text file that people can read.

use std::fmt::Write as _;

use data_encoding::HEXLOWER;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::Reason;

/// The first line of the file: what stands between the tabs of the others.
const HEADER: &str = "# serial\tkind\tnot_after\trevoked\treason\tsubject\tnames";

/// What stands where there is nothing to say.
const NOTHING: &str = "-";

/// Whom a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A CA.
    Authority,
    /// A server or client.
    Peer,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Authority => "ca",
            Self::Peer => "peer",
        }
    }
}

/// A certificate that a CA has issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its serial number, big-endian, as it is encoded.
    pub serial: Vec<u8>,
    /// Whom it is for.
    pub kind: Kind,
    /// Its last moment.
    pub not_after: OffsetDateTime,
    /// Since when it is revoked, and why.
    pub revoked: Option<(OffsetDateTime, Reason)>,
    /// The common name of its subject.
    pub subject: String,
    /// Its names, with a space between each.
    pub names: String,
}

/// All that a CA has issued, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Index(Vec<Entry>);

impl Index {
    /// Reads what [`to_text`](Self::to_text) wrote; the error says in which line it can't.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut lines = (1..).zip(text.lines());
        if lines.next().map(|(_, line)| line) != Some(HEADER) {
            return Err("line 1 isn't the heading of an index".to_owned());
        }
        let mut index = Self::default();
        for (number, line) in lines {
            let entry = parse_line(line).map_err(|why| format!("line {number}: {why}"))?;
            if index.find(&entry.serial).is_some() {
                return Err(format!("line {number}: its serial number is there twice"));
            }
            index.0.push(entry);
        }
        Ok(index)
    }

    /// The whole file.
    pub(super) fn to_text(&self) -> String {
        let mut text = format!("{HEADER}\n");
        for entry in &self.0 {
            let (revoked, reason) = match entry.revoked {
                None => (NOTHING.to_owned(), NOTHING),
                Some((at, reason)) => (rfc3339(at), reason.as_str()),
            };
            let _ = writeln!(
                text,
                "{}\t{}\t{}\t{revoked}\t{reason}\t{}\t{}",
                to_hex(&entry.serial),
                entry.kind.as_str(),
                rfc3339(entry.not_after),
                field(&entry.subject),
                field(&entry.names),
            );
        }
        text
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.0
    }

    pub(super) fn find(&self, serial: &[u8]) -> Option<&Entry> {
        self.0.iter().find(|entry| is_same(&entry.serial, serial))
    }

    pub(super) fn find_mut(&mut self, serial: &[u8]) -> Option<&mut Entry> {
        self.0.iter_mut().find(|entry| is_same(&entry.serial, serial))
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.0.push(entry);
    }
}

fn parse_line(line: &str) -> Result<Entry, String> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [serial, kind, not_after, revoked, reason, subject, names] = fields[..] else {
        return Err(format!("it has {} columns instead of 7", fields.len()));
    };
    let kind = [Kind::Authority, Kind::Peer]
        .into_iter()
        .find(|known| known.as_str() == kind)
        .ok_or_else(|| format!("{kind:?} is neither ca nor peer"))?;
    let revoked = match (revoked, reason) {
        (NOTHING, NOTHING) => None,
        (at, reason) => Some((parse_time(at)?, parse_reason(reason)?)),
    };
    let text = |field: &str| if field == NOTHING { String::new() } else { field.to_owned() };
    Ok(Entry {
        serial: from_hex(serial).ok_or_else(|| format!("{serial:?} is no serial number"))?,
        kind,
        not_after: parse_time(not_after)?,
        revoked,
        subject: text(subject),
        names: text(names),
    })
}

fn parse_reason(word: &str) -> Result<Reason, String> {
    let known = Reason::ALL.iter().find(|reason| reason.as_str() == word);
    known.copied().ok_or_else(|| format!("{word:?} is no reason for a revocation"))
}

fn parse_time(text: &str) -> Result<OffsetDateTime, String> {
    OffsetDateTime::parse(text, &Rfc3339).map_err(|_| format!("{text:?} is no time of RFC 3339"))
}

/// In UTC, in whole seconds.
pub(super) fn rfc3339(time: OffsetDateTime) -> String {
    let time = time.to_offset(time::UtcOffset::UTC);
    let time = time.replace_nanosecond(0).unwrap_or(time);
    time.format(&Rfc3339).unwrap_or_else(|_| time.to_string())
}

/// Serial numbers are integers: leading zeros don't make another one.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let significant = |octets: &'_ [u8]| octets.iter().position(|&octet| octet != 0);
    match (significant(one), significant(other)) {
        (Some(start), Some(other_start)) => one[start..] == other[other_start..],
        (start, other_start) => start == other_start,
    }
}

/// Nothing that a column holds ends it.
fn field(text: &str) -> String {
    match text {
        "" => NOTHING.to_owned(),
        text => text.chars().map(|c| if c.is_control() { '?' } else { c }).collect(),
    }
}

/// A serial number as people write it: hexadecimal digits in lower case.
pub fn to_hex(octets: &[u8]) -> String {
    HEXLOWER.encode(octets)
}

/// What [`to_hex`] wrote, in upper case too, with a colon between octets or without, and with an
/// odd number of digits. `None` if it is none of this.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<char> = text.chars().filter(|&c| c != ':').collect();
    let octet = |pair: &[char]| {
        pair.iter().try_fold(0_u8, |octet, digit| {
            u8::try_from(digit.to_digit(16)?).ok().map(|digit| octet << 4 | digit)
        })
    };
    let (first, rest) = digits.split_at(digits.len() % 2);
    let first = (!first.is_empty()).then_some(first);
    let octets: Option<Vec<u8>> = first.into_iter().chain(rest.chunks(2)).map(octet).collect();
    octets.filter(|octets| !octets.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(serial: &[u8], revoked: Option<Reason>) -> Entry {
        let at = OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap();
        Entry {
            serial: serial.to_vec(),
            kind: Kind::Peer,
            not_after: at,
            revoked: revoked.map(|reason| (at, reason)),
            subject: "fe01.contoso.test".to_owned(),
            names: "fe01.contoso.test 10.0.0.1".to_owned(),
        }
    }

    #[test]
    fn an_index_is_read_as_it_was_written() {
        let mut index = Index::default();
        for (number, reason) in (1..).zip(Reason::ALL) {
            index.push(entry(&[0, 0x80, number], Some(*reason)));
        }
        index.push(Entry { kind: Kind::Authority, names: String::new(), ..entry(&[7], None) });
        assert_eq!(Index::parse(&index.to_text()), Ok(index));
        assert_eq!(Index::parse(&Index::default().to_text()), Ok(Index::default()));
    }

    #[test]
    fn no_subject_ends_its_column_or_line() {
        let mut index = Index::default();
        index.push(Entry { subject: "a\tb\nc".to_owned(), ..entry(&[1], None) });
        let read = Index::parse(&index.to_text()).unwrap();
        assert_eq!(read.entries()[0].subject, "a?b?c");
    }

    #[test]
    fn what_is_no_index_is_refused_with_the_line() {
        let mut index = Index::default();
        index.push(entry(&[1], Some(Reason::Superseded)));
        let good = index.to_text();
        let line = good.lines().nth(1).unwrap().to_owned();
        for (bad, why) in [
            (String::new(), "line 1"),
            (good.replace("# serial", "# Serial"), "line 1"),
            (good.replace("\tpeer\t", "\tpeers\t"), "line 2: \"peers\""),
            (good.replace("superseded", "tired"), "line 2: \"tired\""),
            (good.replace("superseded", "-"), "line 2: \"-\""),
            (good.replace("01\tpeer", "0x\tpeer"), "line 2: \"0x\""),
            (good.replace("2023-11-14T22:13:20Z", "yesterday"), "line 2: \"yesterday\""),
            (format!("{good}\n"), "line 3: it has 1 columns"),
            (format!("{good}{line}\n"), "line 3: its serial number is there twice"),
            (format!("{good}00{line}\n"), "line 3: its serial number is there twice"),
        ] {
            let refused = Index::parse(&bad).unwrap_err();
            assert!(refused.starts_with(why), "{refused}, not {why}");
        }
    }

    #[test]
    fn serial_numbers_are_read_as_people_write_them() {
        assert_eq!(from_hex(&to_hex(&[0, 0x8f, 1])), Some(vec![0, 0x8f, 1]));
        assert_eq!(from_hex("0A:bC:1"), Some(vec![0, 0xab, 0xc1]));
        assert_eq!(from_hex("fff"), Some(vec![0xf, 0xff]));
        for none in ["", ":", "0x1", "g1", "-1", " 1"] {
            assert_eq!(from_hex(none), None, "{none:?}");
        }
    }

    #[test]
    fn leading_zeros_make_no_other_serial_number() {
        let mut index = Index::default();
        index.push(entry(&[0, 0x80, 1], None));
        assert!(index.find(&[0x80, 1]).is_some());
        assert!(index.find(&[0x80, 1, 0]).is_none() && index.find(&[]).is_none());
    }
}
