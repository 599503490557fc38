//! Many instances of a namespace differ at once: the circuit breaker holds their repairs until an administrator has looked.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use world::{ACCOUNT, Controller, Grants, REGION, Scenario, World, WorldOptions, eventually_ok};

use crate::stage::{REPLACE, Story, condition, message, truth};

const APPROVE: &str = "instancerole.dev/approve-changes";

/// A world whose controller allows so many repairs, and whose grants are its own.
fn world(ceiling: &str, own_control_plane: bool) -> Result<World> {
    let flags = ["--resync-interval=1s".to_owned(), format!("--max-changes-per-pass={ceiling}")];
    World::new(WorldOptions {
        own_control_plane,
        controller_flags: flags.into(),
        grants: Grants::None,
        ..WorldOptions::default()
    })
}

/// A namespace under two grants: `team` for all profiles, `third` for one.
fn team<'w>(world: &'w World, name: &str) -> Result<Scenario<'w>> {
    let s = world.stranger(name)?;
    let instances = json!({"regions": [REGION]});
    let all = format!("arn:aws:iam::{ACCOUNT}:instance-profile/*");
    s.grant("team", &json!({"instanceProfiles": [all], "instances": instances}))?;
    s.grant("third", &json!({"instanceProfiles": ["third"], "instances": instances}))?;
    Ok(s)
}

/// So many bindings whose instances carry `app`: names and instances.
fn bound(s: &Scenario<'_>, count: usize) -> Result<Vec<(String, String)>> {
    s.sandbox().profile("app")?;
    s.sandbox().profile("other")?;
    let mut all = Vec::new();
    for n in 0..count {
        let (name, i) = (format!("web-{n}"), s.sandbox().instance("running", Some("app"))?);
        s.bind(&name, &i, &json!({"name": "app"}))?;
        all.push((name, i));
    }
    for (name, _) in &all {
        s.wait_until_ready(name)?;
    }
    Ok(all)
}

/// Somebody puts `other` on all of them in one moment.
fn all_drift(s: &Scenario<'_>, all: &[(String, String)]) -> Result<()> {
    let ids: Vec<&String> = all.iter().map(|(_, i)| i).collect();
    s.sandbox()
        .patch("instances", &json!({"region": REGION, "instanceIds": ids, "profile": "other"}))
        .map(drop)
}

/// The id in the message of a held binding.
fn id_in(binding: &Value) -> String {
    let (_, after) = message(binding).split_once(&format!("{APPROVE}=")).unwrap_or_default();
    after.chars().take_while(char::is_ascii_hexdigit).collect()
}

/// Waits until all are held, by one id.
fn held(s: &Scenario<'_>, all: &[(String, String)]) -> Result<String> {
    let mut ids = BTreeSet::new();
    for (name, _) in all {
        let found = s.reaches(name, "CircuitOpen")?;
        assert_eq!((truth(&found, "Stalled"), truth(&found, "Ready")), ("True", "False"));
        ids.insert(id_in(&found));
    }
    ensure!(ids.len() == 1 && !ids.contains(""), "{ids:?}");
    Ok(ids.into_iter().next().unwrap_or_default())
}

fn repaired(s: &Scenario<'_>, all: &[(String, String)]) -> Result<()> {
    for (name, _) in all {
        s.reaches(name, "Associated")?;
    }
    Ok(())
}

/// The administrator's annotation on one of the namespace's grants.
fn approve(s: &Scenario<'_>, grant: &str, ids: &str) -> Result<()> {
    let path = format!("/apis/instancerole.dev/v1alpha1/instancerolegrants/{}", s.grant_name(grant));
    let patch = json!({"metadata": {"annotations": {APPROVE: ids}}});
    s.world().control_plane().api().merge(&path, &patch).map(drop)
}

fn open(controller: &Controller, namespaces: f64) -> Result<()> {
    eventually_ok("the metric of held namespaces", Duration::from_secs(20), || {
        let found = controller.metric("instancerole_circuits_open", &[])?;
        ensure!(found == namespaces, "{found}");
        Ok(())
    })
}

fn no_change(s: &Scenario<'_>, all: &[(String, String)]) -> Result<()> {
    for (_, i) in all {
        assert_eq!(s.changes(i)?, [""; 0], "held before the first repair");
    }
    Ok(())
}

