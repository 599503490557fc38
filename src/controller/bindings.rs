//! The bindings of the cluster, and which of them name the same instance.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};
use tokio::sync::Notify;

use super::kept::{Kept, Told, Watched};
use super::passes::{Passes, Urgency};
use crate::api::InstanceRoleBinding;
use crate::api::condition::{self, ConditionType};
use crate::decide::{Reason, reason};
use crate::ec2::catalogue::Differing;
use crate::ids::{InstanceId, Region};
use crate::telemetry::{BindingCount, Metrics, Workqueue};

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
    all: HashMap<Arc<Key>, Arc<Kept>>,
    crowds: HashMap<String, Crowd>,
    keys: HashMap<Spot, Named>,
    /// While a list is being read again, by watch: what it has shown so far.
    listings: HashMap<Scope, HashSet<Arc<Key>>>,
    /// The watches that have listed all they see.
    listed: HashSet<Scope>,
}

/// Who names an instance; nearly always one.
#[derive(Debug)]
enum Named {
    ByOne(Arc<Key>),
    ByMany(Vec<Arc<Key>>),
}

impl Named {
    fn by(&self) -> &[Arc<Key>] {
        match self {
            Self::ByOne(key) => std::slice::from_ref(key),
            Self::ByMany(keys) => keys,
        }
    }

    fn add(&mut self, key: Arc<Key>) {
        match self {
            Self::ByOne(first) => *self = Self::ByMany(vec![Arc::clone(first), key]),
            Self::ByMany(keys) => keys.push(key),
        }
    }

    /// Without this one; nothing if nobody is left.
    fn without(&self, key: &Key) -> Option<Self> {
        let mut keys: Vec<Arc<Key>> = self.by().iter().filter(|other| ***other != *key).cloned().collect();
        match (keys.len(), keys.pop()) {
            (1, Some(last)) => Some(Self::ByOne(last)),
            (_, Some(last)) => {
                keys.push(last);
                Some(Self::ByMany(keys))
            }
            (_, None) => None,
        }
    }
}

/// What one watch sees: a namespace, or all of them.
pub type Scope = Option<String>;

/// What a change of the bindings means for others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// All watches have listed what they see, for the first time.
    Listed,
    /// This binding is gone; its UID.
    Gone(Arc<Key>, String),
    /// No binding names this instance any more.
    Ended(Spot),
    /// In this namespace somebody came, went or declares something else.
    Crowd(String),
    /// A binding of this namespace means something else to the others for its instance.
    Contested(String, Spot),
}

/// The bindings as last seen, by name and by instance, and whose turn it is to be looked at.
#[derive(Debug)]
pub struct Bindings {
    scopes: usize,
    own_region: Region,
    passes: Passes,
    index: Mutex<Index>,
    contested: Mutex<HashSet<Spot>>,
    contest: Notify,
}

impl Bindings {
    /// None yet; so many watches tell of them by [`Self::follow`].
    pub fn new(scopes: usize, own_region: Region) -> Self {
        Self {
            scopes,
            own_region,
            passes: Passes::default(),
            index: Mutex::default(),
            contested: Mutex::default(),
            contest: Notify::new(),
        }
    }

    /// Who waits for a pass is told there.
    pub fn told_to(mut self, queue: Workqueue) -> Self {
        self.passes = Passes::told_to(queue);
        self
    }

    /// Who has a pass when.
    pub fn passes(&self) -> &Passes {
        &self.passes
    }

    /// The Region of bindings that name none.
    pub fn own_region(&self) -> &Region {
        &self.own_region
    }

    /// How many bindings a namespace has, and the version of what they declare.
    pub fn in_namespace(&self, namespace: &str) -> (usize, u64) {
        self.index().crowds.get(namespace).map_or((0, 0), |crowd| (crowd.count, crowd.version))
    }

