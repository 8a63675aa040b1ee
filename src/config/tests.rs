//! The loader as its users meet it: a text and files go in, a configuration or all errors come
//! out. Every rule is broken once, starting from a configuration that is good.

mod candidate;
mod certificates;
mod federation;
mod listeners;
mod peers;
mod pki;
mod resumption;
mod revocation;
mod sections;

use std::path::Path;

use self::pki::{NOW, pki};
use super::{Config, ConfigErrors};

/// Good, and without warnings. Tests change a piece of it.
const GOOD: &str = r#"
[trust.contoso]
ca = ["ca.pem"]
names = ["*.contoso.test"]
revocation = "off"

[peers.frontends]
trust = "contoso"
names = ["fe01.contoso.test", "fe02.contoso.test"]

[backends.sip]
servers = ["127.0.0.1:5060"]

[[listener]]
name = "sip-mtls"
listen = ["0.0.0.0:5061"]
client_auth = "required"
peers = ["frontends"]
certificates = [{ chain = "own.pem", key = "own.key" }]
backend = "sip"
"#;

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(text, Path::new("conf/cs.toml"), pki(), NOW)
}

/// `GOOD` with one piece replaced, which must be there exactly once.
fn changed(from: &str, to: &str) -> String {
    assert_eq!(GOOD.matches(from).count(), 1, "{from:?} in the good configuration");
    GOOD.replacen(from, to, 1)
}

fn good(text: &str) -> Config {
    parse(text).unwrap_or_else(|errors| panic!("unexpected errors:\n{errors}\nin:\n{text}"))
}

fn errors(text: &str) -> String {
    parse(text).expect_err("the configuration must be refused").to_string()
}

/// Exactly one error comes out, and it is this one.
#[track_caller]
fn refused(text: &str, error: &str) {
    let errors = errors(text);
    assert_eq!(errors.lines().collect::<Vec<_>>(), [error]);
}

/// It loads, and exactly this warning comes out.
#[track_caller]
fn warned(text: &str, warning: &str) -> Config {
    let config = good(text);
    assert_eq!(config.warnings, [warning]);
    config
}
