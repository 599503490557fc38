//! What holds a repair of drift back: others who keep undoing it, and a namespace in which too many are due at once. It holds
//! nothing else back.

use proptest::prelude::*;

use super::fixtures::*;
use super::properties::any_story;
use crate::api::binding::DeletionPolicy;
use crate::decide::circuit::{Tally, Verdict};
use crate::decide::*;

/// Others have changed the instance so many times, the last time just now.
fn after_others(story: Story, times: i64) -> Story {
    story.but(|s| {
        for n in (0..times).rev() {
            s.restraint.outsiders.note(OutsideChange { at: s.now - seconds(n), found: carried(OLD) });
        }
    })
}

fn contended(story: Story) -> Story {
    after_others(story, 4)
}

fn held(story: Story) -> Story {
    story.but(|s| s.restraint.circuit = Some(Circuit { id: "0123456789".into(), most: Ceiling::Number(5) }))
}

fn drifted() -> Story {
    want(APP).was_in_sync().running().carrying(OLD)
}

#[test]
fn contention() {
    tell([
        ("three times: mended at once", after_others(drifted(), 3), replace(OLD, APP)),
        ("four times: it waits", contended(drifted()), wait(Reason::OutsideWriter)),
        ("… taken off", contended(want(APP).was_in_sync().running()), wait(Reason::OutsideWriter)),
        (
            "… attached where none is declared",
            contended(want_none().was_in_sync().running().carrying(OLD)),
            wait(Reason::OutsideWriter),
        ),
        (
            "… on a stopped instance nothing is begun",
            contended(want(APP).was_in_sync().stopped().carrying(OLD)),
            wait(Reason::OutsideWriter),
        ),
        ("… until its time has come", contended(drifted()).but(|s| s.now += seconds(30)), replace(OLD, APP)),
        (
            "… or a person asks",
            contended(drifted()).but(|s| s.restraint.outsiders.wait_no_longer()),
            replace(OLD, APP),
        ),
        (
            "what fails is told before",
            contended(drifted()).after_failing(TroubleKind::Denied("x".into()), 1, seconds(0)),
            refuse(Reason::AccessDenied),
        ),
    ]);
    let decision = contended(drifted()).decide();
    assert!(decision.message.contains("waits until 2026-11-23T12:00:30Z"), "{}", decision.message);
    assert_eq!((decision.plan.len(), decision.in_sync), (1, Some(false)));
}

/// What EC2 shows may be a change of ours that came late: the newest one, or one whose outcome is not known.
#[test]
fn a_late_change_of_ours_is_no_outsiders() {
    let seen = |story: Story| {
        let (decision, observed) = (story.decide(), story.observed());
        contention::sighting(&decision, &story.desired, &story.history, &observed, story.now)
    };
    let late = |story: Story| seen(story).map(|sighting| sighting.late);
    let unknown = |story: Story| story.but(|s| s.history.changes[0].confirmed = false);
    let long_ago =
        |story: Story| story.but(|s| s.history.changes.iter_mut().for_each(|c| c.at = s.now - minutes(1)));
    for (title, story, expected) in [
        ("an outsider's", drifted(), Some(false)),
        ("the newest of ours", drifted().after_attaching(OLD), Some(true)),
        ("one from before that", drifted().after_attaching(OLD).after_attaching(APP), Some(false)),
        ("… that may still come", unknown(drifted().after_attaching(OLD)).after_attaching(APP), Some(true)),
        (
            "… or not any more",
            long_ago(unknown(drifted().after_attaching(OLD)).after_attaching(APP)),
            Some(false),
        ),
        ("bare by ours", want(APP).was_in_sync().running().after_detaching(OLD), Some(true)),
        ("bare by another", want(APP).was_in_sync().running().after_attaching(APP), Some(false)),
        ("what a person declared", want(APP).running().carrying(OLD), None),
        ("what is suspended", drifted().suspended(), None),
        ("a profile made again", want(APP).was_in_sync().made_again().running().carrying(APP), None),
    ] {
        assert_eq!(late(story), expected, "{title}");
    }
    let found = seen(drifted()).unwrap();
    assert_eq!((found.association, found.found), (Some(association_id(OLD)), carried(OLD)));
}

