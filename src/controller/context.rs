//! What every pass works with.

use std::collections::{HashMap, HashSet};
use std::ops::Deref;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use kube::Client;
use tokio::sync::Notify;

use super::bindings::{Bindings, Key, Spot};
use super::breaker::Breaker;
use super::confirm::Confirmed;
use super::entitle::{Recount, entitle};
use super::events::Events;
use super::gather;
use super::ground::Ground;
use super::kubernetes::Kubernetes;
use super::leadership::{Leadership, Term};
use super::slots::Slots;
use super::teller::Teller;
use crate::api::binding::{DeletionPolicy, Mode, Operation};
use crate::decide::{Ceiling, Credentials, Grant, Place};
use crate::ec2::budget::Limit;
use crate::ec2::catalogue::LISTING;
use crate::ec2::turns::{Class, Turn, Turns};
use crate::ec2::{Cloud, Connection, fleet};
use crate::ids::{InstanceId, Region};
use crate::lease::Fence;
use crate::telemetry::Metrics;

/// How the controller was asked to work.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How often the associations are listed.
    pub resync: Duration,
    /// Decide and report everything, write nothing to AWS, add and drop no finalizer.
    pub dry_run: bool,
    /// The mode of bindings that leave it out.
    pub default_mode: Mode,
    /// The deletion policy of bindings that leave it out.
    pub default_deletion_policy: DeletionPolicy,
    /// The share of EC2's limits that may be used, above 0 up to 1.
    pub share: f64,
    /// Limits of accounts where AWS raised them.
    pub limits: HashMap<Operation, Limit>,
    /// How many bindings are looked at at the same time.
    pub concurrency: u16,
    /// The namespaces watched; empty: all.
    pub namespaces: Vec<String>,
    /// The label selector of the bindings watched.
    pub selector: Option<String>,
    /// A tag without which no instance is touched, whatever grants say: key and value.
    pub required_tag: Option<(Arc<str>, Arc<str>)>,
    /// How many repairs of drift may be due in a namespace in one pass; none: any number.
    pub ceiling: Option<Ceiling>,
    /// The instance that the controller runs on, if the administrator names it.
    pub self_instance: Option<InstanceId>,
}

impl Settings {
    /// After how long without a good listing people are told that AWS is away: three passes, at least five minutes.
    pub fn patience(&self) -> SignedDuration {
        let passes =
            SignedDuration::try_from(self.resync).unwrap_or(SignedDuration::from_mins(5)).saturating_mul(3);
        passes.max(SignedDuration::from_mins(5))
    }

    /// How long from one pass to the next: as asked, unless passes of so many calls would take more than half of the read
    /// budget.
    fn interval(&self, calls: usize) -> Duration {
        let affordable = Limit::DESCRIBE.share(self.share).per_second / 2.0;
        let least = Duration::from_secs_f64(f64::from(u32::try_from(calls).unwrap_or(u32::MAX)) / affordable);
        self.resync.max(least)
    }

    fn limit(&self, operation: Operation) -> Limit {
        let published = match operation {
            Operation::AssociateIamInstanceProfile | Operation::DisassociateIamInstanceProfile => {
                Limit::ASSOCIATE
            }
            Operation::ReplaceIamInstanceProfileAssociation => Limit::REPLACE,
        };
        self.limits.get(&operation).copied().unwrap_or(published).share(self.share)
    }
}

/// From so many waiting changes on the controller is busy.
const BUSY: usize = 20;
/// So long it counts as busy after that: what was changed last is looked at until then.
const AFTERWARDS: Duration = Duration::from_secs(15);

/// The shortest pause between two passes.
const SHORTEST: Duration = Duration::from_millis(100);

/// The queue before one write bucket.
type Queue = Turns<String, Key>;

/// What every pass works with.
#[derive(Debug)]
pub struct Context {
    pub ground: Ground,
    pub confirmed: Confirmed,
    pub slots: Slots,
    pub teller: Teller,
    pub kubernetes: Kubernetes,
    pub events: Events,
    pub breaker: Breaker,
    pub metrics: Arc<Metrics>,
    /// Whether this process leads.
    pub leadership: Leadership,
    /// Told once bindings, grants and namespaces were listed.
    pub listed: Notify,
    /// Set once the process is asked to stop: no write is begun any more.
    pub stopping: AtomicBool,
    turns: Mutex<HashMap<(Place, Operation), Queue>>,
    busy: Mutex<HashMap<Place, Instant>>,
}

/// What decides need not know what acts.
impl Deref for Context {
    type Target = Ground;

    fn deref(&self) -> &Ground {
        &self.ground
    }
}

impl Context {
    pub fn new(
        settings: Settings,
        bindings: Arc<Bindings>,
        own_instance: Option<InstanceId>,
        cloud: Cloud,
        client: Client,
        pod: Option<String>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let leadership = Leadership::default();
        Self {
            slots: Slots::new(settings.concurrency),
            teller: Teller::default(),
            ground: Ground::new(settings, bindings, own_instance, cloud),
            confirmed: Confirmed::default(),
            kubernetes: Kubernetes::new(client.clone(), Arc::clone(&metrics)),
            events: Events::new(client, pod, leadership.clone()),
            breaker: Breaker::default(),
            metrics,
            leadership,
            listed: Notify::new(),
            stopping: AtomicBool::new(false),
            turns: Mutex::default(),
            busy: Mutex::default(),
        }
    }

