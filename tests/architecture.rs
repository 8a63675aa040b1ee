//! The tree is built as `docs/architecture.md` says: who may import whom, where `unsafe` may be,
//! how long a file may grow; and the documents say what the code does.
//!
//! The source is read as text, and what the documents list is compared with what the code has.

#![allow(clippy::unwrap_used, reason = "a test that can't read its own tree has failed")]

#[path = "architecture/source.rs"]
mod source;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use countersign::{
    metrics::{CloseCause, HandshakeResult},
    trust::{Peer, Refusal},
};
use source::{Source, root, sources};
use toml::de::DeTable;

/// Lines of a file of the product, and of one of tests.
const MAX_LINES: usize = 500;
const MAX_TEST_LINES: usize = 700;

/// The only files with `unsafe` code, each behind an `allow` of its own.
const UNSAFE_FILES: [&str; 4] =
    ["src/crypto/coroutine.rs", "src/crypto/mb.rs", "src/ring/socket.rs", "src/sys.rs"];

/// Which modules each one imports, in data-flow order: each only from below, but for the knot.
const IMPORTS: &[(&str, &[&str])] = &[
    (
        "cli",
        &[
            "app",
            "config",
            "crypto",
            "crls",
            "demo",
            "explain",
            "generation",
            "load",
            "metrics",
            "name",
            "pki",
            "quota",
            "resumption",
            "revocation",
            "ring",
            "sys",
        ],
    ),
    ("explain", &["config", "generation", "handshake", "trust"]),
    ("load", &[]),
    ("demo", &["pki", "proxy"]),
    ("pki", &[]),
    (
        "app",
        &[
            "admin",
            "admission",
            "config",
            "crypto",
            "crls",
            "generation",
            "listener",
            "logging",
            "metrics",
            "process",
            "quota",
            "resumption",
            "ring",
            "sys",
            "worker",
        ],
    ),
    ("admin", &["metrics"]),
    ("logging", &["config"]),
    (
        "worker",
        &[
            "admission",
            "crypto",
            "generation",
            "handshake",
            "listener",
            "metrics",
            "process",
            "ring",
            "sessions",
            "sys",
        ],
    ),
    ("listener", &["connection", "generation", "handshake", "metrics", "ring", "worker"]),
    (
        "connection",
        &[
            "admission",
            "config",
            "generation",
            "handshake",
            "journal",
            "metrics",
            "proxy",
            "quota",
            "record",
            "relay",
            "ring",
            "sessions",
            "trust",
            "worker",
        ],
    ),
    ("journal", &["config", "handshake", "metrics", "relay", "trust"]),
    (
        "generation",
        &[
            "backend",
            "config",
            "crls",
            "handshake",
            "metrics",
            "quota",
            "resumption",
            "revocation",
            "sessions",
            "shadow",
            "trust",
        ],
    ),
    ("crls", &["config", "metrics", "revocation"]),
    // The stages, which know of each other only what lib.rs says.
    (
        "handshake",
        &[
            "admission",
            "config",
            "crypto",
            "metrics",
            "record",
            "resumption",
            "ring",
            "shadow",
            "trust",
        ],
    ),
    ("shadow", &["config", "metrics", "trust"]),
    ("backend", &["config", "metrics", "ring", "sessions", "trust"]),
    ("relay", &["metrics", "record", "ring", "sessions"]),
    ("sessions", &["config", "metrics", "quota", "ring", "trust"]),
    ("trust", &["config", "name", "revocation"]),
    ("resumption", &["config", "metrics"]),
    ("process", &["admission", "metrics"]),
    ("admission", &["metrics", "ring"]),
    ("quota", &["config"]),
    ("config", &["crypto", "name", "revocation"]),
    ("record", &["crypto"]),
    ("crypto", &["metrics", "ring", "sys"]),
    ("metrics", &[]),
    ("name", &[]),
    ("proxy", &[]),
    ("revocation", &[]),
    ("ring", &[]),
    ("sys", &[]),
];

/// A worker starts listeners, and these run on the worker that they are handed.
const KNOT: [(&str, &str); 2] = [("listener", "worker"), ("connection", "worker")];

