//! The relay over the network: all bytes, both ends, and what each side learns of the other's
//! end.

#![allow(clippy::unwrap_used, reason = "a test that can't set up its scene has failed")]

mod support;
mod support_relay;

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    os::unix::net::UnixListener,
    time::Duration,
};

use rustls::CipherSuite;
use socket2::{Domain, Socket, Type};
use support::{Backend, Config, Pki, Server, TlsClient, eventually, free_port};
use support_relay::{
    Duplex, MB, Scene, Sequence, backend, before_last_flight, both_ways, got, is_cut, middle,
    read_all, reset, send_all,
};

/// Sends `bytes` each way at once with one cipher suite, and compares checksums at both ends.
fn both_ways_at_once(suite: CipherSuite, bytes: u64) {
    let (backend, reports) = both_ways(bytes);
    let scene = Scene::new(&backend);
    let client = TlsClient::connect(scene.server.addr(), scene.suite(suite)).unwrap();
    let mut client = Duplex::new(client);
    let sending = client.send(bytes, |_| {});
    let (down, end) = client.receive();
    end.unwrap();
    sending.join().unwrap().unwrap();
    let (up, end) = got(&reports);
    end.unwrap();
    assert_eq!(down, Sequence::sum(bytes));
    assert_eq!(up, Sequence::sum(bytes));
    scene.closed("complete", 1);
    let line = scene.server.wait_connection(1);
    assert_eq!((&line["up_bytes"], &line["down_bytes"]), (&bytes.into(), &bytes.into()));
    scene.server.stop();
}

// Shows that bulk in both directions at once arrives unchanged, with every kind of record, by
// comparing SHA-256 at both ends and the byte counts of the log.
#[test]
fn bulk_of_100_mb_each_way_arrives_whole() {
    both_ways_at_once(CipherSuite::TLS13_AES_128_GCM_SHA256, 100 * MB);
}

#[test]
fn bulk_arrives_whole_with_tls13_aes_256() {
    both_ways_at_once(CipherSuite::TLS13_AES_256_GCM_SHA384, 20 * MB);
}

#[test]
fn bulk_arrives_whole_with_tls13_chacha20() {
    both_ways_at_once(CipherSuite::TLS13_CHACHA20_POLY1305_SHA256, 20 * MB);
}

#[test]
fn bulk_arrives_whole_with_tls12_aes_128() {
    both_ways_at_once(CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, 20 * MB);
}

#[test]
fn bulk_arrives_whole_with_tls12_aes_256() {
    both_ways_at_once(CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, 20 * MB);
}

#[test]
fn bulk_arrives_whole_with_tls12_chacha20() {
    both_ways_at_once(CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, 20 * MB);
}

// Shows that back-pressure loses nothing: the client reads a little at a time with pauses, so
// that the terminator has to wait in the middle of its batches.
#[test]
fn a_slow_client_gets_all_of_a_download() {
    let (backend, _reports) = both_ways(20 * MB);
    let scene = Scene::new(&backend);
    let client = scene.connect();
    let (down, end) = read_all(client.0, Some((500_000, Duration::from_millis(20))));
    end.unwrap();
    assert_eq!(down, Sequence::sum(20 * MB));
}

// The same in the other direction: the backend is the slow one.
#[test]
fn a_slow_backend_gets_all_of_an_upload() {
    let (backend, reports) =
        backend(|stream| read_all(stream, Some((500_000, Duration::from_millis(20)))));
    let scene = Scene::new(&backend);
    let client = Duplex::new(scene.connect());
    client.send(20 * MB, |_| {}).join().unwrap().unwrap();
    let (up, end) = got(&reports);
    end.unwrap();
    assert_eq!(up, Sequence::sum(20 * MB));
}

