//! Whom there is room for: connections and handshakes in flight, decided before any cryptography.
//!
//! Whatever is turned away here has cost an accept, or a ClientHello that was read; it is counted
//! by its reason and closed without a word. In this order a connection that was accepted needs
//!
//! 1. a place among all connections,
//! 2. a place among the handshakes in flight of its address,
//! 3. a place among all handshakes in flight, some of which are reserved for addresses that were
//!    let in lately. If there is none left, the handshake of this worker that has waited longest
//!    for its client makes room, where that has been too long.
//!
//! and, before the third, the prospect to begin before clients lose their patience: see [`line`].
//!
//! A handshake that resumes no session needs, before its key agreement,
//!
//! 4. a place among the full handshakes in flight, with the same reserve and the same way to room.
//!
//! What all workers share ([`Budgets`]) is counted without a lock, but for the handshakes of an
//! address, which have a lock for each of their parts. The handshakes that may have to make room
//! are those of one worker (its [`Door`]).

mod addresses;
mod budget;
mod line;
mod recent;
mod stale;
#[cfg(test)]
mod tests;

use std::{
    cell::RefCell,
    net::IpAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use addresses::{Addresses, Origin};
use budget::{Budget, Exhausted, Places};
use line::Line;
use recent::Recent;
use stale::{Kind, Waiting};
use tokio::sync::oneshot;

use crate::{
    metrics::{ProcessMetrics, ShedReason},
    ring::{Peek, Socket},
};

/// Seconds between two lines of the log that say that clients are turned away; all are counted.
const SECONDS_A_LINE: u64 = 10;

/// With so many handshakes in flight clients have to wait. Then it is looked whether one is still
/// there before anything is computed for it, and several are accepted at once.
const CROWDED_FROM: usize = 32;

/// How many there may be of what, in the whole process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
    /// Handshakes in flight.
    pub handshakes: usize,
    /// Of these, handshakes that don't resume a session.
    pub full: usize,
    /// Handshakes, of each of the two, that only addresses get that were let in lately; fewer than
    /// either.
    pub reserved: usize,
    /// Handshakes in flight of one address (IPv6: of a network of 64 bits); `None` is no limit.
    pub of_one_address: Option<usize>,
    /// How long a handshake may wait to begin; whoever would wait longer isn't let in.
    pub wait: Duration,
}

/// What is in use, in the whole process.
#[derive(Debug)]
pub struct Budgets {
    metrics: Arc<ProcessMetrics>,
    connections: Budget,
    handshakes: Places,
    full: Places,
    addresses: Addresses,
    /// How long a handshake may wait to begin, in µs.
    wait_us: AtomicU64,
    recent: Recent,
    began: Instant,
    /// When a line of the log was due last, in seconds since it began, and 1.
    told_s: AtomicU64,
}

impl Budgets {
    /// Nothing is in use yet.
    pub fn new(metrics: Arc<ProcessMetrics>, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            metrics,
            connections: Budget::new(limits.connections),
            handshakes: Places::new(limits.handshakes, limits.reserved),
            full: Places::new(limits.full, limits.reserved),
            addresses: Addresses::new(limits.of_one_address),
            wait_us: AtomicU64::new(whole_us(limits.wait)),
            recent: Recent::new(),
            began: Instant::now(),
            told_s: AtomicU64::new(0),
        })
    }

    /// Changes the limits; whoever is in stays.
    pub fn set_limits(&self, limits: Limits) {
        self.connections.set_limit(limits.connections);
        self.handshakes.set_limits(limits.handshakes, limits.reserved);
        self.full.set_limits(limits.full, limits.reserved);
        self.addresses.set_limit(limits.of_one_address);
        self.wait_us.store(whole_us(limits.wait), Ordering::Relaxed);
    }

    /// A client from there has proved who it is and was let in: for an hour its address has its
    /// share of the reserve.
    pub fn remember(&self, address: IpAddr) {
        self.recent.note(address.into());
    }

    /// Says to the operator, once in a while, that clients are turned away.
    pub fn tell(&self, reason: ShedReason) {
        let now_s = self.began.elapsed().as_secs() + 1;
        let told_s = self.told_s.load(Ordering::Relaxed);
        if told_s != 0 && now_s < told_s + SECONDS_A_LINE {
            return;
        }
        let swapped =
            self.told_s.compare_exchange(told_s, now_s, Ordering::Relaxed, Ordering::Relaxed);
        if swapped.is_ok() {
            let reason = reason.as_str();
            tracing::warn!(reason, "clients are turned away; handshakes_shed_total counts them");
        }
    }

    /// A handshake of that origin and kind isn't in flight any more; what becomes of its places is
    /// another matter.
    fn handshake_ended(&self, origin: Origin, kind: Kind) {
        self.addresses.give_back(origin);
        self.metrics.handshake_ended();
        if kind.full {
            self.metrics.full_handshake_ended();
        }
    }
}

