//! A session never outlives its authorisation: what a live connection can lose, what its client
//! is told, and who is looked at when.

use rustls::AlertDescription;

use crate::{
    metrics::{CloseCause, Termination},
    ring::Socket,
    trust::{Permit, Refusal, Refused},
};

/// That a live connection isn't authorised any more.
#[derive(Debug)]
pub(super) struct Loss {
    pub(super) reason: Termination,
    /// For the operator.
    pub(super) detail: String,
}

impl Loss {
    /// What a refusal means for a connection that is live, and perhaps drains since it has lost
    /// something before; `None` if it goes on.
    pub(super) fn of(refused: &Refused, before: Option<Termination>) -> Option<Self> {
        let reason = reason(refused.reason).or(before)?;
        Some(Self { reason, detail: refused.to_string() })
    }

    /// Says so, for a listener that only logs it.
    pub(super) fn log(&self, client: &Socket, permit: Option<&Permit>, listener: &str) {
        let address = client.options().peer_addr().ok().and_then(|address| address.as_socket());
        let peer = permit.and_then(Permit::peer);
        tracing::warn!(
            listener,
            client = address.map(tracing::field::display),
            peers = peer.map(|peer| &**peer.peer_set()),
            name = peer.map(|peer| tracing::field::display(peer.matched_name())),
            reason = self.reason.as_str(),
            detail = self.detail,
            "a live connection is not authorised any more; it goes on, since enforce = \"log\""
        );
    }
}

/// What is lost with which refusal. That a CRL is missing or out of date is no cause to end
/// anything: the certificate isn't known to be bad, and one outage would cut every connection.
/// Limits are about who comes, not about who is there.
fn reason(refusal: Refusal) -> Option<Termination> {
    match refusal {
        Refusal::RevocationUnknown | Refusal::CrlStale | Refusal::OverLimit => None,
        Refusal::Expired | Refusal::NotYetValid => Some(Termination::Expired),
        Refusal::Revoked => Some(Termination::Revoked),
        Refusal::UnknownIssuer | Refusal::NameNotAllowedForCa => Some(Termination::CaRemoved),
        Refusal::Blocked => Some(Termination::Blocked),
        Refusal::NoCertificate
        | Refusal::WrongKeyUsage
        | Refusal::BadSignature
        | Refusal::NameNotListed
        | Refusal::KeyNotPinned
        | Refusal::WeakKey
        | Refusal::ChainTooLong
        | Refusal::Malformed
        | Refusal::NameConstraint
        | Refusal::PathTooComplex
        | Refusal::UnsupportedAlgorithm
        | Refusal::UnknownCriticalExtension => Some(Termination::RuleRemoved),
    }
}

/// What the client of a connection that was ended for `cause` is told (RFC 8446 §6.2); `None` if
/// an orderly end says all.
pub fn alert(cause: CloseCause) -> Option<AlertDescription> {
    match cause {
        CloseCause::Expired => Some(AlertDescription::CertificateExpired),
        CloseCause::Revoked => Some(AlertDescription::CertificateRevoked),
        CloseCause::CaRemoved => Some(AlertDescription::UnknownCA),
        CloseCause::RuleRemoved | CloseCause::Blocked | CloseCause::ListenerRemoved => {
            Some(AlertDescription::AccessDenied)
        }
        _ => None,
    }
}

/// Who is still to be decided about again, in a circle over the places of the register: a round
/// that begins before the last one is through goes on where that is, so that however often it
/// happens everybody gets a turn.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// Places to visit; whoever comes later was decided about by the newest terms.
    places: usize,
    next: usize,
    left: usize,
    progress: Swept,
}

/// What a round of decisions came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// Connections that were looked at.
    pub looked_at: usize,
    /// Those that were ended.
    pub ended: usize,
}

impl Sweep {
    /// All `places` are to be visited.
    pub(super) fn begin(&mut self, places: usize) {
        if self.left == 0 {
            self.progress = Swept::default();
        }
        (self.places, self.left) = (places, places);
    }

    pub(super) fn is_over(&self) -> bool {
        self.left == 0
    }

    /// The next place.
    pub(super) fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        if self.next >= self.places {
            self.next = 0;
        }
        self.next += 1;
        Some(self.next - 1)
    }

    /// Somebody was decided about.
    pub(super) fn note(&mut self, ended: bool) {
        self.progress.looked_at += 1;
        self.progress.ended += usize::from(ended);
    }

    /// What it has come to so far.
    pub(super) fn progress(&self) -> Swept {
        self.progress
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_visited_once_however_many_there_are() {
        let mut sweep = Sweep::default();
        for places in [0, 1, 7, 3] {
            sweep.begin(places);
            let mut visited: Vec<_> = std::iter::from_fn(|| sweep.next()).collect();
            visited.sort_unstable();
            assert_eq!(visited, (0..places).collect::<Vec<_>>());
        }
    }

    #[test]
    fn rounds_that_begin_all_the_time_keep_nobody_from_their_turn() {
        let mut sweep = Sweep::default();
        let mut visited = Vec::new();
        for _ in 0..10 {
            sweep.begin(5);
            visited.extend(sweep.next());
        }
        assert_eq!(visited, [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]);
        assert!(!sweep.is_over());
    }

    #[test]
    fn what_cannot_be_told_of_a_certificate_ends_no_live_connection() {
        for &refusal in Refusal::ALL {
            let goes_on = matches!(
                refusal,
                Refusal::RevocationUnknown | Refusal::CrlStale | Refusal::OverLimit
            );
            assert_eq!(reason(refusal).is_none(), goes_on, "{refusal}");
        }
    }

    #[test]
    fn a_client_that_loses_its_authorisation_is_told_by_a_fatal_alert() {
        for &reason in Termination::ALL {
            assert!(alert(reason.cause()).is_some(), "{}", reason.as_str());
        }
        assert_eq!(alert(CloseCause::IdleTimeout), None);
    }
}