// Shows half-close by the client: it sends all, says close_notify, and only then the backend,
// which waited for that end, begins to answer.
#[test]
fn a_client_that_has_said_close_notify_still_receives_everything() {
    let (backend, reports) = backend(|mut stream| {
        let read = read_all(&mut stream, None);
        Sequence::write(20 * MB, &stream).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        read
    });
    let scene = Scene::new(&backend);
    let mut client = scene.connect();
    client.0.write_all(b"all that I have to say").unwrap();
    client.close_notify();
    let (down, end) = read_all(client.0, None);
    end.unwrap();
    assert_eq!(down, Sequence::sum(20 * MB));
    let (up, end) = got(&reports);
    end.unwrap();
    assert_eq!(up.bytes, 22);
    scene.closed("complete", 1);
}

// Shows half-close by the backend: it ends its stream first, the client sees close_notify, and
// what the client sends afterwards still arrives.
#[test]
fn a_backend_that_has_ended_its_stream_still_receives_everything() {
    let (backend, reports) = backend(|stream| {
        (&stream).write_all(b"over to you").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        read_all(stream, None)
    });
    let scene = Scene::new(&backend);
    let mut client = Duplex::new(scene.connect());
    let (down, end) = client.receive();
    end.unwrap();
    assert_eq!(down.bytes, 11);
    client.send(20 * MB, |_| {}).join().unwrap().unwrap();
    let (up, end) = got(&reports);
    end.unwrap();
    assert_eq!(up, Sequence::sum(20 * MB));
    scene.closed("complete", 1);
}

// Shows that a cut client stream never looks whole to the backend: the client closes its socket
// without close_notify, and the backend's read fails instead of ending.
#[test]
fn a_client_that_vanishes_without_close_notify_resets_the_backend() {
    let (backend, reports) = backend(|stream| read_all(stream, None));
    let scene = Scene::new(&backend);
    let mut client = scene.connect();
    client.0.write_all(b"transfer 100 from A to B, bu").unwrap();
    scene.server.wait_metric("relay_bytes_total", &[("direction", "up")], 28.0);
    client.0.sock.shutdown(Shutdown::Write).unwrap();
    let (up, end) = got(&reports);
    assert_eq!((up.bytes, end.unwrap_err().kind()), (28, ErrorKind::ConnectionReset));
    scene.closed("client_truncated", 1);
    assert_eq!(scene.server.wait_connection(1)["cause"], "client_truncated");
}

// The same for a client that resets its connection.
#[test]
fn a_client_that_resets_its_connection_resets_the_backend() {
    let (backend, reports) = backend(|stream| read_all(stream, None));
    let scene = Scene::new(&backend);
    let mut client = scene.connect();
    client.0.write_all(b"half").unwrap();
    scene.server.wait_metric("relay_bytes_total", &[("direction", "up")], 4.0);
    let (_, socket) = client.0.into_parts();
    reset(socket);
    let (_, end) = got(&reports);
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    scene.closed("client_reset", 1);
}

// Shows that a backend's reset is never passed on as close_notify, and that what the backend
// said before it arrives.
#[test]
fn a_backend_that_resets_gives_the_client_no_close_notify() {
    let (backend, _reports) = backend(|mut stream| {
        stream.write_all(b"HTTP/1.1 200 OK").unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        reset(stream);
    });
    let scene = Scene::new(&backend);
    let mut client = scene.connect();
    let mut start = [0; 15];
    client.0.read_exact(&mut start).unwrap();
    client.0.write_all(b"x").unwrap();
    let (down, end) = read_all(client.0, None);
    assert!(down.bytes == 0 && is_cut(&end), "{end:?}");
    scene.closed("backend_reset", 1);
}

// The same while the client sends: the write to the backend is then the first to learn of the
// reset, and the read that follows finds what looks like an orderly end.
#[test]
fn a_backend_that_resets_during_an_upload_gives_the_client_no_close_notify() {
    let (backend, _reports) = backend(|mut stream| {
        let mut some = vec![0; 100_000];
        stream.read_exact(&mut some).unwrap();
        stream.write_all(b"the first half of the ans").unwrap();
        reset(stream);
    });
    let scene = Scene::new(&backend);
    for round in 1..=20 {
        let mut client = Duplex::new(scene.connect());
        let sending = client.send(5 * MB, |_| {});
        let (_, end) = client.receive();
        assert!(is_cut(&end), "round {round}: {end:?}");
        // It may end either way.
        let _ = sending.join().unwrap();
    }
    scene.closed("backend_reset", 20);
}

