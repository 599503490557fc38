//! A swap on a stopped instance takes two writes, and between them it stands without a profile. What was begun is
//! ended: with the profile that was to come, or with the one that was taken off.

use jiff::Timestamp;

use super::converge::writable;
use super::trouble::{Trouble, TroubleKind, brought, told};
use super::{
    Authority, Carried, Case, Cause, Claim, Decision, Evidence, Leaving, PROPAGATION, ProfileRef, Reason,
    Rows, Standing, Step, Write,
};
use crate::api::binding::DeletionPolicy;

/// Whether this write is the second half of a swap.
fn ends_swap(case: &Case<'_>, write: &Write) -> bool {
    matches!(write, Write::Associate { .. }) && is_bare(case) && case.history.swapped_out().is_some()
}

fn is_bare(case: &Case<'_>) -> bool {
    case.observed.view.as_ref().is_some_and(|v| v.rows == Rows::Bare)
}

pub(super) fn stranded(case: &Case<'_>, write: &Write) -> &'static str {
    if ends_swap(case, write) { "; the instance has no profile now" } else { "" }
}

/// Whether the write is made even for a binding that is to write nothing: it ends a swap, and no grant lets the
/// instance be without a profile. Else whoever edits a spec at the right moment would get what `allowNone: false` forbids.
pub(super) fn is_owed(case: &Case<'_>, write: &Write) -> bool {
    ends_swap(case, write) && must_carry(case) && *case.standing == Standing::Winner
}

fn must_carry(case: &Case<'_>) -> bool {
    let seen = case.observed.instance.as_ref().or(case.observed.seen.as_ref());
    !case.desired.dry_run && !case.rights.authority(Claim::Nothing, seen).is_granted()
}

/// Between the halves of a swap, a new profile that is refused for good gives way to the one that was taken off:
/// an instance is not left without a profile because the new one cannot be attached.
pub(super) fn put_back(
    case: &Case<'_>,
    write: &Write,
    trouble: &Trouble,
    now: Timestamp,
) -> Option<Decision> {
    if case.leaving.is_some() || !ends_swap(case, write) {
        return None;
    }
    let before = case
        .history
        .swapped_out()
        .filter(|before| Carried::Profile((*before).clone()) != write.to() && may_return(case, before))?;
    // What failed before the first half was no failure of the second: the dry run has passed since. And they take turns:
    // where putting back was refused last, that is told, and after the hold-off the declared one is tried again.
    let tried = trouble.of.as_ref() == brought(write)
        && case.history.swapped_at().is_some_and(|begun| begun <= trouble.last);
    if !is_for_good(trouble, now) || !tried {
        return None;
    }
    let Some(instance) = &case.observed.instance else {
        return Some(Decision::look(Evidence { instance: true, ..Evidence::default() }));
    };
    writable(case, instance).err().or_else(|| {
        Some(Decision::new(
            Step::Write(Write::Associate { profile: before.clone() }),
            Reason::Associating,
            format!(
                "{} was refused, so {before} is put back: {}",
                write.to().as_str(),
                told(case, write, trouble, now).message
            ),
        ))
    })
}

fn is_for_good(trouble: &Trouble, now: Timestamp) -> bool {
    match trouble.kind {
        TroubleKind::Denied(_) => true,
        TroubleKind::ProfileInvalid => now.duration_since(trouble.since) >= PROPAGATION,
        _ => false,
    }
}

/// Whether a grant covers bringing a profile back. Where that cannot be told yet, the look that the write needs tells.
fn may_return(case: &Case<'_>, profile: &ProfileRef) -> bool {
    let seen = case.observed.instance.as_ref().or(case.observed.seen.as_ref());
    let claim = Claim::Attach(profile);
    let protected = seen.is_some_and(|instance| case.rights.protection(claim, instance).is_some());
    !protected && !matches!(case.rights.authority(claim, seen), Authority::Refused { .. })
}

/// The same where it turns out between the halves that the declared profile is gone, holds no role or is granted no more:
/// there is no write that could fail, but the instance stands without a profile all the same.
pub(super) fn rescue(case: &Case<'_>, decision: Decision, now: Timestamp) -> Decision {
    let unfit = matches!(
        decision.reason,
        Reason::ProfileNotFound | Reason::ProfileWithoutRole | Reason::RoleAmbiguous | Reason::NotAuthorized
    );
    let (Some(before), Step::Refuse, true) = (case.history.swapped_out(), &decision.step, unfit) else {
        return decision;
    };
    // What was there before, or, where no grant covers that, what was to come when the swap was begun.
    let next = case.history.swapped_in().filter(|next| !case.resolution.is_found_as(next));
    let before = match next {
        Some(next) if !may_return(case, before) && may_return(case, next) => next,
        Some(_) | None => before,
    };
    let refused = decision.reason == Reason::NotAuthorized;
    let unknown = refused && !may_return(case, before);
    // Who has no right to what is declared was not asked yet whether the instance is another binding's or elsewhere.
    let elsewhere = *case.standing != Standing::Winner || super::moved(case).is_some();
    if case.leaving.is_some() || case.resolution.is_found_as(before) || unknown || elsewhere {
        return decision;
    }
    if refused && case.observed.view.is_none() {
        return Decision::look(Evidence { associations: true, instance: true, profile: false });
    }
    if !is_bare(case) {
        return decision;
    }
    let may_return = may_return(case, before);
    let held_off = case.trouble.is_some_and(|t| now < t.retry_at);
    let Some(instance) = &case.observed.instance else {
        return Decision::look(Evidence { instance: true, ..Evidence::default() });
    };
    if held_off || !may_return || writable(case, instance).is_err() {
        return Decision {
            message: format!("{}; the instance has no profile now", decision.message),
            ..decision
        };
    }
    let write = Write::Associate { profile: before.clone() };
    let plan = vec![(write.operation(), Cause::Declared)];
    if !case.desired.writes() && !is_owed(case, &write) {
        return decision.planning(plan);
    }
    let message = format!("{before} is attached, so that the instance has a profile: {}", decision.message);
    Decision::new(Step::Write(write), Reason::Associating, message).planning(plan)
}

/// Whether a binding in deletion has a swap to end before it is let go: under `Retain` the instance keeps a profile, and
/// whatever the policy, where no grant lets it have none.
pub(super) fn is_in_debt(case: &Case<'_>, leaving: &Leaving) -> bool {
    let keeps = case.desired.writes() && case.desired.deletion == DeletionPolicy::Retain;
    case.history.swapped_out().is_some()
        && leaving.has_finalizer
        && !leaving.forced
        && !case.desired.dry_run
        && (keeps || must_carry(case))
}

/// Whether EC2 has not known for long what was last to be attached. A denial is waited out: it can be lifted.
fn is_gone(case: &Case<'_>, now: Timestamp) -> bool {
    case.trouble
        .is_some_and(|trouble| trouble.kind == TroubleKind::ProfileInvalid && is_for_good(trouble, now))
}

/// The second half that a binding in deletion still owes; none if there is nothing to end, no right to, or no such profile.
pub(super) fn owed<'a>(case: &Case<'a>, now: Timestamp) -> Option<&'a ProfileRef> {
    let refused = case.trouble.is_some_and(|trouble| is_for_good(trouble, now));
    let [next, before] = [case.history.swapped_in(), case.history.swapped_out()]
        .map(|profile| profile.filter(|profile| may_return(case, profile)));
    match (next, before) {
        (Some(_), Some(before)) if refused => Some(before),
        (Some(_), None) if is_gone(case, now) => None,
        (next, before) => next.or(before),
    }
}
