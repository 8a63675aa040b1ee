//! What all workers share: budgets and the process' own counters.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::metrics::{ProcessMetrics, ShedReason};

/// Shared by all workers.
#[derive(Debug)]
pub struct Process {
    /// Where it is counted.
    pub metrics: ProcessMetrics,
    /// Distinguishes the connection ids of this run from those of others.
    pub run_id: u32,
    connections: Budget,
    handshakes: Budget,
}

/// A count with a limit that a reload may change.
#[derive(Debug)]
struct Budget {
    used: AtomicUsize,
    limit: AtomicUsize,
}

impl Budget {
    fn take(&self) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        if self.used.fetch_add(1, Ordering::Relaxed) < limit {
            return true;
        }
        self.give_back();
        false
    }

    fn give_back(&self) {
        self.used.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Process {
    /// With limits on open connections and on handshakes in flight.
    pub fn new(
        metrics: ProcessMetrics,
        run_id: u32,
        max_connections: usize,
        max_handshakes: usize,
    ) -> Self {
        let budget = |limit| Budget { used: AtomicUsize::new(0), limit: AtomicUsize::new(limit) };
        Self {
            metrics,
            run_id,
            connections: budget(max_connections),
            handshakes: budget(max_handshakes),
        }
    }

    /// Changes the limits; what is open stays open.
    pub fn set_limits(&self, max_connections: usize, max_handshakes: usize) {
        self.connections.limit.store(max_connections, Ordering::Relaxed);
        self.handshakes.limit.store(max_handshakes, Ordering::Relaxed);
    }

    /// Admits a connection that was accepted, or counts the limit that sheds it.
    pub fn admit(self: &Arc<Self>) -> Option<Admission> {
        if !self.connections.take() {
            self.metrics.shed(ShedReason::Connections);
            return None;
        }
        if !self.handshakes.take() {
            self.connections.give_back();
            self.metrics.shed(ShedReason::Handshakes);
            return None;
        }
        self.metrics.handshake_began();
        Some(Admission { process: self.clone(), handshaking: true })
    }
}

/// An admitted connection's share of the budgets; dropping it gives them back.
#[derive(Debug)]
pub struct Admission {
    process: Arc<Process>,
    handshaking: bool,
}

impl Admission {
    /// The handshake is over.
    pub fn handshake_ended(&mut self) {
        if std::mem::take(&mut self.handshaking) {
            self.process.handshakes.give_back();
            self.process.metrics.handshake_ended();
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.handshake_ended();
        self.process.connections.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    fn process(connections: usize, handshakes: usize) -> Arc<Process> {
        let metrics = Metrics::new().expect("fixed buckets");
        Arc::new(Process::new(ProcessMetrics::new(&metrics), 0, connections, handshakes))
    }

    #[test]
    fn connections_beyond_the_limit_are_shed_until_one_ends() {
        let process = process(1, 10);
        let first = process.admit();
        assert!(first.is_some() && process.admit().is_none());
        drop(first);
        assert!(process.admit().is_some());
    }

    #[test]
    fn handshakes_beyond_the_limit_are_shed_until_one_is_over() {
        let process = process(10, 1);
        let mut first = process.admit().expect("room");
        assert!(process.admit().is_none());
        first.handshake_ended();
        assert!(process.admit().is_some());
    }

    #[test]
    fn a_lower_limit_of_a_reload_holds_for_new_connections() {
        let process = process(2, 10);
        let _first = process.admit();
        process.set_limits(1, 10);
        assert!(process.admit().is_none());
    }
}
