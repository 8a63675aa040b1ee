//! The CRLs of one trust profile: who is known, what waits, and the answers.

use std::{
    collections::{BTreeSet, HashMap},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwap;
use rustls_pki_types::UnixTime;

use super::{
    Crl, CrlState, CrlStatus, IssuerId, Link, Mode, Offered, Problem, Rules, Verdict,
    shelf::{Answer, Held, Shelf},
    verify::PublicKey,
    waiting::WaitingRoom,
};

/// Issuers that a store knows: a profile's CAs and the intermediate ones that clients showed. A CA
/// of the profile that issues more of them has none of its own to spare.
const MAX_ISSUERS: usize = 1024;

/// Issuers of one name: so many signatures are verified, at most, to find whose a CRL is, and
/// whoever learns of an issuer waits for them.
const MAX_ISSUERS_OF_A_NAME: usize = 64;

/// Distribution points that are remembered until somebody takes them.
const MAX_WANTED: usize = 256;

/// Bytes of a distribution point that is remembered.
const MAX_WANTED_BYTES: usize = 2048;

/// The CRLs of one trust profile, shared by all threads.
#[derive(Debug)]
pub struct Store {
    rules: Rules,
    known: ArcSwap<Known>,
    /// Held by whoever changes `known`; never to answer.
    waiting: Mutex<WaitingRoom>,
    wanted: Mutex<BTreeSet<Box<str>>>,
}

/// What answers are made of.
#[derive(Debug, Clone, Default)]
struct Known {
    epoch: u64,
    issuers: HashMap<IssuerId, Arc<Issuer>>,
}

/// A CA.
#[derive(Debug, Clone)]
struct Issuer {
    name: Box<[u8]>,
    /// `None` if it can't be read.
    key: Option<PublicKey>,
    may_sign_crls: bool,
    shelf: Shelf,
}

impl Store {
    /// An empty one.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            known: ArcSwap::default(),
            waiting: Mutex::default(),
            wanted: Mutex::default(),
        }
    }

    /// A store for the next configuration of the same profile: it knows every CA that this one
    /// knows, and those CRLs that came from a source that `keep` takes. What was verified isn't
    /// verified again: a CA is its name and key, so that what it signed stays its own.
    pub fn successor(&self, rules: Rules, keep: impl Fn(&str) -> bool) -> Self {
        let waiting = lock(&self.waiting);
        let mut known = Known::clone(&self.known.load());
        for issuer in known.issuers.values_mut() {
            if issuer.shelf.all().any(|(held, _)| !keep(&held.source)) {
                Arc::make_mut(issuer).shelf.retain(&keep);
            }
        }
        known.epoch += 1;
        Self {
            rules,
            known: ArcSwap::from_pointee(known),
            waiting: Mutex::new(waiting.of_sources(keep)),
            wanted: Mutex::default(),
        }
    }

    /// Whether it knows that CA.
    pub fn knows(&self, issuer: &IssuerId) -> bool {
        self.known.load().issuers.contains_key(issuer)
    }

    /// Gets to know the CAs that `other` knows, as far as there is room; their CRLs not.
    pub fn learn_from(&self, other: &Self) {
        let mut waiting = lock(&self.waiting);
        let mut known = Known::clone(&self.known.load());
        for (id, theirs) in &other.known.load().issuers {
            if known.issuers.len() < MAX_ISSUERS && !known.issuers.contains_key(id) {
                let mut issuer = Issuer { shelf: Shelf::default(), ..Issuer::clone(theirs) };
                issuer.adopt(&mut waiting);
                known.issuers.insert(*id, Arc::new(issuer));
            }
        }
        self.publish(known);
    }

    /// The rules by which it answers.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Gets to know a CA whose key is proved: a CA of the profile, or an intermediate one of a path
    /// whose signatures verified. `name` is its whole subject in DER, `spki` its whole
    /// SubjectPublicKeyInfo; `may_sign_crls` is false if its certificate has a keyUsage without
    /// cRLSign (RFC 5280 §4.2.1.3). CRLs that wait for it are verified now, up to 256.
    ///
    /// Cheap, and without a lock, once it is known. If another certificate of it says that it may
    /// sign CRLs, it may. With [`Mode::Off`] it learns too, for the store that comes after it.
    pub fn learn(&self, name: &[u8], spki: &[u8], may_sign_crls: bool) -> IssuerId {
        let id = IssuerId::of(name, spki);
        let is_known = |known: &Known| {
            known.issuers.get(&id).is_some_and(|issuer| issuer.may_sign_crls || !may_sign_crls)
        };
        if is_known(&self.known.load()) {
            return id;
        }
        let mut waiting = lock(&self.waiting);
        let mut known = Known::clone(&self.known.load());
        // Somebody else may have been faster.
        if is_known(&known) {
            return id;
        }
        let mut issuer = match known.issuers.get(&id) {
            Some(issuer) => Issuer::clone(issuer),
            None if known.issuers.len() == MAX_ISSUERS => return id,
            None if known.of_name(name).count() == MAX_ISSUERS_OF_A_NAME => return id,
            None => Issuer {
                name: name.into(),
                key: PublicKey::parse(spki),
                may_sign_crls: false,
                shelf: Shelf::default(),
            },
        };
        issuer.may_sign_crls |= may_sign_crls;
        issuer.adopt(&mut waiting);
        known.issuers.insert(id, Arc::new(issuer));
        self.publish(known);
        id
    }

    /// Takes CRLs from one source, a file or a URL; says what became of each, in their order. Those
    /// whose issuer isn't known wait for it. None ever replaces a newer one.
    pub fn offer(&self, source: &str, crls: Vec<Arc<Crl>>, now: UnixTime) -> Vec<Offered> {
        let source: Arc<str> = source.into();
        let held = |crl| Held { crl, source: Arc::clone(&source) };
        crls.into_iter().map(|crl| self.offer_one(&held(crl), now)).collect()
    }

    /// Whoever learns of an issuer meanwhile waits for one signature, and not for a whole file.
    fn offer_one(&self, held: &Held, now: UnixTime) -> Offered {
        let mut waiting = lock(&self.waiting);
        let mut known = Known::clone(&self.known.load());
        let offered = known.place(held, &mut waiting, now);
        if matches!(offered, Offered::InUse | Offered::NotYet { .. }) {
            self.publish(known);
        }
        offered
    }

    /// Notes which CRLs are in use whose thisUpdate lay in the future when they were offered. They
    /// count in answers without this; only the [epoch](Self::epoch) doesn't tell of them before.
    pub fn advance(&self, now: UnixTime) {
        let is_due = |issuer: &Arc<Issuer>| issuer.shelf.is_due(now);
        if !self.known.load().issuers.values().any(is_due) {
            return;
        }
        let _changing = lock(&self.waiting);
        let mut known = Known::clone(&self.known.load());
        for issuer in known.issuers.values_mut().filter(|issuer| is_due(issuer)) {
            Arc::make_mut(issuer).shelf.advance(now);
        }
        self.publish(known);
    }

    /// Changes whenever an answer may have changed for another reason than time. Who keeps an answer
    /// reads this first and asks then, so that no change in between is missed.
    pub fn epoch(&self) -> u64 {
        self.known.load().epoch
    }

    /// Asks about every certificate of a verified path, from the peer's own upwards; the anchor is
    /// none of them. A revoked one outweighs all else, then the first doubt counts. With
    /// [`Mode::Off`] everything is good. Waits for no lock.
    pub fn check(&self, links: &[Link], now: UnixTime) -> Verdict {
        if self.rules.mode == Mode::Off {
            return Verdict::Good { until: None };
        }
        let known = self.known.load();
        let mut until: Option<UnixTime> = None;
        let mut doubt = None;
        for (link, asked) in links.iter().enumerate() {
            match self.ask(&known, asked, now) {
                Ok(Answer::Revoked(revocation)) => {
                    let (at, reason) = (revocation.at, revocation.reason);
                    return Verdict::Bad(Problem::Revoked { link, at, reason });
                }
                Ok(Answer::Good(end)) => {
                    until = [until, end].into_iter().flatten().min();
                }
                Ok(Answer::Stale(since)) => {
                    self.want(asked);
                    doubt.get_or_insert(Problem::Stale { link, since });
                }
                Ok(Answer::NotYet(from)) => {
                    let why = format!(
                        "the CRL of its issuer isn't in use before its thisUpdate, {} seconds from \
                         now; look at the clocks",
                        from.as_secs().saturating_sub(now.as_secs())
                    );
                    doubt.get_or_insert(Problem::Unknown { link, why });
                }
                Ok(Answer::Silent) => {
                    self.want(asked);
                    if self.rules.mode == Mode::Require {
                        let why = self.why_silent(&known, asked);
                        doubt.get_or_insert(Problem::Unknown { link, why });
                    }
                }
                Err(why) => {
                    doubt.get_or_insert(Problem::Unknown { link, why: why.to_owned() });
                }
            }
        }
        doubt.map_or(Verdict::Good { until }, Verdict::Bad)
    }

    /// Every CRL, in use or waiting.
    pub fn status(&self) -> Vec<CrlStatus> {
        let status = |held: &Held, state| CrlStatus {
            crl: Arc::clone(&held.crl),
            source: Arc::clone(&held.source),
            state,
        };
        // In this order: a CRL that is being adopted shows in one place or the other.
        let waiting = lock(&self.waiting);
        let known = self.known.load();
        let mut all: Vec<CrlStatus> = known
            .issuers
            .values()
            .flat_map(|issuer| issuer.shelf.all())
            .map(|(held, in_use)| {
                status(held, if in_use { CrlState::InUse } else { CrlState::NotYet })
            })
            .chain(waiting.all().map(|held| status(held, CrlState::Waiting)))
            .collect();
        all.sort_by(|left, right| {
            let key =
                |status: &CrlStatus| (status.crl.issuer().to_owned(), Arc::clone(&status.source));
            key(left).cmp(&key(right))
        });
        all
    }

    /// The distribution points of certificates for which [`check`](Self::check) had no CRL, or a
    /// stale one, since the last call.
    pub fn take_wanted(&self) -> Vec<Box<str>> {
        mem::take(&mut *lock(&self.wanted)).into_iter().collect()
    }

    fn ask(&self, known: &Known, link: &Link, now: UnixTime) -> Result<Answer, &'static str> {
        match known.issuers.get(&link.issuer) {
            Some(issuer) => Ok(issuer.shelf.ask(link, &self.rules, now)),
            None if known.issuers.len() == MAX_ISSUERS => Err(
                "no more issuers are kept, and its own is none of them; the CAs of this profile \
                 have issued to too many others",
            ),
            None => Err("its issuer isn't known, or too many other CAs have its name"),
        }
    }

    /// Why no CRL speaks for a certificate whose issuer is known.
    fn why_silent(&self, known: &Known, link: &Link) -> String {
        let Some(issuer) = known.issuers.get(&link.issuer) else {
            return "its issuer isn't known".to_owned();
        };
        if issuer.key.is_none() {
            return "the key of its issuer can't be read".to_owned();
        }
        if !issuer.may_sign_crls {
            return "the keyUsage of its issuer has no cRLSign, so that no CRL can be verified with \
                    its key"
                .to_owned();
        }
        if !issuer.shelf.is_empty() {
            return "no CRL of its issuer covers it: their issuing distribution points are for \
                    others"
                .to_owned();
        }
        let waiting = self.waiting.try_lock();
        let forged = waiting.as_ref().ok().and_then(|waiting| waiting.of_name(&issuer.name).next());
        match forged {
            Some(forged) => format!(
                "there is no CRL of its issuer; the one from {} has its name, but isn't signed with \
                 its key",
                forged.source
            ),
            None => "there is no CRL of its issuer".to_owned(),
        }
    }

    /// Notes where a CRL could be had, unless somebody is at it just now.
    fn want(&self, link: &Link) {
        let Ok(mut wanted) = self.wanted.try_lock() else { return };
        for point in &link.distribution_points {
            let has_room = wanted.len() < MAX_WANTED && point.len() <= MAX_WANTED_BYTES;
            if has_room && !wanted.contains(point) {
                wanted.insert(point.clone());
            }
        }
    }

    /// Only ever called with the lock of `waiting`.
    fn publish(&self, mut known: Known) {
        known.epoch += 1;
        self.known.store(Arc::new(known));
    }
}

