//! A strict, stateful stand-in for the EC2, IAM and STS calls that `instance-role-controller` makes, over the
//! real wire protocol: any AWS SDK, boto3 or the `aws` CLI can talk to it.
//!
//! [`Sandbox`] is the server. [`world::World`] is the state machine behind it, a plain value without sockets or
//! clocks, which models can be compared with step by step.

mod admin;
pub mod error;
mod fault;
mod journal;
pub mod policy;
mod server;
pub mod settings;
mod throttle;
pub mod time;
mod wire;
pub mod world;

pub use server::Sandbox;
