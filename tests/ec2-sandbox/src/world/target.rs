//! What a write is about, for the journal and for faults that name an instance.

use super::resolve::ProfileSpec;
use super::{Scope, World};
use crate::time::Millis;

/// Instance and profiles of a write, as far as they can be told before it is carried out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// The instance written to.
    pub instance: Option<String>,
    /// The ARN of the profile it carries before.
    pub from: Option<String>,
    /// The profile asked for: its ARN, or what was given when there is no such profile.
    pub to: Option<String>,
}

impl World {
    /// The target of a write to `instance`, or to the instance of `association`.
    pub fn target(
        &mut self,
        now: Millis,
        scope: &Scope,
        instance: Option<&str>,
        association: Option<&str>,
        spec: &ProfileSpec,
    ) -> Target {
        let given = spec.arn.clone().or_else(|| spec.name.clone());
        let to =
            given.map(|given| self.resolve(now, scope, spec).map_or(given, |profile| profile.arn.clone()));
        let ec2 = self.ec2(scope);
        let found = match (instance, association) {
            (Some(id), _) => ec2.get(id),
            (None, Some(association)) => ec2.of_association(association),
            (None, None) => None,
        };
        Target {
            instance: found.map(|instance| instance.id.to_string()).or_else(|| instance.map(str::to_owned)),
            from: found.and_then(|instance| instance.active(now)).map(|row| row.profile.arn.clone()),
            to,
        }
    }
}
