//! What `check` prints: the configuration as it will be served, in words.

use std::{
    fmt::{self, Display},
    time::Duration,
};

use super::{
    Backend, ClientAuth, Config, CrlFetch, CrlFetching, CrlSource, Enforce, Listener, LogFormat,
    LogLevel, PeerSet, ProxyProtocol, Resumption, Revocation, ServerAddress, SniPolicy,
    TrustProfile, candidate,
    certificates::date,
    files::CertificateFacts,
    tls::{group_name, suite_name, version_name},
};
use crate::revocation::{Mode, Rules, Stale};

/// Width of the column of labels.
const LABEL_WIDTH: usize = 14;

impl Config {
    /// What would be served, for people: listeners with their addresses, certificates, peers,
    /// and backends. The same configuration and files always give the same text; it ends with
    /// a newline.
    pub fn summary(&self) -> String {
        Summary(self).to_string()
    }
}

struct Summary<'c>(&'c Config);

impl Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = self.0;
        line(f, "configuration", config.source.display())?;
        match &config.workers.cpus {
            None => line(f, "workers", "one on each CPU that the process may use")?,
            Some(cpus) => line(f, "workers", format_args!("one each on CPU {}", join(cpus)))?,
        }
        match config.admin.listen {
            None => line(f, "admin", "off")?,
            Some(address) => line(f, "admin", address)?,
        }
        log(f, config)?;
        limits(f, config)?;
        resumption(f, &config.resumption)?;
        fetching(f, config)?;
        candidate::describe(f, config)?;
        for listener in &config.listeners {
            writeln!(f)?;
            describe_listener(f, listener)?;
        }
        for profile in config.trust.values() {
            writeln!(f)?;
            describe_profile(f, profile)?;
        }
        Ok(())
    }
}

fn log(f: &mut fmt::Formatter<'_>, config: &Config) -> fmt::Result {
    let format = match config.log.format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    };
    let level = match config.log.level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
    };
    let connections = if config.log.connections { "a line" } else { "no line" };
    line(f, "log", format_args!("{format}, from level {level}, {connections} for a connection"))
}

fn limits(f: &mut fmt::Formatter<'_>, config: &Config) -> fmt::Result {
    let limits = &config.limits;
    let or_off = |time: Option<Duration>| time.map_or("off".to_owned(), duration);
    match limits.max_connections {
        None => line(f, "connections", "as many as descriptors allow")?,
        Some(count) => line(f, "connections", format_args!("at most {count}"))?,
    }
    let timeout = duration(limits.handshake_timeout);
    line(f, "handshakes", format_args!("at most {}, {timeout} each", limits.max_handshakes))?;
    let (full, reserved) = (limits.max_full_handshakes, limits.reserved_handshakes);
    let known = "for addresses that were let in lately";
    line(f, "", format_args!("at most {full} full ones, {reserved} of either {known}"))?;
    match limits.max_handshakes_per_address {
        None => line(f, "", "as many of one address")?,
        Some(count) => line(f, "", format_args!("at most {count} of one address"))?,
    }
    let wait = duration(limits.max_handshake_wait);
    line(f, "", format_args!("none that would wait {wait} to begin"))?;
    line(
        f,
        "times",
        format_args!(
            "idle {}, lifetime {}, half-open {}, drain {}, session age {}",
            or_off(limits.idle_timeout),
            or_off(limits.max_lifetime),
            duration(limits.half_open_timeout),
            duration(limits.drain_timeout),
            duration(limits.max_session_age)
        ),
    )
}

fn resumption(f: &mut fmt::Formatter<'_>, resumption: &Resumption) -> fmt::Result {
    match resumption {
        Resumption::Off => line(f, "resumption", "off"),
        Resumption::Cache { bytes } => {
            let size = match bytes >> 10 {
                kib if kib.is_multiple_of(1024) => format!("{} MiB", kib / 1024),
                kib => format!("{kib} KiB"),
            };
            line(f, "resumption", format_args!("sessions are kept here, in {size} at most"))
        }
        Resumption::Tickets { keys } if keys.is_empty() => {
            line(f, "resumption", "tickets, by keys of this process")
        }
        Resumption::Tickets { keys } => {
            let files = join(keys.iter().map(|key| key.file.display()));
            line(f, "resumption", format_args!("tickets, by keys of {files}; the first one seals"))
        }
    }
}

