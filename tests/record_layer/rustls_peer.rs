//! A connection whose one end is rustls' buffered connection and whose other end, after the
//! handshake, is ours.

use std::io::{Read, Write};
use std::sync::{Arc, LazyLock, Mutex};

use countersign::record::{Content, RecordLayer, Side, TrafficSecretsCapture};
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::kernel::KernelConnection;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{
    ClientConfig, ClientConnection, Connection, ConnectionTrafficSecrets, ExtractedSecrets, KeyLog,
    RootCertStore, ServerConfig, ServerConnection, SupportedCipherSuite,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};

use super::offline::Forger;

/// All that the product negotiates.
pub(crate) static SUITES: &[SupportedCipherSuite] = provider::ALL_CIPHER_SUITES;

pub(crate) struct Pair {
    pub(crate) peer: Connection,
    pub(crate) layer: RecordLayer,
    pub(crate) kernel: Kernel,
    /// Sends in the peer's place.
    pub(crate) forger: Forger,
}

pub(crate) enum Kernel {
    Server(KernelConnection<ServerConnectionData>),
    Client(KernelConnection<ClientConnectionData>),
}

impl Kernel {
    pub(crate) fn next_tx(&mut self) -> (u64, ConnectionTrafficSecrets) {
        match self {
            Self::Server(kernel) => kernel.update_tx_secret(),
            Self::Client(kernel) => kernel.update_tx_secret(),
        }
        .unwrap()
    }

    pub(crate) fn next_rx(&mut self) -> (u64, ConnectionTrafficSecrets) {
        match self {
            Self::Server(kernel) => kernel.update_rx_secret(),
            Self::Client(kernel) => kernel.update_rx_secret(),
        }
        .unwrap()
    }
}

impl Pair {
    /// Everything that rustls has to send.
    pub(crate) fn peer_output(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        while self.peer.wants_write() {
            self.peer.write_tls(&mut out).unwrap();
        }
        out
    }

    pub(crate) fn peer_sends(&mut self, data: &[u8]) -> Vec<u8> {
        self.peer.writer().write_all(data).unwrap();
        self.peer_output()
    }

    /// Hands `tls` to rustls and returns the plaintext that it makes of it.
    pub(crate) fn peer_receives(&mut self, tls: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        receive(&mut self.peer, tls)
    }
}

pub(crate) fn receive(peer: &mut Connection, mut tls: &[u8]) -> Result<Vec<u8>, rustls::Error> {
    let mut plaintext = Vec::new();
    while !tls.is_empty() {
        peer.read_tls(&mut tls).unwrap();
        peer.process_new_packets()?;
        // What rustls has no data for yet is an error here, and the end of it a zero.
        let _ = peer.reader().read_to_end(&mut plaintext);
    }
    Ok(plaintext)
}

/// Opens all whole records of `input`: the data, and everything else that was not `Nothing`.
pub(crate) fn open_all(layer: &mut RecordLayer, input: &mut [u8]) -> (Vec<u8>, Vec<Content>) {
    let (mut data, mut events, mut at) = (Vec::new(), Vec::new(), 0);
    while let Some(opened) = layer.open(&mut input[at..]).unwrap() {
        match opened.content {
            Content::ApplicationData(range) => data.extend_from_slice(&input[at..][range]),
            Content::Nothing => {}
            content => events.push(content),
        }
        at += opened.consumed;
    }
    assert_eq!(at, input.len(), "whole records were given");
    (data, events)
}

