//! What people do: change EC2 behind the controller's back, edit a binding, read about one, delete one.

use anyhow::{Context, Result};

use super::{Row, Story};
use crate::samples::NAMESPACE;
use crate::stage::{short, text};
use crate::trial::{self, ASSOCIATE, DISASSOCIATE, Ends, REPLACE};

const DRIFT: Row = ("drift, repaired", "attach-to-running-by-name", &[REPLACE], Ends::Carries("demo-web"));
const EDIT: Row =
    ("replace by an edit, running", "replace-on-running", &[REPLACE], Ends::Carries("demo-inventory"));
const SWAP: Row = (
    "replace by an edit, stopped",
    "attach-to-stopped-by-arn",
    &[DISASSOCIATE, ASSOCIATE],
    Ends::CarriesUntilStart("demo-web"),
);
const DELETION: Row = ("deletion detaches", "deletion-detaches", &[ASSOCIATE, DISASSOCIATE], Ends::Released);

impl Story<'_> {
    /// Somebody attaches another profile by hand.
    pub(super) fn drift(&mut self) -> Result<()> {
        self.screen.step(
            "Drift: a person attaches another profile by hand",
            "Nobody tells the controller. It sees it in its next listing of all associations (here each 3 s), says so \
             in an Event, and replaces back, so that the workload is at no time without credentials.",
        );
        let trial = self.trial_from_now(DRIFT, "keep profile demo-web")?;
        let association = self.association(&trial.sample.instance)?;
        let by_hand = [
            "ec2",
            "replace-iam-instance-profile-association",
            "--association-id",
            &association,
            "--iam-instance-profile",
            "Name=demo-old",
        ];
        self.follow(Some(&trial.sample.name), std::slice::from_ref(&trial), || self.aws(&by_hand).map(drop))?;
        self.events(&trial.sample.name, "DriftDetected")?;
        self.judge(&[trial])
    }

    /// A binding of a running instance is edited.
    pub(super) fn replace_by_an_edit(&mut self) -> Result<()> {
        self.screen.step(
            "An edit: another profile for a running instance",
            "Detach and attach would leave its workload without credentials in between; one Replace does not. The \
             proof is what the instance's own metadata service handed out, moment by moment.",
        );
        let trial = self.trial_from_now(EDIT, "edit to demo-inventory")?;
        let name = trial.sample.name.clone();
        self.follow(Some(&name), std::slice::from_ref(&trial), || {
            self.edit(&name, r#"{"spec":{"instanceProfile":{"name":"demo-inventory"}}}"#)
        })?;
        self.timeline(&trial.sample.instance)?;
        self.judge(&[trial])
    }

    /// A binding of a stopped instance is edited.
    pub(super) fn swap_while_stopped(&mut self) -> Result<()> {
        self.screen.step(
            "The same on a stopped instance, where EC2 refuses Replace",
            "A person finds out by an error. The controller knows: it rehearses the second half (DryRun), detaches, \
             and attaches.",
        );
        let trial = self.trial_from_now(SWAP, "edit to demo-web")?;
        let (name, instance) = (trial.sample.name.clone(), trial.sample.instance.clone());
        self.aws(&["ec2", "stop-instances", "--instance-ids", &instance])?;
        world::eventually(&format!("{instance} is stopped"), super::PATIENCE, || {
            self.world.sandbox().truth(&instance).ok().filter(|truth| truth["state"] == "stopped")
        })?;
        let association = self.association(&instance)?;
        let refused = self.aws(&[
            "ec2",
            "replace-iam-instance-profile-association",
            "--association-id",
            &association,
            "--iam-instance-profile",
            "Name=demo-web",
        ]);
        match refused {
            Ok(_) => self.screen.bad("EC2 took it, which it should not"),
            Err(error) => {
                let said = format!("{error:#}");
                self.screen.text(said.split_once("failed: ").map_or(said.as_str(), |(_, words)| words));
            }
        }
        self.screen.gap();
        self.follow(Some(&name), std::slice::from_ref(&trial), || {
            self.edit(&name, r#"{"spec":{"instanceProfile":{"arn":null,"name":"demo-web"}}}"#)
        })?;
        self.judge(&[trial])
    }

    /// What there is to read about a binding; and its end.
    pub(super) fn describe_and_delete(&mut self) -> Result<()> {
        self.screen.step(
            "Reading a binding's story, and deleting a binding",
            "What was done stands in the object and in its Events, for whoever has kubectl and no AWS access. By \
             default a deletion takes off what the binding put on, and the object stays until EC2 has let go of it.",
        );
        let name = DRIFT.1;
        let described =
            self.world.control_plane().admin().run(&["describe", "irb", name, "-n", NAMESPACE])?;
        self.screen.command(&format!("kubectl describe irb {name} -n {NAMESPACE} | sed -n '/^Events/,$p'"));
        let events = described.find("\nEvents:").context("kubectl describe shows no Events")?;
        self.screen.text(described[events..].trim_start());
        self.screen.gap();
        self.compare("describe")?;
        self.screen.gap();
        let trial = self.trial(DELETION)?;
        let name = trial.sample.name.clone();
        self.follow(Some(&name), std::slice::from_ref(&trial), || {
            self.kubectl(&["delete", "irb", &name, "-n", NAMESPACE])
        })?;
        self.judge(&[trial])
    }

    /// What a binding shows of its association, beside what EC2 tells a person.
    fn compare(&self, binding: &str) -> Result<()> {
        let found = trial::binding(&self.world, binding)?.context("the binding is gone")?;
        let instance = text(&found["spec"], "instanceId");
        self.kubectl(&["get", "irb", binding, "-n", NAMESPACE, "-o=jsonpath-as-json={.status.observed}"])?;
        let only = format!("Name=instance-id,Values={instance}");
        let query = "IamInstanceProfileAssociations[0]";
        let listing = ["ec2", "describe-iam-instance-profile-associations", "--filters", &only];
        let told = self.aws(&[listing.as_slice(), &["--query", query]].concat())?;
        self.screen.output(&serde_json::to_string_pretty(&told)?);
        Ok(())
    }

    fn edit(&self, binding: &str, patch: &str) -> Result<()> {
        let args = ["patch", "irb", binding, "-n", NAMESPACE, "--type=merge", "-p", patch];
        self.kubectl(&args)
    }

    /// The id of the association that an instance has.
    fn association(&self, instance: &str) -> Result<String> {
        let truth = self.world.sandbox().truth(instance)?;
        let id = truth.pointer("/rows/0/associationId").and_then(|id| id.as_str());
        Ok(id.with_context(|| format!("{instance} has no association"))?.to_owned())
    }

    /// A binding's Events of one reason.
    fn events(&mut self, binding: &str, reason: &str) -> Result<()> {
        let selector = format!("--field-selector=involvedObject.name={binding},reason={reason}");
        let args = [
            "get",
            "events",
            "-n",
            NAMESPACE,
            &selector,
            "-o=custom-columns=REASON:.reason,MESSAGE:.message",
        ];
        let written = world::eventually(&format!("an Event {reason}"), super::PATIENCE, || {
            let told = self.world.control_plane().admin().run(&args).ok()?;
            told.contains(reason).then_some(())
        });
        self.kubectl(&args)?;
        self.screen.gap();
        written
    }

    /// The last moments of the credentials on an instance.
    fn timeline(&self, instance: &str) -> Result<()> {
        let timeline = trial::timeline(&self.world, instance)?;
        let now = timeline["nowMs"].as_f64().unwrap_or_default();
        self.screen.line(&format!("The credentials that the workload on {instance} could fetch:"));
        for step in timeline["steps"].as_array().into_iter().flatten() {
            let since = match step["fromMs"].as_f64() {
                Some(from) if from > 0.0 => format!("since {:4.1} s ago", (now - from) / 1000.0),
                _ => "at first".to_owned(),
            };
            let (carries, profile) = (text(step, "carries"), short(text(step, "profileArn")));
            self.screen.line(&format!("  {since:<18}{carries} of {profile}"));
        }
        let gaps = timeline["gaps"].as_array().map_or(0, Vec::len);
        self.screen
            .line(&format!("  gaps: {}", if gaps == 0 { "none".to_owned() } else { gaps.to_string() }));
        self.screen.gap();
        Ok(())
    }
}
