//! What holds in any world, and where the steps lead.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

use super::fixtures::*;
use super::law::Law;
use super::model::{Event, Fault, Luck, Play, is_live};
use crate::api::binding::{AdoptionPolicy, DeletionPolicy, Mode, Operation, WhenStopped};
use crate::decide::*;
use crate::ids::{ProfileArn, RoleName};

/// `PROPTEST_CASES` (256) worlds, so many times over.
fn times(factor: u32) -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { cases: factor * usual.cases, failure_persistence: None, ..usual }
}

// Any world at all.

fn any_profile() -> impl Strategy<Value = &'static str> {
    select(vec![APP, OLD, OTHER])
}

/// On a path that begins like the team's.
fn look_alike(name: &str) -> ProfileRef {
    ProfileRef::Arn(
        ProfileArn::parse(&format!("arn:aws:iam::123456789012:instance-profile/teamster/{name}")).unwrap(),
    )
}

fn any_ref() -> impl Strategy<Value = ProfileRef> {
    prop_oneof![
        4 => any_profile().prop_map(by_arn),
        3 => any_profile().prop_map(by_name),
        1 => any_profile().prop_map(look_alike),
    ]
}

fn any_carried() -> impl Strategy<Value = Carried> {
    prop_oneof![Just(Carried::Nothing), any_ref().prop_map(Carried::Profile)]
}

fn any_age() -> impl Strategy<Value = SignedDuration> {
    select(vec![0, 1, 30, 119, 120, 121, 300, 301, 3_600]).prop_map(seconds)
}

fn any_row() -> impl Strategy<Value = Association> {
    let state = select(vec![
        "associating",
        "associated",
        "associated",
        "disassociating",
        "disassociated",
        "reassociating",
    ]);
    (any_profile(), state, proptest::option::of(1_u8..3), any_age()).prop_map(|(name, state, made, age)| {
        Association {
            profile_id: made.map(|nth| profile_id(name, nth)),
            since: noon() - age,
            ..association(name, state)
        }
    })
}

fn any_rows() -> impl Strategy<Value = Vec<Association>> {
    let few = prop_oneof![2 => 0..1_usize, 6 => 1..2_usize, 3 => 2..3_usize, 1 => 3..5_usize];
    few.prop_flat_map(|n| proptest::collection::vec(any_row(), n)).prop_map(|mut rows| {
        for (n, row) in rows.iter_mut().enumerate() {
            row.id = association_id(&format!("{n}"));
        }
        rows
    })
}

/// Tags that grants ask for, that protect, and that only look so.
fn any_tags() -> impl Strategy<Value = Tags> {
    let team = select(vec![Some("a"), Some("a"), Some("a"), Some("b"), None]);
    let (stage, consent) = (
        select(vec![Some("prod"), Some("test"), None]),
        select(vec![Some("yes"), Some("yes"), Some("no"), None]),
    );
    let other = select(vec![
        None,
        None,
        None,
        None,
        None,
        None,
        Some("kubernetes.io/cluster/one"),
        Some("karpenter.sh/nodepool"),
        Some("eks:x"),
        Some("aws:eks:x"),
        Some("kubernetes.io/role"),
        Some("my-eks:x"),
    ]);
    (team, stage, consent, other).prop_map(|(team, stage, consent, other)| {
        let pairs = [("team", team), ("stage", stage), ("consent", consent)];
        let pairs = pairs.into_iter().filter_map(|(key, value)| Some((key, value?)));
        pairs.chain(other.map(|key| (key, "x"))).collect()
    })
}

