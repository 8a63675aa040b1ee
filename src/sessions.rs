//! The register of a worker's live connections, and the end of those whose time is up.
//!
//! A connection has one deadline at a time, by its phase. Deadlines lie in an ordered set in
//! ticks of [`TICK`]; activity doesn't touch the set (a busy connection only writes a cell):
//! when a deadline comes up it is computed anew and, if it moved, put back.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    rc::Rc,
    time::{Duration, Instant},
};

use slab::Slab;

use crate::{metrics::CloseCause, ring::Socket};

/// How fine deadlines are; a limit may be overrun by that much.
pub const TICK: Duration = Duration::from_millis(100);

/// Ticks of [`TICK`] since the register was made.
pub type Tick = u32;

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

/// One live connection.
#[derive(Debug)]
pub struct Session {
    client: Rc<Socket>,
    backend: RefCell<Option<Rc<Socket>>>,
    limits: SessionLimits,
    phase: Cell<Phase>,
    opened: Tick,
    /// When the phase began or the last byte moved.
    active: Cell<Tick>,
    clock: Rc<Cell<Tick>>,
    ended: Cell<Option<CloseCause>>,
}

impl Session {
    /// A byte moved.
    pub fn touch(&self) {
        self.active.set(self.clock.get());
    }

    /// The register's clock, in ticks.
    pub fn now(&self) -> Tick {
        self.clock.get()
    }

    /// Ticks that have passed since [`Session::now`] said `then`.
    pub fn ticks_since(&self, then: Tick) -> Tick {
        self.clock.get().saturating_sub(then)
    }

    /// From here on the connection's end also ends `backend`.
    pub fn attach(&self, backend: Rc<Socket>) {
        *self.backend.borrow_mut() = Some(backend);
    }

