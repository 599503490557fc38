//! A GitOps tool sees no difference that the controller made: not at rest, not after drift, not after an edit, whichever way
//! the manifests were applied.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use world::Scenario;

use crate::stage::{FINALIZER, Story, a_second_later, condition, is_observed, scenario};

/// How somebody applies manifests.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// `kubectl apply`, as Argo CD by default.
    ClientSide,
    /// `kubectl apply --server-side`, as Flux, and Argo CD with ServerSideApply.
    ServerSide,
}

impl Way {
    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::ClientSide => &[],
            Self::ServerSide => &["--server-side", "--field-manager=gitops"],
        }
    }
}

/// What stands in the repository: a binding of every form.
fn manifests(s: &Scenario<'_>, app: &str) -> Result<Vec<Value>> {
    let arn = s.sandbox().profile(&format!("{app}-arn"))?;
    s.sandbox().profile(app)?;
    let specs = [
        ("name", json!({"instanceProfile": {"name": app}})),
        ("arn", json!({"instanceProfile": {"arn": arn}, "deletionPolicy": "Retain"})),
        ("none", json!({"instanceProfile": {"none": {}}})),
        ("suspended", json!({"instanceProfile": {"name": app}, "suspend": true})),
        ("observed", json!({"instanceProfile": {"name": app}, "mode": "Observe"})),
        (
            "all",
            json!({
                "instanceProfile": {"name": app}, "region": "eu-west-1", "mode": "Enforce", "adoptionPolicy": "Replace",
                "whenStopped": "WaitForRunning", "deletionPolicy": "Restore", "suspend": false,
            }),
        ),
    ];
    let binding = |(name, mut spec): (&str, Value)| {
        spec["instanceId"] = json!(s.sandbox().instance("running", None)?);
        Ok(json!({
            "apiVersion": "instancerole.dev/v1alpha1", "kind": "InstanceRoleBinding",
            "metadata": {"name": name, "namespace": s.namespace(), "labels": {"app": "web"}}, "spec": spec,
        }))
    };
    specs.into_iter().map(binding).collect()
}

fn list(manifests: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": manifests}).to_string()
}

fn apply(s: &Scenario<'_>, way: Way, manifests: &[Value]) -> Result<()> {
    let args = [&["apply"], way.flags(), &["-f", "-"]].concat();
    s.world().control_plane().admin().run_with(&args, Some(&list(manifests))).map(drop)
}

/// `kubectl diff` has nothing to say.
fn is_unchanged(s: &Scenario<'_>, way: Way, manifests: &[Value], when: &str) -> Result<()> {
    let args = [&["diff"], way.flags(), &["-f", "-"]].concat();
    let output = s.world().control_plane().admin().output(&args, Some(&list(manifests)))?;
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    ensure!(output.status.code() == Some(0), "{way:?}, {when}: {}{}", said[0], said[1]);
    Ok(())
}

/// Waits until the controller has told of each binding all that there is to tell.
fn settles(s: &Scenario<'_>, manifests: &[Value]) -> Result<()> {
    for manifest in manifests {
        let name = manifest["metadata"]["name"].as_str().context("no name")?;
        s.patiently(name, "is at rest", |binding| {
            is_observed(binding)
                && condition(binding, "Ready").is_object()
                && condition(binding, "Reconciling").is_null()
        })?;
    }
    Ok(())
}

/// What the controller's name stands at in `managedFields`, apart from the status.
fn owned_by_the_controller(binding: &Value) -> Vec<Value> {
    let entries = binding["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let ours = |entry: &Value| {
        let manager = entry["manager"].as_str().unwrap_or_default();
        manager.starts_with("instance-role-controller") && entry["subresource"].is_null()
    };
    entries.into_iter().filter(ours).map(|entry| entry["fieldsV1"].clone()).collect()
}

fn nothing_differs(way: Way, app: &str) -> Result<()> {
    let s = scenario(app)?;
    let mut manifests = manifests(&s, app)?;
    apply(&s, way, &manifests)?;
    settles(&s, &manifests)?;
    is_unchanged(&s, way, &manifests, "at rest")?;

    let instance = manifests[0]["spec"]["instanceId"].as_str().context("no instance")?.to_owned();
    let before = s.changes(&instance)?.len();
    s.sandbox().drift(&instance, None)?;
    s.carries(&instance, Some(&s.sandbox().profile(app)?))?;
    ensure!(s.changes(&instance)?.len() > before, "the drift was repaired by us");
    settles(&s, &manifests)?;
    is_unchanged(&s, way, &manifests, "after drift")?;

    manifests[0]["spec"]["instanceProfile"] = json!({"none": {}});
    manifests[4]["metadata"]["labels"] = json!({"app": "other"});
    apply(&s, way, &manifests)?;
    settles(&s, &manifests)?;
    is_unchanged(&s, way, &manifests, "after an edit")?;
    a_second_later()?;
    is_unchanged(&s, way, &manifests, "and later")?;

    for manifest in &manifests {
        let name = manifest["metadata"]["name"].as_str().context("no name")?;
        for fields in owned_by_the_controller(&s.binding(name)?) {
            let finalizers =
                json!({"f:metadata": {"f:finalizers": {".": {}, format!("v:\"{FINALIZER}\""): {}}}});
            assert_eq!(fields, finalizers, "{name}: the controller wrote more than its finalizer");
        }
    }
    // The comparison does compare.
    s.edit("all", json!({"deletionPolicy": "Detach"}))?;
    ensure!(is_unchanged(&s, way, &manifests, "").is_err(), "somebody else's edit is seen");
    Ok(())
}

#[test]
fn applied_by_the_client() -> Result<()> {
    nothing_differs(Way::ClientSide, "diff-client")
}

#[test]
fn applied_by_the_server() -> Result<()> {
    nothing_differs(Way::ServerSide, "diff-server")
}
