//! A candidate configuration beside the one that serves: what it would have decided is counted and
//! logged, and changes nothing.
//!
//! Each decision about a client is also taken by the policy that the candidate has for the listener
//! of the same name. Whoever was admitted costs no signature where the candidate agrees: it judges
//! what the client's path has proved. Where it doesn't, and for whoever was refused, it decides
//! from scratch, so that another path of the client's counts as it would.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
};

use rustls_pki_types::{CertificateDer, UnixTime};

use crate::{
    config::ClientAuth,
    metrics::{ListenerMetrics, ShadowOutcome},
    trust::{Identity, Permit, Policy, Refused},
};

/// Disagreements that are logged in one second for one listener; the others are only counted.
const MAX_LINES_A_SECOND: u32 = 10;

/// What a candidate configuration makes of the clients of one listener.
#[derive(Debug)]
pub struct Shadow {
    listener: Arc<str>,
    /// Absent if the candidate has no such listener.
    candidate: Option<Candidate>,
    metrics: Arc<ListenerMetrics>,
    lines: Lines,
}

/// The listener of the candidate.
#[derive(Debug)]
pub struct Candidate {
    /// Its `client_auth`.
    pub client_auth: ClientAuth,
    /// Whom it admits.
    pub policy: Policy,
}

impl Shadow {
    /// For the listener of that name, with what the candidate has for it.
    pub fn new(
        listener: &Arc<str>,
        candidate: Option<Candidate>,
        metrics: &Arc<ListenerMetrics>,
    ) -> Self {
        let (listener, metrics) = (listener.clone(), metrics.clone());
        Self { listener, candidate, metrics, lines: Lines::default() }
    }

    /// Compares a decision that was taken at `now` about a client that showed `chain` (empty: no
    /// certificate) with what the candidate decides. Whatever goes wrong here is logged and ends
    /// here.
    pub fn observe(
        &self,
        chain: &[CertificateDer<'_>],
        decision: &Result<Permit, Refused>,
        now: UnixTime,
    ) {
        contain(&self.listener, || self.compare(chain, decision, now));
    }

    fn compare(
        &self,
        chain: &[CertificateDer<'_>],
        decision: &Result<Permit, Refused>,
        now: UnixTime,
    ) {
        let Some(candidate) = &self.candidate else {
            return self.metrics.shadow(ShadowOutcome::NoListener);
        };
        let other = candidate.decide(chain, decision.as_ref().ok(), now);
        let outcome = outcome(decision, &other);
        self.metrics.shadow(outcome);
        let agrees = matches!(outcome, ShadowOutcome::AgreeAdmit | ShadowOutcome::AgreeRefuse);
        if !agrees && let Some(unlogged) = self.lines.take(now) {
            self.tell(outcome, decision, &other, unlogged);
        }
    }

    fn tell(
        &self,
        outcome: ShadowOutcome,
        decision: &Result<Permit, Refused>,
        other: &Result<Permit, Refused>,
        unlogged: u64,
    ) {
        let identity = identity_of(decision);
        tracing::info!(
            listener = &*self.listener,
            outcome = outcome.as_str(),
            decision = describe(decision),
            candidate = describe(other),
            subject = identity.map(Identity::subject),
            issuer = identity.map(Identity::issuer),
            serial = identity.map(Identity::serial),
            unlogged,
            "the candidate decides otherwise"
        );
    }
}

impl Candidate {
    fn decide(
        &self,
        chain: &[CertificateDer<'_>],
        permit: Option<&Permit>,
        now: UnixTime,
    ) -> Result<Permit, Refused> {
        // Whoever isn't asked for a certificate shows none.
        let chain = if self.client_auth == ClientAuth::None { &[] } else { chain };
        if chain.is_empty() {
            return self.policy.without_certificate();
        }
        let proved = permit.filter(|permit| permit.peer().is_some());
        if let Some(again) = proved.and_then(|permit| self.policy.decide_again(permit, now).ok()) {
            return Ok(again);
        }
        match self.policy.admitted_before(chain, now) {
            Some(permit) => Ok(permit),
            None => self.policy.decide(chain, now),
        }
    }
}

/// Runs `compare`; a panic of its goes no further.
fn contain(listener: &str, compare: impl FnOnce()) {
    // What it leaves half done is a counter or a line of the log.
    if catch_unwind(AssertUnwindSafe(compare)).is_err() {
        tracing::error!(listener, "the candidate could not be asked: our own fault");
    }
}

fn outcome(
    decision: &Result<Permit, Refused>,
    candidate: &Result<Permit, Refused>,
) -> ShadowOutcome {
    match (decision, candidate) {
        (Ok(ours), Ok(theirs)) if set_of(ours) == set_of(theirs) => ShadowOutcome::AgreeAdmit,
        (Ok(_), Ok(_)) => ShadowOutcome::DiffersInPeer,
        (Err(_), Err(_)) => ShadowOutcome::AgreeRefuse,
        (Err(_), Ok(_)) => ShadowOutcome::WouldAdmit,
        (Ok(_), Err(_)) => ShadowOutcome::WouldRefuse,
    }
}

fn set_of(permit: &Permit) -> Option<&str> {
    permit.peer().map(|peer| &**peer.peer_set())
}

fn identity_of(decision: &Result<Permit, Refused>) -> Option<&Identity> {
    match decision {
        Ok(permit) => permit.peer().map(|peer| peer.identity()),
        Err(refused) => refused.identity.as_deref(),
    }
}

fn describe(decision: &Result<Permit, Refused>) -> String {
    match decision {
        Ok(permit) => match permit.peer() {
            Some(peer) => {
                format!("admitted: {} in peers.{}", peer.matched_name(), peer.peer_set())
            }
            None => "admitted: without a certificate".to_owned(),
        },
        Err(refused) => format!("refused: {refused}"),
    }
}

/// How many lines were logged in the second that was seen last. Two threads at the turn of a second
/// may log a line more.
#[derive(Debug, Default)]
struct Lines {
    second: AtomicU64,
    logged: AtomicU32,
    unlogged: AtomicU64,
}

impl Lines {
    /// If one more may be logged: how many have not been since the last one.
    fn take(&self, now: UnixTime) -> Option<u64> {
        if self.second.swap(now.as_secs(), Relaxed) != now.as_secs() {
            self.logged.store(0, Relaxed);
        }
        if self.logged.fetch_add(1, Relaxed) < MAX_LINES_A_SECOND {
            return Some(self.unlogged.swap(0, Relaxed));
        }
        self.unlogged.fetch_add(1, Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_log_takes_so_many_lines_a_second_and_tells_how_many_it_left_out() {
        let lines = Lines::default();
        let at = |second| UnixTime::since_unix_epoch(Duration::from_secs(second));
        let take = |second, times| -> Vec<Option<u64>> {
            (0..times).map(|_| lines.take(at(second))).collect()
        };
        let most = usize::try_from(MAX_LINES_A_SECOND).unwrap();
        let first = take(1, most + 7);
        assert!(first[..most].iter().all(|taken| *taken == Some(0)));
        assert!(first[most..].iter().all(Option::is_none));
        assert_eq!(take(2, 2), [Some(7), Some(0)]);
    }

    #[test]
    fn a_panic_while_the_candidate_is_asked_goes_no_further() {
        contain("main", || panic!("in the candidate's policy"));
    }
}
