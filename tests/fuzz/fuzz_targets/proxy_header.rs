//! Any bytes: the reader never panics, and what it reads is written and read again the same.
#![no_main]

use countersign::proxy::{Endpoints, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(Some((header, consumed))) = parse(data) else { return };
    assert!(consumed <= data.len());
    assert_eq!(parse(&data[..consumed]), Ok(Some((header.clone(), consumed))));
    for end in 0..consumed.min(64) {
        assert_eq!(parse(&data[..end]), Ok(None));
    }

    let mut written = Vec::new();
    let omitted = header.encode(&mut written);
    let (again, length) = parse(&written).expect("own output is valid").expect("and whole");
    assert_eq!(length, written.len());
    // What was longer than the writer's limits is missing, and mapped addresses became IPv4.
    if omitted.is_empty() {
        match (header.endpoints, again.endpoints) {
            (Endpoints::Tcp { source, .. }, Endpoints::Tcp { source: now, .. }) => {
                assert_eq!(source.ip().to_canonical(), now.ip().to_canonical());
                assert_eq!(source.port(), now.port());
            }
            (before, now) => assert_eq!(before, now),
        }
        assert_eq!(again.alpn, header.alpn);
        assert_eq!(again.authority, header.authority);
        assert_eq!(again.unique_id, header.unique_id);
        assert_eq!(again.tls, header.tls);
    }
});
