//! A binding that is deleted: what each policy does to the instance, and when the finalizer may go.

use super::fixtures::*;
use crate::api::binding::{DeletionPolicy, Operation};
use crate::decide::*;

/// A binding that attached APP to a bare instance, deleted a second ago.
fn attached() -> Story {
    want(APP)
        .was_in_sync()
        .last_wanted(carried(APP))
        .found_first(Carried::Nothing)
        .after_attaching(APP)
        .running()
        .carrying(APP)
        .deleted()
}

/// A binding with `Restore` that put APP over OLD, deleted a second ago; nothing is attached yet.
fn put_over_old() -> Story {
    want(APP)
        .on_deletion(DeletionPolicy::Restore)
        .was_in_sync()
        .last_wanted(carried(APP))
        .found_first(carried(OLD))
        .after_replacing(OLD, APP)
        .running()
        .deleted()
}

impl Story {
    /// Where IAM may not be read, changes are noted by name.
    fn by_name_alone(self) -> Self {
        self.but(|s| s.history.changes[0].to = Carried::Profile(by_name(APP)))
    }
}

#[test]
fn restore_clears_a_stuck_row_that_keeps_ec2_from_replacing() {
    let refused = |story: Story| {
        story
            .for_the_last(minutes(9))
            .after_failing(TroubleKind::Overtaken, 3, seconds(10))
            .held_off_long_enough()
    };
    tell([
        // Found by the model check: such a deletion never ended.
        ("one that leaves for ever", refused(put_over_old().carrying(APP).losing(OTHER)), swap(OTHER, OLD)),
        ("one that arrives for ever", refused(put_over_old().attaching(APP)), swap(APP, OLD)),
        ("none is stuck", refused(put_over_old().carrying(APP)), replace(APP, OLD)),
    ]);
}

/// The outcome of the newest change is not known.
fn begun(story: Story) -> Story {
    story.but(|s| s.history.changes[0].confirmed = false)
}

/// What is attached is another profile now.
fn instead(story: Story, name: &str) -> Story {
    story.but(|s| s.rows.clear()).carrying(name)
}

#[test]
fn detach_takes_off_what_the_binding_put_there() {
    tell([
        ("running", attached(), take_off(APP)),
        ("stopped", attached().stopped(), take_off(APP)),
        (
            "still being attached",
            attached().but(|s| s.rows[0].state = AssociationState::Associating),
            take_off(APP),
        ),
        ("a row that we know is ours is guarded by its id", attached().seen_unsettled(), take_off(APP)),
        ("a listing is not enough for a deletion", attached().seen_in_a_listing(), look(ASSOCIATIONS)),
        ("nor is nothing", attached().not_looked_at().but(|s| s.instance = None), look(BOTH_OF_EC2)),
        ("the state is read first", attached().but(|s| s.instance = None), look(INSTANCE)),
        (
            "matched, never written: it is what was wanted",
            attached().but(|s| s.history.changes.clear()),
            take_off(APP),
        ),
        ("what arrives is ours", attached().losing(OLD), take_off(APP)),
        ("done", attached().but(|s| s.rows.clear()), released(Farewell::Done)),
        ("being done", attached().but(|s| s.rows.clear()).losing(APP), released(Farewell::Done)),
        (
            "IAM is not asked",
            attached().resolved_as(Resolution::Missing {
                told: "gone".into(),
                really: None,
                since: noon() - minutes(9),
            }),
            take_off(APP),
        ),
    ]);
    assert_eq!(attached().decide().plan, [(Operation::DisassociateIamInstanceProfile, Cause::Deleted)]);
}

