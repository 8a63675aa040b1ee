//! Handles, registered once; counting is one atomic addition.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};

use super::{
    Metrics,
    labels::{
        AcceptError, BackendResult, CloseCause, CrlFetchResult, CrlFileResult, Direction,
        EvictionReason, HandshakeKind, HandshakeResult, ReloadResult, ResumptionOutcome,
        ShadowOutcome, ShedReason, Termination, VerificationOutcome, VersionLabel,
    },
    names::{self, MetricName},
};

/// One listener's metrics.
#[derive(Debug)]
pub struct ListenerMetrics {
    accepted: Counter,
    open: Gauge,
    closed: Vec<Counter>,
    /// By result, kind and version, in this order of significance.
    handshakes: Vec<Counter>,
    duration: Vec<Histogram>,
    refusals: Vec<(&'static str, Counter)>,
    resumption: Vec<Counter>,
    terminated: Vec<Counter>,
    tolerated: Vec<Counter>,
    shadow: Vec<Counter>,
    bytes: Vec<Counter>,
}

impl ListenerMetrics {
    /// Registers all of them for the listener `name`; `refusals` are the reasons there are.
    pub fn new(metrics: &Metrics, name: &str, refusals: &[&'static str]) -> Self {
        let listener = ("listener", name);
        let mut handshakes = Vec::new();
        for result in HandshakeResult::ALL {
            for kind in HandshakeKind::ALL {
                for version in VersionLabel::ALL {
                    let labels = [
                        listener,
                        ("result", result.as_str()),
                        ("kind", kind.as_str()),
                        ("version", version.as_str()),
                    ];
                    handshakes.push(metrics.counter(&names::HANDSHAKES, &labels));
                }
            }
        }
        let known_kinds = [HandshakeKind::Full, HandshakeKind::Resumed];
        let by_termination = |metric: &MetricName| -> Vec<Counter> {
            let counter = |reason: &Termination| {
                metrics.counter(metric, &[listener, ("reason", reason.as_str())])
            };
            Termination::ALL.iter().map(counter).collect()
        };
        Self {
            accepted: metrics.counter(&names::CONNECTIONS_ACCEPTED, &[listener]),
            open: metrics.gauge(&names::CONNECTIONS_OPEN, &[listener]),
            closed: CloseCause::ALL
                .iter()
                .map(|cause| {
                    let labels = [listener, ("cause", cause.as_str())];
                    metrics.counter(&names::CONNECTIONS_CLOSED, &labels)
                })
                .collect(),
            handshakes,
            duration: known_kinds
                .iter()
                .map(|kind| {
                    let labels = [listener, ("kind", kind.as_str())];
                    metrics.histogram(&names::HANDSHAKE_DURATION, &labels)
                })
                .collect(),
            refusals: refusals
                .iter()
                .map(|&reason| {
                    (reason, metrics.counter(&names::REFUSALS, &[listener, ("reason", reason)]))
                })
                .collect(),
            resumption: ResumptionOutcome::ALL
                .iter()
                .map(|outcome| {
                    let labels = [listener, ("outcome", outcome.as_str())];
                    metrics.counter(&names::RESUMPTION, &labels)
                })
                .collect(),
            terminated: by_termination(&names::SESSIONS_TERMINATED),
            tolerated: by_termination(&names::SESSIONS_TOLERATED),
            shadow: ShadowOutcome::ALL
                .iter()
                .map(|outcome| {
                    let labels = [listener, ("outcome", outcome.as_str())];
                    metrics.counter(&names::SHADOW_DECISIONS, &labels)
                })
                .collect(),
            bytes: Direction::ALL
                .iter()
                .map(|direction| {
                    let labels = [listener, ("direction", direction.as_str())];
                    metrics.counter(&names::RELAY_BYTES, &labels)
                })
                .collect(),
        }
    }

    /// A connection was accepted and is open.
    pub fn opened(&self) {
        self.accepted.increment(1);
        self.open.increment(1.0);
    }

    /// A connection ended.
    pub fn closed(&self, cause: CloseCause) {
        self.open.decrement(1.0);
        self.closed[cause.index()].increment(1);
    }

    /// A handshake ended.
    pub fn handshake(&self, result: HandshakeResult, kind: HandshakeKind, version: VersionLabel) {
        let kinds = HandshakeKind::ALL.len();
        let index =
            (result.index() * kinds + kind.index()) * VersionLabel::ALL.len() + version.index();
        self.handshakes[index].increment(1);
    }

    /// A handshake succeeded after that long.
    pub fn handshake_duration(&self, kind: HandshakeKind, duration: Duration) {
        if let Some(histogram) = self.duration.get(kind.index()) {
            histogram.record(duration.as_secs_f64());
        }
    }

    /// A client was refused. An unknown reason can't happen: all are registered at the start.
    pub fn refused(&self, reason: &'static str) {
        if let Some((_, counter)) = self.refusals.iter().find(|(known, _)| *known == reason) {
            counter.increment(1);
        }
    }

    /// A client offered a ticket.
    pub fn resumption(&self, outcome: ResumptionOutcome) {
        self.resumption[outcome.index()].increment(1);
    }

    /// A live connection was ended, since it lost that.
    pub fn terminated(&self, reason: Termination) {
        self.terminated[reason.index()].increment(1);
    }

    /// A live connection goes on, though it lost that.
    pub fn tolerated(&self, reason: Termination) {
        self.tolerated[reason.index()].increment(1);
    }

    /// The candidate configuration was asked as well.
    pub fn shadow(&self, outcome: ShadowOutcome) {
        self.shadow[outcome.index()].increment(1);
    }

    /// Plaintext was relayed.
    pub fn relayed(&self, direction: Direction, bytes: usize) {
        self.bytes[direction.index()].increment(bytes as u64);
    }
}

/// One backend's metrics.
#[derive(Debug)]
pub struct BackendMetrics {
    connects: Vec<Counter>,
    duration: Histogram,
}

impl BackendMetrics {
    /// Registers all of them for the backend `name`.
    pub fn new(metrics: &Metrics, name: &str) -> Self {
        let backend = ("backend", name);
        Self {
            connects: BackendResult::ALL
                .iter()
                .map(|result| {
                    let labels = [backend, ("result", result.as_str())];
                    metrics.counter(&names::BACKEND_CONNECTS, &labels)
                })
                .collect(),
            duration: metrics.histogram(&names::BACKEND_CONNECT_DURATION, &[backend]),
        }
    }

