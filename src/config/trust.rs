//! `[trust.NAME]`: which CA may vouch for which names.

use std::{cell::Cell, collections::BTreeMap, rc::Rc, sync::Arc};

use super::{
    EkuRule, TrustProfile,
    certificates::{LoadedAnchor, Surroundings, load_anchors},
    conflicts,
    errors::{Located, Place, Report, did_you_mean},
    files::KeyFacts,
    reader::Reader,
    revocation,
};
use crate::name::{NamePattern, PatternIndex};

/// The most intermediates that a profile may allow; the default is in [`read_profile`].
const INTERMEDIATES_MAX: usize = 6;

/// The shortest RSA keys that a profile may allow, and the longest that it may ask for, in bits.
/// The path search verifies with none below or above.
const RSA_BITS_MIN: u16 = 2048;
const RSA_BITS_MAX: u16 = 8192;

/// The curves that a profile may ask for: P-256, P-384 and P-521, by their bits.
const EC_BITS: [u16; 3] = [256, 384, 521];

/// What the lists of names take.
pub(super) const NAMES: &str =
    "at least one name: \"host.example\", \"*.example\", \"spiffe://domain/path\"";

/// How messages show a list of allowed names that is too long to show.
const NAMES_SHOWN: usize = 8;

const ANCHORS: &str = "at least one file with CA certificates, PEM or DER";

/// A profile while the file is walked: it may lack what was wrong.
pub(super) struct ProfileDraft {
    pub(super) profile: Arc<TrustProfile>,
    pub(super) at: Place,
    pub(super) anchors: Vec<LoadedAnchor>,
    pub(super) names: Vec<Located<NamePattern>>,
    /// `names`, to look them up in.
    index: PatternIndex<usize>,
    pub(super) used: Cell<bool>,
}

impl ProfileDraft {
    /// Whether its names are `["*"]`, which is for discovered peers.
    pub(super) fn vouches_for_any(&self) -> bool {
        self.profile.vouches_for_any()
    }

    /// Notes each of a peer set's names that the profile may not vouch for: they could never be
    /// admitted.
    pub(super) fn refuse_foreign(&self, report: &Report<'_>, names: &[Located<NamePattern>]) {
        // Without names of its own the profile is at fault, which has been noted.
        let Some(first) = self.names.first() else { return };
        let place = report.cite(&first.at);
        let foreign = |name: &&Located<_>| self.index.containing(&name.value, Some).is_none();
        for name in names.iter().filter(foreign) {
            let shown = self.names.iter().take(NAMES_SHOWN);
            let mut allowed: Vec<String> =
                shown.map(|allowed| format!("\"{}\"", allowed.value)).collect();
            if self.names.len() > NAMES_SHOWN {
                allowed.push(format!("and {} more", self.names.len() - NAMES_SHOWN));
            }
            let message = format_args!(
                "\"{}\" is not a name that {place} may vouch for; it allows {}",
                name.value,
                allowed.join(", ")
            );
            report.error(&name.at, message);
        }
    }
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
    conflicts::refuse_common_names(around.report, &all);
    conflicts::refuse_common_anchors(around.report, &all);
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
    let report = around.report;
    reader.require("ca", ANCHORS);
    reader.require("names", NAMES);
    let files = reader.some_strings("ca", ANCHORS).unwrap_or_default();
    let anchors: Vec<_> = files.iter().flat_map(|file| load_anchors(around, file)).collect();
    let names = reader.some_parsed("names", NAMES, parse_name).unwrap_or_default();
    refuse_more_than_any(report, &names);
    let eku = reader.word("eku", &RULES).map_or(EkuRule::Client, |rule| rule.value);
    let common_name = reader.boolean("common_name").unwrap_or(false);
    let max_intermediates = reader.integer("max_intermediates", 0..=INTERMEDIATES_MAX);
    let shared = reader.boolean("shared").unwrap_or(false);
    let (min_rsa_bits, min_ec_bits) = read_key_sizes(&mut reader, &anchors);
    let revocation = revocation::read_rules(around, &mut reader, crls);
    let at = reader.at().clone();
    reader.finish();
    let profile = TrustProfile {
        name: Arc::from(name),
        ca: anchors.iter().map(|anchor| anchor.certificate.clone()).collect(),
        names: names.iter().map(|name| name.value.clone()).collect(),
        eku,
        common_name,
        max_intermediates: max_intermediates.unwrap_or(4),
        min_rsa_bits,
        min_ec_bits,
        shared,
        revocation,
    };
    let mut index = PatternIndex::default();
    for (number, name) in names.iter().enumerate() {
        index.insert(&name.value, number);
    }
    let (profile, used) = (Arc::new(profile), Cell::new(false));
    ProfileDraft { profile, at, anchors, names, index, used }
}

fn parse_name(text: &str) -> Result<NamePattern, String> {
    if text == "*" { Ok(NamePattern::ANY_DNS) } else { NamePattern::parse(text) }
}

/// Whoever may vouch for any name needs no other one, and names that aren't DNS names can't be
/// discovered.
fn refuse_more_than_any(report: &Report<'_>, names: &[Located<NamePattern>]) {
    let any = names.iter().find(|name| name.value == NamePattern::ANY_DNS);
    if let Some(any) = any.filter(|_| names.len() > 1) {
        let remedy = "give other names to a profile of their own";
        report.error(&any.at, format_args!("\"*\" is any DNS name and stands alone; {remedy}"));
    }
}

/// `min_rsa_bits` and `min_ec_bits`; the profile's own CAs must have such keys.
fn read_key_sizes(reader: &mut Reader<'_>, anchors: &[LoadedAnchor]) -> (u16, u16) {
    let report = reader.report();
    let rsa = reader.bits("min_rsa_bits", RSA_BITS_MIN..=RSA_BITS_MAX);
    let ec = reader.bits_among("min_ec_bits", &EC_BITS);
    let rsa_bits = rsa.as_ref().map_or(RSA_BITS_MIN, |bits| bits.value);
    let ec_bits = ec.as_ref().map_or(EC_BITS[0], |bits| bits.value);
    for anchor in anchors {
        let (kind, found, least, least_at) = match anchor.facts.key {
            KeyFacts::Rsa(bits) => ("RSA", bits, rsa_bits, &rsa),
            KeyFacts::Ec(bits) => ("EC", bits, ec_bits, &ec),
            KeyFacts::Other => continue,
        };
        if found >= least {
            continue;
        }
        let asks = match least_at {
            Some(bits) => report.cite(&bits.at),
            None => "every profile".to_owned(),
        };
        let (file, subject) = (anchor.certificate.file.display(), &anchor.facts.subject);
        let message = format_args!(
            "{file} ({subject}) has an {kind} key of {found} bits, and {asks} asks for {least}; \
             replace the CA"
        );
        report.error(&anchor.at, message);
    }
    (rsa_bits, ec_bits)
}
