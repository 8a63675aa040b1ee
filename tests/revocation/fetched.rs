//! CRLs from a server, good and bad.

use std::fs;

use super::{Scene, crl, entries, wait_entries};
use crate::support::{CrlServer, Reply, Server, eventually};

/// Asks often, and gives up soon.
const OFTEN: &str = "[revocation]\nfetch_timeout = \"1s\"\nfetch_interval = \"1s\"";

fn start(scene: &Scene, crls: &CrlServer, section: &str) -> Server {
    let config = scene.config(&format!("crl_fetch = [{:?}]", crls.url())).raw(section);
    Server::start(config)
}

fn fetches(server: &Server, result: &str) -> f64 {
    server.metric("crl_fetches_total", &[("profile", "contoso"), ("result", result)])
}

/// Waits until one more fetch has ended like this.
fn wait_fetch(server: &Server, result: &str) {
    let before = fetches(server, result);
    eventually(
        || format!("a fetch that is {result}; log:\n{}", server.stderr()),
        || (fetches(server, result) > before).then_some(()),
    );
}

/// The server has a good CRL at first. Whatever it does then, that one stays, the metric tells how
/// the fetch failed, and the log why. After that a newer one is taken.
fn the_last_good_crl_stays(misbehaviours: &[(Reply, &str)]) {
    let scene = Scene::new();
    let crls = CrlServer::start(Reply::Body(scene.crl_of_others(5, 2)));
    let server = start(&scene, &crls, OFTEN);
    wait_entries(&server, 2.0);
    for (reply, result) in misbehaviours {
        crls.answer(reply.clone());
        wait_fetch(&server, result);
        assert_eq!(entries(&server), 2.0, "{result}");
        server.wait_log(|line| line["result"] == *result && line["level"] == "WARN");
        scene.admitted(&server, &scene.client);
    }
    crls.answer(Reply::Body(scene.crl_of_others(7, 1)));
    wait_entries(&server, 1.0);
    server.wait_log(|line| line["message"] == "the CRL can be fetched again");
}

#[test]
fn a_server_that_is_slow_or_sends_too_much_changes_nothing() {
    let drip = b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n".repeat(20);
    the_last_good_crl_stays(&[
        (Reply::Silence, "timed_out"),
        (Reply::Drip(drip), "timed_out"),
        (Reply::Announced(100 << 20), "too_large"),
    ]);
}

#[test]
fn a_body_without_an_end_is_not_read_for_ever() {
    let scene = Scene::new();
    let crls = CrlServer::start(Reply::Endless);
    let server = start(&scene, &crls, "");
    wait_fetch(&server, "too_large");
}

#[test]
fn a_server_that_answers_something_else_changes_nothing() {
    the_last_good_crl_stays(&[
        (Reply::Status(500), "bad_status"),
        (Reply::Redirect("http://127.0.0.1:9/other.crl".into()), "bad_status"),
        (Reply::Noise, "bad_status"),
        (Reply::Close, "truncated"),
        (Reply::Body(b"<html>maintenance</html>".to_vec()), "malformed"),
        (Reply::Body(Vec::new()), "malformed"),
    ]);
}

#[test]
fn a_crl_that_is_cut_or_older_or_forged_changes_nothing() {
    let scene = Scene::new();
    let crls = CrlServer::start(Reply::Body(scene.crl_of_others(5, 2)));
    let server = start(&scene, &crls, OFTEN);
    wait_entries(&server, 2.0);
    let newer = scene.crl_of_others(6, 3);
    let mut forged = newer.clone();
    *forged.last_mut().unwrap() ^= 1;
    let stranger = crl(&scene.pki.stranger_ca, 6, &[]);
    for (reply, result) in [
        (Reply::Cut(newer.clone()), "truncated"),
        (Reply::Body(newer[..newer.len() / 2].to_vec()), "malformed"),
        (Reply::Body(scene.crl_of_others(4, 3)), "older"),
        (Reply::Body(forged), "bad_signature"),
        (Reply::Body(stranger), "bad_signature"),
    ] {
        crls.answer(reply);
        wait_fetch(&server, result);
        assert_eq!(entries(&server), 2.0, "{result}");
    }
    crls.answer(Reply::Body(newer));
    wait_entries(&server, 3.0);
}

#[test]
fn a_server_that_is_down_is_asked_again_until_it_is_up() {
    let scene = Scene::new();
    let crls = CrlServer::start(Reply::Body(scene.crl(5, &[])));
    crls.down();
    let server = start(&scene, &crls, OFTEN);
    wait_fetch(&server, "unreachable");
    scene.refused(&server, &scene.client, "revocation_unknown");
    crls.up();
    wait_fetch(&server, "fetched");
    scene.admitted(&server, &scene.client);
}

