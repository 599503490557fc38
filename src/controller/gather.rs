//! Everything one decision is made from, read from what is in memory; no call to anybody.

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::bindings::{self, Bindings, Spot};
use super::context::Settings;
use super::memory::Version;
use crate::api::binding::{InstanceRoleBindingStatus, Mode, ProfileOrNone};
use crate::api::condition::{self, ConditionType};
use crate::api::{FINALIZER, FORCE_RELEASE, InstanceRoleBinding, REQUESTED_AT};
use crate::decide::conflict::{self, Contender};
use crate::decide::{
    Carried, Cause, Declared, Desired, History, Leaving, PastChange, Place, ProfileRef, Reason, Resolution,
    Standing, Successor,
};
use crate::ec2::fleet::{SETTLE, SETTLE_UNKNOWN};
use crate::ids::{AccountId, InstanceId, Malformed, ProfileArn, ProfileName, Region, RoleName};

/// The spec, parsed, with the controller's defaults filled in. The API server has refused malformed ones already, but
/// for those that were stored before its rules.
pub fn desired(binding: &InstanceRoleBinding, settings: &Settings) -> Result<Desired, Malformed> {
    let spec = &binding.spec;
    let profile = &spec.instance_profile;
    let declared = match (&profile.name, &profile.arn, &profile.role_name, &profile.none) {
        (Some(name), None, None, None) => Declared::Name(ProfileName::parse(name)?),
        (None, Some(arn), None, None) => Declared::Arn(ProfileArn::parse(arn)?),
        (None, None, Some(role), None) => Declared::Role(RoleName::parse(role)?),
        (None, None, None, Some(_)) => Declared::NoProfile,
        _ => {
            return Err(Malformed {
                what: "spec.instanceProfile",
                value: String::new(),
                expected: "it has exactly one of name, arn, roleName and none",
            });
        }
    };
    if let Some(region) = &spec.region {
        Region::parse(region)?;
    }
    let mode = spec.mode.unwrap_or(settings.default_mode);
    Ok(Desired {
        instance: InstanceId::parse(&spec.instance_id)?,
        declared,
        mode: if settings.dry_run { Mode::Observe } else { mode },
        adoption: spec.adoption_policy,
        when_stopped: spec.when_stopped,
        deletion: spec.deletion_policy.unwrap_or(settings.default_deletion_policy),
        suspend: spec.suspend,
    })
}

/// The version of a binding that a note is valid for.
pub fn version(binding: &InstanceRoleBinding) -> Version {
    Version {
        uid: binding.uid().unwrap_or_default(),
        generation: binding.metadata.generation,
        requested_at: binding.annotations().get(REQUESTED_AT).cloned(),
        deleted: binding.metadata.deletion_timestamp.is_some(),
    }
}

/// A request for a look that was not made yet.
pub fn unheard_request(binding: &InstanceRoleBinding) -> bool {
    let asked = binding.annotations().get(REQUESTED_AT);
    asked.is_some() && asked != binding.status.as_ref().and_then(|s| s.last_handled_requested_at.as_ref())
}

/// What status remembers. `resolution` tells whether what was in sync is what is wanted now.
pub fn history(
    binding: &InstanceRoleBinding,
    status: &InstanceRoleBindingStatus,
    resolution: &Resolution,
    rivals: &[Rival],
) -> History {
    let wanted = match resolution {
        Resolution::NoProfile => Some(Carried::Nothing),
        Resolution::Found(target) => Some(Carried::Profile(target.profile.clone())),
        _ => None,
    };
    let desired = status.desired.as_ref().and_then(carried);
    let current =
        status.observed_generation == binding.metadata.generation && wanted.is_some() && wanted == desired;
    let drifting = status.plan.first().is_some_and(|plan| plan.reason == Cause::DriftDetected.as_str());
    History {
        place: place(status),
        adopted: status.adopted == Some(true) || rivals.iter().any(|rival| hands_over(rival, binding)),
        was_in_sync: current && (condition::is_true(&status.conditions, ConditionType::Synced) || drifting),
        desired,
        previous: status.previous.as_ref().and_then(carried),
        changes: status.changes.iter().filter_map(past_change).collect(),
    }
}

fn place(status: &InstanceRoleBindingStatus) -> Option<Place> {
    let account = AccountId::parse(status.account.as_ref()?).ok()?;
    Some(Place { account, region: Region::parse(status.region.as_ref()?).ok()? })
}

fn carried(noted: &ProfileOrNone) -> Option<Carried> {
    match (&noted.profile_arn, noted.none) {
        (Some(profile), _) => ProfileRef::parse(profile).map(Carried::Profile),
        (None, Some(true)) => Some(Carried::Nothing),
        (None, Some(false) | None) => None,
    }
}

