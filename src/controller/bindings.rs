//! The bindings of the cluster, and which of them name the same instance.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::channel::mpsc;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};

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
    pub namespace: String,
    pub name: String,
}

impl Key {
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
    generation: Option<i64>,
    deleted: bool,
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
}

/// The bindings as last seen, by name and by instance.
#[derive(Debug)]
pub struct Bindings {
    shards: HashMap<Scope, Shard>,
    own_region: Region,
    index: Mutex<Index>,
}

impl Bindings {
    /// Over stores that [`Self::follow`] is called along with.
    pub fn new(shards: HashMap<Scope, Shard>, own_region: Region) -> Self {
        Self { shards, own_region, index: Mutex::default() }
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

    /// Has all bindings of these namespaces looked at again.
    pub fn wake_namespaces(&self, namespaces: &HashSet<String>) {
        let keys: Vec<Key> =
            self.index().seen.keys().filter(|key| namespaces.contains(&key.namespace)).cloned().collect();
        keys.iter().for_each(|key| self.wake(key));
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

    /// All bindings that name this instance.
    pub fn at(&self, spot: &Spot) -> Vec<Arc<InstanceRoleBinding>> {
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
        let keys = self.index().keys.get(spot).cloned().unwrap_or_default();
        keys.iter().for_each(|key| self.wake(key));
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
            Event::Apply(binding) => {
                let news = self.applied(binding);
                self.wake_rivals(&Key::of(binding));
                news
            }
            Event::Delete(binding) => self.deleted(&Key::of(binding)),
        }
    }

    fn applied(&self, binding: &Kept) -> Vec<News> {
        let Some(spot) = self.spot_of(binding.instance_id(), binding.region()) else { return Vec::new() };
        let key = Key::of(binding);
        let mut index = self.index();
        let (generation, deleted) = (binding.meta().generation, binding.meta().deletion_timestamp.is_some());
        let seen = Seen { spot: spot.clone(), generation, deleted };
        let before = index.seen.get(&key);
        if before == Some(&seen) {
            return Vec::new();
        }
        let stays = before.is_some_and(|before| before.spot == spot);
        let crowd = News::Crowd(key.namespace.clone());
        index.crowds.entry(key.namespace.clone()).or_default().version += 1;
        if stays {
            index.seen.insert(key, seen);
            return vec![crowd];
        }
        // A binding deleted and made again under its name while nobody watched may name another instance.
        let mut news = Self::forget(&mut index, &key);
        index.crowds.entry(key.namespace.clone()).or_default().count += 1;
        index.seen.insert(key.clone(), seen);
        // Nearly always one: room for more is made when more come.
        index.keys.entry(spot).or_insert_with(|| Vec::with_capacity(1)).push(key);
        news.push(crowd);
        news
    }

    fn deleted(&self, key: &Key) -> Vec<News> {
        let mut index = self.index();
        let spot = index.seen.get(key).map(|seen| seen.spot.clone());
        let news = Self::forget(&mut index, key);
        drop(index);
        if let Some(spot) = spot {
            self.wake_at(&spot);
        }
        news
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
            }
        }
        news
    }

    /// What becomes of one binding of an instance concerns the others.
    fn wake_rivals(&self, key: &Key) {
        let index = self.index();
        let spot = index.seen.get(key).map(|seen| &seen.spot);
        let rivals = spot.and_then(|spot| index.keys.get(spot)).into_iter().flatten();
        rivals.filter(|rival| *rival != key).for_each(|rival| self.wake(rival));
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
