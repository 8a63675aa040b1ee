//! What a peer, or somebody on the way, must not get away with.

use countersign::record::{
    Content, MAX_CONSECUTIVE_RECORDS_WITHOUT_DATA, MAX_PLAINTEXT_LEN, MAX_RECORD_LEN, Opened,
    ReceiveError, RecordLayer, Side,
};
use rustls::{AlertDescription, SupportedCipherSuite};

use super::offline::{
    ALERT, DATA, Forger, HANDSHAKE, TLS12, TLS13, both_versions, layer, layer_at, other,
};

const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

fn server_and_client(suite: SupportedCipherSuite) -> (RecordLayer, Forger) {
    (layer(Side::Server, suite), Forger::of(Side::Client, suite))
}

fn client_and_server(suite: SupportedCipherSuite) -> (RecordLayer, Forger) {
    (layer(Side::Client, suite), Forger::of(Side::Server, suite))
}

fn open(layer: &mut RecordLayer, record: &[u8]) -> Result<Content, ReceiveError> {
    let mut record = record.to_vec();
    let Opened { consumed, content } = layer.open(&mut record)?.expect("a whole record");
    assert_eq!(consumed, record.len());
    Ok(content)
}

/// Opens records made of one content type each and returns the last answer.
fn last_of(
    (mut layer, mut forger): (RecordLayer, Forger),
    contents: &[(u8, &[u8])],
) -> Result<Content, ReceiveError> {
    let mut last = Ok(Content::Nothing);
    for (content_type, content) in contents {
        assert!(last.is_ok(), "only the last record was to be refused, not by {last:?}");
        last = open(&mut layer, &forger.record(*content_type, content));
    }
    last
}

#[test]
fn a_flipped_bit_anywhere_is_noticed_and_releases_nothing() {
    let plaintext = b"what nobody may see unless it is genuine";
    for suite in both_versions() {
        let (_, mut forger) = server_and_client(suite);
        let record = forger.record(DATA, plaintext);
        for bit in 0..record.len() * 8 {
            let (mut layer, _) = server_and_client(suite);
            let mut changed = record.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            // Room for a length that grew.
            changed.resize(MAX_RECORD_LEN, 0);
            let result = layer.open(&mut changed);
            if bit >= 5 * 8 {
                assert_eq!(result, Err(ReceiveError::BadRecordMac), "bit {bit}");
            } else {
                assert!(result.is_err(), "bit {bit} of the header: {result:?}");
            }
            assert!(!changed.windows(8).any(|window| window == &plaintext[..8]));
            assert_eq!(layer.open(&mut record.clone()), result, "there is no way back");
        }
    }
}

#[test]
fn a_record_that_is_not_whole_is_waited_for() {
    for suite in both_versions() {
        let (mut layer, mut forger) = server_and_client(suite);
        let record = forger.record(DATA, b"piece by piece");
        for len in 0..record.len() {
            assert_eq!(layer.open(&mut record[..len].to_vec()), Ok(None));
            let expected = (len >= 5).then_some(record.len());
            assert_eq!(layer.peek_len(&record[..len]), Ok(expected));
        }
        assert!(matches!(open(&mut layer, &record), Ok(Content::ApplicationData(_))));
    }
}

#[test]
fn replayed_reordered_and_lost_records_are_refused() {
    for suite in both_versions() {
        let mut forger = Forger::of(Side::Client, suite);
        let [first, second, third] = [b"1", b"2", b"3"].map(|data| forger.record(DATA, data));
        for order in [[&first, &first], [&first, &third], [&second, &first]] {
            let mut layer = layer(Side::Server, suite);
            let results = order.map(|record| open(&mut layer, record));
            assert_eq!(results.into_iter().find_map(Result::err), Some(ReceiveError::BadRecordMac));
        }
    }
}

#[test]
fn our_own_records_reflected_are_refused() {
    for suite in both_versions() {
        let mut server = layer(Side::Server, suite);
        let record = super::offline::seal(&mut server, b"echo");
        assert_eq!(open(&mut server, &record), Err(ReceiveError::BadRecordMac));
    }
}