fn fetching(f: &mut fmt::Formatter<'_>, config: &Config) -> fmt::Result {
    if config.trust.values().all(|profile| profile.revocation.fetch == CrlFetch::Off) {
        return Ok(());
    }
    let CrlFetching { state_dir, timeout, interval } = &config.crl_fetching;
    let (timeout, interval) = (duration(*timeout), duration(*interval));
    let kept = match state_dir {
        Some(folder) => format!("kept in {}", folder.display()),
        None => "kept in $STATE_DIRECTORY, if there is one".to_owned(),
    };
    line(f, "crl fetch", format_args!("for {timeout}, at least every {interval}, {kept}"))
}

fn describe_listener(f: &mut fmt::Formatter<'_>, listener: &Listener) -> fmt::Result {
    writeln!(f, "listener {}", listener.name)?;
    line(f, "  address", join(&listener.listen))?;
    describe_decisions(f, listener)?;
    let enforced = match listener.enforce {
        Enforce::Close => "a connection that isn't authorised any more is closed",
        Enforce::Drain => "a connection that isn't authorised any more drains",
        Enforce::Log => "a connection that isn't authorised any more is only logged",
    };
    line(f, "  enforce", enforced)?;
    for certificate in &listener.certificates {
        let names = match certificate.dns_names.as_slice() {
            [] => "no DNS name".to_owned(),
            names => join(names.iter().map(|name| name.escape_debug())),
        };
        let file = certificate.chain_file.display();
        let until = date(certificate.not_after);
        line(f, "  certificate", format_args!("{file} until {until}: {names}"))?;
    }
    let sni = match listener.sni {
        SniPolicy::Default => "any name; the first certificate unless another one has it",
        SniPolicy::Strict => "only names of the certificates",
    };
    line(f, "  sni", sni)?;
    if !listener.alpn.is_empty() {
        line(f, "  alpn", join(listener.alpn.iter().map(|protocol| protocol.escape_debug())))?;
    }
    let tls = &listener.tls;
    line(f, "  tls", join(tls.versions.iter().map(|version| version_name(*version))))?;
    line(f, "  suites", join(tls.cipher_suites.iter().map(|suite| suite_name(*suite))))?;
    line(f, "  groups", join(tls.groups.iter().map(|group| group_name(group.name()))))?;
    describe_backend(f, &listener.backend)
}

/// What the decision about a client depends on, but for the trust profiles.
pub(super) fn describe_decisions(f: &mut fmt::Formatter<'_>, listener: &Listener) -> fmt::Result {
    let clients = match listener.client_auth {
        ClientAuth::Required => "must show a certificate",
        ClientAuth::Optional => "may show a certificate",
        ClientAuth::None => "are not asked for a certificate",
    };
    line(f, "  clients", clients)?;
    for peers in &listener.peers {
        describe_peers(f, peers)?;
    }
    Ok(())
}

fn describe_peers(f: &mut fmt::Formatter<'_>, peers: &PeerSet) -> fmt::Result {
    let (name, trust, names) = (&peers.name, &peers.trust.name, join(&peers.names));
    line(f, "  peers", format_args!("{name} by trust {trust}: {names}"))?;
    if peers.discovered.is_some() {
        let reserved = "but none that another profile may vouch for";
        line(f, "", format_args!("{name} are discovered: any DNS name, {reserved}"))?;
    }
    if !peers.blocked.is_empty() {
        line(f, "", format_args!("{name} but never {}", join(&peers.blocked)))?;
    }
    if !peers.pins.is_empty() {
        line(f, "", format_args!("{name} only with the keys {}", join(&peers.pins)))?;
    }
    if let Some(most) = peers.limits.max_connections {
        line(f, "", format_args!("{name} at most {most} connections"))?;
    }
    if let Some(rate) = peers.limits.max_handshakes_per_second {
        line(f, "", format_args!("{name} at most {rate} handshakes a second"))?;
    }
    Ok(())
}

