//! Starting and stopping: who we are at AWS, the watch, the passes, the queues.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::channel::mpsc as wakes;
use futures::{FutureExt, StreamExt};
use kube::api::Api;
use kube::runtime::controller::{Action, Config as ControllerConfig, Controller};
use kube::runtime::reflector;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use tokio::sync::{mpsc, watch};

use super::bindings::{Bindings, Interest, Key, Scope, Shard, Spot};
use super::context::{Context, Settings};
use super::events::Events;
use super::kubernetes::{self, Kubernetes};
use super::reconcile;
use crate::api::InstanceRoleBinding;
use crate::decide::Place;
use crate::ec2::Cloud;
use crate::ec2::cloud::Environment;
use crate::ids::{AccountId, InstanceId};
use crate::telemetry::{Check, Metrics, ReconcileResult};

/// How long running passes may take to end when the process is asked to stop: a write in flight is let finish.
const DRAIN: Duration = Duration::from_secs(10);

/// The two clients: a watch stays silent for minutes, a request must not.
#[derive(Clone)]
pub struct Clients {
    /// For watches.
    pub watch: Client,
    /// For requests; it does not retry by itself.
    pub request: Client,
}

/// What must be there before the controller works, told at `/readyz`.
#[derive(Debug, Clone)]
pub struct Awaited {
    /// Credentials that AWS accepts.
    pub aws: Check,
    /// The API server and the CRDs.
    pub kubernetes: Check,
}

/// Runs the controller until `stop`.
pub async fn run(
    settings: Settings,
    clients: Clients,
    environment: Environment,
    awaited: Awaited,
    metrics: Arc<Metrics>,
    pod: Option<String>,
    mut stop: watch::Receiver<bool>,
) {
    let account = tokio::select! {
        account = identity(&environment, &awaited.aws, &metrics) => account,
        _ = stop.wait_for(|stop| *stop) => return,
    };
    let region = environment.region.clone();
    tracing::info!(%account, %region, "acting in this account; bindings without spec.region are in this Region");
    metrics.max_concurrent_reconciles(usize::from(settings.concurrency));
    let (changed, changes) = mpsc::unbounded_channel();
    let cloud = Cloud::new(environment, account, settings.share, Arc::clone(&metrics), changed);
    let scopes: Vec<Scope> = if settings.namespaces.is_empty() {
        vec![None]
    } else {
        settings.namespaces.iter().cloned().map(Some).collect()
    };
    let (mut shards, mut watches) = (HashMap::new(), Vec::new());
    for scope in scopes {
        let (store, writer) = reflector::store();
        let (wake, woken) = wakes::unbounded();
        shards.insert(scope.clone(), Shard { store: store.clone(), wake });
        watches.push((scope, store, writer, woken));
    }
    let bindings = Arc::new(Bindings::new(shards, region));
    let kubernetes = Kubernetes::new(clients.request.clone(), Arc::clone(&metrics));
    let events = Events::new(clients.request, pod);
    let ctx = Arc::new(Context::new(settings, Arc::clone(&bindings), cloud, kubernetes, events, metrics));
    tokio::spawn(wake_changed(changes, bindings));
    tokio::spawn(give_turns(Arc::clone(&ctx)));

    let mut draining = stop.clone();
    let controllers = watches.into_iter().map(|(scope, store, writer, woken)| {
        let seen = {
            let (ctx, awaited, scope) = (Arc::clone(&ctx), awaited.kubernetes.clone(), scope.clone());
            watched(&clients.watch, &ctx.settings, scope.as_deref())
                .modify(kubernetes::trim)
                .reflect(writer)
                .inspect(move |event| follow(&ctx, &scope, &awaited, event))
                .applied_objects()
        };
        let (mut stop, stopping) = (stop.clone(), Arc::clone(&ctx));
        Controller::for_stream(seen, store)
            .with_config(ControllerConfig::default().concurrency(ctx.settings.concurrency))
            .reconcile_on(woken)
            .graceful_shutdown_on(async move {
                let _ = stop.wait_for(|stop| *stop).await;
                stopping.stopping.store(true, Ordering::Relaxed);
            })
            .run(guarded, after, Arc::clone(&ctx))
            .for_each(|_| std::future::ready(()))
    });
    let mut controllers = std::pin::pin!(futures::future::join_all(controllers));
    let overdue = async {
        let _ = draining.wait_for(|stop| *stop).await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        _ = &mut controllers => {}
        () = overdue => tracing::warn!("some passes did not end in time; the next start looks at what they did"),
    }
}

/// Asks AWS who we are until it answers: credentials that are not there yet are waited for.
async fn identity(environment: &Environment, awaited: &Check, metrics: &Metrics) -> AccountId {
    let mut pause = Duration::from_secs(1);
    let mut told = String::new();
    loop {
        match environment.identity(metrics).await {
            Ok(account) => {
                awaited.met();
                return account;
            }
            Err(error) => {
                awaited.unmet(format!("AWS does not say who we are: {error}"));
                let code = error.code().to_owned();
                if told != code {
                    tracing::warn!(%error, "waiting for AWS credentials that are accepted");
                    told = code;
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(30));
            }
        }
    }
}

