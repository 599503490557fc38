//! `deploy/samples`, one story for each: what stands in its head is what happens.

use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow};
use serde_json::{Value, json};
use world::{ACCOUNT, Sandbox, World, eventually_ok, repository};

use crate::stage::{
    ASSOCIATE, DISASSOCIATE, REPLACE, condition, is_held, is_observed, message, reason, truth,
};

const NAMESPACE: &str = "instance-role-demo";

/// A sample with its stage set as its annotations say, applied as its reader would.
struct Sample {
    world: &'static World,
    name: String,
    instance: String,
}

impl Sample {
    fn apply(file: &str) -> Result<Self> {
        let world = World::shared()?;
        namespace_and_grant(world)?;
        let path = repository().join("deploy/samples").join(file);
        let manifest: Value = serde_yaml::from_str(&std::fs::read_to_string(&path)?)?;
        let at = |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let before =
            |name: &str| at(&format!("/metadata/annotations/demo.instancerole.dev~1{name}")).to_owned();
        let instance = at("/spec/instanceId").to_owned();
        let sandbox = world.sandbox();
        if let Some(name) = manifest.pointer("/spec/instanceProfile/name").and_then(Value::as_str) {
            sandbox.profile(name)?;
        }
        match before("profile-before").as_str() {
            "" => {}
            name => drop(sandbox.profile(name)?),
        }
        if before("instance-state") != "absent" {
            launch(sandbox, &instance, &before("instance-state"), &before("profile-before"))?;
        }
        world.control_plane().admin().run(&["apply", "-f", &path.to_string_lossy()])?;
        Ok(Self { world, name: at("/metadata/name").to_owned(), instance })
    }

    fn path(&self) -> String {
        let name = &self.name;
        format!("/apis/instancerole.dev/v1alpha1/namespaces/{NAMESPACE}/instancerolebindings/{name}")
    }

    fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        eventually_ok(&format!("{}: {what}", self.name), std::time::Duration::from_secs(60), || {
            let found = self.world.control_plane().api().get(&self.path())?;
            if wanted(&found) { Ok(found) } else { Err(anyhow!("{:#}", found["status"])) }
        })
    }

    /// Waits until `Ready` is True for this reason.
    fn ready(&self, of: &str) -> Result<Value> {
        self.until(&format!("Ready, {of}"), |found| {
            is_observed(found) && truth(found, "Ready") == "True" && reason(found) == of
        })
    }

    fn changes(&self) -> Result<Vec<String>> {
        let writes = self.world.sandbox().writes_to(&self.instance)?;
        Ok(writes.into_iter().filter(|call| call.result == "ok").map(|call| call.action).collect())
    }

    fn profile(&self) -> Result<Option<String>> {
        self.world.sandbox().profile_of(&self.instance)
    }

    fn start(&self) -> Result<()> {
        let ec2 = ["ec2", "start-instances", "--instance-ids", &self.instance];
        self.world.sandbox().aws_cli().run(&ec2).map(drop)
    }
}

/// What stands before all samples: their namespace, and the grant without which none of them does anything.
fn namespace_and_grant(world: &World) -> Result<()> {
    static MADE: OnceLock<Result<(), String>> = OnceLock::new();
    let make = || {
        ["00-namespace.yaml", "00-grant.yaml"].into_iter().try_for_each(|file| {
            let path = repository().join("deploy/samples").join(file);
            world.control_plane().admin().run(&["apply", "-f", &path.to_string_lossy()]).map(drop)
        })
    };
    MADE.get_or_init(|| make().map_err(|error| format!("{error:#}"))).clone().map_err(|error| anyhow!(error))
}

fn launch(sandbox: &Sandbox, instance: &str, state: &str, profile: &str) -> Result<()> {
    let profile = (!profile.is_empty()).then_some(profile);
    sandbox.add_instances(&json!({"ids": [instance], "state": state, "profile": profile})).map(drop)
}

fn arn(name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:instance-profile/{name}")
}

