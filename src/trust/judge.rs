//! Whether a proof is enough: the part of the decision that depends on configuration and time.
//!
//! Pure, and without a signature: whatever can change after the handshake is looked at here, each
//! time anew.

use rustls_pki_types::UnixTime;

use super::{
    Identity, Refusal, Refused,
    identity::hex,
    nearest,
    partners::{check_foreign, check_key_sizes, check_pins, check_reserved},
    policy::{Anchor, Binding, Policy},
    proof::{PathFacts, Validity},
    rules::{Claim, Client, Rule, Rules},
    verification::rfc3339,
    witness::{Check, Step, Witness},
};
use crate::{
    config::EkuRule,
    name::{NamePattern, PeerName},
    revocation::{Mode, Problem, Verdict},
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

    /// A CA of the path has revoked a certificate of it.
    fn revoked(detail: String) -> Self {
        Self { progress: Progress::Revoked, reason: Refusal::Revoked, detail }
    }

    /// A rule lists the peer and is bound to its CA, and still doesn't admit it.
    pub(super) fn of_rule(reason: Refusal, detail: impl Into<String>) -> Self {
        Self { progress: Progress::Listed, reason, detail: detail.into() }
    }

    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    /// The step of setting a path aside for it, beside what was objected to before.
    pub(super) fn set_aside(&self, kept: Option<&Self>) -> Step {
        Step::SetAside {
            reason: self.reason,
            detail: self.detail.clone(),
            most_telling: self.tells_more_than(kept),
        }
    }

    /// A name of the peer's is for another CA than the path's.
    pub(super) fn for_another_ca(detail: impl Into<String>) -> Self {
        let reason = Refusal::NameNotAllowedForCa;
        Self { progress: Progress::OtherCa, reason, detail: detail.into() }
    }

    /// No rule of the path's CA lists the peer.
    pub(super) fn not_listed(detail: impl Into<String>) -> Self {
        let reason = Refusal::NameNotListed;
        Self { progress: Progress::Unlisted, reason, detail: detail.into() }
    }

    /// Keeps the one that tells most, the first of several.
    pub(super) fn keep_most_telling(kept: &mut Option<Self>, new: Self) {
        if new.tells_more_than(kept.as_ref()) {
            *kept = Some(new);
        }
    }

    fn tells_more_than(&self, kept: Option<&Self>) -> bool {
        kept.is_none_or(|kept| self.progress > kept.progress)
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
    /// The same, and a certificate is revoked: that outweighs whatever another rule is in doubt
    /// about.
    Revoked,
}

/// Decides about a client whose path was verified.
pub(super) fn judge(
    policy: &Policy,
    identity: &Identity,
    path: &PathFacts,
    now: UnixTime,
    witness: &impl Witness,
) -> Result<Grant, Objection> {
    let Some((index, anchor)) = policy.anchor(path.anchor) else {
        return Err(Objection::to_path(
            Refusal::UnknownIssuer,
            "the CA that vouches for it is none of the listener's",
        ));
    };
    let rules = policy.rules();
    let client = Client::of(identity);
    let claims = rules.claims(&client, anchor);
    let mut most_telling = None;
    for (number, rule) in rules.iter().enumerate() {
        witness.note(|| look_at(rule, anchor));
        let first = claims.partition_point(|claim| claim.entry.rule < number);
        let claim = claims.get(first).filter(|claim| claim.entry.rule == number);
        if witness.is_watching() && anchor.is_bound_to(rule) {
            note_names(rule, &client, (claim, &claims), rules, witness);
        }
        let Some(claim) = claim else { continue };
        for binding in anchor.bindings.iter().filter(|binding| binding.is_for(rule)) {
            let case = Case { rules, client: &client, path, anchor, rule, binding, claim };
            match admit(&case, now, witness) {
                Ok(valid_until) => {
                    return Ok(Grant {
                        rule: number,
                        pattern: claim.entry.pattern,
                        name: claim.name.clone(),
                        anchor: index,
                        valid_until,
                    });
                }
                Err(objection) => Objection::keep_most_telling(&mut most_telling, objection),
            }
        }
    }
    match most_telling {
        Some(objection) if objection.progress > Progress::Unlisted => Err(objection),
        _ => Err(unlisted(policy, &client, anchor, witness)),
    }
}

fn look_at(rule: &Rule, anchor: &Anchor) -> Step {
    Step::Rule {
        peers: rule.set.name.to_string(),
        profile: rule.set.trust.name.to_string(),
        bound: anchor.is_bound_to(rule),
    }
}

/// Tells which names of the client's a rule lists, up to the one that counts. With what counts for
/// this rule comes what counts for any.
fn note_names(
    rule: &Rule,
    client: &Client<'_>,
    (own, all): (Option<&Claim<'_>>, &[Claim<'_>]),
    rules: &Rules,
    witness: &impl Witness,
) {
    let find = |patterns: &[NamePattern], name: &PeerName| {
        patterns.iter().find(|pattern| pattern.matches(name)).map(NamePattern::to_string)
    };
    for name in client.names() {
        let listed = find(&rule.set.names, name);
        let is_listed = listed.is_some();
        let vouched_for = find(&rule.set.trust.names, name);
        witness.note(|| Step::Name { name: name.to_string(), vouched_for, listed });
        if own.is_some_and(|claim| claim.name == name) {
            return;
        }
        let narrower = all.iter().find(|claim| is_listed && claim.name == name);
        if let Some(narrower) = narrower {
            let peers = &rules.get(narrower.entry.rule).set.name;
            witness.note(|| Step::Check {
                check: Check::Narrowest,
                passed: false,
                detail: format!("peers.{peers} lists {name} more narrowly"),
            });
        }
    }
}

