//! Profiles and roles that are missing, ambiguous, empty, too new, or not what they were.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use world::{REGION, Scenario};

use crate::stage::{
    ASSOCIATE, DISASSOCIATE, REPLACE, Story, aws, condition, message, quick_world, reason, scenario, truth,
};

/// A role that EC2 may assume, in no profile.
fn role(s: &Scenario<'_>, name: &str) -> Result<()> {
    let trust = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"},
    ]});
    s.sandbox().post("roles", &json!({"name": name, "trust": trust})).map(drop)
}

#[test]
fn a_role_in_no_profile() -> Result<()> {
    let s = scenario("no-profile")?;
    role(&s, "lonely")?;
    let i = s.sandbox().instance("running", None)?;
    s.bind("web", &i, &json!({"roleName": "lonely"}))?;
    let binding = s.reaches("web", "ProfileNotFound")?;
    assert!(message(&binding).contains("lonely"), "{}", message(&binding));
    assert_eq!(binding["status"]["desired"], Value::Null, "not resolved");
    assert_eq!(s.sandbox().writes_to(&i)?, [], "never guessed");
    // A person makes the profile that was meant, and asks for a look.
    s.sandbox().add_profile(&json!({"name": "company", "roleName": "lonely"}))?;
    s.ask("web")?;
    s.reaches("web", "Associated")?;
    assert_eq!(s.binding("web")?["status"]["profile"], "company");
    Ok(())
}

#[test]
fn a_role_in_several_profiles() -> Result<()> {
    let s = scenario("several")?;
    for name in ["several-1", "several-2"] {
        s.sandbox().add_profile(&json!({"name": name, "roleName": "several-role"}))?;
    }
    let i = s.sandbox().instance("running", None)?;
    s.bind("web", &i, &json!({"roleName": "several-role"}))?;
    let binding = s.reaches("web", "RoleAmbiguous")?;
    assert_eq!(truth(&binding, "Stalled"), "True");
    for name in ["several-1", "several-2"] {
        assert!(message(&binding).contains(name), "{}", message(&binding));
    }
    assert_eq!(s.sandbox().writes_to(&i)?, []);
    s.choose("web", json!({"name": "several-2"}))?;
    s.reaches("web", "Associated")?;
    assert_eq!(s.changes(&i)?, [ASSOCIATE]);
    Ok(())
}

#[test]
fn a_profile_made_after_its_binding() -> Result<()> {
    let s = scenario("missing")?;
    let i = s.sandbox().instance("running", None)?;
    s.bind("web", &i, &json!({"name": "missing-app"}))?;
    let binding = s.reaches("web", "ProfileNotFound")?;
    assert_eq!(truth(&binding, "Reconciling"), "True", "it may just have been made");
    assert_eq!(condition(&binding, "Stalled"), &Value::Null);
    assert!(message(&binding).contains("missing-app"), "{}", message(&binding));
    s.sandbox().profile("missing-app")?;
    // Without being asked: the catalogue is looked at again by itself.
    s.reaches("web", "Associated")?;
    assert_eq!(s.changes(&i)?, [ASSOCIATE]);
    Ok(())
}

#[test]
fn a_name_in_another_letter_case() -> Result<()> {
    let s = scenario("letters")?;
    s.sandbox().profile("Letters-App")?;
    let i = s.sandbox().instance("running", None)?;
    s.bind("web", &i, &json!({"name": "letters-app"}))?;
    let binding = s.reaches("web", "ProfileNotFound")?;
    assert!(message(&binding).contains("Letters-App"), "the true one is named: {}", message(&binding));
    assert_eq!(truth(&binding, "Stalled"), "True", "waiting does not help");
    assert_eq!(s.sandbox().writes_to(&i)?, []);
    Ok(())
}

