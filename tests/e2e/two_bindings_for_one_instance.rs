//! Two bindings declare the same instance: one acts, the other waits, and nobody is left without credentials.

use anyhow::Result;
use serde_json::json;
use world::World;

use crate::stage::{
    ASSOCIATE, DISASSOCIATE, REPLACE, Story, a_second_later, message, reason, scenario, truth,
};

#[test]
fn the_older_one_wins_and_its_deletion_hands_over_without_a_gap() -> Result<()> {
    let s = scenario("conflict")?;
    let (a, b) = (s.sandbox().profile("conflict-a")?, s.sandbox().profile("conflict-b")?);
    let i = s.sandbox().instance("running", None)?;
    s.bind("older", &i, &json!({"name": "conflict-a"}))?;
    s.wait_until_ready("older")?;
    a_second_later()?;
    s.bind("younger", &i, &json!({"name": "conflict-b"}))?;
    let loser = s.reaches("younger", "Conflict")?;
    assert_eq!(truth(&loser, "Stalled"), "True");
    assert!(message(&loser).contains("binding older"), "{}", message(&loser));
    s.event("younger", "Conflict")?;
    assert_eq!(reason(&s.binding("older")?), "Associated");
    assert_eq!(s.sandbox().profile_of(&i)?, Some(a));
    s.delete("older")?;
    s.vanishes("older")?;
    s.reaches("younger", "Associated")?;
    assert_eq!(s.sandbox().profile_of(&i)?, Some(b));
    assert_eq!(s.changes(&i)?, [ASSOCIATE, REPLACE], "no Disassociate");
    assert_eq!(s.sandbox().gaps(&i)?, []);
    s.event("older", "HandedOver")?;
    s.delete("younger")?;
    s.vanishes("younger")?;
    assert_eq!(s.changes(&i)?, [ASSOCIATE, REPLACE, DISASSOCIATE], "nobody is left to take over");
    Ok(())
}

#[test]
fn a_successor_content_with_what_is_there_takes_over_without_a_write() -> Result<()> {
    let s = scenario("content")?;
    s.sandbox().profile("content-app")?;
    let i = s.sandbox().instance("running", None)?;
    s.bind("older", &i, &json!({"name": "content-app"}))?;
    s.wait_until_ready("older")?;
    a_second_later()?;
    s.bind("younger", &i, &json!({"roleName": "content-app"}))?;
    s.reaches("younger", "Conflict")?;
    s.delete("older")?;
    s.vanishes("older")?;
    s.reaches("younger", "Associated")?;
    assert_eq!(s.changes(&i)?, [ASSOCIATE]);
    Ok(())
}

/// There an association is on its way until the instance starts.
#[test]
fn on_a_stopped_instance_a_content_successor_takes_over_without_a_write() -> Result<()> {
    let s = scenario("content-stopped")?;
    let app = s.sandbox().profile("content-stopped-app")?;
    let i = s.sandbox().instance("stopped", None)?;
    s.bind("older", &i, &json!({"name": "content-stopped-app"}))?;
    s.reaches("older", "Associating")?;
    s.carries(&i, Some(&app))?;
    a_second_later()?;
    s.bind("younger", &i, &json!({"roleName": "content-stopped-app"}))?;
    s.reaches("younger", "Conflict")?;
    s.delete("older")?;
    s.vanishes("older")?;
    s.reaches("younger", "Associating")?;
    assert_eq!(s.changes(&i)?, [ASSOCIATE]);
    Ok(())
}

#[test]
fn the_winner_of_another_namespace_is_not_named() -> Result<()> {
    let (s, other) = (scenario("near")?, World::shared()?.scenario("far")?);
    s.sandbox().profile("near-app")?;
    let i = s.sandbox().instance("running", None)?;
    other.bind("winner-of-secrets", &i, &json!({"name": "near-app"}))?;
    other.wait_until_ready("winner-of-secrets")?;
    a_second_later()?;
    s.bind("loser", &i, &json!({"name": "near-app"}))?;
    let loser = s.reaches("loser", "Conflict")?;
    assert!(message(&loser).contains("another namespace"), "{}", message(&loser));
    for secret in ["winner-of-secrets", other.namespace()] {
        assert!(!loser["status"].to_string().contains(secret), "{:#}", loser["status"]);
    }
    Ok(())
}

#[test]
fn an_observer_is_no_rival() -> Result<()> {
    let s = scenario("observer")?;
    s.sandbox().profile("observer-app")?;
    let i = s.sandbox().instance("running", None)?;
    let spec = json!({"instanceId": i, "instanceProfile": {"name": "observer-app"}, "mode": "Observe"});
    s.apply("watcher", &spec)?;
    s.reaches("watcher", "ObserveOnly")?;
    a_second_later()?;
    s.bind("actor", &i, &json!({"name": "observer-app"}))?;
    s.wait_until_ready("actor")?;
    s.reaches("watcher", "Associated")?;
    assert_eq!(s.changes(&i)?, [ASSOCIATE]);
    Ok(())
}

#[test]
fn a_winner_that_is_suspended_keeps_its_place() -> Result<()> {
    let s = scenario("keeps-place")?;
    let a = s.sandbox().profile("keeps-a")?;
    s.sandbox().profile("keeps-b")?;
    let i = s.sandbox().instance("running", None)?;
    s.bind("older", &i, &json!({"name": "keeps-a"}))?;
    s.wait_until_ready("older")?;
    s.edit("older", json!({"suspend": true}))?;
    a_second_later()?;
    s.bind("younger", &i, &json!({"name": "keeps-b"}))?;
    s.reaches("younger", "Conflict")?;
    s.passes(2)?;
    assert_eq!(s.sandbox().profile_of(&i)?, Some(a));
    // Its deletion releases it as it is; the next one takes over.
    s.delete("older")?;
    s.vanishes("older")?;
    s.reaches("younger", "Associated")?;
    assert_eq!(s.changes(&i)?, [ASSOCIATE, REPLACE]);
    Ok(())
}
