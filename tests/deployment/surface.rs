//! What the program exposes, read from what it renders, and what an expression asks for.

use std::collections::{BTreeMap, BTreeSet};

use countersign::{
    metrics::{
        ALL, BackendMetrics, CacheMetrics, CrlMetrics, CryptoMetrics, Kind, ListenerMetrics,
        MetricName, Metrics, ProcessMetrics, WorkerMetrics,
    },
    trust::Refusal,
};

/// Labels whose values come from the configuration.
const OPEN_LABELS: [&str; 5] = ["listener", "backend", "certificate", "profile", "worker"];

/// Labels that the scrape adds.
const SCRAPE_LABELS: [&str; 2] = ["instance", "job"];

/// The values of a label.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Values {
    /// Whatever the configuration says.
    Open,
    /// These and no others.
    Closed(BTreeSet<String>),
}

/// The labels of each metric of `ALL`.
pub(crate) type Surface = BTreeMap<&'static str, BTreeMap<String, Values>>;

/// Everything that a process with one of each would render.
pub(crate) fn rendered() -> String {
    let metrics = Metrics::new().unwrap();
    let refusals: Vec<_> = Refusal::ALL.iter().map(|reason| reason.as_str()).collect();
    let _handles = (
        ProcessMetrics::new(&metrics),
        ListenerMetrics::new(&metrics, "any", &refusals),
        BackendMetrics::new(&metrics, "any"),
        WorkerMetrics::new(&metrics, 0),
        CrlMetrics::new(&metrics, "any"),
        CacheMetrics::new(&metrics),
        CryptoMetrics::new(&metrics),
    );
    metrics.register_expiry("any", 0.0);
    metrics.register_trust_expiry("any", 0.0);
    metrics.render()
}

/// What the program exposes.
pub(crate) fn surface() -> Surface {
    let mut surface = Surface::new();
    for line in rendered().lines().filter(|line| line.starts_with("countersign_")) {
        let selector = &selectors(line)[0];
        let metric = known(&selector.metric).unwrap_or_else(|| panic!("unknown: {line}"));
        let labels = surface.entry(metric.name).or_default();
        for (label, value) in selector.matchers.iter().filter(|(label, _)| label != "le") {
            let open = OPEN_LABELS.contains(&label.as_str())
                || (metric.name == "countersign_build_info" && label == "version");
            let values = labels.entry(label.clone()).or_insert_with(|| match open {
                true => Values::Open,
                false => Values::Closed(BTreeSet::new()),
            });
            if let Values::Closed(values) = values {
                values.insert(value.clone());
            }
        }
    }
    surface
}

/// The metric that a series of that name belongs to.
pub(crate) fn known(series: &str) -> Option<&'static MetricName> {
    ALL.iter().find(|metric| match metric.kind {
        Kind::Counter | Kind::Gauge => metric.name == series,
        Kind::Histogram => series
            .strip_prefix(metric.name)
            .is_some_and(|suffix| ["_bucket", "_sum", "_count"].contains(&suffix)),
    })
}

/// `name{label="value", …}`
#[derive(Debug)]
pub(crate) struct Selector {
    /// The series.
    pub(crate) metric: String,
    /// Label and value, whatever the operator between them.
    pub(crate) matchers: Vec<(String, String)>,
}

/// The selectors of countersign's series in an expression or a line of the text format.
pub(crate) fn selectors(expression: &str) -> Vec<Selector> {
    let starts = expression.match_indices("countersign_").map(|(start, _)| start);
    starts
        .map(|start| {
            let rest = &expression[start..];
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            let (metric, rest) = rest.split_at(end.unwrap_or(rest.len()));
            let mut matchers = Vec::new();
            if let Some(inner) = rest.strip_prefix('{') {
                // No value holds a brace or a quote.
                let (inner, _) = inner.split_once('}').unwrap();
                let parts: Vec<_> = inner.split('"').collect();
                for pair in parts.chunks_exact(2) {
                    let label = pair[0].trim_matches([',', ' ', '\n', '=', '!', '~']);
                    matchers.push((label.to_owned(), pair[1].to_owned()));
                }
            }
            Selector { metric: metric.to_owned(), matchers }
        })
        .collect()
}

/// Fails unless each metric, label and label value that `expression` asks for is exposed.
pub(crate) fn assert_exposed(surface: &Surface, expression: &str) {
    let mut usable: BTreeSet<&str> = SCRAPE_LABELS.into();
    for selector in selectors(expression) {
        let Some(metric) = known(&selector.metric) else {
            panic!("there is no metric {} (in {expression})", selector.metric);
        };
        let labels = &surface[metric.name];
        usable.extend(labels.keys().map(String::as_str));
        if metric.kind == Kind::Histogram {
            usable.insert("le");
        }
        for (label, wanted) in &selector.matchers {
            match labels.get(label) {
                Some(Values::Open) => {}
                Some(Values::Closed(values)) => assert!(
                    wanted.split('|').all(|value| values.contains(value)),
                    "{}: {label} is never {wanted:?}, but one of {values:?}",
                    metric.name
                ),
                None => assert!(
                    SCRAPE_LABELS.contains(&label.as_str()),
                    "{} has no label {label}, but {:?}",
                    metric.name,
                    labels.keys()
                ),
            }
        }
    }
    for grouping in expression.split("by (").skip(1) {
        let (labels, _) = grouping.split_once(')').unwrap();
        for label in labels.split(',').map(str::trim) {
            assert!(usable.contains(label), "grouped by {label}, of {usable:?}: {expression}");
        }
    }
}

#[test]
fn an_expression_that_asks_for_what_is_not_there_is_found_out() {
    let surface = surface();
    for (wrong, why) in [
        ("countersign_handshake_total", "a metric"),
        ("countersign_handshake_duration_seconds", "a histogram without its suffix"),
        (r#"countersign_refusals_total{backend="a"}"#, "a label"),
        (r#"countersign_refusals_total{listener="a", reason=~"expired|late"}"#, "a value"),
        ("sum by (cause) (countersign_refusals_total)", "a grouping"),
    ] {
        let asked = std::panic::catch_unwind(|| assert_exposed(&surface, wrong));
        assert!(asked.is_err(), "{why}: {wrong}");
    }
}
