//! Hostile input to the record layer, from on the way and from a peer that holds the keys.
//!
//! The first byte chooses the suite, the side and the mode. As somebody on the way: the rest is
//! fed as it is, and must never open. As a peer: the rest is a script of records, each sealed
//! as it should be; whatever they mean, nothing may panic, what is handed out must lie within
//! the record, and an error must be final.

#![no_main]

#[allow(dead_code)]
#[path = "../../record_layer/offline.rs"]
mod offline;

use countersign::record::{Content, RecordLayer, Side};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&choice, rest)) = input.split_first() else { return };
    let side = if choice & 1 == 0 { Side::Server } else { Side::Client };
    let Some(suite) = offline::both_versions().nth(usize::from(choice >> 1 & 3)) else { return };
    let layer = offline::layer(side, suite);
    if choice & 8 == 0 {
        from_on_the_way(layer, rest);
    } else {
        from_the_peer(layer, offline::Forger::of(offline::other(side), suite), rest);
    }
});

fn from_on_the_way(mut layer: RecordLayer, input: &[u8]) {
    let mut buffer = input.to_vec();
    let peeked = layer.peek_len(&buffer);
    let opened = layer.open(&mut buffer);
    assert!(!matches!(opened, Ok(Some(_))), "opened without the key");
    assert!(peeked.is_ok() || opened.is_err());
    if opened.is_err() {
        assert_eq!(layer.open(&mut []), opened);
    }
}

/// Script: content type, length, padding, content.
fn from_the_peer(mut layer: RecordLayer, mut forger: offline::Forger, mut script: &[u8]) {
    while let &[kind, len, padding, ref rest @ ..] = script {
        let (content, rest) = rest.split_at(usize::from(len).min(rest.len()));
        script = rest;
        let mut record = forger.padded_record(kind, content, usize::from(padding));
        let had_closed = layer.peer_has_closed();
        match layer.open(&mut record) {
            Ok(None) => panic!("the record was whole"),
            Ok(Some(opened)) => {
                assert_eq!(opened.consumed, record.len());
                match opened.content {
                    Content::ApplicationData(range) => {
                        assert!(!had_closed);
                        // A type of zero reads as padding, and what precedes it as the type.
                        if kind == offline::DATA {
                            assert_eq!(&record[range], content);
                        }
                    }
                    // The forger stays with its keys.
                    Content::KeyUpdate { .. } => return,
                    Content::CloseNotify | Content::Nothing => {}
                }
            }
            Err(error) => {
                assert_eq!(layer.open(&mut record), Err(error));
                return;
            }
        }
    }
}
