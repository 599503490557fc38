//! A binding as it is kept between passes: what is read of it, and words that many bindings share only once.
//!
//! Ten thousand bindings of a fleet differ in little but their instance. A whole object takes about three times
//! the memory; it is made again for each pass.

use std::borrow::Cow;

use internment::ArcIntern;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::ObjectMeta;
use kube::{Resource, ResourceExt};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::bindings::Fares;
use crate::api::binding::{
    AdoptionPolicy, Change, DeletionPolicy, InstanceProfile, InstanceRoleBindingSpec,
    InstanceRoleBindingStatus, Mode, NoProfile, ObservedAssociation, Operation, PlannedChange, ProfileOrNone,
    WhenStopped,
};
use crate::api::condition::ConditionType;
use crate::api::{FINALIZER, InstanceRoleBinding};

/// A text that many bindings share.
type Word = ArcIntern<str>;

/// A binding as it is kept between passes.
#[derive(Debug, Clone)]
pub struct Kept {
    metadata: ObjectMeta,
    spec: Spec,
    status: Option<Box<Status>>,
}

#[derive(Debug, Clone)]
struct Spec {
    instance_id: Box<str>,
    region: Option<Word>,
    profile: Profile,
    mode: Option<Mode>,
    adoption_policy: AdoptionPolicy,
    when_stopped: WhenStopped,
    deletion_policy: Option<DeletionPolicy>,
    suspend: bool,
}

#[derive(Debug, Clone)]
struct Profile {
    name: Option<Word>,
    arn: Option<Word>,
    role_name: Option<Word>,
    none: bool,
}

#[derive(Debug, Clone)]
struct Status {
    observed_generation: Option<i64>,
    region: Option<Word>,
    account: Option<Word>,
    mode: Option<Mode>,
    deletion_policy: Option<DeletionPolicy>,
    profile: Option<Word>,
    desired: Option<Carried>,
    observed: Option<Association>,
    previous: Option<Carried>,
    adopted: Option<bool>,
    changes: Box<[Made]>,
    plan: Box<[(Operation, Word)]>,
    grant: Option<Word>,
    last_handled_requested_at: Option<Box<str>>,
    conditions: Box<[Told]>,
}

#[derive(Debug, Clone)]
struct Carried {
    profile_arn: Option<Word>,
    none: Option<bool>,
}

#[derive(Debug, Clone)]
struct Association {
    profile_arn: Option<Word>,
    profile_id: Option<Word>,
    association_id: Option<Box<str>>,
    association_state: Option<Word>,
}

#[derive(Debug, Clone)]
struct Made {
    operation: Operation,
    from: Word,
    to: Word,
    then: Option<Word>,
    at: Time,
    request_id: Option<Box<str>>,
}

#[derive(Debug, Clone)]
struct Told {
    type_: Word,
    status: Word,
    reason: Word,
    message: Word,
    observed_generation: Option<i64>,
    since: Time,
}

fn word(text: String) -> Word {
    Word::from(text.as_str())
}

fn words(text: Option<String>) -> Option<Word> {
    text.map(word)
}

fn text(word: &Option<Word>) -> Option<String> {
    word.as_ref().map(|word| word.to_string())
}

/// One object that cannot be read must not end the watch of all: tenants write status, and dates in it that the API server
/// takes need not be dates to us. What cannot be read of an object is left out.
impl<'de> Deserialize<'de> for Kept {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut object = Value::deserialize(from)?;
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        match InstanceRoleBinding::deserialize(&object) {
            Ok(binding) => Ok(binding.into()),
            Err(_) => {
                if let Some(fields) = object.as_object_mut() {
                    fields.remove("status");
                }
                InstanceRoleBinding::deserialize(object).map(Self::from).map_err(serde::de::Error::custom)
            }
        }
    }
}

impl From<InstanceRoleBinding> for Kept {
    fn from(mut binding: InstanceRoleBinding) -> Self {
        super::kubernetes::trim(&mut binding);
        let InstanceRoleBinding { metadata, spec, status } = binding;
        Self { metadata, spec: spec.into(), status: status.map(|status| Box::new(status.into())) }
    }
}

