//! Starting and stopping: who we are at AWS, the watch, the passes, the queues.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use kube::api::Api;
use kube::runtime::watcher;
use kube::{Client, ResourceExt};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tracing::field::Empty;

use super::bindings::{Bindings, Key, News, Scope, Spot};
use super::context::{Context, Settings};
use super::election;
use super::events::Tale;
use super::grants::NamespaceMeta;
use super::guard::{PassError, guarded};
use super::kept::Watched;
use super::kubernetes;
use super::passes::Action;
use super::readable::Readable;
use super::reconcile;
use super::slots::Slots;
use super::watching::watching;
use crate::api::{InstanceRoleBinding, InstanceRoleGrant};
use crate::decide::{Grant, Place};
use crate::ec2::Cloud;
use crate::ec2::cloud::{Environment, Identity};
use crate::ids::{AccountId, InstanceId};
use crate::lease::Seat;
use crate::telemetry::{Check, Metrics, traces};

/// How long running passes may take to end when the process is asked to stop: a write in flight is let finish.
const DRAIN: Duration = Duration::from_secs(10);
/// How long the election may take to end after that: the Lease is released.
const RELEASE: Duration = Duration::from_secs(3);
/// How often it is looked who has room in the grants of crowded namespaces.
const CROWD: Duration = Duration::from_secs(1);
/// How far ahead instances are looked at before their turn: a look is good for five seconds.
const AHEAD: Duration = Duration::from_millis(3500);
/// How long changes of grants and namespaces are gathered before the bindings concerned are woken again.
const TOGETHER: Duration = Duration::from_millis(50);

/// The two clients: a watch stays silent for minutes, a request must not.
#[derive(Clone)]
pub struct Clients {
    /// For watches.
    pub watch: Client,
    /// For requests; it does not retry by itself.
    pub request: Client,
    /// The same for the Lease alone: no other request stands before a renewal.
    pub lease: Client,
}

/// Which of the replicas this is.
#[derive(Debug, Clone, Default)]
pub struct Replica {
    /// The pod's name, for Events.
    pub pod: Option<String>,
    /// The Lease that it stands for; none: it runs alone.
    pub seat: Option<Seat>,
}

/// What must be there before the controller works, told at `/readyz`.
#[derive(Debug, Clone)]
pub struct Awaited {
    /// Credentials that AWS accepts.
    pub aws: Check,
    /// The API server and the CRDs.
    pub kubernetes: Check,
    /// An answer about the Lease, where there is one.
    pub lease: Option<Check>,
}

/// Runs the controller until `stop`.
pub async fn run(
    settings: Settings,
    clients: Clients,
    environment: Environment,
    awaited: Awaited,
    metrics: Arc<Metrics>,
    replica: Replica,
    mut stop: watch::Receiver<bool>,
) {
    let Identity { account, instance, partition: _ } = tokio::select! {
        identity = identity(&environment, &awaited.aws, &metrics) => identity,
        _ = stop.wait_for(|stop| *stop) => return,
    };
    let region = environment.region.clone();
    tracing::info!(%account, %region, "acting in this account; bindings without spec.region are in this Region");
    let own_instance = settings.self_instance.clone().or(instance);
    match &own_instance {
        Some(instance) => {
            tracing::info!(%instance, "running on this instance: only a grant that names it covers it")
        }
        None => tracing::info!(
            "the instance that this process runs on is not known (--self-instance-id): only the tags of cluster nodes protect it"
        ),
    }
    metrics.max_concurrent_reconciles(usize::from(settings.concurrency));
    let (changed, changes) = mpsc::unbounded_channel();
    let write_limit = replica.seat.as_ref().map(|seat| seat.terms.write_limit());
    let (share, counted) = (settings.share, Arc::clone(&metrics));
    let cloud = Cloud::new(environment, account.clone(), share, write_limit, counted, changed);
    let scopes: Vec<Scope> = if settings.namespaces.is_empty() {
        vec![None]
    } else {
        settings.namespaces.iter().cloned().map(Some).collect()
    };
    let bindings = Arc::new(Bindings::new(scopes.len(), region).told_to(metrics.queue()));
    let by = bindings.clone();
    let ctx = Context::new(settings, by, own_instance, cloud, clients.request.clone(), replica.pod, metrics);
    let ctx = Arc::new(ctx);
    let (drained, quiet) = oneshot::channel();
    let mut election =
        tokio::spawn(election::stand(Arc::clone(&ctx), replica.seat, clients.clone(), awaited.lease, quiet));
    for scope in scopes {
        tokio::spawn(follow_bindings(
            clients.watch.clone(),
            Arc::clone(&ctx),
            awaited.kubernetes.clone(),
            scope,
        ));
    }
    tokio::spawn(follow_grants(clients.watch.clone(), Arc::clone(&ctx), awaited.kubernetes.clone(), account));
    tokio::spawn(follow_namespaces(clients.watch.clone(), Arc::clone(&ctx), awaited.kubernetes.clone()));
    tokio::spawn(wake_touched(Arc::clone(&ctx)));
    tokio::spawn(wake_crowded(Arc::clone(&ctx)));
    tokio::spawn(wake_contested(Arc::clone(&ctx)));
    tokio::spawn(wake_changed(changes, bindings));
    tokio::spawn(give_turns(Arc::clone(&ctx)));
    tokio::spawn(look_ahead(Arc::clone(&ctx)));

    let mut draining = stop.clone();
    let mut working = std::pin::pin!(work(Arc::clone(&ctx), stop));
    let overdue = async {
        let _ = draining.wait_for(|stop| *stop).await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        () = &mut working => {
            let _ = drained.send(());
        }
        () = overdue => {
            // The Lease runs out by itself: nobody else begins while a write may be under way.
            drop(drained);
            tracing::warn!("some passes did not end in time; the next leader looks at what they did");
        }
        _ = &mut election => {
            tracing::error!("the election ended by itself: this is a bug; ending, so that another process begins");
            return;
        }
    }
    if timeout(RELEASE, election).await.is_err() {
        tracing::warn!("the election did not end in time");
    }
}