/// Of a stage, what another one takes: the rest of it is none of its business.
const TAKEN: &[(&str, &str, &[&str])] = &[
    ("handshake", "trust", &["Identity", "Permit", "Policy", "Refusal", "Refused"]),
    ("handshake", "record", &["RecordLayer", "Side", "TrafficSecretsCapture"]),
    ("shadow", "trust", &["Identity", "Permit", "Policy", "Refused"]),
    ("backend", "trust", &["Permit"]),
    ("sessions", "trust", &["Permit", "Policy", "Refusal", "Refused"]),
    ("listener", "worker", &["Worker"]),
    ("connection", "worker", &["Worker"]),
];

fn product() -> Vec<Source> {
    sources("src").into_iter().filter(|source| !source.is_test()).collect()
}

/// The modules that each module of the product names.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in product() {
        let module = source.module().to_owned();
        if module == "lib" || module == "main" {
            continue;
        }
        let own = imports.entry(module.clone()).or_default();
        own.extend(source.imports().into_iter().filter(|import| *import != module));
    }
    imports
}

#[test]
fn only_the_ring_module_names_the_runtime() {
    for source in product().iter().filter(|source| source.module() != "ring") {
        let code = source.code();
        for name in ["tokio_uring", "io_uring"] {
            assert!(!code.contains(name), "{} names {name}; only src/ring may", source.path);
        }
    }
}

#[test]
fn the_program_is_only_the_library_s_command_line() {
    let main = fs::read_to_string(root().join("src/main.rs")).unwrap();
    assert!(main.lines().count() < 50 && main.contains("countersign::cli::main()"));
}

#[test]
fn modules_import_exactly_what_the_table_says() {
    let allowed: BTreeMap<String, BTreeSet<String>> = IMPORTS
        .iter()
        .map(|(module, imports)| {
            (module.to_string(), imports.iter().map(ToString::to_string).collect())
        })
        .collect();
    for (module, found) in imports() {
        let allowed = allowed.get(&module).unwrap_or_else(|| panic!("{module} is in no table"));
        assert_eq!(&found, allowed, "what {module} imports (left) and may import (right)");
    }
}

#[test]
fn imports_point_one_way_but_for_the_one_known_knot() {
    let place = |module: &str| IMPORTS.iter().position(|(known, _)| *known == module).unwrap();
    for (module, imports) in IMPORTS {
        for import in *imports {
            let is_below = place(import) > place(module);
            let is_known = KNOT.contains(&(module, import));
            assert!(is_below != is_known, "{module} imports {import}");
        }
    }
}

#[test]
fn a_stage_takes_of_another_only_what_is_listed() {
    for (module, other, taken) in TAKEN {
        for source in product().iter().filter(|source| source.module() == *module) {
            let code = source.code();
            for (at, _) in code.match_indices(&format!("{other}::")) {
                // `context::record::` would be another thing.
                if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
                    continue;
                }
                let rest = &code[at + other.len() + 2..];
                let items = match rest.strip_prefix('{') {
                    Some(group) => group[..group.find('}').unwrap()].to_owned(),
                    None => rest[..rest.find(|c: char| !c.is_alphanumeric()).unwrap()].to_owned(),
                };
                for item in items.split(',').map(str::trim).filter(|item| !item.is_empty()) {
                    assert!(taken.contains(&item), "{} takes {other}::{item}", source.path);
                }
            }
        }
    }
}

#[test]
fn unsafe_code_is_in_four_files_and_argued_block_by_block() {
    let mut with_unsafe = BTreeSet::new();
    for folder in ["src", "tests", "benches"] {
        for source in sources(folder) {
            let code = source.code();
            let words = code.split(|c: char| !(c.is_alphanumeric() || c == '_'));
            if words.clone().any(|word| word == "unsafe") {
                with_unsafe.insert(source.path.clone());
                argue(&source);
            }
            let allows = words.clone().any(|word| word == "unsafe_code");
            assert_eq!(allows, UNSAFE_FILES.contains(&&*source.path), "{}", source.path);
        }
    }
    assert_eq!(with_unsafe, UNSAFE_FILES.map(str::to_owned).into());
}

