//! Whether the first bytes on a TLS port are TLS at all.

/// What speaks to a TLS port but isn't TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotTls {
    /// Plain HTTP.
    Http,
    /// A PROXY protocol header, which we send but don't take.
    ProxyHeader,
    /// A ClientHello of SSL 2 (RFC 6176 forbids it).
    Ssl2,
    /// None of these.
    Noise,
}

impl NotTls {
    /// The log word.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "plain HTTP",
            Self::ProxyHeader => "a PROXY header before the ClientHello",
            Self::Ssl2 => "an SSL 2 ClientHello",
            Self::Noise => "no TLS",
        }
    }
}

/// The first record must be a handshake record of any legacy version (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;

/// Judges the first bytes, of which there is at least one.
pub(super) fn judge(first: &[u8]) -> Result<(), NotTls> {
    const METHODS: [&[u8]; 9] = [
        b"GET ",
        b"POST ",
        b"HEAD ",
        b"PUT ",
        b"DELETE ",
        b"OPTIONS ",
        b"PATCH ",
        b"CONNECT ",
        b"PRI * HTTP/2",
    ];
    let begins = |wanted: &[u8]| {
        first.len() >= 3 && first.starts_with(&wanted[..wanted.len().min(first.len())])
    };
    match first {
        [HANDSHAKE] | [HANDSHAKE, 3, ..] => Ok(()),
        _ if begins(b"PROXY ") || begins(b"\r\n\r\n\0\r\nQUIT\n") => Err(NotTls::ProxyHeader),
        _ if METHODS.iter().any(|method| begins(method)) => Err(NotTls::Http),
        [length, _, 1, ..] if length & 0x80 != 0 => Err(NotTls::Ssl2),
        _ => Err(NotTls::Noise),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_hello_of_any_legacy_version_is_tls() {
        for hello in [&[22, 3, 1, 2, 0][..], &[22, 3, 3], &[22]] {
            assert_eq!(judge(hello), Ok(()));
        }
    }

    #[test]
    fn what_is_not_tls_is_told_apart_for_the_log() {
        assert_eq!(judge(b"GET / HTTP/1.1\r\n"), Err(NotTls::Http));
        assert_eq!(judge(b"POST"), Err(NotTls::Http));
        assert_eq!(judge(b"PROXY TCP4 192.0.2.1"), Err(NotTls::ProxyHeader));
        assert_eq!(judge(b"\r\n\r\n\0\r\nQUIT\n\x21\x11"), Err(NotTls::ProxyHeader));
        assert_eq!(judge(&[0x80, 0x2e, 1, 3, 1]), Err(NotTls::Ssl2));
        assert_eq!(judge(b"\0\0\0\0\0\0"), Err(NotTls::Noise));
        assert_eq!(judge(&[22, 2, 0]), Err(NotTls::Noise));
    }
}
