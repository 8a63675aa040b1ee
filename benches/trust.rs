//! What a trust decision costs without its handshake: `cargo bench --bench trust`.

use std::{hint::black_box, path::PathBuf, sync::Arc, time::Duration};

use countersign::{
    config::{CaCertificate, ClientAuth, EkuRule, PeerLimits, PeerSet, TrustProfile},
    name::NamePattern,
    revocation::Stores,
    trust::{Identity, Policy},
};
use criterion::{Criterion, criterion_group, criterion_main};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls_pki_types::{CertificateDer, UnixTime};

/// 2030-01-01; certificates of rcgen are valid from 1975 to 4096.
const NOW: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(1_893_456_000));

/// Listed names of a middling topology.
const LISTED_NAMES: usize = 100;

type Ca = CertifiedIssuer<'static, KeyPair>;

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a P-256 key")
}

fn root(name: &str) -> Ca {
    CertifiedIssuer::self_signed(ca_params(name), key()).expect("a CA")
}

fn leaf(ca: &Ca) -> CertificateDer<'static> {
    let params = CertificateParams::new(vec!["fe50.contoso.test".to_owned()]).expect("a name");
    params.signed_by(&key(), ca).expect("a certificate").der().clone()
}

fn policy(ca: &Ca) -> Policy {
    let pattern = |text: &str| NamePattern::parse(text).expect("a pattern");
    let trust = Arc::new(TrustProfile {
        revocation: countersign::config::Revocation::default(),
        shared: false,
        name: "contoso".into(),
        ca: vec![CaCertificate {
            file: PathBuf::from("ca.pem"),
            der: ca.der().clone(),
            not_after: 0,
        }],
        names: vec![pattern("*.contoso.test")],
        eku: EkuRule::Client,
        common_name: false,
        max_intermediates: 4,
        min_rsa_bits: 2048,
        min_ec_bits: 256,
    });
    let names = (0..LISTED_NAMES).map(|n| pattern(&format!("fe{n:02}.contoso.test"))).collect();
    let set = PeerSet {
        name: "frontends".into(),
        trust,
        names,
        blocked: Vec::new(),
        pins: Vec::new(),
        limits: PeerLimits::default(),
        discovered: None,
    };
    let stores = Stores::off([&set.trust.name]);
    Policy::new(ClientAuth::Required, &[Arc::new(set)], &stores).expect("a policy")
}

fn decisions(c: &mut Criterion) {
    let ca = root("Contoso Root");
    let policy = policy(&ca);
    let sub = Ca::signed_by(ca_params("Contoso Sub"), key(), &ca).expect("a CA");
    let direct = [leaf(&ca)];
    let through_sub = [leaf(&sub), sub.der().clone()];
    let unknown = [leaf(&root("Stranger Root"))];
    assert!(policy.decide(&direct, NOW).is_ok());
    assert!(policy.decide(&through_sub, NOW).is_ok());
    assert!(policy.decide(&unknown, NOW).is_err());

    let mut group = c.benchmark_group("trust");
    group.bench_function("decide/leaf-from-root", |b| {
        b.iter(|| policy.decide(black_box(&direct), NOW));
    });
    group.bench_function("decide/leaf-and-intermediate", |b| {
        b.iter(|| policy.decide(black_box(&through_sub), NOW));
    });
    group.bench_function("decide/unknown-issuer", |b| {
        b.iter(|| policy.decide(black_box(&unknown), NOW));
    });
    group.bench_function("identity", |b| b.iter(|| Identity::from_der(black_box(&direct[0]))));
    group.finish();
}

criterion_group!(benches, decisions);
criterion_main!(benches);
