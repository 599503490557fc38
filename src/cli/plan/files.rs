//! Bindings, grants and namespaces from files. They are taken for new, in the order in which they are read, unless a
//! cluster has given them a UID.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Given;
use super::row::Row;
use crate::api::InstanceRoleBinding;
use crate::controller::forecast::{Key, Sources};
use crate::manifest::{Manifests, Source, sources};

/// How many kinds that are none of ours are named.
const NAMED: usize = 5;

/// Reads the files.
///
/// # Errors
/// One cannot be read.
pub(super) fn given(paths: &[PathBuf], namespace: Option<&str>) -> anyhow::Result<Given> {
    let texts = sources::texts(paths)?;
    let Manifests { bindings, grants, namespaces, problems, skipped } =
        Manifests::read(&texts, namespace.unwrap_or("default"));
    let mut notes: Vec<String> = left_out(&skipped).into_iter().collect();
    let is_told_none = grants.is_empty() && !bindings.is_empty();
    let broken_grant =
        problems.iter().any(|problem| problem.object.kind.as_deref() == Some("InstanceRoleGrant"));
    if is_told_none && !broken_grant {
        notes.push(
            "note: no InstanceRoleGrant among the manifests, so authorisation is left out: a grant in the cluster may still refuse"
                .to_owned(),
        );
    }
    if bindings.is_empty() && problems.is_empty() {
        notes
            .push("note: no InstanceRoleBinding among the manifests, so there is nothing to plan".to_owned());
    }
    let asked = bindings.iter().map(|(binding, source)| (Key::of(binding), source.to_string())).collect();
    let newest = Timestamp::now();
    let bindings = bindings.into_iter().enumerate().map(|(n, (binding, _))| dated(binding, n, newest));
    let grants =
        (!is_told_none || broken_grant).then(|| grants.into_iter().map(|(grant, _)| grant).collect());
    Ok(Given {
        sources: Sources { bindings: bindings.collect(), grants, namespaces },
        asked,
        problems: problems.into_iter().map(Row::problem).collect(),
        notes,
        on_conflict: Some("; the plan takes new bindings for made in the order of the files"),
    })
}

/// A new binding is younger than all that a cluster knows, and than those read before it.
fn dated(mut binding: InstanceRoleBinding, nth: usize, now: Timestamp) -> InstanceRoleBinding {
    let metadata = &mut binding.metadata;
    let later = SignedDuration::from_secs(i64::try_from(nth).unwrap_or(i64::MAX));
    let created = now.checked_add(later).unwrap_or(now);
    metadata.creation_timestamp.get_or_insert(Time(created));
    metadata.uid.get_or_insert_with(|| format!("read-{nth:012}"));
    binding
}

fn left_out(skipped: &[(Source, String)]) -> Option<String> {
    let mut kinds: BTreeMap<&str, (usize, &Source)> = BTreeMap::new();
    for (source, kind) in skipped {
        kinds.entry(kind).or_insert((0, source)).0 += 1;
    }
    let mut named: Vec<String> =
        kinds.iter().take(NAMED).map(|(kind, (count, first))| format!("{count} {kind} ({first})")).collect();
    if kinds.len() > NAMED {
        named.push(format!("{} more kinds", kinds.len() - NAMED));
    }
    let skipped = !named.is_empty();
    skipped.then(|| format!("note: skipped what is not of instancerole.dev: {}", named.join(", ")))
}
