//! The requests to the API server. Its writes are a finalizer and a status; each carries the resourceVersion of the object that was
//! judged, so a newer object refuses them, and the pass begins anew.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Resource, ResourceExt};
use serde_json::{Value, json};

use super::bindings::Key;
use super::grants::NamespaceMeta;
use super::trail;
use crate::api::binding::InstanceRoleBindingStatus;
use crate::api::condition::ConditionType;
use crate::api::{FINALIZER, InstanceRoleBinding, InstanceRoleGrant};
use crate::lease::{Closed, Fence};
use crate::telemetry::Metrics;

/// The field manager of what we write. It never changes: fields belong to it.
const MANAGER: &str = "instance-role-controller";
/// How long a request may take.
const REQUEST: Duration = Duration::from_secs(15);

/// A write that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The object has changed since it was judged, or is gone: look again.
    #[error("the object has changed in the meantime")]
    Conflict,
    /// This process does not lead any more.
    #[error(transparent)]
    NotLeading(#[from] Closed),
    /// The API server did not answer in time.
    #[error("the API server did not answer within {REQUEST:?}")]
    Timeout,
    /// It answered with an error.
    #[error(transparent)]
    Refused(#[from] kube::Error),
}

/// The API server.
#[derive(Clone)]
pub struct Kubernetes {
    client: Client,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Kubernetes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kubernetes")
    }
}

impl Kubernetes {
    /// Writes by this client.
    pub fn new(client: Client, metrics: Arc<Metrics>) -> Self {
        Self { client, metrics }
    }

    /// Brings the status of `judged` to `status`. The object as the API server has it then.
    pub async fn patch_status(
        &self,
        fence: &Fence,
        judged: &InstanceRoleBinding,
        status: &InstanceRoleBindingStatus,
    ) -> Result<InstanceRoleBinding, Error> {
        let (object, _) = self.note_intent(fence, judged, status).await?;
        Ok(object)
    }

    /// The same before a write to EC2: with the object comes who declared what is to be written.
    pub async fn note_intent(
        &self,
        fence: &Fence,
        judged: &InstanceRoleBinding,
        status: &InstanceRoleBindingStatus,
    ) -> Result<(InstanceRoleBinding, Option<String>), Error> {
        let mut written = self.apply_status(fence, judged, status).await?;
        let declarer = trail::declarer(&written);
        trim(&mut written);
        Ok((written, declarer))
    }

    async fn apply_status(
        &self,
        fence: &Fence,
        judged: &InstanceRoleBinding,
        status: &InstanceRoleBindingStatus,
    ) -> Result<InstanceRoleBinding, Error> {
        let key = Key::of(judged);
        let body = json!({
            "apiVersion": InstanceRoleBinding::api_version(&()),
            "kind": InstanceRoleBinding::kind(&()),
            "metadata": {"name": key.name, "namespace": key.namespace, "resourceVersion": judged.metadata.resource_version},
            "status": status,
        });
        let api = self.api(&key);
        let params = PatchParams::apply(MANAGER).force();
        let written = self.patch(fence, api.patch_status(&key.name, &params, &Patch::Apply(&body))).await?;
        match strays(&written, status) {
            Value::Null => Ok(written),
            // Server-side apply cannot take away what another manager left: that needs a patch by position.
            patch => {
                let patch: json_patch::Patch =
                    serde_json::from_value(patch).map_err(kube::Error::SerdeError)?;
                let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
                self.patch(fence, api.patch_status(&key.name, &params, &Patch::<()>::Json(patch))).await
            }
        }
    }

    /// Adds our finalizer.
    pub async fn add_finalizer(
        &self,
        fence: &Fence,
        judged: &InstanceRoleBinding,
    ) -> Result<InstanceRoleBinding, Error> {
        let all: Vec<&str> = judged.finalizers().iter().map(String::as_str).chain([FINALIZER]).collect();
        self.set_finalizers(fence, judged, &all).await
    }

    /// Removes our finalizer.
    pub async fn remove_finalizer(
        &self,
        fence: &Fence,
        judged: &InstanceRoleBinding,
    ) -> Result<InstanceRoleBinding, Error> {
        let others: Vec<&str> =
            judged.finalizers().iter().map(String::as_str).filter(|f| *f != FINALIZER).collect();
        self.set_finalizers(fence, judged, &others).await
    }

