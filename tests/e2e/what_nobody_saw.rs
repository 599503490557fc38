//! Things that come and go while the controller does not look: what counts is what is there when it looks again.

use anyhow::Result;
use serde_json::json;
use world::{Controller, REGION, Scenario, World, WorldOptions};

use crate::stage::{ASSOCIATE, DISASSOCIATE, REPLACE, Story, is_observed, quick_world, reason};

/// Does something while the controller stands still: its watches are open, and it hears of all of it at once, or of the end only.
fn unseen(controller: &Controller, deeds: impl FnOnce() -> Result<()>) -> Result<()> {
    controller.process().pause()?;
    let done = deeds();
    controller.process().resume()?;
    done
}

/// A binding that is Ready, on a running instance that carries what it declares.
fn ready(s: &Scenario<'_>, name: &str) -> Result<String> {
    s.sandbox().profile("app")?;
    let instance = s.sandbox().instance("running", None)?;
    s.bind(name, &instance, &json!({"name": "app"}))?;
    s.wait_until_ready(name)?;
    Ok(instance)
}

#[test]
fn a_binding_that_was_made_and_deleted_leaves_no_trace() -> Result<()> {
    let world = quick_world()?;
    let s = world.scenario("mayfly")?;
    ready(&s, "other")?;
    let i = s.sandbox().instance("running", None)?;
    unseen(world.controller()?, || {
        s.bind("web", &i, &json!({"name": "app"}))?;
        s.delete("web")
    })?;
    s.passes(3)?;
    assert_eq!(s.sandbox().writes_to(&i)?, []);
    assert!(s.world().control_plane().api().find(&s.path("web"))?.is_none());
    s.bind("web", &i, &json!({"name": "app"}))?;
    s.wait_until_ready("web")?;
    Ok(())
}

#[test]
fn an_edit_that_was_taken_back_changes_nothing() -> Result<()> {
    let world = quick_world()?;
    let s = world.scenario("to-and-fro")?;
    let i = ready(&s, "web")?;
    s.sandbox().profile("other")?;
    unseen(world.controller()?, || {
        s.choose("web", json!({"name": "other"}))?;
        s.choose("web", json!({"name": "app"})).map(drop)
    })?;
    let found =
        s.patiently("web", "is told of", |found| is_observed(found) && reason(found) == "Associated")?;
    assert_eq!(found["metadata"]["generation"], 3);
    s.passes(2)?;
    assert_eq!(s.changes(&i)?, [ASSOCIATE]);
    Ok(())
}

#[test]
fn a_grant_that_was_given_and_taken_away_gives_nothing() -> Result<()> {
    let world = World::new(WorldOptions {
        grants: world::Grants::None,
        controller_flags: vec!["--resync-interval=1s".to_owned()],
        ..WorldOptions::default()
    })?;
    let s = world.stranger("moment")?;
    s.sandbox().profile("app")?;
    let i = s.sandbox().instance("running", None)?;
    s.bind("web", &i, &json!({"name": "app"}))?;
    s.reaches("web", "NotAuthorized")?;
    let spec = json!({"instanceProfiles": ["arn:aws:iam::123456789012:instance-profile/*"], "instances": {"regions": [REGION]}});
    unseen(world.controller()?, || {
        s.grant("moment", &spec)?;
        s.revoke("moment")
    })?;
    let asked = s.ask("web")?;
    s.patiently("web", "has looked", |found| found["status"]["lastHandledRequestedAt"] == asked)?;
    assert_eq!(s.sandbox().calls_naming(&i)?, [], "nobody asked about it, and nobody wrote");
    s.grant("stays", &spec)?;
    s.reaches("web", "Associated")?;
    Ok(())
}

#[test]
fn one_that_was_deleted_and_made_anew_is_another_one() -> Result<()> {
    let world = quick_world()?;
    let s = world.scenario("anew")?;
    s.sandbox().profile("app")?;
    let other = s.sandbox().profile("other")?;
    let i = s.sandbox().instance("running", None)?;
    let retained = |profile: &str| json!({"instanceId": i, "instanceProfile": {"name": profile}, "deletionPolicy": "Retain"});
    s.apply("web", &retained("app"))?;
    let first = s.wait_until_ready("web")?;
    unseen(world.controller()?, || {
        s.delete("web")?;
        s.apply("web", &retained("other")).map(drop)
    })?;
    let second = s.reaches("web", "Associated")?;
    assert_ne!(first["metadata"]["uid"], second["metadata"]["uid"]);
    assert_eq!(s.sandbox().profile_of(&i)?, Some(other));
    assert_eq!(second["status"]["previous"]["profileArn"], "arn:aws:iam::123456789012:instance-profile/app");
    assert_eq!(s.changes(&i)?, [ASSOCIATE, REPLACE]);
    Ok(())
}