fn describe_backend(f: &mut fmt::Formatter<'_>, backend: &Backend) -> fmt::Result {
    let servers = backend.servers.iter().map(ServerAddress::to_string);
    let header = match backend.proxy_protocol {
        ProxyProtocol::Off => "no PROXY header",
        ProxyProtocol::V2 => "PROXY header v2",
        ProxyProtocol::V2Addresses => "PROXY header v2 with addresses alone",
    };
    let timeout = duration(backend.connect_timeout);
    let (name, servers) = (&backend.name, join(servers));
    line(f, "  backend", format_args!("{name}: {servers} ({header}, dialled for {timeout})"))
}

pub(super) fn describe_profile(f: &mut fmt::Formatter<'_>, profile: &TrustProfile) -> fmt::Result {
    use super::EkuRule::{Client, Either, Server};
    writeln!(f, "trust {}", profile.name)?;
    for ca in &profile.ca {
        let file = ca.file.display();
        // Every anchor was parsed when it was loaded.
        if let Ok(facts) = CertificateFacts::parse(&ca.der) {
            let (until, subject) = (date(facts.not_after), facts.subject);
            line(f, "  ca", format_args!("{file} until {until}: {subject}"))?;
        }
    }
    let shared = if profile.shared { " (shared with other profiles)" } else { "" };
    line(f, "  names", format_args!("{}{shared}", join(&profile.names)))?;
    let eku = match profile.eku {
        Client => "clientAuth",
        Server => "serverAuth",
        Either => "clientAuth or serverAuth",
    };
    line(f, "  key usage", eku)?;
    if profile.common_name {
        line(f, "  common name", "counts where there is no subjectAltName")?;
    }
    line(f, "  chain", format_args!("at most {} between peer and CA", profile.max_intermediates))?;
    let (rsa, ec) = (profile.min_rsa_bits, profile.min_ec_bits);
    line(f, "  keys", format_args!("RSA from {rsa} bits, ECDSA from {ec}"))?;
    describe_revocation(f, &profile.revocation)
}

fn describe_revocation(f: &mut fmt::Formatter<'_>, revocation: &Revocation) -> fmt::Result {
    let Rules { mode, stale, grace } = revocation.rules;
    let mode = match mode {
        Mode::Off => return line(f, "  revocation", "off"),
        Mode::Require => "each certificate needs a CRL",
        Mode::Prefer => "a certificate without a CRL passes",
    };
    let stale = match stale {
        Stale::Accept => "a stale CRL counts".to_owned(),
        Stale::Refuse if grace.is_zero() => "a stale CRL doesn't count".to_owned(),
        Stale::Refuse => format!("a CRL counts for {} after its end", duration(grace)),
    };
    line(f, "  revocation", format_args!("{mode}; {stale}"))?;
    for source in &revocation.sources {
        match source {
            CrlSource::File(path) => line(f, "  crl", path.display())?,
            CrlSource::Folder(path) => line(f, "  crl", format_args!("all in {}", path.display()))?,
        }
    }
    match &revocation.fetch {
        CrlFetch::Off => Ok(()),
        CrlFetch::DistributionPoints => line(f, "  crl fetch", "where certificates say"),
        CrlFetch::Urls(urls) => line(f, "  crl fetch", join(urls)),
    }
}

pub(super) fn line(f: &mut fmt::Formatter<'_>, label: &str, value: impl Display) -> fmt::Result {
    writeln!(f, "{label:<LABEL_WIDTH$} {value}")
}

fn join<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

fn duration(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}