/// Asks AWS who we are until it answers: credentials that are not there yet are waited for.
async fn identity(environment: &Environment, awaited: &Check, metrics: &Arc<Metrics>) -> Identity {
    let mut pause = Duration::from_secs(1);
    let mut told = String::new();
    loop {
        match environment.identity(Arc::clone(metrics)).await {
            Ok(identity) => {
                awaited.met();
                return identity;
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

/// Has the passes made that are due, so many at a time, until it is to stop; those under way are let end.
async fn work(ctx: Arc<Context>, mut stop: watch::Receiver<bool>) {
    let most = usize::from(Slots::under_way(ctx.settings.concurrency));
    let (passes, mut under_way) = (ctx.bindings.passes(), FuturesUnordered::new());
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            Some((key, next)) = under_way.next(), if !under_way.is_empty() => passes.ended(&key, next),
            key = passes.next(), if under_way.len() < most => under_way.push(one_pass(Arc::clone(&ctx), key)),
        }
    }
    ctx.stopping.store(true, Ordering::Relaxed);
    while under_way.next().await.is_some() {}
}

/// Follows the bindings of one namespace, or of all, for ever.
async fn follow_bindings(client: Client, ctx: Arc<Context>, awaited: Check, scope: Scope) {
    let mut config = watcher::Config::default().streaming_lists();
    if let Some(selector) = &ctx.settings.selector {
        config = config.labels(selector);
    }
    let api = match &scope {
        None => Api::<Watched>::all(client),
        Some(namespace) => Api::namespaced(client, namespace),
    };
    let mut events = std::pin::pin!(watching(api, config));
    while let Some(event) = events.next().await {
        follow(&ctx, &scope, &awaited, event);
    }
}

/// Keeps the fleet views along with the bindings.
fn follow(
    ctx: &Arc<Context>,
    scope: &Scope,
    awaited: &Check,
    event: watcher::Result<watcher::Event<Watched>>,
) {
    match event {
        Ok(event) => {
            for news in ctx.bindings.follow(scope, event) {
                match news {
                    News::Listed => {
                        tracing::info!("watching bindings");
                        has_listed(ctx, awaited);
                    }
                    News::Gone(key, uid) => {
                        ctx.memory.forget(&uid);
                        ctx.breaker.clear(ctx, &key.namespace, &uid);
                        ctx.leave_queues(&key);
                    }
                    News::Crowd(namespace) if ctx.is_crowded(&namespace) => ctx.grants.crowd(namespace),
                    News::Crowd(_) => {}
                    // A stranger concerns nobody.
                    News::Contested(namespace, spot) if !ctx.grants.covering(&namespace).is_empty() => {
                        ctx.bindings.contest(spot)
                    }
                    News::Contested(..) => {}
                    News::Ended(Spot { region, instance }) => {
                        for (_, connection) in ctx.cloud.connected_to(&region) {
                            connection.fleet.untrack(&instance);
                        }
                    }
                }
            }
        }
        // A watch that breaks off is begun anew by itself: until then what was once listed is known all the same.
        Err(error) if ctx.bindings.is_listed() => {
            tracing::debug!(%error, "a watch broke off; beginning it anew")
        }
        Err(error) => cannot_watch("bindings", &error, awaited),
    }
}

/// Ready once bindings, grants and namespaces were listed.
fn has_listed(ctx: &Context, awaited: &Check) {
    if ctx.bindings.is_listed() && ctx.grants.are_known() {
        awaited.met();
        ctx.listed.notify_one();
    }
}

fn cannot_watch(what: &str, error: &watcher::Error, awaited: &Check) {
    let news = awaited.unmet(format!("{what} cannot be watched: {error}"));
    if news {
        tracing::warn!(%error, "waiting for {what} to watch (is the API server there, are the CRDs installed, is RBAC?)");
    }
}

/// Follows the grants, for ever.
async fn follow_grants(client: Client, ctx: Arc<Context>, awaited: Check, own_account: AccountId) {
    let config = watcher::Config::default().streaming_lists();
    let mut events = std::pin::pin!(watching(Api::<Readable<InstanceRoleGrant>>::all(client), config));
    // Who stands by tells nothing, so whoever comes to lead tells it.
    let mut complaints: HashMap<String, (InstanceRoleGrant, String)> = HashMap::new();
    let mut term = None;
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            next = ctx.leadership.next(term.as_ref()) => {
                term = Some(next);
                complaints.values().for_each(|(grant, complaint)| complain(&ctx, grant, complaint));
                continue;
            }
        };
        let Some(event) = event else { return };
        match event {
            Ok(event) => {
                let complaint = ctx.grants.follow(&event);
                match &event {
                    watcher::Event::Apply(Readable(grant)) | watcher::Event::InitApply(Readable(grant)) => {
                        match complaint.or_else(|| strays(grant, &own_account)) {
                            Some(complaint) => {
                                complain(&ctx, grant, &complaint);
                                complaints.insert(grant.name_any(), (grant.clone(), complaint));
                            }
                            None => drop(complaints.remove(&grant.name_any())),
                        }
                    }
                    watcher::Event::Delete(grant) => drop(complaints.remove(&grant.name_any())),
                    watcher::Event::Init => complaints.clear(),
                    watcher::Event::InitDone => {}
                }
                if matches!(event, watcher::Event::InitDone) {
                    has_listed(&ctx, &awaited);
                }
            }
            Err(error) if ctx.grants.are_known() => {
                tracing::debug!(%error, "a watch broke off; beginning it anew")
            }
            Err(error) => cannot_watch("grants", &error, &awaited),
        }
    }
}

