use std::{
    cell::Cell,
    io::Write,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use super::*;
use crate::{metrics::Metrics, ring};

const ROOM: Limits = Limits {
    connections: 100,
    handshakes: 8,
    full: 6,
    reserved: 2,
    of_one_address: None,
    wait: Duration::from_millis(500),
};

/// The own end of a connection, as the door sees it, and the client's.
fn connection() -> (Rc<Socket>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
    let (accepted, _) = listener.accept().expect("accepted");
    (Socket::new(OwnedFd::from(accepted)), client)
}

/// A worker's door, and the metrics that it counts in.
struct Scene {
    metrics: Metrics,
    budgets: Arc<Budgets>,
    door: Rc<Door>,
    now: Cell<Instant>,
    /// Clients that are silent, but there.
    clients: RefCell<Vec<TcpStream>>,
}

impl Scene {
    fn new(limits: Limits) -> Self {
        let metrics = Metrics::new().expect("fixed buckets");
        let budgets = Budgets::new(Arc::new(ProcessMetrics::new(&metrics)), limits);
        let door = Door::new(budgets.clone());
        let now = Cell::new(Instant::now());
        Self { metrics, budgets, door, now, clients: RefCell::default() }
    }

    /// Lets so much time pass that a handshake is stale.
    fn grow_stale(&self) {
        self.now.update(|now| now + stale::STALE_AFTER);
    }

    fn admit(&self, host: u8) -> Option<Admission> {
        let (socket, client) = connection();
        self.clients.borrow_mut().push(client);
        self.door.admit_at(&socket, address(host), self.now.get())
    }

    /// One that goes on waiting for its client.
    fn waiting(&self, host: u8) -> Admission {
        let admission = self.admit(host).expect("room");
        std::mem::forget(admission.handshake.waits());
        admission
    }

    fn sample(&self, line: &str) -> f64 {
        let text = self.metrics.render();
        let found = text.lines().find_map(|sample| {
            sample.strip_prefix("countersign_")?.strip_prefix(line)?.trim().parse().ok()
        });
        found.unwrap_or_else(|| panic!("{line} is missing in\n{text}"))
    }

    fn shed(&self, reason: ShedReason) -> f64 {
        let reason = reason.as_str();
        self.sample(&format!("handshakes_shed_total{{reason=\"{reason}\"}}"))
    }

    /// Nothing is counted of anybody any more.
    fn is_empty(&self) {
        assert_eq!(self.budgets.connections.used(), 0);
        assert_eq!((self.budgets.handshakes.used(), self.budgets.full.used()), (0, 0));
        assert_eq!(self.budgets.addresses.len(), 0);
        assert_eq!(self.door.handshakes.borrow().len(), 0);
        assert!(self.door.line.borrow().is_empty());
        assert_eq!(self.sample("handshakes_in_flight"), 0.0);
        assert_eq!(self.sample("full_handshakes_in_flight"), 0.0);
    }
}

fn address(host: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, host).into()
}

/// What cancels needs a ring.
fn on_a_ring(test: impl FnOnce()) {
    ring::run(async move { test() });
}

#[test]
fn connections_beyond_the_limit_are_turned_away_until_one_ends() {
    let scene = Scene::new(Limits { connections: 1, ..ROOM });
    let first = scene.admit(1).expect("room");
    assert!(scene.admit(1).is_none());
    drop(first.handshake);
    assert!(scene.admit(1).is_none(), "the connection goes on after its handshake");
    drop(first.connection);
    drop(scene.admit(1).expect("room again"));
    assert_eq!(scene.shed(ShedReason::Connections), 2.0);
    scene.is_empty();
}

#[test]
fn strangers_leave_the_reserve_to_addresses_that_were_let_in_lately() {
    let scene = Scene::new(ROOM);
    scene.budgets.remember(address(9));
    let strangers: Vec<_> = (0..6).map(|_| scene.admit(1).expect("room")).collect();
    assert!(scene.admit(1).is_none());
    assert_eq!(scene.shed(ShedReason::Reserved), 1.0);
    let known: Vec<_> = (0..2).map(|_| scene.admit(9).expect("reserved")).collect();
    assert!(scene.admit(9).is_none());
    assert_eq!(scene.shed(ShedReason::Handshakes), 1.0);
    assert_eq!(scene.sample("handshakes_in_flight"), 8.0);
    drop((strangers, known));
    scene.is_empty();
}

