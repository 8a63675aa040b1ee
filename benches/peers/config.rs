//! Each server's configuration: mutual TLS on three ports, one worker on CPU 0, no log of
//! connections, session tickets, no waiting for larger segments; all else as the server comes.

use rustix::process::geteuid;

use super::{
    Peer,
    pki::{CLIENT_NAME, Pki},
};

/// One port of the server and the backend behind it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route {
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    pub(crate) backend_port: u16,
}

/// A configuration file; each is served by a process of its own.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    pub(crate) name: String,
    pub(crate) text: String,
}

impl Peer {
    /// The files that it takes to serve all routes. `workers` counts for countersign alone.
    pub(crate) fn configuration(
        self,
        pki: &Pki,
        routes: &[Route],
        workers: u16,
    ) -> Vec<ConfigFile> {
        let file = |name: &str, text| vec![ConfigFile { name: name.to_owned(), text }];
        match self {
            Self::Countersign => file("countersign.toml", countersign(pki, routes, workers)),
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

fn countersign(pki: &Pki, routes: &[Route], workers: u16) -> String {
    let mut text = format!(
        r#"[workers]
cpus = "0-{}"

[admin]
listen = "off"

[log]
connections = false

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
    for Route { name, port, backend_port } in routes {
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
            pki.server, pki.server_key
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
    ssl_certificate {};
    ssl_certificate_key {};
    ssl_client_certificate {};
    ssl_verify_client on;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_tickets on;
    ssl_session_cache shared:sessions:16m;
    tcp_nodelay on;
",
        pki.server.display(),
        pki.server_key.display(),
        pki.ca.display(),
    );
    for Route { port, backend_port, .. } in routes {
        text += &format!(
            "    server {{
        listen 127.0.0.1:{port} ssl backlog=4096;
        proxy_pass 127.0.0.1:{backend_port};
    }}\n"
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
    for Route { name, port, backend_port } in routes {
        text += &format!(
            "
listen {name}
    bind 127.0.0.1:{port} backlog 4096 ssl crt {} ca-file {} verify required
    server backend 127.0.0.1:{backend_port}
",
            pki.server_with_key.display(),
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
    for Route { name, port, backend_port } in routes {
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
            pki.server_with_key.display(),
            pki.ca.display()
        );
    }
    text
}

fn hitch(pki: &Pki, Route { port, backend_port, .. }: &Route) -> String {
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
        pki.server_with_key, pki.ca
    )
}

/// As [`super::floor::serve`] reads it.
fn floor(routes: &[Route]) -> String {
    let line =
        |route: &Route| format!("127.0.0.1:{} 127.0.0.1:{}\n", route.port, route.backend_port);
    routes.iter().map(line).collect()
}
