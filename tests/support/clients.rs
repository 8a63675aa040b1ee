//! TLS clients: `openssl s_client`, and rustls in this process.

use std::{
    ffi::OsStr,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::Command,
    sync::Arc,
};

use rustls::{
    AlertDescription, ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    SupportedProtocolVersion, crypto::aws_lc_rs,
};

use super::{DEADLINE, Files, Pki, Process, Run};

/// `openssl s_client`, before it runs.
pub struct SClient(Command);

/// What an `openssl s_client` that has ended has to tell.
pub type Finished = Run;

impl SClient {
    /// Connects to `address`, asks for [`Pki::SERVER`], and verifies the server's chain.
    pub fn new(pki: &Pki, address: SocketAddr) -> Self {
        Self::asking_for(pki, address, Some(Pki::SERVER))
    }

    /// The same with another SNI, or without any.
    pub fn asking_for(pki: &Pki, address: SocketAddr, name: Option<&str>) -> Self {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &address.to_string()]);
        command.arg("-CAfile").arg(pki.file("ca.pem")).arg("-verify_return_error");
        match name {
            Some(name) => command.args(["-servername", name]),
            None => command.arg("-noservername"),
        };
        Self(command)
    }

    /// With a certificate, and its intermediates.
    pub fn certificate(mut self, files: &Files) -> Self {
        self.0.arg("-cert").arg(&files.chain).arg("-key").arg(&files.key);
        if let Some(intermediates) = &files.intermediates {
            self.0.arg("-cert_chain").arg(intermediates);
        }
        self
    }

    /// With an argument more.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.0.arg(argument);
        self
    }

    /// With arguments more.
    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.0.args(arguments);
        self
    }

    /// Starts it; what is then said to it goes over the connection.
    pub fn spawn(mut self) -> Process {
        Process::spawn(&mut self.0)
    }

    /// Has a line sent, waits until it comes back, and ends.
    pub fn echo(self) -> Finished {
        // The first letter of a line must not be one of its commands.
        const LINE: &str = "hello from the other side";
        let mut process = self.spawn();
        process.say(format!("{LINE}\n").as_bytes());
        process.wait_stdout(LINE);
        process.close_stdin();
        process.wait_end()
    }

    /// Waits until the server ends the connection.
    pub fn end(self) -> Finished {
        self.spawn().wait_end()
    }
}

impl Run {
    /// The number of the alert that openssl says it received.
    pub fn alert(&self) -> Option<u8> {
        let (_, rest) = self.stderr.split_once("SSL alert number ")?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    }
}

/// A rustls client in this process, blocking, with deadlines.
pub struct TlsClient(pub StreamOwned<ClientConnection, TcpStream>);

/// What a client trusts and shows; TLS 1.2 and 1.3, all groups and suites.
pub fn client_config(pki: &Pki, certificate: Option<&Files>) -> ClientConfig {
    client_config_of(pki, certificate, rustls::DEFAULT_VERSIONS)
}

/// The same with other versions.
pub fn client_config_of(
    pki: &Pki,
    certificate: Option<&Files>,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(pki.ca.der().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    match certificate {
        None => builder.with_no_client_auth(),
        Some(files) => {
            let identity = &files.identity;
            builder.with_client_auth_cert(identity.chain().to_vec(), identity.key_der()).unwrap()
        }
    }
}

impl TlsClient {
    /// Connects, asks for [`Pki::SERVER`], and completes the handshake.
    pub fn connect(
        address: SocketAddr,
        config: impl Into<Arc<ClientConfig>>,
    ) -> std::io::Result<Self> {
        Self::connect_to(address, config, Pki::SERVER)
    }

    /// The same with another name.
    pub fn connect_to(
        address: SocketAddr,
        config: impl Into<Arc<ClientConfig>>,
        name: &'static str,
    ) -> std::io::Result<Self> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(DEADLINE))?;
        socket.set_write_timeout(Some(DEADLINE))?;
        let name = name.try_into().unwrap();
        let mut connection = ClientConnection::new(config.into(), name).unwrap();
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(Self(StreamOwned::new(connection, socket)))
    }

    /// Sends it, and holds what comes back to be the same.
    pub fn echo(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
        self.0.flush().unwrap();
        let mut back = vec![0; bytes.len()];
        self.0.read_exact(&mut back).unwrap();
        assert!(back == bytes, "the echo differs");
    }

    /// Reads until the server ends its stream in order.
    pub fn read_to_end(&mut self) -> std::io::Result<Vec<u8>> {
        let mut read = Vec::new();
        self.0.read_to_end(&mut read).map(|_| read)
    }

    /// Reads until the server ends the connection with a fatal alert.
    pub fn alert(&mut self) -> AlertDescription {
        alert_of(&self.read_to_end().expect_err("a fatal alert"))
    }

    /// Ends the own stream in order; reading goes on.
    pub fn close_notify(&mut self) {
        self.0.conn.send_close_notify();
        self.0.flush().unwrap();
    }
}

/// The fatal alert that an error says was received.
pub fn alert_of(error: &std::io::Error) -> AlertDescription {
    match error.get_ref().and_then(|error| error.downcast_ref()) {
        Some(rustls::Error::AlertReceived(alert)) => *alert,
        _ => panic!("no alert, but {error:?}"),
    }
}
