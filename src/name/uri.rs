//! URIs: SPIFFE IDs by their own strict grammar, others as RFC 3986 text compared exactly.

use std::fmt;

/// Octets of a SPIFFE ID (SPIFFE-ID §2.3), kept for every URI.
const MAX_URI_BYTES: usize = 2048;

/// Octets of a SPIFFE trust domain (SPIFFE-ID §2.3).
const MAX_TRUST_DOMAIN_BYTES: usize = 255;

const SPIFFE: &str = "spiffe://";

/// A URI with its scheme and host in lower case, all else as it was: nothing is decoded or
/// normalised, so that two spellings of one resource are two names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UriName(Box<str>);

impl UriName {
    /// Parses an absolute URI (RFC 3986 §4.3); the error says what would be accepted.
    ///
    /// A `spiffe` URI must be the SPIFFE ID of a workload: a trust domain and a path, without
    /// port, userinfo, query, fragment, percent-encoding, empty or dot segments.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fail = |why: &str| format!("{text:?} is no URI that can be matched: {why}");
        if text.len() > MAX_URI_BYTES {
            return Err(format!(
                "a URI has at most {MAX_URI_BYTES} characters, not {}",
                text.len()
            ));
        }
        let (scheme, rest) = text.split_once(':').ok_or_else(|| fail("it has no scheme"))?;
        if !is_scheme(scheme) {
            return Err(fail("its scheme isn't letters, digits, '+', '-' and '.'"));
        }
        if rest.is_empty() || !rest.bytes().all(is_uri_byte) {
            return Err(fail("it needs characters that RFC 3986 allows after the scheme"));
        }
        let scheme = scheme.to_ascii_lowercase();
        if scheme == "spiffe" {
            let (domain, path) = split_spiffe(rest).map_err(fail)?;
            let path = path.ok_or_else(|| fail("the SPIFFE ID of a workload has a path"))?;
            check_segments(path).map_err(fail)?;
            return Ok(Self(format!("{SPIFFE}{domain}/{path}").into()));
        }
        Ok(Self(format!("{scheme}:{}", fold_host(rest)).into()))
    }

    /// Scheme and host in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is a SPIFFE ID.
    pub fn is_spiffe(&self) -> bool {
        is_spiffe(&self.0)
    }

    /// Whether it goes on after `prefix`, which ends in a slash.
    pub(super) fn is_below(&self, prefix: &str) -> bool {
        self.0.len() > prefix.len() && self.0.starts_with(prefix)
    }
}

impl fmt::Display for UriName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a URI in canonical form is a SPIFFE ID.
pub(super) fn is_spiffe(uri: &str) -> bool {
    uri.starts_with(SPIFFE)
}

/// Whether a pattern of the configuration means a URI. A mistyped IPv6 address and a host with its
/// port would pass for one as well, and then never match anything.
pub(super) fn looks_like_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let is_port = rest.bytes().all(|b| b.is_ascii_digit());
    let is_address = scheme.bytes().all(|b| b.is_ascii_hexdigit())
        && rest.bytes().all(|b| b.is_ascii_hexdigit() || b":./".contains(&b));
    is_scheme(scheme) && (rest.starts_with("//") || !(is_port || is_address))
}

/// Parses `spiffe://DOMAIN/*` or `spiffe://DOMAIN/PATH/*` to the text before the asterisk; `None`
/// if it isn't of this shape.
pub(super) fn parse_spiffe_subtree(text: &str) -> Result<Option<Box<str>>, String> {
    let Some((scheme, rest)) = text.split_once(':') else { return Ok(None) };
    let Some(rest) = rest.strip_suffix("/*") else { return Ok(None) };
    if !scheme.eq_ignore_ascii_case("spiffe") {
        return Ok(None);
    }
    let fail = |why: &str| format!("{text:?} is no SPIFFE pattern: {why}");
    if text.len() > MAX_URI_BYTES {
        return Err(format!("a URI has at most {MAX_URI_BYTES} characters, not {}", text.len()));
    }
    let (domain, path) = split_spiffe(rest).map_err(fail)?;
    Ok(Some(match path {
        None => format!("{SPIFFE}{domain}/").into(),
        Some(path) => {
            check_segments(path).map_err(fail)?;
            format!("{SPIFFE}{domain}/{path}/").into()
        }
    }))
}

/// Splits what follows `spiffe:` into the trust domain, in lower case, and the path without its
/// first slash.
fn split_spiffe(rest: &str) -> Result<(String, Option<&str>), &'static str> {
    let rest = rest.strip_prefix("//").ok_or("a SPIFFE ID starts with spiffe://")?;
    let (domain, path) = match rest.split_once('/') {
        Some((domain, path)) => (domain, Some(path)),
        None => (rest, None),
    };
    if domain.is_empty() || domain.len() > MAX_TRUST_DOMAIN_BYTES {
        return Err("its trust domain has 1 to 255 characters");
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if !domain.bytes().all(allowed) {
        return Err("its trust domain is made of letters, digits, '.', '-' and '_'");
    }
    Ok((domain.to_ascii_lowercase(), path))
}

fn check_segments(path: &str) -> Result<(), &'static str> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    for segment in path.split('/') {
        if segment.is_empty() {
            return Err("it has an empty path segment or ends in a slash");
        }
        if segment == "." || segment == ".." {
            return Err("it has a dot segment");
        }
        if !segment.bytes().all(allowed) {
            return Err("its path segments are made of letters, digits, '.', '-' and '_'");
        }
    }
    Ok(())
}

/// RFC 3986 §3.1
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

/// RFC 3986 §2: reserved, unreserved, and the percent sign.
fn is_uri_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&b)
}

/// Lower-cases the host of an authority (RFC 3986 §3.2.2), if there is one.
fn fold_host(rest: &str) -> String {
    let Some(after) = rest.strip_prefix("//") else { return rest.to_owned() };
    let end = after.find(['/', '?', '#']).unwrap_or(after.len());
    let (authority, tail) = after.split_at(end);
    match authority.rsplit_once('@') {
        Some((user, host)) => format!("//{user}@{}{tail}", host.to_ascii_lowercase()),
        None => format!("//{}{tail}", authority.to_ascii_lowercase()),
    }
}
