//! Prometheus' configuration and rules, and Grafana's dashboard.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

use super::{documented, surface, tool};

/// Every string under the key `key`, at any depth.
fn strings_of(value: &Value, key: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(text) if name == key => found.push(text.clone()),
                    other => strings_of(other, key, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| strings_of(item, key, found)),
        _ => {}
    }
}

fn dashboard() -> Value {
    serde_json::from_str(&tool::read("config/grafana/countersign.json")).unwrap()
}

/// The dashboard's PromQL, Grafana's own variables replaced as Grafana does.
fn dashboard_expressions() -> Vec<String> {
    let mut found = Vec::new();
    strings_of(&dashboard(), "expr", &mut found);
    found.iter().map(|expression| expression.replace("$__rate_interval", "5m")).collect()
}

/// The name and the expression of each alert.
fn alerts() -> Vec<(String, String)> {
    let text = tool::read("config/alerts.yml");
    text.split("- alert: ")
        .skip(1)
        .map(|rule| {
            let (name, rest) = rule.split_once('\n').unwrap();
            let (_, rest) = rest.split_once("expr:").unwrap();
            // The expression ends where the next key of the rule stands.
            let lines = rest.lines().take_while(|line| {
                !["for:", "labels:"].iter().any(|key| line.trim_start().starts_with(key))
            });
            let lines: Vec<_> = lines.map(|line| line.trim_start_matches(" >-").trim()).collect();
            (name.to_owned(), lines.join(" "))
        })
        .collect()
}

/// Lets promtool parse `expressions` as recording rules.
fn assert_promql(folder: &Path, expressions: &[String]) {
    let mut rules = "groups:\n- name: expressions\n  rules:\n".to_owned();
    for (number, expression) in expressions.iter().enumerate() {
        // A JSON string is a YAML one.
        let quoted = Value::String(expression.clone());
        rules += &format!("  - {{ record: \"expression:{number}\", expr: {quoted} }}\n");
    }
    fs::write(folder.join("rules.yml"), rules).unwrap();
    let said = tool::promtool(folder, &["check", "rules", "rules.yml"]);
    assert!(said.contains(&format!("{} rules found", expressions.len())), "{said}");
}

#[test]
fn prometheus_takes_the_configuration_and_its_rules() {
    let folder = tool::shipped("config");
    let said = tool::promtool(&folder, &["check", "config", "prometheus.yml"]);
    assert!(said.contains("1 rule files found"), "{said}");
    assert!(said.contains(&format!("{} rules found", alerts().len())), "{said}");
    assert!(!said.contains("FAILED"), "{said}");
}

#[test]
fn every_alert_fires_in_its_case_and_none_on_a_quiet_host() {
    let folder = tempfile::tempdir().unwrap();
    let cases = "tests/deployment/alerts.test.yml";
    fs::copy(tool::shipped("config/alerts.yml"), folder.path().join("alerts.yml")).unwrap();
    fs::copy(tool::shipped(cases), folder.path().join("cases.yml")).unwrap();
    tool::promtool(folder.path(), &["test", "rules", "cases.yml"]);
    let cases = tool::read(cases);
    for (alert, _) in alerts() {
        let named = [format!("alertname: {alert}\n"), format!("alertname=\"{alert}\"")];
        assert!(named.iter().any(|name| cases.contains(name)), "{alert} has no case");
    }
}

#[test]
fn every_alert_asks_for_what_is_exposed() {
    let surface = surface::surface();
    let alerts = alerts();
    assert!(alerts.len() >= 10, "{alerts:?}");
    for (_, expression) in alerts {
        surface::assert_exposed(&surface, &expression);
    }
}

#[test]
fn every_panel_of_the_dashboard_asks_for_what_is_exposed() {
    let surface = surface::surface();
    let expressions = dashboard_expressions();
    assert!(expressions.len() >= 20, "{expressions:?}");
    for expression in expressions {
        surface::assert_exposed(&surface, &expression);
    }
    let mut definitions = Vec::new();
    strings_of(&dashboard(), "definition", &mut definitions);
    for definition in definitions {
        let selector = &surface::selectors(&definition)[0];
        assert!(surface::known(&selector.metric).is_some(), "{definition}");
    }
}

#[test]
fn the_expressions_of_the_dashboard_and_of_the_documents_are_promql() {
    let folder = tempfile::tempdir().unwrap();
    assert_promql(folder.path(), &dashboard_expressions());
    assert_promql(folder.path(), &documented::examples());
}

#[test]
fn the_dashboard_shows_every_metric() {
    let shown: BTreeSet<_> = dashboard_expressions()
        .iter()
        .flat_map(|expression| surface::selectors(expression))
        .filter_map(|selector| surface::known(&selector.metric))
        .map(|metric| metric.name)
        .collect();
    for metric in countersign::metrics::ALL {
        assert!(shown.contains(metric.name), "no panel shows {}", metric.name);
    }
}

#[test]
fn panels_name_their_source_by_the_dashboards_variable() {
    let dashboard = dashboard();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64()), "two panels have the id {}", panel["id"]);
        if panel["type"] != "row" {
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
        }
    }
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let names: Vec<_> = variables.iter().map(|variable| &variable["name"]).collect();
    assert_eq!(names, ["datasource", "instance", "listener"]);
}

#[test]
fn what_is_rendered_is_as_prometheus_wants_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("metrics.txt");
    fs::write(&file, surface::rendered()).unwrap();
    let said = tool::promtool_reading(fs::File::open(file).unwrap(), &["check", "metrics"]);
    assert_eq!(said, "", "promtool check metrics has something to say");
}
