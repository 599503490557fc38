//! The table of `decide/mod.rs`, row by row, and what the rules of a living binding add to it.

use super::fixtures::*;
use crate::api::binding::{DeletionPolicy, Operation};
use crate::decide::*;

/// Every state that EC2 has a word for, but running and stopped.
const TAKES_NO_CHANGE: [(&str, Reason, Step); 4] = [
    ("pending", Reason::InstancePending, Step::Wait),
    ("stopping", Reason::InstanceStopping, Step::Wait),
    ("shutting-down", Reason::InstanceTerminated, Step::Refuse),
    ("terminated", Reason::InstanceTerminated, Step::Refuse),
];

#[test]
fn attach() {
    tell([
        ("nothing attached, running: associate", want(APP).running(), associate(APP)),
        ("nothing attached, stopped: associate", want(APP).stopped(), associate(APP)),
        (
            "EC2 guards a write, so a listing suffices",
            want(APP).running().seen_in_a_listing(),
            associate(APP),
        ),
        ("… and so does a view of the past", want(APP).running().seen_unsettled(), associate(APP)),
        ("OnlyIfNone: there is none", want(APP).only_if_none().running(), associate(APP)),
        ("WaitForRunning is about exchanges only", want(APP).wait_for_running().stopped(), associate(APP)),
        ("the state is read before a write, no older than five seconds", want(APP), look(INSTANCE)),
    ]);
}

#[test]
fn converged() {
    for state in ["pending", "running", "stopping", "stopped", "shutting-down", "terminated", "hibernating"] {
        tell([("it carries what is declared", want(APP).instance_is(state).carrying(APP), in_sync())]);
    }
    tell([
        ("no look at the instance is needed", want(APP).carrying(APP), in_sync()),
        ("the listing suffices", want(APP).carrying(APP).seen_in_a_listing(), in_sync()),
        ("the reply was lost but the write landed", want(APP).after_attaching(APP).carrying(APP), in_sync()),
        (
            "… by an unsettled look as well",
            want(APP).after_attaching(APP).carrying(APP).seen_unsettled(),
            in_sync(),
        ),
        ("OnlyIfNone: this is the profile", want(APP).only_if_none().carrying(APP), in_sync()),
        ("a match is a match for Observe", want(APP).observing().carrying(APP), in_sync()),
        ("… and for a suspended one", want(APP).suspended().carrying(APP), in_sync()),
    ]);
    assert_eq!(want(APP).carrying(APP).decide().in_sync, Some(true));
}

#[test]
fn attach_takes_time() {
    let attaching = || want(APP).attaching(APP);
    tell([
        ("EC2 is at it", attaching(), wait(Reason::Associating)),
        ("just under two minutes", attaching().for_the_last(seconds(119)), wait(Reason::Associating)),
        ("two minutes: is it running at all?", attaching().for_the_last(minutes(2)), look(BOTH_OF_EC2)),
        (
            "two minutes on a running instance: EC2 may not assume the role",
            attaching().for_the_last(minutes(2)).running(),
            refuse(Reason::TrustPolicyBroken),
        ),
        (
            "EC2 may finish only when a stopped instance starts",
            attaching().for_the_last(minutes(60)).stopped(),
            wait(Reason::Associating),
        ),
    ]);
    assert_eq!(attaching().decide().in_sync, Some(false));
}

#[test]
fn replace_takes_time() {
    let replacing = || want(APP).running().losing(OLD).attaching(APP);
    tell([
        ("the old one leaves, the new one arrives", replacing(), wait(Reason::Replacing)),
        ("the other order", want(APP).running().attaching(APP).losing(OLD), wait(Reason::Replacing)),
        (
            "the new one is there already",
            want(APP).running().carrying(APP).losing(OLD),
            wait(Reason::Replacing),
        ),
        (
            "the new one never gets there: EC2 may not assume the role, Replace or not",
            replacing().for_the_last(minutes(3)),
            refuse(Reason::TrustPolicyBroken),
        ),
        (
            "on a stopped instance that is nothing to tell",
            want(APP).stopped().losing(OLD).attaching(APP).for_the_last(minutes(3)),
            wait(Reason::Associating),
        ),
    ]);
}

