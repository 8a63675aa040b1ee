//! The register of a worker's live connections, and the end of those whose time is up, or whose
//! authorisation is.
//!
//! A connection has one deadline at a time, by its phase and its permit. Deadlines lie in an
//! ordered set in ticks of [`TICK`]; activity doesn't touch the set (a busy connection only writes
//! a cell): when a deadline comes up it is computed anew and, if it moved, put back.
//!
//! Each connection holds on to its listener's gate, which has the terms of the newest generation.
//! When these change, or the CRLs, or the wall clock is stepped, a round of decisions begins:
//! everybody who was admitted is decided about again, from what the handshake has proved. Whoever
//! is still shaking hands is decided about when that is done.
//!
//! All of it is done in slices, with a pause after each, so that no other connection waits for
//! long.

mod clock;
mod enforcement;
mod gate;
mod session;
#[cfg(test)]
mod tests;

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeSet, HashMap},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use slab::Slab;

use clock::{Clock, ticks};
use enforcement::{Loss, Sweep};
use gate::{Decision, Gate};
use session::Due;

pub use clock::{TICK, Tick};
pub use enforcement::{Swept, alert};
pub use gate::Terms;
pub use session::{Phase, Session, SessionLimits};

use crate::{
    metrics::CloseCause,
    quota::{OverLimit, Share},
    ring::Socket,
    trust::{Permit, Policy, Refused},
};

/// Most connections that are looked at in one turn: at some 3 µs each, 1.5 ms.
const DECISIONS_A_TURN: usize = 512;

/// Most connections that are ended in one turn. Their last words follow before the next one: some
/// 20 system calls each.
const ENDS_A_TURN: usize = 64;

/// Ticks between two rounds of decisions that nobody asked for, one minute: a CRL may begin to
/// count by time alone.
const ROUND_TICKS: Tick = 600;

/// How long everybody else has the worker between two turns. A real pause: it is when what was
/// begun gets to the kernel.
pub const PAUSE: Duration = Duration::from_millis(1);

/// All live connections of one worker.
#[derive(Debug)]
pub struct Sessions {
    began: Instant,
    clock: Rc<Clock>,
    live: RefCell<Slab<Entry>>,
    due: RefCell<BTreeSet<(Tick, usize)>>,
    /// The listeners of the newest generation, and closed ones that still have connections.
    gates: RefCell<HashMap<Arc<str>, Rc<Gate>>>,
    /// Counts the rounds of decisions.
    round: Cell<u32>,
    /// When the last one began.
    round_began: Cell<Tick>,
    sweep: RefCell<Sweep>,
}

#[derive(Debug)]
struct Entry {
    session: Rc<Session>,
    /// Its place in the ordered set.
    scheduled: Option<Tick>,
}

/// What is left of a turn.
struct Turn {
    decisions: usize,
    ends: usize,
}

impl Turn {
    fn is_over(&self) -> bool {
        self.decisions == 0 || self.ends == 0
    }

    fn note(&mut self, ended: bool) {
        self.decisions -= 1;
        self.ends -= usize::from(ended);
    }
}

