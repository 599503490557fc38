//! A binding that lives: compare the rows with what is declared, and find the one next step.

use jiff::Timestamp;

use super::trouble::TroubleKind;
use super::{
    ASSOCIATING, Association, AssociationState, Case, Cause, Claim, Decision, Evidence, Grade, Instance,
    InstanceState, PROPAGATION, ProfileRef, Reason, Resolution, Rows, STUCK, Step, Target, View, Write,
};
use crate::api::binding::{AdoptionPolicy, Mode, Operation, WhenStopped};
use crate::ids::ProfileArn;

/// The two states in which EC2 lets an association be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Power {
    Running,
    Stopped,
}

pub(super) fn converge(case: &Case<'_>, now: Timestamp) -> Decision {
    let wanted = match case.resolution {
        Resolution::NoProfile => None,
        Resolution::Found(target) => Some(target),
        unresolved => return unresolved_profile(case, unresolved, now),
    };
    let Some(view) = &case.observed.view else { return first_look(case) };
    match (wanted, &view.rows) {
        (_, Rows::Unclear) => Decision::wait(
            Reason::AWSUnavailable,
            "EC2 shows associations of this instance that this version does not understand; nothing is changed",
        ),
        (Some(target), Rows::One(row)) if target.profile.is_carried_by(row) => {
            carried(case, target, row, view, now)
        }
        (Some(target), Rows::Replacing { arriving: row, leaving }) if target.profile.is_carried_by(row) => {
            if target.is_recreated(row, view.ended) {
                exchange(case, target, row, Cause::ProfileRecreated, now)
            } else if is_slow(row, now) {
                slow_to_associate(case, target)
            } else {
                Decision::wait(
                    Reason::Replacing,
                    format!("{} is replacing {}", target.profile, leaving.profile.name()),
                )
                .differs()
            }
        }
        (Some(target), Rows::One(row) | Rows::Replacing { arriving: row, .. }) => {
            concluded(case, view, |cause| exchange(case, target, row, cause, now))
        }
        (Some(target), Rows::Bare) => concluded(case, view, |cause| attach(case, target, cause)),
        (Some(target), Rows::Leaving(row)) => attach_after(case, target, row, view, now),
        (None, Rows::Bare) => bare_as_declared(case, view),
        (None, Rows::Leaving(row)) => {
            Decision::wait(Reason::Disassociating, format!("{} is being taken off", row.profile.name()))
                .differs()
        }
        (None, Rows::One(row) | Rows::Replacing { arriving: row, .. }) => {
            concluded(case, view, |cause| detach(case, row, cause))
        }
    }
}

fn unresolved_profile(case: &Case<'_>, resolution: &Resolution, now: Timestamp) -> Decision {
    match resolution {
        Resolution::NotAsked => Decision::look(Evidence {
            profile: true,
            associations: case.observed.view.is_none(),
            instance: case.observed.view.is_none() && case.observed.instance.is_none(),
        }),
        Resolution::Denied(words) => Decision::refuse(Reason::AccessDenied, words.clone()),
        Resolution::Unavailable(words) => Decision::wait(Reason::AWSUnavailable, words.clone()),
        Resolution::Missing { told, since, really: None } if now.duration_since(*since) < PROPAGATION => {
            Decision::wait(Reason::ProfileNotFound, told.clone())
        }
        Resolution::Missing { told, really: None, .. } => {
            Decision::refuse(Reason::ProfileNotFound, told.clone())
        }
        Resolution::Missing { told, really: Some(other), .. } => {
            let known = case.rights.may_know(&ProfileRef::Arn(other.clone()));
            let hint = if known { format!("; it has {other}") } else { String::new() };
            Decision::refuse(Reason::ProfileNotFound, format!("{told}{hint}"))
        }
        Resolution::Ambiguous(profiles) => {
            let known = |arn: &&ProfileArn| case.rights.may_know(&ProfileRef::Arn((*arn).clone()));
            let names: Vec<&str> = profiles.iter().filter(known).map(|p| p.name()).collect();
            Decision::refuse(
                Reason::RoleAmbiguous,
                format!(
                    "the role is in {} instance profiles ({}): name the one that is meant by spec.instanceProfile.name or arn",
                    profiles.len(),
                    names.join(", ")
                ),
            )
        }
        Resolution::NoProfile | Resolution::Found(_) => {
            Decision::look(Evidence { profile: true, ..Evidence::default() })
        }
    }
}

