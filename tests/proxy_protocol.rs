//! What backends are told: by our own reader field by field, and as nginx and HAProxy read it.

#![allow(clippy::unwrap_used, reason = "a test that can't set up its scene has failed")]

mod support;

use std::{io::Read, io::Write, net::SocketAddr, path::Path, process::Command};

use countersign::proxy::{self, ClientCertificate, Endpoints};
use support::{
    Config, Files, Listener, Pki, Process, Recorder, SClient, Server, TlsClient, client_config,
    free_port, require_tool, wait_listening,
};

fn serve(pki: &Pki, backend: SocketAddr, client_auth: &str) -> Server {
    let listener =
        Listener::new("main", "app", &[&pki.server()]).client_auth(client_auth).alpn(&["http/1.1"]);
    Server::start(Config::new(pki).backend_v2("app", backend).listener(listener))
}

/// Every field of the header against what the client and the log know, with TLS 1.3 and 1.2.
#[test]
fn the_backend_is_told_everything_about_an_admitted_client() {
    let pki = Pki::new();
    let recorder = Recorder::new();
    let server = serve(&pki, recorder.addr(), "required");
    let files = pki.client();
    for (number, (version, name)) in
        (1..).zip([(&rustls::version::TLS13, "TLSv1.3"), (&rustls::version::TLS12, "TLSv1.2")])
    {
        let mut config = rustls::ClientConfig::builder_with_protocol_versions(&[version])
            .with_root_certificates({
                let mut roots = rustls::RootCertStore::empty();
                roots.add(pki.ca.der().clone()).unwrap();
                roots
            })
            .with_client_auth_cert(files.identity.chain().to_vec(), files.identity.key_der())
            .unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut client = TlsClient::connect(server.addr(), config).unwrap();
        client.echo(b"hello");
        let source = client.0.sock.local_addr().unwrap();
        let bytes = recorder.next();
        let (header, length) = proxy::parse(&bytes).unwrap().unwrap();
        assert_eq!(length, bytes.len());
        assert_eq!(header.endpoints, Endpoints::Tcp { source, destination: server.addr() });
        assert_eq!(header.alpn, Some(&b"http/1.1"[..]));
        assert_eq!(header.authority, Some(Pki::SERVER));
        let suite = client.0.conn.negotiated_cipher_suite().unwrap().suite();
        let tls = header.tls.unwrap();
        assert!(tls.is_verified());
        assert_eq!(tls.client_certificate, ClientCertificate::Connection);
        assert_eq!(tls.version, Some(name));
        assert_eq!(tls.common_name, Some(Pki::CLIENT));
        let suite = suite.as_str().unwrap().replacen("TLS13_", "TLS_", 1);
        assert_eq!(tls.cipher, Some(suite.as_str()));
        // Of the server's certificate, which the client was shown.
        assert_eq!((tls.sig_alg, tls.key_alg), (Some("SHA256"), Some("EC256")));
        assert_eq!(tls.certificate, Some(files.der()));
        drop(client);
        let line = server.wait_connection(number);
        let id = line["id"].as_str().unwrap();
        assert_eq!(header.unique_id, Some(id.as_bytes()), "{line}");
        assert_eq!(line["client"], source.to_string());
    }
    server.stop();
}

/// A certificate of many names, larger than one packet or any small buffer, arrives whole.
#[test]
fn a_large_certificate_reaches_the_backend_unabridged() {
    let pki = Pki::new();
    let recorder = Recorder::new();
    let server = serve(&pki, recorder.addr(), "required");
    // The policy knows the first one, and each may be vouched for.
    let names = (0..150).map(|number| format!("an-alias-of-some-length-{number}.contoso.test"));
    let spec = names.fold(Pki::client_spec(Pki::CLIENT), |spec, name| spec.dns(name));
    let files = pki.issue(&pki.ca, "large", &spec);
    assert!(files.der().len() > 5000);
    let mut client = TlsClient::connect(server.addr(), client_config(&pki, Some(&files))).unwrap();
    client.echo(b"hello");
    let bytes = recorder.next();
    let (header, _) = proxy::parse(&bytes).unwrap().unwrap();
    assert_eq!(header.tls.unwrap().certificate, Some(files.der()));
    drop(client);
    server.stop();
}

