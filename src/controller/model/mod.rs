//! The model check: `decide`, executed as it is, in a world where anything may happen between any two steps.
//!
//! [`ec2`] is the world, [`system`] what may happen in it, [`judge`] and [`small`] the way to the controller's own code
//! (`decide`, `gather::history`, `report`, `memory`, `entry`), [`quiet`] what follows when nothing disturbs any more,
//! [`mutants`] the mistakes that must be caught, [`conformance`] the comparison with the EC2 sandbox. `docs/model.md`
//! tells what is modelled, within which bounds, and how to read a counterexample. `make model` runs it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a panic is how a test fails

mod conformance;
mod ec2;
mod judge;
mod mutants;
mod quiet;
mod small;
mod system;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model, Path};

use mutants::Mutant;
use system::{Action, PROPERTIES, State, Storm, Theme};

/// What a search found.
struct Found {
    states: usize,
    depth: usize,
    time: Duration,
    judgements: usize,
    broken: Vec<(&'static str, String)>,
}

fn search(storm: Storm, until: HasDiscoveries) -> Found {
    let began = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).min(2);
    let checker = storm.checker().threads(threads).finish_when(until).spawn_bfs().join();
    let mut broken: Vec<(&'static str, String)> = checker
        .discoveries()
        .into_iter()
        .map(|(name, path)| (name, tell(checker.model(), name, &path)))
        .collect();
    broken.sort();
    Found {
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
        time: began.elapsed(),
        judgements: checker.model().judge.judgements(),
        broken,
    }
}

/// A counterexample, for people to read: what happened, and what of the state it changed.
fn tell(storm: &Storm, name: &str, path: &Path<State, Action>) -> String {
    let mut told = format!("{name} is broken: {}\n", meaning(name));
    let steps = path.clone().into_vec();
    let mut before = String::new();
    for (number, (state, action)) in steps.iter().enumerate() {
        told += &changed(&before, state);
        before = format!("{state:?}");
        if let Some(action) = action {
            told += &format!("{:3}. {action:?}\n", number + 1);
        }
    }
    if let Some((last, _)) = steps.last() {
        for (round, state) in storm.rounds(last, 6).iter().enumerate() {
            told += &format!("left alone, round {}\n{}", round + 1, changed(&before, state));
            before = format!("{state:?}");
        }
    }
    told
}

/// The lines of a state that were not there before.
fn changed(before: &str, state: &State) -> String {
    let now = format!("{state:?}");
    now.lines()
        .filter(|line| before.lines().all(|other| other != *line))
        .map(|line| format!("        {line}\n"))
        .collect()
}

fn meaning(name: &str) -> &'static str {
    PROPERTIES.iter().find(|(other, _)| *other == name).unwrap().1
}

/// The searches of a run: all themes from all starts with one disturbance, and pairs of them from the start that asks
/// most; with `DEPTH`, so many from all starts.
fn searches() -> Vec<Storm> {
    let mut themes = vec![Theme::Storm, Theme::People, Theme::Cloud, Theme::Restraint];
    if let Ok(name) = std::env::var("THEME") {
        themes.retain(|theme| format!("{theme:?}") == name);
        assert!(!themes.is_empty(), "THEME is Storm, People, Cloud or Restraint");
    }
    if let Ok(text) = std::env::var("DEPTH") {
        let budget = text.parse().expect("DEPTH is a small number");
        return themes.into_iter().map(|theme| Storm::new(theme, budget, None)).collect();
    }
    let mut all: Vec<Storm> = themes.iter().map(|theme| Storm::new(*theme, 1, None)).collect();
    for theme in themes {
        let mut storm = Storm::new(theme, 2, None);
        storm.starts.retain(State::asks_most);
        all.push(storm);
    }
    all
}

#[test]
fn all_properties_hold_whatever_happens() {
    println!(
        "\n{:<9} {:>6} {:>12} {:>9} {:>6} {:>11} {:>8}",
        "theme", "starts", "disturbances", "states", "depth", "judgements", "seconds"
    );
    let (mut states, mut depth, mut seconds, mut broken) = (0, 0, 0.0, Vec::new());
    for storm in searches() {
        let (theme, starts, budget) = (storm.theme, storm.starts.len(), storm.starts[0].left);
        let found = search(storm, HasDiscoveries::All);
        let time = found.time.as_secs_f64();
        println!(
            "{:<9} {starts:>6} {budget:>12} {:>9} {:>6} {:>11} {time:>8.1}",
            format!("{theme:?}"),
            found.states,
            found.depth,
            found.judgements
        );
        (states, depth, seconds) = (states + found.states, depth.max(found.depth), seconds + time);
        broken.extend(found.broken);
    }
    println!("\n{:<8} {:<6} {:>9} {:>6} {:>8}  meaning", "property", "", "states", "depth", "seconds");
    for (name, meaning) in PROPERTIES {
        let holds = broken.iter().all(|(other, _)| *other != name);
        let word = if holds { "holds" } else { "BROKEN" };
        println!("{name:<8} {word:<6} {states:>9} {depth:>6} {seconds:>8.1}  {meaning}");
    }
    for (_, story) in &broken {
        println!("\n{story}");
    }
    assert!(broken.is_empty(), "{:?}", broken.iter().map(|(name, _)| *name).collect::<BTreeSet<_>>());
}

#[test]
fn every_mistake_is_caught() {
    println!("\n{:<28} {:>4} {:>9} {:>8}", "mistake", "by", "states", "seconds");
    let mut missed = Vec::new();
    for (mutant, theme, budget, by) in Mutant::ALL {
        let until = HasDiscoveries::AnyOf(by.iter().copied().collect());
        let found = search(Storm::new(theme, budget, Some(mutant)), until);
        let caught = found.broken.iter().map(|(name, _)| *name).find(|name| by.contains(name)).unwrap_or("-");
        let seconds = found.time.as_secs_f64();
        println!("{:<28} {caught:>4} {:>9} {seconds:>8.1}", format!("{mutant:?}"), found.states);
        if !by.contains(&caught) {
            missed.push((mutant, caught));
        }
    }
    assert!(missed.is_empty(), "{missed:?}");
}
