//! IAM's calls on instance profiles.

use std::sync::Arc;

use super::association::ProfileRef;
use super::iam::{Profile, ProfileView, check_name, check_path, validation};
use super::{Scope, World, arn};
use crate::error::ApiError;
use crate::time::Millis;

/// One page of profiles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfilePage {
    /// The profiles.
    pub profiles: Vec<ProfileView>,
    /// Where the next page begins, if there is one.
    pub marker: Option<String>,
}

impl World {
    /// `CreateInstanceProfile`. EC2 learns of it `propagation_ms` later.
    ///
    /// # Errors
    /// A name or path against the rules, a name taken (in whatever case and under whatever path).
    pub fn create_profile(
        &mut self,
        now: Millis,
        scope: &Scope,
        name: &str,
        path: &str,
    ) -> Result<ProfileView, ApiError> {
        check_name("instanceProfileName", name, 128)?;
        check_path(path)?;
        let arn = arn::iam(scope.partition(), &scope.account, "instance-profile", path, name);
        self.authorize_iam(scope, "iam:CreateInstanceProfile", &arn, &format!("instance profile {name}"))?;
        if self.iam(scope).profile(name).is_some() {
            let message = format!("Instance Profile {name} already exists.");
            return Err(ApiError::new("EntityAlreadyExists", 409, message));
        }
        let identity = Arc::new(ProfileRef { arn, id: self.mint.unique_id("AIPA") });
        let known_to_ec2 = now.saturating_add(self.settings.propagation_ms);
        let iam = self.iam(scope);
        iam.insert_profile(Profile {
            name: name.to_owned(),
            path: path.to_owned(),
            created: now,
            identity,
            role: None,
            known_to_ec2,
        });
        iam.existing_profile(name).map(|profile| iam.view(profile))
    }

    /// `GetInstanceProfile`; answers with the true spelling of the name.
    ///
    /// # Errors
    /// `NoSuchEntity`, `AccessDenied`.
    pub fn get_profile(&mut self, scope: &Scope, name: &str) -> Result<ProfileView, ApiError> {
        self.authorize_profile(scope, "iam:GetInstanceProfile", name)?;
        let iam = self.iam(scope);
        iam.existing_profile(name).map(|profile| iam.view(profile))
    }

    /// `DeleteInstanceProfile`; IAM only demands that the role was removed. Associations stay (BM warns of it).
    ///
    /// # Errors
    /// `DeleteConflict` while it holds a role, `NoSuchEntity`, `AccessDenied`.
    pub fn delete_profile(&mut self, scope: &Scope, name: &str) -> Result<(), ApiError> {
        self.authorize_profile(scope, "iam:DeleteInstanceProfile", name)?;
        if self.iam(scope).existing_profile(name)?.role.is_some() {
            let message = "Cannot delete entity, must remove roles from instance profile first.";
            return Err(ApiError::new("DeleteConflict", 409, message));
        }
        self.iam(scope).remove_profile(name);
        Ok(())
    }

    /// `AddRoleToInstanceProfile`. What is attached already is not affected (BM: re-associate or restart).
    ///
    /// # Errors
    /// `LimitExceeded` when it holds a role, `NoSuchEntity`, `AccessDenied` (also for `iam:PassRole`).
    pub fn add_role(&mut self, scope: &Scope, profile: &str, role: &str) -> Result<(), ApiError> {
        check_name("roleName", role, 64)?;
        self.authorize_profile(scope, "iam:AddRoleToInstanceProfile", profile)?;
        let held = self.iam(scope).existing_profile(profile)?.role.is_some();
        let role = self.iam(scope).existing_role(role)?.clone();
        self.authorize_iam(scope, "iam:PassRole", &role.arn, &role.arn)?;
        if held {
            let message = "Cannot exceed quota for InstanceSessionsPerInstanceProfile: 1";
            return Err(ApiError::new("LimitExceeded", 409, message));
        }
        if let Some(profile) = self.iam(scope).profile_mut(profile) {
            profile.role = Some(role.name);
        }
        Ok(())
    }

