//! Distribution points: the URLs that certificates name.

use std::fs;

use super::{Scene, wait_entries};
use crate::support::{CrlServer, Files, Pki, Reply, Server};

const KEPT: &str = "[revocation]\nfetch_timeout = \"1s\"\nstate_dir = \"state\"";

fn client_with_points(pki: &Pki, urls: &[&str]) -> Files {
    let spec = Pki::client_spec(Pki::CLIENT);
    let spec = urls.iter().fold(spec, |spec, url| spec.crl_url(*url));
    pki.issue(&pki.ca, "client-points", &spec)
}

fn start(scene: &Scene) -> Server {
    Server::start(scene.config("crl_fetch = \"distribution-points\"").raw(KEPT))
}

/// The first client comes before anything was fetched, and is refused; what its certificate names
/// is fetched then, and outlives a restart without the server.
#[test]
fn a_distribution_point_is_fetched_after_its_certificate_was_seen() {
    let scene = Scene::new();
    fs::create_dir(scene.pki.file("state")).unwrap();
    let crls = CrlServer::start(Reply::Body(scene.crl_of_others(5, 2)));
    let client = client_with_points(&scene.pki, &["ldap://dc01.contoso.test/CN=Root", &crls.url()]);
    let server = start(&scene);
    scene.refused(&server, &client, "revocation_unknown");
    wait_entries(&server, 2.0);
    scene.admitted(&server, &client);
    server.stop();
    crls.down();
    let server = start(&scene);
    scene.admitted(&server, &client);
}

#[test]
fn a_stranger_can_not_make_anything_be_fetched() {
    let scene = Scene::new();
    fs::create_dir(scene.pki.file("state")).unwrap();
    let crls = CrlServer::start(Reply::Body(scene.crl(5, &[])));
    let strange = CrlServer::start(Reply::Body(scene.crl(5, &[])));
    let spec = Pki::client_spec(Pki::CLIENT).crl_url(strange.url());
    let stranger = scene.pki.issue(&scene.pki.stranger_ca, "stranger-points", &spec);
    let client = client_with_points(&scene.pki, &[&crls.url()]);
    let server = start(&scene);
    let number = server.metric("refusals_total", &[("reason", "unknown_issuer")]);
    crate::support::SClient::new(&scene.pki, server.addr()).certificate(&stranger).end();
    server.wait_metric("refusals_total", &[("reason", "unknown_issuer")], number + 1.0);
    scene.refused(&server, &client, "revocation_unknown");
    server.wait_metric("crl_fetches_total", &[("result", "fetched")], 1.0);
    assert_eq!(strange.requests(), [""; 0]);
}
