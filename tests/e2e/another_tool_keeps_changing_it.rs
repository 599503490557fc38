//! Another tool is meant to put another profile on the instance, and does so again and again: an SSM association that runs
//! AWS-AttachIAMToInstance, say. The repair gives way, for longer each time, and people are told.

use anyhow::Result;
use serde_json::{Value, json};
use world::Scenario;

use crate::stage::{REPLACE, Story, condition, message, quick_world, reason, truth};

/// An instance that carries `app` by a binding, in a world where somebody also has the profile `other`.
fn bound(s: &Scenario<'_>) -> Result<(String, String)> {
    let app = s.sandbox().profile("app")?;
    s.sandbox().profile("other")?;
    let i = s.sandbox().instance("running", Some("app"))?;
    s.bind("web", &i, &json!({"name": "app"}))?;
    s.wait_until_ready("web")?;
    Ok((i, app))
}

/// The other tool runs, and it is undone.
fn runs_and_is_undone(s: &Scenario<'_>, i: &str, app: &str) -> Result<()> {
    s.sandbox().drift(i, Some("other"))?;
    s.carries(i, Some(app))?;
    s.reaches("web", "Associated")?;
    Ok(())
}

fn count_of(s: &Scenario<'_>, metric: &str) -> Result<f64> {
    s.world().controller()?.metric(metric, &[])
}

#[test]
fn from_the_fourth_time_on_the_repair_waits_and_says_so_until_a_person_asks() -> Result<()> {
    let world = quick_world()?;
    let s = world.scenario("fight")?;
    let (i, app) = bound(&s)?;
    for _ in 0..3 {
        runs_and_is_undone(&s, &i, &app)?;
        assert_eq!(condition(&s.binding("web")?, "Contended"), &Value::Null);
    }
    s.sandbox().drift(&i, Some("other"))?;

    let waits = s.reaches("web", "OutsideWriter")?;
    assert_eq!((truth(&waits, "Contended"), truth(&waits, "Reconciling")), ("True", "True"));
    assert_eq!((truth(&waits, "Ready"), truth(&waits, "Synced")), ("False", "False"));
    assert_eq!(condition(&waits, "Contended")["reason"], "OutsideWriter");
    assert_eq!(condition(&waits, "Stalled"), &Value::Null, "it goes on by itself");
    assert_eq!(waits["status"]["plan"], json!([{"operation": REPLACE, "reason": "DriftDetected"}]));
    assert!(message(&waits).contains("waits until 20"), "{}", message(&waits));
    let event = s.event("web", "Contended")?;
    let note = event["note"].as_str().unwrap_or_default();
    assert_eq!(event["type"], "Warning");
    assert_eq!(note.matches("instance-profile/other at 20").count(), 4, "each with its time: {note}");
    assert_eq!(count_of(&s, "instancerole_contention_total")?, 1.0);
    assert_eq!(count_of(&s, "instancerole_drift_detected_total")?, 4.0);

    s.ask("web")?;
    s.carries(&i, Some(&app))?;
    let healed = s.reaches("web", "Associated")?;
    assert_eq!((truth(&healed, "Ready"), truth(&healed, "Contended")), ("True", "True"));
    assert_eq!(s.changes(&i)?, [REPLACE; 4]);
    // What waits, and what is well and contended, changes nothing from pass to pass.
    s.passes(2)?;
    let before = s.binding("web")?["metadata"]["resourceVersion"].clone();
    s.passes(3)?;
    assert_eq!(s.binding("web")?["metadata"]["resourceVersion"], before);

    s.sandbox().drift(&i, Some("other"))?;
    let again = s.reaches("web", "OutsideWriter")?;
    assert_eq!(s.changes(&i)?.len(), 4, "asked once is not asked for ever");
    s.passes(3)?;
    let later = s.binding("web")?;
    assert_eq!(later["metadata"]["resourceVersion"], again["metadata"]["resourceVersion"]);
    s.edit("web", json!({"whenStopped": "WaitForRunning"}))?;
    s.carries(&i, Some(&app))?;
    s.reaches("web", "Associated")?;
    assert_eq!(count_of(&s, "instancerole_contention_total")?, 1.0, "it is the same one");
    Ok(())
}

#[test]
fn after_its_wait_the_repair_is_made() -> Result<()> {
    let world = quick_world()?;
    let s = world.scenario("patience")?;
    let (i, app) = bound(&s)?;
    for _ in 0..3 {
        runs_and_is_undone(&s, &i, &app)?;
    }
    s.sandbox().drift(&i, Some("other"))?;
    s.reaches("web", "OutsideWriter")?;
    s.carries(&i, Some(&app))?;
    let healed = s.reaches("web", "Associated")?;
    assert_eq!(truth(&healed, "Contended"), "True");
    Ok(())
}

#[test]
fn who_strikes_before_ec2_has_ended_the_repair_is_counted_too() -> Result<()> {
    let world = quick_world()?;
    world.sandbox().settings(&json!({"associating_ms": 600_000}))?;
    let s = world.scenario("quick")?;
    let app = s.sandbox().profile("app")?;
    s.sandbox().profile("other")?;
    let i = s.sandbox().instance("running", None)?;
    s.bind("web", &i, &json!({"name": "app"}))?;
    s.carries(&i, Some(&app))?;
    for _ in 0..3 {
        s.patiently("web", "EC2 is at it", |found| {
            found["status"]["plan"] == Value::Null && !reason(found).is_empty()
        })?;
        s.sandbox().drift(&i, Some("other"))?;
        s.carries(&i, Some(&app))?;
    }
    s.patiently("web", "EC2 is at it", |found| found["status"]["plan"] == Value::Null)?;
    s.sandbox().drift(&i, Some("other"))?;
    let waits = s.reaches("web", "OutsideWriter")?;
    assert_eq!(truth(&waits, "Contended"), "True");
    Ok(())
}

#[test]
fn what_a_new_process_finds_first_does_not_count() -> Result<()> {
    let mut world = quick_world()?;
    let first = world.take_controller()?;
    let s = world.scenario("start")?;
    let (i, app) = bound(&s)?;
    for _ in 0..3 {
        runs_and_is_undone(&s, &i, &app)?;
    }
    assert_eq!(first.terminate()?, 0);
    s.sandbox().drift(&i, Some("other"))?;
    let second = world.controller_command().start(world.scratch().path(), "second")?;
    s.carries(&i, Some(&app))?;
    s.reaches("web", "Associated")?;
    runs_and_is_undone(&s, &i, &app)?;
    assert_eq!(second.metric("instancerole_contention_total", &[])?, 0.0);
    assert_eq!(condition(&s.binding("web")?, "Contended"), &Value::Null);
    Ok(())
}
