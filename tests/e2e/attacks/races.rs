//! Rights that are taken at the worst of moments: between the look and the write, while a write waits for its turn, by
//! another name for the same thing, while nobody is there.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use world::{Grants, REGION, Scenario, World, WorldOptions, eventually_ok};

use crate::grants::{Rights, allowing, allowing_on, arn, stranger, with};
use crate::stage::{ASSOCIATE, DISASSOCIATE, REPLACE, Story, aws, condition, reason, truth};

/// A world in which nothing is granted, with a controller of its own.
fn bare_world(flags: &[&str]) -> Result<World> {
    World::new(WorldOptions {
        controller_flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
        grants: Grants::None,
        ..WorldOptions::default()
    })
}

/// Whether each write to an instance rests on tags that were asked for at most 5 s before it.
fn tags_were_fresh(s: &Scenario<'_>, instance: &str) -> Result<()> {
    let calls = s.sandbox().calls_since(0)?;
    for write in s.sandbox().writes_in_any_role_to(instance)? {
        let fresh = calls.iter().any(|look| {
            look.action == "DescribeInstances"
                && look.params.values().any(|value| value == instance)
                && look.ended_ms.is_some_and(|ended| ended <= write.started_ms)
                && look.started_ms + 5_000 >= write.started_ms
        });
        ensure!(fresh, "written on old tags: {write:?}");
    }
    Ok(())
}

/// One token for Associate now, the next in twelve seconds: what comes second has to wait, and meanwhile its right goes.
#[test]
fn a_write_that_waits_for_its_turn_when_its_right_is_taken() -> Result<()> {
    let world = bare_world(&["--resync-interval=1s", "--aws-budget=AssociateIamInstanceProfile=1,0.083"])?;
    let s = world.scenario("queued")?;
    let app = s.sandbox().profile("app")?;
    let make = |tags: Value| -> Result<String> {
        Ok(s.sandbox().add_instances(&json!({"count": 1, "tags": tags}))?.remove(0))
    };
    let (first, revoked, retagged, relabelled, last) =
        (make(json!({}))?, make(json!({}))?, make(json!({"team": "a"}))?, make(json!({}))?, make(json!({}))?);
    s.grant("honest", &allowing_on(&["app"], &[&first, &last]))?;
    s.grant("revoked", &allowing_on(&["app"], &[&revoked]))?;
    s.grant("tagged", &with(allowing(&["app"]), "instances", json!({"tags": {"team": "a"}})))?;
    let by_label = json!({"selector": {"matchLabels": {"queued": s.namespace()}}});
    s.grant("labelled", &with(allowing_on(&["app"], &[&relabelled]), "namespaces", by_label))?;
    s.label_namespace("queued", Some(s.namespace()))?;

    let profile = json!({"name": "app"});
    s.bind("first", &first, &profile)?;
    s.is_carried_out("first")?;
    for (binding, instance) in [("revoked", &revoked), ("retagged", &retagged), ("relabelled", &relabelled)] {
        s.bind(binding, instance, &profile)?;
    }
    for binding in ["revoked", "retagged", "relabelled"] {
        s.reaches(binding, "BudgetExhausted")?;
    }
    s.bind("last", &last, &profile)?;
    s.reaches("last", "BudgetExhausted")?;

    s.revoke("revoked")?;
    s.sandbox().retag(&retagged, &json!({"team": "b"}))?;
    s.label_namespace("queued", None)?;
    // Who came last gets the token for which the others had been waiting.
    s.carries(&last, Some(&app))?;
    for binding in ["revoked", "retagged", "relabelled"] {
        s.loses_its_right(binding)?;
    }
    s.passes(2)?;
    for instance in [&revoked, &retagged, &relabelled] {
        assert_eq!(s.writes(instance)?, [""; 0]);
    }
    assert_eq!(s.writes(&last)?, [ASSOCIATE]);
    Ok(())
}

