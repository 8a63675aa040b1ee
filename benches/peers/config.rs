//! Each server's configuration: mutual TLS on some ports, one worker on CPU 0, no log of
//! connections, session tickets, no waiting for larger segments; all else as the server comes.

use std::path::Path;

use rustix::process::geteuid;

use super::{
    Peer,
    pki::{CLIENT_NAME, Pki, ServerKey},
    site::Behind,
};

/// One port of the server and the backend behind it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route {
    pub(crate) behind: Behind,
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    pub(crate) backend_port: u16,
    /// What the server's certificate is for.
    pub(crate) key: ServerKey,
}

/// What a server is configured to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup<'a> {
    pub(crate) pki: &'a Pki,
    pub(crate) routes: &'a [Route],
    /// Counts for countersign alone; the others have one.
    pub(crate) workers: u16,
    /// The library that countersign computes handshakes with; what it finds itself if `None`.
    pub(crate) crypto_mb: Option<&'a Path>,
}

/// A configuration file; each is served by a process of its own.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    pub(crate) name: String,
    pub(crate) text: String,
}

impl Peer {
    /// The files that it takes to serve all routes.
    pub(crate) fn configuration(self, setup: &Setup<'_>) -> Vec<ConfigFile> {
        let &Setup { pki, routes, .. } = setup;
        let file = |name: &str, text| vec![ConfigFile { name: name.to_owned(), text }];
        match self {
            Self::Countersign => {
                let accel = setup.crypto_mb.map(|path| path.display().to_string());
                file("countersign.toml", countersign(setup, accel.as_deref(), None))
            }
            Self::CountersignScalar => {
                file("countersign.toml", countersign(setup, Some("off"), None))
            }
            Self::CountersignVerify => {
                let accel = setup.crypto_mb.map(|path| path.display().to_string());
                let library = accel.as_deref().or(Some("auto"));
                file("countersign.toml", countersign(setup, library, Some("crypto_mb")))
            }
            Self::Nginx => file("nginx.conf", nginx(pki, routes, self.stream_module().as_deref())),
            Self::Haproxy => file("haproxy.cfg", haproxy(pki, routes)),
            Self::Stunnel => file("stunnel.conf", stunnel(pki, routes)),
            // It knows a single backend.
            Self::Hitch => routes
                .iter()
                .map(|route| ConfigFile {
                    name: format!("hitch-{}.conf", route.name),
                    text: hitch(pki, route),
                })
                .collect(),
            Self::Floor => file("routes", floor(routes)),
        }
    }

    /// nginx' stream module, if it isn't built in: where Debian's packages have it.
    fn stream_module(self) -> Option<String> {
        let about = self.about(&["-V"]);
        let folder = about.split("--modules-path=").nth(1)?.split_whitespace().next()?;
        about.contains("--with-stream=dynamic").then(|| format!("{folder}/ngx_stream_module.so"))
    }
}

/// With what `[accel]` says of the library, and of who verifies, where that isn't the default.
fn countersign(setup: &Setup<'_>, crypto_mb: Option<&str>, verify: Option<&str>) -> String {
    let &Setup { pki, routes, workers, .. } = setup;
    let mut text = format!(
        r#"[workers]
cpus = "0-{}"

[admin]
listen = "off"

[log]
connections = false

# What a handshake costs is measured, and not who is turned away from a machine that is too slow.
[limits]
max_handshake_wait = "1m"

[trust.bench]
ca = [{:?}]
names = ["{CLIENT_NAME}"]

[peers.clients]
trust = "bench"
names = ["{CLIENT_NAME}"]
"#,
        workers - 1,
        pki.ca
    );
    if let Some(crypto_mb) = crypto_mb {
        text += &format!("\n[accel]\ncrypto_mb = {crypto_mb:?}\n");
    }
    if let Some(verify) = verify {
        text += &format!("verify = {verify:?}\n");
    }
    for Route { name, port, backend_port, key, .. } in routes {
        let server = pki.server(*key);
        text += &format!(
            r#"
[backends.{name}]
servers = ["127.0.0.1:{backend_port}"]

[[listener]]
name = "{name}"
listen = ["127.0.0.1:{port}"]
client_auth = "required"
peers = ["clients"]
certificates = [{{ chain = {:?}, key = {:?} }}]
backend = "{name}"
"#,
            server.chain, server.key
        );
    }
    text
}

fn nginx(pki: &Pki, routes: &[Route], module: Option<&str>) -> String {
    let mut text = module.map_or_else(String::new, |file| format!("load_module {file};\n"));
    text += &format!(
        "daemon off;
worker_processes 1;
worker_cpu_affinity 01;
worker_rlimit_nofile 16384;
pid nginx.pid;
error_log stderr crit;
events {{ worker_connections 8192; }}
stream {{
    ssl_client_certificate {};
    ssl_verify_client on;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_tickets on;
    ssl_session_cache shared:sessions:16m;
    tcp_nodelay on;
",
        pki.ca.display(),
    );
    for Route { port, backend_port, key, .. } in routes {
        let server = pki.server(*key);
        text += &format!(
            "    server {{
        listen 127.0.0.1:{port} ssl backlog=4096;
        ssl_certificate {};
        ssl_certificate_key {};
        proxy_pass 127.0.0.1:{backend_port};
    }}\n",
            server.chain.display(),
            server.key.display(),
        );
    }
    text + "}\n"
}

fn haproxy(pki: &Pki, routes: &[Route]) -> String {
    let mut text = "global
    nbthread 1
    cpu-map 1/1 0
    maxconn 8000
    tune.ssl.cachesize 100000
    ssl-default-bind-options ssl-min-ver TLSv1.2

defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
"
    .to_owned();
    for Route { name, port, backend_port, key, .. } in routes {
        text += &format!(
            "
listen {name}
    bind 127.0.0.1:{port} backlog 4096 ssl crt {} ca-file {} verify required
    server backend 127.0.0.1:{backend_port}
",
            pki.server(*key).both.display(),
            pki.ca.display()
        );
    }
    text
}

fn stunnel(pki: &Pki, routes: &[Route]) -> String {
    let mut text = "foreground = yes
pid =
debug = 3
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
"
    .to_owned();
    for Route { name, port, backend_port, key, .. } in routes {
        text += &format!(
            "
[{name}]
accept = 127.0.0.1:{port}
connect = 127.0.0.1:{backend_port}
cert = {}
CAfile = {}
verifyChain = yes
requireCert = yes
",
            pki.server(*key).both.display(),
            pki.ca.display()
        );
    }
    text
}

fn hitch(pki: &Pki, Route { port, backend_port, key, .. }: &Route) -> String {
    // It refuses to have workers that run as root.
    let user = if geteuid().is_root() { "user = \"nobody\"\n" } else { "" };
    format!(
        "{user}frontend = \"[127.0.0.1]:{port}\"
backend = \"[127.0.0.1]:{backend_port}\"
pem-file = {:?}
client-verify = required
client-verify-ca = {:?}
tls-protos = TLSv1.2 TLSv1.3
workers = 1
backlog = 4096
daemon = off
ocsp-dir = \"\"
",
        pki.server(*key).both,
        pki.ca
    )
}

/// As [`super::floor::serve`] reads it.
fn floor(routes: &[Route]) -> String {
    let line =
        |route: &Route| format!("127.0.0.1:{} 127.0.0.1:{}\n", route.port, route.backend_port);
    routes.iter().map(line).collect()
}
