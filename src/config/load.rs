//! From a file to a [`Config`]: the whole of it is walked, then either all errors or a
//! configuration come out.

use std::{
    ops::RangeInclusive,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use toml::de::DeTable;

use super::{
    Accel, Admin, Config, ConfigErrors, Limits, Log, LogFormat, LogLevel, Workers, admission,
    candidate,
    certificates::Surroundings,
    errors::{Place, Report},
    files::{Disk, Files},
    listeners, peer_sets,
    reader::Reader,
    resumption, revocation, trust,
    values::{parse_cpus, parse_crypto_mb, parse_listen_or_off, parse_verifying},
};

/// Where metrics are served unless the configuration says otherwise.
const ADMIN_LISTEN_DEFAULT: &str = "127.0.0.1:9464";

impl Config {
    /// Reads the file, and every file that it names, by the clock of this host.
    ///
    /// # Errors
    /// Everything that is wrong, each with file, line, and column.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        Self::load_from(path, &Disk::default())
    }

    /// The same from a disk whose CRLs are known perhaps, and needn't be parsed again.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_from(path: &Path, disk: &Disk) -> Result<Self, ConfigErrors> {
        let data = disk.read(path).map_err(|error| {
            let message = format!("can't be read: {error}; it takes a readable TOML file");
            ConfigErrors::of_file(path, message)
        })?;
        let text = std::str::from_utf8(&data.bytes).map_err(|error| {
            let line = data.bytes[..error.valid_up_to()].split(|byte| *byte == b'\n').count();
            ConfigErrors::of_file(path, format!("line {line} is not UTF-8; TOML is UTF-8 text"))
        })?;
        // A clock before 1970 makes every certificate not yet valid: an error, as it should be.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Self::parse(text, path, disk, i64::try_from(now).unwrap_or(i64::MAX))
    }

    /// Reads `text` as if it stood in the file `source`, whose folder relative paths are
    /// relative to. The files that it names come from `files`; `now` is in seconds since 1970.
    /// No I/O but that of `files`, no clock: for tests and fuzzing.
    ///
    /// # Errors
    /// Everything that is wrong, each with file, line, and column.
    pub fn parse(
        text: &str,
        source: &Path,
        files: &dyn Files,
        now: i64,
    ) -> Result<Self, ConfigErrors> {
        Self::parse_as(false, text, source, files, now)
    }

    /// As [`parse`](Self::parse); a candidate has no candidate of its own.
    pub(super) fn parse_as(
        is_candidate: bool,
        text: &str,
        source: &Path,
        files: &dyn Files,
        now: i64,
    ) -> Result<Self, ConfigErrors> {
        let report = Report::new(source, text);
        let (document, syntax_errors) = DeTable::parse_recoverable(text);
        if !syntax_errors.is_empty() {
            // What is left of a broken document would only raise errors that aren't there.
            for error in syntax_errors {
                let offset = error.span().map_or(text.len(), |span| span.start);
                report.syntax_error(offset, error.message());
            }
            return Err(report.into_errors());
        }
        let base_dir = source.parent().unwrap_or(Path::new(""));
        let around = Surroundings { report: &report, files, base_dir, now, is_candidate };
        let mut root = Reader::root(&report, document.get_ref());

        let workers = read_workers(root.table("workers"));
        let accel = read_accel(root.table("accel"));
        let admin = read_admin(root.table("admin"));
        let log = read_log(root.table("log"));
        let limits = read_limits(root.table("limits"));
        let resumption = resumption::read(around, root.table("resumption"));
        let mut crls = revocation::Draft::default();
        let profiles = trust::read_profiles(around, &mut root, &mut crls);
        let crl_fetching = revocation::read_fetching(around, root.table("revocation"), &crls);
        let peer_sets = peer_sets::read_peers(&mut root, &profiles);
        let backends = listeners::read_backends(&mut root);
        let admin_at = admin.listen.map(|address| (address, admin.at.clone()));
        let listeners =
            listeners::read_listeners(around, &mut root, &peer_sets, &backends, admin_at);
        let shadow = candidate::read(around, &mut root, &listeners);
        root.finish();

        let trust = profiles.into_values().map(|draft| draft.profile);
        let trust = trust.map(|profile| (Arc::clone(&profile.name), profile)).collect();
        let peers = peer_sets.into_values().filter_map(|draft| draft.set);
        let peers = peers.map(|set| (Arc::clone(&set.name), set)).collect();
        let backends = backends.into_values().map(|draft| draft.backend);
        let backends = backends.map(|backend| (Arc::clone(&backend.name), backend)).collect();
        Ok(Self {
            source: source.to_owned(),
            workers,
            accel,
            admin: Admin { listen: admin.listen },
            log,
            limits,
            resumption,
            trust,
            peers,
            backends,
            listeners,
            crl_fetching,
            crls: crls.loaded,
            shadow,
            warnings: report.finish()?,
        })
    }
}

