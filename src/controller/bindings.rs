//! The bindings of the cluster, and which of them name the same instance.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::channel::mpsc;
use jiff::Timestamp;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};
use tokio::sync::Notify;

use super::kept::Kept;
use crate::api::InstanceRoleBinding;
use crate::api::condition::{self, ConditionType};
use crate::decide::Reason;
use crate::ec2::catalogue::Differing;
use crate::ids::{InstanceId, Region};
use crate::telemetry::{BindingCount, Metrics};

/// A binding's namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Key {
    /// The key of an object.
    pub fn of<K: Resource>(binding: &K) -> Self {
        Self { namespace: binding.namespace().unwrap_or_default(), name: binding.name_any() }
    }

    fn object(&self) -> ObjectRef<Kept> {
        ObjectRef::new(&self.name).within(&self.namespace)
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// An instance in a Region.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Spot {
    pub region: Region,
    pub instance: InstanceId,
}

/// What of a binding decides its rights and those of others, as last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    spot: Spot,
    created: Timestamp,
    generation: Option<i64>,
    deleted: bool,
    /// What the others for its instance go by besides: its finalizer, and how it fares.
    fares: Fares,
}

impl Seen {
    /// Whether its namespace's rooms are to be counted again.
    fn declares_as(&self, other: &Self) -> bool {
        (self.created, self.generation, self.deleted) == (other.created, other.generation, other.deleted)
    }
}

/// How a binding fares, as its rivals see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fares {
    /// Whether our finalizer is on it.
    pub finalizer: bool,
    /// Whether it was once in sync.
    pub adopted: bool,
    /// Whether a grant covers it, it agrees with EC2, or needs a person: as its conditions say.
    pub conditions: [bool; 3],
}

/// Another binding for an instance: enough to put them in order of age without reading the objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Other {
    pub key: Key,
    pub created: Timestamp,
    pub deleted: bool,
}

/// The bindings of one namespace.
#[derive(Debug, Clone, Copy, Default)]
struct Crowd {
    count: usize,
    /// Another number after each change of a spec, and of who is there.
    version: u64,
}

#[derive(Debug, Default)]
struct Index {
    seen: HashMap<Key, Seen>,
    crowds: HashMap<String, Crowd>,
    keys: HashMap<Spot, Vec<Key>>,
    /// While a list is being read again, by watch: what it has shown so far.
    listings: HashMap<Scope, HashSet<Key>>,
    /// The watches that have listed all they see.
    listed: HashSet<Scope>,
}

/// What one watch sees: a namespace, or all of them.
pub type Scope = Option<String>;

/// One watch: what it has seen, and whom to wake for it.
#[derive(Debug)]
pub struct Shard {
    pub store: Store<Kept>,
    pub wake: mpsc::UnboundedSender<ObjectRef<Kept>>,
}

/// What a change of the bindings means for others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// No binding names this instance any more.
    Ended(Spot),
    /// In this namespace somebody came, went or declares something else.
    Crowd(String),
    /// A binding of this namespace means something else to the others for its instance.
    Contested(String, Spot),
}

/// The bindings as last seen, by name and by instance.
#[derive(Debug)]
pub struct Bindings {
    shards: HashMap<Scope, Shard>,
    own_region: Region,
    index: Mutex<Index>,
    contested: Mutex<HashSet<Spot>>,
    contest: Notify,
}

impl Bindings {
    /// Over stores that [`Self::follow`] is called along with.
    pub fn new(shards: HashMap<Scope, Shard>, own_region: Region) -> Self {
        Self {
            shards,
            own_region,
            index: Mutex::default(),
            contested: Mutex::default(),
            contest: Notify::new(),
        }
    }

    /// The Region of bindings that name none.
    pub fn own_region(&self) -> &Region {
        &self.own_region
    }

    /// How many bindings a namespace has, and the version of what they declare.
    pub fn in_namespace(&self, namespace: &str) -> (usize, u64) {
        self.index().crowds.get(namespace).map_or((0, 0), |crowd| (crowd.count, crowd.version))
    }

    /// The bindings of a namespace.
    pub fn of_namespace(&self, namespace: &str) -> Vec<Arc<InstanceRoleBinding>> {
        let keys: Vec<Key> =
            self.index().seen.keys().filter(|key| key.namespace == namespace).cloned().collect();
        keys.iter().filter_map(|key| self.get(key)).collect()
    }

    /// Has all bindings of these namespaces looked at again, and their rivals: who has lost a right stands in nobody's way.
    pub fn wake_namespaces(&self, namespaces: &HashSet<String>) {
        let (mut keys, mut spots) = (Vec::new(), HashSet::new());
        {
            let index = self.index();
            for (key, Seen { spot, .. }) in
                index.seen.iter().filter(|(key, _)| namespaces.contains(&key.namespace))
            {
                keys.push(key.clone());
                if index.keys.get(spot).is_some_and(|keys| keys.len() > 1) {
                    spots.insert(spot.clone());
                }
            }
        }
        keys.iter().for_each(|key| self.wake(key));
        spots.into_iter().for_each(|spot| self.contest(spot));
    }

