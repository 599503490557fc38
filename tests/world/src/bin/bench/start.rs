//! A controller that starts among ten thousand bindings of which one needs a repair.

use std::time::Duration;

use anyhow::{Context, Result};
use world::World;

use super::crowd::{first_write, now_ms};
use super::table::{Goal, Table};

pub(crate) fn measure(world: &mut World, table: &mut Table, instances: &[String]) -> Result<()> {
    println!("the controller is stopped, an instance drifts, the controller starts");
    let last = instances.last().context("no instance")?;
    let stopped = world.take_controller()?;
    stopped.terminate()?;
    let other = world.sandbox().profile("bench-other")?;
    world.sandbox().drift(last, Some(&other))?;
    // What the former process spent of EC2's limits has come back by now.
    std::thread::sleep(Duration::from_secs(20));
    let (began, since) = (now_ms()?, world.sandbox().last_call()?);
    world.start_controller()?;
    let seconds = (first_write(world, since, last, Duration::from_secs(120))? - began) / 1000.0;
    table.add("start → first repair, 10 000 bindings", seconds, "s", Goal::AtMost(5.0));
    Ok(())
}
