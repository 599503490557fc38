//! `plan` refuses what the API server would refuse, and nothing else, though it asks none.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use world::{Sandbox, World};

use crate::command::plan;
use crate::stage::scenario;

/// Values for each field: the first is well-formed, the others are what people write instead.
fn binding_fields() -> Vec<(&'static str, Vec<Value>)> {
    let arn = |rest: &str| json!(format!("arn:aws:iam::123456789012:{rest}"));
    vec![
        (
            "/spec/instanceId",
            vec![
                json!("i-0123456789abcdef0"),
                json!("i-01234567"),
                json!("i-0123"),
                json!("I-01234567"),
                json!("i-0123456789abcdef0\n"),
                json!(1),
                json!(""),
                Value::Null,
            ],
        ),
        (
            "/spec/region",
            vec![
                json!("eu-west-1"),
                json!("us-gov-east-1"),
                json!("europe"),
                json!("eu-west-1a"),
                json!(true),
                Value::Null,
            ],
        ),
        (
            "/spec/instanceProfile",
            vec![
                json!({"name": "app"}),
                json!({"arn": arn("instance-profile/a/b/app")}),
                json!({"roleName": "r"}),
                json!({"none": {}}),
                json!({}),
                json!({"name": "app", "roleName": "app"}),
                json!({"name": "a/b"}),
                json!({"name": "a".repeat(129)}),
                json!({"name": "a".repeat(2000)}),
                json!({"name": 7}),
                json!({"name": null, "none": {}}),
                json!({"none": null}),
                json!({"none": {"really": true}}),
                json!({"none": true}),
                json!({"arn": arn("role/app")}),
                json!({"arn": arn("instance-profile/a*/app")}),
                json!({"roleName": "a".repeat(65)}),
                json!({"name": "app", "path": "/"}),
                json!("app"),
                json!(["app"]),
                Value::Null,
            ],
        ),
        (
            "/spec/mode",
            vec![json!("Observe"), json!("Enforce"), json!("observe"), json!(""), json!(1), Value::Null],
        ),
        ("/spec/adoptionPolicy", vec![json!("Replace"), json!("OnlyIfNone"), json!("Never"), Value::Null]),
        ("/spec/whenStopped", vec![json!("WaitForRunning"), json!("Wait"), json!(false)]),
        ("/spec/deletionPolicy", vec![json!("Retain"), json!("Delete")]),
        ("/spec/suspend", vec![json!(false), json!(true), json!("true"), json!(0), Value::Null]),
        ("/spec/regoin", vec![Value::Null, json!("eu-west-1"), json!({})]),
        (
            "/metadata/labels",
            vec![
                json!({"a/b": "c"}),
                json!({"team": "-"}),
                json!({"-": "x"}),
                json!({"x": 1}),
                json!([]),
                Value::Null,
            ],
        ),
        (
            "/metadata/annotations",
            vec![json!({"a": "anything -"}), json!({"a": true}), json!({"b/c/d": "x"})],
        ),
        ("/metadata/nmae", vec![Value::Null, json!("x")]),
        ("/status", vec![Value::Null, json!({"adopted": true})]),
        ("/extra", vec![Value::Null, json!(1)]),
    ]
}