/// Without a certificate there is no identity, and nothing reads as one.
#[test]
fn an_anonymous_client_is_told_as_such() {
    let pki = Pki::new();
    let recorder = Recorder::new();
    for client_auth in ["optional", "none"] {
        let server = serve(&pki, recorder.addr(), client_auth);
        let mut client = TlsClient::connect(server.addr(), client_config(&pki, None)).unwrap();
        client.echo(b"hello");
        let bytes = recorder.next();
        let (header, _) = proxy::parse(&bytes).unwrap().unwrap();
        let tls = header.tls.unwrap();
        assert!(!tls.is_verified());
        assert_ne!(tls.verify, 0, "zero would read as verified");
        assert_eq!(tls.client_certificate, ClientCertificate::None);
        assert_eq!((tls.common_name, tls.certificate), (None, None));
        drop(client);
        server.stop();
    }
}

/// A client that is refused never shows up at the backend.
#[test]
fn the_backend_never_hears_of_a_refused_client() {
    let pki = Pki::new();
    let recorder = Recorder::new();
    let server = serve(&pki, recorder.addr(), "required");
    let run = SClient::new(&pki, server.addr()).certificate(&pki.stranger()).end();
    assert!(run.alert().is_some(), "{run:?}");
    server.wait_connection(1);
    assert_eq!(recorder.has_next(), None);
    server.stop();
}

/// Writes a configuration, starts the program in the foreground, and waits for its port.
fn start(program: &str, folder: &Path, config: &str, option: &str, port: u16) -> Process {
    require_tool(program);
    let file = folder.join(format!("{program}.conf"));
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(format!("/usr/sbin/{program}"));
    let process = Process::spawn(command.arg(option).arg(&file).current_dir(folder));
    wait_listening(port);
    process
}

/// A client's connection, and its own address.
fn connect(pki: &Pki, files: &Files, server: &Server) -> (TlsClient, SocketAddr) {
    let client = TlsClient::connect(server.addr(), client_config(pki, Some(files))).unwrap();
    let address = client.0.sock.local_addr().unwrap();
    (client, address)
}

/// nginx answers with the client's address, and ours, as it found them in the header. Before 1.23.2
/// it takes 107 bytes of header at most and resets the connection at more, so the header has
/// addresses alone, whoever the client is.
#[test]
fn nginx_reads_a_header_of_addresses_alone() {
    let pki = Pki::new();
    let port = free_port();
    let folder = pki.folder();
    let config = format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n\
         daemon off;\nmaster_process off;\npid {0}/nginx.pid;\nerror_log stderr;\n\
         events {{}}\n\
         stream {{\n  server {{\n    listen 127.0.0.1:{port} proxy_protocol;\n\
         return \"$proxy_protocol_addr:$proxy_protocol_port \
         $proxy_protocol_server_addr:$proxy_protocol_server_port\";\n  }}\n}}\n",
        folder.display()
    );
    let _nginx = start("nginx", folder, &config, "-c", port);
    let toml = format!("servers = [\"127.0.0.1:{port}\"]\nproxy_protocol = \"v2-addresses\"");
    let listener = Listener::new("main", "app", &[&pki.server()]).alpn(&["http/1.1"]);
    let server = Server::start(Config::new(&pki).backend_toml("app", &toml).listener(listener));
    let mut config = client_config(&pki, Some(&pki.client()));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let mut client = TlsClient::connect(server.addr(), config).unwrap();
    let address = client.0.sock.local_addr().unwrap();
    let answer = client.read_to_end().unwrap();
    assert_eq!(String::from_utf8(answer).unwrap(), format!("{address} {}", server.addr()));
    drop(client);
    server.stop();
}

/// HAProxy takes the connection over under the client's address, and has the SNI and our id of the
/// connection to log.
#[test]
fn haproxy_reads_the_header() {
    let pki = Pki::new();
    let port = free_port();
    let config = format!(
        "defaults\n  mode http\n  timeout client 20s\n  timeout server 20s\n  timeout connect 5s\n\
         frontend in\n  bind 127.0.0.1:{port} accept-proxy\n\
         http-request return status 200 content-type text/plain lf-string \
         \"%[src]:%[src_port] %[dst]:%[dst_port] %[fc_pp_authority] %[fc_pp_unique_id] end\"\n"
    );
    let _haproxy = start("haproxy", pki.folder(), &config, "-f", port);
    let server = serve(&pki, ([127, 0, 0, 1], port).into(), "required");
    let (mut client, address) = connect(&pki, &pki.client(), &server);
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", Pki::SERVER);
    client.0.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    client.0.read_to_string(&mut answer).unwrap();
    drop(client);
    let line = server.wait_connection(1);
    let id = line["id"].as_str().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, format!("{address} {} {} {id} end", server.addr(), Pki::SERVER));
    server.stop();
}
