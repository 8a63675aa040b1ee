//! Each server's configuration: mutual TLS on three ports, one worker on CPU 0, no log of
//! connections, session tickets; all else as the server comes.

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

impl Peer {
    /// The configuration file's name and text.
    pub(crate) fn configuration(self, pki: &Pki, routes: &[Route]) -> (&'static str, String) {
        match self {
            Self::Countersign => ("countersign.toml", countersign(pki, routes)),
            Self::Nginx => ("nginx.conf", nginx(pki, routes)),
            Self::Haproxy => ("haproxy.cfg", haproxy(pki, routes)),
        }
    }
}

fn countersign(pki: &Pki, routes: &[Route]) -> String {
    let mut text = format!(
        r#"[workers]
cpus = "0"

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

fn nginx(pki: &Pki, routes: &[Route]) -> String {
    let mut text = format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
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
