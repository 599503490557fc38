//! What the API server refuses by the policies of `deploy/kustomize`: to the controller itself, and to those who
//! write bindings where early refusal is switched on. Each is asked as the user concerned.
//!
//! The policies come from the shipped files. Those of early refusal concern labelled namespaces only, so they do not
//! meet other scenarios.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};
use world::{ControlPlane, Kubectl, Scenario, World, WorldOptions, eventually_ok, repository};

use crate::stage::FINALIZER;

const CONTROLLER: &str = "system:serviceaccount:instance-role-system:instance-role-controller";
const ARGO_CD: &str = "system:serviceaccount:argocd:argocd-application-controller";
const FLUX: &str = "system:serviceaccount:flux-system:kustomize-controller";
const I: &str = "i-0123456789abcdef0";
const TEAM: &str = "arn:aws:iam::123456789012:instance-profile/team/";

/// A world in which nobody but the test touches bindings.
fn quiet_world() -> Result<World> {
    World::new(WorldOptions { without_controller: true, ..WorldOptions::default() })
}

/// The objects of a folder below `deploy/kustomize`, as `kubectl` would apply them.
fn shipped(plane: &ControlPlane, folder: &str) -> Result<Vec<Value>> {
    let folder = repository().join("deploy/kustomize").join(folder);
    let text = plane.admin().run(&["kustomize", &folder.to_string_lossy()])?;
    serde_yaml::Deserializer::from_str(&text)
        .map(|document| serde::Deserialize::deserialize(document).context("a manifest that is no YAML"))
        .collect()
}

/// The shipped object of this kind whose name begins so.
fn one(objects: &[Value], kind: &str, name: &str) -> Result<Value> {
    let mut found = objects.iter().filter(|object| object["kind"] == kind);
    let found = found.find(|object| object["metadata"]["name"] == name);
    found.cloned().with_context(|| format!("no {kind} {name} is shipped"))
}

/// What somebody was told who asked for something.
#[derive(Debug)]
struct Answer {
    allowed: bool,
    said: String,
}

/// Somebody with `kubectl`.
struct Person {
    kubectl: Kubectl,
    who: Vec<String>,
    namespace: String,
}

impl Person {
    /// Anybody, with every right that RBAC can give: what is refused is refused by a policy.
    fn with_all_rights(s: &Scenario<'_>, user: &str, groups: &[&str]) -> Self {
        let mut who = vec![format!("--as={user}"), "--as-group=system:masters".to_owned()];
        who.extend(groups.iter().map(|group| format!("--as-group={group}")));
        Self { kubectl: s.world().control_plane().admin(), who, namespace: s.namespace().to_owned() }
    }

    /// The controller's account with its own token: bound by RBAC and policy.
    fn controller(s: &Scenario<'_>) -> Result<Self> {
        let plane = s.world().control_plane();
        let kubeconfig = plane.kubeconfig_for("instance-role-system", "instance-role-controller")?;
        let kubectl = plane.kubectl_with(&kubeconfig);
        Ok(Self { kubectl, who: Vec::new(), namespace: s.namespace().to_owned() })
    }

    fn asks(&self, args: &[&str], stdin: Option<&str>) -> Result<Answer> {
        let namespace = format!("--namespace={}", self.namespace);
        let who = self.who.iter().map(String::as_str);
        let all: Vec<&str> = args.iter().copied().chain(who).chain([namespace.as_str()]).collect();
        let output = self.kubectl.output(&all, stdin)?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        Ok(Answer { allowed: output.status.success(), said })
    }

    fn patches(&self, binding: &str, kind: &str, patch: &Value) -> Result<Answer> {
        let kind = format!("--type={kind}");
        self.asks(&["patch", "irb", binding, &kind, "-p", &patch.to_string()], None)
    }

    /// Whether a binding with this spec would be stored; it is not.
    fn could_apply(&self, binding: &str, spec: &Value) -> Result<Answer> {
        self.asks(
            &["apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-"],
            Some(&manifest(binding, spec)),
        )
    }

    fn could_delete(&self, binding: &str) -> Result<Answer> {
        self.asks(&["delete", "irb", binding, "--dry-run=server"], None)
    }
}

impl Answer {
    fn yes(&self, story: &str) -> Result<()> {
        ensure!(self.allowed, "{story} was refused: {}", self.said);
        Ok(())
    }