#[test]
fn a_profile_of_another_account() -> Result<()> {
    let s = scenario("account")?;
    // The administrator meant it well; no grant makes EC2 take a profile of another account.
    let profiles = ["arn:aws:iam::210987654321:instance-profile/*"];
    s.grant("far", &json!({"instanceProfiles": profiles, "instances": {"regions": [REGION]}}))?;
    let i = s.sandbox().instance("running", None)?;
    s.bind("web", &i, &json!({"arn": "arn:aws:iam::210987654321:instance-profile/app"}))?;
    let binding = s.reaches("web", "ProfileNotFound")?;
    assert!(message(&binding).contains("another account"), "{}", message(&binding));
    assert_eq!(s.sandbox().writes_to(&i)?, []);
    Ok(())
}

#[test]
fn an_arn_with_another_path() -> Result<()> {
    let s = scenario("path")?;
    s.sandbox().add_profile(&json!({"name": "path-app", "path": "/right/"}))?;
    let i = s.sandbox().instance("running", None)?;
    s.bind("web", &i, &json!({"arn": "arn:aws:iam::123456789012:instance-profile/wrong/path-app"}))?;
    let binding = s.reaches("web", "ProfileNotFound")?;
    assert!(message(&binding).contains("right/path-app"), "the true one is named: {}", message(&binding));
    assert_eq!(s.sandbox().writes_to(&i)?, []);
    Ok(())
}

#[test]
fn a_profile_without_a_role() -> Result<()> {
    let s = scenario("no-role")?;
    s.sandbox().add_profile(&json!({"name": "empty", "roleName": null}))?;
    let i = s.sandbox().instance("running", None)?;
    s.bind("web", &i, &json!({"name": "empty"}))?;
    let binding = s.reaches("web", "ProfileWithoutRole")?;
    assert_eq!(truth(&binding, "Stalled"), "True");
    assert!(message(&binding).contains("add-role-to-instance-profile"), "{}", message(&binding));
    assert_eq!(s.sandbox().writes_to(&i)?, []);
    role(&s, "empty-role")?;
    aws(&s, "iam add-role-to-instance-profile --instance-profile-name empty --role-name empty-role")?;
    s.ask("web")?;
    s.reaches("web", "Associated")?;
    Ok(())
}

#[test]
fn a_profile_that_ec2_does_not_know_yet() -> Result<()> {
    let world = quick_world()?;
    let s = world.scenario("propagation")?;
    s.sandbox().settings(&json!({"propagation_ms": 20000}))?;
    role(&s, "fresh")?;
    aws(&s, "iam create-instance-profile --instance-profile-name fresh")?;
    aws(&s, "iam add-role-to-instance-profile --instance-profile-name fresh --role-name fresh")?;
    let i = s.sandbox().instance("running", None)?;
    s.bind("web", &i, &json!({"name": "fresh"}))?;
    let binding = s.reaches("web", "ProfileNotPropagated")?;
    assert_eq!(truth(&binding, "Reconciling"), "True");
    assert_eq!(binding["status"]["changes"], Value::Null, "nothing was changed, so nothing is claimed");
    s.reaches("web", "Associated")?;
    assert_eq!(s.changes(&i)?, [ASSOCIATE]);
    assert_eq!(
        s.sandbox().profile_of(&i)?.as_deref(),
        Some("arn:aws:iam::123456789012:instance-profile/fresh")
    );
    Ok(())
}

/// Deletes a profile and makes it again under its name, as Terraform does when it replaces one.
fn recreate(s: &Scenario<'_>, name: &str) -> Result<()> {
    aws(
        s,
        &format!("iam remove-role-from-instance-profile --instance-profile-name {name} --role-name {name}"),
    )?;
    aws(s, &format!("iam delete-instance-profile --instance-profile-name {name}"))?;
    aws(s, &format!("iam create-instance-profile --instance-profile-name {name}"))?;
    aws(s, &format!("iam add-role-to-instance-profile --instance-profile-name {name} --role-name {name}"))?;
    Ok(())
}

