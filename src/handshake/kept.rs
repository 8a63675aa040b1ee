//! Sessions that this process keeps, as rustls asks for them: TLS 1.3 by the random id that is the
//! client's ticket, TLS 1.2 by session id.

use std::sync::Arc;

use rustls::server::{ProducesTickets, StoresServerSessions};
use zeroize::Zeroizing;

use super::rule::Rule;
use crate::resumption::{Kept, SessionCache, Uses};

/// The sessions of one listener.
#[derive(Debug)]
pub(super) struct KeptSessions {
    /// Shared by all listeners and generations, so that a reload keeps sessions alive; `None`:
    /// none are kept.
    pub(super) cache: Option<Arc<SessionCache>>,
    pub(super) rule: Rule,
}

impl StoresServerSessions for KeptSessions {
    fn put(&self, id: Vec<u8>, session: Vec<u8>) -> bool {
        let session = Zeroizing::new(session);
        let Some(cache) = &self.cache else { return false };
        self.rule.enclose(&session).is_some_and(|mut sealable| {
            let kept = Kept {
                uses: if sealable.is_tls13 { Uses::Once } else { Uses::Many },
                ends_at_s: sealable.lineage.valid_until.as_secs(),
                came_back: sealable.came_back,
            };
            let plain = std::mem::take(&mut *sealable.plain).into_boxed_slice();
            cache.put(&id, Zeroizing::new(plain), kept, sealable.now.as_secs())
        })
    }

    fn get(&self, id: &[u8]) -> Option<Vec<u8>> {
        self.rule.disclose(|now_s| self.cache.as_ref()?.get(id, now_s))
    }

    fn take(&self, id: &[u8]) -> Option<Vec<u8>> {
        self.rule.disclose(|now_s| self.cache.as_ref()?.take(id, now_s))
    }

    fn can_cache(&self) -> bool {
        self.cache.is_some()
    }
}

/// Gives no tickets. A client may have one all the same, of another mode or another process.
#[derive(Debug)]
pub(super) struct NoTickets {
    pub(super) rule: Rule,
}

impl ProducesTickets for NoTickets {
    fn enabled(&self) -> bool {
        false
    }

    fn lifetime(&self) -> u32 {
        0
    }

    fn encrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn decrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        self.rule.disclose(|_| None::<Vec<u8>>)
    }
}
