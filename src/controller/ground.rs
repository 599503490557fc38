//! What decisions are made from, and no more: nothing in it writes to Kubernetes. The controller decides by it, and so does `plan`.

use std::sync::Arc;

use super::bindings::Bindings;
use super::context::Settings;
use super::entitle::Rooms;
use super::grants::Grants;
use super::memory::Memory;
use crate::ec2::Cloud;
use crate::ids::InstanceId;

/// What decisions are made from.
#[derive(Debug)]
pub struct Ground {
    pub settings: Settings,
    pub bindings: Arc<Bindings>,
    pub grants: Grants,
    pub rooms: Rooms,
    /// The instance that the controller runs on, where it is known.
    pub own_instance: Option<InstanceId>,
    pub cloud: Cloud,
    pub memory: Memory,
}

impl Ground {
    pub fn new(
        settings: Settings,
        bindings: Arc<Bindings>,
        own_instance: Option<InstanceId>,
        cloud: Cloud,
    ) -> Self {
        Self {
            settings,
            bindings,
            grants: Grants::default(),
            rooms: Rooms::default(),
            own_instance,
            cloud,
            memory: Memory::default(),
        }
    }
}