#[test]
fn attach_to_a_running_instance_by_name() -> Result<()> {
    let sample = Sample::apply("01-attach-to-running-by-name.yaml")?;
    let binding = sample.ready("Associated")?;
    assert_eq!(sample.profile()?, Some(arn("demo-web")));
    assert_eq!(sample.changes()?, [ASSOCIATE]);
    assert!(is_held(&binding), "deletion has work to do");
    let status = &binding["status"];
    assert_eq!(status["profile"], "demo-web");
    assert_eq!(status["desired"], json!({"profileArn": arn("demo-web")}));
    assert_eq!(status["previous"], json!({"none": true}));
    assert_eq!(status["adopted"], true);
    assert_eq!((&status["region"], &status["account"]), (&json!("eu-west-1"), &json!(ACCOUNT)));
    assert_eq!((&status["mode"], &status["deletionPolicy"]), (&json!("Enforce"), &json!("Detach")));
    assert_eq!(status["plan"], Value::Null, "nothing is due");
    let change = &status["changes"][0];
    assert_eq!(change["operation"], ASSOCIATE);
    assert_eq!((&change["from"], &change["to"]), (&json!("none"), &json!(arn("demo-web"))));
    let call = sample.world.sandbox().writes_to(&sample.instance)?.remove(0);
    assert_eq!(change["requestId"], call.request_id, "the same as in EC2's own journal");
    assert_eq!(truth(&binding, "Synced"), "True");
    assert_eq!(condition(&binding, "Reconciling"), &Value::Null);
    assert_eq!(condition(&binding, "Stalled"), &Value::Null);
    assert_eq!(condition(&binding, "Authorized")["reason"], "Granted");
    assert_eq!(status["grant"], "instance-role-demo", "deploy/samples/00-grant.yaml");
    Ok(())
}

#[test]
fn attach_to_a_stopped_instance_by_arn() -> Result<()> {
    let file = "02-attach-to-stopped-by-arn.yaml";
    World::shared()?.sandbox().add_profile(&json!({"name": "demo-batch", "path": "/managed/"}))?;
    let sample = Sample::apply(file)?;
    let attaching = sample.until("Associating, told by EC2", |found| {
        found["status"]["observed"]["associationState"] == "associating" && reason(found) == "Associating"
    })?;
    assert_eq!(truth(&attaching, "Ready"), "False");
    assert_eq!(truth(&attaching, "Reconciling"), "True");
    assert_eq!(attaching["status"]["observed"]["profileArn"], arn("managed/demo-batch"));
    sample.start()?;
    let binding = sample.ready("Associated")?;
    assert_eq!(binding["status"]["observed"]["associationState"], "associated");
    assert_eq!(binding["status"]["profile"], "demo-batch");
    assert_eq!(sample.changes()?, [ASSOCIATE]);
    Ok(())
}

#[test]
fn a_role_whose_profile_has_another_name() -> Result<()> {
    World::shared()?
        .sandbox()
        .add_profile(&json!({"name": "demo-reporting-profile", "roleName": "demo-reporting-role"}))?;
    let sample = Sample::apply("03-role-name-differs-from-profile-name.yaml")?;
    let binding = sample.ready("Associated")?;
    assert_eq!(binding["status"]["profile"], "demo-reporting-profile");
    assert_eq!(sample.profile()?, Some(arn("demo-reporting-profile")));
    assert_eq!(sample.changes()?, [ASSOCIATE]);
    Ok(())
}

#[test]
fn attach_at_launch() -> Result<()> {
    let sample = Sample::apply("04-attach-at-launch.yaml")?;
    let awaiting = sample.until("InstanceNotFound", |found| reason(found) == "InstanceNotFound")?;
    assert_eq!(truth(&awaiting, "Reconciling"), "True", "{:#}", awaiting["status"]);
    assert!(message(&awaiting).contains(&sample.instance), "{}", message(&awaiting));
    assert_eq!(condition(&awaiting, "Stalled"), &Value::Null);
    launch(sample.world.sandbox(), &sample.instance, "pending", "")?;
    sample.ready("Associated")?;
    assert_eq!(sample.profile()?, Some(arn("demo-web")));
    assert_eq!(sample.changes()?, [ASSOCIATE]);
    Ok(())
}

