//! `[trust.NAME]` and `[peers.NAME]`: who may vouch for whom.

use std::{cell::Cell, collections::BTreeMap, rc::Rc, sync::Arc};

use super::{
    EkuRule, PeerSet, TrustProfile,
    certificates::{Surroundings, load_anchors},
    errors::{Located, Place, Report, did_you_mean},
    reader::Reader,
    revocation,
};
use crate::name::NamePattern;

/// The most intermediates that a profile may allow; the default is in [`read_profile`].
const INTERMEDIATES_MAX: usize = 6;

/// What the lists of names take.
const NAMES: &str = "at least one name: \"host.example\", \"*.example\", \"spiffe://domain/path\"";

const ANCHORS: &str = "at least one file with CA certificates, PEM or DER";

/// A profile while the file is walked: it may lack what was wrong.
pub(super) struct ProfileDraft {
    pub(super) profile: Arc<TrustProfile>,
    at: Place,
    names: Vec<Located<NamePattern>>,
    used: Cell<bool>,
}

/// A peer set while the file is walked.
pub(super) struct PeerDraft {
    /// `None` if what it needs was wrong, which has been noted.
    pub(super) set: Option<Arc<PeerSet>>,
    pub(super) at: Place,
    pub(super) names: Vec<Located<NamePattern>>,
    pub(super) blocked: Vec<Located<NamePattern>>,
    pub(super) used: Cell<bool>,
}

/// What `name` refers to; notes an error that offers the nearest name if it is nothing.
pub(super) fn refer<'d, T>(
    report: &Report<'_>,
    name: &Located<&str>,
    section: &str,
    drafts: &'d BTreeMap<Rc<str>, T>,
) -> Option<&'d T> {
    let draft = drafts.get(name.value);
    if draft.is_none() {
        let hint = match did_you_mean(name.value, drafts.keys().map(|name| &**name)) {
            nearest if !nearest.is_empty() => nearest,
            _ if drafts.is_empty() => format!("; write a section [{section}.NAME]"),
            _ => {
                let names: Vec<String> = drafts.keys().map(|name| format!("{name:?}")).collect();
                format!("; there are: {}", names.join(", "))
            }
        };
        let message = format_args!("found {:?}, which is no [{section}.NAME]{hint}", name.value);
        report.error(&name.at, message);
    }
    draft
}

/// All `[trust.NAME]`.
pub(super) fn read_profiles(
    around: Surroundings<'_>,
    root: &mut Reader<'_>,
    crls: &mut revocation::Draft,
) -> BTreeMap<Rc<str>, ProfileDraft> {
    let mut drafts = BTreeMap::new();
    for (name, reader) in root.named_tables("trust") {
        let draft = read_profile(around, &name, reader, crls);
        drafts.insert(name, draft);
    }
    let all: Vec<&ProfileDraft> = drafts.values().collect();
    for (index, first) in all.iter().enumerate() {
        for second in &all[index + 1..] {
            refuse_overlap(around.report, first, second);
        }
    }
    drafts
}

fn read_profile(
    around: Surroundings<'_>,
    name: &str,
    mut reader: Reader<'_>,
    crls: &mut revocation::Draft,
) -> ProfileDraft {
    const RULES: [(&str, EkuRule); 3] =
        [("client", EkuRule::Client), ("server", EkuRule::Server), ("either", EkuRule::Either)];
    reader.require("ca", ANCHORS);
    reader.require("names", NAMES);
    let files = reader.some_strings("ca", ANCHORS).unwrap_or_default();
    let ca = files.iter().flat_map(|file| load_anchors(around, file)).collect();
    let names = reader.some_parsed("names", NAMES, NamePattern::parse).unwrap_or_default();
    let eku = reader.word("eku", &RULES).map_or(EkuRule::Client, |rule| rule.value);
    let common_name = reader.boolean("common_name").unwrap_or(false);
    let max_intermediates = reader.integer("max_intermediates", 0..=INTERMEDIATES_MAX);
    let shared = reader.boolean("shared").unwrap_or(false);
    let revocation = revocation::read_rules(around, &mut reader, crls);
    let at = reader.at().clone();
    reader.finish();
    let profile = TrustProfile {
        name: Arc::from(name),
        ca,
        names: names.iter().map(|name| name.value.clone()).collect(),
        eku,
        common_name,
        max_intermediates: max_intermediates.unwrap_or(4),
        shared,
        revocation,
    };
    ProfileDraft { profile: Arc::new(profile), at, names, used: Cell::new(false) }
}

