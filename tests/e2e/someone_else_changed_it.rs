//! Somebody changes an instance behind the controller's back.

use anyhow::Result;
use serde_json::json;

use crate::stage::{ASSOCIATE, DISASSOCIATE, REPLACE, Story, condition, reason, scenario, truth};

#[test]
fn drift_is_repaired_and_told() -> Result<()> {
    let s = scenario("drift")?;
    let app = s.sandbox().profile("drift-app")?;
    s.sandbox().profile("drift-foreign")?;
    let i = s.sandbox().instance("running", Some("drift-app"))?;
    s.bind("web", &i, &json!({"name": "drift-app"}))?;
    s.wait_until_ready("web")?;

    s.sandbox().drift(&i, Some("drift-foreign"))?;

    let event = s.event("web", "DriftDetected")?;
    assert_eq!(event["type"], "Warning");
    assert_eq!(event["reportingController"], "instancerole.dev/instance-role-controller");
    let note = event["note"].as_str().unwrap_or_default();
    assert!(note.contains(&i) && note.contains("drift-foreign"), "{note}");
    s.carries(&i, Some(&app))?;
    let binding = s.reaches("web", "Associated")?;
    assert_eq!(s.changes(&i)?, [REPLACE]);
    let replaced = s.event("web", "Replaced")?;
    assert!(replaced["note"].as_str().unwrap_or_default().contains("cause DriftDetected"), "{replaced}");
    assert_eq!(truth(&binding, "Ready"), "True");
    Ok(())
}

#[test]
fn a_profile_taken_off_by_hand_comes_back() -> Result<()> {
    let s = scenario("taken-off")?;
    let app = s.sandbox().profile("taken-off-app")?;
    let i = s.sandbox().instance("running", Some("taken-off-app"))?;
    s.bind("web", &i, &json!({"name": "taken-off-app"}))?;
    s.wait_until_ready("web")?;
    s.sandbox().drift(&i, None)?;
    s.event("web", "DriftDetected")?;
    s.carries(&i, Some(&app))?;
    s.reaches("web", "Associated")?;
    assert_eq!(s.changes(&i)?, [ASSOCIATE]);
    Ok(())
}

#[test]
fn drift_right_after_our_own_write_is_repaired_too() -> Result<()> {
    let s = scenario("drift-soon")?;
    let app = s.sandbox().profile("drift-soon-app")?;
    s.sandbox().profile("drift-soon-foreign")?;
    let i = s.sandbox().instance("running", None)?;
    s.bind("web", &i, &json!({"name": "drift-soon-app"}))?;
    s.wait_until_ready("web")?;
    s.sandbox().drift(&i, Some("drift-soon-foreign"))?;
    s.carries(&i, Some(&app))?;
    s.reaches("web", "Associated")?;
    assert_eq!(s.changes(&i)?, [ASSOCIATE, REPLACE]);
    Ok(())
}

#[test]
fn an_instance_that_must_have_no_role_is_emptied_again() -> Result<()> {
    let s = scenario("refilled")?;
    s.sandbox().profile("refilled-foreign")?;
    let i = s.sandbox().instance("running", None)?;
    s.bind("bare", &i, &json!({"none": {}}))?;
    s.reaches("bare", "Disassociated")?;
    assert_eq!(s.changes(&i)?, [""; 0], "there was nothing to take off");
    s.sandbox().drift(&i, Some("refilled-foreign"))?;
    s.event("bare", "DriftDetected")?;
    s.carries(&i, None)?;
    s.reaches("bare", "Disassociated")?;
    assert_eq!(s.changes(&i)?, [DISASSOCIATE]);
    Ok(())
}

#[test]
fn an_observer_tells_drift_and_its_plan() -> Result<()> {
    let s = scenario("observed-drift")?;
    s.sandbox().profile("observed-drift-app")?;
    s.sandbox().profile("observed-drift-foreign")?;
    let i = s.sandbox().instance("running", Some("observed-drift-app"))?;
    s.apply(
        "web",
        &json!({"instanceId": i, "instanceProfile": {"name": "observed-drift-app"}, "mode": "Observe"}),
    )?;
    s.wait_until_ready("web")?;
    s.sandbox().drift(&i, Some("observed-drift-foreign"))?;
    let binding = s.reaches("web", "ObserveOnly")?;
    assert_eq!(
        binding["status"]["plan"],
        json!([{"operation": REPLACE, "reason": "DriftDetected"}]),
        "what Enforce would do, and why"
    );
    assert_eq!(condition(&binding, "Stalled")["reason"], "ObserveOnly");
    assert_eq!(truth(&binding, "Synced"), "False");
    s.event("web", "DriftDetected")?;
    s.sandbox().drift(&i, Some("observed-drift-app"))?;
    let healed = s.reaches("web", "Associated")?;
    assert_eq!(reason(&healed), "Associated");
    assert_eq!(s.sandbox().writes_to(&i)?, []);
    Ok(())
}
