//! Tests of the decision.
//!
//! [`fixtures`] builds worlds that read as prose; `table` tells the stories of the table in `decide/mod.rs`,
//! `release` those of a deletion, `trouble` those of failures, `restraint` those of repairs that wait, `grants` those of who was given what; `properties` holds
//! for any world at all, and follows the steps through a small model of EC2. [`law`] holds the grants of a story, and
//! a second reading of them to check the first by.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a panic is how a test fails

mod any_law;
mod fixtures;
mod grants;
mod law;
mod model;
mod properties;
mod release;
mod restraint;
mod table;
mod trouble;