/// Shakes hands over `suite`; we are `side`.
pub(crate) fn connect(suite: SupportedCipherSuite, side: Side) -> Pair {
    let capture = Arc::new(Capture::default());
    let name = ServerName::try_from("server.test").unwrap();
    let (mut peer, (extracted, kernel)) = match side {
        Side::Server => {
            let mut config = server_config(suite);
            config.enable_secret_extraction = true;
            config.key_log = capture.clone();
            let mut peer = ClientConnection::new(client_config(suite).into(), name).unwrap().into();
            let mut ours = UnbufferedServerConnection::new(config.into()).unwrap();
            shake_hands(&mut peer, |incoming, outgoing| {
                step(ours.process_tls_records(incoming), outgoing)
            });
            let (extracted, kernel) = ours.dangerous_into_kernel_connection().unwrap();
            (peer, (extracted, Kernel::Server(kernel)))
        }
        Side::Client => {
            let mut config = client_config(suite);
            config.enable_secret_extraction = true;
            config.key_log = capture.clone();
            let mut peer = ServerConnection::new(server_config(suite).into()).unwrap().into();
            let mut ours = UnbufferedClientConnection::new(config.into(), name).unwrap();
            shake_hands(&mut peer, |incoming, outgoing| {
                step(ours.process_tls_records(incoming), outgoing)
            });
            let (extracted, kernel) = ours.dangerous_into_kernel_connection().unwrap();
            (peer, (extracted, Kernel::Client(kernel)))
        }
    };
    match &mut peer {
        Connection::Client(peer) => peer.set_buffer_limit(None),
        Connection::Server(peer) => peer.set_buffer_limit(None),
    }
    let ExtractedSecrets { rx, .. } = &extracted;
    let forger = Forger::new(suite, rx.0, &rx.1);
    let secrets = capture.0.lock().unwrap().take();
    let layer = RecordLayer::new(side, suite, extracted, secrets).unwrap();
    Pair { peer, layer, kernel, forger }
}

/// Carries bytes between the two until ours may send data and neither has more to say.
fn shake_hands(
    peer: &mut Connection,
    mut ours: impl FnMut(&mut [u8], &mut Vec<u8>) -> (usize, Step),
) {
    let mut incoming = Vec::new();
    loop {
        while peer.wants_write() {
            peer.write_tls(&mut incoming).unwrap();
        }
        let mut outgoing = Vec::new();
        let done = loop {
            let (discard, step) = ours(&mut incoming, &mut outgoing);
            incoming.drain(..discard);
            match step {
                Step::Again => {}
                Step::Blocked => break false,
                Step::Done => break true,
            }
        };
        receive(peer, &outgoing).unwrap();
        if done && !peer.is_handshaking() {
            assert!(incoming.is_empty());
            return;
        }
    }
}

enum Step {
    Again,
    Blocked,
    Done,
}

fn step<D>(status: UnbufferedStatus<'_, '_, D>, outgoing: &mut Vec<u8>) -> (usize, Step) {
    let step = match status.state.unwrap() {
        ConnectionState::EncodeTlsData(mut data) => {
            let mut buffer = [0; 32 * 1024];
            let len = data.encode(&mut buffer).unwrap();
            outgoing.extend_from_slice(&buffer[..len]);
            Step::Again
        }
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Step::Again
        }
        ConnectionState::BlockedHandshake => Step::Blocked,
        ConnectionState::WriteTraffic(_) => Step::Done,
        state => panic!("not a step of a handshake: {state:?}"),
    };
    (status.discard, step)
}

#[derive(Debug, Default)]
struct Capture(Mutex<TrafficSecretsCapture>);

impl KeyLog for Capture {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        self.0.lock().unwrap().note(label, secret);
    }

    fn will_log(&self, label: &str) -> bool {
        TrafficSecretsCapture::wants(label)
    }
}

struct Credentials {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

static ECDSA: LazyLock<Credentials> = LazyLock::new(|| credentials(&rcgen::PKCS_ECDSA_P256_SHA256));
static RSA: LazyLock<Credentials> = LazyLock::new(|| credentials(&rcgen::PKCS_RSA_SHA256));

fn credentials(algorithm: &'static rcgen::SignatureAlgorithm) -> Credentials {
    let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
    let parameters = rcgen::CertificateParams::new(vec!["server.test".to_owned()]).unwrap();
    let certificate = parameters.self_signed(&key).unwrap();
    Credentials {
        certificate: certificate.der().clone(),
        key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
    }
}

fn credentials_for(suite: SupportedCipherSuite) -> &'static Credentials {
    if format!("{:?}", suite.suite()).contains("_RSA_") { &RSA } else { &ECDSA }
}

fn provider_of(suite: SupportedCipherSuite) -> Arc<CryptoProvider> {
    CryptoProvider { cipher_suites: vec![suite], ..provider::default_provider() }.into()
}

fn server_config(suite: SupportedCipherSuite) -> ServerConfig {
    let credentials = credentials_for(suite);
    ServerConfig::builder_with_provider(provider_of(suite))
        .with_protocol_versions(&[suite.version()])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![credentials.certificate.clone()], credentials.key.clone_key())
        .unwrap()
}

fn client_config(suite: SupportedCipherSuite) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(credentials_for(suite).certificate.clone()).unwrap();
    ClientConfig::builder_with_provider(provider_of(suite))
        .with_protocol_versions(&[suite.version()])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}
