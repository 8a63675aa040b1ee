//! How much company an operation may expect: the handshakes of a worker, but for those whose
//! client hasn't said anything yet, or has been waited for too long. However many silent clients
//! there are, nobody waits for them.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    time::{Duration, Instant},
};

/// So long after it was answered, a client may be expected to go on; its next flight may well come
/// while a batch waits for company. It is some round trips of a local network; with clients that
/// are farther away or slower, those count of which enough come in such a time anyway.
const LATELY: Duration = Duration::from_millis(10);

/// The handshakes of a worker.
#[derive(Default)]
pub(super) struct Company {
    all: Cell<usize>,
    /// Of these, those that wait for their client.
    waiting: Cell<usize>,
    clients: RefCell<Clients>,
}

impl Company {
    /// A handshake begins.
    pub(super) fn enter(&self) {
        self.all.set(self.all.get() + 1);
    }

    /// It is over.
    pub(super) fn leave(&self) {
        self.all.set(self.all.get() - 1);
    }

    /// From now on it waits for its client, until the answer is dropped.
    pub(super) fn wait(self: &Rc<Self>, has_spoken: bool, now: Instant) -> ClientsTurn {
        self.waiting.set(self.waiting.get() + 1);
        let number = has_spoken.then(|| self.clients.borrow_mut().begin(now));
        ClientsTurn { company: self.clone(), number }
    }

    /// All handshakes, whatever they do.
    pub(super) fn all(&self) -> usize {
        self.all.get()
    }

    /// How many handshakes go on, or may be expected to.
    pub(super) fn size(&self, now: Instant) -> usize {
        self.all.get() - self.waiting.get() + self.clients.borrow_mut().count(now)
    }
}

/// It is a client's turn until this is dropped.
pub(crate) struct ClientsTurn {
    company: Rc<Company>,
    /// None if it doesn't count.
    number: Option<usize>,
}

impl Drop for ClientsTurn {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.company.clients.borrow_mut().end(number);
        }
        self.company.waiting.set(self.company.waiting.get() - 1);
    }
}

/// The clients that were answered lately and have yet to go on.
#[derive(Default)]
struct Clients {
    /// When they were answered, in this order; none for those who have gone on.
    answered: VecDeque<Option<Instant>>,
    /// The number of the first of these.
    first: usize,
    /// How many haven't gone on.
    expected: usize,
}

impl Clients {
    fn begin(&mut self, now: Instant) -> usize {
        self.forget(now);
        self.answered.push_back(Some(now));
        self.expected += 1;
        self.first.wrapping_add(self.answered.len() - 1)
    }

    fn end(&mut self, number: usize) {
        // Whoever was forgotten has a number before the first.
        let place = self.answered.get_mut(number.wrapping_sub(self.first));
        if place.is_some_and(|place| place.take().is_some()) {
            self.expected -= 1;
        }
    }

    fn count(&mut self, now: Instant) -> usize {
        self.forget(now);
        self.expected
    }

    /// Drops those from the front who have gone on or were answered too long ago.
    fn forget(&mut self, now: Instant) {
        let is_over = |since: Instant| now.saturating_duration_since(since) >= LATELY;
        while let Some(&front) = self.answered.front().filter(|front| front.is_none_or(is_over)) {
            self.answered.pop_front();
            self.first = self.first.wrapping_add(1);
            self.expected -= usize::from(front.is_some());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn company() -> (Rc<Company>, Instant) {
        (Rc::default(), Instant::now())
    }

    /// A handshake that goes on, so that a client's turn can begin.
    fn wait(company: &Rc<Company>, has_spoken: bool, now: Instant) -> ClientsTurn {
        company.enter();
        company.wait(has_spoken, now)
    }

    #[test]
    fn a_client_that_has_said_nothing_is_no_company() {
        let (company, now) = company();
        let silent: Vec<_> = (0..100).map(|_| wait(&company, false, now)).collect();
        assert_eq!(company.size(now), 0);
        drop(silent);
        assert_eq!(company.size(now), 100, "all have spoken");
    }

    #[test]
    fn a_client_that_was_answered_is_expected_for_a_while() {
        let (company, now) = company();
        let early = wait(&company, true, now);
        let late = wait(&company, true, now + LATELY / 2);
        assert_eq!(company.size(now + LATELY / 2), 2);
        assert_eq!(company.size(now + LATELY), 1);
        assert_eq!(company.size(now + 2 * LATELY), 0);
        drop((early, late));
        assert_eq!(company.size(now + 2 * LATELY), 2, "both go on");
    }

    #[test]
    fn clients_go_on_in_any_order_and_are_counted_once() {
        let (company, now) = company();
        let mut turns: Vec<_> = (0..8).map(|_| wait(&company, true, now)).collect();
        for _ in 0..3 {
            drop(turns.swap_remove(1));
            company.leave();
            assert_eq!(company.size(now), turns.len());
        }
        turns.push(wait(&company, true, now + LATELY));
        assert_eq!(company.size(now + LATELY), 1);
        for turn in turns {
            drop(turn);
            company.leave();
        }
        assert_eq!(company.size(now + LATELY), 0);
        assert_eq!(company.clients.borrow().answered.len(), 0);
    }
}
