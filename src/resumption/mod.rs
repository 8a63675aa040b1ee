//! Where sessions are kept for clients that come back: in a [`SessionCache`] of this process, or
//! by the clients themselves, sealed into tickets.
//!
//! It knows nothing of what a session holds, nor whether it may go on: that is decided by whoever
//! asks for it. What is kept here outlives a reload, unless that changes where it is kept.

mod cache;
mod shard;
mod tickets;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use cache::SessionCache;
pub use shard::{Kept, SESSION_ID_LEN, Uses};
pub use tickets::Sealing;

use crate::{config::Resumption, metrics::CacheMetrics};

/// Where the sessions of all workers and listeners are kept.
#[derive(Debug, Clone)]
pub struct SessionStore {
    /// What it was made from.
    config: Resumption,
    place: SessionPlace,
}

/// The place itself.
#[derive(Debug, Clone)]
pub enum SessionPlace {
    /// Nowhere: every handshake is a full one.
    Nowhere,
    /// In this process.
    Here(Arc<SessionCache>),
    /// With the clients, sealed by this.
    Clients(Arc<Sealing>),
}

impl SessionStore {
    /// An empty one, which counts what it does in `metrics`.
    ///
    /// # Errors
    /// If the system gives no random bytes for ticket keys.
    pub fn new(config: &Resumption, metrics: &CacheMetrics) -> Result<Self, rustls::Error> {
        let place = match config {
            Resumption::Off => SessionPlace::Nowhere,
            Resumption::Cache { bytes } => {
                SessionPlace::Here(Arc::new(SessionCache::new(*bytes, metrics.clone())))
            }
            Resumption::Tickets { keys } if keys.is_empty() => {
                SessionPlace::Clients(Arc::new(Sealing::by_own_keys()?))
            }
            Resumption::Tickets { keys } => {
                SessionPlace::Clients(Arc::new(Sealing::by_shared_keys(keys)?))
            }
        };
        Ok(Self { config: config.clone(), place })
    }

    /// The one for the next configuration: the very same, with all that it keeps, unless the
    /// configuration has another mode, size, or keys.
    ///
    /// # Errors
    /// As [`SessionStore::new`].
    pub fn next(&self, config: &Resumption, metrics: &CacheMetrics) -> Result<Self, rustls::Error> {
        if *config == self.config { Ok(self.clone()) } else { Self::new(config, metrics) }
    }

    /// Forgets all sessions and keys, unless `next` has them. Connections of earlier generations
    /// may hold on to where they were for weeks.
    pub fn give_way(&self, next: &Self) {
        if next.config == self.config {
            return;
        }
        match &self.place {
            SessionPlace::Nowhere => {}
            SessionPlace::Here(cache) => cache.close(),
            SessionPlace::Clients(sealing) => sealing.close(),
        }
    }

    /// Where that is.
    pub fn place(&self) -> &SessionPlace {
        &self.place
    }

    /// Drops sessions that are over at `now_s` (seconds since 1970), some of them at a time, and
    /// publishes how many there are. Called every second or so.
    pub fn tidy(&self, now_s: u64, metrics: &CacheMetrics) {
        match &self.place {
            SessionPlace::Here(cache) => cache.tidy(now_s),
            SessionPlace::Nowhere | SessionPlace::Clients(_) => metrics.holds(0, 0),
        }
    }
}
