//! Bindings, grants and namespaces of a cluster. Whoever may read only a part of them gets a plan of that part, and is told.

use std::collections::BTreeMap;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ListParams};
use kube::core::PartialObjectMeta;
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::Given;
use crate::api::InstanceRoleGrant;
use crate::cli::run::cluster;
use crate::controller::forecast::{Key, Sources, Watched};

/// Objects in one page.
const PAGE: u32 = 500;

/// Reads the cluster.
///
/// # Errors
/// It does not answer, or the bindings may not be read.
pub(super) async fn given(
    namespace: Option<&str>,
    all_namespaces: bool,
    selector: Option<&str>,
) -> anyhow::Result<Given> {
    let mut config = cluster().await?;
    config.read_timeout = Some(std::time::Duration::from_secs(30));
    let namespace = namespace.unwrap_or(&config.default_namespace).to_owned();
    let client = Client::try_from(config).context("the cluster's configuration cannot be used")?;
    let everywhere = Api::<Watched>::all(client.clone());
    let here = match all_namespaces {
        true => everywhere.clone(),
        false => Api::<Watched>::namespaced(client.clone(), &namespace),
    };
    let mut notes = Vec::new();
    let selected = match selector {
        None => None,
        Some(selector) => Some(list(&here, Some(selector)).await.context("bindings cannot be read")?),
    };
    let bindings = match list(&everywhere, None).await {
        Err(error) if is_forbidden(&error) && !all_namespaces => {
            notes.push(format!(
                "note: bindings of other namespaces may not be read, so conflicts with them are not seen ({})",
                words(&error)
            ));
            list(&here, None).await.context("bindings cannot be read")?
        }
        read => read.context("bindings cannot be read (is the CRD installed?)")?,
    };
    let asked = match &selected {
        Some(selected) => selected.iter().map(Key::of).collect::<Vec<_>>(),
        None => {
            bindings.iter().map(Key::of).filter(|key| all_namespaces || key.namespace == namespace).collect()
        }
    };
    let grants = Api::<InstanceRoleGrant>::all(client.clone());
    let grants = readable(list(&grants, None).await, "grants", &mut notes)?;
    let metadata = Api::<PartialObjectMeta<Namespace>>::all(client);
    let namespaces = match grants {
        None => Vec::new(),
        Some(_) => readable(list(&metadata, None).await, "namespaces", &mut notes)?.unwrap_or_default(),
    };
    let namespaces: BTreeMap<_, _> = namespaces
        .into_iter()
        .map(|namespace| (namespace.name_any(), namespace.metadata.labels.unwrap_or_default()))
        .collect();
    if asked.is_empty() {
        let place = if all_namespaces { "the cluster".to_owned() } else { format!("namespace {namespace}") };
        let which = selector.map(|selector| format!(" with {selector}")).unwrap_or_default();
        notes.push(format!("note: {place} has no InstanceRoleBinding{which}, so there is nothing to plan"));
    }
    Ok(Given {
        sources: Sources {
            bindings: bindings.iter().map(|binding| binding.kept.whole()).collect(),
            grants,
            namespaces,
        },
        asked: asked.into_iter().map(|key| (key, "cluster".to_owned())).collect(),
        problems: Vec::new(),
        notes,
        on_conflict: None,
    })
}

async fn list<K>(api: &Api<K>, selector: Option<&str>) -> kube::Result<Vec<K>>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let mut params = ListParams::default().limit(PAGE);
    params.label_selector = selector.map(str::to_owned);
    let mut all = Vec::new();
    loop {
        let page = api.list(&params).await?;
        all.extend(page.items);
        params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if params.continue_token.is_none() {
            return Ok(all);
        }
    }
}

/// What may not be read is left out of the plan, and that is told.
fn readable<K>(
    read: kube::Result<Vec<K>>,
    what: &str,
    notes: &mut Vec<String>,
) -> anyhow::Result<Option<Vec<K>>> {
    match read {
        Ok(all) => Ok(Some(all)),
        Err(error) if is_forbidden(&error) => {
            let left_out = match what {
                "grants" => "authorisation is left out",
                _ => "grants that select namespaces by labels cover none",
            };
            notes.push(format!("note: {what} may not be read, so {left_out} ({})", words(&error)));
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| format!("{what} cannot be read")),
    }
}

fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403)
}

/// What the API server said.
fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}
