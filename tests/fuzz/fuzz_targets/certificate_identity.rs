//! Any bytes as a client's certificate: read or refused, and what is read is safe to log.
//!
//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz certificate_identity`

#![no_main]

use std::time::Duration;

use countersign::{
    config::ClientAuth,
    name::NamePattern,
    revocation::Stores,
    trust::{Identity, Policy},
};
use libfuzzer_sys::fuzz_target;
use rustls_pki_types::{CertificateDer, UnixTime};

fuzz_target!(|data: &[u8]| {
    let der = CertificateDer::from(data);
    if let Ok(identity) = Identity::from_der(&der) {
        let common_name = identity.common_name().unwrap_or_default();
        for text in [identity.subject(), identity.issuer(), common_name] {
            assert!(text.len() <= 512, "too long: {text:?}");
            assert!(!text.chars().any(char::is_control), "control character: {text:?}");
        }
        assert!(identity.serial().bytes().all(|b| b.is_ascii_hexdigit()));
        for name in identity.names() {
            let text = name.to_string();
            assert!(text.bytes().all(|b| b.is_ascii_graphic()), "unprintable name: {text:?}");
            // A name in a certificate is a pattern that matches it, or can't be configured.
            if let Ok(pattern) = NamePattern::parse(&text) {
                assert!(pattern.matches(name), "{pattern} doesn't match {name}");
            }
        }
    }
    // Nobody is trusted by a policy without CAs, however the certificate looks.
    let nobody = Policy::new(ClientAuth::Required, &[], &Stores::default()).expect("a policy without peers");
    let now = UnixTime::since_unix_epoch(Duration::from_secs(1_893_456_000));
    assert!(nobody.decide(&[der.clone(), der], now).is_err());
});
