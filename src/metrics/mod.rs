//! What the operator can count: names, closed label enums, and handles that are registered
//! once and injected where they are counted.
//!
//! Every label value exists at 0 from the start, so that a rate is right from its first
//! increment on. No label ever holds the name of a peer.

mod crypto;
mod handles;
mod labels;
mod names;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder as _};
use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

pub use crypto::CryptoMetrics;
pub use handles::{
    BackendMetrics, CacheMetrics, CrlMetrics, ListenerMetrics, ProcessMetrics, WorkerMetrics,
};
pub use labels::{
    AcceptError, BackendResult, CloseCause, CrlFetchResult, CrlFileResult, CryptoEngine,
    CryptoOperation, Direction, EvictionReason, HandshakeKind, HandshakeResult, ReloadResult,
    ResumptionOutcome, ShadowOutcome, ShedReason, Termination, VerificationOutcome, VersionLabel,
};
pub use names::{ALL, Kind, MetricName};

/// Upper bounds of the latency buckets, seconds: from a resumed handshake on the same host to
/// a client that drips until the time-out.
const LATENCY_BUCKETS_S: [f64; 16] = [
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0, 30.0,
];

/// The process' metrics: makes handles, and renders all of them.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

const METADATA: Metadata<'static> = Metadata::new("countersign", Level::INFO, None);

impl Metrics {
    /// An empty set, its names described.
    ///
    /// # Errors
    /// None with the fixed buckets of this module; passed on rather than hidden.
    pub fn new() -> Result<Self, BuildError> {
        let mut builder = PrometheusBuilder::new();
        for metric in ALL.iter().filter(|metric| metric.kind == Kind::Histogram) {
            builder = builder.set_buckets_for_metric(
                Matcher::Full(metric.name.to_owned()),
                &LATENCY_BUCKETS_S,
            )?;
        }
        let recorder = builder.build_recorder();
        for metric in ALL {
            let (name, help) = (KeyName::from_const_str(metric.name), metric.help.into());
            match metric.kind {
                Kind::Counter => recorder.describe_counter(name, None, help),
                Kind::Gauge => recorder.describe_gauge(name, None, help),
                Kind::Histogram => recorder.describe_histogram(name, None, help),
            }
        }
        let handle = recorder.handle();
        Ok(Self { recorder, handle })
    }

    /// All metrics in Prometheus' text exposition format.
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Folds recorded latencies into their buckets; call it every few seconds, so that memory
    /// stays bounded when nobody scrapes.
    pub fn run_upkeep(&self) {
        self.handle.run_upkeep();
    }

    fn counter(&self, metric: &MetricName, labels: &[(&'static str, &str)]) -> Counter {
        self.recorder.register_counter(&key(metric, labels), &METADATA)
    }

    fn gauge(&self, metric: &MetricName, labels: &[(&'static str, &str)]) -> Gauge {
        self.recorder.register_gauge(&key(metric, labels), &METADATA)
    }

    fn histogram(&self, metric: &MetricName, labels: &[(&'static str, &str)]) -> Histogram {
        self.recorder.register_histogram(&key(metric, labels), &METADATA)
    }
}

fn key(metric: &MetricName, labels: &[(&'static str, &str)]) -> Key {
    let labels: Vec<_> =
        labels.iter().map(|(name, value)| Label::new(*name, (*value).to_owned())).collect();
    Key::from_parts(metric.name, labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_value_is_there_at_zero_before_anything_happened() {
        let metrics = Metrics::new().expect("fixed buckets");
        let _process = ProcessMetrics::new(&metrics);
        let _listener = ListenerMetrics::new(&metrics, "sip", &["expired", "revoked"]);
        let _backend = BackendMetrics::new(&metrics, "pool");
        let _worker = WorkerMetrics::new(&metrics, 0);
        let _crls = CrlMetrics::new(&metrics, "contoso");
        let _sessions = CacheMetrics::new(&metrics);
        let _crypto = CryptoMetrics::new(&metrics);
        let text = metrics.render();
        for wanted in [
            r#"countersign_refusals_total{listener="sip",reason="revoked"} 0"#,
            r#"countersign_handshakes_total{listener="sip",result="refused",kind="full",version="1.3"} 0"#,
            r#"countersign_connections_closed_total{listener="sip",cause="idle_timeout"} 0"#,
            r#"countersign_sessions_terminated_total{listener="sip",reason="revoked"} 0"#,
            r#"countersign_sessions_tolerated_total{listener="sip",reason="expired"} 0"#,
            r#"countersign_backend_connects_total{backend="pool",result="timed_out"} 0"#,
            r#"countersign_handshake_duration_seconds_count{listener="sip",kind="resumed"} 0"#,
            r#"countersign_config_reloads_total{result="failed"} 0"#,
            r#"countersign_crl_fetches_total{profile="contoso",result="bad_signature"} 0"#,
            r#"countersign_crl_files_total{profile="contoso",result="malformed"} 0"#,
            r#"countersign_crl_entries{profile="contoso"} 0"#,
            "countersign_resumption_cache_entries 0",
            r#"countersign_resumption_cache_evictions_total{reason="room"} 0"#,
            r#"countersign_crypto_batches_total{operation="x25519",engine="crypto_mb"} 0"#,
            r#"countersign_crypto_operations_total{operation="rsa_2048_sign",engine="aws_lc_rs"} 0"#,
            "countersign_crypto_queue_duration_seconds_count 0",
            r#"countersign_crypto_engine_in_use{engine="crypto_mb"} 0"#,
            "countersign_crypto_engine_switched_off_total 0",
            r#"countersign_shadow_decisions_total{listener="sip",outcome="would_refuse"} 0"#,
        ] {
            assert!(text.contains(wanted), "{wanted} is missing in\n{text}");
        }
    }

    #[test]
    fn every_described_metric_is_registered_by_some_handle() {
        let metrics = Metrics::new().expect("fixed buckets");
        let _handles = (
            ProcessMetrics::new(&metrics),
            ListenerMetrics::new(&metrics, "l", &["expired"]),
            BackendMetrics::new(&metrics, "b"),
            WorkerMetrics::new(&metrics, 0),
            CrlMetrics::new(&metrics, "p"),
            CacheMetrics::new(&metrics),
            CryptoMetrics::new(&metrics),
        );
        metrics.register_expiry("a.pem", 0.0);
        metrics.register_trust_expiry("p", 0.0);
        let text = metrics.render();
        for metric in ALL {
            assert!(text.contains(&format!("# TYPE {} ", metric.name)), "{}", metric.name);
        }
    }
}