#[test]
fn replace_on_running() {
    tell([
        (
            "another profile: replace, never detach first",
            want(APP).running().carrying(OLD),
            replace(OLD, APP),
        ),
        ("another one is being attached", want(APP).running().attaching(OLD), replace(OLD, APP)),
        ("WaitForRunning: it runs", want(APP).wait_for_running().running().carrying(OLD), replace(OLD, APP)),
        (
            "somebody is replacing: replace what arrives, not what leaves",
            want(APP).running().losing(OLD).attaching(OTHER),
            replace(OTHER, APP),
        ),
        (
            "not even when what leaves is the declared one",
            want(APP).running().losing(APP).attaching(OTHER),
            replace(OTHER, APP),
        ),
        (
            "the same name under another path is another profile",
            {
                want(APP).running().carrying(OLD).but(|s| {
                    s.rows[0].profile =
                        crate::ids::ProfileArn::parse("arn:aws:iam::123456789012:instance-profile/App")
                            .unwrap();
                })
            },
            {
                let from = ProfileRef::parse("arn:aws:iam::123456789012:instance-profile/App").unwrap();
                let write = Write::Replace { association: association_id(OLD), from, profile: by_arn(APP) };
                (Step::Write(write), Reason::Replacing)
            },
        ),
        ("the state is read first", want(APP).carrying(OLD), look(INSTANCE)),
    ]);
    let decision = want(APP).running().carrying(OLD).decide();
    assert_eq!(decision.plan, [(Operation::ReplaceIamInstanceProfileAssociation, Cause::Declared)]);
    assert_eq!(decision.in_sync, Some(false));
}

#[test]
fn swap_on_stopped() {
    tell([
        (
            "EC2 cannot replace: detach now, attach on the next look",
            want(APP).stopped().carrying(OLD),
            swap(OLD, APP),
        ),
        ("the next look", want(APP).stopped().after_detaching(OLD), associate(APP)),
        (
            "… by a view that may show the past as well",
            want(APP).stopped().after_detaching(OLD).seen_unsettled(),
            associate(APP),
        ),
        ("it was started in between", want(APP).running().after_detaching(OLD), associate(APP)),
        (
            "WaitForRunning waits",
            want(APP).wait_for_running().stopped().carrying(OLD),
            wait(Reason::WaitingForRunning),
        ),
        (
            "nothing is detached for a profile without role",
            want(APP).without_role().stopped().carrying(OLD),
            refuse(Reason::ProfileWithoutRole),
        ),
        (
            "nothing is detached for a profile that IAM may not be asked about",
            want_by_name_alone(APP).stopped().carrying(OLD),
            refuse(Reason::AccessDenied),
        ),
    ]);
    let plan = want(APP).stopped().carrying(OLD).decide().plan;
    let both = [Operation::DisassociateIamInstanceProfile, Operation::AssociateIamInstanceProfile];
    assert_eq!(plan, both.map(|operation| (operation, Cause::Declared)));
}

#[test]
fn adoption() {
    let found = || want(APP).only_if_none().running().carrying(OLD);
    tell([
        ("another profile is there: left, and told", found(), refuse(Reason::NotAdopted)),
        ("without a look at the instance", found().but(|s| s.instance = None), refuse(Reason::NotAdopted)),
        ("stopped as well", found().stopped(), refuse(Reason::NotAdopted)),
        (
            "one that arrives counts",
            want(APP).only_if_none().running().losing(OTHER).attaching(OLD),
            refuse(Reason::NotAdopted),
        ),
        ("one that leaves does not", want(APP).only_if_none().stopped().losing(OLD), associate(APP)),
        ("once in sync, an edit is carried out", found().adopted(), replace(OLD, APP)),
        ("… and drift is mended", found().was_in_sync(), replace(OLD, APP)),
        (
            "a profile made again under its name is not what was declared",
            want(APP).only_if_none().made_again().running().carrying(APP),
            refuse(Reason::NotAdopted),
        ),
    ]);
    let decision = found().decide();
    assert_eq!((decision.in_sync, decision.plan.len()), (Some(false), 0));
    assert!(decision.message.contains(OLD) && decision.message.contains("adoptionPolicy"), "{decision:?}");
}

