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

/// Listed names of a middling topology, and of a large one.
const LISTED_NAMES: usize = 100;
const MANY_LISTED_NAMES: usize = 10_000;

/// CAs of a profile that trusts what a browser trusts, or somewhat more.
const MANY_CAS: usize = 200;

/// Names of a certificate that is made to cost.
const HOSTILE_NAMES: usize = 250;

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
    policy_of(&[ca], LISTED_NAMES)
}

fn policy_of(cas: &[&Ca], listed_names: usize) -> Policy {
    let pattern = |text: &str| NamePattern::parse(text).expect("a pattern");
    let trust = Arc::new(TrustProfile {
        revocation: countersign::config::Revocation::default(),
        shared: false,
        name: "contoso".into(),
        ca: cas
            .iter()
            .map(|ca| CaCertificate {
                file: PathBuf::from("ca.pem"),
                der: ca.der().clone(),
                not_after: 0,
            })
            .collect(),
        names: vec![pattern("*.contoso.test")],
        eku: EkuRule::Client,
        common_name: false,
        max_intermediates: 4,
        min_rsa_bits: 2048,
        min_ec_bits: 256,
    });
    let names = (0..listed_names).map(|n| pattern(&format!("fe{n:02}.contoso.test"))).collect();
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
    // The chain is remembered, and decided about again without its signatures.
    assert!(policy.admitted_before(&through_sub, NOW).is_some());
    group.bench_function("admitted-before/leaf-and-intermediate", |b| {
        b.iter(|| policy.admitted_before(black_box(&through_sub), NOW));
    });
    group.bench_function("identity", |b| b.iter(|| Identity::from_der(black_box(&direct[0]))));
    group.finish();
}

/// The same decisions with lists that are a hundred times as long.
fn large(c: &mut Criterion) {
    let cas: Vec<Ca> = (0..MANY_CAS).map(|n| root(&format!("Root {n}"))).collect();
    let policy = policy_of(&cas.iter().collect::<Vec<_>>(), MANY_LISTED_NAMES);
    let last = cas.last().expect("a CA");
    let listed = [leaf(last)];
    let named = |names: Vec<String>| {
        let params = CertificateParams::new(names).expect("names");
        [params.signed_by(&key(), last).expect("a certificate").der().clone()]
    };
    let unlisted = named(vec!["elsewhere.contoso.test".to_owned()]);
    let hostile = named((0..HOSTILE_NAMES).map(|n| format!("x{n}.a.b.c.contoso.test")).collect());
    let permit = policy.decide(&listed, NOW).expect("it is listed");
    assert!(policy.decide(&unlisted, NOW).is_err());
    assert!(policy.decide(&hostile, NOW).is_err());

    let mut group = c.benchmark_group("trust/10000-names-200-cas");
    group.bench_function("decide", |b| b.iter(|| policy.decide(black_box(&listed), NOW)));
    group.bench_function("decide-again", |b| {
        b.iter(|| policy.decide_again(black_box(&permit), NOW));
    });
    group.bench_function("decide/unlisted", |b| {
        b.iter(|| policy.decide(black_box(&unlisted), NOW));
    });
    group.bench_function("decide/250-names-unlisted", |b| {
        b.iter(|| policy.decide(black_box(&hostile), NOW));
    });
    group.finish();
}

criterion_group!(benches, decisions, large);
criterion_main!(benches);
