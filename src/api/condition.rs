//! Conditions by `metav1.Condition`: the seven types of ours, and how a list of them is brought up to date.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The condition types of an `InstanceRoleBinding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConditionType {
    /// The association equals spec, is associated and authorised. Always there.
    Ready,
    /// Work is under way (kstatus InProgress). Only while True.
    Reconciling,
    /// A person is needed, or a long wait (kstatus Failed). Only while True.
    Stalled,
    /// The last read of AWS equals spec. Always there.
    Synced,
    /// A grant covers the binding. Always there.
    Authorized,
    /// Another writer keeps changing the instance. Only while True.
    Contended,
    /// Suspended by spec. Only while True.
    Suspended,
}

impl ConditionType {
    /// All of them, in the order in which they are listed.
    pub const ALL: [Self; 7] = [
        Self::Ready,
        Self::Reconciling,
        Self::Stalled,
        Self::Synced,
        Self::Authorized,
        Self::Contended,
        Self::Suspended,
    ];

    /// The text in `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
            Self::Synced => "Synced",
            Self::Authorized => "Authorized",
            Self::Contended => "Contended",
            Self::Suspended => "Suspended",
        }
    }
}

/// A condition's `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    /// `True`
    True,
    /// `False`
    False,
    /// `Unknown`
    Unknown,
}

impl Truth {
    /// The text in `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// The condition of this type in a list, if it is there.
pub fn find(conditions: &[Condition], type_: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|c| c.type_ == type_.as_str())
}

/// Whether the condition of this type is there and `True`.
pub fn is_true(conditions: &[Condition], type_: ConditionType) -> bool {
    find(conditions, type_).is_some_and(|c| c.status == Truth::True.as_str())
}

/// A condition that keeps the old transition time where its status has not changed.
pub fn condition(
    old: &[Condition],
    type_: ConditionType,
    truth: Truth,
    (reason, message): (&str, String),
    generation: Option<i64>,
    now: &Time,
) -> Condition {
    let since =
        find(old, type_).filter(|c| c.status == truth.as_str()).map(|c| c.last_transition_time.clone());
    Condition {
        type_: type_.as_str().into(),
        status: truth.as_str().into(),
        reason: reason.into(),
        message,
        observed_generation: generation,
        last_transition_time: since.unwrap_or_else(|| now.clone()),
    }
}
