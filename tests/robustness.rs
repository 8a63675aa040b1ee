//! The terminator under load, at its limits, and told to end while it works.

#![allow(clippy::unwrap_used, reason = "a test that can't set up its scene has failed")]

mod support;
mod support_relay;

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use support::{Backend, Config, Pki, Server, TlsClient, eventually};
use support_relay::{MB, Scene, Sequence, both_ways, read_all, reset};

/// Resident memory of a process, in kB.
fn resident_kb(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The terminator under `prlimit`, with that many descriptors.
fn with_descriptors(config: Config, descriptors: u32) -> Server {
    support::require_tool("prlimit");
    let mut wrapper = Command::new("prlimit");
    wrapper.arg(format!("--nofile={descriptors}:{descriptors}"));
    Server::start_through(config, wrapper)
}

/// Lets this process have as many descriptors as it may.
fn raise_own_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

// Shows that idle connections are kept: 3000 of them at once, each of which still does a round
// trip afterwards. The memory is printed; what it may be is measured elsewhere.
#[test]
fn three_thousand_idle_connections_all_stay_usable() {
    const CONNECTIONS: usize = 3000;
    const AT_A_TIME: usize = 8;
    raise_own_descriptors();
    let pki = Pki::new();
    let config = Config::simple(&pki, echo_on_one_thread());
    let scene = Scene::of(pki, Server::start(config));
    let before = resident_kb(scene.server.pid());
    let mut clients: Vec<TlsClient> = std::thread::scope(|scope| {
        let scene = &scene;
        let threads: Vec<_> = (0..AT_A_TIME)
            .map(|_| {
                scope.spawn(move || {
                    (0..CONNECTIONS / AT_A_TIME).map(|_| scene.connect()).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    scene.server.wait_metric("connections_open", &[], CONNECTIONS as f64);
    let after = resident_kb(scene.server.pid());
    println!("{} kB a connection", (after - before) as f64 / CONNECTIONS as f64);
    for client in &mut clients {
        client.echo(b"still there?");
    }
    assert_eq!(scene.server.metric("connections_open", &[]), CONNECTIONS as f64);
    drop(clients);
    scene.is_idle();
    scene.server.stop();
}

/// An echo with one thread for all connections: thousands of threads would be the test's load.
fn echo_on_one_thread() -> SocketAddr {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            sender.send(listener.local_addr().unwrap()).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut buffer = [0; 1024];
                    loop {
                        stream.readable().await.unwrap();
                        match stream.try_read(&mut buffer) {
                            Ok(bytes @ 1..) => {
                                assert_eq!(stream.try_write(&buffer[..bytes]).unwrap(), bytes);
                            }
                            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                            _ => return,
                        }
                    }
                });
            }
        });
    });
    receiver.recv().unwrap()
}

// Shows the limit on connections, and that the terminator derives one from few descriptors: what
// is above it is closed and counted, nothing breaks, and room is used again.
#[test]
fn few_descriptors_limit_the_connections_and_nothing_else() {
    const FITTING: usize = 10;
    let pki = Pki::new();
    let config = Config::simple(&pki, Backend::echo().addr());
    // 256 are for the process itself, and 2 are for each connection.
    let server = with_descriptors(config, 256 + 2 * 10);
    let scene = Scene::of(pki, server);
    for round in 1..=3 {
        let mut clients: Vec<_> = (0..FITTING).map(|_| scene.connect()).collect();
        for _ in 0..20 {
            let shed = TlsClient::connect(scene.server.addr(), scene.client.clone());
            assert!(shed.is_err());
        }
        let shed = scene.server.metric("handshakes_shed_total", &[("reason", "max_connections")]);
        assert_eq!(shed, f64::from(20 * round));
        for client in &mut clients {
            client.echo(b"not disturbed");
        }
        drop(clients);
        scene.is_idle();
    }
    scene.server.stop();
}