/// While the controller stands still the API server forgets all versions that it knows of.
#[test]
fn a_watch_that_has_expired_is_begun_anew() -> Result<()> {
    let world = World::new(WorldOptions {
        own_control_plane: true,
        controller_flags: vec!["--resync-interval=1s".to_owned()],
        ..WorldOptions::default()
    })?;
    let s = world.scenario("expired")?;
    let (edited, deleted) = (ready(&s, "edited")?, ready(&s, "deleted")?);
    let other = s.sandbox().profile("other")?;
    let made = s.sandbox().instance("running", None)?;
    let plane = world.control_plane();
    unseen(world.controller()?, || {
        s.choose("edited", json!({"name": "other"}))?;
        s.delete("deleted")?;
        s.bind("made", &made, &json!({"name": "app"}))?;
        plane.compact()?;
        plane.restart_api_server()
    })?;
    s.reaches("edited", "Associated")?;
    s.carries(&edited, Some(&other))?;
    s.vanishes("deleted")?;
    assert_eq!(s.sandbox().profile_of(&deleted)?, None);
    s.reaches("made", "Associated")?;
    assert_eq!(s.changes(&edited)?, [ASSOCIATE, REPLACE]);
    assert_eq!(s.changes(&deleted)?, [ASSOCIATE, DISASSOCIATE]);
    assert_eq!(s.changes(&made)?, [ASSOCIATE]);
    Ok(())
}

/// Data that is put back from a backup: bindings are as they were declared then, and versions count from there.
#[test]
fn an_api_server_from_the_past_is_believed_and_nothing_is_written_by_what_it_has_forgotten() -> Result<()> {
    let world = World::new(WorldOptions {
        own_control_plane: true,
        controller_flags: vec!["--resync-interval=1s".to_owned()],
        ..WorldOptions::default()
    })?;
    let s = world.scenario("past")?;
    let (edited, deleted, rested) = (ready(&s, "edited")?, ready(&s, "deleted")?, ready(&s, "rested")?);
    let (app, other) = (s.sandbox().profile("app")?, s.sandbox().profile("other")?);
    let made = s.sandbox().instance("running", None)?;
    let plane = world.control_plane();
    let backup = plane.backup()?;
    // Some history, which will not have been.
    s.choose("edited", json!({"name": "other"}))?;
    s.patiently("edited", "is told of", |found| is_observed(found) && reason(found) == "Associated")?;
    s.delete("deleted")?;
    s.vanishes("deleted")?;
    s.bind("made", &made, &json!({"name": "app"}))?;
    s.wait_until_ready("made")?;

    plane.restore(&backup)?;
    let since = s.sandbox().last_call()?;

    s.carries(&edited, Some(&app))?;
    s.carries(&deleted, Some(&app))?;
    s.patiently("edited", "is told of", |found| {
        is_observed(found)
            && reason(found) == "Associated"
            && found["status"]["observed"]["profileArn"] == app
    })?;
    s.reaches("deleted", "Associated")?;
    let writes: Vec<Option<String>> = s
        .sandbox()
        .calls_since(since)?
        .into_iter()
        .filter(world::Call::is_write)
        .map(|call| call.instance)
        .collect();
    assert!(!writes.contains(&Some(made.clone())), "nobody declares anything of it any more");
    assert!(!writes.contains(&Some(rested)), "nothing has changed for it");
    assert_eq!(s.sandbox().profile_of(&made)?, Some(app.clone()));
    // And the watches live: an edit is heard of.
    s.choose("edited", json!({"name": "other"}))?;
    s.carries(&edited, Some(&other))?;
    assert_eq!(s.sandbox().gaps(&edited)?, []);
    Ok(())
}

