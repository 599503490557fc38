//! One row of `DescribeIamInstanceProfileAssociations`, as moments from which its state follows.

use std::sync::Arc;

use crate::time::Millis;

/// A profile as EC2 remembers it: the id stays, whatever happens to the name in IAM.
#[derive(Debug, PartialEq, Eq)]
pub struct ProfileRef {
    /// The ARN, with path.
    pub arn: String,
    /// The unique id, `AIPA…`.
    pub id: String,
}

/// States of an association.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AssociationState {
    /// On its way.
    Associating,
    /// Attached.
    Associated,
    /// On its way out.
    Disassociating,
    /// Gone; only in the reply of Disassociate on a stopped instance, never listed (CAP-T).
    Disassociated,
}

impl AssociationState {
    /// The name EC2 gives it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Associating => "associating",
            Self::Associated => "associated",
            Self::Disassociating => "disassociating",
            Self::Disassociated => "disassociated",
        }
    }
}

/// An association as a reply shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssociationView {
    /// `iip-assoc-…`.
    pub id: Arc<str>,
    /// The instance.
    pub instance: Arc<str>,
    /// The profile, with its own id.
    pub profile: Arc<ProfileRef>,
    /// The state at the moment read.
    pub state: AssociationState,
}

/// An association: when what happened to it or will.
#[derive(Debug)]
pub struct Association {
    pub id: Arc<str>,
    pub serial: u64,
    pub profile: Arc<ProfileRef>,
    pub requested: Millis,
    /// Planned when it is certain; `None` while the instance is stopped, or EC2 cannot assume the role.
    pub associated: Option<Millis>,
    pub leaving: Option<Millis>,
    pub gone: Option<Millis>,
    /// From when to when `DescribeInstances` shows this profile (it lags after a Replace, CAP-T).
    pub shown_from: Millis,
    pub shown_until: Option<Millis>,
    /// Set by the admin API: this row does not move on by itself (re:Post `ec2-resolve-active-assocation-error`).
    pub stuck: bool,
}

impl Association {
    pub fn new(id: Arc<str>, serial: u64, profile: Arc<ProfileRef>, now: Millis) -> Self {
        Self {
            id,
            serial,
            profile,
            requested: now,
            associated: None,
            leaving: None,
            gone: None,
            shown_from: now,
            shown_until: None,
            stuck: false,
        }
    }

    /// The state at `at`; `None` before the request and after it is gone.
    pub fn state(&self, at: Millis) -> Option<AssociationState> {
        let reached = |moment: Option<Millis>| moment.is_some_and(|moment| moment <= at);
        if at < self.requested || reached(self.gone) {
            None
        } else if reached(self.leaving) {
            Some(AssociationState::Disassociating)
        } else if reached(self.associated) {
            Some(AssociationState::Associated)
        } else {
            Some(AssociationState::Associating)
        }
    }

    /// Whether `DescribeInstances` shows it at `at`: as long as the row lives (CAP-T), except around a Replace.
    pub fn is_shown(&self, at: Millis) -> bool {
        let until = self.shown_until.or(self.gone);
        self.shown_from <= at && until.is_none_or(|until| at < until)
    }

    pub fn view(&self, instance: &Arc<str>, state: AssociationState) -> AssociationView {
        AssociationView {
            id: self.id.clone(),
            instance: instance.clone(),
            profile: self.profile.clone(),
            state,
        }
    }
}
