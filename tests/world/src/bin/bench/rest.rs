//! What many bindings cost while nothing changes.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;
use world::{Call, World, eventually};

use super::crowd::{cpu_seconds, make, until_ready};
use super::table::{Goal, Table};

/// Passes that are watched while nothing changes.
const PASSES: usize = 3;

/// Makes bindings of instances that already carry what is declared, and waits until all are Ready.
pub(crate) fn bind(world: &World, total: usize, already: usize, prefix: &str) -> Result<Vec<String>> {
    println!("{total} bindings more");
    let sandbox = world.sandbox();
    let arn = sandbox.profile("bench")?;
    let instances = sandbox.add_instances(&json!({"count": total, "state": "running", "profile": arn}))?;
    let corner = world.scenario(prefix)?;
    let began = Instant::now();
    make(&corner, prefix, &instances, &json!({"instanceProfile": {"name": "bench"}}))?;
    println!("  made in {:.0} s", began.elapsed().as_secs_f64());
    until_ready(world, already + total, Duration::from_secs(1800))?;
    Ok(instances)
}

/// What passes cost while nothing changes.
pub(crate) fn measure(world: &World, table: &mut Table, total: usize, most_mib: Option<f64>) -> Result<()> {
    println!("{total} bindings at rest");
    let (sandbox, controller) = (world.sandbox(), world.controller()?);
    // Passes may come less often than asked for, where reads would pass their budget: they are counted as they begin.
    let passes_since = |since: u64| -> Result<Vec<u64>> {
        let calls = sandbox.calls_since(since)?;
        Ok(calls.iter().filter(|call| begins_a_pass(call)).map(|call| call.seq).collect())
    };
    let after = |since: u64, count: usize| -> Result<u64> {
        eventually("the passes begin", Duration::from_secs(600), || {
            let begun = passes_since(since).ok()?;
            begun.get(count).copied()
        })
    };
    let since = after(sandbox.last_call()?, 1)? - 1;
    let patches = || controller.metric("rest_client_requests_total", &["method=\"PATCH\""]);
    let (patched, cpu) = (patches()?, cpu_seconds(controller.process().pid())?);
    let until = after(since, PASSES)?;
    let core = cpu_seconds(controller.process().pid())? - cpu;
    let calls: Vec<Call> = sandbox.calls_since(since)?.into_iter().filter(|call| call.seq < until).collect();
    let passes = PASSES as f64;
    let of = |word: &str| calls.iter().filter(|call| call.action.starts_with(word)).count() as f64;
    let reads = (of("DescribeIamInstanceProfileAssociations") + of("DescribeInstances")) / passes;
    let pages = total.div_ceil(1000) as f64;
    table.add(
        format!("EC2 reads of a no-op pass, {total} bindings"),
        reads.round(),
        "calls",
        Goal::AtMost(pages),
    );
    let writes = calls.iter().filter(|call| call.is_write()).count() as f64 + patches()? - patched;
    table.add(
        format!("AWS and Kubernetes writes of it, {total} bindings"),
        writes,
        "calls",
        Goal::AtMost(0.0),
    );
    // Per interval of 60 s, as the controller runs by default.
    let core = core / passes / 60.0;
    let goal = if total > 20_000 { Goal::None } else { Goal::AtMost(0.01) };
    table.add(format!("processor at rest, {total} bindings, one pass a minute"), core, "cores", goal);
    let [rss, heap] = ["VmRSS", "RssAnon"].map(|what| controller.memory_kib(what));
    let (rss, heap) = (rss? as f64 / 1024.0, heap? as f64 / 1024.0);
    table.add(
        format!("resident memory, {total} bindings"),
        rss,
        "MiB",
        most_mib.map_or(Goal::None, Goal::AtMost),
    );
    table.add(format!("  of it heap, {total} bindings"), heap, "MiB", Goal::None);
    Ok(())
}

/// The first page of a listing.
fn begins_a_pass(call: &Call) -> bool {
    let pages = call.action == "DescribeIamInstanceProfileAssociations";
    pages && !call.params.keys().any(|name| name == "NextToken" || name.starts_with("Filter."))
}