#[test]
fn the_longest_record_is_accepted_and_a_longer_one_refused_by_its_header() {
    for suite in both_versions() {
        let (mut layer, mut forger) = server_and_client(suite);
        let longest = forger.record(DATA, &vec![1; MAX_PLAINTEXT_LEN]);
        assert!(longest.len() <= MAX_RECORD_LEN);
        assert!(matches!(open(&mut layer, &longest), Ok(Content::ApplicationData(_))));
        let longer = forger.record(DATA, &vec![1; MAX_PLAINTEXT_LEN + 1]);
        assert_eq!(layer.peek_len(&longer[..5]), Err(ReceiveError::RecordOverflow));
        let error = layer.open(&mut longer[..5].to_vec()).unwrap_err();
        assert_eq!(error.alert(), Some(AlertDescription::RecordOverflow));
    }
}

#[test]
fn padding_beyond_the_longest_plaintext_is_refused() {
    for suite in TLS13 {
        let (layer, mut forger) = server_and_client(suite);
        let record = forger.padded_record(DATA, &[1; 16_000], 385);
        assert_eq!(layer.peek_len(&record), Err(ReceiveError::RecordOverflow));
        let (mut layer, mut forger) = server_and_client(suite);
        let record = forger.padded_record(DATA, &[1; 16_000], 384);
        assert_eq!(open(&mut layer, &record), Ok(Content::ApplicationData(5..16_005)));
    }
}

#[test]
fn headers_are_judged_before_the_record_is_whole() {
    for suite in both_versions() {
        let (layer, _) = server_and_client(suite);
        let is_tls13 = layer.is_tls13();
        for kind in 0..=255 {
            let is_permitted = if is_tls13 { kind == DATA } else { (21..=23).contains(&kind) };
            let expected =
                if is_permitted { Ok(None) } else { Err(ReceiveError::UnexpectedContentType) };
            assert_eq!(layer.peek_len(&[kind]), expected, "content type {kind}");
        }
        assert_eq!(layer.peek_len(&[DATA, 2, 3, 0, 64]), Err(ReceiveError::WrongVersion));
        let other_minor = layer.peek_len(&[DATA, 3, 1, 0, 64]);
        assert_eq!(
            other_minor,
            if is_tls13 { Ok(Some(69)) } else { Err(ReceiveError::WrongVersion) }
        );
        assert_eq!(layer.peek_len(&[DATA, 3, 3, 0, 15]), Err(ReceiveError::BadRecordMac));
        assert_eq!(layer.peek_len(&[]), Ok(None));
    }
}

#[test]
fn change_cipher_spec_has_no_place_after_the_handshake() {
    for suite in both_versions() {
        let (mut layer, _) = server_and_client(suite);
        let error = layer.open(&mut [20, 3, 3, 0, 1, 1]).unwrap_err();
        assert_eq!(error.alert(), Some(AlertDescription::UnexpectedMessage));
    }
    let result = last_of(server_and_client(TLS13[0]), &[(20, &[1])]);
    assert_eq!(result, Err(ReceiveError::UnexpectedContentType));
}

#[test]
fn a_record_of_nothing_but_padding_is_refused() {
    for suite in TLS13 {
        for len in [0, 1, 16, 100, MAX_PLAINTEXT_LEN + 1] {
            let (mut layer, mut forger) = server_and_client(suite);
            let record = forger.tls13_inner(vec![0; len]);
            let error = open(&mut layer, &record).unwrap_err();
            assert_eq!(error, ReceiveError::NoContent, "{len} zeros");
            assert_eq!(error.alert(), Some(AlertDescription::UnexpectedMessage));
        }
    }
}

#[test]
fn alerts_and_handshake_records_must_have_content() {
    for suite in both_versions() {
        assert_eq!(
            last_of(server_and_client(suite), &[(ALERT, &[])]),
            Err(ReceiveError::NoContent)
        );
    }
    for suite in TLS13 {
        let result = last_of(server_and_client(suite), &[(HANDSHAKE, &[])]);
        assert_eq!(result, Err(ReceiveError::NoContent));
    }
}

#[test]
fn an_alert_is_exactly_two_bytes() {
    for suite in both_versions() {
        for alert in [&[1][..], &[1, 0, 1], &[1, 0, 1, 0]] {
            let error = last_of(server_and_client(suite), &[(ALERT, alert)]).unwrap_err();
            assert_eq!(error.alert(), Some(AlertDescription::DecodeError));
        }
    }
}

#[test]
fn a_tls13_alert_is_fatal_whatever_its_level_unless_it_closes() {
    for suite in TLS13 {
        let alert = |content: &[u8]| last_of(server_and_client(suite), &[(ALERT, content)]);
        for level in [0, 1, 2, 255] {
            assert_eq!(alert(&[level, 0]), Ok(Content::CloseNotify));
            assert_eq!(alert(&[level, 90]), Ok(Content::Nothing), "user_canceled");
            let unknown = AlertDescription::from(200);
            assert_eq!(alert(&[level, 200]), Err(ReceiveError::PeerAlert(unknown)));
        }
    }
}