/// A name that two profiles may vouch for would let one partner's CA speak for the other.
fn refuse_overlap(report: &Report<'_>, first: &ProfileDraft, second: &ProfileDraft) {
    if first.profile.shared && second.profile.shared {
        return;
    }
    for name in &second.names {
        let other = first.names.iter().find(|other| name.value.overlaps(&other.value));
        if let Some(other) = other {
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
}

/// All `[peers.NAME]`.
pub(super) fn read_peers(
    root: &mut Reader<'_>,
    profiles: &BTreeMap<Rc<str>, ProfileDraft>,
) -> BTreeMap<Rc<str>, PeerDraft> {
    let tables = root.named_tables("peers");
    let drafts = tables.into_iter().map(|(name, reader)| {
        let draft = read_peer_set(&name, reader, profiles);
        (name, draft)
    });
    let drafts = drafts.collect();
    for draft in profiles.values().filter(|draft| !draft.used.get()) {
        root.report().warn(&draft.at, "is not used by any [peers.NAME]");
    }
    drafts
}

fn read_peer_set(
    name: &str,
    mut reader: Reader<'_>,
    profiles: &BTreeMap<Rc<str>, ProfileDraft>,
) -> PeerDraft {
    let report = reader.report();
    reader.require("trust", "the name of a [trust.NAME]");
    reader.require("names", NAMES);
    let trust = reader.string("trust");
    let trust = trust.and_then(|trust| refer(report, &trust, "trust", profiles));
    let names = reader.some_parsed("names", NAMES, NamePattern::parse).unwrap_or_default();
    let blocked = reader.any_parsed("blocked", NamePattern::parse);
    let at = reader.at().clone();
    reader.finish();

    for name in &names {
        if let Some(block) = blocked.iter().find(|block| name.value.is_within(&block.value)) {
            let place = report.cite(&block.at);
            let message = "is blocked; take it out of one of the two lists";
            report.error(&name.at, format_args!("\"{}\" {message}: {place}", name.value));
        }
    }
    if let Some(profile) = trust {
        profile.used.set(true);
        refuse_foreign_names(report, &names, profile);
    }
    let set = trust.map(|profile| {
        let values = |names: &[Located<NamePattern>]| {
            names.iter().map(|name| name.value.clone()).collect::<Vec<_>>()
        };
        Arc::new(PeerSet {
            name: Arc::from(name),
            trust: Arc::clone(&profile.profile),
            names: values(&names),
            blocked: values(&blocked),
        })
    });
    PeerDraft { set, at, names, blocked, used: Cell::new(false) }
}

/// Each peer must be one that the profile may vouch for: it could never be admitted otherwise.
fn refuse_foreign_names(
    report: &Report<'_>,
    names: &[Located<NamePattern>],
    profile: &ProfileDraft,
) {
    // Without names of its own the profile is at fault, which has been noted.
    let Some(first) = profile.names.first() else { return };
    for name in names {
        if !profile.names.iter().any(|allowed| name.value.is_within(&allowed.value)) {
            let allowed: Vec<String> =
                profile.names.iter().map(|allowed| format!("\"{}\"", allowed.value)).collect();
            let message = format_args!(
                "\"{}\" is not a name that {} may vouch for; it allows {}",
                name.value,
                report.cite(&first.at),
                allowed.join(", ")
            );
            report.error(&name.at, message);
        }
    }
}