#[test]
fn one_address_has_its_limit_whatever_else_is_free() {
    let scene = Scene::new(Limits { of_one_address: Some(2), ..ROOM });
    let both = (scene.admit(1).expect("room"), scene.admit(1).expect("room"));
    assert!(scene.admit(1).is_none());
    assert_eq!(scene.shed(ShedReason::Address), 1.0);
    drop(scene.admit(2).expect("another address"));
    drop(both.0.handshake);
    drop(scene.admit(1).expect("one has ended its handshake"));
    drop((both.0.connection, both.1));
    scene.is_empty();
}

#[test]
fn full_handshakes_leave_room_for_those_that_resume() {
    let scene = Scene::new(ROOM);
    let full: Vec<_> = (0..5).map(|_| scene.admit(1).expect("room")).collect();
    assert!(full[..4].iter().all(|admission| admission.handshake.take_full()));
    assert!(full[0].handshake.take_full(), "it has its place already");
    assert_eq!(scene.sample("full_handshakes_in_flight"), 4.0);
    assert!(!full[4].handshake.take_full());
    assert_eq!(full[4].handshake.shed(), Some(ShedReason::Full));
    assert!(!full[4].handshake.take_full(), "it was turned away");
    assert_eq!(scene.shed(ShedReason::Full), 1.0);
    // It is in flight no more, though whoever drives it hasn't noticed yet.
    assert_eq!(scene.sample("handshakes_in_flight"), 4.0);
    let resuming = (scene.admit(1).expect("room"), scene.admit(1).expect("room"));
    // Somebody known still makes full ones.
    scene.budgets.remember(address(9));
    let known = (scene.admit(9).expect("reserved"), scene.admit(9).expect("reserved"));
    assert!(known.0.handshake.take_full() && known.1.handshake.take_full());
    drop((full, resuming, known));
    scene.is_empty();
}

#[test]
fn a_client_that_keeps_us_waiting_makes_room_for_one_that_comes() {
    on_a_ring(|| {
        let scene = Scene::new(ROOM);
        let slow: Vec<_> = (0..6).map(|_| scene.waiting(1)).collect();
        assert!(scene.admit(2).is_none(), "nobody has kept us waiting for long");
        scene.grow_stale();
        slow[0].handshake.got_on_at(scene.now.get());
        let comes = scene.admit(2).expect("room");
        assert_eq!(slow[0].handshake.shed(), None, "it got on");
        assert_eq!(slow[1].handshake.shed(), Some(ShedReason::Stale));
        assert_eq!(slow[2].handshake.shed(), None, "one for one");
        assert_eq!(scene.shed(ShedReason::Stale), 1.0);
        assert_eq!(scene.sample("handshakes_in_flight"), 6.0);
        drop((slow, comes));
        scene.is_empty();
    });
}

#[test]
fn a_client_that_has_spoken_is_not_dropped_for_our_delay() {
    on_a_ring(|| {
        let scene = Scene::new(Limits { handshakes: 3, ..ROOM });
        let admission = scene.waiting(1);
        scene.clients.borrow_mut()[0].write_all(b"x").expect("sent");
        scene.grow_stale();
        assert!(scene.admit(2).is_none());
        assert_eq!(admission.handshake.shed(), None);
        drop(admission);
        scene.is_empty();
    });
}

#[test]
fn strangers_make_room_first_and_the_known_only_for_the_known() {
    on_a_ring(|| {
        let scene = Scene::new(Limits { handshakes: 2, full: 2, reserved: 1, ..ROOM });
        scene.budgets.remember(address(9));
        let known = scene.waiting(9);
        let stranger = scene.waiting(1);
        scene.grow_stale();
        let second = scene.admit(9).expect("the stranger makes room");
        assert_eq!(stranger.handshake.shed(), Some(ShedReason::Stale));
        assert_eq!(known.handshake.shed(), None);
        assert!(scene.admit(1).is_none(), "not for a stranger");
        let third = scene.admit(9).expect("for one that is known too");
        assert_eq!(known.handshake.shed(), Some(ShedReason::Stale));
        drop((known, stranger, second, third));
        scene.is_empty();
    });
}

