//! What is shipped speaks of the metrics that there are: `docs/metrics.md`, the alerts and the dashboard of
//! `deploy/monitoring`.

use std::collections::{BTreeMap, BTreeSet};

use prometheus::proto::MetricType;
use serde_json::Value;

use super::used;
use crate::pages::{self, read};

/// The labels that Prometheus puts on every series it reads in a cluster, and those that PromQL itself makes.
const OF_THE_TARGET: [&str; 5] = ["namespace", "job", "instance", "pod", "le"];

/// A metric as `/metrics` shows it.
struct Shown {
    kind: &'static str,
    labels: BTreeSet<String>,
    help: String,
}

/// Every metric of the program by its name.
fn shown() -> BTreeMap<String, Shown> {
    let metrics = used();
    metrics.render().unwrap(); // as a scrape does, which feeds the gauges of the listing
    let mut all = BTreeMap::new();
    for family in metrics.registry.gather() {
        let labels = family.get_metric().iter().flat_map(|metric| metric.get_label());
        let labels = labels.map(|label| label.name().to_owned()).collect();
        let kind = match family.get_field_type() {
            MetricType::COUNTER => "counter",
            MetricType::GAUGE => "gauge",
            MetricType::HISTOGRAM => "histogram",
            MetricType::SUMMARY | MetricType::UNTYPED => "unexpected",
        };
        all.insert(family.name().to_owned(), Shown { kind, labels, help: family.help().to_owned() });
    }
    all
}

/// The metrics that an expression names, each with the labels that its selector names.
fn named(expression: &str) -> Vec<(String, Vec<String>)> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find(word) {
        let tail = rest.get(start..).unwrap();
        let end = tail.find(|c| !word(c)).unwrap_or(tail.len());
        let (name, after) = tail.split_at(end);
        rest = after;
        let selector = after.strip_prefix('{').and_then(|after| after.split_once('}'));
        if let Some((inside, behind)) = selector {
            // A label stands before =, !=, =~ or !~; what is between quotes is a value.
            let outside_quotes: String = inside.split('"').step_by(2).collect();
            let labels = outside_quotes.split(['=', '!', '~', ',', ' ']).filter(|label| !label.is_empty());
            found.push((name.to_owned(), labels.map(str::to_owned).collect()));
            rest = behind;
        } else if OURS.iter().any(|prefix| name.starts_with(prefix)) {
            found.push((name.to_owned(), Vec::new()));
        }
    }
    found
}

/// How the names of metrics begin.
const OURS: [&str; 6] =
    ["instancerole_", "controller_runtime_", "leader_election_", "rest_client_", "workqueue_", "process_"];

/// The labels that an expression groups by or matches on.
fn grouped_by(expression: &str) -> Vec<String> {
    let mut labels = Vec::new();
    for word in ["by (", "on (", "without ("] {
        for after in expression.split(word).skip(1) {
            let inside = after.split(')').next().unwrap_or_default();
            labels.extend(inside.split(',').map(|label| label.trim().to_owned()));
        }
    }
    labels
}

/// Fails unless every metric and label of the expression is there.
fn holds(place: &str, expression: &str, metrics: &BTreeMap<String, Shown>) -> BTreeSet<String> {
    let named = named(expression);
    assert!(!named.is_empty(), "{place}: no metric in {expression}");
    let mut labels_of_all: BTreeSet<String> = OF_THE_TARGET.map(str::to_owned).into();
    let mut names = BTreeSet::new();
    for (name, labels) in named {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        let base = base.filter(|base| metrics.get(*base).is_some_and(|metric| metric.kind == "histogram"));
        let base = base.unwrap_or(&name);
        let metric = metrics.get(base).unwrap_or_else(|| panic!("{place}: there is no metric {name}"));
        let histogram = metric.kind == "histogram";
        assert!(!histogram || base != name, "{place}: {name} is a histogram: _bucket, _sum or _count");
        for label in labels {
            let known = metric.labels.contains(&label) || OF_THE_TARGET.contains(&label.as_str());
            assert!(known, "{place}: {name} has no label {label}");
        }
        labels_of_all.extend(metric.labels.iter().cloned());
        names.insert(base.to_owned());
    }
    for label in grouped_by(expression) {
        assert!(labels_of_all.contains(&label), "{place}: nothing has the label {label} in {expression}");
    }
    names
}

