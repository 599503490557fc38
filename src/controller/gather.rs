//! Everything one decision is made from, read from what is in memory; no call to anybody.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::bindings::{Key, Spot};
use super::context::Settings;
use super::entitle::{Entitled, Recount, entitle};
use super::ground::Ground;
use super::memory::Version;
use super::permit::TIMELY;
use crate::api::binding::{InstanceRoleBindingStatus, Mode, ProfileOrNone};
use crate::api::condition::{self, ConditionType, Truth};
use crate::api::{FINALIZER, FORCE_RELEASE, InstanceRoleBinding, REQUESTED_AT};
use crate::decide::conflict::{self, Contender};
use crate::decide::{
    Authority, Carried, Case, Cause, Decision, Declared, Desired, Grade, History, Instance, Leaving,
    Observed, PastChange, Place, ProfileRef, Reason, Resolution, Restraint, Rights, Standing, Step,
    Successor, Trouble, decide,
};
use crate::ec2::Connection;
use crate::ec2::fleet::{SETTLE, SETTLE_UNKNOWN};
use crate::ids::{AccountId, InstanceId, Malformed, ProfileArn, ProfileName, Region, RoleName};

/// How far the clock of another replica may be ahead.
pub const SKEW: SignedDuration = SignedDuration::from_secs(5);

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
        dry_run: settings.dry_run,
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
        grants: Vec::new(),
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
    let in_sync = condition::is_true(&status.conditions, ConditionType::Synced)
        || wanted.as_ref().is_some_and(|wanted| was_brought(status, wanted));
    History {
        place: place(status),
        adopted: status.adopted == Some(true)
            || rivals.iter().any(|rival| rival.authority.is_granted() && hands_over(&rival.object, binding)),
        was_in_sync: current && (in_sync || drifting),
        desired,
        previous: status.previous.as_ref().and_then(carried),
        changes: status.changes.iter().filter_map(past_change).collect(),
    }
}

