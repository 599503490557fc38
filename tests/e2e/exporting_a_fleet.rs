//! `export`: a fleet that exists comes under declaration in one commit, and nothing happens to it.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use world::{ACCOUNT, Grants, REGION, Sandbox, World, WorldOptions, eventually_ok};

use crate::command::{Ran, plan, program, run};

fn export(sandbox: &Sandbox, flags: &[&str]) -> Result<Ran> {
    run(&mut program(&sandbox.aws_env())?, &[&["export"], flags].concat(), "")
}

fn documents(text: &str) -> Result<Vec<Value>> {
    use serde::Deserialize;
    serde_yaml::Deserializer::from_str(text).map(|document| Ok(Value::deserialize(document)?)).collect()
}

fn instances(objects: &[Value]) -> Vec<&str> {
    objects.iter().filter_map(|object| object["spec"]["instanceId"].as_str()).collect()
}

#[test]
fn a_thousand_instances_come_under_declaration_and_nothing_happens_to_them() -> Result<()> {
    let world = World::new(WorldOptions {
        grants: Grants::None,
        controller_flags: vec!["--resync-interval=2s".to_owned()],
        ..WorldOptions::default()
    })?;
    let s = world.scenario("exported")?;
    let sandbox = s.sandbox();
    for profile in ["app", "db"] {
        sandbox.profile(profile)?;
    }
    sandbox.add_instances(&json!({"count": 700, "profile": "app"}))?;
    sandbox.add_instances(&json!({"count": 300, "profile": "db", "state": "stopped"}))?;
    let ran = export(sandbox, &["-n", s.namespace(), "--with-grant"])?;
    let text = ran.printed(0)?;
    assert_eq!(text.matches("kind: InstanceRoleBinding\n").count(), 1000);
    assert!(ran.told.contains("exported 1000 of 1000 instances"), "{}", ran.told);

    let planned = plan(sandbox, text)?.rows(0)?;
    assert_eq!(planned.len(), 1000, "nothing would be done");
    world.control_plane().admin().run_with(&["apply", "--server-side", "-f", "-"], Some(text))?;
    let path = format!("/apis/instancerole.dev/v1alpha1/namespaces/{}/instancerolebindings", s.namespace());
    let ready = |object: &Value| {
        let conditions = object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
        conditions.iter().any(|condition| condition["type"] == "Synced" && condition["status"] == "True")
    };
    eventually_ok("all are as declared", std::time::Duration::from_secs(120), || {
        let list = world.control_plane().api().get(&path)?;
        let items = list["items"].as_array().context("no items")?;
        let done = items.iter().filter(|object| ready(object)).count();
        ensure!(done == 1000, "{done} of {}", items.len());
        Ok(())
    })?;
    // Later they are taken away again, as a prune would.
    world.control_plane().api().delete(&path)?;
    eventually_ok("all are gone", std::time::Duration::from_secs(60), || {
        let list = world.control_plane().api().get(&path)?;
        ensure!(list["items"].as_array().is_some_and(Vec::is_empty), "some are left");
        Ok(())
    })?;
    let writes: Vec<_> = sandbox.calls_since(0)?.into_iter().filter(world::Call::is_write).collect();
    assert_eq!(writes, [], "nothing was written to EC2, by whomever");
    Ok(())
}

#[test]
fn an_export_made_twice_is_the_same_and_one_instance_more_is_one_document_more() -> Result<()> {
    let sandbox = Sandbox::start()?;
    sandbox.profile("app")?;
    sandbox.add_instances(&json!({"count": 30, "profile": "app"}))?;
    let flags = ["--with-grant", "-n", "team-a"];
    let first = export(&sandbox, &flags)?;
    assert_eq!(first.printed(0)?, export(&sandbox, &flags)?.printed(0)?);
    let objects = documents(&first.out)?;
    assert!(instances(&objects).is_sorted());
    sandbox.instance("running", Some("app"))?;
    let second = export(&sandbox, &flags)?;
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    assert!(lines(&second.out).is_superset(&lines(&first.out)));
    let grown = documents(second.printed(0)?)?;
    let before: BTreeSet<&str> = instances(&objects).into_iter().collect();
    let more: Vec<&Value> = grown
        .iter()
        .filter(|o| o["spec"]["instanceId"].as_str().is_some_and(|i| !before.contains(i)))
        .collect();
    assert_eq!(more.len(), 1);
    Ok(())
}

