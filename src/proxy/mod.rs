//! The PROXY protocol header, version 2 (HAProxy's proxy-protocol.txt, section 2.2): what a
//! backend is told about the client before the first byte of plaintext.
//!
//! Pure code: bytes in, bytes out. One type, [`Header`], is both written and read, and borrows
//! what it names. Writing never truncates a value, since half an identity is a wrong one: what
//! doesn't fit is left out and named in [`Omitted`].

mod parse;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

pub use parse::{ProxyError, parse};

/// The twelve bytes that every header starts with.
pub const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family and transport, length.
pub const FIXED_BYTES: usize = 16;

/// The most that addresses and TLVs may take together: the length field has 16 bits.
pub const MAX_BODY_BYTES: usize = u16::MAX as usize;

/// The longest ALPN protocol name (RFC 7301 §3.1).
pub const MAX_ALPN_BYTES: usize = 255;

/// The longest unique id (PP2_TYPE_UNIQUE_ID).
pub const MAX_UNIQUE_ID_BYTES: usize = 128;

/// The longest text value that is written: name, version, cipher, algorithm. X.520 allows a
/// common name 64 characters, DNS a name 253, so that nothing real is left out. All TLVs but the
/// certificate take under 8 KiB by this limit, so that only the certificate can be too large for
/// the header as a whole.
pub const MAX_TEXT_BYTES: usize = 1024;

const VERSION_2: u8 = 0x20;
const COMMAND_LOCAL: u8 = 0x0;
const COMMAND_PROXY: u8 = 0x1;

const FAMILY_UNSPEC: u8 = 0x00;
const FAMILY_TCP4: u8 = 0x11;
const FAMILY_TCP6: u8 = 0x21;
const FAMILY_UNIX_STREAM: u8 = 0x31;

const TYPE_ALPN: u8 = 0x01;
const TYPE_AUTHORITY: u8 = 0x02;
const TYPE_CRC32C: u8 = 0x03;
const TYPE_UNIQUE_ID: u8 = 0x05;
const TYPE_SSL: u8 = 0x20;
const SUBTYPE_SSL_VERSION: u8 = 0x21;
const SUBTYPE_SSL_CN: u8 = 0x22;
const SUBTYPE_SSL_CIPHER: u8 = 0x23;
const SUBTYPE_SSL_SIG_ALG: u8 = 0x24;
const SUBTYPE_SSL_KEY_ALG: u8 = 0x25;
const SUBTYPE_SSL_CLIENT_CERT: u8 = 0x28;

/// Types of our own, from those that are free for use (PP2_TYPE_MIN_CUSTOM).
const TYPE_MATCHED_NAME: u8 = 0xe0;
const TYPE_PEER_SET: u8 = 0xe1;
const TYPE_PROFILE: u8 = 0xe2;

const CLIENT_SSL: u8 = 0x01;
const CLIENT_CERT_CONN: u8 = 0x02;
const CLIENT_CERT_SESS: u8 = 0x04;

/// What a backend is told about a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Header<'a> {
    /// Whose connection it is.
    pub endpoints: Endpoints,
    /// The negotiated application protocol (PP2_TYPE_ALPN), up to [`MAX_ALPN_BYTES`].
    pub alpn: Option<&'a [u8]>,
    /// The name that the client asked for, its SNI (PP2_TYPE_AUTHORITY), up to
    /// [`MAX_TEXT_BYTES`].
    pub authority: Option<&'a str>,
    /// Names the connection in logs (PP2_TYPE_UNIQUE_ID), up to [`MAX_UNIQUE_ID_BYTES`].
    pub unique_id: Option<&'a [u8]>,
    /// What TLS proved (PP2_TYPE_SSL); `None` if the client didn't use TLS.
    pub tls: Option<Tls<'a>>,
    /// The name of the client's certificate that counted (type 0xE0, one of those that senders may
    /// give a meaning of their own), up to [`MAX_TEXT_BYTES`].
    pub matched_name: Option<&'a str>,
    /// NAME of the `[peers.NAME]` that admits the client (type 0xE1).
    pub peer_set: Option<&'a str>,
    /// NAME of the `[trust.NAME]` whose CA vouches for it (type 0xE2).
    pub profile: Option<&'a str>,
}

/// The two ends of the client's connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Endpoints {
    /// The proxy's own connection, a health check for example: command LOCAL. Nothing else of a
    /// [`Header`] is written then, and nothing else is read.
    Local,
    /// A client's connection whose addresses are unknown or no TCP ones: command PROXY, family
    /// UNSPEC.
    #[default]
    Unknown,
    /// A client's TCP connection. Written as IPv4 if both addresses are IPv4 or IPv4-mapped ones,
    /// else as IPv6, an IPv4 address in its mapped form (RFC 4291 §2.5.5.2).
    Tcp {
        /// The client.
        source: SocketAddr,
        /// Where the client connected to.
        destination: SocketAddr,
    },
}

