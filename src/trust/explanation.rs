//! A decision with everything that led to it, for whoever has to put right what was refused.

use data_encoding::HEXLOWER;
use rustls_pki_types::{CertificateDer, UnixTime};
use serde::{Serialize, Serializer};

use super::{
    Permit, Policy, Refusal, Refused,
    certificate::Certificate,
    verification::rfc3339,
    witness::{Link, Step, Trail},
};
use crate::name::PeerName;

/// A decision, step by step. Its fields, serialised, are those of `explain --json`.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// The time of the decision, RFC 3339 in UTC.
    pub at: String,
    /// What the client showed, in its order; the first is its own certificate.
    pub chain: Vec<Shown>,
    /// What was looked at, in this order.
    pub steps: Vec<Step>,
    /// What came of it.
    pub verdict: Verdict,
}

/// A certificate that a client showed.
#[derive(Debug, Serialize)]
pub struct Shown {
    /// SHA-256 of its DER, in lower-case hexadecimal digits.
    pub fingerprint: String,
    /// What can't be read of it.
    pub problem: Option<String>,
    /// What can be read of it.
    #[serde(flatten)]
    pub contents: Option<Contents>,
}

/// What a certificate says.
#[derive(Debug, Serialize)]
pub struct Contents {
    /// In the form of [`Identity::subject`](super::Identity::subject).
    pub subject: String,
    /// In the same form.
    pub issuer: String,
    /// In upper-case hexadecimal digits.
    pub serial: String,
    /// First second of its validity, RFC 3339 in UTC.
    pub not_before: String,
    /// Last second of its validity, RFC 3339 in UTC.
    pub not_after: String,
    /// The kind of its key: `RSA2048`, `EC256`.
    pub key: String,
    /// What its issuer signed it with: see
    /// [`Identity::signature_algorithm`](super::Identity::signature_algorithm).
    pub signature: &'static str,
    /// The DNS, URI and IP names of its subjectAltName.
    pub names: Vec<String>,
}

/// What came of a decision.
#[derive(Debug, Serialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum Verdict {
    /// The peer may come in.
    Admitted {
        /// NAME of the `[peers.NAME]` that admits it.
        peers: String,
        /// NAME of the `[trust.NAME]` whose CA vouches for it.
        profile: String,
        /// The name of its certificate that is listed.
        name: String,
        /// The entry of the peer set that lists it.
        listed: String,
        /// The subject of the CA.
        anchor: String,
        /// The last second in which its path is valid, RFC 3339 in UTC.
        valid_until: String,
    },
    /// Whoever it is may come in, without a certificate.
    Anonymous,
    /// The peer may not come in.
    Refused {
        /// Why: the label of the metric and the word of the log.
        reason: Refusal,
        /// Why, in words.
        detail: String,
        /// What the client is told.
        alert: Alert,
        /// What to do about it.
        advice: &'static str,
    },
}

/// The alert of a refusal, by the version of the protocol (RFC 8446 §6.2, RFC 5246 §7.2.2).
#[derive(Debug, Serialize)]
pub struct Alert {
    /// To a client of TLS 1.3.
    pub tls13: String,
    /// To a client of TLS 1.2.
    pub tls12: String,
}

impl Policy {
    /// Decides as [`decide`](Self::decide) does, by the same code, and keeps every step. Nothing
    /// is remembered: that somebody asked admits nobody.
    pub fn explain(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Explanation {
        let trail = Trail::default();
        let decision = self.decide_before(chain, now, &trail);
        Explanation {
            at: rfc3339(now),
            chain: chain.iter().map(Shown::of).collect(),
            steps: trail.into_steps(),
            verdict: decision.into(),
        }
    }
}

impl Shown {
    fn of(der: &CertificateDer<'_>) -> Self {
        let fingerprint = fingerprint(der);
        let certificate = match Certificate::parse(der) {
            Ok(certificate) => certificate,
            Err(why) => {
                return Self { fingerprint, problem: Some(why.to_string()), contents: None };
            }
        };
        let (names, problem) = match certificate.names() {
            Ok(names) => (names, None),
            Err(why) => (Vec::new(), Some(why.to_string())),
        };
        let contents = Contents {
            subject: certificate.subject(),
            issuer: certificate.issuer(),
            serial: super::identity::hex(certificate.serial()),
            not_before: rfc3339(certificate.not_before),
            not_after: rfc3339(certificate.not_after),
            key: certificate.key.to_string(),
            signature: certificate.signature_algorithm(),
            names: names.iter().map(PeerName::to_string).collect(),
        };
        Self { fingerprint, problem, contents: Some(contents) }
    }
}

impl Link {
    pub(super) fn of(certificate: &Certificate<'_>) -> Self {
        Self { subject: certificate.subject(), fingerprint: fingerprint(certificate.der()) }
    }
}

fn fingerprint(der: &[u8]) -> String {
    use aws_lc_rs::digest::{SHA256, digest};
    HEXLOWER.encode(digest(&SHA256, der).as_ref())
}

impl From<Result<Permit, Refused>> for Verdict {
    fn from(decision: Result<Permit, Refused>) -> Self {
        let permit = match decision {
            Ok(permit) => permit,
            Err(Refused { reason, detail, .. }) => {
                return Self::Refused {
                    reason,
                    detail,
                    alert: Alert::of(reason),
                    advice: reason.advice(),
                };
            }
        };
        let Some(peer) = permit.peer() else { return Self::Anonymous };
        Self::Admitted {
            peers: peer.peer_set().to_string(),
            profile: peer.profile().to_string(),
            name: peer.matched_name().to_string(),
            listed: peer.matched_pattern().to_string(),
            anchor: peer.anchor_subject().to_owned(),
            valid_until: rfc3339(peer.valid_until()),
        }
    }
}

impl Alert {
    fn of(reason: Refusal) -> Self {
        Self { tls13: name_of(reason.alert()), tls12: name_of(reason.alert_tls12()) }
    }
}

/// The alert's name as the RFC writes it: `UnknownCA` is `unknown_ca`.
fn name_of(alert: rustls::AlertDescription) -> String {
    let mut name = String::new();
    let mut after_capital = true;
    for c in alert.as_str().unwrap_or("unknown").chars() {
        if c.is_ascii_uppercase() && !after_capital {
            name.push('_');
        }
        after_capital = c.is_ascii_uppercase();
        name.push(c.to_ascii_lowercase());
    }
    name
}

impl Serialize for Refusal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