/// So many whole microseconds.
fn whole_us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Where the connections of one worker come in.
#[derive(Debug)]
pub struct Door {
    budgets: Arc<Budgets>,
    handshakes: RefCell<Waiting<Guest>>,
    /// Those that have yet to begin.
    line: RefCell<Line<oneshot::Sender<Called>>>,
}

/// One handshake of this worker.
#[derive(Debug)]
struct Guest {
    socket: Rc<Socket>,
    origin: Origin,
    /// Its address was let in lately.
    known: bool,
    /// It was given a place among the full handshakes.
    full: bool,
    /// Why it was turned away, if it was.
    shed: Option<ShedReason>,
}

impl Guest {
    /// Whether its client has said nothing that waits to be read.
    fn is_silent(&self) -> bool {
        self.socket.peek() != Peek::Bytes
    }
}

/// What a connection that was let in has.
#[derive(Debug)]
pub struct Admission {
    /// Its place among all connections, as long as it is open.
    pub connection: ConnectionPlace,
    /// Its place among the handshakes in flight.
    pub handshake: Rc<HandshakePlace>,
}

impl Door {
    /// Nobody has come yet.
    pub fn new(budgets: Arc<Budgets>) -> Rc<Self> {
        let (handshakes, line) = (RefCell::new(Waiting::new()), RefCell::new(Line::new()));
        Rc::new(Self { budgets, handshakes, line })
    }

    /// Lets a connection in that was accepted from `address`; or counts why not, and then all that
    /// is left is to close it.
    pub fn admit(self: &Rc<Self>, socket: &Rc<Socket>, address: IpAddr) -> Option<Admission> {
        self.admit_at(socket, address, Instant::now())
    }

    fn admit_at(
        self: &Rc<Self>,
        socket: &Rc<Socket>,
        address: IpAddr,
        now: Instant,
    ) -> Option<Admission> {
        let origin = Origin::from(address);
        let known = match self.places(origin, now) {
            Ok(known) => known,
            Err(reason) => {
                self.budgets.metrics.shed(reason);
                self.budgets.tell(reason);
                return None;
            }
        };
        self.budgets.metrics.handshake_began();
        let guest = Guest { socket: socket.clone(), origin, known, full: false, shed: None };
        let kind = Kind { known, full: false };
        let key = self.handshakes.borrow_mut().insert(guest, kind, now);
        Some(Admission {
            connection: ConnectionPlace(self.budgets.clone()),
            handshake: Rc::new(HandshakePlace { door: self.clone(), key }),
        })
    }

    /// Whether so many are shaking hands that clients have to wait.
    pub fn is_crowded(&self) -> bool {
        self.budgets.handshakes.used() >= CROWDED_FROM
    }