    /// `RemoveRoleFromInstanceProfile`. Guests keep what they have (CAP-T: 68 s later still).
    ///
    /// # Errors
    /// `NoSuchEntity`, `AccessDenied`.
    pub fn remove_role(&mut self, scope: &Scope, profile: &str, role: &str) -> Result<(), ApiError> {
        check_name("roleName", role, 64)?;
        self.authorize_profile(scope, "iam:RemoveRoleFromInstanceProfile", profile)?;
        let name = self.iam(scope).existing_profile(profile)?.name.clone();
        let held = self.iam(scope).existing_profile(profile)?.role.clone();
        if !held.is_some_and(|held| held.eq_ignore_ascii_case(role)) {
            let message = format!("Role {role} in Instance Profile {name} cannot be found.");
            return Err(ApiError::no_such_entity(message));
        }
        if let Some(profile) = self.iam(scope).profile_mut(profile) {
            profile.role = None;
        }
        Ok(())
    }

    /// `ListInstanceProfiles`.
    ///
    /// # Errors
    /// `ValidationError`, `AccessDenied`.
    pub fn list_profiles(
        &mut self,
        scope: &Scope,
        prefix: &str,
        max_items: Option<i64>,
        marker: Option<&str>,
    ) -> Result<ProfilePage, ApiError> {
        if !prefix.starts_with('/') {
            return Err(validation("The specified value for pathPrefix is invalid.".to_owned()));
        }
        let resource = arn::iam(scope.partition(), &scope.account, "instance-profile", prefix, "");
        self.authorize_iam(scope, "iam:ListInstanceProfiles", &resource, &resource)?;
        self.profile_page(scope, max_items, marker, |profile| profile.path.starts_with(prefix))
    }

    /// `ListInstanceProfilesForRole`.
    ///
    /// # Errors
    /// `NoSuchEntity` for an unknown role, `ValidationError`, `AccessDenied`.
    pub fn list_profiles_for_role(
        &mut self,
        scope: &Scope,
        role: &str,
        max_items: Option<i64>,
        marker: Option<&str>,
    ) -> Result<ProfilePage, ApiError> {
        self.authorize_role(scope, "iam:ListInstanceProfilesForRole", role)?;
        let role = self.iam(scope).existing_role(role)?.name.clone();
        self.profile_page(scope, max_items, marker, |profile| profile.role.as_ref() == Some(&role))
    }

    fn profile_page(
        &mut self,
        scope: &Scope,
        max_items: Option<i64>,
        marker: Option<&str>,
        wanted: impl Fn(&Profile) -> bool,
    ) -> Result<ProfilePage, ApiError> {
        let limit = match max_items {
            None => 100,
            Some(items @ 1..=1000) => items as usize,
            Some(_) => return Err(validation("MaxItems is a number from 1 to 1000.".to_owned())),
        };
        let iam = self.iam(scope);
        let after = match marker.map(|marker| marker.strip_prefix("after:")) {
            None => String::new(),
            Some(Some(name)) => name.to_owned(),
            Some(None) => return Err(validation("Invalid Marker.".to_owned())),
        };
        let mut found = iam.profiles_after(&after).filter(|(_, profile)| wanted(profile));
        let mut last = None;
        let mut profiles = Vec::new();
        for (key, profile) in found.by_ref().take(limit) {
            last = Some(format!("after:{key}"));
            profiles.push(iam.view(profile));
        }
        let marker = if found.next().is_some() { last } else { None };
        Ok(ProfilePage { profiles, marker })
    }

    fn authorize_profile(&mut self, scope: &Scope, action: &str, name: &str) -> Result<(), ApiError> {
        check_name("instanceProfileName", name, 128)?;
        let known = self.iam(scope).profile(name).map(|profile| profile.identity.arn.clone());
        let arn = known
            .unwrap_or_else(|| arn::iam(scope.partition(), &scope.account, "instance-profile", "/", name));
        self.authorize_iam(scope, action, &arn, &format!("instance profile {name}"))
    }
}
