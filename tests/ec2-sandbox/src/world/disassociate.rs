//! `DisassociateIamInstanceProfile`.

use super::associate::{refuse_managed, require_running_or_stopped};
use super::association::{AssociationState, AssociationView};
use super::guest::Carried;
use super::ids::no_such_association;
use super::instance::InstanceState;
use super::{Scope, World};
use crate::error::ApiError;
use crate::time::Millis;

impl World {
    /// `DisassociateIamInstanceProfile`: `disassociating` on a running instance, where doing it again succeeds
    /// as long as the row lives; gone at once on a stopped one (CAP-T). Needs no `iam:PassRole`.
    ///
    /// # Errors
    /// As EC2 gives them; aws-semantics 1.3 and 1.5.
    pub fn disassociate(
        &mut self,
        now: Millis,
        scope: &Scope,
        association: &str,
        dry_run: bool,
    ) -> Result<AssociationView, ApiError> {
        let (instance, _) = self.ec2(scope).living_row(association, now)?;
        let id = instance.id.clone();
        self.authorize_instance(now, scope, "ec2:DisassociateIamInstanceProfile", &id, None)?;
        let (instance, row) = self.ec2(scope).living_row(association, now)?;
        refuse_managed(instance)?;
        if dry_run {
            return Err(ApiError::dry_run());
        }
        require_running_or_stopped(instance, now)?;
        let stopped = instance.state(now) == Some(InstanceState::Stopped);
        let was_active = instance.active(now).is_some_and(|active| active.id == row.id);
        self.detach(now, scope, &id, association, stopped, was_active)
            .ok_or_else(|| no_such_association(association))
    }

    fn detach(
        &mut self,
        now: Millis,
        scope: &Scope,
        id: &str,
        association: &str,
        stopped: bool,
        was_active: bool,
    ) -> Option<AssociationView> {
        let guest = now.saturating_add(self.settings.guest_ms);
        let gone = now.saturating_add(self.settings.disassociating_ms);
        let instance = self.ec2(scope).get_mut(id)?;
        if was_active && !stopped {
            instance.guest.plan(guest, Carried::Nothing);
        }
        let instance_id = instance.id.clone();
        let row = instance.row_mut(association)?;
        row.leaving = Some(row.leaving.unwrap_or(now).min(now));
        let state = if stopped {
            row.gone = Some(now);
            AssociationState::Disassociated
        } else {
            row.gone = Some(row.gone.unwrap_or(gone).min(gone));
            AssociationState::Disassociating
        };
        row.stuck = false;
        Some(row.view(&instance_id, state))
    }
}
