//! `plan` of ten thousand manifests without a cluster: all as declared but ten.

use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Result, ensure};
use serde_json::json;
use world::{Sandbox, Scratch, binary};

use super::table::{Goal, Table};

const MANIFESTS: usize = 10_000;
const DUE: usize = 10;

pub(crate) fn measure(table: &mut Table) -> Result<()> {
    println!("a plan of {MANIFESTS} manifests");
    let (folder, sandbox) = (Scratch::new("plan")?, Sandbox::start()?);
    sandbox.profile("bench")?;
    let mut ids = sandbox.add_instances(&json!({"count": MANIFESTS - DUE, "profile": "bench"}))?;
    ids.extend(sandbox.add_instances(&json!({"count": DUE}))?);
    let mut text = String::new();
    for id in &ids {
        writeln!(
            text,
            "---\napiVersion: instancerole.dev/v1alpha1\nkind: InstanceRoleBinding\nmetadata: {{name: {id}, namespace: team-a}}\n\
             spec: {{instanceId: {id}, instanceProfile: {{name: bench}}}}"
        )?;
    }
    let file = folder.join("fleet.yaml");
    std::fs::write(&file, text)?;
    let mut command = Command::new(binary("instance-role-controller", "INSTANCE_ROLE_CONTROLLER_BIN")?);
    sandbox.aws_env().apply_to(&mut command).args(["plan", "-o", "json", "-f"]).arg(&file);
    let (since, began) = (sandbox.last_call()?, Instant::now());
    let output = command.stderr(Stdio::null()).output()?;
    let seconds = began.elapsed().as_secs_f64();
    ensure!(output.status.code() == Some(2), "plan ended with {}", output.status);
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout)?;
    let due = rows.iter().filter(|row| row["operation"] == "AssociateIamInstanceProfile").count();
    ensure!(rows.len() == MANIFESTS && due == DUE, "{} rows, {due} of them due", rows.len());
    let calls = sandbox.calls_since(since)?;
    let listed = calls.iter().filter(|call| call.action == "DescribeIamInstanceProfileAssociations").count();
    table.add("plan of 10 000 manifests", seconds, "s", Goal::None);
    table.add("  listings of associations", listed as f64, "calls", Goal::AtMost(10.0));
    table.add("  other AWS calls", (calls.len() - listed) as f64, "calls", Goal::None);
    Ok(())
}
