//! Around each pass: it is measured, and one that panics is an error like another. The binding is tried again, and the process
//! goes on with all others.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use kube::runtime::controller::Action;

use super::bindings::Key;
use super::kubernetes;
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
    use std::sync::Arc;
    use std::sync::Mutex;
    use std::time::Duration;

    use futures::StreamExt;
    use futures::channel::mpsc;
    use kube::ResourceExt;
    use kube::runtime::controller::Controller;
    use kube::runtime::watcher::Event;
    use kube::runtime::{reflector, watcher};
    use serde_json::json;

    use super::*;
    use crate::api::InstanceRoleBinding;
    use crate::controller::kept::Kept;
    use crate::telemetry::BuildInfo;

    fn binding(name: &str) -> Kept {
        let object: InstanceRoleBinding = serde_json::from_value(json!({
            "apiVersion": "instancerole.dev/v1alpha1", "kind": "InstanceRoleBinding",
            "metadata": {"name": name, "namespace": "a", "uid": name},
            "spec": {"instanceId": "i-0123456789abcdef0", "instanceProfile": {"none": {}}},
        }))
        .unwrap();
        Kept::from(object)
    }

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

    /// The controller runtime as it is, over a store that is filled by hand.
    #[tokio::test]
    async fn a_panic_in_one_pass_is_counted_and_tried_again_and_the_others_go_on() {
        let metrics = Metrics::new(BuildInfo { version: "0", commit: "0" }).unwrap();
        let world = Arc::new(World { metrics, seen: Mutex::default() });
        let (store, mut writer) = reflector::store();
        let (watch, watched) = mpsc::unbounded::<watcher::Result<Kept>>();
        writer.apply_watcher_event(&Event::Init);
        for name in ["broken", "healthy"] {
            writer.apply_watcher_event(&Event::InitApply(binding(name)));
            watch.unbounded_send(Ok(binding(name))).unwrap();
        }
        writer.apply_watcher_event(&Event::InitDone);
        let pass = |kept: Arc<Kept>, world: Arc<World>| async move {
            let name = kept.name_any();
            let first = world.count(&name) == 0;
            world.seen.lock().unwrap().push(name.clone());
            let pass = async {
                tokio::task::yield_now().await;
                assert!(name != "broken" || !first, "as if there were a bug");
                Ok(Action::await_change())
            };
            guarded(&world.metrics, &Key::of(&*kept), pass).await
        };
        let again = |_: Arc<Kept>, _: &PassError, _: Arc<World>| Action::requeue(Duration::from_millis(5));
        let passes = Controller::for_stream(watched, store).run(pass, again, Arc::clone(&world));
        let outcomes: Vec<bool> = passes.take(3).map(|outcome| outcome.is_ok()).collect().await;

        assert_eq!(outcomes.iter().filter(|well| **well).count(), 2, "{outcomes:?}");
        assert_eq!((world.count("broken"), world.count("healthy")), (2, 1));
        assert_eq!(world.value("controller_runtime_reconcile_panics_total"), 1.0);
        assert_eq!(world.value("controller_runtime_reconcile_errors_total"), 1.0);
        assert_eq!(world.value("controller_runtime_active_workers"), 0.0);
        drop(watch);
    }
}
