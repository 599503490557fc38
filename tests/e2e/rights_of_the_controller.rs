//! The controller's service account can do its work and nothing else. Every scenario of this folder runs the controller
//! as that account, with the shipped ClusterRole and policy; here the rights are counted.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use world::{Kubectl, Scenario, World, WorldOptions};

use crate::stage::{Story, is_held};

/// What the shipped ClusterRole gives in every namespace: `group/resource` and its verbs. `*` would be a verb too.
const RIGHTS: &[(&str, &[&str])] = &[
    ("/namespaces", &["get", "list", "watch"]),
    ("events.k8s.io/events", &["create", "patch"]),
    ("instancerole.dev/instancerolebindings", &["get", "list", "patch", "watch"]),
    ("instancerole.dev/instancerolebindings/finalizers", &["update"]),
    ("instancerole.dev/instancerolebindings/status", &["patch"]),
    ("instancerole.dev/instancerolegrants", &["get", "list", "watch"]),
];

/// What the shipped Role gives besides, in the controller's own namespace, all but `create` for the one Lease only.
const AT_HOME: &[(&str, &[&str])] =
    &[("coordination.k8s.io/leases", &["create", "get", "list", "patch", "watch"])];

const HOME: &str = "instance-role-system";

type Rights = BTreeMap<String, BTreeSet<String>>;

fn rights(in_all: &[&[(&str, &[&str])]]) -> Rights {
    let verbs = |verbs: &[&str]| verbs.iter().map(|verb| (*verb).to_owned()).collect();
    in_all.iter().copied().flatten().map(|(resource, of)| ((*resource).to_owned(), verbs(of))).collect()
}

/// `kubectl` with the token of the controller's account.
fn as_the_controller(world: &World) -> Result<Kubectl> {
    let plane = world.control_plane();
    let kubeconfig = plane.kubeconfig_for("instance-role-system", "instance-role-controller")?;
    Ok(plane.kubectl_with(&kubeconfig))
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// What the API server itself says that the account may do, without what every account may ask about itself.
fn told_by_the_server(s: &Scenario<'_>, namespace: &str) -> Result<Rights> {
    let question = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    });
    let kubectl = as_the_controller(s.world())?;
    let answer = kubectl
        .run_with(&["create", "--validate=false", "-o", "json", "-f", "-"], Some(&question.to_string()))?;
    let answer: Value = serde_json::from_str(&answer)?;
    ensure!(answer["status"]["incomplete"] == false, "{answer:#}");
    let mut told: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for rule in answer["status"]["resourceRules"].as_array().into_iter().flatten() {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                let verbs = texts(&rule["verbs"]).map(str::to_owned);
                told.entry(format!("{group}/{resource}")).or_default().extend(verbs);
            }
        }
    }
    told.retain(|resource, _| !resource.contains("/selfsubject"));
    Ok(told)
}

#[test]
fn it_may_do_what_is_listed_here_and_nothing_more() -> Result<()> {
    let world = World::new(WorldOptions { without_controller: true, ..WorldOptions::default() })?;
    let s = world.scenario("rights")?;
    assert_eq!(told_by_the_server(&s, s.namespace())?, rights(&[RIGHTS]));
    assert_eq!(told_by_the_server(&s, HOME)?, rights(&[RIGHTS, AT_HOME]));
    let kubectl = as_the_controller(&world)?;
    for (verb, resource) in [
        ("get", "secrets"),
        ("list", "secrets"),
        ("get", "configmaps"),
        ("list", "pods"),
        ("create", "pods"),
        ("create", "serviceaccounts/token"),
        ("impersonate", "users"),
        ("patch", "namespaces"),
        ("list", "nodes"),
        ("get", "customresourcedefinitions.apiextensions.k8s.io"),
        ("patch", "customresourcedefinitions.apiextensions.k8s.io"),
        ("delete", "validatingadmissionpolicies.admissionregistration.k8s.io"),
        ("patch", "clusterroles.rbac.authorization.k8s.io"),
        ("create", "instancerolegrants.instancerole.dev"),
        ("update", "instancerolegrants.instancerole.dev"),
        ("patch", "instancerolegrants.instancerole.dev"),
        ("delete", "instancerolegrants.instancerole.dev"),
        ("create", "instancerolebindings.instancerole.dev"),
        ("update", "instancerolebindings.instancerole.dev"),
        ("delete", "instancerolebindings.instancerole.dev"),
        ("patch", "leases.coordination.k8s.io/of-somebody-else"),
        ("get", "leases.coordination.k8s.io/of-somebody-else"),
        ("delete", "leases.coordination.k8s.io"),
    ] {
        for namespace in [s.namespace(), HOME, "kube-system"] {
            let output =
                kubectl.output(&["auth", "can-i", verb, resource, "--namespace", namespace], None)?;
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(said.trim(), "no", "{verb} {resource} in {namespace}");
        }
    }
    Ok(())
}

#[test]
fn attaching_replacing_detaching_and_deletion_need_nothing_else() -> Result<()> {
    let world = World::new(WorldOptions {
        own_control_plane: true,
        controller_flags: vec!["--resync-interval=1s".to_owned(), "--leader-elect".to_owned()],
        ..WorldOptions::default()
    })?;
    let s = world.scenario("life")?;
    let [app, other] = ["app", "other"].map(|name| s.sandbox().profile(name));
    let (app, other) = (app?, other?);
    let i = s.sandbox().instance("running", None)?;
    s.bind("web", &i, &json!({"name": "app"}))?;
    let ready = s.wait_until_ready("web")?;
    assert!(is_held(&ready), "it put its finalizer on");
    s.carries(&i, Some(&app))?;
    s.choose("web", json!({"name": "other"}))?;
    s.carries(&i, Some(&other))?;
    s.reaches("web", "Associated")?;
    s.delete("web")?;
    s.vanishes("web")?;
    s.carries(&i, None)?;

    let calls = world.api_calls()?;
    let refused: Vec<_> = calls.iter().filter(|call| matches!(call.status.code, 401 | 403)).collect();
    assert!(refused.is_empty(), "a right is missing: {refused:#?}");
    let asked: BTreeSet<(String, String)> = calls
        .iter()
        .filter(|call| call.object.is_some())
        .map(|call| (call.target(), call.verb.clone()))
        .collect();
    let given: BTreeSet<(String, String)> = rights(&[RIGHTS, AT_HOME])
        .into_iter()
        .flat_map(|(resource, verbs)| {
            let target = resource.split_once('/').map(|(_, target)| target.to_owned()).unwrap_or_default();
            verbs.into_iter().map(move |verb| (target.clone(), verb))
        })
        .collect();
    let beyond: Vec<_> =
        asked.difference(&given).filter(|(target, _)| !target.contains("selfsubject")).collect();
    assert!(beyond.is_empty(), "asked for something that is not listed: {beyond:?}");
    let writes = [
        ("instancerolebindings", "patch"),
        ("instancerolebindings/status", "patch"),
        ("events", "create"),
        ("leases", "create"),
        ("leases", "patch"),
    ];
    for (target, verb) in writes {
        assert!(asked.contains(&(target.to_owned(), verb.to_owned())), "{verb} {target} was never needed");
    }
    Ok(())
}
