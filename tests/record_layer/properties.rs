//! What holds for any data in any pieces.

use countersign::record::{Content, RecordLayer, Side};
use proptest::prelude::*;

use super::offline::{ALERT, DATA, Forger, HANDSHAKE, both_versions, layer, seal};
use super::rustls_peer::{SUITES, connect, open_all};

/// Lengths of pieces: mostly small, some at the edge of a record.
fn pieces() -> impl Strategy<Value = Vec<usize>> {
    let piece = prop_oneof![4 => 0..200_usize, 1 => 16_380..=16_384_usize, 1 => 0..=16_384_usize];
    prop::collection::vec(piece, 1..12)
}

fn filled(lengths: &[usize]) -> Vec<Vec<u8>> {
    let mut counter = 0_u8;
    let mut next = || {
        counter = counter.wrapping_mul(5).wrapping_add(1);
        counter
    };
    lengths.iter().map(|len| (0..*len).map(|_| next()).collect()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_pieces_reach_rustls_as_they_were(suite in 0..9_usize, lengths in pieces()) {
        let mut pair = connect(SUITES[suite], Side::Server);
        let data = filled(&lengths);
        let sealed = data.iter().flat_map(|piece| seal(&mut pair.layer, piece)).collect::<Vec<_>>();
        prop_assert_eq!(pair.peer_receives(&sealed).unwrap(), data.concat());
    }

    #[test]
    fn any_pieces_of_rustls_are_opened_as_they_were(suite in 0..9_usize, lengths in pieces()) {
        let mut pair = connect(SUITES[suite], Side::Server);
        let data = filled(&lengths);
        let mut sealed = data.iter().flat_map(|piece| pair.peer_sends(piece)).collect::<Vec<_>>();
        let (opened, events) = open_all(&mut pair.layer, &mut sealed);
        prop_assert_eq!(opened, data.concat());
        prop_assert_eq!(events, vec![]);
    }

    #[test]
    fn however_the_stream_is_cut_the_events_are_the_same(
        suite in 0..4_usize,
        lengths in pieces(),
        cuts in prop::collection::vec(1..3000_usize, 1..64),
    ) {
        let suite = both_versions().nth(suite).unwrap();
        let mut forger = Forger::of(Side::Client, suite);
        let mut stream = Vec::new();
        for piece in filled(&lengths) {
            stream.extend(forger.record(DATA, &piece));
        }
        if suite.tls13().is_some() {
            stream.extend(forger.record(HANDSHAKE, &[24, 0]));
            stream.extend(forger.record(HANDSHAKE, &[0]));
        }
        stream.extend(forger.record(ALERT, &[1, 0]));
        let whole = events(layer(Side::Server, suite), &stream, &[stream.len()]);
        let in_pieces = events(layer(Side::Server, suite), &stream, &cuts);
        prop_assert_eq!(whole, in_pieces);
    }

    #[test]
    fn noise_never_opens(suite in 0..4_usize, mut noise in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut layer = layer(Side::Server, both_versions().nth(suite).unwrap());
        let mut with_header = [&[23, 3, 3, 0, 64][..], &noise].concat();
        for input in [&mut noise, &mut with_header] {
            prop_assert!(!matches!(layer.open(input), Ok(Some(_))));
        }
    }
}

/// Every event, told as text, of a stream that arrives in pieces of the lengths in `cuts`,
/// over and over.
fn events(mut layer: RecordLayer, stream: &[u8], cuts: &[usize]) -> Vec<String> {
    let (mut events, mut buffer, mut arrived) = (Vec::new(), Vec::new(), 0);
    for cut in cuts.iter().cycle() {
        if arrived == stream.len() {
            break;
        }
        let end = stream.len().min(arrived + cut);
        buffer.extend_from_slice(&stream[arrived..end]);
        arrived = end;
        loop {
            let peeked = layer.peek_len(&buffer);
            match layer.open(&mut buffer) {
                Ok(None) => break,
                Ok(Some(opened)) => {
                    assert_eq!(peeked, Ok(Some(opened.consumed)));
                    events.push(match opened.content {
                        Content::ApplicationData(range) => format!("data {:?}", &buffer[range]),
                        content => format!("{content:?}"),
                    });
                    buffer.drain(..opened.consumed);
                }
                Err(error) => {
                    events.push(format!("{error:?}"));
                    return events;
                }
            }
        }
    }
    events
}
