//! desired + observed → the next step. Pure: no I/O, no clock, no AWS or Kubernetes type.
//!
//! The table of cases. Rows are the associations of the instance, `P` is the declared profile, `Q` another one;
//! each line names its test in `tests/table.rs`.
//!
//! | declared | rows | instance | step | test |
//! |---|---|---|---|---|
//! | P | none | running, stopped | Associate P | `attach` |
//! | P | P associated | any | Converged | `converged` |
//! | P | P associating | any | Wait | `attach_takes_time` |
//! | P | P arriving, Q leaving | any | Wait, at most 2 minutes | `replace_takes_time` |
//! | P | Q | running | Replace, never detach first | `replace_on_running` |
//! | P | Q | stopped | Disassociate Q, then Associate P on the next look | `swap_on_stopped` |
//! | P | Q, `WaitForRunning` | stopped | Wait | `swap_on_stopped` |
//! | P | Q, `OnlyIfNone`, never in sync | any | Refuse | `adoption` |
//! | P | Q leaving | running / stopped | Wait / Associate P | `detach_takes_time` |
//! | none | Q | running, stopped | Disassociate Q | `detach` |
//! | none | none, settled look | there | Converged | `detach` |
//! | none | none, by listing only | any | Look: absence from a listing proves nothing | `conclusions_need_a_settled_look` |
//! | any | a difference | pending, stopping, absent | Wait | `instance_states` |
//! | any | a difference | terminated, managed | Refuse | `instance_states` |
//! | any | a difference, `Observe` / `suspend` | any | Refuse / Hold | `reading_only` |
//! | any | unknown state | any | Wait | `unknown_words` |
//! | any | drift, others keep changing it | any | Wait, at most 10 minutes | `contention` in `tests/restraint.rs` |
//! | any | drift, of too many in the namespace | any | Refuse | `circuit` in `tests/restraint.rs` |
//! | deleted | see `release.rs` | | | `tests/release.rs` |
//!
//! Start with [`decide`]; the words are in [`reason`], the evidence in [`observed`].

pub mod circuit;
pub mod conflict;
pub mod contention;
mod converge;
pub mod desired;
pub mod grant;
pub mod history;
pub mod observed;
pub mod reason;
mod release;
pub mod rights;
mod swap;
#[cfg(test)]
mod tests;
pub mod trouble;

use jiff::{SignedDuration, Timestamp};

pub use self::circuit::{Ceiling, Circuit};
pub use self::conflict::{Standing, Successor};
pub use self::contention::{Contention, OutsideChange, Outsiders, Sighting};
pub use self::desired::{Declared, Desired, Place, ProfileRef, Resolution, Target};
pub use self::grant::{AssumedRole, Claim, Credentials, Grant};
pub use self::history::{Carried, History, PastChange};
pub use self::observed::{
    Association, AssociationState, Grade, Instance, InstanceState, Observed, Rows, Tags, View,
};
pub use self::reason::{Cadence, Phase, Reason};
pub use self::rights::{Authority, Lack, Rights, node_tag, without_rights};
pub use self::trouble::{Trouble, TroubleKind};
use crate::api::binding::Operation;
use crate::ids::AssociationId;

/// How long IAM and EC2 may take to know a new profile before its absence is a person's matter (reports of up
/// to two minutes, `aws-semantics` 3.1).
pub const PROPAGATION: SignedDuration = SignedDuration::from_mins(2);
/// How long `associating` may last on a running instance before the trust policy is suspected (`aws-semantics` 1.3).
pub const ASSOCIATING: SignedDuration = SignedDuration::from_mins(2);
/// How long a row may be `associating` or `disassociating` before it counts as stuck.
pub const STUCK: SignedDuration = SignedDuration::from_mins(5);
/// How long a binding in deletion waits for the next one of its instance to take over.
pub const HAND_OVER: SignedDuration = SignedDuration::from_mins(2);

/// All that one decision is made from.
#[derive(Debug, Clone)]
pub struct Case<'a> {
    /// What is wanted.
    pub desired: &'a Desired,
    /// What IAM makes of it.
    pub resolution: &'a Resolution,
    /// Where the controller looks and acts for this binding.
    pub place: &'a Place,
    /// What the grants let it do.
    pub rights: &'a Rights,
    /// What earlier passes noted.
    pub history: &'a History,
    /// What EC2 shows.
    pub observed: &'a Observed,
    /// How the binding stands among others for the same instance.
    pub standing: &'a Standing,
    /// What failed before and has not healed yet.
    pub trouble: Option<&'a Trouble>,
    /// What holds a repair of drift back.
    pub restraint: &'a Restraint,
    /// The deletion, if it was asked for.
    pub leaving: Option<&'a Leaving>,
}

