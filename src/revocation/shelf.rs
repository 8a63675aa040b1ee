//! The verified CRLs of one issuer: of each scope the newest, and the one that comes next.

use std::{cmp::Ordering, sync::Arc};

use rustls_pki_types::UnixTime;

use super::{Crl, Link, Offered, Revocation, Rules, Stale};

/// CRLs of different scopes that one issuer may have: some CAs split theirs into hundreds.
const MAX_SCOPES: usize = 1024;

/// A CRL and where it came from.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) crl: Arc<Crl>,
    pub(super) source: Arc<str>,
}

/// The verified CRLs of an issuer.
#[derive(Debug, Clone, Default)]
pub(super) struct Shelf {
    slots: Vec<Slot>,
}

/// The CRLs of one scope: at least one of the two.
#[derive(Debug, Clone)]
struct Slot {
    current: Option<Held>,
    /// Newer than the current one; its thisUpdate lay in the future when it came.
    next: Option<Held>,
}

impl Slot {
    fn all(&self) -> impl Iterator<Item = &Held> {
        self.current.iter().chain(&self.next)
    }

    fn is_of(&self, crl: &Crl) -> bool {
        self.all().any(|held| held.crl.scope == crl.scope)
    }

    /// Whether the time of the next one has come.
    fn is_due(&self, now: UnixTime) -> bool {
        self.next.as_ref().is_some_and(|next| next.crl.this_update() <= now)
    }

    /// Puts the next one in the place of the current one if its time has come.
    fn advance(&mut self, now: UnixTime) {
        if self.is_due(now) {
            self.current = self.next.take();
        }
    }

    /// The one that counts now, and when another one takes its place.
    fn at(&self, now: UnixTime) -> (Option<&Crl>, Option<UnixTime>) {
        let in_time = |held: &&Held| held.crl.this_update() <= now;
        match self.next.as_ref() {
            Some(next) if in_time(&next) => (Some(&next.crl), None),
            next => {
                let current = self.current.as_ref().filter(in_time);
                (current.map(|held| &*held.crl), next.map(|held| held.crl.this_update()))
            }
        }
    }
}

/// What the CRLs of an issuer say about a certificate.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Revoked(Revocation),
    /// Not revoked, so long.
    Good(Option<UnixTime>),
    /// Not listed, but the CRL is out of date since then.
    Stale(UnixTime),
    /// One speaks for it, but only from then on.
    NotYet(UnixTime),
    /// None speaks for it.
    Silent,
}

