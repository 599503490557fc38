//! A binding as it is kept between passes: what is read of it, and what many bindings have in common only once.
//!
//! Ten thousand bindings of a fleet differ in little but their instance. A whole object takes several times
//! the memory; it is made again for each pass.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use internment::ArcIntern;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::Resource;
use kube::api::ObjectMeta;
use serde::{Deserialize, Deserializer};

use super::bindings::{Fares, Key, Spot};
use super::readable::Readable;
use crate::api::binding::{
    Change, DeletionPolicy, InstanceProfile, InstanceRoleBindingSpec, InstanceRoleBindingStatus, Mode,
    ObservedAssociation, Operation, PlannedChange, ProfileOrNone,
};
use crate::api::condition::ConditionType;
use crate::api::{FINALIZER, InstanceRoleBinding};
use crate::ids::{InstanceId, Region};

/// A binding as it is kept between passes.
#[derive(Debug, Clone)]
pub struct Kept {
    key: Arc<Key>,
    uid: Option<Box<str>>,
    resource_version: Option<Box<str>>,
    generation: Option<i64>,
    created: Option<Timestamp>,
    deleted: Option<Timestamp>,
    finalizers: Option<ArcIntern<Vec<String>>>,
    /// Ours alone, and hardly anybody has any.
    annotations: Option<BTreeMap<String, String>>,
    instance: Instance,
    /// All but the instance.
    spec: ArcIntern<InstanceRoleBindingSpec>,
    status: Option<Box<Status>>,
}

/// The instance that is declared.
#[derive(Debug, Clone)]
enum Instance {
    At(InstanceId),
    /// Stored before the CRD's rules.
    Malformed(Box<str>),
}

#[derive(Debug, Clone)]
struct Status {
    common: ArcIntern<Common>,
    association_id: Option<Box<str>>,
    changes: Box<[Made]>,
    last_handled_requested_at: Option<Box<str>>,
    conditions: ArcIntern<Vec<Saying>>,
    since: Since,
}

/// What the statuses of many bindings have in common.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Common {
    observed_generation: Option<i64>,
    region: Option<String>,
    account: Option<String>,
    mode: Option<Mode>,
    deletion_policy: Option<DeletionPolicy>,
    profile: Option<String>,
    desired: Option<ProfileOrNone>,
    /// All but the association's id.
    observed: Option<ObservedAssociation>,
    previous: Option<ProfileOrNone>,
    adopted: Option<bool>,
    plan: Vec<PlannedChange>,
    grant: Option<String>,
}

#[derive(Debug, Clone)]
struct Made {
    change: ArcIntern<Exchange>,
    at: Time,
    request_id: Option<Box<str>>,
}

/// What was changed, whenever that was.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Exchange {
    operation: Operation,
    from: String,
    to: String,
    then: Option<String>,
}

/// A condition, since whenever it holds.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Saying {
    type_: String,
    status: String,
    reason: String,
    message: String,
    observed_generation: Option<i64>,
}

/// Since when the conditions hold: most began together.
#[derive(Debug, Clone)]
enum Since {
    All(Timestamp),
    Each(Box<[Timestamp]>),
}

/// What is told of a binding: type, status and reason of each condition. Many bindings share one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Told(ArcIntern<Vec<Saying>>);

impl Told {
    /// Type, status and reason of each condition.
    pub fn conditions(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.0.iter().map(|told| (&*told.type_, &*told.status, &*told.reason))
    }
}

/// A binding as a watch reads it.
#[derive(Debug, Clone)]
pub struct Watched {
    /// What the watch itself goes by: name and version.
    metadata: ObjectMeta,
    /// What is kept of it.
    pub kept: Kept,
}

impl<'de> Deserialize<'de> for Watched {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Readable::<InstanceRoleBinding>::deserialize(from)?.0.into())
    }
}

impl From<InstanceRoleBinding> for Watched {
    fn from(binding: InstanceRoleBinding) -> Self {
        let ObjectMeta { name, namespace, resource_version, .. } = binding.metadata.clone();
        let metadata = ObjectMeta { name, namespace, resource_version, ..ObjectMeta::default() };
        Self { metadata, kept: binding.into() }
    }
}