/// Its finalizer holds what is deleted while nobody leads; what has none is gone, and nobody mourns it.
#[test]
fn what_was_deleted_while_nobody_was_there_is_deleted_as_declared() -> Result<()> {
    let mut world = quick_world()?;
    let s = world.scenario("nobody")?;
    let app = s.sandbox().profile("app")?;
    let instances = [(); 3].map(|()| s.sandbox().instance("running", Some("app")));
    let [detach, retain, edited] = instances;
    let (detach, retain, edited) = (detach?, retain?, edited?);
    s.bind("detach", &detach, &json!({"name": "app"}))?;
    let spec = |i: &str, policy: &str| json!({"instanceId": i, "instanceProfile": {"name": "app"}, "deletionPolicy": policy});
    s.apply("retain", &spec(&retain, "Retain"))?;
    s.apply("edited", &spec(&edited, "Detach"))?;
    for name in ["detach", "retain", "edited"] {
        s.wait_until_ready(name)?;
    }
    s.world().controller()?.kill()?;
    s.delete("detach")?;
    s.delete("retain")?;
    s.edit("edited", json!({"deletionPolicy": "Retain"}))?;
    s.delete("edited")?;
    world.start_controller()?;
    let s = world.scenario("nobody")?;
    s.vanishes("detach")?;
    s.vanishes("edited")?;
    assert_eq!(s.sandbox().profile_of(&detach)?, None);
    for left in [&retain, &edited] {
        assert_eq!(
            s.sandbox().profile_of(left)?.as_ref(),
            Some(&app),
            "as its policy said when it was deleted"
        );
        assert_eq!(s.changes(left)?, [""; 0]);
    }
    Ok(())
}

/// Two processes that both take themselves for the only one: the API server and EC2 keep them from more than telling EC2 twice to
/// take the same association off.
#[test]
fn two_that_lead_do_no_harm() -> Result<()> {
    let world = quick_world()?;
    let s = world.scenario("both")?;
    let second = world.controller_command().start(world.scratch().path(), "second")?;
    let mut all = Vec::new();
    for nth in 0..12 {
        let name = format!("web-{nth}");
        all.push((ready(&s, &name)?, name));
    }
    let other = s.sandbox().profile("other")?;
    for (_, name) in &all {
        s.choose(name, json!({"name": "other"}))?;
    }
    for (instance, name) in &all {
        s.patiently(name, "is told of", |found| is_observed(found) && reason(found) == "Associated")?;
        assert_eq!(s.sandbox().profile_of(instance)?.as_ref(), Some(&other));
        assert_eq!(s.changes(instance)?, [ASSOCIATE, REPLACE], "each once");
        assert_eq!(s.sandbox().gaps(instance)?, []);
    }
    for (_, name) in &all {
        s.delete(name)?;
    }
    for (instance, name) in &all {
        s.vanishes(name)?;
        let mut changes = s.changes(instance)?;
        changes.dedup();
        assert_eq!(changes, [ASSOCIATE, REPLACE, DISASSOCIATE]);
        assert_eq!(s.sandbox().profile_of(instance)?, None);
    }
    let wrote =
        |controller: &Controller| controller.metric("instancerole_mutations_total", &["result=\"success\""]);
    println!("one made {} changes, the other {}", wrote(world.controller()?)?, wrote(&second)?);
    second.process().still_runs()
}

/// Another tool acts between our look and our write: the association that the write names is not there any more.
#[test]
fn another_tool_is_quicker_than_our_write() -> Result<()> {
    let world = quick_world()?;
    let s = world.scenario("quicker")?;
    let i = ready(&s, "web")?;
    let (other, _) = (s.sandbox().profile("other")?, s.sandbox().profile("foreign")?);
    // What we see of it from now on is some seconds old.
    let past = json!({"action": "DescribeIamInstanceProfileAssociations", "instance": i, "count": 6, "effect": {"staleRead": {"ms": 4000}}});
    s.sandbox().fault(&past)?;
    let truth = s.sandbox().truth(&i)?;
    let association = truth["rows"][0]["associationId"].as_str().unwrap_or_default();
    s.sandbox()
        .call(&format!("Action={REPLACE}&AssociationId={association}&IamInstanceProfile.Name=foreign"))?;
    s.choose("web", json!({"name": "other"}))?;
    s.carries(&i, Some(&other))?;
    s.patiently("web", "is told of", |found| is_observed(found) && reason(found) == "Associated")?;
    let writes = s.sandbox().writes_to(&i)?;
    let refused: Vec<&str> =
        writes.iter().filter(|call| call.result != "ok").map(|call| call.result.as_str()).collect();
    println!("refused: {refused:?}");
    assert!(!s.changes(&i)?.contains(&DISASSOCIATE.to_owned()));
    assert_eq!(s.sandbox().gaps(&i)?, []);
    Ok(())
}