    fn no(&self, story: &str, words: &[&str]) -> Result<()> {
        ensure!(!self.allowed, "{story} was allowed: {}", self.said);
        for word in words {
            ensure!(self.said.contains(word), "{story}: no `{word}` in: {}", self.said);
        }
        Ok(())
    }
}

fn manifest(binding: &str, spec: &Value) -> String {
    json!({
        "apiVersion": "instancerole.dev/v1alpha1",
        "kind": "InstanceRoleBinding",
        "metadata": {"name": binding},
        "spec": spec,
    })
    .to_string()
}

fn profile(choice: Value) -> Value {
    json!({"instanceId": I, "instanceProfile": choice})
}

fn arn(name: &str) -> Value {
    profile(json!({"arn": format!("{TEAM}{name}")}))
}

/// Asks until the answer is as it must be: a policy takes a moment to be in force.
fn soon(ask: impl Fn() -> Result<()>) -> Result<()> {
    eventually_ok("the policy is in force", Duration::from_secs(30), ask)
}

// --- the controller's own account

const NOTHING_ELSE: &str = "may change nothing of an InstanceRoleBinding but metadata.finalizers";
const NO_METADATA: &str = "may change nothing of an InstanceRoleBinding's metadata but finalizers";
const OTHERS: &str = "must leave all others as they are";

#[test]
fn the_controller_changes_finalizers_and_nothing_else() -> Result<()> {
    let world = quiet_world()?;
    let s = world.scenario("guard")?;
    let spec = json!({"instanceId": I, "instanceProfile": {"name": "app"}});
    s.apply("web", &spec)?;
    let theirs = json!({"metadata": {"finalizers": ["example.com/theirs"], "labels": {"team": "a"}}});
    world.control_plane().api().merge(&s.path("web"), &theirs)?;
    let me = Person::controller(&s)?;

    let merge = |patch: Value| me.patches("web", "merge", &patch);
    soon(|| merge(json!({"spec": {"mode": "Observe"}}))?.no("the mode", &[NOTHING_ELSE]))?;
    for (story, patch, words) in [
        ("another profile", json!({"spec": {"instanceProfile": {"name": "admin"}}}), NOTHING_ELSE),
        ("a field that was not there", json!({"spec": {"suspend": true}}), NOTHING_ELSE),
        (
            "a field taken away",
            json!({"spec": {"adoptionPolicy": null, "deletionPolicy": "Retain"}}),
            NOTHING_ELSE,
        ),
        ("a label", json!({"metadata": {"labels": {"team": "b"}}}), NO_METADATA),
        ("the first annotation", json!({"metadata": {"annotations": {"a": "b"}}}), NO_METADATA),
        ("all labels gone", json!({"metadata": {"labels": null}}), NO_METADATA),
        (
            "an owner",
            json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "y"}]}}),
            NO_METADATA,
        ),
        ("somebody's finalizer removed", json!({"metadata": {"finalizers": null}}), OTHERS),
        (
            "a finalizer of another name",
            json!({"metadata": {"finalizers": ["example.com/theirs", "example.com/mine"]}}),
            OTHERS,
        ),
        (
            "ours together with an edit",
            json!({"metadata": {"finalizers": ["example.com/theirs", FINALIZER]}, "spec": {"suspend": true}}),
            NOTHING_ELSE,
        ),
    ] {
        merge(patch)?.no(story, &[words])?;
    }
    let applied = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "--field-manager=instance-role-controller",
        "-f",
        "-",
    ];
    me.asks(&applied, Some(&manifest("web", &arn("admin"))))?.no("an apply", &[NOTHING_ELSE])?;

    merge(json!({"metadata": {"finalizers": ["example.com/theirs", FINALIZER]}}))?
        .yes("our finalizer added")?;
    let remove = json!([{"op": "remove", "path": "/metadata/finalizers/1"}]);
    me.patches("web", "json", &remove)?.yes("our finalizer removed, by a JSON patch")?;
    merge(json!({"metadata": {"finalizers": [FINALIZER, "example.com/theirs"]}}))?
        .yes("ours before theirs")?;
    let status = json!({
        "apiVersion": "instancerole.dev/v1alpha1",
        "kind": "InstanceRoleBinding",
        "metadata": {"name": "web"},
        "status": {"observedGeneration": 7},
    });
    let args = [
        "apply",
        "--server-side",
        "--subresource=status",
        "--field-manager=instance-role-controller",
        "-f",
        "-",
    ];
    me.asks(&args, Some(&status.to_string()))?.yes("the status")?;
    assert_eq!(s.binding("web")?["status"]["observedGeneration"], 7);

    world.control_plane().admin().run(&[
        "delete",
        "irb",
        "web",
        "--wait=false",
        "--namespace",
        s.namespace(),
    ])?;
    merge(json!({"metadata": {"finalizers": ["example.com/theirs"]}}))?.yes("letting a deleted one go")?;
    let people = Person::with_all_rights(&s, "alice", &[]);
    people
        .patches("web", "merge", &json!({"metadata": {"finalizers": null}}))?
        .yes("alice is no controller")?;
    s.wait_until_gone("web")
}

