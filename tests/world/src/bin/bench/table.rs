//! The figures, each beside its goal: one table on the terminal, and the same as JSON.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use world::repository;

/// What a figure should be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
    /// Told for comparison.
    None,
}

/// All figures so far.
#[derive(Debug, Default)]
pub(crate) struct Table(Vec<Figure>);

#[derive(Debug)]
struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    goal: Goal,
}

impl Figure {
    fn is_met(&self) -> Option<bool> {
        match self.goal {
            Goal::AtMost(most) => Some(self.value <= most),
            Goal::AtLeast(least) => Some(self.value >= least),
            Goal::None => None,
        }
    }

    fn goal(&self) -> String {
        match self.goal {
            Goal::AtMost(most) => format!("≤ {most}"),
            Goal::AtLeast(least) => format!("≥ {least}"),
            Goal::None => String::new(),
        }
    }
}

impl Table {
    /// Adds a figure, and says it at once: a long run tells what it has.
    pub(crate) fn add(&mut self, name: impl Into<String>, value: f64, unit: &'static str, goal: Goal) {
        let figure = Figure { name: name.into(), value, unit, goal };
        println!("  {}: {:.3} {unit}  {}", figure.name, figure.value, figure.goal());
        self.0.push(figure);
    }

    /// Prints the table and writes `target/bench.json`.
    pub(crate) fn print(&self, took: Duration) -> Result<()> {
        println!("\n{:<70} {:>10} {:<6} {:>8}  met", "figure", "measured", "", "goal");
        let mut rows = Vec::new();
        for figure in &self.0 {
            let met = figure.is_met();
            let word = met.map_or("", |met| if met { "yes" } else { "NO" });
            let Figure { name, value, unit, .. } = figure;
            println!("{name:<70} {value:>10.3} {unit:<6} {:>8}  {word}", figure.goal());
            rows.push(
                json!({"figure": name, "value": value, "unit": unit, "goal": figure.goal(), "met": met}),
            );
        }
        let commit =
            Command::new("git").args(["rev-parse", "--short", "HEAD"]).current_dir(repository()).output();
        let commit =
            commit.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned()).unwrap_or_default();
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let all = json!({
            "commit": commit, "cores": cores, "optimised": !cfg!(debug_assertions),
            "seconds": took.as_secs(), "figures": rows,
        });
        let file = repository().join("target/bench.json");
        std::fs::write(&file, serde_json::to_string_pretty(&all)?)
            .with_context(|| format!("{} cannot be written", file.display()))?;
        println!(
            "\n{cores} cores, commit {commit}; the same as JSON: target/bench.json; took {} s",
            took.as_secs()
        );
        Ok(())
    }
}

/// The value below which so large a share lies.
pub(crate) fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = ((values.len() as f64) * share).ceil() as usize;
    values.get(rank.clamp(1, values.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
}