    /// An attempt to connect ended.
    pub fn attempted(&self, result: BackendResult, duration: Duration) {
        self.connects[result.index()].increment(1);
        if result == BackendResult::Connected {
            self.duration.record(duration.as_secs_f64());
        }
    }
}

/// The metrics of one trust profile's CRLs.
#[derive(Debug, Clone)]
pub struct CrlMetrics {
    next_update: Gauge,
    entries: Gauge,
    fetches: Vec<Counter>,
    files: Vec<Counter>,
}

impl CrlMetrics {
    /// Registers all of them for the profile `name`.
    pub fn new(metrics: &Metrics, name: &str) -> Self {
        let profile = ("profile", name);
        Self {
            next_update: metrics.gauge(&names::CRL_NEXT_UPDATE, &[profile]),
            entries: metrics.gauge(&names::CRL_ENTRIES, &[profile]),
            fetches: CrlFetchResult::ALL
                .iter()
                .map(|result| {
                    let labels = [profile, ("result", result.as_str())];
                    metrics.counter(&names::CRL_FETCHES, &labels)
                })
                .collect(),
            files: CrlFileResult::ALL
                .iter()
                .map(|result| {
                    let labels = [profile, ("result", result.as_str())];
                    metrics.counter(&names::CRL_FILES, &labels)
                })
                .collect(),
        }
    }

    /// What is in use: the earliest nextUpdate, seconds since 1970 (`None`: there is no CRL), and
    /// the entries of all.
    pub fn in_use(&self, next_update_s: Option<u64>, entries: usize) {
        #[allow(clippy::cast_precision_loss)] // both fit a double's 53 bits
        let (next_update, entries) = (next_update_s.unwrap_or(0) as f64, entries as f64);
        self.next_update.set(next_update);
        self.entries.set(entries);
    }

    /// The profile is gone: what is no number alarms nobody.
    pub fn forget(&self) {
        self.next_update.set(f64::NAN);
        self.entries.set(f64::NAN);
    }

    /// A fetch ended.
    pub fn fetched(&self, result: CrlFetchResult) {
        self.fetches[result.index()].increment(1);
    }

    /// A file was looked at because it had changed.
    pub fn file(&self, result: CrlFileResult) {
        self.files[result.index()].increment(1);
    }
}

/// The metrics of the sessions that are kept for clients that come back.
#[derive(Debug, Clone)]
pub struct CacheMetrics {
    entries: Gauge,
    bytes: Gauge,
    evictions: Vec<Counter>,
}

impl CacheMetrics {
    /// Registers all of them.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            entries: metrics.gauge(&names::RESUMPTION_CACHE_ENTRIES, &[]),
            bytes: metrics.gauge(&names::RESUMPTION_CACHE_BYTES, &[]),
            evictions: EvictionReason::ALL
                .iter()
                .map(|reason| {
                    let labels = [("reason", reason.as_str())];
                    metrics.counter(&names::RESUMPTION_CACHE_EVICTIONS, &labels)
                })
                .collect(),
        }
    }

    /// So many sessions are kept, in so many bytes of memory.
    pub fn holds(&self, entries: usize, bytes: usize) {
        #[allow(clippy::cast_precision_loss)] // both fit a double's 53 bits
        let (entries, bytes) = (entries as f64, bytes as f64);
        self.entries.set(entries);
        self.bytes.set(bytes);
    }

