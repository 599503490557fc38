//! One test's corner of a world: a namespace, and what a test does there again and again.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::eventually::eventually_ok;
use crate::sandbox::Sandbox;
use crate::together::World;

/// How long a test waits for what should take less than a second; two cores may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(20);

/// A namespace of a [`World`].
#[derive(Debug)]
pub struct Scenario<'w> {
    world: &'w World,
    namespace: String,
}

impl<'w> Scenario<'w> {
    pub(crate) fn new(world: &'w World, namespace: String) -> Self {
        Self { world, namespace }
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The world around it.
    pub fn world(&self) -> &'w World {
        self.world
    }

    /// EC2.
    pub fn sandbox(&self) -> &'w Sandbox {
        self.world.sandbox()
    }

    /// The API path of a binding.
    pub fn path(&self, binding: &str) -> String {
        let namespace = &self.namespace;
        format!("/apis/instancerole.dev/v1alpha1/namespaces/{namespace}/instancerolebindings/{binding}")
    }

    /// Applies a binding with this `spec`, as a GitOps tool would (server-side apply).
    ///
    /// # Errors
    /// The API server refuses; its words are told.
    pub fn apply(&self, binding: &str, spec: &Value) -> Result<Value> {
        self.world.control_plane().api().apply(
            &self.path(binding),
            &json!({
                "apiVersion": "instancerole.dev/v1alpha1",
                "kind": "InstanceRoleBinding",
                "metadata": {"name": binding},
                "spec": spec,
            }),
        )
    }

    /// Applies a binding of this instance to this `instanceProfile`, such as `{"name": "app"}` or `{"none": {}}`.
    ///
    /// # Errors
    /// The API server refuses; its words are told.
    pub fn bind(&self, binding: &str, instance: &str, profile: &Value) -> Result<Value> {
        self.apply(binding, &json!({"instanceId": instance, "instanceProfile": profile}))
    }

    /// A binding as it is now.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn binding(&self, binding: &str) -> Result<Value> {
        self.world.control_plane().api().get(&self.path(binding))
    }

    /// Deletes a binding; a finalizer may keep it for a while.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn delete(&self, binding: &str) -> Result<()> {
        self.world.control_plane().api().delete(&self.path(binding)).map(drop)
    }

    /// Waits, for 20 seconds at most, until a binding is as `wanted` says; `what` tells a person what that is.
    ///
    /// # Errors
    /// It is not; its conditions and the end of the controller's log are told.
    pub fn wait_until(&self, binding: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        self.wait_until_within(PATIENCE, binding, what, wanted)
    }

    /// The same with a limit of the caller's own.
    ///
    /// # Errors
    /// As for [`wait_until`](Self::wait_until).
    pub fn wait_until_within(
        &self,
        within: Duration,
        binding: &str,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let outcome = eventually_ok(&format!("{binding}: {what}"), within, || {
            let object = self.binding(binding)?;
            ensure!(wanted(&object), "{}", summary(&object));
            Ok(object)
        });
        outcome.with_context(|| self.log_tail())
    }

    /// Waits until `Ready` is True for the newest generation.
    ///
    /// # Errors
    /// It does not become so; its conditions and the end of the controller's log are told.
    pub fn wait_until_ready(&self, binding: &str) -> Result<Value> {
        self.wait_until(binding, "is Ready", |object| {
            is_observed(object) && condition(object, "Ready").is_some_and(|ready| ready["status"] == "True")
        })
    }

    /// Waits until the condition `of` has this reason for the newest generation.
    ///
    /// # Errors
    /// It does not become so; its conditions and the end of the controller's log are told.
    pub fn wait_for_reason(&self, binding: &str, of: &str, reason: &str) -> Result<Value> {
        self.wait_until(binding, &format!("{of} has the reason {reason}"), |object| {
            is_observed(object) && condition(object, of).is_some_and(|found| found["reason"] == reason)
        })
    }

    /// Waits until a binding is gone from the API server.
    ///
    /// # Errors
    /// It is still there; its conditions and the end of the controller's log are told.
    pub fn wait_until_gone(&self, binding: &str) -> Result<()> {
        let outcome = eventually_ok(&format!("{binding} is gone"), PATIENCE, || {
            let object = self.world.control_plane().api().find(&self.path(binding))?;
            ensure!(object.is_none(), "{}", summary(&object.unwrap_or_default()));
            Ok(())
        });
        outcome.with_context(|| self.log_tail())
    }

    /// The Events about a binding, in the order of their first appearance.
    ///
    /// # Errors
    /// The API server does not answer.
    pub fn events(&self, binding: &str) -> Result<Vec<Value>> {
        let path = format!("/apis/events.k8s.io/v1/namespaces/{}/events", self.namespace);
        let mut list = self.world.control_plane().api().get(&path)?;
        let items = list.get_mut("items").map(Value::take).unwrap_or_default();
        let mut events: Vec<Value> = serde_json::from_value(items)?;
        events.retain(|event| event["regarding"]["name"] == binding);
        events.sort_by_key(|event| event["eventTime"].as_str().unwrap_or_default().to_owned());
        Ok(events)
    }

    fn log_tail(&self) -> String {
        self.world.controller().map(|controller| controller.process().log_tail(25)).unwrap_or_default()
    }
}

/// A condition of an object, by its type.
pub fn condition<'o>(object: &'o Value, kind: &str) -> Option<&'o Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// Whether the status speaks of the newest spec.
fn is_observed(object: &Value) -> bool {
    object["status"]["observedGeneration"] == object["metadata"]["generation"]
}

/// The conditions of an object on one line each, for the text of a failure.
fn summary(object: &Value) -> String {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let mut text = format!(
        "generation {}, observed {}, deleted {}",
        object["metadata"]["generation"],
        object["status"]["observedGeneration"],
        object["metadata"]["deletionTimestamp"],
    );
    for condition in conditions {
        let [kind, status, reason, message] =
            ["type", "status", "reason", "message"].map(|field| condition[field].as_str().unwrap_or("?"));
        text.push_str(&format!("\n  {kind}={status} {reason}: {message}"));
    }
    text
}