impl Known {
    fn of_name(&self, name: &[u8]) -> impl Iterator<Item = &Arc<Issuer>> {
        self.issuers.values().filter(move |issuer| *issuer.name == *name)
    }

    /// Puts a CRL where it belongs.
    fn place(&mut self, held: &Held, waiting: &mut WaitingRoom, now: UnixTime) -> Offered {
        let crl = &held.crl;
        if let Some(offered) = waiting.find(crl) {
            return offered;
        }
        let mut failed = 0;
        for issuer in self.issuers.values_mut().filter(|it| it.name == crl.issuer) {
            let Some(key) = issuer.key.as_ref().filter(|_| issuer.may_sign_crls) else { continue };
            if issuer.shelf.has(crl) {
                return Offered::Same;
            }
            if crl.signed.is_by(key) {
                return Arc::make_mut(issuer).shelf.put(held, now);
            }
            failed += 1;
        }
        waiting.add(held.clone(), failed, now)
    }
}

impl Issuer {
    /// Takes those of the waiting CRLs that are its own. One that is older than another is dropped.
    fn adopt(&mut self, waiting: &mut WaitingRoom) {
        let Some(key) = self.key.as_ref().filter(|_| self.may_sign_crls) else { return };
        for (held, since) in waiting.take_signed_by(&self.name, key) {
            self.shelf.put(&held, since);
        }
    }
}

/// A thread that panicked with it has left no half of a change: each is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