#[test]
fn detach_takes_time() {
    tell([
        (
            "the old one leaves a running instance",
            want(APP).running().losing(OLD),
            wait(Reason::Disassociating),
        ),
        ("on a stopped one an Associate succeeds at once", want(APP).stopped().losing(OLD), associate(APP)),
        ("is it stopped?", want(APP).losing(OLD), look(INSTANCE)),
        (
            "five minutes are not over five",
            want(APP).running().losing(OLD).for_the_last(minutes(5)),
            wait(Reason::Disassociating),
        ),
        (
            "a row that does not go may not be in the way",
            want(APP).running().losing(OLD).for_the_last(seconds(301)),
            associate(APP),
        ),
        ("none is declared: wait", want_none().running().losing(OLD), wait(Reason::Disassociating)),
        (
            "a look at the instance is not needed for that",
            want_none().losing(OLD),
            wait(Reason::Disassociating),
        ),
    ]);
    assert_eq!(want_none().losing(OLD).decide().in_sync, Some(false));
}

#[test]
fn detach() {
    tell([
        ("running", want_none().running().carrying(OLD), take_off(OLD)),
        ("stopped", want_none().stopped().carrying(OLD), take_off(OLD)),
        (
            "WaitForRunning is about exchanges only",
            want_none().wait_for_running().stopped().carrying(OLD),
            take_off(OLD),
        ),
        ("still being attached", want_none().running().attaching(OLD), take_off(OLD)),
        (
            "somebody is replacing: take off what arrives",
            want_none().running().losing(OLD).carrying(OTHER),
            take_off(OTHER),
        ),
        ("none there, by a settled look", want_none().running(), in_sync_without_profile()),
        ("… on a stopping one as well", want_none().instance_is("stopping"), in_sync_without_profile()),
        ("… and on a managed one", want_none().managed(), in_sync_without_profile()),
        ("is the instance there?", want_none(), look(INSTANCE)),
        ("that was seen when it came in sync", want_none().was_in_sync(), in_sync_without_profile()),
        ("just taken off", want_none().after_detaching(OLD).seen_unsettled(), wait(Reason::Disassociating)),
        (
            "no such instance is no instance without a profile",
            want_none().absent(),
            wait(Reason::InstanceNotFound),
        ),
        (
            "a terminated one neither",
            want_none().instance_is("terminated"),
            refuse(Reason::InstanceTerminated),
        ),
    ]);
    let plan = want_none().stopped().carrying(OLD).decide().plan;
    assert_eq!(plan, [(Operation::DisassociateIamInstanceProfile, Cause::Declared)]);
}

#[test]
fn conclusions_need_a_settled_look() {
    let listed = Story::seen_in_a_listing;
    let unsettled = Story::seen_unsettled;
    tell([
        ("absence from a listing proves nothing", listed(want_none().running()), look(ASSOCIATIONS)),
        ("… and the instance is looked at side by side", listed(want_none()), look(BOTH_OF_EC2)),
        ("drift by listing: look", listed(want(APP).was_in_sync().running()), look(ASSOCIATIONS)),
        ("… another profile", listed(want(APP).was_in_sync().carrying(OLD)), look(BOTH_OF_EC2)),
        ("… none declared", listed(want_none().was_in_sync().running().carrying(OLD)), look(ASSOCIATIONS)),
        (
            "drift so soon after a write: wait",
            unsettled(want(APP).was_in_sync().running()),
            wait(Reason::Associating),
        ),
        ("settled: attach again", want(APP).was_in_sync().running(), associate(APP)),
        ("settled: replace again", want(APP).was_in_sync().running().carrying(OLD), replace(OLD, APP)),
        ("settled: detach again", want_none().was_in_sync().running().carrying(OLD), take_off(OLD)),
        (
            "an edit back: the past shows what is wanted again, and proves nothing",
            unsettled(want(APP).after_replacing(APP, OLD).running().carrying(APP)),
            wait(Reason::Associating),
        ),
        (
            "… also after an edit to none",
            unsettled(want(APP).after_detaching(APP).running().carrying(APP)),
            wait(Reason::Associating),
        ),
        ("settled, it is as declared", want(APP).after_replacing(APP, OLD).carrying(APP), in_sync()),
        ("nothing was looked at", want(APP).not_looked_at(), look(BOTH_OF_EC2)),
        ("… but the instance was", want(APP).not_looked_at().running(), look(ASSOCIATIONS)),
        (
            "all three reads are made side by side",
            want(APP).not_looked_at().resolved_as(Resolution::NotAsked),
            look(EVERYTHING),
        ),
        ("… or the one that is missing", want(APP).resolved_as(Resolution::NotAsked), look(PROFILE)),
    ]);
}

