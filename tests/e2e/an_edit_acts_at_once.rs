//! An edit acts at once, whatever the resync interval.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use world::eventually_ok;

use crate::stage::{REPLACE, Story, is_observed, reason, world};

/// The interval at which the listing would notice by itself.
const RARELY: &str = "--resync-interval=10m";

#[test]
fn attach_replace_and_detach_within_seconds() -> Result<()> {
    let world = world(&[RARELY])?;
    let s = world.scenario("edit")?;
    let (a, b) = (s.sandbox().profile("a")?, s.sandbox().profile("b")?);
    let i = s.sandbox().instance("running", None)?;
    let within_seconds = |profile: Option<&str>| {
        eventually_ok("EC2 was told", Duration::from_secs(5), || {
            let found = s.sandbox().profile_of(&i)?;
            ensure!(found.as_deref() == profile, "{found:?}");
            Ok(())
        })
    };
    s.bind("web", &i, &json!({"name": "a"}))?;
    within_seconds(Some(&a))?;
    s.wait_until_ready("web")?;
    s.choose("web", json!({"name": "b"}))?;
    within_seconds(Some(&b))?;
    s.wait_until_ready("web")?;
    s.choose("web", json!({"none": {}}))?;
    within_seconds(None)?;
    s.reaches("web", "Disassociated")?;
    s.edit("web", json!({"suspend": true}))?;
    s.patiently("web", "says that it is suspended", |found| {
        is_observed(found) && found["status"]["conditions"].to_string().contains("Suspended")
    })?;
    s.choose("web", json!({"name": "a"}))?;
    s.reaches("web", "Suspended")?;
    s.edit("web", json!({"suspend": false}))?;
    within_seconds(Some(&a))?;
    Ok(())
}

#[test]
fn there_and_back_again_ends_where_it_began() -> Result<()> {
    let world = world(&[RARELY])?;
    let s = world.scenario("back")?;
    let a = s.sandbox().profile("a")?;
    s.sandbox().profile("b")?;
    let i = s.sandbox().instance("running", Some("a"))?;
    s.bind("web", &i, &json!({"name": "a"}))?;
    s.wait_until_ready("web")?;
    for _ in 0..3 {
        s.choose("web", json!({"name": "b"}))?;
        s.choose("web", json!({"name": "a"}))?;
    }
    // Whatever was begun for the edits in between is undone, by Replace alone.
    let binding = s.patiently("web", "Ready, settled", |found| {
        is_observed(found) && reason(found) == "Associated" && found["status"]["plan"].is_null()
    })?;
    assert_eq!(s.sandbox().profile_of(&i)?, Some(a), "{:#}", binding["status"]);
    assert_eq!(s.sandbox().gaps(&i)?, []);
    assert!(s.changes(&i)?.iter().all(|operation| operation == REPLACE), "{:?}", s.changes(&i)?);
    Ok(())
}

#[test]
fn an_edit_right_after_the_write_is_carried_out_too() -> Result<()> {
    let world = world(&[RARELY])?;
    let s = world.scenario("again")?;
    let a = s.sandbox().profile("a")?;
    let b = s.sandbox().profile("b")?;
    let i = s.sandbox().instance("running", Some("a"))?;
    s.bind("web", &i, &json!({"name": "b"}))?;
    s.carries(&i, Some(&b))?;
    s.choose("web", json!({"name": "a"}))?;
    s.carries(&i, Some(&a))?;
    s.reaches("web", "Associated")?;
    assert_eq!(s.sandbox().profile_of(&i)?, Some(a));
    assert_eq!(s.changes(&i)?, [REPLACE, REPLACE]);
    assert_eq!(s.sandbox().gaps(&i)?, []);
    Ok(())
}