// Shows that an early answer is not lost: the backend answers without reading the request to its
// end and closes, so that the kernel resets it, while the client still sends.
#[test]
fn an_answer_before_the_end_of_the_upload_reaches_the_client() {
    let (backend, _reports) = backend(|mut stream| {
        let mut some = vec![0; 10_000];
        stream.read_exact(&mut some).unwrap();
        // What fits the terminator's socket at once; the rest the reset would take along.
        Sequence::write(30_000, &stream).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
    });
    let scene = Scene::new(&backend);
    for _ in 0..10 {
        let mut client = Duplex::new(scene.connect());
        let sending = client.send(50 * MB, |_| {});
        let (down, end) = client.receive();
        end.unwrap();
        assert_eq!(down, Sequence::sum(30_000));
        // It may end either way.
        let _ = sending.join().unwrap();
    }
    scene.is_idle();
}

/// Flips one bit of the `number`th record after the handshake's that is longer than 1000 bytes.
fn flip(number: usize) -> impl Fn(&mut TcpStream, &mut TcpStream) + Send + Sync + 'static {
    move |client, server| {
        let mut seen = 0;
        let mut header = [0; 5];
        while client.read_exact(&mut header).is_ok() {
            let mut body = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
            if client.read_exact(&mut body).is_err() {
                return;
            }
            if header[0] == 23 && body.len() > 10_000 {
                seen += 1;
                if seen == number {
                    body[5_000] ^= 1;
                }
            }
            if server.write_all(&[&header[..], &body].concat()).is_err() {
                return;
            }
        }
    }
}

// Shows that a changed record ends the connection: somebody in the middle flips one bit. The
// client is told bad_record_mac, and the backend is reset without a byte of that record.
#[test]
fn a_changed_record_is_refused_and_the_backend_reset() {
    let (backend, reports) = backend(|stream| read_all(stream, None));
    let scene = Scene::new(&backend);
    for (round, suite) in [
        CipherSuite::TLS13_AES_128_GCM_SHA256,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ]
    .into_iter()
    .enumerate()
    {
        let address = middle(scene.server.addr(), flip(3));
        let mut client = TlsClient::connect(address, scene.suite(suite)).unwrap();
        // Records of 16384 bytes; the third is changed.
        client.0.write_all(&Sequence::bytes(16_384 * 3)).unwrap();
        let error = client.read_to_end().unwrap_err();
        assert!(error.to_string().contains("BadRecordMac"), "{error}");
        let (up, end) = got(&reports);
        assert_eq!(up, Sequence::sum(16_384 * 2));
        assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
        let line = scene.server.wait_connection(round + 1);
        assert_eq!(line["cause"], "bad_record");
    }
    scene.closed("bad_record", 3);
}

// Shows what a dead backend means: an orderly end for the client, a count, a log line that names
// backend and server; and that the backend is used again once it is there.
#[test]
fn a_dead_backend_is_an_orderly_end_and_later_connections_work() {
    let pki = Pki::new();
    let port = free_port();
    let config = Config::simple(&pki, ([127, 0, 0, 1], port).into());
    let scene = Scene::of(pki, Server::start(config));
    let mut client = scene.connect();
    assert_eq!(client.read_to_end().unwrap(), b"");
    scene.closed("backend_unreachable", 1);
    let refused = [("backend", "app"), ("result", "refused")];
    assert_eq!(scene.server.metric("backend_connects_total", &refused), 1.0);
    let line = scene.server.wait_connection(1);
    assert_eq!(line["cause"], "backend_unreachable");
    let detail = line["detail"].as_str().unwrap();
    assert!(detail.contains("app") && detail.contains(&format!("127.0.0.1:{port}")), "{detail}");

    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = stream.try_clone().unwrap();
        io::copy(&mut reader, &mut stream).unwrap();
    });
    scene.connect().echo(b"here again");
}

