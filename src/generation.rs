//! One generation of the configuration, ready to serve; replaced whole by a reload.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rustls::{ServerConfig, server::ProducesTickets};
use rustls_pki_types::UnixTime;

use crate::{
    backend::Backend,
    config::{Config, Listener},
    crls::{self, Stamps},
    handshake,
    metrics::{BackendMetrics, ListenerMetrics, Metrics},
    quota::{Quotas, Usage},
    revocation::Stores,
    sessions::{SessionLimits, Terms},
    trust::{Policy, PolicyError, Refusal},
};

/// One listener of a generation with all that its connections need.
#[derive(Debug)]
pub struct Service {
    /// What the configuration says.
    pub config: Arc<Listener>,
    /// Who is admitted.
    pub policy: Arc<Policy>,
    /// rustls' configuration.
    pub tls: Arc<ServerConfig>,
    /// How much each peer set may use.
    pub quotas: Arc<Quotas>,
    /// Where plaintext goes.
    pub backend: Arc<Backend>,
    /// Where it is counted.
    pub metrics: Arc<ListenerMetrics>,
    /// How long its connections may do what.
    pub limits: SessionLimits,
    /// How long a connection that has lost its authorisation may go on where it drains.
    pub drain_timeout: Duration,
    /// Whether a line is logged for each connection that ends.
    pub log_connections: bool,
}

impl Service {
    /// What its live connections are held to, from the beginning on and whenever it changes.
    pub fn terms(&self) -> Terms {
        Terms {
            policy: self.policy.clone(),
            enforce: self.config.enforce,
            drain_timeout: self.drain_timeout,
            metrics: self.metrics.clone(),
        }
    }
}

/// One generation of the configuration.
#[derive(Debug)]
pub struct Generation {
    /// Counts from 1.
    pub number: u64,
    /// What it was made from.
    pub config: Arc<Config>,
    /// Its listeners, in the order of the configuration.
    pub services: Vec<Arc<Service>>,
    /// The CRLs of each trust profile.
    pub stores: Stores,
    /// What the files of CRLs looked like when they were read.
    pub crl_stamps: Stamps,
}

/// A valid configuration that can't be served; each is a gap in the configuration's checks.
#[derive(Debug, thiserror::Error)]
pub enum GenerationError {
    /// The trust profiles of a listener don't make a policy.
    #[error("listener {listener}: {error}")]
    Policy {
        /// Its name.
        listener: Arc<str>,
        /// What is wrong.
        error: PolicyError,
    },
    /// rustls refuses the TLS settings of a listener.
    #[error("listener {listener}: the TLS settings can't be served: {error}")]
    Tls {
        /// Its name.
        listener: Arc<str>,
        /// What is wrong.
        error: rustls::Error,
    },
}

impl Generation {
    /// Makes everything that `config` names, and nothing that is visible outside yet. Its CRLs
    /// begin with what is known `before`; what is odd about them is added to the warnings.
    ///
    /// # Errors
    /// The first listener that can't be served.
    pub fn new(
        number: u64,
        mut config: Config,
        metrics: &Metrics,
        tickets: &Arc<dyn ProducesTickets>,
        usage: &Arc<Usage>,
        before: crls::Before<'_>,
    ) -> Result<Self, GenerationError> {
        // The stores have them from here on: a configuration outlives many a CRL.
        let loaded = std::mem::take(&mut config.crls);
        let crls::Made { stores, stamps: crl_stamps, warnings } =
            crls::make(&config, loaded, before, UnixTime::now());
        config.warnings.extend(warnings);
        let refusals: Vec<_> = Refusal::ALL.iter().map(|reason| reason.as_str()).collect();
        let backends: BTreeMap<_, _> = config
            .backends
            .iter()
            .map(|(name, backend)| {
                let counters = BackendMetrics::new(metrics, name);
                (name.clone(), Arc::new(Backend::new(backend.clone(), counters)))
            })
            .collect();
        let limits = SessionLimits {
            handshake: config.limits.handshake_timeout,
            idle: config.limits.idle_timeout,
            half_open: config.limits.half_open_timeout,
            lifetime: config.limits.max_lifetime,
        };
        let quotas = Quotas::new(usage, &config);
        let mut services = Vec::new();
        for listener in &config.listeners {
            let policy =
                Policy::new(listener.client_auth, &listener.peers, &stores).map_err(|error| {
                    GenerationError::Policy { listener: listener.name.clone(), error }
                })?;
            let policy = Arc::new(policy);
            let session_age = config.limits.max_session_age;
            let tls = handshake::server_config(listener, &policy, tickets, session_age)
                .map_err(|error| GenerationError::Tls { listener: listener.name.clone(), error })?;
            services.push(Arc::new(Service {
                config: listener.clone(),
                policy,
                tls,
                quotas: quotas.clone(),
                backend: backends[&listener.backend.name].clone(),
                metrics: Arc::new(ListenerMetrics::new(metrics, &listener.name, &refusals)),
                limits,
                drain_timeout: config.limits.drain_timeout,
                log_connections: config.log.connections,
            }));
        }
        Ok(Self { number, config: Arc::new(config), services, stores, crl_stamps })
    }
}
