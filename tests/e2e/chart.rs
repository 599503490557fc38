//! What stands in `deploy/helm` and `deploy/kustomize`: rendered by helm and kustomize, compared with each other, taken by
//! a real API server, and enough for the controller to work with.

mod compared;
mod installed;
mod rendered;
mod values;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use world::{repository, tool};

/// The namespace that all of it is rendered for.
const NAMESPACE: &str = "instance-role-system";
/// The release, which gives objects the names that kustomize has.
const RELEASE: &str = "instance-role-controller";

fn chart() -> PathBuf {
    repository().join("deploy/helm/instance-role-controller")
}

/// `helm` with nothing of this machine's settings.
fn helm() -> Result<Command> {
    let mut command = Command::new(tool("helm")?);
    let nowhere = std::env::temp_dir().join("no-helm-settings");
    for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(variable, &nowhere);
    }
    command.env_remove("KUBECONFIG").env("NO_PROXY", "*");
    Ok(command)
}

/// What it printed, or its words of refusal as the error.
fn run(command: &mut Command) -> Result<String> {
    let output = command.output().context("helm cannot be run")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The objects of a text of YAML documents.
fn objects(text: &str) -> Result<Vec<Value>> {
    let documents = serde_yaml::Deserializer::from_str(text);
    let objects: Result<Vec<Value>> = documents
        .map(|document| serde::Deserialize::deserialize(document).context("a manifest that is no YAML"))
        .collect();
    Ok(objects?.into_iter().filter(|object| !object.is_null()).collect())
}

/// The objects that the chart makes of these arguments (`--values=…`, `--set=…`).
fn template(arguments: &[String]) -> Result<Vec<Value>> {
    let mut command = helm()?;
    command.args(["template", RELEASE]).arg(chart()).args(["--namespace", NAMESPACE]).args(arguments);
    objects(&run(&mut command)?)
}

fn with_values(file: &Path) -> [String; 1] {
    [format!("--values={}", file.display())]
}

/// The values files of the tests and the examples.
fn values_files() -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for folder in ["ci", "examples"] {
        for entry in std::fs::read_dir(chart().join(folder))? {
            files.push(entry?.path());
        }
    }
    files.sort();
    Ok(files)
}

fn ci(name: &str) -> PathBuf {
    chart().join(format!("ci/{name}-values.yaml"))
}

fn one<'o>(objects: &'o [Value], kind: &str, name: &str) -> Result<&'o Value> {
    let wanted = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
    objects.iter().find(wanted).with_context(|| format!("there is no {kind} {name}"))
}

/// The arguments that the Deployment gives the program.
fn arguments(objects: &[Value]) -> Result<Vec<String>> {
    let deployment = objects.iter().find(|object| object["kind"] == "Deployment").context("no Deployment")?;
    Ok(serde_json::from_value(deployment["spec"]["template"]["spec"]["containers"][0]["args"].clone())?)
}

fn name_of(argument: &str) -> &str {
    argument.split('=').next().unwrap_or_default()
}