#[test]
fn a_tls12_warning_is_tolerated_and_a_fatal_alert_is_not() {
    for suite in TLS12 {
        let alert = |content: &[u8]| last_of(server_and_client(suite), &[(ALERT, content)]);
        assert_eq!(alert(&[1, 0]), Ok(Content::CloseNotify));
        assert_eq!(alert(&[1, 100]), Ok(Content::Nothing));
        let fatal = ReceiveError::PeerAlert(AlertDescription::InternalError);
        assert_eq!(alert(&[2, 80]), Err(fatal));
        assert_eq!(alert(&[3, 80]), Err(ReceiveError::IllegalParameter));
    }
}

#[test]
fn renegotiation_is_refused_on_both_sides() {
    for suite in TLS12 {
        let client_hello = last_of(server_and_client(suite), &[(HANDSHAKE, &[1, 0, 0, 0])]);
        let hello_request = last_of(client_and_server(suite), &[(HANDSHAKE, &[0, 0, 0, 0])]);
        for error in [client_hello.unwrap_err(), hello_request.unwrap_err()] {
            assert_eq!(error, ReceiveError::Renegotiation);
            assert_eq!(error.alert(), Some(AlertDescription::UnexpectedMessage));
        }
    }
}

#[test]
fn key_update_may_be_split_over_records() {
    let expected = Ok(Content::KeyUpdate { response_requested: true });
    let message: &[u8] = &[24, 0, 0, 1, 1];
    for suite in TLS13 {
        for at in 1..5 {
            let (a, b) = message.split_at(at);
            let result = last_of(server_and_client(suite), &[(HANDSHAKE, a), (HANDSHAKE, b)]);
            assert_eq!(result, expected);
        }
        let bytes = [0, 1, 2, 3, 4].map(|i| (HANDSHAKE, &message[i..=i]));
        assert_eq!(last_of(server_and_client(suite), &bytes), expected);
    }
}

#[test]
fn key_update_must_end_its_record() {
    for suite in TLS13 {
        for rest in [&[0][..], &KEY_UPDATE] {
            let record = [&KEY_UPDATE[..], rest].concat();
            let error = last_of(server_and_client(suite), &[(HANDSHAKE, &record)]).unwrap_err();
            assert_eq!(error, ReceiveError::KeyChangeInsideRecord);
            assert_eq!(error.alert(), Some(AlertDescription::UnexpectedMessage));
        }
    }
}

#[test]
fn a_handshake_message_must_not_be_interrupted() {
    for suite in TLS13 {
        for intruder in [(DATA, &b"data"[..]), (DATA, b""), (ALERT, &[1, 0]), (ALERT, &[1, 90])] {
            let result = last_of(server_and_client(suite), &[(HANDSHAKE, &[24, 0]), intruder]);
            assert_eq!(result, Err(ReceiveError::InterruptedHandshakeMessage));
        }
    }
}

#[test]
fn a_malformed_key_update_is_refused() {
    for suite in TLS13 {
        let refused = |message: &[u8]| {
            last_of(server_and_client(suite), &[(HANDSHAKE, message)]).unwrap_err().alert()
        };
        assert_eq!(refused(&[24, 0, 0, 0]), Some(AlertDescription::DecodeError));
        assert_eq!(refused(&[24, 0, 0, 2, 0, 0]), Some(AlertDescription::DecodeError));
        assert_eq!(refused(&[24, 1, 0, 1]), Some(AlertDescription::DecodeError));
        assert_eq!(refused(&[24, 0, 0, 1, 2]), Some(AlertDescription::IllegalParameter));
    }
}

#[test]
fn other_handshake_messages_are_refused_at_their_first_byte() {
    for suite in TLS13 {
        for kind in (0..=255).filter(|kind| *kind != 24) {
            let at_server = last_of(server_and_client(suite), &[(HANDSHAKE, &[kind])]);
            assert_eq!(at_server, Err(ReceiveError::UnexpectedHandshakeMessage));
            let at_client = last_of(client_and_server(suite), &[(HANDSHAKE, &[kind])]);
            assert_eq!(at_client.is_ok(), kind == 4, "message {kind} at a client");
        }
    }
}

