//! `[resumption]`: where sessions are kept for clients that come back.

use std::{collections::BTreeSet, fmt, path::PathBuf, sync::Arc};

use zeroize::Zeroizing;

use super::{
    certificates::Surroundings,
    errors::{Located, Place},
    files::FileData,
    reader::Reader,
    values::parse_cache_bytes,
};

/// `cache_bytes` unless the configuration says otherwise: some 45 000 sessions of clients with a
/// certificate of 1 kB.
const CACHE_BYTES_DEFAULT: usize = 64 << 20;

/// How many bytes a ticket key has, no less and no more.
const TICKET_KEY_LEN: usize = 64;

/// The most files of ticket keys: one that seals, and those whose tickets are still about.
const TICKET_KEYS_MAX: usize = 8;

/// Random bytes of that number have some 57 different values; a text or a repetition has fewer.
const DIFFERENT_BYTES_MIN: usize = 32;

/// What `ticket_keys` takes.
const TICKET_KEYS: &str =
    "files of 64 random bytes, the one that seals first: [\"current.key\", \"previous.key\"]";

/// `[resumption]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resumption {
    /// `mode = "off"`: every handshake is a full one.
    Off,
    /// `mode = "cache"`, the default: this process keeps sessions, and clients an id.
    Cache {
        /// `cache_bytes`: the most memory that sessions take, 1 MiB to 64 GiB, default 64 MiB.
        bytes: usize,
    },
    /// `mode = "tickets"`: clients keep their sessions themselves, sealed by a key of ours.
    Tickets {
        /// `ticket_keys`: the first one seals, all of them open. Empty: keys that the process makes
        /// and changes itself, and that nobody else has.
        keys: Vec<TicketKey>,
    },
}

impl Default for Resumption {
    fn default() -> Self {
        Self::Cache { bytes: CACHE_BYTES_DEFAULT }
    }
}

/// A key of tickets that several processes share.
#[derive(Clone, PartialEq, Eq)]
pub struct TicketKey {
    /// The file that it came from.
    pub file: PathBuf,
    /// 64 bytes, overwritten when the last configuration that has them is gone.
    pub secret: Arc<Zeroizing<Vec<u8>>>,
}

impl fmt::Debug for TicketKey {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKey").field("file", &self.file).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Cache,
    Tickets,
    Off,
}

/// Reads the section; without it, it has its defaults.
pub(super) fn read(around: Surroundings<'_>, reader: Option<Reader<'_>>) -> Resumption {
    const MODES: [(&str, Mode); 3] =
        [("cache", Mode::Cache), ("tickets", Mode::Tickets), ("off", Mode::Off)];
    let Some(mut reader) = reader else { return Resumption::default() };
    let said = reader.word("mode", &MODES);
    let is_wrong = reader.present("mode").is_some() && said.is_none();
    let bytes = reader.parsed("cache_bytes", parse_cache_bytes);
    let names = reader.some_strings("ticket_keys", TICKET_KEYS);
    let keys = load_keys(around, names.as_deref().unwrap_or_default());
    let mode = said.as_ref().map_or(Mode::Cache, |mode| mode.value);
    if !is_wrong {
        let other = said.as_ref().map(|mode| &mode.at);
        if mode != Mode::Cache {
            refuse(around, &mut reader, "cache_bytes", "cache", other);
        }
        if mode != Mode::Tickets {
            refuse(around, &mut reader, "ticket_keys", "tickets", other);
        }
    }
    reader.finish();
    match mode {
        Mode::Off => Resumption::Off,
        Mode::Cache => {
            Resumption::Cache { bytes: bytes.map_or(CACHE_BYTES_DEFAULT, |bytes| bytes.value) }
        }
        Mode::Tickets => Resumption::Tickets { keys },
    }
}

/// Notes a key that means nothing in the mode that was said at `other`, or is the default.
fn refuse(
    around: Surroundings<'_>,
    reader: &mut Reader<'_>,
    key: &'static str,
    wanted: &str,
    other: Option<&Place>,
) {
    let Some(at) = reader.present(key) else { return };
    let remedy = format!("remove this key, or say mode = \"{wanted}\"");
    match other {
        Some(other) => {
            let other = around.report.cite(other);
            around.report.error(&at, format_args!("has no effect with {other}; {remedy}"));
        }
        None => around
            .report
            .error(&at, format_args!("has no effect with mode = \"cache\", the default; {remedy}")),
    }
}

/// The keys of the files, as far as they can be used; all faults are noted.
fn load_keys(around: Surroundings<'_>, names: &[Located<&str>]) -> Vec<TicketKey> {
    if let Some(name) = names.get(TICKET_KEYS_MAX) {
        let count = names.len();
        let problem = format_args!("found {count} files; it takes at most {TICKET_KEYS_MAX}");
        around.report.error(&name.at, problem);
    }
    let mut keys: Vec<(TicketKey, &Place)> = Vec::with_capacity(names.len());
    for name in names.iter().take(TICKET_KEYS_MAX) {
        let Some((file, data)) = around.read(name) else { continue };
        if let Err(problem) = check_key(&data) {
            around.report.error(&name.at, format_args!("{} {problem}", file.display()));
            continue;
        }
        if let Some((other, place)) = keys.iter().find(|(key, _)| *key.secret == data.bytes) {
            let (file, other, place) =
                (file.display(), other.file.display(), around.report.cite(place));
            let problem = format_args!("{file} holds the same key as {other}, {place}");
            around.report.error(&name.at, format_args!("{problem}; name it once"));
            continue;
        }
        keys.push((TicketKey { file, secret: Arc::new(data.bytes) }, &name.at));
    }
    keys.into_iter().map(|(key, _)| key).collect()
}

/// Who has a ticket key can be any client whose certificate they have seen, so that a doubt about
/// one is an error.
fn check_key(data: &FileData) -> Result<(), String> {
    const REMEDY: &str = "make one by: (umask 077; head -c 64 /dev/urandom > ticket.key)";
    let (bytes, mode) = (&*data.bytes, data.mode);
    if mode & 0o006 != 0 {
        return Err(format!(
            "is a ticket key that every user may read or write (mode {mode:04o}); make a new one, \
             and chmod o-rw"
        ));
    }
    if bytes.len() != TICKET_KEY_LEN {
        let len = bytes.len();
        return Err(format!("has {len} bytes; a ticket key has {TICKET_KEY_LEN}: {REMEDY}"));
    }
    if bytes.is_ascii() {
        return Err(format!("holds text; a ticket key is random bytes: {REMEDY}"));
    }
    if bytes.iter().collect::<BTreeSet<_>>().len() < DIFFERENT_BYTES_MIN {
        return Err(format!("isn't random, as a ticket key has to be; {REMEDY}"));
    }
    Ok(())
}
