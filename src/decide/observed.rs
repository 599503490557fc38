//! What EC2 shows of one instance, and how much may be concluded from it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use internment::ArcIntern;
use jiff::Timestamp;

use crate::ids::{AssociationId, ProfileArn, ProfileId};

/// An association's state (`aws-semantics` 1.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AssociationState {
    /// Being attached.
    Associating,
    /// Attached.
    Associated,
    /// Being taken off.
    Disassociating,
    /// Taken off; only ever in the reply of Disassociate on a stopped instance.
    Disassociated,
    /// A value this version does not know. It leads to waiting, never to a write.
    Unknown(String),
}

impl AssociationState {
    /// The word EC2 uses.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Associating => "associating",
            Self::Associated => "associated",
            Self::Disassociating => "disassociating",
            Self::Disassociated => "disassociated",
            Self::Unknown(word) => word,
        }
    }
}

impl From<&str> for AssociationState {
    fn from(word: &str) -> Self {
        match word {
            "associating" => Self::Associating,
            "associated" => Self::Associated,
            "disassociating" => Self::Disassociating,
            "disassociated" => Self::Disassociated,
            other => Self::Unknown(other.into()),
        }
    }
}

/// One association of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Association {
    /// Its id, the optimistic lock of Replace and Disassociate.
    pub id: AssociationId,
    /// The profile that it attaches.
    pub profile: ProfileArn,
    /// The unique id of that profile.
    pub profile_id: Option<ProfileId>,
    /// Its state.
    pub state: AssociationState,
    /// When this process first saw it in this state.
    pub since: Timestamp,
}

/// All associations of one instance, sorted by what they mean together. EC2 promises no order, and lists two
/// rows while a Replace is under way (`aws-semantics` 1.2, 1.3), so there is no "first row" to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rows {
    /// None.
    Bare,
    /// One that is associating or associated.
    One(Association),
    /// A Replace under way.
    Replacing {
        /// The old one, disassociating. Boxed, since there is one for moments only.
        leaving: Box<Association>,
        /// The new one, associating or associated.
        arriving: Association,
    },
    /// Only one that is disassociating.
    Leaving(Association),
    /// A state of things that this version does not know: two live rows, or an unknown word.
    Unclear,
}

impl Rows {
    /// Sorts the rows of one instance; their order does not matter.
    pub fn of(rows: impl IntoIterator<Item = Association>) -> Self {
        let (mut live, mut leaving) = (Vec::new(), Vec::new());
        for row in rows {
            match row.state {
                AssociationState::Associating | AssociationState::Associated => live.push(row),
                AssociationState::Disassociating => leaving.push(row),
                AssociationState::Disassociated => {}
                AssociationState::Unknown(_) => return Self::Unclear,
            }
        }
        leaving.sort_by(|a, b| a.id.cmp(&b.id));
        match (live.pop(), live.is_empty(), leaving.pop()) {
            (None, _, None) => Self::Bare,
            (None, _, Some(leaving)) => Self::Leaving(leaving),
            (Some(one), true, None) => Self::One(one),
            (Some(arriving), true, Some(leaving)) => Self::Replacing { leaving: Box::new(leaving), arriving },
            (Some(_), false, _) => Self::Unclear,
        }
    }

    /// The association that the instance's workload lives by, if there is one.
    pub fn live(&self) -> Option<&Association> {
        match self {
            Self::One(row) | Self::Replacing { arriving: row, .. } => Some(row),
            Self::Bare | Self::Leaving(_) | Self::Unclear => None,
        }
    }

    /// The association to show to people: the live one, else the leaving one.
    pub fn shown(&self) -> Option<&Association> {
        match self {
            Self::Leaving(row) => Some(row),
            Self::Bare | Self::One(_) | Self::Replacing { .. } | Self::Unclear => self.live(),
        }
    }
}

/// How much may rest on a view. Writes may rest on any, since EC2 guards each of them; conclusions may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grade {
    /// From the shared listing, where a missing row proves nothing.
    Listing,
    /// Looked up by instance id, but so soon after a write that it may show the past.
    Unsettled,
    /// Looked up by instance id after everything settled, or proved by EC2's reply to our own write.
    Settled,
}

/// The associations of one instance, and how much may rest on them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The rows.
    pub rows: Rows,
    /// How much may rest on them.
    pub grade: Grade,
    /// When the look began.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
}

/// An instance's state (EC2 `InstanceStateName`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstanceState {
    /// Starting.
    Pending,
    /// Running.
    Running,
    /// Stopping.
    Stopping,
    /// Stopped.
    Stopped,
    /// Being terminated.
    ShuttingDown,
    /// Terminated.
    Terminated,
    /// A value this version does not know.
    Unknown(String),
}

impl From<&str> for InstanceState {
    fn from(word: &str) -> Self {
        match word {
            "pending" => Self::Pending,
            "running" => Self::Running,
            "stopping" => Self::Stopping,
            "stopped" => Self::Stopped,
            "shutting-down" => Self::ShuttingDown,
            "terminated" => Self::Terminated,
            other => Self::Unknown(other.into()),
        }
    }
}

impl fmt::Display for InstanceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::ShuttingDown => "shutting-down",
            Self::Terminated => "terminated",
            Self::Unknown(word) => word,
        })
    }
}

/// An instance's tags, sorted by key. A fleet has few keys, so they are kept once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tags(Arc<[(ArcIntern<str>, Box<str>)]>);

impl Tags {
    /// Whether there is a tag with exactly this value.
    pub fn has(&self, key: &str, value: &str) -> bool {
        self.0.iter().any(|(known, carried)| **known == *key && **carried == *value)
    }

    /// The value of a tag.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| **known == *key).map(|(_, value)| &**value)
    }

    /// The keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(key, _)| &**key)
    }
}

impl<K: AsRef<str>, V: Into<Box<str>>> FromIterator<(K, V)> for Tags {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(tags: I) -> Self {
        let tags = tags.into_iter().map(|(key, value)| (ArcIntern::from(key.as_ref()), value.into()));
        let sorted: BTreeMap<ArcIntern<str>, Box<str>> = tags.collect();
        Self(sorted.into_iter().collect())
    }
}

/// What a look at the instance itself showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instance {
    /// EC2 lists no such instance.
    Absent,
    /// EC2 can never have such an instance: it calls the id malformed (ids carry a check, `aws-semantics` 1.1).
    Impossible,
    /// It is there.
    Present {
        /// Its state.
        state: InstanceState,
        /// Whether an AWS service manages it (`Operator.Managed`), so that nobody may change its profile.
        managed: bool,
        /// Its tags.
        tags: Tags,
    },
}

/// All that is known of one instance at the moment of a decision.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// Its associations; absent before the first look.
    pub view: Option<View>,
    /// The instance itself; absent unless looked at within the last five seconds.
    pub instance: Option<Instance>,
    /// The instance as it was last looked at, however long ago: enough to tell by, never to write by.
    pub seen: Option<Instance>,
}
