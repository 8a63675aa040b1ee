//! What a verified path proves, kept without its certificates.
//!
//! Signatures, basic constraints and name constraints don't change once they are verified; all
//! else of the decision depends on the time and on the configuration. So the search for a path
//! ends in a [`Proof`], and [`judge`](super::judge) decides about proofs alone: in the handshake,
//! when a chain comes back, when a session is resumed, and when live connections are looked at
//! again under another configuration.

use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use rustls_pki_types::{TrustAnchor, UnixTime};

use super::{
    Identity, KeyAlgorithm,
    certificate::{Certificate, Purposes},
    policy::Anchor,
};
use crate::{
    config::KeyPin,
    name::PeerName,
    revocation::{IssuerId, Link},
};

/// A trust anchor whichever policy it is in: SHA-256 of its subject, key and name constraints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct AnchorId([u8; 32]);

impl AnchorId {
    pub(super) fn of(anchor: &TrustAnchor<'_>) -> Self {
        let mut context = Context::new(&SHA256);
        let constraints = anchor.name_constraints.as_deref();
        for part in [Some(&*anchor.subject), Some(&*anchor.subject_public_key_info), constraints] {
            // No part is as long as this: an absent one is unlike an empty one.
            let length = part.map_or(u64::MAX, |part| part.len() as u64);
            context.update(&length.to_be_bytes());
            context.update(part.unwrap_or_default());
        }
        let mut id = [0; 32];
        id.copy_from_slice(context.finish().as_ref());
        Self(id)
    }
}

/// When certificates are valid, both ends included (RFC 5280 §4.1.2.5).
#[derive(Debug, Clone, Copy)]
pub(super) struct Validity {
    pub(super) not_before: UnixTime,
    pub(super) not_after: UnixTime,
}

impl Validity {
    /// No certificate restricts it.
    const ALWAYS: Self = Self {
        not_before: UnixTime::since_unix_epoch(Duration::ZERO),
        not_after: UnixTime::since_unix_epoch(Duration::MAX),
    };

    pub(super) fn of(certificate: &Certificate<'_>) -> Self {
        Self { not_before: certificate.not_before, not_after: certificate.not_after }
    }

    fn and(self, other: Self) -> Self {
        Self {
            not_before: self.not_before.max(other.not_before),
            not_after: self.not_after.min(other.not_after),
        }
    }
}

/// The facts of a path whose signatures hold, from the client's own certificate to an anchor.
#[derive(Debug)]
pub(super) struct PathFacts {
    pub(super) anchor: AnchorId,
    /// SHA-256 of the SubjectPublicKeyInfo of the client's own certificate (RFC 7469 §2.4).
    pub(super) own_key: KeyPin,
    /// Of the client's own certificate.
    pub(super) own_validity: Validity,
    /// Of all intermediate certificates together.
    pub(super) issuer_validity: Validity,
    /// The keys of the intermediate certificates, from the client's issuer upwards.
    pub(super) issuer_keys: Box<[KeyAlgorithm]>,
    /// What every certificate of the path leaves to be used for.
    pub(super) purposes: Purposes,
    /// Whether a CA on the path, the anchor included, restricts names.
    pub(super) constrains_names: bool,
    /// What CRLs are asked about: the client's own certificate, then the intermediate ones.
    pub(super) links: Box<[Link]>,
}

impl PathFacts {
    /// The facts of a path, whose `issuers` go from the client's issuer upwards.
    pub(super) fn of(own: &Certificate<'_>, issuers: &[&Certificate<'_>], anchor: &Anchor) -> Self {
        Self {
            anchor: anchor.id,
            own_key: KeyPin::of(own.raw_public_key()),
            own_validity: Validity::of(own),
            issuer_validity: issuers
                .iter()
                .fold(Validity::ALWAYS, |all, issuer| all.and(Validity::of(issuer))),
            issuer_keys: issuers.iter().map(|issuer| issuer.key).collect(),
            purposes: issuers.iter().fold(own.own_purposes(), |left, issuer| {
                let allowed = issuer.issuing_purposes();
                Purposes {
                    client: left.client && allowed.client,
                    server: left.server && allowed.server,
                }
            }),
            constrains_names: anchor.constrains_names
                || issuers.iter().any(|issuer| issuer.constrains_names),
            links: links(own, issuers, anchor.issuer),
        }
    }

    /// Intermediate certificates on the path.
    pub(super) fn intermediates(&self) -> usize {
        self.issuer_keys.len()
    }
}

/// Each certificate of a path with the key that signed it.
fn links(own: &Certificate<'_>, issuers: &[&Certificate<'_>], anchor: IssuerId) -> Box<[Link]> {
    let id =
        |issuer: &&Certificate<'_>| IssuerId::of(issuer.raw_subject(), issuer.raw_public_key());
    let signed_by = issuers.iter().map(id).chain([anchor]);
    std::iter::once(&own)
        .chain(issuers)
        .zip(signed_by)
        .map(|(certificate, issuer)| Link {
            issuer,
            serial: certificate.serial().into(),
            is_ca: certificate.is_ca,
            distribution_points: certificate
                .distribution_points
                .iter()
                .map(|&uri| uri.into())
                .collect(),
        })
        .collect()
}

/// Who a client is, and the path that proves it.
#[derive(Debug)]
pub(super) struct Proof {
    pub(super) identity: Identity,
    pub(super) path: PathFacts,
}

impl Proof {
    /// Bytes that it takes for names and URIs, which the client's CA chooses: nearly all that is
    /// large in a large one.
    pub(super) fn text_bytes(&self) -> usize {
        let names = self.identity.names().iter().map(|name| match name {
            PeerName::Dns(name) | PeerName::DnsWildcard(name) => name.as_str().len(),
            PeerName::Uri(uri) => uri.as_str().len(),
            PeerName::Ip(_) => 0,
        });
        let points = self.path.links.iter().flat_map(|link| &link.distribution_points);
        names.map(|bytes| size_of::<PeerName>() + bytes).sum::<usize>()
            + points.map(|uri| size_of_val(uri) + uri.len()).sum::<usize>()
    }
}
