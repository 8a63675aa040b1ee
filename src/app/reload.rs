//! A new generation: built and checked whole, then swapped in, or not at all.

use std::{collections::HashSet, net::SocketAddr, sync::Arc};

use super::{
    App, StartError,
    start::{bind_new, max_connections},
};
use crate::{config::Config, generation::Generation};

impl App {
    /// Loads the configuration again and serves it to new connections. What can't change while
    /// the process runs (workers, admin address, log) keeps its value, and is said so.
    pub(super) fn try_reload(&mut self) -> Result<(), StartError> {
        let config = Config::load(&self.path)?;
        let connections = max_connections(&config, self.descriptors)?;
        let handshakes = config.limits.max_handshakes;
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        self.warn_of_fixed(&config);
        let number = self.generation.number + 1;
        let next = Generation::new(number, config, &self.snapshot.metrics, &self.tickets)?;
        let open: HashSet<SocketAddr> = self
            .generation
            .services
            .iter()
            .flat_map(|service| service.config.listen.iter().copied())
            .collect();
        let bound = bind_new(&next, |address| open.contains(&address), self.workers.len())?;
        self.process.set_limits(connections, handshakes);
        self.generation = Arc::new(next);
        self.apply(bound)?;
        self.publish_expiry();
        Ok(())
    }

    fn warn_of_fixed(&self, next: &Config) {
        let now = &self.generation.config;
        let fixed = [
            ("workers.cpus", now.workers != next.workers),
            ("admin.listen", now.admin != next.admin),
            ("log", now.log != next.log),
        ];
        for (key, _) in fixed.iter().filter(|(_, changed)| *changed) {
            tracing::warn!(key, "changed in the file; that takes effect at the next start");
        }
    }
}
