//! Reading a CRL (RFC 5280 §5.1): one pass, no allocation for an entry, nothing half understood.

use std::{cmp::Ordering, fmt, sync::Arc, time::Duration};

use data_encoding::HEXUPPER;
use rustls_pki_types::{CertificateRevocationListDer, UnixTime, pem::PemObject};
use x509_parser::{prelude::FromDer, x509::X509Name};

use super::{
    CrlError, Reason, Revocation,
    der::{
        BOOLEAN, ENUMERATED, INTEGER, OCTET_STRING, OID, Reader, SEQUENCE, boolean, constructed,
        context, dotted,
    },
    index::{Builder, Index, MAX_SERIAL_BYTES},
    scope::Scope,
    verify::{Signed, sha256},
};

/// Bytes of a CRL in DER: 1.7 million entries with serial numbers of 16 octets and no extension.
pub const MAX_CRL_BYTES: usize = 64 * 1024 * 1024;

/// Entries of a CRL: 51 MB in memory.
pub const MAX_ENTRIES: usize = 2_000_000;

/// CRLs in one file.
const MAX_CRLS_A_FILE: usize = 1024;

/// Bytes of an issuer's name.
const MAX_ISSUER_BYTES: usize = 4096;

/// Bytes of an issuer's name as text; more is left out.
const MAX_ISSUER_TEXT_BYTES: usize = 512;

/// Octets of a CRL number (RFC 5280 §5.2.3).
const MAX_NUMBER_BYTES: usize = 20;

/// Extensions of a CRL or of an entry; real ones have up to five.
const MAX_EXTENSIONS: usize = 16;

// Object identifiers of extensions (RFC 5280 §5.2, §5.3), all below id-ce, 2.5.29.
const CRL_NUMBER: &[u8] = &[0x55, 0x1d, 0x14];
const REASON_CODE: &[u8] = &[0x55, 0x1d, 0x15];
const INVALIDITY_DATE: &[u8] = &[0x55, 0x1d, 0x18];
const DELTA_CRL_INDICATOR: &[u8] = &[0x55, 0x1d, 0x1b];
const ISSUING_DISTRIBUTION_POINT: &[u8] = &[0x55, 0x1d, 0x1c];
const CERTIFICATE_ISSUER: &[u8] = &[0x55, 0x1d, 0x1d];
const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x23];

/// A CRL: read and indexed, its signature not necessarily verified yet.
#[derive(Debug)]
pub struct Crl {
    /// The issuer's Name in DER.
    pub(super) issuer: Box<[u8]>,
    issuer_text: Box<str>,
    authority_key: Option<Box<[u8]>>,
    number: Option<CrlNumber>,
    this_update: UnixTime,
    next_update: UnixTime,
    pub(super) scope: Scope,
    index: Index,
    pub(super) signed: Signed,
    digest: [u8; 32],
}

impl Crl {
    /// Reads a CRL in DER, of [`MAX_CRL_BYTES`] at most.
    ///
    /// # Errors
    ///
    /// It isn't exactly one CRL, or one that can't be used; see [`CrlError`].
    pub fn parse(der: &[u8]) -> Result<Self, CrlError> {
        if der.len() > MAX_CRL_BYTES {
            return Err(CrlError::TooLarge { bytes: der.len(), limit: MAX_CRL_BYTES });
        }
        let mut file = Reader::new(der);
        let mut list = file.inside(SEQUENCE, "it is no SEQUENCE")?;
        file.end("it is followed by other bytes")?;
        let signed = list.element(SEQUENCE, "what is signed")?;
        let algorithm = list.element(SEQUENCE, "its signature algorithm")?;
        let signature = list.bit_string("its signature")?;
        list.end("its signature is followed by other fields")?;

        let mut fields = Reader::new(signed.value);
        // Version ::= INTEGER, v2(1)
        if fields.peek() != Some(INTEGER) || fields.integer("its version")? != [1] {
            return Err(CrlError::Version);
        }
        if fields.element(SEQUENCE, "its signature algorithm")?.whole != algorithm.whole {
            return Err(CrlError::AlgorithmsDiffer);
        }
        let issuer = fields.element(SEQUENCE, "its issuer")?.whole;
        let issuer_text = issuer_text(issuer)?;
        let this_update = fields.time("its thisUpdate")?;
        if fields.peek().is_none_or(|tag| tag == SEQUENCE || tag == constructed(0)) {
            return Err(CrlError::NoNextUpdate);
        }
        let next_update = fields.time("its nextUpdate")?;
        if next_update <= this_update {
            return Err(CrlError::EndsBeforeItBegins);
        }
        // The extensions come last, and tell whether the entries are worth reading.
        let entries = fields.optional(SEQUENCE, "its entries")?;
        let extensions = fields.optional(constructed(0), "its extensions")?;
        fields.end("its extensions are followed by other fields")?;
        let extensions = Extensions::parse(extensions)?;
        let index = index(entries.unwrap_or_default())?;

        Ok(Self {
            issuer: issuer.into(),
            issuer_text,
            authority_key: extensions.authority_key,
            number: extensions.number,
            this_update: unix_time(this_update),
            next_update: unix_time(next_update),
            scope: extensions.scope,
            index,
            signed: Signed::new(signed.whole, algorithm.value, signature)?,
            digest: sha256(der),
        })
    }

