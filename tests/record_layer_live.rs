//! The record layer of the running terminator against real peers: key updates in both
//! directions, records of all sizes, and records in pieces.

#![allow(clippy::unwrap_used, reason = "a test that can't set up its scene has failed")]

mod support;
mod support_relay;

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use countersign::record::{
    Content, MAX_RECORD_LEN, RecordLayer, SealError, Side, TrafficSecretsCapture,
};
use rustls::{CipherSuite, ClientConfig, KeyLog};
use support::{Backend, SClient, TlsClient};
use support_relay::{
    Duplex, MB, Scene, Sequence, backend, before_last_flight, both_ways, got, middle, read_all,
    send_all,
};

// Shows key updates as openssl makes them: `k` changes its own keys, `K` asks us to change ours
// too. Data goes on in both directions after each.
#[test]
fn openssl_may_update_its_keys_and_ask_for_ours() {
    let scene = Scene::new(&Backend::echo());
    let mut client =
        SClient::new(&scene.pki, scene.server.addr()).certificate(&scene.pki.client()).spawn();
    client.say(b"line 0\n");
    client.wait_stdout("line 0");
    for (round, command) in [b"k\n", b"K\n", b"K\n", b"k\n", b"K\n"].into_iter().enumerate() {
        client.say(command);
        client.wait_stderr(&"KEYUPDATE\n".repeat(round + 1));
        let line = format!("line {}", round + 1);
        client.say(format!("{line}\n").as_bytes());
        client.wait_stdout(&line);
    }
    client.say(b"Q\n");
    client.wait_end();
    scene.closed("complete", 1);
}

// Shows that key updates never mix with bulk: a rustls client changes its keys, and asks for
// ours, again and again while bulk goes both ways. (It takes 32 answers in a row at most.)
#[test]
fn key_updates_during_bulk_in_both_directions_corrupt_nothing() {
    let (backend, reports) = both_ways(20 * MB);
    let scene = Scene::new(&backend);
    for suite in
        [CipherSuite::TLS13_AES_128_GCM_SHA256, CipherSuite::TLS13_CHACHA20_POLY1305_SHA256]
    {
        let client = TlsClient::connect(scene.server.addr(), scene.suite(suite)).unwrap();
        let mut client = Duplex::new(client);
        let mut pieces = 0;
        let sending = client.send(20 * MB, move |connection| {
            pieces += 1;
            if pieces % 25 == 0 {
                connection.refresh_traffic_keys().unwrap();
            }
        });
        let (down, end) = client.receive();
        end.unwrap();
        sending.join().unwrap().unwrap();
        assert_eq!(down, Sequence::sum(20 * MB));
        let (up, end) = got(&reports);
        end.unwrap();
        assert_eq!(up, Sequence::sum(20 * MB));
    }
    scene.closed("complete", 2);
}

// Shows the takeover from rustls in the midst of key updates: they come in the very segment of
// the client's Finished, with data before, between and after, and again later.
#[test]
fn key_updates_may_come_with_the_finished() {
    let scene = Scene::new(&Backend::echo());
    for first in [0, 1, 3] {
        let (mut connection, mut socket) = before_last_flight(
            scene.server.addr(),
            scene.suite(CipherSuite::TLS13_AES_128_GCM_SHA256),
        );
        for _ in 0..first {
            connection.refresh_traffic_keys().unwrap();
            connection.writer().write_all(b"data").unwrap();
        }
        connection.refresh_traffic_keys().unwrap();
        send_all(&mut connection, &mut socket);
        let mut client = TlsClient(rustls::StreamOwned::new(connection, socket));
        let mut data = vec![0; 4 * first];
        client.0.read_exact(&mut data).unwrap();
        for _ in 0..5 {
            client.0.conn.refresh_traffic_keys().unwrap();
            client.echo(b"after it");
        }
        client.close_notify();
        assert_eq!(client.read_to_end().unwrap(), b"");
    }
    scene.closed("complete", 3);
}

/// A client whose records are made and opened here.
struct Raw {
    layer: RecordLayer,
    socket: TcpStream,
    /// Received and not opened yet.
    input: Vec<u8>,
}

#[derive(Debug, Default)]
struct Captured(Mutex<TrafficSecretsCapture>);

