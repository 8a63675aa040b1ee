//! A new generation: built and checked whole, then swapped in, or not at all.

use std::{collections::HashSet, net::SocketAddr, sync::Arc};

use super::{
    App, StartError,
    start::{self, Bound, bind_new, max_connections},
};
use crate::{config::Config, crls::Before, generation::Generation, resumption::SessionStore};

/// A generation that is ready to be served.
pub(super) struct Prepared {
    generation: Generation,
    sessions: SessionStore,
    bound: Bound,
    max_connections: usize,
}

impl App {
    /// Loads the configuration again and makes all that it needs, without any effect yet. What
    /// can't change while the process runs (workers, admin address, log) keeps its value, and
    /// is said so.
    pub(super) fn prepare(&self) -> Result<Prepared, StartError> {
        let config = Config::load_from(&self.path, &self.disk)?;
        let max_connections = max_connections(&config, self.descriptors)?;
        self.warn_of_fixed(&config);
        let number = self.generation.number + 1;
        let before = Before { stores: Some(&self.generation.stores), copies: None };
        let metrics = &self.snapshot.metrics;
        let sessions = self.sessions.next(&config.resumption, &self.cache_metrics);
        let sessions = sessions.map_err(StartError::Tickets)?;
        let generation = Generation::new(number, config, metrics, &sessions, &self.usage, before)?;
        for warning in &generation.config.warnings {
            tracing::warn!("{warning}");
        }
        let open: HashSet<SocketAddr> = self
            .generation
            .services
            .iter()
            .flat_map(|service| service.config.listen.iter().copied())
            .collect();
        let bound = bind_new(&generation, |address| open.contains(&address), self.workers.len())?;
        Ok(Prepared { generation, sessions, bound, max_connections })
    }

    /// Serves a prepared generation to new connections.
    pub(super) fn commit(&mut self, prepared: Prepared) -> Result<(), StartError> {
        let Prepared { generation, sessions, bound, max_connections } = prepared;
        let limits = start::admission_limits(&generation.config, max_connections);
        self.process.budgets.set_limits(limits);
        self.forget_expiry();
        let kept_before = std::mem::replace(&mut self.sessions, sessions);
        self.generation = Arc::new(generation);
        self.crls.retarget(start::crl_targets(&self.generation, &self.snapshot.metrics));
        self.apply(bound)?;
        kept_before.give_way(&self.sessions);
        self.publish_expiry();
        Ok(())
    }

    fn warn_of_fixed(&self, next: &Config) {
        let now = &self.generation.config;
        let fixed = [
            ("accel", now.accel != next.accel),
            ("workers.cpus", now.workers != next.workers),
            ("admin.listen", now.admin != next.admin),
            ("log", now.log != next.log),
        ];
        for (key, _) in fixed.iter().filter(|(_, changed)| *changed) {
            tracing::warn!(key, "changed in the file; that takes effect at the next start");
        }
    }
}
