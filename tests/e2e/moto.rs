//! moto, an EC2 that nobody here wrote, as a second opinion on the happy path.
//!
//! Where moto answers otherwise than EC2 (aws-semantics 5), the stories here say so by [`DIFFERENCES`] and nowhere
//! else; all other stories run on the sandbox alone, which is the stricter.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use world::{ACCOUNT, AwsCli, Controller, ControllerCommand, Moto, World, WorldOptions, eventually_ok};

use crate::stage::{is_observed, reason};

/// What moto 5.2 does otherwise, where these stories meet it, and what follows for them.
const DIFFERENCES: &[(&str, &str, &str)] = &[
    (
        "Replace returns the same association id",
        "a new one (CAP-T)",
        "the id after a Replace is not compared",
    ),
    (
        "DescribeInstances keeps the old profile after Replace",
        "it follows",
        "only associations are looked at",
    ),
    ("transient states only in a write's reply", "listed for seconds", "no story waits for `associating`"),
    (
        "Replace works on a stopped instance",
        "IncorrectState",
        "the swap is checked by its end, not by a refusal",
    ),
    (
        "DryRun is ignored and carries out",
        "DryRunOperation",
        "moto finds the association still there and refuses, which is no denial: the swap goes on",
    ),
    ("no gap can be seen", "the sandbox has a timeline", "`without a gap` is told by the sandbox alone"),
];

/// A controller that works on moto in a namespace of its own.
struct OnMoto {
    world: World,
    moto: Moto,
    controller: Controller,
    namespace: String,
}

impl OnMoto {
    fn start(name: &str) -> Result<Self> {
        let moto = Moto::start().context("moto is part of these tests: `make venv` installs it")?;
        let world = World::new(WorldOptions { without_controller: true, ..WorldOptions::default() })?;
        let namespace = world.scenario(name)?.namespace().to_owned();
        let plane = world.control_plane();
        let kubeconfig = plane.kubeconfig_for("instance-role-system", "instance-role-controller")?;
        let command = ControllerCommand::new(&kubeconfig, &moto.aws_env())
            .args([format!("--watch-namespace={namespace}"), "--resync-interval=1s".to_owned()]);
        let controller = command.start(world.scratch().path(), "on-moto")?;
        Ok(Self { world, moto, controller, namespace })
    }

    fn aws(&self, words: &str) -> Result<Value> {
        let cli: AwsCli = self.moto.aws_cli();
        cli.run(&words.split_whitespace().collect::<Vec<_>>())
    }

    fn profile(&self, name: &str) -> Result<()> {
        self.aws(&format!("iam create-role --role-name {name} --assume-role-policy-document {{}}"))?;
        self.aws(&format!("iam create-instance-profile --instance-profile-name {name}"))?;
        self.aws(&format!(
            "iam add-role-to-instance-profile --instance-profile-name {name} --role-name {name}"
        ))?;
        Ok(())
    }

    fn instance(&self) -> Result<String> {
        let made = self.aws("ec2 run-instances --image-id ami-12c6146b --count 1")?;
        let id = made.pointer("/Instances/0/InstanceId").and_then(Value::as_str);
        Ok(id.context("no instance id")?.to_owned())
    }

    fn apply(&self, binding: &str, spec: &Value) -> Result<()> {
        let object = json!({
            "apiVersion": "instancerole.dev/v1alpha1", "kind": "InstanceRoleBinding",
            "metadata": {"name": binding}, "spec": spec,
        });
        self.world.control_plane().api().apply(&self.path(binding), &object).map(drop)
    }

    fn path(&self, binding: &str) -> String {
        let namespace = &self.namespace;
        format!("/apis/instancerole.dev/v1alpha1/namespaces/{namespace}/instancerolebindings/{binding}")
    }

    fn reaches(&self, binding: &str, wanted: &str) -> Result<Value> {
        let what = format!("{binding} reaches {wanted}");
        let outcome = eventually_ok(&what, std::time::Duration::from_secs(60), || {
            let found = self.world.control_plane().api().get(&self.path(binding))?;
            ensure!(is_observed(&found) && reason(&found) == wanted, "{:#}", found["status"]);
            Ok(found)
        });
        outcome.with_context(|| self.controller.process().log_tail(20))
    }

