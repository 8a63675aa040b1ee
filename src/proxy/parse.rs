//! Reads a PROXY protocol header, version 2: total, strict, without allocation.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{
    CLIENT_SSL, COMMAND_LOCAL, COMMAND_PROXY, ClientCertificate, Endpoints, FAMILY_TCP4,
    FAMILY_TCP6, FAMILY_UNIX_STREAM, FAMILY_UNSPEC, FIXED_BYTES, Header, MAX_ALPN_BYTES,
    MAX_UNIQUE_ID_BYTES, SIGNATURE, SUBTYPE_SSL_CIPHER, SUBTYPE_SSL_CLIENT_CERT, SUBTYPE_SSL_CN,
    SUBTYPE_SSL_KEY_ALG, SUBTYPE_SSL_SIG_ALG, SUBTYPE_SSL_VERSION, TYPE_ALPN, TYPE_AUTHORITY,
    TYPE_CRC32C, TYPE_MATCHED_NAME, TYPE_PEER_SET, TYPE_PROFILE, TYPE_SSL, TYPE_UNIQUE_ID, Tls,
    VERSION_2,
};

/// Why bytes are no PROXY protocol header, version 2. The sender's fault in each case: the
/// connection has to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// The bytes don't start with [`SIGNATURE`].
    #[error("the sender sent no PROXY protocol header: set proxy_protocol to v2 there")]
    Signature,
    /// Another version than 2.
    #[error("the sender sent PROXY protocol version {0}: only version 2 is understood")]
    Version(u8),
    /// Neither LOCAL nor PROXY.
    #[error("the sender sent the unassigned PROXY command {0:#x}")]
    Command(u8),
    /// A family or transport that no stream has.
    #[error("the sender sent a PROXY header for family and transport {0:#04x}, which is no stream")]
    Family(u8),
    /// The header ends within the addresses or a TLV.
    #[error("the sender's PROXY header ends within a field")]
    Truncated,
    /// A TLV whose value has a length that its type doesn't allow.
    #[error("the sender's PROXY header has a field of type {0:#04x} of a wrong length")]
    Length(u8),
    /// A TLV that says something twice.
    #[error("the sender's PROXY header has two fields of type {0:#04x}")]
    Duplicate(u8),
    /// A TLV whose value isn't UTF-8 (or US-ASCII, where its type asks for that).
    #[error("the sender's PROXY header has a field of type {0:#04x} that is no text")]
    Text(u8),
    /// The checksum is wrong.
    #[error("the sender's PROXY header was damaged: its checksum is wrong")]
    Checksum,
}

/// Reads the header at the start of `input`.
///
/// Gives the header and its length in bytes, or `None` if `input` is a beginning that more bytes
/// may complete; at most [`FIXED_BYTES`] and 65535 bytes are ever needed.
///
/// A LOCAL header's addresses and TLVs are skipped, as the specification asks. A Unix stream
/// socket's paths are skipped and give [`Endpoints::Unknown`]. TLVs of unknown types are skipped,
/// a checksum (PP2_TYPE_CRC32C) is verified, and a type that would be ambiguous if it came twice
/// may come once.
///
/// # Errors
/// As soon as the bytes can't be the beginning of a valid header.
pub fn parse(input: &[u8]) -> Result<Option<(Header<'_>, usize)>, ProxyError> {
    let known = input.len().min(SIGNATURE.len());
    if input[..known] != SIGNATURE[..known] {
        return Err(ProxyError::Signature);
    }
    let command = match input.get(12) {
        None => return Ok(None),
        Some(byte) if byte & 0xf0 != VERSION_2 => return Err(ProxyError::Version(byte >> 4)),
        Some(byte) => byte & 0x0f,
    };
    if command != COMMAND_LOCAL && command != COMMAND_PROXY {
        return Err(ProxyError::Command(command));
    }
    let Some(&family) = input.get(13) else { return Ok(None) };
    let address_bytes = match family {
        // Its family is to be ignored.
        _ if command == COMMAND_LOCAL => 0,
        FAMILY_UNSPEC => 0,
        FAMILY_TCP4 => 12,
        FAMILY_TCP6 => 36,
        FAMILY_UNIX_STREAM => 216,
        other => return Err(ProxyError::Family(other)),
    };
    let Some(&[high, low]) = input.get(14..FIXED_BYTES) else { return Ok(None) };
    let total = FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if total < FIXED_BYTES + address_bytes {
        return Err(ProxyError::Truncated);
    }
    let Some(whole) = input.get(..total) else { return Ok(None) };
    if command == COMMAND_LOCAL {
        return Ok(Some((Header { endpoints: Endpoints::Local, ..Header::default() }, total)));
    }
    let (addresses, tlvs) = whole[FIXED_BYTES..].split_at(address_bytes);
    let mut header = Header { endpoints: endpoints(addresses), ..Header::default() };
    read_tlvs(&mut header, tlvs, whole)?;
    Ok(Some((header, total)))
}