#[test]
fn the_controller_neither_makes_nor_deletes_a_binding_and_writes_no_grant_even_if_rbac_let_it() -> Result<()>
{
    let world = quiet_world()?;
    let s = world.scenario("guard-grants")?;
    s.apply("web", &arn("app"))?;
    let name = s.namespace().to_owned();
    let grant = json!({
        "apiVersion": "instancerole.dev/v1alpha1",
        "kind": "InstanceRoleGrant",
        "metadata": {"name": name},
        "spec": {
            "namespaces": {"names": [s.namespace()]},
            "instanceProfiles": [format!("{TEAM}*")],
            "instances": {"regions": ["eu-west-1"]},
        },
    });
    world.control_plane().apply(&grant.to_string())?;
    let me = Person::with_all_rights(&s, CONTROLLER, &[]);
    let bindings = "may neither make nor delete an InstanceRoleBinding";
    soon(|| me.could_delete("web")?.no("deleting a binding", &[bindings]))?;
    me.could_apply("other", &arn("app"))?.no("making a binding", &[bindings])?;

    let no_grant = "may not write an InstanceRoleGrant";
    let wider = json!({"spec": {"allowNone": false}}).to_string();
    me.asks(&["patch", "irg", &name, "--type=merge", "-p", &wider], None)?
        .no("widening a grant", &[no_grant])?;
    me.asks(&["delete", "irg", &name], None)?.no("deleting a grant", &[no_grant])?;
    let mut own = grant.clone();
    own["metadata"]["name"] = json!(format!("{name}-own"));
    me.asks(&["create", "-f", "-"], Some(&own.to_string()))?.no("making a grant", &[no_grant])?;
    world.control_plane().admin().run(&["delete", "irg", &name])?;
    Ok(())
}

// --- early refusal

/// Applies the shipped policy with its shipped bindings and settings, once.
fn install(plane: &ControlPlane) -> Result<()> {
    static INSTALLED: OnceLock<Result<(), String>> = OnceLock::new();
    let folder = repository().join("deploy/kustomize/only-gitops-in-production");
    let apply = || plane.admin().run(&["apply", "--server-side", "-k", &folder.to_string_lossy()]).map(drop);
    INSTALLED
        .get_or_init(|| apply().map_err(|error| format!("{error:#}")))
        .clone()
        .map_err(|error| anyhow!(error))
}

/// Switches the shipped policy on for this scenario alone, with settings of its own: the shipped binding and
/// ConfigMap under another name.
fn refuse(s: &Scenario<'_>, settings: &Value) -> Result<()> {
    let plane = s.world().control_plane();
    install(plane)?;
    let objects = shipped(plane, "admission")?;
    let mut binding = one(&objects, "ValidatingAdmissionPolicyBinding", "instancerole-early-refusal")?;
    binding["metadata"]["name"] = json!(s.namespace());
    binding["spec"]["paramRef"]["name"] = json!(s.namespace());
    binding["spec"]["matchResources"]["namespaceSelector"]["matchLabels"] =
        json!({"kubernetes.io/metadata.name": s.namespace()});
    configure(s, settings)?;
    plane.apply(&binding.to_string()).map(drop)
}

/// The ConfigMap of [`refuse`] with these settings in the place of the shipped ones.
fn configure(s: &Scenario<'_>, settings: &Value) -> Result<()> {
    let plane = s.world().control_plane();
    let mut map = one(&shipped(plane, "admission")?, "ConfigMap", "instancerole-early-refusal")?;
    map["metadata"]["name"] = json!(s.namespace());
    for (key, value) in settings.as_object().into_iter().flatten() {
        map["data"][key] = value.clone();
    }
    plane.apply(&map.to_string()).map(drop)
}

