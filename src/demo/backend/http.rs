//! As much of HTTP/1.1 (RFC 9112) as the demo's backend needs. Pure code.

use std::fmt::Write as _;

use super::identity::Identity;

/// The longest request line and header fields together.
pub(super) const MAX_HEAD_BYTES: usize = 16 * 1024;
/// The longest body; it is read and thrown away.
pub(super) const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Asks for the body of a request that waits to be asked.
pub(super) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

const METHODS: [&[u8]; 7] =
    [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH "];

/// Whether the first bytes of a connection are HTTP.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sniff {
    /// They begin with a request line of HTTP/1.x.
    Http,
    /// They don't.
    Other,
    /// They are the beginning of a method's name, or nothing.
    Undecided,
    /// They begin with a method, but the line's end isn't there yet.
    Method,
}

/// Judges the first bytes of a connection.
pub(super) fn sniff(bytes: &[u8]) -> Sniff {
    if !METHODS.iter().any(|method| bytes.starts_with(method)) {
        let may_become = METHODS.iter().any(|method| method.starts_with(bytes));
        return if may_become { Sniff::Undecided } else { Sniff::Other };
    }
    match bytes.iter().position(|&byte| byte == b'\n') {
        Some(end) if bytes[..end].ends_with(b" HTTP/1.1\r") => Sniff::Http,
        Some(end) if bytes[..end].ends_with(b" HTTP/1.0\r") => Sniff::Http,
        None if bytes.len() < MAX_HEAD_BYTES => Sniff::Method,
        _ => Sniff::Other,
    }
}

/// What matters of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) head_only: bool,
    pub(super) wants_json: bool,
    pub(super) keep_alive: bool,
    pub(super) expects_continue: bool,
    /// At most [`MAX_BODY_BYTES`].
    pub(super) body_bytes: usize,
}

/// Why a request is refused; the connection is closed after the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    BadRequest,
    LengthRequired,
    ContentTooLarge,
    HeadTooLarge,
}

impl Refusal {
    /// The whole answer.
    pub(super) fn response(self) -> Vec<u8> {
        let (status, text) = match self {
            Self::BadRequest => ("400 Bad Request", "the client's request is malformed\n"),
            Self::LengthRequired => {
                ("411 Length Required", "send the body with a Content-Length, not chunked\n")
            }
            Self::ContentTooLarge => ("413 Content Too Large", "the body is over 1 MiB\n"),
            Self::HeadTooLarge => {
                ("431 Request Header Fields Too Large", "the header fields are over 16 KiB\n")
            }
        };
        message(status, "text/plain; charset=utf-8", text, false, false)
    }
}

/// Reads a request's head at the start of `bytes`: the request and the head's length, or `None`
/// if more bytes are needed.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Request, usize)>, Refusal> {
    let window = &bytes[..bytes.len().min(MAX_HEAD_BYTES)];
    let Some(end) = window.windows(4).position(|four| four == b"\r\n\r\n") else {
        return if window.len() < MAX_HEAD_BYTES { Ok(None) } else { Err(Refusal::HeadTooLarge) };
    };
    let head = std::str::from_utf8(&window[..end]).map_err(|_| Refusal::BadRequest)?;
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Refusal::BadRequest);
    };
    if !is_token(method) || target.is_empty() || !matches!(version, "HTTP/1.0" | "HTTP/1.1") {
        return Err(Refusal::BadRequest);
    }
    let mut request = Request {
        head_only: method == "HEAD",
        wants_json: false,
        keep_alive: version == "HTTP/1.1",
        expects_continue: false,
        body_bytes: 0,
    };
    let mut length = None;
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(Refusal::BadRequest)?;
        let value = value.trim_matches([' ', '\t']);
        if !is_token(name) || value.contains(['\r', '\n', '\0']) {
            return Err(Refusal::BadRequest);
        }
        match name.to_ascii_lowercase().as_str() {
            "accept" if lists(value, "application/json") => request.wants_json = true,
            "connection" if lists(value, "close") => request.keep_alive = false,
            "expect" if lists(value, "100-continue") => request.expects_continue = true,
            "transfer-encoding" => return Err(Refusal::LengthRequired),
            "content-length" => {
                let bytes = content_length(value)?;
                // Two lengths are two opinions about where the next request begins.
                if length.replace(bytes).is_some_and(|before| before != bytes) {
                    return Err(Refusal::BadRequest);
                }
                request.body_bytes = bytes;
            }
            _ => {}
        }
    }
    Ok(Some((request, end + 4)))
}

/// The whole answer: who the client is.
pub(super) fn response(request: &Request, identity: &Identity) -> Vec<u8> {
    let (kind, body) = if request.wants_json {
        ("application/json", identity.to_json())
    } else {
        ("text/plain; charset=utf-8", identity.to_text())
    };
    message("200 OK", kind, &body, request.keep_alive, request.head_only)
}

