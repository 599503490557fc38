//! Guessing ids: what a binding is told without a right is the same whatever is there.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use world::{REGION, Scenario};

use crate::grants::{Rights, allowing, allowing_on, stranger, with};
use crate::stage::{ASSOCIATE, Story, a_second_later};

/// A binding as it reads to somebody who knows which instance and which binding they asked about, and not when.
fn told(s: &Scenario<'_>, binding: &str, instance: &str) -> Result<String> {
    let object = s.binding(binding)?;
    let mut status = object["status"].clone();
    for condition in status["conditions"].as_array_mut().into_iter().flatten() {
        condition["lastTransitionTime"] = Value::Null;
    }
    let events: Vec<Value> = s
        .events(binding)?
        .into_iter()
        .map(|event| {
            json!([event["reason"], event["type"], event["action"], event["note"], event["related"]])
        })
        .collect();
    let finalizers = &object["metadata"]["finalizers"];
    let text = serde_json::to_string_pretty(&json!([status, events, finalizers]))?;
    Ok(text.replace(instance, "THE-INSTANCE").replace(binding, "THE-BINDING"))
}

/// Instances in every situation that somebody could want to find out, by what they are.
fn situations(
    s: &Scenario<'_>,
    tags: &Value,
    owner: &Scenario<'_>,
    [never, impossible]: [&str; 2],
) -> Result<Vec<(&'static str, String)>> {
    let sandbox = s.sandbox();
    let make = |more: Value| -> Result<String> {
        let mut instance = json!({"count": 1, "tags": tags});
        for (member, value) in more.as_object().into_iter().flatten() {
            instance[member] = value.clone();
        }
        Ok(sandbox.add_instances(&instance)?.remove(0))
    };
    sandbox.profile("guess-other")?;
    let mut node_tags = tags.clone();
    node_tags["kubernetes.io/cluster/prod"] = json!("owned");
    let owned = make(json!({"state": "running"}))?;
    let profile = sandbox.profile("guess-app")?;
    owner.grant(&format!("on-{owned}"), &allowing_on(&["guess-app"], &[&owned]))?;
    owner.bind(&format!("owns-{owned}"), &owned, &json!({"arn": profile}))?;
    owner.is_carried_out(&format!("owns-{owned}"))?;
    Ok(vec![
        ("running, without a profile", make(json!({"state": "running"}))?),
        ("running, with what is asked for", make(json!({"state": "running", "profile": "guess-app"}))?),
        ("running, with another profile", make(json!({"state": "running", "profile": "guess-other"}))?),
        ("stopped", make(json!({"state": "stopped"}))?),
        ("pending", make(json!({"state": "pending"}))?),
        ("terminated", make(json!({"state": "terminated"}))?),
        ("managed by a service", make(json!({"state": "running", "managed": true}))?),
        ("a node", make(json!({"state": "running", "tags": node_tags}))?),
        ("another namespace's", owned),
        ("one that never was", never.to_owned()),
        ("one that cannot be", impossible.to_owned()),
    ])
}

fn are_told_the_same(s: &Scenario<'_>, situations: &[(&str, String)]) -> Result<()> {
    let bindings: Vec<String> = (0..situations.len()).map(|n| format!("guess-{n:02}")).collect();
    for (binding, (_, instance)) in bindings.iter().zip(situations) {
        s.bind(binding, instance, &json!({"name": "guess-app"}))?;
    }
    for binding in &bindings {
        s.is_refused(binding)?;
        s.event(binding, "NotAuthorized")?;
    }
    let all = || -> Result<Vec<String>> {
        let each = bindings.iter().zip(situations);
        each.map(|(binding, (_, instance))| told(s, binding, instance)).collect()
    };
    let same = |told: &[String]| -> Result<()> {
        for ((situation, _), words) in situations.iter().zip(told) {
            ensure!(
                *words == told[0],
                "{situation} is told otherwise:\n{words}\nand the first:\n{}",
                told[0]
            );
        }
        Ok(())
    };
    let before = all()?;
    same(&before)?;
    // Neither time tells more, nor asking.
    s.passes(2)?;
    let values: Vec<String> = bindings.iter().map(|binding| s.ask(binding)).collect::<Result<_>>()?;
    for (binding, value) in bindings.iter().zip(&values) {
        s.patiently(binding, "echoes", |found| found["status"]["lastHandledRequestedAt"] == value.as_str())?;
    }
    s.passes(2)?;
    let mut later = all()?;
    for (words, value) in later.iter_mut().zip(&values) {
        *words = words.replace(value, "WHEN");
    }
    same(&later)?;
    for (situation, instance) in
        situations.iter().filter(|(situation, _)| *situation != "another namespace's")
    {
        assert_eq!(s.writes(instance)?, [""; 0], "{situation}");
    }
    // Deletion tells nothing more either, and is over at once.
    for binding in &bindings {
        s.delete(binding)?;
        ensure!(s.world().control_plane().api().find(&s.path(binding))?.is_none(), "{binding} is held");
    }
    Ok(())
}

