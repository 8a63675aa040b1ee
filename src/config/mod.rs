//! The configuration: one immutable value, built only by [`Config::load`] (and by
//! [`Config::parse`], its part without I/O of its own).
//!
//! A [`Config`] that exists is valid: files are read, certificates parsed, keys matched, names
//! resolved to what they refer to. There is no later check of the same thing.

mod admission;
mod candidate;
mod certificates;
mod conflicts;
mod crl_files;
mod errors;
mod files;
mod listeners;
mod load;
mod peer_sets;
mod pins;
mod reader;
mod resumption;
mod revocation;
mod summary;
#[cfg(test)]
mod tests;
mod tls;
mod trust;
mod url;
mod values;

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;

pub(crate) use self::errors::did_you_mean;
pub use self::{
    crl_files::{CRL_FILE_LEN_MAX, CrlFile, CrlFileError, Crls, Folder, Stamp},
    errors::{ConfigError, ConfigErrors},
    files::{Disk, FileData, Files},
    pins::KeyPin,
    resumption::{Resumption, TicketKey},
    revocation::{CrlFetch, CrlFetching, CrlSource, LoadedCrls, Revocation},
    url::HttpUrl,
};
use crate::{
    crypto::{Choice, Verifying},
    name::NamePattern,
};

/// Everything that one generation of the appliance serves.
#[derive(Debug)]
pub struct Config {
    /// The file that it was read from; relative paths in it are relative to its folder.
    pub source: PathBuf,
    /// `[workers]`
    pub workers: Workers,
    /// `[accel]`
    pub accel: Accel,
    /// `[admin]`
    pub admin: Admin,
    /// `[log]`
    pub log: Log,
    /// `[limits]`
    pub limits: Limits,
    /// `[resumption]`
    pub resumption: Resumption,
    /// `[trust.NAME]`, by name.
    pub trust: BTreeMap<Arc<str>, Arc<TrustProfile>>,
    /// `[peers.NAME]`, by name.
    pub peers: BTreeMap<Arc<str>, Arc<PeerSet>>,
    /// `[backends.NAME]`, by name.
    pub backends: BTreeMap<Arc<str>, Arc<Backend>>,
    /// `[[listener]]`, in the order of the file; never empty.
    pub listeners: Vec<Arc<Listener>>,
    /// `shadow`: a candidate, whose decisions are only compared; it has none of its own.
    pub shadow: Option<Box<Config>>,
    /// `[revocation]`
    pub crl_fetching: CrlFetching,
    /// What the files of CRLs held when they were read.
    pub crls: LoadedCrls,
    /// What is legal but deserves a second look; `check` prints it, `run` logs it.
    pub warnings: Vec<String>,
}

/// `[workers]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workers {
    /// CPUs to run one worker each on; `None` is `"auto"`: every CPU that the process may use.
    pub cpus: Option<Vec<usize>>,
}

/// `[accel]`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Accel {
    /// `crypto_mb`: which library computes several operations of handshakes at a time. Default
    /// `"auto"`.
    pub crypto_mb: Choice,
    /// `verify`: who verifies clients' signatures. Default `"aws-lc-rs"`.
    pub verify: Verifying,
}

/// `[admin]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Where `/metrics` and health are served (`"off"` is `None`). Default `127.0.0.1:9464`.
    pub listen: Option<SocketAddr>,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// `format = "text" | "json"`, default text.
    pub format: LogFormat,
    /// `level = "error" | "warn" | "info" | "debug"`, default info. Connection lines are info.
    pub level: LogLevel,
    /// `connections = true | false`: a line for each connection that ends. Default true.
    pub connections: bool,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// `key=value` pairs for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The least important lines that are still written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Only what stops part of the service.
    Error,
    /// Also what an operator should look at.
    Warn,
    /// Also what happened, among it one line a connection.
    Info,
    /// Also why.
    Debug,
}

