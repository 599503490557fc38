//! What the tools say that wait for bindings: the engines themselves, as `tests/tools/health` has them.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::places::{repository, tool};

/// What the engines say of each binding, in the same order: `kstatus`, `flux` (by the expressions of `deploy/flux`), `argo` (by the
/// script of `deploy/argocd`), `argoMessage`.
///
/// # Errors
/// They are not built (`make tools`), or cannot make sense of an object; their words are told.
pub fn judge(bindings: &[&Value]) -> Result<Vec<Value>> {
    let mut child = Command::new(tool("health")?)
        .arg("--lua")
        .arg(repository().join("deploy/argocd/health.lua"))
        .arg("--flux")
        .arg(repository().join("deploy/flux/kustomization.yaml"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let lines: String = bindings.iter().map(|binding| format!("{binding}\n")).collect();
    let mut pipe = child.stdin.take().context("no standard input")?;
    let writer = std::thread::spawn(move || pipe.write_all(lines.as_bytes()));
    let output = child.wait_with_output()?;
    drop(writer.join()); // if it ended early, its words tell why
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answers: Result<Vec<Value>, _> =
        serde_json::Deserializer::from_slice(&output.stdout).into_iter().collect();
    let answers = answers?;
    ensure!(answers.len() == bindings.len(), "{} answers to {} objects", answers.len(), bindings.len());
    Ok(answers)
}