impl KeyLog for Captured {
    fn will_log(&self, label: &str) -> bool {
        TrafficSecretsCapture::wants(label)
    }

    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        self.0.lock().unwrap().note(label, secret);
    }
}

impl Raw {
    fn connect(scene: &Scene, suite: CipherSuite) -> Self {
        let captured = Arc::new(Captured::default());
        let mut config = ClientConfig::clone(&scene.suite(suite));
        config.key_log = captured.clone();
        // No tickets, so that nothing is on its way when rustls lets go.
        let mut client = TlsClient::connect(scene.server.addr(), config).unwrap();
        // The ticket travels with the first data.
        client.echo(b"first");
        let (connection, socket) = client.0.into_parts();
        let suite = connection.negotiated_cipher_suite().unwrap();
        let extracted = connection.dangerous_extract_secrets().unwrap();
        let secrets = captured.0.lock().unwrap().take();
        let layer = RecordLayer::new(Side::Client, suite, extracted, secrets).unwrap();
        Self { layer, socket, input: Vec::new() }
    }

    fn seal(&mut self, plaintext: &[u8], out: &mut Vec<u8>) {
        let mut record = vec![0; MAX_RECORD_LEN + 32];
        let header = self.layer.header_len();
        record[header..header + plaintext.len()].copy_from_slice(plaintext);
        let len = self.layer.seal(&mut record, plaintext.len()).unwrap();
        out.extend_from_slice(&record[..len]);
    }

    /// The next record that isn't empty.
    fn next(&mut self) -> (Content, Vec<u8>) {
        loop {
            if let Some(opened) = self.layer.open(&mut self.input).unwrap() {
                let data = match &opened.content {
                    Content::ApplicationData(place) => self.input[place.clone()].to_vec(),
                    _ => Vec::new(),
                };
                self.input.drain(..opened.consumed);
                if opened.content != Content::Nothing {
                    return (opened.content, data);
                }
            }
            let mut chunk = [0; 16 * 1024];
            let bytes = self.socket.read(&mut chunk).unwrap();
            assert!(bytes > 0, "the server ended");
            self.input.extend_from_slice(&chunk[..bytes]);
        }
    }

    /// Data until there are that many bytes, and how many KeyUpdates came on the way.
    fn data(&mut self, bytes: usize) -> (Vec<u8>, usize) {
        let (mut data, mut updates) = (Vec::new(), 0);
        while data.len() < bytes {
            match self.next() {
                (Content::ApplicationData(_), piece) => data.extend(piece),
                (Content::KeyUpdate { .. }, _) => updates += 1,
                (other, _) => panic!("{other:?}"),
            }
        }
        (data, updates)
    }
}

// Shows that each request for new keys is answered before the data that follows, also when an
// earlier answer left together with a download (RFC 8446 §4.6.3).
#[test]
fn every_request_for_new_keys_is_answered_before_more_data() {
    let scene = Scene::new(&Backend::echo());
    let mut raw = Raw::connect(&scene, CipherSuite::TLS13_AES_128_GCM_SHA256);
    for round in 0..10 {
        let mut out = Vec::new();
        raw.layer.write_key_update(true, &mut out).unwrap();
        raw.seal(b"ping", &mut out);
        raw.socket.write_all(&out).unwrap();
        let (data, updates) = raw.data(4);
        assert_eq!((data.as_slice(), updates), (&b"ping"[..], 1), "round {round}");
    }
}