fn grant_fields() -> Vec<(&'static str, Vec<Value>)> {
    let arn = |rest: &str| json!([format!("arn:aws:iam::123456789012:{rest}")]);
    let selector = |requirement: Value| json!({"selector": {"matchExpressions": [requirement]}});
    vec![
        (
            "/spec/namespaces",
            vec![
                json!({"names": ["team-a"]}),
                json!({"selector": {}}),
                json!({"selector": {"matchLabels": {"team": "a"}}, "names": ["b"]}),
                selector(json!({"key": "team", "operator": "In", "values": ["a"]})),
                selector(json!({"key": "team", "operator": "In"})),
                selector(json!({"key": "team", "operator": "Exists", "values": ["a"]})),
                selector(json!({"key": "team", "operator": "Exists"})),
                selector(json!({"key": "team", "operator": "Is"})),
                selector(json!({"operator": "Exists"})),
                json!({}),
                json!({"names": []}),
                json!({"names": ["*"]}),
                json!({"names": ["a".repeat(64)]}),
                json!({"selector": {"matchLabels": {}}}),
                json!({"selector": {"matchLabels": {"team": 1}}}),
                Value::Null,
            ],
        ),
        (
            "/spec/instanceProfiles",
            vec![
                arn("instance-profile/team/*"),
                json!(["app"]),
                json!([]),
                json!(["*"]),
                json!(["app-*"]),
                arn("role/app"),
                arn("instance-profile/app-*"),
                json!("app"),
                json!(["app", 1]),
                Value::Null,
            ],
        ),
        (
            "/spec/instances",
            vec![
                json!({"tags": {"team": "a"}}),
                json!({"regions": ["eu-west-1"]}),
                json!({"ids": ["i-0123456789abcdef0"]}),
                json!({}),
                json!({"regions": []}),
                json!({"regions": ["here"]}),
                json!({"ids": ["i-*"]}),
                json!({"tags": {}}),
                json!({"tags": {"team": "a".repeat(257)}}),
                json!({"tags": null}),
                Value::Null,
            ],
        ),
        ("/spec/allowNone", vec![json!(true), json!("yes"), Value::Null]),
        (
            "/spec/maxBindings",
            vec![
                json!(5),
                json!(0),
                json!(-1),
                json!(2_000_000),
                json!(1.5),
                json!(7.0),
                json!("5"),
                Value::Null,
            ],
        ),
        (
            "/spec/aws",
            vec![
                json!({"assumeRoleArn": "arn:aws:iam::210987654321:role/r"}),
                json!({"assumeRoleArn": "arn:aws:iam::210987654321:user/r"}),
                json!({"externalId": "xx"}),
                json!({"assumeRoleArn": "arn:aws:iam::210987654321:role/r", "externalId": "x"}),
                json!({"assumeRoleArn": "arn:aws:iam::210987654321:role/r", "externalId": "x y"}),
                json!({"assumeRoleArn": "arn:aws:iam::210987654321:role/r", "sourceIdentity": "controller"}),
                json!({"assumeRoleArn": "arn:aws:iam::210987654321:role/r", "sourceIdentity": "a:b"}),
                Value::Null,
            ],
        ),
        ("/spec/limit", vec![Value::Null, json!(1)]),
    ]
}

/// Objects in which one field after the other takes each of its values, and then many in which two or three do at once.
fn objects(kind: &str, namespace: Option<&str>, fields: &[(&str, Vec<Value>)]) -> Vec<Value> {
    let sound = |nth: usize| {
        let mut object = json!({
            "apiVersion": "instancerole.dev/v1alpha1", "kind": kind,
            "metadata": {"name": format!("case-{nth}")}, "spec": {},
        });
        if let Some(namespace) = namespace {
            object["metadata"]["namespace"] = json!(namespace);
        }
        for (at, values) in fields.iter().filter(|(_, values)| !values[0].is_null()) {
            put(&mut object, at, values[0].clone());
        }
        object
    };
    let mut objects = Vec::new();
    for (at, value) in fields.iter().flat_map(|(at, values)| values.iter().map(move |value| (at, value))) {
        let mut object = sound(objects.len());
        put(&mut object, at, value.clone());
        objects.push(object);
    }
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..150 {
        let mut object = sound(objects.len());
        for _ in 0..random.usize(2..4) {
            let (at, values) = &fields[random.usize(..fields.len())];
            put(&mut object, at, values[random.usize(..values.len())].clone());
        }
        objects.push(object);
    }
    objects
}

fn put(object: &mut Value, at: &str, value: Value) {
    let (parent, name) = at.rsplit_once('/').unwrap_or_default();
    if let Some(parent) = object.pointer_mut(parent) {
        parent[name] = value;
    }
}

/// The line of each object's problems, by the number of the object: each stands in a line of its own.
fn told_by_plan(objects: &[Value]) -> Result<BTreeMap<usize, Vec<String>>> {
    let mut text = String::new();
    for object in objects {
        writeln!(text, "---\n{object}")?;
    }
    let sandbox = Sandbox::start()?;
    let ran = plan(&sandbox, &text)?;
    let rows: Vec<Value> = serde_json::from_str(&ran.out)?;
    let mut told: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row["reason"] == "InvalidManifest") {
        let line = row["source"]
            .as_str()
            .and_then(|source| source.rsplit_once(':'))
            .and_then(|(_, line)| line.parse::<usize>().ok());
        let nth = line.unwrap_or_default() / 2 - 1;
        told.entry(nth).or_default().push(row["message"].as_str().unwrap_or_default().to_owned());
    }
    Ok(told)
}

