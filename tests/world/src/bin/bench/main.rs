//! `make bench`: what the controller costs and how quick it is, against a real API server and the EC2 sandbox, which
//! enforces EC2's own limits. What each figure is: `docs/benchmarks.md`.
//!
//! Each figure stands beside its goal; nothing here fails for being slow, since machines are shared and noisy. Words
//! choose parts: `lone`, `rest`, `drift`, `start`, `bulk`, `peers`, `plan` (all of them by default), `large` (100 000 bindings).
//! `docs` measures nothing and puts the last results into `docs/benchmarks.md`.

mod bulk;
mod crowd;
mod drift;
mod lone;
mod peers;
mod plan;
mod rest;
mod start;
mod table;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use table::Table;
use world::{World, WorldOptions};

/// The controller's resync interval in the bench; a pass costs the same at any interval.
const RESYNC: Duration = Duration::from_secs(5);
const PARTS: [&str; 8] = ["lone", "rest", "drift", "start", "bulk", "peers", "plan", "large"];

fn main() -> Result<()> {
    let started = Instant::now();
    let chosen: Vec<String> = std::env::args().skip(1).collect();
    if chosen == ["docs"] {
        return table::into_docs();
    }
    for word in &chosen {
        ensure!(PARTS.contains(&word.as_str()), "{word} is no part of the bench: {}", PARTS.join(", "));
    }
    let wants = |part: &str| chosen.iter().any(|word| word == part) || (chosen.is_empty() && part != "large");
    let mut table = Table::default();
    if wants("lone") || wants("peers") {
        let world = begin()?;
        if wants("lone") {
            lone::measure(&world, table.part("lone"), "alone")?;
        }
        if wants("peers") {
            peers::measure(&world, table.part("peers"))?;
        }
    }
    if wants("plan") {
        plan::measure(table.part("plan"))?;
    }
    if wants("bulk") {
        bulk::measure(&begin_with(Duration::from_secs(60))?, table.part("bulk"))?;
    }
    if wants("rest") || wants("drift") || wants("start") {
        let mut world = begin()?;
        let mut instances = rest::bind(&world, 1_000, 0, "few")?;
        rest::measure(&world, table.part("rest"), 1_000, None)?;
        instances.extend(rest::bind(&world, 9_000, 1_000, "many")?);
        rest::measure(&world, table.part("rest"), 10_000, Some(64.0))?;
        if wants("lone") {
            lone::measure(&world, table.part("lone"), "among 10 000")?;
        }
        if wants("drift") {
            drift::lone(&world, table.part("drift"), &instances)?;
        }
        if wants("start") {
            start::measure(&mut world, table.part("start"), &instances)?;
        }
        if wants("drift") {
            drift::edits_among_many(&world, table.part("drift"), &instances)?;
        }
    }
    if wants("large") {
        let world = begin()?;
        rest::bind(&world, 100_000, 0, "crowd")?;
        rest::measure(&world, table.part("large"), 100_000, Some(300.0))?;
    }
    table.print(started.elapsed())
}

fn begin() -> Result<World> {
    begin_with(RESYNC)
}

fn begin_with(resync: Duration) -> Result<World> {
    println!("starting a control plane, the EC2 sandbox and the controller");
    World::new(WorldOptions {
        own_control_plane: true,
        controller_flags: vec![
            format!("--resync-interval={}s", resync.as_secs()),
            "--aws-budget-share=1".into(),
        ],
        ..WorldOptions::default()
    })
}
