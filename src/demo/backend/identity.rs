//! What the backend was told about a client, for people and for machines.

use std::{fmt::Write as _, net::IpAddr, net::SocketAddr};

use serde::Serialize;
use time::format_description::well_known::Rfc3339;
use x509_parser::{
    certificate::X509Certificate, extensions::GeneralName, prelude::FromDer, time::ASN1Time,
};

use crate::proxy::{ClientCertificate, Endpoints, Header, Tls};

/// What a PROXY header said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Identity {
    /// The client's address.
    client: Option<SocketAddr>,
    /// The address that it connected to.
    listener: Option<SocketAddr>,
    /// The name that it asked for.
    sni: Option<String>,
    alpn: Option<String>,
    unique_id: Option<String>,
    tls: Option<TlsIdentity>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct TlsIdentity {
    version: Option<String>,
    cipher: Option<String>,
    verified: bool,
    /// The certificate was shown in an earlier handshake of a session that was resumed.
    resumed: bool,
    common_name: Option<String>,
    /// Of the certificate that the client was shown, as is the next.
    server_signature_algorithm: Option<String>,
    server_key_algorithm: Option<String>,
    /// The client's.
    certificate: Option<Certificate>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum Certificate {
    Parsed(Details),
    Malformed { error: String },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Details {
    subject: String,
    issuer: String,
    serial: String,
    not_before: String,
    not_after: String,
    dns_names: Vec<String>,
    uris: Vec<String>,
    ip_addresses: Vec<IpAddr>,
}

impl Identity {
    pub(super) fn from_header(header: &Header<'_>) -> Self {
        let (client, listener) = match header.endpoints {
            Endpoints::Tcp { source, destination } => (Some(source), Some(destination)),
            Endpoints::Local | Endpoints::Unknown => (None, None),
        };
        Self {
            client,
            listener,
            sni: header.authority.map(str::to_owned),
            alpn: header.alpn.map(text_or_hex),
            unique_id: header.unique_id.map(text_or_hex),
            tls: header.tls.as_ref().map(TlsIdentity::from_tls),
        }
    }

    /// For people: a line each, what isn't known left out.
    pub(super) fn to_text(&self) -> String {
        let mut text = Text::new("countersign handed this connection over, and said:\n\n");
        text.line("client", self.client);
        text.line("listener", self.listener);
        text.line("sni", self.sni.as_ref());
        text.line("alpn", self.alpn.as_ref());
        text.line("unique id", self.unique_id.as_ref());
        match &self.tls {
            None => text.line("tls", Some("no")),
            Some(tls) => tls.write(&mut text),
        }
        text.0
    }

    /// For machines: one object, what isn't known null.
    pub(super) fn to_json(&self) -> String {
        // Strings, numbers and lists of them: nothing that JSON can't say.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_else(|_| "null".into());
        text.push('\n');
        text
    }
}

impl TlsIdentity {
    fn from_tls(tls: &Tls<'_>) -> Self {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Self {
            version: owned(tls.version),
            cipher: owned(tls.cipher),
            verified: tls.is_verified(),
            resumed: tls.client_certificate == ClientCertificate::Session,
            common_name: owned(tls.common_name),
            server_signature_algorithm: owned(tls.sig_alg),
            server_key_algorithm: owned(tls.key_alg),
            certificate: tls.certificate.map(Certificate::from_der),
        }
    }

    fn write(&self, text: &mut Text) {
        text.line("tls version", self.version.as_ref());
        text.line("cipher", self.cipher.as_ref());
        text.line("server sig", self.server_signature_algorithm.as_ref());
        text.line("server key", self.server_key_algorithm.as_ref());
        text.line(
            "verified",
            Some(match (self.verified, self.resumed) {
                (true, false) => "yes",
                (true, true) => "yes, in the session that this connection resumes",
                (false, _) => "no",
            }),
        );
        text.line("common name", self.common_name.as_ref());
        match &self.certificate {
            None => text.line("certificate", Some("not handed over")),
            Some(Certificate::Malformed { error }) => text.line("certificate", Some(error)),
            Some(Certificate::Parsed(details)) => details.write(text),
        }
    }
}

impl Certificate {
    fn from_der(der: &[u8]) -> Self {
        match X509Certificate::from_der(der) {
            Ok((_, certificate)) => Self::Parsed(Details::from_certificate(&certificate)),
            Err(error) => Self::Malformed { error: format!("malformed: {error}") },
        }
    }
}

impl Details {
    fn from_certificate(certificate: &X509Certificate<'_>) -> Self {
        let mut details = Self {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            serial: certificate.raw_serial_as_string(),
            not_before: moment(&certificate.validity().not_before),
            not_after: moment(&certificate.validity().not_after),
            dns_names: Vec::new(),
            uris: Vec::new(),
            ip_addresses: Vec::new(),
        };
        let Ok(Some(names)) = certificate.subject_alternative_name() else { return details };
        for name in &names.value.general_names {
            match name {
                GeneralName::DNSName(name) => details.dns_names.push((*name).to_owned()),
                GeneralName::URI(uri) => details.uris.push((*uri).to_owned()),
                GeneralName::IPAddress(bytes) => details.ip_addresses.extend(ip_address(bytes)),
                _ => {}
            }
        }
        details
    }

    fn write(&self, text: &mut Text) {
        text.line("subject", Some(&self.subject));
        text.line("issuer", Some(&self.issuer));
        text.line("serial", Some(&self.serial));
        text.line("valid", Some(format!("{} to {}", self.not_before, self.not_after)));
        for name in &self.dns_names {
            text.line("dns name", Some(name));
        }
        for uri in &self.uris {
            text.line("uri", Some(uri));
        }
        for address in &self.ip_addresses {
            text.line("ip address", Some(address));
        }
    }
}

/// Lines of a label and a value.
struct Text(String);

impl Text {
    fn new(start: &str) -> Self {
        Self(start.to_owned())
    }

    fn line(&mut self, label: &str, value: Option<impl ToString>) {
        let Some(value) = value else { return };
        // Writing to a String can't fail.
        let _ = writeln!(self.0, "  {label:<12} {}", printable(&value.to_string()));
    }
}

/// Whoever made a certificate chose these characters: no line breaks, no terminal control.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Printable ASCII as it is, else hexadecimal.
fn text_or_hex(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.bytes().all(|byte| byte.is_ascii_graphic()) => text.to_owned(),
        _ => bytes.iter().fold(String::new(), |mut out, byte| {
            // Writing to a String can't fail.
            let _ = write!(out, "{byte:02x}");
            out
        }),
    }
}

fn moment(time: &ASN1Time) -> String {
    time.to_datetime().format(&Rfc3339).unwrap_or_else(|_| time.to_string())
}

/// Four or sixteen bytes (RFC 5280 §4.2.1.6); else it is no address.
fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}
