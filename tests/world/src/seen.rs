//! Bindings as tests saw them, one file for each state: `tests/health` has them judged by the tools that wait for bindings.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use serde_json::Value;

use crate::places::repository;
use crate::scenario::condition;

/// What the tests of this process have seen already.
static SEEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Keeps the first binding of each state in `target/seen`. Whatever else is read is not kept, nor a binding to whose
/// conditions a test added some as somebody else: the controller never leaves out their generation.
pub(crate) fn keep(object: &Value) -> Result<()> {
    let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    let forged = conditions.any(|condition| condition["observedGeneration"].is_null());
    if object["kind"] != "InstanceRoleBinding" || forged {
        return Ok(());
    }
    let state = state(object);
    if !SEEN.lock().unwrap_or_else(PoisonError::into_inner).insert(state.clone()) {
        return Ok(());
    }
    let folder = repository().join("target/seen");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join(format!("{state}.json")), serde_json::to_string_pretty(&plain(object))?)?;
    Ok(())
}

/// The state in words: reason and status of `Ready`, the other conditions that hold, `behind` while the status does not speak
/// of the newest spec, `leaving` while it is being deleted.
fn state(object: &Value) -> String {
    let ready = condition(object, "Ready");
    let text = |field: &str| ready.and_then(|ready| ready[field].as_str()).unwrap_or("None").to_owned();
    let mut words = vec![text("reason"), text("status")];
    for kind in ["Reconciling", "Stalled", "Synced", "Contended", "Suspended"] {
        if condition(object, kind).is_some_and(|condition| condition["status"] == "True") {
            words.push(kind.to_owned());
        }
    }
    if object["status"]["observedGeneration"] != object["metadata"]["generation"] {
        words.push("behind".to_owned());
    }
    if object["metadata"]["deletionTimestamp"].is_string() {
        words.push("leaving".to_owned());
    }
    words.join("-")
}

/// Without what differs each time and tells nothing of the state.
fn plain(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|field, _| {
            ["name", "namespace", "generation", "annotations", "finalizers", "deletionTimestamp"]
                .contains(&field.as_str())
        });
    }
    object
}