fn any_grant() -> impl Strategy<Value = Value> {
    let namespaces = select(vec![
        json!({"names": ["team-a"]}),
        json!({"names": ["team-b", "team-a"]}),
        json!({"selector": {}}),
        json!({"selector": {"matchLabels": {"team": "a"}}}),
        json!({"selector": {"matchExpressions": [{"key": "gone", "operator": "NotIn", "values": ["x"]}]}}),
        json!({"names": ["team-b"], "selector": {"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["a"]}]}}),
        json!({"names": ["team"], "selector": {"matchLabels": {"team": "a", "gone": "x"}}}),
    ]);
    let account = "arn:aws:iam::123456789012:instance-profile/";
    let path = move |tail: &str| format!("{account}{tail}");
    let rules = vec![
        APP.to_owned(),
        OLD.into(),
        OTHER.into(),
        path("team/App"),
        path("team/Old"),
        path("team/*"),
        path("*"),
        path("te/*"),
        path("teamster/*"),
    ];
    let here = "i-0123456789abcdef0";
    let instances = select(vec![
        json!({"regions": ["eu-west-1"]}),
        json!({"ids": [here]}),
        json!({"tags": {"team": "a"}}),
        json!({"tags": {"team": "a"}}),
        json!({"tags": {"team": "a", "stage": "prod"}}),
        json!({"ids": [here], "tags": {"team": "a"}}),
        json!({"ids": ["i-00000000"]}),
        json!({"regions": ["us-east-1"]}),
    ]);
    (namespaces, subsequence(rules, 1..4), instances, proptest::bool::weighted(0.7)).prop_map(
        |(namespaces, rules, instances, none)| json!({"namespaces": namespaces, "instanceProfiles": rules, "instances": instances, "allowNone": none}),
    )
}

fn any_law() -> impl Strategy<Value = Law> {
    let grants = proptest::collection::vec(any_grant(), 0..5);
    let some = (grants, proptest::bool::weighted(0.2), proptest::bool::weighted(0.1)).prop_map(
        |(grants, consent, own)| {
            let law = Law::of(grants).owning(own);
            if consent { law.requiring("consent", "yes") } else { law }
        },
    );
    prop_oneof![1 => Just(Law::all()), 2 => some]
}

fn any_instance() -> impl Strategy<Value = Option<Instance>> {
    let state = select(vec![
        "running",
        "running",
        "running",
        "stopped",
        "stopped",
        "pending",
        "stopping",
        "shutting-down",
        "terminated",
        "new",
    ]);
    let present = (state, proptest::bool::weighted(0.1), any_tags())
        .prop_map(|(state, managed, tags)| Instance::Present { state: state.into(), managed, tags });
    proptest::option::weighted(
        0.9,
        prop_oneof![8 => present, 1 => Just(Instance::Absent), 1 => Just(Instance::Impossible)],
    )
}

fn any_found() -> impl Strategy<Value = Resolution> {
    let id = proptest::option::weighted(0.8, 1_u8..3);
    let role = select(vec![None, Some(true), Some(true), Some(false)]);
    (any_ref(), id, role, any_age()).prop_map(|(profile, id, has_role, age)| {
        let id = id.map(|nth| profile_id(profile.name(), nth));
        Resolution::Found(Target { profile, id, has_role, as_of: noon() - age })
    })
}

fn any_resolution() -> impl Strategy<Value = Resolution> {
    prop_oneof![
        3 => Just(Resolution::NoProfile),
        8 => any_found(),
        1 => Just(Resolution::NotAsked),
        1 => Just(Resolution::Unavailable("IAM: 503".into())),
        1 => Just(Resolution::Denied("IAM: 403".into())),
        1 => (any_age(), any::<bool>()).prop_map(|(age, really)| {
            Resolution::Missing { told: "no App".into(), really: really.then(|| arn(APP)), since: noon() - age }
        }),
        1 => Just(Resolution::Ambiguous(vec![arn(APP), arn(OLD)])),
    ]
}

fn any_kind() -> impl Strategy<Value = TroubleKind> {
    let words = || "no".to_owned();
    select(vec![
        TroubleKind::ProfileInvalid,
        TroubleKind::Denied(words()),
        TroubleKind::Credentials(words()),
        TroubleKind::Protected(words()),
        TroubleKind::Throttled,
        TroubleKind::Overtaken,
        TroubleKind::OutcomeUnknown(words()),
        TroubleKind::Unavailable(words()),
        TroubleKind::Unchanged,
        TroubleKind::Unexpected(words()),
    ])
}

fn any_trouble() -> impl Strategy<Value = Option<Trouble>> {
    let failed = (any_age(), proptest::option::of(any_ref()));
    let one = (any_kind(), any_age(), 0_u32..6, any::<bool>(), failed).prop_map(
        |(kind, age, count, due, (last, of))| Trouble {
            retry_at: if due { noon() } else { noon() + kind.hold_off(count) },
            kind,
            since: noon() - age,
            count,
            last: noon() - last.min(age),
            of,
        },
    );
    proptest::option::of(one)
}

fn any_change() -> impl Strategy<Value = PastChange> {
    let operation = select(vec![
        Operation::AssociateIamInstanceProfile,
        Operation::ReplaceIamInstanceProfileAssociation,
        Operation::DisassociateIamInstanceProfile,
    ]);
    (operation, any_carried(), any_carried(), any_age(), any::<bool>()).prop_map(
        |(operation, from, to, age, confirmed)| PastChange {
            operation,
            then: to.profile().cloned().filter(|_| operation == Operation::DisassociateIamInstanceProfile),
            from,
            to,
            at: noon() - age,
            confirmed,
        },
    )
}

fn any_history() -> impl Strategy<Value = History> {
    let place = prop_oneof![1 => Just(None), 8 => Just(Some(here())), 1 => Just(Some(elsewhere()))];
    let note = || proptest::option::of(any_carried());
    let changes = proptest::collection::vec(any_change(), 0..4);
    (place, any::<bool>(), any::<bool>(), note(), note(), changes).prop_map(
        |(place, adopted, was_in_sync, desired, previous, changes)| History {
            place,
            adopted,
            was_in_sync,
            desired,
            previous,
            changes,
        },
    )
}

fn any_leaving() -> impl Strategy<Value = Option<Leaving>> {
    let successor = select(vec![
        None,
        None,
        None,
        Some(Successor::Done),
        Some(Successor::Pending),
        Some(Successor::Refused),
    ]);
    let (finalizer, forced) = (proptest::bool::weighted(0.9), proptest::bool::weighted(0.1));
    let one =
        (any_age(), finalizer, forced, successor).prop_map(|(age, has_finalizer, forced, successor)| {
            Leaving { since: noon() - age, has_finalizer, forced, successor }
        });
    proptest::option::weighted(0.4, one)
}

fn any_spec() -> impl Strategy<Value = Desired> {
    (
        select(vec![Mode::Enforce, Mode::Enforce, Mode::Enforce, Mode::Observe]),
        select(vec![AdoptionPolicy::Replace, AdoptionPolicy::OnlyIfNone]),
        select(vec![WhenStopped::DetachThenAttach, WhenStopped::WaitForRunning]),
        select(vec![DeletionPolicy::Detach, DeletionPolicy::Restore, DeletionPolicy::Retain]),
        proptest::bool::weighted(0.1),
    )
        .prop_map(|(mode, adoption, when_stopped, deletion, suspend)| Desired {
            mode,
            adoption,
            when_stopped,
            deletion,
            suspend,
            ..want(APP).desired
        })
}

/// What may have been declared, where IAM made this of it.
fn any_declared(resolution: &Resolution) -> impl Strategy<Value = Declared> + use<> {
    let role = || Declared::Role(RoleName::parse("TestRole").unwrap());
    let name = |profile: &ProfileRef| ProfileRef::parse(profile.name());
    let named = |profile: &ProfileRef| match name(profile) {
        Some(ProfileRef::Name(name)) => Declared::Name(name),
        _ => role(),
    };
    select(match resolution {
        Resolution::NoProfile => vec![Declared::NoProfile],
        Resolution::Found(Target { profile: profile @ ProfileRef::Arn(arn), .. }) => {
            vec![Declared::Arn(arn.clone()), Declared::Arn(arn.clone()), named(profile), role()]
        }
        Resolution::Found(Target { profile, .. }) => vec![named(profile)],
        Resolution::Ambiguous(_) => vec![role()],
        Resolution::NotAsked
        | Resolution::Denied(_)
        | Resolution::Unavailable(_)
        | Resolution::Missing { .. } => {
            vec![Declared::Arn(arn(APP)), named(&by_name(APP)), role()]
        }
    })
}

pub(super) fn any_story() -> impl Strategy<Value = Story> {
    let grade =
        proptest::option::weighted(0.9, select(vec![Grade::Listing, Grade::Unsettled, Grade::Settled]));
    let standing = prop_oneof![8 => Just(Standing::Winner), 1 => Just(Standing::Loser { winner: None })];
    let resolution = any_resolution().prop_flat_map(|r| (any_declared(&r), Just(r)));
    let older = prop_oneof![5 => Just(None), 1 => any_instance()];
    (
        (any_spec(), resolution, any_history(), any_rows(), any_law()),
        (grade, any_age(), any_instance(), older, standing, any_trouble(), any_leaving()),
    )
        .prop_map(
            |(
                (desired, (declared, resolution), history, rows, law),
                (grade, age, instance, seen, standing, trouble, leaving),
            )| {
                Story {
                    desired: Desired { declared, ..desired },
                    resolution,
                    history,
                    rows,
                    law,
                    grade,
                    began: noon() - age,
                    instance,
                    seen,
                    standing,
                    trouble,
                    leaving,
                    ..want(APP)
                }
            },
        )
}

fn is_running(story: &Story) -> bool {
    matches!(story.instance, Some(Instance::Present { state: InstanceState::Running, .. }))
}

/// Whether a grant gives the binding anything to do with an instance that is like this one: it covers what is
/// declared, or what a swap of the binding took off; in a deletion, anything.
fn may_be_told(story: &Story, instance: &Instance) -> bool {
    let Story { law, resolution, history, .. } = story;
    let covered = |profile: &ProfileRef| law.covers(story, profile.as_str(), instance);
    match resolution {
        Resolution::Found(target) if story.leaving.is_none() => {
            covered(&target.profile) || history.swapped_out().is_some_and(covered)
        }
        _ => law.attends(story, instance),
    }
}

proptest! {
    #![proptest_config(times(4))]

    #[test]
    fn the_same_world_has_the_same_answer(story in any_story()) {
        prop_assert_eq!(story.decide(), story.clone().decide());
    }

    #[test]
    fn the_order_of_rows_is_irrelevant(story in any_story(), turns in 0_usize..5) {
        let decision = story.decide();
        let mut other = story;
        other.rows.reverse();
        prop_assert_eq!(&other.decide(), &decision);
        let turns = turns.min(other.rows.len());
        other.rows.rotate_left(turns);
        prop_assert_eq!(&other.decide(), &decision);
    }

    #[test]
    fn nothing_is_detached_on_a_running_instance_where_replace_would_do(story in any_story()) {
        let profile_declared = story.leaving.is_none() && story.resolution != Resolution::NoProfile;
        if let (Some(Write::Disassociate { association, .. }), true) = (story.written(), profile_declared && is_running(&story)) {
            let row = story.rows.iter().find(|row| row.id == association).unwrap();
            let refusals = story.trouble.as_ref().filter(|t| t.kind == TroubleKind::Overtaken).map_or(0, |t| t.count);
            let in_transition = matches!(row.state, AssociationState::Associating | AssociationState::Disassociating);
            prop_assert!(in_transition && story.now.duration_since(row.since) > STUCK && refusals >= 3, "{:?}", row);
        }
    }

    #[test]
    fn on_a_stopped_instance_nothing_is_detached_for_a_profile_that_is_not_known_to_hold_a_role(story in any_story()) {
        let swap = matches!(story.written(), Some(Write::Disassociate { then: Some(_), .. }));
        if let (Resolution::Found(target), None, true, false) = (&story.resolution, &story.leaving, swap, is_running(&story)) {
            prop_assert_eq!(target.has_role, Some(true));
        }
    }

    #[test]
    fn who_may_not_write_does_not(story in any_story()) {
        let unknown = story.rows.iter().any(|row| matches!(row.state, AssociationState::Unknown(_)));
        let takes_changes = matches!(
            story.instance,
            Some(Instance::Present { state: InstanceState::Running | InstanceState::Stopped, managed: false, .. })
        );
        let lost = story.leaving.is_none() && story.standing != Standing::Winner;
        let moved = story.history.place.as_ref().is_some_and(|place| *place != story.place);
        let released = story.leaving.as_ref().is_some_and(|l| l.forced || !l.has_finalizer);
        if !story.desired.writes() || unknown || !takes_changes || lost || moved || released || story.grade.is_none() {
            prop_assert_eq!(story.written(), None);
        }
    }

    #[test]
    fn a_write_acts_on_what_is_there(story in any_story()) {
        let row = |id| story.rows.iter().find(|row| row.id == id);
        match story.written() {
            None => {}
            Some(Write::Associate { .. }) => prop_assert!(!story.rows.iter().any(is_live)),
            Some(Write::Replace { association, from, .. }) => {
                let row = row(association).unwrap();
                prop_assert!(is_live(row) && from.is_carried_by(row));
            }
            Some(Write::Disassociate { association, from, then }) => {
                let row = row(association).unwrap();
                prop_assert!(from.is_carried_by(row));
                prop_assert!(is_live(row) || then.is_some() && !story.rows.iter().any(is_live), "a stuck one");
            }
        }
    }

    #[test]
    fn a_deletion_takes_off_only_what_the_binding_put_there(story in any_story()) {
        let off = match story.written() {
            Some(Write::Replace { from, .. } | Write::Disassociate { from, .. }) if story.leaving.is_some() => from,
            _ => return Ok(()),
        };
        let is_off = |other: &ProfileRef| other.name() == off.name();
        let history = &story.history;
        let wanted = history.desired.as_ref().and_then(Carried::profile).is_some_and(is_off);
        let asked = history.changes.iter().map(|c| c.to.profile().is_some_and(is_off)).collect::<Vec<_>>();
        match story.desired.deletion {
            DeletionPolicy::Detach => prop_assert!(wanted || asked.first() == Some(&true)),
            DeletionPolicy::Restore => prop_assert!(asked.contains(&true) && history.previous.is_some()),
            DeletionPolicy::Retain => prop_assert!(false, "Retain writes nothing"),
        }
    }

    #[test]
    fn the_finalizer_goes_by_a_settled_look_or_without_one(story in any_story()) {
        let decision = story.decide();
        let Step::Release(how) = decision.step else { return Ok(()) };
        let leaving = story.leaving.as_ref().unwrap();
        if decision.message.contains("no InstanceRoleGrant") {
            let without = |how| matches!(how, Farewell::LeftInPlace | Farewell::NotRestored);
            prop_assert!(without(how), "{:?}", how);
            return Ok(());
        }
        let restores = story.desired.deletion == DeletionPolicy::Restore;
        let needs_no_look = !leaving.has_finalizer
            || leaving.forced
            || !story.desired.writes()
            || story.desired.deletion == DeletionPolicy::Retain
            || how == Farewell::HandedOver;
        let unrecorded = restores && story.history.previous.is_none();
        let gone = !matches!(
            story.instance,
            None | Some(Instance::Present {
                state: InstanceState::Pending | InstanceState::Running | InstanceState::Stopping | InstanceState::Stopped | InstanceState::Unknown(_),
                managed: false,
                ..
            })
        );
        prop_assert!(needs_no_look || unrecorded || gone || story.grade == Some(Grade::Settled), "{:?}", how);
    }

    #[test]
    fn drift_is_a_conclusion_and_needs_a_settled_look(story in any_story()) {
        if story.decide().plan.iter().any(|(_, cause)| *cause == Cause::DriftDetected) {
            prop_assert!(story.history.was_in_sync && story.grade == Some(Grade::Settled));
        }
    }

    #[test]
    fn a_profile_id_is_called_dead_only_by_a_later_look_at_iam(story in any_story()) {
        if story.decide().plan.iter().any(|(_, cause)| *cause == Cause::ProfileRecreated) {
            let Resolution::Found(target) = &story.resolution else { panic!("no target") };
            prop_assert!(target.as_of > story.began);
        }
    }

    #[test]
    fn reading_plans_what_enforcing_would_do(mut story in any_story()) {
        (story.trouble, story.leaving, story.standing) = (None, None, Standing::Winner);
        // Who only reads is content with the older look, which may have shown other tags.
        story.seen = None;
        let with = |mode, suspend| {
            let mut story = story.clone();
            (story.desired.mode, story.desired.suspend) = (mode, suspend);
            story.decide()
        };
        let due = with(Mode::Enforce, false);
        for read_only in [with(Mode::Observe, false), with(Mode::Enforce, true)] {
            prop_assert_eq!(&read_only.plan, &due.plan);
            prop_assert_eq!(read_only.in_sync, due.in_sync);
            prop_assert!(matches!(due.step, Step::Write(_)) || read_only == due);
        }
    }

    #[test]
    fn the_plan_begins_with_the_write_and_has_two_entries_only_for_a_swap(story in any_story()) {
        let decision = story.decide();
        prop_assert!(decision.plan.len() <= 2);
        if let [_, (second, _)] = decision.plan[..] {
            prop_assert_eq!(second, Operation::AssociateIamInstanceProfile);
        }
        if let Step::Write(write) = &decision.step {
            prop_assert_eq!(decision.plan.first().map(|(first, _)| *first), Some(write.operation()));
        }
        if !decision.plan.is_empty() {
            prop_assert_eq!(decision.in_sync, Some(false));
        }
        prop_assert_eq!(decision.step == Step::Converged, decision.in_sync == Some(true) && decision.reason != Reason::ProfileWithoutRole);
    }

    /// The two lists of `api.md`, "being told".
    #[test]
    fn who_waits_for_the_world_is_reconciling_and_who_needs_a_person_is_stalled(story in any_story()) {
        use Reason::*;
        let decision = story.decide();
        let phase = decision.step.phase();
        match decision.reason {
            InstancePending | InstanceStopping | WaitingForRunning | ProfileNotPropagated | Throttled | BudgetExhausted
            | Associating | Replacing | OutsideWriter => prop_assert_eq!(phase, Phase::Reconciling),
            Conflict | NotAuthorized | AccessDenied | ProfileWithoutRole | ProfileRecreated | RoleAmbiguous | NotAdopted | ObserveOnly
            | InstanceTerminated | InstanceProtected | RegionChanged | RoleNotAssumable | TrustPolicyBroken | CredentialsUnavailable | CircuitOpen => prop_assert_eq!(phase, Phase::Stalled),
            Associated => prop_assert_eq!(phase, Phase::Done),
            Disassociated => prop_assert_eq!(phase, Phase::Done),
            Disassociating => prop_assert_eq!(phase, Phase::Reconciling),
            Suspended => prop_assert_eq!(phase, Phase::Held),
            // Both, by its age, or where no instance can ever have the id, or EC2 refuses what no version should send.
            ProfileNotFound | InstanceNotFound | AWSUnavailable => prop_assert!(matches!(phase, Phase::Reconciling | Phase::Stalled)),
        }
    }

    // Who was given what.

    #[test]
    fn no_write_without_one_grant_that_allows_all_of_it_now(story in any_story()) {
        if let Some(write) = story.written() {
            let instance = story.instance.clone().unwrap();
            prop_assert!(story.law.allows(&story, &write, &instance), "{:?}", write);
        }
    }

    #[test]
    fn who_has_no_right_is_told_the_same_whatever_the_instance(
        story in any_story(),
        others in proptest::collection::vec((any_rows(), any_instance(), any_instance(), any::<bool>()), 2),
    ) {
        let mut told = Vec::new();
        for (rows, instance, seen, settled) in others {
            let mut other = story.clone();
            // Whether there was a look, and how fresh, is no matter of the instance.
            let Some(instance) = instance else { return Ok(()) };
            let seen = seen.unwrap_or_else(|| instance.clone());
            if may_be_told(&story, &instance) || may_be_told(&story, &seen) {
                return Ok(());
            }
            (other.rows, other.seen) = (rows, Some(seen));
            other.instance = story.instance.as_ref().map(|_| instance);
            other.grade = story.grade.map(|_| if settled { Grade::Settled } else { Grade::Listing });
            told.push(other.decide());
        }
        prop_assert_eq!(&told[0], &told[1]);
    }

    #[test]
    fn the_order_of_grants_is_irrelevant(story in any_story(), turns in 0_usize..5) {
        // Which of several is named as the one that covers it follows from their order, which is that of their names.
        let unnamed = |mut decision: Decision| {
            if let Authority::Granted { grant, .. } = &mut decision.authority {
                *grant = "any".into();
            }
            decision
        };
        let decision = unnamed(story.decide());
        let other = story.but(|s| s.law = s.law.clone().turned(turns));
        prop_assert_eq!(unnamed(other.decide()), decision);
    }

    #[test]
    fn one_more_grant_takes_no_right_away(story in any_story(), more in any_grant()) {
        let before = story.decide();
        let wider = story.but(|s| s.law = s.law.and(more));
        let after = wider.decide();
        if let Step::Write(_) = before.step {
            prop_assert!(matches!(after.step, Step::Write(_)), "{:?}\n{:?}", before, after);
        }
        if before.authority.is_granted() && !matches!(before.step, Step::Release(_)) {
            prop_assert!(after.authority.is_granted() || matches!(after.step, Step::Release(_)), "{:?}\n{:?}", before, after);
        }
        if before.reason != Reason::NotAuthorized {
            prop_assert_ne!(after.reason, Reason::NotAuthorized);
        }
        if before.reason != Reason::InstanceProtected && !matches!(before.reason, Reason::NotAuthorized) && before.step != Step::Refuse {
            let looked = matches!(before.step, Step::Look(_) | Step::Release(_));
            prop_assert!(looked || after.reason != Reason::InstanceProtected, "{:?}\n{:?}", before, after);
        }
    }

    #[test]
    fn without_grants_there_is_no_write_and_a_deletion_ends(story in any_story()) {
        let none = story.but(|s| s.law = s.law.without_grants());
        // Both where nobody could have covered it, and where the last grant vanished in the course of a pass.
        let empty = Rights { required: none.law.required.clone(), own: none.law.own, ..Rights::default() };
        for decision in [none.decide(), none.decide_by(&empty)] {
            match none.leaving {
                Some(_) => prop_assert!(matches!(decision.step, Step::Release(_)), "{:?}", decision),
                None => {
                    let unresolved = none.desired.needs_iam() && matches!(none.resolution, Resolution::NotAsked | Resolution::Unavailable(_));
                    let refused = decision.step == Step::Refuse && matches!(decision.reason, Reason::NotAuthorized | Reason::RegionChanged);
                    prop_assert!(refused || unresolved && matches!(decision.step, Step::Look(PROFILE) | Step::Wait), "{:?}", decision);
                }
            }
        }
    }

    #[test]
    fn times_out_of_this_world_do_no_harm(story in any_story(), seconds in select(vec![i64::MIN / 2, 0, i64::MAX / 2])) {
        let mut story = story;
        let now = Timestamp::from_second(seconds).unwrap_or(if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX });
        for row in &mut story.rows {
            row.since = Timestamp::MAX;
        }
        story.now = now;
        story.decide();
        story.began = Timestamp::MIN;
        story.now = Timestamp::MIN;
        story.decide();
    }
}

// Where the steps lead.

fn any_fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        6 => Just(Fault::Nothing),
        1 => Just(Fault::ProfileMissing),
        1 => Just(Fault::ProfileWithoutRole),
        1 => Just(Fault::TrustBroken),
        1 => Just(Fault::PassDenied),
        1 => Just(Fault::PassDeniedUnforeseen),
        2 => select(vec![5, 90, 200, i64::MAX]).prop_map(Fault::Propagates),
        1 => Just(Fault::MadeAgain),
    ]
}