#[test]
fn drift_is_told_as_such() {
    let causes = |story: Story| story.decide().plan.into_iter().map(|(_, cause)| cause).collect::<Vec<_>>();
    for (title, story, cause) in [
        ("never in sync", want(APP).running().carrying(OLD), Cause::Declared),
        ("adopted, but edited since", want(APP).adopted().running().carrying(OLD), Cause::Declared),
        ("replaced by somebody", want(APP).was_in_sync().running().carrying(OLD), Cause::DriftDetected),
        ("detached by somebody", want(APP).was_in_sync().running(), Cause::DriftDetected),
        ("being detached by somebody", want(APP).was_in_sync().running().losing(APP), Cause::DriftDetected),
        (
            "detached by somebody, and stopped since",
            want(APP).was_in_sync().stopped().losing(APP),
            Cause::DriftDetected,
        ),
        ("attached by somebody", want_none().was_in_sync().running().carrying(OLD), Cause::DriftDetected),
        ("made again", want(APP).was_in_sync().made_again().running().carrying(APP), Cause::ProfileRecreated),
    ] {
        assert_eq!(causes(story), [cause], "{title}");
    }
    let swap = causes(want(APP).was_in_sync().stopped().carrying(OLD));
    assert_eq!(swap, [Cause::DriftDetected, Cause::DriftDetected]);
}

#[test]
fn instance_states() {
    type Difference = fn() -> Story;
    let differences: [(&str, Difference); 5] = [
        ("nothing attached", || want(APP)),
        ("another profile", || want(APP).carrying(OLD)),
        ("a swap that never begins", || want(APP).wait_for_running().carrying(OLD)),
        ("one that leaves", || want(APP).losing(OLD)),
        ("one too many", || want_none().carrying(OLD)),
    ];
    for (title, difference) in differences {
        for (state, reason, step) in TAKES_NO_CHANGE {
            let decision = difference().instance_is(state).decide();
            assert_eq!((decision.step, decision.reason), (step, reason), "{title}, {state}");
            assert_eq!(decision.in_sync, Some(false), "{title}, {state}");
        }
        tell([
            (title, difference().absent(), wait(Reason::InstanceNotFound)),
            (title, difference().adopted().absent(), refuse(Reason::InstanceTerminated)),
            (title, difference().managed(), refuse(Reason::InstanceProtected)),
            (
                title,
                difference().but(|s| s.instance = Some(Instance::Impossible)),
                refuse(Reason::InstanceNotFound),
            ),
        ]);
    }
}

#[test]
fn reading_only() {
    tell([
        ("Observe tells what is due", want(APP).observing().running(), refuse(Reason::ObserveOnly)),
        ("… another profile", want(APP).observing().running().carrying(OLD), refuse(Reason::ObserveOnly)),
        ("… stopped", want(APP).observing().stopped().carrying(OLD), refuse(Reason::ObserveOnly)),
        ("… none declared", want_none().observing().running().carrying(OLD), refuse(Reason::ObserveOnly)),
        ("suspend holds it", want(APP).suspended().running().carrying(OLD), hold()),
        (
            "… and tells the truth of an instance that is gone",
            want(APP).suspended().instance_is("terminated"),
            refuse(Reason::InstanceTerminated),
        ),
        (
            "drift is looked at all the same",
            want(APP).suspended().was_in_sync().running().seen_in_a_listing(),
            look(ASSOCIATIONS),
        ),
        (
            "who does not write is no party to a conflict",
            want(APP).observing().losing_to(Some("a")).carrying(APP),
            in_sync(),
        ),
    ]);
    for story in [want(APP).running().carrying(OLD), want(APP).stopped().carrying(OLD), want(APP).running()] {
        let due = story.decide().plan;
        assert!(!due.is_empty());
        assert_eq!(story.clone().observing().decide().plan, due);
        assert_eq!(story.suspended().decide().plan, due);
    }
}