    /// The bindings of a namespace, each made whole when it comes to it.
    pub fn of_namespace(&self, namespace: &str) -> impl Iterator<Item = InstanceRoleBinding> + use<> {
        let all: Vec<Arc<Kept>> =
            self.placed(|key, _| key.namespace == namespace).into_iter().map(|(_, kept)| kept).collect();
        all.into_iter().map(|kept| kept.whole())
    }

    /// Those whose instance can be read, with the key that all tables share.
    fn placed(&self, that: impl Fn(&Key, &Kept) -> bool) -> Vec<(Arc<Key>, Arc<Kept>)> {
        let index = self.index();
        let those = index.all.iter().filter(|(key, kept)| kept.is_placed() && that(key, kept));
        those.map(|(key, kept)| (Arc::clone(key), Arc::clone(kept))).collect()
    }

    /// Has all bindings of these namespaces looked at again, and their rivals: who has lost a right stands in nobody's way.
    pub fn wake_namespaces(&self, namespaces: &HashSet<String>) {
        let those = self.placed(|key, _| namespaces.contains(&key.namespace));
        let mut spots = HashSet::new();
        for (key, kept) in those {
            if let Some(spot) = kept.spot(&self.own_region).filter(|spot| self.count_at(spot) > 1) {
                spots.insert(spot);
            }
            self.passes.wake(&key, Urgency::Routine);
        }
        spots.into_iter().for_each(|spot| self.contest(spot));
    }

    /// The binding as last seen.
    pub fn get(&self, key: &Key) -> Option<Arc<InstanceRoleBinding>> {
        let kept = Arc::clone(self.index().all.get(key)?);
        Some(Arc::new(kept.whole()))
    }

    /// Where a binding's instance is: in the Region it names, or in the controller's.
    pub fn spot(&self, binding: &InstanceRoleBinding) -> Option<Spot> {
        let (id, region) = (&binding.spec.instance_id, binding.spec.region.as_deref());
        let kept = self.index().all.get(&Key::of(binding)).cloned();
        if let Some(spot) = kept.and_then(|kept| kept.spot(&self.own_region))
            && spot.instance.as_str() == id
            && spot.region.as_str() == region.unwrap_or(self.own_region.as_str())
        {
            return Some(spot);
        }
        let region = match region {
            Some(region) => Region::parse(region).ok()?,
            None => self.own_region.clone(),
        };
        Some(Spot { region, instance: InstanceId::parse(id).ok()? })
    }

    /// Whether all watches have listed what they see.
    pub fn is_listed(&self) -> bool {
        self.index().listed.len() == self.scopes
    }

    /// How many bindings name this instance.
    pub fn count_at(&self, spot: &Spot) -> usize {
        self.index().keys.get(spot).map_or(0, |named| named.by().len())
    }

    /// The other bindings of some namespaces that name this instance, the oldest first.
    pub fn others(&self, spot: &Spot, than: &Key, within: impl Fn(&str) -> bool) -> Vec<Other> {
        let index = self.index();
        let keys = index.keys.get(spot).into_iter().flat_map(Named::by);
        let keys = keys.filter(|key| ***key != *than && within(&key.namespace));
        let other = |key: &Arc<Key>| {
            let kept = index.all.get(key)?;
            Some(Other { key: (**key).clone(), created: kept.created(), deleted: kept.is_deleted() })
        };
        let mut others: Vec<Other> = keys.filter_map(other).collect();
        others.sort_by_key(|other| other.created);
        others
    }

    /// The bindings whose instance is in a Region, each made whole when it comes to it.
    pub fn in_region(&self, region: &Region) -> impl Iterator<Item = InstanceRoleBinding> + use<> {
        let there = |kept: &Kept| kept.spot(&self.own_region).is_some_and(|spot| spot.region == *region);
        self.placed(|_, kept| there(kept)).into_iter().map(|(_, kept)| kept.whole())
    }

    /// Whether any binding declares a profile, so that IAM is worth asking.
    pub fn want_profiles(&self) -> bool {
        self.index().all.values().any(|kept| kept.declares().iter().any(Option::is_some))
    }

