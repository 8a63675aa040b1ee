//! What all workers share: budgets and the process' own counters.

use std::sync::Arc;

use crate::{
    admission::{Budgets, Limits},
    metrics::ProcessMetrics,
};

/// Shared by all workers.
#[derive(Debug)]
pub struct Process {
    /// Where it is counted.
    pub metrics: Arc<ProcessMetrics>,
    /// Distinguishes the connection ids of this run from those of others.
    pub run_id: u32,
    /// How many connections and handshakes there is room for.
    pub budgets: Arc<Budgets>,
}

impl Process {
    /// With limits on open connections and on handshakes in flight.
    pub fn new(metrics: ProcessMetrics, run_id: u32, limits: Limits) -> Self {
        let metrics = Arc::new(metrics);
        let budgets = Budgets::new(metrics.clone(), limits);
        Self { metrics, run_id, budgets }
    }
}
