//! Two record layers that share keys without a handshake, and a sender that protects anything,
//! right or wrong. Secrets are fixed, so that every run sees the same bytes.

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf;
use countersign::record::{RecordLayer, Side, TrafficSecrets};
use rustls::crypto::aws_lc_rs::cipher_suite::{
    TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};
use rustls::crypto::cipher::{AeadKey, Iv};
use rustls::{ConnectionTrafficSecrets, ExtractedSecrets, SupportedCipherSuite};

pub(crate) const ALERT: u8 = 21;
pub(crate) const HANDSHAKE: u8 = 22;
pub(crate) const DATA: u8 = 23;

pub(crate) static TLS13: [SupportedCipherSuite; 2] =
    [TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256];
pub(crate) static TLS12: [SupportedCipherSuite; 2] =
    [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256];

pub(crate) fn both_versions() -> impl Iterator<Item = SupportedCipherSuite> {
    TLS13.into_iter().chain(TLS12)
}

/// Our end, as `side`, whose peer is [`Forger::of`] the other side.
pub(crate) fn layer(side: Side, suite: SupportedCipherSuite) -> RecordLayer {
    layer_at(side, suite, 0)
}

/// The same, with both sequence numbers at `sequence`.
pub(crate) fn layer_at(side: Side, suite: SupportedCipherSuite, sequence: u64) -> RecordLayer {
    let (client, server) =
        (traffic_secret(suite, Side::Client), traffic_secret(suite, Side::Server));
    let secrets = match suite {
        SupportedCipherSuite::Tls13(_) => Some(TrafficSecrets::new(&client, &server).unwrap()),
        SupportedCipherSuite::Tls12(_) => None,
    };
    RecordLayer::new(side, suite, extracted(side, suite, sequence), secrets).unwrap()
}

pub(crate) fn extracted(
    side: Side,
    suite: SupportedCipherSuite,
    sequence: u64,
) -> ExtractedSecrets {
    ExtractedSecrets {
        tx: (sequence, traffic_keys(suite, side)),
        rx: (sequence, traffic_keys(suite, other(side))),
    }
}

pub(crate) fn other(side: Side) -> Side {
    match side {
        Side::Server => Side::Client,
        Side::Client => Side::Server,
    }
}

fn is_gcm(suite: SupportedCipherSuite) -> bool {
    format!("{:?}", suite.suite()).contains("GCM")
}

pub(crate) fn traffic_secret(suite: SupportedCipherSuite, sender: Side) -> Vec<u8> {
    let byte = if sender == Side::Client { 0xc1 } else { 0x5e };
    vec![byte; if is_gcm(suite) { 48 } else { 32 }]
}

/// Derives as RFC 8446 §7.3 says, apart from the code under test.
fn traffic_keys(suite: SupportedCipherSuite, sender: Side) -> ConnectionTrafficSecrets {
    let secret = traffic_secret(suite, sender);
    let key = AeadKey::from(expand_label(&secret, b"key"));
    let iv = Iv::new(expand_label(&secret, b"iv"));
    if is_gcm(suite) {
        ConnectionTrafficSecrets::Aes256Gcm { key, iv }
    } else {
        ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }
    }
}

fn expand_label<const N: usize>(secret: &[u8], label: &[u8]) -> [u8; N] {
    struct Len(usize);
    impl hkdf::KeyType for Len {
        fn len(&self) -> usize {
            self.0
        }
    }
    let algorithm = if secret.len() == 48 { hkdf::HKDF_SHA384 } else { hkdf::HKDF_SHA256 };
    let mut info = vec![0, N as u8, 6 + label.len() as u8];
    info.extend_from_slice(b"tls13 ");
    info.extend_from_slice(label);
    info.push(0);
    let mut out = [0; N];
    let prk = hkdf::Prk::new_less_safe(algorithm, secret);
    prk.expand(&[&info], Len(N)).unwrap().fill(&mut out).unwrap();
    out
}