fn read_workers(reader: Option<Reader<'_>>) -> Workers {
    let Some(mut reader) = reader else { return Workers { cpus: None } };
    let cpus = reader.parsed("cpus", parse_cpus).and_then(|cpus| cpus.value);
    reader.finish();
    Workers { cpus }
}

fn read_accel(reader: Option<Reader<'_>>) -> Accel {
    let Some(mut reader) = reader else { return Accel::default() };
    let crypto_mb = reader.parsed("crypto_mb", parse_crypto_mb).map(|choice| choice.value);
    let verify = reader.parsed("verify", parse_verifying).map(|verifying| verifying.value);
    reader.finish();
    Accel { crypto_mb: crypto_mb.unwrap_or_default(), verify: verify.unwrap_or_default() }
}

struct AdminDraft {
    listen: Option<std::net::SocketAddr>,
    /// Where the address stands; `None` if it is the default.
    at: Option<Place>,
}

fn read_admin(reader: Option<Reader<'_>>) -> AdminDraft {
    let default = AdminDraft { listen: ADMIN_LISTEN_DEFAULT.parse().ok(), at: None };
    let Some(mut reader) = reader else { return default };
    let listen = reader.parsed("listen", parse_listen_or_off);
    let report = reader.report();
    reader.finish();
    let Some(listen) = listen else { return default };
    if let Some(address) = listen.value.filter(|address| !address.ip().is_loopback()) {
        let problem = "is open to other hosts and asks for no password; 127.0.0.1 is safer";
        report.warn(&listen.at, format_args!("{address} {problem}"));
    }
    AdminDraft { listen: listen.value, at: Some(listen.at) }
}

fn read_log(reader: Option<Reader<'_>>) -> Log {
    const FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    const LEVELS: [(&str, LogLevel); 4] = [
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
    ];
    let mut log = Log { format: LogFormat::Text, level: LogLevel::Info, connections: true };
    let Some(mut reader) = reader else { return log };
    if let Some(format) = reader.word("format", &FORMATS) {
        log.format = format.value;
    }
    if let Some(level) = reader.word("level", &LEVELS) {
        log.level = level.value;
    }
    if let Some(connections) = reader.boolean("connections") {
        log.connections = connections;
    }
    reader.finish();
    log
}

fn read_limits(reader: Option<Reader<'_>>) -> Limits {
    /// More than the ports and memory of any host would carry.
    const CONNECTIONS_MAX: usize = 10_000_000;
    /// Seven days are the most that a ticket may be used for (RFC 8446 §4.6.1).
    const SESSION_AGES: RangeInclusive<Duration> =
        Duration::from_secs(60)..=Duration::from_secs(7 * 24 * 3600);
    const SESSION_AGE: &str = "a time from \"1m\" to \"7days\", such as \"12h\"";
    let mut limits = Limits {
        max_connections: None,
        max_handshakes: 4096,
        max_full_handshakes: 0,
        reserved_handshakes: 0,
        max_handshakes_per_address: None,
        max_handshake_wait: Duration::from_secs(1),
        handshake_timeout: Duration::from_secs(10),
        idle_timeout: Some(Duration::from_secs(3600)),
        max_lifetime: None,
        half_open_timeout: Duration::from_secs(60),
        drain_timeout: Duration::from_secs(30),
        max_session_age: Duration::from_secs(12 * 3600),
    };
    admission::set(&mut limits, None, None, None);
    let Some(mut reader) = reader else { return limits };
    if let Some(count) = reader.integer("max_connections", 1..=CONNECTIONS_MAX) {
        limits.max_connections = Some(count);
    }
    admission::read(&mut reader, &mut limits);
    if let Some(time) = reader.duration("handshake_timeout") {
        limits.handshake_timeout = time;
    }
    if let Some(time) = reader.duration_or_off("idle_timeout") {
        limits.idle_timeout = time;
    }
    if let Some(time) = reader.duration_or_off("max_lifetime") {
        limits.max_lifetime = time;
    }
    if let Some(time) = reader.duration("half_open_timeout") {
        limits.half_open_timeout = time;
    }
    if let Some(time) = reader.duration("drain_timeout") {
        limits.drain_timeout = time;
    }
    if let Some(age) = reader.duration_within("max_session_age", SESSION_AGES, SESSION_AGE) {
        limits.max_session_age = age;
    }
    reader.finish();
    limits
}
