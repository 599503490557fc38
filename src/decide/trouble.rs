//! What failed, how long it is left alone, and how it is told.
//!
//! Trouble lives in memory: a restart forgets it and tries again, which is always safe. Nothing is terminal.

use jiff::{SignedDuration, Timestamp};

use super::{
    Authority, Carried, Case, Cause, Claim, Decision, Evidence, PROPAGATION, ProfileRef, Reason, Rows,
    Standing, Step, Write,
};

/// What failed, sorted by what to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TroubleKind {
    /// EC2 does not know the profile: not propagated yet, or not there. EC2 cannot tell which.
    ProfileInvalid,
    /// AWS denied an action; the words name action and resource.
    Denied(String),
    /// AWS does not accept the credentials, or there are none.
    Credentials(String),
    /// The role that the grant names cannot be assumed; the words name it.
    Role(String),
    /// Nobody may change this instance's profile.
    Protected(String),
    /// EC2 throttled the write.
    Throttled,
    /// The view was overtaken: EC2 refused the write because the world is different.
    Overtaken,
    /// The outcome is not known: no reply came.
    OutcomeUnknown(String),
    /// AWS answered with an error of its own, or not at all.
    Unavailable(String),
    /// Replace answered with the same association id: the old profile stays.
    Unchanged,
    /// EC2 refused the request in a way this version does not know.
    Unexpected(String),
}

/// A failure that has not healed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What failed last.
    pub kind: TroubleKind,
    /// When it first failed this way.
    pub since: Timestamp,
    /// How often in a row.
    pub count: u32,
    /// When to try again.
    pub retry_at: Timestamp,
}

impl TroubleKind {
    /// How long to leave it alone after the `count`th failure in a row. Times follow from the kind alone.
    pub fn hold_off(&self, count: u32) -> SignedDuration {
        let (first, most) = match self {
            Self::Overtaken => (1, 30),
            Self::ProfileInvalid | Self::OutcomeUnknown(_) | Self::Unavailable(_) => (2, 60),
            Self::Throttled => (1, 60),
            Self::Credentials(_) => (5, 60),
            Self::Denied(_) | Self::Role(_) | Self::Protected(_) | Self::Unchanged | Self::Unexpected(_) => {
                (15, 30 * 60)
            }
        };
        let doubled = 1_i64.checked_shl(count.saturating_sub(1).min(20)).unwrap_or(i64::MAX);
        SignedDuration::from_secs(doubled.saturating_mul(first).min(most))
    }
}

/// Puts trouble before a write that would only fail again: while it is held off, the reason is the trouble's.
pub(super) fn temper(case: &Case<'_>, decision: Decision, now: Timestamp) -> Decision {
    let (Some(trouble), Step::Write(write)) = (case.trouble, &decision.step) else { return decision };
    if !concerns(&trouble.kind, write) {
        return decision;
    }
    if let Some(back) = put_back(case, write, trouble, now) {
        return back.planning(decision.plan);
    }
    // The same Replace would answer the same, so it is not repeated: what a person is told to do calls for another write.
    if now >= trouble.retry_at && trouble.kind != TroubleKind::Unchanged {
        return decision;
    }
    told(case, write, trouble, now).planning(decision.plan)
}

/// Whether the trouble would befall this write as well: a profile that EC2 does not know is in the way of no plain
/// detach, and where Replace by the same profile changed nothing, any other write may.
fn concerns(kind: &TroubleKind, write: &Write) -> bool {
    match kind {
        TroubleKind::ProfileInvalid => brought(write).is_some(),
        TroubleKind::Unchanged => matches!(write, Write::Replace { from, profile, .. } if from == profile),
        TroubleKind::Denied(_)
        | TroubleKind::Credentials(_)
        | TroubleKind::Role(_)
        | TroubleKind::Protected(_)
        | TroubleKind::Throttled
        | TroubleKind::Overtaken
        | TroubleKind::OutcomeUnknown(_)
        | TroubleKind::Unavailable(_)
        | TroubleKind::Unexpected(_) => true,
    }
}