/// `[limits]`: every queue, buffer and deadline that can be set.
#[derive(Debug, Clone)]
pub struct Limits {
    /// `max_connections`, for the whole process; more are closed on accept. `None`, the default,
    /// is as many as the descriptor limit has room for, at most 100000.
    pub max_connections: Option<usize>,
    /// `max_handshakes`, handshakes in flight in the whole process, default 4096.
    pub max_handshakes: usize,
    /// `max_full_handshakes`, handshakes in flight that resume no session, at most
    /// `max_handshakes`; default three quarters of it.
    pub max_full_handshakes: usize,
    /// `reserved_handshakes`, of `max_handshakes` and of `max_full_handshakes` each, for addresses
    /// that were let in lately; fewer than `max_full_handshakes`, default a third of it.
    pub reserved_handshakes: usize,
    /// `max_handshakes_per_address` in flight; `"off"` is `None`. Default a quarter of
    /// `max_handshakes`, 64 at least.
    pub max_handshakes_per_address: Option<usize>,
    /// `max_handshake_wait`: who would wait longer before its handshake begins is turned away,
    /// default 1 s.
    pub max_handshake_wait: Duration,
    /// `handshake_timeout`: from accept to the end of the handshake, one total, default 10 s.
    pub handshake_timeout: Duration,
    /// `idle_timeout`: no byte in either direction; `"off"` is `None`. Default 1 h.
    pub idle_timeout: Option<Duration>,
    /// `max_lifetime` of a connection; `"off"` is `None`. Default off.
    pub max_lifetime: Option<Duration>,
    /// `half_open_timeout`: no byte after one direction has ended. Default 60 s.
    pub half_open_timeout: Duration,
    /// `drain_timeout`: how long connections may go on after SIGTERM, or after they lost their
    /// authorisation where `enforce = "drain"`. Default 30 s.
    pub drain_timeout: Duration,
    /// `max_session_age`: how long after a client has shown its certificate its session may be
    /// resumed, 1 min to 7 days (RFC 8446 §4.6.1), default 12 h.
    pub max_session_age: Duration,
}

/// `[trust.NAME]`: CAs, and what they may vouch for.
#[derive(Debug)]
pub struct TrustProfile {
    /// NAME.
    pub name: Arc<str>,
    /// `ca`: the trust anchors, with the file each came from; never empty, all CA certificates.
    pub ca: Vec<CaCertificate>,
    /// `names`: what these CAs may vouch for; never empty. Alone if it is
    /// [`NamePattern::ANY_DNS`]; all peer sets of the profile are discovered then, and of no other
    /// profile.
    pub names: Vec<NamePattern>,
    /// `eku`: which extended key usage a peer's certificate must carry.
    pub eku: EkuRule,
    /// `common_name`: the subject's CN counts as a DNS name where there is no SAN. Default false.
    pub common_name: bool,
    /// `max_intermediates` between the peer's certificate and the anchor, 0 to 6, default 4.
    pub max_intermediates: usize,
    /// `min_rsa_bits` of every RSA key of a path, the anchor's included: 2048 (the default) to
    /// 8192.
    pub min_rsa_bits: u16,
    /// `min_ec_bits` of every ECDSA key of a path, the anchor's included: 256 (the default), 384
    /// or 521. Ed25519 counts as 256.
    pub min_ec_bits: u16,
    /// `shared`: its names may overlap those of other profiles that say so too. Default false.
    pub shared: bool,
    /// `crl`, `crl_fetch`, `crl_stale`, `crl_grace`, `revocation`
    pub revocation: Revocation,
}

impl TrustProfile {
    /// Whether its CAs may vouch for any DNS name, as those of discovered peers may.
    pub fn vouches_for_any(&self) -> bool {
        self.names.contains(&NamePattern::ANY_DNS)
    }
}

/// One trust anchor.
#[derive(Debug, Clone)]
pub struct CaCertificate {
    /// The file that it came from.
    pub file: PathBuf,
    /// The certificate.
    pub der: CertificateDer<'static>,
    /// notAfter, seconds since 1970.
    pub not_after: i64,
}

/// Which extended key usage (RFC 5280 §4.2.1.12) a peer's certificate must carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EkuRule {
    /// `clientAuth`, or no EKU extension.
    Client,
    /// `serverAuth`, or no EKU extension: servers that also act as clients.
    Server,
    /// One of the two, or no EKU extension.
    Either,
}

/// `[peers.NAME]`: trusted servers, bound to one trust profile.
#[derive(Debug)]
pub struct PeerSet {
    /// NAME.
    pub name: Arc<str>,
    /// `trust`: the profile that vouches for them.
    pub trust: Arc<TrustProfile>,
    /// `names`: who they are; never empty, each within what the profile may vouch for. Those of a
    /// discovered set are [`NamePattern::ANY_DNS`].
    pub names: Vec<NamePattern>,
    /// `blocked`: names that are refused before all else.
    pub blocked: Vec<NamePattern>,
    /// `pins`: the keys that they may have; empty if any will do.
    pub pins: Vec<KeyPin>,
    /// `max_connections` and `max_handshakes_per_second`.
    pub limits: PeerLimits,
    /// `discovered = true`: they aren't listed. Has both limits and no pins then.
    pub discovered: Option<Discovered>,
}

/// How much a peer set as a whole may use, in the whole process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PeerLimits {
    /// `max_connections`, 1 or more; `None`: no limit of its own.
    pub max_connections: Option<usize>,
    /// `max_handshakes_per_second`, 1 or more; `None`: no limit of its own.
    pub max_handshakes_per_second: Option<u32>,
}