    /// What it says about a serial number; nothing unless it is revoked.
    pub fn find(&self, serial: &[u8]) -> Option<Revocation> {
        self.index.get(serial)
    }

    /// How many serial numbers it revokes.
    pub fn entries(&self) -> usize {
        self.index.entries()
    }

    /// When it was issued.
    pub fn this_update(&self) -> UnixTime {
        self.this_update
    }

    /// When the next one is due.
    pub fn next_update(&self) -> UnixTime {
        self.next_update
    }

    /// Its number, of which newer ones have higher; `None` if its CA gives none.
    pub fn number(&self) -> Option<&CrlNumber> {
        self.number.as_ref()
    }

    /// The issuer's name as text, fit for a log: at most 512 bytes, nothing that controls a
    /// terminal.
    pub fn issuer(&self) -> &str {
        &self.issuer_text
    }

    /// The key identifier of its issuer's key (RFC 5280 §5.2.1), as upper-case hexadecimal digits.
    pub fn authority_key_id(&self) -> Option<String> {
        self.authority_key.as_deref().map(|key_id| HEXUPPER.encode(key_id))
    }

    /// Which certificates of its issuer it is about, for messages; empty if about all of them.
    pub fn scope(&self) -> String {
        self.scope.describe()
    }

    /// The SHA-256 of its DER.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Bytes that it takes in memory: nearly all of them are the index of its entries, with 26 for
    /// a serial number of 20 octets, its date and its reason.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.index.heap_bytes() + self.signed.kept_bytes()
    }

    /// By age, of two of one issuer and scope: the number decides, then thisUpdate. If a CA issues
    /// two that differ with the same of both, the one with more entries counts.
    pub(super) fn cmp_age(&self, other: &Self) -> Ordering {
        let key = |crl: &Self| (crl.this_update, crl.entries(), crl.digest);
        self.number.cmp(&other.number).then_with(|| key(self).cmp(&key(other)))
    }
}

/// A CRL number (RFC 5280 §5.2.3), ordered as numbers are. Displayed in hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrlNumber(Box<[u8]>);

impl Ord for CrlNumber {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.len().cmp(&other.0.len()).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for CrlNumber {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for CrlNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "00" } else { "" })?;
        f.write_str(&HEXUPPER.encode(&self.0))
    }
}