/// All three reads of a first look depend on nothing, so they are made side by side.
fn first_look(case: &Case<'_>) -> Decision {
    Decision::look(Evidence {
        associations: true,
        instance: case.observed.instance.is_none(),
        profile: false,
    })
}

/// The instance carries what is declared.
fn carried(case: &Case<'_>, target: &Target, row: &Association, view: &View, now: Timestamp) -> Decision {
    if target.is_recreated(row, view.ended) {
        return exchange(case, target, row, Cause::ProfileRecreated, now);
    }
    if target.id.is_some() && row.profile_id.is_some() && target.id != row.profile_id {
        // One of the two ids is dead, and the look at IAM is too old to tell which.
        return Decision::look(Evidence { profile: true, ..Evidence::default() });
    }
    if is_past(case, row, view) {
        return unsettled();
    }
    if target.has_role == Some(false) {
        let mut decision = without_role(target);
        decision.in_sync = Some(true);
        return decision;
    }
    match row.state {
        AssociationState::Associated => {
            Decision::new(Step::Converged, Reason::Associated, format!("carries {}", target.profile))
        }
        _ if is_slow(row, now) => slow_to_associate(case, target),
        _ => Decision::wait(Reason::Associating, format!("{} is being attached", target.profile)).differs(),
    }
}

/// After an edit back, EC2 may still show the row that the newest change took off: what it carries agrees with the
/// spec, and will not for long.
fn is_past(case: &Case<'_>, row: &Association, view: &View) -> bool {
    let undone = |to: Option<&ProfileRef>| !to.is_some_and(|profile| profile.is_carried_by(row));
    view.grade == Grade::Unsettled && case.history.newest().is_some_and(|c| undone(c.to.profile()))
}

fn unsettled() -> Decision {
    Decision::wait(
        Reason::Associating,
        "EC2's answers may still show the time before the last change; looking again",
    )
}

fn is_slow(row: &Association, now: Timestamp) -> bool {
    row.state != AssociationState::Associated && now.duration_since(row.since) >= ASSOCIATING
}

fn slow_to_associate(case: &Case<'_>, target: &Target) -> Decision {
    match &case.observed.instance {
        None => Decision::look(Evidence { instance: true, associations: true, profile: false }),
        Some(Instance::Present { state: InstanceState::Running, .. }) => Decision::refuse(
            Reason::TrustPolicyBroken,
            format!("{} has been associating for over two minutes on a running instance: let ec2.amazonaws.com assume its role in the role's trust policy", target.profile),
        )
        .differs(),
        // Whether it ends at all while the instance is stopped is not established (aws-semantics 7.1).
        Some(_) => Decision::wait(Reason::Associating, format!("{} is attached; EC2 may finish only when the instance starts", target.profile)).differs(),
    }
}

fn without_role(target: &Target) -> Decision {
    Decision::refuse(
        Reason::ProfileWithoutRole,
        format!(
            "instance profile {} holds no role and gives no permissions: aws iam add-role-to-instance-profile --instance-profile-name {0} --role-name …",
            target.profile
        ),
    )
}

/// A difference to something that was in sync is drift, which is a conclusion: it needs a settled look. At first
/// sight a difference is only a reason to write, and EC2 guards every write.
fn concluded(case: &Case<'_>, view: &View, then: impl FnOnce(Cause) -> Decision) -> Decision {
    match (case.history.was_in_sync, view.grade) {
        (false, _) => then(Cause::Declared),
        (true, Grade::Settled) => then(Cause::DriftDetected),
        (true, Grade::Listing) => Decision::look(Evidence {
            associations: true,
            instance: case.observed.instance.is_none(),
            profile: false,
        }),
        (true, Grade::Unsettled) => unsettled().differs(),
    }
}

fn bare_as_declared(case: &Case<'_>, view: &View) -> Decision {
    match view.grade {
        Grade::Listing => Decision::look(Evidence {
            associations: true,
            instance: case.observed.instance.is_none(),
            profile: false,
        }),
        Grade::Unsettled => Decision::wait(
            Reason::Disassociating,
            "the profile is taken off; EC2's answers may still show the past, looking again",
        )
        .differs(),
        Grade::Settled if case.history.was_in_sync => no_profile(),
        Grade::Settled => match &case.observed.instance {
            None => Decision::look(Evidence { instance: true, ..Evidence::default() }),
            Some(
                Instance::Present { state: InstanceState::ShuttingDown | InstanceState::Terminated, .. }
                | Instance::Absent
                | Instance::Impossible,
            ) => case
                .observed
                .instance
                .as_ref()
                .and_then(|i| writable(case, i).err())
                .unwrap_or_else(no_profile),
            Some(Instance::Present { .. }) => no_profile(),
        },
    }
}