    fn vanishes(&self, binding: &str) -> Result<()> {
        self.world.control_plane().api().delete(&self.path(binding))?;
        eventually_ok("it is gone", std::time::Duration::from_secs(60), || {
            let found = self.world.control_plane().api().find(&self.path(binding))?;
            ensure!(found.is_none(), "{:#}", found.unwrap_or_default()["status"]);
            Ok(())
        })
    }

    /// The profile that EC2 lists on an instance.
    fn carried(&self, instance: &str) -> Result<Option<String>> {
        let filter = format!("Name=instance-id,Values={instance}");
        let listed =
            self.aws(&format!("ec2 describe-iam-instance-profile-associations --filters {filter}"))?;
        let arn = listed.pointer("/IamInstanceProfileAssociations/0/IamInstanceProfile/Arn");
        Ok(arn.and_then(Value::as_str).map(str::to_owned))
    }
}

fn arn(name: &str) -> Option<String> {
    Some(format!("arn:aws:iam::{ACCOUNT}:instance-profile/{name}"))
}

#[test]
fn attach_replace_detach_and_delete_on_moto() -> Result<()> {
    assert!(DIFFERENCES.iter().all(|(moto, ec2, so)| !moto.is_empty() && !ec2.is_empty() && !so.is_empty()));
    let on = OnMoto::start("moto")?;
    on.profile("app")?;
    on.profile("next")?;
    let (i, stopped) = (on.instance()?, on.instance()?);

    on.apply("web", &json!({"instanceId": i, "instanceProfile": {"name": "app"}}))?;
    let attached = on.reaches("web", "Associated")?;
    assert_eq!(on.carried(&i)?, arn("app"));
    assert_eq!(attached["status"]["observed"]["profileArn"].as_str(), arn("app").as_deref());

    on.apply("web", &json!({"instanceId": i, "instanceProfile": {"roleName": "next"}}))?;
    let replaced = on.reaches("web", "Associated")?;
    assert_eq!(on.carried(&i)?, arn("next"));
    assert_eq!(replaced["status"]["changes"][0]["operation"], "ReplaceIamInstanceProfileAssociation");

    on.apply("web", &json!({"instanceId": i, "instanceProfile": {"none": {}}}))?;
    on.reaches("web", "Disassociated")?;
    assert_eq!(on.carried(&i)?, None);
    on.vanishes("web")?;

    // Attached to a stopped instance, exchanged there, and taken off by deletion.
    on.aws(&format!("ec2 stop-instances --instance-ids {stopped}"))?;
    on.apply("batch", &json!({"instanceId": stopped, "instanceProfile": {"name": "app"}}))?;
    on.reaches("batch", "Associated")?;
    assert_eq!(on.carried(&stopped)?, arn("app"));
    on.apply("batch", &json!({"instanceId": stopped, "instanceProfile": {"name": "next"}}))?;
    let swapped = on.reaches("batch", "Associated")?;
    assert_eq!(on.carried(&stopped)?, arn("next"));
    let operations: Vec<&Value> =
        swapped["status"]["changes"].as_array().into_iter().flatten().map(|c| &c["operation"]).collect();
    assert_eq!(operations[..2], ["AssociateIamInstanceProfile", "DisassociateIamInstanceProfile"]);
    on.vanishes("batch")?;
    assert_eq!(on.carried(&stopped)?, None);
    Ok(())
}

#[test]
fn drift_is_repaired_on_moto() -> Result<()> {
    let on = OnMoto::start("moto-drift")?;
    on.profile("app")?;
    on.profile("foreign")?;
    let i = on.instance()?;
    on.aws(&format!("ec2 associate-iam-instance-profile --instance-id {i} --iam-instance-profile Name=app"))?;
    on.apply("web", &json!({"instanceId": i, "instanceProfile": {"name": "app"}}))?;
    let binding = on.reaches("web", "Associated")?;
    let association = binding["status"]["observed"]["associationId"].as_str().context("id")?.to_owned();
    on.aws(&format!(
        "ec2 replace-iam-instance-profile-association --association-id {association} --iam-instance-profile Name=foreign"
    ))?;
    eventually_ok("it is put back", std::time::Duration::from_secs(60), || {
        let found = on.carried(&i)?;
        ensure!(found == arn("app"), "{found:?}");
        Ok(())
    })
}