impl From<InstanceRoleBinding> for Kept {
    fn from(mut binding: InstanceRoleBinding) -> Self {
        super::kubernetes::trim(&mut binding);
        let key = Arc::new(Key::of(&binding));
        let InstanceRoleBinding { metadata, mut spec, status } = binding;
        let ObjectMeta { uid, resource_version, generation, annotations, finalizers, .. } = metadata;
        let instance = std::mem::take(&mut spec.instance_id);
        Self {
            key,
            uid: uid.map(Into::into),
            resource_version: resource_version.map(Into::into),
            generation,
            created: metadata.creation_timestamp.map(|at| at.0),
            deleted: metadata.deletion_timestamp.map(|at| at.0),
            finalizers: finalizers.map(ArcIntern::new),
            annotations,
            instance: InstanceId::parse(&instance)
                .map_or_else(|_| Instance::Malformed(instance.into()), Instance::At),
            spec: ArcIntern::new(spec),
            status: status.map(|status| Box::new(status.into())),
        }
    }
}

impl Kept {
    /// The whole object.
    pub fn whole(&self) -> InstanceRoleBinding {
        let Self { key, uid, resource_version, generation, created, deleted, .. } = self;
        let Self { finalizers, annotations, instance, spec, status, .. } = self;
        let text = |text: &Option<Box<str>>| text.as_ref().map(|text| text.to_string());
        let instance_id = match instance {
            Instance::At(id) => id.to_string(),
            Instance::Malformed(text) => text.to_string(),
        };
        InstanceRoleBinding {
            metadata: ObjectMeta {
                name: Some(key.name.clone()),
                namespace: Some(key.namespace.clone()),
                uid: text(uid),
                resource_version: text(resource_version),
                generation: *generation,
                creation_timestamp: created.map(Time),
                deletion_timestamp: deleted.map(Time),
                finalizers: finalizers.as_ref().map(|finalizers| (**finalizers).clone()),
                annotations: annotations.clone(),
                ..ObjectMeta::default()
            },
            spec: InstanceRoleBindingSpec { instance_id, ..(**spec).clone() },
            status: status.as_ref().map(|status| status.whole()),
        }
    }

    /// Its namespace and name.
    pub fn key(&self) -> &Arc<Key> {
        &self.key
    }

    /// Shares names with what was kept of the same binding before: all tables know it by one.
    pub fn share_with(&mut self, before: &Self) {
        self.key = Arc::clone(&before.key);
        if let (Instance::At(id), Instance::At(former)) = (&mut self.instance, &before.instance)
            && id == former
        {
            id.clone_from(former);
        }
    }

    /// Its UID; empty if it has none.
    pub fn uid(&self) -> &str {
        self.uid.as_deref().unwrap_or_default()
    }

    /// Which spec it has.
    pub fn generation(&self) -> Option<i64> {
        self.generation
    }

    /// When it was made.
    pub fn created(&self) -> Timestamp {
        self.created.unwrap_or(Timestamp::MAX)
    }

    /// Whether it is in deletion.
    pub fn is_deleted(&self) -> bool {
        self.deleted.is_some()
    }

    /// Whether our annotations ask for the same.
    pub fn asks_like(&self, other: &Self) -> bool {
        self.annotations == other.annotations
    }

    /// Whether its instance can be read.
    pub fn is_placed(&self) -> bool {
        matches!(self.instance, Instance::At(_))
    }

    /// Where its instance is: in the Region it names, or in this one.
    pub fn spot(&self, own_region: &Region) -> Option<Spot> {
        let Instance::At(instance) = &self.instance else { return None };
        let region = match self.spec.region.as_deref() {
            Some(region) if region != own_region.as_str() => Region::parse(region).ok()?,
            Some(_) | None => own_region.clone(),
        };
        Some(Spot { region, instance: instance.clone() })
    }

    /// The declared profile's name, ARN and role, of which at most one is there.
    pub fn declares(&self) -> [Option<&str>; 3] {
        let InstanceProfile { name, arn, role_name, none: _ } = &self.spec.instance_profile;
        [name, arn, role_name].map(|declared| declared.as_deref())
    }

    /// How it fares, as its rivals see it.
    pub fn fares(&self) -> Fares {
        let conditions = self.status.as_ref().map(|status| &status.conditions);
        let holds = [ConditionType::Authorized, ConditionType::Synced, ConditionType::Stalled].map(|type_| {
            let mut all = conditions.into_iter().flat_map(|all| all.iter());
            all.any(|told| told.type_ == type_.as_str() && told.status == "True")
        });
        Fares {
            finalizer: self.finalizers.iter().any(|all| all.iter().any(|one| one == FINALIZER)),
            adopted: self.status.as_ref().is_some_and(|status| status.common.adopted == Some(true)),
            conditions: holds,
        }
    }

    /// What is told of it.
    pub fn told(&self) -> Option<Told> {
        self.status.as_ref().map(|status| Told(status.conditions.clone()))
    }
}

