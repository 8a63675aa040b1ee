//! CRLs that no known key verifies, kept until their issuer is known.
//!
//! Nobody has vouched for them: whoever answers for an HTTP server may have made them. So the room
//! is bounded in number and memory, one source gets half of it at most, and nothing here can push
//! out what came from elsewhere.

use rustls_pki_types::UnixTime;

use super::{Crl, Offered, shelf::Held, verify::PublicKey};

/// CRLs that wait, in all.
const MAX_WAITING: usize = 2048;

/// Bytes of memory that they take: a dozen with a million entries each.
const MAX_WAITING_BYTES: usize = 384 * 1024 * 1024;

/// CRLs that wait for an issuer of one name: so many signatures are verified when it gets known, by
/// the worker that learns of it. 11 ms with ECDSA on P-256.
const MAX_WAITING_OF_A_NAME: usize = 256;

/// CRLs of one source, name and scope that wait.
const MAX_WAITING_OF_A_KIND: usize = 4;

/// Of each limit, what one source may use.
const SHARE_OF_A_SOURCE: usize = 2;

/// The CRLs that wait, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct WaitingRoom {
    entries: Vec<Waiting>,
}

#[derive(Debug, Clone)]
struct Waiting {
    held: Held,
    /// Keys that didn't verify it: of its issuer's name, and allowed to sign CRLs.
    failed: usize,
    /// When it was offered.
    since: UnixTime,
}

impl WaitingRoom {
    pub(super) fn all(&self) -> impl Iterator<Item = &Held> {
        self.entries.iter().map(|waiting| &waiting.held)
    }

    /// Those that say that an issuer of this name signed them.
    pub(super) fn of_name(&self, name: &[u8]) -> impl Iterator<Item = &Held> {
        self.all().filter(move |held| *held.crl.issuer == *name)
    }

    /// A room with those whose source `keep` takes.
    pub(super) fn of_sources(&self, keep: impl Fn(&str) -> bool) -> Self {
        let kept = self.entries.iter().filter(|waiting| keep(&waiting.held.source));
        Self { entries: kept.cloned().collect() }
    }

    /// What was said about this very CRL, if it waits here: nothing is verified twice.
    pub(super) fn find(&self, crl: &Crl) -> Option<Offered> {
        let is_it = |waiting: &&Waiting| waiting.held.crl.digest() == crl.digest();
        self.entries.iter().find(is_it).map(Waiting::as_offered)
    }

    /// Keeps a CRL that so many keys failed to verify. Of those of its kind the first stays, which
    /// may be the last good one, and the latest.
    pub(super) fn add(&mut self, held: Held, failed: usize, since: UnixTime) -> Offered {
        let alike: Vec<usize> = (0..self.entries.len())
            .filter(|&position| self.entries[position].held.is_alike(&held))
            .collect();
        let replaced = (alike.len() >= MAX_WAITING_OF_A_KIND).then(|| alike[1]);
        let removed = replaced.map(|position| (position, self.entries.remove(position)));
        if let Some(why) = self.reached_limit(&held) {
            if let Some((position, waiting)) = removed {
                self.entries.insert(position, waiting);
            }
            return Offered::Refused { why };
        }
        let waiting = Waiting { held, failed, since };
        let offered = waiting.as_offered();
        self.entries.push(waiting);
        offered
    }

    /// Removes and returns what this key signed, with the time at which it was offered.
    pub(super) fn take_signed_by(&mut self, name: &[u8], key: &PublicKey) -> Vec<(Held, UnixTime)> {
        let signed = |waiting: &mut Waiting| {
            let is_of_name = *waiting.held.crl.issuer == *name;
            let is_signed = is_of_name && waiting.held.crl.signed.is_by(key);
            waiting.failed += usize::from(is_of_name && !is_signed);
            is_signed
        };
        self.entries.extract_if(.., signed).map(|waiting| (waiting.held, waiting.since)).collect()
    }

    /// The limit that one more would exceed.
    fn reached_limit(&self, held: &Held) -> Option<String> {
        let exceeds = |count: &dyn Fn(&Held) -> usize, limit: usize| {
            let of_source = |there: &&Held| there.source == held.source;
            let all: usize = self.all().map(count).sum();
            let of_source: usize = self.all().filter(of_source).map(count).sum();
            let one = count(held);
            all + one > limit || of_source + one > limit / SHARE_OF_A_SOURCE
        };
        let bytes = |it: &Held| it.crl.memory_bytes();
        let of_name = |it: &Held| usize::from(it.crl.issuer == held.crl.issuer);
        if exceeds(&|_| 1, MAX_WAITING) {
            Some(
                "too many CRLs wait for their issuers already, in all or of this source".to_owned(),
            )
        } else if exceeds(&bytes, MAX_WAITING_BYTES) {
            Some("CRLs that wait for their issuers take too much memory already".to_owned())
        } else if exceeds(&of_name, MAX_WAITING_OF_A_NAME) {
            Some(format!("too many CRLs wait for the issuer {} already", held.crl.issuer()))
        } else {
            None
        }
    }
}

impl Held {
    fn is_alike(&self, other: &Self) -> bool {
        self.source == other.source
            && self.crl.issuer == other.crl.issuer
            && self.crl.scope == other.crl.scope
    }
}

impl Waiting {
    fn as_offered(&self) -> Offered {
        let issuer = self.held.crl.issuer();
        match self.failed {
            0 => Offered::Waiting {
                why: format!(
                    "no CA named {issuer} that may sign CRLs is known yet: neither one of the \
                     profile, nor an intermediate one that a client has shown"
                ),
            },
            failed => Offered::Unverified {
                why: format!(
                    "its signature doesn't verify with the key of {issuer} ({failed} tried); it is \
                     forged, or of another CA with this name{}",
                    match self.held.crl.authority_key_id() {
                        Some(id) => format!(", whose key has the identifier {id}"),
                        None => String::new(),
                    }
                ),
            },
        }
    }
}
