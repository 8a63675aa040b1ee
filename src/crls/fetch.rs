//! One fetch of one URL: a GET with limits on its time and its size.
//!
//! Whoever answers is not trusted: what comes is a claim until a CA's signature on it was verified
//! by the store. So plain HTTP will do. No redirect is followed, no proxy of the environment is
//! used, and of a server's answer no more than the limit is kept.

use std::{io::Read, time::Duration};

use ureq::{
    Agent, Body,
    http::{HeaderName, Response, StatusCode, header},
};

use crate::{
    config::{CRL_FILE_LEN_MAX, HttpUrl},
    metrics::CrlFetchResult,
};

/// The longest validator (ETag, Last-Modified) that is sent back, in bytes.
const VALIDATOR_LEN_MAX: usize = 256;

/// What tells a server which CRL we have (RFC 9110 §8.8).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Validators {
    etag: Option<String>,
    last_modified: Option<String>,
}

/// What a server answered.
#[derive(Debug)]
pub(super) enum Answer {
    /// A body, complete as far as HTTP can tell.
    Body {
        /// Its bytes.
        bytes: Vec<u8>,
        /// To ask the next time whether it has changed.
        validators: Validators,
    },
    /// It is what we have.
    NotModified,
}

/// Why there is nothing to use.
#[derive(Debug)]
pub(super) struct Failure {
    /// How it is counted.
    pub(super) result: CrlFetchResult,
    /// The same in words.
    pub(super) detail: String,
}

impl Failure {
    pub(super) fn new(result: CrlFetchResult, detail: impl Into<String>) -> Self {
        Self { result, detail: detail.into() }
    }
}

/// Asks for `url`; all of it, the look-up of the name included, takes `timeout` at most.
pub(super) fn fetch(
    url: &HttpUrl,
    have: Option<&Validators>,
    timeout: Duration,
) -> Result<Answer, Failure> {
    let config = Agent::config_builder()
        .timeout_global(Some(timeout))
        .max_redirects(0)
        .http_status_as_error(false)
        .proxy(None)
        .max_idle_connections(0)
        .user_agent(concat!("countersign/", env!("CARGO_PKG_VERSION")))
        .accept("application/pkix-crl, */*;q=0.1")
        .build();
    let mut request = config.new_agent().get(url.as_str());
    if let Some(have) = have {
        if let Some(etag) = &have.etag {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        if let Some(date) = &have.last_modified {
            request = request.header(header::IF_MODIFIED_SINCE, date);
        }
    }
    let response = request.call().map_err(failure)?;
    match response.status() {
        StatusCode::OK => body(response),
        StatusCode::NOT_MODIFIED if have.is_some() => Ok(Answer::NotModified),
        status if status.is_redirection() => {
            let detail = format!("the server answered {status}; redirects are not followed");
            Err(Failure::new(CrlFetchResult::BadStatus, detail))
        }
        status => {
            let detail = format!("the server answered {status}");
            Err(Failure::new(CrlFetchResult::BadStatus, detail))
        }
    }
}

fn body(response: Response<Body>) -> Result<Answer, Failure> {
    let validator = |name: HeaderName| {
        let value = response.headers().get(name)?.to_str().ok()?;
        (value.len() <= VALIDATOR_LEN_MAX).then(|| value.to_owned())
    };
    let validators = Validators {
        etag: validator(header::ETAG),
        last_modified: validator(header::LAST_MODIFIED),
    };
    let announced = response.body().content_length();
    if announced.is_some_and(|bytes| bytes > CRL_FILE_LEN_MAX) {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    let reader = response.into_body().into_reader();
    reader
        .take(CRL_FILE_LEN_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| failure(ureq::Error::from(error)))?;
    if bytes.len() as u64 > CRL_FILE_LEN_MAX {
        return Err(too_large());
    }
    // What ends before its Content-Length was cut on the way, whatever the reader makes of it.
    if announced.is_some_and(|announced| announced != bytes.len() as u64) {
        return Err(Failure::new(CrlFetchResult::Truncated, "the answer was cut short"));
    }
    Ok(Answer::Body { bytes, validators })
}

fn too_large() -> Failure {
    let detail = format!("the answer has more than {CRL_FILE_LEN_MAX} bytes");
    Failure::new(CrlFetchResult::TooLarge, detail)
}

fn failure(error: ureq::Error) -> Failure {
    use std::io::ErrorKind::{TimedOut, UnexpectedEof};
    match error {
        ureq::Error::Timeout(_) => Failure::new(CrlFetchResult::TimedOut, "the time was over"),
        ureq::Error::Io(error) if error.kind() == TimedOut => {
            Failure::new(CrlFetchResult::TimedOut, error.to_string())
        }
        ureq::Error::Io(error) if error.kind() == UnexpectedEof => {
            Failure::new(CrlFetchResult::Truncated, "the answer was cut short")
        }
        ureq::Error::Io(error) => Failure::new(CrlFetchResult::Unreachable, error.to_string()),
        ureq::Error::HostNotFound => {
            Failure::new(CrlFetchResult::Unreachable, "the host's name is not known")
        }
        error @ (ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(..)) => {
            let detail = format!("the server doesn't speak HTTP/1.1: {error}");
            Failure::new(CrlFetchResult::BadStatus, detail)
        }
        error => Failure::new(CrlFetchResult::Unreachable, error.to_string()),
    }
}
