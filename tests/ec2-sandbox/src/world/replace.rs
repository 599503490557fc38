//! `ReplaceIamInstanceProfileAssociation`.

use super::associate::refuse_managed;
use super::association::{AssociationState, AssociationView};
use super::ids::no_such_association;
use super::instance::InstanceState;
use super::resolve::ProfileSpec;
use super::{Scope, World};
use crate::error::ApiError;
use crate::time::Millis;

impl World {
    /// `ReplaceIamInstanceProfileAssociation`: a new row with a new id, while the old one is leaving; the same
    /// profile again changes nothing and answers with the same id (CAP-T). Running instances only.
    ///
    /// # Errors
    /// As EC2 gives them; aws-semantics 1.3 and 1.5.
    pub fn replace(
        &mut self,
        now: Millis,
        scope: &Scope,
        association: &str,
        spec: &ProfileSpec,
        dry_run: bool,
    ) -> Result<AssociationView, ApiError> {
        let (instance, _) = self.ec2(scope).living_row(association, now)?;
        let id = instance.id.clone();
        let profile = self.resolve(now, scope, spec)?;
        self.authorize_attach(now, scope, "ec2:ReplaceIamInstanceProfileAssociation", &id, &profile)?;
        let allow_associating = self.settings.replace_while_associating;
        let (instance, row) = self.ec2(scope).living_row(association, now)?;
        refuse_managed(instance)?;
        if dry_run {
            return Err(ApiError::dry_run());
        }
        let active = match row.state(now) {
            Some(AssociationState::Associated) => true,
            Some(AssociationState::Associating) => allow_associating,
            _ => false,
        };
        // While any row of the instance is stuck, none counts as the active one (re:Post).
        let stuck = instance.rows.iter().any(|row| row.stuck && row.state(now).is_some());
        if instance.state(now) != Some(InstanceState::Running) || !active || stuck {
            let message = format!("The association {association} is not the active association");
            return Err(ApiError::bad("IncorrectState", message));
        }
        if row.profile.id == profile.id {
            return Ok(row.view(&instance.id, row.state(now).unwrap_or(AssociationState::Associated)));
        }
        self.supersede(now, scope, &id, association);
        let shown_from = now.saturating_add(self.settings.replace_shows_old_ms);
        self.attach(now, scope, &id, &profile, shown_from).ok_or_else(|| no_such_association(association))
    }

    fn supersede(&mut self, now: Millis, scope: &Scope, id: &str, association: &str) {
        let gone = now.saturating_add(self.settings.disassociating_ms);
        let shown_until = now.saturating_add(self.settings.replace_shows_old_ms);
        let row = self.ec2(scope).get_mut(id).and_then(|instance| instance.row_mut(association));
        if let Some(row) = row {
            row.leaving = Some(now);
            row.gone = Some(gone);
            row.shown_until = Some(shown_until);
        }
    }
}
