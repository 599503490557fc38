//! The same work by what people use instead: a loop over the `aws` CLI, and one over boto3.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use world::{World, eventually, repository, venv_program};

use super::crowd::make;
use super::table::{Goal, Table};

/// Instances to be changed; few enough that EC2's limits hold nobody up.
const INSTANCES: usize = 40;

pub(crate) fn measure(world: &World, table: &mut Table) -> Result<()> {
    println!("{INSTANCES} attachments, by the controller, boto3 and the aws CLI in turn");
    let sandbox = world.sandbox();
    let arn = sandbox.profile("bench")?;
    let ours = {
        let instances = sandbox.add_instances(&json!({"count": INSTANCES, "state": "running"}))?;
        let (since, began) = (sandbox.last_call()?, Instant::now());
        let corner = world.scenario("peers")?;
        make(&corner, "peer", &instances, &json!({"instanceProfile": {"arn": arn}}))?;
        eventually("all are attached", Duration::from_secs(120), || {
            let done = sandbox.calls_since(since).ok()?;
            (done.iter().filter(|call| call.is_write() && call.result == "ok").count() >= INSTANCES)
                .then_some(())
        })?;
        (began.elapsed().as_secs_f64(), sandbox.calls_since(since)?.len() as f64)
    };
    table.add(format!("{INSTANCES} attachments by the controller"), ours.0, "s", Goal::None);
    table.add("  AWS calls", ours.1, "calls", Goal::None);
    for peer in ["boto3", "aws-cli"] {
        let instances = sandbox.add_instances(&json!({"count": INSTANCES, "state": "running"}))?;
        let (since, began) = (sandbox.last_call()?, Instant::now());
        let mut run = Command::new(venv_program("python3")?);
        run.arg(repository().join("tests/world/peers/loop.py")).args([peer, "change", &arn]).args(&instances);
        let env = sandbox.aws_env();
        ensure!(env.apply_to(&mut run).status()?.success(), "the loop over {peer} failed");
        let theirs = (began.elapsed().as_secs_f64(), sandbox.calls_since(since)?.len() as f64);
        table.add(
            format!("time of a loop over {peer}, times the controller's"),
            theirs.0 / ours.0,
            "×",
            Goal::None,
        );
        table.add(
            format!("calls of a loop over {peer}, times the controller's"),
            theirs.1 / ours.1,
            "×",
            Goal::None,
        );
    }
    Ok(())
}
