//! What is wrong with a configuration: every error of the file at once, each with its place.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    rc::Rc,
};

/// Everything that is wrong with a configuration file, in the order of the file; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    errors: Vec<ConfigError>,
}

impl ConfigErrors {
    /// The error of a file that can't be read as text at all.
    pub(super) fn of_file(file: &Path, message: String) -> Self {
        let file = file.to_owned();
        Self { errors: vec![ConfigError { file, position: None, key: String::new(), message }] }
    }

    /// The errors, in the order of the file.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &ConfigError> {
        self.errors.iter()
    }
}

impl fmt::Display for ConfigErrors {
    /// One error a line, without a newline after the last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// One thing that is wrong: where, what was found, and what would be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The configuration file.
    pub file: PathBuf,
    /// Line and column (in characters), from 1; `None` if the file couldn't be read.
    pub position: Option<(usize, usize)>,
    /// `section.key`; empty for what isn't in a section.
    pub key: String,
    /// What was found; what would be accepted.
    pub message: String,
}

impl fmt::Display for ConfigError {
    /// `FILE:LINE:COLUMN: [section.key] what was found; what would be accepted`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some((line, column)) = self.position {
            write!(f, "{line}:{column}:")?;
        }
        if !self.key.is_empty() {
            write!(f, " [{}]", self.key)?;
        }
        write!(f, " {}", self.message)
    }
}

/// A spot of the file that a message can point at.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// `section.key`
    pub(super) key: Rc<str>,
    /// Byte offset in the text.
    pub(super) offset: usize,
}

/// A value together with where it stands.
#[derive(Debug, Clone)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) at: Place,
}

/// Collects the errors and warnings of one file while it is walked.
#[derive(Debug)]
pub(super) struct Report<'t> {
    source: &'t Path,
    text: &'t str,
    /// Offsets of the first bytes of all lines.
    lines: Vec<usize>,
    /// By offset, in the order in which they were found.
    errors: RefCell<BTreeMap<usize, Vec<ConfigError>>>,
    warnings: RefCell<Vec<(usize, String)>>,
}

impl<'t> Report<'t> {
    pub(super) fn new(source: &'t Path, text: &'t str) -> Self {
        let newlines = text.match_indices('\n').map(|(offset, _)| offset + 1);
        let lines = std::iter::once(0).chain(newlines).collect();
        Self { source, text, lines, errors: RefCell::default(), warnings: RefCell::default() }
    }

    /// Notes what is wrong at `at`; the message says what would be accepted.
    pub(super) fn error(&self, at: &Place, message: impl fmt::Display) {
        let error = ConfigError {
            file: self.source.to_owned(),
            position: Some(self.position(at.offset)),
            key: at.key.to_string(),
            message: message.to_string(),
        };
        let mut errors = self.errors.borrow_mut();
        let here = errors.entry(at.offset).or_default();
        // Two rules can find the same fault of the same value; once is enough.
        if !here.contains(&error) {
            here.push(error);
        }
    }

    /// Notes what is wrong with another configuration that is named at `at`.
    pub(super) fn adopt(&self, at: &Place, others: ConfigErrors) {
        self.errors.borrow_mut().entry(at.offset).or_default().extend(others.errors);
    }

    /// Notes what deserves a second look in another configuration that is named at `at`.
    pub(super) fn adopt_warnings(&self, at: &Place, others: &[String]) {
        let warnings = others.iter().map(|warning| (at.offset, warning.clone()));
        self.warnings.borrow_mut().extend(warnings);
    }

    /// Notes that the text isn't TOML. What the parser says of the rest of a broken line only
    /// follows from the first fault.
    pub(super) fn syntax_error(&self, offset: usize, message: &str) {
        let line = self.position(offset).0;
        let (start, end) = (self.lines[line - 1], self.lines.get(line).copied());
        let known = self.errors.borrow().range(start..end.unwrap_or(usize::MAX)).next().is_some();
        if !known {
            let at = Place { key: Rc::from(""), offset };
            self.error(&at, format_args!("not valid TOML: {message}"));
        }
    }

    /// Notes what is legal but deserves a second look.
    pub(super) fn warn(&self, at: &Place, message: impl fmt::Display) {
        let (line, column) = self.position(at.offset);
        let source = self.source.display();
        let text = format!("{source}:{line}:{column}: {}: {message}", at.key);
        self.warnings.borrow_mut().push((at.offset, text));
    }

    /// How a message about one place names another: `[peers.a.names] on line 7`.
    pub(super) fn cite(&self, at: &Place) -> String {
        format!("[{}] on line {}", at.key, self.position(at.offset).0)
    }

    /// The warnings in the order of the file, or the errors if there are any.
    pub(super) fn finish(self) -> Result<Vec<String>, ConfigErrors> {
        if !self.errors.borrow().is_empty() {
            return Err(self.into_errors());
        }
        let mut warnings = self.warnings.into_inner();
        warnings.sort_by_key(|(offset, _)| *offset);
        Ok(warnings.into_iter().map(|(_, text)| text).collect())
    }

    /// The errors in the order of the file; there must be some.
    pub(super) fn into_errors(self) -> ConfigErrors {
        ConfigErrors { errors: self.errors.into_inner().into_values().flatten().collect() }
    }

    fn position(&self, offset: usize) -> (usize, usize) {
        let line = self.lines.partition_point(|start| *start <= offset);
        let start = self.lines[line - 1];
        let before = self.text.get(start..offset).unwrap_or_default();
        (line, before.chars().count() + 1)
    }
}

/// The candidate that `word` is most likely a slip of, as `; did you mean "x"?`, or nothing.
pub(crate) fn did_you_mean<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> String {
    candidates
        .into_iter()
        .map(|candidate| (edit_distance(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .min()
        .map_or_else(String::new, |(_, nearest)| format!("; did you mean {nearest:?}?"))
}

/// The longest word that is compared for likeness, in bytes: the comparison is quadratic.
const LIKENESS_LEN_MAX: usize = 100;

/// How many letters must be put in, left out or replaced (Levenshtein); case doesn't count.
fn edit_distance(a: &str, b: &str) -> usize {
    if a.len().max(b.len()) > LIKENESS_LEN_MAX {
        return usize::MAX;
    }
    let a: Vec<char> = a.to_lowercase().chars().collect();
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_name_is_offered_and_a_far_one_is_not() {
        let names = ["names", "trust", "blocked"];
        assert_eq!(did_you_mean("name", names), "; did you mean \"names\"?");
        assert_eq!(did_you_mean("Blokced", names), "; did you mean \"blocked\"?");
        assert_eq!(did_you_mean("ciphers", names), "");
        assert_eq!(did_you_mean(&"n".repeat(5000), names), "");
    }

    #[test]
    fn position_counts_lines_and_characters_from_one() {
        let report = Report::new(Path::new("x.toml"), "a = 1\n\u{fc}\u{fc} = 2\n");
        assert_eq!(report.position(0), (1, 1));
        assert_eq!(report.position(6), (2, 1));
        assert_eq!(report.position("a = 1\n\u{fc}\u{fc} = ".len()), (2, 6));
        assert_eq!(report.position(usize::MAX), (3, 1));
    }
}
