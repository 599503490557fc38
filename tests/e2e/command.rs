//! The program as a person types it: `plan`, `export`.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use world::{AwsEnv, Sandbox, binary};

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) told: String,
}

impl Ran {
    /// The plan, printed with `-o json`, after it ended as expected.
    pub(crate) fn rows(&self, code: i32) -> Result<Vec<Value>> {
        ensure!(self.code == code, "exit code {} instead of {code}: {self:#?}", self.code);
        serde_json::from_str(&self.out).with_context(|| format!("{self:#?}"))
    }

    /// What was printed, after it ended as expected.
    pub(crate) fn printed(&self, code: i32) -> Result<&str> {
        ensure!(self.code == code, "exit code {} instead of {code}: {self:#?}", self.code);
        Ok(&self.out)
    }
}

/// The program with this environment.
pub(crate) fn program(aws: &AwsEnv) -> Result<Command> {
    let mut command = Command::new(binary("instance-role-controller", "INSTANCE_ROLE_CONTROLLER_BIN")?);
    aws.apply_to(&mut command);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("INSTANCE_ROLE_") || text.starts_with("KUBE") || text == "NO_COLOR" {
            command.env_remove(&name);
        }
    }
    // A plan of files that asked a cluster would fail here.
    command.env("KUBECONFIG", "/nowhere/kubeconfig");
    Ok(command)
}

/// Runs it with a text on its standard input.
pub(crate) fn run(command: &mut Command, args: &[&str], stdin: &str) -> Result<Ran> {
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("the program cannot be started")?;
    let mut pipe = child.stdin.take().context("no standard input")?;
    let text = stdin.to_owned();
    // Whoever does not read it ends the pipe.
    let writer = thread::spawn(move || drop(pipe.write_all(text.as_bytes())));
    let output = child.wait_with_output()?;
    writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))?;
    Ok(Ran {
        code: output.status.code().context("a signal ended it")?,
        out: String::from_utf8(output.stdout)?,
        told: String::from_utf8(output.stderr)?,
    })
}

/// `plan -f - -o json` of these manifests.
pub(crate) fn plan(sandbox: &Sandbox, manifests: &str) -> Result<Ran> {
    run(&mut program(&sandbox.aws_env())?, &["plan", "-f", "-", "-o", "json"], manifests)
}

/// A manifest of a binding in namespace `team-a`; `profile` as YAML writes it in a line.
pub(crate) fn manifest(name: &str, instance: &str, profile: &str) -> String {
    format!(
        "---\napiVersion: instancerole.dev/v1alpha1\nkind: InstanceRoleBinding\nmetadata: {{name: {name}, namespace: team-a}}\n\
         spec:\n  instanceId: {instance}\n  instanceProfile: {profile}\n"
    )
}

/// What matters of rows: name, operation, reason.
pub(crate) fn said(rows: &[Value]) -> Vec<[&str; 3]> {
    rows.iter()
        .map(|row| ["name", "operation", "reason"].map(|field| row[field].as_str().unwrap_or("-")))
        .collect()
}
