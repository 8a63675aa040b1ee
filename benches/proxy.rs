//! What the header for the backend costs: `cargo bench --bench proxy`.

#![allow(clippy::unwrap_used, reason = "a benchmark that can't set up its scene has failed")]

use std::{hint::black_box, time::Duration};

use countersign::{
    pki::{Authority, Spec, Validity},
    proxy::{self, ClientCertificate, Endpoints, Header, Tls},
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// All fields that there are, with a client's certificate of the usual size.
fn full(certificate: &[u8]) -> Header<'_> {
    Header {
        endpoints: Endpoints::Tcp {
            source: "192.0.2.17:51234".parse().unwrap(),
            destination: "192.0.2.1:5061".parse().unwrap(),
        },
        alpn: Some(b"sip/2"),
        authority: Some("pool01.contoso.test"),
        unique_id: Some(b"0123456789abcdef"),
        tls: Some(Tls {
            client_certificate: ClientCertificate::Connection,
            verify: Tls::VERIFIED,
            version: Some("TLSv1.3"),
            common_name: Some("fe01.contoso.test"),
            cipher: Some("TLS_AES_128_GCM_SHA256"),
            sig_alg: Some("SHA256"),
            key_alg: Some("RSA2048"),
            certificate: Some(certificate),
        }),
        matched_name: Some("fe01.contoso.test"),
        peer_set: Some("frontends"),
        profile: Some("contoso"),
    }
}

fn headers(criterion: &mut Criterion) {
    let validity = Validity::from_now(Duration::from_secs(3600));
    let ca = Authority::root(&Spec::new("Contoso Root", validity)).unwrap();
    let spec = Spec::new("fe01.contoso.test", validity).dns("fe01.contoso.test").client();
    let identity = ca.issue(&spec).unwrap();
    let header = full(&identity.chain()[0]);
    let addresses = Header { endpoints: header.endpoints, ..Header::default() };

    let mut group = criterion.benchmark_group("proxy");
    for (name, header) in [("full", &header), ("addresses", &addresses)] {
        let mut bytes = Vec::new();
        assert!(header.encode(&mut bytes).is_empty());
        let (parsed, length) = proxy::parse(&bytes).unwrap().unwrap();
        assert_eq!((&parsed, length), (header, bytes.len()));

        group.throughput(Throughput::Bytes(bytes.len() as u64));
        let mut out = Vec::with_capacity(bytes.len());
        group.bench_function(format!("encode/{name}"), |bencher| {
            bencher.iter(|| {
                out.clear();
                black_box(header).encode(&mut out)
            });
        });
        group.bench_function(format!("parse/{name}"), |bencher| {
            bencher.iter(|| proxy::parse(black_box(&bytes)).is_ok());
        });
    }
    group.finish();
}

criterion_group!(benches, headers);
criterion_main!(benches);
