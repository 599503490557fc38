//! Status is a note, not a right: whoever writes it by hand, or had rights once, gets nothing by it.

use anyhow::Result;
use serde_json::{Value, json};
use world::Scenario;

use crate::grants::{Rights, allowing, stranger, with};
use crate::stage::{ASSOCIATE, DISASSOCIATE, REPLACE, Story, condition, is_held, reason, truth};

/// Writes into a status, as somebody may who has `patch` on the subresource.
fn forge(s: &Scenario<'_>, binding: &str, status: Value) -> Result<Value> {
    let path = format!("{}/status", s.path(binding));
    s.world().control_plane().api().merge(&path, &json!({"status": status}))
}

/// Whether any write, of whomever, put this profile anywhere.
fn was_ever_attached(s: &Scenario<'_>, profile: &str) -> Result<bool> {
    let calls = s.sandbox().calls_since(0)?;
    Ok(calls.iter().any(|call| call.is_write() && call.to_profile.as_deref() == Some(profile)))
}

#[test]
fn a_forged_memory_does_not_bring_an_administrators_profile() -> Result<()> {
    let s = stranger("forged")?;
    let app = s.sandbox().profile("forged-app")?;
    let admin = s.sandbox().add_profile(&json!({"name": "forged-admin", "path": "/admin/"}))?;
    let i = s.sandbox().instance("running", None)?;
    s.grant("own", &allowing(&["forged-app"]))?;
    let profile = json!({"name": "forged-app"});
    s.apply("web", &json!({"instanceId": i, "instanceProfile": profile, "deletionPolicy": "Restore"}))?;
    s.is_carried_out("web")?;
    // Merge: `none` of the true note goes.
    forge(&s, "web", json!({"previous": {"profileArn": admin, "none": null}}))?;
    s.delete("web")?;
    s.vanishes("web")?;
    s.passes(2)?;
    assert!(!was_ever_attached(&s, &admin)?);
    assert_eq!(s.sandbox().profile_of(&i)?, Some(app), "what is not known to be right stays");
    assert_eq!(s.writes(&i)?, [ASSOCIATE]);
    s.event("web", "NotRestored")?;
    Ok(())
}

#[test]
fn what_was_there_before_comes_back_only_where_a_grant_covers_it_now() -> Result<()> {
    let s = stranger("narrowed")?;
    let app = s.sandbox().profile("narrowed-app")?;
    let admin = s.sandbox().add_profile(&json!({"name": "narrowed-admin", "path": "/admin/"}))?;
    let i = s.sandbox().instance("running", Some(&admin))?;
    s.grant("own", &allowing(&["narrowed-app"]))?;
    let profile = json!({"name": "narrowed-app"});
    s.apply("web", &json!({"instanceId": i, "instanceProfile": profile, "deletionPolicy": "Restore"}))?;
    // To take any profile off is part of the right to put one's own on.
    let binding = s.is_carried_out("web")?;
    assert_eq!(binding["status"]["previous"], json!({"profileArn": admin}));
    s.delete("web")?;
    s.vanishes("web")?;
    assert!(!was_ever_attached(&s, &admin)?);
    assert_eq!(s.sandbox().profile_of(&i)?, Some(app));
    assert_eq!(s.writes(&i)?, [REPLACE]);
    s.event("web", "NotRestored")?;
    Ok(())
}

#[test]
fn a_forged_story_does_not_take_off_what_somebody_else_attached() -> Result<()> {
    let s = stranger("story")?;
    s.sandbox().profile("story-app")?;
    let foreign = s.sandbox().add_profile(&json!({"name": "story-foreign", "path": "/admin/"}))?;
    let i = s.sandbox().instance("running", Some(&foreign))?;
    s.grant("own", &allowing(&["story-app"]))?;
    // It never writes by itself, so that the instance still carries the other one's when it goes.
    let profile = json!({"name": "story-app"});
    s.apply("web", &json!({"instanceId": i, "instanceProfile": profile, "adoptionPolicy": "OnlyIfNone"}))?;
    s.reaches("web", "NotAdopted")?;
    let change = json!({"operation": ASSOCIATE, "from": "none", "to": foreign,
        "at": "2026-01-01T00:00:00Z", "requestId": "forged"});
    forge(
        &s,
        "web",
        json!({"changes": [change], "desired": {"profileArn": foreign}, "previous": {"none": true}}),
    )?;
    s.delete("web")?;
    s.vanishes("web")?;
    s.passes(2)?;
    assert_eq!(s.sandbox().profile_of(&i)?, Some(foreign));
    assert_eq!(s.writes(&i)?, [""; 0]);
    Ok(())
}

