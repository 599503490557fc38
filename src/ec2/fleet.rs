//! The fleet view: what EC2 shows of the instances that bindings name, in one account and Region.
//!
//! One listing per pass serves them all. What it shows is trusted for what is there; what is missing, or
//! different, is looked up by instance id before anybody concludes from it. For a while after a write of ours
//! EC2's answers may show the past (`aws-semantics` 1.4): until then our knowledge of the reply stands.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, watch};

use super::client::{Ec2, FILTER_VALUES, Read, ReadToken, Reply};
use super::entry::{Entry, FRESH};
pub use super::entry::{SETTLE, SETTLE_UNKNOWN};
use super::error::{Error, Meaning};
use super::found::Found;
use super::gather::Gather;
pub use super::gather::Pace;
use super::listing::{self, Pages, Part};
use crate::decide::{Grade, Instance, Observed, Rows, View};
use crate::ids::InstanceId;

/// So many instances are brought up to date in one go.
const MERGED_AT_ONCE: usize = 1000;

/// The shared view of one account and Region.
#[derive(Debug)]
pub struct Fleet {
    ec2: Ec2,
    entries: Arc<Mutex<HashMap<InstanceId, Box<Entry>>>>,
    associations: Gather,
    instances: Gather,
    health: Mutex<Health>,
    passes: watch::Sender<u64>,
    changed: mpsc::UnboundedSender<InstanceId>,
    pages: tokio::sync::Mutex<Pages>,
    calls: AtomicUsize,
    listings: AtomicU64,
}

#[derive(Debug)]
struct Health {
    good: Timestamp,
    failing: Option<Error>,
}

/// What one pass did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    /// Calls of the listing.
    pub calls: usize,
    /// Instances whose view changed.
    pub changed: usize,
}

impl Fleet {
    /// A view of `ec2`; instances whose view changed by a pass are sent to `changed`.
    pub fn new(ec2: Ec2, changed: mpsc::UnboundedSender<InstanceId>) -> Self {
        let entries: Arc<Mutex<HashMap<InstanceId, Box<Entry>>>> = Arc::default();
        let associations = {
            let (waits, ec2, entries) = (ec2.clone(), ec2.clone(), Arc::clone(&entries));
            let token = move || token_for(waits.clone(), Read::Associations);
            Gather::new(token, move |ids, token| {
                let (ec2, entries) = (ec2.clone(), Arc::clone(&entries));
                Box::pin(async move { look_at_rows(&ec2, token, &entries, &ids).await })
            })
        };
        let instances = {
            let (waits, ec2, entries) = (ec2.clone(), ec2.clone(), Arc::clone(&entries));
            let token = move || token_for(waits.clone(), Read::Instances);
            Gather::new(token, move |ids, token| {
                let (ec2, entries) = (ec2.clone(), Arc::clone(&entries));
                Box::pin(async move { look_at_instances(&ec2, token, &entries, &ids).await.map(drop) })
            })
        };
        Self {
            ec2,
            entries,
            associations,
            instances,
            health: Mutex::new(Health { good: Timestamp::now(), failing: None }),
            passes: watch::Sender::new(0),
            changed,
            pages: tokio::sync::Mutex::default(),
            calls: AtomicUsize::new(0),
            listings: AtomicU64::new(0),
        }
    }

    /// The calls of this account and Region.
    pub fn ec2(&self) -> &Ec2 {
        &self.ec2
    }

    /// Keeps this instance in view.
    pub fn track(&self, id: &InstanceId) {
        let mut entries = self.entries();
        let entry = entries.entry(id.clone()).or_default();
        if entry.unwanted {
            entry.wanted_again();
        }
    }

    /// No binding names this instance any more. What a write of ours left unsettled is remembered until it has
    /// settled: a new binding for the instance must not take the past for the present.
    pub fn untrack(&self, id: &InstanceId) {
        let mut entries = self.entries();
        match entries.get_mut(id) {
            Some(entry) if entry.write.is_some() => entry.unwanted = true,
            Some(_) | None => drop(entries.remove(id)),
        }
    }