#[test]
fn a_client_passes_over_session_tickets_of_any_length() {
    let ticket = |len: usize| [&[4, 0, (len >> 8) as u8, len as u8][..], &vec![9; len]].concat();
    for suite in TLS13 {
        let two_and_update = [ticket(10), ticket(300), KEY_UPDATE.to_vec()].concat();
        let result = last_of(client_and_server(suite), &[(HANDSHAKE, &two_and_update)]);
        assert_eq!(result, Ok(Content::KeyUpdate { response_requested: false }));

        let long = ticket(40_000);
        let mut pieces = long.chunks(MAX_PLAINTEXT_LEN).map(|p| (HANDSHAKE, p)).collect::<Vec<_>>();
        pieces.push((DATA, b"x"));
        assert!(matches!(
            last_of(client_and_server(suite), &pieces),
            Ok(Content::ApplicationData(_))
        ));

        for header in [[4, 0, 0, 0], [4, 0xff, 0xff, 0xff]] {
            let result = last_of(client_and_server(suite), &[(HANDSHAKE, &header)]);
            assert_eq!(result, Err(ReceiveError::Decode));
        }
    }
}

#[test]
fn the_old_keys_are_void_after_key_update() {
    for suite in TLS13 {
        let contents: [(u8, &[u8]); 2] = [(HANDSHAKE, &KEY_UPDATE), (DATA, b"under the old key")];
        let (mut layer, mut forger) = server_and_client(suite);
        open(&mut layer, &forger.record(contents[0].0, contents[0].1)).unwrap();
        for sequence in [0, 1] {
            forger.sequence = sequence;
            let record = forger.record(contents[1].0, contents[1].1);
            assert_eq!(open(&mut layer, &record), Err(ReceiveError::BadRecordMac));
        }
    }
}

#[test]
fn a_flood_of_records_without_data_ends_the_connection() {
    let cap = MAX_CONSECUTIVE_RECORDS_WITHOUT_DATA;
    for suite in both_versions() {
        let warning: &[u8] = if TLS12.contains(&suite) { &[1, 100] } else { &[1, 90] };
        for (content_type, content) in [(DATA, &b""[..]), (ALERT, warning)] {
            let (mut layer, mut forger) = server_and_client(suite);
            for _ in 0..2 {
                for _ in 0..cap {
                    let record = forger.record(content_type, content);
                    assert_eq!(open(&mut layer, &record), Ok(Content::Nothing));
                }
                // Data makes up for it.
                let record = forger.record(DATA, b"x");
                assert!(matches!(open(&mut layer, &record), Ok(Content::ApplicationData(_))));
            }
            for _ in 0..cap {
                open(&mut layer, &forger.record(content_type, content)).unwrap();
            }
            let error = open(&mut layer, &forger.record(content_type, content)).unwrap_err();
            assert_eq!(error, ReceiveError::TooManyRecordsWithoutData);
            assert_eq!(error.alert(), Some(AlertDescription::UnexpectedMessage));
        }
    }
}

#[test]
fn a_flood_of_key_updates_ends_the_connection() {
    for suite in TLS13 {
        let mut server = layer(Side::Server, suite);
        let mut client = layer(Side::Client, suite);
        let mut updates = 0;
        let error = loop {
            let mut record = Vec::new();
            client.write_key_update(true, &mut record).unwrap();
            match open(&mut server, &record) {
                Ok(content) => assert_eq!(content, Content::KeyUpdate { response_requested: true }),
                Err(error) => break error,
            }
            updates += 1;
        };
        assert_eq!(updates, MAX_CONSECUTIVE_RECORDS_WITHOUT_DATA);
        assert_eq!(error, ReceiveError::TooManyRecordsWithoutData);
    }
}

#[test]
fn a_sequence_number_that_ran_out_ends_the_connection() {
    for suite in both_versions() {
        let mut server = layer_at(Side::Server, suite, u64::MAX);
        let mut forger = Forger::of(other(Side::Server), suite);
        forger.sequence = u64::MAX - 1;
        let mut last_but_one = layer_at(Side::Server, suite, u64::MAX - 1);
        let record = forger.record(DATA, b"last");
        assert!(matches!(open(&mut last_but_one, &record), Ok(Content::ApplicationData(_))));
        // The sender's own counter must not wrap in the attempt.
        forger.sequence = 0;
        assert_eq!(open(&mut server, &forger.record(DATA, b"x")), Err(ReceiveError::BadRecordMac));
        assert_eq!(server.records_until_limit(), 0);
        assert!(server.write_close_notify(&mut Vec::new()).is_err());
    }
}
