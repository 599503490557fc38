//! What the object itself remembers of earlier passes. It is a note, not a right: everything that matters is
//! looked at again.

use jiff::Timestamp;

use super::desired::{Place, ProfileRef};
use crate::api::binding::Operation;

/// A profile, or none: what an instance carried at some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carried {
    /// This profile.
    Profile(ProfileRef),
    /// No profile.
    Nothing,
}

impl Carried {
    /// The text that `status.changes` and messages use.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Profile(profile) => profile.as_str(),
            Self::Nothing => "none",
        }
    }

    /// Reads the text of `status.changes`.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "none" { Some(Self::Nothing) } else { ProfileRef::parse(text).map(Self::Profile) }
    }

    /// The profile, if it is one.
    pub fn profile(&self) -> Option<&ProfileRef> {
        match self {
            Self::Profile(profile) => Some(profile),
            Self::Nothing => None,
        }
    }
}

/// One change that was made, or begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastChange {
    /// The operation.
    pub operation: Operation,
    /// What the instance carried before.
    pub from: Carried,
    /// What it was to carry after.
    pub to: Carried,
    /// What was to be attached next, where this was the first half of a swap.
    pub then: Option<ProfileRef>,
    /// When it was begun.
    pub at: Timestamp,
    /// Whether EC2's reply is known.
    pub confirmed: bool,
}

/// What status remembers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    /// Where the binding was carried out.
    pub place: Option<Place>,
    /// Whether it was once in sync.
    pub adopted: bool,
    /// Whether it was in sync with what it wants now, so that a difference is drift.
    pub was_in_sync: bool,
    /// What was last wanted.
    pub desired: Option<Carried>,
    /// What was found before the first change.
    pub previous: Option<Carried>,
    /// The changes, newest first.
    pub changes: Vec<PastChange>,
}

impl History {
    /// The newest change.
    pub fn newest(&self) -> Option<&PastChange> {
        self.changes.first()
    }

    /// The newest change; and, as long as it is not known whether that was carried out, the one before it.
    pub fn last_asked(&self) -> impl Iterator<Item = &PastChange> {
        let known = self.changes.iter().position(|change| change.confirmed);
        self.changes.iter().take(known.map_or(usize::MAX, |known| known + 1))
    }

    /// What the newest change took off, if it was the first half of a swap. A detach that was asked for is none:
    /// what a person had taken off is never put back.
    pub fn swapped_out(&self) -> Option<&ProfileRef> {
        self.half_way().filter(|c| c.then.is_some()).and_then(|c| c.from.profile())
    }

    /// When the first half of a swap was made, if that was the newest change.
    pub fn swapped_at(&self) -> Option<Timestamp> {
        self.half_way().filter(|c| c.then.is_some()).map(|c| c.at)
    }

    /// What was to be attached next, if the newest change was the first half of a swap.
    pub fn swapped_in(&self) -> Option<&ProfileRef> {
        self.half_way().and_then(|c| c.then.as_ref())
    }

    /// What the newest change took off, if it was a detach.
    pub fn detached(&self) -> Option<&ProfileRef> {
        self.half_way().and_then(|c| c.from.profile())
    }

    /// The detach that nothing came after. An attach of unknown outcome does not end that: it may never have been sent.
    fn half_way(&self) -> Option<&PastChange> {
        let detach = |c: &&PastChange| c.operation == Operation::DisassociateIamInstanceProfile;
        self.changes.iter().find(|c| c.confirmed || detach(c)).filter(detach)
    }

    /// Whether this binding put the profile there.
    pub fn put(&self, profile: &ProfileRef) -> bool {
        self.changes.iter().any(|c| c.to.profile() == Some(profile))
    }
}