    async fn set_finalizers(
        &self,
        fence: &Fence,
        judged: &InstanceRoleBinding,
        finalizers: &[&str],
    ) -> Result<InstanceRoleBinding, Error> {
        let key = Key::of(judged);
        let body = json!({"metadata": {"resourceVersion": judged.metadata.resource_version, "finalizers": finalizers}});
        let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
        let mut object =
            self.patch(fence, self.api(&key).patch(&key.name, &params, &Patch::Merge(&body))).await?;
        trim(&mut object);
        Ok(object)
    }

    fn api(&self, key: &Key) -> Api<InstanceRoleBinding> {
        Api::namespaced(self.client.clone(), &key.namespace)
    }

    /// A grant as the API server has it now.
    pub async fn grant(&self, name: &str) -> Result<InstanceRoleGrant, Error> {
        self.request("GET", Api::all(self.client.clone()).get(name)).await
    }

    /// A namespace's metadata as the API server has it now.
    pub async fn namespace(&self, name: &str) -> Result<NamespaceMeta, Error> {
        self.request("GET", Api::<Namespace>::all(self.client.clone()).get_metadata(name)).await
    }

    async fn patch(
        &self,
        fence: &Fence,
        patch: impl Future<Output = Result<InstanceRoleBinding, kube::Error>>,
    ) -> Result<InstanceRoleBinding, Error> {
        fence.check()?;
        self.request("PATCH", patch).await
    }

    async fn request<T>(
        &self,
        method: &'static str,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Error> {
        let result = tokio::time::timeout(REQUEST, request).await;
        let status = match &result {
            Ok(Ok(_)) => Some(200),
            Ok(Err(kube::Error::Api(status))) => Some(status.code),
            Ok(Err(_)) | Err(_) => None,
        };
        self.metrics.kubernetes_request(method, status);
        match result {
            Ok(Ok(object)) => Ok(object),
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => Err(Error::Conflict),
            Ok(Err(error)) => Err(Error::Refused(error)),
            Err(_) => Err(Error::Timeout),
        }
    }
}

/// Drops what nobody here reads: it is more than half of an object's memory.
pub fn trim(binding: &mut InstanceRoleBinding) {
    binding.metadata.managed_fields = None;
    binding.metadata.labels = None;
    if let Some(annotations) = &mut binding.metadata.annotations {
        annotations.retain(|name, _| name.starts_with("instancerole.dev/"));
        if annotations.is_empty() {
            binding.metadata.annotations = None;
        }
    }
    // Lists are read with room to grow; ten thousand of them never do.
    if let Some(finalizers) = &mut binding.metadata.finalizers {
        finalizers.shrink_to_fit();
    }
    if let Some(status) = &mut binding.status {
        status.conditions.shrink_to_fit();
        status.changes.shrink_to_fit();
    }
}

/// A JSON patch that removes conditions of our types which `wanted` does not have; null if there are none.
fn strays(written: &InstanceRoleBinding, wanted: &InstanceRoleBindingStatus) -> Value {
    let there = written.status.iter().flat_map(|s| s.conditions.iter()).enumerate();
    let ours = |type_: &str| ConditionType::ALL.iter().any(|t| t.as_str() == type_);
    let mut stray: Vec<(usize, &str)> = there
        .filter(|(_, c)| ours(&c.type_) && wanted.conditions.iter().all(|w| w.type_ != c.type_))
        .map(|(at, c)| (at, c.type_.as_str()))
        .collect();
    if stray.is_empty() {
        return Value::Null;
    }
    stray.reverse();
    let mut patch = vec![
        json!({"op": "test", "path": "/metadata/resourceVersion", "value": written.metadata.resource_version}),
    ];
    for (at, type_) in stray {
        patch.push(json!({"op": "test", "path": format!("/status/conditions/{at}/type"), "value": type_}));
        patch.push(json!({"op": "remove", "path": format!("/status/conditions/{at}")}));
    }
    Value::Array(patch)
}
