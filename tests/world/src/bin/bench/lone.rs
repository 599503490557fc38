//! One change at a time on an idle controller.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use world::{Scenario, World};

use super::crowd::now_ms;
use super::table::{Goal, Table, quantile};

/// New bindings whose way to EC2 is timed, one after the other.
pub(crate) const LONE_CHANGES: usize = 60;

/// From sending a new binding to the API server to EC2 receiving the write for it. Returns how many bindings it made.
pub(crate) fn measure(world: &World, table: &mut Table, among: &str) -> Result<usize> {
    println!("timing {LONE_CHANGES} lone changes, {among}");
    let sandbox = world.sandbox();
    let corner = world.scenario("lone")?;
    sandbox.profile("bench")?;
    // What is asked of IAM once a minute, and the first of everything, is not what is timed.
    let warm = sandbox.instance("running", None)?;
    corner.bind("warm", &warm, &json!({"name": "bench"}))?;
    corner.wait_until_ready("warm")?;
    let (mut millis, mut calls) = (Vec::new(), Vec::new());
    for i in 0..LONE_CHANGES {
        let (waited, asked) = one(&corner, &format!("lone-{i}"))?;
        millis.push(waited);
        calls.push(asked);
    }
    table.add(
        format!("apply → first EC2 write, idle, p50, {among}"),
        quantile(&mut millis, 0.5),
        "ms",
        Goal::None,
    );
    table.add(
        format!("apply → first EC2 write, idle, p99, {among}"),
        quantile(&mut millis, 0.99),
        "ms",
        Goal::AtMost(300.0),
    );
    table.add(
        format!("AWS calls of a lone change, {among}"),
        quantile(&mut calls, 0.5),
        "calls",
        Goal::AtMost(3.0),
    );
    Ok(LONE_CHANGES + 1)
}

/// Milliseconds and calls of one new binding until its write.
fn one(corner: &Scenario<'_>, binding: &str) -> Result<(f64, f64)> {
    let sandbox = corner.sandbox();
    let instance = sandbox.instance("running", None)?;
    let since = sandbox.last_call()?;
    let sent = now_ms()?;
    corner.bind(binding, &instance, &json!({"name": "bench"}))?;
    corner.wait_until(binding, "is attached", |object| {
        !object["status"]["observed"]["associationId"].is_null()
    })?;
    let journal = sandbox.get(&format!("journal?since={since}"))?;
    let entries = journal["entries"].as_array().context("a journal without entries")?;
    // A pass of all asks for this instance too: it is not this one's call.
    let of_instance = |entry: &&Value| {
        entry["params"].to_string().matches("i-").count() < 10
            && (entry["params"].to_string().contains(&instance) || entry["instance"] == instance.as_str())
    };
    let write = entries
        .iter()
        .filter(of_instance)
        .find(|entry| entry["action"] == "AssociateIamInstanceProfile")
        .context("no write")?;
    let at = write["startedMs"].as_f64().context("no startedMs")?;
    let before = entries.iter().filter(of_instance).filter(|entry| entry["startedMs"].as_f64() <= Some(at));
    Ok((at - sent, before.count() as f64))
}
