//! What `run` would do, decided by what it decides by, for many bindings at once, and nothing done.
//!
//! It has the [`Ground`] of the controller and none of its ways to write: no client of Kubernetes, and connections to AWS whose
//! fence was never opened, so that a write would be refused before it is sent.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use kube::api::ObjectMeta;
use kube::core::metadata::PartialObjectMetaExt;
use kube::runtime::watcher::Event;
use tokio::sync::mpsc;

pub use super::bindings::Key;
use super::bindings::{Bindings, Spot};
use super::context::Settings;
use super::entitle::{Recount, entitle};
use super::gather::{self, Facts, Question};
use super::grants::NamespaceMeta;
use super::ground::Ground;
pub use super::kept::Watched;
use super::readable::Readable;
use super::reconcile::{learn, look};
use crate::api::grant::{InstanceRoleGrantSpec, Instances, Namespaces};
use crate::api::{InstanceRoleBinding, InstanceRoleGrant};
use crate::decide::{
    Authority, Carried, Credentials, Decision, Declared, Desired, Evidence, Lack, Resolution, Rows, Step,
    trouble, without_rights,
};
use crate::ec2::cloud::{Environment, Identity};
use crate::ec2::fleet::Pace;
use crate::ec2::{Cloud, Connection, Error, again};
use crate::ids::Region;
use crate::telemetry::Metrics;

/// Looks and decisions for one binding.
const ROUNDS: usize = 8;

/// All that is known of Kubernetes, from wherever it was read.
#[derive(Debug, Default)]
pub struct Sources {
    /// All bindings, those included that only stand in the way of others. Of those for one instance the oldest acts, so each has
    /// a time of creation and a UID.
    pub bindings: Vec<InstanceRoleBinding>,
    /// The grants; none: authorisation is left out, as if one covered all that is declared.
    pub grants: Option<Vec<InstanceRoleGrant>>,
    /// The labels of the namespaces that are known.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
}

/// What `run` would do with one binding.
#[derive(Debug)]
pub struct Forecast {
    /// Which.
    pub key: Key,
    /// The Region of its instance, if its spec can be read.
    pub region: Option<Region>,
    /// The instance it declares.
    pub instance: String,
    /// What would become of it.
    pub outcome: Outcome,
}

/// What would become of a binding.
#[derive(Debug)]
pub enum Outcome {
    /// This was decided.
    Decided {
        /// The decision.
        decision: Box<Decision>,
        /// What the instance carries, where that is known and may be told.
        carries: Option<Carried>,
        /// What it is to carry, where that is known and may be told.
        wanted: Option<Carried>,
    },
    /// Its spec cannot be read, so it would be left alone; in words.
    Malformed(String),
    /// AWS did not let it be told: what `run` would say in the same case, and AWS's own words.
    Unseen(Box<Decision>, String),
}

/// How far a forecast is.
#[derive(Debug, Default)]
pub struct Progress {
    decided: AtomicUsize,
    all: AtomicUsize,
}

impl Progress {
    /// How many bindings are decided, and how many there are.
    pub fn counts(&self) -> (usize, usize) {
        (self.decided.load(Ordering::Relaxed), self.all.load(Ordering::Relaxed))
    }
}

/// Decides as the controller does.
#[derive(Debug)]
pub struct Forecaster {
    ground: Ground,
}

/// One binding on its way to a decision.
#[derive(Debug, Clone)]
struct Subject {
    key: Key,
    object: Arc<InstanceRoleBinding>,
    desired: Desired,
    spot: Spot,
    credentials: Credentials,
    connection: Connection,
}

/// What AWS did not answer, asked for all at once.
#[derive(Debug, Default)]
struct Failures {
    profiles: HashMap<(Credentials, Declared), Error>,
    regions: HashMap<(Credentials, Region), Error>,
}

impl Failures {
    /// What keeps from looking at this.
    fn of(&self, subject: &Subject, wanted: Evidence) -> Option<&Error> {
        let Subject { credentials, desired, spot, .. } = subject;
        let profile = || self.profiles.get(&(credentials.clone(), desired.declared.clone()));
        let region = || self.regions.get(&(credentials.clone(), spot.region.clone()));
        let profile = wanted.profile.then(profile).flatten();
        profile.or_else(|| (wanted.associations || wanted.instance).then(region).flatten())
    }
}