/// The addresses of a TCP family; its length tells which.
fn endpoints(addresses: &[u8]) -> Endpoints {
    let port = |at: usize| u16::from_be_bytes([addresses[at], addresses[at + 1]]);
    if let Ok(&[a, b, c, d, e, f, g, h, ..]) = <&[u8; 12]>::try_from(addresses) {
        return Endpoints::Tcp {
            source: SocketAddr::from((Ipv4Addr::new(a, b, c, d), port(8))),
            destination: SocketAddr::from((Ipv4Addr::new(e, f, g, h), port(10))),
        };
    }
    if let Ok(bytes) = <&[u8; 36]>::try_from(addresses) {
        let address = |at: usize| {
            let mut octets = [0; 16];
            octets.copy_from_slice(&bytes[at..at + 16]);
            Ipv6Addr::from(octets)
        };
        return Endpoints::Tcp {
            source: SocketAddr::from((address(0), port(32))),
            destination: SocketAddr::from((address(16), port(34))),
        };
    }
    Endpoints::Unknown
}

fn read_tlvs<'a>(
    header: &mut Header<'a>,
    tlvs: &'a [u8],
    whole: &'a [u8],
) -> Result<(), ProxyError> {
    let mut checked = false;
    let mut tls_seen = false;
    let mut tlvs = Tlvs(tlvs);
    while let Some(tlv) = tlvs.next() {
        let (kind, value) = tlv?;
        match kind {
            TYPE_ALPN => {
                at_most(MAX_ALPN_BYTES, kind, value)?;
                once(&mut header.alpn, kind, value)?;
            }
            TYPE_AUTHORITY => once(&mut header.authority, kind, utf8(kind, value)?)?,
            TYPE_UNIQUE_ID => {
                at_most(MAX_UNIQUE_ID_BYTES, kind, value)?;
                once(&mut header.unique_id, kind, value)?;
            }
            TYPE_CRC32C => {
                if std::mem::replace(&mut checked, true) {
                    return Err(ProxyError::Duplicate(kind));
                }
                let value_at = whole.len() - tlvs.0.len() - value.len();
                verify_checksum(value, value_at, whole)?;
            }
            TYPE_SSL => {
                if std::mem::replace(&mut tls_seen, true) {
                    return Err(ProxyError::Duplicate(kind));
                }
                header.tls = read_tls(value)?;
            }
            TYPE_MATCHED_NAME => own(&mut header.matched_name, kind, value)?,
            TYPE_PEER_SET => own(&mut header.peer_set, kind, value)?,
            TYPE_PROFILE => own(&mut header.profile, kind, value)?,
            _ => {}
        }
    }
    Ok(())
}

