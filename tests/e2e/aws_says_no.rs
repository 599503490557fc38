//! IAM denies the controller something: what still works, what is told, and how it heals.

use anyhow::Result;
use serde_json::{Value, json};
use world::{ACCOUNT, REGION, Scenario};

use crate::stage::{
    ASSOCIATE, DISASSOCIATE, REPLACE, Story, condition, is_observed, message, quick_world, reason, truth,
};

/// Allows the controller nothing but what these statements say.
fn allow(s: &Scenario<'_>, statements: &Value) -> Result<()> {
    s.sandbox().delete("policies")?;
    let policy = json!({"Version": "2012-10-17", "Statement": statements});
    let key = s.sandbox().aws_env().access_key().to_owned();
    s.sandbox().post("policies", &json!({"accessKey": key, "policy": policy})).map(drop)
}

fn all_but(denied: &[&str]) -> Value {
    json!([
        {"Effect": "Allow", "Action": "*", "Resource": "*"},
        {"Effect": "Deny", "Action": denied, "Resource": "*"},
    ])
}

#[test]
fn without_reading_iam_a_profile_is_known_by_its_name_alone() -> Result<()> {
    let world = quick_world()?;
    let s = world.scenario("iam")?;
    allow(&s, &all_but(&["iam:Get*", "iam:List*"]))?;
    // Whoever knows a name only cannot tell its path: only a grant that lists the name holds.
    s.grant("names", &json!({"instanceProfiles": ["app", "other"], "instances": {"regions": [REGION]}}))?;
    let app = s.sandbox().profile("app")?;
    let other = s.sandbox().profile("other")?;
    let (i, j) = (s.sandbox().instance("running", None)?, s.sandbox().instance("running", None)?);
    let stopped = s.sandbox().instance("stopped", Some("other"))?;
    s.bind("by-name", &i, &json!({"name": "app"}))?;
    s.bind("by-role", &j, &json!({"roleName": "app"}))?;
    s.bind("swap", &stopped, &json!({"name": "app"}))?;
    let binding = s.wait_until_ready("by-name")?;
    assert_eq!(s.sandbox().profile_of(&i)?, Some(app));
    assert_eq!(binding["status"]["profile"], "app");
    s.choose("by-name", json!({"name": "other"}))?;
    s.reaches("by-name", "Associated")?;
    assert_eq!(s.sandbox().profile_of(&i)?, Some(other.clone()));
    assert_eq!(s.changes(&i)?, [ASSOCIATE, REPLACE]);

    let denied = s.reaches("by-role", "AccessDenied")?;
    assert_eq!(truth(&denied, "Stalled"), "True");
    assert!(message(&denied).contains("iam:ListInstanceProfilesForRole"), "{}", message(&denied));
    assert_eq!(s.sandbox().writes_to(&j)?, []);

    let swap = s.reaches("swap", "AccessDenied")?;
    assert!(message(&swap).contains("iam:GetInstanceProfile"), "{}", message(&swap));
    assert_eq!(s.sandbox().profile_of(&stopped)?, Some(other), "nothing is detached in the blind");

    s.sandbox().delete("policies")?;
    s.ask("by-role")?;
    s.reaches("by-role", "Associated")?;
    Ok(())
}

#[test]
fn a_denied_associate_names_action_and_resource_and_heals_at_once_when_asked() -> Result<()> {
    let world = quick_world()?;
    let s = world.scenario("denied")?;
    s.sandbox().profile("app")?;
    let i = s.sandbox().instance("running", None)?;
    allow(&s, &all_but(&["ec2:AssociateIamInstanceProfile"]))?;
    s.bind("web", &i, &json!({"name": "app"}))?;
    let binding = s.reaches("web", "AccessDenied")?;
    assert_eq!(truth(&binding, "Stalled"), "True");
    assert_eq!(truth(&binding, "Synced"), "False");
    let told = message(&binding);
    assert!(told.contains("ec2:AssociateIamInstanceProfile"), "{told}");
    assert!(told.contains(&format!("arn:aws:ec2:eu-west-1:{ACCOUNT}:instance/{i}")), "{told}");
    assert!(!told.to_lowercase().contains("encoded"), "{told}");
    assert_eq!(binding["status"]["changes"], Value::Null, "nothing was changed, so nothing is claimed");
    s.event("web", "AccessDenied")?;
    let attempts = s.sandbox().writes_to(&i)?.len();
    s.passes(3)?;
    assert!(s.sandbox().writes_to(&i)?.len() <= attempts + 1, "not tried over and over");

    s.sandbox().delete("policies")?;
    let asked = s.ask("web")?;
    let healed = s.wait_until_ready("web")?;
    assert_eq!(healed["status"]["lastHandledRequestedAt"], asked);
    assert_eq!(condition(&healed, "Stalled"), &Value::Null);
    assert_eq!(s.changes(&i)?, [ASSOCIATE]);
    Ok(())
}

