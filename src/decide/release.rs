//! A binding that is deleted: do what its policy says, then let go.
//!
//! | policy | rows | step |
//! |---|---|---|
//! | any | a successor is about to take over (≤ 2 min) | Wait |
//! | Retain, or the binding never writes | any | Release |
//! | Detach | carries `desired` or the newest `to` | Disassociate |
//! | Detach | carries anything else | Release, and say that it was left |
//! | Restore | carries what this binding put there | Replace by / detach, then attach / detach to `previous` |
//! | Restore | anything else | Release, and say that nothing was restored |
//! | Detach, Restore | none, by a settled look | Release |

use jiff::Timestamp;

use super::converge::{Power, disassociate, replace, writable};
use super::trouble::under_way;
use super::{
    Association, Carried, Case, Cause, Decision, Evidence, Farewell, Grade, HAND_OVER, Instance,
    InstanceState, Leaving, PROPAGATION, ProfileRef, Reason, Rows, Step, Successor, TroubleKind, Write,
};
use crate::api::binding::{DeletionPolicy, Operation};

fn farewell(how: Farewell, message: impl Into<String>) -> Decision {
    Decision::new(Step::Release(how), Reason::Disassociated, message)
}

/// What needs no look at EC2, and so holds even where the controller looks elsewhere.
pub(super) fn without_a_look(case: &Case<'_>, leaving: &Leaving) -> Option<Decision> {
    if !leaving.has_finalizer {
        return Some(farewell(Farewell::Done, "nothing to do"));
    }
    if leaving.forced {
        return Some(farewell(
            Farewell::Forced,
            "released as the annotation asks; the instance keeps what it carries",
        ));
    }
    if !case.desired.writes() || case.desired.deletion == DeletionPolicy::Retain {
        return Some(farewell(Farewell::Done, "the instance keeps what it carries"));
    }
    None
}

pub(super) fn release(case: &Case<'_>, leaving: &Leaving, now: Timestamp) -> Decision {
    match leaving.successor {
        Some(Successor::Done) => {
            return farewell(Farewell::HandedOver, "another binding has taken over the instance");
        }
        Some(Successor::Pending) if now.duration_since(leaving.since) < HAND_OVER => {
            return Decision::wait(
                Reason::Replacing,
                "another binding takes over the instance; waiting until it has",
            );
        }
        Some(Successor::Pending | Successor::Refused) | None => {}
    }
    let look = Decision::look(Evidence {
        associations: true,
        instance: case.observed.instance.is_none(),
        profile: false,
    });
    let Some(view) = &case.observed.view else { return look };
    if view.grade == Grade::Listing {
        return look;
    }
    match case.desired.deletion {
        DeletionPolicy::Detach => detach(case, &view.rows, view.grade),
        DeletionPolicy::Restore => restore(case, &view.rows, view.grade, now),
        DeletionPolicy::Retain => farewell(Farewell::Done, "the instance keeps what it carries"),
    }
}

fn settling() -> Decision {
    Decision::wait(
        Reason::Disassociating,
        "EC2's answers may still show the time before the last change; looking again",
    )
}

fn unclear() -> Decision {
    Decision::wait(
        Reason::AWSUnavailable,
        "EC2 shows associations of this instance that this version does not understand; nothing is changed",
    )
}

fn detach(case: &Case<'_>, rows: &Rows, grade: Grade) -> Decision {
    match rows {
        Rows::Bare if grade == Grade::Unsettled => settling(),
        Rows::Bare | Rows::Leaving(_) => farewell(Farewell::Done, "the instance carries no instance profile"),
        Rows::Unclear => unclear(),
        Rows::One(row) | Rows::Replacing { arriving: row, .. } if is_ours(case, row) => {
            change(case, |_| disassociate(row, None))
        }
        // The past may still show what was there before a change of ours.
        Rows::One(_) | Rows::Replacing { .. } if grade == Grade::Unsettled => settling(),
        Rows::One(row) | Rows::Replacing { arriving: row, .. } => farewell(
            Farewell::LeftInPlace,
            format!("left {} in place: this binding did not attach it", row.profile.name()),
        ),
    }
}