    /// This process leads from now on. Nothing that was seen of AWS or concluded before is left, since another one may have
    /// written in between; what was seen of Kubernetes is warm, and each write of an object carries its version.
    pub fn leads(&self, fence: Fence) {
        self.cloud.start_over(&fence);
        self.memory.start_over();
        self.breaker.start_over(self);
        self.rooms.start_over();
        self.confirmed.start_over();
        self.leadership.begin(Term { fence, began: Timestamp::now() });
        self.bindings.wake_all();
    }

    /// This process leads no more: the next one tells how the bindings are.
    pub fn stands_by(&self) {
        self.leadership.end();
        self.breaker.start_over(self);
        self.metrics.bindings([]);
    }

    /// The connection to a Region; the first time, its view begins to be kept.
    pub async fn connect(self: &Arc<Self>, credentials: &Credentials, region: &Region) -> Connection {
        let (connection, new) = self.cloud.connect(credentials, region).await;
        if let (true, Some(term)) = (new, self.leadership.term()) {
            let (ctx, credentials, kept) = (Arc::clone(self), credentials.clone(), connection.clone());
            tokio::spawn(async move {
                let view = format!("{}/{}", kept.place.account, kept.place.region);
                tokio::select! {
                    () = ctx.keep_looking(credentials, kept, &view) => {}
                    () = ctx.leadership.is_over(&term) => {}
                }
                ctx.metrics.list_dropped(&view);
            });
        }
        connection
    }

    /// Whether so many bindings are in a namespace that some may have no room in a grant.
    pub fn is_crowded(&self, namespace: &str) -> bool {
        let (count, _) = self.bindings.in_namespace(namespace);
        let full = |grant: &Arc<Grant>| grant.max_bindings.is_some_and(|most| count >= most);
        self.grants.covering(namespace).iter().any(full)
    }

    /// Keeps in view exactly the instances of a Region whose bindings act with these credentials: one listing shows them
    /// all, and on behalf of nobody who has lost the right AWS is asked anything.
    fn track_all(&self, credentials: &Credentials, connection: &Connection) {
        let mut wanted = HashSet::new();
        for binding in self.bindings.in_region(&connection.place.region) {
            let (Ok(desired), Some(spot)) =
                (gather::desired(&binding, &self.settings), self.bindings.spot(&binding))
            else {
                continue;
            };
            let Ok(entitled) = entitle(self, &binding, &desired, &spot, Recount::Sparing) else { continue };
            let resolution = connection.catalogue.resolve(&desired.declared);
            let may_look = || entitled.rights.may_look(&desired.declared, &resolution);
            if entitled.credentials == *credentials && (gather::is_unfinished(&binding) || may_look()) {
                wanted.insert(spot.instance);
            }
        }
        for instance in connection.fleet.track_only(wanted) {
            // One that came in the meantime takes it into view again.
            self.bindings.wake_at(&Spot { region: connection.place.region.clone(), instance });
        }
    }

    /// Passes over a Region, one each resync interval, for ever.
    async fn keep_looking(&self, credentials: Credentials, connection: Connection, view: &str) {
        // Which profiles are meant decides which instances may be looked at.
        if self.bindings.want_profiles() {
            connection.catalogue.refresh(LISTING).await;
        }
        let mut rights = self.grants.version();
        self.track_all(&credentials, &connection);
        let Connection { place: _, fleet, catalogue } = &connection;
        self.metrics.list_wanted(view);
        let mut going = fleet::Going::default();
        loop {
            let began = Instant::now();
            let now = self.grants.version();
            if std::mem::replace(&mut rights, now) != now {
                self.track_all(&credentials, &connection);
            }
            going = fleet::look_around(fleet, view, &self.metrics, self.settings.patience(), going).await;
            // After the listing, so that an association with a dead profile id is told by a later look at IAM.
            if self.bindings.want_profiles() && !fleet.is_idle() {
                catalogue.refresh(LISTING).await;
            }
            self.bindings.wake_concerned(&catalogue.news());
            self.bindings.count(&self.metrics);
            self.memory.forget_old_outsiders(Timestamp::now());
            let interval = self.settings.interval(fleet.calls());
            self.metrics.resync(view, interval);
            tokio::time::sleep(interval.saturating_sub(began.elapsed()).max(SHORTEST)).await;
        }
    }

