//! What the controller tells the people who run it: logs, metrics, health.
//!
//! Nothing here decides anything, and nothing here knows a binding, an EC2 type or a Kubernetes type:
//! the other rooms call in with words and numbers. The rules of the house:
//! - [`logs`]: one subscriber, set up once; JSON for machines, text for people; always on stderr, because
//!   stdout belongs to the commands that print something (`plan`, `export`, `crds`).
//! - [`metrics`]: every metric of the program is declared in that one file; [`labels`] holds the closed sets
//!   of words its labels may carry, so that no instance id, object name or foreign text becomes a series.
//! - [`traces`]: spans by OTLP, if the standard variables ask for them.
//! - [`http`]: `/metrics` on one port; `/livez`, `/healthz` and `/readyz` on another. [`readiness`] is what
//!   `/readyz` tells: named checks that are awaited until they are met.
//!
//! Start reading at [`metrics::Metrics`].

mod declare;
pub mod http;
pub mod labels;
pub mod logs;
pub mod metrics;
pub mod readiness;
pub mod traces;

pub use http::{ListenError, Serving, serve_health, serve_metrics};
pub use labels::{DriftCause, MutationResult, ReconcileResult};
pub use logs::{LogError, LogFormat};
pub use metrics::{BindingCount, BuildInfo, Metrics, ReconcileTimer, Workqueue};
pub use readiness::{Check, Readiness};
pub use traces::Traces;
