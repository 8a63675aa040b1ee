//! What one listener admits, compiled once and never changed.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use rustls::DistinguishedName;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};

use super::{
    Identity, KeyAlgorithm, Permit, Refusal, Refused,
    certificate::{Certificate, MAX_RSA_BITS, MIN_RSA_BITS},
    judge::{Grant, judge},
    path,
    permit::Peer,
    presented::Presented,
    proof::{AnchorId, Proof, Validity},
    rules::{Rule, Rules},
    verified::{ChainDigest, Verified},
    witness::{Check, Unseen, Witness},
};
use crate::{
    config::{CaCertificate, ClientAuth, PeerSet, TrustProfile},
    revocation::{IssuerId, Store, Stores},
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

/// The most bytes of CA subjects in a certificate request. The protocol has room for 64 KiB, but
/// each handshake pays for them, and many clients read a list of public CAs as noise.
const MAX_HINT_BYTES: usize = 16 * 1024;

/// The peers that one listener admits. Immutable, and cheap to share between threads.
#[derive(Debug)]
pub struct Policy {
    client_auth: ClientAuth,
    rules: Rules,
    /// As webpki takes them; `anchors` has what is known beside, by the same index.
    trust_anchors: Vec<TrustAnchor<'static>>,
    anchors: Vec<Anchor>,
    anchor_index: HashMap<AnchorId, usize>,
    root_hint_subjects: Vec<DistinguishedName>,
    /// What it has admitted.
    verified: Verified,
}

/// A CA: one subject, one key, one set of name constraints.
#[derive(Debug)]
pub(super) struct Anchor {
    pub(super) id: AnchorId,
    /// As the issuer of certificates and CRLs.
    pub(super) issuer: IssuerId,
    /// Whether it restricts the names of what it issues.
    pub(super) constrains_names: bool,
    pub(super) subject: Arc<str>,
    pub(super) key: KeyAlgorithm,
    /// The profiles that it belongs to, those with the longest validity first.
    pub(super) bindings: Vec<Binding>,
}

/// A CA certificate in a profile. A renewed one is the same anchor with another binding.
#[derive(Debug)]
pub(super) struct Binding {
    profile: Arc<TrustProfile>,
    pub(super) validity: Validity,
    /// pathLenConstraint of the CA certificate.
    pub(super) path_length: Option<u32>,
}

impl Anchor {
    /// Whether it vouches for the profile of this rule.
    pub(super) fn is_bound_to(&self, rule: &Rule) -> bool {
        self.is_of(&rule.set.trust)
    }

    /// Whether it belongs to the profile.
    pub(super) fn is_of(&self, profile: &Arc<TrustProfile>) -> bool {
        self.bindings.iter().any(|binding| Arc::ptr_eq(&binding.profile, profile))
    }
}

impl Binding {
    /// Whether it puts the anchor into the profile of this rule.
    pub(super) fn is_for(&self, rule: &Rule) -> bool {
        Arc::ptr_eq(&self.profile, &rule.set.trust)
    }
}

impl Anchor {
    /// NAMEs of the `[trust.NAME]` that it belongs to.
    pub(super) fn profiles(&self) -> impl Iterator<Item = String> {
        self.bindings.iter().map(|binding| binding.profile.name.to_string())
    }
}

impl Policy {
    /// Compiles what a listener admits: its `client_auth` and `peers`. With
    /// [`ClientAuth::None`] the peers don't matter, and no certificate is ever good. The `stores`
    /// have the CRLs of each profile; a profile that has none there has no CRL at all.
    ///
    /// # Errors
    /// Names the CA certificate that can't be a trust anchor. Its validity is not looked at here:
    /// that is decided at the time of each decision.
    pub fn new(
        client_auth: ClientAuth,
        peers: &[Arc<PeerSet>],
        stores: &Stores,
    ) -> Result<Self, PolicyError> {
        let mut policy = Self {
            client_auth,
            rules: Rules::default(),
            trust_anchors: Vec::new(),
            anchors: Vec::new(),
            anchor_index: HashMap::new(),
            root_hint_subjects: Vec::new(),
            verified: Verified::default(),
        };
        if client_auth == ClientAuth::None {
            return Ok(policy);
        }
        for set in peers {
            let crls = stores.of(&set.trust.name);
            let known = policy.rules.iter().any(|rule| Arc::ptr_eq(&rule.set.trust, &set.trust));
            if !known {
                for ca in &set.trust.ca {
                    policy.bind(&set.trust, ca, &crls).map_err(|problem| PolicyError {
                        profile: set.trust.name.clone(),
                        file: ca.file.clone(),
                        problem,
                    })?;
                }
            }
            policy.rules.push(Rule { set: set.clone(), crls });
        }
        for anchor in &mut policy.anchors {
            anchor.bindings.sort_by_key(|binding| std::cmp::Reverse(binding.validity.not_after));
        }
        let hint_bytes: usize =
            policy.root_hint_subjects.iter().map(|hint| hint.as_ref().len()).sum();
        if hint_bytes > MAX_HINT_BYTES {
            // Half a list would keep away the clients of the other half.
            policy.root_hint_subjects.clear();
        }
        Ok(policy)
    }

    fn bind(
        &mut self,
        profile: &Arc<TrustProfile>,
        ca: &CaCertificate,
        crls: &Store,
    ) -> Result<(), String> {
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
        let (name, key) = (certificate.raw_subject(), certificate.raw_public_key());
        let issuer = crls.learn(name, key, certificate.may_sign_crls());
        let trust_anchor = webpki::anchor_from_trusted_cert(&ca.der)
            .map_err(|error| format!("it can't be a trust anchor: {error}"))?
            .to_owned();
        let binding = Binding {
            profile: profile.clone(),
            validity: Validity::of(&certificate),
            path_length: certificate.path_length,
        };
        let id = AnchorId::of(&trust_anchor);
        if let Some(&index) = self.anchor_index.get(&id) {
            self.anchors[index].bindings.push(binding);
            return Ok(());
        }
        let hint = DistinguishedName::in_sequence(&trust_anchor.subject);
        if !self.root_hint_subjects.iter().any(|known| known.as_ref() == hint.as_ref()) {
            self.root_hint_subjects.push(hint);
        }
        self.trust_anchors.push(trust_anchor);
        self.anchor_index.insert(id, self.anchors.len());
        let subject = certificate.subject().into();
        self.anchors.push(Anchor {
            id,
            issuer,
            constrains_names: certificate.constrains_names,
            subject,
            key: certificate.key,
            bindings: vec![binding],
        });
        Ok(())
    }

    /// The permit of a chain that this policy has [admitted](Self::decide) before, if it admits it
    /// [again](Self::decide_again) at `now`.
    pub fn admitted_before(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Option<Permit> {
        let permit = self.verified.get(ChainDigest::of(chain))?;
        self.decide_again(&permit, now).ok()
    }

    /// Decides again about a client that was admitted, by this policy or by another one, from what
    /// its path has proved: everything but the signatures is looked at anew.
    ///
    /// # Errors
    /// The refusal. It is about the path that admitted the client; there may be another one, that
    /// only the chain itself would show.
    pub fn decide_again(&self, permit: &Permit, now: UnixTime) -> Result<Permit, Refused> {
        let Some(peer) = permit.peer() else { return self.without_certificate() };
        if self.client_auth == ClientAuth::None {
            return Ok(Permit::anonymous());
        }
        let Proof { identity, path } = &*peer.proof;
        let decision = self
            .check_blocked(identity)
            .and_then(|()| judge(self, identity, path, now, &Unseen).map_err(Refused::from));
        match decision {
            Ok(grant) if self.is_same(&grant, peer) => Ok(permit.clone()),
            Ok(grant) => Ok(self.permit(grant, peer.proof.clone())),
            Err(refused) => Err(refused.of(identity.clone())),
        }
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
        let permit = self.decide_before(chain, now, &Unseen)?;
        if permit.peer().is_some() {
            self.verified.insert(ChainDigest::of(chain), &permit);
        }
        Ok(permit)
    }

    /// Decides before the eyes of a witness.
    pub(super) fn decide_before(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
        witness: &impl Witness,
    ) -> Result<Permit, Refused> {
        let Some((leaf, others)) = chain.split_first() else {
            return witness.check(Check::Certificate, self.without_certificate(), |_| {
                "the client shows no certificate, and the listener doesn't require one".to_owned()
            });
        };
        let presented = Presented::parse(leaf, others, witness)?;
        let decision = self
            .check_leaf(&presented, witness)
            .and_then(|()| path::find(self, &presented, now, witness));
        match decision {
            Ok((path, grant)) => {
                let proof = Proof { identity: presented.identity, path };
                Ok(self.permit(grant, Arc::new(proof)))
            }
            Err(refused) => Err(refused.of(presented.identity)),
        }
    }

    fn permit(&self, grant: Grant, proof: Arc<Proof>) -> Permit {
        Permit::granted(Peer {
            set: self.rules.get(grant.rule).set.clone(),
            pattern: grant.pattern,
            matched_name: grant.name,
            anchor_subject: self.anchors[grant.anchor].subject.clone(),
            valid_until: grant.valid_until,
            proof,
        })
    }

    /// Whether the grant is what admitted the peer already.
    fn is_same(&self, grant: &Grant, peer: &Peer) -> bool {
        Arc::ptr_eq(&self.rules.get(grant.rule).set, &peer.set)
            && grant.pattern == peer.pattern
            && grant.name == peer.matched_name
            && grant.valid_until == peer.valid_until
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

    /// The subjects of the admitted CAs, for the certificate request (RFC 8446 §4.2.4), each once;
    /// none if all together have more than 16 KiB, so that clients choose by themselves.
    pub fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.root_hint_subjects
    }

    pub(super) fn rules(&self) -> &Rules {
        &self.rules
    }

    pub(super) fn trust_anchors(&self) -> &[TrustAnchor<'static>] {
        &self.trust_anchors
    }

    pub(super) fn anchor(&self, id: AnchorId) -> Option<(usize, &Anchor)> {
        let index = *self.anchor_index.get(&id)?;
        Some((index, &self.anchors[index]))
    }

    /// What is known of one of [`Self::trust_anchors`].
    pub(super) fn anchor_of(&self, trust_anchor: &TrustAnchor<'_>) -> Option<&Anchor> {
        let index =
            self.trust_anchors.iter().position(|known| std::ptr::eq(known, trust_anchor))?;
        Some(&self.anchors[index])
    }

    /// The intermediate CAs of a path whose signatures hold: from now on CRLs of theirs count in
    /// the profiles of the anchor.
    pub(super) fn learn(&self, issuers: &[&Certificate<'_>], anchor: &Anchor) {
        for rule in self.rules.iter().filter(|rule| anchor.is_bound_to(rule)) {
            for issuer in issuers {
                let (name, key) = (issuer.raw_subject(), issuer.raw_public_key());
                rule.crls.learn(name, key, issuer.may_sign_crls());
            }
        }
    }

    /// What can be refused without a signature being verified.
    fn check_leaf(&self, presented: &Presented<'_>, witness: &impl Witness) -> Result<(), Refused> {
        witness.check(Check::Blocked, self.check_blocked(&presented.identity), |()| {
            "no name of the certificate is blocked".to_owned()
        })?;
        let key = presented.leaf.key;
        witness.check(Check::Key, check_key(&presented.leaf), |()| format!("{key}"))?;
        witness.check(Check::KeyUsage, check_key_usage(&presented.leaf), |()| {
            "may sign handshakes".to_owned()
        })
    }

    /// A name is blocked if any admitted peer set blocks it, whichever CA vouches for it, and even
    /// if it is only the common name.
    fn check_blocked(&self, identity: &Identity) -> Result<(), Refused> {
        let Some((name, entry)) = self.rules.blocking(identity) else { return Ok(()) };
        let set = &self.rules.get(entry.rule).set;
        let (pattern, peers) = (&set.blocked[entry.pattern], &set.name);
        let detail = format!("{name} is blocked by {pattern} in peers.{peers}");
        Err(Refused::new(Refusal::Blocked, detail))
    }
}

fn check_key(leaf: &Certificate<'_>) -> Result<(), Refused> {
    let key = leaf.key;
    if key.is_weak() {
        return Err(Refused::new(
            Refusal::WeakKey,
            format!("the client's key is {key}; at least {MIN_RSA_BITS} bits of RSA are needed"),
        ));
    }
    if !key.is_supported() {
        return Err(Refused::new(
            Refusal::UnsupportedAlgorithm,
            "the client's key is neither RSA up to 8192 bits, ECDSA on P-256, P-384 or P-521, \
             Ed25519 nor ML-DSA",
        ));
    }
    // TLS has uncompressed points alone (RFC 8422 §5.1.2), and so have those who verify with them.
    if leaf.has_compressed_point() {
        return Err(Refused::new(
            Refusal::UnsupportedAlgorithm,
            format!(
                "the client's key ({key}) is a compressed point, or one in another form that TLS doesn't know"
            ),
        ));
    }
    Ok(())
}

fn check_key_usage(leaf: &Certificate<'_>) -> Result<(), Refused> {
    if leaf.may_sign() {
        return Ok(());
    }
    Err(Refused::new(
        Refusal::WrongKeyUsage,
        "the key usage of the client's certificate doesn't allow digitalSignature, which TLS needs",
    ))
}
