//! What is told to whom: with a right everything, without one nothing of the instance, and while that is open what
//! was told before.

use serde_json::json;

use super::*;
use crate::api::binding::{AdoptionPolicy, DeletionPolicy, Mode, Operation, WhenStopped};
use crate::api::condition::find;
use crate::decide::{
    Association, Authority, Cause, Declared, Grade, ProfileRef, Resolution, Rows, Target, View,
};
use crate::ids::{AccountId, AssociationId, InstanceId, ProfileArn, Region};

const APP: &str = "arn:aws:iam::123456789012:instance-profile/team/App";
const OLD: &str = "arn:aws:iam::123456789012:instance-profile/team/Old";

fn noon() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

fn arn(text: &str) -> ProfileArn {
    ProfileArn::parse(text).unwrap()
}

/// As it was told an hour ago, when a grant covered the binding.
fn before() -> InstanceRoleBindingStatus {
    serde_json::from_value(json!({
        "observedGeneration": 1, "region": "eu-west-1", "account": "123456789012", "profile": "App",
        "desired": {"profileArn": APP}, "previous": {"profileArn": OLD}, "adopted": true,
        "observed": {"profileArn": OLD, "associationId": "iip-assoc-1", "associationState": "associated"},
        "plan": [{"operation": "ReplaceIamInstanceProfileAssociation", "reason": "DriftDetected"}],
        "grant": "team-a",
        "changes": [{"operation": "AssociateIamInstanceProfile", "from": "none", "to": APP, "at": "2026-11-23T11:00:00Z"}],
    }))
    .unwrap()
}

fn desired() -> Desired {
    Desired {
        instance: InstanceId::parse("i-0123456789abcdef0").unwrap(),
        declared: Declared::Arn(arn(APP)),
        mode: Mode::Enforce,
        adoption: AdoptionPolicy::Replace,
        when_stopped: WhenStopped::DetachThenAttach,
        deletion: DeletionPolicy::Detach,
        suspend: false,
        dry_run: false,
    }
}

fn decision(authority: Authority, step: Step, reason: Reason) -> Decision {
    let plan = vec![(Operation::ReplaceIamInstanceProfileAssociation, Cause::Declared)];
    Decision { step, reason, message: "as it is".into(), plan, in_sync: Some(false), authority }
}

fn granted() -> Authority {
    Authority::Granted { grant: "team-b".into(), by_tag: true }
}

fn refused() -> Authority {
    Authority::Refused { by_tag: true }
}

/// What follows when EC2 shows OLD and IAM knows the profile.
fn told_of(
    decision: &Decision,
    before: &InstanceRoleBindingStatus,
    leaving: bool,
) -> InstanceRoleBindingStatus {
    let row = Association {
        id: AssociationId::parse("iip-assoc-2").unwrap(),
        profile: arn(OLD),
        profile_id: None,
        state: "associated".into(),
        since: noon(),
    };
    let view = View { rows: Rows::One(row), grade: Grade::Settled, began: noon(), ended: noon() };
    let profile = ProfileRef::Arn(arn(APP));
    let place = Place {
        account: AccountId::parse("123456789012").unwrap(),
        region: Region::parse("eu-west-1").unwrap(),
    };
    Report {
        before,
        generation: Some(2),
        desired: &desired(),
        resolution: &Resolution::Found(Target { profile, id: None, has_role: Some(true), as_of: noon() }),
        place: Some(&place),
        view: Some(&view),
        decision,
        contended: None,
        heard: None,
        leaving,
    }
    .status(noon())
}

fn told(decision: &Decision) -> InstanceRoleBindingStatus {
    told_of(decision, &before(), false)
}

fn words(status: &InstanceRoleBindingStatus, type_: ConditionType) -> (&str, &str) {
    let condition = find(&status.conditions, type_).unwrap();
    (&condition.status, &condition.reason)
}

#[test]
fn who_is_covered_is_told_everything() {
    let status = told(&decision(granted(), Step::Wait, Reason::Replacing));
    let observed = status.observed.as_ref().unwrap();
    assert_eq!(observed.association_id.as_deref(), Some("iip-assoc-2"));
    assert_eq!(status.desired.as_ref().unwrap().profile_arn.as_deref(), Some(APP));
    assert_eq!((status.profile.as_deref(), status.grant.as_deref()), (Some("App"), Some("team-b")));
    assert_eq!(status.plan.len(), 1);
    assert_eq!(words(&status, ConditionType::Authorized), ("True", "Granted"));
    assert_eq!(words(&status, ConditionType::Synced).0, "False");
}