// Shows that a process without room for a single connection doesn't start, and says why.
#[test]
fn too_few_descriptors_for_any_connection_are_an_error_at_start() {
    let pki = Pki::new();
    let config = Config::simple(&pki, Backend::echo().addr());
    let mut wrapper = Command::new("prlimit");
    wrapper.arg("--nofile=200:200");
    let unstarted = Server::fail_to_start(&config, Some(wrapper));
    assert!(!unstarted.status.success());
    assert!(unstarted.stderr.contains("LimitNOFILE="), "{}", unstarted.stderr);
}

// Shows what happens when descriptors run out below that limit: they are taken away while the
// terminator runs. A client that got in has no backend and is ended in order, the next one waits;
// the terminator says which limit was reached, and serves again when descriptors are back.
#[test]
fn descriptors_that_run_out_are_waited_for() {
    let scene = Scene::with(&Backend::echo(), |config| config.raw("[workers]\ncpus = \"0\""));
    let mut old = scene.connect();
    old.echo(b"before");
    let limit = |descriptors: usize| {
        let status = Command::new("prlimit")
            .arg(format!("--pid={}", scene.server.pid()))
            .arg(format!("--nofile={descriptors}:"))
            .status()
            .unwrap();
        assert!(status.success());
    };
    // Whatever number a new one would get, it is too high.
    limit(3);
    // The accept that waits already took its limit from before.
    assert_eq!(scene.connect().read_to_end().unwrap(), b"");
    let waiting = {
        let (address, client) = (scene.server.addr(), scene.client.clone());
        std::thread::spawn(move || {
            TlsClient::connect(address, client).map(|mut client| client.echo(b"waited"))
        })
    };
    scene.server.wait_log(|line| {
        line["error"].as_str().is_some_and(|error| error.contains("Too many open files"))
    });
    old.echo(b"not disturbed");
    limit(1000);
    waiting.join().unwrap().unwrap();
    scene.connect().echo(b"after");
    let errors = scene.server.metric("accept_errors_total", &[("reason", "resources")]);
    assert!(errors >= 1.0);
    drop(old);
    scene.is_idle();
    scene.server.stop();
}

// Shows the limit on handshakes in flight: clients that connect and say nothing use it up, the
// next one is shed and counted; when they go, clients are served again.
#[test]
fn handshakes_above_the_limit_are_shed_until_others_end() {
    let scene = Scene::with(&Backend::echo(), |config| {
        config.limit("max_handshakes", "5").limit("reserved_handshakes", "0")
    });
    let silent: Vec<_> = (0..5).map(|_| TcpStream::connect(scene.server.addr()).unwrap()).collect();
    scene.server.wait_metric("handshakes_in_flight", &[], 5.0);
    let shed = TlsClient::connect(scene.server.addr(), scene.client.clone());
    assert!(shed.is_err());
    scene.server.wait_metric("handshakes_shed_total", &[("reason", "max_handshakes")], 1.0);
    drop(silent);
    scene.server.wait_metric("handshakes_in_flight", &[], 0.0);
    scene.connect().echo(b"room again");
}

// Shows that readers that stall cost little: 64 clients ask for bulk and read nothing. The
// terminator's memory stays bounded and others are served.
#[test]
fn stalled_readers_pin_little_memory_and_hold_up_nobody() {
    /// 64 large buffers of 132 kB, and as much again for the allocator and the debug build.
    const BOUND_KB: u64 = 64 * 1024;
    let backend = Backend::new(|mut stream| {
        let mut wanted = [0];
        while let Ok(1) = stream.read(&mut wanted) {
            let result = match wanted[0] {
                b'b' => Sequence::write(200 * MB, &stream),
                _ => stream.write_all(&wanted),
            };
            if result.is_err() {
                return;
            }
        }
    });
    let scene = Scene::new(&backend);
    let mut other = scene.connect();
    other.echo(b"x");
    let before = resident_kb(scene.server.pid());
    let stalled: Vec<_> = (0..64)
        .map(|_| {
            let mut client = scene.connect();
            client.0.write_all(b"b").unwrap();
            client
        })
        .collect();
    // Until nothing moves any more.
    let mut last = -1.0;
    eventually(
        || "the downloads stall".into(),
        || {
            let now = scene.server.metric("relay_bytes_total", &[("direction", "down")]);
            let stalls = now == std::mem::replace(&mut last, now) && now > 1.0;
            std::thread::sleep(Duration::from_millis(200));
            stalls.then_some(())
        },
    );
    let grown = resident_kb(scene.server.pid()).saturating_sub(before);
    println!("64 stalled readers: {grown} kB");
    assert!(grown < BOUND_KB, "{grown} kB");
    for _ in 0..100 {
        other.echo(b"x");
    }
    drop(stalled);
    other.close_notify();
    drop(other);
    scene.is_idle();
}