impl Forecaster {
    /// Takes in what is known of Kubernetes. `settings` are those of `run`.
    pub fn new(
        settings: Settings,
        environment: Environment,
        identity: &Identity,
        metrics: Arc<Metrics>,
        sources: Sources,
    ) -> Self {
        // Nobody is told of changes: a forecast looks when it wants to know.
        let (changed, _) = mpsc::unbounded_channel();
        let (region, share) = (environment.region.clone(), settings.share);
        let cloud = Cloud::new(environment, identity.account.clone(), share, None, metrics, changed);
        let bindings = Bindings::new(1, region.clone());
        let Sources { bindings: all, grants, namespaces } = sources;
        let grants = grants.unwrap_or_else(|| vec![everything(&all, &region, identity)]);
        listed(all.into_iter().map(Watched::from), |event| drop(bindings.follow(&None, event.clone())));
        let own_instance = settings.self_instance.clone();
        let ground = Ground::new(settings, Arc::new(bindings), own_instance, cloud);
        listed(namespaces.into_iter().map(namespace).map(Readable), |event| {
            ground.grants.follow_namespaces(event)
        });
        listed(grants.into_iter().map(Readable), |event| drop(ground.grants.follow(event)));
        Self { ground }
    }

    /// What `run` would do with these, in their order.
    pub async fn forecast(&self, keys: &[Key], progress: &Progress) -> Vec<Forecast> {
        progress.all.store(keys.len(), Ordering::Relaxed);
        let mut subjects = Vec::new();
        let mut told: HashMap<Key, Forecast> = HashMap::new();
        for key in keys {
            match self.subject(key).await {
                Some(Ok(subject)) => subjects.push(subject),
                Some(Err(forecast)) => drop(told.insert(key.clone(), *forecast)),
                None => {}
            }
        }
        progress.decided.fetch_add(told.len(), Ordering::Relaxed);
        let failures = &self.look_at_all(&subjects).await;
        let decided = subjects.into_iter().map(|subject| async move {
            let forecast = self.consider(subject, failures).await;
            progress.decided.fetch_add(1, Ordering::Relaxed);
            forecast
        });
        told.extend(join_all(decided).await.into_iter().map(|forecast| (forecast.key.clone(), forecast)));
        keys.iter().filter_map(|key| told.remove(key)).collect()
    }

    /// A binding with the connection that it would be looked at by. What no grant could cover is told without asking AWS
    /// anything.
    async fn subject(&self, key: &Key) -> Option<Result<Subject, Box<Forecast>>> {
        let ground = &self.ground;
        let object = ground.bindings.get(key)?;
        let instance = object.spec.instance_id.clone();
        let told = |region: Option<Region>, outcome| {
            Some(Err(Box::new(Forecast { key: key.clone(), region, instance: instance.clone(), outcome })))
        };
        let desired = match gather::desired(&object, &ground.settings) {
            Ok(desired) => desired,
            Err(malformed) => return told(None, Outcome::Malformed(malformed.to_string())),
        };
        let spot = ground.bindings.spot(&object)?;
        match entitle(ground, &object, &desired, &spot, Recount::Always) {
            Ok(entitled) => {
                let (connection, _) = ground.cloud.connect(&entitled.credentials, &spot.region).await;
                let credentials = entitled.credentials;
                Some(Ok(Subject { key: key.clone(), object, desired, spot, credentials, connection }))
            }
            Err(lack) => {
                let outcome = without(&object, &desired, &lack);
                told(Some(spot.region), outcome)
            }
        }
    }

    /// What many need, by few calls: IAM's profiles, then one listing for each Region.
    async fn look_at_all(&self, subjects: &[Subject]) -> Failures {
        let mut failures = Failures::default();
        let mut accounts: HashMap<&Credentials, Vec<&Subject>> = HashMap::new();
        let mut regions: HashMap<(&Credentials, &Region), Vec<&Subject>> = HashMap::new();
        for subject in subjects {
            let Subject { credentials, spot, desired, .. } = subject;
            if desired.declared != Declared::NoProfile {
                accounts.entry(credentials).or_default().push(subject);
            }
            regions.entry((credentials, &spot.region)).or_default().push(subject);
        }
        let accounts =
            accounts.into_values().map(|subjects| async move { look_at_profiles(&subjects).await });
        for failed in join_all(accounts).await {
            failures.profiles.extend(failed);
        }
        let listings = regions.into_iter().map(|((credentials, region), subjects)| async move {
            let fleet = &subjects.first()?.connection.fleet;
            subjects.iter().for_each(|subject| self.track(subject));
            let error = again(|| fleet.pass()).await.err()?;
            Some(((credentials.clone(), region.clone()), error))
        });
        failures.regions.extend(join_all(listings).await.into_iter().flatten());
        failures
    }