// Shows fail-over: of two servers one is dead, and no client notices.
#[test]
fn one_dead_server_of_two_is_not_noticed() {
    let pki = Pki::new();
    let alive = Backend::echo().addr();
    let listener = support::Listener::new("main", "app", &[&pki.server()]);
    let servers = format!("servers = [\"127.0.0.1:{}\", \"{alive}\"]", free_port());
    let config = Config::new(&pki).backend_toml("app", &servers).listener(listener);
    let scene = Scene::of(pki, Server::start(config));
    for _ in 0..10 {
        scene.connect().echo(b"hello");
    }
    let connected = [("backend", "app"), ("result", "connected")];
    assert_eq!(scene.server.metric("backend_connects_total", &connected), 10.0);
}

// Shows a backend behind a Unix socket: bulk there and back, and both ends in order.
#[test]
fn a_unix_socket_is_a_backend_too() {
    let pki = Pki::new();
    let path = pki.file("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut reader = stream.try_clone().unwrap();
                io::copy(&mut reader, &mut stream).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
            });
        }
    });
    let front = support::Listener::new("main", "app", &[&pki.server()]);
    let servers = format!("servers = [\"unix:{}\"]", path.display());
    let config = Config::new(&pki).backend_toml("app", &servers).listener(front);
    let scene = Scene::of(pki, Server::start(config));
    let mut client = Duplex::new(scene.connect());
    let sending = client.send(5 * MB, |_| {});
    let (down, end) = client.receive();
    end.unwrap();
    sending.join().unwrap().unwrap();
    assert_eq!(down, Sequence::sum(5 * MB));
    scene.closed("complete", 1);
}

/// A client of a backend that takes no connection gets an orderly end after connect_timeout.
fn times_out(pki: Pki, server: &str) {
    let listener = support::Listener::new("main", "app", &[&pki.server()]);
    let lines = format!("servers = [\"{server}\"]\nconnect_timeout = \"300ms\"");
    let config = Config::new(&pki).backend_toml("app", &lines).listener(listener);
    let scene = Scene::of(pki, Server::start(config));
    assert_eq!(scene.connect().read_to_end().unwrap(), b"");
    let timed_out = [("backend", "app"), ("result", "timed_out")];
    assert_eq!(scene.server.metric("backend_connects_total", &timed_out), 1.0);
    scene.closed("backend_unreachable", 1);
    scene.server.stop();
}

// Shows connect_timeout with a TCP server whose backlog is full, which answers nothing.
#[test]
fn a_backend_that_does_not_answer_is_given_up() {
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    full.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], free_port())).into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let _filler: Vec<_> = std::iter::from_fn(|| {
        TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok()
    })
    .collect();
    times_out(Pki::new(), &address.to_string());
}

// The same with a Unix socket, where a full backlog is another case for the kernel.
#[test]
fn a_unix_backend_with_a_full_backlog_is_given_up() {
    let pki = Pki::new();
    let path = pki.file("full.sock");
    let full = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    full.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    full.listen(0).unwrap();
    let _filler = std::os::unix::net::UnixStream::connect(&path).unwrap();
    times_out(pki, &format!("unix:{}", path.display()));
}

