//! What a row of the corpus says.

use super::world::{Shown, World};

/// Alerts as the client sees them in TLS 1.3 and 1.2 (RFC 8446 §6.2).
pub type Alerts = [u8; 2];

pub const BAD_CERTIFICATE: Alerts = [42; 2];
pub const UNSUPPORTED_CERTIFICATE: Alerts = [43; 2];
pub const CERTIFICATE_REVOKED: Alerts = [44; 2];
pub const CERTIFICATE_EXPIRED: Alerts = [45; 2];
pub const CERTIFICATE_UNKNOWN: Alerts = [46; 2];
pub const UNKNOWN_CA: Alerts = [48; 2];
pub const ACCESS_DENIED: Alerts = [49; 2];
pub const DECRYPT_ERROR: Alerts = [51; 2];
/// `certificate_required`, for which handshake_failure stands in in TLS 1.2.
pub const CERTIFICATE_REQUIRED: Alerts = [116, 40];

/// What becomes of a client.
#[derive(Clone, Copy)]
pub enum Outcome {
    /// It is let in under this name.
    Admitted(&'static str),
    /// It is refused.
    Refused {
        /// The label of the metric and the word of the log.
        reason: &'static str,
        /// What the client is told.
        alerts: Alerts,
        /// A part of what the log says about it.
        detail: &'static str,
    },
    /// The handshake ends before there is anything to decide: it isn't TLS, and no alert says so.
    Ended,
}

pub const fn refused(reason: &'static str, alerts: Alerts, detail: &'static str) -> Outcome {
    Outcome::Refused { reason, alerts, detail }
}

/// One client: what it is, the listener that it connects to, what it shows, what becomes of it.
pub struct Row {
    pub name: &'static str,
    pub listener: &'static str,
    pub show: fn(&World) -> Shown,
    pub outcome: Outcome,
}

/// A row for the listener of that name.
pub const fn at(
    listener: &'static str,
    name: &'static str,
    show: fn(&World) -> Shown,
    outcome: Outcome,
) -> Row {
    Row { name, listener, show, outcome }
}

/// A row for the listener `main`: trusts the root, asks for clientAuth.
pub const fn row(name: &'static str, show: fn(&World) -> Shown, outcome: Outcome) -> Row {
    at("main", name, show, outcome)
}

pub const FE01: Outcome = Outcome::Admitted("fe01.contoso.test");