    /// Takes an instance into view, if it may be looked at.
    fn track(&self, subject: &Subject) {
        let Subject { object, desired, spot, connection, .. } = subject;
        let resolution = connection.catalogue.resolve(&desired.declared);
        let entitled = entitle(&self.ground, object, desired, spot, Recount::Always);
        let may_look =
            entitled.is_ok_and(|entitled| entitled.rights.may_look(&desired.declared, &resolution));
        if gather::is_unfinished(object) || may_look {
            connection.fleet.track(&desired.instance);
        }
    }

    /// Decides, looking at what the decision asks for, as a pass does.
    async fn consider(&self, mut subject: Subject, failures: &Failures) -> Forecast {
        self.learn_of_rivals(&subject).await;
        for _ in 0..ROUNDS {
            let (facts, decision) = match self.judge(&subject) {
                Ok(judged) => judged,
                Err(Unjudged::Lack(lack)) => {
                    let outcome = without(&subject.object, &subject.desired, &lack);
                    return subject.becomes(outcome);
                }
                // Another role is to act.
                Err(Unjudged::As(credentials)) => {
                    let cloud = &self.ground.cloud;
                    (subject.connection, _) = cloud.connect(&credentials, &subject.spot.region).await;
                    subject.credentials = credentials;
                    continue;
                }
            };
            let Step::Look(wanted) = decision.step else {
                let outcome = decided(&facts, decision);
                return subject.becomes(outcome);
            };
            let Subject { connection, desired, .. } = &subject;
            let looked = match failures.of(&subject, wanted) {
                Some(error) => Err(error.clone()),
                None => again(|| look(connection, desired, wanted, Pace::Hurry)).await,
            };
            if let Err(error) = looked {
                return subject.becomes(unseen(&error));
            }
        }
        let words = "what AWS answered never sufficed for a decision; try again".to_owned();
        let decision = trouble::unseen(&crate::decide::TroubleKind::Unexpected(words.clone()));
        subject.becomes(Outcome::Unseen(Box::new(decision), words))
    }

    /// Whether a rival's claim is good decides who writes, so what it hangs on is looked at.
    async fn learn_of_rivals(&self, subject: &Subject) {
        let Subject { object, spot, connection, .. } = subject;
        for rival in gather::rivals(&self.ground, object, spot, connection) {
            if rival.authority == Authority::Open {
                let cloud = &self.ground.cloud;
                let (theirs, _) = cloud.connect(&rival.entitled.credentials, &spot.region).await;
                // What cannot be told of a rival keeps it in the race, as it does in a pass.
                let _ = again(|| learn(&rival, &theirs, connection)).await;
            }
        }
    }

    fn judge(&self, subject: &Subject) -> Result<(Facts, Decision), Unjudged> {
        let Subject { object, desired, spot, connection, .. } = subject;
        let entitled =
            entitle(&self.ground, object, desired, spot, Recount::Always).map_err(Unjudged::Lack)?;
        if entitled.credentials != subject.credentials {
            return Err(Unjudged::As(entitled.credentials));
        }
        let now = Timestamp::now();
        let status = object.status.clone().unwrap_or_default();
        let question = Question { object, status: &status, desired, spot, connection, began: now };
        let (facts, _) = gather::facts(&self.ground, question, entitled.rights, now);
        let decision = facts.decide(&connection.place, now);
        Ok((facts, decision))
    }
}

/// Why there is no judgement.
enum Unjudged {
    Lack(Lack),
    As(Credentials),
}

impl Subject {
    fn becomes(self, outcome: Outcome) -> Forecast {
        let Self { key, spot, .. } = self;
        Forecast { key, region: Some(spot.region), instance: spot.instance.to_string(), outcome }
    }
}

