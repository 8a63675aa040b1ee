//! What a CRL says about clients, over live handshakes.

use std::time::Duration;

use countersign::pki::CrlSpec;
use time::OffsetDateTime;

use super::{DAY, Scene, crl, entries};

/// A CRL of the root whose nextUpdate was an hour ago.
fn stale(scene: &Scene) -> Vec<u8> {
    let now = OffsetDateTime::now_utc();
    let spec = CrlSpec::new(5, now - 2 * DAY, now - Duration::from_secs(3600));
    scene.pki.ca.crl(&spec).unwrap().der().to_vec()
}

#[test]
fn a_revoked_client_is_refused_and_told_why() {
    let scene = Scene::new();
    scene.put("root.crl", &scene.crl(5, &[scene.client.identity.serial()]));
    let server = scene.start("crl = [\"root.crl\"]");
    scene.refused(&server, &scene.client, "revoked");
    let other = scene.pki.issue(
        &scene.pki.ca,
        "renewed",
        &crate::support::Pki::client_spec(crate::support::Pki::CLIENT),
    );
    scene.admitted(&server, &other);
}

#[test]
fn a_client_of_a_revoked_intermediate_is_refused() {
    let scene = Scene::new();
    let client = scene.pki.client_with_intermediate();
    scene.put("root.crl", &scene.crl(5, &[scene.pki.intermediate.serial()]));
    scene.put("intermediate.crl", &crl(&scene.pki.intermediate, 5, &[]));
    let server = scene.start("crl = [\"root.crl\", \"intermediate.crl\"]");
    scene.refused(&server, &client, "revoked");
}

/// The CRL of an intermediate waits until a client shows that CA, and counts from then on.
#[test]
fn a_client_that_an_intermediate_revoked_is_refused_from_the_first_handshake_on() {
    let scene = Scene::new();
    let client = scene.pki.client_with_intermediate();
    scene.put("root.crl", &scene.crl(5, &[]));
    let revoked = client.identity.serial();
    scene.put("intermediate.crl", &crl(&scene.pki.intermediate, 5, &[revoked]));
    let server = scene.start("crl = [\"root.crl\", \"intermediate.crl\"]");
    assert_eq!(entries(&server), 0.0, "the intermediate isn't known yet");
    scene.refused(&server, &client, "revoked");
    super::wait_entries(&server, 1.0);
}

#[test]
fn a_client_whose_intermediate_has_no_crl_is_refused_unless_that_is_only_preferred() {
    let scene = Scene::new();
    let client = scene.pki.client_with_intermediate();
    scene.put("root.crl", &scene.crl(5, &[]));
    let server = scene.start("crl = [\"root.crl\"]");
    scene.refused(&server, &client, "revocation_unknown");
    scene.admitted(&server, &scene.client);
    let server = scene.start("crl = [\"root.crl\"]\nrevocation = \"prefer\"");
    scene.admitted(&server, &client);
}

#[test]
fn a_stale_crl_refuses_everybody_unless_grace_or_the_operator_accepts_it() {
    let scene = Scene::new();
    scene.put("root.crl", &stale(&scene));
    let server = scene.start("crl = [\"root.crl\"]");
    scene.refused(&server, &scene.client, "crl_stale");
    let server = scene.start("crl = [\"root.crl\"]\ncrl_grace = \"2h\"");
    scene.admitted(&server, &scene.client);
    let server = scene.start("crl = [\"root.crl\"]\ncrl_grace = \"30m\"");
    scene.refused(&server, &scene.client, "crl_stale");
    let server = scene.start("crl = [\"root.crl\"]\ncrl_stale = \"accept\"");
    scene.admitted(&server, &scene.client);
}

#[test]
fn a_crl_that_is_forged_or_of_another_ca_speaks_for_nobody() {
    let scene = Scene::new();
    let mut forged = scene.crl(5, &[]);
    *forged.last_mut().unwrap() ^= 1;
    scene.put("forged.crl", &forged);
    scene.put("stranger.crl", &crl(&scene.pki.stranger_ca, 5, &[]));
    for file in ["forged.crl", "stranger.crl"] {
        let server = scene.start(&format!("crl = [{file:?}]"));
        scene.refused(&server, &scene.client, "revocation_unknown");
        server.wait_log(|line| {
            line["level"] == "WARN" && line["message"].as_str().is_some_and(|it| it.contains(file))
        });
    }
}

#[test]
fn a_profile_without_crls_asks_for_none() {
    let scene = Scene::new();
    let server = scene.start("revocation = \"off\"");
    scene.admitted(&server, &scene.client);
}