    /// Keeps these instances in view and no others; those that were until now.
    pub fn track_only(&self, wanted: HashSet<InstanceId>) -> Vec<InstanceId> {
        let others: Vec<InstanceId> =
            self.entries().keys().filter(|id| !wanted.contains(*id)).cloned().collect();
        others.iter().for_each(|id| self.untrack(id));
        wanted.iter().for_each(|id| self.track(id));
        others
    }

    /// How many calls the last pass made.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// How many listings are in the view.
    pub fn listings(&self) -> u64 {
        self.listings.load(Ordering::Acquire)
    }

    /// Whether any instance is kept in view.
    pub fn is_idle(&self) -> bool {
        self.entries().values().all(|entry| entry.unwanted)
    }

    /// What is known of the instance now. A look at the instance from before `since` is none to write by.
    pub fn observed(&self, id: &InstanceId, now: Timestamp, since: Timestamp) -> Observed {
        self.entries().get(id).map_or_else(Observed::default, |entry| entry.observed(now, since))
    }

    /// Until when a write may rest on the last look at the instance.
    pub fn fresh_until(&self, id: &InstanceId) -> Option<Timestamp> {
        let entries = self.entries();
        let (_, at) = entries.get(id)?.instance.as_deref()?;
        Some(at.saturating_add(FRESH).unwrap_or(*at))
    }

    /// When what our last write changed will have settled, if it has not.
    pub fn settles(&self, id: &InstanceId) -> Option<Timestamp> {
        let entries = self.entries();
        let settles = entries.get(id)?.write.as_ref()?.settles;
        (settles > Timestamp::now()).then_some(settles)
    }

    /// Looks up the associations of one instance, by its id. While our own last write settles there is no hurry: nothing is
    /// to be done but to see it done.
    pub async fn look_at_associations(&self, id: &InstanceId, pace: Pace) -> Result<(), Error> {
        let pace = if self.settles(id).is_some() { Pace::Leisure } else { pace };
        if self.is_impossible(id) { Ok(()) } else { self.associations.look(id, pace).await }
    }

    /// Looks at the instance itself.
    pub async fn look_at_instance(&self, id: &InstanceId, pace: Pace) -> Result<(), Error> {
        if self.is_impossible(id) { Ok(()) } else { self.instances.look(id, pace).await }
    }

    /// Looks at what a write needs to know and is not known.
    pub async fn look_before_write(&self, id: &InstanceId) -> Result<(), Error> {
        let settled = |entry: &Entry| entry.view.as_ref().is_some_and(|view| view.grade == Grade::Settled);
        let settled = self.entries().get(id).is_some_and(|entry| settled(entry));
        let rows = async { if settled { Ok(()) } else { self.look_at_associations(id, Pace::Hurry).await } };
        let (rows, instance) = tokio::join!(rows, self.look_at_instance(id, Pace::Hurry));
        rows.and(instance)
    }

    /// `who` waits (or no longer waits) for this instance: its state is looked at in each pass.
    pub fn await_instance(&self, id: &InstanceId, who: &str, waits: bool) {
        if let Some(entry) = self.entries().get_mut(id) {
            entry.awaited_by.retain(|other| &**other != who);
            if waits {
                // Nearly always one: room for more is made when more come.
                entry.awaited_by.reserve_exact(1);
                entry.awaited_by.push(who.into());
            }
        }
    }

    /// A write ended with this reply: what it says is there now.
    pub fn wrote(&self, id: &InstanceId, reply: &Reply, now: Timestamp) {
        if let Some(entry) = self.entries().get_mut(id) {
            entry.wrote(reply.association.clone(), now);
        }
    }

    /// A write ended without a reply: it may have been carried out.
    pub fn wrote_perhaps(&self, id: &InstanceId, now: Timestamp) {
        if let Some(entry) = self.entries().get_mut(id) {
            let known = entry.ids();
            entry.unproved(Some(known), now, now + SETTLE_UNKNOWN);
        }
    }

    /// A write was begun at `at` by another process, or by this one before it was started: until `settles` a look
    /// may show the past. Writes that this process made are accounted for already.
    pub fn written_elsewhere(&self, id: &InstanceId, at: Timestamp, settles: Timestamp) {
        let mut entries = self.entries();
        let entry = entries.entry(id.clone()).or_default();
        if entry.accounted.is_none_or(|accounted| accounted < at) {
            entry.unproved(None, at, settles);
        }
    }