/// Follows names and labels of the namespaces, for ever.
async fn follow_namespaces(client: Client, ctx: Arc<Context>, awaited: Check) {
    let watched = watching(Api::<Readable<NamespaceMeta>>::all(client), watcher::Config::default());
    let mut events = std::pin::pin!(watched);
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                ctx.grants.follow_namespaces(&event);
                if matches!(event, watcher::Event::InitDone) {
                    has_listed(&ctx, &awaited);
                }
            }
            Err(error) if ctx.grants.are_known() => {
                tracing::debug!(%error, "a watch broke off; beginning it anew")
            }
            Err(error) => cannot_watch("namespaces", &error, &awaited),
        }
    }
}

/// A profile goes only onto instances of its own account (iam:PassRole cannot cross accounts), so such a grant is a mistake.
fn strays(grant: &InstanceRoleGrant, own_account: &AccountId) -> Option<String> {
    let read = Grant::parse(&grant.name_any(), &grant.spec).ok()?;
    let words = "spec.instanceProfiles names profiles of another account than the one it acts in (that of spec.aws.assumeRoleArn, else the controller's): they can never be attached";
    read.strays(own_account).then(|| words.to_owned())
}

/// Tells administrators what is wrong with a grant.
fn complain(ctx: &Context, grant: &InstanceRoleGrant, note: &str) {
    if ctx.leadership.term().is_none() {
        return;
    }
    tracing::warn!(grant = grant.name_any(), problem = note, "a grant is not as it should be");
    let reason = "GrantMistaken";
    ctx.events
        .tell(grant, Tale { warning: true, reason, action: "Read", note: note.to_owned(), profile: None });
}

