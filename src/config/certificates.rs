//! Trust anchors and own certificates: from a file name to something that can be used.

use std::{path::Path, path::PathBuf, sync::Arc};

use rustls::{
    Error, InconsistentKeys,
    sign::{CertifiedKey, SigningKey},
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use super::{
    CaCertificate, OwnCertificate,
    errors::{Located, Place, Report},
    files::{self, CertificateFacts, FileData, Files},
    reader::Reader,
};

/// The most certificates that one own chain may have; each handshake sends them all.
const CHAIN_LEN_MAX: usize = 16;

/// What the sections of a configuration are read with.
#[derive(Clone, Copy)]
pub(super) struct Surroundings<'t> {
    pub(super) report: &'t Report<'t>,
    pub(super) files: &'t dyn Files,
    /// What relative paths are relative to.
    pub(super) base_dir: &'t Path,
    /// Seconds since 1970.
    pub(super) now: i64,
    /// Whether it is the candidate of another one.
    pub(super) is_candidate: bool,
}

impl Surroundings<'_> {
    /// The path that the configuration means by `name`, and what is there.
    pub(super) fn read(&self, name: &Located<&str>) -> Option<(PathBuf, FileData)> {
        let path = self.base_dir.join(name.value);
        match self.files.read(&path) {
            Ok(data) => Some((path, data)),
            Err(error) => {
                let path = path.display();
                self.report.error(&name.at, format_args!("{path} can't be read: {error}"));
                None
            }
        }
    }
}

/// A trust anchor, and what its certificate says.
pub(super) struct LoadedAnchor {
    pub(super) certificate: CaCertificate,
    pub(super) facts: CertificateFacts,
    /// Where its file is named.
    pub(super) at: Place,
}

/// The trust anchors of one file of a profile, as far as they can be used; all faults are noted.
pub(super) fn load_anchors(around: Surroundings<'_>, name: &Located<&str>) -> Vec<LoadedAnchor> {
    let Some((file, data)) = around.read(name) else { return Vec::new() };
    let wrong = |problem: &str| {
        around.report.error(&name.at, format_args!("{} {problem}", file.display()));
    };
    if files::holds_private_key(&data) {
        wrong("holds a private key; a file of trust anchors takes certificates only");
        return Vec::new();
    }
    let certificates = match files::certificates(&data) {
        Ok(certificates) => certificates,
        Err(problem) => {
            wrong(&problem);
            return Vec::new();
        }
    };
    let count = certificates.len();
    let mut anchors = Vec::with_capacity(count);
    for (index, der) in certificates.into_iter().enumerate() {
        match check_anchor(&der, around.now) {
            Ok(facts) => {
                let not_after = facts.not_after;
                let certificate = CaCertificate { file: file.clone(), der, not_after };
                anchors.push(LoadedAnchor { certificate, facts, at: name.at.clone() });
            }
            Err(problem) => wrong(&format!("{}{problem}", which(index, count))),
        }
    }
    anchors
}

fn check_anchor(der: &CertificateDer<'_>, now: i64) -> Result<CertificateFacts, String> {
    let facts = CertificateFacts::parse(der)?;
    let subject = &facts.subject;
    if !facts.is_ca {
        return Err(format!(
            "({subject}) is not a CA certificate: its basicConstraints don't say cA; \
             give the certificate of the CA that issued it"
        ));
    }
    if !facts.may_sign_certificates {
        return Err(format!(
            "({subject}) may not issue certificates: its keyUsage has no keyCertSign; \
             give another CA certificate"
        ));
    }
    check_validity(&facts, now).map_err(|problem| {
        format!("({subject}) {problem}; replace it or take it out of the list")
    })?;
    Ok(facts)
}

/// One entry of `certificates`; all faults are noted.
pub(super) fn load_own(
    around: Surroundings<'_>,
    reader: &mut Reader<'_>,
) -> Option<OwnCertificate> {
    reader.require("chain", "the name of a PEM file, own certificate first");
    reader.require("key", "the name of a PEM file with the private key");
    let chain_name = reader.string("chain");
    let key_name = reader.string("key");
    let chain = chain_name.and_then(|name| load_chain(around, name));
    let key = key_name.and_then(|name| load_key(around, name));
    let (Chain { file, at, certificates, facts }, (key_at, key)) = (chain?, key?);

    let own = &facts[0];
    let certified_key = CertifiedKey::new(certificates, key);
    if let Err(error) = certified_key.keys_match() {
        let chain = around.report.cite(&at);
        let problem = match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                mismatch(&*certified_key.key, &facts, &chain)
            }
            error => format!("can't be compared with the certificate, {chain}: {error}"),
        };
        around.report.error(&key_at, format_args!("the key {problem}"));
        return None;
    }
    Some(OwnCertificate {
        chain_file: file,
        certified_key: Arc::new(certified_key),
        dns_names: own.dns_names.clone(),
        not_after: own.not_after,
    })
}