    /// Takes the places of a connection that comes; whether its address is known.
    fn places(&self, origin: Origin, now: Instant) -> Result<bool, ShedReason> {
        let budgets = &*self.budgets;
        if !budgets.connections.take() {
            return Err(ShedReason::Connections);
        }
        if !budgets.addresses.take(origin) {
            budgets.connections.give_back();
            return Err(ShedReason::Address);
        }
        let known = budgets.recent.contains(origin);
        self.place_among_handshakes(origin, known, now).inspect_err(|_| {
            budgets.addresses.give_back(origin);
            budgets.connections.give_back();
        })?;
        Ok(known)
    }

    fn place_among_handshakes(
        &self,
        origin: Origin,
        known: bool,
        now: Instant,
    ) -> Result<(), ShedReason> {
        let handshakes = &self.budgets.handshakes;
        let most = Duration::from_micros(self.budgets.wait_us.load(Ordering::Relaxed));
        if self.line.borrow().is_too_long(origin, known, most, now) {
            return Err(ShedReason::Wait);
        }
        match handshakes.take(known) {
            Ok(()) => Ok(()),
            Err(_) if self.make_room(known, now) => Ok(()),
            Err(Exhausted::All) => Err(ShedReason::Handshakes),
            Err(Exhausted::Reserved) => Err(ShedReason::Reserved),
        }
    }

    /// Calls the next one of the line; whoever was called before has begun, or is gone.
    fn call_next(self: &Rc<Self>) {
        loop {
            let next = self.line.borrow_mut().next(Instant::now());
            let Some(waiting) = next else { return };
            // Who is gone by now hands it back, and another one is called.
            match waiting.send(Called(Some(self.clone()))) {
                Ok(()) => return,
                Err(mut unheard) => unheard.0 = None,
            }
        }
    }

    /// Hands the place of a handshake that waits for too long on to one that comes.
    fn make_room(&self, known: bool, now: Instant) -> bool {
        let Some(stale) = self.drop_stalest(known, &[false, true], now) else { return false };
        self.budgets.handshakes.hand_on(stale.known, known);
        if stale.full {
            self.budgets.full.give_back(stale.known);
        }
        true
    }

    /// Hands the full place of such a handshake on to one that is in flight already.
    fn make_room_among_full(&self, known: bool, now: Instant) -> bool {
        let Some(stale) = self.drop_stalest(known, &[true], now) else { return false };
        self.budgets.full.hand_on(stale.known, known);
        self.budgets.handshakes.give_back(stale.known);
        true
    }

    /// Ends the handshake that waits longest for its client, where that is too long: that of a
    /// stranger, or else, for somebody known, that of somebody known. What it was; its places are
    /// still to be given to somebody.
    fn drop_stalest(&self, for_known: bool, full: &[bool], now: Instant) -> Option<Kind> {
        let kinds = |known| full.iter().map(|&full| Kind { known, full }).collect::<Vec<_>>();
        let (socket, origin, kind) = {
            let mut all = self.handshakes.borrow_mut();
            let mut key = all.stalest(&kinds(false), now, Guest::is_silent);
            if key.is_none() && for_known {
                key = all.stalest(&kinds(true), now, Guest::is_silent);
            }
            let key = key?;
            let kind = all.unlink(key)?;
            let guest = all.get_mut(key);
            guest.shed = Some(ShedReason::Stale);
            (guest.socket.clone(), guest.origin, kind)
        };
        self.budgets.handshake_ended(origin, kind);
        self.budgets.metrics.shed(ShedReason::Stale);
        socket.cancel();
        Some(kind)
    }
}

/// Leave to ask for the first turn; dropping it calls the next one of the line.
#[derive(Debug)]
pub struct Called(Option<Rc<Door>>);

impl Drop for Called {
    fn drop(&mut self) {
        if let Some(door) = self.0.take() {
            door.call_next();
        }
    }
}

/// A connection's place among all that are open; dropping it gives it back.
#[derive(Debug)]
pub struct ConnectionPlace(Arc<Budgets>);

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        self.0.connections.give_back();
    }
}