#[test]
fn a_denied_call_heals_by_itself_too() -> Result<()> {
    let world = quick_world()?;
    let s = world.scenario("heals")?;
    s.sandbox().profile("app")?;
    let i = s.sandbox().instance("running", None)?;
    allow(&s, &all_but(&["ec2:AssociateIamInstanceProfile"]))?;
    s.bind("web", &i, &json!({"name": "app"}))?;
    s.reaches("web", "AccessDenied")?;
    s.sandbox().delete("policies")?;
    s.reaches("web", "Associated")?;
    Ok(())
}

#[test]
fn without_pass_role_nothing_is_detached_from_a_stopped_instance() -> Result<()> {
    let world = quick_world()?;
    let s = world.scenario("pass-role")?;
    s.sandbox().profile("app")?;
    let old = s.sandbox().profile("old")?;
    let i = s.sandbox().instance("stopped", Some("old"))?;
    allow(&s, &all_but(&["iam:PassRole"]))?;
    s.bind("web", &i, &json!({"name": "app"}))?;
    let binding = s.reaches("web", "AccessDenied")?;
    assert!(message(&binding).contains("iam:PassRole"), "{}", message(&binding));
    assert!(message(&binding).contains(&format!("arn:aws:iam::{ACCOUNT}:role/app")), "{}", message(&binding));
    assert_eq!(s.sandbox().profile_of(&i)?, Some(old), "a dry run found it before anything was detached");
    assert_eq!(s.changes(&i)?, [""; 0]);
    s.sandbox().delete("policies")?;
    s.ask("web")?;
    s.patiently("web", "is attached", |found| {
        is_observed(found) && reason(found) == "Associating" && found["status"]["profile"] == "app"
    })?;
    s.carries(&i, Some(&format!("arn:aws:iam::{ACCOUNT}:instance-profile/app")))?;
    assert_eq!(s.changes(&i)?, [DISASSOCIATE, ASSOCIATE]);
    Ok(())
}

#[test]
fn a_detach_that_is_denied_while_the_first_half_was_allowed() -> Result<()> {
    let world = quick_world()?;
    let s = world.scenario("detach")?;
    let app = s.sandbox().profile("app")?;
    let i = s.sandbox().instance("running", None)?;
    allow(&s, &all_but(&["ec2:DisassociateIamInstanceProfile"]))?;
    s.bind("web", &i, &json!({"name": "app"}))?;
    s.wait_until_ready("web")?;
    s.choose("web", json!({"none": {}}))?;
    let binding = s.reaches("web", "AccessDenied")?;
    assert!(message(&binding).contains("ec2:DisassociateIamInstanceProfile"), "{}", message(&binding));
    assert_eq!(s.sandbox().profile_of(&i)?, Some(app));
    Ok(())
}

#[test]
fn credentials_that_are_not_accepted() -> Result<()> {
    let world = quick_world()?;
    let s = world.scenario("credentials")?;
    s.sandbox().profile("app")?;
    let i = s.sandbox().instance("running", None)?;
    let fault = s.sandbox().fault(&json!({"action": ASSOCIATE, "instance": i, "count": null, "effect":
        {"error": {"code": "AuthFailure", "status": 401, "message": "AWS was not able to validate the provided access credentials"}}}))?;
    s.bind("web", &i, &json!({"name": "app"}))?;
    let refused = s.reaches("web", "CredentialsUnavailable")?;
    assert_eq!((truth(&refused, "Ready"), truth(&refused, "Stalled")), ("False", "True"));
    s.sandbox().delete(&format!("faults?id={fault}"))?;
    s.ask("web")?;
    s.reaches("web", "Associated")?;
    assert_eq!(s.changes(&i)?, [ASSOCIATE]);
    Ok(())
}
