//! Why a listener would admit or refuse a client: the decision of the data path with all of its
//! steps, for people and for machines.
//!
//! What is asked about is a certificate file, so one thing isn't looked at: whether the client has
//! the key. A handshake makes it prove that.

mod chain;
mod text;

use rustls_pki_types::{CertificateDer, UnixTime};
use serde::Serialize;

pub use chain::{ChainError, read_chain};
pub use text::Marks;

use crate::{
    config::{ClientAuth, SniPolicy, did_you_mean},
    generation::{Generation, Service},
    handshake,
    trust::{Explanation, Verdict},
};

/// What is asked.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// The listener's name.
    pub listener: &'a str,
    /// What the client shows, its own certificate first; empty if it shows none.
    pub chain: &'a [CertificateDer<'static>],
    /// The name that it asks for (RFC 6066 §3), if that is to be looked at.
    pub server_name: Option<&'a str>,
    /// When it comes.
    pub at: UnixTime,
}

/// There is no such listener.
#[derive(Debug, thiserror::Error)]
#[error("the configuration has no listener {asked:?}; it has {known}{hint}")]
pub struct UnknownListener {
    asked: String,
    hint: String,
    known: String,
}

/// The answer. Serialised, it is what `explain --json` prints: see `docs/explain.md`.
#[derive(Debug, Serialize)]
pub struct Answer {
    /// The configuration file.
    pub configuration: String,
    /// The listener's name.
    pub listener: String,
    /// Its `client_auth`.
    pub client_auth: &'static str,
    /// What it makes of the name that the client asks for, if that was asked.
    pub server_name: Option<ServerName>,
    /// Whether its `sni` is `"strict"`.
    pub strict_server_name: bool,
    /// Whether the client would be admitted, if it proves that it has the key.
    pub admitted: bool,
    /// The decision. It is made even where the name alone ends the handshake.
    #[serde(flatten)]
    pub explanation: Explanation,
}

/// What a listener makes of the name that a client asks for.
#[derive(Debug, Serialize)]
pub struct ServerName {
    /// The name.
    pub asked: String,
    /// Whether the handshake goes on; if not, it ends with the alert `unrecognized_name` before a
    /// certificate is asked for.
    pub accepted: bool,
    /// The files of our certificates that the client may be shown: the first that it can verify.
    pub certificates: Vec<String>,
}

/// Explains what a listener of this generation would decide.
///
/// # Errors
/// There is no such listener; names the nearest one.
pub fn explain(
    generation: &Generation,
    question: &Question<'_>,
) -> Result<Answer, UnknownListener> {
    let service = find(generation, question.listener)?;
    let listener = &service.config;
    let server_name = question.server_name.map(|asked| ServerName::of(service, asked));
    // Who isn't asked for a certificate never shows it.
    let (client_auth, chain) = match listener.client_auth {
        ClientAuth::Required => ("required", question.chain),
        ClientAuth::Optional => ("optional", question.chain),
        ClientAuth::None => ("none", &[][..]),
    };
    let explanation = service.policy.explain(chain, question.at);
    let refused = matches!(explanation.verdict, Verdict::Refused { .. });
    Ok(Answer {
        configuration: generation.config.source.display().to_string(),
        listener: listener.name.to_string(),
        client_auth,
        strict_server_name: listener.sni == SniPolicy::Strict,
        admitted: !refused && server_name.as_ref().is_none_or(|name| name.accepted),
        server_name,
        explanation,
    })
}

fn find<'g>(generation: &'g Generation, asked: &str) -> Result<&'g Service, UnknownListener> {
    let names = || generation.services.iter().map(|service| &*service.config.name);
    generation.services.iter().find(|service| &*service.config.name == asked).map_or_else(
        || {
            Err(UnknownListener {
                asked: asked.to_owned(),
                hint: did_you_mean(asked, names()),
                known: names().collect::<Vec<_>>().join(", "),
            })
        },
        |service| Ok(&**service),
    )
}

impl ServerName {
    fn of(service: &Service, asked: &str) -> Self {
        let shown = handshake::certificates_for(&service.config, asked);
        Self {
            asked: asked.to_owned(),
            accepted: shown.is_some(),
            certificates: shown
                .unwrap_or_default()
                .iter()
                .map(|certificate| certificate.chain_file.display().to_string())
                .collect(),
        }
    }
}
