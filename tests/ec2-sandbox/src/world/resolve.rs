//! From what a request calls a profile to the profile.

use std::sync::Arc;

use super::association::ProfileRef;
use super::{Scope, World};
use crate::error::ApiError;
use crate::time::Millis;

/// `IamInstanceProfile` of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProfileSpec {
    /// `IamInstanceProfile.Arn`; wins silently over the name (CAP-T `associate-conflicting-actual`).
    pub arn: Option<String>,
    /// `IamInstanceProfile.Name`.
    pub name: Option<String>,
}

impl ProfileSpec {
    /// A profile by ARN if `text` looks like one, else by name.
    pub fn of(text: &str) -> Self {
        if text.starts_with("arn:") {
            Self { arn: Some(text.to_owned()), name: None }
        } else {
            Self { arn: None, name: Some(text.to_owned()) }
        }
    }
}

impl World {
    /// The profile as EC2 knows it: exactly spelled, in the caller's account, and not too new. What does not
    /// exist and what is not known yet get the same answer (aws-semantics 1.5).
    pub(super) fn resolve(
        &mut self,
        now: Millis,
        scope: &Scope,
        spec: &ProfileSpec,
    ) -> Result<Arc<ProfileRef>, ApiError> {
        let (field, kind, given) = match (&spec.arn, &spec.name) {
            (Some(arn), _) if !arn.is_empty() => ("arn", "ARN", arn),
            (_, Some(name)) if !name.is_empty() => ("name", "name", name),
            _ => return Err(ApiError::missing("iamInstanceProfile.arn or iamInstanceProfile.name")),
        };
        let name = if field == "arn" { given.rsplit('/').next().unwrap_or_default() } else { given };
        let found = self.iam(scope).profile(name).filter(|profile| {
            let spelled = if field == "arn" { &profile.identity.arn } else { &profile.name };
            spelled == given && profile.known_to_ec2 <= now
        });
        found.map(|profile| profile.identity.clone()).ok_or_else(|| {
            ApiError::invalid_value(format!(
                "Value ({given}) for parameter iamInstanceProfile.{field} is invalid. Invalid IAM Instance Profile {kind}"
            ))
        })
    }

    /// The ARN of the role a profile holds now.
    pub(super) fn role_of(&mut self, scope: &Scope, profile: &ProfileRef) -> Option<String> {
        let iam = self.iam(scope);
        let role = iam.profile_by_id(&profile.id)?.role.as_deref()?;
        iam.role(role).map(|role| role.arn.clone())
    }

    /// The two authorizations of attaching: the action on the instance, and passing the role in the profile.
    pub(super) fn authorize_attach(
        &mut self,
        now: Millis,
        scope: &Scope,
        action: &str,
        instance: &str,
        profile: &ProfileRef,
    ) -> Result<(), ApiError> {
        self.authorize_instance(now, scope, action, instance, Some(&profile.arn))?;
        match self.role_of(scope, profile) {
            Some(role) => self.authorize_pass_role(scope, &role),
            // No role, nothing to pass (CAP-T).
            None => Ok(()),
        }
    }
}
