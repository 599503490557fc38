//! What only the admin API can do: rows that are stuck, and changes from outside without a call.

use super::{Carried, InstanceState, ProfileSpec, Scope, Tags, World};
use crate::time::Millis;

impl World {
    /// Makes a row stay `associating` or `disassociating` until it is disassociated (re:Post
    /// `ec2-resolve-active-assocation-error`).
    ///
    /// # Errors
    /// A row that does not live, a state that is neither.
    pub fn stick(&mut self, now: Millis, association: &str, state: &str) -> Result<(), String> {
        let holder = self.regions.values_mut().find_map(|ec2| {
            let id = ec2.of_association(association)?.id.clone();
            ec2.get_mut(&id)?.row_mut(association)
        });
        let row = holder.filter(|row| row.state(now).is_some());
        let row = row.ok_or_else(|| format!("there is no association {association}"))?;
        match state {
            "associating" => {
                row.associated = None;
                row.leaving = None;
            }
            "disassociating" => row.leaving = Some(row.leaving.unwrap_or(now)),
            other => return Err(format!("state is associating or disassociating, not {other}")),
        }
        row.gone = None;
        row.stuck = true;
        Ok(())
    }

    /// Puts an instance at once where an outsider would have left it: another profile (or none), tags, a state.
    ///
    /// # Errors
    /// An instance, profile or state that does not exist.
    pub fn force(
        &mut self,
        now: Millis,
        account: &str,
        region: &str,
        id: &str,
        change: &Forced,
    ) -> Result<(), String> {
        let scope = Scope::of_account(account, region);
        let profile = match &change.profile {
            Some(Some(name)) => {
                let spec = ProfileSpec::of(name);
                Some(Some(self.resolve(now, &scope, &spec).map_err(|error| error.to_string())?))
            }
            Some(None) => Some(None),
            None => None,
        };
        let instance = self.ec2(&scope).get_mut(id).ok_or_else(|| format!("there is no instance {id}"))?;
        let before = instance.state(now);
        if let Some(state) = change.state.filter(|state| Some(*state) != before) {
            match state {
                InstanceState::Running => self.start(now, &scope, id, 0),
                InstanceState::Stopped => self.stop(now, &scope, id, 0),
                InstanceState::Terminated => self.terminate(now, &scope, id, 0),
                passing => instance.states.set(now, passing),
            }
        }
        let Some(instance) = self.ec2(&scope).get_mut(id) else { return Ok(()) };
        if let Some(tags) = &change.tags {
            instance.tags.set(now, tags.clone().into());
        }
        let Some(profile) = profile else { return Ok(()) };
        for row in &mut instance.rows {
            row.leaving = Some(row.leaving.unwrap_or(now));
            row.gone = Some(row.gone.unwrap_or(now).min(now));
            row.shown_until = Some(row.shown_until.unwrap_or(now).min(now));
        }
        instance.guest.set(now, Carried::Nothing);
        let Some(profile) = profile else { return Ok(()) };
        self.attach(now, &scope, id, &profile, now);
        let carried = self.carried_with(&scope, &profile);
        if let Some(instance) = self.ec2(&scope).get_mut(id) {
            instance.guest.set(now, carried);
            if let Some(row) = instance.rows.last_mut() {
                row.associated = row.associated.map(|_| now);
            }
        }
        Ok(())
    }
}

/// What an outsider changed; what is `None` stays.
#[derive(Debug, Clone, Default)]
pub struct Forced {
    /// A profile by name or ARN, or none.
    pub profile: Option<Option<String>>,
    /// All tags.
    pub tags: Option<Tags>,
    /// A state, reached at once.
    pub state: Option<InstanceState>,
}