/// The value of PP2_TYPE_SSL; `None` if it says that the client didn't use TLS.
fn read_tls(value: &[u8]) -> Result<Option<Tls<'_>>, ProxyError> {
    let Some((&[bits, a, b, c, d], rest)) = value.split_first_chunk::<5>() else {
        return Err(ProxyError::Length(TYPE_SSL));
    };
    let mut tls = Tls {
        client_certificate: ClientCertificate::from_bits(bits),
        verify: u32::from_be_bytes([a, b, c, d]),
        version: None,
        common_name: None,
        cipher: None,
        sig_alg: None,
        key_alg: None,
        certificate: None,
    };
    for tlv in Tlvs(rest) {
        let (kind, value) = tlv?;
        match kind {
            SUBTYPE_SSL_VERSION => once(&mut tls.version, kind, ascii(kind, value)?)?,
            SUBTYPE_SSL_CN => once(&mut tls.common_name, kind, utf8(kind, value)?)?,
            SUBTYPE_SSL_CIPHER => once(&mut tls.cipher, kind, ascii(kind, value)?)?,
            SUBTYPE_SSL_SIG_ALG => once(&mut tls.sig_alg, kind, ascii(kind, value)?)?,
            SUBTYPE_SSL_KEY_ALG => once(&mut tls.key_alg, kind, ascii(kind, value)?)?,
            SUBTYPE_SSL_CLIENT_CERT => once(&mut tls.certificate, kind, value)?,
            _ => {}
        }
    }
    Ok((bits & CLIENT_SSL != 0).then_some(tls))
}

/// Types and values, one after the other; after an error it ends.
struct Tlvs<'a>(&'a [u8]);

impl<'a> Iterator for Tlvs<'a> {
    type Item = Result<(u8, &'a [u8]), ProxyError>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = std::mem::take(&mut self.0);
        if bytes.is_empty() {
            return None;
        }
        let tlv = bytes.split_first_chunk::<3>().and_then(|(&[kind, high, low], rest)| {
            let length = usize::from(u16::from_be_bytes([high, low]));
            let (value, rest) = rest.split_at_checked(length)?;
            self.0 = rest;
            Some((kind, value))
        });
        Some(tlv.ok_or(ProxyError::Truncated))
    }
}

fn once<T>(slot: &mut Option<T>, kind: u8, value: T) -> Result<(), ProxyError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(ProxyError::Duplicate(kind)),
    }
}

/// A type that is free for use: of what other senders mean by it, text is all that can be taken
/// for ours.
fn own<'a>(slot: &mut Option<&'a str>, kind: u8, value: &'a [u8]) -> Result<(), ProxyError> {
    std::str::from_utf8(value).map_or(Ok(()), |text| once(slot, kind, text))
}

fn at_most(limit: usize, kind: u8, value: &[u8]) -> Result<(), ProxyError> {
    if value.len() <= limit { Ok(()) } else { Err(ProxyError::Length(kind)) }
}

fn utf8(kind: u8, value: &[u8]) -> Result<&str, ProxyError> {
    std::str::from_utf8(value).map_err(|_| ProxyError::Text(kind))
}

fn ascii(kind: u8, value: &[u8]) -> Result<&str, ProxyError> {
    utf8(kind, value).and_then(
        |text| {
            if text.is_ascii() { Ok(text) } else { Err(ProxyError::Text(kind)) }
        },
    )
}

/// PP2_TYPE_CRC32C: the checksum of the whole header, with its own `value`, which lies at `at`,
/// taken as zero.
fn verify_checksum(value: &[u8], at: usize, whole: &[u8]) -> Result<(), ProxyError> {
    let Ok(expected) = <[u8; 4]>::try_from(value) else {
        return Err(ProxyError::Length(TYPE_CRC32C));
    };
    let mut crc = crc32c(u32::MAX, &whole[..at]);
    crc = crc32c(crc, &[0; 4]);
    crc = crc32c(crc, &whole[at + 4..]);
    if !crc == u32::from_be_bytes(expected) { Ok(()) } else { Err(ProxyError::Checksum) }
}

/// One step of the CRC with the Castagnoli polynomial, reflected (RFC 4960 appendix B), bit by
/// bit: a header is short, and few senders add a checksum.
fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(crc, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 }
        })
    })
}
