//! The samples are applied; the instance that was awaited comes; those that were stopped start.

use anyhow::Result;
use serde_json::json;

use super::{Row, Story};
use crate::samples::NAMESPACE;
use crate::trial::{ASSOCIATE, DISASSOCIATE, Ends, REPLACE};

/// Each seed row right after the apply.
const AFTER_APPLY: [Row; 10] = [
    ("attach to running by name", "attach-to-running-by-name", &[ASSOCIATE], Ends::Carries("demo-web")),
    (
        "attach to stopped by ARN",
        "attach-to-stopped-by-arn",
        &[ASSOCIATE],
        Ends::CarriesUntilStart("managed/demo-batch"),
    ),
    (
        "role name ≠ profile name",
        "role-name-differs-from-profile-name",
        &[ASSOCIATE],
        Ends::Carries("demo-reporting-profile"),
    ),
    ("attach at launch", "attach-at-launch", &[], Ends::Awaited),
    ("replace on running", "replace-on-running", &[REPLACE], Ends::Carries("demo-web")),
    (
        "replace on stopped",
        "replace-on-stopped",
        &[DISASSOCIATE, ASSOCIATE],
        Ends::CarriesUntilStart("demo-web"),
    ),
    ("detach from running", "detach-from-running", &[DISASSOCIATE], Ends::Bare),
    ("detach from stopped", "detach-from-stopped", &[DISASSOCIATE], Ends::Bare),
    ("describe", "describe", &[], Ends::Carries("demo-inventory")),
    ("deletion detaches", "deletion-detaches", &[ASSOCIATE], Ends::Carries("demo-scratch")),
];

/// The one whose instance comes later.
const AFTER_LAUNCH: Row = ("attach at launch", "attach-at-launch", &[ASSOCIATE], Ends::Carries("demo-web"));

/// The rows that end only when the instance is started.
const AFTER_START: [Row; 2] = [
    (
        "attach to stopped by ARN",
        "attach-to-stopped-by-arn",
        &[ASSOCIATE],
        Ends::Carries("managed/demo-batch"),
    ),
    ("replace on stopped", "replace-on-stopped", &[DISASSOCIATE, ASSOCIATE], Ends::Carries("demo-web")),
];

impl Story<'_> {
    /// Everything at once, as a GitOps tool would.
    pub(super) fn apply_the_samples(&mut self) -> Result<()> {
        self.screen.step(
            "Applying deploy/samples: a grant, and all ten bindings at once",
            "The grant is the administrator's: which namespace may put which profiles on which instances. Below is kubectl's own watch, seconds in front: EC2 takes its time, and each binding tells what it \
             waits for. Two instances are stopped and one is not launched yet, so three \
             bindings cannot be Ready now. After a write EC2's reads may be stale, so a row's absence is believed only \
             after ten seconds: that is the last line.",
        );
        let trials = AFTER_APPLY.iter().map(|row| self.trial(*row)).collect::<Result<Vec<_>>>()?;
        self.follow(None, &trials, || self.kubectl(&["apply", "-k", "deploy/samples"]))?;
        self.kubectl(&["get", "instancerolebindings", "-n", NAMESPACE])?;
        self.screen.gap();
        self.screen
            .line("What was asked, and every write that EC2's journal has for it, with EC2's request id:");
        self.judge(&trials)
    }

    /// The awaited instance is launched.
    pub(super) fn launch(&mut self) -> Result<()> {
        self.screen.step(
            "Launching the instance that a binding has been waiting for",
            "The binding came first, so nobody has to remember it at launch. EC2 takes no association while an \
             instance is pending, and the controller does not try.",
        );
        let trial = self.trial(AFTER_LAUNCH)?;
        let instance = trial.sample.instance.clone();
        self.follow(Some(&trial.sample.name), std::slice::from_ref(&trial), || {
            self.screen.line(&format!("# {instance} is launched, without a profile"));
            let instance = json!({"ids": [instance], "state": "pending"});
            self.world.sandbox().add_instances(&instance).map(drop)
        })?;
        self.judge(&[trial])
    }

    /// The stopped instances are started, so that EC2 finishes their associations.
    pub(super) fn start_the_stopped(&mut self) -> Result<()> {
        self.screen.step(
            "Starting two stopped instances",
            "EC2 finishes an association that was made on a stopped instance only when the instance starts. The \
             controller makes no further call for it; it sees it and says so.",
        );
        let trials = AFTER_START.iter().map(|row| self.trial(*row)).collect::<Result<Vec<_>>>()?;
        let ids: Vec<&str> = trials.iter().map(|trial| trial.sample.instance.as_str()).collect();
        let start = [&["ec2", "start-instances", "--instance-ids"], ids.as_slice()].concat();
        self.follow(Some(&trials[0].sample.name), &trials, || self.aws(&start).map(drop))?;
        self.judge(&trials)
    }
}