    /// Looks at the instances whose turn to be changed comes soon, many by one call: the decision to write needs state and
    /// tags of at most five seconds.
    pub fn look_ahead(&self, horizon: Duration) {
        let mut soon: HashMap<Place, Vec<Key>> = HashMap::new();
        for ((place, _), queue) in self.turns().iter() {
            soon.entry(place.clone()).or_default().extend(queue.upcoming(horizon));
        }
        for (_, keys) in soon.into_iter().filter(|(_, keys)| keys.len() > 1) {
            let mut looks: Vec<(Connection, InstanceId)> = Vec::new();
            for key in &keys {
                let Some(binding) = self.bindings.get(key) else { continue };
                let (Ok(desired), Some(spot)) =
                    (gather::desired(&binding, &self.settings), self.bindings.spot(&binding))
                else {
                    continue;
                };
                let Ok(entitled) = entitle(self, &binding, &desired, &spot, Recount::Sparing) else {
                    continue;
                };
                if let Some(connection) = self.cloud.connected(&entitled.credentials, &spot.region) {
                    looks.push((connection, spot.instance));
                }
            }
            // What could not be looked at now is looked at when its turn has come. One account that hangs delays no other.
            tokio::spawn(async move {
                let looks = looks.iter().map(|(connection, id)| connection.fleet.look_before_write(id));
                futures::future::join_all(looks).await;
            });
        }
    }

    /// Whether so many changes wait for their turn in this account and Region, or did a moment ago, that looks had better
    /// share calls than be early.
    pub fn is_busy(&self, place: &Place) -> bool {
        let waiting: usize =
            self.turns().iter().filter(|((of, _), _)| of == place).map(|(_, queue)| queue.waiting()).sum();
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting >= BUSY {
            busy.insert(place.clone(), Instant::now());
        }
        busy.get(place).is_some_and(|last| last.elapsed() < AFTERWARDS)
    }

    /// Asks for a turn to write.
    pub fn turn(&self, place: &Place, operation: Operation, key: &Key, class: Class) -> Turn {
        let now = Instant::now();
        let mut turns = self.turns();
        // Who now wants another operation, or acts in another account, wants no turn for the former one.
        let wanted = (place.clone(), operation);
        turns.iter_mut().filter(|(other, _)| **other != wanted).for_each(|(_, queue)| queue.leave(key));
        let queue = turns.entry(wanted).or_insert_with(|| Turns::new(self.settings.limit(operation), now));
        queue.ask(&key.namespace, key, class, now)
    }

    /// Whether a change waits for its turn.
    pub fn waits_for_turn(&self, key: &Key) -> bool {
        self.turns().values().any(|queue| queue.is_waiting(key))
    }

    /// Whether so many changes of this kind wait in the namespace that another one will wait as well, whatever is seen of its
    /// instance now.
    pub fn many_wait(&self, place: &Place, operation: Operation, namespace: &str) -> bool {
        let turns = self.turns();
        turns
            .get(&(place.clone(), operation))
            .is_some_and(|queue| queue.asked_in(&namespace.to_owned()) >= BUSY)
    }

    /// The call has ended that a turn was taken for.
    pub fn used(&self, place: &Place, operation: Operation, key: &Key) {
        if let Some(queue) = self.turns().get_mut(&(place.clone(), operation)) {
            queue.used(key, Instant::now());
        }
    }

    /// A turn was taken and not used, by no fault of the binding's.
    pub fn lost_turn(&self, place: &Place, operation: Operation, key: &Key) {
        if let Some(queue) = self.turns().get_mut(&(place.clone(), operation)) {
            queue.lost(key);
        }
    }

    /// Whether the turn of this binding has come.
    pub fn has_turn(&self, key: &Key) -> bool {
        self.turns().values().any(|queue| queue.has_turn(key))
    }

    /// Wants no turn any more.
    pub fn leave_queues(&self, key: &Key) {
        self.turns().values_mut().for_each(|queue| queue.leave(key));
    }

    /// EC2 throttled a write of this kind for this binding.
    pub fn throttled(&self, place: &Place, operation: Operation, key: &Key) {
        if let Some(queue) = self.turns().get_mut(&(place.clone(), operation)) {
            queue.throttled(key, Instant::now());
        }
    }

    /// Whether EC2 throttles writes of this kind now.
    pub fn is_throttled(&self, place: &Place, operation: Operation) -> bool {
        self.turns().get(&(place.clone(), operation)).is_some_and(Queue::is_throttled)
    }

    /// Gives turns for the tokens there are: who may go now, and when to call again.
    pub fn advance_queues(&self) -> (Vec<Key>, Duration) {
        let now = Instant::now();
        let (mut told, mut next) = (Vec::new(), Duration::from_millis(200));
        let mut fullest: HashMap<Operation, f64> = HashMap::new();
        for ((_, operation), queue) in self.turns().iter_mut() {
            let (keys, wait) = queue.advance(now);
            told.extend(keys);
            next = next.min(wait);
            let free = fullest.entry(*operation).or_insert(1.0);
            *free = free.min(queue.free(now));
        }
        for (operation, free) in fullest {
            self.metrics.budget(super::act::name(operation), free);
        }
        (told, next.max(Duration::from_millis(5)))
    }

    fn turns(&self) -> std::sync::MutexGuard<'_, HashMap<(Place, Operation), Queue>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