fn label(s: &Scenario<'_>, labels: BTreeMap<&str, &str>) -> Result<()> {
    let path = format!("/api/v1/namespaces/{}", s.namespace());
    s.world().control_plane().api().merge(&path, &json!({"metadata": {"labels": labels}})).map(drop)
}

#[test]
fn as_shipped_early_refusal_refuses_nothing() -> Result<()> {
    let world = quiet_world()?;
    let s = world.scenario("shipped")?;
    install(world.control_plane())?;
    label(&s, [("instancerole.dev/early-refusal", "enabled")].into())?;
    let alice = Person::with_all_rights(&s, "alice", &[]);
    alice.could_apply("a", &profile(json!({"none": {}})))?.yes("none")?;
    alice.could_apply("a", &profile(json!({"name": "app"})))?.yes("a name")?;
    alice.could_apply("a", &profile(json!({"roleName": "app"})))?.yes("a role")?;
    alice.could_apply("a", &arn("app"))?.yes("an ARN")
}

#[test]
fn none_modes_and_arns_that_a_namespace_may_not_declare() -> Result<()> {
    let world = quiet_world()?;
    let s = world.scenario("declares")?;
    let exact = "arn:aws:iam::123456789012:instance-profile/legacy";
    let prefixes = format!("{TEAM}\n  {exact}\n");
    refuse(&s, &json!({"allowNone": "false", "modes": "Observe", "arnPrefixes": prefixes}))?;
    let alice = Person::with_all_rights(&s, "alice", &[]);
    let observing = |mut spec: Value| {
        spec["mode"] = json!("Observe");
        spec
    };
    let none = observing(profile(json!({"none": {}})));
    soon(|| {
        alice
            .could_apply("a", &none)?
            .no("none", &["spec.instanceProfile.none", s.namespace(), "name a profile"])
    })?;
    for (story, spec, words) in [
        ("a mode left out", arn("app"), ["spec.mode", "write Observe, not nothing"]),
        (
            "another mode",
            json!({"instanceId": I, "instanceProfile": {"arn": exact}, "mode": "Enforce"}),
            ["spec.mode", "write Observe, not Enforce"],
        ),
        ("a name", observing(profile(json!({"name": "app"}))), ["give the profile by arn", exact]),
        ("a role", observing(profile(json!({"roleName": "app"}))), ["give the profile by arn", TEAM]),
        (
            "another path",
            observing(profile(json!({"arn": "arn:aws:iam::123456789012:instance-profile/admin"}))),
            [
                "spec.instanceProfile.arn: arn:aws:iam::123456789012:instance-profile/admin is not allowed",
                TEAM,
            ],
        ),
        (
            "a longer name than the exact one",
            observing(profile(json!({"arn": format!("{exact}-admin")}))),
            ["is not allowed", exact],
        ),
    ] {
        alice.could_apply("a", &spec)?.no(story, &words)?;
    }
    alice.could_apply("a", &observing(arn("app")))?.yes("a profile below the prefix")?;
    alice.could_apply("a", &observing(profile(json!({"arn": exact}))))?.yes("the exact one")?;

    configure(&s, &json!({"modes": "Enforce, Observe"}))?;
    soon(|| alice.could_apply("a", &arn("app"))?.yes("a mode left out where both are allowed"))?;
    alice.could_apply("a", &profile(json!({"none": {}})))?.yes("none again")
}

#[test]
fn what_was_declared_before_the_rule_is_judged_when_its_spec_changes() -> Result<()> {
    let world = quiet_world()?;
    let s = world.scenario("before")?;
    s.apply("old", &profile(json!({"none": {}})))?;
    refuse(&s, &json!({"allowNone": "false"}))?;
    let alice = Person::with_all_rights(&s, "alice", &[]);
    soon(|| {
        alice
            .could_apply("new", &profile(json!({"none": {}})))?
            .no("a new one", &["spec.instanceProfile.none"])
    })?;
    alice.patches("old", "merge", &json!({"metadata": {"annotations": {"a": "b"}}}))?.yes("an annotation")?;
    alice
        .patches("old", "merge", &json!({"spec": {"suspend": true}}))?
        .no("an edit that leaves none", &["spec.instanceProfile.none"])?;
    Person::controller(&s)?
        .patches("old", "merge", &json!({"metadata": {"finalizers": [FINALIZER]}}))?
        .yes("the controller's finalizer")?;
    alice.could_delete("old")?.yes("its deletion")
}

