//! The requests to the API server. Its writes are a finalizer and a status; each carries the resourceVersion of the object that was
//! judged, so a newer object refuses them, and the pass begins anew.

use std::sync::Arc;
use std::time::Duration;

use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Resource, ResourceExt};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::bindings::Key;
use super::grants::NamespaceMeta;
use super::readable::Readable;
use super::trail;
use crate::api::binding::InstanceRoleBindingStatus;
use crate::api::condition::ConditionType;
use crate::api::{FINALIZER, FORCE_RELEASE, InstanceRoleBinding, InstanceRoleGrant, REQUESTED_AT};
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
        let mut written =
            self.patch(fence, api.patch_status(&key.name, &params, &Patch::Apply(&body))).await?;
        let strays = strays(&written, status);
        if !strays.is_null() {
            // Server-side apply cannot take away what another manager left: that needs a patch by position.
            let patch: json_patch::Patch = serde_json::from_value(strays).map_err(kube::Error::SerdeError)?;
            let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
            let patch = Patch::<()>::Json(patch);
            written = self.patch(fence, api.patch_status(&key.name, &params, &patch)).await?;
        }
        Ok(written)
    }

    /// Adds our finalizer.
    pub async fn add_finalizer(
        &self,
        fence: &Fence,
        judged: &InstanceRoleBinding,
    ) -> Result<InstanceRoleBinding, Error> {
        self.set_finalizers(fence, judged, |all| all.push(FINALIZER.to_owned())).await
    }

    /// Removes our finalizer.
    pub async fn remove_finalizer(
        &self,
        fence: &Fence,
        judged: &InstanceRoleBinding,
    ) -> Result<InstanceRoleBinding, Error> {
        self.set_finalizers(fence, judged, |all| all.retain(|finalizer| finalizer != FINALIZER)).await
    }

    async fn set_finalizers(
        &self,
        fence: &Fence,
        judged: &InstanceRoleBinding,
        change: impl FnOnce(&mut Vec<String>),
    ) -> Result<InstanceRoleBinding, Error> {
        let key = Key::of(judged);
        let mut finalizers = judged.finalizers().to_vec();
        if finalizers.iter().any(String::is_empty) {
            // Those of others were too many to be kept.
            let whole = self.request("GET", self.api(&key).get(&key.name)).await?.0;
            finalizers = whole.finalizers().to_vec();
        }
        change(&mut finalizers);
        let body = json!({"metadata": {"resourceVersion": judged.metadata.resource_version, "finalizers": finalizers}});
        let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
        let api = self.api(&key);
        let mut written = self.patch(fence, api.patch(&key.name, &params, &Patch::Merge(&body))).await?;
        trim(&mut written);
        Ok(written)
    }

    fn api(&self, key: &Key) -> Api<Readable<InstanceRoleBinding>> {
        Api::namespaced(self.client.clone(), &key.namespace)
    }

    /// A grant as the API server has it now.
    pub async fn grant(&self, name: &str) -> Result<InstanceRoleGrant, Error> {
        let api = Api::<Readable<InstanceRoleGrant>>::all(self.client.clone());
        Ok(self.request("GET", api.get(name)).await?.0)
    }

    /// A namespace's metadata as the API server has it now.
    pub async fn namespace(&self, name: &str) -> Result<NamespaceMeta, Error> {
        let api = Api::<Readable<NamespaceMeta>>::all(self.client.clone());
        Ok(self.request("GET", api.get(name)).await?.0)
    }

    async fn patch(
        &self,
        fence: &Fence,
        patch: impl Future<Output = Result<Readable<InstanceRoleBinding>, kube::Error>>,
    ) -> Result<InstanceRoleBinding, Error> {
        fence.check()?;
        Ok(self.request("PATCH", patch).await?.0)
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

/// A request for a look is remembered and echoed up to this length.
const REQUEST_LENGTH: usize = 256;
/// So much is remembered of the finalizers of others, which are put back as they are when ours comes or goes.
const FOREIGN_FINALIZERS: usize = 1024;

/// Drops what nobody here reads, which is more than half of an object's memory, and bounds the rest: whoever may write a
/// binding must not be able to fill the memory of all.
pub fn trim(binding: &mut InstanceRoleBinding) {
    let metadata = &mut binding.metadata;
    (metadata.managed_fields, metadata.labels, metadata.owner_references) = (None, None, None);
    if let Some(annotations) = &mut metadata.annotations {
        annotations.retain(|name, _| name == REQUESTED_AT || name == FORCE_RELEASE);
        annotations.values_mut().for_each(bound);
        if annotations.is_empty() {
            metadata.annotations = None;
        }
    }
    if let Some(finalizers) = &mut metadata.finalizers {
        let foreign: usize = finalizers.iter().filter(|f| *f != FINALIZER).map(|f| f.len() + 1).sum();
        if foreign > FOREIGN_FINALIZERS {
            finalizers.retain(|finalizer| finalizer == FINALIZER);
            // No finalizer is called so.
            finalizers.push(String::new());
        }
        // Lists are read with room to grow; ten thousand of them never do.
        finalizers.shrink_to_fit();
    }
    if let Some(status) = &mut binding.status {
        status.conditions.retain(|told| ConditionType::ALL.iter().any(|ours| ours.as_str() == told.type_));
        status.conditions.shrink_to_fit();
        status.changes.shrink_to_fit();
    }
}

/// A long text as its beginning and a hash of all of it: another text is still another one.
fn bound(text: &mut String) {
    if text.len() > REQUEST_LENGTH {
        let hash: String = Sha256::digest(&*text).iter().map(|byte| format!("{byte:02x}")).collect();
        let head: String = text.chars().take(REQUEST_LENGTH / 8).collect();
        *text = format!("{head}… (sha256 {hash})");
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
