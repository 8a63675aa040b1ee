//! The rule by which a session goes on, wherever it is kept: it never outlives what it rests on.
//!
//! What is kept of a session begins with a header that binds it to its listener, to the trust
//! policy that admitted the client, to the server name that the client asked for, and to the time
//! when it proved who it is. A session that doesn't fit is vetoed before rustls resumes anything:
//! the client gets a full handshake, and its refusal there if it is due.

use std::{sync::Arc, time::Duration};

use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;
use zeroize::Zeroizing;

use super::{
    context::{self, Context, Lineage},
    policy_tag::{PolicyTag, session_tag},
};
use crate::metrics::ResumptionOutcome;

/// Most bytes of a session that is kept. A session holds the client's whole chain, and where it is
/// sealed into a ticket, the client has to send that back within a ClientHello of
/// [`MAX_CLIENT_HELLO_BYTES`](super::MAX_CLIENT_HELLO_BYTES), beside 2 kB of all else. A client
/// with a longer chain makes full handshakes.
pub(super) const MAX_SESSION_BYTES: usize = 8 * 1024;

/// Sessions that are looked at of those that a client offers in one handshake. Clients offer one;
/// a ClientHello has room for hundreds, each of which would cost some microseconds.
const MAX_SESSIONS_OFFERED: u8 = 4;

/// Tag, time of authentication and end of validity (seconds since 1970, big endian).
const HEADER_BYTES: usize = 32 + 8 + 8;

/// The rule of one listener.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) policy: PolicyTag,
    /// How long a session may be resumed after the client proved who it is, however often it is
    /// resumed on the way. It holds for sessions that began under another limit too.
    pub(super) max_age: Duration,
    /// That of rustls.
    pub(super) time: Arc<dyn TimeProvider>,
}

/// A session that may be kept.
pub(super) struct Sealable {
    /// Header and session.
    pub(super) plain: Zeroizing<Vec<u8>>,
    /// What the header says.
    pub(super) lineage: Lineage,
    /// Whether it was itself resumed from another one.
    pub(super) came_back: bool,
    /// Whether it is one of TLS 1.3.
    pub(super) is_tls13: bool,
    /// When that was.
    pub(super) now: UnixTime,
}

impl Rule {
    /// What is kept of a session that was just agreed on; `None` if none may be.
    pub(super) fn enclose(&self, session: &[u8]) -> Option<Sealable> {
        if session.len() > MAX_SESSION_BYTES {
            return None;
        }
        let now = self.time.current_time()?;
        context::current(|context| {
            let lineage = self.lineage_of(context, now)?;
            let mut plain = Zeroizing::new(Vec::with_capacity(HEADER_BYTES + session.len()));
            plain.extend_from_slice(&self.header(lineage, context.server_name.as_deref()));
            plain.extend_from_slice(session);
            let came_back = context.lineage.is_some();
            let is_tls13 = context.secrets.is_complete();
            Some(Sealable { plain, lineage, came_back, is_tls13, now })
        })?
    }

    /// A session that a client offers, which `find` gets from where it is kept, at a time in
    /// seconds since 1970; `None` if it must not go on. What became of it is noted.
    pub(super) fn disclose<P: AsRef<[u8]>>(
        &self,
        find: impl FnOnce(u64) -> Option<P>,
    ) -> Option<Vec<u8>> {
        let now = self.time.current_time()?;
        let offered = context::current(|context| {
            context.offered = context.offered.saturating_add(1);
            context.offered
        })?;
        if offered > MAX_SESSIONS_OFFERED {
            return None;
        }
        let plain = find(now.as_secs());
        let admitted = context::current(|context| {
            let name = context.server_name.as_deref();
            let admitted = plain.as_ref().and_then(|plain| self.admit(plain.as_ref(), name, now));
            context.lineage = admitted.map(|(lineage, _)| lineage);
            context.ticket = Some(match (&plain, admitted) {
                (None, _) => ResumptionOutcome::Unknown,
                (Some(_), None) => ResumptionOutcome::Vetoed,
                (Some(_), Some(_)) => ResumptionOutcome::Resumed,
            });
            admitted
        })?;
        admitted.map(|(_, session)| session.to_vec())
    }

    fn header(&self, lineage: Lineage, server_name: Option<&str>) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..32].copy_from_slice(&session_tag(&self.policy, server_name));
        header[32..40].copy_from_slice(&lineage.authenticated_at.as_secs().to_be_bytes());
        header[40..].copy_from_slice(&lineage.valid_until.as_secs().to_be_bytes());
        header
    }

    /// The lineage and what rustls calls the session, or `None` if it must not go on at `now`, for
    /// a client that asks for that name.
    fn admit<'a>(
        &self,
        plain: &'a [u8],
        server_name: Option<&str>,
        now: UnixTime,
    ) -> Option<(Lineage, &'a [u8])> {
        let (header, session) = plain.split_first_chunk::<HEADER_BYTES>()?;
        let (tag, times) = header.split_first_chunk::<32>()?;
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
        let fits = *tag == session_tag(&self.policy, server_name);
        (fits && in_time).then_some((lineage, session))
    }

    /// The last second in which a session may be resumed whose client proved then who it is.
    fn oldest_end(&self, authenticated_at: UnixTime) -> UnixTime {
        let seconds = authenticated_at.as_secs().saturating_add(self.max_age.as_secs());
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    /// When the session that `context` has just agreed on ends.
    fn lineage_of(&self, context: &Context, now: UnixTime) -> Option<Lineage> {
        let limit = self.oldest_end(now);
        let valid_until = match (&context.decision, context.lineage) {
            // A certificate that was shown counts, also after a session that was offered in vain.
            (Some(Ok(permit)), _) => permit.valid_until().map_or(limit, |until| until.min(limit)),
            (Some(Err(_)), _) => return None,
            (None, Some(lineage)) => return Some(lineage),
            (None, None) => limit,
        };
        Some(Lineage { authenticated_at: now, valid_until })
    }
}