    /// Has all bindings looked at.
    pub fn wake_all(&self) {
        self.placed(|_, _| true).iter().for_each(|(key, _)| self.passes.wake(key, Urgency::Routine));
    }

    /// Has a binding looked at again.
    pub fn wake(&self, key: &Key) {
        self.wake_for(key, Urgency::Routine);
    }

    /// Has a binding looked at whose turn it is.
    pub fn wake_for_turn(&self, key: &Key) {
        self.wake_for(key, Urgency::Turn);
    }

    fn wake_for(&self, key: &Key, urgency: Urgency) {
        let shared = self.index().all.get_key_value(key).map(|(key, _)| Arc::clone(key));
        if let Some(key) = shared {
            self.passes.wake(&key, urgency);
        }
    }

    /// Has all bindings of an instance looked at again.
    pub fn wake_at(&self, spot: &Spot) {
        self.wake_within(spot, |_| true);
    }

    /// Has the bindings of some namespaces looked at again that name an instance.
    pub fn wake_within(&self, spot: &Spot, within: impl Fn(&str) -> bool) {
        let keys = self.index().keys.get(spot).map(|named| named.by().to_vec()).unwrap_or_default();
        let those = keys.iter().filter(|key| within(&key.namespace));
        those.for_each(|key| self.passes.wake(key, Urgency::Routine));
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
        let concerned = |kept: &Kept| {
            let [name, arn, role] = kept.declares();
            differing.concerns(name, arn, role)
        };
        let those = self.placed(|_, kept| concerned(kept));
        those.iter().for_each(|(key, _)| self.passes.wake(key, Urgency::Routine));
    }

    /// Follows a watch.
    pub fn follow(&self, scope: &Scope, event: Event<Watched>) -> Vec<News> {
        match event {
            Event::Init => {
                self.index().listings.insert(scope.clone(), HashSet::new());
                Vec::new()
            }
            Event::InitApply(Watched { kept, .. }) => {
                let key = Arc::clone(kept.key());
                let (news, _) = self.applied(kept);
                let mut index = self.index();
                // The key that is there already is the one to be shared.
                let key = index.all.get_key_value(&key).map_or(key, |(key, _)| Arc::clone(key));
                if let Some(seen) = index.listings.get_mut(scope) {
                    seen.insert(key);
                }
                news
            }
            Event::InitDone => {
                let mut index = self.index();
                let seen = index.listings.remove(scope).unwrap_or_default();
                let ours =
                    |key: &&Arc<Key>| scope.as_ref().is_none_or(|namespace| *namespace == key.namespace);
                let gone: Vec<Arc<Key>> =
                    index.all.keys().filter(ours).filter(|key| !seen.contains(*key)).cloned().collect();
                // Before anybody is woken: a pass that finds the list wanting puts itself off.
                let first = index.listed.insert(scope.clone()) && index.listed.len() == self.scopes;
                drop(index);
                seen.iter().for_each(|key| self.passes.wake(key, Urgency::Routine));
                let gone = gone.iter().flat_map(|key| self.deleted(key));
                first.then_some(News::Listed).into_iter().chain(gone).collect()
            }
            Event::Apply(Watched { kept, .. }) => {
                let key = Arc::clone(kept.key());
                let (news, urgency) = self.applied(kept);
                self.wake_for(&key, urgency);
                news
            }
            Event::Delete(Watched { kept, .. }) => self.deleted(kept.key()),
        }
    }

