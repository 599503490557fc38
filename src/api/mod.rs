//! The custom resources: what users write, what the controller answers, and what the API server refuses.
//!
//! Types here are the schema: `crds/` is printed from them (`instance-role-controller crds`) and compared in
//! the tests. Every doc comment on a field is what `kubectl explain` shows. Nothing in this room does I/O,
//! and nothing decides: `src/decide` does. Start with [`binding`].

pub mod binding;
pub mod condition;
mod crd;
pub mod grant;

pub use binding::{InstanceRoleBinding, InstanceRoleBindingSpec, InstanceRoleBindingStatus};
pub use crd::crds;
pub use grant::InstanceRoleGrant;

/// The API group of both resources.
pub const GROUP: &str = "instancerole.dev";
/// The served and stored version of both resources.
pub const VERSION: &str = "v1alpha1";
/// The finalizer of a binding whose deletion has work to do at EC2.
pub const FINALIZER: &str = "instancerole.dev/association";
/// A new value of this annotation asks for one fresh look at once and ends every back-off.
pub const REQUESTED_AT: &str = "instancerole.dev/requestedAt";
/// `"true"` on a binding in deletion drops its finalizer without a call to EC2.
pub const FORCE_RELEASE: &str = "instancerole.dev/force-release";
/// On a grant: the ids of holds on repairs, separated by commas, that an administrator lets go on.
pub const APPROVE_CHANGES: &str = "instancerole.dev/approve-changes";
