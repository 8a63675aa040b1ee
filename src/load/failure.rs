//! What can go wrong with one operation, as a closed list whose words are the report's.

use std::{borrow::Cow, io};

use rustls::AlertDescription;

/// One failed operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub(super) struct Failure {
    /// Under what it is counted.
    pub(super) kind: FailureKind,
    /// What was found, for the example in the report.
    pub(super) detail: String,
}

/// Under what a failure is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureKind {
    /// Nothing listens there.
    ConnectRefused,
    /// The peer reset the connection.
    ConnectionReset,
    /// No route, or the network is down.
    Unreachable,
    /// `--timeout` passed.
    TimedOut,
    /// This host has no free port towards the target.
    OutOfPorts,
    /// This process has no free descriptor.
    OutOfDescriptors,
    /// The server sent this fatal alert (RFC 8446 §6.2).
    TlsAlert(AlertDescription),
    /// The server broke the protocol, or there is nothing that both sides support.
    TlsProtocol,
    /// The server's certificate doesn't verify.
    CertificateInvalid,
    /// The connection ended before the operation did.
    ClosedEarly,
    /// An answer other than what the backend should have sent.
    WrongData,
    /// Another error of the socket.
    Io(io::ErrorKind),
}

impl Failure {
    pub(super) fn timed_out(what: &str) -> Self {
        Self { kind: FailureKind::TimedOut, detail: format!("{what} took longer than --timeout") }
    }

    pub(super) fn closed_early(what: &str) -> Self {
        Self { kind: FailureKind::ClosedEarly, detail: format!("the peer closed {what}") }
    }

    pub(super) fn wrong_data(detail: String) -> Self {
        Self { kind: FailureKind::WrongData, detail }
    }

    pub(super) fn protocol(detail: impl ToString) -> Self {
        Self { kind: FailureKind::TlsProtocol, detail: detail.to_string() }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let kind = match (error.raw_os_error(), error.kind()) {
            (Some(libc::EMFILE | libc::ENFILE), _) => FailureKind::OutOfDescriptors,
            (Some(libc::EADDRNOTAVAIL), _) => FailureKind::OutOfPorts,
            (_, io::ErrorKind::ConnectionRefused) => FailureKind::ConnectRefused,
            (_, io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => {
                FailureKind::ConnectionReset
            }
            (_, io::ErrorKind::TimedOut) => FailureKind::TimedOut,
            (_, io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable) => {
                FailureKind::Unreachable
            }
            (_, kind) => FailureKind::Io(kind),
        };
        Self { kind, detail: error.to_string() }
    }
}

impl From<rustls::Error> for Failure {
    fn from(error: rustls::Error) -> Self {
        let kind = match &error {
            rustls::Error::AlertReceived(alert) => FailureKind::TlsAlert(*alert),
            rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
                FailureKind::CertificateInvalid
            }
            _ => FailureKind::TlsProtocol,
        };
        Self { kind, detail: error.to_string() }
    }
}

impl FailureKind {
    /// The key in the report's `errors`.
    pub(super) fn label(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::ConnectRefused => "connect_refused",
            Self::ConnectionReset => "connection_reset",
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed_out",
            Self::OutOfPorts => "out_of_ports",
            Self::OutOfDescriptors => "out_of_descriptors",
            Self::TlsProtocol => "tls_protocol",
            Self::CertificateInvalid => "certificate_invalid",
            Self::ClosedEarly => "closed_early",
            Self::WrongData => "wrong_data",
            Self::TlsAlert(alert) => {
                return Cow::Owned(format!("tls_alert_{}", snake_case(&format!("{alert:?}"))));
            }
            Self::Io(kind) => {
                return Cow::Owned(format!("io_{}", snake_case(&format!("{kind:?}"))));
            }
        })
    }
}

/// `UnknownCA` → `unknown_ca`: the spelling of RFC 8446 §6.
fn snake_case(camel: &str) -> String {
    let mut snake = String::with_capacity(camel.len() + 4);
    let mut after_lower = false;
    for c in camel.chars().filter(char::is_ascii_alphanumeric) {
        if c.is_ascii_uppercase() && after_lower {
            snake.push('_');
        }
        after_lower = !c.is_ascii_uppercase();
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_are_counted_under_the_names_of_the_rfc() {
        let label = |alert| FailureKind::TlsAlert(alert).label().into_owned();
        assert_eq!(label(AlertDescription::CertificateRequired), "tls_alert_certificate_required");
        assert_eq!(label(AlertDescription::UnknownCA), "tls_alert_unknown_ca");
    }

    #[test]
    fn an_exhausted_host_is_told_from_a_refusing_server() {
        let kind = |errno| Failure::from(io::Error::from_raw_os_error(errno)).kind;
        assert_eq!(kind(libc::EMFILE), FailureKind::OutOfDescriptors);
        assert_eq!(kind(libc::EADDRNOTAVAIL), FailureKind::OutOfPorts);
        assert_eq!(kind(libc::ECONNREFUSED), FailureKind::ConnectRefused);
    }
}
