//! The Grafana dashboard: Prometheus' own engine takes each of its queries, and shows what happened.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use world::{eventually, repository, tool};

use crate::stage::scenario;

#[test]
fn every_query_is_evaluated_and_shows_what_happened() -> Result<()> {
    let s = scenario("dashboard")?;
    s.sandbox().profile("dashboard-app")?;
    let i = s.sandbox().instance("running", None)?;
    let scrapes = s.world().scratch().join("scrapes");
    std::fs::create_dir(&scrapes)?;
    let scrape = |at: u64| -> Result<()> {
        Ok(std::fs::write(scrapes.join(format!("{at}.txt")), s.world().controller()?.metrics()?)?)
    };
    scrape(1_750_000_000_000)?;
    s.bind("web", &i, &json!({"name": "dashboard-app"}))?;
    s.wait_until_ready("web")?;
    // Bindings are counted once a pass.
    let labels = ["condition=\"Ready\"", "status=\"True\""];
    eventually("it is counted", Duration::from_secs(90), || {
        (s.world().controller().ok()?.metric("instancerole_bindings", &labels).ok()? >= 1.0).then_some(())
    })?;
    scrape(1_750_000_010_000)?;

    let board = repository().join("deploy/monitoring/dashboard.json");
    let output = Command::new(tool("dashboard")?).args([&board, &scrapes]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let panels: Vec<Value> = serde_json::from_slice(&output.stdout)?;
    let panel = |title: &str| panels.iter().find(|panel| panel["title"] == title).context(title.to_owned());
    let last = |line: &Value| {
        let point = line["points"].as_array().and_then(|points| points.last()).cloned();
        point.and_then(|point| point[1].as_f64()).unwrap_or_default()
    };
    ensure!(last(&panel("Ready")?["targets"][0]["series"][0]) >= 1.0, "{:#}", panel("Ready")?);
    let writes = panel("Writes to EC2")?["targets"][0]["series"].as_array().context("no writes")?;
    let attached = writes.iter().find(|line| {
        line["labels"] == json!({"operation": "AssociateIamInstanceProfile", "result": "success"})
    });
    ensure!(attached.is_some_and(|line| last(line) > 0.0), "{writes:#?}");
    Ok(())
}
