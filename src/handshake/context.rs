//! What rustls' callbacks learn about the handshake they are called for.
//!
//! rustls calls the verifier, the certificate resolver, the ticketer and the key log of a
//! configuration that many connections share, and doesn't say for which. The driver puts the
//! connection's context into this thread's slot around each call into rustls and takes it out
//! again, so the slot is never filled across an `await`.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use rustls_pki_types::UnixTime;

use super::certificates::CertificateAlgorithms;
use crate::{
    admission::HandshakePlace,
    metrics::{ResumptionOutcome, VerificationOutcome},
    record::TrafficSecretsCapture,
    trust::{Permit, Refused},
};

/// What one handshake has brought about so far.
#[derive(Default)]
pub(super) struct Context {
    /// Its place among the handshakes in flight; none is no limit.
    pub(super) place: Option<Rc<HandshakePlace>>,
    /// The trust decision about the certificate that the client showed in this handshake.
    pub(super) decision: Option<Result<Permit, Refused>>,
    /// Whether that chain had been verified before.
    pub(super) verification: Option<VerificationOutcome>,
    /// Which of our certificates the client was shown.
    pub(super) shown: Option<Arc<CertificateAlgorithms>>,
    /// The client's SNI, lower case.
    pub(super) server_name: Option<Box<str>>,
    /// Its SNI names no certificate of ours, and the listener is strict.
    pub(super) unknown_server_name: bool,
    /// How many sessions it has offered to resume.
    pub(super) offered: u8,
    /// What became of the session it offered.
    pub(super) ticket: Option<ResumptionOutcome>,
    /// That of the session that was accepted.
    pub(super) lineage: Option<Lineage>,
    /// The TLS 1.3 traffic secrets (RFC 8446 §7.1), for the record layer's key updates.
    pub(super) secrets: TrafficSecretsCapture,
}

/// How a session descends from a handshake with certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lineage {
    /// When the client proved who it is.
    pub(super) authenticated_at: UnixTime,
    /// When that proof ends, whatever is resumed.
    pub(super) valid_until: UnixTime,
}

thread_local! {
    static CURRENT: RefCell<Option<Box<Context>>> = const { RefCell::new(None) };
}

/// Runs `call` with `context` in the slot.
pub(super) fn enter<R>(context: &mut Option<Box<Context>>, call: impl FnOnce() -> R) -> R {
    /// Takes the context out again, also when rustls panics.
    struct Leave<'a>(&'a mut Option<Box<Context>>);
    impl Drop for Leave<'_> {
        fn drop(&mut self) {
            *self.0 = CURRENT.with(|slot| slot.borrow_mut().take());
        }
    }
    CURRENT.with(|slot| *slot.borrow_mut() = context.take());
    let _leave = Leave(context);
    call()
}

/// Puts a context into the slot and takes out what was there: for a call into rustls that pauses,
/// while calls for other connections run.
pub(super) fn exchange(context: Option<Box<Context>>) -> Option<Box<Context>> {
    CURRENT.with(|slot| std::mem::replace(&mut *slot.borrow_mut(), context))
}

/// Gives the callbacks the context of their handshake; `None` outside of one.
pub(super) fn current<R>(use_it: impl FnOnce(&mut Context) -> R) -> Option<R> {
    CURRENT.with(|slot| slot.borrow_mut().as_deref_mut().map(use_it))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callbacks_see_the_context_only_inside_of_the_call() {
        let mut context = Some(Box::<Context>::default());
        enter(&mut context, || current(|c| c.unknown_server_name = true)).expect("inside");
        assert!(current(|_| ()).is_none());
        assert!(context.expect("it is handed back").unknown_server_name);
    }

    #[test]
    fn a_panic_inside_leaves_no_context_for_the_next_connection() {
        let mut context = Some(Box::<Context>::default());
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            enter(&mut context, || panic!("in rustls"));
        }));
        assert!(caught.is_err() && context.is_some());
        assert!(current(|_| ()).is_none());
    }
}
