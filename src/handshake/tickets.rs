//! Stateless session tickets that never outlive what they rest on.
//!
//! rustls' ticketer encrypts and rotates its keys; what it encrypts for us begins with a header
//! that binds the session to its listener, to the trust policy that admitted the client, and to
//! the time when the client proved who it is. A ticket that doesn't fit is vetoed before rustls
//! resumes anything: the client gets a full handshake, and its refusal there if it is due.

use std::{sync::Arc, time::Duration};

use rustls::{server::ProducesTickets, time_provider::TimeProvider};
use rustls_pki_types::UnixTime;

use super::context::{self, Context, Lineage};
use crate::metrics::ResumptionOutcome;

/// Most bytes of a session that goes into a ticket. A session holds the client's whole chain, and
/// the client has to send the ticket back within a ClientHello of
/// [`MAX_CLIENT_HELLO_BYTES`](super::MAX_CLIENT_HELLO_BYTES), beside 2 kB of all else. A client
/// with a longer chain gets no ticket and makes full handshakes.
pub(super) const MAX_SESSION_BYTES: usize = 8 * 1024;

/// SHA-256 of all that a listener's decision depends on.
pub(super) type PolicyTag = [u8; 32];

/// Tag, time of authentication and end of validity (seconds since 1970, big endian).
const HEADER_BYTES: usize = 32 + 8 + 8;

/// The tickets of one listener.
#[derive(Debug)]
pub(super) struct Tickets {
    /// Shared by all listeners and generations, so that a reload keeps sessions alive.
    pub(super) encryption: Arc<dyn ProducesTickets>,
    pub(super) policy: PolicyTag,
    /// How long a session may be resumed after the client proved who it is, however often it is
    /// resumed on the way. It holds for tickets that were given under another limit too.
    pub(super) max_age: Duration,
    /// That of rustls.
    pub(super) time: Arc<dyn TimeProvider>,
}

