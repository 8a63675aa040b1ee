//! `docs/metrics.md` lists what the program exposes, all of it and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use countersign::metrics::{ALL, Kind};

use super::{
    surface::{self, Surface, Values},
    tool,
};

/// Each section of the list: its metric, and what stands below it.
fn sections() -> BTreeMap<String, String> {
    let text = tool::read("docs/metrics.md");
    let sections: Vec<_> = text
        .split("\n### ")
        .skip(1)
        .map(|section| section.split("\n## ").next().unwrap())
        .map(|section| section.split_once("\n\n").unwrap())
        .map(|(name, body)| (name.to_owned(), body.to_owned()))
        .collect();
    let by_name: BTreeMap<_, _> = sections.iter().cloned().collect();
    assert_eq!(by_name.len(), sections.len(), "a metric is listed twice");
    by_name
}

/// `Counter by `a` (open), `b`.` → the kind, and whether each label is open.
fn first_sentence(body: &str) -> (String, BTreeMap<String, bool>) {
    let paragraph = body.split("\n\n").next().unwrap().replace('\n', " ");
    let sentence = paragraph.split(". ").next().unwrap().to_owned();
    let kind = sentence.split([' ', '.']).next().unwrap().to_owned();
    let parts: Vec<_> = sentence.split('`').skip(1).collect();
    let labels = parts
        .chunks(2)
        .map(|pair| (pair[0].to_owned(), pair.get(1).is_some_and(|t| t.starts_with(" (open"))))
        .collect();
    (kind, labels)
}

/// The tables of a section: label → its values.
fn tables(body: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut tables = BTreeMap::<String, BTreeSet<String>>::new();
    let mut label = None;
    for line in body.lines() {
        let Some((first, text)) = line.strip_prefix("| `").and_then(|row| row.split_once("` |"))
        else {
            continue;
        };
        if text.trim() == "|" {
            label = Some(first.to_owned());
        } else {
            let label = label.clone().expect("a table's head names its label");
            assert!(tables.entry(label).or_default().insert(first.to_owned()), "{first} twice");
        }
    }
    tables
}

fn exposed_labels(surface: &Surface, metric: &str) -> BTreeMap<String, bool> {
    let labels = surface[metric].iter();
    labels.map(|(label, values)| (label.clone(), *values == Values::Open)).collect()
}

#[test]
fn every_metric_is_listed_and_nothing_else() {
    let listed: BTreeSet<_> = sections().into_keys().collect();
    let exposed: BTreeSet<_> = ALL.iter().map(|metric| metric.name.to_owned()).collect();
    assert_eq!(listed, exposed);
}

#[test]
fn every_metric_is_listed_with_its_kind_and_its_labels() {
    let (surface, sections) = (surface::surface(), sections());
    for metric in ALL {
        let (kind, labels) = first_sentence(&sections[metric.name]);
        let wanted = match metric.kind {
            Kind::Counter => "Counter",
            Kind::Gauge => "Gauge",
            Kind::Histogram => "Histogram",
        };
        assert_eq!(kind, wanted, "{}", metric.name);
        assert_eq!(labels, exposed_labels(&surface, metric.name), "{}", metric.name);
    }
}

#[test]
fn every_value_of_a_closed_label_is_listed_and_nothing_else() {
    let (surface, sections) = (surface::surface(), sections());
    for metric in ALL {
        let closed: BTreeMap<_, _> = surface[metric.name]
            .iter()
            .filter_map(|(label, values)| match values {
                Values::Open => None,
                Values::Closed(values) => Some((label.clone(), values.clone())),
            })
            .collect();
        assert_eq!(tables(&sections[metric.name]), closed, "{}", metric.name);
    }
}

#[test]
fn every_example_of_the_documents_asks_for_what_is_exposed() {
    let surface = surface::surface();
    let examples = examples();
    assert!(examples.len() >= 8, "{examples:?}");
    for example in examples {
        surface::assert_exposed(&surface, &example);
    }
}

/// The PromQL of the documents.
pub(crate) fn examples() -> Vec<String> {
    let text = tool::read("docs/metrics.md") + &tool::read("docs/deployment.md");
    let blocks = text.split("```promql\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap().trim().to_owned()).collect()
}
