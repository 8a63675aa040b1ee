//! What keeps partners apart beside the binding of names to CAs: the lengths of keys, pins, and
//! that discovered peers have nobody else's name.

use super::{
    KeyAlgorithm, Refusal,
    judge::{Case, Objection},
};

/// A CA that may vouch for anybody can't speak for those whom another profile is for.
pub(super) fn check_reserved(case: &Case<'_>) -> Result<(), Objection> {
    let Some((name, profile)) = case.rules.reserving(case.claim.entry.rule, case.client.identity)
    else {
        return Ok(());
    };
    let (peers, subject) = (&case.rule.set.name, &case.anchor.subject);
    let of = format!("{name} is a name of trust.{}", profile.name);
    // A CA of both profiles has only issued for a name that isn't listed.
    Err(match case.anchor.is_of(profile) {
        true => Objection::not_listed(format!("{of}, which peers.{peers} leaves alone")),
        false => Objection::for_another_ca(format!(
            "{of}, and {subject} isn't one of its CAs: peers.{peers} is for others"
        )),
    })
}

/// A CA of one partner can't speak for another one, nor for us: not even beside a name of its own,
/// since the backend is handed the whole certificate.
pub(super) fn check_foreign(case: &Case<'_>) -> Result<(), Objection> {
    let Some((name, profile)) = case.rules.foreign(case.client.identity, case.anchor) else {
        return Ok(());
    };
    let (own, subject) = (case.claim.name, &case.anchor.subject);
    Err(Objection::for_another_ca(format!(
        "beside {own} the certificate has {name}, which is a name of trust.{}, and {subject} isn't \
         one of its CAs",
        profile.name
    )))
}

/// Keys that are too short for the profile, its own CA's included.
pub(super) fn check_key_sizes(case: &Case<'_>) -> Result<(), Objection> {
    let profile = &case.rule.set.trust;
    let own = ("the client's key", case.client.identity.key_algorithm());
    let issuers = case.path.issuer_keys.iter();
    let issuers = issuers.map(|key| ("the key of an intermediate certificate", *key));
    let anchor = ("the key of its CA", case.anchor.key);
    for (which, key) in [own].into_iter().chain(issuers).chain([anchor]) {
        let least = match key {
            KeyAlgorithm::Rsa(bits) if bits < profile.min_rsa_bits => profile.min_rsa_bits,
            KeyAlgorithm::Ec(bits) if bits < profile.min_ec_bits => profile.min_ec_bits,
            // It is as strong as P-256.
            KeyAlgorithm::Ed25519 if profile.min_ec_bits > 256 => profile.min_ec_bits,
            _ => continue,
        };
        return Err(Objection::of_rule(
            Refusal::WeakKey,
            format!("{which} is {key}; trust.{} asks for {least} bits", profile.name),
        ));
    }
    Ok(())
}

/// The key must be one of those that are pinned for any name of the client's, so that nobody gets
/// round a pin by a second name.
pub(super) fn check_pins(case: &Case<'_>) -> Result<(), Objection> {
    let (rules, key) = (case.rules, case.path.own_key);
    let Some(claim) = rules.pinned_otherwise(case.client, case.anchor, key) else {
        return Ok(());
    };
    let peers = &rules.get(claim.entry.rule).set.name;
    let detail = format!(
        "peers.{peers} pins the keys of {}, and the client's, {key}, is none of them",
        claim.name
    );
    Err(Objection::of_rule(Refusal::KeyNotPinned, detail))
}
