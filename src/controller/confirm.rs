//! Grants and namespaces as the API server has them now: a watch may hang for minutes and tell nothing.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future;

use super::context::Context;
use super::kubernetes;

/// How old what was read may be when a write goes out. Writes that come together share a reading.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// When the rights of each namespace were last read, and found to be as the watches tell.
#[derive(Debug, Default)]
pub struct Confirmed(Mutex<HashMap<String, Instant>>);

impl Confirmed {
    fn is_recent(&self, namespace: &str) -> bool {
        let times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        times.get(namespace).is_some_and(|at| at.elapsed() < GOOD_FOR)
    }

    fn note(&self, namespace: &str, at: Instant) {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        times.retain(|_, at| at.elapsed() < GOOD_FOR);
        times.insert(namespace.to_owned(), at);
    }
}

/// Reads the namespace and all grants that cover it, unless that was done a moment ago.
///
/// # Errors
/// They are not as the watches have told so far, or cannot be read: nothing may be written by what is known.
pub async fn confirm(ctx: &Context, namespace: &str) -> Result<(), kubernetes::Error> {
    if ctx.confirmed.is_recent(namespace) {
        return Ok(());
    }
    let began = Instant::now();
    let covering = ctx.grants.covering(namespace);
    let grants = future::try_join_all(covering.iter().map(|grant| ctx.kubernetes.grant(&grant.name)));
    let (grants, itself) = future::try_join(grants, ctx.kubernetes.namespace(namespace)).await?;
    if grants.iter().all(|grant| ctx.grants.knows(grant)) && ctx.grants.knows_namespace(&itself) {
        ctx.confirmed.note(namespace, began);
        return Ok(());
    }
    tracing::info!(
        namespace,
        "the watches of grants or namespaces are behind: nothing is written until they are not"
    );
    Err(kubernetes::Error::Conflict)
}