/// Wakes the bindings whose rights may have changed. Changes that come together are one.
async fn wake_touched(ctx: Arc<Context>) {
    loop {
        let namespaces = ctx.grants.touched().await;
        ctx.bindings.wake_namespaces(&namespaces);
        tokio::time::sleep(TOGETHER).await;
    }
}

/// Wakes the bindings for an instance when one of them means something else to the others.
async fn wake_contested(ctx: Arc<Context>) {
    loop {
        for spot in ctx.bindings.contested().await {
            ctx.bindings.wake_within(&spot, |namespace| !ctx.grants.covering(namespace).is_empty());
        }
        tokio::time::sleep(TOGETHER).await;
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
        keys.iter().for_each(|key| ctx.bindings.wake_for_turn(key));
        ctx.teller.idle().iter().for_each(|key| ctx.bindings.wake(key));
        tokio::time::sleep(wait).await;
    }
}

/// Wakes the bindings of namespaces in which others have room now. Not more often: a tenant may make and delete bindings
/// in a loop.
async fn wake_crowded(ctx: Arc<Context>) {
    loop {
        tokio::time::sleep(CROWD).await;
        for namespace in ctx.grants.crowded() {
            if ctx.rooms.shifted(&ctx, &namespace) {
                ctx.grants.touch(&namespace);
            }
        }
    }
}

/// Looks at the instances whose turn comes soon.
async fn look_ahead(ctx: Arc<Context>) {
    loop {
        tokio::time::sleep(AHEAD).await;
        ctx.look_ahead(AHEAD + Duration::from_millis(400));
    }
}

/// One pass over a binding, and when the next is to follow.
async fn one_pass(ctx: Arc<Context>, key: Arc<Key>) -> (Arc<Key>, Action) {
    // One that is gone has nothing to be looked at, and wants no turn.
    let Some(binding) = ctx.bindings.get(&key) else {
        ctx.leave_queues(&key);
        return (key, Action::await_change());
    };
    let uid = binding.uid().unwrap_or_default();
    let action = match pass(binding, &ctx).await {
        Ok(action) => action,
        Err(error) => after(&key, &uid, &error, &ctx),
    };
    (key, action)
}

/// A pass over one binding, if this process leads.
async fn pass(binding: Arc<InstanceRoleBinding>, ctx: &Arc<Context>) -> Result<Action, PassError> {
    let key = Key::of(&*binding);
    let Some(term) = ctx.leadership.term() else {
        // Whoever comes to lead looks at all bindings.
        ctx.leave_queues(&key);
        return Ok(Action::await_change());
    };
    let span = tracing::info_span!(
        "reconcile",
        binding = %key,
        instance = binding.spec.instance_id,
        region = Empty,
        generation = binding.metadata.generation,
        step = Empty,
        reason = Empty,
        operation = Empty,
        association = Empty,
        request_id = Empty,
        trace_id = Empty,
    );
    traces::stamp(&span);
    // Boxed, since each layer around it would take its size once more.
    let pass = Box::pin(tracing::Instrument::instrument(reconcile::reconcile(binding, ctx, term), span));
    // Who was overtaken looks again at once, and keeps its place until then.
    let keeps_place = |error: &PassError| matches!(error, PassError::Kubernetes(kubernetes::Error::Conflict));
    let result = guarded(&ctx.metrics, &key, pass).await;
    if result.as_ref().is_err_and(|error| !keeps_place(error)) {
        ctx.leave_queues(&key);
    }
    result
}

fn after(key: &Key, uid: &str, error: &PassError, ctx: &Context) -> Action {
    match error {
        PassError::Kubernetes(error) => {
            if !matches!(error, kubernetes::Error::Conflict | kubernetes::Error::NotLeading(_)) {
                tracing::warn!(binding = %key, %error, "the API server did not take a write; trying again");
            }
            reconcile::after(error, ctx, uid)
        }
        PassError::Panicked => Action::requeue(ctx.memory.after_error(uid)),
    }
}