/// Reads a file: one CRL in DER, or one or several in PEM; other sections of PEM are passed over.
///
/// # Errors
///
/// One of its CRLs can't be used, or there is none; the others of the file are lost with it.
pub fn parse_all(bytes: &[u8]) -> Result<Vec<Arc<Crl>>, CrlError> {
    const MAX_FILE_BYTES: usize = 2 * MAX_CRL_BYTES;

    if bytes.len() > MAX_FILE_BYTES {
        return Err(CrlError::TooLarge { bytes: bytes.len(), limit: MAX_FILE_BYTES });
    }
    // A SEQUENCE of more than 127 bytes, as every CRL is; no text has such a second byte.
    if matches!(bytes, [SEQUENCE, 0x80..=0xff, ..]) {
        return Ok(vec![Arc::new(Crl::parse(bytes)?)]);
    }
    let mut crls = Vec::new();
    for section in CertificateRevocationListDer::pem_slice_iter(bytes) {
        let der = section.map_err(|error| CrlError::Pem(error.to_string()))?;
        if crls.len() == MAX_CRLS_A_FILE {
            return Err(CrlError::TooManyCrls(MAX_CRLS_A_FILE));
        }
        crls.push(Arc::new(Crl::parse(&der)?));
    }
    if crls.is_empty() { Err(CrlError::NoCrl) } else { Ok(crls) }
}

/// What the extensions of a CRL say.
#[derive(Default)]
struct Extensions {
    authority_key: Option<Box<[u8]>>,
    number: Option<CrlNumber>,
    scope: Scope,
}

impl Extensions {
    /// Reads what stands in crlExtensions.
    fn parse(extensions: Option<&[u8]>) -> Result<Self, CrlError> {
        const WHAT: &str = "its extensions";

        let mut read = Self::default();
        let Some(extensions) = extensions else { return Ok(read) };
        let mut outer = Reader::new(extensions);
        let mut list = outer.inside(SEQUENCE, WHAT)?;
        outer.end(WHAT)?;
        let mut seen: Vec<&[u8]> = Vec::with_capacity(MAX_EXTENSIONS);
        while !list.is_empty() {
            let extension = Extension::read(&mut list, WHAT)?;
            if seen.contains(&extension.id) {
                return Err(CrlError::Malformed("it has an extension twice"));
            }
            if seen.len() == MAX_EXTENSIONS {
                return Err(CrlError::Malformed("it has too many extensions"));
            }
            seen.push(extension.id);
            read.take(&extension)?;
        }
        Ok(read)
    }

    fn take(&mut self, extension: &Extension<'_>) -> Result<(), CrlError> {
        match extension.id {
            DELTA_CRL_INDICATOR => return Err(CrlError::Delta),
            ISSUING_DISTRIBUTION_POINT => self.scope = Scope::parse(extension.value)?,
            CRL_NUMBER => self.number = Some(number(extension.value)?),
            AUTHORITY_KEY_IDENTIFIER => self.authority_key = key_identifier(extension.value)?,
            other if extension.is_critical => {
                return Err(CrlError::UnknownCriticalExtension(dotted(other)));
            }
            _ => {}
        }
        Ok(())
    }
}

fn number(value: &[u8]) -> Result<CrlNumber, CrlError> {
    const WHAT: &str = "its number";

    let mut value = Reader::new(value);
    let octets = value.integer(WHAT)?;
    value.end(WHAT)?;
    let significant = match octets {
        [0x80..=0xff, ..] => return Err(CrlError::Malformed("its number is negative")),
        [0x00, rest @ ..] => rest,
        all => all,
    };
    if significant.len() > MAX_NUMBER_BYTES {
        return Err(CrlError::Malformed("its number is too long"));
    }
    Ok(CrlNumber(significant.into()))
}

/// keyIdentifier [0] of an AuthorityKeyIdentifier (RFC 5280 §4.2.1.1).
fn key_identifier(value: &[u8]) -> Result<Option<Box<[u8]>>, CrlError> {
    const WHAT: &str = "its authority key identifier";
    const MAX_BYTES: usize = 64;

    let mut outer = Reader::new(value);
    let mut fields = outer.inside(SEQUENCE, WHAT)?;
    outer.end(WHAT)?;
    match fields.optional(context(0), WHAT)? {
        Some(identifier) if identifier.len() > MAX_BYTES => Err(CrlError::Malformed(WHAT)),
        identifier => Ok(identifier.map(Into::into)),
    }
}

/// One Extension (RFC 5280 §4.1).
struct Extension<'a> {
    id: &'a [u8],
    is_critical: bool,
    value: &'a [u8],
}