/// The values of every member of this name, wherever it stands.
fn members<'v>(value: &'v Value, name: &str, found: &mut Vec<&'v str>) {
    match value {
        Value::Object(all) => {
            for (key, value) in all {
                match value.as_str() {
                    Some(text) if key == name => found.push(text),
                    _ => members(value, name, found),
                }
            }
        }
        Value::Array(all) => all.iter().for_each(|value| members(value, name, found)),
        _ => {}
    }
}

#[test]
fn every_metric_of_the_alerts_is_there_with_its_labels() {
    let rules: Value = serde_yaml::from_str(&read("deploy/monitoring/prometheus-rules.yaml")).unwrap();
    let mut expressions = Vec::new();
    members(&rules, "expr", &mut expressions);
    assert!(expressions.len() >= 7, "{expressions:?}");
    let metrics = shown();
    for expression in expressions {
        holds("prometheus-rules.yaml", expression, &metrics);
    }
    let page = read("docs/metrics.md");
    let mut alerts = Vec::new();
    members(&rules, "alert", &mut alerts);
    let untold: Vec<&&str> =
        alerts.iter().filter(|alert| !page.contains(&format!("| `{alert}` |"))).collect();
    assert!(untold.is_empty(), "docs/metrics.md does not tell of {untold:?}");
}

#[test]
fn every_query_of_the_dashboard_is_about_metrics_that_are_there_and_shows_each_of_ours() {
    let dashboard: Value = serde_json::from_str(&read("deploy/monitoring/dashboard.json")).unwrap();
    let mut expressions = Vec::new();
    members(&dashboard, "expr", &mut expressions);
    assert!(expressions.len() >= 30, "{}", expressions.len());
    let metrics = shown();
    let mut seen = BTreeSet::new();
    for expression in expressions {
        seen.extend(holds("dashboard.json", expression, &metrics));
    }
    for query in dashboard["templating"]["list"].as_array().unwrap() {
        if let Some(query) = query["definition"].as_str() {
            let inside = query.strip_prefix("label_values(").unwrap();
            holds("dashboard.json", inside, &metrics);
        }
    }
    let ours = metrics.keys().filter(|name| !name.starts_with("process_"));
    let missing: Vec<&String> = ours.filter(|name| !seen.contains(*name)).collect();
    assert!(missing.is_empty(), "the dashboard does not show {missing:?}");
}

#[test]
fn a_metric_or_a_label_that_is_not_there_is_found() {
    let metrics = shown();
    for expression in [
        "rate(instancerole_no_such_total[5m])",
        "absent(instancerole_nothing)",
        r#"sum(instancerole_bindings{colour="red"})"#,
        "sum by (colour) (instancerole_bindings)",
        "instancerole_convergence_seconds > 1",
        r#"up{job="x"}"#,
    ] {
        let held = std::panic::catch_unwind(|| holds("test", expression, &metrics).len());
        assert!(held.is_err(), "{expression}");
    }
}

/// The page is what the program tells.
#[test]
fn the_page_of_metrics_tells_each_with_type_labels_and_meaning() {
    let rows = shown().into_iter().map(|(name, Shown { kind, labels, help })| {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        [format!("`{name}`"), kind.to_owned(), labels.join(", "), help.replace('<', "\\<")]
    });
    let table = pages::table(["metric", "type", "labels", "what it tells"], rows);
    pages::keep("docs/metrics.md", "metrics", &table);
}
