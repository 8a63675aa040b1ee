//! One live connection, and until when it may go on.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use super::{
    clock::{Clock, NEVER, Tick, ticks},
    enforcement::Loss,
    gate::Gate,
};
use crate::{
    config::Enforce,
    metrics::{CloseCause, Termination},
    ring::Socket,
    trust::Permit,
};

/// How long a connection may do what.
#[derive(Debug, Clone, Copy)]
pub struct SessionLimits {
    /// From accept to the end of the handshake.
    pub handshake: Duration,
    /// Without a byte in either direction.
    pub idle: Option<Duration>,
    /// Without a byte after one side has ended its stream.
    pub half_open: Duration,
    /// Altogether.
    pub lifetime: Option<Duration>,
}

/// The same in ticks, [`NEVER`] for no limit: a connection keeps them.
#[derive(Debug)]
struct Limits {
    handshake: Tick,
    idle: Tick,
    half_open: Tick,
    lifetime: Tick,
}

impl From<SessionLimits> for Limits {
    fn from(limits: SessionLimits) -> Self {
        Self {
            handshake: ticks(limits.handshake),
            idle: limits.idle.map_or(NEVER, ticks),
            half_open: ticks(limits.half_open),
            lifetime: limits.lifetime.map_or(NEVER, ticks),
        }
    }
}

/// What a connection is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Until the client's Finished is verified.
    Handshake,
    /// Until a server of the backend is connected; that has its own time-out.
    Dial,
    /// Both directions are open.
    Relay,
    /// One direction has ended.
    HalfOpen,
    /// All is sent, the peer's own end is awaited for a moment.
    Linger,
}

/// How long the peer's end is awaited after a last alert, so that our close does not reset it
/// away (RFC 9112 §9.6 describes the problem).
const LINGER: Duration = Duration::from_secs(1);

/// How long a connection that drains must be without a byte for its work to count as done.
const DRAINED_AFTER: Duration = Duration::from_secs(1);

/// How soon a permit is looked at again whose end can't be told, because whether it is revoked
/// can't.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// What a connection's right to go on rests on.
#[derive(Debug, Default)]
enum Standing {
    /// Nothing yet.
    #[default]
    Handshaking,
    /// A decision that may be made again at any time.
    Admitted(Permit),
    /// Nothing any more: it is being ended.
    Lost(Box<Loss>),
}

/// What is due at a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Its time is up.
    Close(CloseCause),
    /// Its permit must be decided about again.
    Decision,
}

/// One live connection.
#[derive(Debug)]
pub struct Session {
    client: Rc<Socket>,
    backend: RefCell<Option<Rc<Socket>>>,
    pub(super) gate: Rc<Gate>,
    clock: Rc<Clock>,
    standing: RefCell<Standing>,
    limits: Limits,
    opened: Tick,
    /// When the phase began or the last byte moved.
    active: Cell<Tick>,
    /// When its permit has to be decided about again, whatever happens.
    look: Cell<Tick>,
    /// What it has lost, if it drains for that.
    drains: Cell<Option<Termination>>,
    /// When it ends at the latest then.
    drain_by: Cell<Tick>,
    /// The round of decisions that it has been through.
    pub(super) round: Cell<u32>,
    phase: Cell<Phase>,
    ended: Cell<Option<CloseCause>>,
    /// Reasons that were logged of a connection that goes on all the same, a bit each.
    told: Cell<u8>,
}

impl Session {
    pub(super) fn new(
        client: Rc<Socket>,
        limits: SessionLimits,
        gate: Rc<Gate>,
        clock: Rc<Clock>,
        round: u32,
    ) -> Self {
        let now = clock.tick();
        Self {
            client,
            backend: RefCell::default(),
            gate,
            clock,
            standing: RefCell::default(),
            limits: limits.into(),
            opened: now,
            active: Cell::new(now),
            look: Cell::new(NEVER),
            drains: Cell::default(),
            drain_by: Cell::new(NEVER),
            round: Cell::new(round),
            phase: Cell::new(Phase::Handshake),
            ended: Cell::default(),
            told: Cell::default(),
        }
    }

    /// A byte moved.
    pub fn touch(&self) {
        self.active.set(self.clock.tick());
    }

    /// The register's clock, in ticks.
    pub fn now(&self) -> Tick {
        self.clock.tick()
    }

    /// Ticks that have passed since [`Session::now`] said `then`.
    pub fn ticks_since(&self, then: Tick) -> Tick {
        self.clock.tick().saturating_sub(then)
    }

    /// From here on the connection's end also ends `backend`.
    pub fn attach(&self, backend: Rc<Socket>) {
        *self.backend.borrow_mut() = Some(backend);
    }

    /// Why it was ended from outside, if it was.
    pub fn ended(&self) -> Option<CloseCause> {
        self.ended.get()
    }

    /// What it lost, in words for the operator, if that is why it was ended. It is told once.
    pub fn take_loss(&self) -> Option<String> {
        match &mut *self.standing.borrow_mut() {
            Standing::Lost(loss) => Some(std::mem::take(&mut loss.detail)),
            Standing::Handshaking | Standing::Admitted(_) => None,
        }
    }