impl From<InstanceRoleBindingStatus> for Status {
    fn from(status: InstanceRoleBindingStatus) -> Self {
        let InstanceRoleBindingStatus {
            observed_generation,
            region,
            account,
            mode,
            deletion_policy,
            profile,
            desired,
            mut observed,
            previous,
            adopted,
            changes,
            plan,
            grant,
            last_handled_requested_at,
            conditions,
        } = status;
        let association_id = observed.as_mut().and_then(|observed| observed.association_id.take());
        let common = Common {
            observed_generation,
            region,
            account,
            mode,
            deletion_policy,
            profile,
            desired,
            observed,
            previous,
            adopted,
            plan,
            grant,
        };
        let (conditions, since): (Vec<Saying>, Vec<Timestamp>) = conditions.into_iter().map(said).unzip();
        Self {
            common: ArcIntern::new(common),
            association_id: association_id.map(Into::into),
            changes: changes.into_iter().map(Made::from).collect(),
            last_handled_requested_at: last_handled_requested_at.map(Into::into),
            conditions: ArcIntern::new(conditions),
            since: Since::from(since),
        }
    }
}

impl From<Vec<Timestamp>> for Since {
    fn from(times: Vec<Timestamp>) -> Self {
        match times.first() {
            Some(first) if times.iter().all(|time| time == first) => Self::All(*first),
            Some(_) | None => Self::Each(times.into()),
        }
    }
}

impl Since {
    fn of(&self, at: usize) -> Timestamp {
        match self {
            Self::All(time) => *time,
            // There are as many as conditions.
            Self::Each(times) => times.get(at).copied().unwrap_or_default(),
        }
    }
}

impl Status {
    fn whole(&self) -> InstanceRoleBindingStatus {
        let Common {
            observed_generation,
            region,
            account,
            mode,
            deletion_policy,
            profile,
            desired,
            observed,
            previous,
            adopted,
            plan,
            grant,
        } = &*self.common;
        let text = |text: &Option<Box<str>>| text.as_ref().map(|text| text.to_string());
        let association_id = text(&self.association_id);
        let conditions = self.conditions.iter().enumerate();
        InstanceRoleBindingStatus {
            observed_generation: *observed_generation,
            region: region.clone(),
            account: account.clone(),
            mode: *mode,
            deletion_policy: *deletion_policy,
            profile: profile.clone(),
            desired: desired.clone(),
            observed: observed.clone().map(|observed| ObservedAssociation { association_id, ..observed }),
            previous: previous.clone(),
            adopted: *adopted,
            changes: self.changes.iter().map(Made::whole).collect(),
            plan: plan.clone(),
            grant: grant.clone(),
            last_handled_requested_at: text(&self.last_handled_requested_at),
            conditions: conditions.map(|(at, saying)| saying.whole(self.since.of(at))).collect(),
        }
    }
}

impl From<Change> for Made {
    fn from(Change { operation, from, to, then, at, request_id }: Change) -> Self {
        let change = ArcIntern::new(Exchange { operation, from, to, then });
        Self { change, at, request_id: request_id.map(Into::into) }
    }
}

impl Made {
    fn whole(&self) -> Change {
        let Exchange { operation, from, to, then } = &*self.change;
        Change {
            operation: *operation,
            from: from.clone(),
            to: to.clone(),
            then: then.clone(),
            at: self.at.clone(),
            request_id: self.request_id.as_ref().map(|id| id.to_string()),
        }
    }
}

fn said(condition: Condition) -> (Saying, Timestamp) {
    let Condition { type_, status, reason, message, observed_generation, last_transition_time } = condition;
    (Saying { type_, status, reason, message, observed_generation }, last_transition_time.0)
}

impl Saying {
    fn whole(&self, since: Timestamp) -> Condition {
        Condition {
            type_: self.type_.clone(),
            status: self.status.clone(),
            reason: self.reason.clone(),
            message: self.message.clone(),
            observed_generation: self.observed_generation,
            last_transition_time: Time(since),
        }
    }
}

