//! What the workload on an instance finds at its metadata service, at any moment.

use std::sync::Arc;

use super::association::ProfileRef;
use super::instance::{Instance, InstanceState};
use super::{Scope, World};
use crate::time::Millis;

/// What IMDS offers under `iam/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carried {
    /// No `iam/` at all: no profile, or a profile without a role (CAP-T).
    Nothing,
    /// Credentials of the role.
    Credentials {
        /// The profile they came by.
        profile: Arc<ProfileRef>,
        /// The role they are for.
        role: String,
    },
    /// `AssumeRoleUnauthorizedAccess`: the role's trust policy does not let EC2 assume it (CAP-T).
    Unauthorized {
        /// The profile whose role it is.
        profile: Arc<ProfileRef>,
    },
}

/// One stretch of time in the life of a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestStep {
    /// From when on.
    pub from: Millis,
    /// The instance's state.
    pub state: InstanceState,
    /// What the guest carries; `None` while no workload runs.
    pub carried: Option<Carried>,
}

impl World {
    /// What a guest that attached `profile` now would carry: its role as it is in IAM at this moment.
    pub(super) fn carried_with(&mut self, scope: &Scope, profile: &Arc<ProfileRef>) -> Carried {
        let iam = self.iam(scope);
        let Some(role) = iam.profile_by_id(&profile.id).and_then(|profile| profile.role.as_deref()) else {
            return Carried::Nothing;
        };
        match iam.role(role) {
            Some(role) if role.trusts_ec2() => {
                Carried::Credentials { profile: profile.clone(), role: role.arn.clone() }
            }
            _ => Carried::Unauthorized { profile: profile.clone() },
        }
    }

    /// The life of a guest up to `now`: what it carried in which state, and from when.
    pub fn timeline(&self, account: &str, region: &str, id: &str, now: Millis) -> Option<Vec<GuestStep>> {
        let instance = self.regions.get(&(account.to_owned(), region.to_owned()))?.get(id)?;
        let mut moments: Vec<Millis> = instance.states.steps().iter().map(|(at, _)| *at).collect();
        moments.extend(instance.guest.steps().iter().map(|(at, _)| *at));
        moments.retain(|at| *at <= now);
        moments.sort_unstable();
        moments.dedup();
        let steps = moments.into_iter().filter_map(|from| step(instance, from));
        let mut merged: Vec<GuestStep> = Vec::new();
        for step in steps {
            if merged.last().is_none_or(|last| (last.state, &last.carried) != (step.state, &step.carried)) {
                merged.push(step);
            }
        }
        Some(merged)
    }
}

fn step(instance: &Instance, from: Millis) -> Option<GuestStep> {
    let state = instance.state(from)?;
    // A workload runs until the machine is down.
    let up = matches!(state, InstanceState::Running | InstanceState::Stopping | InstanceState::ShuttingDown);
    let carried = up.then(|| instance.guest.at(from).cloned().unwrap_or(Carried::Nothing));
    Some(GuestStep { from, state, carried })
}
