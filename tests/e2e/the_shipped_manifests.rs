//! `deploy/kustomize/default` against a real API server: what its pod may be, and that its parts name each other.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use world::{World, repository};

/// The objects of `deploy/kustomize/default`, as `kubectl apply -k` applies them.
fn shipped(world: &World) -> Result<Vec<Value>> {
    let folder = repository().join("deploy/kustomize/default");
    let text = world.control_plane().admin().run(&["kustomize", &folder.to_string_lossy()])?;
    serde_yaml::Deserializer::from_str(&text)
        .map(|document| serde::Deserialize::deserialize(document).context("a manifest that is no YAML"))
        .collect()
}

fn one<'o>(objects: &'o [Value], kind: &str) -> Result<&'o Value> {
    objects.iter().find(|object| object["kind"] == kind).with_context(|| format!("no {kind} is shipped"))
}

/// A pod as the Deployment would make it.
fn pod(objects: &[Value]) -> Result<Value> {
    let template = &one(objects, "Deployment")?["spec"]["template"];
    let mut metadata = template["metadata"].clone();
    metadata["name"] = json!("as-the-deployment-makes-it");
    Ok(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}))
}

/// Whether the shipped namespace would take this pod; the pod is not made.
fn is_taken(world: &World, pod: &Value) -> Result<(bool, String)> {
    let args = ["create", "--dry-run=server", "--namespace=instance-role-system", "-f", "-"];
    let output = world.control_plane().admin().output(&args, Some(&pod.to_string()))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok((output.status.success(), said))
}

#[test]
fn the_pod_is_admitted_where_pod_security_is_restricted() -> Result<()> {
    let world = World::shared()?;
    let objects = shipped(world)?;
    let labels = &one(&objects, "Namespace")?["metadata"]["labels"];
    assert_eq!(labels["pod-security.kubernetes.io/enforce"], "restricted");
    let (taken, said) = is_taken(world, &pod(&objects)?)?;
    assert!(taken, "{said}");
    assert_eq!(said, "", "not even a warning");

    // The check does check.
    for (story, pointer, value) in [
        ("root", "/spec/securityContext/runAsNonRoot", json!(false)),
        ("escalation", "/spec/containers/0/securityContext/allowPrivilegeEscalation", json!(true)),
        ("capabilities", "/spec/containers/0/securityContext/capabilities", json!({})),
        ("seccomp", "/spec/securityContext/seccompProfile", json!({"type": "Unconfined"})),
    ] {
        let mut worse = pod(&objects)?;
        *worse.pointer_mut(pointer).with_context(|| format!("the pod has no {pointer}"))? = value;
        let (taken, said) = is_taken(world, &worse)?;
        ensure!(!taken && said.contains("violates PodSecurity \"restricted"), "{story}: {said}");
    }
    Ok(())
}

#[test]
fn nothing_is_writable_or_open_in_the_pod_that_need_not_be() -> Result<()> {
    let objects = shipped(World::shared()?)?;
    let pod = pod(&objects)?;
    let containers = pod["spec"]["containers"].as_array().context("no containers")?;
    for container in containers {
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    }
    // The one pod that needs the token asks for it; whatever else runs under the account gets none.
    assert_eq!(one(&objects, "ServiceAccount")?["automountServiceAccountToken"], false);
    assert_eq!(pod["spec"]["automountServiceAccountToken"], true);

    let policy = &one(&objects, "NetworkPolicy")?["spec"];
    assert_eq!(policy["policyTypes"], json!(["Ingress", "Egress"]));
    for (label, value) in policy["podSelector"]["matchLabels"].as_object().context("no selector")? {
        assert_eq!(pod["metadata"]["labels"][label], *value, "the policy must select the pod");
    }
    let opened: Vec<&Value> = policy["ingress"].as_array().into_iter().flatten().flat_map(ports).collect();
    let metrics =
        containers[0]["ports"].as_array().into_iter().flatten().find(|port| port["name"] == "metrics");
    assert_eq!(opened, [&metrics.context("no port named metrics")?["containerPort"]]);
    Ok(())
}

fn ports(rule: &Value) -> impl Iterator<Item = &Value> {
    rule["ports"].as_array().into_iter().flatten().map(|port| &port["port"])
}

#[test]
fn every_policy_names_the_account_that_the_pod_runs_under() -> Result<()> {
    let world = World::shared()?;
    let objects = shipped(world)?;
    let deployment = one(&objects, "Deployment")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let namespace = text(&deployment["metadata"]["namespace"]);
    let account = text(&deployment["spec"]["template"]["spec"]["serviceAccountName"]);
    for (file, words) in [
        // Its guard goes with it to any namespace; an exemption is for the one account alone.
        ("default/controller-guard.yaml", format!("'^system:serviceaccount:[^:]+:{account}$'")),
        ("admission/early-refusal.yaml", format!("'system:serviceaccount:{namespace}:{account}'")),
    ] {
        let text = std::fs::read_to_string(repository().join("deploy/kustomize").join(file))?;
        ensure!(text.contains(&words), "{file} does not say {words}");
    }
    Ok(())
}

#[test]
fn two_replicas_stand_for_a_lease_that_they_may_have() -> Result<()> {
    let objects = shipped(World::shared()?)?;
    let deployment = one(&objects, "Deployment")?;
    assert_eq!(deployment["spec"]["replicas"], 2);
    let budget = &one(&objects, "PodDisruptionBudget")?["spec"];
    assert_eq!(budget["maxUnavailable"], 1);
    assert_eq!(budget["selector"], deployment["spec"]["selector"]);
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let set = |name: &str| container["env"].as_array().into_iter().flatten().any(|env| env["name"] == name);
    assert!(set("POD_NAME") && set("POD_NAMESPACE"), "they say who it is, and where its Lease is");
    // The Lease is in the pod's namespace, so that is where the Role must be.
    let role = one(&objects, "Role")?;
    assert_eq!(role["metadata"]["namespace"], deployment["metadata"]["namespace"]);
    let binding = one(&objects, "RoleBinding")?;
    assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
    assert_eq!(binding["subjects"][0]["name"], deployment["spec"]["template"]["spec"]["serviceAccountName"]);
    Ok(())
}

/// `kubectl delete -k` deletes in this order, and a binding is let go only under a grant.
#[test]
fn bindings_come_before_grants_so_that_they_are_removed_first() -> Result<()> {
    let objects = shipped(World::shared()?)?;
    let place = |name: &str| objects.iter().position(|object| object["metadata"]["name"] == name);
    let bindings = place("instancerolebindings.instancerole.dev").context("no CRD of bindings")?;
    let grants = place("instancerolegrants.instancerole.dev").context("no CRD of grants")?;
    assert!(bindings < grants);
    Ok(())
}