/// The tags were right when they were looked at; then the write had to wait, for longer than tags are believed.
#[test]
fn a_tag_that_is_swapped_while_the_write_is_on_its_way() -> Result<()> {
    let world = bare_world(&["--resync-interval=60s", "--aws-budget=AssociateIamInstanceProfile=1,0.11"])?;
    let s = world.scenario("swapped")?;
    let app = s.sandbox().profile("app")?;
    let tagged = json!({"count": 3, "tags": {"team": "a"}});
    let ids = s.sandbox().add_instances(&tagged)?;
    let [first, swapped, honest] = ids.as_slice() else { anyhow::bail!("{ids:?}") };
    s.grant("tagged", &with(allowing(&["app"]), "instances", json!({"tags": {"team": "a"}})))?;
    let profile = json!({"name": "app"});
    s.bind("first", first, &profile)?;
    s.is_carried_out("first")?;
    s.bind("swapped", swapped, &profile)?;
    s.reaches("swapped", "BudgetExhausted")?;
    s.bind("honest", honest, &profile)?;
    s.reaches("honest", "BudgetExhausted")?;
    // No pass comes by in between: only the look that belongs to the write can see it.
    s.sandbox().retag(swapped, &json!({"team": "b"}))?;
    s.carries(honest, Some(&app))?;
    assert_eq!(s.writes(swapped)?, [""; 0]);
    s.loses_its_right("swapped")?;
    for instance in [first, honest] {
        tags_were_fresh(&s, instance)?;
    }
    Ok(())
}

/// EC2 takes its time with an answer, and the tags are changed meanwhile.
#[test]
fn a_tag_that_is_swapped_while_ec2_is_slow() -> Result<()> {
    let world = bare_world(&["--resync-interval=60s"])?;
    let s = world.scenario("slow")?;
    s.sandbox().profile("app")?;
    let i = s.sandbox().add_instances(&json!({"count": 1, "tags": {"team": "a"}}))?.remove(0);
    s.grant("tagged", &with(allowing(&["app"]), "instances", json!({"tags": {"team": "a"}})))?;
    // The look at the associations is held up, the one at the tags is not; so a write would rest on old tags.
    let listing = "DescribeIamInstanceProfileAssociations";
    let slow = json!({"action": listing, "instance": i, "count": 2, "effect": {"hang": {"ms": 4500}}});
    s.sandbox().fault(&slow)?;
    s.bind("web", &i, &json!({"name": "app"}))?;
    eventually_ok("EC2 is being slow", Duration::from_secs(20), || {
        let calls = s.sandbox().calls_naming(&i)?;
        ensure!(calls.iter().any(|call| call.action == listing), "{} calls", calls.len());
        Ok(())
    })?;
    s.is_carried_out("web")?;
    tags_were_fresh(&s, &i)
}

#[test]
fn a_profile_made_again_on_another_path() -> Result<()> {
    let s = stranger("moved")?;
    let app = s.sandbox().add_profile(&json!({"name": "moved-app", "path": "/moved/"}))?;
    let old = s.sandbox().profile("moved-old")?;
    let (i, later) = (s.sandbox().instance("running", None)?, s.sandbox().instance("running", None)?);
    s.grant("own", &allowing(&["moved/*"]))?;
    s.bind("web", &i, &json!({"name": "moved-app"}))?;
    s.is_carried_out("web")?;
    for words in [
        "remove-role-from-instance-profile --instance-profile-name moved-app --role-name moved-app",
        "delete-instance-profile --instance-profile-name moved-app",
        "create-instance-profile --instance-profile-name moved-app --path /admin/",
        "add-role-to-instance-profile --instance-profile-name moved-app --role-name moved-app",
    ] {
        aws(&s, &format!("iam {words}"))?;
    }
    // The same name now means another profile, which nobody gave this namespace.
    s.ask("web")?;
    s.loses_its_right("web")?;
    s.bind("later", &later, &json!({"name": "moved-app"}))?;
    s.is_refused("later")?;
    s.sandbox().drift(&i, Some(&old))?;
    s.passes(3)?;
    assert_eq!(s.writes(&i)?, [ASSOCIATE], "{app} was right when it was attached");
    assert_eq!(s.writes(&later)?, [""; 0]);
    Ok(())
}

