//! The IAM of one account: roles and instance profiles, the same in every Region.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::association::ProfileRef;
use crate::error::ApiError;
use crate::policy::Policy;
use crate::time::Millis;

/// A role.
#[derive(Debug, Clone)]
pub struct Role {
    pub name: String,
    pub path: String,
    pub arn: String,
    pub id: String,
    pub created: Millis,
    pub trust_text: String,
    pub trust: Policy,
}

impl Role {
    /// Whether EC2 may assume it, by either name of its service principal.
    pub fn trusts_ec2(&self) -> bool {
        self.trust.trusts_service("ec2.amazonaws.com") || self.trust.trusts_service("ec2.amazonaws.com.cn")
    }

    pub fn view(&self) -> RoleView {
        RoleView {
            name: self.name.clone(),
            path: self.path.clone(),
            arn: self.arn.clone(),
            id: self.id.clone(),
            created: self.created,
            trust: self.trust_text.clone(),
        }
    }
}

/// A role as a reply shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleView {
    /// The name.
    pub name: String,
    /// The path, `/` if none.
    pub path: String,
    /// The ARN.
    pub arn: String,
    /// The unique id, `AROA…`.
    pub id: String,
    /// When it was created.
    pub created: Millis,
    /// The trust policy.
    pub trust: String,
}

/// An instance profile.
#[derive(Debug)]
pub struct Profile {
    pub name: String,
    pub path: String,
    pub created: Millis,
    pub identity: Arc<ProfileRef>,
    /// Name of the one role it can hold.
    pub role: Option<String>,
    /// When EC2 learns of it (aws-semantics 3.1).
    pub known_to_ec2: Millis,
}

/// An instance profile as a reply shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileView {
    /// The name.
    pub name: String,
    /// The path, `/` if none.
    pub path: String,
    /// The ARN.
    pub arn: String,
    /// The unique id, `AIPA…`.
    pub id: String,
    /// When it was created.
    pub created: Millis,
    /// Its role, if it has one.
    pub role: Option<RoleView>,
}

/// Roles and profiles of an account, by name in lower case, since names are unique ignoring case (BM).
#[derive(Debug, Default)]
pub struct Iam {
    roles: HashMap<String, Role>,
    profiles: BTreeMap<String, Profile>,
    profile_names: HashMap<String, String>,
}

impl Iam {
    pub fn role(&self, name: &str) -> Option<&Role> {
        self.roles.get(&name.to_ascii_lowercase())
    }

    pub fn role_mut(&mut self, name: &str) -> Option<&mut Role> {
        self.roles.get_mut(&name.to_ascii_lowercase())
    }

    pub fn insert_role(&mut self, role: Role) {
        self.roles.insert(role.name.to_ascii_lowercase(), role);
    }

    pub fn roles(&self) -> impl Iterator<Item = &Role> {
        self.roles.values()
    }

    pub fn remove_role(&mut self, name: &str) {
        self.roles.remove(&name.to_ascii_lowercase());
    }

    pub fn profile(&self, name: &str) -> Option<&Profile> {
        self.profiles.get(&name.to_ascii_lowercase())
    }

    pub fn profile_mut(&mut self, name: &str) -> Option<&mut Profile> {
        self.profiles.get_mut(&name.to_ascii_lowercase())
    }

    pub fn profile_by_id(&self, id: &str) -> Option<&Profile> {
        self.profile_names.get(id).and_then(|name| self.profiles.get(name))
    }

    pub fn insert_profile(&mut self, profile: Profile) {
        let key = profile.name.to_ascii_lowercase();
        self.profile_names.insert(profile.identity.id.clone(), key.clone());
        self.profiles.insert(key, profile);
    }

    pub fn remove_profile(&mut self, name: &str) {
        if let Some(profile) = self.profiles.remove(&name.to_ascii_lowercase()) {
            self.profile_names.remove(&profile.identity.id);
        }
    }

    /// Profiles in order of name, after `after`.
    pub fn profiles_after(&self, after: &str) -> impl Iterator<Item = (&String, &Profile)> {
        use std::ops::Bound::{Excluded, Unbounded};
        self.profiles.range::<str, _>((Excluded(after), Unbounded))
    }

    pub fn existing_profile(&self, name: &str) -> Result<&Profile, ApiError> {
        self.profile(name)
            .ok_or_else(|| ApiError::no_such_entity(format!("Instance Profile {name} cannot be found.")))
    }

    pub fn existing_role(&self, name: &str) -> Result<&Role, ApiError> {
        self.role(name)
            .ok_or_else(|| ApiError::no_such_entity(format!("The role with name {name} cannot be found.")))
    }

    pub fn view(&self, profile: &Profile) -> ProfileView {
        ProfileView {
            name: profile.name.clone(),
            path: profile.path.clone(),
            arn: profile.identity.arn.clone(),
            id: profile.identity.id.clone(),
            created: profile.created,
            role: profile.role.as_deref().and_then(|role| self.role(role)).map(Role::view),
        }
    }
}

/// Checks a name against IAM's rule (aws-semantics 3.1).
pub fn check_name(parameter: &str, name: &str, longest: usize) -> Result<(), ApiError> {
    if name.is_empty() {
        return Err(validation(format!("The request must contain the parameter {parameter}")));
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte);
    if !name.bytes().all(allowed) {
        return Err(validation(format!(
            "The specified value for {parameter} is invalid. It must contain only alphanumeric characters \
             and/or the following: +=,.@_-"
        )));
    }
    if name.len() > longest {
        return Err(validation(format!(
            "1 validation error detected: Value at '{parameter}' failed to satisfy constraint: Member must have \
             length less than or equal to {longest}"
        )));
    }
    Ok(())
}

/// Checks a path: `/`, or `/…/` of printable characters.
pub fn check_path(path: &str) -> Result<(), ApiError> {
    let printable = path.bytes().all(|byte| (0x21..=0x7e).contains(&byte));
    let slashes = path.starts_with('/') && path.ends_with('/') && !path.contains("//");
    if printable && slashes && path.len() <= 512 {
        return Ok(());
    }
    Err(validation(
        "The specified value for path is invalid. It must begin and end with / and contain only \
         alphanumeric characters and/or / characters."
            .to_owned(),
    ))
}

pub fn validation(message: String) -> ApiError {
    ApiError::bad("ValidationError", message)
}