#[test]
fn detach_right_after_an_edit_that_was_not_carried_out() {
    tell([
        (
            "the new wish stands in status, the old one on the instance",
            instead(attached().last_wanted(carried(OTHER)), APP),
            take_off(APP),
        ),
        (
            "the edit was just noted as begun",
            instead(attached().after_replacing(APP, OTHER), APP),
            take_off(APP),
        ),
        ("… and it landed", instead(attached().after_replacing(APP, OTHER), OTHER), take_off(OTHER)),
        // Found by a storm: what had been attached before was taken for somebody else's.
        (
            "the new wish stands in status, it was asked for, and it is not known what became of that",
            instead(begun(attached().last_wanted(carried(OTHER)).after_replacing(APP, OTHER)), APP),
            take_off(APP),
        ),
        (
            "it became of it what was asked",
            instead(begun(attached().last_wanted(carried(OTHER)).after_replacing(APP, OTHER)), OTHER),
            take_off(OTHER),
        ),
        (
            "it was carried out, and somebody has put the former one back",
            instead(attached().last_wanted(carried(OTHER)).after_replacing(APP, OTHER), APP),
            released(Farewell::LeftInPlace),
        ),
    ]);
}

#[test]
fn a_foreign_profile_is_left_in_place() {
    tell([
        ("somebody else's", instead(attached(), OTHER), released(Farewell::LeftInPlace)),
        (
            "somebody else's is arriving",
            attached().but(|s| s.rows.clear()).losing(APP).attaching(OTHER),
            released(Farewell::LeftInPlace),
        ),
        ("never carried out", want(APP).running().carrying(OLD).deleted(), released(Farewell::LeftInPlace)),
        (
            "what was there first is not ours",
            instead(attached().found_first(carried(OLD)), OLD),
            released(Farewell::LeftInPlace),
        ),
    ]);
    let told = instead(attached(), OTHER).decide().message;
    assert!(told.contains(OTHER), "the Event names it: {told}");
}

#[test]
fn the_finalizer_does_not_go_by_a_look_at_the_past() {
    let bare = |story: Story| story.but(|s| s.rows.clear());
    let unsettled = Story::seen_unsettled;
    let settling = || wait(Reason::Disassociating);
    tell([
        ("Detach: nothing there, perhaps", unsettled(bare(attached())), settling()),
        ("Detach: leaving, and perhaps one arriving", unsettled(bare(attached()).losing(OLD)), settling()),
        ("Detach: another one, perhaps from before", unsettled(instead(attached(), OTHER)), settling()),
        (
            "Restore: what was there first, perhaps from before our Replace",
            unsettled(put_over_old().carrying(OLD)),
            settling(),
        ),
        ("Restore: another one", unsettled(put_over_old().carrying(OTHER)), settling()),
        ("Restore: nothing there", unsettled(put_over_old()), settling()),
        ("Restore: leaving", unsettled(put_over_old().losing(APP)), settling()),
        ("Restore to none", unsettled(put_over_old().found_first(Carried::Nothing)), settling()),
        ("a listing proves nothing", put_over_old().carrying(OLD).seen_in_a_listing(), look(ASSOCIATIONS)),
    ]);
}

#[test]
fn restore_on_running() {
    let restore = put_over_old;
    tell([
        ("replace by what was there", restore().carrying(APP), replace(APP, OLD)),
        (
            "… and a moment later it is",
            restore().after_replacing(APP, OLD).losing(APP).attaching(OLD),
            released(Farewell::Done),
        ),
        ("it is there already", restore().carrying(OLD), released(Farewell::Done)),
        ("nothing was there: detach", restore().found_first(Carried::Nothing).carrying(APP), take_off(APP)),
        ("… done", restore().found_first(Carried::Nothing).after_detaching(APP), released(Farewell::Done)),
        (
            "… being done",
            restore().found_first(Carried::Nothing).after_detaching(APP).losing(APP),
            released(Farewell::Done),
        ),
        ("not what this binding put there", restore().carrying(OTHER), released(Farewell::NotRestored)),
        ("nothing there, which was not our doing", restore(), released(Farewell::NotRestored)),
        ("… nor is it while it leaves", restore().losing(APP), released(Farewell::NotRestored)),
        (
            "not recorded",
            restore().but(|s| s.history.previous = None).carrying(APP),
            released(Farewell::NotRestored),
        ),
        (
            "an earlier change of ours counts",
            restore().after_replacing(APP, OTHER).carrying(APP),
            replace(APP, OLD),
        ),
        (
            "put there by name, where IAM may not be read",
            restore().by_name_alone().carrying(APP),
            replace(APP, OLD),
        ),
        (
            "none was declared: what we detached is put back",
            want_none()
                .on_deletion(DeletionPolicy::Restore)
                .was_in_sync()
                .last_wanted(Carried::Nothing)
                .found_first(carried(OLD))
                .after_detaching(OLD)
                .running()
                .deleted(),
            associate(OLD),
        ),
    ]);
}

