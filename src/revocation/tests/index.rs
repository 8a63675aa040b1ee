//! The index answers exactly as a map of the same entries would, in as little memory as promised.

use std::collections::BTreeMap;

use proptest::{
    collection::vec,
    prelude::{Strategy, any, prop_assert_eq, prop_oneof, proptest},
};

use crate::revocation::index::{Builder, Index, Reason, significant};

/// Bytes an entry may cost, with its date and reason.
const MAX_BYTES_AN_ENTRY: usize = 32;

const MILLION: u64 = 1_000_000;

/// Numbers without visible order, the same in each run (SplitMix64).
fn scattered(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn index_of(serials: &[Vec<u8>]) -> Index {
    let mut builder = Builder::default();
    for (at, serial) in (0..).zip(serials) {
        builder.add(serial, at, Reason::Superseded);
    }
    builder.build()
}

/// Serial numbers as CAs choose them: at random, counted, with a common beginning, and of any kind.
fn serials() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let counted = (any::<u32>(), 0_u32..300).prop_map(|(first, count)| {
        (0..count).map(move |n| first.wrapping_add(n).to_be_bytes().to_vec())
    });
    let common =
        (vec(any::<u8>(), 1..12), vec(vec(any::<u8>(), 3..4), 0..100)).prop_map(|(start, ends)| {
            ends.into_iter().map(|end| [&start[..], &end].concat()).collect::<Vec<_>>()
        });
    prop_oneof![
        vec(vec(any::<u8>(), 16..20), 0..200),
        counted.prop_map(Iterator::collect),
        common,
        vec(vec(any::<u8>(), 0..24), 0..100),
        vec(vec(0_u8..2, 0..10), 0..100),
    ]
}

proptest! {
    #[test]
    fn the_index_equals_a_map(serials in serials(), others in serials()) {
        let index = index_of(&serials);
        let mut map = BTreeMap::new();
        for (at, serial) in (0_u64..).zip(&serials) {
            map.entry(significant(serial).to_vec()).or_insert(at);
        }
        prop_assert_eq!(index.entries(), map.len());
        let neighbours = serials.iter().flat_map(|serial| {
            let mut changed = [serial.clone(), serial.clone(), serial.clone()];
            if let Some(last) = changed[0].last_mut() {
                *last = last.wrapping_add(1);
            }
            if let Some(first) = changed[1].first_mut() {
                *first ^= 1;
            }
            changed[2].push(0);
            changed
        });
        for serial in serials.iter().chain(&others).cloned().chain(neighbours) {
            let found = index.get(&serial).map(|found| found.at.as_secs());
            prop_assert_eq!(found, map.get(significant(&serial)).copied(), "{:?}", serial);
        }
    }
}

#[test]
fn dates_are_clamped_to_what_an_entry_has_room_for() {
    let mut builder = Builder::default();
    for (serial, at) in [(1, -1), (2, i64::from(u32::MAX) + 1), (3, 1_893_456_000)] {
        builder.add(&[serial], at, Reason::Unspecified);
    }
    let index = builder.build();
    let date = |serial| index.get(&[serial]).unwrap().at.as_secs();
    assert_eq!([date(1), date(2), date(3)], [0, u64::from(u32::MAX), 1_893_456_000]);
}

/// Builds an index of a million serials, checks some of them and its memory.
fn check_million(serial: impl Fn(u64) -> Vec<u8>) {
    let mut builder = Builder::default();
    for number in 0..MILLION {
        builder.add(&serial(number), 0, Reason::KeyCompromise);
    }
    let index = builder.build();
    assert_eq!(index.entries() as u64, MILLION);
    for number in (0..MILLION).step_by(997) {
        assert!(index.get(&serial(number)).is_some(), "{number}");
        assert!(index.get(&serial(number + MILLION)).is_none(), "{number}");
    }
    let bytes = index.heap_bytes();
    assert!(bytes <= MAX_BYTES_AN_ENTRY * index.entries(), "{bytes} bytes");
}

#[test]
fn a_million_scattered_serials_of_20_octets_cost_at_most_32_bytes_each() {
    check_million(|number| {
        let halves = [scattered(number), scattered(!number)];
        [&[0x7f, 1, 2, 3], &*halves.map(u64::to_be_bytes).concat()].concat()
    });
}

#[test]
fn a_million_counted_serials_cost_at_most_32_bytes_each() {
    check_million(|number| [&[0x1a; 12][..], &number.to_be_bytes()].concat());
}

#[test]
fn nothing_is_found_in_an_empty_index() {
    let index = index_of(&[]);
    assert_eq!((index.entries(), index.heap_bytes()), (0, 0));
    assert!(index.get(&[]).is_none() && index.get(&[1]).is_none());
}