/// The watch over one namespace, or over all.
fn watched(
    client: &Client,
    settings: &Settings,
    namespace: Option<&str>,
) -> impl futures::Stream<Item = watcher::Result<watcher::Event<InstanceRoleBinding>>> + Send + use<> {
    let mut config = watcher::Config::default().streaming_lists();
    if let Some(selector) = &settings.selector {
        config = config.labels(selector);
    }
    let api = namespace
        .map_or_else(|| Api::all(client.clone()), |namespace| Api::namespaced(client.clone(), namespace));
    watcher(api, config).default_backoff()
}

/// Keeps the index and the fleet views along with the store.
fn follow(
    ctx: &Arc<Context>,
    scope: &Scope,
    awaited: &Check,
    event: &watcher::Result<watcher::Event<InstanceRoleBinding>>,
) {
    match event {
        Ok(event) => {
            for interest in ctx.bindings.follow(scope, event) {
                match interest {
                    Interest::Begun(Spot { region, instance }) => {
                        if let Some(connection) = ctx.cloud.connected(&region) {
                            connection.fleet.track(&instance);
                        }
                    }
                    Interest::Ended(Spot { region, instance }) => {
                        if let Some(connection) = ctx.cloud.connected(&region) {
                            connection.fleet.untrack(&instance);
                        }
                    }
                }
            }
            if let watcher::Event::Delete(gone) = event {
                ctx.memory.forget(&gone.uid().unwrap_or_default());
                ctx.leave_queues(&Key::of(gone));
            }
            if matches!(event, watcher::Event::InitDone) && ctx.bindings.listed(scope) {
                awaited.met();
                tracing::info!("watching bindings");
            }
        }
        // A watch that breaks off is taken up again by itself: what was once listed is known all the same.
        Err(error) if ctx.bindings.is_listed() => {
            tracing::debug!(%error, "a watch broke off; taking it up again")
        }
        Err(error) => {
            let news = awaited.unmet(format!("bindings cannot be watched: {error}"));
            if news {
                tracing::warn!(%error, "waiting for bindings to watch (is the API server there, are the CRDs installed, is RBAC?)");
            }
        }
    }
}

async fn wake_changed(mut changes: mpsc::UnboundedReceiver<(Place, InstanceId)>, bindings: Arc<Bindings>) {
    while let Some((place, instance)) = changes.recv().await {
        bindings.wake_at(&Spot { region: place.region, instance });
    }
}

/// Wakes those whose turn it is to write.
async fn give_turns(ctx: Arc<Context>) {
    loop {
        let (keys, wait) = ctx.advance_queues();
        keys.iter().for_each(|key| ctx.bindings.wake(key));
        tokio::time::sleep(wait).await;
    }
}

/// A pass that panics is counted and tried again; the process goes on.
async fn guarded(binding: Arc<InstanceRoleBinding>, ctx: Arc<Context>) -> Result<Action, PassError> {
    let timer = ctx.metrics.reconcile_timer();
    let key = Key::of(&binding);
    let span = tracing::info_span!("reconcile", binding = %key, instance = binding.spec.instance_id, generation = binding.metadata.generation);
    let pass = AssertUnwindSafe(tracing::Instrument::instrument(reconcile::reconcile(binding, &ctx), span));
    match pass.catch_unwind().await {
        Ok(Ok(action)) => {
            let waits = action != Action::await_change();
            timer.finish(if waits { ReconcileResult::RequeueAfter } else { ReconcileResult::Success });
            Ok(action)
        }
        Ok(Err(error)) => {
            let overtaken = matches!(error, kubernetes::Error::Conflict);
            timer.finish(if overtaken { ReconcileResult::Requeue } else { ReconcileResult::Error });
            ctx.leave_queues(&key);
            Err(PassError::Kubernetes(error))
        }
        Err(_) => {
            timer.finish(ReconcileResult::Error);
            ctx.metrics.panic();
            ctx.leave_queues(&key);
            tracing::error!(binding = %key, "a pass panicked: this is a bug; the binding is tried again");
            Err(PassError::Panicked)
        }
    }
}

/// A pass that could not be finished.
#[derive(Debug, thiserror::Error)]
enum PassError {
    #[error(transparent)]
    Kubernetes(kubernetes::Error),
    #[error("the pass panicked")]
    Panicked,
}

fn after(binding: Arc<InstanceRoleBinding>, error: &PassError, ctx: Arc<Context>) -> Action {
    let uid = binding.uid().unwrap_or_default();
    match error {
        PassError::Kubernetes(error) => {
            if !matches!(error, kubernetes::Error::Conflict) {
                tracing::warn!(binding = %Key::of(&binding), %error, "the API server did not take a write; trying again");
            }
            reconcile::after(error, &ctx, &uid)
        }
        PassError::Panicked => Action::requeue(ctx.memory.after_error(&uid)),
    }
}