fn past_change(change: &crate::api::binding::Change) -> Option<PastChange> {
    Some(PastChange {
        operation: change.operation,
        from: Carried::parse(&change.from)?,
        to: Carried::parse(&change.to)?,
        then: change.then.as_deref().and_then(ProfileRef::parse),
        at: change.at.0,
        confirmed: change.request_id.is_some(),
    })
}

/// The newest change that status tells of, and until when looks may show the time before it.
pub fn settles(history: &History, now: Timestamp) -> Option<(Timestamp, Timestamp)> {
    let newest = history.newest()?;
    let for_long = if newest.confirmed { SETTLE } else { SETTLE_UNKNOWN };
    // `at` is in whole seconds and from before the call was sent, which takes at most five.
    let until = newest.at + for_long + SignedDuration::from_secs(6);
    (newest.at <= now && until > now).then_some((newest.at, until))
}

/// Another binding for the same instance.
pub type Rival = std::sync::Arc<InstanceRoleBinding>;

/// The others for the same instance.
pub fn rivals(binding: &InstanceRoleBinding, spot: &Spot, all: &Bindings) -> Vec<Rival> {
    let uid = binding.uid();
    all.at(spot).into_iter().filter(|other| other.uid() != uid).collect()
}

/// How a binding stands among its rivals.
pub fn standing(binding: &InstanceRoleBinding, rivals: &[Rival], settings: &Settings) -> Standing {
    let mut contenders: Vec<Contender> =
        rivals.iter().filter_map(|rival| contender(rival, settings)).collect();
    contenders.extend(contender(binding, settings));
    conflict::standing(
        &binding.uid().unwrap_or_default(),
        &binding.namespace().unwrap_or_default(),
        &contenders,
    )
}

fn contender(binding: &InstanceRoleBinding, settings: &Settings) -> Option<Contender> {
    let enforces = binding.spec.mode.unwrap_or(settings.default_mode) == Mode::Enforce;
    if !enforces || binding.metadata.deletion_timestamp.is_some() {
        return None;
    }
    Some(Contender {
        created: binding.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |t| t.0),
        uid: binding.uid().unwrap_or_default(),
        namespace: binding.namespace().unwrap_or_default(),
        name: binding.name_any(),
    })
}

/// The deletion, if it was asked for.
pub fn leaving(binding: &InstanceRoleBinding, rivals: &[Rival], settings: &Settings) -> Option<Leaving> {
    let since = binding.metadata.deletion_timestamp.as_ref()?.0;
    Some(Leaving {
        since,
        has_finalizer: has_finalizer(binding),
        forced: binding.annotations().get(FORCE_RELEASE).is_some_and(|value| value == "true"),
        successor: if would_lose(binding, rivals, settings) {
            Some(Successor::Done)
        } else {
            successor(rivals, settings)
        },
    })
}

/// Whether another binding had the instance even before this one was deleted: then nothing there is this one's to undo.
fn would_lose(binding: &InstanceRoleBinding, rivals: &[Rival], settings: &Settings) -> bool {
    let mut undeleted = binding.clone();
    undeleted.metadata.deletion_timestamp = None;
    matches!(standing(&undeleted, rivals, settings), Standing::Loser { .. })
}

fn successor(rivals: &[Rival], settings: &Settings) -> Option<Successor> {
    let contenders: Vec<Contender> = rivals.iter().filter_map(|rival| contender(rival, settings)).collect();
    let next = conflict::winner(&contenders)?;
    let next = rivals.iter().find(|rival| rival.uid().as_deref() == Some(&next.uid))?;
    let conditions = next.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
    let stalled = condition::find(conditions, ConditionType::Stalled).filter(|c| c.status == "True");
    Some(if next.spec.suspend {
        Successor::Refused
    } else if bindings::is_settled(next) {
        Successor::Done
    } else if stalled.is_some_and(|c| c.reason != Reason::Conflict.as_str()) {
        Successor::Refused
    } else {
        Successor::Pending
    })
}

/// Whether our finalizer is on the object.
pub fn has_finalizer(binding: &InstanceRoleBinding) -> bool {
    binding.finalizers().iter().any(|f| f == FINALIZER)
}

/// Whether a binding in deletion leaves its instance to this one: it was carried out, and it is the older one.
fn hands_over(leaving: &InstanceRoleBinding, next: &InstanceRoleBinding) -> bool {
    leaving.metadata.deletion_timestamp.is_some()
        && has_finalizer(leaving)
        && leaving.status.as_ref().is_some_and(|status| status.adopted == Some(true))
        && leaving.metadata.creation_timestamp.as_ref().map(|t| t.0)
            <= next.metadata.creation_timestamp.as_ref().map(|t| t.0)
}
