//! What failed, how long it is left alone, and how it is told.
//!
//! Trouble lives in memory: a restart forgets it and tries again, which is always safe. Nothing is terminal.

use jiff::{SignedDuration, Timestamp};

use super::{Case, Decision, PROPAGATION, ProfileRef, Reason, Step, Write, swap};

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
    if let Some(back) = swap::put_back(case, write, trouble, now) {
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

pub(super) fn told(case: &Case<'_>, write: &Write, trouble: &Trouble, now: Timestamp) -> Decision {
    let profile = brought(write).map_or("none", ProfileRef::as_str);
    let stranded = swap::stranded(case, write);
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
