//! A binding as it is kept between passes: what is read of it, and what many bindings have in common only once.
//!
//! Ten thousand bindings of a fleet differ in little but their instance. A whole object takes several times
//! the memory; it is made again for each pass.

use std::borrow::Cow;

use internment::ArcIntern;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::ObjectMeta;
use kube::{Resource, ResourceExt};
use serde::{Deserialize, Deserializer};

use super::bindings::Fares;
use super::readable::Readable;
use crate::api::binding::{
    Change, DeletionPolicy, InstanceProfile, InstanceRoleBindingSpec, InstanceRoleBindingStatus, Mode,
    ObservedAssociation, Operation, PlannedChange, ProfileOrNone,
};
use crate::api::condition::ConditionType;
use crate::api::{FINALIZER, InstanceRoleBinding};

/// A binding as it is kept between passes.
#[derive(Debug, Clone)]
pub struct Kept {
    metadata: ObjectMeta,
    instance_id: Box<str>,
    /// All but the instance.
    spec: ArcIntern<InstanceRoleBindingSpec>,
    status: Option<Box<Status>>,
}

#[derive(Debug, Clone)]
struct Status {
    common: ArcIntern<Common>,
    association_id: Option<Box<str>>,
    changes: Box<[Made]>,
    last_handled_requested_at: Option<Box<str>>,
    conditions: Box<[(ArcIntern<Saying>, Time)]>,
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
    message: ArcIntern<str>,
    observed_generation: Option<i64>,
}

impl<'de> Deserialize<'de> for Kept {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Readable::<InstanceRoleBinding>::deserialize(from)?.0.into())
    }
}

impl From<InstanceRoleBinding> for Kept {
    fn from(mut binding: InstanceRoleBinding) -> Self {
        super::kubernetes::trim(&mut binding);
        let InstanceRoleBinding { metadata, mut spec, status } = binding;
        let instance_id = std::mem::take(&mut spec.instance_id).into();
        let status = status.map(|status| Box::new(status.into()));
        Self { metadata, instance_id, spec: ArcIntern::new(spec), status }
    }
}

impl Kept {
    /// The whole object.
    pub fn whole(&self) -> InstanceRoleBinding {
        let Self { metadata, instance_id, spec, status } = self;
        InstanceRoleBinding {
            metadata: metadata.clone(),
            spec: InstanceRoleBindingSpec { instance_id: instance_id.to_string(), ..(**spec).clone() },
            status: status.as_ref().map(|status| status.whole()),
        }
    }

    /// The instance that is declared.
    pub fn instance_id(&self) -> &str {
        &self.instance_id
    }

    /// The Region that is declared.
    pub fn region(&self) -> Option<&str> {
        self.spec.region.as_deref()
    }

    /// The declared profile's name, ARN and role, of which at most one is there.
    pub fn declares(&self) -> [Option<&str>; 3] {
        let InstanceProfile { name, arn, role_name, none: _ } = &self.spec.instance_profile;
        [name, arn, role_name].map(|declared| declared.as_deref())
    }

    /// How it fares, as its rivals see it.
    pub fn fares(&self) -> Fares {
        let holds = [ConditionType::Authorized, ConditionType::Synced, ConditionType::Stalled].map(|type_| {
            self.conditions().any(|(told, status, _)| told == type_.as_str() && status == "True")
        });
        Fares {
            finalizer: self.finalizers().iter().any(|finalizer| finalizer == FINALIZER),
            adopted: self.status.as_ref().is_some_and(|status| status.common.adopted == Some(true)),
            conditions: holds,
        }
    }

    /// Type, status and reason of each condition.
    pub fn conditions(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        let told = self.status.iter().flat_map(|status| status.conditions.iter());
        told.map(|(told, _)| (&*told.type_, &*told.status, &*told.reason))
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
        Self {
            common: ArcIntern::new(common),
            association_id: association_id.map(Into::into),
            changes: changes.into_iter().map(Made::from).collect(),
            last_handled_requested_at: last_handled_requested_at.map(Into::into),
            conditions: conditions.into_iter().map(said).collect(),
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
            conditions: self.conditions.iter().map(|(saying, since)| saying.whole(since)).collect(),
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

fn said(condition: Condition) -> (ArcIntern<Saying>, Time) {
    let Condition { type_, status, reason, message, observed_generation, last_transition_time } = condition;
    let message = ArcIntern::from(message.as_str());
    (ArcIntern::new(Saying { type_, status, reason, message, observed_generation }), last_transition_time)
}

impl Saying {
    fn whole(&self, since: &Time) -> Condition {
        Condition {
            type_: self.type_.clone(),
            status: self.status.clone(),
            reason: self.reason.clone(),
            message: self.message.to_string(),
            observed_generation: self.observed_generation,
            last_transition_time: since.clone(),
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
    fn what_bindings_have_in_common_is_kept_once() {
        let [one, mut other] = [(); 2].map(|()| Kept::from(binding(json!({"name": "app"}))));
        other.instance_id = "i-0fedcba9876543210".into();
        let [one, other] = [one, other].map(|kept| (kept.spec, kept.status.unwrap()));
        assert!(std::ptr::eq(&*one.0, &*other.0));
        assert!(std::ptr::eq(&*one.1.common, &*other.1.common));
        assert!(std::ptr::eq(&*one.1.conditions[0].0, &*other.1.conditions[0].0));
    }
}
