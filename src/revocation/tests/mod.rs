//! CRLs as CAs issue them, and some that none should.

mod answers;
mod index;
mod newest;
mod openssl;
mod reading;
mod scopes;
mod signatures;

use std::{sync::Arc, time::Duration};

use rcgen::{KeyPair, PublicKeyData, SigningKey};
use rustls_pki_types::{UnixTime, alg_id};
use time::{OffsetDateTime, macros::format_description};

use super::*;

/// 2030-01-01
const NOW: u64 = 1_893_456_000;
const DAY: u64 = 86_400;

/// What is said of a certificate whose issuer the store doesn't know.
const UNKNOWN: &str = "its issuer isn't known, or too many other CAs have its name";

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// One element in DER.
fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = value.len().to_be_bytes();
    let significant = &length[length.iter().position(|byte| *byte != 0).unwrap_or(7)..];
    if value.len() >= 0x80 {
        out.push(0x80 | u8::try_from(significant.len()).unwrap());
    }
    out.extend_from_slice(significant);
    out.extend_from_slice(value);
    out
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

/// An INTEGER that isn't negative.
fn integer(octets: &[u8]) -> Vec<u8> {
    let start = octets.iter().position(|octet| *octet != 0).unwrap_or(octets.len() - 1);
    let sign: &[u8] = if octets[start] >= 0x80 { &[0] } else { &[] };
    tlv(0x02, &[sign, &octets[start..]].concat())
}

fn number(number: u64) -> Vec<u8> {
    integer(&number.to_be_bytes())
}

/// A GeneralizedTime.
fn generalized(seconds: u64) -> Vec<u8> {
    let format = format_description!("[year][month][day][hour][minute][second]Z");
    let time = OffsetDateTime::from_unix_timestamp(seconds.try_into().unwrap()).unwrap();
    tlv(0x18, time.format(format).unwrap().as_bytes())
}

fn extension(id: &[u8], is_critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if is_critical { &[0x01, 0x01, 0xff] } else { &[] };
    sequence(&[&tlv(0x06, id), critical, &tlv(0x04, value)])
}

/// id-ce (2.5.29) and one arc more.
fn standard(arc: u8, is_critical: bool, value: &[u8]) -> Vec<u8> {
    extension(&[0x55, 0x1d, arc], is_critical, value)
}

fn crl_number(value: u64) -> Vec<u8> {
    standard(20, false, &number(value))
}

/// An entry with these extensions.
fn entry(serial: &[u8], extensions: &[Vec<u8>]) -> Vec<u8> {
    let extensions = match extensions {
        [] => Vec::new(),
        some => sequence(&[&some.concat()]),
    };
    sequence(&[&integer(serial), &generalized(NOW - 2 * DAY), &extensions])
}

fn reason(code: u8) -> Vec<u8> {
    standard(21, false, &tlv(0x0a, &[code]))
}

/// A CA: a name and a key for ECDSA on P-256.
struct Ca {
    name: Vec<u8>,
    key: KeyPair,
}

impl Ca {
    fn new(name: &str) -> Self {
        Self { name: Self::name(name), key: KeyPair::generate().unwrap() }
    }

    /// A Name of one common name.
    fn name(name: &str) -> Vec<u8> {
        let attribute = sequence(&[&tlv(0x06, &[0x55, 0x04, 0x03]), &tlv(0x0c, name.as_bytes())]);
        sequence(&[&tlv(0x31, &attribute)])
    }

    fn spki(&self) -> Vec<u8> {
        self.key.subject_public_key_info()
    }

    fn id(&self) -> IssuerId {
        IssuerId::of(&self.name, &self.spki())
    }

    fn learned_by(&self, store: &Store) -> IssuerId {
        store.learn(&self.name, &self.spki(), true)
    }

    fn link(&self, serial: u64) -> Link {
        Link {
            issuer: self.id(),
            serial: serial.to_be_bytes().into(),
            is_ca: false,
            distribution_points: Box::default(),
        }
    }

    fn crl(&self, number: u64, revoked: &[u64]) -> Arc<Crl> {
        Draft::new(number, revoked).signed_by(self)
    }
}

/// A CRL before it is signed; each part is whole DER.
#[derive(Clone)]
struct Draft {
    version: Vec<u8>,
    /// Contents of the two AlgorithmIdentifiers.
    algorithms: [Vec<u8>; 2],
    this_update: Vec<u8>,
    next_update: Vec<u8>,
    entries: Vec<Vec<u8>>,
    extensions: Vec<Vec<u8>>,
}

impl Draft {
    /// One that is in use for a day before and after [`NOW`].
    fn new(number: u64, revoked: &[u64]) -> Self {
        Self {
            version: vec![0x02, 0x01, 0x01],
            algorithms: [alg_id::ECDSA_SHA256.to_vec(), alg_id::ECDSA_SHA256.to_vec()],
            this_update: generalized(NOW - DAY),
            next_update: generalized(NOW + DAY),
            entries: revoked.iter().map(|serial| entry(&serial.to_be_bytes(), &[])).collect(),
            extensions: vec![crl_number(number)],
        }
    }

    fn times(mut self, this_update: u64, next_update: u64) -> Self {
        self.this_update = generalized(this_update);
        self.next_update = generalized(next_update);
        self
    }

    fn with(mut self, extension: Vec<u8>) -> Self {
        self.extensions.push(extension);
        self
    }

    fn entry(mut self, entry: Vec<u8>) -> Self {
        self.entries.push(entry);
        self
    }

    fn der(&self, name: &[u8], sign: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
        let entries = match &self.entries[..] {
            [] => Vec::new(),
            some => sequence(&[&some.concat()]),
        };
        let extensions = match &self.extensions[..] {
            [] => Vec::new(),
            some => tlv(0xa0, &sequence(&[&some.concat()])),
        };
        let signed = sequence(&[
            &self.version,
            &sequence(&[&self.algorithms[0]]),
            name,
            &self.this_update,
            &self.next_update,
            &entries,
            &extensions,
        ]);
        let signature = [&[0], &*sign(&signed)].concat();
        sequence(&[&signed, &sequence(&[&self.algorithms[1]]), &tlv(0x03, &signature)])
    }

    fn der_by(&self, ca: &Ca) -> Vec<u8> {
        self.der(&ca.name, |signed| ca.key.sign(signed).unwrap())
    }

    fn signed_by(&self, ca: &Ca) -> Arc<Crl> {
        Arc::new(Crl::parse(&self.der_by(ca)).unwrap())
    }

    fn refused(&self) -> CrlError {
        Crl::parse(&self.der(&Ca::name("Contoso Root"), |_| vec![1; 64])).unwrap_err()
    }
}

fn required() -> Store {
    Store::new(Rules { mode: Mode::Require, ..Rules::default() })
}

/// The fate of a single CRL.
fn offer(store: &Store, source: &str, crl: &Arc<Crl>) -> Offered {
    let mut offered = store.offer(source, vec![Arc::clone(crl)], at(NOW));
    assert_eq!(offered.len(), 1);
    offered.remove(0)
}

fn is_good(store: &Store, link: Link) -> bool {
    matches!(store.check(&[link], at(NOW)), Verdict::Good { .. })
}

fn is_revoked(store: &Store, link: Link) -> bool {
    matches!(store.check(&[link], at(NOW)), Verdict::Bad(Problem::Revoked { .. }))
}

/// Why nothing is known about a certificate.
fn why_unknown(store: &Store, link: Link) -> String {
    match store.check(&[link], at(NOW)) {
        Verdict::Bad(Problem::Unknown { link: 0, why }) => why,
        other => panic!("{other:?}"),
    }
}