/// What holds a repair of drift back, and nothing else: what people declare and what was begun is carried out all the same.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restraint {
    /// What others did to the instance lately.
    pub outsiders: Outsiders,
    /// The hold on the namespace's repairs, if there is one that this binding is under.
    pub circuit: Option<Circuit>,
}

/// A deletion that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaving {
    /// When.
    pub since: Timestamp,
    /// Whether the object has our finalizer, so that something may be left to do.
    pub has_finalizer: bool,
    /// Whether `force-release` is set.
    pub forced: bool,
    /// The binding that takes over the instance, if there is one.
    pub successor: Option<Successor>,
}

/// The next step for one binding, with its reason and all that is told about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The step.
    pub step: Step,
    /// Why.
    pub reason: Reason,
    /// What is, why, and what to do: one sentence or two for people.
    pub message: String,
    /// The changes that are due, in order, each with its cause.
    pub plan: Vec<(Operation, Cause)>,
    /// Whether the instance agrees with what is declared, where that is known.
    pub in_sync: Option<bool>,
    /// Whether a grant covers the binding: without one nothing of the instance is told.
    pub authority: Authority,
}

/// The step itself: at most one EC2 write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// As declared; nothing to do.
    Converged,
    /// The world is awaited.
    Wait,
    /// A person is needed.
    Refuse,
    /// A difference is left alone, as asked.
    Hold,
    /// More must be seen first.
    Look(Evidence),
    /// One change at EC2.
    Write(Write),
    /// Deletion has nothing left to do: the finalizer may go.
    Release(Farewell),
}

/// What must be looked at before a conclusion or a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Evidence {
    /// The associations, by instance id.
    pub associations: bool,
    /// The instance's state.
    pub instance: bool,
    /// The profile, in IAM.
    pub profile: bool,
}

impl Evidence {
    /// Everything.
    pub const ALL: Self = Self { associations: true, instance: true, profile: true };
}

/// One change at EC2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Attach to an instance that carries nothing.
    Associate {
        /// What to attach.
        profile: ProfileRef,
    },
    /// Exchange on a running instance.
    Replace {
        /// The association acted on: EC2 refuses if it is not the active one any more.
        association: AssociationId,
        /// What it carries.
        from: ProfileRef,
        /// What it is to carry.
        profile: ProfileRef,
    },
    /// Take off.
    Disassociate {
        /// The association acted on.
        association: AssociationId,
        /// What it carries.
        from: ProfileRef,
        /// What is attached next, if this is the first half of a swap: it must pass a dry run first.
        then: Option<ProfileRef>,
    },
}

impl Write {
    /// The EC2 operation.
    pub fn operation(&self) -> Operation {
        match self {
            Self::Associate { .. } => Operation::AssociateIamInstanceProfile,
            Self::Replace { .. } => Operation::ReplaceIamInstanceProfileAssociation,
            Self::Disassociate { .. } => Operation::DisassociateIamInstanceProfile,
        }
    }

    /// What is attached next, if this is the first half of a swap.
    pub fn then(&self) -> Option<&ProfileRef> {
        match self {
            Self::Disassociate { then, .. } => then.as_ref(),
            Self::Associate { .. } | Self::Replace { .. } => None,
        }
    }

    /// What the instance carries before.
    pub fn from(&self) -> Carried {
        match self {
            Self::Associate { .. } => Carried::Nothing,
            Self::Replace { from, .. } | Self::Disassociate { from, .. } => Carried::Profile(from.clone()),
        }
    }

    /// What it is to carry after.
    pub fn to(&self) -> Carried {
        match self {
            Self::Associate { profile } | Self::Replace { profile, .. } => Carried::Profile(profile.clone()),
            Self::Disassociate { .. } => Carried::Nothing,
        }
    }
}

/// Why a change is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// A person declared it.
    Declared,
    /// The instance was as declared, and somebody changed it.
    DriftDetected,
    /// The profile was deleted and made again under its name.
    ProfileRecreated,
    /// The binding was deleted.
    Deleted,
}

impl Cause {
    /// The text in `status.plan`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Declared => "Declared",
            Self::DriftDetected => "DriftDetected",
            Self::ProfileRecreated => "ProfileRecreated",
            Self::Deleted => "Deleted",
        }
    }
}

