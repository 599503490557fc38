//! The words in which stories about grants are told.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use world::{ACCOUNT, Call, REGION, Scenario, World};

use crate::stage::{Story, condition, is_held, is_observed, reason, truth};

/// A corner of the shared world in which nothing is granted but what the test grants.
pub(crate) fn stranger(name: &str) -> Result<Scenario<'static>> {
    World::shared()?.stranger(name)
}

/// The ARN of a profile in the usual account, by IAM path and name.
pub(crate) fn arn(profile: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:instance-profile/{profile}")
}

/// The `spec` of a grant of these profiles (IAM path and name) for all instances of the usual Region.
pub(crate) fn allowing(profiles: &[&str]) -> Value {
    let arns: Vec<String> = profiles.iter().map(|profile| arn(profile)).collect();
    json!({"instanceProfiles": arns, "instances": {"regions": [REGION]}})
}

/// The same for these instances alone.
pub(crate) fn allowing_on(profiles: &[&str], instances: &[&str]) -> Value {
    with(allowing(profiles), "instances", json!({"ids": instances}))
}

/// A spec with another member.
pub(crate) fn with(mut spec: Value, member: &str, value: Value) -> Value {
    spec[member] = value;
    spec
}

/// What in a binding is not as it must be where no grant covers it: it says so, and nothing of the instance.
pub(crate) fn says_more_than_refused(binding: &Value, reason: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (kind, status) in
        [("Ready", "False"), ("Stalled", "True"), ("Synced", "Unknown"), ("Authorized", "False")]
    {
        let found = condition(binding, kind);
        if found["status"] != status || found["reason"] != reason {
            wrong.push(format!("{kind} is {} {}", found["status"], found["reason"]));
        }
    }
    for field in ["observed", "plan", "desired", "profile", "grant", "previous", "changes", "adopted"] {
        if !binding["status"][field].is_null() {
            wrong.push(format!("status.{field} is {}", binding["status"][field]));
        }
    }
    if is_held(binding) {
        wrong.push("it has our finalizer".to_owned());
    }
    wrong
}

/// What the owner of a namespace sees of its rights.
pub(crate) trait Rights {
    /// Waits until no grant covers a binding, which tells this and nothing else.
    fn is_refused(&self, binding: &str) -> Result<Value>;
    /// Waits until a binding that once had rights is told that it has none now. What it did stays in its status.
    fn loses_its_right(&self, binding: &str) -> Result<Value>;
    /// Waits until a grant covers a binding and what it declares is so.
    fn is_carried_out(&self, binding: &str) -> Result<Value>;
    /// The writes to an instance by the controller in whatever role, in order; refused ones too, without rehearsals.
    fn writes(&self, instance: &str) -> Result<Vec<String>>;
    /// The calls to EC2 that name an instance.
    fn questions_about(&self, instance: &str) -> Result<Vec<Call>>;
}

impl Rights for Scenario<'_> {
    fn is_refused(&self, binding: &str) -> Result<Value> {
        self.patiently(binding, "is told that no grant covers it, and no more", |found| {
            is_observed(found) && says_more_than_refused(found, "NotAuthorized").is_empty()
        })
    }

    fn loses_its_right(&self, binding: &str) -> Result<Value> {
        self.patiently(binding, "is told that it has no right any more", |found| {
            truth(found, "Authorized") == "False"
                && reason(found) == "NotAuthorized"
                && found["status"]["observed"].is_null()
        })
    }

    fn is_carried_out(&self, binding: &str) -> Result<Value> {
        let found = self.patiently(binding, "is granted and Ready", |found| {
            is_observed(found) && truth(found, "Ready") == "True" && truth(found, "Authorized") == "True"
        })?;
        ensure!(condition(&found, "Authorized")["reason"] == "Granted", "{:#}", found["status"]);
        ensure!(found["status"]["grant"].is_string(), "which grant? {:#}", found["status"]);
        Ok(found)
    }

    fn writes(&self, instance: &str) -> Result<Vec<String>> {
        let calls = self.sandbox().writes_in_any_role_to(instance)?;
        Ok(calls
            .into_iter()
            .filter(|call| call.result != "DryRunOperation")
            .map(|call| call.action)
            .collect())
    }

    fn questions_about(&self, instance: &str) -> Result<Vec<Call>> {
        self.sandbox().calls_naming(instance)
    }
}