#[test]
fn replace_on_a_running_instance_without_a_gap() -> Result<()> {
    let sample = Sample::apply("05-replace-on-running.yaml")?;
    let binding = sample.ready("Associated")?;
    assert_eq!(sample.profile()?, Some(arn("demo-web")));
    assert_eq!(sample.changes()?, [REPLACE], "Replace alone, and no Disassociate");
    let writes = sample.world.sandbox().writes_to(&sample.instance)?;
    assert_eq!(writes.len(), 1, "exactly one, refused ones included: {writes:?}");
    assert_eq!(sample.world.sandbox().gaps(&sample.instance)?, [], "never without credentials");
    assert_eq!(binding["status"]["previous"], json!({"profileArn": arn("demo-old")}));
    assert_eq!(binding["status"]["changes"][0]["from"], arn("demo-old"));
    let old = writes.first().and_then(|call| call.params.get("AssociationId")).cloned();
    assert_ne!(Some(&binding["status"]["observed"]["associationId"]), old.as_ref(), "a new association id");
    Ok(())
}

#[test]
fn replace_on_a_stopped_instance_detaches_then_attaches() -> Result<()> {
    let sample = Sample::apply("06-replace-on-stopped.yaml")?;
    sample.until("attaching", |found| found["status"]["observed"]["profileArn"] == arn("demo-web"))?;
    assert_eq!(sample.changes()?, [DISASSOCIATE, ASSOCIATE]);
    assert_eq!(sample.profile()?, Some(arn("demo-web")));
    sample.start()?;
    let binding = sample.ready("Associated")?;
    let operations: Vec<&Value> =
        binding["status"]["changes"].as_array().context("changes")?.iter().map(|c| &c["operation"]).collect();
    assert_eq!(operations, [ASSOCIATE, DISASSOCIATE], "newest first");
    assert_eq!(binding["status"]["previous"], json!({"profileArn": arn("demo-old")}));
    Ok(())
}

#[test]
fn detach_from_a_running_instance() -> Result<()> {
    let sample = Sample::apply("07-detach-from-running.yaml")?;
    let binding = sample.ready("Disassociated")?;
    assert_eq!(sample.profile()?, None);
    assert_eq!(sample.changes()?, [DISASSOCIATE]);
    assert_eq!(binding["status"]["profile"], "none");
    assert_eq!(binding["status"]["desired"], json!({"none": true}));
    assert_eq!(binding["status"]["observed"], Value::Null);
    Ok(())
}

#[test]
fn detach_from_a_stopped_instance() -> Result<()> {
    let sample = Sample::apply("08-detach-from-stopped.yaml")?;
    sample.ready("Disassociated")?;
    assert_eq!(sample.profile()?, None);
    assert_eq!(sample.changes()?, [DISASSOCIATE]);
    Ok(())
}

#[test]
fn describe_shows_what_ec2_holds_and_touches_nothing() -> Result<()> {
    let sample = Sample::apply("09-describe.yaml")?;
    let binding = sample.ready("Associated")?;
    let row = sample.world.sandbox().truth(&sample.instance)?["rows"][0].clone();
    let observed = &binding["status"]["observed"];
    assert_eq!(observed["associationId"], row["associationId"]);
    assert_eq!(observed["associationState"], "associated");
    assert_eq!(observed["profileArn"], row["profileArn"]);
    assert_eq!(observed["profileId"], row["profileId"]);
    assert_eq!(binding["status"]["mode"], "Observe");
    assert!(!is_held(&binding), "deletion has nothing to do");
    sample.world.control_plane().api().delete(&sample.path())?;
    assert_eq!(sample.world.control_plane().api().find(&sample.path())?, None, "gone at once");
    assert_eq!(sample.world.sandbox().writes_to(&sample.instance)?, [], "only reads, now and later");
    Ok(())
}

#[test]
fn deleting_the_object_detaches() -> Result<()> {
    let sample = Sample::apply("10-deletion-detaches.yaml")?;
    assert!(is_held(&sample.ready("Associated")?));
    let (binding, namespace) = (format!("irb/{}", sample.name), format!("--namespace={NAMESPACE}"));
    // Waits until the finalizer is gone, as it does for a person.
    sample.world.control_plane().admin().run(&["delete", &binding, &namespace, "--timeout=60s"])?;
    assert_eq!(sample.profile()?, None, "EC2 has let go before the object went");
    assert_eq!(sample.changes()?, [ASSOCIATE, DISASSOCIATE]);
    Ok(())
}