impl Sessions {
    /// An empty register.
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            began: Instant::now(),
            clock: Rc::new(Clock::starting_at(clock::wall_ms())),
            live: RefCell::default(),
            due: RefCell::default(),
            gates: RefCell::default(),
            round: Cell::default(),
            round_began: Cell::default(),
            sweep: RefCell::default(),
        })
    }

    /// Registers a connection that was just accepted for `listener`, whose `terms` it was accepted
    /// under. If no generation has that listener any more, it is ended at once.
    pub fn open(
        self: &Rc<Self>,
        client: Rc<Socket>,
        limits: SessionLimits,
        listener: &Arc<str>,
        terms: impl FnOnce() -> Terms,
    ) -> Registration {
        let known = self.gates.borrow().get(listener).cloned();
        let gate = known.unwrap_or_else(|| {
            let gate = Gate::new(listener.clone(), terms());
            gate.close();
            Rc::new(gate)
        });
        let (clock, round) = (self.clock.clone(), self.round.get());
        let session = Rc::new(Session::new(client, limits, gate, clock, round));
        if session.gate.is_closed() {
            session.end(CloseCause::ListenerRemoved);
        }
        let entry = Entry { session: session.clone(), scheduled: None };
        let key = self.live.borrow_mut().insert(entry);
        self.schedule(key);
        Registration { sessions: self.clone(), key, session }
    }

    /// Connections that are live now.
    pub fn len(&self) -> usize {
        self.live.borrow().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Live connections are held to the terms of a new generation from now on: these, by the
    /// listener's name. Whose listener isn't among them has lost it.
    pub fn apply(&self, terms: impl IntoIterator<Item = (Arc<str>, Terms)>) {
        let mut gates = self.gates.borrow_mut();
        let mut old = std::mem::take(&mut *gates);
        for (listener, terms) in terms {
            let gate = match old.remove(&listener) {
                Some(gate) => {
                    gate.renew(terms);
                    gate
                }
                None => Rc::new(Gate::new(listener.clone(), terms)),
            };
            gates.insert(listener, gate);
        }
        // Who is still connected to a listener that is gone is held to it if it comes back.
        old.retain(|_, gate| {
            gate.close();
            Rc::strong_count(gate) > 1
        });
        gates.extend(old);
        drop(gates);
        self.recheck();
    }

    /// Everybody who is admitted is to be decided about again: something that decisions depend on
    /// has changed. [`Sessions::work`] does it.
    pub fn recheck(&self) {
        self.round.set(self.round.get().wrapping_add(1));
        self.round_began.set(self.clock.tick());
        self.sweep.borrow_mut().begin(self.live.borrow().capacity());
    }

    /// Advances the clock; call it every [`TICK`], and then [`Sessions::work`] while there is any.
    pub fn tick(&self) {
        self.advance(ticks(self.began.elapsed()), clock::wall_ms());
    }

    fn advance(&self, now: Tick, wall_ms: i64) {
        if self.clock.advance(now, wall_ms) {
            tracing::warn!("the clock was set: live connections are looked at again");
            self.recheck();
        } else if now.saturating_sub(self.round_began.get()) >= ROUND_TICKS {
            self.recheck();
        }
    }

    /// Whether something is due, or somebody is to be decided about.
    pub fn has_work(&self) -> bool {
        !self.sweep.borrow().is_over() || self.next_due().is_some()
    }

    fn next_due(&self) -> Option<usize> {
        let due = self.due.borrow().first().copied();
        due.filter(|(tick, _)| *tick <= self.clock.tick()).map(|(_, key)| key)
    }

    /// Does a turn of what there is to do, and ends who is to be ended. What a round of decisions
    /// came to, if this was its last turn.
    pub fn work(&self) -> Option<Swept> {
        let mut turn = Turn { decisions: DECISIONS_A_TURN, ends: ENDS_A_TURN };
        while !turn.is_over()
            && let Some(key) = self.next_due()
        {
            turn.note(self.expire(key));
        }
        if self.sweep.borrow().is_over() {
            return None;
        }
        while !turn.is_over() {
            let Some(place) = self.sweep.borrow_mut().next() else { break };
            if let Some(ended) = self.visit(place) {
                turn.note(ended);
                self.sweep.borrow_mut().note(ended);
            }
        }
        let sweep = self.sweep.borrow();
        sweep.is_over().then(|| sweep.progress())
    }

    /// Does what is due for a connection; whether that ended it.
    fn expire(&self, key: usize) -> bool {
        let (session, now) = (self.live.borrow()[key].session.clone(), self.clock.tick());
        match session.deadline() {
            Some((tick, Due::Close(cause))) if tick <= now => {
                self.place(key, None);
                session.end(cause);
                true
            }
            Some((tick, Due::Decision)) if tick <= now => {
                let ended = self.decide(&session);
                let next = session.deadline().filter(|_| !ended);
                // Whatever was decided, time goes on.
                self.place(key, next.map(|(tick, _)| tick.max(now.saturating_add(1))));
                ended
            }
            later => {
                self.place(key, later.map(|(tick, _)| tick));
                false
            }
        }
    }

    /// Decides about the connection in that place, unless it has been through this round; whether
    /// that ended it.
    fn visit(&self, place: usize) -> Option<bool> {
        let session = self.live.borrow().get(place)?.session.clone();
        if session.round.get() == self.round.get() || !session.is_live() {
            return None;
        }
        let ended = self.decide(&session);
        if !ended {
            self.schedule(place);
        }
        Some(ended)
    }

    /// Decides again about a connection; whether that ended it.
    fn decide(&self, session: &Session) -> bool {
        if !session.is_live() {
            return false;
        }
        let Some(permit) = session.permit() else {
            // Whoever shakes hands is decided about after that, if there still is a listener.
            if session.gate.is_closed() {
                session.end(CloseCause::ListenerRemoved);
            }
            return session.gate.is_closed();
        };
        session.round.set(self.round.get());
        let loss = match session.gate.decide(&permit, self.clock.unix_time()) {
            Decision::Admitted(permit) => {
                session.keep(permit);
                return false;
            }
            Decision::Refused(refused) => Loss::of(&refused, session.drains()),
            Decision::Closed => Some(Loss::of_listener()),
        };
        match loss {
            Some(loss) => session.lose(loss),
            None => {
                session.go_on();
                false
            }
        }
    }

    /// Ends every connection.
    pub fn end_all(&self, cause: CloseCause) {
        let all: Vec<_> = self.live.borrow().iter().map(|(_, e)| e.session.clone()).collect();
        for session in all {
            session.end(cause);
        }
    }

    fn schedule(&self, key: usize) {
        let (deadline, scheduled) = {
            let entry = &self.live.borrow()[key];
            (entry.session.deadline().map(|(tick, _)| tick), entry.scheduled)
        };
        let earlier = match (deadline, scheduled) {
            (Some(deadline), Some(scheduled)) => deadline < scheduled,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if earlier {
            self.place(key, deadline);
        }
    }

    fn place(&self, key: usize, tick: Option<Tick>) {
        let mut live = self.live.borrow_mut();
        let mut due = self.due.borrow_mut();
        if let Some(old) = live[key].scheduled.take() {
            due.remove(&(old, key));
        }
        if let Some(tick) = tick {
            live[key].scheduled = Some(tick);
            due.insert((tick, key));
        }
    }
}

/// A connection's place in the register; dropping it takes the connection out.
#[derive(Debug)]
pub struct Registration {
    sessions: Rc<Sessions>,
    key: usize,
    session: Rc<Session>,
}

/// Why a client that was admitted in its handshake isn't let in after all.
#[derive(Debug)]
pub enum NotAdmitted {
    /// The listener's newest terms refuse it.
    Refused(Refused),
    /// The connection was ended meanwhile; [`Session::ended`] says why.
    Ended,
}

impl Registration {
    /// The connection.
    pub fn session(&self) -> &Rc<Session> {
        &self.session
    }

    /// Takes what `policy` has decided in the handshake, and holds the connection to it from here
    /// on. If anything has changed since the handshake began, it is decided about again first:
    /// nobody slips through between two generations, or two CRLs.
    ///
    /// # Errors
    /// Whoever isn't admitted now. [`enforce`](crate::config::Enforce) doesn't matter here:
    /// nothing was begun that could be cut off.
    pub fn admit(&self, policy: &Arc<Policy>, permit: Permit) -> Result<Permit, NotAdmitted> {
        let (sessions, session) = (&self.sessions, &self.session);
        if session.ended().is_some() {
            return Err(NotAdmitted::Ended);
        }
        let is_newest = session.round.get() == sessions.round.get()
            && !session.gate.is_closed()
            && Arc::ptr_eq(policy, &session.gate.terms().policy);
        let permit = if is_newest {
            permit
        } else {
            match session.gate.decide(&permit, sessions.clock.unix_time()) {
                Decision::Admitted(newest) => {
                    session.keep(permit);
                    newest
                }
                Decision::Refused(refused) => return Err(NotAdmitted::Refused(refused)),
                Decision::Closed => {
                    session.end(CloseCause::ListenerRemoved);
                    return Err(NotAdmitted::Ended);
                }
            }
        };
        session.round.set(sessions.round.get());
        session.keep(permit.clone());
        sessions.schedule(self.key);
        Ok(permit)
    }

    /// Gives the connection its share of the peer set that has just [admitted](Self::admit) it, by
    /// the limits of the generation that did.
    ///
    /// # Errors
    /// Which limit is reached.
    pub fn share(&self, peer_set: &str) -> Result<Share, OverLimit> {
        self.session.gate.terms().quotas.take(peer_set)
    }

    /// The connection goes on to another phase, which starts its clock.
    pub fn enter(&self, phase: Phase) {
        self.session.enter(phase);
        self.sessions.schedule(self.key);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.sessions.place(self.key, None);
        self.sessions.live.borrow_mut().remove(self.key);
    }
}