// The same while the terminator is in the middle of sending: the client doesn't read, so that its
// first request is answered behind a batch that waits; the second comes when that is through.
#[test]
fn a_request_after_an_answer_that_waited_behind_a_batch_is_answered_too() {
    let (ask, asked) = mpsc::channel::<()>();
    let asked = Mutex::new(asked);
    let (backend, _reports) = backend(move |mut stream| {
        let mut first = [0; 5];
        stream.read_exact(&mut first).unwrap();
        stream.write_all(&first).unwrap();
        Sequence::write(30 * MB, &stream).unwrap();
        let _ = asked.lock().unwrap().recv();
        stream.write_all(b"the end").unwrap();
        // It lasts until the client goes.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let scene = Scene::new(&backend);
    let mut raw = Raw::connect(&scene, CipherSuite::TLS13_AES_128_GCM_SHA256);
    let mut request = Vec::new();
    raw.layer.write_key_update(true, &mut request).unwrap();
    raw.seal(b"1", &mut request);
    raw.socket.write_all(&request).unwrap();
    scene.server.wait_metric("relay_bytes_total", &[("direction", "up")], 6.0);
    let (data, updates) = raw.data(30_000_000);
    assert_eq!((data == Sequence::bytes(30 * MB), updates), (true, 1));
    let mut request = Vec::new();
    raw.layer.write_key_update(true, &mut request).unwrap();
    raw.seal(b"2", &mut request);
    raw.socket.write_all(&request).unwrap();
    scene.server.wait_metric("relay_bytes_total", &[("direction", "up")], 7.0);
    ask.send(()).unwrap();
    assert_eq!(raw.data(7), (b"the end".to_vec(), 1));
}

// Shows records of every kind of size, with empty ones between them, cut at places that have
// nothing to do with their boundaries.
#[test]
fn records_of_all_sizes_in_pieces_of_any_size_are_understood() {
    let (backend, reports) = backend(|stream| {
        let mut from = &stream;
        let mut first = [0; 5];
        from.read_exact(&mut first).unwrap();
        from.write_all(&first).unwrap();
        read_all(stream, None)
    });
    let scene = Scene::new(&backend);
    for suite in [
        CipherSuite::TLS13_AES_128_GCM_SHA256,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ] {
        let mut raw = Raw::connect(&scene, suite);
        raw.socket.set_nodelay(true).unwrap();
        let sizes = (1..=64).chain((65..16_384).step_by(97)).chain([16_383, 16_384]);
        let all = Sequence::bytes(4 * MB);
        let (mut out, mut at) = (Vec::new(), 0);
        for size in sizes {
            raw.seal(&[], &mut out);
            raw.seal(&all[at..at + size], &mut out);
            at += size;
        }
        raw.layer.write_close_notify(&mut out).unwrap();
        assert_eq!(raw.layer.write_close_notify(&mut out), Err(SealError::Closed));
        let mut step = 1;
        while !out.is_empty() {
            let rest = out.split_off(step.min(out.len()));
            raw.socket.write_all(&out).unwrap();
            out = rest;
            step = (step * 7919 + 13) % 40_009;
        }
        let (up, end) = got(&reports);
        end.unwrap();
        assert_eq!(up, Sequence::sum(at as u64));
    }
}

// Shows that a flood of records without data ends the connection, rather than keep a worker busy.
#[test]
fn too_many_records_without_data_end_the_connection() {
    let scene = Scene::new(&Backend::echo());
    let mut raw = Raw::connect(&scene, CipherSuite::TLS13_AES_128_GCM_SHA256);
    let mut out = Vec::new();
    for _ in 0..100 {
        raw.seal(&[], &mut out);
    }
    raw.socket.write_all(&out).unwrap();
    let error = loop {
        let mut chunk = [0; 1024];
        let bytes = raw.socket.read(&mut chunk).unwrap();
        assert!(bytes > 0, "the server ended without an alert");
        raw.input.extend_from_slice(&chunk[..bytes]);
        if let Err(error) = raw.layer.open(&mut raw.input) {
            break error;
        }
    };
    assert!(error.to_string().contains("UnexpectedMessage"), "{error}");
    scene.closed("bad_record", 1);
}

// Shows a TLS stream that comes one byte at a time, handshake included.
#[test]
fn a_client_that_sends_a_byte_at_a_time_is_served() {
    let scene = Scene::new(&Backend::echo());
    let passed = Arc::new(AtomicUsize::new(0));
    let count = passed.clone();
    let address = middle(scene.server.addr(), move |client, server| {
        let mut byte = [0];
        while let Ok(1) = client.read(&mut byte) {
            if server.write_all(&byte).is_err() {
                return;
            }
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    for suite in [
        CipherSuite::TLS13_AES_128_GCM_SHA256,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ] {
        let mut client = TlsClient::connect(address, scene.suite(suite)).unwrap();
        client.echo(&Sequence::bytes(20_000));
        client.close_notify();
        assert_eq!(client.read_to_end().unwrap(), b"");
    }
    assert!(passed.load(Ordering::Relaxed) > 40_000);
    scene.closed("complete", 2);
}