#[test]
fn a_path_that_only_begins_alike() -> Result<()> {
    let s = stranger("alike")?;
    for (name, path) in
        [("alike-inner", "/alike/"), ("alike-deep", "/alike/deep/"), ("alike-outer", "/alikester/")]
    {
        s.sandbox().add_profile(&json!({"name": name, "path": path}))?;
    }
    s.sandbox().profile("alike")?;
    s.grant("own", &allowing(&["alike/*"]))?;
    let mut refused = Vec::new();
    for (n, target) in [
        json!({"name": "alike-outer"}),
        json!({"arn": arn("alikester/alike-outer")}),
        json!({"roleName": "alike-outer"}),
        json!({"name": "alike"}),
        // IAM knows no such profile; that it would begin right helps nobody.
        json!({"arn": arn("alikester/../alike/alike-inner")}),
    ]
    .iter()
    .enumerate()
    {
        let i = s.sandbox().instance("running", None)?;
        s.bind(&format!("outside-{n}"), &i, target)?;
        refused.push((format!("outside-{n}"), i));
    }
    for (n, target) in [json!({"name": "alike-inner"}), json!({"roleName": "alike-deep"})].iter().enumerate()
    {
        let i = s.sandbox().instance("running", None)?;
        s.bind(&format!("inside-{n}"), &i, target)?;
        s.is_carried_out(&format!("inside-{n}"))?;
    }
    for (binding, i) in &refused {
        s.is_refused(binding)?;
        assert_eq!(s.writes(i)?, [""; 0], "{binding}");
    }
    Ok(())
}

#[test]
fn a_namespace_that_loses_its_label_and_gets_it_back() -> Result<()> {
    let s = stranger("label")?;
    let app = s.sandbox().profile("label-app")?;
    let other = s.sandbox().profile("label-other")?;
    let i = s.sandbox().instance("running", None)?;
    let labelled = json!({"selector": {"matchExpressions": [
        {"key": "label-team", "operator": "In", "values": ["a", s.namespace()]},
        {"key": "label-banned", "operator": "DoesNotExist"},
    ]}});
    s.grant("own", &with(allowing(&["label-app"]), "namespaces", labelled))?;
    s.bind("web", &i, &json!({"name": "label-app"}))?;
    s.is_refused("web")?;
    s.label_namespace("label-team", Some(s.namespace()))?;
    s.is_carried_out("web")?;

    s.label_namespace("label-banned", Some("yes"))?;
    s.loses_its_right("web")?;
    s.event("web", "NotAuthorized")?;
    s.sandbox().drift(&i, Some(&other))?;
    s.passes(3)?;
    assert_eq!(s.sandbox().profile_of(&i)?, Some(other), "frozen as it is");
    assert_eq!(s.writes(&i)?, [ASSOCIATE]);

    s.label_namespace("label-banned", None)?;
    s.is_carried_out("web")?;
    s.carries(&i, Some(&app))?;
    assert_eq!(s.writes(&i)?, [ASSOCIATE, REPLACE]);
    Ok(())
}

#[test]
fn an_instance_that_is_tagged_away_and_back() -> Result<()> {
    let s = stranger("tagged")?;
    let app = s.sandbox().profile("tagged-app")?;
    let other = s.sandbox().profile("tagged-other")?;
    let made = json!({"count": 1, "tags": {"team": "a", "stage": "live"}});
    let i = s.sandbox().add_instances(&made)?.remove(0);
    let tags = json!({"tags": {"team": "a", "stage": "live"}});
    s.grant("own", &with(allowing(&["tagged-app"]), "instances", tags))?;
    s.bind("web", &i, &json!({"name": "tagged-app"}))?;
    s.is_carried_out("web")?;
    // Each tag that is asked for must be there, to the letter.
    for tags in
        [json!({"team": "a"}), json!({"team": "a", "stage": "Live"}), json!({"Team": "a", "stage": "live"})]
    {
        s.sandbox().retag(&i, &tags)?;
        s.loses_its_right("web")?;
        s.sandbox().drift(&i, Some(&other))?;
        s.passes(2)?;
        assert_eq!(s.sandbox().profile_of(&i)?, Some(other.clone()), "{tags}");
        s.sandbox().drift(&i, Some(&app))?;
        s.sandbox().retag(&i, &json!({"team": "a", "stage": "live", "more": "does not matter"}))?;
        s.is_carried_out("web")?;
    }
    assert_eq!(s.writes(&i)?, [ASSOCIATE]);
    Ok(())
}

