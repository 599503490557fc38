//! Failures: how long each is left alone, how it is told, and what is tried again.

use super::fixtures::*;
use crate::api::binding::Operation;
use crate::decide::trouble::unseen;
use crate::decide::*;

fn denied() -> TroubleKind {
    TroubleKind::Denied("iam:PassRole on role/App is denied".into())
}

/// Every kind, with its first and its longest hold-off in seconds.
fn kinds() -> [(TroubleKind, i64, i64); 10] {
    [
        (TroubleKind::ProfileInvalid, 2, 60),
        (denied(), 15, 1800),
        (TroubleKind::Credentials("expired".into()), 5, 60),
        (TroubleKind::Protected("managed".into()), 15, 1800),
        (TroubleKind::Throttled, 1, 60),
        (TroubleKind::Overtaken, 1, 30),
        (TroubleKind::OutcomeUnknown("timeout".into()), 2, 60),
        (TroubleKind::Unavailable("503".into()), 2, 60),
        (TroubleKind::Unchanged, 15, 1800),
        (TroubleKind::Unexpected("400 Whatever".into()), 15, 1800),
    ]
}

#[test]
fn hold_off_doubles_up_to_its_limit() {
    for (kind, first, most) in kinds() {
        let after = |count| kind.hold_off(count).as_secs();
        assert_eq!((after(0), after(1)), (first, first), "{kind:?}");
        assert_eq!(after(2), (2 * first).min(most), "{kind:?}");
        assert_eq!(after(3), (4 * first).min(most), "{kind:?}");
        for count in [12, 20, 21, 63, 64, u32::MAX] {
            assert_eq!(after(count), most, "{kind:?} {count}");
        }
    }
}

#[test]
fn each_kind_is_told_by_its_reason_while_it_is_held_off() {
    let failed = |kind| want(APP).running().carrying(OLD).after_failing(kind, 1, seconds(1));
    let expected = [
        wait(Reason::ProfileNotPropagated),
        refuse(Reason::AccessDenied),
        refuse(Reason::CredentialsUnavailable),
        refuse(Reason::InstanceProtected),
        wait(Reason::Throttled),
        wait(Reason::Replacing),
        wait(Reason::Replacing),
        wait(Reason::AWSUnavailable),
        // It is about a Replace of a profile by itself, and does not hold off another one.
        replace(OLD, APP),
        refuse(Reason::AWSUnavailable),
    ];
    for ((kind, ..), expected) in kinds().into_iter().zip(expected) {
        let decision = failed(kind.clone()).decide();
        assert_eq!((decision.step, decision.reason), expected, "{kind:?}");
        assert_eq!(decision.in_sync, Some(false), "{kind:?}");
        assert_eq!(
            decision.plan,
            [(Operation::ReplaceIamInstanceProfileAssociation, Cause::Declared)],
            "what is due stays due: {kind:?}"
        );
    }
}

#[test]
fn after_the_hold_off_it_is_tried_again() {
    for (kind, ..) in kinds() {
        let story = want(APP).running().carrying(OLD).after_failing(kind.clone(), 1, minutes(1));
        tell([("the write itself", story.held_off_long_enough(), replace(OLD, APP))]);
    }
}

#[test]
fn trouble_speaks_only_where_a_write_is_due() {
    for (kind, ..) in kinds() {
        tell([
            ("as declared", want(APP).carrying(APP).after_failing(kind.clone(), 3, seconds(5)), in_sync()),
            (
                "under way",
                want(APP).attaching(APP).after_failing(kind.clone(), 3, seconds(5)),
                wait(Reason::Associating),
            ),
            (
                "reading only",
                want(APP).observing().running().after_failing(kind.clone(), 3, seconds(5)),
                refuse(Reason::ObserveOnly),
            ),
        ]);
    }
}

#[test]
fn a_profile_that_ec2_does_not_know() {
    let unknown = |story: Story, ago| story.running().after_failing(TroubleKind::ProfileInvalid, 6, ago);
    tell([
        (
            "IAM has it: EC2 will, however long it takes",
            unknown(want(APP), minutes(60)),
            wait(Reason::ProfileNotPropagated),
        ),
        (
            "IAM may not be asked: it may be new",
            unknown(want_by_name_alone(APP), seconds(119)),
            wait(Reason::ProfileNotFound),
        ),
        ("… for two minutes", unknown(want_by_name_alone(APP), minutes(2)), refuse(Reason::ProfileNotFound)),
        (
            "taking one off needs none",
            want_none().running().carrying(OLD).after_failing(TroubleKind::ProfileInvalid, 6, minutes(2)),
            take_off(OLD),
        ),
    ]);
    let told = want(APP).stopped().carrying(OLD).after_failing(TroubleKind::ProfileInvalid, 1, seconds(1));
    let told = told.decide().message;
    assert!(
        told.contains("instance-profile/team/App"),
        "the dry run before a swap names the new one: {told}"
    );
}

