//! An instance.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::association::{Association, AssociationState, ProfileRef};
use super::guest::Carried;
use crate::time::{History, Millis};

/// Tags of an instance.
pub type Tags = BTreeMap<String, String>;

/// States of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum InstanceState {
    /// Being started.
    Pending,
    /// Up.
    Running,
    /// Being terminated.
    ShuttingDown,
    /// Gone for ever, still listed for a while.
    Terminated,
    /// Being stopped.
    Stopping,
    /// Down, can be started.
    Stopped,
}

impl InstanceState {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Running, Self::ShuttingDown, Self::Terminated, Self::Stopping, Self::Stopped];

    /// The name EC2 gives it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::ShuttingDown => "shutting-down",
            Self::Terminated => "terminated",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        }
    }

    /// The code EC2 gives it.
    pub fn code(self) -> u16 {
        match self {
            Self::Pending => 0,
            Self::Running => 16,
            Self::ShuttingDown => 32,
            Self::Terminated => 48,
            Self::Stopping => 64,
            Self::Stopped => 80,
        }
    }

    /// The state of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// What an instance was launched as; shared by all of one launch.
#[derive(Debug)]
pub struct Launch {
    /// The image.
    pub image_id: String,
    /// The type.
    pub instance_type: String,
    /// The reservation all of one launch share; empty for what was seeded.
    pub reservation: String,
    /// When.
    pub at: Millis,
    /// An instance EC2 manages for EKS Auto Mode and the like (aws-semantics 1.6).
    pub managed: bool,
}

/// An instance, its past and what is already certain of its future.
#[derive(Debug)]
pub struct Instance {
    pub id: Arc<str>,
    pub serial: u64,
    pub launch: Arc<Launch>,
    pub states: History<InstanceState>,
    pub tags: History<Arc<Tags>>,
    pub rows: Vec<Association>,
    pub guest: History<Carried>,
}

impl Instance {
    /// The state at `at`; `None` before the launch.
    pub fn state(&self, at: Millis) -> Option<InstanceState> {
        self.states.at(at).copied()
    }

    /// Whether EC2 still or already knows the instance at `at`.
    pub fn is_listed(&self, at: Millis, tombstone: Millis) -> bool {
        match (self.states.at(at), self.states.last()) {
            (None, _) => false,
            (Some(InstanceState::Terminated), Some((since, _))) => at < since.saturating_add(tombstone),
            (Some(_), _) => true,
        }
    }

    /// The one association at `at` that is neither leaving nor gone.
    pub fn active(&self, at: Millis) -> Option<&Association> {
        self.rows.iter().rev().find(|row| {
            matches!(row.state(at), Some(AssociationState::Associating | AssociationState::Associated))
        })
    }

    /// The profile `DescribeInstances` shows at `at`.
    pub fn shown_profile(&self, at: Millis) -> Option<&Arc<ProfileRef>> {
        self.rows.iter().rev().find(|row| row.is_shown(at)).map(|row| &row.profile)
    }

    pub fn row(&self, association: &str) -> Option<&Association> {
        self.rows.iter().find(|row| &*row.id == association)
    }

    pub fn row_mut(&mut self, association: &str) -> Option<&mut Association> {
        self.rows.iter_mut().find(|row| &*row.id == association)
    }

    pub fn tags(&self, at: Millis) -> Option<&Arc<Tags>> {
        self.tags.at(at)
    }
}
