//! CRLs in files and folders that change.

use std::{fs, process::Command};

use super::{DAY, Scene, crl, entries, wait_entries};
use crate::support::{Server, eventually};

fn files(server: &Server, result: &str) -> f64 {
    server.metric("crl_files_total", &[("profile", "contoso"), ("result", result)])
}

#[test]
fn a_crl_that_is_replaced_takes_effect_without_a_reload() {
    let scene = Scene::new();
    scene.put("crl/root.crl", &scene.crl(5, &[]));
    let server = scene.start("crl = [\"crl\"]");
    scene.admitted(&server, &scene.client);
    scene.put("crl/root.crl", &scene.crl(6, &[scene.client.identity.serial()]));
    wait_entries(&server, 1.0);
    scene.refused(&server, &scene.client, "revoked");
}

#[test]
fn a_folder_takes_a_crl_that_comes_later() {
    let scene = Scene::new();
    fs::create_dir(scene.pki.file("crl")).unwrap();
    let server = scene.start("crl = [\"crl\"]");
    assert_eq!(server.metric("crl_next_update_timestamp_seconds", &[("profile", "contoso")]), 0.0);
    scene.refused(&server, &scene.client, "revocation_unknown");
    scene.put("crl/root.crl", &scene.crl(5, &[]));
    server.wait_metric("crl_files_total", &[("result", "loaded")], 1.0);
    scene.admitted(&server, &scene.client);
}

/// Whatever happens to the file, the CRL that it held stays, and is told of once.
#[test]
fn a_file_that_breaks_or_vanishes_leaves_its_crl_in_use() {
    let scene = Scene::new();
    let good = scene.crl_of_others(5, 2);
    scene.put("root.crl", &good);
    let server = scene.start("crl = [\"root.crl\"]");
    assert_eq!(entries(&server), 2.0);
    let mut forged = scene.crl_of_others(6, 3);
    *forged.last_mut().unwrap() ^= 1;
    for (bytes, result) in [
        (good[..good.len() / 2].to_vec(), "malformed"),
        (scene.crl_of_others(4, 3), "older"),
        (forged, "bad_signature"),
    ] {
        scene.put("root.crl", &bytes);
        server.wait_metric("crl_files_total", &[("result", result)], 1.0);
        assert_eq!(entries(&server), 2.0, "{result}");
    }
    fs::remove_file(scene.pki.file("root.crl")).unwrap();
    server.wait_metric("crl_files_total", &[("result", "vanished")], 1.0);
    scene.admitted(&server, &scene.client);
    scene.put("root.crl", &scene.crl_of_others(7, 4));
    wait_entries(&server, 4.0);
    assert_eq!(files(&server, "malformed"), 1.0, "it was said once");
    let broken = |line: &serde_json::Value| {
        line["message"].as_str().is_some_and(|text| text.starts_with("a CRL file can't be used"))
    };
    assert_eq!(server.log().iter().filter(|line| broken(line)).count(), 1);
}

#[test]
fn a_broken_crl_keeps_the_service_from_starting_and_from_reloading() {
    let scene = Scene::new();
    scene.put("crl/root.crl", b"nothing of the kind");
    let failed = Server::fail_to_start(&scene.config("crl = [\"crl\"]"), None);
    assert!(failed.stderr.contains("root.crl is no CRL that can be used"), "{}", failed.stderr);
    let serial = scene.client.identity.serial();
    scene.put("crl/root.crl", &scene.crl(5, &[serial]));
    let mut server = scene.start("crl = [\"crl\"]");
    scene.put("crl/other.crl", b"nothing of the kind");
    server.fail_to_reload(server.config().clone());
    scene.refused(&server, &scene.client, "revoked");
}

#[test]
fn a_reload_that_names_another_file_forgets_the_crl_of_the_old_one() {
    let scene = Scene::new();
    scene.put("old.crl", &scene.crl(5, &[scene.client.identity.serial()]));
    scene.put("new.crl", &scene.crl(4, &[]));
    let mut server = scene.start("crl = [\"old.crl\"]");
    scene.refused(&server, &scene.client, "revoked");
    server.reload(server.config().clone().revocation("crl = [\"new.crl\"]"));
    eventually(|| "the client is let in".to_owned(), || (entries(&server) == 0.0).then_some(()));
    scene.admitted(&server, &scene.client);
}

#[test]
fn check_prints_the_crls_and_what_is_wrong_with_them() {
    let scene = Scene::new();
    scene.put("crl/root.crl", &scene.crl_of_others(0x1f, 2));
    scene.put("crl/stranger.crl", &crl(&scene.pki.stranger_ca, 1, &[]));
    let mut forged = crl(&scene.pki.ca, 0x20, &[]);
    *forged.last_mut().unwrap() ^= 1;
    scene.put("forged.crl", &forged);
    let config = scene.config("crl = [\"crl\", \"forged.crl\"]").write();
    let output = Command::new(env!("CARGO_BIN_EXE_countersign"))
        .args(["check", "--config"])
        .arg(config)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    let (_, crls) = said.split_once("\ncrls of trust contoso\n").unwrap();
    let lines: Vec<_> = crls.lines().collect();
    let until = (time::OffsetDateTime::now_utc() + DAY).date().to_string();
    let is =
        |wanted: &[&str]| lines.iter().any(|line| wanted.iter().all(|part| line.contains(part)));
    assert!(is(&["  in use", "crl/root.crl until ", &until, "number 0x1F, 2 entries"]), "{crls}");
    assert!(is(&["  not verified", "crl/stranger.crl"]), "{crls}");
    assert!(is(&["  not verified", "forged.crl"]), "{crls}");
    let warned = String::from_utf8(output.stderr).unwrap();
    assert!(warned.contains("no CA named"), "{warned}");
    assert!(warned.contains("its signature doesn't verify"), "{warned}");
}
