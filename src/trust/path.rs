//! The search for a path from the client's certificate to a CA that may vouch for it.

use std::cell::RefCell;

use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, VerifiedPath};

use super::{
    Refusal, Refused,
    certificate::{Certificate, Purposes},
    nearest,
    policy::{Anchor, Binding, Policy, Rule},
    presented::Presented,
    verification,
};
use crate::{config::EkuRule, name::PeerName};

/// What the search found.
pub(super) struct Grant {
    /// Index of the rule that admits the peer.
    pub(super) rule: usize,
    /// Index of the entry of its peer set that lists it.
    pub(super) pattern: usize,
    /// The name of the certificate that is listed.
    pub(super) name: PeerName,
    /// Index of the anchor.
    pub(super) anchor: usize,
    /// The last second in which the whole path is valid.
    pub(super) valid_until: UnixTime,
}

/// Why a verified path isn't admitted by one rule.
struct Objection {
    progress: Progress,
    reason: Refusal,
    detail: String,
}

/// How far a path came. The further, the more its objection tells: a name that is listed says
/// which rule was meant, and what it is refused for after that is what must be put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    /// The certificates of the path themselves aren't good.
    Path,
    /// No rule lists a name.
    Unlisted,
    /// A rule lists a name, for other CAs.
    OtherCa,
    /// A rule lists a name and is bound to the CA.
    Listed,
}

/// A path whose signatures and validity hold.
struct WholePath<'a> {
    leaf: &'a Certificate<'a>,
    /// From the one that issued the leaf up to the one that the anchor issued.
    intermediates: Vec<&'a Certificate<'a>>,
    anchor: &'a Anchor,
    /// Whether the anchor restricts the names of what it issues.
    anchor_constrains_names: bool,
}

/// Finds the first path that a rule admits, or the most telling refusal.
pub(super) fn find(
    policy: &Policy,
    presented: &Presented<'_>,
    now: UnixTime,
) -> Result<Grant, Refused> {
    let leaf_der = CertificateDer::from(presented.leaf.der());
    let intermediates: Vec<CertificateDer<'_>> =
        presented.intermediates.iter().map(|other| CertificateDer::from(other.der())).collect();
    let explain = |error| verification::refused(&error, presented);
    let leaf = EndEntityCert::try_from(&leaf_der).map_err(explain)?;

    let granted = RefCell::new(None);
    let objection: RefCell<Option<Objection>> = RefCell::new(None);
    let judge = |path: &VerifiedPath<'_>| match judge(policy, presented, path, now) {
        Ok(grant) => {
            granted.replace(Some(grant));
            Ok(())
        }
        Err(new) => {
            keep_most_telling(&mut objection.borrow_mut(), new);
            // Not a fatal error for webpki: the search goes on.
            Err(webpki::Error::UnknownIssuer)
        }
    };
    let verified = leaf.verify_for_usage(
        verification::signature_algorithms(),
        policy.trust_anchors(),
        &intermediates,
        now,
        AnyPurpose,
        None,
        Some(&judge),
    );
    match (verified, granted.take(), objection.take()) {
        (Ok(_), Some(grant), _) => Ok(grant),
        (Err(error), _, _) if verification::is_exhausted(&error) => Err(explain(error)),
        (_, _, Some(objection)) => Err(Refused::new(objection.reason, objection.detail)),
        (Err(error), _, None) => Err(explain(error)),
        (Ok(_), None, None) => Err(explain(webpki::Error::UnknownIssuer)),
    }
}