#[test]
fn refused_for_good_between_the_halves_of_a_swap() {
    let half = || want(APP).stopped().after_swapping_out(OLD);
    let invalid = |ago| half().after_failing(TroubleKind::ProfileInvalid, 5, ago);
    tell([
        (
            "denied: what was detached is put back at once",
            half().after_failing(denied(), 1, seconds(0)),
            associate(OLD),
        ),
        (
            "… on a running instance too",
            half().running().after_failing(denied(), 1, seconds(0)),
            associate(OLD),
        ),
        ("unknown to EC2, yet", invalid(seconds(119)), wait(Reason::ProfileNotPropagated)),
        ("unknown to EC2 for two minutes: put back", invalid(minutes(2)), associate(OLD)),
        (
            "not for good: throttled",
            half().after_failing(TroubleKind::Throttled, 9, minutes(9)),
            wait(Reason::Throttled),
        ),
        (
            "not for good: AWS is away",
            half().after_failing(TroubleKind::Unavailable("503".into()), 9, minutes(9)),
            wait(Reason::AWSUnavailable),
        ),
        (
            "putting back was denied as well: told, not tried at every look",
            half().after_failing(denied(), 2, seconds(9)).when_attaching(OLD),
            refuse(Reason::AccessDenied),
        ),
        (
            "… later the declared one has its turn again",
            half().after_failing(denied(), 2, seconds(9)).when_attaching(OLD).held_off_long_enough(),
            associate(APP),
        ),
        ("however often it was denied before", half().after_failing(denied(), 4, seconds(9)), associate(OLD)),
        // Found by the model check: what the dry run had met before the swap was taken for a failure of its second
        // half, so the former profile was put back without a try, and taken off again, for ever.
        (
            "denied before the swap was begun, which the dry run then let pass: the declared one is tried",
            half().after_failing(denied(), 1, minutes(1)).before_the_last_change().held_off_long_enough(),
            associate(APP),
        ),
        (
            "… unknown to EC2 for long before it was begun",
            invalid(minutes(9)).before_the_last_change().held_off_long_enough(),
            associate(APP),
        ),
        ("… then the former one", half().after_failing(denied(), 3, seconds(9)), associate(OLD)),
        (
            "the same profile is no way back",
            want(APP).stopped().after_swapping_out(APP).after_failing(denied(), 1, seconds(0)),
            refuse(Reason::AccessDenied),
        ),
        (
            "what somebody had taken off stays off: that was no swap",
            want(APP).stopped().after_detaching(OLD).after_failing(denied(), 1, seconds(0)),
            refuse(Reason::AccessDenied),
        ),
        (
            "no swap, nothing to put back",
            want(APP).stopped().after_failing(denied(), 1, seconds(0)),
            refuse(Reason::AccessDenied),
        ),
        (
            "it carries something: nothing to put back",
            half().running().carrying(OTHER).after_failing(denied(), 1, seconds(0)),
            refuse(Reason::AccessDenied),
        ),
        (
            "an instance that starts takes no change",
            half().instance_is("pending").after_failing(denied(), 1, seconds(0)),
            wait(Reason::InstancePending),
        ),
        ("suspended: nothing is put back", half().suspended().after_failing(denied(), 1, seconds(0)), hold()),
    ]);
    let told = half().after_failing(denied(), 1, seconds(0)).decide();
    assert!(told.message.contains("Old is put back") && told.message.contains("iam:PassRole"), "{told:?}");
    let told = half().after_failing(denied(), 2, seconds(9)).decide();
    assert!(told.message.contains("the instance has no profile now"), "{told:?}");
}

#[test]
fn what_could_not_be_seen() {
    for ((kind, ..), (step, reason)) in kinds().into_iter().zip([
        wait(Reason::AWSUnavailable),
        refuse(Reason::AccessDenied),
        refuse(Reason::CredentialsUnavailable),
        refuse(Reason::InstanceProtected),
        wait(Reason::Throttled),
        wait(Reason::AWSUnavailable),
        wait(Reason::AWSUnavailable),
        wait(Reason::AWSUnavailable),
        wait(Reason::AWSUnavailable),
        wait(Reason::AWSUnavailable),
    ]) {
        let decision = unseen(&kind);
        assert_eq!((decision.step, decision.reason), (step, reason), "{kind:?}");
        assert_eq!(decision.in_sync, None, "nothing is known: {kind:?}");
    }
}

#[test]
fn a_step_has_a_phase() {
    for (story, phase) in [
        (want(APP).carrying(APP), Phase::Done),
        (want(APP).attaching(APP), Phase::Reconciling),
        (want(APP).running(), Phase::Reconciling),
        (want(APP), Phase::Reconciling),
        (want(APP).losing_to(None), Phase::Stalled),
        (want(APP).suspended().running(), Phase::Held),
        (want(APP).deleted().running(), Phase::Done),
    ] {
        assert_eq!(story.decide().step.phase(), phase, "{story:?}");
    }
}