    /// Waits until the first pass is over, well or badly.
    pub async fn first_pass(&self) {
        // The sender lives as long as self, so this cannot fail.
        let _ = self.passes.subscribe().wait_for(|passes| *passes > 0).await;
    }

    /// What keeps the view from being renewed: refused credentials at once, anything else only when the view is
    /// older than `patience`. An outage of AWS does not make ten thousand objects change.
    pub fn failing(&self, patience: SignedDuration, now: Timestamp) -> Option<Error> {
        let health = self.health();
        let error = health.failing.as_ref()?;
        let at_once = matches!(error.meaning(), Meaning::Credentials | Meaning::Role);
        (at_once || now.duration_since(health.good) > patience).then(|| error.clone())
    }

    /// One pass: a listing for all, and the states of the instances that somebody waits for.
    pub async fn pass(&self) -> Result<Pass, Error> {
        let result = self.list().await;
        let mut health = self.health();
        match &result {
            Ok((_, began)) => *health = Health { good: *began, failing: None },
            Err(error) => health.failing = Some(error.clone()),
        }
        drop(health);
        self.passes.send_modify(|passes| *passes += 1);
        result.map(|(pass, _)| pass)
    }

    /// Has everybody look again, as after a change of the view's health.
    pub fn tell_all(&self) {
        for id in self.entries().keys() {
            let _ = self.changed.send(id.clone());
        }
    }

    async fn list(&self) -> Result<(Pass, Timestamp), Error> {
        let began = Timestamp::now();
        let ids: Vec<InstanceId> = {
            let mut entries = self.entries();
            entries.retain(|_, e| !e.unwanted || e.write.as_ref().is_some_and(|write| began < write.settles));
            entries.values_mut().for_each(|entry| entry.forget_instance(began));
            entries
                .iter()
                .filter(|(_, e)| !e.is_impossible() && !e.unwanted)
                .map(|(id, _)| id.clone())
                .collect()
        };
        if ids.is_empty() {
            return Ok((Pass { calls: 0, changed: 0 }, began));
        }
        let mut pages = self.pages.lock().await;
        let mut found = Found::for_instances(ids.len());
        let take_in = |part| match part {
            Part::Rows(rows) => found.take_in(rows, &self.entries()),
            Part::Anew => found = Found::for_instances(ids.len()),
        };
        let listed = listing::list(&self.ec2, &ids, take_in, &mut pages).await?;
        drop(pages);
        let mut changed = self.merge(&ids, found, listed, began);
        let awaited: Vec<InstanceId> = self
            .entries()
            .iter()
            .filter(|(_, e)| !e.awaited_by.is_empty() && !e.is_impossible())
            .map(|(id, _)| id.clone())
            .collect();
        let calls = changed.0 + awaited.len().div_ceil(FILTER_VALUES);
        self.calls.store(calls, Ordering::Relaxed);
        for batch in awaited.chunks(FILTER_VALUES) {
            let token = self.ec2.read_token(Read::Instances).await;
            changed.1.extend(look_at_instances(&self.ec2, token, &self.entries, batch).await?);
        }
        for id in &changed.1 {
            let _ = self.changed.send(id.clone());
        }
        Ok((Pass { calls: changed.0, changed: changed.1.len() }, began))
    }

    fn merge(
        &self,
        ids: &[InstanceId],
        mut found: Found,
        listed: listing::Listed,
        began: Timestamp,
    ) -> (usize, Vec<InstanceId>) {
        impossible(&mut self.entries(), &listed.malformed);
        let mut changed = Vec::new();
        // Not all in one go: others want to know something in between.
        for ids in ids.chunks(MERGED_AT_ONCE) {
            let mut entries = self.entries();
            for id in ids {
                let Some(entry) = entries.get_mut(id) else { continue };
                let before = entry.view.as_ref().map(|v| (v.rows.clone(), v.grade));
                let rows = found.take(id);
                if listed.by_id {
                    entry.looked_up(rows, began)
                } else {
                    entry.listed(rows, began)
                }
                if before != entry.view.as_ref().map(|v| (v.rows.clone(), v.grade)) {
                    changed.push(id.clone());
                }
            }
        }
        // While nobody can see one without the other.
        self.listings.fetch_add(1, Ordering::Release);
        (listed.calls, changed)
    }

