//! AWS as the controller sees it: the calls, what their errors mean, their budgets, and the shared views.
//!
//! This room knows instances, associations and profiles; it does not know bindings, and nothing of
//! Kubernetes. AWS SDK types do not leave it. Start with [`cloud`] (who we are and where), then
//! [`fleet`] (one look serves all), [`client`] (the calls) and [`error`] (the table of meanings).

mod again;
mod ambient;
mod assume;
pub mod budget;
pub mod catalogue;
pub mod client;
pub mod cloud;
pub(crate) mod entry;
pub mod error;
pub mod fleet;
mod found;
#[cfg(test)]
mod garbage;
mod gate;
mod gather;
mod listing;
pub mod survey;
#[cfg(test)]
mod tests;
pub mod turns;
mod whole;

/// The SDK's search for instance metadata as the log names it. Outside of EC2 there is none, which is no news.
pub const QUIET: &str = "aws_config::imds";

pub use again::again;
pub use catalogue::Catalogue;
pub use client::{Ec2, Reply};
pub use cloud::{Cloud, Connection};
pub use error::{Error, Meaning};
pub use fleet::Fleet;
