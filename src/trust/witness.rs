//! Who watches a decision: nobody on the data path, a [`Trail`] when it has to be explained.
//!
//! The decision is one piece of code, written for any witness. [`Unseen`] is empty and its methods
//! do nothing, so that the compiler leaves nothing of them; the words of a step are only put
//! together for a witness that keeps them.

use std::cell::RefCell;

use serde::Serialize;

use super::{Refusal, Refused, judge::Objection};

macro_rules! checks {
    ($($(#[$doc:meta])* $variant:ident => $word:literal, $title:literal;)*) => {
        /// What is looked at. The words are stable: they are the `check` of `explain --json`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
        pub enum Check {
            $($(#[$doc])* #[serde(rename = $word)] $variant,)*
        }

        impl Check {
            /// All of them, in the order in which a decision comes to them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The word for machines.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }

            /// The words for people.
            pub const fn title(self) -> &'static str {
                match self {
                    $(Self::$variant => $title,)*
                }
            }
        }
    };
}

checks! {
    /// Whether a certificate was shown, where the listener requires one.
    Certificate => "certificate", "certificate";
    /// How many certificates, and how many bytes.
    Size => "size", "size of the chain";
    /// Whether all certificates can be read, and don't make the search for a path branch.
    Form => "form", "form of the chain";
    /// Names that are refused before all else.
    Blocked => "blocked", "blocked names";
    /// The kind and size of the client's own key.
    Key => "key", "own key";
    /// Whether the client's own certificate allows digitalSignature.
    KeyUsage => "key_usage", "own key usage";
    /// Whether a path leads to a CA of the listener's.
    Search => "search", "search for a path";
    /// Whether the intermediate certificates of a path allow keyCertSign.
    IssuerKeyUsage => "issuer_key_usage", "issuers' key usage";
    /// Whether another peer set of the profile lists a name more narrowly.
    Narrowest => "narrowest", "narrowest entry";
    /// Whether a peer has a name of another profile, for which its CA doesn't vouch.
    Reserved => "reserved", "names of other profiles";
    /// How many intermediate certificates a path has.
    Length => "length", "length of the path";
    /// What the extended key usages of a path leave.
    Purpose => "purpose", "extended key usage";
    /// Whether a listed common name goes round name constraints.
    NameConstraints => "name_constraints", "name constraints";
    /// Whether every key of a path, the CA's included, is as long as the profile asks for.
    KeySize => "key_size", "sizes of keys";
    /// Whether the client has a key that its peer set pins.
    Pin => "pin", "pinned keys";
    /// Whether every certificate of a path, the CA's included, is valid at the time.
    Validity => "validity", "validity";
    /// Whether a CA of a path has revoked a certificate of it.
    Revocation => "revocation", "revocation";
}

/// A certificate as a path refers to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Link {
    /// Its subject, in the form of [`Identity::subject`](super::Identity::subject).
    pub subject: String,
    /// SHA-256 of its DER, in lower-case hexadecimal digits.
    pub fingerprint: String,
}

/// One step of a decision, in the order in which it was taken. What follows a [`Path`](Self::Path)
/// is about that path, what follows a [`Rule`](Self::Rule) about that rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// Something was looked at.
    Check {
        /// What.
        check: Check,
        /// Whether it was good.
        passed: bool,
        /// What was found.
        detail: String,
    },
    /// A path was found whose signatures, validity and constraints hold.
    Path {
        /// From the client's own certificate to the last one before the anchor.
        certificates: Vec<Link>,
        /// The subject of the anchor.
        anchor: String,
        /// The trust profiles of the listener that the anchor belongs to.
        profiles: Vec<String>,
    },
    /// A peer set was looked at.
    Rule {
        /// NAME of the `[peers.NAME]`.
        peers: String,
        /// NAME of its `[trust.NAME]`.
        profile: String,
        /// Whether the path's CA is one of that profile's. If it isn't, the rule has no say.
        bound: bool,
    },
    /// A name of the client's was looked up in the peer set.
    Name {
        /// The name.
        name: String,
        /// The entry of the profile's `names` by which its CAs may vouch for it.
        vouched_for: Option<String>,
        /// The entry of the peer set that lists it.
        listed: Option<String>,
    },
    /// No peer set lists the client; this is what is nearest to one of its names.
    Nearest {
        /// The listed name.
        listed: String,
        /// NAME of the `[peers.NAME]` that lists it.
        peers: String,
    },
    /// The path isn't admitted, and the search goes on.
    SetAside {
        /// Why.
        reason: Refusal,
        /// Why, in words.
        detail: String,
        /// Whether it tells more than all objections before it, so that it is the refusal unless
        /// another path is admitted or tells still more.
        most_telling: bool,
    },
}

impl Step {
    /// A check that failed.
    pub(super) fn failed(check: Check, why: &impl Why) -> Self {
        Self::Check { check, passed: false, detail: why.why().to_owned() }
    }
}

/// Watches a decision.
pub(super) trait Witness {
    /// Whether it keeps what it is told.
    fn is_watching(&self) -> bool;

    /// Takes note of a step, which is only made for a witness that keeps it.
    fn note(&self, step: impl FnOnce() -> Step);

    /// Takes note of the result of a check, and hands it on as it is.
    fn check<T, E: Why>(
        &self,
        check: Check,
        result: Result<T, E>,
        found: impl FnOnce(&T) -> String,
    ) -> Result<T, E> {
        self.note(|| match &result {
            Ok(good) => Step::Check { check, passed: true, detail: found(good) },
            Err(bad) => Step::failed(check, bad),
        });
        result
    }

    /// The same for a check that is worth a step only if it fails.
    fn check_if_bad<T, E: Why>(&self, check: Check, result: Result<T, E>) -> Result<T, E> {
        if let Err(bad) = &result {
            self.note(|| Step::failed(check, bad));
        }
        result
    }
}

/// What a check failed for.
pub(super) trait Why {
    /// In words.
    fn why(&self) -> &str;
}

impl Why for Refused {
    fn why(&self) -> &str {
        &self.detail
    }
}

impl Why for Objection {
    fn why(&self) -> &str {
        self.detail()
    }
}

/// Nobody watches: the data path.
pub(super) struct Unseen;

impl Witness for Unseen {
    #[inline(always)]
    fn is_watching(&self) -> bool {
        false
    }

    #[inline(always)]
    fn note(&self, _: impl FnOnce() -> Step) {}
}

/// Keeps every step.
#[derive(Default)]
pub(super) struct Trail(RefCell<Vec<Step>>);

impl Trail {
    pub(super) fn into_steps(self) -> Vec<Step> {
        self.0.into_inner()
    }
}

impl Witness for Trail {
    fn is_watching(&self) -> bool {
        true
    }

    fn note(&self, step: impl FnOnce() -> Step) {
        // Made first: a step that is put together must not find the list borrowed.
        let step = step();
        self.0.borrow_mut().push(step);
    }
}