    /// Why it was ended from outside, if it was.
    pub fn ended(&self) -> Option<CloseCause> {
        self.ended.get()
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

    /// When its time is up, as things stand, and why.
    fn deadline(&self) -> Option<(Tick, CloseCause)> {
        let after = |since: Tick, limit: Duration| since.saturating_add(ticks(limit));
        let active = self.active.get();
        let phase = match self.phase.get() {
            Phase::Handshake => {
                Some((after(self.opened, self.limits.handshake), CloseCause::HandshakeFailed))
            }
            Phase::Dial => None,
            Phase::Relay => {
                self.limits.idle.map(|idle| (after(active, idle), CloseCause::IdleTimeout))
            }
            Phase::HalfOpen => {
                Some((after(active, self.limits.half_open), CloseCause::HalfOpenTimeout))
            }
            Phase::Linger => Some((after(active, LINGER), CloseCause::Complete)),
        };
        let lifetime = self
            .limits
            .lifetime
            // A handshake has a limit of its own, and last words get their moment too.
            .filter(|_| !matches!(self.phase.get(), Phase::Handshake | Phase::Linger))
            .map(|lifetime| (after(self.opened, lifetime), CloseCause::MaxLifetime));
        phase.into_iter().chain(lifetime).min_by_key(|(tick, _)| *tick)
    }
}

/// All live connections of one worker.
#[derive(Debug)]
pub struct Sessions {
    began: Instant,
    clock: Rc<Cell<Tick>>,
    live: RefCell<Slab<Entry>>,
    due: RefCell<BTreeSet<(Tick, usize)>>,
}

#[derive(Debug)]
struct Entry {
    session: Rc<Session>,
    /// Its place in the ordered set.
    scheduled: Option<Tick>,
}

impl Sessions {
    /// An empty register.
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            began: Instant::now(),
            clock: Rc::default(),
            live: RefCell::default(),
            due: RefCell::default(),
        })
    }

    /// Registers a connection that was just accepted.
    pub fn open(self: &Rc<Self>, client: Rc<Socket>, limits: SessionLimits) -> Registration {
        let now = self.clock.get();
        let session = Rc::new(Session {
            client,
            backend: RefCell::default(),
            limits,
            phase: Cell::new(Phase::Handshake),
            opened: now,
            active: Cell::new(now),
            clock: self.clock.clone(),
            ended: Cell::default(),
        });
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

    /// Advances the clock and ends what is due; call it every [`TICK`].
    pub fn tick(&self) {
        self.advance(ticks(self.began.elapsed()));
    }

    fn advance(&self, now: Tick) {
        self.clock.set(now);
        loop {
            let due = self.due.borrow().first().copied();
            match due {
                Some((tick, key)) if tick <= now => self.expire(key, now),
                _ => break,
            }
        }
    }

    fn expire(&self, key: usize, now: Tick) {
        let session = self.live.borrow()[key].session.clone();
        match session.deadline() {
            Some((tick, cause)) if tick <= now => {
                self.place(key, None);
                session.end(cause);
            }
            later => self.place(key, later.map(|(tick, _)| tick)),
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

impl Registration {
    /// The connection.
    pub fn session(&self) -> &Rc<Session> {
        &self.session
    }

    /// The connection goes on to another phase, which starts its clock.
    pub fn enter(&self, phase: Phase) {
        self.session.phase.set(phase);
        self.session.touch();
        self.sessions.schedule(self.key);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.sessions.place(self.key, None);
        self.sessions.live.borrow_mut().remove(self.key);
    }
}

/// Whole ticks, rounded up, so that no limit is cut short.
fn ticks(duration: Duration) -> Tick {
    Tick::try_from(duration.as_millis().div_ceil(TICK.as_millis())).unwrap_or(Tick::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: SessionLimits = SessionLimits {
        handshake: Duration::from_secs(10),
        idle: Some(Duration::from_secs(60)),
        half_open: Duration::from_secs(5),
        lifetime: Some(Duration::from_secs(100)),
    };

    /// Runs `test` on a ring of its own, with one registered connection.
    fn with_session(test: impl FnOnce(Rc<Sessions>, Registration)) {
        crate::ring::run(async {
            let sessions = Sessions::new();
            let (one, _other) = std::os::unix::net::UnixStream::pair().expect("socket pair");
            let registration = sessions.open(Socket::new(one.into()), LIMITS);
            test(sessions, registration);
        });
    }

    #[test]
    fn a_handshake_is_ended_by_one_total_deadline_whatever_is_received() {
        with_session(|sessions, registration| {
            for now in [50, 99] {
                registration.session().touch();
                sessions.advance(now);
                assert_eq!(registration.session().ended(), None);
            }
            sessions.advance(100);
            assert_eq!(registration.session().ended(), Some(CloseCause::HandshakeFailed));
        });
    }

    #[test]
    fn a_byte_moves_the_idle_limit_but_not_the_lifetime() {
        with_session(|sessions, registration| {
            registration.enter(Phase::Relay);
            sessions.advance(590);
            registration.session().touch();
            sessions.advance(999);
            assert_eq!(registration.session().ended(), None);
            sessions.advance(1000);
            assert_eq!(registration.session().ended(), Some(CloseCause::MaxLifetime));
        });
    }

    #[test]
    fn a_connection_at_the_end_of_its_lifetime_still_gets_its_last_words_out() {
        with_session(|sessions, registration| {
            registration.enter(Phase::Relay);
            sessions.advance(500);
            registration.session().touch();
            sessions.advance(1000);
            assert_eq!(registration.session().ended(), Some(CloseCause::MaxLifetime));
            registration.enter(Phase::Linger);
            assert_eq!(registration.session().deadline(), Some((1010, CloseCause::Complete)));
        });
    }

    #[test]
    fn an_idle_connection_is_ended_at_its_limit() {
        with_session(|sessions, registration| {
            registration.enter(Phase::Relay);
            sessions.advance(599);
            assert_eq!(registration.session().ended(), None);
            sessions.advance(600);
            assert_eq!(registration.session().ended(), Some(CloseCause::IdleTimeout));
        });
    }

    #[test]
    fn a_shorter_limit_of_a_later_phase_takes_effect_at_once() {
        with_session(|sessions, registration| {
            registration.enter(Phase::Relay);
            sessions.advance(10);
            registration.enter(Phase::HalfOpen);
            sessions.advance(60);
            assert_eq!(registration.session().ended(), Some(CloseCause::HalfOpenTimeout));
        });
    }

    #[test]
    fn a_connection_that_is_gone_leaves_nothing_behind() {
        with_session(|sessions, registration| {
            drop(registration);
            assert!(sessions.is_empty() && sessions.due.borrow().is_empty());
        });
    }

    #[test]
    fn the_first_cause_of_an_end_is_the_one_that_counts() {
        with_session(|sessions, registration| {
            registration.session().end(CloseCause::Drained);
            sessions.end_all(CloseCause::Internal);
            assert_eq!(registration.session().ended(), Some(CloseCause::Drained));
        });
    }
}
