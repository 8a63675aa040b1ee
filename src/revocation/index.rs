//! The serial numbers of a CRL, to be found exactly, in little memory.
//!
//! Serials are grouped by their length and lie sorted, one after the other, without anything
//! between them. A table leads from the first bits that tell serials apart to the few neighbours
//! among which a binary search ends: about four bytes for eight entries. With serials of 20 octets
//! that is 26 bytes an entry at most, with date and reason.

use std::{cmp::Ordering, fmt, ops::Range, time::Duration};

use rustls_pki_types::UnixTime;

/// Octets of a serial number; RFC 5280 §4.1.2.2 asks CAs for 20 at most, some don't care.
pub(super) const MAX_SERIAL_BYTES: usize = 64;

/// Entries for each element of the table.
const ENTRIES_A_BUCKET: usize = 8;

/// Why a certificate was revoked (RFC 5280 §5.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reason {
    /// No reason is given.
    Unspecified = 0,
    /// The private key is, or may be, in wrong hands.
    KeyCompromise = 1,
    /// The same, of a CA.
    CaCompromise = 2,
    /// The subject's name or other information has changed.
    AffiliationChanged = 3,
    /// Another certificate has taken its place.
    Superseded = 4,
    /// It isn't needed any more.
    CessationOfOperation = 5,
    /// On hold: it may be valid again later.
    CertificateHold = 6,
    /// A privilege was withdrawn.
    PrivilegeWithdrawn = 9,
    /// The key of an attribute authority is, or may be, in wrong hands.
    AaCompromise = 10,
}

impl Reason {
    /// Every reason, in the order of its codes.
    pub const ALL: [Self; 9] = [
        Self::Unspecified,
        Self::KeyCompromise,
        Self::CaCompromise,
        Self::AffiliationChanged,
        Self::Superseded,
        Self::CessationOfOperation,
        Self::CertificateHold,
        Self::PrivilegeWithdrawn,
        Self::AaCompromise,
    ];

    /// The name in RFC 5280, such as `keyCompromise`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "keyCompromise",
            Self::CaCompromise => "cACompromise",
            Self::AffiliationChanged => "affiliationChanged",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessationOfOperation",
            Self::CertificateHold => "certificateHold",
            Self::PrivilegeWithdrawn => "privilegeWithdrawn",
            Self::AaCompromise => "aACompromise",
        }
    }

    /// By its code; `None` for removeFromCRL and for codes that aren't defined.
    pub(super) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| *reason as u8 == code)
    }
}

/// What a CRL says about a revoked certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revocation {
    /// revocationDate, which may lie in the future; clamped to the years 1970 to 2105.
    pub at: UnixTime,
    /// Why.
    pub reason: Reason,
}

/// A serial number without its leading zero octets: how it is compared. Zero is empty. A negative
/// one, which no CA should issue, counts as the positive one with the same octets.
pub(super) fn significant(serial: &[u8]) -> &[u8] {
    let start = serial.iter().position(|&byte| byte != 0).unwrap_or(serial.len());
    &serial[start..]
}

/// The revoked serial numbers of one CRL.
#[derive(Default)]
pub(super) struct Index {
    /// By length, ascending.
    groups: Box<[Group]>,
    entries: usize,
}

impl Index {
    /// What is said about a serial number, leading zeros or not.
    pub(super) fn get(&self, serial: &[u8]) -> Option<Revocation> {
        let serial = significant(serial);
        let group = self.groups.binary_search_by_key(&serial.len(), |group| group.length).ok()?;
        self.groups[group].get(serial)
    }

    /// Different serial numbers in it.
    pub(super) const fn entries(&self) -> usize {
        self.entries
    }

    /// Bytes that it takes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.groups.iter().map(Group::memory_bytes).sum()
    }
}

/// Without its millions of octets.
impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").field("entries", &self.entries).finish_non_exhaustive()
    }
}

/// Serial numbers of one length.
struct Group {
    length: usize,
    /// Sorted, each `length` octets long.
    serials: Box<[u8]>,
    /// Seconds since 1970, in the order of `serials`.
    dates: Box<[u32]>,
    /// Codes of reasons, in the order of `serials`.
    reasons: Box<[Reason]>,
    /// Where each bucket begins, and where the last one ends.
    table: Box<[u32]>,
    window: Window,
}

impl Group {
    fn get(&self, serial: &[u8]) -> Option<Revocation> {
        let found = self.find(serial, self.bucket(serial)?)?;
        Some(Revocation {
            at: UnixTime::since_unix_epoch(Duration::from_secs(self.dates[found].into())),
            reason: self.reasons[found],
        })
    }

    /// The entries among which a serial number has to be.
    fn bucket(&self, serial: &[u8]) -> Option<Range<usize>> {
        let bucket = self.window.bucket(serial)?;
        Some(*self.table.get(bucket)? as usize..*self.table.get(bucket + 1)? as usize)
    }

    fn find(&self, serial: &[u8], mut among: Range<usize>) -> Option<usize> {
        while !among.is_empty() {
            let middle = among.start + among.len() / 2;
            match serial_at(&self.serials, self.length, middle).cmp(serial) {
                Ordering::Less => among.start = middle + 1,
                Ordering::Greater => among.end = middle,
                Ordering::Equal => return Some(middle),
            }
        }
        None
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.serials.len()
            + size_of_val(&*self.dates)
            + size_of_val(&*self.reasons)
            + size_of_val(&*self.table)
    }
}