#[test]
fn restore_on_stopped_in_two_halves() {
    let restore = || put_over_old().stopped();
    tell([
        ("first half", restore().carrying(APP), swap(APP, OLD)),
        ("second half", restore().after_detaching(APP), associate(OLD)),
        (
            "… by a view that may show the past: EC2 guards the write",
            restore().after_detaching(APP).seen_unsettled(),
            associate(OLD),
        ),
        (
            "… resumed after a crash, on an instance that runs again",
            restore().after_detaching(APP).running(),
            associate(OLD),
        ),
        ("… while the old one leaves", restore().after_detaching(APP).losing(APP), associate(OLD)),
        (
            "… on one that starts",
            restore().after_detaching(APP).instance_is("pending"),
            wait(Reason::InstancePending),
        ),
        (
            "done",
            restore().after_detaching(APP).after_attaching(OLD).attaching(OLD),
            released(Farewell::Done),
        ),
        (
            "nothing was there: detach alone",
            restore().found_first(Carried::Nothing).carrying(APP),
            take_off(APP),
        ),
    ]);
    let plan = restore().carrying(APP).decide();
    let both = [Operation::DisassociateIamInstanceProfile, Operation::AssociateIamInstanceProfile];
    assert_eq!(plan.plan, both.map(|operation| (operation, Cause::Deleted)));
    assert!(plan.message.contains(OLD), "{}", plan.message);
}

#[test]
fn a_former_profile_that_is_gone_for_good_is_not_waited_for() {
    let invalid =
        |story: Story, ago| story.deleted_since(ago).after_failing(TroubleKind::ProfileInvalid, 6, ago);
    let half = || put_over_old().stopped().after_detaching(APP);
    tell([
        ("EC2 may learn of it yet", invalid(half(), seconds(60)), wait(Reason::ProfileNotFound)),
        ("two minutes", invalid(half(), minutes(2)), released(Farewell::NotRestored)),
        (
            "… on a running instance the binding's own stays",
            invalid(put_over_old().carrying(APP), minutes(2)),
            released(Farewell::NotRestored),
        ),
        (
            "… on a stopped one too",
            invalid(put_over_old().stopped().carrying(APP), minutes(2)),
            released(Farewell::NotRestored),
        ),
        (
            "trouble with the declared profile, from before the deletion, says nothing about the former one",
            half().after_failing(TroubleKind::ProfileInvalid, 9, minutes(60)).held_off_long_enough(),
            associate(OLD),
        ),
        (
            "detaching needs no profile",
            invalid(put_over_old().found_first(Carried::Nothing).carrying(APP), minutes(2)),
            take_off(APP),
        ),
        (
            "… nor does Detach",
            attached().after_failing(TroubleKind::ProfileInvalid, 9, minutes(60)),
            take_off(APP),
        ),
    ]);
}

