//! The figures, each beside its goal: one table on the terminal, the same as JSON, and in the documentation.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
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
pub(crate) struct Table {
    part: String,
    figures: Vec<Figure>,
}

/// A figure as it stands in `target/bench.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Figure {
    part: String,
    figure: String,
    value: f64,
    unit: String,
    goal: String,
    /// Whether the goal is met, where there is one.
    met: Option<bool>,
}

/// `target/bench.json`: the figures of each part from its last run.
#[derive(Debug, Serialize, Deserialize)]
struct Results {
    commit: String,
    cores: usize,
    optimised: bool,
    seconds: u64,
    figures: Vec<Figure>,
}

const RESULTS: &str = "target/bench.json";
const PAGE: &str = "docs/benchmarks.md";
const BEGINS: &str = "<!-- figures: make bench-docs -->\n";
const ENDS: &str = "<!-- /figures -->";

impl Goal {
    fn is_met(self, value: f64) -> Option<bool> {
        match self {
            Self::AtMost(most) => Some(value <= most),
            Self::AtLeast(least) => Some(value >= least),
            Self::None => None,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtMost(most) => format!("≤ {most}"),
            Self::AtLeast(least) => format!("≥ {least}"),
            Self::None => String::new(),
        }
    }
}

impl Table {
    /// What comes now belongs to this part.
    pub(crate) fn part(&mut self, part: &str) -> &mut Self {
        self.part = part.to_owned();
        self
    }

    /// Adds a figure, and says it at once: a long run tells what it has.
    pub(crate) fn add(&mut self, name: impl Into<String>, value: f64, unit: &str, goal: Goal) {
        let figure = Figure {
            part: self.part.clone(),
            figure: name.into(),
            value,
            unit: unit.to_owned(),
            goal: goal.text(),
            met: goal.is_met(value),
        };
        println!("  {}: {:.3} {unit}  {}", figure.figure, figure.value, figure.goal);
        self.figures.push(figure);
    }

    /// Prints the table and writes `target/bench.json`, where parts that were not measured keep what they had.
    pub(crate) fn print(&self, took: Duration) -> Result<()> {
        println!("\n{:<70} {:>10} {:<6} {:>8}  met", "figure", "measured", "", "goal");
        for Figure { figure, value, unit, goal, met, .. } in &self.figures {
            let word = met.map_or("", |met| if met { "yes" } else { "NO" });
            println!("{figure:<70} {value:>10.3} {unit:<6} {goal:>8}  {word}");
        }
        let mut figures = self.figures.clone();
        let former = Results::read().map(|results| results.figures).unwrap_or_default();
        let measured_now = |part: &str| self.figures.iter().any(|figure| figure.part == part);
        figures.extend(former.into_iter().filter(|figure| !measured_now(&figure.part)));
        let results = Results {
            commit: git(&["rev-parse", "--short", "HEAD"]),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            optimised: !cfg!(debug_assertions),
            seconds: took.as_secs(),
            figures,
        };
        std::fs::write(repository().join(RESULTS), serde_json::to_string_pretty(&results)?)
            .with_context(|| format!("{RESULTS} cannot be written"))?;
        println!(
            "\n{} cores, commit {}; the same as JSON: {RESULTS}; into {PAGE}: make bench-docs; took {} s",
            results.cores, results.commit, results.seconds
        );
        Ok(())
    }
}

impl Results {
    fn read() -> Result<Self> {
        let text = std::fs::read_to_string(repository().join(RESULTS))
            .with_context(|| format!("{RESULTS} is not there: make bench"))?;
        serde_json::from_str(&text).with_context(|| format!("{RESULTS} is of another form"))
    }

    /// The table as the documentation has it; figures that miss their goal in bold.
    fn page(&self) -> String {
        let mut page = format!("\n{} shared cores, commit {}.\n\n", self.cores, self.commit);
        page += "| part | figure | measured | goal |\n|---|---|---|---|\n";
        let mut last = "";
        for Figure { part, figure, value, unit, goal, met } in &self.figures {
            let digits =
                if value.fract() == 0.0 || *value >= 100.0 { 0 } else { 3 - usize::from(*value >= 1.0) };
            let value = format!("{value:.digits$} {unit}");
            let value = if *met == Some(false) { format!("**{}**", value.trim()) } else { value };
            let shown = if part == last { String::new() } else { format!("`{part}`") };
            let goal = if goal.is_empty() { "–" } else { goal };
            page += &format!("| {shown} | {} | {} | {goal} |\n", figure.trim(), value.trim());
            last = part;
        }
        page + "\n"
    }
}

/// Puts the last results into the documentation.
pub(crate) fn into_docs() -> Result<()> {
    let file = repository().join(PAGE);
    let before = std::fs::read_to_string(&file).with_context(|| format!("{PAGE} cannot be read"))?;
    let (head, rest) = before.split_once(BEGINS).with_context(|| format!("{PAGE} has no {BEGINS}"))?;
    let (_, tail) = rest.split_once(ENDS).with_context(|| format!("{PAGE} has no {ENDS}"))?;
    std::fs::write(&file, format!("{head}{BEGINS}{}{ENDS}{tail}", Results::read()?.page()))?;
    println!("{PAGE} has the figures of {RESULTS}");
    Ok(())
}

fn git(arguments: &[&str]) -> String {
    let out = Command::new("git").args(arguments).current_dir(repository()).output();
    out.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned()).unwrap_or_default()
}

/// The value below which so large a share lies.
pub(crate) fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = ((values.len() as f64) * share).ceil() as usize;
    values.get(rank.clamp(1, values.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
}
