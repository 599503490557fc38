//! `StartInstances`, `StopInstances`, `TerminateInstances`.

use super::associate::becomes_effective;
use super::instance::{Instance, InstanceState};
use super::launch::StateChange;
use super::{Scope, World};
use crate::error::ApiError;
use crate::time::Millis;

/// What is asked of the instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Start,
    Stop,
    Terminate,
}

impl World {
    /// `StartInstances`.
    ///
    /// # Errors
    /// `IncorrectInstanceState` unless all are stopped or up already; ids; denials.
    pub fn start_instances(
        &mut self,
        now: Millis,
        scope: &Scope,
        ids: &[String],
        dry_run: bool,
    ) -> Result<Vec<StateChange>, ApiError> {
        self.change_states(now, scope, ids, dry_run, Wish::Start)
    }

    /// `StopInstances`.
    ///
    /// # Errors
    /// `IncorrectInstanceState` unless all are running or down already; ids; denials.
    pub fn stop_instances(
        &mut self,
        now: Millis,
        scope: &Scope,
        ids: &[String],
        dry_run: bool,
    ) -> Result<Vec<StateChange>, ApiError> {
        self.change_states(now, scope, ids, dry_run, Wish::Stop)
    }

    /// `TerminateInstances`. Associations are gone when the instance is terminated (CAP-T).
    ///
    /// # Errors
    /// Ids; denials.
    pub fn terminate_instances(
        &mut self,
        now: Millis,
        scope: &Scope,
        ids: &[String],
        dry_run: bool,
    ) -> Result<Vec<StateChange>, ApiError> {
        self.change_states(now, scope, ids, dry_run, Wish::Terminate)
    }

    fn change_states(
        &mut self,
        now: Millis,
        scope: &Scope,
        ids: &[String],
        dry_run: bool,
        wish: Wish,
    ) -> Result<Vec<StateChange>, ApiError> {
        if ids.is_empty() {
            return Err(ApiError::missing("InstanceId"));
        }
        let tombstone = self.settings.tombstone_ms;
        for id in ids {
            self.ec2(scope).existing(id, now, tombstone)?;
            self.authorize_instance(now, scope, wish.action(), id, None)?;
        }
        if dry_run {
            return Err(ApiError::dry_run());
        }
        for id in ids {
            wish.check(self.ec2(scope).existing(id, now, tombstone)?, now)?;
        }
        Ok(ids.iter().filter_map(|id| self.change_state(now, scope, id, wish)).collect())
    }

    fn change_state(&mut self, now: Millis, scope: &Scope, id: &str, wish: Wish) -> Option<StateChange> {
        let instance = self.ec2(scope).get(id)?;
        let previous = instance.state(now)?;
        match (wish, previous) {
            (Wish::Start, InstanceState::Stopped) => self.start(now, scope, id, self.settings.pending_ms),
            (Wish::Stop, InstanceState::Running) => self.stop(now, scope, id, self.settings.stopping_ms),
            (Wish::Terminate, InstanceState::Terminated | InstanceState::ShuttingDown) => {}
            (Wish::Terminate, _) => self.terminate(now, scope, id, self.settings.shutting_down_ms),
            _ => {}
        }
        let instance = self.ec2(scope).get(id)?;
        Some(StateChange { id: instance.id.clone(), previous, current: instance.state(now)? })
    }

    /// At the start the guest gets the role that the profile holds now, and what was associated while the
    /// instance was stopped becomes effective.
    pub(super) fn start(&mut self, now: Millis, scope: &Scope, id: &str, takes: Millis) {
        let running = now.saturating_add(takes);
        let associating = self.settings.associating_ms;
        let active = self.ec2(scope).get(id).and_then(|instance| instance.active(now));
        let active = active.map(|row| (row.id.clone(), row.profile.clone()));
        let carried = active.as_ref().map(|(_, profile)| self.carried_with(scope, profile));
        let Some(instance) = self.ec2(scope).get_mut(id) else { return };
        instance.states.set(now, InstanceState::Pending);
        instance.states.plan(running, InstanceState::Running);
        let effective = carried.as_ref().is_some_and(becomes_effective);
        instance.guest.plan(running, carried.unwrap_or(super::Carried::Nothing));
        let row = active.and_then(|(association, _)| instance.row_mut(&association));
        if let Some(row) = row.filter(|row| effective && row.associated.is_none() && !row.stuck) {
            row.associated = Some(running.saturating_add(associating));
        }
    }

    /// What was still associating waits for the next start.
    pub(super) fn stop(&mut self, now: Millis, scope: &Scope, id: &str, takes: Millis) {
        let stopped = now.saturating_add(takes);
        let Some(instance) = self.ec2(scope).get_mut(id) else { return };
        instance.states.set(now, InstanceState::Stopping);
        instance.states.plan(stopped, InstanceState::Stopped);
        for row in &mut instance.rows {
            row.associated = row.associated.filter(|associated| *associated <= now);
        }
    }

    pub(super) fn terminate(&mut self, now: Millis, scope: &Scope, id: &str, takes: Millis) {
        let terminated = now.saturating_add(takes);
        let Some(instance) = self.ec2(scope).get_mut(id) else { return };
        instance.states.set(now, InstanceState::ShuttingDown);
        instance.states.plan(terminated, InstanceState::Terminated);
        for row in &mut instance.rows {
            row.gone = Some(row.gone.unwrap_or(terminated).min(terminated));
        }
    }
}

impl Wish {
    fn action(self) -> &'static str {
        match self {
            Self::Start => "ec2:StartInstances",
            Self::Stop => "ec2:StopInstances",
            Self::Terminate => "ec2:TerminateInstances",
        }
    }

    fn check(self, instance: &Instance, now: Millis) -> Result<(), ApiError> {
        use InstanceState::{Pending, Running, Stopped, Stopping};
        let state = instance.state(now);
        let (possible, done) = match self {
            Self::Start => (matches!(state, Some(Stopped | Running | Pending)), "started"),
            Self::Stop => (matches!(state, Some(Stopped | Running | Stopping)), "stopped"),
            Self::Terminate => (true, "terminated"),
        };
        if possible {
            return Ok(());
        }
        let message =
            format!("The instance '{}' is not in a state from which it can be {done}.", instance.id);
        Err(ApiError::bad("IncorrectInstanceState", message))
    }
}
