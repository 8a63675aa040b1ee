//! What `countersign demo` needs beside the terminator: a folder with throw-away certificates and
//! a configuration, a backend that tells what it was handed, and the commands to try.

pub mod backend;
mod folder;
#[cfg(test)]
mod tests;

use std::{
    fmt::Write as _,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::pki::{Authority, PkiError, Spec, Validity, files};

/// Where the demo listens, port of IPv4 and IPv6.
pub const LISTEN_PORT: u16 = 8443;

/// Where the demo serves metrics and status.
pub const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9464);

/// How long the demo's certificates are valid: 30 days, long enough to come back to it.
pub const CERTIFICATE_VALIDITY: Duration = Duration::from_secs(30 * 86_400);

/// How long certificates of an earlier demo must still be valid to be used again: a day.
pub const REUSE_VALIDITY: Duration = Duration::from_secs(86_400);

/// The name in the client's certificate, and in the stranger's.
pub const CLIENT_NAME: &str = "client.demo.test";

/// Why the demo's folder couldn't be prepared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    /// The folder holds something, and no earlier demo made it.
    #[error(
        "{} holds files that no demo made ({entry:?} for one): give --dir a new or empty folder",
        dir.display()
    )]
    Foreign {
        /// The folder.
        dir: PathBuf,
        /// One of the things in it.
        entry: String,
    },
    /// The folder can't be read or made.
    #[error("can't use {}: {source}", path.display())]
    Io {
        /// The folder, or a file in it.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A certificate or file couldn't be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
}

/// The files of a demo, all in one folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DemoFiles {
    /// The folder.
    pub dir: PathBuf,
    /// The configuration, which names the others.
    pub config: PathBuf,
    /// The CA of server and client.
    pub ca: PathBuf,
    /// The terminator's certificate: localhost, 127.0.0.1, ::1.
    pub server: CertificateFiles,
    /// A client that is admitted.
    pub client: CertificateFiles,
    /// A client with the same name from a CA that isn't trusted.
    pub stranger: CertificateFiles,
    /// That CA.
    pub stranger_ca: PathBuf,
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, PEM.
    pub chain: PathBuf,
    /// The key, PKCS #8 PEM, readable by its owner alone.
    pub key: PathBuf,
}

impl DemoFiles {
    fn in_folder(dir: &Path) -> Self {
        let pair = |name: &str| CertificateFiles {
            chain: dir.join(format!("{name}.pem")),
            key: dir.join(format!("{name}.key")),
        };
        Self {
            dir: dir.to_owned(),
            config: dir.join("countersign.toml"),
            ca: dir.join("ca.pem"),
            server: pair("server"),
            client: pair("client"),
            stranger: pair("stranger"),
            stranger_ca: dir.join("stranger-ca.pem"),
        }
    }
}

/// Makes `dir` with certificates, and a configuration whose backend is at `backend`.
///
/// Certificates of an earlier demo are used again if all are whole and valid for
/// [`REUSE_VALIDITY`], else all are made anew. The configuration is written each time, as the
/// backend's port is another one each time. Only the demo's own files are ever replaced, and only
/// in a folder that a demo made.
///
/// # Errors
/// [`DemoError::Foreign`] if `dir` holds something that no demo made.
pub fn prepare(dir: &Path, backend: SocketAddr) -> Result<DemoFiles, DemoError> {
    let demo = DemoFiles::in_folder(dir);
    folder::claim(dir)?;
    if !folder::is_whole(&demo) {
        make_certificates(&demo)?;
    }
    let config = configuration(backend, has_ipv6());
    files::write_public(&demo.config, config.as_bytes()).map_err(PkiError::from)?;
    Ok(demo)
}

/// The commands to paste while the demo runs.
pub fn instructions(demo: &DemoFiles) -> String {
    let url = format!("https://localhost:{LISTEN_PORT}/");
    let ca = quoted(&demo.ca);
    let [client, stranger] = [&demo.client, &demo.stranger]
        .map(|files| format!("--cert {} --key {}", quoted(&files.chain), quoted(&files.key)));
    let (chain, key) = (quoted(&demo.client.chain), quoted(&demo.client.key));
    format!(
        "\
A client that is trusted is let in, and sees what the backend is told about it:
  curl --cacert {ca} {client} {url}

A stranger, with the same name from another CA, is refused:
  curl --cacert {ca} {stranger} {url}

So is a client without a certificate:
  curl --cacert {ca} {url}

Whatever isn't HTTP comes back as it is (type a line; Ctrl-C ends it):
  openssl s_client -quiet -connect localhost:{LISTEN_PORT} -servername localhost -CAfile {ca} -cert {chain} -key {key}

What was let in and refused, and why, is counted:
  curl -s http://{ADMIN}/metrics | grep -E 'handshakes_total|refusals_total'
"
    )
}

fn make_certificates(demo: &DemoFiles) -> Result<(), PkiError> {
    let validity = Validity::from_now(CERTIFICATE_VALIDITY);
    let ca = Authority::root(&Spec::new("countersign demo CA", validity).max_intermediates(0))?;
    let stranger_ca =
        Authority::root(&Spec::new("a stranger's CA", validity).max_intermediates(0))?;
    let client = Spec::new(CLIENT_NAME, validity).dns(CLIENT_NAME).client();
    let server = Spec::new("localhost", validity)
        .dns("localhost")
        .ip(Ipv4Addr::LOCALHOST)
        .ip(Ipv6Addr::LOCALHOST)
        .server();
    ca.write_certificate(&demo.ca)?;
    ca.issue(&server)?.write(&demo.server.chain, &demo.server.key)?;
    ca.issue(&client)?.write(&demo.client.chain, &demo.client.key)?;
    stranger_ca.write_certificate(&demo.stranger_ca)?;
    stranger_ca.issue(&client)?.write(&demo.stranger.chain, &demo.stranger.key)
}

fn configuration(backend: SocketAddr, ipv6: bool) -> String {
    let mut listen = format!("\"127.0.0.1:{LISTEN_PORT}\"");
    if ipv6 {
        // Writing to a String can't fail.
        let _ = write!(listen, ", \"[::1]:{LISTEN_PORT}\"");
    }
    format!(
        "\
# Written by `countersign demo` each time it starts: copy it before you change it.

[admin]
listen = \"{ADMIN}\"

# Whom the demo's CA may vouch for.
[trust.demo]
ca = [\"ca.pem\"]
names = [\"*.demo.test\"]
revocation = \"off\"

# Who may come in.
[peers.demo]
trust = \"demo\"
names = [\"{CLIENT_NAME}\"]

# The backend within the demo; its port is another one each time.
[backends.demo]
servers = [\"{backend}\"]
proxy_protocol = \"v2\"

[[listener]]
name = \"demo\"
listen = [{listen}]
client_auth = \"required\"
peers = [\"demo\"]
certificates = [{{ chain = \"server.pem\", key = \"server.key\" }}]
alpn = [\"http/1.1\"]
backend = \"demo\"
"
    )
}

/// Whether this host has IPv6's loopback address.
fn has_ipv6() -> bool {
    std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

/// A path as a word of a POSIX shell.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%,:=".contains(c);
    // A leading dash would be read as an option.
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(plain) {
        return text.into_owned();
    }
    let prefix = if text.starts_with('-') { "./" } else { "" };
    format!("'{prefix}{}'", text.replace('\'', r"'\''"))
}
