//! Names that certificates carry, and the patterns that the configuration lists.
//!
//! Pure code, shared by the configuration (which parses patterns) and the trust decision
//! (which matches them). Both sides are parsed by one strict grammar into a canonical form
//! (lower case where case doesn't count), so that matching is comparing bytes: what can't be
//! parsed can't be matched.
//!
//! Patterns are *laminar*: two of them are either disjoint, or one is within the other. DNS
//! subtrees, SPIFFE path prefixes and address prefixes all have this shape, which is what makes
//! [`NamePattern::overlaps`] exact instead of a guess.

mod dns;
mod index;
mod ip;
#[cfg(test)]
mod tests;
mod uri;

use std::{fmt, net::IpAddr};

pub use dns::DnsName;
pub use index::PatternIndex;
use ip::Network;
pub use uri::UriName;

/// A pattern of the configuration for names in certificates.
///
/// | text | matches |
/// |---|---|
/// | `fe01.contoso.test` | this DNS name |
/// | `*.contoso.test` | any DNS name below it, with any number of labels, not itself |
/// | `spiffe://domain/path` | this SPIFFE ID |
/// | `spiffe://domain/*`, `spiffe://domain/ns/*` | any SPIFFE ID of the domain below this path |
/// | `scheme:rest` | this URI |
/// | `192.0.2.7`, `2001:db8::7` | this address |
/// | `192.0.2.0/24`, `2001:db8::/32` | any address of the network |
/// | `*` | any DNS name; where it may stand at all |
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NamePattern(Pattern);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Pattern {
    Dns(DnsName),
    /// Every DNS name with this one as its parent or a further ancestor.
    DnsBelow(DnsName),
    /// Every DNS name.
    AnyDns,
    Uri(UriName),
    /// Every SPIFFE ID that starts with this, which ends in a slash, and goes on.
    SpiffeBelow(Box<str>),
    Network(Network),
}

impl NamePattern {
    /// Parses what the configuration says; the error says what would be accepted.
    pub fn parse(text: &str) -> Result<Self, String> {
        let pattern = if uri::looks_like_uri(text) {
            match uri::parse_spiffe_subtree(text)? {
                Some(prefix) => Pattern::SpiffeBelow(prefix),
                None if text.contains('*') => {
                    return Err(format!(
                        "{text:?} has a wildcard where none is understood: only spiffe://DOMAIN/* \
                         and spiffe://DOMAIN/PATH/* match more than one URI"
                    ));
                }
                None => Pattern::Uri(UriName::parse(text)?),
            }
        } else if let Some(network) = ip::parse_network(text)? {
            Pattern::Network(network)
        } else if let Some(base) = text.strip_prefix("*.") {
            Pattern::DnsBelow(DnsName::parse_parent(base)?)
        } else {
            Pattern::Dns(DnsName::parse(text)?)
        };
        Ok(Self(pattern))
    }

    /// Any DNS name; written `*`. [`parse`](Self::parse) doesn't take it: few lists of names may
    /// hold it.
    pub const ANY_DNS: Self = Self(Pattern::AnyDns);