    /// So many were dropped unused: they were over, or others needed their room.
    pub fn gone(&self, expired: usize, evicted: usize) {
        self.evictions[EvictionReason::Expired.index()].increment(expired as u64);
        self.evictions[EvictionReason::Room.index()].increment(evicted as u64);
    }
}

/// One worker's metrics.
#[derive(Debug)]
pub struct WorkerMetrics {
    busy: Counter,
}

impl WorkerMetrics {
    /// Registers all of them for the worker on the CPU of that number.
    pub fn new(metrics: &Metrics, cpu: usize) -> Self {
        let cpu = cpu.to_string();
        Self { busy: metrics.counter(&names::WORKER_BUSY, &[("worker", &cpu)]) }
    }

    /// The thread has used that much CPU since it began; whole seconds are counted.
    pub fn busy(&self, total: Duration) {
        self.busy.absolute(total.as_secs());
    }
}

/// What concerns the process as a whole.
#[derive(Debug)]
pub struct ProcessMetrics {
    generation: Gauge,
    reloads: Vec<Counter>,
    last_reload: Gauge,
    in_flight: Gauge,
    full_in_flight: Gauge,
    shed: Vec<Counter>,
    accept_errors: Vec<Counter>,
    verifications: Vec<Counter>,
}

impl ProcessMetrics {
    /// Registers all of them.
    pub fn new(metrics: &Metrics) -> Self {
        let version = ("version", env!("CARGO_PKG_VERSION"));
        metrics.gauge(&names::BUILD_INFO, &[version]).set(1.0);
        Self {
            generation: metrics.gauge(&names::CONFIG_GENERATION, &[]),
            reloads: ReloadResult::ALL
                .iter()
                .map(|r| metrics.counter(&names::CONFIG_RELOADS, &[("result", r.as_str())]))
                .collect(),
            last_reload: metrics.gauge(&names::CONFIG_LAST_RELOAD, &[]),
            in_flight: metrics.gauge(&names::HANDSHAKES_IN_FLIGHT, &[]),
            full_in_flight: metrics.gauge(&names::FULL_HANDSHAKES_IN_FLIGHT, &[]),
            shed: ShedReason::ALL
                .iter()
                .map(|r| metrics.counter(&names::HANDSHAKES_SHED, &[("reason", r.as_str())]))
                .collect(),
            verifications: VerificationOutcome::ALL
                .iter()
                .map(|outcome| {
                    let labels = [("outcome", outcome.as_str())];
                    metrics.counter(&names::VERIFICATION_CACHE, &labels)
                })
                .collect(),
            accept_errors: AcceptError::ALL
                .iter()
                .map(|r| metrics.counter(&names::ACCEPT_ERRORS, &[("reason", r.as_str())]))
                .collect(),
        }
    }

    /// A client's chain was decided about.
    pub fn verified(&self, outcome: VerificationOutcome) {
        self.verifications[outcome.index()].increment(1);
    }

    /// A generation serves since `now_s` (seconds since 1970).
    pub fn generation(&self, number: u64, now_s: f64) {
        #[allow(clippy::cast_precision_loss)] // exact up to 2^53 reloads
        self.generation.set(number as f64);
        self.last_reload.set(now_s);
    }

    /// A reload ended.
    pub fn reloaded(&self, result: ReloadResult) {
        self.reloads[result.index()].increment(1);
    }

    /// A handshake began.
    pub fn handshake_began(&self) {
        self.in_flight.increment(1.0);
    }

    /// A handshake ended.
    pub fn handshake_ended(&self) {
        self.in_flight.decrement(1.0);
    }

    /// A handshake turned out to be a full one.
    pub fn full_handshake_began(&self) {
        self.full_in_flight.increment(1.0);
    }

    /// A full handshake ended.
    pub fn full_handshake_ended(&self) {
        self.full_in_flight.decrement(1.0);
    }

    /// A connection was turned away before its handshake was over.
    pub fn shed(&self, reason: ShedReason) {
        self.shed[reason.index()].increment(1);
    }

    /// An accept failed.
    pub fn accept_failed(&self, whose: AcceptError) {
        self.accept_errors[whose.index()].increment(1);
    }
}

impl Metrics {
    /// notAfter of an own certificate, seconds since 1970.
    pub fn register_expiry(&self, chain_file: &str, not_after_s: f64) {
        self.gauge(&names::CERTIFICATE_EXPIRY, &[("certificate", chain_file)]).set(not_after_s);
    }

    /// The earliest notAfter of a profile's CA certificates, seconds since 1970.
    pub fn register_trust_expiry(&self, profile: &str, not_after_s: f64) {
        self.gauge(&names::TRUST_EXPIRY, &[("profile", profile)]).set(not_after_s);
    }
}
