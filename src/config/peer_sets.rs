//! `[peers.NAME]`: who is let in.

use std::{cell::Cell, collections::BTreeMap, rc::Rc, sync::Arc};

use super::{
    Discovered, KeyPin, PeerLimits, PeerSet,
    errors::{Located, Place, Report},
    reader::Reader,
    trust::{NAMES, ProfileDraft, refer},
};
use crate::name::{NamePattern, PatternIndex};

/// The most connections that a peer set may be limited to: more than any host would carry.
const CONNECTIONS_MAX: usize = 10_000_000;

/// The highest rate of handshakes that a peer set may be limited to.
const HANDSHAKES_PER_SECOND_MAX: usize = 1_000_000;

/// A peer set while the file is walked.
pub(super) struct PeerDraft {
    /// `None` if what it needs was wrong, which has been noted.
    pub(super) set: Option<Arc<PeerSet>>,
    pub(super) at: Place,
    pub(super) names: Vec<Located<NamePattern>>,
    pub(super) blocked: Vec<Located<NamePattern>>,
    pub(super) used: Cell<bool>,
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
    let discovered = reader.boolean("discovered").unwrap_or(false);
    let trust = reader.string("trust");
    let trust = trust.and_then(|trust| refer(report, &trust, "trust", profiles));
    let names = if discovered { no_names(&mut reader) } else { read_names(&mut reader) };
    let blocked = reader.any_parsed("blocked", NamePattern::parse);
    let pins = reader.any_parsed("pins", KeyPin::parse);
    let limits = read_limits(&mut reader, discovered);
    refuse_blocked(report, &names, &blocked);
    if let Some(profile) = trust {
        profile.used.set(true);
        if discovered {
            refuse_closed_profile(&mut reader, profile);
        } else if profile.vouches_for_any() {
            refuse_open_profile(&mut reader, profile);
        } else {
            profile.refuse_foreign(report, &names);
        }
        refuse_pins_of_cas(report, &pins, profile);
    }
    let pins = if discovered { no_pins(&mut reader) } else { pins };
    let at = reader.at().clone();
    reader.finish();

    let set = trust.map(|profile| {
        let listed = if discovered { vec![NamePattern::ANY_DNS] } else { values(&names) };
        Arc::new(PeerSet {
            name: Arc::from(name),
            trust: Arc::clone(&profile.profile),
            names: listed,
            blocked: values(&blocked),
            pins: values(&pins),
            limits,
            discovered: discovered.then(|| reserve(profiles)),
        })
    });
    PeerDraft { set, at, names, blocked, used: Cell::new(false) }
}

fn values<T: Clone>(located: &[Located<T>]) -> Vec<T> {
    located.iter().map(|entry| entry.value.clone()).collect()
}

fn read_names(reader: &mut Reader<'_>) -> Vec<Located<NamePattern>> {
    reader.require("names", NAMES);
    let parse = |text: &str| match text {
        "*" => Err("any name is for peers that aren't listed: say discovered = true instead of \
                    names"
            .to_owned()),
        _ => NamePattern::parse(text),
    };
    reader.some_parsed("names", NAMES, parse).unwrap_or_default()
}

/// Whoever is listed isn't discovered.
fn no_names(reader: &mut Reader<'_>) -> Vec<Located<NamePattern>> {
    refuse_beside_discovered(reader, "names");
    Vec::new()
}

/// A peer that nobody has listed has no key that anybody knows.
fn no_pins(reader: &mut Reader<'_>) -> Vec<Located<KeyPin>> {
    refuse_beside_discovered(reader, "pins");
    Vec::new()
}

fn refuse_beside_discovered(reader: &mut Reader<'_>, key: &'static str) {
    if let Some(at) = reader.present(key) {
        let report = reader.report();
        let discovered = reader.present("discovered").map(|at| report.cite(&at));
        let message = format_args!(
            "can't be said beside discovered = true, {}, which is for peers that aren't listed; \
             remove one of the two, or list these peers in a set of their own",
            discovered.unwrap_or_default()
        );
        report.error(&at, message);
    }
}

/// `max_connections` and `max_handshakes_per_second`; who isn't listed has both.
fn read_limits(reader: &mut Reader<'_>, discovered: bool) -> PeerLimits {
    if discovered {
        const WHY: &str = "peers that aren't listed are admitted within limits";
        reader.require("max_connections", &format!("an integer: {WHY}"));
        reader.require("max_handshakes_per_second", &format!("an integer: {WHY}"));
    }
    let max_connections = reader.integer("max_connections", 1..=CONNECTIONS_MAX);
    let rate = reader.integer("max_handshakes_per_second", 1..=HANDSHAKES_PER_SECOND_MAX);
    let max_handshakes_per_second = rate.and_then(|rate| u32::try_from(rate).ok());
    PeerLimits { max_connections, max_handshakes_per_second }
}

/// A name can't be let in and kept out at once.
fn refuse_blocked(
    report: &Report<'_>,
    names: &[Located<NamePattern>],
    blocked: &[Located<NamePattern>],
) {
    let mut blocks = PatternIndex::default();
    for block in blocked {
        blocks.insert(&block.value, &block.at);
    }
    for name in names {
        if let Some(block) = blocks.containing(&name.value, Some) {
            let place = report.cite(block);
            let message = "is blocked; take it out of one of the two lists";
            report.error(&name.at, format_args!("\"{}\" {message}: {place}", name.value));
        }
    }
}

/// Discovered peers need a profile that may vouch for whoever it is.
fn refuse_closed_profile(reader: &mut Reader<'_>, profile: &ProfileDraft) {
    // Without names of its own the profile is at fault, which has been noted.
    let Some(first) = profile.names.first().filter(|_| !profile.vouches_for_any()) else { return };
    let report = reader.report();
    let message = format_args!(
        "found true, but {} lists names; discovered peers need a profile whose names are [\"*\"]",
        report.cite(&first.at)
    );
    if let Some(at) = reader.present("discovered") {
        report.error(&at, message);
    }
}

/// Listed peers would get a CA that may vouch for anybody.
fn refuse_open_profile(reader: &mut Reader<'_>, profile: &ProfileDraft) {
    let report = reader.report();
    if let (Some(at), Some(any)) = (reader.present("trust"), profile.names.first()) {
        let message = format_args!(
            "{} is [\"*\"], which is for discovered peers alone; give these peers a profile with \
             names, or say discovered = true",
            report.cite(&any.at)
        );
        report.error(&at, message);
    }
}

/// A pin is compared with the peer's own key; that of its CA would never fit.
fn refuse_pins_of_cas(report: &Report<'_>, pins: &[Located<KeyPin>], profile: &ProfileDraft) {
    if pins.is_empty() {
        return;
    }
    for anchor in &profile.anchors {
        let pin = KeyPin::of(&anchor.facts.spki);
        for pin in pins.iter().filter(|found| found.value == pin) {
            let message = format_args!(
                "{} is the key of the CA {}, {}; give that of the peer's own certificate",
                pin.value,
                anchor.facts.subject,
                report.cite(&anchor.at)
            );
            report.error(&pin.at, message);
        }
    }
}

/// The profiles whose names are none of a discovered peer's.
fn reserve(profiles: &BTreeMap<Rc<str>, ProfileDraft>) -> Discovered {
    let others = profiles.values().filter(|other| !other.vouches_for_any());
    // What keeps its names from others has its use.
    let others = others.inspect(|other| other.used.set(true));
    Discovered { reserved: others.map(|other| Arc::clone(&other.profile)).collect() }
}
