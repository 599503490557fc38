//! Where Kubernetes and AWS meet: watch bindings, decide, write, tell.
//!
//! The way of one pass is in [`reconcile`]: what the grants allow ([`entitle`]), gather what is known ([`gather`]),
//! decide (`src/decide`), look or act ([`act`], by a [`permit`]), tell ([`tell`]; [`report`], pure; [`kubernetes`], thin). Nothing that must survive a crash lives here:
//! [`memory`] holds only back-offs, which a restart may forget.

mod act;
mod bindings;
mod breaker;
mod confirm;
mod context;
mod election;
mod entitle;
mod events;
pub mod forecast;
mod gather;
mod grants;
mod ground;
mod guard;
#[cfg(test)]
mod hostile;
mod kept;
mod kubernetes;
mod leadership;
mod memory;
#[cfg(test)]
mod model;
mod outside;
mod passes;
mod permit;
mod readable;
mod reconcile;
mod report;
pub mod run;
mod slots;
mod tell;
mod teller;
mod trail;
mod watching;

pub use context::Settings;
pub use run::run;