#[test]
fn a_full_place_that_is_kept_waiting_goes_to_the_next_full_handshake() {
    on_a_ring(|| {
        let scene = Scene::new(Limits { full: 2, reserved: 1, ..ROOM });
        let stuck = scene.waiting(1);
        assert!(stuck.handshake.take_full_at(scene.now.get()));
        let comes = scene.admit(2).expect("room");
        scene.grow_stale();
        assert!(comes.handshake.take_full_at(scene.now.get()));
        assert_eq!(stuck.handshake.shed(), Some(ShedReason::Stale));
        assert_eq!(scene.sample("full_handshakes_in_flight"), 1.0);
        assert_eq!(scene.sample("handshakes_in_flight"), 1.0);
        drop((stuck, comes));
        scene.is_empty();
    });
}

#[test]
fn a_lower_limit_of_a_reload_holds_for_whoever_comes() {
    let scene = Scene::new(ROOM);
    let both = (scene.admit(1).expect("room"), scene.admit(1).expect("room"));
    scene.budgets.set_limits(Limits { handshakes: 2, full: 2, reserved: 1, ..ROOM });
    assert!(scene.admit(1).is_none());
    assert!(both.0.handshake.take_full() && !both.1.handshake.take_full());
    drop(both);
    drop(scene.admit(1).expect("room"));
    scene.is_empty();
}

/// A handshake that waits in line.
type InLine<'a> = Pin<Box<dyn Future<Output = Called> + 'a>>;

fn in_line(admission: &Admission) -> InLine<'_> {
    let mut waiting: InLine<'_> = Box::pin(admission.handshake.called());
    assert!(poll(&mut waiting).is_none(), "somebody is ahead");
    waiting
}

fn poll(waiting: &mut InLine<'_>) -> Option<Called> {
    match waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(called) => Some(called),
        Poll::Pending => None,
    }
}

/// The one that nobody was ahead of.
fn first(admission: &Admission) -> Called {
    let mut waiting: InLine<'_> = Box::pin(admission.handshake.called());
    poll(&mut waiting).expect("nobody is ahead")
}

#[test]
fn one_handshake_at_a_time_is_called_and_known_addresses_before_strangers() {
    let scene = Scene::new(ROOM);
    scene.budgets.remember(address(9));
    let all = [1, 1, 2, 9].map(|host| scene.admit(host).expect("room"));
    let called = first(&all[0]);
    let (mut again, mut other, mut known) = (in_line(&all[1]), in_line(&all[2]), in_line(&all[3]));
    drop(called);
    assert!(poll(&mut again).is_none() && poll(&mut other).is_none());
    drop(poll(&mut known).expect("called"));
    assert!(poll(&mut other).is_none());
    drop(poll(&mut again).expect("called"));
    drop(poll(&mut other).expect("called"));
    drop(first(&all[0]));
    drop((again, other, known));
    drop(all);
    scene.is_empty();
}

#[test]
fn who_is_gone_before_or_after_it_was_called_keeps_nobody_waiting() {
    let scene = Scene::new(ROOM);
    let all = [1, 2, 3, 4].map(|host| scene.admit(host).expect("room"));
    let called = first(&all[0]);
    let (gone, called_and_gone, mut stays) = (in_line(&all[1]), in_line(&all[2]), in_line(&all[3]));
    drop(gone);
    drop(called);
    assert!(poll(&mut stays).is_none());
    drop(called_and_gone);
    drop(poll(&mut stays).expect("called"));
    drop(stays);
    drop(all);
    scene.is_empty();
}

#[test]
fn who_would_wait_longer_than_clients_do_is_turned_away_at_once() {
    let scene = Scene::new(ROOM);
    scene.budgets.remember(address(9));
    let ahead = [1, 1].map(|host| scene.admit(host).expect("room"));
    let called = first(&ahead[0]);
    let waits = in_line(&ahead[1]);
    drop(scene.admit(2).expect("nobody has waited for long"));
    scene.now.update(|now| now + ROOM.wait + Duration::from_millis(1));
    assert!(scene.admit(2).is_none());
    assert_eq!(scene.shed(ShedReason::Wait), 1.0);
    drop(scene.admit(9).expect("nobody known waits"));
    scene.budgets.set_limits(Limits { wait: Duration::from_secs(1), ..ROOM });
    drop(scene.admit(2).expect("a reload allows it"));
    drop((called, waits));
    drop(scene.admit(2).expect("nobody waits"));
    drop(ahead);
    scene.is_empty();
}
