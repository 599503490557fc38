//! Deletion does what its policy says, takes only what the binding brought, and is never stuck for good.

use anyhow::Result;
use serde_json::{Value, json};

use crate::stage::{
    ASSOCIATE, DISASSOCIATE, FORCE_RELEASE, REPLACE, Story, condition, is_held, message, quick_world, reason,
    scenario,
};

#[test]
fn detach_leaves_a_profile_that_somebody_else_attached() -> Result<()> {
    let s = scenario("foreign")?;
    s.sandbox().profile("foreign-app")?;
    let foreign = s.sandbox().profile("foreign-foreign")?;
    let i = s.sandbox().instance("running", Some("foreign-app"))?;
    s.bind("web", &i, &json!({"name": "foreign-app"}))?;
    s.wait_until_ready("web")?;
    s.edit("web", json!({"suspend": true}))?;
    s.patiently("web", "is suspended", |found| condition(found, "Suspended")["status"] == "True")?;
    s.sandbox().drift(&i, Some("foreign-foreign"))?;
    s.reaches("web", "Suspended")?;
    s.delete("web")?;
    s.vanishes("web")?;
    assert_eq!(s.sandbox().profile_of(&i)?, Some(foreign));
    assert_eq!(s.sandbox().writes_to(&i)?, []);
    Ok(())
}

#[test]
fn detach_tells_what_it_left() -> Result<()> {
    let s = scenario("left")?;
    s.sandbox().profile("left-app")?;
    let foreign = s.sandbox().profile("left-foreign")?;
    let i = s.sandbox().instance("running", Some("left-app"))?;
    // The finalizer of a person keeps the object until the stage is set.
    s.bind("web", &i, &json!({"name": "left-app"}))?;
    s.wait_until_ready("web")?;
    // EC2 refuses the repair of the drift, so that the deletion meets the foreign profile.
    let refusal = json!({"action": REPLACE, "instance": i, "count": null,
        "effect": {"error": {"code": "InternalError", "status": 500, "message": "no"}}});
    s.sandbox().fault(&refusal)?;
    s.sandbox().drift(&i, Some("left-foreign"))?;
    s.event("web", "DriftDetected")?;
    s.delete("web")?;
    s.vanishes("web")?;
    let event = s.event("web", "LeftInPlace")?;
    assert!(event["note"].as_str().unwrap_or_default().contains("left-foreign"), "{event}");
    assert_eq!(s.sandbox().profile_of(&i)?, Some(foreign));
    assert_eq!(s.changes(&i)?, [""; 0]);
    Ok(())
}

#[test]
fn retain_needs_no_finalizer_and_leaves_everything() -> Result<()> {
    let s = scenario("retain")?;
    let app = s.sandbox().profile("retain-app")?;
    let i = s.sandbox().instance("running", None)?;
    let spec =
        json!({"instanceId": i, "instanceProfile": {"name": "retain-app"}, "deletionPolicy": "Retain"});
    s.apply("web", &spec)?;
    assert!(!is_held(&s.wait_until_ready("web")?));
    s.delete("web")?;
    assert_eq!(s.world().control_plane().api().find(&s.path("web"))?, None, "gone at once");
    s.passes(2)?;
    assert_eq!(s.sandbox().profile_of(&i)?, Some(app));
    assert_eq!(s.changes(&i)?, [ASSOCIATE]);
    Ok(())
}

#[test]
fn restore_puts_back_what_was_there() -> Result<()> {
    let s = scenario("restore")?;
    s.sandbox().profile("restore-app")?;
    let old = s.sandbox().profile("restore-old")?;
    let i = s.sandbox().instance("running", Some("restore-old"))?;
    let spec =
        json!({"instanceId": i, "instanceProfile": {"name": "restore-app"}, "deletionPolicy": "Restore"});
    s.apply("web", &spec)?;
    s.wait_until_ready("web")?;
    s.delete("web")?;
    s.vanishes("web")?;
    assert_eq!(s.sandbox().profile_of(&i)?, Some(old));
    assert_eq!(s.changes(&i)?, [REPLACE, REPLACE]);
    assert_eq!(s.sandbox().gaps(&i)?, []);
    Ok(())
}

#[test]
fn restore_to_no_profile() -> Result<()> {
    let s = scenario("restore-none")?;
    s.sandbox().profile("restore-none-app")?;
    let i = s.sandbox().instance("running", None)?;
    let profile = json!({"name": "restore-none-app"});
    s.apply("web", &json!({"instanceId": i, "instanceProfile": profile, "deletionPolicy": "Restore"}))?;
    s.wait_until_ready("web")?;
    s.delete("web")?;
    s.vanishes("web")?;
    assert_eq!(s.sandbox().profile_of(&i)?, None);
    assert_eq!(s.changes(&i)?, [ASSOCIATE, DISASSOCIATE]);
    Ok(())
}

#[test]
fn restore_of_an_instance_that_was_to_have_none() -> Result<()> {
    let s = scenario("restore-back")?;
    let old = s.sandbox().profile("restore-back-old")?;
    let i = s.sandbox().instance("running", Some("restore-back-old"))?;
    s.apply("web", &json!({"instanceId": i, "instanceProfile": {"none": {}}, "deletionPolicy": "Restore"}))?;
    s.reaches("web", "Disassociated")?;
    s.delete("web")?;
    s.vanishes("web")?;
    assert_eq!(s.sandbox().profile_of(&i)?, Some(old));
    assert_eq!(s.changes(&i)?, [DISASSOCIATE, ASSOCIATE]);
    Ok(())
}