#[test]
fn whatever_is_there_the_words_are_the_same() -> Result<()> {
    let (s, owner) = (stranger("guesser")?, stranger("owner")?);
    let situations = situations(&s, &json!({}), &owner, ["i-0fedcba9876543210", "i-00000000000000000"])?;
    let own = s.sandbox().instance("running", None)?;
    s.grant("own", &allowing_on(&["guess-app"], &[&own]))?;
    let since = s.sandbox().last_call()?;
    are_told_the_same(&s, &situations)?;
    // And AWS was asked nothing on their behalf.
    let unasked = situations.iter().filter(|(situation, _)| *situation != "another namespace's");
    for (situation, instance) in unasked {
        let asked: Vec<_> =
            s.questions_about(instance)?.into_iter().filter(|call| call.seq > since).collect();
        ensure!(asked.is_empty(), "{situation}: {asked:?}");
    }
    // What is granted is told and done.
    s.bind("web", &own, &json!({"name": "guess-app"}))?;
    s.is_carried_out("web")?;
    assert_eq!(s.writes(&own)?, [ASSOCIATE]);
    Ok(())
}

#[test]
fn under_a_grant_by_tag_not_there_and_wrong_tag_look_alike() -> Result<()> {
    let (s, owner) = (stranger("tag-guesser")?, stranger("tag-owner")?);
    let situations =
        situations(&s, &json!({"team": "theirs"}), &owner, ["i-0fedcba9876543211", "i-00000000"])?;
    s.grant("own", &with(allowing(&["guess-app"]), "instances", json!({"tags": {"team": "ours"}})))?;
    are_told_the_same(&s, &situations)
}

#[test]
fn what_was_seen_on_behalf_of_another_is_not_told() -> Result<()> {
    let (s, owner) = (stranger("late-guesser")?, stranger("early-owner")?);
    s.sandbox().profile("seen-app")?;
    let i = s.sandbox().add_instances(&json!({"count": 1, "tags": {"team": "ours"}}))?.remove(0);
    s.grant("own", &with(allowing(&["seen-app"]), "instances", json!({"tags": {"team": "ours"}})))?;
    owner.grant("own", &allowing_on(&["seen-app"], &[&i]))?;
    owner.bind("web", &i, &json!({"name": "seen-app"}))?;
    owner.is_carried_out("web")?;
    a_second_later()?;
    // The controller has just looked, for somebody else, and saw the tag; now it is gone. EC2's own reads lag a little.
    s.sandbox().retag(&i, &json!({"team": "theirs"}))?;
    std::thread::sleep(Duration::from_millis(200));
    s.bind("guess", &i, &json!({"name": "seen-app"}))?;
    s.is_refused("guess")?;
    let told: Vec<Value> = s.events("guess")?.iter().map(|event| event["reason"].clone()).collect();
    assert!(!told.contains(&json!("Conflict")), "that it is somebody's was told: {told:?}");
    assert_eq!(owner.writes(&i)?, [ASSOCIATE]);
    Ok(())
}

