//! Who leads: of several replicas one writes, by a Lease of the Kubernetes API server.
//!
//! [`protocol`] decides, without I/O and without a clock; [`elector`] carries its steps out. What the rest of the
//! program sees is a [`Fence`]: it is open while this process may begin a write, and closes by time alone, whatever
//! else hangs. [`clock`] is the time that all of it is measured by. `docs/adr/008-*` says why so.

pub mod clock;
pub mod elector;
pub mod fence;
pub mod protocol;
pub mod shard;

pub use clock::Clock;
pub use elector::{Elector, Seat};
pub use fence::{Closed, Fence};
pub use protocol::Terms;
