//! Walks a TOML table key by key and notes every value that doesn't fit, with its place.
//!
//! A read returns `None` where the key is absent *or* was wrong; the latter is in the report, so
//! that no configuration comes of it, and the walk goes on to find the other errors.

use std::{collections::HashSet, fmt, ops::RangeInclusive, rc::Rc, time::Duration};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::errors::{Located, Place, Report, did_you_mean};

/// The shortest time that can be configured; tokio's timers have 1 ms.
const DURATION_MIN: Duration = Duration::from_millis(1);
/// The longest time that can be configured, so that no sum of times overflows.
const DURATION_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
const DURATION: &str = "a time from \"1ms\" to \"366days\", such as \"10s\"";

/// One table of the file.
#[derive(Debug)]
pub(super) struct Reader<'t> {
    report: &'t Report<'t>,
    table: &'t DeTable<'t>,
    at: Place,
    known: Vec<&'static str>,
}

impl<'t> Reader<'t> {
    /// The whole file.
    pub(super) fn root(report: &'t Report<'t>, table: &'t DeTable<'t>) -> Self {
        Self { report, table, at: Place { key: Rc::from(""), offset: 0 }, known: Vec::new() }
    }

    /// Where the table stands; its key is the section.
    pub(super) fn at(&self) -> &Place {
        &self.at
    }

    /// Where the notes go.
    pub(super) fn report(&self) -> &'t Report<'t> {
        self.report
    }

    /// Notes an error if `key` is absent.
    pub(super) fn require(&self, key: &'static str, accepted: &str) {
        if !self.table.contains_key(key) {
            let at = self.place(key, self.at.offset);
            self.report.error(&at, format_args!("is missing; it takes {accepted}"));
        }
    }

    /// Whether `key` is there, whatever its value; for keys that are known but refused.
    pub(super) fn present(&mut self, key: &'static str) -> Option<Place> {
        self.entry(key).map(|entry| entry.at)
    }

    /// Whether `key` is a list, whatever is in it.
    pub(super) fn is_list(&mut self, key: &'static str) -> bool {
        self.entry(key).is_some_and(|entry| entry.value.as_array().is_some())
    }

    /// Whether `key` is a list without an element. One whose elements are all wrong isn't.
    pub(super) fn is_empty_list(&mut self, key: &'static str) -> bool {
        self.entry(key).is_some_and(|entry| entry.value.as_array().is_some_and(|a| a.is_empty()))
    }

    /// Notes an error if `key` is a list without an element.
    pub(super) fn refuse_empty_list(&mut self, key: &'static str, accepted: &str) {
        if self.is_empty_list(key)
            && let Some(place) = self.present(key)
        {
            self.report.error(&place, format_args!("found an empty list; it takes {accepted}"));
        }
    }

    /// A string.
    pub(super) fn string(&mut self, key: &'static str) -> Option<Located<&'t str>> {
        let entry = self.entry(key)?;
        self.as_string(entry, "a string")
    }

    /// A string that `parse` turns into a value; its error says what would be accepted.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Located<T>> {
        let text = self.string(key)?;
        self.parse(text, parse)
    }

    /// A list of strings, none of them twice; it may be empty.
    pub(super) fn strings(&mut self, key: &'static str) -> Option<Vec<Located<&'t str>>> {
        let entry = self.entry(key)?;
        let DeValue::Array(array) = entry.value else {
            self.wrong_type(&entry, "a list of strings");
            return None;
        };
        let mut seen = HashSet::new();
        let mut strings = Vec::with_capacity(array.len());
        for element in array.iter() {
            let at = Place { key: Rc::clone(&entry.at.key), offset: element.span().start };
            let Some(text) = self.as_string(Located { value: element.get_ref(), at }, "a string")
            else {
                continue;
            };
            if seen.insert(text.value) {
                strings.push(text);
            } else {
                let message = format_args!("found {:?} twice; once is enough", text.value);
                self.report.error(&text.at, message);
            }
        }
        Some(strings)
    }

    /// A list of at least one string, each different.
    pub(super) fn some_strings(
        &mut self,
        key: &'static str,
        accepted: &str,
    ) -> Option<Vec<Located<&'t str>>> {
        self.refuse_empty_list(key, accepted);
        self.strings(key)
    }

    /// A list of strings that `parse` turns into values, at least one, each different.
    pub(super) fn some_parsed<T>(
        &mut self,
        key: &'static str,
        accepted: &str,
        parse: impl FnMut(&str) -> Result<T, String>,
    ) -> Option<Vec<Located<T>>> {
        let strings = self.some_strings(key, accepted)?;
        Some(self.parse_all(strings, parse))
    }

    /// A list of strings that `parse` turns into values; absent counts as empty.
    pub(super) fn any_parsed<T>(
        &mut self,
        key: &'static str,
        parse: impl FnMut(&str) -> Result<T, String>,
    ) -> Vec<Located<T>> {
        let strings = self.strings(key).unwrap_or_default();
        self.parse_all(strings, parse)
    }

