//! Where the things lie that are run here. `make build`, `make control-plane` and `make venv` put them there.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The repository's root.
pub fn repository() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// A program of this workspace: the one that the environment variable `by_env` names, else the one that was built
/// together with the running test or program.
///
/// # Errors
/// It has not been built.
pub fn binary(name: &str, by_env: &str) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(by_env) {
        let path = PathBuf::from(path);
        ensure!(path.is_file(), "{by_env} is set to {}, and there is no such file", path.display());
        return Ok(path);
    }
    let me = std::env::current_exe().context("cannot tell where this program lies")?;
    // target/debug/demo, or target/debug/deps/some-test-0123456789abcdef
    let profile = me
        .ancestors()
        .skip(1)
        .find(|dir| dir.file_name().is_some_and(|name| name != "deps" && name != "examples"))
        .context("this program lies in no folder")?;
    let path = profile.join(name);
    ensure!(path.is_file(), "{} is not there: run `make build`, or set {by_env}", path.display());
    Ok(path)
}

/// The folder with etcd, kube-apiserver and kubectl: `KUBEBUILDER_ASSETS`, else what `make control-plane` built.
pub(crate) fn control_plane_programs() -> Result<PathBuf> {
    let dir = match std::env::var_os("KUBEBUILDER_ASSETS") {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir),
        _ => repository().join("target/control-plane/bin"),
    };
    for program in ["etcd", "kube-apiserver", "kubectl"] {
        ensure!(
            dir.join(program).is_file(),
            "there is no {program} in {}: run `make control-plane` (3 to 5 minutes, once)",
            dir.display()
        );
    }
    Ok(dir)
}

/// A program of the Python environment: `aws`, `moto_server`, `python3`, `pytest`.
///
/// # Errors
/// The environment has not been made.
pub fn venv_program(name: &str) -> Result<PathBuf> {
    let path = repository().join("target/venv/bin").join(name);
    ensure!(path.is_file(), "there is no {}: run `make venv`", path.display());
    Ok(path)
}

/// A program that `make tools` built: `helm`, `promtool`, `health`.
///
/// # Errors
/// It has not been built.
pub fn tool(name: &str) -> Result<PathBuf> {
    let path = repository().join("target/tools/bin").join(name);
    ensure!(path.is_file(), "there is no {}: run `make tools` (3 minutes, once)", path.display());
    Ok(path)
}