/// Peers that are let in without being listed.
#[derive(Debug)]
pub struct Discovered {
    /// The profiles whose names are not for discovered peers: a public CA can't speak for a
    /// partner, nor for us, whether or not the listener admits that partner.
    pub reserved: Vec<Arc<TrustProfile>>,
}

/// `[backends.NAME]`: where plaintext goes.
#[derive(Debug)]
pub struct Backend {
    /// NAME.
    pub name: Arc<str>,
    /// `servers`, tried in turn; never empty.
    pub servers: Vec<ServerAddress>,
    /// `proxy_protocol = "off" | "v2" | "v2-addresses"`, default off.
    pub proxy_protocol: ProxyProtocol,
    /// `connect_timeout` for each server, default 5 s.
    pub connect_timeout: Duration,
}

/// Where one server of a backend listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerAddress {
    /// `host:port` or `[v6]:port`; addresses only, names are proved by certificates alone.
    Tcp(SocketAddr),
    /// `unix:/path`
    Unix(PathBuf),
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What is sent before the first byte of plaintext.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// Nothing.
    Off,
    /// `v2`: a version 2 header with the client's address and identity.
    V2,
    /// `v2-addresses`: a version 2 header with the addresses alone, for receivers that take no
    /// more (nginx before 1.23.2 reads 107 bytes at most).
    V2Addresses,
}

/// `[[listener]]`
#[derive(Debug)]
pub struct Listener {
    /// `name`, unique: it is a metric label.
    pub name: Arc<str>,
    /// `listen`: never empty; no address twice in a configuration.
    pub listen: Vec<SocketAddr>,
    /// `client_auth = "required" | "optional" | "none"`, no default.
    pub client_auth: ClientAuth,
    /// `peers` that it admits; empty exactly if `client_auth` is none.
    pub peers: Vec<Arc<PeerSet>>,
    /// `certificates = [{ chain = FILE, key = FILE }]`, own ones; never empty. The first is the
    /// default one.
    pub certificates: Vec<OwnCertificate>,
    /// `sni = "default" | "strict"`: what a client gets that names no certificate of ours.
    pub sni: SniPolicy,
    /// `enforce = "close" | "drain" | "log"`: what becomes of a live connection that isn't
    /// authorised any more. Default close.
    pub enforce: Enforce,
    /// `alpn`: protocols in order of preference; empty: ALPN isn't negotiated.
    pub alpn: Vec<String>,
    /// `tls = { versions, cipher_suites, groups }`
    pub tls: TlsSettings,
    /// `backend`
    pub backend: Arc<Backend>,
}

impl Listener {
    /// Whether one of its keys is an RSA key.
    pub fn signs_by_rsa(&self) -> bool {
        let is_rsa = |own: &OwnCertificate| {
            own.certified_key.key.algorithm() == rustls::SignatureAlgorithm::RSA
        };
        self.certificates.iter().any(is_rsa)
    }
}

/// Whether a client must show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// Mutual TLS: none is a refusal.
    Required,
    /// None is an anonymous client; one that is shown must be accepted.
    Optional,
    /// TLS: none is asked for.
    None,
}

/// What happens to a client whose SNI names none of the certificates (or that sends none).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SniPolicy {
    /// It gets the first certificate. The default.
    Default,
    /// It is refused.
    Strict,
}

/// What becomes of a live connection that isn't authorised any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enforce {
    /// It is ended at once.
    Close,
    /// It is ended when it has been without a byte for a second, or after `drain_timeout`.
    Drain,
    /// It goes on; that is logged and counted.
    Log,
}

/// A certificate chain of ours with its key; they match, and it is within its validity.
#[derive(Debug, Clone)]
pub struct OwnCertificate {
    /// The file of the chain.
    pub chain_file: PathBuf,
    /// Chain and key as rustls takes them.
    pub certified_key: Arc<CertifiedKey>,
    /// DNS names of the SAN extension, lower case, exact or `*.x` (one label).
    pub dns_names: Vec<String>,
    /// notAfter, seconds since 1970.
    pub not_after: i64,
}

/// `tls = { … }` of a listener. Each list is in order of preference and never empty.
#[derive(Debug, Clone)]
pub struct TlsSettings {
    /// `versions = ["1.3", "1.2"]` (the default).
    pub versions: Vec<TlsVersion>,
    /// `cipher_suites`, IANA names; default: AES-128-GCM before AES-256-GCM before
    /// CHACHA20-POLY1305, TLS 1.3 before 1.2, ECDSA before RSA.
    pub cipher_suites: Vec<rustls::SupportedCipherSuite>,
    /// `groups = ["X25519MLKEM768", "X25519", "secp256r1", "secp384r1"]` (the default).
    pub groups: Vec<&'static dyn rustls::crypto::SupportedKxGroup>,
}

/// A TLS version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// 1.3
    V13,
    /// 1.2
    V12,
}