#[test]
fn unknown_words() {
    let unavailable = || wait(Reason::AWSUnavailable);
    tell([
        ("an association", want(APP).running().row(OLD, "reassociating"), unavailable()),
        (
            "beside one that is known",
            want(APP).running().carrying(APP).row(OLD, "reassociating"),
            unavailable(),
        ),
        ("none declared", want_none().running().row(OLD, "reassociating"), unavailable()),
        (
            "two live rows are unknown to us as well",
            want(APP).running().carrying(APP).carrying(OLD),
            unavailable(),
        ),
        ("an instance", want(APP).instance_is("hibernating"), unavailable()),
        ("… with another profile", want(APP).instance_is("hibernating").carrying(OLD), unavailable()),
        ("… with one that leaves", want(APP).instance_is("hibernating").losing(OLD), unavailable()),
        ("… with one too many", want_none().instance_is("hibernating").carrying(OLD), unavailable()),
        ("a row that is gone is no row", want(APP).running().row(OLD, "disassociated"), associate(APP)),
    ]);
    let told = want(APP).instance_is("hibernating").decide().message;
    assert!(told.contains("hibernating"), "{told}");
}

#[test]
fn profile_made_again_under_its_name() {
    let again = || want(APP).made_again().carrying(APP);
    tell([
        ("running: replace the dead one", again().running(), replace(APP, APP)),
        ("stopped: swap", again().stopped(), swap(APP, APP)),
        (
            "… while it was arriving",
            want(APP).made_again().running().losing(OLD).attaching(APP),
            replace(APP, APP),
        ),
        (
            "IAM was looked at before EC2: perhaps its answer is the old one",
            again().with_iam_looked_at(noon() - minutes(1)).running(),
            look(PROFILE),
        ),
        ("in the same moment", again().with_iam_looked_at(noon() - seconds(2)).running(), look(PROFILE)),
        (
            "ids that agree need no look",
            want(APP).with_iam_looked_at(noon() - minutes(1)).carrying(APP),
            in_sync(),
        ),
        ("EC2 tells no id", again().but(|s| s.rows[0].profile_id = None), in_sync()),
        ("IAM tells no id", want_by_name_alone(APP).carrying(APP), in_sync()),
        (
            "Replace changed nothing: a person is needed",
            again().running().after_failing(TroubleKind::Unchanged, 1, seconds(1)),
            refuse(Reason::ProfileRecreated),
        ),
        (
            "it is not repeated, ever",
            again().running().after_failing(TroubleKind::Unchanged, 1, minutes(60)).held_off_long_enough(),
            refuse(Reason::ProfileRecreated),
        ),
        (
            "the person stopped the instance, as told",
            again().stopped().after_failing(TroubleKind::Unchanged, 9, minutes(1)),
            swap(APP, APP),
        ),
        (
            "the person detached it by hand, as told",
            want(APP).made_again().running().after_failing(TroubleKind::Unchanged, 9, minutes(1)),
            associate(APP),
        ),
        (
            "somebody replaced it: that is another Replace",
            want(APP).made_again().running().carrying(OLD).after_failing(
                TroubleKind::Unchanged,
                9,
                minutes(1),
            ),
            replace(OLD, APP),
        ),
    ]);
    let decision = again().running().decide();
    assert_eq!(decision.plan, [(Operation::ReplaceIamInstanceProfileAssociation, Cause::ProfileRecreated)]);
}

#[test]
fn profile_without_role() {
    let empty = || want(APP).without_role().running();
    tell([
        ("nothing attached", empty(), refuse(Reason::ProfileWithoutRole)),
        ("another profile", empty().carrying(OLD), refuse(Reason::ProfileWithoutRole)),
        ("attached", empty().carrying(APP), refuse(Reason::ProfileWithoutRole)),
    ]);
    assert_eq!(empty().decide().in_sync, Some(false));
    assert_eq!(empty().carrying(OLD).decide().in_sync, Some(false));
    assert_eq!(
        empty().carrying(APP).decide().in_sync,
        Some(true),
        "EC2 is as declared; the profile is not of use"
    );
}