/// Each block has, in the comment right above its statement, why it has to be and why it is sound.
fn argue(source: &Source) {
    let lines: Vec<&str> = source.text.lines().map(str::trim).collect();
    for (number, line) in lines.iter().enumerate() {
        if line.starts_with("//") || !line.contains("unsafe {") {
            continue;
        }
        let above: Vec<&str> = lines[..number]
            .iter()
            .rev()
            .take_while(|line| line.starts_with("//"))
            .copied()
            .collect();
        for wanted in ["// JUSTIFICATION: ", "// SAFETY: "] {
            let is_there = above.iter().any(|line| line.starts_with(wanted));
            assert!(is_there, "{}:{}: no {wanted}above", source.path, number + 1);
        }
    }
}

#[test]
fn no_file_outgrows_its_reader() {
    for folder in ["src", "tests", "benches"] {
        for source in sources(folder) {
            let is_test = source.is_test() || folder == "tests";
            let limit = if is_test { MAX_TEST_LINES } else { MAX_LINES };
            let lines = source.text.lines().count();
            assert!(lines <= limit, "{} has {lines} lines; split it", source.path);
        }
    }
}

#[test]
fn the_state_of_a_connection_stays_within_what_the_documentation_says() {
    let documented: BTreeMap<String, usize> = table("docs/architecture.md", "State")
        .into_iter()
        .map(|row| (row[0].clone(), row[1].parse().unwrap()))
        .collect();
    let actual = [
        ("the task of a connection", size_of_future(countersign::connection::serve)),
        ("the record layer", size_of::<countersign::record::RecordLayer>()),
        ("the journal", size_of::<countersign::journal::Journal>()),
        ("what admits the client, shared by all that show its chain", size_of::<Peer>()),
        ("its entry in the register", size_of::<countersign::sessions::Session>()),
    ];
    for (what, bytes) in actual {
        let most = documented[what];
        assert!(bytes <= most, "{what} has grown from {most} to {bytes} bytes");
    }
}

/// The size of what a function returns that is never called.
fn size_of_future<A, B, C, D, F: Future>(_: impl Fn(A, B, C, D) -> F) -> usize {
    size_of::<F>()
}

#[test]
fn every_module_is_in_the_map_of_the_documentation() {
    let listed: BTreeSet<String> = table("docs/architecture.md", "Module")
        .into_iter()
        .flat_map(|row| ticked(&row[0]))
        .collect();
    let lib = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let there: BTreeSet<String> = lib
        .lines()
        .filter_map(|line| Some(line.strip_prefix("pub mod ")?.trim_end_matches(';').to_owned()))
        .collect();
    assert_eq!(listed, there);
}

#[test]
fn every_limit_of_the_documentation_is_a_constant_where_it_says() {
    let rows = table("docs/architecture.md", "Constant");
    assert!(rows.len() > 30, "{}", rows.len());
    for row in rows {
        let (name, file) = (&ticked(&row[0])[0], &ticked(&row[1])[0]);
        let text = fs::read_to_string(root().join("src").join(file)).unwrap();
        assert!(text.contains(&format!("const {name}: ")), "{name} is no constant of {file}");
    }
}

#[test]
fn the_documentation_has_every_end_of_handshakes_and_connections() {
    let results: Vec<_> = HandshakeResult::ALL.iter().map(|result| result.as_str()).collect();
    assert_eq!(first_words("docs/architecture.md", "Result"), results);
    let causes: Vec<_> = CloseCause::ALL.iter().map(|cause| cause.as_str()).collect();
    assert_eq!(first_words("docs/architecture.md", "Cause"), causes);
}

#[test]
fn the_documentation_has_every_refusal_with_its_alert() {
    let documented: Vec<(String, String)> = table("docs/trust.md", "Reason")
        .into_iter()
        .map(|row| (ticked(&row[0])[0].clone(), row[1].clone()))
        .collect();
    let refusals: Vec<(String, String)> = Refusal::ALL
        .iter()
        .map(|refusal| (refusal.as_str().to_owned(), snake_case(&format!("{:?}", refusal.alert()))))
        .collect();
    assert_eq!(documented, refusals);
}

#[test]
fn what_webpki_leaves_out_is_in_the_files_and_tests_that_the_documentation_names() {
    let rows = table("docs/trust.md", "Left to the caller");
    assert_eq!(rows.len(), 7, "what is left out, as it was found by trying");
    let tests: String =
        ["src", "tests"].iter().flat_map(|folder| sources(folder)).map(|s| s.text).collect();
    for row in rows {
        for file in ticked(&row[2]) {
            assert!(root().join("src").join(&file).exists(), "{file}");
        }
        let named = ticked(&row[3]);
        assert!(!named.is_empty(), "{row:?}");
        for test in named {
            assert!(tests.contains(&format!("fn {test}()")), "no test is called {test}");
        }
    }
}

