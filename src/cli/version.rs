//! `version`.

use crate::api;
use crate::telemetry::BuildInfo;

/// The program's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What this build is.
pub const BUILD: BuildInfo = BuildInfo {
    version: VERSION,
    commit: match option_env!("INSTANCE_ROLE_COMMIT") {
        Some(commit) => commit,
        None => "unknown",
    },
};

/// The Kubernetes version whose API types are compiled in, as Cargo.toml selects them.
const KUBERNETES: &str = "1.36";

/// Prints it.
pub fn version() -> anyhow::Result<()> {
    println!("instance-role-controller {VERSION}");
    println!("commit {}", BUILD.commit);
    println!("kubernetes {KUBERNETES}");
    println!("crds {}/{}", api::GROUP, api::VERSION);
    Ok(())
}