impl Kept {
    /// The whole object.
    pub fn whole(&self) -> InstanceRoleBinding {
        let Self { metadata, spec, status } = self;
        InstanceRoleBinding {
            metadata: metadata.clone(),
            spec: spec.whole(),
            status: status.as_ref().map(|status| status.whole()),
        }
    }

    /// The instance that is declared.
    pub fn instance_id(&self) -> &str {
        &self.spec.instance_id
    }

    /// The Region that is declared.
    pub fn region(&self) -> Option<&str> {
        self.spec.region.as_deref()
    }

    /// The declared profile's name, ARN and role, of which at most one is there.
    pub fn declares(&self) -> [Option<&str>; 3] {
        let Profile { name, arn, role_name, none: _ } = &self.spec.profile;
        [name, arn, role_name].map(|declared| declared.as_deref())
    }

    /// How it fares, as its rivals see it.
    pub fn fares(&self) -> Fares {
        let holds = [ConditionType::Authorized, ConditionType::Synced, ConditionType::Stalled].map(|type_| {
            self.conditions().any(|(told, status, _)| told == type_.as_str() && status == "True")
        });
        Fares {
            finalizer: self.finalizers().iter().any(|finalizer| finalizer == FINALIZER),
            adopted: self.status.as_ref().is_some_and(|status| status.adopted == Some(true)),
            conditions: holds,
        }
    }

    /// Type, status and reason of each condition.
    pub fn conditions(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        let told = self.status.iter().flat_map(|status| status.conditions.iter());
        told.map(|told| (&*told.type_, &*told.status, &*told.reason))
    }
}

impl From<InstanceRoleBindingSpec> for Spec {
    fn from(spec: InstanceRoleBindingSpec) -> Self {
        let InstanceRoleBindingSpec {
            instance_id,
            region,
            instance_profile,
            mode,
            adoption_policy,
            when_stopped,
            deletion_policy,
            suspend,
        } = spec;
        let InstanceProfile { name, arn, role_name, none } = instance_profile;
        let profile =
            Profile { name: words(name), arn: words(arn), role_name: words(role_name), none: none.is_some() };
        Self {
            instance_id: instance_id.into(),
            region: words(region),
            profile,
            mode,
            adoption_policy,
            when_stopped,
            deletion_policy,
            suspend,
        }
    }
}

impl Spec {
    fn whole(&self) -> InstanceRoleBindingSpec {
        let Profile { name, arn, role_name, none } = &self.profile;
        InstanceRoleBindingSpec {
            instance_id: self.instance_id.to_string(),
            region: text(&self.region),
            instance_profile: InstanceProfile {
                name: text(name),
                arn: text(arn),
                role_name: text(role_name),
                none: none.then_some(NoProfile {}),
            },
            mode: self.mode,
            adoption_policy: self.adoption_policy,
            when_stopped: self.when_stopped,
            deletion_policy: self.deletion_policy,
            suspend: self.suspend,
        }
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
            observed,
            previous,
            adopted,
            changes,
            plan,
            grant,
            last_handled_requested_at,
            conditions,
        } = status;
        Self {
            observed_generation,
            region: words(region),
            account: words(account),
            mode,
            deletion_policy,
            profile: words(profile),
            desired: desired.map(Carried::from),
            observed: observed.map(Association::from),
            previous: previous.map(Carried::from),
            adopted,
            changes: changes.into_iter().map(Made::from).collect(),
            plan: plan.into_iter().map(|planned| (planned.operation, word(planned.reason))).collect(),
            grant: words(grant),
            last_handled_requested_at: last_handled_requested_at.map(Into::into),
            conditions: conditions.into_iter().map(Told::from).collect(),
        }
    }
}

impl Status {
    fn whole(&self) -> InstanceRoleBindingStatus {
        let planned = |(operation, reason): &(Operation, Word)| PlannedChange {
            operation: *operation,
            reason: reason.to_string(),
        };
        InstanceRoleBindingStatus {
            observed_generation: self.observed_generation,
            region: text(&self.region),
            account: text(&self.account),
            mode: self.mode,
            deletion_policy: self.deletion_policy,
            profile: text(&self.profile),
            desired: self.desired.as_ref().map(Carried::whole),
            observed: self.observed.as_ref().map(Association::whole),
            previous: self.previous.as_ref().map(Carried::whole),
            adopted: self.adopted,
            changes: self.changes.iter().map(Made::whole).collect(),
            plan: self.plan.iter().map(planned).collect(),
            grant: text(&self.grant),
            last_handled_requested_at: self.last_handled_requested_at.as_ref().map(|at| at.to_string()),
            conditions: self.conditions.iter().map(Told::whole).collect(),
        }
    }
}