/// What EC2 shows on the instance: the unique id of the profile attached.
fn attached_id(s: &Scenario<'_>, instance: &str) -> Result<String> {
    let truth = s.sandbox().truth(instance)?;
    let rows = truth["rows"].as_array().context("rows")?.clone();
    let row = rows.iter().find(|row| row["state"] != "disassociating").context("no association")?.clone();
    Ok(row["profileId"].as_str().context("profileId")?.to_owned())
}

#[test]
fn a_profile_made_again_under_its_name_while_attached_to_a_running_instance() -> Result<()> {
    let s = scenario("recreated")?;
    s.sandbox().profile("recreated")?;
    let i = s.sandbox().instance("running", Some("recreated"))?;
    s.bind("web", &i, &json!({"name": "recreated"}))?;
    s.wait_until_ready("web")?;
    let old = attached_id(&s, &i)?;
    recreate(&s, "recreated")?;
    s.ask("web")?;
    let event = s.event("web", "DriftDetected")?;
    assert!(event["note"].as_str().unwrap_or_default().contains("recreated"), "{event}");
    let binding = s.patiently("web", "carries the new one", |found| {
        reason(found) == "Associated" && found["status"]["observed"]["profileId"] != old
    })?;
    assert_eq!(binding["status"]["observed"]["profileId"], attached_id(&s, &i)?);
    assert_eq!(s.changes(&i)?, [REPLACE]);
    assert!(s.event("web", "Replaced")?["note"].to_string().contains("cause ProfileRecreated"));
    Ok(())
}

#[test]
fn a_profile_made_again_under_its_name_while_attached_to_a_stopped_instance() -> Result<()> {
    let s = scenario("recreated-stopped")?;
    s.sandbox().profile("recreated-stopped")?;
    let i = s.sandbox().instance("running", Some("recreated-stopped"))?;
    s.sandbox().change_instance(&i, &json!({"state": "stopped"}))?;
    s.bind("web", &i, &json!({"name": "recreated-stopped"}))?;
    s.wait_until_ready("web")?;
    let old = attached_id(&s, &i)?;
    recreate(&s, "recreated-stopped")?;
    s.ask("web")?;
    s.patiently("web", "attaches the new one", |found| {
        found["status"]["observed"]["profileId"].as_str().is_some_and(|id| id != old)
    })?;
    assert_eq!(s.changes(&i)?, [DISASSOCIATE, ASSOCIATE]);
    Ok(())
}

#[test]
fn a_recreated_profile_is_found_without_being_asked() -> Result<()> {
    let world = quick_world()?;
    let s = world.scenario("unasked")?;
    s.sandbox().profile("unasked")?;
    let i = s.sandbox().instance("running", Some("unasked"))?;
    s.bind("web", &i, &json!({"name": "unasked"}))?;
    s.wait_until_ready("web")?;
    let old = attached_id(&s, &i)?;
    recreate(&s, "unasked")?;
    // The catalogue is listed once a minute.
    s.patiently("web", "carries the new one", |found| {
        reason(found) == "Associated" && found["status"]["observed"]["profileId"] != old
    })?;
    assert_eq!(s.changes(&i)?, [REPLACE]);
    Ok(())
}

#[test]
#[ignore = "TrustPolicyBroken needs over two minutes by the controller's own clock; decide's unit tests have it"]
fn a_role_that_ec2_may_not_assume() -> Result<()> {
    let s = scenario("trust")?;
    s.sandbox().add_profile(&json!({"name": "untrusted", "trusted": false}))?;
    let i = s.sandbox().instance("running", None)?;
    s.bind("web", &i, &json!({"name": "untrusted"}))?;
    s.reaches("web", "Associating")?;
    let what = "the trust policy is suspected";
    let three_minutes = std::time::Duration::from_secs(180);
    world::eventually_ok(what, three_minutes, || match s.binding("web") {
        Ok(found) if reason(&found) == "TrustPolicyBroken" => Ok(()),
        other => Err(format!("{other:?}")),
    })
}
