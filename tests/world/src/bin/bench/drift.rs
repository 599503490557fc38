//! What somebody else changes: how soon it is mended, and what an edit waits for meanwhile.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use world::World;

use super::RESYNC;
use super::crowd::{first_write, now_ms};
use super::table::{Goal, Table, quantile};

/// Instances that drift one after the other.
const LONE_DRIFTS: usize = 40;
/// Instances that drift at once.
const MANY: usize = 5_000;
/// Edits made while those are mended.
const EDITS: usize = 30;

/// From a change by somebody else to the write that mends it.
pub(crate) fn lone(world: &World, table: &mut Table, instances: &[String]) -> Result<()> {
    println!("{LONE_DRIFTS} instances drift, one after the other");
    let sandbox = world.sandbox();
    let other = sandbox.profile("bench-other")?;
    let (mut drifted, since) = (Vec::new(), sandbox.last_call()?);
    for instance in instances.iter().take(LONE_DRIFTS) {
        drifted.push((instance, now_ms()?));
        sandbox.drift(instance, Some(&other))?;
        std::thread::sleep(Duration::from_millis(230));
    }
    let mut seconds = Vec::new();
    for (instance, at) in drifted {
        seconds.push((first_write(world, since, instance, RESYNC * 10)? - at) / 1000.0);
    }
    let goal = Goal::AtMost(RESYNC.as_secs_f64() + 5.0);
    table.add(
        format!("drift → repaired, p99, passes each {} s", RESYNC.as_secs()),
        quantile(&mut seconds, 0.99),
        "s",
        goal,
    );
    Ok(())
}

/// Edits while five thousand repairs wait for their turn.
pub(crate) fn edits_among_many(world: &World, table: &mut Table, instances: &[String]) -> Result<()> {
    println!("{MANY} instances drift at once, and {EDITS} bindings are edited meanwhile");
    let sandbox = world.sandbox();
    let (bench, other) = (sandbox.profile("bench")?, sandbox.profile("bench-other")?);
    sandbox.profile("bench-edit")?;
    let corner = world.scenario("edits")?;
    let edited = sandbox.add_instances(&json!({"count": EDITS, "state": "running", "profile": bench}))?;
    for (i, instance) in edited.iter().enumerate() {
        corner.bind(&format!("edit-{i}"), instance, &json!({"name": "bench"}))?;
    }
    for i in 0..EDITS {
        corner.wait_until_ready(&format!("edit-{i}"))?;
    }
    let drifting = instances.get(LONE_DRIFTS..LONE_DRIFTS + MANY).context("too few instances")?;
    let change = |profile: &str| {
        sandbox.patch(
            "instances",
            &json!({"region": world::REGION, "instanceIds": drifting, "profile": profile}),
        )
    };
    change(&other)?;
    // The burst is used up, and the repairs wait.
    std::thread::sleep(RESYNC * 3 + Duration::from_secs(10));
    let mut seconds = Vec::new();
    for (i, instance) in edited.iter().enumerate() {
        let (at, since) = (now_ms()?, sandbox.last_call()?);
        let path = corner.path(&format!("edit-{i}"));
        let profile = json!({"name": "bench-edit"});
        world.control_plane().api().merge(&path, &json!({"spec": {"instanceProfile": profile}}))?;
        seconds.push((first_write(world, since, instance, Duration::from_secs(60))? - at) / 1000.0);
        std::thread::sleep(Duration::from_millis(700));
    }
    // Repairs take a quarter of the tokens at least, so the next free one comes within two fifths of a second.
    table.add(
        format!("an edit among {MANY} repairs: apply → write, p99, less 0.4 s for a token"),
        quantile(&mut seconds, 0.99) - 0.4,
        "s",
        Goal::AtMost(1.0),
    );
    change(&bench)?;
    Ok(())
}