#[test]
fn whether_a_profile_exists_is_not_told_either() -> Result<()> {
    let s = stranger("profiles")?;
    s.sandbox().profile("hidden-app")?;
    s.sandbox().add_profile(&json!({"name": "hidden-empty", "roleName": null}))?;
    for name in ["hidden-many-1", "hidden-many-2"] {
        s.sandbox().add_profile(&json!({"name": name, "roleName": "hidden-many"}))?;
    }
    let i = s.sandbox().instance("running", None)?;
    let targets = [
        json!({"name": "hidden-app"}),
        json!({"name": "hidden-nothing"}),
        json!({"name": "hidden-empty"}),
        json!({"name": "Hidden-App"}),
        json!({"roleName": "hidden-app"}),
        json!({"roleName": "hidden-many"}),
        json!({"roleName": "hidden-nothing"}),
        json!({"arn": "arn:aws:iam::123456789012:instance-profile/hidden-app"}),
        json!({"arn": "arn:aws:iam::210987654321:instance-profile/hidden-app"}),
        json!({"none": {}}),
    ];
    let since = s.sandbox().last_call()?;
    let mut words = Vec::new();
    for (n, target) in targets.iter().enumerate() {
        let binding = format!("wants-{n:02}");
        s.bind(&binding, &i, target)?;
        s.is_refused(&binding)?;
        s.event(&binding, "NotAuthorized")?;
        words.push(told(&s, &binding, &i)?);
    }
    for (target, told) in targets.iter().zip(&words) {
        ensure!(*told == words[0], "{target} is told otherwise:\n{told}\nand the first:\n{}", words[0]);
    }
    let asked: Vec<_> = s
        .sandbox()
        .calls_since(since)?
        .into_iter()
        .filter(|call| {
            call.params.values().any(|value| value.as_str().is_some_and(|v| v.contains("hidden-")))
        })
        .collect();
    assert_eq!(asked, [], "IAM was asked on behalf of nobody");
    assert_eq!(s.questions_about(&i)?, []);
    Ok(())
}

#[test]
fn no_region_is_contacted_that_no_grant_names() -> Result<()> {
    let s = stranger("regions")?;
    s.sandbox().profile("regions-app")?;
    let i = s.sandbox().instance("running", None)?;
    // One grant names Regions, the other none, which is the controller's own.
    s.grant("named", &allowing(&["regions-app"]))?;
    s.grant("unnamed", &with(allowing(&["regions-app"]), "instances", json!({"ids": [i]})))?;
    let profile = json!({"name": "regions-app"});
    for (n, region) in
        ["ap-southeast-2", "us-gov-west-1", "cn-north-1", "xx-nowhere-1", "eu-west-9", "aa-aa-aa-0"]
            .iter()
            .enumerate()
    {
        let binding = format!("far-{n}");
        s.apply(&binding, &json!({"instanceId": i, "region": region, "instanceProfile": profile}))?;
        s.is_refused(&binding)?;
    }
    s.apply("near", &json!({"instanceId": i, "region": REGION, "instanceProfile": profile}))?;
    s.is_carried_out("near")?;
    s.passes(2)?;
    let known = [REGION, world::OTHER_REGION, "us-east-1"];
    for call in s.sandbox().calls_since(0)? {
        ensure!(known.contains(&call.region.as_str()), "{} was asked: {call:?}", call.region);
        // IAM's one endpoint signs as us-east-1, and nothing of EC2 is there.
        ensure!(
            call.region != "us-east-1"
                || !call.action.contains("Instance")
                || call.action.contains("Profile"),
            "{call:?}"
        );
    }
    Ok(())
}

#[test]
fn a_grant_without_regions_is_for_the_controllers_own() -> Result<()> {
    let s = stranger("own-region")?;
    s.sandbox().profile("own-region-app")?;
    let far = json!({"count": 1, "region": world::OTHER_REGION, "tags": {"team": "a"}});
    let far = s.sandbox().add_instances(&far)?.remove(0);
    s.grant("tagged", &with(allowing(&["own-region-app"]), "instances", json!({"tags": {"team": "a"}})))?;
    let profile = json!({"name": "own-region-app"});
    s.apply("web", &json!({"instanceId": far, "region": world::OTHER_REGION, "instanceProfile": profile}))?;
    s.is_refused("web")?;
    s.passes(2)?;
    assert_eq!(s.questions_about(&far)?, []);
    Ok(())
}