/// The profile that the write attaches, or makes room for.
pub(super) fn brought(write: &Write) -> Option<&ProfileRef> {
    match write {
        Write::Associate { profile } | Write::Replace { profile, .. } => Some(profile),
        Write::Disassociate { then, .. } => then.as_ref(),
    }
}

fn told(case: &Case<'_>, write: &Write, trouble: &Trouble, now: Timestamp) -> Decision {
    let profile = brought(write).map_or("none", ProfileRef::as_str);
    let stranded = stranded(case, write);
    match &trouble.kind {
        TroubleKind::ProfileInvalid if known_to_iam(case, write) => Decision::wait(
            Reason::ProfileNotPropagated,
            format!(
                "EC2 does not know {profile} yet, though IAM has it; a new profile takes seconds to minutes{stranded}"
            ),
        ),
        TroubleKind::ProfileInvalid if now.duration_since(trouble.since) < PROPAGATION => Decision::wait(
            Reason::ProfileNotFound,
            format!("EC2 does not know {profile}; if it was just made, it will within minutes{stranded}"),
        ),
        TroubleKind::ProfileInvalid => Decision::refuse(
            Reason::ProfileNotFound,
            format!("EC2 does not know {profile}: create it or correct spec.instanceProfile{stranded}"),
        ),
        TroubleKind::Denied(words) => Decision::refuse(Reason::AccessDenied, format!("{words}{stranded}")),
        TroubleKind::Credentials(words) => Decision::refuse(Reason::CredentialsUnavailable, words.clone()),
        TroubleKind::Role(words) => Decision::refuse(Reason::RoleNotAssumable, words.clone()),
        TroubleKind::Protected(words) => Decision::refuse(Reason::InstanceProtected, words.clone()),
        TroubleKind::Throttled => Decision::wait(
            Reason::Throttled,
            "EC2 throttles this account and Region; the change is made when its turn comes",
        ),
        TroubleKind::Overtaken => {
            Decision::wait(under_way(write), "the instance changed in the meantime; looking again")
        }
        TroubleKind::OutcomeUnknown(words) => Decision::wait(
            under_way(write),
            format!("no reply came from EC2, so the outcome is not known; looking again ({words})"),
        ),
        TroubleKind::Unavailable(words) => {
            Decision::wait(Reason::AWSUnavailable, format!("{words}{stranded}"))
        }
        TroubleKind::Unchanged => Decision::refuse(
            Reason::ProfileRecreated,
            format!(
                "{profile} was deleted and made again; the instance still carries the old one and Replace changed nothing: stop the instance, or detach by hand"
            ),
        ),
        TroubleKind::Unexpected(words) => {
            Decision::refuse(Reason::AWSUnavailable, format!("{words}{stranded}"))
        }
    }
}

/// The reason while a write of this kind is under way.
pub(super) fn under_way(write: &Write) -> Reason {
    match write {
        Write::Associate { .. } => Reason::Associating,
        Write::Replace { .. } => Reason::Replacing,
        Write::Disassociate { .. } => Reason::Disassociating,
    }
}

fn known_to_iam(case: &Case<'_>, write: &Write) -> bool {
    matches!(case.resolution, super::Resolution::Found(t) if t.id.is_some() && brought(write) == Some(&t.profile))
}

/// Whether the instance stands between the two halves of a swap.
fn mid_swap(case: &Case<'_>, write: &Write) -> bool {
    let bare = case.observed.view.as_ref().is_some_and(|v| v.rows == Rows::Bare);
    matches!(write, Write::Associate { .. }) && bare && case.history.swapped_out().is_some()
}

