//! Each change of the cloud is one line of the log, one entry of the status and one Event, and all three name EC2's request.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use world::{Grants, World, WorldOptions, eventually, eventually_ok};

use crate::stage::{ASSOCIATE, DISASSOCIATE, REPLACE, Story, is_observed, world};

/// The lines of the log that tell of changes.
fn trail(world: &World) -> Result<Vec<Value>> {
    let mut lines = world.controller()?.log()?;
    lines.retain(|line| line["message"] == "instance profile changed");
    Ok(lines)
}

#[test]
fn who_asked_from_what_to_what_and_by_which_request() -> Result<()> {
    let world = world(&["--resync-interval=1s"])?;
    let s = world.scenario("trail")?;
    let [app, old] = ["trail-app", "trail-old"].map(|name| s.sandbox().profile(name));
    let (app, old) = (app?, old?);
    let i = s.sandbox().instance("running", Some("trail-old"))?;

    let manifest = json!({
        "apiVersion": "instancerole.dev/v1alpha1", "kind": "InstanceRoleBinding",
        "metadata": {"name": "web", "namespace": s.namespace()},
        "spec": {"instanceId": i, "instanceProfile": {"name": "trail-app"}},
    });
    let apply = ["apply", "--server-side", "--field-manager=flux", "-f", "-"];
    world.control_plane().admin().run_with(&apply, Some(&manifest.to_string()))?;
    let first = s.wait_until_ready("web")?;
    s.sandbox().drift(&i, None)?;
    s.carries(&i, Some(&app))?;
    s.wait_until_ready("web")?;
    s.delete("web")?;
    s.vanishes("web")?;

    let lines = eventually_ok("three lines", std::time::Duration::from_secs(20), || {
        let lines = trail(&world)?;
        anyhow::ensure!(lines.len() == 3, "{lines:#?}");
        Ok(lines)
    })?;
    let told: Vec<[&str; 5]> = lines
        .iter()
        .map(|line| {
            ["operation", "cause", "from", "to", "declared_by"]
                .map(|field| line[field].as_str().unwrap_or("-"))
        })
        .collect();
    assert_eq!(
        told,
        [
            [REPLACE, "Declared", &old, &app, "flux"],
            [ASSOCIATE, "DriftDetected", "none", &app, "flux"],
            [DISASSOCIATE, "Deleted", &app, "none", "flux"],
        ]
    );
    let requests: Vec<String> = s.sandbox().writes_to(&i)?.into_iter().map(|call| call.request_id).collect();
    let logged: Vec<&str> = lines.iter().filter_map(|line| line["request_id"].as_str()).collect();
    assert_eq!(logged, requests, "a line for each request that EC2 got, and none besides");

    for line in &lines {
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["binding"], format!("{}/web", s.namespace()));
        assert_eq!((&line["namespace"], &line["name"]), (&json!(s.namespace()), &json!("web")));
        assert_eq!(line["uid"], first["metadata"]["uid"]);
        assert_eq!(line["grant"], world::EVERYTHING);
        assert_eq!((&line["instance"], &line["region"]), (&json!(i), &json!(world::REGION)));
        assert_eq!(line["account"], world::ACCOUNT);
        assert!(line["generation"].as_i64() >= Some(1), "{line}");
        assert_eq!(line["span"]["trace_id"], Value::Null, "traces are off");
    }
    assert_eq!(lines[0]["association"], first["status"]["observed"]["associationId"]);

    let events = s.events("web")?;
    for (line, reason) in lines.iter().zip(["Replaced", "Associated", "Disassociated"]) {
        let request = line["request_id"].as_str().context("no request")?;
        let found = events.iter().find(|event| event["note"].as_str().unwrap_or_default().contains(request));
        let event = found.with_context(|| format!("no Event of {request}: {events:#?}"))?;
        assert_eq!((event["reason"].as_str(), event["type"].as_str()), (Some(reason), Some("Normal")));
    }
    Ok(())
}

#[test]
fn an_edit_names_its_editor_and_the_newer_generation() -> Result<()> {
    let world = world(&["--resync-interval=1s"])?;
    let s = world.scenario("editor")?;
    s.sandbox().profile("trail-one")?;
    s.sandbox().profile("trail-two")?;
    let i = s.sandbox().instance("running", None)?;
    s.bind("web", &i, &json!({"name": "trail-one"}))?;
    s.wait_until_ready("web")?;
    let patch = r#"{"spec":{"instanceProfile":{"name":"trail-two"}}}"#;
    let namespace = format!("--namespace={}", s.namespace());
    let kubectl = world.control_plane().admin();
    kubectl.run(&["patch", "irb/web", &namespace, "--type=merge", "--field-manager=jane", "-p", patch])?;
    s.patiently("web", "carries the other", |binding| {
        is_observed(binding) && binding["status"]["profile"] == "trail-two"
    })?;
    s.wait_until_ready("web")?;
    let lines = trail(&world)?;
    let told: Vec<(Option<&str>, Option<i64>)> =
        lines.iter().map(|line| (line["declared_by"].as_str(), line["generation"].as_i64())).collect();
    assert_eq!(told, [(Some("world"), Some(1)), (Some("jane"), Some(2))]);
    Ok(())
}

#[test]
fn what_ec2_refused_and_what_nobody_knows_is_told_apart() -> Result<()> {
    let world = World::new(WorldOptions {
        controller_flags: vec!["--resync-interval=1s".to_owned()],
        grants: Grants::Everything,
        ..WorldOptions::default()
    })?;
    let s = world.scenario("refused")?;
    s.sandbox().profile("trail-three")?;
    let i = s.sandbox().instance("running", None)?;
    let effect = json!({"error": {"code": "UnauthorizedOperation", "status": 403, "message": "no"}});
    s.sandbox()
        .fault(&json!({"action": ASSOCIATE, "region": world::REGION, "instance": i, "effect": effect}))?;
    s.sandbox().fault(&json!({"action": ASSOCIATE, "region": world::REGION, "instance": i, "skip": 0, "effect": "lostReply"}))?;
    s.bind("web", &i, &json!({"name": "trail-three"}))?;
    s.patiently("web", "is denied, then carried out", |binding| {
        crate::stage::truth(binding, "Ready") == "True"
    })?;
    let lines = world.controller()?.log()?;
    let messages: Vec<&str> = lines.iter().filter_map(|line| line["message"].as_str()).collect();
    let told = |message: &str| messages.iter().filter(|told| **told == message).count();
    assert_eq!(told("EC2 did not carry out the change"), 1, "{messages:#?}");
    assert_eq!(told("whether the instance profile changed is not known"), 1, "{messages:#?}");
    assert_eq!(told("instance profile changed"), 0, "nothing is claimed that no reply told");
    let lost = eventually("the Event", Duration::from_secs(30), || {
        let events = s.events("web").ok()?;
        events.into_iter().find(|event| event["reason"] == "ReplyLost")
    })?;
    assert_eq!(lost["type"], "Warning");
    assert!(
        lost["note"].as_str().is_some_and(|note| note.contains(ASSOCIATE) && note.contains(&i)),
        "{lost}"
    );
    Ok(())
}