#[test]
fn a_grant_that_is_deleted_and_made_again() -> Result<()> {
    let s = stranger("again")?;
    let app = s.sandbox().profile("again-app")?;
    let other = s.sandbox().profile("again-other")?;
    let i = s.sandbox().instance("running", None)?;
    let name = s.grant("own", &allowing(&["again-app"]))?;
    s.bind("web", &i, &json!({"name": "again-app"}))?;
    let binding = s.is_carried_out("web")?;
    assert_eq!(binding["status"]["grant"], name);
    s.revoke("own")?;
    s.loses_its_right("web")?;
    s.choose("web", json!({"name": "again-other"}))?;
    s.sandbox().drift(&i, None)?;
    s.passes(3)?;
    assert_eq!(s.sandbox().profile_of(&i)?, None);
    assert_eq!(s.writes(&i)?, [ASSOCIATE]);

    s.grant("own", &allowing(&["again-app"]))?;
    s.passes(1)?;
    // What is asked for by now is not what is granted.
    s.loses_its_right("web")?;
    s.choose("web", json!({"name": "again-app"}))?;
    s.is_carried_out("web")?;
    s.carries(&i, Some(&app))?;
    assert_ne!(s.sandbox().profile_of(&i)?, Some(other));
    assert_eq!(s.writes(&i)?, [ASSOCIATE, ASSOCIATE]);
    Ok(())
}

#[test]
fn a_grant_that_is_edited_under_a_waiting_binding() -> Result<()> {
    let s = stranger("edited")?;
    s.sandbox().profile("edited-app")?;
    let i = s.sandbox().instance("running", None)?;
    s.grant("own", &allowing_on(&["edited-app"], &["i-0123456789abcdef0"]))?;
    s.bind("web", &i, &json!({"name": "edited-app"}))?;
    s.is_refused("web")?;
    s.edit_grant("own", &json!({"instances": {"ids": [i]}}))?;
    s.is_carried_out("web")?;
    s.edit_grant("own", &json!({"instances": {"ids": ["i-0123456789abcdef0"]}}))?;
    s.loses_its_right("web")?;
    // Rights add up: a second grant gives the profile, but for another instance; no right is pieced together.
    s.grant("half", &allowing_on(&["edited-app"], &["i-0123456789abcdef1"]))?;
    s.grant("other-half", &allowing_on(&["edited-something-else"], &[&i]))?;
    s.passes(2)?;
    s.loses_its_right("web")?;
    assert_eq!(s.writes(&i)?, [ASSOCIATE]);
    Ok(())
}

#[test]
fn a_restart_with_grants_present_takes_nothing_from_anybody() -> Result<()> {
    let mut world = bare_world(&["--resync-interval=1s"])?;
    let s = world.scenario("restart")?;
    s.sandbox().profile("app")?;
    let (plain, tagged) = (
        s.sandbox().instance("running", None)?,
        s.sandbox().add_instances(&json!({"count": 1, "tags": {"team": "a"}}))?.remove(0),
    );
    s.grant("plain", &allowing_on(&["app"], &[&plain]))?;
    s.grant("tagged", &with(allowing(&["app"]), "instances", json!({"tags": {"team": "a"}})))?;
    let versions = |s: &Scenario<'_>| -> Result<Vec<Value>> {
        ["plain", "tagged"]
            .iter()
            .map(|name| Ok(s.binding(name)?["metadata"]["resourceVersion"].clone()))
            .collect()
    };
    s.bind("plain", &plain, &json!({"name": "app"}))?;
    s.bind("tagged", &tagged, &json!({"name": "app"}))?;
    s.is_carried_out("plain")?;
    s.is_carried_out("tagged")?;
    s.passes(2)?;
    let before = versions(&s)?;
    for _ in 0..3 {
        world.take_controller()?.kill()?;
        world.start_controller()?;
        let s = world.scenario("restart")?;
        s.passes(2)?;
        assert_eq!(versions(&s)?, before, "not even for a moment was anything else told");
    }
    let s = world.scenario("restart")?;
    assert_eq!(
        (s.writes(&plain)?, s.writes(&tagged)?),
        (vec![ASSOCIATE.to_owned()], vec![ASSOCIATE.to_owned()])
    );
    let told = [s.events("plain")?, s.events("tagged")?].concat();
    assert!(!told.iter().any(|event| event["reason"] == "NotAuthorized"), "{told:#?}");
    Ok(())
}

