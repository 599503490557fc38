//! 600 attach, 300 replace and 600 detach at once, within EC2's own limits.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;
use world::{Call, World, eventually};

use super::crowd::{by_many_hands, make, now_ms, until_ready};
use super::table::{Goal, Table};

/// One third of the bulk: the operation, how many, EC2's bucket for it (`aws-semantics` 2).
struct Part {
    operation: &'static str,
    prefix: &'static str,
    count: usize,
    burst: f64,
    per_second: f64,
}

const PARTS: [Part; 3] = [
    Part {
        operation: "AssociateIamInstanceProfile",
        prefix: "attach",
        count: 600,
        burst: 100.0,
        per_second: 5.0,
    },
    Part {
        operation: "ReplaceIamInstanceProfileAssociation",
        prefix: "replace",
        count: 300,
        burst: 50.0,
        per_second: 5.0,
    },
    Part {
        operation: "DisassociateIamInstanceProfile",
        prefix: "detach",
        count: 600,
        burst: 100.0,
        per_second: 5.0,
    },
];

/// How long the whole may take; EC2's floor is 100 s.
const PATIENCE: Duration = Duration::from_secs(600);

pub(crate) fn measure(world: &World, table: &mut Table) -> Result<()> {
    let sandbox = world.sandbox();
    sandbox.profile("bench")?;
    let old = sandbox.profile("bench-old")?;
    let corner = world.scenario("bulk")?;
    println!("making 1500 bindings that only observe");
    let mut all = Vec::new();
    for part in &PARTS {
        let carried = if part.prefix == "attach" { json!(null) } else { json!(old) };
        let instances =
            sandbox.add_instances(&json!({"count": part.count, "state": "running", "profile": carried}))?;
        let wanted = if part.prefix == "detach" { json!({"none": {}}) } else { json!({"name": "bench"}) };
        make(&corner, part.prefix, &instances, &json!({"instanceProfile": wanted, "mode": "Observe"}))?;
        all.extend((0..part.count).map(|i| (part, i)));
    }
    let controller = world.controller()?;
    eventually("all are told to differ", PATIENCE, || {
        let differ = ["reason=\"ObserveOnly\"", "condition=\"Ready\""];
        (controller.metric("instancerole_bindings", &differ).ok()? >= 1500.0).then_some(())
    })?;
    // What the making spent of EC2's read limits has come back by now.
    std::thread::sleep(Duration::from_secs(10));
    let since = sandbox.last_call()?;
    println!("600 attach, 300 replace and 600 detach are declared at once");
    let began = Instant::now();
    let declared: [OnceLock<f64>; 3] = Default::default();
    by_many_hands(&all, |_, (part, i)| {
        let now = now_ms()?;
        let at = PARTS.iter().position(|other| other.prefix == part.prefix).unwrap_or_default();
        declared[at].get_or_init(|| now);
        let path = corner.path(&format!("{}-{i}", part.prefix));
        world.control_plane().api().merge(&path, &json!({"spec": {"mode": "Enforce"}})).map(drop)
    })?;
    println!("  declared in {:.0} s", began.elapsed().as_secs_f64());
    until_ready(world, 1500, PATIENCE)?;
    let calls = sandbox.calls_since(since)?;
    for (part, first) in PARTS.iter().zip(&declared) {
        let first = first.get().context("none was declared")?;
        let done = calls.iter().filter(|call| call.action == part.operation && call.result == "ok");
        let last = done.filter_map(|call| call.effect_ms).max().context("no write was carried out")? as f64;
        let floor = (part.count as f64 - part.burst).max(0.0) / part.per_second;
        let share = floor / ((last - first) / 1000.0);
        table.add(format!("bulk: share of EC2's floor, {}", part.prefix), share, "", Goal::AtLeast(0.95));
    }
    let writes: Vec<&Call> = calls.iter().filter(|call| call.is_write()).collect();
    let throttled = writes.iter().filter(|call| call.result == "RequestLimitExceeded").count() as f64;
    table.add("bulk: writes throttled", 100.0 * throttled / writes.len() as f64, "%", Goal::AtMost(1.0));
    let beyond = calls.iter().filter(|call| !is_of_a_pass(call)).count() as f64;
    table.add(
        "bulk: AWS calls per changed binding, beyond the passes",
        beyond / 1500.0,
        "calls",
        Goal::AtMost(1.1),
    );
    let mut looks: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for call in calls.iter().filter(|call| !call.is_write() && !is_of_a_pass(call)) {
        looks.entry(&call.action).or_default().push(instances_named(call));
    }
    for (action, sizes) in looks {
        let named: usize = sizes.iter().sum();
        let mean = named as f64 / sizes.len() as f64;
        println!("  {action}: {} calls of {mean:.1} instances", sizes.len());
        table.add(format!("  of these {action}"), sizes.len() as f64, "calls", Goal::None);
    }
    Ok(())
}

/// How many instances a look is about.
fn instances_named(call: &Call) -> usize {
    call.params.values().filter(|value| value.as_str().is_some_and(|text| text.starts_with("i-"))).count()
}

/// A page of the listing names no instance.
fn is_of_a_pass(call: &Call) -> bool {
    call.action == "DescribeIamInstanceProfileAssociations"
        && !call.params.keys().any(|name| name.starts_with("Filter."))
}