#[test]
fn only_those_write_who_are_named_by_user_or_group() -> Result<()> {
    let world = quiet_world()?;
    let s = world.scenario("writers")?;
    s.apply("old", &arn("app"))?;
    refuse(&s, &json!({"writers": "bob@example.com, group:platform"}))?;
    let alice = Person::with_all_rights(&s, "alice", &["developers"]);
    let words = [s.namespace(), "only by bob@example.com, group:platform", "you are alice"];
    soon(|| alice.could_apply("new", &arn("app"))?.no("alice", &words))?;
    alice.could_apply("old", &arn("other"))?.no("an edit by alice", &words)?;
    alice.could_delete("old")?.no("a deletion by alice", &words)?;
    for (user, groups) in [("bob@example.com", [].as_slice()), ("carol", ["platform"].as_slice())] {
        let writer = Person::with_all_rights(&s, user, groups);
        writer.could_apply("new", &arn("app"))?.yes(user)?;
        writer.could_apply("old", &arn("other"))?.yes(user)?;
        writer.could_delete("old")?.yes(user)?;
    }
    // A user may call himself what he likes; a group is what the authenticator says.
    Person::with_all_rights(&s, "platform", &[])
        .could_apply("new", &arn("app"))?
        .no("a name like the group", &[])
}

#[test]
fn only_the_gitops_tool_writes_in_production() -> Result<()> {
    let world = quiet_world()?;
    let s = world.scenario("production")?;
    install(world.control_plane())?;
    s.apply("web", &arn("app"))?;
    let alice = Person::with_all_rights(&s, "alice", &[]);
    alice.could_apply("new", &arn("app"))?.yes("alice, while it is no production")?;

    label(&s, [("environment", "production")].into())?;
    soon(|| {
        alice.could_apply("new", &arn("app"))?.no("alice", &["you are alice", ARGO_CD, "the repository"])
    })?;
    alice.could_apply("web", &arn("other"))?.no("an edit", &["you are alice"])?;
    alice.could_delete("web")?.no("a deletion", &["you are alice"])?;
    for tool in [ARGO_CD, FLUX] {
        let tool = Person::with_all_rights(&s, tool, &[]);
        tool.could_apply("new", &arn("app"))?.yes("the tool")?;
        tool.could_delete("web")?.yes("the tool deletes")?;
    }

    // Those who only carry out what was decided elsewhere are not held up.
    let finalizer = json!({"metadata": {"finalizers": [FINALIZER]}});
    Person::controller(&s)?.patches("web", "merge", &finalizer)?.yes("the controller's finalizer")?;
    for account in ["namespace-controller", "generic-garbage-collector"] {
        let account = format!("system:serviceaccount:kube-system:{account}");
        Person::with_all_rights(&s, &account, &[]).could_delete("web")?.yes(&account)?;
    }
    Ok(())
}

#[test]
fn without_settings_that_can_be_read_nothing_is_written() -> Result<()> {
    let world = quiet_world()?;
    let s = world.scenario("settings")?;
    refuse(&s, &json!({"writer": "bob@example.com"}))?;
    let bob = Person::with_all_rights(&s, "bob@example.com", &[]);
    let map = format!("ConfigMap instance-role-system/{}", s.namespace());
    soon(|| bob.could_apply("a", &arn("app"))?.no("a misspelt key", &[map.as_str(), ", not writer;"]))?;
    configure(&s, &json!({"modes": "Watch"}))?;
    soon(|| {
        bob.could_apply("a", &arn("app"))?
            .no("a mode that is none", &[map.as_str(), "modes (Enforce, Observe)"])
    })?;
    configure(&s, &json!({}))?;
    soon(|| bob.could_apply("a", &arn("app"))?.yes("the shipped ones"))?;
    world.control_plane().admin().run(&[
        "delete",
        "configmap",
        s.namespace(),
        "-n",
        "instance-role-system",
    ])?;
    soon(|| bob.could_apply("a", &arn("app"))?.no("none at all", &["no params found"]))
}