/// A handshake's place among those in flight; dropping it gives it back. It may be taken away:
/// whoever has waited for the client asks [`HandshakePlace::shed`] then.
#[derive(Debug)]
pub struct HandshakePlace {
    door: Rc<Door>,
    key: usize,
}

impl HandshakePlace {
    /// Why its client was turned away, if it was: the place is gone then.
    pub fn shed(&self) -> Option<ShedReason> {
        self.door.handshakes.borrow().get(self.key).shed
    }

    /// Waits in line until its handshake may begin: for nothing, where nobody is ahead.
    pub async fn called(&self) -> Called {
        let door = &self.door;
        if door.line.borrow_mut().pass() {
            return Called(Some(door.clone()));
        }
        let (sender, receiver) = oneshot::channel();
        let (origin, known) = {
            let all = door.handshakes.borrow();
            let guest = all.get(self.key);
            (guest.origin, guest.known)
        };
        door.line.borrow_mut().join(origin, known, sender, Instant::now());
        // The line holds the other end until it calls.
        receiver.await.unwrap_or(Called(None))
    }

    /// Whether it has a place among the full handshakes, or had one when it was turned away.
    pub fn is_full(&self) -> bool {
        self.door.handshakes.borrow().get(self.key).full
    }

    /// It is the client's turn until the answer is dropped.
    pub fn waits(&self) -> ClientsTurn<'_> {
        self.door.handshakes.borrow_mut().set_waits(self.key, true);
        ClientsTurn(self)
    }

    /// A whole flight of the client's was taken and answered.
    pub fn got_on(&self) {
        self.got_on_at(Instant::now());
    }

    fn got_on_at(&self, now: Instant) {
        let mut all = self.door.handshakes.borrow_mut();
        if let Some(kind) = all.kind(self.key) {
            all.got_on(self.key, kind, now);
        }
    }

    /// Takes a place among the full handshakes, once. Without one it is turned away, and false.
    pub fn take_full(&self) -> bool {
        self.take_full_at(Instant::now())
    }

    fn take_full_at(&self, now: Instant) -> bool {
        let (door, budgets) = (&self.door, &*self.door.budgets);
        // Without a kind, it was turned away.
        let Some(kind) = door.handshakes.borrow().kind(self.key) else { return false };
        if kind.full {
            return true;
        }
        if budgets.full.take(kind.known).is_err() && !door.make_room_among_full(kind.known, now) {
            self.turn_away(ShedReason::Full);
            return false;
        }
        budgets.metrics.full_handshake_began();
        let mut all = door.handshakes.borrow_mut();
        all.got_on(self.key, Kind { full: true, ..kind }, now);
        all.get_mut(self.key).full = true;
        true
    }

    /// Whether so many are shaking hands that a client may have lost its patience.
    pub fn is_crowded(&self) -> bool {
        self.door.is_crowded()
    }

    fn leave(&self) {
        let (kind, origin) = {
            let mut all = self.door.handshakes.borrow_mut();
            (all.unlink(self.key), all.get(self.key).origin)
        };
        let Some(kind) = kind else { return };
        let budgets = &*self.door.budgets;
        budgets.handshake_ended(origin, kind);
        budgets.handshakes.give_back(kind.known);
        if kind.full {
            budgets.full.give_back(kind.known);
        }
    }

    fn turn_away(&self, reason: ShedReason) {
        self.leave();
        self.door.handshakes.borrow_mut().get_mut(self.key).shed = Some(reason);
        self.door.budgets.metrics.shed(reason);
    }
}

impl Drop for HandshakePlace {
    fn drop(&mut self) {
        self.leave();
        self.door.handshakes.borrow_mut().remove(self.key);
    }
}

/// It is the client's turn; dropping this, ours.
#[derive(Debug)]
pub struct ClientsTurn<'p>(&'p HandshakePlace);

impl Drop for ClientsTurn<'_> {
    fn drop(&mut self) {
        self.0.door.handshakes.borrow_mut().set_waits(self.0.key, false);
    }
}