struct Chain {
    file: PathBuf,
    at: Place,
    certificates: Vec<CertificateDer<'static>>,
    /// Of each certificate.
    facts: Vec<CertificateFacts>,
}

fn load_chain(around: Surroundings<'_>, name: Located<&str>) -> Option<Chain> {
    let (file, data) = around.read(&name)?;
    let wrong = |problem: &str| {
        around.report.error(&name.at, format_args!("{} {problem}", file.display()));
    };
    let certificates = files::certificates(&data).map_err(|problem| wrong(&problem)).ok()?;
    let count = certificates.len();
    if count > CHAIN_LEN_MAX {
        wrong(&format!("holds {count} certificates; a chain takes at most {CHAIN_LEN_MAX}"));
        return None;
    }
    let mut facts = Vec::with_capacity(count);
    for (index, der) in certificates.iter().enumerate() {
        let parsed = CertificateFacts::parse(der);
        facts.push(parsed.map_err(|e| wrong(&format!("{}{e}", which(index, count)))).ok()?);
    }
    if let Err(problem) = check_validity(&facts[0], around.now) {
        let subject = &facts[0].subject;
        wrong(&format!("({subject}) {problem}; clients would refuse it, replace it"));
    }
    warn_of_chain(around, &name.at, &file, &facts);
    Some(Chain { file, at: name.at, certificates, facts })
}

/// What the own side can live with, but clients may not.
fn warn_of_chain(around: Surroundings<'_>, at: &Place, file: &Path, facts: &[CertificateFacts]) {
    let file = file.display();
    if !facts[0].may_be_server {
        let problem = "its extendedKeyUsage has no serverAuth: most clients will refuse it";
        around.report.warn(at, format_args!("{file} {problem}"));
    }
    for (index, pair) in facts.windows(2).enumerate() {
        if pair[0].issuer_der != pair[1].subject_der {
            let (this, next) = (index + 1, index + 2);
            let problem = format!("certificate {next} did not issue certificate {this}");
            around.report.warn(at, format_args!("{file} is out of order: {problem}"));
        }
    }
    for (index, intermediate) in facts.iter().enumerate().skip(1) {
        if let Err(problem) = check_validity(intermediate, around.now) {
            let number = index + 1;
            let subject = &intermediate.subject;
            around
                .report
                .warn(at, format_args!("{file} certificate {number} ({subject}) {problem}"));
        }
    }
}

fn load_key(around: Surroundings<'_>, name: Located<&str>) -> Option<(Place, Arc<dyn SigningKey>)> {
    let (file, data) = around.read(&name)?;
    let file = file.display();
    match files::private_key(&data) {
        Ok(key) => {
            if data.mode & 0o006 != 0 {
                let mode = data.mode;
                around.report.warn(
                    &name.at,
                    format_args!(
                        "{file} is a private key that every user may read or write \
                         (mode {mode:04o}); chmod o-rw"
                    ),
                );
            }
            Some((name.at, key))
        }
        Err(problem) => {
            around.report.error(&name.at, format_args!("{file} {problem}"));
            None
        }
    }
}

/// Why the key isn't that of the first certificate, as far as `chain` can tell.
fn mismatch(key: &dyn SigningKey, facts: &[CertificateFacts], chain: &str) -> String {
    let spki = key.public_key();
    let owner = facts
        .iter()
        .position(|facts| spki.as_ref().is_some_and(|spki| spki.as_ref() == facts.spki.as_slice()));
    match owner {
        Some(index) => format!(
            "is that of certificate {} of the chain, {chain}; put that one first in the file",
            index + 1
        ),
        None => {
            format!("does not match the certificate, {chain}; give the key that it was issued for")
        }
    }
}

fn check_validity(facts: &CertificateFacts, now: i64) -> Result<(), String> {
    if now > facts.not_after {
        return Err(format!("expired on {}", date(facts.not_after)));
    }
    if now < facts.not_before {
        return Err(format!("is not valid before {}", date(facts.not_before)));
    }
    Ok(())
}

/// How messages tell the certificates of one file apart.
fn which(index: usize, count: usize) -> String {
    if count == 1 { String::new() } else { format!("certificate {} ", index + 1) }
}

/// Seconds since 1970 as a day in UTC: `2027-01-31`.
pub(super) fn date(seconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp(seconds)
        .map_or_else(|_| format!("{seconds} s after 1970"), |time| time.date().to_string())
}
