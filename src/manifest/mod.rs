//! Manifests in files: what they say, and everything that is wrong with them, with file, line and field.
//!
//! Nothing is asked of a cluster here. Text becomes nodes that know their lines ([`yaml`]), nodes are held against the CRDs' own
//! schema ([`schema`]) and rules ([`rules`]), and what passes becomes objects ([`read`]). Start with [`Manifests::read`].

pub mod read;
pub mod rules;
pub mod schema;
pub mod sources;
pub mod yaml;

pub use read::{Manifests, Problem, Source};