impl Tickets {
    fn header(&self, lineage: Lineage) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..32].copy_from_slice(&self.policy);
        header[32..40].copy_from_slice(&lineage.authenticated_at.as_secs().to_be_bytes());
        header[40..].copy_from_slice(&lineage.valid_until.as_secs().to_be_bytes());
        header
    }

    /// The lineage and what rustls encrypted, or `None` if this session must not go on at `now`.
    fn admit<'a>(&self, plain: &'a [u8], now: UnixTime) -> Option<(Lineage, &'a [u8])> {
        let (header, session) = plain.split_first_chunk::<HEADER_BYTES>()?;
        let (policy, times) = header.split_first_chunk::<32>()?;
        let (authenticated_at, valid_until) = times.split_first_chunk::<8>()?;
        let time = |bytes: [u8; 8]| {
            UnixTime::since_unix_epoch(Duration::from_secs(u64::from_be_bytes(bytes)))
        };
        let lineage = Lineage {
            authenticated_at: time(*authenticated_at),
            valid_until: time(valid_until.try_into().ok()?),
        };
        let end = lineage.valid_until.min(self.oldest_end(lineage.authenticated_at));
        let in_time = now <= end && now >= lineage.authenticated_at;
        (policy == &self.policy && in_time).then_some((lineage, session))
    }

    /// The last second in which a session may be resumed whose client proved then who it is.
    fn oldest_end(&self, authenticated_at: UnixTime) -> UnixTime {
        let seconds = authenticated_at.as_secs().saturating_add(self.max_age.as_secs());
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    /// When the session that `context` has just agreed on ends.
    fn lineage_of(&self, context: &Context, now: UnixTime) -> Option<Lineage> {
        if let Some(lineage) = context.lineage {
            return Some(lineage);
        }
        let limit = self.oldest_end(now);
        let valid_until = match &context.decision {
            Some(Ok(permit)) => permit.valid_until().map_or(limit, |until| until.min(limit)),
            Some(Err(_)) => return None,
            None => limit,
        };
        Some(Lineage { authenticated_at: now, valid_until })
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        self.encryption.enabled()
    }

    fn lifetime(&self) -> u32 {
        let max_age = u32::try_from(self.max_age.as_secs()).unwrap_or(u32::MAX);
        self.encryption.lifetime().min(max_age)
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        if session.len() > MAX_SESSION_BYTES {
            return None;
        }
        let now = self.time.current_time()?;
        let lineage = context::current(|context| self.lineage_of(context, now))??;
        let mut plain = zeroize::Zeroizing::new(Vec::with_capacity(HEADER_BYTES + session.len()));
        plain.extend_from_slice(&self.header(lineage));
        plain.extend_from_slice(session);
        self.encryption.encrypt(&plain)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let plain = self.encryption.decrypt(ticket).map(zeroize::Zeroizing::new);
        let admitted =
            plain.as_ref().and_then(|plain| self.admit(plain, self.time.current_time()?));
        context::current(|context| {
            context.lineage = admitted.map(|(lineage, _)| lineage);
            context.ticket = Some(match (&plain, admitted) {
                (None, _) => ResumptionOutcome::Unknown,
                (Some(_), None) => ResumptionOutcome::Vetoed,
                (Some(_), Some(_)) => ResumptionOutcome::Resumed,
            });
        });
        admitted.map(|(_, session)| session.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use rustls::time_provider::DefaultTimeProvider;

    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    fn tickets(policy: u8) -> Tickets {
        let encryption = rustls::crypto::aws_lc_rs::Ticketer::new().expect("ticketer");
        let time = Arc::new(DefaultTimeProvider);
        Tickets { encryption, policy: [policy; 32], max_age: Duration::from_secs(10_000), time }
    }

    fn plain(of: &Tickets, authenticated_at: u64, valid_until: u64) -> Vec<u8> {
        let lineage =
            Lineage { authenticated_at: at(authenticated_at), valid_until: at(valid_until) };
        [&of.header(lineage)[..], b"session"].concat()
    }

    #[test]
    fn a_session_goes_on_until_the_second_in_which_its_proof_ends() {
        let ours = tickets(1);
        let plain = plain(&ours, 1000, 2000);
        assert_eq!(ours.admit(&plain, at(2000)).expect("in time").1, b"session");
        assert_eq!(ours.admit(&plain, at(2001)), None);
    }

    #[test]
    fn a_ticket_from_the_future_is_vetoed() {
        let ours = tickets(1);
        assert_eq!(ours.admit(&plain(&ours, 1000, 2000), at(999)), None);
    }

    #[test]
    fn a_ticket_of_another_policy_is_vetoed() {
        let plain = plain(&tickets(1), 1000, 2000);
        assert_eq!(tickets(2).admit(&plain, at(1500)), None);
    }

    #[test]
    fn a_ticket_too_short_for_its_header_is_vetoed() {
        assert_eq!(tickets(1).admit(&[1; HEADER_BYTES - 1], at(1)), None);
    }

    #[test]
    fn a_resumed_session_keeps_the_lineage_it_came_from() {
        let lineage = Lineage { authenticated_at: at(10), valid_until: at(20) };
        let context = Context { lineage: Some(lineage), ..Context::default() };
        assert_eq!(tickets(1).lineage_of(&context, at(15)), Some(lineage));
    }

    #[test]
    fn a_session_that_no_client_hello_has_room_for_gets_no_ticket() {
        let mut context = Some(Box::<Context>::default());
        context::enter(&mut context, || {
            let ours = tickets(1);
            let ticket = ours.encrypt(&[0; MAX_SESSION_BYTES]).expect("it fits");
            assert!(ticket.len() < crate::handshake::machine::MAX_CLIENT_HELLO_BYTES - 4096);
            assert!(ours.encrypt(&[0; MAX_SESSION_BYTES + 1]).is_none());
        });
    }

    #[test]
    fn an_anonymous_session_ends_at_the_maximal_age() {
        let lineage = tickets(1).lineage_of(&Context::default(), at(100)).expect("a ticket");
        assert_eq!(lineage.valid_until, at(10_100));
    }
}