#[cfg(test)]
mod tests {
    use rustls::time_provider::DefaultTimeProvider;

    use super::*;

    const NAME: Option<&str> = Some("www.contoso.test");

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    fn rule(policy: u8) -> Rule {
        let time = Arc::new(DefaultTimeProvider);
        Rule { policy: [policy; 32], max_age: Duration::from_secs(10_000), time }
    }

    fn plain(of: &Rule, authenticated_at: u64, valid_until: u64) -> Vec<u8> {
        let lineage =
            Lineage { authenticated_at: at(authenticated_at), valid_until: at(valid_until) };
        [&of.header(lineage, NAME)[..], b"session"].concat()
    }

    #[test]
    fn a_session_goes_on_until_the_second_in_which_its_proof_ends() {
        let ours = rule(1);
        let plain = plain(&ours, 1000, 2000);
        assert_eq!(ours.admit(&plain, NAME, at(2000)).expect("in time").1, b"session");
        assert_eq!(ours.admit(&plain, NAME, at(2001)), None);
    }

    #[test]
    fn a_limit_that_was_lowered_holds_for_sessions_that_exist() {
        let plain = plain(&rule(1), 1000, 9000);
        let lowered = Rule { max_age: Duration::from_secs(60), ..rule(1) };
        assert!(lowered.admit(&plain, NAME, at(1060)).is_some());
        assert_eq!(lowered.admit(&plain, NAME, at(1061)), None);
    }

    #[test]
    fn a_limit_that_was_raised_lengthens_no_session_that_exists() {
        let plain = plain(&rule(1), 1000, 9000);
        let raised = Rule { max_age: Duration::from_secs(100_000), ..rule(1) };
        assert!(raised.admit(&plain, NAME, at(9000)).is_some());
        assert_eq!(raised.admit(&plain, NAME, at(9001)), None);
    }

    #[test]
    fn a_session_from_the_future_is_vetoed() {
        let ours = rule(1);
        assert_eq!(ours.admit(&plain(&ours, 1000, 2000), NAME, at(999)), None);
    }

    #[test]
    fn a_session_of_another_policy_is_vetoed() {
        let plain = plain(&rule(1), 1000, 2000);
        assert_eq!(rule(2).admit(&plain, NAME, at(1500)), None);
    }

    /// Before the key agreement, so that it costs nothing that counts.
    #[test]
    fn a_session_of_another_server_name_is_vetoed() {
        let ours = rule(1);
        let plain = plain(&ours, 1000, 2000);
        assert!(ours.admit(&plain, NAME, at(1500)).is_some());
        for name in [Some("ftp.contoso.test"), Some(""), None] {
            assert_eq!(ours.admit(&plain, name, at(1500)), None, "{name:?}");
        }
    }

    #[test]
    fn a_session_too_short_for_its_header_is_vetoed() {
        assert_eq!(rule(1).admit(&[1; HEADER_BYTES - 1], NAME, at(1)), None);
    }

    #[test]
    fn a_resumed_session_keeps_the_lineage_it_came_from() {
        let lineage = Lineage { authenticated_at: at(10), valid_until: at(20) };
        let context = Context { lineage: Some(lineage), ..Context::default() };
        assert_eq!(rule(1).lineage_of(&context, at(15)), Some(lineage));
    }

    #[test]
    fn an_anonymous_session_ends_at_the_maximal_age() {
        let lineage = rule(1).lineage_of(&Context::default(), at(100)).expect("a session");
        assert_eq!(lineage.valid_until, at(10_100));
    }

    /// What is offered costs time before anything is proved.
    #[test]
    fn of_many_sessions_that_a_client_offers_a_few_are_looked_at() {
        let ours = rule(1);
        let mut looked = 0;
        context::enter(&mut Some(Box::<Context>::default()), || {
            for _ in 0..100 {
                let found = ours.disclose(|_| {
                    looked += 1;
                    None::<Vec<u8>>
                });
                assert_eq!(found, None);
            }
        });
        assert_eq!(looked, MAX_SESSIONS_OFFERED);
    }

    #[test]
    fn outside_of_a_handshake_nothing_is_kept_and_nothing_given() {
        let ours = rule(1);
        assert!(ours.enclose(b"session").is_none());
        let now = UnixTime::now().as_secs();
        assert_eq!(ours.disclose(|_| Some(plain(&ours, now - 1, now + 60))), None);
    }
}
