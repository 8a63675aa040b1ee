//! What is right by itself and wrong together: names, CAs and peer sets that contradict each
//! other. Each message names both places.

use std::collections::{BTreeMap, HashMap};

use super::{
    errors::{Place, Report},
    peer_sets::PeerDraft,
    trust::ProfileDraft,
};
use crate::name::{NamePattern, PatternIndex};

/// A name that two profiles may vouch for would let one partner's CA speak for the other.
///
/// A profile for discovered peers may vouch for any name, but not against another profile: such
/// names are taken out when a peer is decided about.
pub(super) fn refuse_common_names(report: &Report<'_>, profiles: &[&ProfileDraft]) {
    let mut index = PatternIndex::default();
    for (number, profile) in profiles.iter().enumerate() {
        for (entry, name) in profile.names.iter().enumerate() {
            index.insert(&name.value, (number, entry));
        }
    }
    // By the later profile's name and the earlier profile, so that each pair shows once.
    let mut common = BTreeMap::new();
    for (number, profile) in profiles.iter().enumerate() {
        for (entry, name) in profile.names.iter().enumerate() {
            index.containing(&name.value, |(other, other_entry)| {
                let (earlier, later) = match other < number {
                    true => ((other, other_entry), (number, entry)),
                    false => ((number, entry), (other, other_entry)),
                };
                if earlier.0 != later.0 && may_not_share(profiles[earlier.0], profiles[later.0]) {
                    common.entry((later, earlier.0)).or_insert(earlier.1);
                }
                None::<()>
            });
        }
    }
    for (((later, entry), earlier), other_entry) in common {
        let name = &profiles[later].names[entry];
        let other = &profiles[earlier].names[other_entry];
        let message = format_args!(
            "\"{}\" overlaps \"{}\" of {}: two profiles could vouch for the same name; \
             narrow one, or say shared = true in both",
            name.value,
            other.value,
            report.cite(&other.at)
        );
        report.error(&name.at, message);
    }
}

fn may_not_share(one: &ProfileDraft, other: &ProfileDraft) -> bool {
    let both = one.profile.shared && other.profile.shared;
    !both && one.vouches_for_any() == other.vouches_for_any()
}

/// A CA of two profiles could speak for the names of both: two partners that aren't kept apart.
pub(super) fn refuse_common_anchors(report: &Report<'_>, profiles: &[&ProfileDraft]) {
    // A renewed certificate of the same CA is the same CA.
    let mut known: HashMap<_, Vec<(usize, &Place)>> = HashMap::new();
    for (number, profile) in profiles.iter().enumerate() {
        for anchor in &profile.anchors {
            let facts = &anchor.facts;
            let others = known.entry((&*facts.subject_der, &*facts.spki)).or_default();
            let other = others.iter().find(|(other, _)| {
                *other != number && !(profile.profile.shared && profiles[*other].profile.shared)
            });
            if let Some((_, place)) = other {
                let message = format_args!(
                    "{} ({}) is also a CA of {}: it could vouch for the names of both profiles; \
                     give each its own CA, or say shared = true in both",
                    anchor.certificate.file.display(),
                    facts.subject,
                    report.cite(place)
                );
                report.error(&anchor.at, message);
            }
            others.push((number, &anchor.at));
        }
    }
}

/// One name in two sets of a listener has two answers to the question whose limits and pins hold.
/// A name that is also within a wider one of another set is none: the narrowest entry counts.
pub(super) fn refuse_common_peers(report: &Report<'_>, at: &Place, admitted: &[&PeerDraft]) {
    let mut listed: HashMap<(&str, &NamePattern), (&PeerDraft, &Place)> = HashMap::new();
    for draft in admitted {
        // Shared profiles may list the same name: its CA then decides which set it is.
        let Some(set) = &draft.set else { continue };
        for name in &draft.names {
            let key = (&*set.trust.name, &name.value);
            match listed.get(&key) {
                Some((other, place)) if other.at.offset != draft.at.offset => {
                    let message = format_args!(
                        "\"{}\" is also in {}, and {} admits both: it is not clear whose pins and \
                         limits count; take it out of one",
                        name.value,
                        report.cite(place),
                        report.cite(at)
                    );
                    report.error(&name.at, message);
                }
                _ => _ = listed.insert(key, (draft, &name.at)),
            }
        }
    }
}

/// Two sets of discovered peers of one profile are two answers to the question whose limits hold.
pub(super) fn refuse_common_discovered(report: &Report<'_>, at: &Place, admitted: &[&PeerDraft]) {
    let mut seen: HashMap<&str, &PeerDraft> = HashMap::new();
    for &draft in admitted {
        let Some(set) = draft.set.as_ref().filter(|set| set.discovered.is_some()) else { continue };
        let other = *seen.entry(&set.trust.name).or_insert(draft);
        if other.at.offset != draft.at.offset {
            let message = format_args!(
                "admits the same discovered peers as {}, and {} admits both: it is not clear whose \
                 limits count; take one of them out",
                report.cite(&other.at),
                report.cite(at)
            );
            report.error(&draft.at, message);
        }
    }
}

/// One set may list what another one blocks; on a common listener that reads two ways.
pub(super) fn warn_of_blocked(report: &Report<'_>, at: &Place, admitted: &[&PeerDraft]) {
    let mut blocks = PatternIndex::default();
    for draft in admitted {
        for block in &draft.blocked {
            blocks.insert(&block.value, (draft.at.offset, &block.at));
        }
    }
    for draft in admitted {
        for name in &draft.names {
            let blocked_by_another = |(set, block): (usize, &'_ Place)| {
                (set != draft.at.offset).then(|| report.cite(block))
            };
            if let Some(block) = blocks.containing(&name.value, blocked_by_another) {
                let message = format_args!(
                    "admits \"{}\" by {}, which is blocked by {block}",
                    name.value,
                    report.cite(&name.at)
                );
                report.warn(at, message);
            }
        }
    }
}
