//! A client's chain from a file.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use rustls_pki_types::{CertificateDer, pem::PemObject};

/// The largest file of a chain that is read, in bytes; a client may send a sixteenth of that.
const CHAIN_FILE_LEN_MAX: u64 = 1 << 20;

/// A file that gives no chain.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {problem}")]
pub struct ChainError {
    /// The file, or "standard input".
    name: String,
    /// What is wrong with it, and what it takes.
    problem: String,
}

/// The certificates of a file in its order: PEM, whatever else it holds, or one in DER. `-` is
/// standard input.
///
/// # Errors
/// The file can't be read, or holds no certificate. One that can't be parsed is none: the decision
/// has its own word for that.
pub fn read_chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, ChainError> {
    let (name, bytes) = if file.as_os_str() == "-" {
        ("standard input".to_owned(), read(io::stdin().lock()))
    } else {
        (file.display().to_string(), File::open(file).and_then(read))
    };
    let certificates = bytes
        .map_err(|error| format!("can't be read: {error}"))
        .and_then(|bytes| certificates(&bytes));
    certificates.map_err(|problem| ChainError { name, problem })
}

fn read(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(CHAIN_FILE_LEN_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > CHAIN_FILE_LEN_MAX {
        return Err(io::Error::other(format!("it has more than {CHAIN_FILE_LEN_MAX} bytes")));
    }
    Ok(bytes)
}

fn certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    const SEQUENCE: u8 = 0x30;
    // Text can begin with this byte too, which is a '0': then a BEGIN line follows.
    let begins_pem = bytes.windows(11).any(|window| window == b"-----BEGIN ");
    if bytes.first() == Some(&SEQUENCE) && !begins_pem {
        return Ok(vec![CertificateDer::from(bytes.to_vec())]);
    }
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let found = found.map_err(|error| format!("is not valid PEM: {error}"))?;
    if found.is_empty() {
        return Err("holds no certificate; it takes PEM, the client's own certificate first, or \
                    one certificate in DER"
            .to_owned());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(content: &str) -> String {
        format!("-----BEGIN CERTIFICATE-----\n{content}\n-----END CERTIFICATE-----\n")
    }

    #[test]
    fn certificates_are_read_from_pem_in_their_order_and_other_sections_passed_over() {
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let text = format!("0 s:CN = fe01\n{}{key}{}", pem("AQID"), pem("BAUG"));
        let read = certificates(text.as_bytes()).unwrap();
        assert_eq!(read, [CertificateDer::from(vec![1, 2, 3]), vec![4, 5, 6].into()]);
    }

    #[test]
    fn der_is_taken_as_it_is_and_what_holds_nothing_is_an_error() {
        assert_eq!(certificates(&[0x30, 1, 2]).unwrap(), [CertificateDer::from(vec![0x30, 1, 2])]);
        assert!(certificates(b"").unwrap_err().contains("holds no certificate"));
        assert!(certificates(b"hello").unwrap_err().contains("holds no certificate"));
        let cut = pem("AQID").replace("-----END", "");
        assert!(certificates(cut.as_bytes()).unwrap_err().contains("not valid PEM"));
    }
}
