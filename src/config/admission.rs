//! The keys of `[limits]` that say how many handshakes may go on at a time.

use super::{Limits, reader::Reader};

/// More than the memory of any host would carry.
const HANDSHAKES_MAX: usize = 1_000_000;

/// One address alone may have that many handshakes in flight however small `max_handshakes` is.
const PER_ADDRESS_LEAST: usize = 64;

/// Reads them into `limits`, whose defaults depend on each other.
pub(super) fn read(reader: &mut Reader<'_>, limits: &mut Limits) {
    if let Some(count) = reader.integer("max_handshakes", 1..=HANDSHAKES_MAX) {
        limits.max_handshakes = count;
    }
    if let Some(wait) = reader.duration("max_handshake_wait") {
        limits.max_handshake_wait = wait;
    }
    let full = reader.integer("max_full_handshakes", 1..=HANDSHAKES_MAX);
    let reserved = reader.integer("reserved_handshakes", 0..=HANDSHAKES_MAX);
    let per_address = reader.integer_or_off("max_handshakes_per_address", 1..=HANDSHAKES_MAX);
    set(limits, full, reserved, per_address);
    let (all, full, reserved) =
        (limits.max_handshakes, limits.max_full_handshakes, limits.reserved_handshakes);
    if full > all
        && let Some(at) = reader.present("max_full_handshakes")
    {
        let message = format_args!("found {full}; it takes max_handshakes, {all}, at most");
        reader.report().error(&at, message);
    }
    if reserved >= full
        && let Some(at) = reader.present("reserved_handshakes")
    {
        let problem = "or no stranger could ever connect";
        let message = format_args!(
            "found {reserved}; it takes less than max_full_handshakes, {full}, {problem}"
        );
        reader.report().error(&at, message);
    }
}

/// Sets them to what is said, and to their defaults where nothing is.
pub(super) fn set(
    limits: &mut Limits,
    full: Option<usize>,
    reserved: Option<usize>,
    per_address: Option<Option<usize>>,
) {
    let all = limits.max_handshakes;
    limits.max_full_handshakes = full.unwrap_or(all - all / 4);
    limits.reserved_handshakes = reserved.unwrap_or(limits.max_full_handshakes / 3);
    limits.max_handshakes_per_address =
        per_address.unwrap_or(Some((all / 4).max(PER_ADDRESS_LEAST)));
}
