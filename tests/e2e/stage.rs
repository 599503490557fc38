//! What scenarios share: corners of the one world, worlds of their own, and the words in which stories are told.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};
use world::{Scenario, World, WorldOptions, eventually_ok};

/// How long a scenario waits for what may have to outlast a settle time (16 s) or a back-off, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(75);

/// Requests a fresh look.
pub(crate) const REQUESTED_AT: &str = "instancerole.dev/requestedAt";
/// Drops the finalizer.
pub(crate) const FORCE_RELEASE: &str = "instancerole.dev/force-release";
/// What keeps a binding until its deletion was carried out.
pub(crate) const FINALIZER: &str = "instancerole.dev/association";

pub(crate) const ASSOCIATE: &str = "AssociateIamInstanceProfile";
pub(crate) const REPLACE: &str = "ReplaceIamInstanceProfileAssociation";
pub(crate) const DISASSOCIATE: &str = "DisassociateIamInstanceProfile";

/// A corner of the world that all scenarios share.
pub(crate) fn scenario(name: &str) -> Result<Scenario<'static>> {
    World::shared()?.scenario(name)
}

/// A world with a sandbox and a controller of its own, for scenarios that change what holds for all: policies,
/// settings, flags, the life of the controller.
pub(crate) fn world(controller_flags: &[&str]) -> Result<World> {
    World::new(WorldOptions {
        controller_flags: controller_flags.iter().map(|flag| (*flag).to_owned()).collect(),
        ..WorldOptions::default()
    })
}

/// A world in which the listing is quick.
pub(crate) fn quick_world() -> Result<World> {
    world(&["--resync-interval=1s"])
}

/// The condition of this type; null where there is none.
pub(crate) fn condition<'o>(binding: &'o Value, kind: &str) -> &'o Value {
    let conditions = binding["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().find(|condition| condition["type"] == kind).unwrap_or(&Value::Null)
}

/// The status (`True`, `False`, `Unknown`) of a condition; empty where there is none.
pub(crate) fn truth<'o>(binding: &'o Value, kind: &str) -> &'o str {
    condition(binding, kind)["status"].as_str().unwrap_or_default()
}

/// The reason of `Ready`.
pub(crate) fn reason(binding: &Value) -> &str {
    condition(binding, "Ready")["reason"].as_str().unwrap_or_default()
}

/// The message of `Ready`.
pub(crate) fn message(binding: &Value) -> &str {
    condition(binding, "Ready")["message"].as_str().unwrap_or_default()
}

/// Whether our finalizer is on the object.
pub(crate) fn is_held(binding: &Value) -> bool {
    binding["metadata"]["finalizers"].as_array().is_some_and(|all| all.iter().any(|name| name == FINALIZER))
}

/// Whether the status speaks of the newest spec.
pub(crate) fn is_observed(binding: &Value) -> bool {
    binding["status"]["observedGeneration"] == binding["metadata"]["generation"]
}

/// What a person does with bindings and sees of them.
pub(crate) trait Story {
    /// Changes fields of `spec` (a merge patch).
    fn edit(&self, binding: &str, spec: Value) -> Result<Value>;
    /// Exchanges `spec.instanceProfile` as a whole.
    fn choose(&self, binding: &str, profile: Value) -> Result<Value>;
    /// Sets an annotation.
    fn annotate(&self, binding: &str, name: &str, value: &str) -> Result<Value>;
    /// Asks for a fresh look; returns the value that is to be echoed.
    fn ask(&self, binding: &str) -> Result<String>;
    /// Waits as long as a settle time or a back-off may take.
    fn patiently(&self, binding: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value>;
    /// Waits until `Ready` has this reason for the newest spec.
    fn reaches(&self, binding: &str, reason: &str) -> Result<Value>;
    /// Waits until the object is gone, however long that may rightly take.
    fn vanishes(&self, binding: &str) -> Result<()>;
    /// Waits for the first Event of this reason.
    fn event(&self, binding: &str, reason: &str) -> Result<Value>;
    /// The changes that EC2 carried out on an instance, in order.
    fn changes(&self, instance: &str) -> Result<Vec<String>>;
    /// Waits until EC2 holds this profile (or none).
    fn carries(&self, instance: &str, profile: Option<&str>) -> Result<()>;
    /// Waits until the controller has listed the associations `passes` times more.
    fn passes(&self, passes: usize) -> Result<()>;
}

impl Story for Scenario<'_> {
    fn edit(&self, binding: &str, spec: Value) -> Result<Value> {
        self.world().control_plane().api().merge(&self.path(binding), &json!({"spec": spec}))
    }

    fn choose(&self, binding: &str, profile: Value) -> Result<Value> {
        let mut choice = json!({"name": null, "arn": null, "roleName": null, "none": null});
        for (member, value) in profile.as_object().into_iter().flatten() {
            choice[member] = value.clone();
        }
        self.edit(binding, json!({"instanceProfile": choice}))
    }

