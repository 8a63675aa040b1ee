//! Handshakes by the server's kind of key, the client's chain, the key agreement and the number of
//! clients at a time: the rows of a table of their own.

use countersign::load::Report;

use super::rows::{Line, Row, Scale};

/// How a row of handshakes is measured and shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Handshake {
    /// Its name in the file for machines.
    name: &'static str,
    title: &'static str,
    clients: Clients,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Clients {
    /// One, whose time counts instead of the server's.
    One,
    /// The least of the numbers.
    Fewest,
    /// Each of the numbers.
    Each,
}

/// The name of the line that a server without TLS has a figure for, of as many clients.
const PLAIN: &str = "ecdsa";

impl Handshake {
    /// Rows of other tables count as plain full handshakes.
    pub(crate) fn of(row: Row) -> Self {
        let (name, title, clients) = match row {
            Row::Lone => ("lone", "full, P-256, X25519, a lone client", Clients::One),
            Row::Rsa => ("rsa", "full, RSA-2048 of the server, X25519", Clients::Each),
            Row::Intermediate => {
                ("intermediate", "full, client chain with an intermediate", Clients::Each)
            }
            Row::Identities => ("identities", "full, 64 such chains in rotation", Clients::Each),
            Row::NewChains => ("new-chains", "full, each such chain new", Clients::Fewest),
            Row::Hybrid => ("hybrid", "full, P-256, X25519MLKEM768", Clients::Each),
            Row::ResumedMany => ("resumed", "resumed, X25519", Clients::Each),
            _ => (PLAIN, "full, P-256, X25519", Clients::Each),
        };
        Self { name, title, clients }
    }

    /// How many clients make handshakes at a time, in as many runs.
    pub(crate) fn clients(self, scale: Scale) -> &'static [u32] {
        match self.clients {
            Clients::One => &[1],
            Clients::Fewest => scale.clients.get(..1).unwrap_or_default(),
            Clients::Each => scale.clients,
        }
    }

    /// One figure for each number of clients.
    pub(crate) fn lines(self, scale: Scale) -> Vec<Line> {
        let line = |&clients: &u32| {
            let name = self.line_name(clients);
            if self.clients == Clients::One {
                return Line {
                    name, title: format!("{}, p50", self.title), unit: "µs of latency"
                };
            }
            let title = format!("{}, {clients} clients", self.title);
            Line { name, title, unit: "µs of CPU" }
        };
        self.clients(scale).iter().map(line).collect()
    }

    fn line_name(self, clients: u32) -> String {
        match self.clients {
            Clients::One => self.name.to_owned(),
            _ => format!("{}-{clients}", self.name),
        }
    }

    /// The figure that a report gives, with the name of its line.
    pub(crate) fn figure(self, report: &Report) -> Option<(String, f64)> {
        let figure = match self.clients {
            Clients::One => report.latency.as_ref()?.p50_us,
            _ => report.server.as_ref()?.cpu_us_per_operation?,
        };
        Some((self.line_name(report.connections), figure))
    }
}

/// The line that says what as many connections cost without TLS.
pub(crate) fn plain_line(line: &str) -> String {
    match line.rsplit_once('-') {
        Some((_, clients)) => format!("{PLAIN}-{clients}"),
        None => line.to_owned(),
    }
}
