//! The tree's own source, read as far as its rules need it: which code there is beside comments
//! and strings, and which modules of ours it names.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// One Rust file below the crate's folder.
pub(crate) struct Source {
    /// Relative to the crate's folder, with slashes.
    pub(crate) path: String,
    pub(crate) text: String,
}

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `folder`, in order.
pub(crate) fn sources(folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    collect(&root().join(folder), &mut found);
    assert!(!found.is_empty(), "{folder} has Rust files");
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn collect(folder: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            // What cargo builds for the fuzz targets.
            if path.file_name() != Some("target".as_ref()) {
                collect(&path, found);
            }
        } else if path.extension() == Some("rs".as_ref()) {
            let relative = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            found.push(Source { text: fs::read_to_string(&path).unwrap(), path: relative });
        }
    }
}

impl Source {
    /// The top-level module of a file below `src/`: `src/relay/up.rs` is of `relay`.
    pub(crate) fn module(&self) -> &str {
        let below = self.path.strip_prefix("src/").unwrap_or(&self.path);
        below.split_once('/').map_or(below, |(folder, _)| folder).trim_end_matches(".rs")
    }

    /// Whether all of it is tests.
    pub(crate) fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }

    /// Its code without comments, strings and its own tests, which come last in a file.
    pub(crate) fn code(&self) -> String {
        let code = without_comments_and_strings(&self.text);
        match code.find("#[cfg(test)]\nmod tests {") {
            Some(end) => code[..end].to_owned(),
            None => code,
        }
    }

    /// The top-level modules of ours that its code names by `crate::`.
    pub(crate) fn imports(&self) -> BTreeSet<String> {
        let code = self.code();
        let mut found = BTreeSet::new();
        for (at, _) in code.match_indices("crate::") {
            // `$crate::` and `some_crate::` are other things.
            if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
                continue;
            }
            let path = &code[at + "crate::".len()..];
            if let Some(group) = path.strip_prefix('{') {
                found.extend(heads_of_group(group));
            } else {
                found.extend(identifier(path));
            }
        }
        found
    }
}

/// The first identifier of each entry of `{a::b, c::{d, e}, f}`, whose opening brace is gone.
fn heads_of_group(group: &str) -> Vec<String> {
    let (mut heads, mut depth, mut at_start) = (Vec::new(), 1, true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => at_start = true,
            c if at_start && !c.is_whitespace() => {
                heads.extend(identifier(&group[at..]));
                at_start = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    heads
}

fn identifier(text: &str) -> Option<String> {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}

/// Every comment and every literal of text becomes nothing; line ends stay.
fn without_comments_and_strings(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = raw_string(rest, &code) {
            length
        } else if c == '"' {
            quoted(rest, '"')
        } else if c == '\'' && is_character(rest) {
            quoted(rest, '\'')
        } else {
            code.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        code.extend(rest[..skipped].chars().filter(|&c| c == '\n'));
        rest = &rest[skipped..];
    }
    code
}

/// The length of the raw string that `rest` starts with.
fn raw_string(rest: &str, before: &str) -> Option<usize> {
    let hashes = rest.strip_prefix('r')?;
    if before.ends_with(|c: char| (c.is_alphanumeric() && c != 'b') || c == '_') {
        return None;
    }
    let count = hashes.len() - hashes.trim_start_matches('#').len();
    let content = hashes[count..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(count));
    let start = rest.len() - content.len();
    Some(content.find(&end).map_or(rest.len(), |at| start + at + end.len()))
}

/// The length of what stands between two of `quote`, both included.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Whether the quote begins a character rather than a lifetime.
fn is_character(rest: &str) -> bool {
    let mut next = rest.chars().skip(1);
    matches!((next.next(), next.next()), (Some('\\'), _) | (_, Some('\'')))
}

#[test]
fn code_is_what_is_neither_comment_nor_string() {
    let text = r##"
        // crate::a
        let x: &'static str = "crate::b \" crate::c"; /* crate::d */
        let y = ('"', '\'', crate::e::f, r#"crate::g""#, b"crate::h");
        use crate::{i::{self, j}, k, l::m};
        pub(crate) fn n() { $crate::o(); other_crate::p() }
    "##;
    let source = Source { path: "src/x.rs".into(), text: text.into() };
    let imports: Vec<_> = source.imports().into_iter().collect();
    assert_eq!(imports, ["e", "i", "k", "l"]);
}