/// What TLS proved about a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls<'a> {
    /// Whether and when the client showed a certificate.
    pub client_certificate: ClientCertificate,
    /// [`Tls::VERIFIED`] if a certificate was shown and verified; else any other value, such as
    /// [`Tls::NOT_VERIFIED`]. Readers go by [`Tls::is_verified`], since some senders leave 0 here
    /// without any certificate.
    pub verify: u32,
    /// `TLSv1.3`, `TLSv1.2`
    pub version: Option<&'a str>,
    /// The common name of the certificate's subject. It is no proof of a name; see the SANs of
    /// the certificate.
    pub common_name: Option<&'a str>,
    /// The cipher suite, such as `TLS_AES_128_GCM_SHA256`.
    pub cipher: Option<&'a str>,
    /// The algorithm that the certificate which the client was shown (ours, not the client's) is
    /// signed with, such as `SHA256`.
    pub sig_alg: Option<&'a str>,
    /// The algorithm of the key of that certificate, such as `RSA2048`.
    pub key_alg: Option<&'a str>,
    /// The client's certificate, DER.
    pub certificate: Option<&'a [u8]>,
}

impl Tls<'_> {
    /// A certificate was shown and verified.
    pub const VERIFIED: u32 = 0;
    /// None was shown, or it wasn't verified.
    pub const NOT_VERIFIED: u32 = 1;

    /// Whether a certificate was shown, and verified.
    pub fn is_verified(&self) -> bool {
        self.client_certificate != ClientCertificate::None && self.verify == Self::VERIFIED
    }
}

/// Whether and when a client showed a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificate {
    /// None in this TLS session.
    None,
    /// In the handshake of this connection (CERT_CONN and CERT_SESS).
    Connection,
    /// In an earlier handshake of the session that this connection resumes (CERT_SESS alone).
    Session,
}

impl ClientCertificate {
    fn bits(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Connection => CLIENT_CERT_CONN | CLIENT_CERT_SESS,
            Self::Session => CLIENT_CERT_SESS,
        }
    }

    fn from_bits(bits: u8) -> Self {
        if bits & CLIENT_CERT_CONN != 0 {
            Self::Connection
        } else if bits & CLIENT_CERT_SESS != 0 {
            Self::Session
        } else {
            Self::None
        }
    }
}

/// The fields of a [`Header`] that [`Header::encode`] left out, because a value was longer than
/// its limit, or the header would have been. Worth a warning: the backend knows less than it
/// could, never something wrong.
#[must_use]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Omitted(u8);

/// A field that may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Field {
    /// [`Header::alpn`]
    Alpn,
    /// [`Header::authority`]
    Authority,
    /// [`Header::unique_id`]
    UniqueId,
    /// [`Tls::version`], [`Tls::cipher`], [`Tls::sig_alg`] or [`Tls::key_alg`]
    Algorithm,
    /// [`Tls::common_name`]
    CommonName,
    /// [`Header::matched_name`], [`Header::peer_set`] or [`Header::profile`]
    Admitted,
    /// [`Tls::certificate`]
    Certificate,
}

impl Field {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Alpn, "alpn"),
        (Self::Authority, "authority"),
        (Self::UniqueId, "unique id"),
        (Self::Algorithm, "algorithm"),
        (Self::CommonName, "common name"),
        (Self::Admitted, "admitted"),
        (Self::Certificate, "certificate"),
    ];
}

impl Omitted {
    /// Whether everything was written.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `field` was left out.
    pub fn contains(self, field: Field) -> bool {
        self.0 & (1 << field as u8) != 0
    }

    fn insert(&mut self, field: Field) {
        self.0 |= 1 << field as u8;
    }
}

impl fmt::Display for Omitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing");
        }
        let mut separator = "";
        for (field, name) in Field::ALL {
            if self.contains(field) {
                write!(f, "{separator}{name}")?;
                separator = ", ";
            }
        }
        Ok(())
    }
}

