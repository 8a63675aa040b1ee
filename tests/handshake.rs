//! Handshakes over the network.

mod support;

use support::{Backend, Config, Pki, SClient, Server};

/// A client with the right certificate gets its bytes back: the whole way works.
#[test]
fn an_admitted_client_reaches_the_backend() {
    let pki = Pki::new();
    let server = Server::start(Config::simple(&pki, Backend::echo().addr()));
    SClient::new(&pki, server.addr()).certificate(&pki.client()).echo().succeeded();
    assert_eq!(server.wait_connection(1)["cause"], "complete");
    server.wait_metric("handshakes_total", &[("result", "accepted"), ("kind", "full")], 1.0);
    server.stop();
}
