//! `shadow`: another configuration, loaded whole beside the one that names it.

use std::{io, path::Path};

use zeroize::Zeroizing;

use super::{GOOD, NOW, pki};
use crate::config::{Config, ConfigErrors, FileData, Files};

/// The files of the tests, and a candidate.
struct WithCandidate<'a>(&'a str);

impl Files for WithCandidate<'_> {
    fn read(&self, path: &Path) -> io::Result<FileData> {
        if path == Path::new("conf/next.toml") {
            let bytes = Zeroizing::new(self.0.as_bytes().to_vec());
            return Ok(FileData { bytes, mode: 0o600 });
        }
        pki().read(path)
    }
}

fn parse(shadow: &str, candidate: &str) -> Result<Config, ConfigErrors> {
    let text = format!("shadow = {shadow}\n{GOOD}");
    Config::parse(&text, Path::new("conf/cs.toml"), &WithCandidate(candidate), NOW)
}

#[track_caller]
fn refused(shadow: &str, candidate: &str, errors: &[&str]) {
    let found = parse(shadow, candidate).expect_err("an error").to_string();
    assert_eq!(found.lines().collect::<Vec<_>>(), errors);
}

#[test]
fn a_candidate_is_loaded_beside_the_configuration_that_serves() {
    let config = parse("\"next.toml\"", GOOD).unwrap();
    let candidate = config.shadow.expect("a candidate");
    assert_eq!(candidate.source, Path::new("conf/next.toml"));
    assert_eq!(candidate.listeners.len(), 1);
    assert!(candidate.shadow.is_none());
    assert_eq!(config.warnings, [""; 0]);
}

#[test]
fn the_errors_of_a_candidate_are_errors_of_the_configuration_that_names_it() {
    refused(
        "\"next.toml\"",
        &GOOD.replacen("127.0.0.1:5060", "sip", 1),
        &[
            "conf/cs.toml:1:10: [shadow] the candidate conf/next.toml has errors, which follow",
            "conf/next.toml:12:12: [backends.sip.servers] found \"sip\"; it takes an IP address \
             (or localhost) and a port from 1 to 65535, \"127.0.0.1:5060\", \"[::1]:5060\", or \
             \"unix:/path\"; names are not looked up",
        ],
    );
}

#[test]
fn a_candidate_that_isnt_there_or_isnt_named_by_a_string_is_an_error() {
    refused(
        "\"gone.toml\"",
        GOOD,
        &["conf/cs.toml:1:10: [shadow] conf/gone.toml can't be read: no such file"],
    );
    refused("true", GOOD, &["conf/cs.toml:1:10: [shadow] found true; it takes a string"]);
}

#[test]
fn a_candidate_has_no_candidate_of_its_own() {
    refused(
        "\"next.toml\"",
        &format!("shadow = \"next.toml\"\n{GOOD}"),
        &[
            "conf/cs.toml:1:10: [shadow] the candidate conf/next.toml has errors, which follow",
            "conf/next.toml:1:10: [shadow] is for the configuration that serves; a candidate has \
             no candidate, take the line out",
        ],
    );
}

#[test]
fn a_listener_that_the_candidate_lacks_and_its_own_warnings_are_warnings() {
    let candidate = GOOD.replacen("revocation = \"off\"\n", "", 1).replacen(
        "name = \"sip-mtls\"",
        "name = \"sip\"",
        1,
    );
    let config = parse("\"next.toml\"", &candidate).unwrap();
    assert_eq!(
        config.warnings,
        [
            "conf/cs.toml:1:10: shadow: conf/next.toml has no listener sip-mtls, so nothing is \
             tried there",
            "conf/next.toml:2:8: trust.contoso: revocation is off; say revocation = \"off\" to \
             show that it is meant",
        ]
    );
}
