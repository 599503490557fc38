//! The circuit breaker: where more repairs of drift are due in a namespace at once than an administrator finds plausible, none
//! is made until a person has looked.
//!
//! Drift of many instances at the same time is rarely what it seems: a role was renamed, a pipeline moved a whole
//! fleet on purpose, another account answers. What people declare is not drift, and is never held.

use std::fmt;
use std::sync::Arc;

use super::{Authority, Case, Cause, Decision, Reason, Resolution, Step, View};

/// Under a share, so many repairs are plausible in any namespace, however small.
const LEAST: usize = 5;

/// How many repairs of drift may be due in a namespace in one pass (`--max-changes-per-pass`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ceiling {
    /// So many.
    Number(usize),
    /// So many in a hundred of the namespace's bindings, and at least five.
    Percent(u8),
}

impl Ceiling {
    /// The number for a namespace with so many bindings.
    pub fn of(self, bindings: usize) -> usize {
        match self {
            Self::Number(number) => number,
            Self::Percent(percent) => (bindings.saturating_mul(percent.into()) / 100).max(LEAST),
        }
    }
}

impl fmt::Display for Ceiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// The repairs of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Those that are due.
    pub due: usize,
    /// Bindings whose instance differs by the listing, and that nobody has looked at more closely yet.
    pub suspected: usize,
}

/// What follows from a tally.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The repairs may be made.
    Closed,
    /// That cannot be told before those suspected were looked at.
    Unclear,
    /// None may.
    Open,
}

impl Tally {
    /// Whether so many repairs are plausible.
    pub fn verdict(self, most: usize) -> Verdict {
        if self.due > most {
            Verdict::Open
        } else if self.due.saturating_add(self.suspected) > most {
            Verdict::Unclear
        } else {
            Verdict::Closed
        }
    }
}

/// A hold on a namespace's repairs, by its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circuit {
    /// What an administrator names to let it go on.
    pub id: Arc<str>,
    /// What was exceeded.
    pub most: Ceiling,
}

/// Whether a decision is a repair that the breaker counts: drift that this binding is to mend. The second half of a swap was
/// begun, and is none.
pub fn is_repair(decision: &Decision, in_swap: bool) -> bool {
    let drift = matches!(decision.plan.first(), Some((_, Cause::DriftDetected | Cause::ProfileRecreated)));
    drift && !in_swap && !matches!(decision.reason, Reason::ObserveOnly | Reason::Suspended)
}

/// Whether the instance carries something else than what is wanted, by what is known of both: enough to suspect drift, and
/// not to conclude it.
pub fn differs(resolution: &Resolution, view: &View) -> bool {
    let live = view.rows.live();
    match resolution {
        Resolution::NoProfile => live.is_some(),
        Resolution::Found(target) => {
            live.is_none_or(|row| !target.profile.is_carried_by(row) || target.is_recreated(row, view.ended))
        }
        _ => false,
    }
}

/// Holds a repair where the circuit is open, unless a grant of the binding's says that this hold is over.
pub(super) fn temper(case: &Case<'_>, decision: Decision) -> Decision {
    let Some(Circuit { id, most }) = &case.restraint.circuit else { return decision };
    let in_swap = case.history.swapped_out().is_some();
    if case.leaving.is_some() || !matches!(decision.step, Step::Write(_)) || !is_repair(&decision, in_swap) {
        return decision;
    }
    let seen = case.observed.instance.as_ref().or(case.observed.seen.as_ref());
    let grant = match case.rights.covers(&case.desired.declared, case.resolution, seen) {
        Authority::Granted { grant, .. } => grant.to_string(),
        Authority::Refused { .. } | Authority::Open => "NAME".to_owned(),
    };
    Decision {
        step: Step::Refuse,
        reason: Reason::CircuitOpen,
        message: format!(
            "{} is held: more repairs were due in this namespace at once than {most} allows (--max-changes-per-pass). If they are right, an administrator lets them go on: kubectl annotate irg {grant} {}={id} --overwrite",
            decision.message,
            crate::api::APPROVE_CHANGES
        ),
        ..decision
    }
}