#[test]
fn a_newer_crl_that_has_lost_an_entry_is_taken() {
    let scene = Scene::new();
    let serial = scene.client.identity.serial().to_vec();
    let crls = CrlServer::start(Reply::Body(scene.crl(5, &[&serial])));
    let server = start(&scene, &crls, OFTEN);
    wait_entries(&server, 1.0);
    scene.refused(&server, &scene.client, "revoked");
    crls.answer(Reply::Body(scene.crl(6, &[])));
    wait_entries(&server, 0.0);
    scene.admitted(&server, &scene.client);
}

#[test]
fn what_has_not_changed_is_not_sent_again() {
    let scene = Scene::new();
    let crls = CrlServer::start(Reply::Tagged(scene.crl_of_others(5, 2), "five"));
    let server = start(&scene, &crls, OFTEN);
    wait_fetch(&server, "not_modified");
    assert_eq!((fetches(&server, "fetched"), entries(&server)), (1.0, 2.0));
    let requests = crls.requests();
    assert!(!requests[0].contains("if-none-match"), "{requests:?}");
    assert!(requests[1].contains("if-none-match: \"five\""), "{requests:?}");
    // An answer that isn't taken must not be what the next question is about.
    crls.answer(Reply::Tagged(scene.crl_of_others(4, 1), "four"));
    wait_fetch(&server, "older");
    wait_fetch(&server, "older");
    let requests = crls.requests();
    assert!(requests.last().unwrap().contains("if-none-match: \"five\""), "{requests:?}");
}

#[test]
fn a_restart_without_the_crl_server_uses_the_copy_on_disk() {
    let scene = Scene::new();
    fs::create_dir(scene.pki.file("state")).unwrap();
    let kept = format!("{OFTEN}\nstate_dir = \"state\"");
    let serial = scene.client.identity.serial().to_vec();
    let crls = CrlServer::start(Reply::Body(scene.crl(5, &[&serial])));
    let server = start(&scene, &crls, &kept);
    wait_entries(&server, 1.0);
    server.stop();
    crls.down();
    let server = start(&scene, &crls, &kept);
    assert_eq!(entries(&server), 1.0, "it is there from the start");
    scene.refused(&server, &scene.client, "revoked");
    server.stop();

    let copy = fs::read_dir(scene.pki.file("state")).unwrap().map(|entry| entry.unwrap().path());
    let copy = copy.into_iter().find(|file| file.extension() == Some("crl".as_ref())).unwrap();
    let mut bytes = fs::read(&copy).unwrap();
    bytes.truncate(bytes.len() / 2);
    fs::write(&copy, bytes).unwrap();
    let server = start(&scene, &crls, &kept);
    assert_eq!(entries(&server), 0.0);
    server.wait_log(|line| line["message"] == "a copy of a fetched CRL is ignored");
    scene.refused(&server, &scene.client, "revocation_unknown");
}

#[test]
fn a_copy_on_disk_that_somebody_forged_counts_for_nothing() {
    let scene = Scene::new();
    fs::create_dir(scene.pki.file("state")).unwrap();
    let kept = format!("{OFTEN}\nstate_dir = \"state\"");
    let serial = scene.client.identity.serial().to_vec();
    let crls = CrlServer::start(Reply::Body(scene.crl(5, &[&serial])));
    let server = start(&scene, &crls, &kept);
    wait_entries(&server, 1.0);
    server.stop();
    crls.down();
    let copy = fs::read_dir(scene.pki.file("state")).unwrap().map(|entry| entry.unwrap().path());
    let copy = copy.into_iter().find(|file| file.extension() == Some("crl".as_ref())).unwrap();
    let mut forged = scene.crl(6, &[]);
    *forged.last_mut().unwrap() ^= 1;
    fs::write(&copy, forged).unwrap();
    let server = start(&scene, &crls, &kept);
    scene.refused(&server, &scene.client, "revocation_unknown");
}

#[test]
fn a_reload_keeps_what_was_fetched_and_one_that_fails_changes_nothing() {
    let scene = Scene::new();
    let crls = CrlServer::start(Reply::Body(scene.crl_of_others(5, 2)));
    let mut server = start(&scene, &crls, "");
    wait_entries(&server, 2.0);
    crls.down();
    let config = server.config().clone();
    server.reload(config.clone().limit("idle_timeout", "\"7m\""));
    assert_eq!(entries(&server), 2.0);
    scene.admitted(&server, &scene.client);
    server.fail_to_reload(config.limit("idle_timeout", "\"never\""));
    assert_eq!(entries(&server), 2.0);
    scene.admitted(&server, &scene.client);
    assert_eq!(fetches(&server, "fetched"), 1.0);
}