#[test]
fn a_forged_adoption_gives_no_right() -> Result<()> {
    let s = stranger("adopted")?;
    s.sandbox().profile("adopted-app")?;
    let admin = s.sandbox().add_profile(&json!({"name": "adopted-admin", "path": "/admin/"}))?;
    let i = s.sandbox().instance("running", None)?;
    s.bind("web", &i, &json!({"arn": admin}))?;
    s.is_refused("web")?;
    let told = |kind: &str, reason: &str| {
        json!({"type": kind, "status": "True", "reason": reason, "message": "trust me",
            "lastTransitionTime": "2026-01-01T00:00:00Z"})
    };
    forge(
        &s,
        "web",
        json!({
            "grant": "everything", "adopted": true, "account": "123456789012", "region": "eu-west-1",
            "profile": "adopted-admin", "desired": {"profileArn": admin},
            "plan": [{"operation": ASSOCIATE, "reason": "Declared"}],
            "changes": [{"operation": ASSOCIATE, "from": "none", "to": admin, "at": "2026-01-01T00:00:00Z"}],
            "conditions": [told("Ready", "Associated"), told("Synced", "Associated"), told("Authorized", "Granted")],
        }),
    )?;
    s.ask("web")?;
    let binding = s.patiently("web", "says again that it has no right", |found| {
        truth(found, "Authorized") == "False"
            && truth(found, "Ready") == "False"
            && reason(found) == "NotAuthorized"
            && truth(found, "Stalled") == "True"
    })?;
    assert!(!is_held(&binding));
    s.passes(2)?;
    assert_eq!(s.writes(&i)?, [""; 0]);
    assert_eq!(s.questions_about(&i)?, [], "nothing was asked of AWS for it either");
    s.delete("web")?;
    s.vanishes("web")?;
    s.passes(2)?;
    assert_eq!(s.writes(&i)?, [""; 0]);
    Ok(())
}

#[test]
fn a_finalizer_put_on_by_hand_gives_no_right_to_a_detach() -> Result<()> {
    let (tenant, thief) = (stranger("holder")?, stranger("thief")?);
    let app = tenant.sandbox().profile("holder-app")?;
    let i = tenant.sandbox().instance("running", None)?;
    tenant.grant("own", &allowing(&["holder-app"]))?;
    tenant.bind("web", &i, &json!({"name": "holder-app"}))?;
    tenant.is_carried_out("web")?;
    thief.bind("steal", &i, &json!({"name": "holder-app"}))?;
    thief.is_refused("steal")?;
    let held = json!({"metadata": {"finalizers": ["instancerole.dev/association"]}});
    thief.world().control_plane().api().merge(&thief.path("steal"), &held)?;
    let change = json!({"operation": ASSOCIATE, "from": "none", "to": app,
        "at": "2026-01-01T00:00:00Z", "requestId": "forged"});
    forge(&thief, "steal", json!({"changes": [change], "desired": {"profileArn": app}}))?;
    thief.delete("steal")?;
    thief.vanishes("steal")?;
    tenant.passes(2)?;
    assert_eq!(tenant.sandbox().profile_of(&i)?, Some(app));
    assert_eq!(tenant.writes(&i)?, [ASSOCIATE]);
    Ok(())
}

#[test]
fn a_forged_account_harms_nobody_but_its_author() -> Result<()> {
    let s = stranger("elsewhere")?;
    s.sandbox().profile("elsewhere-app")?;
    let (i, j) = (s.sandbox().instance("running", None)?, s.sandbox().instance("running", None)?);
    s.grant("own", &allowing(&["elsewhere-app"]))?;
    s.bind("web", &i, &json!({"name": "elsewhere-app"}))?;
    s.is_carried_out("web")?;
    forge(&s, "web", json!({"account": "210987654321", "region": "ap-southeast-2"}))?;
    s.bind("other", &j, &json!({"name": "elsewhere-app"}))?;
    s.is_carried_out("other")?;
    s.passes(2)?;
    let strayed = s.sandbox().calls_since(0)?.into_iter().any(|call| call.region == "ap-southeast-2");
    assert!(!strayed, "a status sends nobody to another Region");
    assert_eq!(s.writes(&i)?, [ASSOCIATE]);
    Ok(())
}

#[test]
fn a_restore_whose_first_half_was_allowed_does_not_leave_more_than_it_may() -> Result<()> {
    // The right to leave an instance without a profile is asked for where that would be the end.
    let s = stranger("to-none")?;
    let app = s.sandbox().profile("to-none-app")?;
    let i = s.sandbox().instance("running", None)?;
    s.grant("own", &with(allowing(&["to-none-app"]), "allowNone", json!(false)))?;
    let profile = json!({"name": "to-none-app"});
    s.apply("restores", &json!({"instanceId": i, "instanceProfile": profile, "deletionPolicy": "Restore"}))?;
    s.is_carried_out("restores")?;
    s.delete("restores")?;
    s.vanishes("restores")?;
    assert_eq!(s.sandbox().profile_of(&i)?, Some(app.clone()));
    s.event("restores", "NotRestored")?;

    s.bind("detaches", &i, &profile)?;
    s.is_carried_out("detaches")?;
    s.delete("detaches")?;
    s.vanishes("detaches")?;
    assert_eq!(s.sandbox().profile_of(&i)?, Some(app));
    s.event("detaches", "LeftInPlace")?;

    s.bind("empties", &i, &json!({"none": {}}))?;
    let refused = s.is_refused("empties")?;
    assert_eq!(condition(&refused, "Suspended"), &Value::Null);
    let writes = s.writes(&i)?;
    assert_eq!(writes, [ASSOCIATE]);
    assert!(!writes.contains(&DISASSOCIATE.to_owned()));
    Ok(())
}
