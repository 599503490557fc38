//! A temporary folder for log files, keys and databases.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::guard;

/// A temporary folder. It goes when this is dropped or the process ends, and stays, with its path printed, when
/// the test panics or `WORLD_KEEP` is set.
#[derive(Debug)]
pub struct Scratch {
    dir: Option<TempDir>,
    path: PathBuf,
}

impl Scratch {
    /// A new folder; `what` becomes part of its name.
    ///
    /// # Errors
    /// The folder for temporary files cannot be written.
    pub fn new(what: &str) -> Result<Self> {
        guard::stand_by()?;
        let dir = tempfile::Builder::new()
            .prefix(&format!("world-{what}-"))
            .tempdir()
            .context("cannot make a temporary folder; is TMPDIR writable?")?;
        let path = dir.path().to_owned();
        if !kept_always() {
            guard::remove(&path);
        }
        Ok(Self { dir: Some(dir), path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file or folder in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

fn kept_always() -> bool {
    std::env::var_os("WORLD_KEEP").is_some_and(|value| !value.is_empty() && value != "0")
}

impl Drop for Scratch {
    fn drop(&mut self) {
        guard::keep(&self.path);
        if std::thread::panicking() || kept_always() {
            eprintln!("kept for you to look at: {}", self.path.display());
            drop(self.dir.take().map(TempDir::keep));
        }
    }
}
