//! Our own limits: keys that wear out, buffers that don't fit, state that must stay small, and
//! secrets that must not show.

use countersign::record::{
    HEADROOM, MAX_CONTROL_RECORD_LEN, MAX_PLAINTEXT_LEN, MAX_RECORD_LEN, RecordLayer, SealError,
    SetupError, Side, TAILROOM, TrafficSecrets, TrafficSecretsCapture,
};
use rustls::AlertDescription;

use super::offline::{TLS12, TLS13, both_versions, extracted, layer, seal, traffic_secret};
use super::rustls_peer::{SUITES, connect, open_all};

#[test]
fn tls13_is_told_to_update_before_the_limit_and_goes_on_after_it() {
    for suite in TLS13 {
        let mut server = layer(Side::Server, suite);
        let mut client = layer(Side::Client, suite);
        server.lower_confidentiality_limit(80);
        for generation in 0..3 {
            let mut sealed = 0;
            let mut out = Vec::new();
            while !server.needs_key_update() {
                out.extend(seal(&mut server, &[generation]));
                sealed += 1;
            }
            assert_eq!(sealed, 68, "an eighth is kept for what is under way");
            server.write_key_update(false, &mut out).unwrap();
            assert_eq!(open_all(&mut client, &mut out).0, vec![generation; 68]);
        }
    }
}

#[test]
fn nothing_but_control_records_is_sealed_at_the_limit() {
    for suite in both_versions() {
        let mut server = layer(Side::Server, suite);
        server.lower_confidentiality_limit(10);
        for left in (0..8).rev() {
            seal(&mut server, b"x");
            assert_eq!(server.records_until_limit(), left);
        }
        let mut record = [7; 64];
        assert_eq!(server.seal(&mut record, 1), Err(SealError::LimitReached));
        assert_eq!(record, [7; 64], "nothing was written");
        server.write_close_notify(&mut Vec::new()).unwrap();
        assert_eq!(server.seal(&mut record, 1), Err(SealError::Closed));
    }
}

#[test]
fn a_key_update_is_possible_at_the_limit() {
    for suite in TLS13 {
        let mut server = layer(Side::Server, suite);
        server.lower_confidentiality_limit(4);
        seal(&mut server, b"1");
        seal(&mut server, b"2");
        assert_eq!(server.seal(&mut [0; 64], 1), Err(SealError::LimitReached));
        server.write_key_update(false, &mut Vec::new()).unwrap();
        seal(&mut server, b"3");
    }
}

#[test]
fn tls12_never_asks_for_an_update_and_refuses_one() {
    for suite in TLS12 {
        let mut server = layer(Side::Server, suite);
        server.lower_confidentiality_limit(3);
        seal(&mut server, b"x");
        assert!(!server.needs_key_update());
        assert_eq!(server.write_key_update(false, &mut Vec::new()), Err(SealError::NotTls13));
    }
}

#[test]
fn the_limit_is_that_of_the_suite_and_is_only_ever_lowered() {
    for side in [Side::Server, Side::Client] {
        for &suite in SUITES {
            let mut layer = connect(suite, side).layer;
            let before = layer.records_until_limit();
            let is_chacha = format!("{:?}", suite.suite()).contains("CHACHA");
            assert_eq!(before > 1 << 24, is_chacha);
            layer.lower_confidentiality_limit(u64::MAX);
            assert_eq!(layer.records_until_limit(), before);
        }
    }
}

#[test]
fn a_mistaken_length_seals_nothing_and_harms_nothing() {
    for suite in both_versions() {
        let mut server = layer(Side::Server, suite);
        let mut client = layer(Side::Client, suite);
        let needed = server.header_len() + 10 + server.trailer_len();
        assert_eq!(server.seal(&mut vec![0; needed - 1], 10), Err(SealError::BufferTooSmall));
        assert_eq!(server.seal(&mut [], 0), Err(SealError::BufferTooSmall));
        let mut large = vec![0; 2 * MAX_RECORD_LEN];
        let too_long = MAX_PLAINTEXT_LEN + 1;
        assert_eq!(server.seal(&mut large, too_long), Err(SealError::PlaintextTooLong));
        assert_eq!(server.seal(&mut large, usize::MAX), Err(SealError::PlaintextTooLong));
        let mut record = seal(&mut server, b"as if nothing had been");
        assert_eq!(open_all(&mut client, &mut record).0, b"as if nothing had been");
    }
}

#[test]
fn the_constants_cover_every_suite() {
    for suite in both_versions() {
        let mut server = layer(Side::Server, suite);
        assert!(server.header_len() <= HEADROOM && server.trailer_len() <= TAILROOM);
        assert!(seal(&mut server, &vec![0; MAX_PLAINTEXT_LEN]).len() <= MAX_RECORD_LEN);
        let mut out = Vec::with_capacity(MAX_CONTROL_RECORD_LEN);
        if server.is_tls13() {
            server.write_key_update(true, &mut out).unwrap();
            assert!(out.len() <= MAX_CONTROL_RECORD_LEN);
            out.clear();
        }
        server.write_fatal_alert(AlertDescription::InternalError, &mut out).unwrap();
        assert!(out.len() <= MAX_CONTROL_RECORD_LEN);
    }
}

#[test]
fn the_state_of_a_connection_stays_small() {
    // Each idle connection pays for this, and for two key schedules of the library.
    assert_eq!(size_of::<RecordLayer>(), 224);
}

#[test]
fn keys_that_do_not_fit_together_are_refused() {
    let suite = TLS13[0];
    let new = |secrets| {
        RecordLayer::new(Side::Server, suite, extracted(Side::Server, suite, 0), secrets)
            .unwrap_err()
    };
    assert_eq!(new(None), SetupError::MissingTrafficSecrets);
    let of_sha256 = TrafficSecrets::new(&[1; 32], &[2; 32]).unwrap();
    assert_eq!(new(Some(of_sha256)), SetupError::WrongSecretLength);
    for (client, server) in [(31, 31), (0, 0), (64, 64), (32, 48)] {
        let secrets = TrafficSecrets::new(&vec![1; client], &vec![2; server]);
        assert_eq!(secrets.unwrap_err(), SetupError::WrongSecretLength);
    }
}

#[test]
fn a_capture_is_whole_only_with_both_secrets_and_only_once() {
    let mut capture = TrafficSecretsCapture::default();
    capture.note("CLIENT_TRAFFIC_SECRET_0", &[1; 32]);
    capture.note("EXPORTER_SECRET", &[3; 32]);
    assert!(capture.take().is_none());
    capture.note("CLIENT_TRAFFIC_SECRET_0", &[1; 32]);
    capture.note("SERVER_TRAFFIC_SECRET_0", &[2; 32]);
    assert!(capture.take().is_some());
    assert!(capture.take().is_none());
    assert!(TrafficSecretsCapture::wants("SERVER_TRAFFIC_SECRET_0"));
    assert!(!TrafficSecretsCapture::wants("CLIENT_RANDOM"));
}

#[test]
fn debug_output_shows_no_secret() {
    let secrets = |client, server| format!("{:?}", TrafficSecrets::new(client, server).unwrap());
    assert_eq!(secrets(&[1; 48], &[2; 48]), secrets(&[3; 48], &[4; 48]));
    for suite in both_versions() {
        // The secrets differ by sender, so that the two ends would differ by more than the side.
        assert_ne!(traffic_secret(suite, Side::Server), traffic_secret(suite, Side::Client));
        let [server, client] =
            [Side::Server, Side::Client].map(|side| format!("{:?}", layer(side, suite)));
        assert_eq!(server.replace("Server", "Client"), client);
    }
}
