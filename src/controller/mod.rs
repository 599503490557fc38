//! Where Kubernetes and AWS meet: watch bindings, decide, write, tell.
//!
//! The way of one pass is in [`reconcile`]: gather what is known ([`gather`]), decide (`src/decide`), look or
//! act ([`act`]), tell ([`tell`]; [`report`], pure; [`kubernetes`], thin). Nothing that must survive a crash lives here:
//! [`memory`] holds only back-offs, which a restart may forget.

mod act;
mod bindings;
mod context;
mod events;
mod gather;
mod kubernetes;
mod memory;
mod reconcile;
mod report;
pub mod run;
mod tell;

pub use context::Settings;
pub use run::run;
