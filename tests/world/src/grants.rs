//! Grants, and what they hang on: the labels of namespaces.

use anyhow::Result;
use serde_json::{Value, json};

use crate::aws::{ACCOUNT, REGION};
use crate::scenario::Scenario;
use crate::together::World;

/// The wide grant that a world begins with: whoever tests something else than grants need not think of them.
pub const EVERYTHING: &str = "everything";

/// The label of the namespaces that [`EVERYTHING`] covers.
pub const GRANTED: &str = "world.instancerole.dev/granted";

/// A second Region that [`EVERYTHING`] names.
pub const OTHER_REGION: &str = "eu-central-1";

pub(crate) fn everything() -> Value {
    json!({
        "namespaces": {"selector": {"matchLabels": {GRANTED: "true"}}},
        "instanceProfiles": [format!("arn:aws:iam::{ACCOUNT}:instance-profile/*")],
        "instances": {"regions": [REGION, OTHER_REGION]},
    })
}

pub(crate) fn grant_path(name: &str) -> String {
    format!("/apis/instancerole.dev/v1alpha1/instancerolegrants/{name}")
}

pub(crate) fn grant_object(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "instancerole.dev/v1alpha1",
        "kind": "InstanceRoleGrant",
        "metadata": {"name": name},
        "spec": spec,
    })
}

impl World {
    /// Applies a grant with this `spec`, as an administrator's GitOps tool would; what a former `spec` had more goes.
    ///
    /// # Errors
    /// The API server refuses; its words are told.
    pub fn grant(&self, name: &str, spec: &Value) -> Result<Value> {
        self.control_plane().api().apply(&grant_path(name), &grant_object(name, spec))
    }

    /// Changes fields of a grant's `spec` (a merge patch).
    ///
    /// # Errors
    /// There is none of this name, or the API server refuses.
    pub fn edit_grant(&self, name: &str, spec: &Value) -> Result<Value> {
        self.control_plane().api().merge(&grant_path(name), &json!({"spec": spec}))
    }

    /// Deletes a grant.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn revoke(&self, name: &str) -> Result<()> {
        self.control_plane().api().delete(&grant_path(name)).map(drop)
    }
}

impl Scenario<'_> {
    /// The name of a grant of this scenario: grants are in no namespace, so each test prefixes its own.
    pub fn grant_name(&self, name: &str) -> String {
        format!("{}.{name}", self.namespace())
    }

    /// Applies a grant for this namespace, for all that `spec` says beside; `spec` may name other namespaces.
    /// Returns its full name.
    ///
    /// # Errors
    /// The API server refuses; its words are told.
    pub fn grant(&self, name: &str, spec: &Value) -> Result<String> {
        let mut spec = spec.clone();
        if spec.get("namespaces").is_none() {
            spec["namespaces"] = json!({"names": [self.namespace()]});
        }
        let name = self.grant_name(name);
        self.world().grant(&name, &spec)?;
        Ok(name)
    }

    /// Changes fields of the `spec` of a grant of this scenario (a merge patch).
    ///
    /// # Errors
    /// There is none of this name, or the API server refuses.
    pub fn edit_grant(&self, name: &str, spec: &Value) -> Result<Value> {
        self.world().edit_grant(&self.grant_name(name), spec)
    }

    /// Deletes a grant of this scenario.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn revoke(&self, name: &str) -> Result<()> {
        self.world().revoke(&self.grant_name(name))
    }

    /// Gives this namespace a label, or takes one away (`None`).
    ///
    /// # Errors
    /// The API server refuses.
    pub fn label_namespace(&self, label: &str, value: Option<&str>) -> Result<()> {
        let path = format!("/api/v1/namespaces/{}", self.namespace());
        let patch = json!({"metadata": {"labels": {label: value}}});
        self.world().control_plane().api().merge(&path, &patch).map(drop)
    }
}
