//! instance-role-controller keeps the IAM instance profile of EC2 instances at a declared state.
//!
//! The way of one change leads through the rooms: [`api`] says what is wanted, [`ec2`] what is there,
//! [`decide`] what to do, and [`controller`] does and tells it. `ARCHITECTURE.md` has the whole on two pages.

pub mod api;
pub mod cli;
pub mod controller;
pub mod decide;
pub mod ec2;
pub mod ids;
pub mod lease;
pub mod manifest;
#[cfg(test)]
mod pages;
#[cfg(test)]
mod rooms;
pub mod telemetry;
