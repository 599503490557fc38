//! What `plan` says is what `run` then does, on the same world: by files before, and by the cluster before and after.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use world::{ACCOUNT, Grants, REGION, Scenario, World, WorldOptions, eventually_ok};

use crate::command::{Ran, program, run, said};
use crate::stage::{Story, a_second_later, message, reason};

/// A binding of a story: its name, its instance, its spec beside that.
struct Bound {
    name: &'static str,
    instance: String,
    spec: Value,
}

fn bound(name: &'static str, instance: &str, spec: Value) -> Bound {
    Bound { name, instance: instance.to_owned(), spec }
}

fn manifests(namespace: &str, bounds: &[Bound]) -> Vec<Value> {
    let object = |Bound { name, instance, spec }: &Bound| {
        let mut spec = spec.clone();
        spec["instanceId"] = json!(instance);
        json!({
            "apiVersion": "instancerole.dev/v1alpha1", "kind": "InstanceRoleBinding",
            "metadata": {"name": name, "namespace": namespace, "labels": {"letter": &name[..1]}}, "spec": spec,
        })
    };
    bounds.iter().map(object).collect()
}

fn with_cluster(s: &Scenario<'_>) -> Result<Command> {
    let mut command = program(&s.sandbox().aws_env())?;
    command.env("KUBECONFIG", s.world().control_plane().kubeconfig());
    Ok(command)
}

fn plan_of_cluster(s: &Scenario<'_>, flags: &[&str]) -> Result<Ran> {
    run(&mut with_cluster(s)?, &[&["plan", "-o", "json"], flags].concat(), "")
}

/// Without messages, and what only files have.
fn essence(rows: &[Value]) -> Vec<Value> {
    let fields = ["namespace", "name", "region", "instanceId", "operation", "from", "to", "reason"];
    rows.iter().map(|row| fields.iter().map(|field| row[*field].clone()).collect()).collect()
}

fn world() -> Result<World> {
    World::new(WorldOptions {
        without_controller: true,
        grants: Grants::None,
        controller_flags: vec!["--resync-interval=1s".to_owned()],
        ..WorldOptions::default()
    })
}