/// As the whole object: a watch asks the API server for it by these names.
impl Resource for Watched {
    type DynamicType = ();
    type Scope = <InstanceRoleBinding as Resource>::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        InstanceRoleBinding::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        InstanceRoleBinding::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        InstanceRoleBinding::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        InstanceRoleBinding::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn binding(instance_profile: serde_json::Value) -> InstanceRoleBinding {
        let at = "2026-11-23T12:00:00Z";
        let arn = "arn:aws:iam::123456789012:instance-profile/app";
        let condition = |type_: &str| {
            json!({"type": type_, "status": "True", "reason": "Associated", "message": "carries app",
                   "observedGeneration": 2, "lastTransitionTime": at})
        };
        serde_json::from_value(json!({
            "apiVersion": "instancerole.dev/v1alpha1", "kind": "InstanceRoleBinding",
            "metadata": {"name": "web", "namespace": "a", "uid": "u", "resourceVersion": "7", "generation": 2,
                         "creationTimestamp": at, "finalizers": ["instancerole.dev/association"],
                         "annotations": {"instancerole.dev/requestedAt": "1"}},
            "spec": {"instanceId": "i-0123456789abcdef0", "region": "eu-west-1", "instanceProfile": instance_profile,
                     "mode": "Observe", "adoptionPolicy": "OnlyIfNone", "whenStopped": "WaitForRunning",
                     "deletionPolicy": "Restore", "suspend": true},
            "status": {"observedGeneration": 2, "region": "eu-west-1", "account": "123456789012", "mode": "Observe",
                       "deletionPolicy": "Restore", "profile": "app", "desired": {"profileArn": arn},
                       "observed": {"profileArn": arn, "profileId": "AIPA0000000000000001",
                                    "associationId": "iip-assoc-1", "associationState": "associated"},
                       "previous": {"none": true}, "adopted": true, "grant": "team-a",
                       "changes": [{"operation": "AssociateIamInstanceProfile", "from": "none", "to": arn, "then": arn,
                                    "at": at, "requestId": "r"}],
                       "plan": [{"operation": "DisassociateIamInstanceProfile", "reason": "Declared"}],
                       "lastHandledRequestedAt": "1",
                       "conditions": [condition("Ready"), condition("Synced")]},
        }))
        .unwrap()
    }

    #[test]
    fn nothing_that_is_read_is_lost() {
        for profile in [
            json!({"name": "app"}),
            json!({"arn": "arn"}),
            json!({"roleName": "role"}),
            json!({"none": {}}),
            json!({}),
        ] {
            let whole = binding(profile);
            assert_eq!(Kept::from(whole.clone()).whole(), whole);
            let mut staggered = whole.clone();
            let later = Time("2026-11-23T13:00:00Z".parse().unwrap());
            staggered.status.as_mut().unwrap().conditions[1].last_transition_time = later;
            assert_eq!(Kept::from(staggered.clone()).whole(), staggered);
            let unseen = InstanceRoleBinding { status: None, ..whole };
            assert_eq!(Kept::from(unseen.clone()).whole(), unseen);
        }
    }

    #[test]
    fn a_date_that_is_none_to_us_ends_no_watch() {
        let bad = "9999-12-31T23:59:59Z";
        let mut object = serde_json::to_value(binding(json!({"name": "app"}))).unwrap();
        object["metadata"]["managedFields"] = json!([{"manager": "x", "operation": "Update", "time": bad}]);
        let Watched { kept, metadata } = serde_json::from_value(object.clone()).unwrap();
        assert!(kept.status.is_some());
        assert_eq!(metadata.resource_version.as_deref(), Some("7"), "the watch goes on from there");
        object["status"]["conditions"][0]["lastTransitionTime"] = json!(bad);
        let Watched { kept, .. } = serde_json::from_value(object).unwrap();
        assert!(kept.status.is_none() && kept.whole().spec.instance_id == "i-0123456789abcdef0");
    }

    #[test]
    fn what_bindings_have_in_common_is_kept_once() {
        let [one, mut other] = [(); 2].map(|()| binding(json!({"name": "app"})));
        other.spec.instance_id = "i-0fedcba9876543210".into();
        let [one, other] = [one, other].map(Kept::from).map(|kept| (kept.spec, kept.status.unwrap()));
        assert!(std::ptr::eq(&*one.0, &*other.0));
        assert!(std::ptr::eq(&*one.1.common, &*other.1.common));
        assert!(std::ptr::eq(&*one.1.conditions, &*other.1.conditions));
    }

    /// A hundred thousand of them are to fit into 300 MiB with all that EC2 shows of their instances.
    #[test]
    fn a_binding_at_rest_is_small() {
        assert!(size_of::<Kept>() <= 192, "{}", size_of::<Kept>());
        assert!(size_of::<Status>() <= 96, "{}", size_of::<Status>());
        assert!(size_of::<crate::ec2::entry::Entry>() <= 208, "{}", size_of::<crate::ec2::entry::Entry>());
    }

    #[test]
    fn an_instance_that_cannot_be_read_is_nowhere_and_told_as_it_stands() {
        let mut odd = binding(json!({"name": "app"}));
        odd.spec.instance_id = "web-1".into();
        let kept = Kept::from(odd.clone());
        let home = Region::parse("eu-west-1").unwrap();
        assert_eq!((kept.spot(&home), kept.whole()), (None, odd));
    }
}