#[test]
fn restore_on_a_stopped_instance() -> Result<()> {
    let s = scenario("restore-stopped")?;
    s.sandbox().profile("restore-stopped-app")?;
    let old = s.sandbox().profile("restore-stopped-old")?;
    let i = s.sandbox().instance("stopped", Some("restore-stopped-old"))?;
    let profile = json!({"name": "restore-stopped-app"});
    s.apply("web", &json!({"instanceId": i, "instanceProfile": profile, "deletionPolicy": "Restore"}))?;
    s.patiently("web", "attached", |found| {
        found["status"]["observed"]["associationState"] == "associating" && reason(found) == "Associating"
    })?;
    s.delete("web")?;
    s.vanishes("web")?;
    assert_eq!(s.sandbox().profile_of(&i)?, Some(old));
    assert_eq!(s.changes(&i)?, [DISASSOCIATE, ASSOCIATE, DISASSOCIATE, ASSOCIATE]);
    Ok(())
}

#[test]
fn deleted_right_after_an_edit_that_was_not_carried_out() -> Result<()> {
    let s = scenario("edit-delete")?;
    s.sandbox().profile("edit-delete-app")?;
    let i = s.sandbox().instance("running", None)?;
    s.bind("web", &i, &json!({"name": "edit-delete-app"}))?;
    s.wait_until_ready("web")?;
    s.choose("web", json!({"name": "edit-delete-missing"}))?;
    s.delete("web")?;
    s.vanishes("web")?;
    assert_eq!(s.sandbox().profile_of(&i)?, None, "what this binding attached goes with it");
    assert_eq!(s.changes(&i)?, [ASSOCIATE, DISASSOCIATE]);
    Ok(())
}

#[test]
fn deleted_some_time_after_an_edit_that_cannot_be_carried_out() -> Result<()> {
    let s = scenario("edit-stuck")?;
    s.sandbox().profile("edit-stuck-app")?;
    let i = s.sandbox().instance("running", Some("edit-stuck-app"))?;
    s.bind("web", &i, &json!({"name": "edit-stuck-app"}))?;
    s.wait_until_ready("web")?;
    s.choose("web", json!({"name": "edit-stuck-missing"}))?;
    s.reaches("web", "ProfileNotFound")?;
    s.delete("web")?;
    s.vanishes("web")?;
    // Nothing was attached by this binding, and what it wants now was never there.
    s.event("web", "LeftInPlace")?;
    assert_eq!(s.changes(&i)?, [""; 0]);
    Ok(())
}

#[test]
fn force_release_lets_go_while_aws_refuses() -> Result<()> {
    let s = scenario("force")?;
    let app = s.sandbox().profile("force-app")?;
    let i = s.sandbox().instance("running", None)?;
    s.bind("web", &i, &json!({"name": "force-app"}))?;
    s.wait_until_ready("web")?;
    let words = format!(
        "You are not authorized to perform this operation. User: arn:aws:iam::123456789012:user/TEST is not authorized to perform: ec2:{DISASSOCIATE} on resource: arn:aws:ec2:eu-west-1:123456789012:instance/{i} because no identity-based policy allows it. Encoded authorization failure message: SECRETSECRET"
    );
    let refusal = json!({"action": DISASSOCIATE, "instance": i, "count": null,
        "effect": {"error": {"code": "UnauthorizedOperation", "status": 403, "message": words}}});
    s.sandbox().fault(&refusal)?;
    s.delete("web")?;
    let binding = s.patiently("web", "is refused", |found| reason(found) == "AccessDenied")?;
    assert!(is_held(&binding), "kept until it is done");
    let told = message(&binding);
    assert!(told.contains(&format!("ec2:{DISASSOCIATE}")) && told.contains(&i), "{told}");
    assert!(!told.contains("SECRETSECRET"), "{told}");
    s.annotate("web", FORCE_RELEASE, "true")?;
    s.vanishes("web")?;
    s.event("web", "ForceReleased")?;
    assert_eq!(s.sandbox().profile_of(&i)?, Some(app));
    assert_eq!(s.changes(&i)?, [ASSOCIATE]);
    Ok(())
}

#[test]
fn a_deletion_while_aws_is_away_is_carried_out_later() -> Result<()> {
    let world = quick_world()?;
    let s = world.scenario("away")?;
    s.sandbox().profile("app")?;
    let i = s.sandbox().instance("running", None)?;
    s.bind("web", &i, &json!({"name": "app"}))?;
    s.wait_until_ready("web")?;
    let outage = s.sandbox().fault(&json!({"action": "*", "count": null, "effect": "drop"}))?;
    s.delete("web")?;
    let binding = s.patiently("web", "tells that AWS is away", |found| reason(found) == "AWSUnavailable")?;
    assert!(is_held(&binding), "the instance still carries its profile");
    assert_ne!(binding["metadata"]["deletionTimestamp"], Value::Null);
    s.sandbox().delete(&format!("faults?id={outage}"))?;
    s.vanishes("web")?;
    assert_eq!(s.sandbox().profile_of(&i)?, None);
    Ok(())
}
