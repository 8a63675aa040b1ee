//! What one listener admits, compiled once and never changed.

use std::{path::PathBuf, sync::Arc};

use rustls::DistinguishedName;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};

use super::{
    Permit, Refusal, Refused,
    certificate::{Certificate, MAX_RSA_BITS, MIN_RSA_BITS},
    path,
    permit::Peer,
    presented::Presented,
    verified::{ChainDigest, Verified},
};
use crate::{
    config::{CaCertificate, ClientAuth, PeerSet, TrustProfile},
    name::PeerName,
};

/// A CA certificate that can't be a trust anchor.
#[derive(Debug, thiserror::Error)]
#[error("trust.{profile}: {}: {problem}", file.display())]
pub struct PolicyError {
    /// NAME of the `[trust.NAME]`.
    pub profile: Arc<str>,
    /// The file that the certificate came from.
    pub file: PathBuf,
    /// What is wrong with it, and what to do.
    pub problem: String,
}

/// The peers that one listener admits. Immutable, and cheap to share between threads.
#[derive(Debug)]
pub struct Policy {
    client_auth: ClientAuth,
    /// In the order of the listener's `peers`.
    rules: Vec<Rule>,
    /// As webpki takes them; `anchors` has what is known beside, by the same index.
    trust_anchors: Vec<TrustAnchor<'static>>,
    anchors: Vec<Anchor>,
    root_hint_subjects: Vec<DistinguishedName>,
    /// What it has admitted.
    verified: Verified,
}

/// A peer set, bound to its profile.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) set: Arc<PeerSet>,
}

/// A CA: one subject, one key, one set of name constraints.
#[derive(Debug)]
pub(super) struct Anchor {
    pub(super) subject: Arc<str>,
    /// The profiles that it belongs to, those with the longest validity first.
    pub(super) bindings: Vec<Binding>,
}

/// A CA certificate in a profile. A renewed one is the same anchor with another binding.
#[derive(Debug)]
pub(super) struct Binding {
    profile: Arc<TrustProfile>,
    pub(super) not_before: UnixTime,
    pub(super) not_after: UnixTime,
    /// pathLenConstraint of the CA certificate.
    pub(super) path_length: Option<u32>,
}

impl Binding {
    /// Whether it puts the anchor into the profile of this rule.
    pub(super) fn is_for(&self, rule: &Rule) -> bool {
        Arc::ptr_eq(&self.profile, &rule.set.trust)
    }
}

impl Policy {
    /// Compiles what a listener admits: its `client_auth` and `peers`. With
    /// [`ClientAuth::None`] the peers don't matter, and no certificate is ever good.
    ///
    /// # Errors
    /// Names the CA certificate that can't be a trust anchor. Its validity is not looked at here:
    /// that is decided at the time of each decision.
    pub fn new(client_auth: ClientAuth, peers: &[Arc<PeerSet>]) -> Result<Self, PolicyError> {
        let mut policy = Self {
            client_auth,
            rules: Vec::new(),
            trust_anchors: Vec::new(),
            anchors: Vec::new(),
            root_hint_subjects: Vec::new(),
            verified: Verified::default(),
        };
        if client_auth == ClientAuth::None {
            return Ok(policy);
        }
        for set in peers {
            let known = policy.rules.iter().any(|rule| Arc::ptr_eq(&rule.set.trust, &set.trust));
            if !known {
                for ca in &set.trust.ca {
                    policy.bind(&set.trust, ca).map_err(|problem| PolicyError {
                        profile: set.trust.name.clone(),
                        file: ca.file.clone(),
                        problem,
                    })?;
                }
            }
            policy.rules.push(Rule { set: set.clone() });
        }
        for anchor in &mut policy.anchors {
            anchor.bindings.sort_by_key(|binding| std::cmp::Reverse(binding.not_after));
        }
        Ok(policy)
    }

    fn bind(&mut self, profile: &Arc<TrustProfile>, ca: &CaCertificate) -> Result<(), String> {
        let certificate = Certificate::parse(&ca.der).map_err(|why| why.to_string())?;
        if certificate.key.is_weak() {
            return Err(format!(
                "its key is {}; CAs need at least {MIN_RSA_BITS} bits of RSA",
                certificate.key
            ));
        }
        if !certificate.key.is_supported() {
            return Err(format!(
                "its key is of a kind that can't be verified with: use RSA up to {MAX_RSA_BITS} \
                 bits, ECDSA on P-256, P-384 or P-521, Ed25519 or ML-DSA"
            ));
        }
        if !certificate.may_issue() {
            return Err("its key usage doesn't allow it to sign certificates (keyCertSign): it \
                        isn't the certificate of a CA"
                .to_owned());
        }
        let trust_anchor = webpki::anchor_from_trusted_cert(&ca.der)
            .map_err(|error| format!("it can't be a trust anchor: {error}"))?
            .to_owned();
        let binding = Binding {
            profile: profile.clone(),
            not_before: certificate.not_before,
            not_after: certificate.not_after,
            path_length: certificate.path_length,
        };
        if let Some(index) = self.trust_anchors.iter().position(|known| *known == trust_anchor) {
            self.anchors[index].bindings.push(binding);
            return Ok(());
        }
        let hint = DistinguishedName::in_sequence(&trust_anchor.subject);
        if !self.root_hint_subjects.iter().any(|known| known.as_ref() == hint.as_ref()) {
            self.root_hint_subjects.push(hint);
        }
        self.trust_anchors.push(trust_anchor);
        self.anchors
            .push(Anchor { subject: certificate.subject().into(), bindings: vec![binding] });
        Ok(())
    }

