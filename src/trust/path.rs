//! The search for a path from the client's certificate to a CA that may vouch for it.

use std::cell::RefCell;

use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, VerifiedPath};

use super::{
    Refusal, Refused,
    certificate::Certificate,
    judge::{Grant, Objection, judge},
    policy::{Anchor, Policy},
    presented::Presented,
    proof::PathFacts,
    verification,
    witness::{Check, Link, Step, Witness},
};

/// Finds the first path that a rule admits, or the most telling refusal.
pub(super) fn find(
    policy: &Policy,
    presented: &Presented<'_>,
    now: UnixTime,
    witness: &impl Witness,
) -> Result<(PathFacts, Grant), Refused> {
    let leaf_der = CertificateDer::from(presented.leaf.der());
    let intermediates: Vec<CertificateDer<'_>> =
        presented.intermediates.iter().map(|other| CertificateDer::from(other.der())).collect();
    let explain = |error| {
        let refused = verification::refused(&error, presented);
        witness.note(|| Step::failed(Check::Search, &refused));
        refused
    };
    let leaf = EndEntityCert::try_from(&leaf_der).map_err(explain)?;

    let granted = RefCell::new(None);
    let objection: RefCell<Option<Objection>> = RefCell::new(None);
    let consider = |path: &VerifiedPath<'_>| {
        let judged = facts(policy, presented, path, witness).and_then(|facts| {
            let grant = judge(policy, &presented.identity, &facts, now, witness)?;
            Ok((facts, grant))
        });
        match judged {
            Ok(found) => {
                granted.replace(Some(found));
                Ok(())
            }
            Err(new) => {
                let kept = &mut *objection.borrow_mut();
                witness.note(|| new.set_aside(kept.as_ref()));
                Objection::keep_most_telling(kept, new);
                // Not a fatal error for webpki: the search goes on.
                Err(webpki::Error::UnknownIssuer)
            }
        }
    };
    let verified = leaf.verify_for_usage(
        verification::signature_algorithms(),
        policy.trust_anchors(),
        &intermediates,
        now,
        AnyPurpose,
        None,
        Some(&consider),
    );
    match (verified, granted.take(), objection.take()) {
        (Ok(_), Some(found), _) => Ok(found),
        (Err(error), _, _) if verification::is_exhausted(&error) => Err(explain(error)),
        (_, _, Some(objection)) => Err(objection.into()),
        (Err(error), _, None) => Err(explain(error)),
        (Ok(_), None, None) => Err(explain(webpki::Error::UnknownIssuer)),
    }
}

/// What a path whose signatures hold proves.
fn facts(
    policy: &Policy,
    presented: &Presented<'_>,
    path: &VerifiedPath<'_>,
    witness: &impl Witness,
) -> Result<PathFacts, Objection> {
    let unmatched =
        || Objection::to_path(Refusal::Malformed, "the path has a certificate that wasn't sent");
    let anchor = policy.anchor_of(path.anchor()).ok_or_else(unmatched)?;
    let issuers = path
        .intermediate_certificates()
        .map(|used| {
            let der = used.der();
            presented.intermediates.iter().find(|sent| sent.der() == &*der).ok_or_else(unmatched)
        })
        .collect::<Result<Vec<_>, _>>()?;
    witness.note(|| describe(presented, &issuers, anchor));
    witness.check(Check::IssuerKeyUsage, check_issuers(&issuers), |()| {
        "no intermediate certificate is kept from signing certificates".to_owned()
    })?;
    policy.learn(&issuers, anchor);
    Ok(PathFacts::of(&presented.leaf, &issuers, anchor))
}

fn describe(presented: &Presented<'_>, issuers: &[&Certificate<'_>], anchor: &Anchor) -> Step {
    let certificates = std::iter::once(&presented.leaf).chain(issuers.iter().copied());
    Step::Path {
        certificates: certificates.map(Link::of).collect(),
        anchor: anchor.subject.to_string(),
        profiles: anchor.profiles().collect(),
    }
}

/// RFC 5280 §6.1.4 (n), which webpki leaves out.
fn check_issuers(issuers: &[&Certificate<'_>]) -> Result<(), Objection> {
    match issuers.iter().find(|issuer| !issuer.may_issue()) {
        None => Ok(()),
        Some(issuer) => Err(Objection::to_path(
            Refusal::WrongKeyUsage,
            format!(
                "the key usage of the intermediate certificate {} doesn't allow it to sign \
                 certificates (keyCertSign)",
                issuer.subject()
            ),
        )),
    }
}

/// Lets every extended key usage pass: which one is asked for depends on the profile, and that on
/// the anchor at the end of the path; the judgement decides.
struct AnyPurpose;

impl ExtendedKeyUsageValidator for AnyPurpose {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        for purpose in purposes {
            purpose?;
        }
        Ok(())
    }
}
