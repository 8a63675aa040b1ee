//! rustls' configuration for one listener.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use rustls::{
    KeyLog, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs as provider},
    server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier},
    version::{TLS12, TLS13},
};

use super::{
    certificates::Certificates,
    context,
    tickets::{PolicyTag, Tickets},
    verifier::Verifier,
};
use crate::{
    config::{ClientAuth, Listener, TlsVersion},
    crypto::provider as crypto,
    record::TrafficSecretsCapture,
    shadow::Shadow,
    trust::Policy,
};

/// The encryption of tickets, made once a process and shared by all listeners and generations.
///
/// # Errors
/// If the system gives no random bytes.
pub fn ticket_encryption() -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
    provider::Ticketer::new()
}

/// rustls' configuration for `listener`, whose decisions are those of `policy`, and whose sessions
/// may be resumed for `max_session_age` after the client has shown who it is; `shadow` looks on.
///
/// # Errors
/// A set of versions, suites and groups that rustls can't serve; the configuration's loader
/// lets none through.
pub fn server_config(
    listener: &Listener,
    policy: &Arc<Policy>,
    shadow: Option<&Arc<Shadow>>,
    encryption: &Arc<dyn ProducesTickets>,
    max_session_age: Duration,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = CryptoProvider {
        cipher_suites: listener.tls.cipher_suites.clone(),
        kx_groups: listener.tls.groups.iter().map(|&group| crypto::group(group)).collect(),
        signature_verification_algorithms: crypto::verification_algorithms(),
        ..provider::default_provider()
    };
    let algorithms = provider.signature_verification_algorithms;
    let versions: Vec<_> = listener
        .tls
        .versions
        .iter()
        .map(|version| match version {
            TlsVersion::V13 => &TLS13,
            TlsVersion::V12 => &TLS12,
        })
        .collect();
    let verifier = match listener.client_auth {
        ClientAuth::None => WebPkiClientVerifier::no_client_auth(),
        wanted => Arc::new(Verifier {
            policy: policy.clone(),
            shadow: shadow.cloned(),
            mandatory: wanted == ClientAuth::Required,
            algorithms,
        }),
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&versions)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(Certificates::new(&listener.certificates, listener.sni)));
    config.alpn_protocols = listener.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    // The order of the configuration counts: its first suite is the cheapest to serve.
    config.ignore_client_order = true;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Arc::new(Tickets {
        encryption: encryption.clone(),
        policy: policy_tag(listener),
        max_age: max_session_age,
        time: config.time_provider.clone(),
    });
    config.send_tls13_tickets = 1;
    config.max_early_data_size = 0;
    config.enable_secret_extraction = true;
    config.key_log = Arc::new(SecretCapture);
    Ok(Arc::new(config))
}

/// All that the decision about a client depends on. The debug form of the peers names every
/// field of theirs and of their profiles, those of later versions too, so that no ticket
/// survives a change of any of them.
fn policy_tag(listener: &Listener) -> PolicyTag {
    let text = format!("{}\n{:?}\n{:?}", listener.name, listener.client_auth, listener.peers);
    let mut tag = PolicyTag::default();
    tag.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    tag
}

/// Takes the traffic secrets out of rustls, so that the record layer can update its keys
/// without rustls' connection (RFC 8446 §7.2). They go nowhere else.
#[derive(Debug)]
struct SecretCapture;

impl KeyLog for SecretCapture {
    fn will_log(&self, label: &str) -> bool {
        TrafficSecretsCapture::wants(label)
    }

    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        context::current(|context| context.secrets.note(label, secret));
    }
}