fn any_luck() -> impl Strategy<Value = Vec<Luck>> {
    let one = select(vec![Luck::Fine, Luck::Fine, Luck::ReplyLost, Luck::Throttled, Luck::Unavailable]);
    proptest::collection::vec(one, 0..6)
}

fn any_events() -> impl Strategy<Value = Vec<(usize, Event)>> {
    let one = select(vec![
        Event::Stop,
        Event::Start,
        Event::Start,
        Event::OutsiderReplaces,
        Event::OutsiderDetaches,
        Event::Crash,
        Event::Crash,
        Event::Terminate,
    ]);
    proptest::collection::vec((0_usize..40, one), 0..5)
}

/// Laws that grant all that a play is about.
fn any_sufficient_law() -> impl Strategy<Value = Law> {
    let grant = |profiles: Value, instances: Value| json!({"namespaces": {"names": ["team-a"]}, "instanceProfiles": profiles, "instances": instances});
    let (id, tag) = (json!({"ids": ["i-0123456789abcdef0"]}), json!({"tags": {"team": "a"}}));
    let path = "arn:aws:iam::123456789012:instance-profile/team/*";
    select(vec![
        Law::all(),
        Law::of([grant(json!([path]), tag.clone())]),
        Law::of([grant(json!([APP, OLD]), id.clone()), grant(json!([path]), tag.clone())]),
        Law::of([grant(json!([path]), id)]).requiring("team", "a"),
    ])
}