fn serial_at(serials: &[u8], length: usize, position: usize) -> &[u8] {
    &serials[position * length..(position + 1) * length]
}

/// The eight octets in which the serials of a group begin to differ, cut to equal buckets.
#[derive(Debug, Clone, Copy)]
struct Window {
    /// Octets that all serials of the group share, before it.
    skip: usize,
    least: u64,
    shift: u32,
}

impl Window {
    /// The octets after `skip` as a number; ascending as the serials that share what is before.
    fn number(skip: usize, serial: &[u8]) -> u64 {
        let mut octets = [0; 8];
        let rest = &serial[skip.min(serial.len())..];
        let seen = rest.len().min(octets.len());
        octets[..seen].copy_from_slice(&rest[..seen]);
        u64::from_be_bytes(octets)
    }

    /// The bucket of a serial number of the group's length; `None` below the first one. It says
    /// nothing about a serial that doesn't share the octets before the window: that one is found
    /// nowhere, since serials are compared whole.
    fn bucket(self, serial: &[u8]) -> Option<usize> {
        let above = Self::number(self.skip, serial).checked_sub(self.least)?;
        usize::try_from(above >> self.shift).ok()
    }
}

/// Gathers the entries of a CRL as they are read.
#[derive(Debug, Default)]
pub(super) struct Builder {
    /// By length.
    gathered: Vec<Gathered>,
}

#[derive(Debug, Default)]
struct Gathered {
    serials: Vec<u8>,
    dates: Vec<u32>,
    reasons: Vec<Reason>,
}

impl Builder {
    /// Adds an entry: a serial number of at most [`MAX_SERIAL_BYTES`] without its leading zeros,
    /// and seconds since 1970. Of several entries for one serial the first counts.
    pub(super) fn add(&mut self, serial: &[u8], at: i64, reason: Reason) {
        let serial = significant(serial);
        if self.gathered.len() <= serial.len() {
            self.gathered.resize_with(serial.len() + 1, Gathered::default);
        }
        let gathered = &mut self.gathered[serial.len()];
        gathered.serials.extend_from_slice(serial);
        gathered.dates.push(u32::try_from(at.max(0)).unwrap_or(u32::MAX));
        gathered.reasons.push(reason);
    }

    pub(super) fn build(self) -> Index {
        let groups: Box<[Group]> = self
            .gathered
            .into_iter()
            .enumerate()
            .filter(|(_, gathered)| !gathered.dates.is_empty())
            .map(|(length, gathered)| gathered.sorted(length))
            .collect();
        let entries = groups.iter().map(|group| group.dates.len()).sum();
        Index { groups, entries }
    }
}

impl Gathered {
    fn sorted(self, length: usize) -> Group {
        let serial = |position: u32| serial_at(&self.serials, length, position as usize);
        let count = u32::try_from(self.dates.len()).unwrap_or(u32::MAX);
        let skip = (1..count).fold(length, |shared, position| {
            let same = serial(0).iter().zip(serial(position));
            same.take(shared).take_while(|(left, right)| left == right).count()
        });
        // Sorted by number first: it is at hand, the octets are somewhere in memory.
        let mut order: Vec<(u64, u32)> =
            (0..count).map(|position| (Window::number(skip, serial(position)), position)).collect();
        order.sort_unstable_by(|left, right| {
            let rest = || serial(left.1).cmp(serial(right.1)).then(left.1.cmp(&right.1));
            left.0.cmp(&right.0).then_with(rest)
        });
        order.dedup_by(|later, first| serial(later.1) == serial(first.1));
        let (window, table) = table(skip, &order);
        let mut serials = Vec::with_capacity(order.len() * length);
        for &(_, position) in &order {
            serials.extend_from_slice(serial(position));
        }
        Group {
            length,
            serials: serials.into_boxed_slice(),
            dates: order.iter().map(|&(_, position)| self.dates[position as usize]).collect(),
            reasons: order.iter().map(|&(_, position)| self.reasons[position as usize]).collect(),
            table,
            window,
        }
    }
}

/// The table of serials in this order, of which there is at least one.
fn table(skip: usize, order: &[(u64, u32)]) -> (Window, Box<[u32]>) {
    let least = order[0].0;
    let span = order[order.len() - 1].0 - least;
    let buckets = (order.len() / ENTRIES_A_BUCKET).max(1).next_power_of_two();
    // So many bits of the span are left that it fits into the buckets.
    let shift = (u64::BITS - span.leading_zeros()).saturating_sub(buckets.trailing_zeros());
    // A shift by all bits isn't one; then there is a single bucket, and half of it is as good.
    let window = Window { skip, least, shift: shift.min(u64::BITS - 1) };
    let last = usize::try_from(span >> window.shift).unwrap_or(0);
    let mut table = Vec::with_capacity(last + 2);
    for (position, &(number, _)) in (0..).zip(order) {
        let bucket = usize::try_from((number - least) >> window.shift).unwrap_or(0);
        table.resize(table.len().max(bucket + 1), position);
    }
    table.push(u32::try_from(order.len()).unwrap_or(u32::MAX));
    (window, table.into_boxed_slice())
}
