//! The URLs that CRLs are fetched from.

use std::{fmt, sync::Arc};

use ureq::http::Uri;

/// The longest URL, in bytes; those of CAs have some hundred at most.
const URL_LEN_MAX: usize = 2048;

/// A URL that a CRL can be fetched from: `http://`, with a host, and printable ASCII alone, so
/// that it can stand in a log line. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HttpUrl(Arc<str>);

impl HttpUrl {
    /// Reads `text` as an absolute URL (RFC 3986).
    ///
    /// # Errors
    /// What is wrong with it, and what would be accepted.
    pub fn parse(text: &str) -> Result<Self, String> {
        const ACCEPTED: &str = "it takes \"http://host/path\", with a port if it isn't 80";
        if text.len() > URL_LEN_MAX {
            return Err(format!("a URL has at most {URL_LEN_MAX} bytes; {ACCEPTED}"));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) || text.contains(['"', '\\', '#']) {
            return Err(format!("it holds a character that a URL writes as %XX; {ACCEPTED}"));
        }
        let uri: Uri = text.parse().map_err(|_| format!("it isn't an absolute URL; {ACCEPTED}"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(
                    "a CRL is signed by its CA, so that TLS would prove nothing more, and \
                            checking the server's certificate could need the very CRL; it takes \
                            \"http://\""
                        .to_owned(),
                );
            }
            _ => return Err(format!("only HTTP is spoken; {ACCEPTED}")),
        }
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if authority.contains('@') {
            return Err(format!("it holds a user name, which is not sent; {ACCEPTED}"));
        }
        let host = uri.host().unwrap_or_default();
        let port = match authority.strip_prefix(host).unwrap_or_default() {
            "" => Some(80),
            port => port.strip_prefix(':').and_then(|port| port.parse::<u16>().ok()),
        };
        if host.is_empty() || port.is_none_or(|port| port == 0) {
            return Err(format!("it has no host, or no valid port; {ACCEPTED}"));
        }
        Ok(Self(text.into()))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for HttpUrl {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_with_a_host_is_taken_as_it_is_written() {
        for url in [
            "http://crl.contoso.test/root.crl",
            "http://crl.contoso.test",
            "HTTP://crl.contoso.test:8080/a%20b?c=d&e=(f)",
            "http://192.0.2.1/root.crl",
            "http://[2001:db8::1]:80/root.crl",
        ] {
            assert_eq!(HttpUrl::parse(url).map(|url| url.to_string()), Ok(url.to_owned()));
        }
    }

    #[test]
    fn what_could_not_be_fetched_or_logged_is_refused() {
        for (url, problem) in [
            ("https://crl.contoso.test/root.crl", "TLS would prove nothing more"),
            ("ldap:///CN=root?certificateRevocationList", "it takes"),
            ("ldap://dc01.contoso.test/CN=root", "only HTTP is spoken"),
            ("ftp://crl.contoso.test/root.crl", "only HTTP is spoken"),
            ("file:///etc/passwd", "it takes"),
            ("/root.crl", "it takes"),
            ("crl.contoso.test", "it takes"),
            ("http://", "it takes"),
            ("http:///root.crl", "it takes"),
            ("http://:80/root.crl", "it takes"),
            ("http://crl.contoso.test:0/", "no valid port"),
            ("http://crl.contoso.test:/", "no valid port"),
            ("http://crl.contoso.test:65536/", "it takes"),
            ("http://user:word@crl.contoso.test/", "a user name"),
            ("http://crl.contoso.test/a b", "%XX"),
            ("http://crl.contoso.test/\r\nHost: x", "%XX"),
            ("http://crl.contoso.test/\u{fc}", "%XX"),
            ("http://crl.contoso.test/#x", "%XX"),
            ("", "it takes"),
        ] {
            let error = HttpUrl::parse(url).unwrap_err();
            assert!(error.contains(problem), "{url}: {error}");
        }
        assert!(HttpUrl::parse(&format!("http://a/{}", "a".repeat(URL_LEN_MAX))).is_err());
    }
}