    /// Ends it: everything that waits on its sockets wakes with `ECANCELED`. The first cause
    /// counts.
    pub fn end(&self, cause: CloseCause) {
        if self.ended.get().is_none() {
            self.ended.set(Some(cause));
        }
        self.client.cancel();
        if let Some(backend) = &*self.backend.borrow() {
            backend.cancel();
        }
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.touch();
    }

    /// Whether there is anything left that could be ended.
    pub(super) fn is_live(&self) -> bool {
        self.ended.get().is_none() && self.phase.get() != Phase::Linger
    }

    /// What admitted it, once it is admitted.
    pub(super) fn permit(&self) -> Option<Permit> {
        match &*self.standing.borrow() {
            Standing::Admitted(permit) => Some(permit.clone()),
            Standing::Handshaking | Standing::Lost(_) => None,
        }
    }

    /// It is admitted, until the permit's end at least. Whoever has shown a certificate stays
    /// known by it where nobody asks for it any more: the next generation may ask again.
    pub(super) fn keep(&self, permit: Permit) {
        let look = permit.valid_until().map_or(NEVER, |until| self.clock.tick_after(until));
        self.look.set(look);
        self.drains.set(None);
        let is_known = self.permit().is_some_and(|shown| shown.peer().is_some());
        if permit.peer().is_some() || !is_known {
            *self.standing.borrow_mut() = Standing::Admitted(permit);
        }
    }

    /// What it has lost, if it drains for that.
    pub(super) fn drains(&self) -> Option<Termination> {
        self.drains.get()
    }

    /// It goes on as it is. A permit whose end has passed is looked at again soon.
    pub(super) fn go_on(&self) {
        self.drains.set(None);
        if self.look.get() <= self.now() {
            self.look.set(self.now().saturating_add(ticks(LOOK_AGAIN)));
        }
    }

    /// It has lost what it rests on; whether that ends it now.
    pub(super) fn lose(&self, loss: Loss) -> bool {
        let terms = self.gate.terms();
        // Nothing has been done for it yet that could be cut off.
        let enforce = match self.phase.get() {
            Phase::Handshake | Phase::Dial => Enforce::Close,
            _ => terms.enforce,
        };
        match enforce {
            Enforce::Drain if !self.is_drained(loss.reason, ticks(terms.drain_timeout)) => {
                return false;
            }
            Enforce::Close | Enforce::Drain => {}
            Enforce::Log => {
                if self.is_news(loss.reason) {
                    terms.metrics.tolerated(loss.reason);
                    loss.log(&self.client, self.permit().as_ref(), &self.gate.listener);
                }
                self.go_on();
                return false;
            }
        }
        terms.metrics.terminated(loss.reason);
        let cause = loss.reason.cause();
        *self.standing.borrow_mut() = Standing::Lost(Box::new(loss));
        self.end(cause);
        true
    }

    /// Begins to drain, or goes on draining; whether that is over.
    fn is_drained(&self, reason: Termination, timeout: Tick) -> bool {
        if self.drains.replace(Some(reason)).is_none() {
            self.drain_by.set(after(self.now(), timeout));
        }
        self.drained() <= self.now()
    }

    /// When a connection that drains is ended.
    fn drained(&self) -> Tick {
        after(self.active.get(), ticks(DRAINED_AFTER)).min(self.drain_by.get())
    }

    /// Whether this wasn't told of it before.
    fn is_news(&self, reason: Termination) -> bool {
        let bit = 1 << (reason as u8);
        let told = self.told.replace(self.told.get() | bit);
        told & bit == 0
    }

    /// When something is due, as things stand, and what.
    pub(super) fn deadline(&self) -> Option<(Tick, Due)> {
        let active = self.active.get();
        let (tick, cause) = match self.phase.get() {
            Phase::Handshake => {
                (after(self.opened, self.limits.handshake), CloseCause::HandshakeFailed)
            }
            Phase::Dial => (NEVER, CloseCause::BackendUnreachable),
            Phase::Relay => (after(active, self.limits.idle), CloseCause::IdleTimeout),
            Phase::HalfOpen => (after(active, self.limits.half_open), CloseCause::HalfOpenTimeout),
            Phase::Linger => (after(active, ticks(LINGER)), CloseCause::Complete),
        };
        let phase = (tick, Due::Close(cause));
        let first = match self.phase.get() {
            // A handshake has a limit of its own, and last words get their moment too.
            Phase::Handshake | Phase::Linger => Some(phase),
            Phase::Dial | Phase::Relay | Phase::HalfOpen => {
                let lifetime = after(self.opened, self.limits.lifetime);
                let decision = match self.drains.get() {
                    None => self.look.get(),
                    Some(_) => self.drained(),
                };
                let all = [
                    phase,
                    (lifetime, Due::Close(CloseCause::MaxLifetime)),
                    (decision, Due::Decision),
                ];
                all.into_iter().min_by_key(|(tick, _)| *tick)
            }
        };
        first.filter(|(tick, _)| *tick != NEVER)
    }
}

fn after(since: Tick, limit: Tick) -> Tick {
    since.saturating_add(limit)
}