// Shows idle_timeout on one silent and one busy connection: the silent one gets close_notify,
// the busy one, which says a byte now and then over a longer time, goes on.
#[test]
fn a_silent_connection_is_ended_and_a_busy_one_is_not() {
    let scene = Scene::with(&Backend::echo(), |config| config.limit("idle_timeout", "\"600ms\""));
    let mut busy = scene.connect();
    let mut silent = scene.connect();
    let silent = std::thread::spawn(move || silent.read_to_end());
    for _ in 0..20 {
        busy.echo(b"x");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(silent.join().unwrap().unwrap(), b"");
    scene.closed("idle_timeout", 1);
    busy.echo(b"still here");
    assert_eq!(busy.read_to_end().unwrap(), b"");
    scene.closed("idle_timeout", 2);
}

// Shows half_open_timeout: the client has ended its stream, the backend says nothing more.
#[test]
fn a_half_open_connection_is_ended_at_its_limit() {
    let held = std::sync::Mutex::new(Vec::new());
    let silent = Backend::new(move |stream| held.lock().unwrap().push(stream));
    let scene = Scene::with(&silent, |config| config.limit("half_open_timeout", "\"300ms\""));
    let mut client = scene.connect();
    client.close_notify();
    assert_eq!(client.read_to_end().unwrap(), b"");
    scene.closed("half_open_timeout", 1);
}

// Shows max_lifetime: a connection that is never silent ends all the same, with close_notify.
#[test]
fn a_busy_connection_is_ended_at_the_end_of_its_lifetime() {
    let (backend, _reports) = both_ways(1_000_000 * MB);
    let scene = Scene::with(&backend, |config| config.limit("max_lifetime", "\"500ms\""));
    let idle_scene =
        Scene::with(&Backend::echo(), |config| config.limit("max_lifetime", "\"500ms\""));
    let (down, _) = read_all(scene.connect().0, None);
    assert!(down.bytes > 0);
    scene.closed("max_lifetime", 1);
    assert_eq!(idle_scene.connect().read_to_end().unwrap(), b"");
    idle_scene.closed("max_lifetime", 1);
}

// Shows that data and close_notify in the very segment of the client's Finished are passed on.
#[test]
fn data_and_close_notify_may_come_with_the_finished() {
    let scene = Scene::new(&Backend::echo());
    for suite in [CipherSuite::TLS13_AES_128_GCM_SHA256, CipherSuite::TLS13_AES_256_GCM_SHA384] {
        let (mut connection, mut socket) =
            before_last_flight(scene.server.addr(), scene.suite(suite));
        connection.writer().write_all(&Sequence::bytes(20_000)).unwrap();
        connection.send_close_notify();
        send_all(&mut connection, &mut socket);
        let client = rustls::StreamOwned::new(connection, socket);
        let (down, end) = read_all(client, None);
        end.unwrap();
        assert_eq!(down, Sequence::sum(20_000));
    }
    scene.closed("complete", 2);
}

// Shows that after connections with every kind of end nothing is left: neither connections nor
// descriptors.
#[test]
fn no_end_of_a_connection_leaks_a_descriptor() {
    let (backend, _reports) = backend(|mut stream| {
        let mut wanted = [0];
        if stream.read_exact(&mut wanted).is_err() {
            return;
        }
        match wanted[0] {
            b'r' => reset(stream),
            b's' => drop(Sequence::write(MB, &stream)),
            _ => {
                // The client decides how this ends.
                let _ = io::copy(&mut stream.try_clone().unwrap(), &mut stream);
            }
        }
    });
    let scene = Scene::new(&backend);
    let descriptors =
        || std::fs::read_dir(format!("/proc/{}/fd", scene.server.pid())).unwrap().count();
    scene.connect().echo(b"");
    scene.is_idle();
    // The connection that asked for the metrics may not be closed yet.
    let settled = || {
        std::thread::sleep(Duration::from_millis(10));
        descriptors()
    };
    let before = std::iter::repeat_with(settled).take(20).min().unwrap();
    for _ in 0..20 {
        for wanted in [b"e", b"r", b"s", b"x", b"y", b"z"] {
            let mut client = scene.connect();
            client.0.write_all(wanted).unwrap();
            match wanted {
                b"e" => client.close_notify(),
                b"x" => drop(client.0.sock.shutdown(Shutdown::Both)),
                b"y" => {
                    reset(client.0.into_parts().1);
                    continue;
                }
                b"z" => drop(client.0.sock.write_all(b"\x17\x03\x03\x00\x30garbage garbage")),
                _ => {}
            }
            if *wanted != *b"z" {
                // Any end will do.
                let _ = read_all(client.0, None);
            }
        }
        drop(TcpStream::connect(scene.server.addr()).unwrap());
        let mut noise = TcpStream::connect(scene.server.addr()).unwrap();
        noise.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    }
    scene.is_idle();
    eventually(
        || format!("{} descriptors, not {before}", descriptors()),
        || (descriptors() == before).then_some(()),
    );
    scene.server.stop();
}