// Shows fairness by counting: while four clients download without end, small round trips beside
// them go on, and the downloads don't starve either.
#[test]
fn bulk_downloads_and_small_round_trips_share_a_worker() {
    const ROUND_TRIPS: u64 = 300;
    let (bulk, _reports) = both_ways(1_000_000 * MB);
    let pki = Pki::new();
    let config = Config::new(&pki)
        .backend("app", Backend::echo().addr())
        .backend("bulk", bulk.addr())
        .listener(support::Listener::new("main", "app", &[&pki.server()]))
        .listener(support::Listener::new("bulk", "bulk", &[&pki.server()]))
        .raw("[workers]\ncpus = \"0\"");
    let scene = Scene::of(pki, Server::start(config));
    let done = Arc::new(AtomicBool::new(false));
    let downloads: Vec<_> = (0..4)
        .map(|_| {
            let address = scene.server.addr_of("bulk");
            let mut client = TlsClient::connect(address, scene.client.clone()).unwrap();
            let (done, bytes) = (done.clone(), Arc::new(AtomicU64::new(0)));
            let count = bytes.clone();
            let thread = std::thread::spawn(move || {
                let mut buffer = vec![0; 64 * 1024];
                while !done.load(Ordering::Relaxed) {
                    let read = client.0.read(&mut buffer).unwrap();
                    count.fetch_add(read as u64, Ordering::Relaxed);
                }
            });
            (thread, bytes)
        })
        .collect();
    let mut small = scene.connect();
    for _ in 0..ROUND_TRIPS {
        small.echo(&[7; 1024]);
    }
    for (_, bytes) in &downloads {
        let before = bytes.load(Ordering::Relaxed);
        eventually(
            || "a download goes on".into(),
            || (bytes.load(Ordering::Relaxed) > before + MB).then_some(()),
        );
    }
    done.store(true, Ordering::Relaxed);
    for (thread, _) in downloads {
        thread.join().unwrap();
    }
}

// Shows an orderly shutdown with time: a download that runs when the signal comes is completed,
// new clients are not taken, and the exit code is 0.
#[test]
fn shutdown_lets_a_download_complete_within_the_drain_time() {
    let (backend, _reports) = both_ways(20 * MB);
    let mut scene = Scene::with(&backend, |config| config.limit("drain_timeout", "\"30s\""));
    let mut client = scene.connect();
    let mut first = [0; 1000];
    client.0.read_exact(&mut first).unwrap();
    scene.server.signal(Signal::TERM);
    eventually(
        || "the port closes".into(),
        || TcpStream::connect(scene.server.addr()).is_err().then_some(()),
    );
    let (rest, end) = read_all(&mut client.0, None);
    end.unwrap();
    assert_eq!(rest.bytes, 20 * MB - 1000);
    client.close_notify();
    drop(client);
    assert_eq!(scene.server.wait_end().code(), Some(0));
    let line = scene.server.wait_log(|line| line["down_bytes"] == 20 * MB);
    assert_eq!(line["cause"], "complete");
}

