//! More clients than there is room for: who gets in, who doesn't, and that all of it is counted.
//!
//! All addresses of 127.0.0.0/8 are this host's, so that clients come from as many as they like.

#![allow(clippy::unwrap_used, reason = "a test that can't set up its scene has failed")]

mod support;

use std::{
    fs,
    io::{self, Read},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream},
    sync::Arc,
};

use rustix::process::Signal;
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, NamedGroup, StreamOwned,
    SupportedProtocolVersion,
    client::{
        ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
        Tls13ClientSessionValue,
    },
    pki_types::ServerName,
    version::{TLS12, TLS13},
};
use socket2::{Domain, Socket, Type};
use support::{
    Backend, Config, DEADLINE, Listener, Pki, Server, TlsClient, client_config, client_config_of,
    eventually,
};

/// The partner, and others.
const PARTNER: u8 = 9;
const STRANGER: u8 = 2;

/// Connects from 127.0.0.`host`.
fn from(host: u8, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let source: SocketAddr = (Ipv4Addr::new(127, 0, 0, host), 0).into();
    socket.bind(&source.into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// A client that asks for that name.
fn client_for(config: &Arc<ClientConfig>, name: &'static str) -> ClientConnection {
    ClientConnection::new(config.clone(), name.try_into().unwrap()).unwrap()
}

/// Shakes hands from there.
fn connect(host: u8, to: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<TlsClient> {
    complete(from(host, to), client_for(config, Pki::SERVER))
}

fn complete(mut socket: TcpStream, mut connection: ClientConnection) -> io::Result<TlsClient> {
    while connection.is_handshaking() {
        connection.complete_io(&mut socket)?;
    }
    Ok(TlsClient(StreamOwned::new(connection, socket)))
}

/// Sends its ClientHello from there, and then nothing more.
fn stuck(host: u8, to: SocketAddr, config: &Arc<ClientConfig>) -> TcpStream {
    let mut socket = from(host, to);
    client_for(config, Pki::SERVER).write_tls(&mut socket).unwrap();
    socket
}

/// Waits until the server has ended a connection on which it says nothing.
fn is_ended(mut socket: &TcpStream) {
    let mut read = Vec::new();
    // With bytes of ours unread, it is a reset.
    if socket.read_to_end(&mut read).is_ok() {
        assert_eq!(read, b"");
    }
}

/// A terminator in front of an echo, and a client that it lets in.
struct Scene {
    pki: Pki,
    server: Server,
    client: Arc<ClientConfig>,
}

impl Scene {
    fn new(limits: &[(&str, &str)]) -> Self {
        let pki = Pki::new();
        let mut config = Config::simple(&pki, Backend::echo().addr());
        for (key, value) in limits {
            config = config.limit(key, value);
        }
        Self::of(pki, config)
    }

    fn of(pki: Pki, config: Config) -> Self {
        let server = Server::start(config);
        let client = Arc::new(client_config(&pki, Some(&pki.client())));
        Self { pki, server, client }
    }

    fn address(&self) -> SocketAddr {
        self.server.addr()
    }

    /// A client of its own, without sessions.
    fn newcomer(&self, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
        Arc::new(client_config_of(&self.pki, Some(&self.pki.client()), &[version]))
    }

    /// Lets the partner in once, so that its address is known.
    fn meet_the_partner(&self) {
        connect(PARTNER, self.address(), &self.client).unwrap().echo(b"good day");
    }

    fn shed(&self, reason: &str) -> f64 {
        self.server.metric("handshakes_shed_total", &[("reason", reason)])
    }

    /// Nothing is left of anybody.
    fn is_idle(&self) {
        for gauge in ["connections_open", "handshakes_in_flight", "full_handshakes_in_flight"] {
            self.server.wait_metric(gauge, &[], 0.0);
        }
    }
}

// Shows the limit of one address: three handshakes of it are in flight, a fourth one is closed at
// once, another address isn't concerned.
#[test]
fn one_address_gets_its_limit_and_leaves_others_theirs() {
    let scene = Scene::new(&[("max_handshakes_per_address", "3")]);
    let silent: Vec<_> = (0..3).map(|_| from(STRANGER, scene.address())).collect();
    scene.server.wait_metric("handshakes_in_flight", &[], 3.0);
    is_ended(&from(STRANGER, scene.address()));
    assert!(connect(STRANGER, scene.address(), &scene.client).is_err());
    assert_eq!(scene.shed("max_handshakes_per_address"), 2.0);
    let mut open: Vec<_> =
        (0..5).map(|_| connect(3, scene.address(), &scene.client).unwrap()).collect();
    open.iter_mut().for_each(|client| client.echo(b"no handshake of mine is in flight"));
    drop(silent);
    scene.server.wait_metric("handshakes_in_flight", &[], 0.0);
    connect(STRANGER, scene.address(), &scene.client).unwrap().echo(b"room again");
    drop(open);
    scene.is_idle();
    scene.server.stop();
}

// Shows the reserve: strangers fill whatever they can get, silent ones and such as are stuck in the
// middle of a full handshake. The partner, whose address was let in before, goes on to connect.
#[test]
fn a_partner_keeps_connecting_while_strangers_fill_everything() {
    let limits =
        [("max_handshakes", "12"), ("max_full_handshakes", "8"), ("reserved_handshakes", "4")];
    let scene = Scene::new(&limits);
    scene.meet_the_partner();
    let stuck: Vec<_> =
        (0..4).map(|host| stuck(100 + host, scene.address(), &scene.newcomer(&TLS13))).collect();
    scene.server.wait_metric("full_handshakes_in_flight", &[], 4.0);
    let silent: Vec<_> = (0..4).map(|host| from(100 + host, scene.address())).collect();
    scene.server.wait_metric("handshakes_in_flight", &[], 8.0);
    for version in [&TLS13, &TLS12] {
        for _ in 0..5 {
            let newcomer = scene.newcomer(version);
            let mut partner = connect(PARTNER, scene.address(), &newcomer).unwrap();
            assert_eq!(partner.0.conn.handshake_kind(), Some(HandshakeKind::Full));
            partner.echo(b"known");
        }
    }
    assert_eq!(scene.server.metric("handshakes_shed_total", &[]), 0.0, "there was no need");
    // Strangers get the place of one that waits for too long, or none.
    for _ in 0..3 {
        let _ = connect(STRANGER, scene.address(), &scene.newcomer(&TLS13));
    }
    assert_eq!(scene.shed("reserved_handshakes") + scene.shed("stale"), 3.0);
    drop((stuck, silent));
    scene.is_idle();
    scene.server.stop();
}

// Shows that failing makes nobody known: a stranger with a certificate of another CA fails again
// and again, and gets nothing of the reserve.
#[test]
fn an_address_that_only_fails_is_never_known() {
    let limits =
        [("max_handshakes", "3"), ("max_full_handshakes", "3"), ("reserved_handshakes", "2")];
    let scene = Scene::new(&limits);
    let refused = Arc::new(client_config(&scene.pki, Some(&scene.pki.stranger())));
    for round in 1..=5 {
        let _ = connect(STRANGER, scene.address(), &refused).map(|mut client| client.alert());
        scene.server.wait_metric("handshakes_total", &[("result", "refused")], f64::from(round));
        scene.is_idle();
    }
    scene.meet_the_partner();
    // Of the partner, so that no stranger may push them out.
    let silent: Vec<_> = (0..2).map(|_| from(PARTNER, scene.address())).collect();
    scene.server.wait_metric("handshakes_in_flight", &[], 2.0);
    let _one = from(3, scene.address());
    scene.server.wait_metric("handshakes_in_flight", &[], 3.0);
    drop(silent);
    scene.server.wait_metric("handshakes_in_flight", &[], 1.0);
    // Two places are free, both reserved: the stranger gets none, or that of the silent one.
    let _ = connect(STRANGER, scene.address(), &refused);
    assert_eq!(scene.shed("reserved_handshakes") + scene.shed("stale"), 1.0);
    scene.server.stop();
}

// Shows the two budgets: handshakes of the partner hold all full places (nobody but the known may
// push them out). A new client is turned away before its key agreement; one with a session
// resumes; one whose session is none here (it is another listener's) is turned away as well.
#[test]
fn who_resumes_gets_in_while_the_full_places_are_taken_and_a_bogus_ticket_does_not_help() {
    for version in [&TLS13, &TLS12] {
        let pki = Pki::new();
        let config = Config::simple(&pki, Backend::echo().addr())
            .listener(Listener::new("other", "app", &[&pki.server()]))
            .limit("max_full_handshakes", "2")
            .limit("reserved_handshakes", "0");
        let scene = Scene::of(pki, config);
        scene.meet_the_partner();
        let (resumes, bogus) = (scene.newcomer(version), scene.newcomer(version));
        connect(STRANGER, scene.address(), &resumes).unwrap().echo(b"a session, please");
        connect(STRANGER, scene.server.addr_of("other"), &bogus).unwrap().echo(b"and one");
        scene.is_idle();
        let stuck: Vec<_> =
            (0..2).map(|_| stuck(PARTNER, scene.address(), &scene.newcomer(version))).collect();
        scene.server.wait_metric("full_handshakes_in_flight", &[], 2.0);
        let newcomer = connect(STRANGER, scene.address(), &scene.newcomer(version));
        assert!(newcomer.is_err());
        assert_eq!(scene.shed("max_full_handshakes"), 1.0);
        let mut resumed = connect(STRANGER, scene.address(), &resumes).unwrap();
        assert_eq!(resumed.0.conn.handshake_kind(), Some(HandshakeKind::Resumed));
        resumed.echo(b"resumed");
        assert!(connect(STRANGER, scene.address(), &bogus).is_err());
        assert_eq!(scene.shed("max_full_handshakes"), 2.0);
        scene.server.wait_metric("handshakes_total", &[("result", "shed")], 2.0);
        scene.server.wait_metric("connections_closed_total", &[("cause", "shed")], 2.0);
        drop((stuck, resumed));
        scene.is_idle();
        scene.server.stop();
    }
}

/// Offers the session of one name to any other.
#[derive(Debug)]
struct AnyName(ClientSessionMemoryCache);

const ONE_NAME: &str = "any.contoso.test";

fn one_name() -> ServerName<'static> {
    ONE_NAME.try_into().unwrap()
}

impl ClientSessionStore for AnyName {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(one_name(), group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.kx_hint(&one_name())
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(one_name(), value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(&one_name())
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.0.remove_tls12_session(&one_name());
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(one_name(), value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(&one_name())
    }
}

// Shows the way round that doesn't go round: a session that is good, but for another name. It is
// vetoed before any keys are agreed on, and the full handshake that is left takes a full place.
#[test]
fn a_good_session_for_another_name_does_not_get_around_the_full_budget() {
    const OTHER: &str = "other.contoso.test";
    for version in [&TLS13, &TLS12] {
        let pki = Pki::new();
        let own = pki.issue(&pki.ca, "both", &Pki::server_spec(&[Pki::SERVER, OTHER]));
        let config = Config::new(&pki)
            .backend("app", Backend::echo().addr())
            .listener(Listener::new("main", "app", &[&own]))
            .limit("max_full_handshakes", "2")
            .limit("reserved_handshakes", "0");
        let scene = Scene::of(pki, config);
        scene.meet_the_partner();
        let mut client = client_config_of(&scene.pki, Some(&scene.pki.client()), &[version]);
        let sessions = AnyName(ClientSessionMemoryCache::new(8));
        client.resumption = Resumption::store(Arc::new(sessions));
        let client = Arc::new(client);
        let to = |name| complete(from(STRANGER, scene.address()), client_for(&client, name));
        to(Pki::SERVER).unwrap().echo(b"a session, please");
        let mut elsewhere = to(OTHER).unwrap();
        elsewhere.echo(b"it isn't good here");
        assert_eq!(elsewhere.0.conn.handshake_kind(), Some(HandshakeKind::Full));
        drop(elsewhere);
        scene.is_idle();
        let stuck: Vec<_> =
            (0..2).map(|_| stuck(PARTNER, scene.address(), &scene.newcomer(version))).collect();
        scene.server.wait_metric("full_handshakes_in_flight", &[], 2.0);
        let agreements =
            || scene.server.metric("crypto_operations_total", &[("operation", "x25519")]);
        let before = agreements();
        assert!(to(Pki::SERVER).is_err());
        assert_eq!(scene.shed("max_full_handshakes"), 1.0, "of {OTHER}, offered elsewhere");
        assert_eq!(agreements(), before, "it has bought none");
        scene.server.wait_metric("resumption_total", &[("outcome", "vetoed")], 2.0);
        drop(stuck);
        scene.is_idle();
        scene.server.stop();
    }
}

// Shows what becomes of clients that hold places and say nothing: others take them after a while,
// and those learn nothing but the end. One worker, since handshakes make room in their own.
#[test]
fn clients_that_keep_the_server_waiting_make_room_for_others() {
    let pki = Pki::new();
    let config = Config::simple(&pki, Backend::echo().addr())
        .raw("[workers]\ncpus = \"0\"")
        .limit("max_handshakes", "4")
        .limit("max_full_handshakes", "4")
        .limit("reserved_handshakes", "0")
        .limit("handshake_timeout", "\"1h\"");
    let scene = Scene::of(pki, config);
    let silent = [from(STRANGER, scene.address()), from(STRANGER, scene.address())];
    let stuck = [2, 2].map(|host| stuck(host, scene.address(), &scene.client));
    scene.server.wait_metric("full_handshakes_in_flight", &[], 2.0);
    scene.server.wait_metric("handshakes_in_flight", &[], 4.0);
    let mut open = Vec::new();
    for _ in 0..2 {
        let client = eventually(
            || "room for a client".into(),
            || connect(3, scene.address(), &scene.client).ok(),
        );
        open.push(client);
    }
    open.iter_mut().for_each(|client| client.echo(b"at last"));
    // The first of them has left a place when the second one came.
    let stale = scene.shed("stale");
    assert!((1.0..=2.0).contains(&stale), "{stale}");
    is_ended(&silent[0]);
    scene.server.wait_metric("handshakes_total", &[("result", "shed")], stale);
    drop((silent, stuck, open));
    scene.is_idle();
    scene.server.stop();
}

// Shows that nothing is computed for a client that has given up: in a crowd, a ClientHello whose
// sender has gone isn't even looked at. The server is stopped while both arrive.
#[test]
fn a_client_that_has_given_up_before_its_turn_costs_no_handshake() {
    let scene = Scene::new(&[]);
    let crowd: Vec<_> = (0..40).map(|host| from(host + 1, scene.address())).collect();
    scene.server.wait_metric("handshakes_in_flight", &[], 40.0);
    scene.server.signal(Signal::STOP);
    let gone: Vec<_> = (0..5)
        .map(|_| {
            let socket = stuck(STRANGER, scene.address(), &scene.client);
            socket.shutdown(Shutdown::Write).unwrap();
            socket
        })
        .collect();
    scene.server.signal(Signal::CONT);
    gone.iter().for_each(is_ended);
    let unseen = [("result", "client_closed"), ("kind", "none"), ("version", "none")];
    scene.server.wait_metric("handshakes_total", &unseen, 5.0);
    // In the crowd, others are served.
    for _ in 0..20 {
        connect(STRANGER, scene.address(), &scene.client).unwrap().echo(b"still here");
    }
    drop(crowd);
    scene.is_idle();
    scene.server.stop();
}

/// Resident memory of a process, in kB.
fn resident_kb(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

// Shows that a flood from many addresses is counted exactly and leaves nothing behind: every
// connection was either turned away at the door, or accepted and has an end; the sums agree, all
// gauges fall back to 0, and memory stays bounded.
#[test]
fn a_flood_is_counted_exactly_and_leaves_nothing_behind() {
    const THREADS: u8 = 8;
    const EACH: usize = 150;
    /// 16 handshakes in flight take far less, in a debug build too.
    const BOUND_KB: u64 = 64 * 1024;
    let limits = [
        ("max_handshakes", "16"),
        ("max_full_handshakes", "6"),
        ("reserved_handshakes", "2"),
        ("max_handshakes_per_address", "4"),
    ];
    let scene = Scene::new(&limits);
    scene.meet_the_partner();
    let before = resident_kb(scene.server.pid());
    let served: usize = std::thread::scope(|scope| {
        let scene = &scene;
        let flood: Vec<_> = (0..THREADS)
            .map(|host| {
                scope.spawn(move || {
                    let mut held = Vec::new();
                    let mut served = 0;
                    for round in 0..EACH {
                        match round % 3 {
                            0 => held.push(from(20 + host, scene.address())),
                            1 => {
                                let mut socket = from(20 + host, scene.address());
                                // It may be gone already.
                                let _ =
                                    client_for(&scene.client, Pki::SERVER).write_tls(&mut socket);
                                held.push(socket);
                            }
                            _ => {
                                let client = scene.newcomer(&TLS13);
                                let done = connect(20 + host, scene.address(), &client);
                                served += usize::from(done.is_ok());
                            }
                        }
                        held.drain(..held.len().saturating_sub(3));
                    }
                    served
                })
            })
            .collect();
        flood.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    scene.is_idle();
    let accepted = scene.server.metric("connections_accepted_total", &[]);
    let at_the_door: f64 = [
        "max_connections",
        "max_handshakes_per_address",
        "max_handshakes",
        "reserved_handshakes",
        "max_handshake_wait",
    ]
    .map(|reason| scene.shed(reason))
    .iter()
    .sum();
    let sent = f64::from(THREADS) * EACH as f64 + 1.0;
    assert_eq!(accepted + at_the_door, sent);
    assert_eq!(scene.server.metric("handshakes_total", &[]), accepted);
    let later = scene.shed("max_full_handshakes") + scene.shed("stale");
    assert_eq!(scene.server.metric("handshakes_total", &[("result", "shed")]), later);
    assert!(at_the_door > 0.0, "a flood indeed");
    let grown = resident_kb(scene.server.pid()).saturating_sub(before);
    println!("{served} served, {at_the_door} and {later} turned away, {grown} kB");
    assert!(grown < BOUND_KB, "{grown} kB");
    connect(PARTNER, scene.address(), &scene.client).unwrap().echo(b"after the flood");
    scene.server.stop();
}
