//! A binding that is deleted: do what its policy says, then let go.
//!
//! | policy | rows | step |
//! |---|---|---|
//! | any, without a grant now | any | Release, and say that it was left |
//! | any | a successor is about to take over (≤ 2 min) | Wait |
//! | Retain, or the binding never writes | any | Release |
//! | any | none, between the halves of a swap that must be ended | Associate |
//! | Detach | carries `desired` or the newest `to` | Disassociate |
//! | Detach | carries anything else | Release, and say that it was left |
//! | Restore | carries what this binding put there | Replace by / detach, then attach / detach to `previous` |
//! | Restore | anything else | Release, and say that nothing was restored |
//! | Detach, Restore | none, by a settled look | Release |

use jiff::Timestamp;

use super::converge::{Power, disassociate, exchanged, writable};
use super::trouble::{brought, under_way};
use super::{
    Association, Authority, Carried, Case, Cause, Claim, Decision, Desired, Evidence, Farewell, Grade,
    HAND_OVER, Instance, InstanceState, Leaving, PROPAGATION, ProfileRef, Reason, Rows, Step, Successor,
    TroubleKind, Write, swap,
};
use crate::api::binding::{DeletionPolicy, Operation};

fn farewell(how: Farewell, message: impl Into<String>) -> Decision {
    Decision::new(Step::Release(how), Reason::Disassociated, message)
}

/// Without a right to it the instance is left as it is; the words tell nothing of it, not even whether it is there.
pub(super) fn left_alone() -> Decision {
    farewell(
        Farewell::LeftInPlace,
        "no InstanceRoleGrant lets this binding change the instance (it is gone, or has allowNone: false), so it is left as it is",
    )
}

/// What needs no question to AWS, and so holds whatever the rights and wherever the controller looks.
pub(super) fn without_asking(desired: &Desired, leaving: &Leaving) -> Option<Decision> {
    if !leaving.has_finalizer {
        return Some(farewell(Farewell::Done, "nothing to do"));
    }
    if leaving.forced {
        return Some(farewell(
            Farewell::Forced,
            "released as the annotation asks; the instance keeps what it carries",
        ));
    }
    if !desired.writes() || desired.deletion == DeletionPolicy::Retain {
        return Some(farewell(Farewell::Done, "the instance keeps what it carries"));
    }
    None
}

/// Whether a grant would let the deletion change anything, whatever the instance carries.
pub(super) fn may_change(case: &Case<'_>) -> bool {
    case.desired.deletion != DeletionPolicy::Detach
        || case.history.swapped_out().is_some()
        || !matches!(case.rights.authority(Claim::Nothing, None), Authority::Refused { .. })
}

pub(super) fn release(case: &Case<'_>, leaving: &Leaving, now: Timestamp) -> Decision {
    let authority = match (case.rights.reach(case.observed.seen.as_ref()), &case.observed.instance) {
        (granted @ Authority::Granted { .. }, _) => granted,
        (Authority::Refused { by_tag: false }, _) | (Authority::Refused { .. }, Some(_)) => {
            return left_alone();
        }
        (Authority::Refused { .. } | Authority::Open, _) => {
            return Decision::look(Evidence {
                associations: case.observed.view.is_none(),
                instance: true,
                profile: false,
            });
        }
    };
    by_policy(case, leaving, now).with(authority)
}

fn by_policy(case: &Case<'_>, leaving: &Leaving, now: Timestamp) -> Decision {
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
        Some(Successor::Unseen(evidence)) if now.duration_since(leaving.since) < HAND_OVER => {
            return Decision::look(evidence);
        }
        Some(Successor::Pending | Successor::Unseen(_) | Successor::Refused) | None => {}
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
    if swap::is_in_debt(case, leaving) {
        match &view.rows {
            Rows::Bare => match swap::owed(case, now) {
                Some(profile) => return change(case, |_| Write::Associate { profile: profile.clone() }),
                None => {
                    return farewell(
                        Farewell::NotRestored,
                        "neither the profile that was taken off nor the one that was to come can be attached; the instance is left without a profile",
                    );
                }
            },
            Rows::Leaving(_) => return settling(),
            Rows::Unclear => return unclear(),
            // It may be what the first half took off.
            Rows::One(_) | Rows::Replacing { .. } if view.grade == Grade::Unsettled => return settling(),
            // Somebody has ended it.
            Rows::One(_) | Rows::Replacing { .. } => {}
        }
    }
    match case.desired.deletion {
        // Only the debt was left to do.
        _ if !case.desired.writes() => farewell(Farewell::Done, "the instance keeps what it carries"),
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
        Rows::Bare | Rows::Leaving(_) if grade == Grade::Unsettled => settling(),
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
    let asked = case.history.last_asked().filter_map(|c| c.to.profile());
    wanted.into_iter().chain(asked).any(|p| p.is_carried_by(row))
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
        Rows::Bare | Rows::Leaving(_) => restore_to_bare(case, previous, grade, now),
        Rows::One(row) | Rows::Replacing { arriving: row, .. } => {
            restore_over(case, previous, row, grade, now)
        }
    }
}