/// Whether status tells that our newest change brought what is wanted, and nothing is left to do but for EC2 to end it. Who
/// changes the instance even before that is over is an outsider as well.
fn was_brought(status: &InstanceRoleBindingStatus, wanted: &Carried) -> bool {
    let under_way = [Reason::Associating, Reason::Replacing, Reason::Disassociating].map(Reason::as_str);
    let on_its_way = condition::find(&status.conditions, ConditionType::Synced)
        .is_some_and(|synced| synced.status == Truth::False.as_str() && under_way.contains(&&*synced.reason));
    let newest = status.changes.first().and_then(past_change);
    let brought = newest.is_some_and(|change| change.to == *wanted);
    // One of unknown outcome may come late, and what it brings is no outsider's.
    let known = status.changes.iter().all(|change| change.request_id.is_some());
    status.plan.is_empty() && on_its_way && brought && known
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

/// The newest change that status tells of, and until when looks may show the time before it. What this process did since
/// it leads it knows by itself, so a later time was written by somebody who has no business to, and is not believed; unless
/// the clock of who led before may have been ahead.
pub fn settles(history: &History, began: Timestamp, now: Timestamp) -> Option<(Timestamp, Timestamp)> {
    let newest = history.newest().filter(|change| change.at.duration_since(began) <= SKEW)?;
    let for_long = if newest.confirmed { SETTLE } else { SETTLE_UNKNOWN };
    // `at` is in whole seconds and from before the call was sent, within `TIMELY`, which takes at most five more. Nobody
    // else wrote since this process leads, whatever the clock said.
    let sent =
        newest.at.min(began).checked_add(TIMELY).and_then(|at| at.checked_add(SignedDuration::from_secs(6)));
    let until = sent.and_then(|at| at.checked_add(for_long)).ok()?;
    (until > now).then_some((newest.at, until))
}

/// How long one stands in the way of others whose right to do so cannot be told.
const DOUBT: SignedDuration = SignedDuration::from_secs(30);

/// Another binding for the same instance that a grant covers, or may turn out to cover. Who was given nothing is no
/// rival: it can neither squat on an instance nor hand it over.
#[derive(Debug, Clone)]
pub struct Rival {
    pub object: Arc<InstanceRoleBinding>,
    pub desired: Desired,
    pub entitled: Entitled,
    pub resolution: Resolution,
    pub authority: Authority,
}

/// The others for the same instance in the same account: those in deletion, and those that live, the oldest first, down to
/// the first that a grant covers. Younger ones than that neither win nor take over.
pub fn rivals(ctx: &Ground, binding: &InstanceRoleBinding, spot: &Spot, at: &Connection) -> Vec<Rival> {
    let covered = |namespace: &str| !ctx.grants.covering(namespace).is_empty();
    let mut rivals = Vec::new();
    // Who lives is kept from nothing by those who live and are younger.
    let own = binding.metadata.creation_timestamp.as_ref().map(|created| created.0);
    let mut first = own.filter(|_| binding.metadata.deletion_timestamp.is_none());
    for other in ctx.bindings.others(spot, &Key::of(binding), covered) {
        if !other.deleted && first.is_some_and(|first| other.created > first) {
            continue;
        }
        let Some(rival) = ctx.bindings.get(&other.key).and_then(|object| rival(ctx, object, spot, at)) else {
            continue;
        };
        if rival.authority.is_granted() && contender(&rival.object, &ctx.settings).is_some() {
            first = Some(first.map_or(other.created, |first| first.min(other.created)));
        }
        rivals.push(rival);
    }
    rivals
}

fn rival(ctx: &Ground, object: Arc<InstanceRoleBinding>, spot: &Spot, at: &Connection) -> Option<Rival> {
    let desired = desired(&object, &ctx.settings).ok()?;
    let entitled = entitle(ctx, &object, &desired, spot, Recount::Sparing).ok()?;
    if ctx.cloud.account(&entitled.credentials) != at.place.account.as_str() {
        return None;
    }
    let resolution = ctx.cloud.resolve(&entitled.credentials, &desired.declared);
    let now = Timestamp::now();
    let seen = at.fleet.observed(&spot.instance, now, Timestamp::MIN).seen;
    let authority = entitled.rights.covers(&desired.declared, &resolution, seen.as_ref());
    let counts = match authority {
        // An instance that it may not touch it keeps from nobody.
        _ if entitled.rights.is_kept_from(&desired.declared, &resolution, seen.as_ref()) => false,
        Authority::Granted { .. } => true,
        Authority::Refused { .. } => false,
        // It is given the benefit of the doubt, but not for as long as its role or IAM may be away.
        Authority::Open => !ctx.memory.blind_for(&object.uid().unwrap_or_default(), DOUBT, now),
    };
    counts.then_some(Rival { object, desired, entitled, resolution, authority })
}

/// Everything that one decision is made from.
#[derive(Debug)]
pub struct Facts {
    pub desired: Desired,
    pub resolution: Resolution,
    pub rights: Rights,
    pub history: History,
    pub observed: Observed,
    pub standing: Standing,
    pub trouble: Option<Trouble>,
    pub restraint: Restraint,
    pub leaving: Option<Leaving>,
}

/// A binding that is to be decided on.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    pub object: &'a InstanceRoleBinding,
    /// What it remembers.
    pub status: &'a InstanceRoleBindingStatus,
    pub desired: &'a Desired,
    pub spot: &'a Spot,
    pub connection: &'a Connection,
    /// Since when nobody else writes: what was written before may not show yet.
    pub began: Timestamp,
}

/// Gathers what one decision is made from, by what is known now; and the rivals. The instance is kept in view if the rights
/// let it be looked at.
pub fn facts(ctx: &Ground, question: Question<'_>, rights: Rights, now: Timestamp) -> (Facts, Vec<Rival>) {
    let Question { object, status, desired, spot, connection, began } = question;
    let Connection { fleet, catalogue, .. } = connection;
    let uid = object.uid().unwrap_or_default();
    let resolution = catalogue.resolve(&desired.declared);
    let rivals = rivals(ctx, object, spot, connection);
    let history = ctx.memory.believed(&uid, history(object, status, &resolution, &rivals), began);
    if is_unfinished(object) || rights.may_look(&desired.declared, &resolution) {
        // By the name that is kept of the binding anyway.
        fleet.track(&spot.instance);
    }
    if let Some((at, until)) = settles(&history, began, now) {
        fleet.written_elsewhere(&desired.instance, at, until);
    }
    let leaving = leaving(object, None)
        .map(|leaving| Leaving { successor: successor(ctx, object, status, &rivals, connection), ..leaving });
    // Tags may have been changed along with what is asked for, so they are looked at after it was seen.
    let observed = fleet.observed(&desired.instance, now, ctx.memory.opened(&uid));
    let authority = rights.covers(&desired.declared, &resolution, observed.seen.as_ref());
    if let Some(Instance::Present { state, .. }) = &observed.seen {
        ctx.memory.instance_is(&uid, state);
    }
    let facts = Facts {
        desired: desired.clone(),
        standing: standing(object, &authority, &rivals, &ctx.settings),
        resolution,
        rights,
        history,
        observed,
        trouble: ctx.memory.trouble(&uid),
        restraint: Restraint { outsiders: ctx.memory.outsiders(&uid), circuit: None },
        leaving,
    };
    (facts, rivals)
}