#[test]
fn profile_that_iam_does_not_find() {
    let missing = |ago| {
        want(APP).resolved_as(Resolution::Missing {
            told: "no App".into(),
            really: None,
            since: noon() - ago,
        })
    };
    tell([
        ("just made, perhaps", missing(seconds(0)).running(), wait(Reason::ProfileNotFound)),
        ("just under two minutes", missing(seconds(119)).running(), wait(Reason::ProfileNotFound)),
        ("two minutes: a person's matter", missing(minutes(2)).running(), refuse(Reason::ProfileNotFound)),
        ("before any look at EC2", missing(minutes(2)).not_looked_at(), refuse(Reason::ProfileNotFound)),
        (
            "another profile stays meanwhile",
            missing(minutes(9)).running().carrying(OLD),
            refuse(Reason::ProfileNotFound),
        ),
        (
            "IAM does not answer",
            want(APP).running().resolved_as(Resolution::Unavailable("IAM: 503".into())),
            wait(Reason::AWSUnavailable),
        ),
        (
            "IAM may not be asked about a role",
            want(APP)
                .running()
                .resolved_as(Resolution::Denied("allow iam:ListInstanceProfilesForRole".into())),
            refuse(Reason::AccessDenied),
        ),
        (
            "a role in two profiles is told, never guessed",
            want(APP).running().resolved_as(Resolution::Ambiguous(vec![arn(APP), arn(OLD)])),
            refuse(Reason::RoleAmbiguous),
        ),
    ]);
    let told = want(APP).resolved_as(Resolution::Ambiguous(vec![arn(APP), arn(OLD)])).decide().message;
    assert!(told.contains("2 instance profiles (App, Old)"), "{told}");
}

#[test]
fn name_alone_where_iam_is_denied() {
    let attach = || (Step::Write(Write::Associate { profile: by_name(APP) }), Reason::Associating);
    let write = Write::Replace { association: association_id(OLD), from: by_arn(OLD), profile: by_name(APP) };
    tell([
        ("the name goes to EC2", want_by_name_alone(APP).running(), attach()),
        (
            "… and to Replace",
            want_by_name_alone(APP).running().carrying(OLD),
            (Step::Write(write), Reason::Replacing),
        ),
        ("the ARN's last part is compared", want_by_name_alone(APP).carrying(APP), in_sync()),
        ("exactly", want_by_name_alone("app").carrying(APP).suspended().running(), hold()),
        ("… and whole", want_by_name_alone("pp").carrying(APP).suspended().running(), hold()),
    ]);
}

#[test]
fn conflict() {
    tell([
        (
            "an older binding has the instance",
            want(APP).losing_to(Some("a")).running(),
            refuse(Reason::Conflict),
        ),
        ("even where nothing is due", want(APP).losing_to(None).carrying(APP), refuse(Reason::Conflict)),
        ("before anything is asked", want(APP).losing_to(None).not_looked_at(), refuse(Reason::Conflict)),
    ]);
    let told = |winner| want(APP).losing_to(winner).decide().message;
    assert!(told(Some("web-1")).contains("binding web-1"));
    assert!(told(None).contains("another namespace"));
}

