//! `AssociateIamInstanceProfile`, and the attaching it shares with Replace.

use std::sync::Arc;

use super::association::{Association, AssociationState, AssociationView, ProfileRef};
use super::guest::Carried;
use super::ids::no_such_instance;
use super::instance::{Instance, InstanceState};
use super::resolve::ProfileSpec;
use super::{Scope, World};
use crate::error::ApiError;
use crate::time::Millis;

impl World {
    /// `AssociateIamInstanceProfile`. Checks come in this order (CAP-T): syntax and existence of the instance,
    /// the profile, authorization, management by EC2; a dry run ends here; then state and existing association.
    ///
    /// # Errors
    /// As EC2 gives them; aws-semantics 1.3 and 1.5.
    pub fn associate(
        &mut self,
        now: Millis,
        scope: &Scope,
        instance: &str,
        spec: &ProfileSpec,
        dry_run: bool,
    ) -> Result<AssociationView, ApiError> {
        let tombstone = self.settings.tombstone_ms;
        self.ec2(scope).existing(instance, now, tombstone)?;
        let profile = self.resolve(now, scope, spec)?;
        self.authorize_attach(now, scope, "ec2:AssociateIamInstanceProfile", instance, &profile)?;
        let found = self.ec2(scope).existing(instance, now, tombstone)?;
        refuse_managed(found)?;
        if dry_run {
            return Err(ApiError::dry_run());
        }
        require_running_or_stopped(found, now)?;
        // A row that is still leaving counts as existing: not captured, so the stricter reading.
        if found.rows.iter().any(|row| row.state(now).is_some()) {
            let message = format!("There is an existing association for instance {instance}");
            return Err(ApiError::bad("IncorrectState", message));
        }
        self.attach(now, scope, instance, &profile, now).ok_or_else(|| no_such_instance(instance))
    }

    /// Adds the row of a new association and plans what follows from it.
    ///
    /// On a running instance the row becomes `associated` in time, unless EC2 cannot assume the role: then it
    /// stays `associating` (CAP-T). On a stopped one it waits for the start.
    pub(super) fn attach(
        &mut self,
        now: Millis,
        scope: &Scope,
        id: &str,
        profile: &Arc<ProfileRef>,
        shown_from: Millis,
    ) -> Option<AssociationView> {
        let carried = self.carried_with(scope, profile);
        let association = self.mint.hex17("iip-assoc-");
        let (associating, guest) = (self.settings.associating_ms, self.settings.guest_ms);
        let ec2 = self.ec2(scope);
        let mut row = Association::new(association, ec2.serial(), profile.clone(), now);
        row.shown_from = shown_from;
        let instance = ec2.get_mut(id)?;
        if instance.state(now) == Some(InstanceState::Running) {
            row.associated = becomes_effective(&carried).then(|| now.saturating_add(associating));
            instance.guest.plan(now.saturating_add(guest), carried);
        }
        let view = row.view(&instance.id, AssociationState::Associating);
        ec2.add_row(id, row, now);
        Some(view)
    }

    /// Lets rows that waited for a role EC2 may assume go on, after a trust policy changed.
    pub(super) fn resume_waiting_rows(&mut self, now: Millis, account: &str) {
        let mut waiting = Vec::new();
        for ((owner, region), ec2) in &self.regions {
            let running = ec2.all().filter(|instance| instance.state(now) == Some(InstanceState::Running));
            let rows = running.filter_map(|instance| Some((instance, instance.active(now)?)));
            waiting.extend(
                rows.filter(|(_, row)| owner == account && row.associated.is_none() && !row.stuck).map(
                    |(instance, row)| {
                        (region.clone(), instance.id.clone(), row.id.clone(), row.profile.clone())
                    },
                ),
            );
        }
        for (region, id, association, profile) in waiting {
            let scope = Scope::of_account(account, &region);
            let carried = self.carried_with(&scope, &profile);
            let (associating, guest) = (self.settings.associating_ms, self.settings.guest_ms);
            let Some(instance) = self.ec2(&scope).get_mut(&id) else { continue };
            if becomes_effective(&carried) {
                instance.guest.plan(now.saturating_add(guest), carried);
                if let Some(row) = instance.row_mut(&association) {
                    row.associated = Some(now.saturating_add(associating));
                }
            }
        }
    }
}

/// Whether an association with this effect gets past `associating`. One without a role does (CAP-T).
pub fn becomes_effective(carried: &Carried) -> bool {
    !matches!(carried, Carried::Unauthorized { .. })
}

/// EC2 does not let anybody change the profile of an instance it manages (aws-semantics 1.6; the code is ours).
pub fn refuse_managed(instance: &Instance) -> Result<(), ApiError> {
    if !instance.launch.managed {
        return Ok(());
    }
    let message = format!("The instance '{}' is managed by a service and cannot be modified.", instance.id);
    Err(ApiError::bad("OperationNotPermitted", message))
}

pub fn require_running_or_stopped(instance: &Instance, now: Millis) -> Result<(), ApiError> {
    match instance.state(now) {
        Some(InstanceState::Running | InstanceState::Stopped) => Ok(()),
        _ => {
            let message =
                format!("The instance '{}' is not in the 'running' or 'stopped' states.", instance.id);
            Err(ApiError::bad("IncorrectInstanceState", message))
        }
    }
}