/// Detach takes off only what this binding wanted or last asked for: right after an edit that was not carried
/// out yet, the two differ.
fn is_ours(case: &Case<'_>, row: &Association) -> bool {
    let wanted = case.history.desired.as_ref().and_then(Carried::profile);
    let asked = case.history.newest().and_then(|c| c.to.profile());
    [wanted, asked].into_iter().flatten().any(|p| p.is_carried_by(row))
}

fn restore(case: &Case<'_>, rows: &Rows, grade: Grade, now: Timestamp) -> Decision {
    let Some(previous) = &case.history.previous else {
        return farewell(
            Farewell::NotRestored,
            "what was there before is not recorded; the instance keeps what it carries",
        );
    };
    match rows {
        Rows::Unclear => unclear(),
        Rows::Bare => match previous.profile().filter(|_| case.history.detached().is_some()) {
            Some(profile) => put_back(case, profile, now),
            None if grade == Grade::Unsettled => settling(),
            None if *previous == Carried::Nothing => {
                farewell(Farewell::Done, "the instance carries no instance profile, as before")
            }
            None => farewell(
                Farewell::NotRestored,
                "the instance carries no instance profile, which was not this binding's doing; left so",
            ),
        },
        Rows::Leaving(_) => match previous.profile() {
            Some(profile) if case.history.detached().is_some() => put_back(case, profile, now),
            Some(_) | None => farewell(Farewell::Done, "the profile is being taken off"),
        },
        Rows::One(row) | Rows::Replacing { arriving: row, .. } => restore_over(case, previous, row, grade),
    }
}

fn restore_over(case: &Case<'_>, previous: &Carried, row: &Association, grade: Grade) -> Decision {
    if previous.profile().is_some_and(|p| p.is_carried_by(row)) {
        return farewell(Farewell::Done, format!("the instance carries {} as before", row.profile.name()));
    }
    if !case.history.put(&ProfileRef::Arn(row.profile.clone())) {
        return match grade {
            Grade::Unsettled => settling(),
            Grade::Listing | Grade::Settled => farewell(
                Farewell::NotRestored,
                format!("left {} in place: this binding did not attach it", row.profile.name()),
            ),
        };
    }
    change(case, |power| match (previous, power) {
        (Carried::Nothing, _) => disassociate(row, None),
        (Carried::Profile(profile), Power::Running) => replace(row, profile),
        (Carried::Profile(profile), Power::Stopped) => Write::Disassociate {
            association: row.id.clone(),
            from: ProfileRef::Arn(row.profile.clone()),
            then: Some(profile.clone()),
        },
    })
}

/// The second half of a restore on a stopped instance. A former profile that is gone for good is not waited for.
fn put_back(case: &Case<'_>, profile: &ProfileRef, now: Timestamp) -> Decision {
    let gone = case
        .trouble
        .is_some_and(|t| t.kind == TroubleKind::ProfileInvalid && now.duration_since(t.since) >= PROPAGATION);
    if gone {
        return farewell(
            Farewell::NotRestored,
            format!("{profile} does not exist any more; the instance is left without a profile"),
        );
    }
    change(case, |_| Write::Associate { profile: profile.clone() })
}

fn change(case: &Case<'_>, write: impl FnOnce(Power) -> Write) -> Decision {
    let Some(instance) = &case.observed.instance else {
        return Decision::look(Evidence { instance: true, ..Evidence::default() });
    };
    let gone = matches!(
        instance,
        Instance::Absent
            | Instance::Impossible
            | Instance::Present { state: InstanceState::Terminated | InstanceState::ShuttingDown, .. }
            | Instance::Present { managed: true, .. }
    );
    if gone {
        return farewell(Farewell::Done, "the instance is gone, or nobody may change it");
    }
    match writable(case, instance) {
        Ok(power) => {
            let write = write(power);
            let mut plan: Vec<(Operation, Cause)> = vec![(write.operation(), Cause::Deleted)];
            if let Write::Disassociate { then: Some(_), .. } = write {
                plan.push((Operation::AssociateIamInstanceProfile, Cause::Deleted));
            }
            let reason = under_way(&write);
            let message = format!("deleted: the instance is to carry {}", write.to().as_str());
            Decision::new(Step::Write(write), reason, message).planning(plan)
        }
        Err(decision) => decision,
    }
}