impl From<ProfileOrNone> for Carried {
    fn from(ProfileOrNone { profile_arn, none }: ProfileOrNone) -> Self {
        Self { profile_arn: words(profile_arn), none }
    }
}

impl Carried {
    fn whole(&self) -> ProfileOrNone {
        ProfileOrNone { profile_arn: text(&self.profile_arn), none: self.none }
    }
}

impl From<ObservedAssociation> for Association {
    fn from(observed: ObservedAssociation) -> Self {
        let ObservedAssociation { profile_arn, profile_id, association_id, association_state } = observed;
        Self {
            profile_arn: words(profile_arn),
            profile_id: words(profile_id),
            association_id: association_id.map(Into::into),
            association_state: words(association_state),
        }
    }
}

impl Association {
    fn whole(&self) -> ObservedAssociation {
        ObservedAssociation {
            profile_arn: text(&self.profile_arn),
            profile_id: text(&self.profile_id),
            association_id: self.association_id.as_ref().map(|id| id.to_string()),
            association_state: text(&self.association_state),
        }
    }
}

impl From<Change> for Made {
    fn from(Change { operation, from, to, then, at, request_id }: Change) -> Self {
        let (from, to, then) = (word(from), word(to), words(then));
        Self { operation, from, to, then, at, request_id: request_id.map(Into::into) }
    }
}

impl Made {
    fn whole(&self) -> Change {
        Change {
            operation: self.operation,
            from: self.from.to_string(),
            to: self.to.to_string(),
            then: text(&self.then),
            at: self.at.clone(),
            request_id: self.request_id.as_ref().map(|id| id.to_string()),
        }
    }
}

impl From<Condition> for Told {
    fn from(condition: Condition) -> Self {
        let Condition { type_, status, reason, message, observed_generation, last_transition_time } =
            condition;
        Self {
            type_: word(type_),
            status: word(status),
            reason: word(reason),
            message: word(message),
            observed_generation,
            since: last_transition_time,
        }
    }
}

impl Told {
    fn whole(&self) -> Condition {
        Condition {
            type_: self.type_.to_string(),
            status: self.status.to_string(),
            reason: self.reason.to_string(),
            message: self.message.to_string(),
            observed_generation: self.observed_generation,
            last_transition_time: self.since.clone(),
        }
    }
}

/// As the whole object: the store and the controller runtime know a binding by its name.
impl Resource for Kept {
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
                       "conditions": [condition("Ready"), condition("Synced"), condition("OfSomebodyElse")]},
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
            let unseen = InstanceRoleBinding { status: None, ..whole };
            assert_eq!(Kept::from(unseen.clone()).whole(), unseen);
        }
    }

    #[test]
    fn a_date_that_is_none_to_us_ends_no_watch() {
        let bad = "9999-12-31T23:59:59Z";
        let mut object = serde_json::to_value(binding(json!({"name": "app"}))).unwrap();
        object["metadata"]["managedFields"] = json!([{"manager": "x", "operation": "Update", "time": bad}]);
        let kept: Kept = serde_json::from_value(object.clone()).unwrap();
        assert!(kept.status.is_some());
        object["status"]["conditions"][0]["lastTransitionTime"] = json!(bad);
        let kept: Kept = serde_json::from_value(object).unwrap();
        assert!(kept.status.is_none() && kept.instance_id() == "i-0123456789abcdef0");
    }

    #[test]
    fn words_that_bindings_share_are_kept_once() {
        let [one, other] = [(); 2].map(|()| Kept::from(binding(json!({"name": "app"}))));
        let message = |kept: &Kept| kept.status.as_ref().unwrap().conditions[0].message.clone();
        assert!(std::ptr::eq(&*message(&one), &*message(&other)));
    }
}