#[test]
fn circuit() {
    tell([
        ("drift", held(drifted()), refuse(Reason::CircuitOpen)),
        ("… taken off", held(want(APP).was_in_sync().running()), refuse(Reason::CircuitOpen)),
        (
            "… of a profile that was made again",
            held(want(APP).was_in_sync().made_again().running().carrying(APP)),
            refuse(Reason::CircuitOpen),
        ),
        (
            "… which others brought about again and again",
            contended(held(drifted())),
            refuse(Reason::CircuitOpen),
        ),
        ("what is well stays so", held(want(APP).was_in_sync().running().carrying(APP)), in_sync()),
    ]);
    let told = held(drifted()).decide().message;
    assert!(told.contains("instancerole.dev/approve-changes=0123456789"), "{told}");
}

#[test]
fn what_people_declare_and_what_was_begun_is_never_held_back() {
    let leaving = || want(APP).adopted().last_wanted(carried(APP)).running().carrying(APP).deleted();
    for hold in [contended, held] {
        tell([
            ("an edit", hold(want(APP).adopted().running().carrying(OLD)), replace(OLD, APP)),
            ("first sight", hold(want(APP).running()), associate(APP)),
            ("none is declared now", hold(want_none().adopted().running().carrying(OLD)), take_off(OLD)),
            ("a deletion", hold(leaving()), take_off(APP)),
            (
                "the second half of a swap, though drift began it",
                hold(want(APP).was_in_sync().stopped().after_swapping_out(OLD)),
                associate(APP),
            ),
            (
                "… for a binding that restores",
                hold(
                    leaving()
                        .on_deletion(DeletionPolicy::Restore)
                        .found_first(carried(OLD))
                        .after_attaching(APP),
                ),
                replace(APP, OLD),
            ),
        ]);
    }
}

#[test]
fn a_tally_is_told_before_the_first_repair() {
    for (due, suspected, most, verdict) in [
        (1, 0, 5, Verdict::Closed),
        (5, 0, 5, Verdict::Closed),
        (1, 4, 5, Verdict::Closed),
        (1, 5, 5, Verdict::Unclear),
        (5, 1, 5, Verdict::Unclear),
        (6, 0, 5, Verdict::Open),
        (6, 9, 5, Verdict::Open),
    ] {
        assert_eq!(Tally { due, suspected }.verdict(most), verdict, "{due} {suspected}");
    }
}

#[test]
fn a_share_is_of_the_namespaces_bindings_and_at_least_five() {
    for (bindings, most) in [(0, 5), (10, 5), (25, 5), (30, 6), (1_000, 200)] {
        assert_eq!(Ceiling::Percent(20).of(bindings), most, "{bindings}");
        assert_eq!(Ceiling::Number(2).of(bindings), 2);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn restraint_makes_a_repair_wait_and_changes_nothing_else(story in any_story(), others in 0_i64..12, open in any::<bool>()) {
        let free = story.decide();
        let mut story = after_others(story, others);
        if open {
            story = held(story);
        }
        let restrained = story.decide();
        if restrained == free {
            return Ok(());
        }
        let drift = free.plan.iter().all(|(_, cause)| matches!(cause, Cause::DriftDetected | Cause::ProfileRecreated));
        prop_assert!(matches!(free.step, Step::Write(_)) && drift, "{free:?} {restrained:?}");
        prop_assert!(story.leaving.is_none() && story.history.swapped_out().is_none());
        let word = (restrained.step.clone(), restrained.reason);
        prop_assert!(word == wait(Reason::OutsideWriter) || open && word == refuse(Reason::CircuitOpen), "{restrained:?}");
        let same = Decision { step: free.step.clone(), reason: free.reason, message: free.message.clone(), ..restrained };
        prop_assert_eq!(same, free);
    }

    #[test]
    fn no_repair_waits_longer_than_ten_minutes(story in any_story(), others in 0_i64..12) {
        let mut story = after_others(story, others);
        story.now += minutes(10);
        prop_assert!(story.decide().reason != Reason::OutsideWriter);
    }
}