#[test]
fn without_reading_grants_nothing_is_concluded_from_there_being_none() -> Result<()> {
    let mut world = World::new(WorldOptions {
        own_control_plane: true,
        controller_flags: vec!["--resync-interval=1s".into()],
        ..WorldOptions::default()
    })?;
    let s = world.scenario("blind")?;
    s.sandbox().profile("app")?;
    let i = s.sandbox().instance("running", None)?;
    s.bind("web", &i, &json!({"name": "app"}))?;
    s.is_carried_out("web")?;
    s.passes(2)?;
    let (path, before) = (s.path("web"), s.binding("web")?);
    world.take_controller()?.kill()?;

    let role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/instance-role-controller";
    let api = world.control_plane().api();
    let rules = api.get(role)?["rules"].clone();
    let blind: Vec<&Value> = rules
        .as_array()
        .context("rules")?
        .iter()
        .filter(|rule| !rule["resources"].to_string().contains("instancerolegrants"))
        .collect();
    api.merge(role, &json!({"rules": blind}))?;
    let since = world.sandbox().last_call()?;
    let controller = world.controller_command().spawn(world.scratch().path(), "blind")?;
    eventually_ok("it says what it waits for", Duration::from_secs(20), || {
        let (status, said) = controller.probe("/readyz")?;
        ensure!(status == 503, "{status} {said}");
        let log = controller.process().printed();
        ensure!(log.contains("instancerolegrants"), "nothing in its log: {log}");
        Ok(())
    })?;
    // It came as far as it can, and nobody lost anything.
    assert_eq!(api.get(&path)?["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"]);
    let writes: Vec<_> =
        world.sandbox().calls_since(since)?.into_iter().filter(world::Call::is_write).collect();
    assert_eq!(writes, []);

    api.merge(role, &json!({"rules": rules}))?;
    controller.wait_until_ready(Duration::from_secs(60))?;
    assert_eq!(api.get(&path)?["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"]);
    Ok(())
}

#[test]
fn while_aws_is_away_rights_by_tag_are_unknown() -> Result<()> {
    let world = bare_world(&["--resync-interval=1s"])?;
    let s = world.scenario("unknown")?;
    s.sandbox().profile("app")?;
    let i = s.sandbox().add_instances(&json!({"count": 1, "tags": {"team": "a"}}))?.remove(0);
    s.grant(
        "tagged",
        &with(allowing(&["app"]), "instances", json!({"tags": {"team": "a"}, "regions": [REGION]})),
    )?;
    let outage = s.sandbox().fault(&json!({"action": "*", "count": null, "effect": "drop"}))?;
    s.bind("web", &i, &json!({"arn": arn("app")}))?;
    let binding = s.reaches("web", "AWSUnavailable")?;
    assert_eq!(truth(&binding, "Authorized"), "Unknown", "{:#}", binding["status"]);
    assert!(binding["status"]["grant"].is_null() && binding["status"]["observed"].is_null());
    assert_eq!(condition(&binding, "Stalled"), &Value::Null);
    s.sandbox().delete(&format!("faults?id={outage}"))?;
    let healed = s.is_carried_out("web")?;
    assert_eq!(reason(&healed), "Associated");
    s.delete("web")?;
    s.vanishes("web")?;
    assert_eq!(s.writes(&i)?.last().map(String::as_str), Some(DISASSOCIATE));
    Ok(())
}
