//! `countersign check`

use std::{path::Path, process::ExitCode};

use time::OffsetDateTime;

use super::outcome;
use crate::{
    config::CrlFetch,
    generation::Generation,
    revocation::{CrlState, CrlStatus, Mode},
};

/// Loads `path` as `run` does, prints what would be served, and what deserves a second look.
pub(super) fn main(path: &Path) -> ExitCode {
    outcome(check(path))
}

fn check(path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    // Also what is only made for serving must be makeable.
    let generation = super::generation(path)?;
    print!("{}{}", generation.config.summary(), crls(&generation));
    for warning in &generation.config.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(())
}

/// The CRLs of each profile that checks revocation; of what is fetched, the copies that are kept.
fn crls(generation: &Generation) -> String {
    let mut text = String::new();
    for profile in generation.config.trust.values() {
        let revocation = &profile.revocation;
        if revocation.rules.mode == Mode::Off {
            continue;
        }
        text += &format!("\ncrls of trust {}\n", profile.name);
        let status = generation.stores.get(&profile.name).map(|store| store.status());
        let status = status.unwrap_or_default();
        for status in &status {
            text += &describe(status);
        }
        if status.is_empty() {
            let why = match revocation.fetch {
                CrlFetch::Off => "nothing to check with",
                CrlFetch::Urls(_) | CrlFetch::DistributionPoints => "to be fetched by the service",
            };
            text += &line("none", why);
        }
    }
    text
}

fn describe(status: &CrlStatus) -> String {
    let crl = &status.crl;
    let label = match status.state {
        CrlState::InUse => "in use",
        CrlState::NotYet => "not yet",
        CrlState::Waiting => "not verified",
    };
    let number = crl.number().map_or("no number".to_owned(), |number| format!("number 0x{number}"));
    let (source, issuer, entries) = (&status.source, crl.issuer(), crl.entries());
    let until = date(crl.next_update().as_secs());
    line(label, &format!("{source} until {until}: {issuer}, {number}, {entries} entries"))
}

fn line(label: &str, text: &str) -> String {
    format!("  {label:<12} {text}\n")
}

fn date(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().map(OffsetDateTime::from_unix_timestamp);
    let text = |time: OffsetDateTime| {
        format!("{} {:02}:{:02} UTC", time.date(), time.hour(), time.minute())
    };
    time.and_then(Result::ok).map_or_else(|| format!("{seconds} s after 1970"), text)
}
