//! The values: each one described, checked by the schema, and listed in the chart's README.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::chart;

/// A value of values.yaml: its path, the description above it, its default.
struct Described {
    path: String,
    text: String,
    default: Value,
}

/// Values in the order of the file. A description stands on the line above its key, as `# -- text`.
fn described() -> Result<Vec<Described>> {
    let file = std::fs::read_to_string(chart().join("values.yaml"))?;
    let values: Value = serde_yaml::from_str(&file)?;
    let mut path: Vec<(usize, String)> = Vec::new();
    let mut above: Option<String> = None;
    let mut all = Vec::new();
    for line in file.lines() {
        let word = line.trim_start();
        let depth = line.len() - word.len();
        if let Some(text) = word.strip_prefix("# -- ") {
            above = Some(text.to_owned());
            continue;
        }
        let Some((key, _)) = word.split_once(':').filter(|(key, _)| key.chars().all(char::is_alphanumeric))
        else {
            continue;
        };
        path.retain(|(of, _)| *of < depth);
        path.push((depth, key.to_owned()));
        if let Some(text) = above.take() {
            let keys: Vec<&str> = path.iter().map(|(_, key)| key.as_str()).collect();
            let default =
                values.pointer(&format!("/{}", keys.join("/"))).context("a key that is not there")?;
            all.push(Described { path: keys.join("."), text, default: default.clone() });
        }
    }
    Ok(all)
}

/// The paths of all values that have no description above them or above what they are in.
fn undescribed(values: &Value, path: &str, described: &[Described], found: &mut Vec<String>) {
    for (key, value) in values.as_object().into_iter().flatten() {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        if described.iter().any(|one| one.path == path) {
            continue;
        }
        match value.as_object().is_some_and(|members| !members.is_empty()) {
            true => undescribed(value, &path, described, found),
            false => found.push(path),
        }
    }
}

#[test]
fn every_value_is_described_and_known_to_the_schema() -> Result<()> {
    let values: Value = serde_yaml::from_str(&std::fs::read_to_string(chart().join("values.yaml"))?)?;
    let described = described()?;
    let mut found = Vec::new();
    undescribed(&values, "", &described, &mut found);
    assert_eq!(found, [""; 0], "without a `# --` line");

    let schema: Value = serde_json::from_str(&std::fs::read_to_string(chart().join("values.schema.json"))?)?;
    for Described { path, .. } in &described {
        let pointer = format!("/properties/{}", path.replace('.', "/properties/"));
        ensure!(schema.pointer(&pointer).is_some(), "values.schema.json has no {path}");
    }
    Ok(())
}

/// The names that people know from other charts (external-dns, Karpenter, ACK).
#[test]
fn the_names_are_those_of_the_conventions() -> Result<()> {
    let values: Value = serde_yaml::from_str(&std::fs::read_to_string(chart().join("values.yaml"))?)?;
    for path in "image/repository image/tag image/digest image/pullPolicy imagePullSecrets nameOverride fullnameOverride \
        namespaceOverride commonLabels replicaCount revisionHistoryLimit podLabels podAnnotations deploymentAnnotations \
        podSecurityContext securityContext serviceAccount/create serviceAccount/name serviceAccount/annotations \
        serviceAccount/automountServiceAccountToken rbac/create resources nodeSelector tolerations affinity \
        topologySpreadConstraints priorityClassName podDisruptionBudget terminationGracePeriodSeconds env extraVolumes \
        extraVolumeMounts extraArgs logLevel logFormat metrics/port healthProbe/port serviceMonitor/enabled \
        serviceMonitor/additionalLabels serviceMonitor/interval serviceMonitor/scrapeTimeout serviceMonitor/relabelings \
        serviceMonitor/metricRelabelings prometheusRule/enabled dashboards/enabled networkPolicy/enabled \
        admissionPolicy/enabled crds/install crds/keep watchNamespaces leaderElection/enabled leaderElection/leaseDuration \
        leaderElection/renewDeadline leaderElection/retryPeriod aws/region aws/endpointUrl aws/assumeRoleArn \
        reconcile/resyncInterval reconcile/concurrency budgets dryRun defaultDeletionPolicy"
        .split_whitespace()
    {
        ensure!(values.pointer(&format!("/{path}")).is_some(), "values.yaml has no {path}");
    }
    Ok(())
}

/// The README's table is values.yaml.
#[test]
fn readme_lists_every_value_with_its_default() -> Result<()> {
    let file = chart().join("README.md");
    let readme = std::fs::read_to_string(&file)?;
    let mut table = String::from("\n| value | default | |\n|---|---|---|\n");
    for Described { path, text, default } in described()? {
        table += &format!("| `{path}` | `{default}` | {text} |\n");
    }
    let (head, rest) = readme.split_once("same test -->").context("README.md has no place for the table")?;
    let (_, tail) = rest.split_once("<!-- /values -->").context("README.md has no end of the table")?;
    let wanted = format!("{head}same test -->{table}<!-- /values -->{tail}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, &wanted)?;
        return Ok(());
    }
    ensure!(
        readme == wanted,
        "README.md of the chart differs: UPDATE_DOCS=1 cargo test --test e2e readme_lists"
    );
    Ok(())
}
