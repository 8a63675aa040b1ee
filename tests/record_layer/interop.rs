//! Record by record against rustls, over real handshakes, with every suite and from both sides.

use countersign::record::{Content, MAX_PLAINTEXT_LEN, ReceiveError, SealError, Side};
use rustls::{AlertDescription, SupportedCipherSuite};

use super::offline::{ALERT, DATA, Forger, HANDSHAKE, seal};
use super::rustls_peer::{Pair, SUITES, connect, open_all};

fn for_each_connection(test: impl Fn(Pair)) {
    for side in [Side::Server, Side::Client] {
        for &suite in SUITES {
            test(connect(suite, side));
        }
    }
}

fn for_each_tls13_connection(test: impl Fn(Pair, SupportedCipherSuite)) {
    for side in [Side::Server, Side::Client] {
        for &suite in SUITES.iter().filter(|suite| suite.tls13().is_some()) {
            let mut pair = connect(suite, side);
            // A server's session tickets would only be in the way.
            let mut tickets = pair.peer_output();
            pair.forger.sequence += count_records(&tickets);
            assert_eq!(open_all(&mut pair.layer, &mut tickets), (vec![], vec![]));
            test(pair, suite);
        }
    }
}

fn count_records(mut records: &[u8]) -> u64 {
    let mut count = 0;
    while let &[_, _, _, high, low, ref rest @ ..] = records {
        records = &rest[usize::from(u16::from_be_bytes([high, low]))..];
        count += 1;
    }
    count
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

#[test]
fn all_nine_suites_are_tried() {
    assert_eq!(SUITES.len(), 9);
}

#[test]
fn data_of_every_edge_length_passes_both_ways_under_every_suite() {
    for_each_connection(|mut pair| {
        for len in [0, 1, 15, 16, 17, 16_383, 16_384] {
            let data = pattern(len);
            let record = seal(&mut pair.layer, &data);
            assert_eq!(pair.peer_receives(&record).unwrap(), data);
            let mut records = pair.peer_sends(&data);
            assert_eq!(open_all(&mut pair.layer, &mut records), (data, vec![]));
        }
    });
}

#[test]
fn records_sealed_at_the_stride_are_one_run_of_bytes() {
    for_each_connection(|mut pair| {
        let (header, trailer) = (pair.layer.header_len(), pair.layer.trailer_len());
        let stride = header + MAX_PLAINTEXT_LEN + trailer;
        let data = pattern(2 * MAX_PLAINTEXT_LEN + 100);
        let mut buffer = vec![0; 3 * stride];
        let mut end = 0;
        for (piece, slot) in data.chunks(MAX_PLAINTEXT_LEN).zip(buffer.chunks_mut(stride)) {
            slot[header..][..piece.len()].copy_from_slice(piece);
            end += pair.layer.seal(slot, piece.len()).unwrap();
        }
        assert_eq!(end, 2 * stride + header + 100 + trailer);
        assert_eq!(pair.peer_receives(&buffer[..end]).unwrap(), data);
    });
}

#[test]
fn the_peer_may_change_its_keys_and_have_ours_changed() {
    for_each_tls13_connection(|mut pair, _| {
        for round in 0..3 {
            pair.peer.refresh_traffic_keys().unwrap();
            let mut records = pair.peer_sends(b"under the next keys");
            let (data, events) = open_all(&mut pair.layer, &mut records);
            assert_eq!(data, b"under the next keys", "round {round}");
            assert_eq!(events, [Content::KeyUpdate { response_requested: true }]);
            let mut answer = Vec::new();
            pair.layer.write_key_update(false, &mut answer).unwrap();
            answer.extend(seal(&mut pair.layer, b"ours too"));
            assert_eq!(pair.peer_receives(&answer).unwrap(), b"ours too");
        }
    });
}

#[test]
fn we_may_change_our_keys_and_have_the_peers_changed() {
    for_each_tls13_connection(|mut pair, _| {
        for _ in 0..3 {
            let mut out = seal(&mut pair.layer, b"old");
            pair.layer.write_key_update(true, &mut out).unwrap();
            out.extend(seal(&mut pair.layer, b"new"));
            assert_eq!(pair.peer_receives(&out).unwrap(), b"oldnew");
            let mut records = pair.peer_sends(b"answer");
            let (data, events) = open_all(&mut pair.layer, &mut records);
            assert_eq!(data, b"answer");
            assert_eq!(events, [Content::KeyUpdate { response_requested: false }]);
        }
    });
}

#[test]
fn derived_keys_equal_those_that_rustls_derives() {
    for_each_tls13_connection(|mut pair, suite| {
        let mut out = Vec::new();
        for _ in 0..3 {
            pair.layer.write_key_update(false, &mut out).unwrap();
            let (sequence, secrets) = pair.kernel.next_tx();
            let mut rustls = Forger::new(suite, sequence, &secrets);
            assert_eq!(seal(&mut pair.layer, b"same"), rustls.record(DATA, b"same"));

            let mut update = pair.forger.record(HANDSHAKE, &[24, 0, 0, 1, 0]);
            open_all(&mut pair.layer, &mut update);
            let (sequence, secrets) = pair.kernel.next_rx();
            pair.forger = Forger::new(suite, sequence, &secrets);
            let mut record = pair.forger.record(DATA, b"theirs");
            assert_eq!(open_all(&mut pair.layer, &mut record).0, b"theirs");
        }
    });
}

#[test]
fn each_direction_closes_by_itself() {
    for_each_connection(|mut pair| {
        pair.peer.send_close_notify();
        let mut records = pair.peer_output();
        let (_, events) = open_all(&mut pair.layer, &mut records);
        assert_eq!(events, [Content::CloseNotify]);
        assert!(pair.layer.peer_has_closed() && !pair.layer.has_closed());

        // We may go on until we close too.
        let mut out = seal(&mut pair.layer, b"the rest");
        pair.layer.write_close_notify(&mut out).unwrap();
        assert_eq!(pair.peer_receives(&out).unwrap(), b"the rest");
        assert!(pair.peer.process_new_packets().unwrap().peer_has_closed());

        assert!(pair.layer.has_closed());
        assert_eq!(pair.layer.seal(&mut [0; 64], 1), Err(SealError::Closed));
        assert_eq!(pair.layer.write_close_notify(&mut out), Err(SealError::Closed));
        let update = pair.layer.write_key_update(false, &mut out);
        assert!(matches!(update, Err(SealError::Closed | SealError::NotTls13)));
    });
}

#[test]
fn what_follows_close_notify_is_ignored() {
    for_each_connection(|mut pair| {
        pair.peer.send_close_notify();
        let mut bytes = pair.peer_output();
        bytes.extend_from_slice(b"neither TLS nor anything");
        let (data, events) = open_all(&mut pair.layer, &mut bytes);
        assert_eq!((data, events), (vec![], vec![Content::CloseNotify]));
        assert_eq!(pair.layer.peek_len(b"xyz"), Ok(Some(3)));
        assert_eq!(pair.layer.open(&mut []), Ok(None));
    });
}

#[test]
fn the_peer_understands_our_fatal_alerts() {
    for_each_connection(|mut pair| {
        let mut out = Vec::new();
        pair.layer.write_fatal_alert(AlertDescription::CertificateRevoked, &mut out).unwrap();
        assert_eq!(
            pair.peer_receives(&out),
            Err(rustls::Error::AlertReceived(AlertDescription::CertificateRevoked))
        );
        assert_eq!(pair.layer.seal(&mut [0; 64], 1), Err(SealError::Closed));
    });
}

#[test]
fn a_fatal_alert_of_the_peer_ends_the_connection_for_good() {
    for_each_connection(|mut pair| {
        // As a rustls peer does that was sent garbage.
        let mut garbage = [0; 5 + 64];
        garbage[..5].copy_from_slice(&[23, 3, 3, 0, 64]);
        assert!(pair.peer_receives(&garbage).is_err());
        let mut records = pair.peer_output();
        let mut at = 0;
        let error = loop {
            match pair.layer.open(&mut records[at..]) {
                Ok(opened) => at += opened.unwrap().consumed,
                Err(error) => break error,
            }
        };
        assert_eq!(error, ReceiveError::PeerAlert(AlertDescription::BadRecordMac));
        assert_eq!(error.alert(), None);
        assert_eq!(pair.layer.open(&mut []), Err(error));
    });
}

#[test]
fn padding_is_taken_off() {
    for_each_tls13_connection(|mut pair, _| {
        for (len, padding) in [(1, 1), (1, 15), (1, 16), (5, 4096), (1, 16_383), (16_384, 0)] {
            let data = pattern(len).iter().map(|byte| byte | 1).collect::<Vec<_>>();
            let mut record = pair.forger.padded_record(DATA, &data, padding);
            assert_eq!(open_all(&mut pair.layer, &mut record).0, data);
        }
        // Zeros that are data stay.
        let mut record = pair.forger.padded_record(DATA, &[7, 0, 0], 40);
        assert_eq!(open_all(&mut pair.layer, &mut record).0, [7, 0, 0]);
    });
}

#[test]
fn a_padded_alert_is_an_alert() {
    for_each_tls13_connection(|mut pair, _| {
        let mut record = pair.forger.padded_record(ALERT, &[1, 0], 100);
        assert_eq!(open_all(&mut pair.layer, &mut record).1, [Content::CloseNotify]);
    });
}