/// `UnknownCA` as `unknown_ca`.
fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    let mut after_capital = true;
    for c in name.chars() {
        if c.is_uppercase() && !after_capital {
            snake.push('_');
        }
        after_capital = c.is_uppercase();
        snake.extend(c.to_lowercase());
    }
    snake
}

#[test]
fn every_dependency_is_explained_and_used() {
    let text = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let manifest = DeTable::parse(&text).unwrap();
    let mut explained: BTreeSet<String> = table("docs/dependencies.md", "Crate")
        .into_iter()
        .map(|row| ticked(&row[0])[0].clone())
        .collect();
    let code: String = ["src", "tests", "benches"]
        .iter()
        .flat_map(|folder| sources(folder))
        .map(|source| source.text)
        .collect();
    for section in ["dependencies", "dev-dependencies"] {
        let crates = manifest.get_ref().get(section).and_then(|table| table.get_ref().as_table());
        for (name, value) in crates.unwrap() {
            let name = name.get_ref();
            let package = value.get_ref().as_table().and_then(|table| table.get("package"));
            let package = package.and_then(|package| package.get_ref().as_str()).unwrap_or(name);
            assert!(
                explained.remove(package) || section != "dependencies",
                "docs/dependencies.md explains {package}"
            );
            let in_code = format!("{}::", name.replace('-', "_"));
            assert!(code.contains(&in_code), "{name} is used");
        }
    }
    assert_eq!(explained, BTreeSet::new(), "explained, but no dependency");
}

/// A patch that doesn't fit any more would seed nothing.
#[test]
fn every_seeded_bug_fits_the_code() {
    let patches: Vec<_> = fs::read_dir(root().join("tests/seeded_bugs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(patches.len() > 30, "{}", patches.len());
    for patch in patches {
        let applied = Command::new("git")
            .args(["apply", "--check"])
            .arg(&patch)
            .current_dir(root())
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&applied.stderr);
        assert!(applied.status.success(), "{}: {errors}", patch.display());
    }
}

#[test]
fn links_of_documents_lead_somewhere() {
    let documents = ["README.md", "CHANGELOG.md"].map(|name| root().join(name));
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    for document in documents.into_iter().chain(docs) {
        let text = fs::read_to_string(&document).unwrap();
        let folder = document.parent().unwrap();
        for (at, _) in text.match_indices("](") {
            let (link, _) = text[at + 2..].split_once(')').unwrap();
            if link.starts_with("https://") || link.contains(char::is_whitespace) {
                continue;
            }
            assert!(leads_somewhere(&document, folder, link), "{}: {link}", document.display());
        }
    }
}

fn leads_somewhere(document: &Path, folder: &Path, link: &str) -> bool {
    let (file, heading) = link.split_once('#').unwrap_or((link, ""));
    let target = if file.is_empty() { document.to_owned() } else { folder.join(file) };
    if heading.is_empty() {
        return target.exists();
    }
    let Ok(text) = fs::read_to_string(target) else { return false };
    let headings = text.lines().filter_map(|line| line.strip_prefix('#'));
    headings.map(|line| anchor(line.trim_start_matches('#').trim())).any(|a| a == heading)
}

/// A heading's anchor: lower case, spaces as hyphens, no punctuation.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

/// The rows of the tables of a document whose first column is called `title`.
fn table(document: &str, title: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(root().join(document)).unwrap();
    let heading = format!("| {title} |");
    let mut rows = Vec::new();
    let mut lines = text.lines();
    while lines.by_ref().any(|line| line.starts_with(&heading)) {
        for line in lines.by_ref().skip(1).take_while(|line| line.starts_with('|')) {
            let cells = line.trim_matches('|').split(" | ");
            rows.push(cells.map(|cell| cell.trim().to_owned()).collect());
        }
    }
    assert!(!rows.is_empty(), "{document} has a table of each {title}");
    rows
}

fn first_words(document: &str, title: &str) -> Vec<String> {
    table(document, title).iter().map(|row| ticked(&row[0])[0].clone()).collect()
}

/// What stands between backticks in a cell.
fn ticked(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}