/// What administrators, and those who may tag, do meanwhile.
fn any_changes_of_law() -> impl Strategy<Value = Vec<(usize, Event)>> {
    let one = select(vec![
        Event::GrantGone,
        Event::GrantNarrowed,
        Event::NoneForbidden,
        Event::GrantBack,
        Event::GrantBack,
        Event::Untag,
        Event::Retag,
        Event::Retag,
        Event::BecomesNode,
    ]);
    proptest::collection::vec((0_usize..40, one), 0..6)
}

/// A world as EC2 can be in it, with a binding for P or for none that was never looked at.
fn any_play() -> impl Strategy<Value = Play> {
    let state = select(vec!["running", "running", "stopped", "pending", "stopping"]);
    let rows = select(vec![
        vec![],
        vec![(APP, "associated")],
        vec![(OLD, "associated")],
        vec![(OLD, "associating")],
        vec![(OLD, "disassociating")],
        vec![(APP, "disassociating"), (OLD, "associating")],
        vec![(OLD, "disassociating"), (APP, "associating")],
    ]);
    let world = (any_fault(), any_luck(), any_events(), any_sufficient_law(), any::<bool>());
    (any_spec(), proptest::bool::weighted(0.2), state, rows, world).prop_map(
        |(spec, none, state, rows, (fault, luck, events, law, sparing))| {
            let begin = if none { want_none() } else { want(APP) };
            let story = begin.but(|s| {
                s.desired = Desired {
                    declared: s.desired.declared.clone(),
                    mode: Mode::Enforce,
                    suspend: false,
                    ..spec
                };
                if none {
                    s.desired.adoption = AdoptionPolicy::Replace;
                }
            });
            let story =
                rows.into_iter().fold(story.under(law), |story, (name, state)| story.row(name, state));
            let mut play = Play::new(story, state, fault).with(luck, events);
            play.sparing = sparing;
            play
        },
    )
}