fn message(status: &str, kind: &str, body: &str, keep_alive: bool, head_only: bool) -> Vec<u8> {
    let connection = if keep_alive { "keep-alive" } else { "close" };
    let mut text = String::new();
    // Writing to a String can't fail.
    let _ = write!(
        text,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nConnection: {connection}\r\n\r\n",
        body.len()
    );
    if !head_only {
        text.push_str(body);
    }
    text.into_bytes()
}

fn content_length(value: &str) -> Result<usize, Refusal> {
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Refusal::BadRequest);
    }
    // Digits that don't fit are too many.
    let length = value.parse().map_err(|_| Refusal::ContentTooLarge)?;
    if length > MAX_BODY_BYTES { Err(Refusal::ContentTooLarge) } else { Ok(length) }
}

/// Whether a comma-separated list has `word`, whatever its case and parameters.
fn lists(value: &str, word: &str) -> bool {
    value.split(',').any(|item| {
        let item = item.split(';').next().unwrap_or_default();
        item.trim().eq_ignore_ascii_case(word)
    })
}

/// RFC 9110 §5.6.2
fn is_token(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(head: &str) -> Request {
        let (request, length) = parse(head.as_bytes()).unwrap().unwrap();
        assert_eq!(length, head.len());
        request
    }

    #[test]
    fn only_a_request_line_is_taken_for_http() {
        for (bytes, verdict) in [
            ("GET / HTTP/1.1\r\n", Sniff::Http),
            ("POST /x HTTP/1.0\r\nHost: a\r\n", Sniff::Http),
            ("GET / HTTP/1.1", Sniff::Method),
            ("GET ", Sniff::Method),
            ("", Sniff::Undecided),
            ("OPTI", Sniff::Undecided),
            ("GET me a coffee\r\n", Sniff::Other),
            ("GET / HTTP/2.0\r\n", Sniff::Other),
            ("get / HTTP/1.1\r\n", Sniff::Other),
            ("INVITE sip:a@b.test SIP/2.0\r\n", Sniff::Other),
            ("\x16\x03\x01", Sniff::Other),
        ] {
            assert_eq!(sniff(bytes.as_bytes()), verdict, "{bytes:?}");
        }
        assert_eq!(sniff(&[b"GET ".as_slice(), &[b'a'; MAX_HEAD_BYTES]].concat()), Sniff::Other);
    }

    #[test]
    fn what_matters_of_a_request_is_read() {
        let plain = parsed("GET / HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n");
        assert!(plain.keep_alive && !plain.wants_json && !plain.head_only);
        assert_eq!(plain.body_bytes, 0);
        let request = parsed(
            "HEAD / HTTP/1.1\r\naccept: text/html, Application/JSON;q=0.9\r\nConnection: Close\r\n\
             Content-Length: 7\r\nExpect: 100-continue\r\n\r\n",
        );
        assert!(request.head_only && request.wants_json && request.expects_continue);
        assert!(!request.keep_alive);
        assert_eq!(request.body_bytes, 7);
        assert!(!parsed("GET / HTTP/1.0\r\n\r\n").keep_alive);
    }

    #[test]
    fn a_head_that_isnt_whole_asks_for_more_until_it_is_too_long() {
        assert_eq!(parse(b"GET / HTTP/1.1\r\nHost: a\r\n"), Ok(None));
        assert_eq!(parse(&[b'a'; MAX_HEAD_BYTES - 1]), Ok(None));
        assert_eq!(parse(&[b'a'; MAX_HEAD_BYTES]), Err(Refusal::HeadTooLarge));
    }

    #[test]
    fn requests_that_could_be_read_in_two_ways_are_refused() {
        for (fields, refusal) in [
            ("Content-Length: 1\r\nContent-Length: 2", Refusal::BadRequest),
            ("Content-Length: +1", Refusal::BadRequest),
            ("Content-Length: 1, 1", Refusal::BadRequest),
            ("Content-Length : 1", Refusal::BadRequest),
            ("no colon", Refusal::BadRequest),
            ("A: b\r\n folded: c", Refusal::BadRequest),
            ("A: b\nC: d", Refusal::BadRequest),
            ("Content-Length: 1048577", Refusal::ContentTooLarge),
            ("Content-Length: 99999999999999999999999", Refusal::ContentTooLarge),
            ("Content-Length: 1\r\nTransfer-Encoding: chunked", Refusal::LengthRequired),
        ] {
            let head = format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n");
            assert_eq!(parse(head.as_bytes()), Err(refusal), "{fields:?}");
        }
        for line in ["GET /", "GET  / HTTP/1.1", "G(T / HTTP/1.1", "GET / HTTP/1.2", ""] {
            let head = format!("{line}\r\n\r\n");
            assert_eq!(parse(head.as_bytes()), Err(Refusal::BadRequest), "{line:?}");
        }
    }
}