    fn is_impossible(&self, id: &InstanceId) -> bool {
        self.entries().get(id).is_some_and(|entry| entry.is_impossible())
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<InstanceId, Box<Entry>>> {
        lock(&self.entries)
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        lock(&self.health)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while it was held left no half-made entry behind: each change of one is a single assignment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn token_for(ec2: Ec2, read: Read) -> ReadToken {
    ec2.read_token(read).await
}

/// Keeps the associations of a batch.
async fn look_at_rows(
    ec2: &Ec2,
    token: ReadToken,
    entries: &Mutex<HashMap<InstanceId, Box<Entry>>>,
    ids: &[InstanceId],
) -> Result<(), Error> {
    let began = Timestamp::now();
    let (rows, malformed) = listing::associations(ec2, token, ids).await?;
    let mut entries = lock(entries);
    let mut found = Found::default();
    found.take_in(rows, &entries);
    for id in ids {
        // Who is no longer in view is not taken in again by a look that was under way.
        if let Some(entry) = entries.get_mut(id) {
            entry.looked_up(found.take(id), began);
        }
    }
    impossible(&mut entries, &malformed);
    Ok(())
}

/// Keeps the states of a batch and names those that changed.
async fn look_at_instances(
    ec2: &Ec2,
    token: ReadToken,
    entries: &Mutex<HashMap<InstanceId, Box<Entry>>>,
    ids: &[InstanceId],
) -> Result<Vec<InstanceId>, Error> {
    let began = Timestamp::now();
    let (mut found, malformed) = listing::instances(ec2, token, ids).await?;
    let mut entries = lock(entries);
    let mut changed = Vec::new();
    for id in ids {
        let seen = found.remove(id).unwrap_or(Instance::Absent);
        let Some(entry) = entries.get_mut(id).filter(|entry| !entry.is_impossible()) else { continue };
        match entry.instance.as_deref_mut() {
            // A look that began earlier and ended later has nothing to say.
            Some((_, at)) if *at > began => {}
            Some((before, at)) if *before == seen => *at = began,
            Some(_) | None => {
                changed.push(id.clone());
                entry.starts_anew(&seen, began);
                entry.instance = Some(Box::new((seen, began)));
            }
        }
    }
    impossible(&mut entries, &malformed);
    Ok(changed)
}

/// An id that EC2 calls malformed is never sent again: there can be nothing behind it.
fn impossible(entries: &mut HashMap<InstanceId, Box<Entry>>, malformed: &[InstanceId]) {
    for id in malformed {
        tracing::warn!(instance = %id, "EC2 calls this instance id malformed");
        let Some(entry) = entries.get_mut(id) else { continue };
        let now = Timestamp::now();
        entry.instance = Some(Box::new((Instance::Impossible, Timestamp::MAX)));
        entry.view = Some(View { rows: Rows::Bare, grade: Grade::Settled, began: now, ended: now });
    }
}

/// How the passes of a view go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Going {
    failing: bool,
    /// Whether the bindings were told that the view cannot be renewed.
    told: bool,
}

/// Makes a pass and tells how it went. The bindings are told of a failure once, when it is time to tell people.
pub async fn look_around(
    fleet: &Fleet,
    name: &str,
    metrics: &crate::telemetry::Metrics,
    patience: SignedDuration,
    going: Going,
) -> Going {
    let began = Instant::now();
    match fleet.pass().await {
        Ok(pass) => {
            metrics.list(name, pass.calls.try_into().unwrap_or(u64::MAX), began.elapsed());
            tracing::debug!(view = name, calls = pass.calls, changed = pass.changed, "pass");
            if going.failing {
                tracing::info!(view = name, "EC2 answers again");
            }
            if going.told {
                fleet.tell_all();
            }
            Going::default()
        }
        Err(error) => {
            if !going.failing {
                tracing::warn!(view = name, %error, "the associations cannot be listed; what is known stays as it is");
            }
            let lasting = fleet.failing(patience, Timestamp::now()).is_some();
            if lasting && !going.told {
                fleet.tell_all();
            }
            Going { failing: true, told: going.told || lasting }
        }
    }
}