fn stranded(case: &Case<'_>, write: &Write) -> &'static str {
    if mid_swap(case, write) { "; the instance has no profile now" } else { "" }
}

/// Between the halves of a swap, a new profile that is refused for good gives way to the one that was taken off:
/// an instance is not left without a profile because the new one cannot be attached.
fn put_back(case: &Case<'_>, write: &Write, trouble: &Trouble, now: Timestamp) -> Option<Decision> {
    if case.leaving.is_some() || !mid_swap(case, write) {
        return None;
    }
    let for_good = match trouble.kind {
        TroubleKind::Denied(_) => true,
        TroubleKind::ProfileInvalid => now.duration_since(trouble.since) >= PROPAGATION,
        _ => false,
    };
    let before = case
        .history
        .swapped_out()
        .filter(|before| Carried::Profile((*before).clone()) != write.to() && may_return(case, before))?;
    if !for_good {
        return None;
    }
    let Some(instance) = &case.observed.instance else {
        return Some(Decision::look(Evidence { instance: true, ..Evidence::default() }));
    };
    // They take turns. An even number of failures: putting back was the last one, so that is told, and after the
    // hold-off the declared one is tried again; it may be allowed by then.
    if trouble.count.is_multiple_of(2) {
        return None;
    }
    super::converge::writable(case, instance).err().or_else(|| {
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

/// Whether a grant covers bringing a profile back. Where that cannot be told yet, the look that the write needs tells.
fn may_return(case: &Case<'_>, profile: &ProfileRef) -> bool {
    let seen = case.observed.instance.as_ref().or(case.observed.seen.as_ref());
    let claim = Claim::Attach(profile);
    let protected = seen.is_some_and(|instance| case.rights.protection(claim, instance).is_some());
    !protected && !matches!(case.rights.authority(claim, seen), Authority::Refused { .. })
}

/// The same where IAM says between the halves that the declared profile is gone or holds no role: there is no write
/// that could fail, but the instance stands without a profile all the same.
pub(super) fn rescue(case: &Case<'_>, decision: Decision, now: Timestamp) -> Decision {
    let bare = case.observed.view.as_ref().is_some_and(|v| v.rows == Rows::Bare);
    let unfit = matches!(
        decision.reason,
        Reason::ProfileNotFound | Reason::ProfileWithoutRole | Reason::RoleAmbiguous | Reason::NotAuthorized
    );
    let (Some(before), Step::Refuse, true) = (case.history.swapped_out(), &decision.step, bare && unfit)
    else {
        return decision;
    };
    let unknown = decision.reason == Reason::NotAuthorized && !may_return(case, before);
    // Who has no right to what is declared was not asked yet whether the instance is another binding's or elsewhere.
    let elsewhere = *case.standing != Standing::Winner || super::moved(case).is_some();
    if case.leaving.is_some() || case.resolution.is_found_as(before) || unknown || elsewhere {
        return decision;
    }
    let may_return = may_return(case, before);
    let held_off = case.trouble.is_some_and(|t| now < t.retry_at);
    let Some(instance) = &case.observed.instance else {
        return Decision::look(Evidence { instance: true, ..Evidence::default() });
    };
    if held_off || !may_return || super::converge::writable(case, instance).is_err() {
        return Decision {
            message: format!("{}; the instance has no profile now", decision.message),
            ..decision
        };
    }
    let write = Write::Associate { profile: before.clone() };
    let plan = vec![(write.operation(), Cause::Declared)];
    if !case.desired.writes() {
        return decision.planning(plan);
    }
    let message = format!("{before} is put back, since {}", decision.message);
    Decision::new(Step::Write(write), Reason::Associating, message).planning(plan)
}

/// What to say when something could not be looked at.
pub fn unseen(kind: &TroubleKind) -> Decision {
    match kind {
        TroubleKind::Denied(words) => Decision::refuse(Reason::AccessDenied, words.clone()),
        TroubleKind::Credentials(words) => Decision::refuse(Reason::CredentialsUnavailable, words.clone()),
        TroubleKind::Role(words) => Decision::refuse(Reason::RoleNotAssumable, words.clone()),
        TroubleKind::Protected(words) => Decision::refuse(Reason::InstanceProtected, words.clone()),
        TroubleKind::Throttled => Decision::wait(
            Reason::Throttled,
            "EC2 throttles this account and Region; looking again when it does not",
        ),
        TroubleKind::Unavailable(words)
        | TroubleKind::OutcomeUnknown(words)
        | TroubleKind::Unexpected(words) => Decision::wait(Reason::AWSUnavailable, words.clone()),
        TroubleKind::ProfileInvalid | TroubleKind::Overtaken | TroubleKind::Unchanged => {
            Decision::wait(Reason::AWSUnavailable, "EC2 answered in a way that this version does not know")
        }
    }
}