    /// Whether every name that `self` matches is matched by `other` too.
    pub fn is_within(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Pattern::Dns(name), Pattern::DnsBelow(base)) => name.is_below(base),
            (Pattern::DnsBelow(inner), Pattern::DnsBelow(outer)) => {
                inner == outer || inner.is_below(outer)
            }
            (Pattern::Dns(_) | Pattern::DnsBelow(_), Pattern::AnyDns) => true,
            (Pattern::Uri(uri), Pattern::SpiffeBelow(prefix)) => uri.is_below(prefix),
            (Pattern::SpiffeBelow(inner), Pattern::SpiffeBelow(outer)) => {
                inner.starts_with(&**outer)
            }
            (Pattern::Network(inner), Pattern::Network(outer)) => inner.is_within(outer),
            (mine, theirs) => mine == theirs,
        }
    }

    /// Whether some name is matched by both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.is_within(other) || other.is_within(self)
    }

    /// Whether a certificate with this name is meant.
    ///
    /// A wildcard in a certificate ([`PeerName::DnsWildcard`]) identifies no single server. It
    /// matches only a configured wildcard that contains *all* it could stand for, never an exact
    /// name: whoever lists `fe01.contoso.test` means that server and not every holder of a
    /// certificate for `*.contoso.test`.
    pub fn matches(&self, name: &PeerName) -> bool {
        match (&self.0, name) {
            (Pattern::Dns(listed), PeerName::Dns(name)) => listed == name,
            (Pattern::DnsBelow(base), PeerName::Dns(name)) => name.is_below(base),
            (Pattern::DnsBelow(base), PeerName::DnsWildcard(parent)) => {
                parent == base || parent.is_below(base)
            }
            (Pattern::AnyDns, PeerName::Dns(_) | PeerName::DnsWildcard(_)) => true,
            (Pattern::Uri(listed), PeerName::Uri(uri)) => listed == uri,
            (Pattern::SpiffeBelow(prefix), PeerName::Uri(uri)) => uri.is_below(prefix),
            (Pattern::Network(network), PeerName::Ip(address)) => network.contains(*address),
            _ => false,
        }
    }

    /// Whether a certificate with this name could pass for one that is meant: as
    /// [`matches`](Self::matches), but a certificate's wildcard also touches each exact name that
    /// it could stand for. This is how names are blocked.
    pub fn touches(&self, name: &PeerName) -> bool {
        match (&self.0, name) {
            (Pattern::Dns(listed), PeerName::DnsWildcard(parent)) => listed.is_child_of(parent),
            _ => self.matches(name),
        }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Pattern::Dns(name) => name.fmt(f),
            Pattern::DnsBelow(base) => write!(f, "*.{base}"),
            Pattern::AnyDns => f.write_str("*"),
            Pattern::Uri(uri) => uri.fmt(f),
            Pattern::SpiffeBelow(prefix) => write!(f, "{prefix}*"),
            Pattern::Network(network) => network.fmt(f),
        }
    }
}

/// One subjectAltName of a certificate (RFC 5280 §4.2.1.6), in canonical form.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PeerName {
    /// A dNSName.
    Dns(DnsName),
    /// A dNSName `*.PARENT`: any name with exactly one label more than PARENT, which is kept here.
    DnsWildcard(DnsName),
    /// A uniformResourceIdentifier.
    Uri(UriName),
    /// An iPAddress.
    Ip(IpAddr),
}

impl PeerName {
    /// Reads a dNSName; the error says what is wrong with it.
    pub fn from_dns_san(bytes: &[u8]) -> Result<Self, String> {
        let text = ascii(bytes, "dNSName")?;
        match text.strip_prefix("*.") {
            Some(parent) => DnsName::parse_parent(parent).map(Self::DnsWildcard),
            None => DnsName::parse(text).map(Self::Dns),
        }
    }

    /// Reads a uniformResourceIdentifier; the error says what is wrong with it.
    pub fn from_uri_san(bytes: &[u8]) -> Result<Self, String> {
        UriName::parse(ascii(bytes, "uniformResourceIdentifier")?).map(Self::Uri)
    }

    /// Reads an iPAddress, four or sixteen octets in network order.
    pub fn from_ip_san(bytes: &[u8]) -> Result<Self, String> {
        if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
            Ok(Self::Ip(octets.into()))
        } else if let Ok(octets) = <[u8; 16]>::try_from(bytes) {
            Ok(Self::Ip(octets.into()))
        } else {
            Err(format!("an iPAddress has 4 or 16 octets, not {}", bytes.len()))
        }
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => name.fmt(f),
            Self::DnsWildcard(parent) => write!(f, "*.{parent}"),
            Self::Uri(uri) => uri.fmt(f),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

fn ascii<'a>(bytes: &'a [u8], kind: &str) -> Result<&'a str, String> {
    // IA5String; the printable part of it is all that names are made of.
    match std::str::from_utf8(bytes) {
        Ok(text) if bytes.iter().all(u8::is_ascii_graphic) => Ok(text),
        _ => Err(format!(
            "a {kind} is made of printable ASCII, not {:?}",
            bytes.escape_ascii().to_string()
        )),
    }
}