fn verdicts_are_the_same(path: &str, objects: &[Value]) -> Result<()> {
    let told = told_by_plan(objects)?;
    let api = World::shared()?.control_plane().api();
    let (mut wrong, mut refused) = (Vec::new(), 0);
    for (nth, object) in objects.iter().enumerate() {
        let answer = api.create(&format!("{path}?dryRun=All&fieldValidation=Strict"), object);
        let problems = told.get(&nth).map(Vec::as_slice).unwrap_or_default();
        match answer {
            Ok(_) if problems.is_empty() => {}
            Ok(_) => wrong.push(format!("the API server accepts, plan says {problems:?}: {object}")),
            Err(error) if problems.is_empty() => wrong.push(format!("plan accepts: {object}: {error:#}")),
            Err(error) => {
                refused += 1;
                let said = format!("{error:#}").replace("\\\"", "\"");
                let fields =
                    problems.iter().filter_map(|problem| problem.split_once(": ")).map(|(field, _)| field);
                // What cannot be decoded into metadata is told by the server without a path we share.
                let named = fields.clone().any(|field| said.contains(field) || field.starts_with("metadata"));
                if !named {
                    wrong.push(format!("{problems:?} name another field than: {said}"));
                }
            }
        }
    }
    ensure!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), objects.len(), wrong.join("\n"));
    ensure!(
        refused > objects.len() / 3 && refused < objects.len(),
        "{refused} of {} were refused",
        objects.len()
    );
    Ok(())
}

#[test]
fn bindings() -> Result<()> {
    let s = scenario("judged")?;
    let path = format!("/apis/instancerole.dev/v1alpha1/namespaces/{}/instancerolebindings", s.namespace());
    verdicts_are_the_same(&path, &objects("InstanceRoleBinding", Some(s.namespace()), &binding_fields()))
}

#[test]
fn grants() -> Result<()> {
    let path = "/apis/instancerole.dev/v1alpha1/instancerolegrants";
    verdicts_are_the_same(path, &objects("InstanceRoleGrant", None, &grant_fields()))
}

#[test]
fn yaml_is_read_as_kubectl_reads_it() -> Result<()> {
    let s = scenario("yaml")?;
    let text = |spec: &str| {
        format!(
            "apiVersion: instancerole.dev/v1alpha1\nkind: InstanceRoleBinding\nmetadata: {{name: web, namespace: {}}}\nspec:\n  \
             instanceId: i-0123456789abcdef0\n{spec}",
            s.namespace()
        )
    };
    let sandbox = Sandbox::start()?;
    let mut wrong = Vec::new();
    for spec in [
        "  instanceProfile: {name: app}\n  suspend: yes\n",
        "  instanceProfile: {name: app}\n  suspend: off\n",
        "  instanceProfile: {name: app}\n  suspend: \"yes\"\n",
        "  instanceProfile: {name: yes}\n",
        "  instanceProfile: {name: y}\n",
        "  instanceProfile: {name: 0755}\n",
        "  instanceProfile: {name: 1_000}\n",
        "  instanceProfile: {name: 0x1F}\n",
        "  instanceProfile: {name: 1e3}\n",
        "  instanceProfile: {name: 1.2.3}\n",
        "  instanceProfile: {name: 2026-11-25}\n",
        "  instanceProfile: {name: ~}\n",
        "  instanceProfile: {name: !!str 12}\n",
        "  instanceProfile: {none: }\n",
        "  instanceProfile: &p {name: app}\n  mode: Observe\n",
        "  instanceProfile:\n  name: app\n",
        "  instanceProfile: {name: app\n",
        "\tinstanceProfile: {name: app}\n",
        "  instanceProfile: {name: 'it''s'}\n",
        "  instanceProfile: {<<: {name: app}}\n",
        "  instanceProfile: {name: app} # a comment\n",
        "  instanceProfile: {\"name\": \"\\u0061pp\"}\n",
    ] {
        let text = text(spec);
        let kubectl = s.world().control_plane().admin();
        let output =
            kubectl.output(&["apply", "--dry-run=server", "--validate=strict", "-f", "-"], Some(&text))?;
        let ran = plan(&sandbox, &text)?;
        let rows: Vec<Value> = serde_json::from_str(&ran.out)?;
        let refused = rows.iter().any(|row| row["reason"] == "InvalidManifest");
        let told = String::from_utf8_lossy(&output.stderr);
        if output.status.success() == refused {
            wrong.push(format!("{spec}kubectl: {told}plan: {}", ran.told));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Of a field that is given twice kubectl takes the last without a word. That is never meant.
    let twice = plan(&sandbox, &text("  instanceProfile: {name: app, name: app}\n"))?;
    assert!(twice.code == 3 && twice.told.contains("spec.instanceProfile.name: is given twice"), "{twice:?}");
    Ok(())
}