#[test]
fn hand_over_to_the_next_binding() {
    let next = |successor| attached().followed_by(successor);
    tell([
        ("it is about to write: wait for it", next(Successor::Pending), wait(Reason::Replacing)),
        ("… without a look of our own", next(Successor::Pending).not_looked_at(), wait(Reason::Replacing)),
        ("it has taken over", next(Successor::Done), released(Farewell::HandedOver)),
        ("it is refused: the binding's own policy", next(Successor::Refused), take_off(APP)),
        (
            "just under two minutes",
            attached().deleted_since(seconds(119)).followed_by(Successor::Pending),
            wait(Reason::Replacing),
        ),
        (
            "after two minutes: the binding's own policy",
            attached().deleted_since(minutes(2)).followed_by(Successor::Pending),
            take_off(APP),
        ),
        (
            "late, but done",
            attached().deleted_since(minutes(9)).followed_by(Successor::Done),
            released(Farewell::HandedOver),
        ),
        (
            "Restore hands over as well",
            put_over_old().carrying(APP).followed_by(Successor::Done),
            released(Farewell::HandedOver),
        ),
    ]);
}

#[test]
fn an_instance_that_is_gone_holds_nobody() {
    tell([
        ("terminated", attached().instance_is("terminated"), released(Farewell::Done)),
        ("shutting down", attached().instance_is("shutting-down"), released(Farewell::Done)),
        ("absent", attached().absent(), released(Farewell::Done)),
        (
            "never possible",
            attached().but(|s| s.instance = Some(Instance::Impossible)),
            released(Farewell::Done),
        ),
        ("one that nobody may change", attached().managed(), released(Farewell::Done)),
        ("Restore too", put_over_old().carrying(APP).instance_is("terminated"), released(Farewell::Done)),
        ("… in its second half", put_over_old().after_detaching(APP).absent(), released(Farewell::Done)),
    ]);
}

#[test]
fn what_cannot_be_changed_now_is_waited_for() {
    tell([
        ("starting", attached().instance_is("pending"), wait(Reason::InstancePending)),
        ("stopping", attached().instance_is("stopping"), wait(Reason::InstanceStopping)),
        ("unknown", attached().instance_is("hibernating"), wait(Reason::AWSUnavailable)),
        ("unknown rows", attached().row(OTHER, "reassociating"), wait(Reason::AWSUnavailable)),
        ("… Restore too", put_over_old().row(OTHER, "reassociating"), wait(Reason::AWSUnavailable)),
        (
            "AWS denies: the finalizer stays, and the reason is told",
            attached().after_failing(TroubleKind::Denied("no".into()), 1, seconds(1)),
            refuse(Reason::AccessDenied),
        ),
        (
            "AWS is away",
            attached().after_failing(TroubleKind::Unavailable("503".into()), 1, seconds(1)),
            wait(Reason::AWSUnavailable),
        ),
    ]);
}

#[test]
fn who_writes_nothing_is_let_go() {
    let unseen = |story: Story| story.not_looked_at().but(|s| s.instance = None);
    tell([
        ("Retain", unseen(attached().on_deletion(DeletionPolicy::Retain)), released(Farewell::Done)),
        ("Observe", unseen(attached().observing()), released(Farewell::Done)),
        ("suspended", unseen(attached().suspended()), released(Farewell::Done)),
        ("without our finalizer", unseen(attached().without_finalizer()), released(Farewell::Done)),
        ("by force", unseen(attached().by_force()), released(Farewell::Forced)),
        (
            "without finalizer there is nothing to force",
            attached().by_force().without_finalizer(),
            released(Farewell::Done),
        ),
    ]);
}

#[test]
fn the_finalizer_is_there_only_where_deletion_has_work() {
    for (story, policy, expected) in [
        (want(APP), DeletionPolicy::Detach, true),
        (want(APP), DeletionPolicy::Restore, true),
        (want(APP), DeletionPolicy::Retain, false),
        (want_none(), DeletionPolicy::Restore, true),
        (want(APP).observing(), DeletionPolicy::Detach, false),
    ] {
        assert_eq!(story.on_deletion(policy).desired.deletion_has_work(), expected, "{policy:?}");
    }
}