#[test]
fn what_is_planned_is_what_happens() -> Result<()> {
    let mut world = world()?;
    let namespace = world.scenario("agrees")?.namespace().to_owned();
    let sandbox = world.sandbox();
    for profile in ["app", "old", "other"] {
        sandbox.profile(profile)?;
    }
    sandbox.add_profile(&json!({"name": "bare", "roleName": null}))?;
    let i = |state: &str, profile: Option<&str>| sandbox.instance(state, profile);
    let tagged = |team: &str| {
        Ok::<_, anyhow::Error>(sandbox.add_instances(&json!({"count": 1, "tags": {"team": team}}))?.remove(0))
    };
    let shared = i("running", Some("old"))?;
    let arn = |name: &str| format!("arn:aws:iam::{ACCOUNT}:instance-profile/{name}");
    let bounds = [
        bound("a-attach", &i("running", None)?, json!({"instanceProfile": {"name": "app"}})),
        bound("b-attach-stopped", &i("stopped", None)?, json!({"instanceProfile": {"arn": arn("app")}})),
        bound("c-exchange", &i("running", Some("old"))?, json!({"instanceProfile": {"roleName": "app"}})),
        bound("d-swap", &i("stopped", Some("old"))?, json!({"instanceProfile": {"name": "app"}})),
        bound("e-empty", &i("running", Some("old"))?, json!({"instanceProfile": {"none": {}}})),
        bound("f-settled", &i("running", Some("app"))?, json!({"instanceProfile": {"name": "app"}})),
        bound("g-first", &shared, json!({"instanceProfile": {"name": "app"}})),
        bound("h-second", &shared, json!({"instanceProfile": {"none": {}}})),
        bound(
            "i-timid",
            &i("running", Some("old"))?,
            json!({"instanceProfile": {"name": "app"}, "adoptionPolicy": "OnlyIfNone"}),
        ),
        bound(
            "j-looks",
            &i("running", Some("old"))?,
            json!({"instanceProfile": {"name": "app"}, "mode": "Observe"}),
        ),
        bound(
            "k-rests",
            &i("running", Some("old"))?,
            json!({"instanceProfile": {"name": "app"}, "suspend": true}),
        ),
        bound("l-roleless", &i("running", None)?, json!({"instanceProfile": {"name": "bare"}})),
        bound("m-secret", &i("running", None)?, json!({"instanceProfile": {"name": "other"}})),
        bound("n-theirs", &tagged("b")?, json!({"instanceProfile": {"name": "app"}})),
        bound(
            "o-waits",
            &i("stopped", Some("old"))?,
            json!({"instanceProfile": {"name": "app"}, "whenStopped": "WaitForRunning"}),
        ),
    ];
    for Bound { instance, .. } in bounds.iter().filter(|bound| bound.name != "n-theirs") {
        sandbox.retag(instance, &json!({"team": "a"}))?;
    }
    // DescribeInstances is 100 ms behind.
    std::thread::sleep(Duration::from_millis(500));
    let grant = json!({
        "apiVersion": "instancerole.dev/v1alpha1", "kind": "InstanceRoleGrant", "metadata": {"name": format!("{namespace}.team")},
        "spec": {
            "namespaces": {"names": [namespace]},
            "instanceProfiles": [arn("app"), arn("bare"), "old"],
            "instances": {"regions": [REGION], "tags": {"team": "a"}},
        },
    });
    let objects = manifests(&namespace, &bounds);
    let items = [std::slice::from_ref(&grant), &objects].concat();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});

    let by_files =
        run(&mut program(&sandbox.aws_env())?, &["plan", "-f", "-", "-o", "json"], &list.to_string())?;
    let planned = by_files.rows(3)?;
    let calls = sandbox.calls_since(0)?;
    assert!(!calls.iter().any(world::Call::is_write), "a plan writes nothing");

    // The one that is read first is made first.
    let api = world.control_plane().admin();
    api.apply(&grant.to_string())?;
    for object in &objects {
        if object["metadata"]["name"] == "h-second" {
            a_second_later()?;
        }
        api.apply(&object.to_string())?;
    }
    {
        let s = world.scenario("agrees")?;
        let by_cluster = plan_of_cluster(&s, &["-n", &namespace])?;
        assert_eq!(essence(&by_cluster.rows(3)?), essence(&planned), "files and cluster say the same");
        let selected = plan_of_cluster(&s, &["-n", &namespace, "-l", "letter in (a, h)"])?;
        let expected =
            [["a-attach", "AssociateIamInstanceProfile", "Declared"], ["h-second", "Refuse", "Conflict"]];
        assert_eq!(said(&selected.rows(3)?), expected, "who is not selected is a rival all the same");
    }

    world.start_controller()?;
    let s = world.scenario("agrees")?;
    for Bound { name, .. } in &bounds {
        let rows: Vec<&Value> = planned.iter().filter(|row| row["name"] == *name).collect();
        let [first, ..] = rows.as_slice() else { anyhow::bail!("{name} was not planned") };
        let end = match first["operation"].as_str().unwrap_or_default() {
            "None" | "Refuse" | "Wait" => first["reason"].as_str().unwrap_or_default().to_owned(),
            _ if *name == "e-empty" => "Disassociated".to_owned(),
            // Attached to a stopped instance it stays associating until that is started.
            _ if ["b-attach-stopped", "d-swap"].contains(name) => "Associating".to_owned(),
            _ => "Associated".to_owned(),
        };
        s.reaches(name, &end)?;
    }
    s.passes(3)?;
    for Bound { name, instance, .. } in bounds.iter().filter(|bound| bound.name != "h-second") {
        let due = planned
            .iter()
            .filter(|row| row["name"] == *name && row["operation"].as_str().is_some_and(|o| o.len() > 6));
        let due: Vec<[String; 2]> = due
            .map(|row| [&row["operation"], &row["to"]].map(|v| v.as_str().unwrap_or_default().to_owned()))
            .collect();
        // A dry run is an Associate that carries nothing out.
        let done = s.sandbox().writes_to(instance)?.into_iter().filter(|call| call.result == "ok");
        let done: Vec<[String; 2]> =
            done.map(|call| [call.action, call.to_profile.unwrap_or_else(|| "none".to_owned())]).collect();
        assert_eq!(done, due, "{name}");
    }
    // For ten seconds after a write EC2 may show the time before it, and a plan waits as a new leader would.
    let after = eventually_ok("EC2's answers have settled", Duration::from_secs(60), || {
        let rows = plan_of_cluster(&s, &["-n", &namespace])?.rows(3)?;
        let unsettled =
            rows.iter().find(|row| row["message"].as_str().is_some_and(|m| m.contains("looking again")));
        ensure!(unsettled.is_none(), "{unsettled:#?}");
        Ok(rows)
    })?;
    for row in &after {
        let name = row["name"].as_str().context("a row without a name")?;
        let told = s.binding(name)?;
        assert_eq!(row["reason"], reason(&told), "{name}: {row:#}");
        ensure!(
            ["None", "Refuse", "Wait"].contains(&row["operation"].as_str().unwrap_or_default()),
            "{row:#}"
        );
        if row["operation"] == "Refuse" {
            assert_eq!(row["message"], message(&told), "{name}");
        }
    }
    Ok(())
}

