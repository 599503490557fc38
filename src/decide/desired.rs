//! What one binding wants, parsed and with defaults filled in; and what IAM makes of it.

use std::fmt;

use jiff::Timestamp;

use super::history::Carried;
use super::observed::Association;
use crate::api::binding::{AdoptionPolicy, DeletionPolicy, Mode, WhenStopped};
use crate::ids::{AccountId, InstanceId, ProfileArn, ProfileId, ProfileName, Region, RoleName};

/// The profile as the user declared it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Declared {
    /// By name.
    Name(ProfileName),
    /// By ARN.
    Arn(ProfileArn),
    /// By the role that it holds.
    Role(RoleName),
    /// No profile.
    NoProfile,
}

impl fmt::Display for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "instance profile {name}"),
            Self::Arn(arn) => write!(f, "instance profile {arn}"),
            Self::Role(role) => write!(f, "the instance profile of role {role}"),
            Self::NoProfile => f.write_str("no instance profile"),
        }
    }
}

/// An AWS account and Region.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// The account.
    pub account: AccountId,
    /// The Region.
    pub region: Region,
}

/// A binding's spec, parsed, with the controller's defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// The instance.
    pub instance: InstanceId,
    /// What it must carry.
    pub declared: Declared,
    /// Whether to act.
    pub mode: Mode,
    /// What to do with another profile at first sight.
    pub adoption: AdoptionPolicy,
    /// How to exchange on a stopped instance.
    pub when_stopped: WhenStopped,
    /// What deletion does.
    pub deletion: DeletionPolicy,
    /// Whether changes are suspended.
    pub suspend: bool,
    /// Whether the controller writes nothing, whoever asks for it.
    pub dry_run: bool,
}

impl Desired {
    /// Whether this binding writes at all.
    pub fn writes(&self) -> bool {
        self.mode == Mode::Enforce && !self.suspend && !self.dry_run
    }

    /// Whether this is what was declared.
    pub fn wants(&self, carried: &Carried, resolution: &Resolution) -> bool {
        match carried {
            Carried::Nothing => self.declared == Declared::NoProfile,
            Carried::Profile(profile) => resolution.is_found_as(profile),
        }
    }

    /// Whether only IAM can tell which profile is meant.
    pub fn needs_iam(&self) -> bool {
        matches!(self.declared, Declared::Name(_) | Declared::Role(_))
    }

    /// Whether deletion may have work to do, so that it needs the finalizer.
    pub fn deletion_has_work(&self) -> bool {
        self.writes()
            && match self.deletion {
                DeletionPolicy::Detach => self.declared != Declared::NoProfile,
                DeletionPolicy::Restore => true,
                DeletionPolicy::Retain => false,
            }
    }
}

/// A profile as it goes to EC2: by ARN always, but where the controller may not read IAM.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ProfileRef {
    /// Resolved.
    Arn(ProfileArn),
    /// Not resolved, since IAM reads are denied.
    Name(ProfileName),
}

impl ProfileRef {
    /// The profile's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Arn(arn) => arn.name(),
            Self::Name(name) => name.as_str(),
        }
    }

    /// The ARN, or the name where there is none: what status records.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Arn(arn) => arn.as_str(),
            Self::Name(name) => name.as_str(),
        }
    }

    /// Reads what status records.
    pub fn parse(text: &str) -> Option<Self> {
        ProfileArn::parse(text).map(Self::Arn).or_else(|_| ProfileName::parse(text).map(Self::Name)).ok()
    }

    /// Whether an association attaches this profile: ARNs compare whole, a bare name with the ARN's last part.
    pub fn is_carried_by(&self, association: &Association) -> bool {
        match self {
            Self::Arn(arn) => *arn == association.profile,
            Self::Name(name) => name.as_str() == association.profile.name(),
        }
    }
}

impl fmt::Display for ProfileRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The profile to attach, with what IAM says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The profile.
    pub profile: ProfileRef,
    /// Its unique id, where IAM may be read.
    pub id: Option<ProfileId>,
    /// Whether it holds a role, where IAM may be read.
    pub has_role: Option<bool>,
    /// When the look at IAM began that this rests on.
    pub as_of: Timestamp,
}

impl Target {
    /// Whether the association attaches this very profile: not one that was deleted and made again under the
    /// same name since. An id is called dead only by a look at IAM that began after the look at EC2
    /// (`seen`) had ended.
    pub fn is_recreated(&self, association: &Association, seen: Timestamp) -> bool {
        match (&self.id, &association.profile_id) {
            (Some(alive), Some(attached)) => alive != attached && self.as_of > seen,
            (None, _) | (_, None) => false,
        }
    }
}

/// What IAM makes of the declared profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// No profile is wanted.
    NoProfile,
    /// It is this one.
    Found(Target),
    /// IAM was not asked yet.
    NotAsked,
    /// The controller may not read in IAM what it needs; in words.
    Denied(String),
    /// IAM does not answer; in words.
    Unavailable(String),
    /// IAM has no such profile or role, or has it in another letter case; in words, and since when.
    Missing {
        /// What is missing, and what to do.
        told: String,
        /// What IAM has under that name in another letter case or on another path: told only to who may have it.
        really: Option<ProfileArn>,
        /// When it was first found missing.
        since: Timestamp,
    },
    /// The role is in several profiles.
    Ambiguous(Vec<ProfileArn>),
}

impl Resolution {
    /// Whether it is this profile that was found.
    pub fn is_found_as(&self, profile: &ProfileRef) -> bool {
        matches!(self, Self::Found(target) if target.profile == *profile)
    }
}
