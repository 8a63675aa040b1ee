//! One log line a connection, with everything that is known of it when it ends.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    config::Listener,
    handshake::{Agreed, Failure},
    metrics::HandshakeResult,
    relay::Outcome,
    trust::{Identity, Permit},
};

/// What has happened to a connection so far.
#[derive(Debug)]
pub struct Journal {
    id: String,
    peer: SocketAddr,
    listener: Arc<Listener>,
    began: Instant,
    server_name: Option<Box<str>>,
    chapter: Chapter,
}

#[derive(Debug)]
enum Chapter {
    Handshake,
    Failed(HandshakeResult, Box<Failure>),
    Admitted(Agreed, Permit),
}

impl Journal {
    /// Begins when the connection was accepted.
    pub fn open(id: String, peer: SocketAddr, listener: Arc<Listener>) -> Self {
        Self {
            id,
            peer,
            listener,
            began: Instant::now(),
            server_name: None,
            chapter: Chapter::Handshake,
        }
    }

    /// The connection's name in logs and for the backend.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Since it was accepted.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// The client was admitted.
    pub fn note_success(&mut self, agreed: Agreed, server_name: Option<Box<str>>, permit: Permit) {
        self.server_name = server_name;
        self.chapter = Chapter::Admitted(agreed, permit);
    }

    /// The handshake failed.
    pub fn note_failure(&mut self, result: HandshakeResult, mut failure: Failure) {
        self.server_name = failure.facts.server_name.take();
        self.chapter = Chapter::Failed(result, Box::new(failure));
    }

    fn identity(&self) -> Option<&Identity> {
        match &self.chapter {
            Chapter::Handshake => None,
            Chapter::Failed(_, failure) => failure.refused.as_ref()?.identity.as_deref(),
            Chapter::Admitted(_, permit) => Some(permit.peer()?.identity()),
        }
    }

    /// Writes the line. What a client chose is quoted: it can't break the line or fake fields.
    pub fn write(&self, outcome: &Outcome) {
        let (agreed, peer) = match &self.chapter {
            Chapter::Admitted(agreed, permit) => (Some(agreed), permit.peer()),
            _ => (None, None),
        };
        let (result, failure) = match &self.chapter {
            Chapter::Failed(result, failure) => (result.as_str(), Some(failure)),
            _ => (HandshakeResult::Accepted.as_str(), None),
        };
        let refused = failure.and_then(|failure| failure.refused.as_ref());
        let detail = outcome.detail.as_deref().or(failure.map(|failure| failure.detail.as_str()));
        let identity = self.identity();
        let facts = failure.map(|failure| &failure.facts);
        let version = agreed.map(|a| a.version).or(facts.map(|f| f.version));
        let kind = agreed.map(|a| a.kind).or(facts.map(|f| f.kind));
        tracing::info!(
            id = self.id,
            client = %self.peer,
            listener = &*self.listener.name,
            sni = self.server_name.as_deref(),
            handshake = result,
            version = version.map(|version| version.as_str()),
            kind = kind.map(|kind| kind.as_str()),
            cipher = agreed.map(Agreed::cipher_name),
            group = agreed.and_then(|agreed| agreed.group?.as_str()),
            alpn = agreed.and_then(|agreed| std::str::from_utf8(agreed.alpn.as_deref()?).ok()),
            peers = peer.map(|peer| &**peer.peer_set()),
            name = peer.map(|peer| tracing::field::display(peer.matched_name())),
            subject = identity.map(Identity::subject),
            issuer = identity.map(Identity::issuer),
            serial = identity.map(Identity::serial),
            refusal = refused.map(|refused| refused.reason.as_str()),
            backend = &*self.listener.backend.name,
            up_bytes = outcome.up_bytes,
            down_bytes = outcome.down_bytes,
            duration_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            cause = outcome.cause.as_str(),
            detail,
            "connection ended"
        );
    }
}
