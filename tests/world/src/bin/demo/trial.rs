//! What a row must come to, and what it came to by the sandbox's journal and truth.

use anyhow::{Context, Result};
use serde_json::Value;
use world::{ACCOUNT, Call, REGION, World, condition};

use crate::samples::{NAMESPACE, Sample};
use crate::stage::{short, text};

/// AssociateIamInstanceProfile, as the journal calls it.
pub const ASSOCIATE: &str = "AssociateIamInstanceProfile";
/// ReplaceIamInstanceProfileAssociation.
pub const REPLACE: &str = "ReplaceIamInstanceProfileAssociation";
/// DisassociateIamInstanceProfile.
pub const DISASSOCIATE: &str = "DisassociateIamInstanceProfile";

/// One row: what is asked, and what must follow.
#[derive(Debug, Clone)]
pub struct Trial {
    /// The row's name.
    pub row: &'static str,
    /// Its binding and instance.
    pub sample: Sample,
    /// What was asked.
    pub asked: String,
    /// The controller's successful writes that must have been made, and no others.
    pub calls: &'static [&'static str],
    /// Only calls after this one of the journal belong to it.
    pub since: u64,
    /// What must be in the end.
    pub ends: Ends,
}

/// The end of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// The instance has this profile, written as IAM path and name, and its workload never lacked credentials.
    Carries(&'static str),
    /// The same, but EC2 finishes only when the instance starts.
    CarriesUntilStart(&'static str),
    /// The instance has no profile.
    Bare,
    /// There is no such instance, and the binding awaits it.
    Awaited,
    /// The binding is gone and the instance has no profile.
    Released,
    /// No grant covers the binding; the instance has the profile that it had.
    Refused(&'static str),
}

/// What a row came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The controller's writes, in their order; rehearsals (`DryRun`) and refused ones included.
    pub writes: Vec<Call>,
    /// The state at EC2, in words.
    pub state: String,
    /// What is not as it must be.
    pub faults: Vec<String>,
}

impl Ends {
    /// The reason of the binding's Ready that tells of this end.
    fn reason(self) -> &'static str {
        match self {
            Self::Carries(_) => "Associated",
            Self::CarriesUntilStart(_) => "Associating",
            Self::Bare => "Disassociated",
            Self::Awaited => "InstanceNotFound",
            Self::Released => "",
            Self::Refused(_) => "NotAuthorized",
        }
    }

    /// The end in the words of [`state_of`].
    fn state(self) -> String {
        match self {
            Self::Carries(profile) | Self::Refused(profile) => format!("{profile}, associated"),
            Self::CarriesUntilStart(profile) => format!("{profile}, associating until started"),
            Self::Bare | Self::Released => "no profile".to_owned(),
            Self::Awaited => "no such instance yet".to_owned(),
        }
    }
}