/// How a deletion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Farewell {
    /// There was nothing to do, or it is done.
    Done,
    /// The instance keeps a profile that this binding did not put there.
    LeftInPlace,
    /// `Restore` could not put back what was there before.
    NotRestored,
    /// Another binding took over.
    HandedOver,
    /// The annotation asked for it.
    Forced,
}

impl Farewell {
    /// The reason of the Event, and the metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "Done",
            Self::LeftInPlace => "LeftInPlace",
            Self::NotRestored => "NotRestored",
            Self::HandedOver => "HandedOver",
            Self::Forced => "ForceReleased",
        }
    }
}

impl Decision {
    fn new(step: Step, reason: Reason, message: impl Into<String>) -> Self {
        let in_sync = match step {
            Step::Converged => Some(true),
            Step::Write(_) => Some(false),
            Step::Wait | Step::Refuse | Step::Hold | Step::Look(_) | Step::Release(_) => None,
        };
        let authority = Authority::default();
        Self { step, reason, message: message.into(), plan: Vec::new(), in_sync, authority }
    }

    fn wait(reason: Reason, message: impl Into<String>) -> Self {
        Self::new(Step::Wait, reason, message)
    }

    fn refuse(reason: Reason, message: impl Into<String>) -> Self {
        Self::new(Step::Refuse, reason, message)
    }

    fn look(evidence: Evidence) -> Self {
        Self::new(Step::Look(evidence), Reason::AWSUnavailable, "waiting for a look at EC2")
    }

    fn differs(mut self) -> Self {
        self.in_sync = Some(false);
        self
    }

    /// With what is known of the binding's rights, unless the decision itself says more.
    pub(crate) fn with(mut self, authority: Authority) -> Self {
        if self.authority == Authority::Open {
            self.authority = authority;
        }
        self
    }

    /// Whether the step is the first half of a swap.
    pub fn begins_swap(&self) -> bool {
        matches!(&self.step, Step::Write(write) if write.then().is_some())
    }

    fn planning(mut self, plan: Vec<(Operation, Cause)>) -> Self {
        self.plan = plan;
        self.in_sync = Some(false);
        self
    }
}

/// The next step for one binding. Same inputs, same answer; time comes in as an argument.
pub fn decide(case: &Case<'_>, now: Timestamp) -> Decision {
    if let Some(leaving) = case.leaving
        && let Some(farewell) = release::without_asking(case.desired, leaving)
        && !swap::is_in_debt(case, leaving)
    {
        return farewell;
    }
    let seen = case.observed.seen.as_ref();
    let authority = match case.leaving {
        // What was declared may be granted no more while what deletion puts back is.
        Some(_) => case.rights.reach(seen),
        None => case.rights.covers(&case.desired.declared, case.resolution, seen),
    };
    if let Some(decision) = moved(case)
        && !matches!(authority, Authority::Refused { .. })
    {
        // Where no grant would let a deletion change anything, no settings are waited for either.
        let waits = case.leaving.is_none() || release::may_change(case);
        return if waits { decision.with(authority) } else { release::left_alone() };
    }
    match case.leaving {
        Some(leaving) => rights::gate(case, trouble::temper(case, release::release(case, leaving, now), now)),
        None => live(case, now),
    }
}

fn live(case: &Case<'_>, now: Timestamp) -> Decision {
    let (authority, decision) = match rights::uncovered(case) {
        Ok(granted) => {
            let decision = conflict::lost(case).unwrap_or_else(|| converge::converge(case, now));
            let decision = circuit::temper(case, trouble::temper(case, decision, now));
            (granted, contention::temper(case, decision, now))
        }
        Err(decision) => (decision.authority.clone(), decision),
    };
    rights::gate(case, swap::rescue(case, decision, now)).with(authority)
}

/// A controller with another Region or account knows nothing of the instance and concludes nothing.
fn moved(case: &Case<'_>) -> Option<Decision> {
    let then = case.history.place.as_ref().filter(|then| *then != case.place)?;
    let now = case.place;
    Some(Decision::refuse(
        Reason::RegionChanged,
        format!(
            "carried out in account {}, Region {}, but the controller now looks at account {}, Region {}: run it with \
             the former settings, or release this binding with the annotation {} and make it again",
            then.account,
            then.region,
            now.account,
            now.region,
            crate::api::FORCE_RELEASE
        ),
    ))
}