/// Nothing is attached: the second half of a restore on a stopped instance, if a detach of ours was the first.
fn restore_to_bare(case: &Case<'_>, previous: &Carried, grade: Grade, now: Timestamp) -> Decision {
    let halfway = case.history.detached().is_some();
    match previous {
        Carried::Profile(profile) if halfway && !is_gone(case, now) => {
            restoring(case, "the instance is left without a profile", |_| Write::Associate {
                profile: profile.clone(),
            })
        }
        Carried::Profile(_) | Carried::Nothing if grade == Grade::Unsettled => settling(),
        Carried::Nothing => farewell(Farewell::Done, "the instance carries no instance profile, as before"),
        Carried::Profile(profile) if halfway => farewell(
            Farewell::NotRestored,
            format!("{profile} does not exist any more; the instance is left without a profile"),
        ),
        Carried::Profile(_) => farewell(
            Farewell::NotRestored,
            "the instance carries no instance profile, which was not this binding's doing; left so",
        ),
    }
}

fn restore_over(
    case: &Case<'_>,
    previous: &Carried,
    row: &Association,
    grade: Grade,
    now: Timestamp,
) -> Decision {
    let there = row.profile.name();
    let as_before = previous.profile().is_some_and(|p| p.is_carried_by(row));
    let ours = case.history.changes.iter().filter_map(|c| c.to.profile()).any(|p| p.is_carried_by(row));
    let gone = previous.profile().filter(|_| is_gone(case, now));
    if ours && !as_before && gone.is_none() {
        return restoring(case, &format!("left {there} in place"), |power| match (previous, power) {
            (Carried::Nothing, _) => disassociate(row, None),
            (Carried::Profile(profile), Power::Running) => exchanged(case, row, profile, now),
            (Carried::Profile(profile), Power::Stopped) => disassociate(row, Some(profile)),
        });
    }
    if grade == Grade::Unsettled {
        return settling();
    }
    if as_before {
        return farewell(Farewell::Done, format!("the instance carries {there} as before"));
    }
    let why = match gone.filter(|_| ours) {
        Some(profile) => format!("{profile} does not exist any more"),
        None => "this binding did not attach it".to_owned(),
    };
    farewell(Farewell::NotRestored, format!("left {there} in place: {why}"))
}

/// Whether EC2 has not known the former profile for so long that it is not waited for. Trouble from before the
/// deletion was about another profile, the declared one.
fn is_gone(case: &Case<'_>, now: Timestamp) -> bool {
    case.trouble.filter(|t| t.kind == TroubleKind::ProfileInvalid).is_some_and(|t| {
        let since = case.leaving.map_or(t.since, |leaving| leaving.since.max(t.since));
        now.duration_since(since) >= PROPAGATION
    })
}

/// A change that only a grant as it is now lets happen: what status recorded is a note, not a right.
fn restoring(case: &Case<'_>, otherwise: &str, write: impl FnOnce(Power) -> Write) -> Decision {
    let decision = change(case, write);
    let Step::Write(write) = &decision.step else { return decision };
    match case.rights.authority(Claim::of(write, true), case.observed.instance.as_ref()) {
        Authority::Granted { .. } => decision,
        Authority::Refused { .. } | Authority::Open => farewell(
            Farewell::NotRestored,
            format!("{otherwise}: no InstanceRoleGrant covers bringing back what was there before"),
        ),
    }
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
            let last = brought(&write).map_or("none", ProfileRef::as_str);
            let message = format!("deleted: the instance is to carry {last}");
            Decision::new(Step::Write(write), reason, message).planning(plan)
        }
        Err(decision) => decision,
    }
}