fn no_profile() -> Decision {
    Decision::new(Step::Converged, Reason::Disassociated, "carries no instance profile")
}

/// Whether EC2 would take a change now; if not, what to do instead.
pub(super) fn writable(case: &Case<'_>, instance: &Instance) -> Result<Power, Decision> {
    let id = &case.desired.instance;
    match instance {
        Instance::Absent if case.history.adopted => {
            Err(Decision::refuse(Reason::InstanceTerminated, format!("{id} is gone: delete this binding")))
        }
        Instance::Absent => Err(Decision::wait(
            Reason::InstanceNotFound,
            format!(
                "EC2 knows no {id} in account {}, Region {}; it is attended to once it is there",
                case.place.account, case.place.region
            ),
        )),
        Instance::Impossible => Err(Decision::refuse(
            Reason::InstanceNotFound,
            format!(
                "EC2 calls the id {id} malformed, so there can be no such instance: correct spec.instanceId (a new binding)"
            ),
        )),
        Instance::Present { managed: true, .. } => Err(Decision::refuse(
            Reason::InstanceProtected,
            format!(
                "{id} is managed by an AWS service, which lets nobody change its profile: delete this binding"
            ),
        )),
        Instance::Present { state, .. } => match state {
            InstanceState::Running => Ok(Power::Running),
            InstanceState::Stopped => Ok(Power::Stopped),
            InstanceState::Pending => Err(Decision::wait(
                Reason::InstancePending,
                format!("{id} is starting; EC2 takes no change until it runs"),
            )),
            InstanceState::Stopping => Err(Decision::wait(
                Reason::InstanceStopping,
                format!("{id} is stopping; EC2 takes no change until it is stopped"),
            )),
            InstanceState::ShuttingDown | InstanceState::Terminated => Err(Decision::refuse(
                Reason::InstanceTerminated,
                format!("{id} is {state}: delete this binding"),
            )),
            InstanceState::Unknown(word) => Err(Decision::wait(
                Reason::AWSUnavailable,
                format!("{id} is in a state that this version does not know ({word}); nothing is changed"),
            )),
        },
    }
}

/// Asks for the instance's state, then for permission by spec; `write` says what is to be done in which state.
fn change(case: &Case<'_>, cause: Cause, write: impl FnOnce(Power) -> Result<Write, Decision>) -> Decision {
    let Some(instance) = &case.observed.instance else {
        return Decision::look(Evidence { instance: true, ..Evidence::default() });
    };
    let next = match writable(case, instance).and_then(write) {
        Ok(next) => next,
        Err(decision) => return decision.differs(),
    };
    if let Some(what) = case.rights.protection(Claim::of(&next, false), instance) {
        return super::rights::protected(case, &what);
    }
    let mut plan = vec![(next.operation(), cause)];
    if let Write::Disassociate { then: Some(_), .. } = next {
        plan.push((Operation::AssociateIamInstanceProfile, cause));
    }
    let what = describe(&next);
    let decision = if super::swap::is_owed(case, &next) {
        let reason = super::trouble::under_way(&next);
        Decision::new(Step::Write(next), reason, format!("{what}: the swap that was begun is ended"))
    } else if case.desired.mode == Mode::Observe {
        Decision::refuse(
            Reason::ObserveOnly,
            format!(
                "{what} is due, but this binding only observes: set spec.mode to Enforce to have it done"
            ),
        )
    } else if case.desired.suspend {
        Decision::new(
            Step::Hold,
            Reason::Suspended,
            format!(
                "{what} is due, but this binding is suspended: set spec.suspend to false to have it done"
            ),
        )
    } else {
        let reason = super::trouble::under_way(&next);
        Decision::new(Step::Write(next), reason, what)
    };
    decision.planning(plan)
}

fn describe(write: &Write) -> String {
    match write {
        Write::Associate { profile } => format!("attaching {profile}"),
        Write::Replace { from, profile, .. } => format!("replacing {from} by {profile}"),
        Write::Disassociate { from, then: None, .. } => format!("taking {from} off"),
        Write::Disassociate { from, then: Some(profile), .. } => {
            format!("taking {from} off the stopped instance, to attach {profile}")
        }
    }
}

