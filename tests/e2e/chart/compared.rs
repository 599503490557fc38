//! The chart and the overlays of kustomize make the same objects, so that neither drifts from the other.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use world::{ControlPlane, World, repository};

use super::{ci, objects, template, with_values};

/// The objects of overlays, as kubectl's own kustomize renders them.
fn kustomized(overlays: &[&str]) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for overlay in overlays {
        let folder = repository().join("deploy/kustomize").join(overlay);
        let kubectl = World::shared()?.control_plane().admin();
        all.extend(objects(&kubectl.run(&["kustomize", &folder.to_string_lossy()])?)?);
    }
    Ok(all)
}

/// Objects by kind and name, without what says only which tool made them.
fn normal(objects: Vec<Value>) -> Result<BTreeMap<String, Value>> {
    let mut all = BTreeMap::new();
    for mut object in objects {
        let metadata = object["metadata"].as_object_mut().context("an object without metadata")?;
        if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
            labels.remove("helm.sh/chart");
            labels.remove("app.kubernetes.io/managed-by");
        }
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove("helm.sh/resource-policy");
        }
        metadata.retain(|_, value| *value != json!({}));
        // Rules of a role are a set.
        if let Some(rules) = object["rules"].as_array_mut() {
            rules.sort_by_key(ToString::to_string);
        }
        let key = format!("{} {}", object["kind"], object["metadata"]["name"]).replace('"', "");
        ensure!(all.insert(key.clone(), object).is_none(), "{key} is there twice");
    }
    Ok(all)
}

/// kustomize takes the Region from a ConfigMap made of aws.env, and brings the namespace along; the chart has a value for
/// the one, and helm's `--create-namespace` for the other.
fn with_the_region_given(mut objects: Vec<Value>) -> Result<Vec<Value>> {
    objects.retain(|object| {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        object["kind"] != "Namespace" && !name.starts_with("instance-role-controller-aws-")
    });
    let deployment =
        objects.iter_mut().find(|object| object["kind"] == "Deployment").context("no Deployment")?;
    let region = deployment
        .pointer_mut("/spec/template/spec/containers/0/env/0")
        .filter(|variable| variable["valueFrom"]["configMapKeyRef"]["key"] == "AWS_REGION")
        .context("the first variable is not AWS_REGION")?;
    *region = json!({"name": "AWS_REGION", "value": "eu-west-1"});
    Ok(objects)
}

#[test]
fn chart_and_kustomize_make_the_same_objects() -> Result<()> {
    for (values, overlays) in [
        ("default", &["default"][..]),
        ("namespaced", &["namespaced"]),
        ("observe-only", &["observe-only"]),
        ("ha", &["ha"]),
        ("admission", &["default", "admission"]),
    ] {
        let by_kustomize = normal(with_the_region_given(kustomized(overlays)?)?)?;
        let by_chart = normal(template(&with_values(&ci(values)))?)?;
        let keys = |all: &BTreeMap<String, Value>| all.keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&by_chart), keys(&by_kustomize), "{values}");
        assert!(by_chart.len() >= 13, "{values}: {:?}", keys(&by_chart));
        for (key, object) in &by_chart {
            assert_eq!(
                Some(object),
                by_kustomize.get(key),
                "{values}: {key}: left the chart, right kustomize"
            );
        }
    }
    Ok(())
}

/// Applied for real, one over the other, as somebody does who goes from one to the next; then nothing is left to apply.
#[test]
fn every_overlay_is_taken_by_the_api_server() -> Result<()> {
    let plane = ControlPlane::start()?;
    plane.api().create("/api/v1/namespaces", &json!({"metadata": {"name": "team-a"}}))?;
    // What an overlay uses must be there before it.
    let crds = repository().join("crds");
    plane.admin().run(&["apply", "--server-side", "-k", &crds.to_string_lossy()])?;
    plane.admin().run(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"])?;
    for overlay in ["default", "namespaced", "observe-only", "ha", "admission", "only-gitops-in-production"] {
        let folder = repository().join("deploy/kustomize").join(overlay);
        let folder = folder.to_str().context("a path that is no text")?;
        let output = plane.kubectl(&["apply", "--server-side", "--validate=strict", "-k", folder])?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success() && said.is_empty(), "{overlay}: {said}");
        let left = plane.kubectl(&["diff", "--server-side", "-k", folder])?;
        ensure!(left.status.success(), "{overlay}: {}", String::from_utf8_lossy(&left.stdout));
    }
    Ok(())
}
