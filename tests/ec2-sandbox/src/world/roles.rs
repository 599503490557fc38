//! IAM's calls on roles.

use super::iam::{Role, RoleView, check_name, check_path};
use super::{Scope, World, arn};
use crate::error::ApiError;
use crate::policy::{Context, Policy};
use crate::time::Millis;

impl World {
    /// `CreateRole`.
    ///
    /// # Errors
    /// A name or path against the rules, a name taken (in whatever case), a trust policy that is none.
    pub fn create_role(
        &mut self,
        now: Millis,
        scope: &Scope,
        name: &str,
        path: &str,
        trust: &str,
    ) -> Result<RoleView, ApiError> {
        check_name("roleName", name, 64)?;
        check_path(path)?;
        let arn = arn::iam(scope.partition(), &scope.account, "role", path, name);
        self.authorize_iam(scope, "iam:CreateRole", &arn, &format!("role {name}"))?;
        let parsed = parse_trust(trust)?;
        if self.iam(scope).role(name).is_some() {
            let message = format!("Role with name {name} already exists.");
            return Err(ApiError::new("EntityAlreadyExists", 409, message));
        }
        let role = Role {
            name: name.to_owned(),
            path: path.to_owned(),
            arn,
            id: self.mint.unique_id("AROA"),
            created: now,
            trust_text: trust.to_owned(),
            trust: parsed,
        };
        let view = role.view();
        self.iam(scope).insert_role(role);
        Ok(view)
    }

    /// `GetRole`; answers with the true spelling of the name.
    ///
    /// # Errors
    /// `NoSuchEntity`, `AccessDenied`.
    pub fn get_role(&mut self, scope: &Scope, name: &str) -> Result<RoleView, ApiError> {
        self.authorize_role(scope, "iam:GetRole", name)?;
        self.iam(scope).existing_role(name).map(Role::view)
    }

    /// `UpdateAssumeRolePolicy`. Associations that waited for a role EC2 may assume move on.
    ///
    /// # Errors
    /// `NoSuchEntity`, `AccessDenied`, a trust policy that is none.
    pub fn update_trust(
        &mut self,
        now: Millis,
        scope: &Scope,
        name: &str,
        trust: &str,
    ) -> Result<(), ApiError> {
        self.authorize_role(scope, "iam:UpdateAssumeRolePolicy", name)?;
        self.iam(scope).existing_role(name)?;
        let parsed = parse_trust(trust)?;
        if let Some(role) = self.iam(scope).role_mut(name) {
            role.trust = parsed;
            role.trust_text = trust.to_owned();
        }
        self.resume_waiting_rows(now, &scope.account);
        Ok(())
    }

    /// `DeleteRole`.
    ///
    /// # Errors
    /// `DeleteConflict` while a profile holds it, `NoSuchEntity`, `AccessDenied`.
    pub fn delete_role(&mut self, scope: &Scope, name: &str) -> Result<(), ApiError> {
        self.authorize_role(scope, "iam:DeleteRole", name)?;
        let role = self.iam(scope).existing_role(name)?.name.clone();
        if self.iam(scope).profiles_after("").any(|(_, profile)| profile.role.as_ref() == Some(&role)) {
            let message = "Cannot delete entity, must remove roles from instance profile first.";
            return Err(ApiError::new("DeleteConflict", 409, message));
        }
        self.iam(scope).remove_role(name);
        Ok(())
    }

    pub(super) fn authorize_role(&mut self, scope: &Scope, action: &str, name: &str) -> Result<(), ApiError> {
        check_name("roleName", name, 64)?;
        let known = self.iam(scope).role(name).map(|role| role.arn.clone());
        let arn = known.unwrap_or_else(|| arn::iam(scope.partition(), &scope.account, "role", "/", name));
        self.authorize_iam(scope, action, &arn, &format!("role {name}"))
    }

    pub(super) fn authorize_iam(
        &self,
        scope: &Scope,
        action: &str,
        resource: &str,
        shown: &str,
    ) -> Result<(), ApiError> {
        self.check_access(scope, action, resource, shown, &Context::default())
    }
}

fn parse_trust(text: &str) -> Result<Policy, ApiError> {
    serde_json::from_str(text)
        .map_err(|error| error.to_string())
        .and_then(|document| Policy::of_trust(&document))
        .map_err(|error| ApiError::bad("MalformedPolicyDocument", error))
}
