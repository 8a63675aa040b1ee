//! Configuration files, built from parts.

use std::{
    fmt::Write,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use super::{Files, Pki, free_port};

/// The library that handshakes are tested with: where `COUNTERSIGN_TEST_CRYPTO_MB` names a file, it
/// has to be that one, in every server of every test; else the one of the system, or none.
fn accel() -> String {
    match std::env::var("COUNTERSIGN_TEST_CRYPTO_MB") {
        Ok(path) if !path.is_empty() => format!("[accel]\ncrypto_mb = {path:?}\n\n"),
        _ => String::new(),
    }
}

/// One `[[listener]]`.
#[derive(Debug, Clone)]
pub struct Listener {
    name: String,
    address: SocketAddr,
    backend: String,
    client_auth: String,
    peers: Vec<String>,
    certificates: Vec<String>,
    more: String,
}

impl Listener {
    /// A listener that requires a certificate of the peers `clients`, on a free port, and hands
    /// plaintext to the backend.
    pub fn new(name: &str, backend: &str, certificates: &[&Files]) -> Self {
        Self {
            name: name.into(),
            address: (Ipv4Addr::LOCALHOST, free_port()).into(),
            backend: backend.into(),
            client_auth: "required".into(),
            peers: vec!["clients".into()],
            certificates: certificates.iter().map(|files| files.toml()).collect(),
            more: String::new(),
        }
    }

    /// `required`, `optional` or `none`; the latter has no peers.
    pub fn client_auth(mut self, word: &str) -> Self {
        self.client_auth = word.into();
        if word == "none" {
            self.peers.clear();
        }
        self
    }

    /// Other peers than `clients`.
    pub fn peers(mut self, names: &[&str]) -> Self {
        self.peers = names.iter().map(|&name| name.into()).collect();
        self
    }

    /// `sni = "strict"`
    pub fn strict_sni(self) -> Self {
        self.toml("sni = \"strict\"")
    }

    /// `alpn`
    pub fn alpn(self, protocols: &[&str]) -> Self {
        self.toml(&format!("alpn = {protocols:?}"))
    }

    /// A line more of TOML.
    pub fn toml(mut self, line: &str) -> Self {
        self.more.push_str(line);
        self.more.push('\n');
        self
    }

    /// Another address than the one chosen.
    pub fn at(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A whole configuration. Names are those of [`Pki`]: trust `contoso`, peers `clients`.
#[derive(Debug, Clone)]
pub struct Config {
    folder: PathBuf,
    top: String,
    admin: SocketAddr,
    names: Vec<String>,
    blocked: Vec<String>,
    revocation: String,
    trust: String,
    backends: String,
    listeners: Vec<Listener>,
    limits: String,
    log: String,
    raw: String,
}

impl Config {
    /// Trusts the CA of `pki`, lets [`Pki::CLIENT`] in, and blocks [`Pki::BLOCKED`].
    pub fn new(pki: &Pki) -> Self {
        Self {
            folder: pki.folder().to_owned(),
            top: String::new(),
            admin: (Ipv4Addr::LOCALHOST, free_port()).into(),
            names: vec![Pki::CLIENT.into()],
            blocked: vec![Pki::BLOCKED.into()],
            revocation: "revocation = \"off\"".into(),
            trust: String::new(),
            backends: String::new(),
            listeners: Vec::new(),
            limits: String::new(),
            log: "format = \"json\"\n".into(),
            raw: String::new(),
        }
    }

    /// The usual one: a listener `main` with the ECDSA server certificate, in front of `backend`.
    pub fn simple(pki: &Pki, backend: SocketAddr) -> Self {
        let listener = Listener::new("main", "app", &[&pki.server()]);
        Self::new(pki).backend("app", backend).listener(listener)
    }

    /// A backend without PROXY header.
    pub fn backend(self, name: &str, address: SocketAddr) -> Self {
        self.backend_toml(name, &format!("servers = [\"{address}\"]"))
    }

    /// A backend with PROXY header, version 2.
    pub fn backend_v2(self, name: &str, address: SocketAddr) -> Self {
        let toml = format!("servers = [\"{address}\"]\nproxy_protocol = \"v2\"");
        self.backend_toml(name, &toml)
    }

    /// A backend with these lines.
    pub fn backend_toml(mut self, name: &str, lines: &str) -> Self {
        let _ = write!(self.backends, "[backends.{name}]\n{lines}\n\n");
        self
    }

    /// A listener more.
    pub fn listener(mut self, listener: Listener) -> Self {
        self.listeners.push(listener);
        self
    }

    /// Without the listener of that name.
    pub fn without_listener(mut self, name: &str) -> Self {
        self.listeners.retain(|listener| listener.name != name);
        self
    }

    /// A key of `[limits]` with its value as TOML, such as `"\"1s\""`. Without it,
    /// `max_handshake_wait` is a minute: tests share their CPUs, and debug builds are slow.
    pub fn limit(mut self, key: &str, value: &str) -> Self {
        let _ = writeln!(self.limits, "{key} = {value}");
        self
    }

    /// The names of the peers `clients`, instead of [`Pki::CLIENT`].
    pub fn peer_names(mut self, names: &[&str]) -> Self {
        self.names = names.iter().map(|&name| name.into()).collect();
        self
    }

    /// Lines about revocation for `[trust.contoso]`, instead of `revocation = "off"`.
    pub fn revocation(mut self, lines: &str) -> Self {
        self.revocation = lines.into();
        self
    }

    /// The names that are blocked, instead of [`Pki::BLOCKED`].
    pub fn blocked_names(mut self, names: &[&str]) -> Self {
        self.blocked = names.iter().map(|&name| name.into()).collect();
        self
    }

    /// Every listener with a line more of TOML.
    pub fn listener_toml(mut self, line: &str) -> Self {
        self.listeners = self.listeners.into_iter().map(|listener| listener.toml(line)).collect();
        self
    }

    /// Lines more for `[trust.contoso]`.
    pub fn trust_toml(mut self, lines: &str) -> Self {
        self.trust.push_str(lines);
        self.trust.push('\n');
        self
    }

    /// A line more before all sections.
    pub fn top(mut self, line: &str) -> Self {
        self.top.push_str(line);
        self.top.push('\n');
        self
    }

    /// Sections more, as TOML.
    pub fn raw(mut self, text: &str) -> Self {
        self.raw.push_str(text);
        self.raw.push('\n');
        self
    }

    /// Replaces `[log]`.
    pub fn log_toml(mut self, lines: &str) -> Self {
        self.log = lines.into();
        self
    }

    /// At the addresses of another configuration, whose listeners have the same names.
    pub fn moved_to(mut self, other: &Self) -> Self {
        for listener in &mut self.listeners {
            listener.address = other.addr_of(&listener.name);
        }
        self.admin = other.admin;
        self
    }

    /// Where the listener of that name listens.
    pub fn addr_of(&self, name: &str) -> SocketAddr {
        let found = self.listeners.iter().find(|listener| listener.name == name);
        found.unwrap_or_else(|| panic!("no listener {name}")).address
    }

    /// Where the first listener listens.
    pub fn addr(&self) -> SocketAddr {
        self.listeners[0].address
    }

    /// Where metrics are served.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Where the file goes.
    pub fn path(&self) -> PathBuf {
        self.folder.join("countersign.toml")
    }

    /// Writes the file.
    pub fn write(&self) -> PathBuf {
        let path = self.path();
        std::fs::write(&path, self.text()).unwrap();
        path
    }

    /// The file's content.
    pub fn text(&self) -> String {
        let Self {
            top, admin, names, blocked, revocation, trust, backends, limits, log, raw, ..
        } = self;
        let accel = accel();
        let wait = if limits.contains("max_handshake_wait") {
            ""
        } else {
            "max_handshake_wait = \"1m\"\n"
        };
        let mut text = format!(
            "{top}{accel}[admin]\nlisten = \"{admin}\"\n\n\
             [log]\n{log}\n\
             [limits]\n{wait}{limits}\n\
             [trust.contoso]\nca = [\"ca.pem\"]\nnames = [\"*.contoso.test\"]\n\
             {revocation}\n{trust}\n\
             [peers.clients]\ntrust = \"contoso\"\nnames = {names:?}\nblocked = {blocked:?}\n\n\
             {backends}"
        );
        for listener in &self.listeners {
            let Listener { name, address, backend, client_auth, peers, certificates, more } =
                listener;
            let certificates = certificates.join(", ");
            let peers = match peers.as_slice() {
                [] => String::new(),
                peers => format!("peers = {peers:?}\n"),
            };
            let _ = write!(
                text,
                "[[listener]]\nname = \"{name}\"\nlisten = [\"{address}\"]\n\
                 client_auth = \"{client_auth}\"\n{peers}certificates = [{certificates}]\n\
                 {more}backend = \"{backend}\"\n\n"
            );
        }
        text + raw
    }
}
