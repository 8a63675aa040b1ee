//! The decision, one scenario a test: each makes the certificates that it needs, in memory, and
//! asks one policy about them at a fixed time.

mod again;
mod chains;
mod explained;
mod hostile;
mod identities;
mod names;
mod partners;
mod purposes;
mod revoked;
mod verified;

use std::{path::PathBuf, sync::Arc, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use time::OffsetDateTime;

pub(super) use hostile::counted;

use super::{Permit, Policy, Refusal, Refused};
use crate::{
    config::{CaCertificate, ClientAuth, EkuRule, PeerLimits, PeerSet, TrustProfile},
    name::NamePattern,
    revocation::Stores,
};

/// 2030-01-01; the certificates are valid from 2029 to 2031, those of CAs from 2020 to 2040.
const NOW: u64 = 1_893_456_000;

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn date(year: i32) -> OffsetDateTime {
    rcgen::date_time_ymd(year, 1, 1)
}

/// A CA that issues for tests.
struct Ca {
    der: CertificateDer<'static>,
    params: CertificateParams,
    issuer: Issuer<'static, KeyPair>,
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date(2020);
    params.not_after = date(2040);
    params
}

impl Ca {
    fn root(name: &str) -> Self {
        Self::root_with(name, |_| {})
    }

    fn root_for(key: KeyPair, name: &str) -> Self {
        let params = ca_params(name);
        let der = params.self_signed(&key).unwrap().der().clone();
        Self { der, issuer: Issuer::new(params.clone(), key), params }
    }

    fn root_with(name: &str, edit: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = ca_params(name);
        edit(&mut params);
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        Self { der, issuer: Issuer::new(params.clone(), key), params }
    }

    fn sub(&self, name: &str) -> Self {
        self.sub_with(name, |_| {})
    }

    fn sub_with(&self, name: &str, edit: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = ca_params(name);
        edit(&mut params);
        let key = KeyPair::generate().unwrap();
        let der = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Self { der, issuer: Issuer::new(params.clone(), key), params }
    }

    /// A certificate of this CA for the key of another one.
    fn cross_sign(&self, other: &Self) -> CertificateDer<'static> {
        other.params.signed_by(other.issuer.key(), &self.issuer).unwrap().der().clone()
    }

    fn leaf(&self, name: &str) -> CertificateDer<'static> {
        self.leaf_with(name, |_| {})
    }

    fn leaf_with(
        &self,
        name: &str,
        edit: impl FnOnce(&mut CertificateParams),
    ) -> CertificateDer<'static> {
        self.leaf_for(&KeyPair::generate().unwrap(), name, edit)
    }

    fn leaf_for(
        &self,
        key: &impl rcgen::PublicKeyData,
        name: &str,
        edit: impl FnOnce(&mut CertificateParams),
    ) -> CertificateDer<'static> {
        let mut params = leaf_params(name);
        edit(&mut params);
        params.signed_by(key, &self.issuer).unwrap().der().clone()
    }
}

fn leaf_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date(2029);
    params.not_after = date(2031);
    params
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn profile(name: &str, cas: &[&Ca], names: &[&str]) -> TrustProfile {
    TrustProfile {
        revocation: crate::config::Revocation::default(),
        shared: false,
        name: name.into(),
        ca: cas
            .iter()
            .map(|ca| CaCertificate {
                file: PathBuf::from("ca.pem"),
                der: ca.der.clone(),
                not_after: 0,
            })
            .collect(),
        names: patterns(names),
        eku: EkuRule::Client,
        common_name: false,
        max_intermediates: 4,
        min_rsa_bits: 2048,
        min_ec_bits: 256,
    }
}

fn patterns(names: &[&str]) -> Vec<NamePattern> {
    names.iter().map(|name| NamePattern::parse(name).unwrap()).collect()
}

fn peers(name: &str, trust: &Arc<TrustProfile>, names: &[&str]) -> Arc<PeerSet> {
    blocking_peers(name, trust, names, &[])
}

fn blocking_peers(
    name: &str,
    trust: &Arc<TrustProfile>,
    names: &[&str],
    blocked: &[&str],
) -> Arc<PeerSet> {
    Arc::new(PeerSet {
        name: name.into(),
        trust: trust.clone(),
        names: patterns(names),
        blocked: patterns(blocked),
        pins: Vec::new(),
        limits: PeerLimits::default(),
        discovered: None,
    })
}

fn policy(sets: &[Arc<PeerSet>]) -> Policy {
    policy_for(ClientAuth::Required, sets)
}

fn policy_for(client_auth: ClientAuth, sets: &[Arc<PeerSet>]) -> Policy {
    Policy::new(client_auth, sets, &unchecked(sets)).unwrap()
}

/// Stores for the profiles of `sets` that don't look at revocation.
fn unchecked(sets: &[Arc<PeerSet>]) -> Stores {
    Stores::off(sets.iter().map(|set| &set.trust.name))
}

/// The policy of most tests: peers.frontends lists `fe01.contoso.test` and `*.pool.contoso.test`
/// for trust.contoso.
fn frontends(ca: &Ca, edit: impl FnOnce(&mut TrustProfile)) -> Policy {
    let mut trust = profile("contoso", &[ca], &["*.contoso.test"]);
    edit(&mut trust);
    policy(&[peers("frontends", &trust.into(), &["fe01.contoso.test", "*.pool.contoso.test"])])
}

fn admitted(policy: &Policy, chain: &[CertificateDer<'_>]) -> Permit {
    policy.decide(chain, at(NOW)).unwrap_or_else(|refused| panic!("{refused}"))
}

fn refused(policy: &Policy, chain: &[CertificateDer<'_>]) -> Refused {
    policy.decide(chain, at(NOW)).expect_err("a refusal")
}

#[track_caller]
fn assert_refused(policy: &Policy, chain: &[CertificateDer<'_>], reason: Refusal) -> Refused {
    let refused = refused(policy, chain);
    assert_eq!(refused.reason, reason, "{refused}");
    refused
}
