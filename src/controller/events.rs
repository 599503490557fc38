//! Events: the story of a binding, for `kubectl describe`.
//!
//! They are told by the way: written in the background, at most so many at once, and one that cannot be written (as in
//! a namespace that is being deleted) never fails a pass.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use tokio::sync::Semaphore;

use super::leadership::Leadership;

/// The `reportingController` of our Events.
const CONTROLLER: &str = "instancerole.dev/instance-role-controller";
/// The API server refuses longer notes.
const NOTE: usize = 1024;
/// The API server refuses longer instance names.
const INSTANCE: usize = 128;
/// Events being written or waiting for it; beyond that they are dropped, since status tells the same.
const AT_ONCE: usize = 256;

/// One Event to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tale {
    /// Whether it is a warning.
    pub warning: bool,
    /// A verb in the past tense, or a reason.
    pub reason: &'static str,
    /// What the controller was doing.
    pub action: &'static str,
    /// The words.
    pub note: String,
    /// The profile that it is about: tales of different profiles are not folded into one.
    pub profile: Option<String>,
}

/// Writes Events.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
    places: Arc<Semaphore>,
    leadership: Leadership,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}

impl Events {
    /// Events told by this process.
    pub fn new(client: Client, pod: Option<String>, leadership: Leadership) -> Self {
        let instance = pod.map(|name| name.chars().take(INSTANCE).collect());
        let reporter = Reporter { controller: CONTROLLER.into(), instance };
        let places = Arc::new(Semaphore::new(AT_ONCE));
        Self { recorder: Recorder::new(client, reporter), places, leadership }
    }

    /// Tells one about a binding or a grant, in the background. Who does not lead tells nothing.
    pub fn tell<K: Resource<DynamicType = ()>>(&self, object: &K, tale: Tale) {
        let Some(term) = self.leadership.term() else { return };
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            tracing::debug!(reason = tale.reason, "too many Events at once; one is dropped");
            return;
        };
        let (recorder, about) = (self.recorder.clone(), object.object_ref(&()));
        tokio::spawn(async move {
            if !term.fence.is_open() {
                return;
            }
            let event = Event {
                type_: if tale.warning { EventType::Warning } else { EventType::Normal },
                reason: tale.reason.into(),
                action: tale.action.into(),
                note: Some(shortened(&tale.note)),
                secondary: tale.profile.map(|name| ObjectReference {
                    kind: Some("IamInstanceProfile".into()),
                    name: Some(name),
                    ..ObjectReference::default()
                }),
            };
            match tokio::time::timeout(Duration::from_secs(15), recorder.publish(&event, &about)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::debug!(%error, reason = tale.reason, "an Event could not be written")
                }
                Err(_) => tracing::debug!(reason = tale.reason, "an Event could not be written in time"),
            }
            drop(place);
        });
    }
}

/// The note in at most 1024 bytes, cut between characters.
fn shortened(note: &str) -> String {
    let mut text = String::with_capacity(note.len().min(NOTE));
    for c in note.chars() {
        if text.len() + c.len_utf8() > NOTE {
            break;
        }
        text.push(c);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_never_longer_than_the_api_server_takes() {
        assert_eq!(shortened("ok"), "ok");
        assert!(shortened(&"ü".repeat(2000)).len() <= NOTE);
    }
}
