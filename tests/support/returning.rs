//! A client that comes back with a session.

use std::{net::SocketAddr, path::PathBuf};

use super::{Files, Finished, Pki, SClient};

/// openssl's options for the versions, and their names in the log.
pub const VERSIONS: [(&str, &str); 2] = [("-tls1_3", "1.3"), ("-tls1_2", "1.2")];

/// Sessions are kept by clients.
pub const TICKETS: &str = "[resumption]\nmode = \"tickets\"\n";

/// As lines of the configuration, wherever sessions may be kept.
pub const KEPT: [&str; 2] = ["[resumption]\nmode = \"cache\"\n", TICKETS];

/// A client that keeps its session in a file.
pub struct Returning<'a> {
    /// Whom it trusts.
    pub pki: &'a Pki,
    /// What it shows.
    pub files: Files,
    /// Where its session is.
    pub session: PathBuf,
}

impl<'a> Returning<'a> {
    /// [`Pki::CLIENT`]
    pub fn new(pki: &'a Pki) -> Self {
        Self { pki, files: pki.client(), session: pki.file("session.pem") }
    }

    /// Without a session.
    pub fn to(&self, address: SocketAddr, option: &str) -> SClient {
        SClient::new(self.pki, address).certificate(&self.files).arg(option)
    }

    /// A full handshake, whose session is kept.
    pub fn begin(&self, address: SocketAddr, option: &str) -> Finished {
        let run = self.to(address, option).arg("-sess_out").arg(&self.session).echo().succeeded();
        assert!(run.stdout.contains("New, TLSv1."), "{run:?}");
        run
    }

    /// Offers the session that was kept.
    pub fn offer(&self, address: SocketAddr, option: &str) -> SClient {
        self.to(address, option).arg("-sess_in").arg(&self.session)
    }

    /// Offers it, and keeps the one that comes instead.
    pub fn go_on(&self, address: SocketAddr, option: &str) -> Finished {
        self.offer(address, option).arg("-sess_out").arg(&self.session).echo().succeeded()
    }

    /// Offers it, and gives whether it was resumed.
    pub fn resumes(&self, address: SocketAddr, option: &str) -> bool {
        was_resumed(&self.offer(address, option).echo().succeeded())
    }
}

/// Whether the session that openssl offered was resumed.
pub fn was_resumed(run: &Finished) -> bool {
    let resumed = run.stdout.contains("Reused, TLSv1.");
    assert!(resumed || run.stdout.contains("New, TLSv1."), "{run:?}");
    resumed
}
