//! Many bindings at once: made, edited, counted.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};
use world::{Call, Controller, Scenario, World, eventually};

/// Clients of the API server that work side by side.
const HANDS: usize = 4;

/// Does something for each of these, by several hands.
pub(crate) fn by_many_hands<T: Sync>(all: &[T], each: impl Fn(usize, &T) -> Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let hands: Vec<_> = (0..HANDS)
            .map(|hand| {
                let each = &each;
                scope.spawn(move || -> Result<()> {
                    all.iter().enumerate().skip(hand).step_by(HANDS).try_for_each(|(i, one)| each(i, one))
                })
            })
            .collect();
        hands.into_iter().try_for_each(|hand| hand.join().map_err(|_| anyhow!("a hand panicked"))?)
    })
}

/// Makes a binding `prefix-i` for each instance.
pub(crate) fn make(corner: &Scenario<'_>, prefix: &str, instances: &[String], spec: &Value) -> Result<()> {
    let api = corner.world().control_plane().api();
    let list = corner.path("");
    by_many_hands(instances, |i, instance| {
        let mut spec = spec.clone();
        spec["instanceId"] = json!(instance);
        let object = json!({
            "apiVersion": "instancerole.dev/v1alpha1", "kind": "InstanceRoleBinding",
            "metadata": {"name": format!("{prefix}-{i}")}, "spec": spec,
        });
        api.create(list.trim_end_matches('/'), &object).map(drop)
    })
}

/// How many bindings the controller counts as Ready; none while it has not counted.
fn ready(controller: &Controller) -> f64 {
    controller.metric("instancerole_bindings", &["condition=\"Ready\"", "status=\"True\""]).unwrap_or(0.0)
}

/// Waits until so many bindings are Ready.
pub(crate) fn until_ready(world: &World, wanted: usize, within: Duration) -> Result<()> {
    let controller = world.controller()?;
    let began = Instant::now();
    eventually(&format!("{wanted} bindings are Ready"), within, || {
        (ready(controller) >= wanted as f64).then_some(())
    })
    .map_err(|error| anyhow!("{error:#}: {} are", ready(controller)))?;
    println!("  {wanted} Ready after {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}

/// When EC2 received the first write to an instance that succeeded among the calls after `since`, by its clock. Only the
/// newer calls are asked for, many times a second: the whole journal of a long run would keep a core busy.
pub(crate) fn first_write(world: &World, since: u64, instance: &str, within: Duration) -> Result<f64> {
    let sandbox = world.sandbox();
    let is_it =
        |call: &Call| call.is_write() && call.result == "ok" && call.instance.as_deref() == Some(instance);
    let write = eventually(&format!("{instance} is changed"), within, || {
        sandbox.calls_since(since).ok()?.into_iter().find(is_it)
    })?;
    Ok(write.started_ms as f64)
}

/// The time now as the sandbox counts it: milliseconds since 1970; it runs on this machine.
pub(crate) fn now_ms() -> Result<f64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs_f64()
        * 1000.0)
}

/// User and system time of a process so far, as Linux counts it.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .context("processor time is measured on Linux only")?;
    let after_name = stat.rsplit_once(')').context("an unknown form of /proc/pid/stat")?.1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks: Vec<f64> = [11, 12].iter().filter_map(|at| fields.get(*at)?.parse().ok()).collect();
    ensure!(ticks.len() == 2, "an unknown form of /proc/pid/stat");
    // USER_HZ is 100 on every Linux that Rust runs on.
    Ok(ticks.iter().sum::<f64>() / 100.0)
}
