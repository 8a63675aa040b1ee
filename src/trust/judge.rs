//! Whether a proof is enough: the part of the decision that depends on configuration and time.
//!
//! Pure, and without a signature: whatever can change after the handshake is looked at here, each
//! time anew.

use rustls_pki_types::UnixTime;

use super::{
    Identity, Refusal, Refused,
    identity::hex,
    nearest,
    policy::{Anchor, Binding, Policy, Rule},
    proof::{PathFacts, Validity},
    verification::rfc3339,
};
use crate::{
    config::EkuRule,
    name::PeerName,
    revocation::{Problem, Verdict},
};

/// What admits a peer.
#[derive(Debug)]
pub(super) struct Grant {
    /// Index of the rule that admits the peer.
    pub(super) rule: usize,
    /// Index of the entry of its peer set that lists it.
    pub(super) pattern: usize,
    /// The name of the certificate that is listed.
    pub(super) name: PeerName,
    /// Index of the anchor.
    pub(super) anchor: usize,
    /// The last second in which every certificate of the path is valid.
    pub(super) valid_until: UnixTime,
}

/// Why a verified path isn't admitted by one rule.
#[derive(Debug)]
pub(super) struct Objection {
    progress: Progress,
    reason: Refusal,
    detail: String,
}

impl Objection {
    /// A certificate of the path itself isn't good.
    pub(super) fn to_path(reason: Refusal, detail: impl Into<String>) -> Self {
        Self { progress: Progress::Path, reason, detail: detail.into() }
    }

    /// A rule lists the peer and is bound to its CA, and still doesn't admit it.
    fn of_rule(reason: Refusal, detail: impl Into<String>) -> Self {
        Self { progress: Progress::Listed, reason, detail: detail.into() }
    }

    /// Keeps the one that tells most, the first of several.
    pub(super) fn keep_most_telling(kept: &mut Option<Self>, new: Self) {
        if kept.as_ref().is_none_or(|kept| new.progress > kept.progress) {
            *kept = Some(new);
        }
    }
}

impl From<Objection> for Refused {
    fn from(objection: Objection) -> Self {
        Self::new(objection.reason, objection.detail)
    }
}

/// How far a path came. The further, the more its objection tells: a name that is listed says
/// which rule was meant, and what it is refused for after that is what must be put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    /// The certificates of the path themselves aren't good, or lead nowhere.
    Path,
    /// No rule lists a name.
    Unlisted,
    /// A rule lists a name, for other CAs.
    OtherCa,
    /// A rule lists a name and is bound to the CA.
    Listed,
}

/// Decides about a client whose path was verified.
pub(super) fn judge(
    policy: &Policy,
    identity: &Identity,
    path: &PathFacts,
    now: UnixTime,
) -> Result<Grant, Objection> {
    let Some((index, anchor)) = policy.anchor(path.anchor) else {
        return Err(Objection::to_path(
            Refusal::UnknownIssuer,
            "the CA that vouches for it is none of the listener's",
        ));
    };
    let mut most_telling = None;
    for (rule_index, rule) in policy.rules().iter().enumerate() {
        for binding in anchor.bindings.iter().filter(|binding| binding.is_for(rule)) {
            let Some((pattern, name)) = find_name(rule, identity) else { continue };
            match admit(&Case { identity, path, anchor, rule, binding, name: &name }, now) {
                Ok(valid_until) => {
                    return Ok(Grant {
                        rule: rule_index,
                        pattern,
                        name,
                        anchor: index,
                        valid_until,
                    });
                }
                Err(objection) => Objection::keep_most_telling(&mut most_telling, objection),
            }
        }
    }
    Err(most_telling.unwrap_or_else(|| unlisted(policy, identity, anchor)))
}

/// A peer that a rule lists, and the CA that vouches for it.
struct Case<'a> {
    identity: &'a Identity,
    path: &'a PathFacts,
    anchor: &'a Anchor,
    rule: &'a Rule,
    binding: &'a Binding,
    /// The name that the rule lists.
    name: &'a PeerName,
}

/// Decides under the one rule that lists the peer; the last second in which its path is valid.
fn admit(case: &Case<'_>, now: UnixTime) -> Result<UnixTime, Objection> {
    check_length(case)?;
    check_purposes(case)?;
    check_name_constraints(case)?;
    let valid_until = check_validity(case, now)?;
    check_revocation(case, now)?;
    Ok(valid_until)
}

fn check_length(case: &Case<'_>) -> Result<(), Objection> {
    let profile = &case.rule.set.trust;
    let used = case.path.intermediates();
    if used > profile.max_intermediates {
        return Err(Objection::of_rule(
            Refusal::ChainTooLong,
            format!(
                "the path has {used} intermediate certificates; trust.{} allows {}",
                profile.name, profile.max_intermediates
            ),
        ));
    }
    let most = case.binding.path_length;
    if most.is_some_and(|most| u32::try_from(used).is_ok_and(|used| used > most)) {
        return Err(Objection::of_rule(
            Refusal::ChainTooLong,
            format!(
                "the path has more intermediate certificates than its CA {} allows",
                case.anchor.subject
            ),
        ));
    }
    Ok(())
}