#[test]
fn who_is_refused_is_told_nothing_of_the_instance_and_keeps_the_notes() {
    for step in [Step::Refuse, Step::Wait] {
        let status = told(&decision(refused(), step, Reason::NotAuthorized));
        assert_eq!(
            (&status.observed, &status.desired, &status.profile, &status.grant),
            (&None, &None, &None, &None)
        );
        assert!(status.plan.is_empty());
        assert_eq!(words(&status, ConditionType::Synced).0, "Unknown");
        assert_eq!(words(&status, ConditionType::Authorized), ("False", "NotAuthorized"));
        let (told, noted) = (status, before());
        // What the binding did itself is needed where a grant comes back, and is no news of the instance.
        assert_eq!(
            (told.previous, told.changes, told.adopted),
            (noted.previous, noted.changes, noted.adopted)
        );
        assert_eq!((told.region, told.account), (noted.region, noted.account));
    }
    let leaving = told_of(&decision(refused(), Step::Refuse, Reason::NotAuthorized), &before(), true);
    assert_eq!((leaving.desired, leaving.profile), (None, None), "deletion is no way round it");
}

#[test]
fn a_first_refusal_names_neither_account_nor_region() {
    let first = InstanceRoleBindingStatus::default();
    let status = told_of(&decision(refused(), Step::Refuse, Reason::NotAuthorized), &first, false);
    assert_eq!((status.region, status.account, status.adopted), (None, None, None));
}

#[test]
fn a_refusal_is_told_in_the_same_words_whatever_was_seen() {
    let mut synced = decision(refused(), Step::Refuse, Reason::NotAuthorized);
    let other = told(&synced);
    (synced.plan, synced.in_sync) = (Vec::new(), None);
    assert_eq!(told(&synced), other);
}

#[test]
fn while_it_is_open_what_was_told_before_stands() {
    let status = told(&decision(Authority::Open, Step::Wait, Reason::AWSUnavailable));
    let noted = before();
    assert_eq!((&status.observed, &status.grant), (&noted.observed, &noted.grant));
    assert_eq!(words(&status, ConditionType::Authorized), ("Unknown", "AWSUnavailable"));
    let status = told_of(
        &decision(Authority::Open, Step::Wait, Reason::AWSUnavailable),
        &InstanceRoleBindingStatus::default(),
        false,
    );
    assert_eq!((status.observed, status.grant), (None, None), "and nothing that was not told");
}

#[test]
fn a_conflict_of_grants_is_told_as_such() {
    let status = told(&decision(Authority::Refused { by_tag: false }, Step::Refuse, Reason::Conflict));
    assert_eq!(words(&status, ConditionType::Authorized), ("False", "Conflict"));
    assert_eq!(words(&status, ConditionType::Ready), ("False", "Conflict"));
    assert_eq!(status.observed, None);
}

#[test]
fn another_region_tells_what_it_was_and_nothing_of_here() {
    let status = told(&decision(granted(), Step::Refuse, Reason::RegionChanged));
    assert_eq!(status.observed, before().observed);
    assert_eq!(status.region.as_deref(), Some("eu-west-1"));
}

#[test]
fn nothing_changes_on_a_pass_that_did_nothing() {
    for authority in [granted(), refused(), Authority::Open] {
        let decision = decision(authority, Step::Refuse, Reason::NotAuthorized);
        let once = told(&decision);
        assert_eq!(told_of(&decision, &once, false), once);
    }
}

#[test]
fn an_intent_stands_before_its_reply_and_is_withdrawn_where_nothing_went_out() {
    let write = Write::Disassociate {
        association: AssociationId::parse("iip-assoc-2").unwrap(),
        from: ProfileRef::Arn(arn(OLD)),
        then: ProfileRef::parse(APP),
    };
    let mut status = InstanceRoleBindingStatus::default();
    intend(&mut status, &write, noon());
    let change = status.changes[0].clone();
    assert_eq!((change.from.as_str(), change.to.as_str(), change.then.as_deref()), (OLD, "none", Some(APP)));
    assert_eq!(
        (change.request_id, status.previous.as_ref().unwrap().profile_arn.as_deref()),
        (None, Some(OLD))
    );
    withdraw(&mut status);
    assert_eq!(status, InstanceRoleBindingStatus::default());
    intend(&mut status, &write, noon());
    complete(&mut status, Some("request"));
    let done = status.clone();
    withdraw(&mut status);
    assert_eq!(status, done, "what is known to have happened is never taken back");
}