/// Seals whatever a test wants to have sealed, a record at a time.
pub(crate) struct Forger {
    key: LessSafeKey,
    iv: [u8; 12],
    pub(crate) sequence: u64,
    is_tls13: bool,
    has_explicit_nonce: bool,
}

impl Forger {
    /// Sends what `layer(other(sender), suite)` receives.
    pub(crate) fn of(sender: Side, suite: SupportedCipherSuite) -> Self {
        Self::new(suite, 0, &traffic_keys(suite, sender))
    }

    pub(crate) fn new(
        suite: SupportedCipherSuite,
        sequence: u64,
        secrets: &ConnectionTrafficSecrets,
    ) -> Self {
        let (algorithm, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&aead::AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&aead::AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
                (&aead::CHACHA20_POLY1305, key, iv)
            }
            _ => panic!("a suite that nobody negotiates"),
        };
        let is_tls13 = matches!(suite, SupportedCipherSuite::Tls13(_));
        Self {
            key: LessSafeKey::new(UnboundKey::new(algorithm, key.as_ref()).unwrap()),
            iv: iv.as_ref().try_into().unwrap(),
            sequence,
            is_tls13,
            has_explicit_nonce: !is_tls13 && is_gcm(suite),
        }
    }

    /// A record of `content_type`.
    pub(crate) fn record(&mut self, content_type: u8, content: &[u8]) -> Vec<u8> {
        self.padded_record(content_type, content, 0)
    }

    /// A record with zeros after the content type, where the version has padding.
    pub(crate) fn padded_record(
        &mut self,
        content_type: u8,
        content: &[u8],
        padding: usize,
    ) -> Vec<u8> {
        if !self.is_tls13 {
            return self.tls12(content_type, content);
        }
        let mut inner = content.to_vec();
        inner.push(content_type);
        inner.resize(inner.len() + padding, 0);
        self.tls13_inner(inner)
    }

    /// A TLS 1.3 record around any inner plaintext.
    pub(crate) fn tls13_inner(&mut self, mut inner: Vec<u8>) -> Vec<u8> {
        let len = u16::try_from(inner.len() + 16).unwrap().to_be_bytes();
        let header = [DATA, 3, 3, len[0], len[1]];
        let nonce = Nonce::assume_unique_for_key(self.nonce());
        self.key.seal_in_place_append_tag(nonce, Aad::from(header), &mut inner).unwrap();
        self.sequence += 1;
        [&header[..], &inner].concat()
    }

    fn tls12(&mut self, content_type: u8, content: &[u8]) -> Vec<u8> {
        let len = u16::try_from(content.len()).unwrap().to_be_bytes();
        let mut additional = self.sequence.to_be_bytes().to_vec();
        additional.extend_from_slice(&[content_type, 3, 3, len[0], len[1]]);
        // The sender chooses the explicit part: not what the code under test would choose.
        let mut nonce = self.nonce();
        if self.has_explicit_nonce {
            nonce[4..].copy_from_slice(&(self.sequence ^ 0x00ab_cdef_0000_0000).to_be_bytes());
        }
        let explicit = if self.has_explicit_nonce { nonce[4..].to_vec() } else { Vec::new() };
        let mut body = content.to_vec();
        let sealing = Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(sealing, Aad::from(additional), &mut body).unwrap();
        self.sequence += 1;
        let len = u16::try_from(explicit.len() + body.len()).unwrap().to_be_bytes();
        [&[content_type, 3, 3, len[0], len[1]][..], &explicit, &body].concat()
    }

    fn nonce(&self) -> [u8; 12] {
        let mut nonce = self.iv;
        for (byte, sequence) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= sequence;
        }
        nonce
    }
}

/// Seals `data` with our layer, in a buffer of its own.
pub(crate) fn seal(layer: &mut RecordLayer, data: &[u8]) -> Vec<u8> {
    let mut record = vec![0; layer.header_len() + data.len() + layer.trailer_len()];
    record[layer.header_len()..][..data.len()].copy_from_slice(data);
    let len = layer.seal(&mut record, data.len()).unwrap();
    assert_eq!(len, record.len());
    record
}