#[test]
fn region_changed() {
    let moved = || want(APP).running().carrying(OLD).carried_out_in(elsewhere());
    let gone = |policy| moved().on_deletion(policy).last_wanted(carried(OLD)).deleted();
    tell([
        ("nothing is written", moved(), refuse(Reason::RegionChanged)),
        (
            "no conclusion is drawn",
            want(APP).carrying(APP).carried_out_in(elsewhere()),
            refuse(Reason::RegionChanged),
        ),
        ("not even a conflict", moved().losing_to(None), refuse(Reason::RegionChanged)),
        ("no look is taken", moved().not_looked_at(), refuse(Reason::RegionChanged)),
        (
            "deletion writes nothing and keeps the finalizer",
            gone(DeletionPolicy::Detach),
            refuse(Reason::RegionChanged),
        ),
        (
            "… Restore too",
            gone(DeletionPolicy::Restore).found_first(carried(APP)),
            refuse(Reason::RegionChanged),
        ),
        (
            "… whoever takes over",
            gone(DeletionPolicy::Detach).followed_by(Successor::Done),
            refuse(Reason::RegionChanged),
        ),
        (
            "… and an instance that is not there is not gone",
            gone(DeletionPolicy::Detach).absent(),
            refuse(Reason::RegionChanged),
        ),
        ("force-release works", gone(DeletionPolicy::Detach).by_force(), released(Farewell::Forced)),
        ("Retain has nothing to do anywhere", gone(DeletionPolicy::Retain), released(Farewell::Done)),
        ("the same place is no move", want(APP).carried_out_in(here()).carrying(APP), in_sync()),
    ]);
    let told = moved().decide();
    assert!(told.message.contains("us-east-1") && told.message.contains("eu-west-1"), "{told:?}");
    assert_eq!((told.in_sync, told.plan.len()), (None, 0));
}

#[test]
fn stuck_association() {
    let refused = |count, ago| {
        want(APP)
            .running()
            .attaching(OLD)
            .for_the_last(ago)
            .after_failing(TroubleKind::Overtaken, count, seconds(10))
            .held_off_long_enough()
    };
    tell([
        (
            "over five minutes, running, three refusals: detach, then attach",
            refused(3, seconds(301)),
            swap(OLD, APP),
        ),
        ("two refusals", refused(2, seconds(301)), replace(OLD, APP)),
        ("five minutes are not over five", refused(9, minutes(5)), replace(OLD, APP)),
        (
            "its hold-off is kept",
            refused(3, minutes(9)).after_failing(TroubleKind::Overtaken, 3, seconds(10)),
            wait(Reason::Disassociating),
        ),
        (
            "an associated row is never stuck",
            refused(9, minutes(60)).but(|s| s.rows[0].state = AssociationState::Associated),
            replace(OLD, APP),
        ),
        (
            "other refusals do not count",
            refused(3, minutes(9))
                .after_failing(TroubleKind::Throttled, 9, minutes(9))
                .held_off_long_enough(),
            replace(OLD, APP),
        ),
        ("freshly seen running", refused(3, minutes(9)).but(|s| s.instance = None), look(INSTANCE)),
        (
            "starting is not running",
            refused(3, minutes(9)).instance_is("pending"),
            wait(Reason::InstancePending),
        ),
        ("OnlyIfNone leaves it", refused(3, minutes(9)).only_if_none(), refuse(Reason::NotAdopted)),
        (
            "one that leaves for ever: Associate is refused while it is there",
            want(APP)
                .running()
                .losing(OLD)
                .for_the_last(minutes(9))
                .after_failing(TroubleKind::Overtaken, 3, seconds(10))
                .held_off_long_enough(),
            swap(OLD, APP),
        ),
        // Found by the model check: as long as it is there EC2 replaces nothing on the instance, whatever else is.
        (
            "one that leaves for ever beside one that is associated: it goes, and the other can be replaced",
            want(APP)
                .running()
                .carrying(OTHER)
                .losing(OLD)
                .for_the_last(minutes(9))
                .after_failing(TroubleKind::Overtaken, 3, seconds(10))
                .held_off_long_enough(),
            swap(OLD, APP),
        ),
        (
            "… but not one that leaves as it should",
            want(APP)
                .running()
                .carrying(OTHER)
                .losing(OLD)
                .for_the_last(minutes(5))
                .after_failing(TroubleKind::Overtaken, 3, seconds(10))
                .held_off_long_enough(),
            replace(OTHER, APP),
        ),
        (
            "its second half",
            want(APP)
                .running()
                .after_detaching(OLD)
                .after_failing(TroubleKind::Overtaken, 3, minutes(1))
                .held_off_long_enough(),
            associate(APP),
        ),
    ]);
}

#[test]
fn every_decision_says_something() {
    for story in [want(APP), want_none(), want(APP).not_looked_at(), want(APP).running().carrying(OLD)] {
        assert!(story.decide().message.len() > 10);
    }
    let told = want(APP).running().carrying(OLD).decide().message;
    assert_eq!(told, "replacing Old by App");
}
