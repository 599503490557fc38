//! Kubeconfig files.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;
use serde_json::{Value, json};

use super::launch::Launch;

/// One user at one server.
#[derive(Debug)]
pub(super) struct Kubeconfig(Value);

impl Kubeconfig {
    pub(super) fn admin(launch: &Launch) -> Self {
        Self::with_token(launch, "admin", launch.admin_token())
    }

    pub(super) fn with_token(launch: &Launch, user: &str, token: &str) -> Self {
        Self(json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "world",
            "contexts": [{"name": "world", "context": {"cluster": "world", "user": user}}],
            "clusters": [{"name": "world", "cluster": {
                "server": launch.server(),
                "certificate-authority": launch.certificates.authority,
            }}],
            "users": [{"name": user, "user": {"token": token}}],
        }))
    }

    pub(super) fn write(&self, file: &Path) -> Result<PathBuf> {
        // Renamed into place: a controller of another test may be reading the one of the same name.
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let fresh = file.with_extension(NEXT.fetch_add(1, Ordering::Relaxed).to_string());
        std::fs::write(&fresh, serde_yaml::to_string(&self.0)?)?;
        std::fs::set_permissions(&fresh, Permissions::from_mode(0o600))?; // helm warns of anything wider
        std::fs::rename(&fresh, file)?;
        Ok(file.to_owned())
    }
}