/// Decides about a path whose signatures hold.
fn judge(
    policy: &Policy,
    presented: &Presented<'_>,
    path: &VerifiedPath<'_>,
    now: UnixTime,
) -> Result<Grant, Objection> {
    let unmatched = || Objection {
        progress: Progress::Path,
        reason: Refusal::Malformed,
        detail: "the path has a certificate that wasn't sent".to_owned(),
    };
    let trust_anchor = path.anchor();
    let anchor_index = policy
        .trust_anchors()
        .iter()
        .position(|known| std::ptr::eq(known, trust_anchor))
        .ok_or_else(unmatched)?;
    let intermediates = path
        .intermediate_certificates()
        .map(|used| {
            let der = used.der();
            presented.intermediates.iter().find(|sent| sent.der() == &*der).ok_or_else(unmatched)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let path = WholePath {
        leaf: &presented.leaf,
        intermediates,
        anchor: &policy.anchors()[anchor_index],
        anchor_constrains_names: trust_anchor.name_constraints.is_some(),
    };
    check_issuers(&path)?;

    let mut most_telling = None;
    for (rule_index, rule) in policy.rules().iter().enumerate() {
        for binding in path.anchor.bindings.iter().filter(|binding| binding.is_for(rule)) {
            let admitted = find_name(rule, presented)
                .ok_or_else(|| Objection {
                    progress: Progress::Unlisted,
                    reason: Refusal::NameNotListed,
                    detail: String::new(),
                })
                .and_then(|(pattern, name)| {
                    let valid_until = admit(&path, rule, binding, presented, &name, now)?;
                    Ok(Grant { rule: rule_index, pattern, name, anchor: anchor_index, valid_until })
                });
            match admitted {
                Ok(grant) => return Ok(grant),
                Err(objection) => keep_most_telling(&mut most_telling, objection),
            }
        }
    }
    match most_telling {
        Some(objection) if objection.progress == Progress::Listed => Err(objection),
        _ => Err(unlisted(policy, presented, path.anchor)),
    }
}

/// RFC 5280 §6.1.4 (n), which webpki leaves out.
fn check_issuers(path: &WholePath<'_>) -> Result<(), Objection> {
    match path.intermediates.iter().find(|issuer| !issuer.may_issue()) {
        None => Ok(()),
        Some(issuer) => Err(Objection {
            progress: Progress::Path,
            reason: Refusal::WrongKeyUsage,
            detail: format!(
                "the key usage of the intermediate certificate {} doesn't allow it to sign \
                 certificates (keyCertSign)",
                issuer.subject()
            ),
        }),
    }
}

/// Decides about a whole verified path under the one rule that lists the peer: everything that
/// depends on both is checked here, and the last second in which it holds is returned.
fn admit(
    path: &WholePath<'_>,
    rule: &Rule,
    binding: &Binding,
    presented: &Presented<'_>,
    name: &PeerName,
    now: UnixTime,
) -> Result<UnixTime, Objection> {
    let profile = &rule.set.trust;
    let object = |reason, detail| Err(Objection { progress: Progress::Listed, reason, detail });

    let used = path.intermediates.len();
    if used > profile.max_intermediates {
        return object(
            Refusal::ChainTooLong,
            format!(
                "the path has {used} intermediate certificates; trust.{} allows {}",
                profile.name, profile.max_intermediates
            ),
        );
    }
    if binding.path_length.is_some_and(|most| u32::try_from(used).is_ok_and(|used| used > most)) {
        return object(
            Refusal::ChainTooLong,
            format!(
                "the path has more intermediate certificates than its CA {} allows",
                path.anchor.subject
            ),
        );
    }
    if !serves(path, profile.eku) {
        return object(
            Refusal::WrongKeyUsage,
            format!(
                "the extended key usage of the path lacks what trust.{} asks for: {}",
                profile.name,
                match profile.eku {
                    EkuRule::Client => "clientAuth",
                    EkuRule::Server => "serverAuth",
                    EkuRule::Either => "clientAuth or serverAuth",
                }
            ),
        );
    }
    // Name constraints are checked against the subjectAltName alone, so that a CA that is bound
    // by them could go round them with a common name.
    let constrained = path.anchor_constrains_names
        || path.intermediates.iter().any(|issuer| issuer.constrains_names);
    if constrained && !presented.identity.names().contains(name) {
        return object(
            Refusal::NameConstraint,
            format!("{name} is a common name, and a CA of the path has name constraints"),
        );
    }
    if now > binding.not_after {
        return object(
            Refusal::Expired,
            format!(
                "the CA certificate {} of trust.{} expired at {}",
                path.anchor.subject,
                profile.name,
                verification::rfc3339(binding.not_after)
            ),
        );
    }
    if now < binding.not_before {
        return object(
            Refusal::NotYetValid,
            format!(
                "the CA certificate {} of trust.{} isn't valid before {}",
                path.anchor.subject,
                profile.name,
                verification::rfc3339(binding.not_before)
            ),
        );
    }
    let earliest = path.intermediates.iter().map(|issuer| issuer.not_after).min();
    Ok(path.leaf.not_after.min(binding.not_after).min(earliest.unwrap_or(binding.not_after)))
}

/// Whether one purpose that the rule asks for is left after each certificate of the path took
/// away what it doesn't allow.
fn serves(path: &WholePath<'_>, rule: EkuRule) -> bool {
    let start = path.leaf.own_purposes();
    let left = path.intermediates.iter().fold(start, |left, issuer| {
        let allowed = issuer.issuing_purposes();
        Purposes { client: left.client && allowed.client, server: left.server && allowed.server }
    });
    match rule {
        EkuRule::Client => left.client,
        EkuRule::Server => left.server,
        EkuRule::Either => left.client || left.server,
    }
}

/// The entry of the peer set, and the name of the certificate that it lists and that the profile's
/// CAs may vouch for.
fn find_name(rule: &Rule, presented: &Presented<'_>) -> Option<(usize, PeerName)> {
    let profile = &rule.set.trust;
    let find = |name: &PeerName| {
        let vouched_for = profile.names.iter().any(|pattern| pattern.matches(name));
        let index = rule.set.names.iter().position(|pattern| pattern.matches(name))?;
        vouched_for.then(|| (index, name.clone()))
    };
    let identity = &presented.identity;
    if identity.names().is_empty() && profile.common_name {
        return find(&PeerName::Dns(identity.common_name_as_dns()?.clone()));
    }
    identity.names().iter().find_map(find)
}

/// The objection to a peer that no rule of its CA lists.
fn unlisted(policy: &Policy, presented: &Presented<'_>, anchor: &Anchor) -> Objection {
    let bound = |rule: &Rule| anchor.bindings.iter().any(|binding| binding.is_for(rule));
    let elsewhere = policy
        .rules()
        .iter()
        .filter(|rule| !bound(rule))
        .find_map(|rule| Some((rule, find_name(rule, presented)?.1)));
    if let Some((rule, name)) = elsewhere {
        return Objection {
            progress: Progress::OtherCa,
            reason: Refusal::NameNotAllowedForCa,
            detail: format!(
                "{name} is listed in peers.{} for the CAs of trust.{}, and {} isn't one of them",
                rule.set.name, rule.set.trust.name, anchor.subject
            ),
        };
    }
    Objection {
        progress: Progress::Unlisted,
        reason: Refusal::NameNotListed,
        detail: describe_unlisted(policy, presented),
    }
}

fn describe_unlisted(policy: &Policy, presented: &Presented<'_>) -> String {
    /// Names of the certificate that are spelled out.
    const MAX_SPELLED_OUT: usize = 4;

    let names = presented.identity.names();
    if names.is_empty() {
        return match presented.identity.common_name_as_dns() {
            Some(name) => format!(
                "the certificate has no subjectAltName; its common name {name} isn't listed where \
                 the profile says common_name = true"
            ),
            None => "the certificate has neither a subjectAltName of a DNS name, URI or address \
                     nor a common name that is a DNS name"
                .to_owned(),
        };
    }
    let spelled_out: Vec<String> =
        names.iter().take(MAX_SPELLED_OUT).map(PeerName::to_string).collect();
    let mut detail = spelled_out.join(", ");
    if names.len() > MAX_SPELLED_OUT {
        detail.push_str(&format!(" and {} more", names.len() - MAX_SPELLED_OUT));
    }
    detail.push_str(" is listed in no peer set of the listener");
    if let Some(nearest) = nearest::listed(policy.rules(), names) {
        detail.push_str(&format!("; the nearest is {nearest}"));
    }
    detail
}

fn keep_most_telling(kept: &mut Option<Objection>, new: Objection) {
    if kept.as_ref().is_none_or(|kept| new.progress > kept.progress) {
        *kept = Some(new);
    }
}

/// Lets every extended key usage pass: which one is asked for depends on the profile, and that on
/// the anchor at the end of the path; [`serves`] decides.
struct AnyPurpose;

impl ExtendedKeyUsageValidator for AnyPurpose {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        for purpose in purposes {
            purpose?;
        }
        Ok(())
    }
}