impl<'a> Extension<'a> {
    fn read(list: &mut Reader<'a>, what: &'static str) -> Result<Self, CrlError> {
        let mut fields = list.inside(SEQUENCE, what)?;
        let id = fields.value(OID, what)?;
        let critical = fields.optional(BOOLEAN, what)?;
        let is_critical = critical.map_or(Ok(false), |critical| boolean(critical, what))?;
        let value = fields.value(OCTET_STRING, what)?;
        fields.end(what)?;
        Ok(Self { id, is_critical, value })
    }
}

/// Reads the contents of revokedCertificates.
fn index(entries: &[u8]) -> Result<Index, CrlError> {
    const WHAT: &str = "an entry";

    let mut entries = Reader::new(entries);
    let mut builder = Builder::default();
    let mut count = 0;
    while !entries.is_empty() {
        if count == MAX_ENTRIES {
            return Err(CrlError::TooManyEntries(MAX_ENTRIES));
        }
        count += 1;
        let mut entry = entries.inside(SEQUENCE, WHAT)?;
        let serial = entry.integer("the serial number of an entry")?;
        // One octet more, for the sign.
        if serial.len() > MAX_SERIAL_BYTES + 1 {
            return Err(CrlError::Malformed("the serial number of an entry is too long"));
        }
        let at = entry.time("the date of an entry")?;
        let reason = match entry.is_empty() {
            true => Reason::Unspecified,
            false => entry_reason(entry.inside(SEQUENCE, "the extensions of an entry")?)?,
        };
        entry.end(WHAT)?;
        builder.add(serial, at, reason);
    }
    Ok(builder.build())
}

/// Reads the extensions of an entry (RFC 5280 §5.3).
fn entry_reason(mut list: Reader<'_>) -> Result<Reason, CrlError> {
    const WHAT: &str = "the extensions of an entry";

    let mut reason = None;
    let mut count = 0;
    while !list.is_empty() {
        let extension = Extension::read(&mut list, WHAT)?;
        count += 1;
        if count > MAX_EXTENSIONS {
            return Err(CrlError::Malformed("an entry has too many extensions"));
        }
        match extension.id {
            CERTIFICATE_ISSUER => return Err(CrlError::Indirect),
            REASON_CODE if reason.is_some() => {
                return Err(CrlError::Malformed("an entry has two reasons"));
            }
            REASON_CODE => reason = Some(reason_code(extension.value)?),
            // It doesn't change what is revoked.
            INVALIDITY_DATE => {}
            other if extension.is_critical => {
                return Err(CrlError::UnknownCriticalEntryExtension(dotted(other)));
            }
            _ => {}
        }
    }
    Ok(reason.unwrap_or(Reason::Unspecified))
}

fn reason_code(value: &[u8]) -> Result<Reason, CrlError> {
    const WHAT: &str = "the reason of an entry";
    const REMOVE_FROM_CRL: u8 = 8;

    let mut value = Reader::new(value);
    let code = value.value(ENUMERATED, WHAT)?;
    value.end(WHAT)?;
    match *code {
        [REMOVE_FROM_CRL] => Err(CrlError::RemoveFromCrl),
        [code] => Reason::from_code(code).ok_or(CrlError::Malformed(WHAT)),
        _ => Err(CrlError::Malformed(WHAT)),
    }
}

/// Before 1970 is the distant past for every comparison that is made.
fn unix_time(seconds: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// The Name as text; it is read whole, so that it is one.
fn issuer_text(name: &[u8]) -> Result<Box<str>, CrlError> {
    if name.len() > MAX_ISSUER_BYTES {
        return Err(CrlError::Malformed("its issuer's name is too long"));
    }
    let Ok(([], parsed)) = X509Name::from_der(name) else {
        return Err(CrlError::Malformed("its issuer"));
    };
    let mut text = String::new();
    for c in parsed.to_string().chars() {
        // What is neither ASCII nor a letter may control a terminal or the direction of text.
        let is_harmless = c.is_ascii_graphic() || c == ' ' || c.is_alphanumeric();
        let c = if is_harmless { c } else { '\u{fffd}' };
        if text.len() + c.len_utf8() > MAX_ISSUER_TEXT_BYTES {
            break;
        }
        text.push(c);
    }
    Ok(text.into_boxed_str())
}