    fn shard(&self, namespace: &str) -> Option<&Shard> {
        self.shards.get(&None).or_else(|| self.shards.get(&Some(namespace.to_owned())))
    }

    /// The binding as last seen.
    pub fn get(&self, key: &Key) -> Option<Arc<InstanceRoleBinding>> {
        let kept = self.shard(&key.namespace)?.store.get(&key.object())?;
        Some(Arc::new(kept.whole()))
    }

    /// Where a binding's instance is: in the Region it names, or in the controller's.
    pub fn spot(&self, binding: &InstanceRoleBinding) -> Option<Spot> {
        let (id, region) = (&binding.spec.instance_id, binding.spec.region.as_deref());
        if let Some(seen) = self.index().seen.get(&Key::of(binding))
            && seen.spot.instance.as_str() == id
        {
            return Some(seen.spot.clone());
        }
        self.spot_of(id, region)
    }

    fn spot_of(&self, instance: &str, region: Option<&str>) -> Option<Spot> {
        let region = match region {
            Some(region) => Region::parse(region).ok()?,
            None => self.own_region.clone(),
        };
        Some(Spot { region, instance: InstanceId::parse(instance).ok()? })
    }

    /// Notes that a watch has listed all it sees; whether that was the first time and all watches have now.
    pub fn listed(&self, scope: &Scope) -> bool {
        let mut index = self.index();
        index.listed.insert(scope.clone()) && index.listed.len() == self.shards.len()
    }

    /// Whether all watches have listed what they see.
    pub fn is_listed(&self) -> bool {
        self.index().listed.len() == self.shards.len()
    }

    /// How many bindings name this instance.
    pub fn count_at(&self, spot: &Spot) -> usize {
        self.index().keys.get(spot).map_or(0, Vec::len)
    }

    /// The other bindings of some namespaces that name this instance, the oldest first.
    pub fn others(&self, spot: &Spot, than: &Key, within: impl Fn(&str) -> bool) -> Vec<Other> {
        let index = self.index();
        let keys = index.keys.get(spot).into_iter().flatten();
        let keys = keys.filter(|key| *key != than && within(&key.namespace));
        let other = |key: &Key| {
            let Seen { created, deleted, .. } = *index.seen.get(key)?;
            Some(Other { key: key.clone(), created, deleted })
        };
        let mut others: Vec<Other> = keys.filter_map(other).collect();
        others.sort_by_key(|other| other.created);
        others
    }

    fn at(&self, spot: &Spot) -> Vec<Arc<InstanceRoleBinding>> {
        let keys = self.index().keys.get(spot).cloned().unwrap_or_default();
        keys.iter().filter_map(|key| self.get(key)).collect()
    }

    /// The bindings whose instance is in a Region.
    pub fn in_region(&self, region: &Region) -> Vec<Arc<InstanceRoleBinding>> {
        let spots =
            self.index().keys.keys().filter(|spot| spot.region == *region).cloned().collect::<Vec<_>>();
        spots.iter().flat_map(|spot| self.at(spot)).collect()
    }

    /// Whether any binding declares a profile, so that IAM is worth asking.
    pub fn want_profiles(&self) -> bool {
        self.shards
            .values()
            .any(|s| s.store.find(|binding| binding.declares().iter().any(Option::is_some)).is_some())
    }

    /// Has all bindings looked at.
    pub fn wake_all(&self) {
        let keys: Vec<Key> = self.index().seen.keys().cloned().collect();
        keys.iter().for_each(|key| self.wake(key));
    }

    /// Has a binding looked at again.
    pub fn wake(&self, key: &Key) {
        // Nobody listens any more: the process is ending.
        if let Some(shard) = self.shard(&key.namespace) {
            let _ = shard.wake.unbounded_send(key.object());
        }
    }

    /// Has all bindings of an instance looked at again.
    pub fn wake_at(&self, spot: &Spot) {
        self.wake_within(spot, |_| true);
    }

    /// Has the bindings of some namespaces looked at again that name an instance.
    pub fn wake_within(&self, spot: &Spot, within: impl Fn(&str) -> bool) {
        let keys = self.index().keys.get(spot).cloned().unwrap_or_default();
        keys.iter().filter(|key| within(&key.namespace)).for_each(|key| self.wake(key));
    }

    /// Notes that the bindings for an instance are to be looked at again because of one of them.
    pub fn contest(&self, spot: Spot) {
        self.contested.lock().unwrap_or_else(PoisonError::into_inner).insert(spot);
        self.contest.notify_one();
    }

    /// Waits for instances whose bindings are to be looked at again. News that come together are told once.
    pub async fn contested(&self) -> HashSet<Spot> {
        loop {
            let spots = std::mem::take(&mut *self.contested.lock().unwrap_or_else(PoisonError::into_inner));
            if !spots.is_empty() {
                return spots;
            }
            self.contest.notified().await;
        }
    }

    /// Has those looked at again of whose profile IAM says something else than before.
    pub fn wake_concerned(&self, differing: &Differing) {
        if differing.is_empty() {
            return;
        }
        for binding in self.shards.values().flat_map(|shard| shard.store.state()) {
            let [name, arn, role] = binding.declares();
            if differing.concerns(name, arn, role) {
                self.wake(&Key::of(&*binding));
            }
        }
    }