impl Shelf {
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Each with whether it is in use.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Held, bool)> {
        self.slots.iter().flat_map(|slot| {
            let current = slot.current.iter().map(|held| (held, true));
            current.chain(slot.next.iter().map(|held| (held, false)))
        })
    }

    /// Drops those whose source `keep` doesn't take.
    pub(super) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        for slot in &mut self.slots {
            slot.current.take_if(|held| !keep(&held.source));
            slot.next.take_if(|held| !keep(&held.source));
        }
        self.slots.retain(|slot| slot.all().next().is_some());
    }

    /// Whether it has this very one.
    pub(super) fn has(&self, crl: &Crl) -> bool {
        self.all().any(|(held, _)| held.crl.digest() == crl.digest())
    }

    /// Whether the time of a CRL has come that waited for it.
    pub(super) fn is_due(&self, now: UnixTime) -> bool {
        self.slots.iter().any(|slot| slot.is_due(now))
    }

    /// Takes the CRLs into use whose time has come.
    pub(super) fn advance(&mut self, now: UnixTime) {
        self.slots.iter_mut().for_each(|slot| slot.advance(now));
    }

    /// Takes a verified CRL, which it hasn't, unless a newer one is there.
    pub(super) fn put(&mut self, held: &Held, now: UnixTime) -> Offered {
        let crl = &held.crl;
        let position = self.slots.iter().position(|slot| slot.is_of(crl));
        let is_due = crl.this_update() <= now;
        let Some(position) = position else {
            if self.slots.len() == MAX_SCOPES {
                let why = format!("its issuer has CRLs of {MAX_SCOPES} other scopes already");
                return Offered::Refused { why };
            }
            let held = Some(held.clone());
            self.slots.push(match is_due {
                true => Slot { current: held, next: None },
                false => Slot { current: None, next: held },
            });
            return taken(crl, is_due);
        };
        let slot = &mut self.slots[position];
        slot.advance(now);
        let is_newer = |there: &Option<Held>| {
            there.as_ref().is_none_or(|there| crl.cmp_age(&there.crl) == Ordering::Greater)
        };
        if is_due {
            if !is_newer(&slot.current) {
                return older(slot.current.as_ref());
            }
            if is_newer(&slot.next) {
                slot.next = None;
            }
            slot.current = Some(held.clone());
        } else {
            let newest = slot.next.as_ref().or(slot.current.as_ref());
            if !is_newer(&slot.current) || !is_newer(&slot.next) {
                return older(newest);
            }
            slot.next = Some(held.clone());
        }
        taken(crl, is_due)
    }

    /// What the CRLs that cover a certificate say. One that lists it outweighs all others, be it
    /// stale or not; then the one that holds longest counts.
    pub(super) fn ask(&self, link: &Link, rules: &Rules, now: UnixTime) -> Answer {
        let mut answer = Answer::Silent;
        for slot in &self.slots {
            let covers = slot.all().next().is_some_and(|held| held.crl.scope.covers(link));
            if !covers {
                continue;
            }
            let (crl, next) = slot.at(now);
            let this = match crl {
                Some(crl) => one(crl, next, link, rules, now),
                None => Answer::NotYet(next.unwrap_or(now)),
            };
            if matches!(this, Answer::Revoked(_)) {
                return this;
            }
            answer = better(answer, this);
        }
        answer
    }
}

/// What one CRL says, which another one will replace then.
fn one(crl: &Crl, next: Option<UnixTime>, link: &Link, rules: &Rules, now: UnixTime) -> Answer {
    if let Some(revocation) = crl.find(&link.serial) {
        return Answer::Revoked(revocation);
    }
    let before_next = next.map(|next| seconds(next.as_secs().saturating_sub(1)));
    let end = seconds(crl.next_update().as_secs().saturating_add(rules.grace.as_secs()));
    match rules.stale {
        Stale::Accept => Answer::Good(before_next),
        Stale::Refuse if now > end => Answer::Stale(crl.next_update()),
        Stale::Refuse => Answer::Good(Some(before_next.map_or(end, |next| next.min(end)))),
    }
}

/// The better founded of two answers, neither of them [`Answer::Revoked`].
fn better(left: Answer, right: Answer) -> Answer {
    match (left, right) {
        (Answer::Good(None), _) | (_, Answer::Good(None)) => Answer::Good(None),
        (Answer::Good(Some(left)), Answer::Good(Some(right))) => {
            Answer::Good(Some(left.max(right)))
        }
        (good @ Answer::Good(_), _) | (_, good @ Answer::Good(_)) => good,
        (Answer::Stale(left), Answer::Stale(right)) => Answer::Stale(left.max(right)),
        (stale @ Answer::Stale(_), _) | (_, stale @ Answer::Stale(_)) => stale,
        (Answer::NotYet(left), Answer::NotYet(right)) => Answer::NotYet(left.min(right)),
        (not_yet @ Answer::NotYet(_), _) | (_, not_yet) => not_yet,
    }
}

fn taken(crl: &Crl, is_due: bool) -> Offered {
    if is_due { Offered::InUse } else { Offered::NotYet { from: crl.this_update() } }
}

fn older(there: Option<&Held>) -> Offered {
    let Some(there) = there else {
        return Offered::Older { why: "a newer one is there".to_owned() };
    };
    let number = there.crl.number().map_or("without a number".to_owned(), |n| format!("0x{n}"));
    Offered::Older {
        why: format!(
            "it is no newer than the CRL {number} from {} (the higher number counts, then the \
             later thisUpdate)",
            there.source
        ),
    }
}

fn seconds(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
}