fn attach(case: &Case<'_>, target: &Target, cause: Cause) -> Decision {
    if target.has_role == Some(false) {
        return without_role(target).differs();
    }
    change(case, cause, |_| Ok(Write::Associate { profile: target.profile.clone() }))
}

/// The old row is on its way out. On a stopped instance an Associate succeeds at once; on a running one it may be
/// refused while the row is there (aws-semantics 7.2), so it is tried only when the row seems stuck.
fn attach_after(
    case: &Case<'_>,
    target: &Target,
    leaving: &Association,
    view: &View,
    now: Timestamp,
) -> Decision {
    let Some(instance) = &case.observed.instance else {
        return Decision::look(Evidence { instance: true, ..Evidence::default() });
    };
    match writable(case, instance) {
        Err(decision) => decision.differs(),
        // What follows is in the plan, so that drift is still known as such when it is mended.
        Ok(Power::Running) if now.duration_since(leaving.since) <= STUCK => concluded(case, view, |cause| {
            Decision::wait(
                Reason::Disassociating,
                format!("{} is being taken off; {} is attached next", leaving.profile.name(), target.profile),
            )
            .planning(vec![(Operation::AssociateIamInstanceProfile, cause)])
        }),
        Ok(Power::Running) if is_stuck(case, leaving, now) => {
            concluded(case, view, |cause| change(case, cause, |_| Ok(disassociate(leaving, Some(target)))))
        }
        Ok(Power::Running | Power::Stopped) => concluded(case, view, |cause| attach(case, target, cause)),
    }
}

fn detach(case: &Case<'_>, row: &Association, cause: Cause) -> Decision {
    change(case, cause, |_| Ok(disassociate(row, None)))
}

pub(super) fn disassociate(row: &Association, then: Option<&Target>) -> Write {
    Write::Disassociate {
        association: row.id.clone(),
        from: ProfileRef::Arn(row.profile.clone()),
        then: then.map(|t| t.profile.clone()),
    }
}

pub(super) fn replace(row: &Association, profile: &ProfileRef) -> Write {
    Write::Replace {
        association: row.id.clone(),
        from: ProfileRef::Arn(row.profile.clone()),
        profile: profile.clone(),
    }
}

/// Another profile is there. On a running instance Replace alone exchanges it: its workload is never without
/// credentials. EC2 cannot replace on a stopped one, where nothing runs that could miss them.
fn exchange(case: &Case<'_>, target: &Target, row: &Association, cause: Cause, now: Timestamp) -> Decision {
    if case.desired.adoption == AdoptionPolicy::OnlyIfNone && !case.history.adopted {
        return Decision::refuse(
            Reason::NotAdopted,
            format!("the instance already carries {}, and spec.adoptionPolicy is OnlyIfNone: set it to Replace to exchange it for {}", row.profile.name(), target.profile),
        )
        .differs();
    }
    if target.has_role == Some(false) {
        return without_role(target).differs();
    }
    change(case, cause, |power| match (power, case.desired.when_stopped) {
        (Power::Running, _) if is_stuck(case, row, now) => Ok(disassociate(row, Some(target))),
        (Power::Running, _) => Ok(replace(row, &target.profile)),
        (Power::Stopped, WhenStopped::DetachThenAttach) if target.has_role == Some(true) => {
            Ok(disassociate(row, Some(target)))
        }
        (Power::Stopped, WhenStopped::DetachThenAttach) => Err(Decision::refuse(
            Reason::AccessDenied,
            format!(
                "EC2 cannot replace on a stopped instance, and nothing is detached before {} is known to exist with a role: allow iam:GetInstanceProfile to the controller, or start the instance",
                target.profile
            ),
        )),
        (Power::Stopped, WhenStopped::WaitForRunning) => Err(Decision::wait(
            Reason::WaitingForRunning,
            format!(
                "the instance is stopped with {}; {} replaces it once it runs",
                row.profile.name(),
                target.profile
            ),
        )),
    })
}

/// The one detach on a running instance that nobody asked for: EC2 keeps a row in transition for minutes and
/// refuses to replace it, which it does for ever (AWS re:Post, `ec2-resolve-active-assocation-error`).
fn is_stuck(case: &Case<'_>, row: &Association, now: Timestamp) -> bool {
    let in_transition = matches!(row.state, AssociationState::Associating | AssociationState::Disassociating);
    let refused = case.trouble.is_some_and(|t| t.kind == TroubleKind::Overtaken && t.count >= 3);
    in_transition && refused && now.duration_since(row.since) > STUCK
}