    /// Follows the watch; the store has taken the event in already.
    pub fn follow(&self, scope: &Scope, event: &Event<Kept>) -> Vec<News> {
        match event {
            Event::Init => {
                self.index().listings.insert(scope.clone(), HashSet::new());
                Vec::new()
            }
            Event::InitApply(binding) => {
                if let Some(seen) = self.index().listings.get_mut(scope) {
                    seen.insert(Key::of(binding));
                }
                self.applied(binding)
            }
            Event::InitDone => {
                let mut index = self.index();
                let seen = index.listings.remove(scope).unwrap_or_default();
                let ours = |key: &&Key| scope.as_ref().is_none_or(|namespace| *namespace == key.namespace);
                let gone: Vec<Key> =
                    index.seen.keys().filter(ours).filter(|key| !seen.contains(key)).cloned().collect();
                drop(index);
                // What was listed is in the store only now; who was woken by it before saw the former object.
                seen.iter().for_each(|key| self.wake(key));
                gone.iter().flat_map(|key| self.deleted(key)).collect()
            }
            Event::Apply(binding) => self.applied(binding),
            Event::Delete(binding) => self.deleted(&Key::of(binding)),
        }
    }

    fn applied(&self, binding: &Kept) -> Vec<News> {
        let Some(spot) = self.spot_of(binding.instance_id(), binding.region()) else { return Vec::new() };
        let key = Key::of(binding);
        let mut index = self.index();
        let seen = Seen {
            spot: spot.clone(),
            created: binding.meta().creation_timestamp.as_ref().map_or(Timestamp::MAX, |at| at.0),
            generation: binding.meta().generation,
            deleted: binding.meta().deletion_timestamp.is_some(),
            fares: binding.fares(),
        };
        let before = index.seen.get(&key);
        if before == Some(&seen) {
            return Vec::new();
        }
        let stays = before.is_some_and(|before| before.spot == spot);
        let declares = before.is_some_and(|before| before.declares_as(&seen));
        let mut news = if stays { Vec::new() } else { Self::forget(&mut index, &key) };
        let crowd = index.crowds.entry(key.namespace.clone()).or_default();
        if !stays {
            crowd.count += 1;
        }
        if !(stays && declares) {
            crowd.version += 1;
            news.push(News::Crowd(key.namespace.clone()));
        }
        index.seen.insert(key.clone(), seen);
        // Nearly always one: room for more is made when more come.
        let keys = index.keys.entry(spot.clone()).or_insert_with(|| Vec::with_capacity(1));
        if keys.len() > usize::from(stays) {
            news.push(News::Contested(key.namespace.clone(), spot));
        }
        if !stays {
            // A binding deleted and made again under its name while nobody watched may name another instance.
            keys.push(key);
        }
        news
    }

    fn deleted(&self, key: &Key) -> Vec<News> {
        Self::forget(&mut self.index(), key)
    }

    fn forget(index: &mut Index, key: &Key) -> Vec<News> {
        let Some(Seen { spot, .. }) = index.seen.remove(key) else { return Vec::new() };
        if let Some(crowd) = index.crowds.get_mut(&key.namespace) {
            crowd.count = crowd.count.saturating_sub(1);
            crowd.version += 1;
        }
        let mut news = vec![News::Crowd(key.namespace.clone())];
        if let Some(keys) = index.keys.get_mut(&spot) {
            keys.retain(|k| k != key);
            if keys.is_empty() {
                index.keys.remove(&spot);
                news.push(News::Ended(spot));
            } else {
                news.push(News::Contested(key.namespace.clone(), spot));
            }
        }
        news
    }

    /// Counts the bindings by condition, for the metrics. Reasons of others than us are not told apart.
    pub fn count(&self, metrics: &Metrics) {
        let mut counts: BTreeMap<(ConditionType, &str, &str), usize> = BTreeMap::new();
        for binding in self.shards.values().flat_map(|shard| shard.store.state()) {
            for (type_, status, reason) in binding.conditions() {
                let Some(type_) = ConditionType::ALL.into_iter().find(|t| t.as_str() == type_) else {
                    continue;
                };
                let reason =
                    Reason::ALL.into_iter().map(Reason::as_str).find(|r| *r == reason).unwrap_or("Other");
                let status = ["True", "False"].into_iter().find(|s| *s == status).unwrap_or("Unknown");
                *counts.entry((type_, status, reason)).or_default() += 1;
            }
        }
        metrics.bindings(counts.into_iter().map(|((type_, status, reason), count)| BindingCount {
            condition: type_.as_str(),
            status,
            reason,
            count,
        }));
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a binding's status says of its present spec that the instance agrees with it.
pub fn is_settled(binding: &InstanceRoleBinding) -> bool {
    binding.status.as_ref().is_some_and(|status| {
        status.observed_generation == binding.metadata.generation
            && condition::is_true(&status.conditions, ConditionType::Ready)
            && condition::is_true(&status.conditions, ConditionType::Synced)
    })
}