impl Header<'_> {
    /// Appends the header to `out`: at most [`FIXED_BYTES`] and [`MAX_BODY_BYTES`]. Says which
    /// fields were too long to be written.
    pub fn encode(&self, out: &mut Vec<u8>) -> Omitted {
        let mut writer = Writer { start: out.len(), out, omitted: Omitted::default() };
        writer.out.extend_from_slice(&SIGNATURE);
        if self.endpoints == Endpoints::Local {
            writer.out.extend_from_slice(&[VERSION_2 | COMMAND_LOCAL, FAMILY_UNSPEC, 0, 0]);
            return writer.omitted;
        }
        writer.out.push(VERSION_2 | COMMAND_PROXY);
        writer.endpoints(&self.endpoints);
        writer.tlv(Field::Alpn, TYPE_ALPN, self.alpn, MAX_ALPN_BYTES);
        writer.text(Field::Authority, TYPE_AUTHORITY, self.authority);
        writer.tlv(Field::UniqueId, TYPE_UNIQUE_ID, self.unique_id, MAX_UNIQUE_ID_BYTES);
        writer.text(Field::Admitted, TYPE_MATCHED_NAME, self.matched_name);
        writer.text(Field::Admitted, TYPE_PEER_SET, self.peer_set);
        writer.text(Field::Admitted, TYPE_PROFILE, self.profile);
        if let Some(tls) = &self.tls {
            writer.tls(tls);
        }
        let length_at = writer.start + FIXED_BYTES - 2;
        writer.finish_length(length_at);
        writer.omitted
    }
}

/// Appends to `out`, where the header begins at `start`.
struct Writer<'o> {
    out: &'o mut Vec<u8>,
    start: usize,
    omitted: Omitted,
}

impl Writer<'_> {
    /// Family, room for the length, addresses.
    fn endpoints(&mut self, endpoints: &Endpoints) {
        let Endpoints::Tcp { source, destination } = endpoints else {
            self.out.extend_from_slice(&[FAMILY_UNSPEC, 0, 0]);
            return;
        };
        match (source.ip().to_canonical(), destination.ip().to_canonical()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                self.out.extend_from_slice(&[FAMILY_TCP4, 0, 0]);
                self.out.extend_from_slice(&from.octets());
                self.out.extend_from_slice(&to.octets());
            }
            (from, to) => {
                self.out.extend_from_slice(&[FAMILY_TCP6, 0, 0]);
                self.out.extend_from_slice(&as_v6(from));
                self.out.extend_from_slice(&as_v6(to));
            }
        }
        self.out.extend_from_slice(&source.port().to_be_bytes());
        self.out.extend_from_slice(&destination.port().to_be_bytes());
    }

    fn tls(&mut self, tls: &Tls<'_>) {
        self.out.extend_from_slice(&[TYPE_SSL, 0, 0]);
        let length_at = self.out.len() - 2;
        self.out.push(CLIENT_SSL | tls.client_certificate.bits());
        self.out.extend_from_slice(&tls.verify.to_be_bytes());
        self.text(Field::Algorithm, SUBTYPE_SSL_VERSION, tls.version);
        self.text(Field::CommonName, SUBTYPE_SSL_CN, tls.common_name);
        self.text(Field::Algorithm, SUBTYPE_SSL_CIPHER, tls.cipher);
        self.text(Field::Algorithm, SUBTYPE_SSL_SIG_ALG, tls.sig_alg);
        self.text(Field::Algorithm, SUBTYPE_SSL_KEY_ALG, tls.key_alg);
        // Last, so that it gets all the room that is left.
        self.tlv(Field::Certificate, SUBTYPE_SSL_CLIENT_CERT, tls.certificate, MAX_BODY_BYTES);
        self.finish_length(length_at);
    }

    fn text(&mut self, field: Field, kind: u8, value: Option<&str>) {
        self.tlv(field, kind, value.map(str::as_bytes), MAX_TEXT_BYTES);
    }

    /// Type, length and value, if the value is within `limit` and the header's own limit.
    fn tlv(&mut self, field: Field, kind: u8, value: Option<&[u8]>, limit: usize) {
        let Some(value) = value else { return };
        let room = (self.start + FIXED_BYTES + MAX_BODY_BYTES).saturating_sub(self.out.len() + 3);
        match u16::try_from(value.len()) {
            Ok(length) if value.len() <= limit.min(room) => {
                self.out.push(kind);
                self.out.extend_from_slice(&length.to_be_bytes());
                self.out.extend_from_slice(value);
            }
            _ => self.omitted.insert(field),
        }
    }

    /// Fills in the 16-bit length at `at`: that of all that follows it.
    fn finish_length(&mut self, at: usize) {
        let length = self.out.len() - at - 2;
        debug_assert!(length <= MAX_BODY_BYTES, "every value is checked against the room left");
        let [.., high, low] = length.to_be_bytes();
        self.out[at..at + 2].copy_from_slice(&[high, low]);
    }
}

fn as_v6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}