/// Whether the last word is as declared, or a reason that is true.
fn ends_well(play: &Play, last: &Decision) -> bool {
    let spec = &play.story.desired;
    let (stopped, running) = (play.state == "stopped", play.state == "running");
    let app = play.carries() == Some(APP);
    let other = play.live().is_some() && !app;
    match (&last.step, last.reason) {
        (Step::Converged, Reason::Associated) => app,
        (Step::Converged, Reason::Disassociated) => {
            play.rows.is_empty() && spec.declared == Declared::NoProfile
        }
        // EC2 may finish only when the instance starts.
        (Step::Wait, Reason::Associating) => app && stopped,
        (Step::Refuse, Reason::InstanceTerminated) => play.state == "terminated",
        (Step::Wait, Reason::WaitingForRunning) => {
            stopped
                && spec.when_stopped == WhenStopped::WaitForRunning
                && (other || play.fault == Fault::MadeAgain)
        }
        (Step::Wait, Reason::ProfileNotPropagated) => play.fault == Fault::Propagates(i64::MAX),
        (Step::Refuse, Reason::ProfileNotFound) => play.fault == Fault::ProfileMissing,
        (Step::Refuse, Reason::ProfileWithoutRole) => play.fault == Fault::ProfileWithoutRole,
        (Step::Refuse, Reason::TrustPolicyBroken) => play.fault == Fault::TrustBroken && app && running,
        (Step::Refuse, Reason::AccessDenied) => {
            matches!(play.fault, Fault::PassDenied | Fault::PassDeniedUnforeseen) && !app
        }
        (Step::Refuse, Reason::ProfileRecreated) => play.fault == Fault::MadeAgain && app && running,
        (Step::Refuse, Reason::NotAdopted) => {
            spec.adoption == AdoptionPolicy::OnlyIfNone
                && !play.story.history.adopted
                && (other || play.fault == Fault::MadeAgain)
        }
        _ => false,
    }
}

