//! Somebody asks for what nobody gave them.

use anyhow::Result;
use serde_json::json;

use super::Story;
use crate::samples::{NAMESPACE, Sample};
use crate::trial::{Ends, Trial};

const BINDING: &str = "what-was-not-granted";
const INSTANCE: &str = "i-0a1b2c3d4e5f60099";

impl Story<'_> {
    /// A binding of the same namespace asks for an administrator's profile.
    pub(super) fn ask_for_what_was_not_granted(&mut self) -> Result<()> {
        self.screen.step(
            "A binding that no grant covers",
            "Whoever may write bindings could otherwise hand an administrator's profile to an instance they can log in \
             to. deploy/samples/00-grant.yaml names the profiles of this namespace; admin/demo-admin is not among them. \
             The binding is told no more than that, whether there is such an instance or not.",
        );
        let sandbox = self.world.sandbox();
        let arn = sandbox.add_profile(&json!({"name": "demo-admin", "path": "/admin/"}))?;
        sandbox
            .add_instances(&json!({"ids": [INSTANCE], "state": "running", "profile": "demo-inventory"}))?;
        let manifest = json!({
            "apiVersion": "instancerole.dev/v1alpha1",
            "kind": "InstanceRoleBinding",
            "metadata": {"name": BINDING, "namespace": NAMESPACE},
            "spec": {"instanceId": INSTANCE, "instanceProfile": {"arn": arn}},
        });
        let file = self.world.scratch().join("what-was-not-granted.yaml");
        std::fs::write(&file, serde_yaml::to_string(&manifest)?)?;
        let trial = Trial {
            row: "no grant, no write",
            asked: "arn …/admin/demo-admin".to_owned(),
            sample: Sample {
                name: BINDING.to_owned(),
                instance: INSTANCE.to_owned(),
                asked: String::new(),
                state: "running".to_owned(),
                before: Some("demo-inventory".to_owned()),
                profile: None,
            },
            calls: &[],
            since: 0,
            ends: Ends::Refused("demo-inventory"),
        };
        self.kubectl(&["apply", "-f", &file.to_string_lossy()])?;
        let told = world::eventually("it is refused", super::PATIENCE, || {
            trial.is_reached(&self.world).ok().filter(|reached| *reached)
        });
        if let Err(error) = told {
            self.screen.bad(&format!("{error:#}"));
        }
        self.kubectl(&["get", "irb", BINDING, "-n", NAMESPACE])?;
        self.screen.gap();
        self.judge(&[trial])
    }
}
