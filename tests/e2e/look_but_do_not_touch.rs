//! Observe, suspend and the adoption policy: who says to leave an instance alone is obeyed and told the truth.

use anyhow::Result;
use serde_json::json;

use crate::stage::{
    ASSOCIATE, REPLACE, Story, condition, is_held, is_observed, message, reason, scenario, truth,
};

#[test]
fn observe_tells_the_difference_and_enforce_ends_it() -> Result<()> {
    let s = scenario("observe")?;
    let app = s.sandbox().profile("observe-app")?;
    let old = s.sandbox().profile("observe-old")?;
    let i = s.sandbox().instance("running", Some("observe-old"))?;
    s.apply("web", &json!({"instanceId": i, "instanceProfile": {"name": "observe-app"}, "mode": "Observe"}))?;
    let binding = s.reaches("web", "ObserveOnly")?;
    assert_eq!(truth(&binding, "Ready"), "False");
    assert_eq!(truth(&binding, "Synced"), "False");
    assert_eq!(truth(&binding, "Stalled"), "True");
    assert!(message(&binding).contains("observe-old by observe-app"), "{}", message(&binding));
    assert_eq!(binding["status"]["plan"], json!([{"operation": REPLACE, "reason": "Declared"}]));
    assert!(!is_held(&binding));
    assert_eq!(s.sandbox().profile_of(&i)?, Some(old));
    assert_eq!(s.sandbox().writes_to(&i)?, []);
    s.edit("web", json!({"mode": "Enforce"}))?;
    let binding = s.wait_until_ready("web")?;
    assert_eq!(s.sandbox().profile_of(&i)?, Some(app));
    assert!(is_held(&binding));
    // And back: deletion has nothing to do any more.
    s.edit("web", json!({"mode": "Observe"}))?;
    s.patiently("web", "loses its finalizer", |found| is_observed(found) && !is_held(found))?;
    s.delete("web")?;
    s.vanishes("web")?;
    assert_eq!(s.changes(&i)?, [REPLACE]);
    Ok(())
}

#[test]
fn a_suspended_binding_tells_the_truth() -> Result<()> {
    let s = scenario("suspend")?;
    s.sandbox().profile("suspend-app")?;
    let foreign = s.sandbox().profile("suspend-foreign")?;
    let i = s.sandbox().instance("running", Some("suspend-app"))?;
    let spec = json!({"instanceId": i, "instanceProfile": {"name": "suspend-app"}, "suspend": true});
    s.apply("web", &spec)?;
    let matching = s.wait_until_ready("web")?;
    assert_eq!(truth(&matching, "Suspended"), "True", "a match is Ready, suspended or not");
    s.sandbox().drift(&i, Some("suspend-foreign"))?;
    let differing = s.reaches("web", "Suspended")?;
    assert_eq!(truth(&differing, "Ready"), "False");
    assert_eq!(truth(&differing, "Synced"), "False");
    assert_eq!(condition(&differing, "Stalled"), &serde_json::Value::Null, "as asked, so nobody is needed");
    assert!(message(&differing).contains("spec.suspend"), "{}", message(&differing));
    let asked = s.ask("web")?;
    s.patiently("web", "has looked as asked", |found| found["status"]["lastHandledRequestedAt"] == asked)?;
    s.passes(2)?;
    assert_eq!(s.sandbox().profile_of(&i)?, Some(foreign));
    assert_eq!(s.sandbox().writes_to(&i)?, []);
    s.delete("web")?;
    s.vanishes("web")?;
    assert_eq!(s.sandbox().writes_to(&i)?, [], "let go as it is");
    Ok(())
}

#[test]
fn only_if_none_leaves_what_is_there_until_told_otherwise() -> Result<()> {
    let s = scenario("adoption")?;
    let app = s.sandbox().profile("adoption-app")?;
    let old = s.sandbox().profile("adoption-old")?;
    let i = s.sandbox().instance("running", Some("adoption-old"))?;
    let spec =
        json!({"instanceId": i, "instanceProfile": {"name": "adoption-app"}, "adoptionPolicy": "OnlyIfNone"});
    s.apply("web", &spec)?;
    let binding = s.reaches("web", "NotAdopted")?;
    assert_eq!(truth(&binding, "Stalled"), "True");
    assert!(message(&binding).contains("adoption-old"), "{}", message(&binding));
    s.event("web", "NotAdopted")?;
    assert_eq!(s.sandbox().profile_of(&i)?, Some(old.clone()));
    s.edit("web", json!({"adoptionPolicy": "Replace"}))?;
    s.wait_until_ready("web")?;
    assert_eq!(s.sandbox().profile_of(&i)?, Some(app.clone()));
    // Once in sync it is adopted: drift is repaired under either policy.
    s.edit("web", json!({"adoptionPolicy": "OnlyIfNone"}))?;
    s.sandbox().drift(&i, Some("adoption-old"))?;
    s.carries(&i, Some(&app))?;
    assert_eq!(s.changes(&i)?, [REPLACE, REPLACE]);
    Ok(())
}

#[test]
fn a_binding_that_never_adopted_takes_nothing_with_it() -> Result<()> {
    let s = scenario("never-adopted")?;
    s.sandbox().profile("never-app")?;
    let old = s.sandbox().profile("never-old")?;
    let i = s.sandbox().instance("running", Some("never-old"))?;
    let spec =
        json!({"instanceId": i, "instanceProfile": {"name": "never-app"}, "adoptionPolicy": "OnlyIfNone"});
    s.apply("web", &spec)?;
    s.reaches("web", "NotAdopted")?;
    s.delete("web")?;
    s.vanishes("web")?;
    assert_eq!(s.sandbox().profile_of(&i)?, Some(old));
    assert_eq!(s.sandbox().writes_to(&i)?, []);
    Ok(())
}

#[test]
fn only_if_none_attaches_where_there_is_none() -> Result<()> {
    let s = scenario("adoption-none")?;
    let app = s.sandbox().profile("adoption-none-app")?;
    let i = s.sandbox().instance("running", None)?;
    let profile = json!({"name": "adoption-none-app"});
    s.apply("web", &json!({"instanceId": i, "instanceProfile": profile, "adoptionPolicy": "OnlyIfNone"}))?;
    let binding = s.wait_until_ready("web")?;
    assert_eq!(reason(&binding), "Associated");
    assert_eq!(s.sandbox().profile_of(&i)?, Some(app));
    assert_eq!(s.changes(&i)?, [ASSOCIATE]);
    Ok(())
}