    fn annotate(&self, binding: &str, name: &str, value: &str) -> Result<Value> {
        let patch = json!({"metadata": {"annotations": {name: value}}});
        self.world().control_plane().api().merge(&self.path(binding), &patch)
    }

    fn ask(&self, binding: &str) -> Result<String> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos().to_string();
        self.annotate(binding, REQUESTED_AT, &now)?;
        Ok(now)
    }

    fn patiently(&self, binding: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let outcome = eventually_ok(&format!("{binding}: {what}"), PATIENCE, || {
            let object = self.binding(binding)?;
            ensure!(wanted(&object), "{:#}", object["status"]);
            Ok(object)
        });
        outcome.map_err(|error| told(self, &error))
    }

    fn reaches(&self, binding: &str, wanted: &str) -> Result<Value> {
        self.patiently(binding, &format!("reaches {wanted}"), |object| {
            is_observed(object) && reason(object) == wanted
        })
    }

    fn vanishes(&self, binding: &str) -> Result<()> {
        let outcome = eventually_ok(&format!("{binding} is gone"), PATIENCE, || {
            match self.world().control_plane().api().find(&self.path(binding))? {
                None => Ok(()),
                Some(object) => Err(anyhow!("{:#}", object["status"])),
            }
        });
        outcome.map_err(|error| told(self, &error))
    }

    fn event(&self, binding: &str, reason: &str) -> Result<Value> {
        let outcome =
            eventually_ok(&format!("an Event {reason} about {binding}"), Duration::from_secs(20), || {
                let events = self.events(binding)?;
                let told: Vec<String> = events.iter().map(|event| event["reason"].to_string()).collect();
                events
                    .into_iter()
                    .find(|event| event["reason"] == reason)
                    .with_context(|| format!("Events told: {told:?}"))
            });
        outcome.map_err(|error| told(self, &error))
    }

    fn changes(&self, instance: &str) -> Result<Vec<String>> {
        let writes = self.sandbox().writes_to(instance)?;
        Ok(writes.into_iter().filter(|call| call.result == "ok").map(|call| call.action).collect())
    }

    fn carries(&self, instance: &str, profile: Option<&str>) -> Result<()> {
        let outcome = eventually_ok(&format!("{instance} carries {profile:?}"), PATIENCE, || {
            let found = self.sandbox().profile_of(instance)?;
            ensure!(found.as_deref() == profile, "it carries {found:?}");
            Ok(())
        });
        outcome.map_err(|error| told(self, &error))
    }

    fn passes(&self, passes: usize) -> Result<()> {
        let sandbox = self.sandbox();
        let since = sandbox.last_call()?;
        eventually_ok(&format!("{passes} passes over all bindings"), PATIENCE, || {
            let calls = sandbox.calls_since(since)?;
            // A look at a single instance is no pass: those name fewer than the listing does.
            let most = calls.iter().map(names_listed).max().unwrap_or_default();
            let listings = calls.iter().filter(|call| names_listed(call) * 2 > most).count();
            ensure!(listings >= passes, "{listings} were made");
            Ok(())
        })
    }
}

/// How many instances a listing of associations asks for; 0 for any other call.
pub(crate) fn names_listed(call: &world::Call) -> usize {
    if call.action != "DescribeIamInstanceProfileAssociations" {
        return 0;
    }
    call.params.keys().filter(|name| name.starts_with("Filter.") && name.contains(".Value.")).count()
}

/// A failure together with what the controller's log says of this scenario.
fn told(scenario: &Scenario<'_>, error: &anyhow::Error) -> anyhow::Error {
    let printed = scenario.world().controller().map(|controller| controller.process().printed());
    let here = format!("{}/", scenario.namespace());
    let log: Vec<String> =
        printed.unwrap_or_default().lines().filter(|line| line.contains(&here)).map(str::to_owned).collect();
    let newest = log.get(log.len().saturating_sub(15)..).unwrap_or_default().join("\n");
    anyhow!("{error:#}\n--- the controller's log of {here}\n{newest}")
}

/// Waits for the next second of the clock: objects made before and after it differ in age.
pub(crate) fn a_second_later() -> Result<()> {
    let second = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map(|now| now.as_secs());
    let began = second()?;
    eventually_ok("the next second", Duration::from_secs(5), || {
        ensure!(second()? > began, "still the same");
        Ok(())
    })
}

/// Runs `aws` with these words, in the hands of somebody who is not the controller.
pub(crate) fn aws(scenario: &Scenario<'_>, words: &str) -> Result<Value> {
    scenario.sandbox().aws_cli().run(&words.split_whitespace().collect::<Vec<_>>())
}
