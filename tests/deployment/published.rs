//! What documents say of measured speed is what a committed run gave, and the newest one.

use std::{collections::BTreeSet, fs};

use super::tool;

/// Documents with tables of countersign beside its peers.
const DOCUMENTS: [&str; 2] = ["README.md", "docs/performance.md"];

/// The result files of one kind of run, the oldest first: `DATE-HOST.md`, `DATE-HOST-KIND.md`.
fn runs(kind: &str) -> Vec<String> {
    let files = fs::read_dir(tool::shipped("bench-results")).unwrap();
    let mut names: Vec<_> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| kind_of(name) == Some(kind))
        .collect();
    names.sort_unstable();
    names
}

/// What follows date and host in a result file's name, if it is one for people.
fn kind_of(name: &str) -> Option<&str> {
    let stem = name.strip_suffix(".md")?;
    let after_date = stem.split_at_checked("2026-01-31-".len())?.1;
    Some(after_date.split_once('-').map_or("", |(_, kind)| kind))
}

/// The result files that a document links to.
fn linked(document: &str) -> BTreeSet<String> {
    let links = document.split("bench-results/").skip(1);
    let names = links.map(|text| text.split([')', '`', ']', ' ', '\n']).next().unwrap());
    names.filter(|name| kind_of(name).is_some()).map(str::to_owned).collect()
}

/// The lines of tables that compare countersign with others, without their heads.
fn compared(document: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut within = false;
    for line in document.lines() {
        let head = line.starts_with("| | countersign |") && line.contains("nginx");
        within = line.starts_with('|') && (within || head);
        if within && !head && !line.starts_with("|---") {
            lines.push(line);
        }
    }
    lines
}

/// The figures of a table's line, as they are written, without its title.
fn figures(line: &str) -> BTreeSet<&str> {
    let cells = line.split('|').skip(2).flat_map(|cell| cell.split(['(', ')', '–', ' ', '*']));
    cells.filter(|word| word.parse::<f64>().is_ok()).collect()
}

/// Finds a table's line again among those of the runs that the document names: all of its figures
/// stand in one line there.
#[test]
fn every_published_figure_is_one_of_a_committed_run() {
    for document in DOCUMENTS {
        let text = tool::read(document);
        let lines = compared(&text);
        assert!(!lines.is_empty(), "{document} compares countersign with nobody");
        let results: Vec<_> =
            linked(&text).iter().map(|name| tool::read(&format!("bench-results/{name}"))).collect();
        let measured: Vec<_> = results.iter().flat_map(|text| text.lines().map(figures)).collect();
        for line in lines {
            let published = figures(line);
            assert!(!published.is_empty(), "{document}: {line}");
            assert!(
                measured.iter().any(|measured| published.is_subset(measured)),
                "{document}: no run that it links to has these figures in one line: {line}"
            );
        }
    }
}

#[test]
fn the_readme_shows_the_newest_run() {
    for name in linked(&tool::read("README.md")) {
        assert_eq!(runs(kind_of(&name).unwrap()).last(), Some(&name), "a newer run is there");
    }
}
