//! Any bytes as a file of CRLs: read or refused, what is read is safe to log, and counts for nothing
//! as long as nobody's key verifies it.
//!
//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz crl`

#![no_main]

use std::{sync::Arc, time::Duration};

use countersign::revocation::{
    Crl, IssuerId, Link, Mode, Offered, Problem, Rules, Store, Verdict, parse_all,
};
use libfuzzer_sys::fuzz_target;
use rustls_pki_types::UnixTime;

fuzz_target!(|data: &[u8]| {
    let mut crls = parse_all(data).unwrap_or_default();
    if let Ok(crl) = Crl::parse(data) {
        crls.push(Arc::new(crl));
    }
    for crl in &crls {
        assert!(crl.issuer().len() <= 512, "too long: {:?}", crl.issuer());
        assert!(!crl.issuer().chars().any(char::is_control), "{:?}", crl.issuer());
        assert!(crl.scope().bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()));
        assert!(crl.this_update() < crl.next_update());
        // The shortest entry takes more.
        assert!(crl.entries() <= data.len() / 3);
        assert!(crl.find(data).is_none() || crl.entries() > 0);
    }
    let now = UnixTime::since_unix_epoch(Duration::from_secs(1_893_456_000));
    let store = Store::new(Rules { mode: Mode::Require, ..Rules::default() });
    for offered in store.offer("fuzz", crls, now) {
        assert!(matches!(offered, Offered::Waiting { .. } | Offered::Refused { .. }));
    }
    let link = Link {
        issuer: IssuerId::of(data, data),
        serial: data.into(),
        is_ca: false,
        distribution_points: Box::default(),
    };
    let verdict = store.check(&[link], now);
    assert!(matches!(verdict, Verdict::Bad(Problem::Unknown { .. })), "{verdict:?}");
});
