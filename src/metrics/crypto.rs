//! The metrics of handshakes' cryptography.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};

use super::{
    Metrics,
    labels::{CryptoEngine, CryptoOperation},
    names,
};

/// What the engine of all workers counts.
#[derive(Debug, Clone)]
pub struct CryptoMetrics {
    /// By operation and engine, in this order of significance: batches, and what was in them.
    work: Vec<(Counter, Counter)>,
    queue: Histogram,
    in_use: Vec<Gauge>,
    switched_off: Counter,
}

impl CryptoMetrics {
    /// Registers all of them; aws-lc-rs is in use until [`Self::in_use`] says otherwise.
    pub fn new(metrics: &Metrics) -> Self {
        let work = |operation: &CryptoOperation, engine: &CryptoEngine| {
            let labels = [("operation", operation.as_str()), ("engine", engine.as_str())];
            let batches = metrics.counter(&names::CRYPTO_BATCHES, &labels);
            (batches, metrics.counter(&names::CRYPTO_OPERATIONS, &labels))
        };
        let all = CryptoOperation::ALL.iter();
        let registered = Self {
            work: all.flat_map(|op| CryptoEngine::ALL.iter().map(|e| work(op, e))).collect(),
            queue: metrics.histogram(&names::CRYPTO_QUEUE_DURATION, &[]),
            in_use: CryptoEngine::ALL
                .iter()
                .map(|engine| {
                    metrics.gauge(&names::CRYPTO_ENGINE_IN_USE, &[("engine", engine.as_str())])
                })
                .collect(),
            switched_off: metrics.counter(&names::CRYPTO_ENGINE_SWITCHED_OFF, &[]),
        };
        registered.in_use(CryptoEngine::AwsLcRs);
        registered
    }

    /// So many operations were computed, in so many batches.
    pub fn computed(
        &self,
        operation: CryptoOperation,
        engine: CryptoEngine,
        batches: usize,
        operations: usize,
    ) {
        let place = operation.index() * CryptoEngine::ALL.len() + engine.index();
        self.work[place].0.increment(batches as u64);
        self.work[place].1.increment(operations as u64);
    }

    /// An operation's batch began after that long.
    pub fn waited(&self, duration: Duration) {
        self.queue.record(duration.as_secs_f64());
    }

    /// Batches go to that engine from now on.
    pub fn in_use(&self, engine: CryptoEngine) {
        for known in CryptoEngine::ALL {
            self.in_use[known.index()].set(if *known == engine { 1.0 } else { 0.0 });
        }
    }

    /// The library was given up.
    pub fn switched_off(&self) {
        self.switched_off.increment(1);
        self.in_use(CryptoEngine::AwsLcRs);
    }
}
