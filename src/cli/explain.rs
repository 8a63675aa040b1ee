//! `countersign explain`

use std::{
    io::IsTerminal,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use clap::Args;
use rustls_pki_types::{DnsName, UnixTime};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::explain::{Answer, Marks, Question, explain, read_chain};

/// The exit code of a refusal.
const REFUSED: u8 = 3;

/// What `explain` is asked.
#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// The configuration, loaded as `run` does
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The listener that the client connects to
    #[arg(long, value_name = "NAME")]
    listener: String,
    /// What the client shows: its own certificate and then its intermediates, in PEM, or its own
    /// one in DER; - is standard input. No private key is needed
    #[arg(long, value_name = "CHAIN", required_unless_present = "no_cert")]
    cert: Option<PathBuf>,
    /// The client shows no certificate
    #[arg(long, conflicts_with = "cert")]
    no_cert: bool,
    /// The server name that the client asks for
    #[arg(long, value_name = "NAME", value_parser = server_name)]
    sni: Option<String>,
    /// When the client comes: RFC 3339, or seconds since 1970 [default: now]
    #[arg(long, value_name = "TIME", value_parser = time_of)]
    at: Option<UnixTime>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Prints the decision, step by step. Exit code 0 means admitted, 3 refused, 1 an error.
pub(super) fn main(arguments: &ExplainArgs) -> ExitCode {
    match answer(arguments) {
        Ok(answer) => {
            print(&answer, arguments.json);
            if answer.admitted { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) }
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn answer(arguments: &ExplainArgs) -> Result<Answer, Box<dyn std::error::Error>> {
    let generation = super::generation(&arguments.config)?;
    let chain = match &arguments.cert {
        Some(file) => read_chain(file)?,
        None => Vec::new(),
    };
    let question = Question {
        listener: &arguments.listener,
        chain: &chain,
        server_name: arguments.sni.as_deref(),
        at: arguments.at.unwrap_or_else(UnixTime::now),
    };
    Ok(explain(&generation, &question)?)
}

fn print(answer: &Answer, json: bool) {
    if json {
        match serde_json::to_string_pretty(answer) {
            Ok(json) => println!("{json}"),
            Err(error) => eprintln!("the answer can't be written as JSON: {error}"),
        }
        return;
    }
    let marks = if std::io::stdout().is_terminal() { Marks::SIGNS } else { Marks::WORDS };
    print!("{}", answer.to_text(marks));
}

fn server_name(text: &str) -> Result<String, String> {
    DnsName::try_from(text)
        .map(|name| name.as_ref().to_ascii_lowercase())
        .map_err(|_| "no DNS name, and clients ask for nothing else".to_owned())
}

fn time_of(text: &str) -> Result<UnixTime, String> {
    let seconds = match text.parse::<u64>() {
        Ok(seconds) => Some(seconds),
        Err(_) => OffsetDateTime::parse(text, &Rfc3339)
            .ok()
            .and_then(|time| u64::try_from(time.unix_timestamp()).ok()),
    };
    // What the clock of no host will ever show would only overflow somewhere.
    seconds
        .map(Duration::from_secs)
        .filter(|&since_1970| SystemTime::UNIX_EPOCH.checked_add(since_1970).is_some())
        .map(UnixTime::since_unix_epoch)
        .ok_or_else(|| {
            "takes a time since 1970 as RFC 3339 writes it, such as 2030-01-31T12:00:00Z, or in \
             seconds"
                .to_owned()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_or_seconds_since_1970() {
        let seconds = |text| time_of(text).map(|time| time.as_secs());
        assert_eq!(seconds("1893456000"), Ok(1_893_456_000));
        assert_eq!(seconds("2030-01-01T00:00:00Z"), Ok(1_893_456_000));
        assert_eq!(seconds("2030-01-01T02:00:00+02:00"), Ok(1_893_456_000));
        for wrong in ["", "yesterday", "-1", "1960-01-01T00:00:00Z", "18446744073709551615"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_server_name_is_a_dns_name_in_lower_case() {
        assert_eq!(server_name("WWW.contoso.test"), Ok("www.contoso.test".to_owned()));
        assert!(server_name("192.0.2.1 ").is_err() && server_name("a b").is_err());
    }
}