#[test]
fn what_is_exported_says_all_that_keeps_it_as_it_is() -> Result<()> {
    let sandbox = Sandbox::start()?;
    let arn = sandbox.add_profile(&json!({"name": "app", "path": "/team/"}))?;
    let tags = json!({"Name": "web\n- x: 1", "team": "a"});
    let i = sandbox.add_instances(&json!({"count": 1, "profile": arn, "tags": tags}))?.remove(0);
    sandbox.instance("running", None)?;
    let ran = export(&sandbox, &["-n", "team-a", "--with-grant"])?;
    let objects = documents(ran.printed(0)?)?;
    assert!(ran.out.contains("# Name: web\\n- x: 1\n"), "{}", ran.out);
    assert_eq!(
        objects,
        [
            json!({
                "apiVersion": "instancerole.dev/v1alpha1", "kind": "InstanceRoleGrant", "metadata": {"name": "exported-team-a"},
                "spec": {
                    "namespaces": {"names": ["team-a"]}, "instanceProfiles": [arn],
                    "instances": {"regions": [REGION], "ids": [i]}, "allowNone": false,
                },
            }),
            json!({
                "apiVersion": "instancerole.dev/v1alpha1", "kind": "InstanceRoleBinding",
                "metadata": {"name": i, "namespace": "team-a"},
                "spec": {
                    "instanceId": i, "region": REGION, "instanceProfile": {"arn": arn}, "deletionPolicy": "Retain",
                },
            }),
        ]
    );
    Ok(())
}

#[test]
fn what_is_left_out_is_told_with_why() -> Result<()> {
    let sandbox = Sandbox::start()?;
    let app = sandbox.profile("app")?;
    sandbox.settings(&json!({"disassociating_ms": 600_000}))?;
    let add = |more: Value| -> Result<String> {
        let mut instance = json!({"count": 1, "profile": "app"});
        for (name, value) in more.as_object().into_iter().flatten() {
            instance[name] = value.clone();
        }
        Ok(sandbox.add_instances(&instance)?.remove(0))
    };
    let ours = add(json!({"tags": {"team": "a", "stage": "prod"}}))?;
    let theirs = add(json!({"tags": {"team": "b"}}))?;
    let managed = add(json!({"managed": true, "tags": {"team": "a"}}))?;
    let node = add(json!({"tags": {"team": "a", "karpenter.sh/nodepool": "x"}}))?;
    let leaving = add(json!({"tags": {"team": "a"}}))?;
    let association =
        sandbox.truth(&leaving)?["rows"][0]["associationId"].as_str().context("no row")?.to_owned();
    sandbox.aws_cli().run(&["ec2", "disassociate-iam-instance-profile", "--association-id", &association])?;
    let there = "eu-central-1";
    let far = sandbox.add_instances(&json!({"count": 1, "profile": app, "region": there}))?.remove(0);

    let ran = export(&sandbox, &[])?;
    let objects = documents(ran.printed(0)?)?;
    let mut both = [ours.as_str(), theirs.as_str()];
    both.sort_unstable();
    assert_eq!(instances(&objects), both);
    assert!(objects.iter().all(|object| object["metadata"]["namespace"] == "default"));
    for told in [
        format!("left out {managed} ({REGION}): an AWS service manages it"),
        format!("left out {node} ({REGION}): it is a node of a cluster (tag karpenter.sh/nodepool)"),
        format!("left out {leaving} ({REGION}): its profile is being taken off"),
        "exported 2 of 5 instances with an instance profile in eu-west-1".to_owned(),
    ] {
        assert!(ran.told.contains(&told), "{told}\n{}", ran.told);
    }

    let chosen = export(&sandbox, &["--tag=team=a", "--tag=stage=prod"])?;
    assert_eq!(instances(&documents(chosen.printed(0)?)?), [ours.as_str()]);
    assert!(
        chosen.told.contains("3 do not carry the tags") || chosen.told.contains("4 do not carry the tags"),
        "{}",
        chosen.told
    );
    let wide = export(&sandbox, &["--region=eu-west-1", "--region", there])?;
    let wide = documents(wide.printed(0)?)?;
    assert!(instances(&wide).contains(&far.as_str()) && wide.len() == 3, "{wide:#?}");
    let writes = sandbox.calls_since(0)?;
    let writes: Vec<&str> =
        writes.iter().filter(|call| call.is_write()).map(|call| call.action.as_str()).collect();
    assert_eq!(writes, ["DisassociateIamInstanceProfile"], "only the one that was made by hand");
    Ok(())
}

#[test]
fn without_the_right_to_look_nothing_is_exported() -> Result<()> {
    let sandbox = Sandbox::start()?;
    let policy = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:*", "Resource": "*"}]});
    let key = sandbox.aws_env().access_key().to_owned();
    sandbox.post("policies", &json!({"accessKey": key, "policy": policy}))?;
    let ran = export(&sandbox, &[])?;
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert!(
        ran.told.contains(&format!("Region {REGION}")) && ran.told.contains("UnauthorizedOperation"),
        "{ran:?}"
    );
    assert!(
        ran.told.contains(ACCOUNT) || ran.told.contains("DescribeIamInstanceProfileAssociations"),
        "{ran:?}"
    );
    Ok(())
}