    /// The permit of a chain that this policy has [admitted](Self::decide) before, if every
    /// certificate of its path is valid at `now`: what `decide` would say, without the signatures
    /// of the path being verified again.
    pub fn admitted_before(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Option<Permit> {
        self.verified.get(ChainDigest::of(chain), now)
    }

    /// Decides about a client that has proved to hold the key of `chain[0]`, and remembers whom
    /// it admits.
    ///
    /// The order of the other certificates doesn't matter, and superfluous ones don't either. An
    /// empty chain is a client [without a certificate](Self::without_certificate).
    ///
    /// # Errors
    /// The refusal, with the most telling reason that was found.
    pub fn decide(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<Permit, Refused> {
        let Some((leaf, others)) = chain.split_first() else {
            return self.without_certificate();
        };
        let presented = Presented::parse(leaf, others)?;
        let decision = self.check_leaf(&presented).and_then(|()| path::find(self, &presented, now));
        match decision {
            Ok(grant) => {
                let permit = Permit::granted(Peer {
                    set: self.rules[grant.rule].set.clone(),
                    pattern: grant.pattern,
                    matched_name: grant.name,
                    anchor_subject: self.anchors[grant.anchor].subject.clone(),
                    valid_until: grant.valid_until,
                    identity: presented.identity,
                });
                self.verified.insert(ChainDigest::of(chain), now, &permit);
                Ok(permit)
            }
            Err(refused) => Err(refused.of(presented.identity)),
        }
    }

    /// Decides about a client that showed no certificate.
    ///
    /// # Errors
    /// [`Refusal::NoCertificate`], if the listener requires one.
    pub fn without_certificate(&self) -> Result<Permit, Refused> {
        match self.client_auth {
            ClientAuth::None | ClientAuth::Optional => Ok(Permit::anonymous()),
            ClientAuth::Required => Err(Refused::new(
                Refusal::NoCertificate,
                "the client showed no certificate, and the listener requires one",
            )),
        }
    }

    /// The subjects of the admitted CAs, for the certificate request (RFC 8446 §4.2.4), each once.
    pub fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.root_hint_subjects
    }

    pub(super) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    pub(super) fn trust_anchors(&self) -> &[TrustAnchor<'static>] {
        &self.trust_anchors
    }

    pub(super) fn anchors(&self) -> &[Anchor] {
        &self.anchors
    }

    /// What can be refused without a signature being verified.
    fn check_leaf(&self, presented: &Presented<'_>) -> Result<(), Refused> {
        self.check_blocked(presented)?;
        let key = presented.leaf.key;
        if key.is_weak() {
            return Err(Refused::new(
                Refusal::WeakKey,
                format!(
                    "the client's key is {key}; at least {MIN_RSA_BITS} bits of RSA are needed"
                ),
            ));
        }
        if !key.is_supported() {
            return Err(Refused::new(
                Refusal::UnsupportedAlgorithm,
                "the client's key is neither RSA up to 8192 bits, ECDSA on P-256, P-384 or P-521, \
                 Ed25519 nor ML-DSA",
            ));
        }
        if !presented.leaf.may_sign() {
            return Err(Refused::new(
                Refusal::WrongKeyUsage,
                "the key usage of the client's certificate doesn't allow digitalSignature, which \
                 TLS needs",
            ));
        }
        Ok(())
    }

    /// A name is blocked if any admitted peer set blocks it, whichever CA vouches for it, and even
    /// if it is only the common name.
    fn check_blocked(&self, presented: &Presented<'_>) -> Result<(), Refused> {
        let identity = &presented.identity;
        let common_name = identity.common_name_as_dns().cloned().map(PeerName::Dns);
        for name in identity.names().iter().chain(&common_name) {
            for rule in &self.rules {
                if let Some(pattern) = rule.set.blocked.iter().find(|entry| entry.touches(name)) {
                    return Err(Refused::new(
                        Refusal::Blocked,
                        format!("{name} is blocked by {pattern} in peers.{}", rule.set.name),
                    ));
                }
            }
        }
        Ok(())
    }
}