    /// Takes in a binding as it is now: what that means for others, and whether somebody waits for what becomes of it.
    fn applied(&self, mut kept: Kept) -> (Vec<News>, Urgency) {
        let mut index = self.index();
        let before = index.all.get(kept.key()).cloned();
        if let Some(before) = &before {
            kept.share_with(before);
        }
        let (key, kept) = (Arc::clone(kept.key()), Arc::new(kept));
        index.all.insert(Arc::clone(&key), Arc::clone(&kept));
        let asked = before.as_ref().is_none_or(|before| !before.asks_like(&kept));
        let spot = kept.spot(&self.own_region);
        let declares = |before: &Kept| {
            (before.created(), before.generation(), before.is_deleted())
                == (kept.created(), kept.generation(), kept.is_deleted())
        };
        let declares = before.as_deref().is_some_and(declares);
        let urgency = if declares && !asked { Urgency::Routine } else { Urgency::Awaited };
        let formerly = before.as_ref().and_then(|before| before.spot(&self.own_region));
        let stays = formerly == spot;
        let fares = before.as_ref().map(|before| before.fares());
        if stays && declares && fares == Some(kept.fares()) {
            return (Vec::new(), urgency);
        }
        let mut news = Vec::new();
        if let Some(formerly) = formerly.filter(|_| !stays) {
            // A binding deleted and made again under its name while nobody watched may name another instance.
            Self::leave(&mut index, &key, formerly, &mut news);
        }
        let Some(spot) = spot else { return (news, urgency) };
        let crowd = index.crowds.entry(key.namespace.clone()).or_default();
        if !stays {
            crowd.count += 1;
        }
        if !(stays && declares) {
            crowd.version += 1;
            news.push(News::Crowd(key.namespace.clone()));
        }
        match index.keys.entry(spot.clone()) {
            Entry::Vacant(nobody) => drop(nobody.insert(Named::ByOne(key))),
            Entry::Occupied(mut named) => {
                if named.get().by().len() > usize::from(stays) {
                    news.push(News::Contested(key.namespace.clone(), spot));
                }
                if !stays {
                    named.get_mut().add(key);
                }
            }
        }
        (news, urgency)
    }

    fn deleted(&self, key: &Key) -> Vec<News> {
        let mut index = self.index();
        let Some((key, kept)) = index.all.remove_entry(key) else { return Vec::new() };
        let mut news = vec![News::Gone(Arc::clone(&key), kept.uid().to_owned())];
        if let Some(spot) = kept.spot(&self.own_region) {
            Self::leave(&mut index, &key, spot, &mut news);
        }
        news
    }

    /// A binding names this instance no more.
    fn leave(index: &mut Index, key: &Key, spot: Spot, news: &mut Vec<News>) {
        if let Some(crowd) = index.crowds.get_mut(&key.namespace) {
            crowd.count = crowd.count.saturating_sub(1);
            crowd.version += 1;
        }
        news.push(News::Crowd(key.namespace.clone()));
        let left = index.keys.get(&spot).and_then(|named| named.without(key));
        match left {
            Some(left) => {
                index.keys.insert(spot.clone(), left);
                news.push(News::Contested(key.namespace.clone(), spot));
            }
            None => {
                index.keys.remove(&spot);
                news.push(News::Ended(spot));
            }
        }
    }

    /// Counts the bindings by condition, for the metrics. Reasons of others than us are not told apart.
    pub fn count(&self, metrics: &Metrics) {
        let mut alike: HashMap<Told, usize> = HashMap::new();
        for told in self.index().all.values().filter_map(|kept| kept.told()) {
            *alike.entry(told).or_default() += 1;
        }
        let mut counts: BTreeMap<(ConditionType, &str, &str), usize> = BTreeMap::new();
        for (told, count) in &alike {
            for (type_, status, why) in told.conditions() {
                let Some(type_) = ConditionType::ALL.into_iter().find(|t| t.as_str() == type_) else {
                    continue;
                };
                let mut known = Reason::ALL.into_iter().map(Reason::as_str).chain([reason::GRANTED]);
                let reason = known.find(|r| *r == why).unwrap_or("Other");
                let status = ["True", "False"].into_iter().find(|s| *s == status).unwrap_or("Unknown");
                *counts.entry((type_, status, reason)).or_default() += count;
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

#[cfg(test)]
mod tests;