#[test]
fn a_deletion_that_is_under_way_is_planned_too() -> Result<()> {
    let mut world = world()?;
    world.start_controller()?;
    let s = world.scenario("leaving")?;
    s.grant("all", &json!({"instanceProfiles": [format!("arn:aws:iam::{ACCOUNT}:instance-profile/*")], "instances": {"regions": [REGION]}}))?;
    s.sandbox().profile("app")?;
    let i = s.sandbox().instance("running", None)?;
    s.bind("web", &i, &json!({"name": "app"}))?;
    s.wait_until_ready("web")?;
    let namespace = s.namespace().to_owned();
    let controller = world.take_controller()?;
    controller.kill()?;
    let s = world.scenario("leaving")?;
    s.delete("web")?;
    let rows = plan_of_cluster(&s, &["-n", &namespace])?.rows(2)?;
    assert_eq!(said(&rows), [["web", "DisassociateIamInstanceProfile", "Deleted"]]);
    Ok(())
}

#[test]
fn a_tenant_plans_what_a_tenant_may_read() -> Result<()> {
    let world = world()?;
    let s = world.scenario("tenant")?;
    let namespace = s.namespace();
    s.sandbox().profile("app")?;
    let i = s.sandbox().instance("running", None)?;
    s.bind("web", &i, &json!({"name": "app"}))?;
    let plane = world.control_plane();
    plane.apply(&format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {{name: reader, namespace: {namespace}}}\nrules:\n\
         - {{apiGroups: [instancerole.dev], resources: [instancerolebindings], verbs: [get, list]}}\n---\n\
         apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: tenant, namespace: {namespace}}}\n---\n\
         apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: reader, namespace: {namespace}}}\n\
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}}\nsubjects:\n\
         - {{kind: ServiceAccount, name: tenant, namespace: {namespace}}}\n"
    ))?;
    let kubeconfig = plane.kubeconfig_for(namespace, "tenant")?;
    let command = |flags: &[&str]| {
        let mut command = program(&s.sandbox().aws_env())?;
        run(command.env("KUBECONFIG", &kubeconfig), &[&["plan", "-o", "json"], flags].concat(), "")
    };
    let ran = command(&["-n", namespace])?;
    assert_eq!(said(&ran.rows(2)?), [["web", "AssociateIamInstanceProfile", "Declared"]]);
    assert!(ran.told.contains("grants may not be read, so authorisation is left out"), "{ran:?}");
    assert!(ran.told.contains("bindings of other namespaces may not be read"), "{ran:?}");
    let everywhere = command(&["-A"])?;
    assert_eq!((everywhere.code, everywhere.out.as_str()), (1, ""), "{everywhere:?}");
    let nowhere = run(&mut program(&s.sandbox().aws_env())?, &["plan"], "")?;
    assert!(nowhere.code == 1 && nowhere.told.contains("no cluster"), "{nowhere:?}");
    Ok(())
}