/// A peer that a rule lists, and the CA that vouches for it.
pub(super) struct Case<'a> {
    pub(super) rules: &'a Rules,
    pub(super) client: &'a Client<'a>,
    pub(super) path: &'a PathFacts,
    pub(super) anchor: &'a Anchor,
    pub(super) rule: &'a Rule,
    pub(super) binding: &'a Binding,
    /// By what the rule lists it.
    pub(super) claim: &'a Claim<'a>,
}

/// Decides under the one rule that lists the peer; the last second in which its path is valid.
fn admit(case: &Case<'_>, now: UnixTime, witness: &impl Witness) -> Result<UnixTime, Objection> {
    let profile = &case.rule.set.trust;
    if case.rule.set.discovered.is_some() {
        witness.check(Check::Reserved, check_reserved(case), |()| {
            "no name of the certificate is one of another profile".to_owned()
        })?;
    }
    witness.check_if_bad(Check::Reserved, check_foreign(case))?;
    witness.check(Check::Length, check_length(case), |()| {
        let (used, most) = (case.path.intermediates(), profile.max_intermediates);
        format!("{used} intermediate certificates of at most {most}")
    })?;
    witness.check(Check::Purpose, check_purposes(case), |()| {
        format!("allows {}", wanted_purpose(profile.eku))
    })?;
    witness.check(Check::NameConstraints, check_name_constraints(case), |()| {
        let found =
            if case.path.constrains_names { "the name is within them" } else { "there are none" };
        found.to_owned()
    })?;
    witness.check(Check::KeySize, check_key_sizes(case), |()| {
        format!("RSA from {} bits, ECDSA from {}", profile.min_rsa_bits, profile.min_ec_bits)
    })?;
    witness.check(Check::Pin, check_pins(case), |()| {
        let pins = case.rule.set.pins.is_empty();
        if pins { "any key will do" } else { "the key is pinned" }.to_owned()
    })?;
    let valid_until = witness.check(Check::Validity, check_validity(case, now), |&end| {
        format!("valid until {}", rfc3339(end))
    })?;
    witness.check(Check::Revocation, check_revocation(case, now), |()| {
        describe_revocation(case.rule.crls.rules().mode).to_owned()
    })?;
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
    let served = match profile.eku {
        EkuRule::Client => left.client,
        EkuRule::Server => left.server,
        EkuRule::Either => left.client || left.server,
    };
    if served {
        return Ok(());
    }
    Err(Objection::of_rule(
        Refusal::WrongKeyUsage,
        format!(
            "the extended key usage of the path lacks what trust.{} asks for: {}",
            profile.name,
            wanted_purpose(profile.eku)
        ),
    ))
}

fn wanted_purpose(eku: EkuRule) -> &'static str {
    match eku {
        EkuRule::Client => "clientAuth",
        EkuRule::Server => "serverAuth",
        EkuRule::Either => "clientAuth or serverAuth",
    }
}

/// Name constraints are checked against the subjectAltName alone, so that a CA that is bound by
/// them could go round them with a common name.
fn check_name_constraints(case: &Case<'_>) -> Result<(), Objection> {
    let name = case.claim.name;
    if case.path.constrains_names && !case.client.identity.names().contains(name) {
        return Err(Objection::of_rule(
            Refusal::NameConstraint,
            format!("{name} is a common name, and a CA of the path has name constraints"),
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
        Problem::Revoked { link, at, reason } => Objection::revoked(format!(
            "{} was revoked at {} ({})",
            which(link),
            rfc3339(at),
            reason.as_str()
        )),
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

fn describe_revocation(mode: Mode) -> &'static str {
    match mode {
        Mode::Off => "the profile doesn't look at it",
        Mode::Prefer => "no CRL lists a certificate of the path",
        Mode::Require => "a CRL speaks for every certificate of the path, and lists none",
    }
}

/// The objection to a peer that no rule of its CA lists.
fn unlisted(
    policy: &Policy,
    client: &Client<'_>,
    anchor: &Anchor,
    witness: &impl Witness,
) -> Objection {
    if let Some(claim) = policy.rules().listed_elsewhere(client, anchor) {
        let (name, set) = (claim.name, &policy.rules().get(claim.entry.rule).set);
        return Objection::for_another_ca(format!(
            "{name} is listed in peers.{} for the CAs of trust.{}, and {} isn't one of them",
            set.name, set.trust.name, anchor.subject
        ));
    }
    Objection::not_listed(describe_unlisted(policy, client.identity, witness))
}

fn describe_unlisted(policy: &Policy, identity: &Identity, witness: &impl Witness) -> String {
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
        detail.push_str(&format!("; the nearest is {} in peers.{}", nearest.listed, nearest.peers));
        witness.note(|| Step::Nearest {
            listed: nearest.listed.clone(),
            peers: nearest.peers.to_string(),
        });
    }
    detail
}