impl Facts {
    /// The decision that follows.
    pub fn decide(&self, place: &Place, now: Timestamp) -> Decision {
        let case = Case {
            desired: &self.desired,
            resolution: &self.resolution,
            place,
            rights: &self.rights,
            history: &self.history,
            observed: &self.observed,
            standing: &self.standing,
            trouble: self.trouble.as_ref(),
            restraint: &self.restraint,
            leaving: self.leaving.as_ref(),
        };
        decide(&case, now)
    }
}

/// How a binding stands among its rivals; who has no right contends for nothing.
pub fn standing(
    binding: &InstanceRoleBinding,
    authority: &Authority,
    rivals: &[Rival],
    settings: &Settings,
) -> Standing {
    let mut contenders: Vec<Contender> =
        rivals.iter().filter_map(|rival| contender(&rival.object, settings)).collect();
    if !matches!(authority, Authority::Refused { .. }) {
        contenders.extend(contender(binding, settings));
    }
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
pub fn leaving(binding: &InstanceRoleBinding, successor: Option<Successor>) -> Option<Leaving> {
    let since = binding.metadata.deletion_timestamp.as_ref()?.0;
    Some(Leaving {
        since,
        has_finalizer: has_finalizer(binding),
        forced: binding.annotations().get(FORCE_RELEASE).is_some_and(|value| value == "true"),
        successor,
    })
}

/// What becomes of the instance of a binding in deletion, of which `status` tells.
fn successor(
    ctx: &Ground,
    binding: &InstanceRoleBinding,
    status: &InstanceRoleBindingStatus,
    rivals: &[Rival],
    at: &Connection,
) -> Option<Successor> {
    // Nobody is left an instance whose right to it cannot be told.
    let rivals: Vec<Rival> = rivals.iter().filter(|rival| rival.authority.is_granted()).cloned().collect();
    // Another one had the instance even before: nothing there is this one's to undo but what it brought there itself.
    if would_lose(binding, &rivals, &ctx.settings) && !has_brought(status) {
        return Some(Successor::Done);
    }
    let contenders: Vec<Contender> =
        rivals.iter().filter_map(|rival| contender(&rival.object, &ctx.settings)).collect();
    let next = conflict::winner(&contenders)?;
    let next = rivals.iter().find(|rival| rival.object.uid().as_deref() == Some(&next.uid))?;
    let now = Timestamp::now();
    // What it would do is decided here as it decides itself: what its status says may be written by others.
    let status = next.object.status.clone().unwrap_or_default();
    let history = history(&next.object, &status, &next.resolution, &[]);
    let facts = Facts {
        desired: next.desired.clone(),
        resolution: next.resolution.clone(),
        rights: next.entitled.rights.clone(),
        history: History { adopted: history.adopted || hands_over(binding, &next.object), ..history },
        observed: at.fleet.observed(&next.desired.instance, now, Timestamp::MIN),
        standing: Standing::Winner,
        trouble: ctx.memory.trouble(&next.object.uid().unwrap_or_default()),
        restraint: Restraint::default(),
        leaving: None,
    };
    Some(match facts.decide(&at.place, now).step {
        Step::Converged => Successor::Done,
        // On a stopped instance that may take until it starts.
        Step::Wait if is_arriving(&facts) => Successor::Done,
        // Its profile it looks up itself.
        Step::Look(evidence) if !evidence.profile => Successor::Unseen(evidence),
        Step::Write(_) | Step::Look(_) | Step::Wait | Step::Release(_) => Successor::Pending,
        Step::Refuse | Step::Hold => Successor::Refused,
    })
}

/// Whether what is wanted is there, be it still on its way.
fn is_arriving(facts: &Facts) -> bool {
    let view = facts.observed.view.as_ref().filter(|view| view.grade != Grade::Unsettled);
    match (view.and_then(|view| view.rows.live()), &facts.resolution) {
        (Some(row), Resolution::Found(target)) => target.profile.is_carried_by(row),
        _ => false,
    }
}

/// Whether the newest change brought a profile to the instance. By the status that is judged: the object may carry the intent
/// to take it off already.
fn has_brought(status: &InstanceRoleBindingStatus) -> bool {
    let newest = status.changes.first().and_then(past_change);
    newest.is_some_and(|change| change.to.profile().is_some())
}

/// Whether another binding had the instance even before this one was deleted.
fn would_lose(binding: &InstanceRoleBinding, rivals: &[Rival], settings: &Settings) -> bool {
    let mut undeleted = binding.clone();
    undeleted.metadata.deletion_timestamp = None;
    matches!(standing(&undeleted, &Authority::Open, rivals, settings), Standing::Loser { .. })
}

/// The profiles that a swap is about whose second half has not come, as status tells: the one that was taken off, and the
/// one that was to come.
pub fn swapping(status: &InstanceRoleBindingStatus) -> Vec<ProfileRef> {
    let changes = status.changes.iter().filter_map(past_change).collect();
    let history = History { changes, ..History::default() };
    [history.swapped_out(), history.swapped_in()].into_iter().flatten().cloned().collect()
}

/// Whether there may be something to end that is not what is declared.
pub fn is_unfinished(binding: &InstanceRoleBinding) -> bool {
    let swapping = |status| !swapping(status).is_empty();
    binding.metadata.deletion_timestamp.is_some() || binding.status.as_ref().is_some_and(swapping)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::binding::Operation;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn noted(second: i64, confirmed: bool) -> History {
        let change = PastChange {
            operation: Operation::AssociateIamInstanceProfile,
            from: Carried::Nothing,
            to: Carried::Nothing,
            then: None,
            at: at(second),
            confirmed,
        };
        History { changes: vec![change], ..History::default() }
    }

    /// While EC2 carries out our change: what differs is drift, unless it may be a change of ours that comes late.
    #[test]
    fn who_changes_the_instance_before_ec2_is_done_is_an_outsider() {
        let app = "arn:aws:iam::123456789012:instance-profile/app";
        let resolution = Resolution::NoProfile;
        let mut object = InstanceRoleBinding::new(
            "web",
            serde_json::from_value(serde_json::json!({
                "instanceId": "i-0123456789abcdef0", "instanceProfile": {"none": {}},
            }))
            .unwrap(),
        );
        object.metadata.generation = Some(1);
        let change = |to: &str, id: Option<&str>| {
            serde_json::json!({
                "operation": "DisassociateIamInstanceProfile", "from": app, "to": to, "at": at(0).to_string(), "requestId": id,
            })
        };
        let planned =
            serde_json::json!([{"operation": "DisassociateIamInstanceProfile", "reason": "Declared"}]);
        let none = serde_json::json!([]);
        for (story, reason, plan, changes, drift) in [
            ("our change is under way", "Disassociating", &none, vec![change("none", Some("r"))], true),
            ("it is still to be made", "Disassociating", &planned, vec![change("none", Some("r"))], false),
            ("nothing is under way", "AWSUnavailable", &none, vec![change("none", Some("r"))], false),
            (
                "what was done last is something else",
                "Disassociating",
                &none,
                vec![change(app, Some("r"))],
                false,
            ),
            ("its outcome is not known", "Disassociating", &none, vec![change("none", None)], false),
            // Found by the model check: an attach from before that went astray arrived after the detach.
            (
                "that of one before it is not",
                "Disassociating",
                &none,
                vec![change("none", Some("r")), change(app, None)],
                false,
            ),
        ] {
            let status = serde_json::from_value(serde_json::json!({
                "observedGeneration": 1, "desired": {"none": true}, "plan": plan, "changes": changes,
                "conditions": [{"type": "Synced", "status": "False", "reason": reason, "message": "", "lastTransitionTime": at(0).to_string()}],
            }))
            .unwrap();
            assert_eq!(history(&object, &status, &resolution, &[]).was_in_sync, drift, "{story}");
        }
    }

    #[test]
    fn a_predecessors_note_is_believed_and_one_from_this_time_of_leading_is_not() {
        for (story, second, confirmed, now, until) in [
            ("a write of unknown outcome just before", -3, false, 1, Some(38)),
            ("a confirmed one", -3, true, 1, Some(18)),
            ("long settled", -60, false, 1, None),
            ("by a clock that is ahead: nobody wrote after this one began to lead", 4, false, 1, Some(41)),
            ("later, which nobody can have written who has business to", 6, false, 7, None),
        ] {
            let found = settles(&noted(second, confirmed), at(0), at(now));
            assert_eq!(found, until.map(|until| (at(second), at(until))), "{story}");
        }
    }
}
