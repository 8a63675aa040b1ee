//! What a listener's live connections are held to: always its newest generation.

use std::{
    cell::{Cell, Ref, RefCell},
    sync::Arc,
    time::Duration,
};

use rustls_pki_types::UnixTime;

use super::enforcement::Loss;
use crate::{
    config::Enforce,
    metrics::{ListenerMetrics, Termination},
    quota::Quotas,
    trust::{Permit, Policy, Refused},
};

/// What a generation holds the live connections of one listener to.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Who may be connected.
    pub policy: Arc<Policy>,
    /// What happens to a connection that may not be any more.
    pub enforce: Enforce,
    /// How many of each peer set may be.
    pub quotas: Arc<Quotas>,
    /// How long one that drains may go on.
    pub drain_timeout: Duration,
    /// Where it is counted.
    pub metrics: Arc<ListenerMetrics>,
}

/// A listener, by its name, in whatever generation. Its connections hold on to it, so that they
/// are held to the newest terms.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) listener: Arc<str>,
    /// Those of the last generation that had the listener.
    terms: RefCell<Terms>,
    /// No generation has it any more.
    closed: Cell<bool>,
}

/// What a decision about a live connection comes to.
pub(super) enum Decision {
    /// It is admitted.
    Admitted(Permit),
    /// It isn't, by the policy.
    Refused(Refused),
    /// Nobody is: the listener is gone.
    Closed,
}

impl Gate {
    pub(super) fn new(listener: Arc<str>, terms: Terms) -> Self {
        Self { listener, terms: RefCell::new(terms), closed: Cell::new(false) }
    }

    /// The listener's terms from now on, also if it was gone for a while.
    pub(super) fn renew(&self, terms: Terms) {
        *self.terms.borrow_mut() = terms;
        self.closed.set(false);
    }

    /// A generation came without the listener.
    pub(super) fn close(&self) {
        self.closed.set(true);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    pub(super) fn terms(&self) -> Ref<'_, Terms> {
        self.terms.borrow()
    }

    /// Decides again, from what the permit's path has proved.
    pub(super) fn decide(&self, permit: &Permit, now: UnixTime) -> Decision {
        if self.is_closed() {
            return Decision::Closed;
        }
        match self.terms().policy.decide_again(permit, now) {
            Ok(permit) => Decision::Admitted(permit),
            Err(refused) => Decision::Refused(refused),
        }
    }
}

impl Loss {
    pub(super) fn of_listener() -> Self {
        let detail = "a reload removed the listener".to_owned();
        Self { reason: Termination::ListenerRemoved, detail }
    }
}
