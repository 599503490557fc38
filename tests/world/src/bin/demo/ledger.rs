//! The rows so far, each with what it came to; and the summary.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use world::{Call, World};

use crate::screen::{Paint, Screen};
use crate::stage::short;
use crate::trial::{Outcome, Trial, is_rehearsal};

/// The rows that have been judged.
#[derive(Debug, Default)]
pub struct Ledger {
    /// In the order of their first judgement; a later one of the same name takes the place of an earlier.
    rows: Vec<(&'static str, Outcome)>,
    /// What was wrong at any time stays wrong.
    faults: BTreeMap<&'static str, Vec<String>>,
}

impl Ledger {
    /// Judges a row as it stands, and shows it: what was asked, the calls made for it, the state now.
    pub fn judge(&mut self, world: &World, screen: &Screen, trial: &Trial) -> Result<bool> {
        let outcome = trial.outcome(world)?;
        let right = outcome.faults.is_empty();
        let state = screen.paint(if right { Paint::Green } else { Paint::Red }, &outcome.state);
        screen.line(&format!(
            "{} {:<29}asked: {:<28}now: {state}",
            screen.mark(right),
            trial.row,
            trial.asked
        ));
        for call in &outcome.writes {
            screen.line(&format!("    {}", written(call)));
        }
        if outcome.writes.is_empty() {
            screen.aside("    no EC2 write");
        }
        for fault in &outcome.faults {
            screen.bad(&format!("    {fault}"));
            self.faults.entry(trial.row).or_default().push(fault.clone());
        }
        match self.rows.iter_mut().find(|(row, _)| *row == trial.row) {
            Some((_, earlier)) => *earlier = outcome,
            None => self.rows.push((trial.row, outcome)),
        }
        Ok(right)
    }

    /// Shows all rows. Returns whether each was right, always, and no write was made that belongs to none of them.
    pub fn summary(&self, world: &World, screen: &Screen) -> Result<bool> {
        let head = format!("  {:<30}{:<28}{}", "ROW", "EC2 CALLS", "AT EC2 IN THE END");
        screen.line(&screen.paint(Paint::Bold, &head));
        for (row, outcome) in &self.rows {
            let right = !self.faults.contains_key(row);
            let calls = match outcome.writes.as_slice() {
                [] => "none".to_owned(),
                writes => {
                    writes.iter().filter(|c| !is_rehearsal(c)).map(brief).collect::<Vec<_>>().join(", ")
                }
            };
            screen.line(&format!("{} {row:<30}{calls:<28}{}", screen.mark(right), outcome.state));
        }
        for (row, faults) in &self.faults {
            screen.bad(&format!("{row}: {}", faults.join("; ")));
        }
        let stray = self.stray(world)?;
        for call in &stray {
            screen.bad(&format!("a write that no row asked for: {}", written(call)));
        }
        Ok(!self.rows.is_empty() && self.faults.is_empty() && stray.is_empty())
    }

    /// The controller's writes that belong to no row.
    fn stray(&self, world: &World) -> Result<Vec<Call>> {
        let known: BTreeSet<u64> =
            self.rows.iter().flat_map(|(_, outcome)| &outcome.writes).map(|call| call.seq).collect();
        let controller = world.sandbox().aws_env();
        let mut calls = world.sandbox().calls_since(0)?;
        calls.retain(|call| {
            call.is_write() && call.access_key == controller.access_key() && !known.contains(&call.seq)
        });
        Ok(calls)
    }
}

/// A write: operation, from → to, request id.
fn written(call: &Call) -> String {
    let name = |arn: &Option<String>| arn.as_deref().map_or("none", short).to_owned();
    let change = format!("{} → {}", name(&call.from_profile), name(&call.to_profile));
    let (note, refusal) = match call.result.as_str() {
        "ok" => ("", ""),
        _ if is_rehearsal(call) => (" (dry run)", ""),
        refused => ("", refused),
    };
    let operation = format!("{}{note}", call.action);
    format!("{operation:<38}{change:<33}{} {refusal}", call.request_id).trim_end().to_owned()
}

/// An operation without the words that all of them have.
fn brief(call: &Call) -> &str {
    call.action.split_once("IamInstanceProfile").map_or(call.action.as_str(), |(verb, _)| verb)
}
