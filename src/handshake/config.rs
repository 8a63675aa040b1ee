//! rustls' configuration for one listener.

use std::{sync::Arc, time::Duration};

use rustls::{
    KeyLog, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs as provider},
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};

use super::{
    certificates::Certificates,
    context, full,
    kept::{KeptSessions, NoTickets},
    policy_tag::policy_tag,
    rule::Rule,
    tickets::Tickets,
    verifier::Verifier,
};
use crate::{
    config::{ClientAuth, Listener, TlsVersion},
    crypto::{key_schedule, provider as crypto},
    record::TrafficSecretsCapture,
    resumption::{SessionPlace, SessionStore},
    shadow::Shadow,
    trust::Policy,
};

/// rustls' configuration for `listener`, whose decisions are those of `policy`, and whose sessions
/// are kept in `store` and may be resumed for `max_session_age` after the client has shown who it
/// is; `shadow` looks on.
///
/// # Errors
/// A set of versions, suites and groups that rustls can't serve; the configuration's loader
/// lets none through.
pub fn server_config(
    listener: &Listener,
    policy: &Arc<Policy>,
    shadow: Option<&Arc<Shadow>>,
    store: &SessionStore,
    max_session_age: Duration,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = CryptoProvider {
        cipher_suites: listener.tls.cipher_suites.iter().map(|&s| key_schedule::suite(s)).collect(),
        kx_groups: listener
            .tls
            .groups
            .iter()
            .map(|&group| full::held_to_budget(crypto::group(group)))
            .collect(),
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
    let time = config.time_provider.clone();
    let rule = Rule { policy: policy_tag(listener), max_age: max_session_age, time };
    keep_sessions(&mut config, store, rule);
    config.max_early_data_size = 0;
    config.enable_secret_extraction = true;
    config.key_log = Arc::new(SecretCapture);
    Ok(Arc::new(config))
}

/// Has sessions kept in `store`, and given out by `rule` alone.
pub(super) fn keep_sessions(config: &mut ServerConfig, store: &SessionStore, rule: Rule) {
    let place = store.place();
    let cache = match place {
        SessionPlace::Here(cache) => Some(cache.clone()),
        SessionPlace::Nowhere | SessionPlace::Clients(_) => None,
    };
    config.session_storage = Arc::new(KeptSessions { cache, rule: rule.clone() });
    config.ticketer = match place {
        SessionPlace::Clients(sealed_by) => {
            Arc::new(Tickets { encryption: sealed_by.clone(), rule })
        }
        SessionPlace::Nowhere | SessionPlace::Here(_) => Arc::new(NoTickets { rule }),
    };
    config.send_tls13_tickets = match place {
        SessionPlace::Nowhere => 0,
        SessionPlace::Here(_) | SessionPlace::Clients(_) => 1,
    };
}

/// Takes the traffic secrets out of rustls, so that the record layer can update its keys
/// without rustls' connection (RFC 8446 §7.2). They go nowhere else.
#[derive(Debug)]
pub(super) struct SecretCapture;

impl KeyLog for SecretCapture {
    fn will_log(&self, label: &str) -> bool {
        TrafficSecretsCapture::wants(label)
    }

    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        context::current(|context| context.secrets.note(label, secret));
    }
}
