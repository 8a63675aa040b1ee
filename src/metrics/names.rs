//! The names, a stable surface; `docs/metrics.md` lists them, held by a test.

/// What kind of metric a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only ever rises.
    Counter,
    /// A value of now.
    Gauge,
    /// Observations in buckets.
    Histogram,
}

/// A metric's name with its meaning.
#[derive(Debug, Clone, Copy)]
pub struct MetricName {
    /// As scraped.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: Kind,
    /// One line for its reader.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($konst:ident = $kind:ident $name:literal, $help:literal;)*) => {
        $(pub(super) const $konst: MetricName = MetricName {
            name: concat!("countersign_", $name),
            kind: Kind::$kind,
            help: $help,
        };)*
        /// Every metric there is.
        pub const ALL: &[MetricName] = &[$($konst),*];
    };
}

metrics! {
    BUILD_INFO = Gauge "build_info", "Version of the running program; always 1.";
    CONFIG_GENERATION = Gauge "config_generation", "Number of the configuration generation in use; the first is 1.";
    CONFIG_RELOADS = Counter "config_reloads_total", "Reloads by result; a failed one leaves the old generation running.";
    CONFIG_LAST_RELOAD = Gauge "config_last_reload_success_timestamp_seconds", "When the generation in use was loaded.";
    CERTIFICATE_EXPIRY = Gauge "certificate_expiry_timestamp_seconds", "notAfter of an own certificate, by the file of its chain.";
    TRUST_EXPIRY = Gauge "trust_expiry_timestamp_seconds", "The earliest notAfter of a trust profile's CA certificates.";
    CRL_NEXT_UPDATE = Gauge "crl_next_update_timestamp_seconds", "The earliest nextUpdate of a trust profile's CRLs in use; 0 while it has none.";
    CRL_ENTRIES = Gauge "crl_entries", "Revoked certificates in a trust profile's CRLs in use.";
    CRL_FETCHES = Counter "crl_fetches_total", "Fetches of CRLs over HTTP for a trust profile, by result.";
    CRL_FILES = Counter "crl_files_total", "CRL files of a trust profile that were read because they were new or had changed, by result.";
    CONNECTIONS_ACCEPTED = Counter "connections_accepted_total", "Connections that were accepted and not shed.";
    CONNECTIONS_OPEN = Gauge "connections_open", "Connections that are open now, handshakes included.";
    CONNECTIONS_CLOSED = Counter "connections_closed_total", "Connections that ended, by the first cause.";
    HANDSHAKES = Counter "handshakes_total", "Handshakes that ended, by result; kind and version are none where it ended before they were agreed.";
    HANDSHAKE_DURATION = Histogram "handshake_duration_seconds", "From accept to the end of a handshake that succeeded.";
    HANDSHAKES_IN_FLIGHT = Gauge "handshakes_in_flight", "Handshakes that go on now.";
    FULL_HANDSHAKES_IN_FLIGHT = Gauge "full_handshakes_in_flight", "Handshakes that go on now and resume no session, from their key agreement on.";
    HANDSHAKES_SHED = Counter "handshakes_shed_total", "Connections that were turned away before their handshake was over, by the limit that was reached.";
    REFUSALS = Counter "refusals_total", "Clients that the trust decision refused, by reason.";
    RESUMPTION = Counter "resumption_total", "Sessions that clients offered to resume, by what became of them.";
    RESUMPTION_CACHE_ENTRIES = Gauge "resumption_cache_entries", "Sessions that are kept for clients that come back.";
    RESUMPTION_CACHE_BYTES = Gauge "resumption_cache_bytes", "Memory that sessions take that are kept for clients that come back.";
    RESUMPTION_CACHE_EVICTIONS = Counter "resumption_cache_evictions_total", "Sessions that were dropped before their clients came back, by the reason.";
    VERIFICATION_CACHE = Counter "verification_cache_total", "Client chains that were decided about, by whether they had been verified before.";
    SESSIONS_TERMINATED = Counter "sessions_terminated_total", "Live connections that were ended since they are not authorised any more, by what they lost.";
    SESSIONS_TOLERATED = Counter "sessions_tolerated_total", "Live connections that are not authorised any more and go on, since enforce is log; once for each reason.";
    SHADOW_DECISIONS = Counter "shadow_decisions_total", "Decisions that the candidate configuration was asked for as well, by how it compares.";
    RELAY_BYTES = Counter "relay_bytes_total", "Bytes of plaintext relayed; up is from the client to the backend.";
    BACKEND_CONNECTS = Counter "backend_connects_total", "Connection attempts to a backend's servers.";
    BACKEND_CONNECT_DURATION = Histogram "backend_connect_duration_seconds", "Time to a connection with a backend.";
    WORKER_BUSY = Counter "worker_busy_seconds_total", "CPU time of a worker: of its thread, and of the one beside it that computes RSA signatures.";
    CRYPTO_BATCHES = Counter "crypto_batches_total", "Batches of handshakes' cryptography; aws_lc_rs computes one operation at a time.";
    CRYPTO_OPERATIONS = Counter "crypto_operations_total", "Operations of handshakes' cryptography; divided by the batches, how full these were.";
    CRYPTO_QUEUE_DURATION = Histogram "crypto_queue_duration_seconds", "How long operations waited for others to share a batch with; those that didn't wait aren't counted.";
    CRYPTO_ENGINE_IN_USE = Gauge "crypto_engine_in_use", "1 for the engine that batches go to, 0 for the other.";
    CRYPTO_ENGINE_SWITCHED_OFF = Counter "crypto_engine_switched_off_total", "Times that crypto_mb was given up after a wrong result: once at most, until the next start.";
    ACCEPT_ERRORS = Counter "accept_errors_total", "Failed accepts: the peer's fault, out of descriptors or memory, or other.";
}
