use std::{
    io::{Read, Write},
    net::TcpStream,
};

use super::*;
use crate::{
    pki::{Authority, Spec, Validity},
    proxy::{ClientCertificate, Endpoints, Header, Tls},
};

/// A connection to `backend` that fails rather than waits for ever.
fn connect(backend: &Backend) -> TcpStream {
    let stream = TcpStream::connect(backend.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// A connection that was handed over without any identity.
fn anonymous(backend: &Backend) -> TcpStream {
    let mut stream = connect(backend);
    stream.write_all(b"\r\n\r\n\0\r\nQUIT\n\x21\x00\x00\x00").unwrap();
    stream
}

fn rest(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// One answer's head and body, the body of the length that the head says.
fn answer(stream: &mut TcpStream) -> (String, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.split("Content-Length: ").nth(1).unwrap().split("\r\n").next().unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    (head, String::from_utf8(body).unwrap())
}

fn identified_header(certificate: &[u8], session: ClientCertificate) -> Vec<u8> {
    let mut out = Vec::new();
    let header = Header {
        endpoints: Endpoints::Tcp {
            source: "192.0.2.7:4711".parse().unwrap(),
            destination: "192.0.2.1:8443".parse().unwrap(),
        },
        alpn: Some(b"http/1.1"),
        authority: Some("localhost"),
        unique_id: Some(&[0xab, 0x01]),
        tls: Some(Tls {
            client_certificate: session,
            verify: Tls::VERIFIED,
            version: Some("TLSv1.3"),
            common_name: Some("client\n.demo.test"),
            cipher: Some("TLS_AES_128_GCM_SHA256"),
            sig_alg: Some("SHA256"),
            key_alg: Some("EC256"),
            certificate: Some(certificate),
        }),
        ..Header::default()
    };
    assert!(header.encode(&mut out).is_empty());
    out
}

fn client_certificate() -> Vec<u8> {
    let validity = Validity::from_now(Duration::from_secs(3600));
    let spec = Spec::new("client.demo.test", validity)
        .dns("client.demo.test")
        .uri("spiffe://demo.test/client")
        .ip(Ipv4Addr::new(192, 0, 2, 7));
    let ca = Authority::root(&Spec::new("demo CA", validity)).unwrap();
    ca.issue(&spec).unwrap().chain()[0].to_vec()
}

#[test]
fn an_http_client_reads_the_identity_it_was_handed_over_with() {
    let backend = Backend::start().unwrap();
    let mut stream = connect(&backend);
    stream
        .write_all(&identified_header(&client_certificate(), ClientCertificate::Connection))
        .unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let (head, body) = answer(&mut stream);
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("Content-Type: text/plain"), "{head}");
    for line in [
        "client       192.0.2.7:4711",
        "listener     192.0.2.1:8443",
        "sni          localhost",
        "alpn         http/1.1",
        "unique id    ab01",
        "tls version  TLSv1.3",
        "cipher       TLS_AES_128_GCM_SHA256",
        "server sig   SHA256",
        "server key   EC256",
        "verified     yes",
        "common name  client\\n.demo.test",
        "subject      CN=client.demo.test",
        "issuer       CN=demo CA",
        "dns name     client.demo.test",
        "uri          spiffe://demo.test/client",
        "ip address   192.0.2.7",
    ] {
        assert!(body.contains(&format!("  {line}\n")), "{line:?} isn't in:\n{body}");
    }
}

#[test]
fn a_program_reads_the_same_as_json_and_keeps_the_connection() {
    let backend = Backend::start().unwrap();
    let mut stream = connect(&backend);
    stream
        .write_all(&identified_header(&client_certificate(), ClientCertificate::Session))
        .unwrap();
    for _ in 0..2 {
        stream.write_all(b"GET / HTTP/1.1\r\nAccept: application/json\r\n\r\n").unwrap();
        let (head, body) = answer(&mut stream);
        assert!(head.contains("Content-Type: application/json\r\n"), "{head}");
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(json["client"], "192.0.2.7:4711");
        assert_eq!(json["tls"]["verified"], true);
        assert_eq!(json["tls"]["resumed"], true);
        assert_eq!(json["tls"]["common_name"], "client\n.demo.test");
        assert_eq!(json["tls"]["certificate"]["dns_names"][0], "client.demo.test");
        assert_eq!(json["tls"]["certificate"]["ip_addresses"][0], "192.0.2.7");
    }
}

#[test]
fn a_malformed_certificate_is_said_to_be_and_harms_nothing() {
    let backend = Backend::start().unwrap();
    let mut stream = connect(&backend);
    stream.write_all(&identified_header(b"\x30\x01", ClientCertificate::Connection)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let (_, body) = answer(&mut stream);
    assert!(body.contains("  certificate  malformed: "), "{body}");
}

#[test]
fn a_header_and_request_that_come_byte_by_byte_are_understood() {
    let backend = Backend::start().unwrap();
    let mut stream = connect(&backend);
    stream.set_nodelay(true).unwrap();
    let header = b"\r\n\r\n\0\r\nQUIT\n\x21\x00\x00\x05\x01\x00\x02h2";
    for byte in [&header[..], b"GET / HTTP/1.1\r\n\r\n"].concat() {
        stream.write_all(&[byte]).unwrap();
    }
    let (_, body) = answer(&mut stream);
    assert!(body.contains("alpn         h2\n") && body.contains("tls          no\n"), "{body}");
}

#[test]
fn requests_sent_at_once_are_answered_in_order_and_close_is_obeyed() {
    let backend = Backend::start().unwrap();
    let mut stream = anonymous(&backend);
    stream
        .write_all(
            b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nGET /HEAD / HTTP/1.1\r\n\r\n\
              GET / HTTP/1.1\r\nConnection: close\r\n\r\nignored",
        )
        .unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let text = rest(stream);
    let answers: Vec<&str> = text.split("HTTP/1.1 200 OK\r\n").collect();
    assert_eq!(answers.len(), 4, "{text}");
    let body = |answer: &str| answer.split_once("\r\n\r\n").unwrap().1.to_owned();
    assert!(body(answers[1]).contains("handed this connection over"));
    assert_eq!(body(answers[2]), "", "an answer to HEAD has no body");
    assert!(answers[3].contains("Connection: close\r\n"));
    assert!(body(answers[3]).contains("handed this connection over"));
}

#[test]
fn a_client_that_waits_to_be_asked_for_its_body_is_asked() {
    let backend = Backend::start().unwrap();
    let mut stream = anonymous(&backend);
    stream
        .write_all(b"PUT / HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        .unwrap();
    let mut asked = vec![0; http::CONTINUE.len()];
    stream.read_exact(&mut asked).unwrap();
    assert_eq!(asked, http::CONTINUE);
    stream.write_all(b"abc").unwrap();
    assert!(answer(&mut stream).0.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[test]
fn a_refused_request_is_told_why_before_the_connection_ends() {
    let backend = Backend::start().unwrap();
    let mut stream = anonymous(&backend);
    stream.write_all(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let text = rest(stream);
    assert!(text.starts_with("HTTP/1.1 411 Length Required\r\n"), "{text}");
    assert!(text.contains("Connection: close\r\n"), "{text}");
}

#[test]
fn whatever_is_no_http_is_echoed_until_the_client_ends() {
    let backend = Backend::start().unwrap();
    let stream = anonymous(&backend);
    // More than socket buffers hold, so that reading and writing must go hand in hand.
    let sent: Vec<u8> = (0..4 << 20).map(|at: u32| at.to_le_bytes()[at as usize % 3]).collect();
    let mut writer = stream.try_clone().unwrap();
    let to_send = sent.clone();
    let sending = thread::spawn(move || {
        writer.write_all(&to_send).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut echoed = Vec::new();
    (&stream).read_to_end(&mut echoed).unwrap();
    sending.join().unwrap();
    assert!(echoed == sent, "{} of {} bytes came back", echoed.len(), sent.len());
}

#[test]
fn bytes_that_only_look_like_http_at_first_are_echoed() {
    let backend = Backend::start().unwrap();
    for text in ["GE", "GET", "GET lost\r\n", "GET / HTTP/9\r\n\r\n"] {
        let mut stream = anonymous(&backend);
        stream.write_all(text.as_bytes()).unwrap();
        let mut back = vec![0; text.len()];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(back, text.as_bytes());
    }
    let mut unfinished = anonymous(&backend);
    unfinished.write_all(b"GET / HT").unwrap();
    unfinished.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(unfinished), "GET / HT");
}

#[test]
fn a_connection_without_a_valid_header_gets_no_answer() {
    let backend = Backend::start().unwrap();
    let mut stream = connect(&backend);
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // Closed with unread bytes: the end or a reset, but never an answer.
    let _ = stream.read_to_end(&mut answer);
    assert_eq!(answer, b"");
}

#[test]
fn dropping_the_backend_ends_it_and_its_connections() {
    let backend = Backend::start().unwrap();
    let address = backend.address();
    let mut stream = anonymous(&backend);
    stream.write_all(b"hello").unwrap();
    let mut back = [0; 5];
    stream.read_exact(&mut back).unwrap();
    drop(backend);
    assert_eq!(rest(stream), "");
    TcpStream::connect(address).unwrap_err();
}