#[test]
fn none_is_repaired_before_an_administrator_lets_that_hold_go_on() -> Result<()> {
    let world = world("2", true)?;
    let (s, others) = (team(&world, "many")?, team(&world, "few")?);
    let (all, few) = (bound(&s, 6)?, bound(&others, 2)?);
    all_drift(&s, &all)?;
    all_drift(&others, &few)?;

    let id = held(&s, &all)?;
    no_change(&s, &all)?;
    repaired(&others, &few)?;
    open(world.controller()?, 1.0)?;
    let event = s.event("web-0", "CircuitOpen")?;
    assert!(event["note"].as_str().unwrap_or_default().contains(&id), "{event}");
    s.event("web-0", "DriftDetected")?;
    let log = world.controller()?.process().printed();
    assert!(
        log.lines().any(|line| line.contains("WARN") && line.contains(&id) && line.contains("\"due\":")),
        "{log}"
    );
    s.passes(1)?;
    let versions = || all.iter().map(|(name, _)| Ok(s.binding(name)?["metadata"]["resourceVersion"].clone()));
    let before: Vec<Value> = versions().collect::<Result<_>>()?;
    s.passes(3)?;
    assert_eq!(versions().collect::<Result<Vec<Value>>>()?, before, "the same hold from pass to pass");

    // A tenant cannot, and what people ask for is not held.
    s.annotate("web-0", APPROVE, &id)?;
    s.ask("web-0")?;
    let [(edited, instance), (deleted, _), rest @ ..] = &*all else { unreachable!("six were made") };
    let third = s.sandbox().profile("third")?;
    s.choose(edited, json!({"name": "third"}))?;
    s.carries(instance, Some(&third))?;
    s.delete(deleted)?;
    s.vanishes(deleted)?;
    approve(&s, "team", "0123456789")?;
    s.passes(2)?;
    assert_eq!(held(&s, rest)?, id);
    no_change(&s, rest)?;

    approve(&s, "third", &format!("0123456789,{id}"))?;
    repaired(&s, rest)?;
    for (_, i) in rest {
        assert_eq!(s.changes(i)?, [REPLACE]);
    }
    open(world.controller()?, 0.0)?;

    // The approval stands on the grant still, and is for what was held then.
    all_drift(&s, rest)?;
    assert_ne!(held(&s, rest)?, id);
    Ok(())
}

#[test]
fn a_hold_ends_with_the_drift() -> Result<()> {
    let world = world("2", false)?;
    let s = team(&world, "passing")?;
    let all = bound(&s, 3)?;
    all_drift(&s, &all)?;
    held(&s, &all)?;
    let [(back, instance), rest @ ..] = &*all else { unreachable!("three were made") };
    s.sandbox().drift(instance, Some("app"))?;
    let healed = s.reaches(back, "Associated")?;
    assert_eq!(condition(&healed, "Stalled"), &Value::Null);
    repaired(&s, rest)?;
    open(world.controller()?, 0.0)?;
    assert_eq!(s.changes(instance)?, [""; 0]);
    Ok(())
}

#[test]
fn the_next_process_goes_on_with_the_same_hold() -> Result<()> {
    let mut world = world("2", false)?;
    let first = world.take_controller()?;
    let s = team(&world, "restart")?;
    let all = bound(&s, 4)?;
    all_drift(&s, &all)?;
    let id = held(&s, &all)?;
    first.kill()?;
    let second = world.controller_command().start(world.scratch().path(), "second")?;
    open(&second, 1.0)?;
    s.passes(3)?;
    assert_eq!(held(&s, &all)?, id);
    no_change(&s, &all)?;
    approve(&s, "team", &id)?;
    repaired(&s, &all)?;
    Ok(())
}

#[test]
fn under_a_share_five_are_always_plausible() -> Result<()> {
    let world = world("20%", false)?;
    let s = team(&world, "share")?;
    let all = bound(&s, 6)?;
    let (five, _) = all.split_at(5);
    all_drift(&s, five)?;
    repaired(&s, five)?;
    for (_, i) in five {
        s.carries(i, Some(&s.sandbox().profile("app")?))?;
    }
    all_drift(&s, &all)?;
    held(&s, &all)?;
    Ok(())
}
