//! Around each pass: it is measured, and one that panics is an error like another. The binding is tried again, and the process
//! goes on with all others.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;

use super::bindings::Key;
use super::kubernetes;
use super::passes::Action;
use crate::telemetry::{Metrics, ReconcileResult};

/// A pass that could not be finished.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    #[error(transparent)]
    Kubernetes(kubernetes::Error),
    #[error("the pass panicked")]
    Panicked,
}

/// Makes a pass.
///
/// # Errors
/// It could not be finished, or it panicked.
pub async fn guarded(
    metrics: &Metrics,
    key: &Key,
    pass: impl Future<Output = Result<Action, kubernetes::Error>>,
) -> Result<Action, PassError> {
    let timer = metrics.reconcile_timer();
    match AssertUnwindSafe(pass).catch_unwind().await {
        Ok(Ok(action)) => {
            let waits = action != Action::await_change();
            timer.finish(if waits { ReconcileResult::RequeueAfter } else { ReconcileResult::Success });
            Ok(action)
        }
        Ok(Err(error)) => {
            let overtaken = matches!(error, kubernetes::Error::Conflict | kubernetes::Error::NotLeading(_));
            timer.finish(if overtaken { ReconcileResult::Requeue } else { ReconcileResult::Error });
            Err(PassError::Kubernetes(error))
        }
        Err(_) => {
            timer.finish(ReconcileResult::Error);
            metrics.panic();
            tracing::error!(binding = %key, "a pass panicked: this is a bug; the binding is tried again");
            Err(PassError::Panicked)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;
    use crate::controller::passes::{Passes, Urgency};
    use crate::telemetry::BuildInfo;

    struct World {
        metrics: Metrics,
        /// Who had a pass, in order.
        seen: Mutex<Vec<String>>,
    }

    impl World {
        fn count(&self, name: &str) -> usize {
            self.seen.lock().unwrap().iter().filter(|seen| *seen == name).count()
        }

        fn value(&self, metric: &str) -> f64 {
            let text = self.metrics.render().unwrap();
            let line = text.lines().find(|line| line.starts_with(&format!("{metric}{{"))).unwrap();
            line.rsplit(' ').next().unwrap().parse().unwrap()
        }
    }

    #[tokio::test]
    async fn a_panic_in_one_pass_is_counted_and_tried_again_and_the_others_go_on() {
        let metrics = Metrics::new(BuildInfo { version: "0", commit: "0" }).unwrap();
        let world = World { metrics, seen: Mutex::default() };
        let passes = Passes::default();
        for name in ["broken", "healthy"] {
            let key = Key { namespace: "a".into(), name: name.into() };
            passes.wake(&Arc::new(key), Urgency::Routine);
        }
        let mut outcomes = Vec::new();
        while outcomes.len() < 3 {
            let key = passes.next().await;
            let first = world.count(&key.name) == 0;
            world.seen.lock().unwrap().push(key.name.clone());
            let pass = async {
                tokio::task::yield_now().await;
                assert!(key.name != "broken" || !first, "as if there were a bug");
                Ok(Action::await_change())
            };
            let outcome = guarded(&world.metrics, &key, pass).await;
            outcomes.push(outcome.is_ok());
            passes.ended(&key, outcome.unwrap_or(Action::requeue(Duration::from_millis(5))));
        }

        assert_eq!(outcomes.iter().filter(|well| **well).count(), 2, "{outcomes:?}");
        assert_eq!((world.count("broken"), world.count("healthy")), (2, 1));
        assert_eq!(world.value("controller_runtime_reconcile_panics_total"), 1.0);
        assert_eq!(world.value("controller_runtime_reconcile_errors_total"), 1.0);
        assert_eq!(world.value("controller_runtime_active_workers"), 0.0);
    }
}