    /// An integer within `range`.
    pub(super) fn integer(
        &mut self,
        key: &'static str,
        range: RangeInclusive<usize>,
    ) -> Option<usize> {
        let entry = self.entry(key)?;
        let accepted = format!("an integer from {} to {}", range.start(), range.end());
        let DeValue::Integer(integer) = entry.value else {
            self.wrong_type(&entry, &accepted);
            return None;
        };
        let number = usize::from_str_radix(integer.as_str(), integer.radix()).ok();
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            self.report.error(&entry.at, format_args!("found {integer}; it takes {accepted}"));
        }
        number
    }

    /// An integer within `range`, or `"off"`, which is `Some(None)`.
    pub(super) fn integer_or_off(
        &mut self,
        key: &'static str,
        range: RangeInclusive<usize>,
    ) -> Option<Option<usize>> {
        let entry = self.entry(key)?;
        let DeValue::String(text) = entry.value else { return self.integer(key, range).map(Some) };
        if text == "off" {
            return Some(None);
        }
        let (least, most) = (range.start(), range.end());
        let message =
            format_args!("found {text:?}; it takes an integer from {least} to {most}, or \"off\"");
        self.report.error(&entry.at, message);
        None
    }

    /// An integer within `range`, in bits of a key, with its place.
    pub(super) fn bits(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u16>,
    ) -> Option<Located<u16>> {
        let at = self.present(key)?;
        let number = self.integer(key, usize::from(*range.start())..=usize::from(*range.end()))?;
        Some(Located { value: u16::try_from(number).ok()?, at })
    }

    /// One of a few integers, in bits of a key, with its place.
    pub(super) fn bits_among(
        &mut self,
        key: &'static str,
        accepted: &[u16],
    ) -> Option<Located<u16>> {
        let bits = self.bits(key, 0..=u16::MAX)?;
        if accepted.contains(&bits.value) {
            return Some(bits);
        }
        let accepted: Vec<String> = accepted.iter().map(u16::to_string).collect();
        let message = format_args!("found {}; accepted: {}", bits.value, accepted.join(", "));
        self.report.error(&bits.at, message);
        None
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, key: &'static str) -> Option<bool> {
        let entry = self.entry(key)?;
        let value = entry.value.as_bool();
        if value.is_none() {
            self.wrong_type(&entry, "true or false");
        }
        value
    }

    /// A time above zero, such as `"10s"` or `"1h 30m"`.
    pub(super) fn duration(&mut self, key: &'static str) -> Option<Duration> {
        let entry = self.entry(key)?;
        let text = self.as_string(entry, DURATION)?;
        self.parse(text, parse_duration).map(|time| time.value)
    }

    /// A time of that range, which `accepted` names.
    pub(super) fn duration_within(
        &mut self,
        key: &'static str,
        range: RangeInclusive<Duration>,
        accepted: &str,
    ) -> Option<Duration> {
        let entry = self.entry(key)?;
        let text = self.as_string(entry, accepted)?;
        let time = self.parse(text, |text| {
            humantime::parse_duration(text)
                .ok()
                .filter(|time| range.contains(time))
                .ok_or_else(|| format!("it takes {accepted}"))
        });
        time.map(|time| time.value)
    }

    /// A time above zero, or `"off"`, which is `Some(None)`.
    pub(super) fn duration_or_off(&mut self, key: &'static str) -> Option<Option<Duration>> {
        let entry = self.entry(key)?;
        let text = self.as_string(entry, &format!("{DURATION}, or \"off\""))?;
        let time = self.parse(text, |text| match text {
            "off" => Ok(None),
            _ => parse_duration(text).map(Some).map_err(|error| error + ", or \"off\""),
        });
        time.map(|time| time.value)
    }

    /// One of `words`.
    pub(super) fn word<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&'static str, T)],
    ) -> Option<Located<T>> {
        self.parsed(key, |text| one_of(text, words))
    }

    /// A table.
    pub(super) fn table(&mut self, key: &'static str) -> Option<Reader<'t>> {
        let entry = self.entry(key)?;
        let DeValue::Table(table) = entry.value else {
            self.wrong_type(&entry, "a table");
            return None;
        };
        Some(Self { report: self.report, table, at: entry.at, known: Vec::new() })
    }

    /// Tables that carry a name of the operator's choice: `[key.NAME]`; absent counts as none.
    pub(super) fn named_tables(&mut self, key: &'static str) -> Vec<(Rc<str>, Reader<'t>)> {
        let Some(parent) = self.table(key) else { return Vec::new() };
        let mut named = Vec::with_capacity(parent.table.len());
        for (name, value) in parent.table {
            let at = parent.place(name.get_ref(), name.span().start);
            if let Err(error) = check_name(name.get_ref()) {
                self.report.error(&at, format_args!("found {:?}; {error}", name.get_ref()));
            }
            let DeValue::Table(table) = value.get_ref() else {
                let accepted = format!("a table: [{key}.NAME]");
                self.wrong_type(&Located { value: value.get_ref(), at }, &accepted);
                continue;
            };
            let reader = Self { report: self.report, table, at, known: Vec::new() };
            named.push((Rc::from(&**name.get_ref()), reader));
        }
        named
    }

    /// A list of tables: `[[key]]` or `key = [{ … }, …]`. Each is called by its `name` in
    /// messages if it has one, else by its number from 1.
    pub(super) fn list_of_tables(&mut self, key: &'static str) -> Option<Vec<Reader<'t>>> {
        let entry = self.entry(key)?;
        let DeValue::Array(array) = entry.value else {
            self.wrong_type(&entry, &format!("a list of tables: [[{key}]] or {key} = [{{ … }}]"));
            return None;
        };
        let mut tables = Vec::with_capacity(array.len());
        for (index, element) in array.iter().enumerate() {
            let at = |name: &dyn fmt::Display| Place {
                key: Rc::from(format!("{}.{name}", entry.at.key)),
                offset: element.span().start,
            };
            let DeValue::Table(table) = element.get_ref() else {
                let place = at(&(index + 1));
                self.wrong_type(&Located { value: element.get_ref(), at: place }, "a table");
                continue;
            };
            let name = table.get("name").and_then(|name| name.get_ref().as_str());
            let name = name.filter(|name| check_name(name).is_ok());
            let at = name.map_or_else(|| at(&(index + 1)), |name| at(&name));
            tables.push(Self { report: self.report, table, at, known: Vec::new() });
        }
        Some(tables)
    }

    /// Notes every key that nothing has asked for: there are no ignored keys.
    pub(super) fn finish(self) {
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if self.known.contains(&name) {
                continue;
            }
            let hint = match did_you_mean(name, self.known.iter().copied()) {
                nearest if nearest.is_empty() => format!("; accepted: {}", self.known.join(", ")),
                nearest => nearest,
            };
            let message = format_args!("is not a key that is known here{hint}");
            self.report.error(&self.place(name, key.span().start), message);
        }
    }

    fn entry(&mut self, key: &'static str) -> Option<Located<&'t DeValue<'t>>> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        let (name, value) = self.table.get_key_value(key)?;
        let value: &'t Spanned<DeValue<'t>> = value;
        // A table's own span may be that of its first sub-table's header; its name stands right.
        let offset = match value.get_ref() {
            DeValue::Table(_) => name.span().start,
            _ => value.span().start,
        };
        Some(Located { value: value.get_ref(), at: self.place(key, offset) })
    }

    fn place(&self, key: &str, offset: usize) -> Place {
        let key = match &*self.at.key {
            "" => format!("{}", key.escape_debug()),
            section => format!("{section}.{}", key.escape_debug()),
        };
        Place { key: Rc::from(key), offset }
    }

    fn as_string(
        &self,
        entry: Located<&'t DeValue<'t>>,
        accepted: &str,
    ) -> Option<Located<&'t str>> {
        if let DeValue::String(text) = entry.value {
            return Some(Located { value: text, at: entry.at });
        }
        self.wrong_type(&entry, accepted);
        None
    }

    fn parse<T>(
        &self,
        text: Located<&str>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Located<T>> {
        match parse(text.value) {
            Ok(value) => Some(Located { value, at: text.at }),
            Err(error) => {
                let found = format!("{:?}", text.value);
                if error.starts_with(&found) {
                    self.report.error(&text.at, error);
                } else {
                    self.report.error(&text.at, format_args!("found {found}; {error}"));
                }
                None
            }
        }
    }

    fn parse_all<T>(
        &self,
        strings: Vec<Located<&str>>,
        mut parse: impl FnMut(&str) -> Result<T, String>,
    ) -> Vec<Located<T>> {
        strings.into_iter().filter_map(|text| self.parse(text, &mut parse)).collect()
    }

    fn wrong_type(&self, entry: &Located<&DeValue<'_>>, accepted: &str) {
        let found = match entry.value {
            DeValue::Integer(number) => format!("the integer {number}"),
            DeValue::Float(number) => format!("the float {number}"),
            DeValue::Boolean(value) => value.to_string(),
            DeValue::String(text) => format!("the string {text:?}"),
            DeValue::Datetime(time) => format!("the date or time {time}"),
            DeValue::Array(_) => "a list".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        };
        self.report.error(&entry.at, format_args!("found {found}; it takes {accepted}"));
    }
}

/// The value of the word that `text` is, or an error that lists the words.
pub(super) fn one_of<T: Copy>(text: &str, words: &[(&'static str, T)]) -> Result<T, String> {
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
        let accepted: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        format!("accepted: {}", accepted.join(", "))
    })
}

/// Whether `name` can be a metric label and a word of a log line.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=64).contains(&name.len()) && name.chars().all(fits) {
        return Ok(());
    }
    Err("a name has 1 to 64 letters (a-z, A-Z), digits, and any of - _ .".to_owned())
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .ok()
        .filter(|time| (DURATION_MIN..=DURATION_MAX).contains(time))
        .ok_or_else(|| format!("it takes {DURATION}"))
}
