//! Stateless session tickets: clients keep their sessions themselves, sealed with the header that
//! the [`Rule`] asks for.

use std::sync::Arc;

use rustls::server::ProducesTickets;
use zeroize::Zeroizing;

use super::rule::Rule;

/// The tickets of one listener.
#[derive(Debug)]
pub(super) struct Tickets {
    /// Shared by all listeners and generations, so that a reload keeps sessions alive.
    pub(super) encryption: Arc<dyn ProducesTickets>,
    pub(super) rule: Rule,
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        self.encryption.enabled()
    }

    fn lifetime(&self) -> u32 {
        let max_age = u32::try_from(self.rule.max_age.as_secs()).unwrap_or(u32::MAX);
        self.encryption.lifetime().min(max_age)
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        self.encryption.encrypt(&self.rule.enclose(session)?.plain)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.rule.disclose(|_| self.encryption.decrypt(ticket).map(Zeroizing::new))
    }
}