// Shows that the drain time ends: an idle connection gets close_notify, one that is stuck in a
// download is cut, and the exit code is 0 all the same.
#[test]
fn shutdown_ends_what_is_left_after_the_drain_time() {
    let (backend, _reports) = both_ways(1_000_000 * MB);
    let pki = Pki::new();
    let config = Config::new(&pki)
        .backend("app", Backend::echo().addr())
        .backend("bulk", backend.addr())
        .listener(support::Listener::new("main", "app", &[&pki.server()]))
        .listener(support::Listener::new("bulk", "bulk", &[&pki.server()]))
        .limit("drain_timeout", "\"300ms\"");
    let mut scene = Scene::of(pki, Server::start(config));
    let mut idle = scene.connect();
    idle.echo(b"x");
    let address = scene.server.addr_of("bulk");
    let mut stuck = TlsClient::connect(address, scene.client.clone()).unwrap();
    let mut first = [0; 1000];
    stuck.0.read_exact(&mut first).unwrap();
    let silent = TcpStream::connect(scene.server.addr()).unwrap();
    scene.server.wait_metric("handshakes_in_flight", &[], 1.0);
    scene.server.signal(Signal::TERM);
    assert_eq!(idle.read_to_end().unwrap(), b"");
    assert_eq!(scene.server.wait_end().code(), Some(0));
    let (_, end) = read_all(&mut stuck.0, None);
    assert!(end.is_err(), "a cut download must not look whole");
    let lines = scene.server.wait_connections(3);
    assert!(lines.iter().all(|line| line["cause"] == "drained"), "{lines:#?}");
    drop(silent);
}

// Shows that noise harms nobody: hundreds of connections that are no TLS, or broken TLS, or
// nothing at all, beside a client that goes on all the time. Afterwards nothing is left of them.
#[test]
fn a_storm_of_garbage_disturbs_no_client() {
    const THREADS: usize = 4;
    let scene = Scene::new(&Backend::echo());
    let mut good = scene.connect();
    good.echo(b"before");
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", scene.server.pid())).unwrap().count();
    let before = descriptors();
    let garbage: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n".to_vec(),
        vec![0; 5000],
        b"\x16\x03\x01\xff\xff".to_vec(),
        [b"\x16\x03\x01\x40\x00".to_vec(), Sequence::bytes(20_000)].concat(),
        b"\x16\x03\x01\x00\x00".repeat(3000),
        b"\x14\x03\x03\x00\x01\x01".repeat(100),
        b"\x15\x03\x03\x00\x02\x02\x28".to_vec(),
        [b"\x16\x03\x01\x00\x05".to_vec(), vec![1, 0xff, 0xff, 0xff, 0]].concat(),
        b"\x16\x03\x01\x00\x01\x01".repeat(3000),
        Sequence::bytes(200_000),
    ];
    let address = scene.server.addr();
    let storm: Vec<_> = (0..THREADS)
        .map(|_| {
            let garbage = garbage.clone();
            std::thread::spawn(move || {
                for round in 0..100 {
                    let mut socket = TcpStream::connect(address).unwrap();
                    socket.set_read_timeout(Some(support::DEADLINE)).unwrap();
                    // The server may end it while it is sent.
                    let _ = socket.write_all(&garbage[round % garbage.len()]);
                    match round % 3 {
                        0 => reset(socket),
                        1 => drop(socket),
                        _ => {
                            let _ = socket.shutdown(Shutdown::Write);
                            let _ = socket.read_to_end(&mut Vec::new());
                        }
                    }
                }
            })
        })
        .collect();
    while !storm.iter().all(std::thread::JoinHandle::is_finished) {
        good.echo(b"during");
    }
    for thread in storm {
        thread.join().unwrap();
    }
    good.echo(b"after");
    scene.server.wait_metric("connections_open", &[], 1.0);
    scene.server.wait_metric("handshakes_in_flight", &[], 0.0);
    eventually(
        || format!("{} descriptors, not {before}", descriptors()),
        || (descriptors() == before).then_some(()),
    );
    assert_eq!(scene.server.metric("handshakes_total", &[("result", "internal")]), 0.0);
    drop(good);
    scene.is_idle();
    scene.server.stop();
}
