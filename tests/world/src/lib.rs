//! The world the tests, the demo and the benchmarks run in.
//!
//! - [`ControlPlane`]: the real etcd and kube-apiserver, and `kubectl` to talk to them.
//! - [`Sandbox`]: an EC2 that can be told what to be ([`Moto`]: one that nobody here wrote).
//! - [`Controller`]: the program under test, as its own service account.
//! - [`Tap`]: the wire between the controller and both servers, on which a request can be held.
//! - [`World`]: all of them together; [`Scenario`]: one test's corner of it. One wide grant covers the scenarios; a
//!   [`World::stranger`] has only what a test grants it.
//!
//! Whatever is started here ends with the process that started it, even if that is killed (`guard`).
//! Log files lie in a temporary folder, which is kept when a test fails, and always with `WORLD_KEEP=1`.

mod aws;
mod control_plane;
mod controller;
mod eventually;
mod grants;
mod guard;
mod health;
mod http;
mod moto;
mod places;
mod ports;
mod process;
mod sandbox;
mod scenario;
mod scratch;
mod seen;
mod storm;
mod tap;
mod together;

pub use aws::{ACCOUNT, AwsCli, AwsEnv, REGION};
pub use control_plane::{Api, ApiCall, ControlPlane, Kubectl};
pub use controller::{Controller, ControllerCommand};
pub use eventually::{eventually, eventually_ok};
pub use grants::{EVERYTHING, GRANTED, OTHER_REGION};
pub use health::judge;
pub use moto::Moto;
pub use places::{binary, repository, tool, venv_program};
pub use process::Process;
pub use sandbox::{Call, Sandbox};
pub use scenario::{Scenario, condition};
pub use scratch::Scratch;
pub use storm::Storm;
pub use tap::{Point, Tap, When};
pub use together::{Grants, World, WorldOptions};