proptest! {
    #![proptest_config(times(1))]

    #[test]
    fn following_the_steps_ends_as_declared_or_with_a_reason_that_is_true(mut play in any_play()) {
        let last = play.follow(70);
        prop_assert!(ends_well(&play, &last), "{:?}\n{:#?}", last, play);
        prop_assert!(play.writes.len() < 200, "{} writes", play.writes.len());
    }

    #[test]
    fn a_running_workload_is_never_without_a_profile_for_another_one(mut play in any_play()) {
        if play.story.desired.declared == Declared::NoProfile {
            return Ok(());
        }
        play.events.retain(|(_, event)| !matches!(event, Event::OutsiderDetaches | Event::Terminate));
        for _ in 0..200 {
            let (had, running) = (play.live().is_some(), play.state == "running");
            play.step();
            prop_assert!(!(had && running) || play.live().is_some(), "{:#?}", play);
        }
    }

    #[test]
    fn a_refused_swap_leaves_no_instance_without_a_profile(mut play in any_play(), unforeseen in any::<bool>()) {
        play.fault = if unforeseen { Fault::PassDeniedUnforeseen } else { Fault::PassDenied };
        play.events.retain(|(_, event)| !matches!(event, Event::OutsiderDetaches | Event::Terminate));
        if play.story.desired.declared == Declared::NoProfile || play.live().is_none() {
            return Ok(());
        }
        play.follow(70);
        prop_assert!(play.live().is_some(), "{:#?}", play);
    }

    #[test]
    fn nothing_is_written_where_all_is_well(mut play in any_play()) {
        play.fault = Fault::Nothing;
        play.events.clear();
        let lucky = play.luck.iter().all(|luck| *luck == Luck::Fine);
        play.follow(30);
        let before = play.writes.len();
        play.follow(30);
        prop_assert_eq!(play.writes.len(), before);
        if lucky {
            prop_assert!(before <= 2, "{:?}", play.writes);
        }
    }

    #[test]
    fn drift_is_mended_and_told(stopped in any::<bool>(), detached in any::<bool>(), luck in any_luck()) {
        let mut play = Play::new(want(APP).carrying(APP), "running", Fault::Nothing);
        prop_assert_eq!(play.follow(1).step, Step::Converged);
        play.luck = luck;
        let outside = if detached { Event::OutsiderDetaches } else { Event::OutsiderReplaces };
        let now = play.steps();
        play.events = vec![(now, outside)];
        if stopped {
            play.events.extend([(now + 6, Event::Stop), (now + 30, Event::Start)]);
        }
        let mut causes = Vec::new();
        for _ in 0..300 {
            let decision = play.step();
            if let Step::Write(_) = decision.step {
                causes.push(decision.plan[0].1);
            }
        }
        prop_assert_eq!(play.carries(), Some(APP));
        prop_assert_eq!(causes.first(), Some(&Cause::DriftDetected));
    }

    #[test]
    fn a_deletion_ends_and_does_what_its_policy_says(
        mut play in any_play(),
        luck in any_luck(),
        events in subsequence(vec![Event::Stop, Event::Start, Event::Crash, Event::Crash], 0..4),
        at in proptest::collection::vec(0_usize..12, 4),
    ) {
        play.fault = Fault::Nothing;
        play.events.clear();
        let found = play.carries().map(ToOwned::to_owned);
        let settled = play.follow(10);
        let carried = play.carries().map(ToOwned::to_owned);
        let (wrote, declared) = (!play.writes.is_empty(), play.story.desired.declared.clone());
        play.story = play.story.deleted_since(seconds(0));
        play.luck = luck;
        let now = play.steps();
        play.events = events.into_iter().zip(at).map(|(event, at)| (now + at, event)).collect();
        let last = play.follow(20);
        let Step::Release(how) = last.step else { panic!("the finalizer stays: {last:?} {play:#?}") };
        let carries = play.carries().map(ToOwned::to_owned);
        match play.story.desired.deletion {
            DeletionPolicy::Retain => prop_assert_eq!(&carries, &carried),
            DeletionPolicy::Detach if declared == Declared::NoProfile => prop_assert_eq!(carries, None),
            DeletionPolicy::Detach if carried.as_deref() == Some(APP) => prop_assert_eq!(carries, None),
            DeletionPolicy::Detach => prop_assert_eq!((&carries, how), (&carried, Farewell::LeftInPlace), "{:?}", settled),
            DeletionPolicy::Restore if wrote => prop_assert_eq!(&carries, &found, "{:?} {:#?}", how, play),
            DeletionPolicy::Restore => prop_assert_eq!(&carries, &carried),
        }
    }

    /// That no write goes out without a grant valid at that read, [`Play`] asserts of each.
    #[test]
    fn whatever_is_granted_and_tagged_meanwhile_when_all_is_granted_again_it_ends_well(
        mut play in any_play(),
        changes in any_changes_of_law(),
    ) {
        play.events.extend(changes);
        play.follow(10);
        play.events.clear();
        play.events.extend([(play.steps(), Event::GrantBack), (play.steps(), Event::Retag)]);
        let last = play.follow(70);
        prop_assert!(ends_well(&play, &last), "{:?}\n{:#?}", last, play);
    }

    #[test]
    fn while_nothing_is_granted_nothing_is_written(mut play in any_play(), untagged in any::<bool>(), at in 0_usize..12) {
        let by_tag = play.law.attends(&play.story, &Instance::Absent);
        let away = if untagged && !by_tag { Event::Untag } else { Event::GrantGone };
        for _ in 0..at {
            play.step();
        }
        let before = play.writes.len();
        play.events.retain(|(_, event)| *event != Event::Terminate);
        play.events.push((at, away));
        let last = play.follow(30);
        prop_assert_eq!(play.writes.len(), before);
        prop_assert_eq!(last.reason, Reason::NotAuthorized);
        play.story = play.story.deleted_since(seconds(0));
        prop_assert!(matches!(play.follow(1).step, Step::Release(_)));
        prop_assert_eq!(play.writes.len(), before);
    }

    /// Where instances must never be left without a profile, a swap leaves them so for a moment only, though the EC2
    /// here refuses, loses replies, throttles, and is started and stopped meanwhile, and the new profile's grant may go.
    #[test]
    fn a_swap_on_a_stopped_instance_ends_with_a_profile_while_a_grant_holds(
        mut play in any_play(),
        forbidden in any::<bool>(),
        narrowed in proptest::option::of(0_usize..10),
    ) {
        let swaps = play.story.desired.declared != Declared::NoProfile && play.carries() == Some(OLD);
        // An outsider's detach was no swap of ours; where EC2 will never know the profile, it was never promised.
        play.events.retain(|(_, event)| !matches!(event, Event::OutsiderDetaches | Event::OutsiderReplaces | Event::Terminate));
        if !swaps {
            return Ok(());
        }
        play.state = "stopped";
        if forbidden {
            play.law = play.law.never_none();
            play.story.law = play.law.clone();
        }
        if let Some(at) = narrowed {
            // Declared by role: a grant of the former profile alone is kept in view for who may yet turn out to mean it.
            play.story.desired.declared = Declared::Role(RoleName::parse("TestRole").unwrap());
            play.events.push((at, Event::GrantNarrowed));
        }
        let last = play.follow(70);
        prop_assert!(play.live().is_some(), "{:?}\n{:#?}", last, play);
    }

    #[test]
    fn a_deletion_ends_whatever_is_granted_meanwhile(
        mut play in any_play(),
        changes in any_changes_of_law(),
        soon in any::<bool>(),
    ) {
        play.fault = Fault::Nothing;
        play.events.clear();
        play.follow(if soon { 0 } else { 10 });
        let had = play.live().is_some();
        play.story = play.story.deleted_since(seconds(0));
        let now = play.steps();
        let changed = !changes.is_empty();
        play.events = changes.into_iter().map(|(at, event)| (now + at / 4, event)).collect();
        let last = play.follow(20);
        prop_assert!(matches!(last.step, Step::Release(_)), "{:?}", last);
        // Restore puts back what was there and not nothing, unless a right to it went between the halves.
        let restored = play.story.desired.deletion != DeletionPolicy::Restore || play.story.history.previous != Some(carried(OLD));
        prop_assert!(restored || changed || !had || play.live().is_some(), "{:#?}", play);
    }
}