/// Asks IAM about the profiles that bindings of one account declare, all at once, so that one listing answers for all. Where IAM
/// does not answer, the rest is not asked for.
async fn look_at_profiles(subjects: &[&Subject]) -> HashMap<(Credentials, Declared), Error> {
    let Some(first) = subjects.first() else { return HashMap::new() };
    let catalogue = &first.connection.catalogue;
    let declared: HashSet<&Declared> = subjects.iter().map(|subject| &subject.desired.declared).collect();
    let is_open = |declared: &&Declared| catalogue.resolve(declared) == Resolution::NotAsked;
    let open: Vec<&Declared> = declared.into_iter().filter(is_open).collect();
    match catalogue.look_at_all(&open).await {
        Ok(()) => HashMap::new(),
        Err(error) => {
            let unanswered = open.into_iter().filter(is_open);
            unanswered
                .map(|declared| ((first.credentials.clone(), declared.clone()), error.clone()))
                .collect()
        }
    }
}

fn without(object: &InstanceRoleBinding, desired: &Desired, lack: &Lack) -> Outcome {
    let decision = without_rights(desired, gather::leaving(object, None).as_ref(), lack);
    Outcome::Decided { decision: Box::new(decision), carries: None, wanted: None }
}

fn unseen(error: &Error) -> Outcome {
    Outcome::Unseen(Box::new(trouble::unseen(&error.trouble())), error.to_string())
}

/// The decision, with what is there and what is wanted: told only to who has a right to know.
fn decided(facts: &Facts, decision: Decision) -> Outcome {
    let carries = facts.observed.view.as_ref().and_then(|view| match &view.rows {
        Rows::Bare | Rows::Leaving(_) => Some(Carried::Nothing),
        Rows::One(row) | Rows::Replacing { arriving: row, .. } => {
            Some(Carried::Profile(crate::decide::ProfileRef::Arn(row.profile.clone())))
        }
        Rows::Unclear => None,
    });
    let wanted = match &facts.resolution {
        Resolution::Found(target) => Some(Carried::Profile(target.profile.clone())),
        Resolution::NoProfile => Some(Carried::Nothing),
        _ => None,
    };
    let may_know = decision.authority.is_granted();
    let (carries, wanted) = (carries.filter(|_| may_know), wanted.filter(|_| may_know));
    Outcome::Decided { decision: Box::new(decision), carries, wanted }
}

/// A list, told as a watch tells it.
fn listed<K>(objects: impl Iterator<Item = K>, mut follow: impl FnMut(&Event<K>)) {
    follow(&Event::Init);
    for object in objects {
        follow(&Event::InitApply(object));
    }
    follow(&Event::InitDone);
}

fn namespace((name, labels): (String, BTreeMap<String, String>)) -> NamespaceMeta {
    ObjectMeta { name: Some(name), labels: Some(labels), ..ObjectMeta::default() }
        .into_response_partial::<Namespace>()
}

/// A grant that covers just what these bindings declare: authorisation is left out without a way around the rules.
fn everything(bindings: &[InstanceRoleBinding], own: &Region, identity: &Identity) -> InstanceRoleGrant {
    let (mut namespaces, mut regions) = (BTreeSet::new(), BTreeSet::from([own.to_string()]));
    let Identity { account, partition, .. } = identity;
    let mut profiles = BTreeSet::from([format!("arn:{partition}:iam::{account}:instance-profile/*")]);
    for binding in bindings {
        namespaces.extend(binding.namespace());
        regions.extend(binding.spec.region.clone());
        let declared = &binding.spec.instance_profile;
        profiles.extend([&declared.name, &declared.arn].into_iter().flatten().cloned());
    }
    let list = |set: BTreeSet<String>| set.into_iter().collect::<Vec<String>>();
    let spec = InstanceRoleGrantSpec {
        namespaces: Namespaces { names: Some(list(namespaces)), selector: None },
        instance_profiles: list(profiles),
        instances: Instances { regions: Some(list(regions)), ..Instances::default() },
        allow_none: true,
        max_bindings: None,
        aws: None,
    };
    InstanceRoleGrant::new("authorisation-left-out", spec)
}