fn check_purposes(case: &Case<'_>) -> Result<(), Objection> {
    let profile = &case.rule.set.trust;
    let left = case.path.purposes;
    let (served, wanted) = match profile.eku {
        EkuRule::Client => (left.client, "clientAuth"),
        EkuRule::Server => (left.server, "serverAuth"),
        EkuRule::Either => (left.client || left.server, "clientAuth or serverAuth"),
    };
    if served {
        return Ok(());
    }
    Err(Objection::of_rule(
        Refusal::WrongKeyUsage,
        format!(
            "the extended key usage of the path lacks what trust.{} asks for: {wanted}",
            profile.name
        ),
    ))
}

/// Name constraints are checked against the subjectAltName alone, so that a CA that is bound by
/// them could go round them with a common name.
fn check_name_constraints(case: &Case<'_>) -> Result<(), Objection> {
    if case.path.constrains_names && !case.identity.names().contains(case.name) {
        return Err(Objection::of_rule(
            Refusal::NameConstraint,
            format!("{} is a common name, and a CA of the path has name constraints", case.name),
        ));
    }
    Ok(())
}

/// The last second in which the whole path is valid, if it is valid now.
fn check_validity(case: &Case<'_>, now: UnixTime) -> Result<UnixTime, Objection> {
    let profile = &case.rule.set.trust.name;
    let ca = || format!("the CA certificate {} of trust.{profile}", case.anchor.subject);
    valid_at(case.path.own_validity, now, || "the client's certificate".to_owned())?;
    valid_at(case.path.issuer_validity, now, || "an intermediate certificate".to_owned())?;
    valid_at(case.binding.validity, now, ca)?;
    let ends = [case.path.own_validity, case.path.issuer_validity, case.binding.validity];
    Ok(ends
        .into_iter()
        .map(|validity| validity.not_after)
        .fold(case.binding.validity.not_after, UnixTime::min))
}

fn valid_at(
    validity: Validity,
    now: UnixTime,
    which: impl Fn() -> String,
) -> Result<(), Objection> {
    let Validity { not_before, not_after } = validity;
    if now > not_after {
        let detail = format!("{} expired at {}", which(), rfc3339(not_after));
        return Err(Objection::of_rule(Refusal::Expired, detail));
    }
    if now < not_before {
        let detail = format!("{} isn't valid before {}", which(), rfc3339(not_before));
        return Err(Objection::of_rule(Refusal::NotYetValid, detail));
    }
    Ok(())
}

/// Asks the profile's CRLs about every certificate of the path, the anchor's excepted.
fn check_revocation(case: &Case<'_>, now: UnixTime) -> Result<(), Objection> {
    let links = &case.path.links;
    let Verdict::Bad(problem) = case.rule.crls.check(links, now) else { return Ok(()) };
    let which = |link: usize| match (link, links.get(link)) {
        (0, _) | (_, None) => "the client's certificate".to_owned(),
        (_, Some(link)) => format!("the intermediate certificate {}", hex(&link.serial)),
    };
    let profile = &case.rule.set.trust.name;
    Err(match problem {
        Problem::Revoked { link, at, reason } => Objection::of_rule(
            Refusal::Revoked,
            format!("{} was revoked at {} ({})", which(link), rfc3339(at), reason.as_str()),
        ),
        Problem::Unknown { link, why } => Objection::of_rule(
            Refusal::RevocationUnknown,
            format!("whether {} is revoked isn't known in trust.{profile}: {why}", which(link)),
        ),
        Problem::Stale { link, since } => Objection::of_rule(
            Refusal::CrlStale,
            format!(
                "the CRL of trust.{profile} for {} is out of date since {}",
                which(link),
                rfc3339(since)
            ),
        ),
    })
}

/// The entry of the peer set, and the name of the certificate that it lists and that the profile's
/// CAs may vouch for.
fn find_name(rule: &Rule, identity: &Identity) -> Option<(usize, PeerName)> {
    let profile = &rule.set.trust;
    let find = |name: &PeerName| {
        let vouched_for = profile.names.iter().any(|pattern| pattern.matches(name));
        let index = rule.set.names.iter().position(|pattern| pattern.matches(name))?;
        vouched_for.then(|| (index, name.clone()))
    };
    if identity.names().is_empty() && profile.common_name {
        return find(&PeerName::Dns(identity.common_name_as_dns()?.clone()));
    }
    identity.names().iter().find_map(find)
}

/// The objection to a peer that no rule of its CA lists.
fn unlisted(policy: &Policy, identity: &Identity, anchor: &Anchor) -> Objection {
    let elsewhere = policy
        .rules()
        .iter()
        .filter(|rule| !anchor.is_bound_to(rule))
        .find_map(|rule| Some((rule, find_name(rule, identity)?.1)));
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
        detail: describe_unlisted(policy, identity),
    }
}

fn describe_unlisted(policy: &Policy, identity: &Identity) -> String {
    /// Names of the certificate that are spelled out.
    const MAX_SPELLED_OUT: usize = 4;

    let names = identity.names();
    if names.is_empty() {
        return match identity.common_name_as_dns() {
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
