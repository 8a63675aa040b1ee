//! Pins: which keys a peer may have.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::BASE64;

/// What stands before the digest.
const PREFIX: &str = "sha256/";

/// SHA-256 of a SubjectPublicKeyInfo in DER (RFC 7469 §2.4), written `sha256/BASE64`. It stays the
/// same when a certificate is renewed with the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyPin([u8; 32]);

impl KeyPin {
    /// The pin of a SubjectPublicKeyInfo in DER.
    pub fn of(spki: &[u8]) -> Self {
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(digest(&SHA256, spki).as_ref());
        Self(sha256)
    }

    /// Reads `sha256/BASE64`; the error says what would be accepted.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        const ACCEPTED: &str = "it takes \"sha256/\" and the base64 of a SHA-256 digest, 44 \
                                characters, of the SubjectPublicKeyInfo";
        let digest = text.strip_prefix(PREFIX).ok_or(ACCEPTED)?;
        let bytes = BASE64.decode(digest.as_bytes()).map_err(|_| ACCEPTED)?;
        <[u8; 32]>::try_from(bytes).map(Self).map_err(|_| ACCEPTED.to_owned())
    }
}

impl fmt::Display for KeyPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", BASE64.encode_display(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::KeyPin;

    #[test]
    fn a_pin_reads_as_it_is_written_and_nothing_else_does() {
        let text = "sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        assert_eq!(KeyPin::parse(text), Ok(KeyPin([0; 32])));
        assert_eq!(KeyPin([0; 32]).to_string(), text);
        for wrong in [
            "",
            "sha256/",
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            "sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            "sha1/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            "sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB=",
            "sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "sha256/AAAA",
        ] {
            assert!(KeyPin::parse(wrong).is_err(), "{wrong}");
        }
    }
}