impl Trial {
    /// How it stands.
    pub fn outcome(&self, world: &World) -> Result<Outcome> {
        let mut faults = Vec::new();
        let mut must = |holds: bool, fault: String| {
            if !holds {
                faults.push(fault);
            }
        };
        let mut writes = world.sandbox().writes_to(&self.sample.instance)?;
        writes.retain(|call| call.seq > self.since);
        let done: Vec<&Call> = writes.iter().filter(|call| call.result == "ok").collect();
        let names: Vec<&str> = done.iter().map(|call| call.action.as_str()).collect();
        must(names == self.calls, format!("EC2 was asked for {names:?}, not for {:?}", self.calls));
        for refused in writes.iter().filter(|call| call.result != "ok" && !is_rehearsal(call)) {
            must(false, format!("{} was answered with {}", refused.action, refused.result));
        }
        let state = state_of(world, &self.sample.instance)?;
        must(state == self.ends.state(), format!("EC2 has {state}, not {}", self.ends.state()));

        let binding = binding(world, &self.sample.name)?;
        match (&binding, self.ends) {
            (found, Ends::Released) => must(found.is_none(), "the binding is still there".to_owned()),
            (None, _) => must(false, "the binding is gone".to_owned()),
            (Some(binding), _) => {
                let (reason, current) = told(binding);
                let wanted = self.ends.reason();
                must(current && reason == wanted, format!("the binding says {reason}, not {wanted}"));
                // It remembers five.
                for call in done.iter().rev().take(5) {
                    let known = request_ids(binding).any(|id| id == call.request_id);
                    must(known, format!("status.changes lacks request {}", call.request_id));
                }
            }
        }
        if matches!(self.ends, Ends::Carries(_)) {
            let timeline = timeline(world, &self.sample.instance)?;
            let truth = world.sandbox().truth(&self.sample.instance)?;
            let (row, shown) =
                (&truth["rows"][0], binding.as_ref().map(|found| &found["status"]["observed"]));
            must(
                shown.is_some_and(|shown| same_association(shown, row)),
                format!("status.observed is {shown:?}, and EC2 has {row}"),
            );
            let gaps = timeline["gaps"].as_array().map_or(1, Vec::len);
            must(gaps == 0, format!("the workload was without credentials {gaps} time(s)"));
            let guest = timeline["steps"].as_array().and_then(|steps| steps.last()).cloned();
            let guest = guest.unwrap_or_default();
            must(
                guest["carries"] == "credentials" && guest["profileArn"] == truth["profileArn"],
                format!("the workload has {} of {}", guest["carries"], guest["profileArn"]),
            );
        }
        Ok(Outcome { writes, state, faults })
    }

    /// Whether all is as it must be.
    pub fn is_reached(&self, world: &World) -> Result<bool> {
        Ok(self.outcome(world)?.faults.is_empty())
    }
}

/// Whether a call only asked whether it would be allowed.
pub fn is_rehearsal(call: &Call) -> bool {
    call.result == "DryRunOperation"
}

/// A binding, if there is one.
pub fn binding(world: &World, name: &str) -> Result<Option<Value>> {
    let path = format!("/apis/instancerole.dev/v1alpha1/namespaces/{NAMESPACE}/instancerolebindings/{name}");
    world.control_plane().api().find(&path)
}

/// What the sandbox knows of the credentials on an instance: `{nowMs, steps, gaps}`.
pub fn timeline(world: &World, instance: &str) -> Result<Value> {
    world.sandbox().get(&format!("timeline?account={ACCOUNT}&region={REGION}&instance={instance}"))
}

/// What EC2 truly has, in words.
fn state_of(world: &World, instance: &str) -> Result<String> {
    let all = world.sandbox().get(&format!("state?account={ACCOUNT}&region={REGION}"))?;
    let instances = all["instances"].as_array().context("a state without instances")?;
    let Some(found) = instances.iter().find(|found| found["instanceId"] == instance) else {
        return Ok("no such instance yet".to_owned());
    };
    let rows = found["rows"].as_array().context("an instance without rows")?;
    let words = rows.iter().map(|row| {
        let until =
            if found["state"] == "stopped" && row["state"] == "associating" { " until started" } else { "" };
        format!("{}, {}{until}", short(text(row, "profileArn")), text(row, "state"))
    });
    let words: Vec<String> = words.collect();
    Ok(if words.is_empty() { "no profile".to_owned() } else { words.join(" and ") })
}

/// The reason of Ready, and whether it speaks of the newest spec.
fn told(binding: &Value) -> (String, bool) {
    let reason = condition(binding, "Ready").map_or("nothing", |ready| text(ready, "reason"));
    let current = binding["status"]["observedGeneration"] == binding["metadata"]["generation"];
    (reason.to_owned(), current)
}

/// Whether status shows an association as EC2 has it.
fn same_association(shown: &Value, row: &Value) -> bool {
    shown["associationId"] == row["associationId"]
        && shown["associationState"] == row["state"]
        && shown["profileArn"] == row["profileArn"]
        && shown["profileId"] == row["profileId"]
}

fn request_ids(binding: &Value) -> impl Iterator<Item = &str> {
    binding["status"]["changes"].as_array().into_iter().flatten().map(|change| text(change, "requestId"))
}
