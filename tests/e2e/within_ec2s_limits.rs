//! What EC2's limits mean for those who wait: nothing outdated is written, and passes come as often as reads allow.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use world::eventually_ok;

use crate::stage::{REPLACE, Story, quick_world, reason, world};

/// One token for Replace now, the next in ten seconds.
const SCARCE: &[&str] = &["--resync-interval=1s", "--aws-budget=ReplaceIamInstanceProfileAssociation=1,0.2"];

#[test]
fn what_is_edited_while_it_waits_is_decided_anew() -> Result<()> {
    let world = world(SCARCE)?;
    let s = world.scenario("edited-in-the-queue")?;
    let (old, app) = (s.sandbox().profile("old")?, s.sandbox().profile("app")?);
    let next = s.sandbox().profile("next")?;
    let mut all = Vec::new();
    for name in ["first", "edited", "undone"] {
        let i = s.sandbox().instance("running", Some("old"))?;
        s.bind(name, &i, &json!({"name": "app"}))?;
        let wanted = if name == "first" { "Associated" } else { "BudgetExhausted" };
        s.reaches(name, wanted)?;
        all.push(i);
    }
    let [first, edited, undone] = all.as_slice() else { anyhow::bail!("{all:?}") };
    s.choose("edited", json!({"name": "next"}))?;
    s.choose("undone", json!({"name": "old"}))?;
    // Who has what it wants now stands in nobody's way, and nobody's wish of a moment ago is carried out.
    s.reaches("undone", "Associated")?;
    s.reaches("edited", "Associated")?;
    s.passes(2)?;
    for (instance, profile, writes) in [(first, app, 1), (edited, next, 1), (undone, old, 0)] {
        assert_eq!(s.sandbox().profile_of(instance)?, Some(profile.clone()));
        let made = s.sandbox().writes_to(instance)?;
        assert_eq!(made.len(), writes, "{made:?}");
        assert!(
            made.iter().all(|write| write.action == REPLACE && write.to_profile.as_ref() == Some(&profile))
        );
    }
    Ok(())
}

#[test]
fn an_edit_goes_before_the_repairs_that_wait() -> Result<()> {
    let world = world(SCARCE)?;
    let s = world.scenario("edit-before-drift")?;
    let app = s.sandbox().profile("app")?;
    s.sandbox().profile("other")?;
    let next = s.sandbox().profile("next")?;
    let mut drifting = Vec::new();
    for n in 0..4 {
        let i = s.sandbox().instance("running", Some("app"))?;
        s.bind(&format!("drifts-{n}"), &i, &json!({"name": "app"}))?;
        s.wait_until_ready(&format!("drifts-{n}"))?;
        drifting.push(i);
    }
    let edited = s.sandbox().instance("running", Some("app"))?;
    s.bind("edited", &edited, &json!({"name": "app"}))?;
    s.wait_until_ready("edited")?;
    for i in &drifting {
        s.sandbox().drift(i, Some("other"))?;
    }
    eventually_ok("all but one wait for their turn", Duration::from_secs(75), || {
        let mut waiting = 0;
        for n in 0..drifting.len() {
            waiting += usize::from(reason(&s.binding(&format!("drifts-{n}"))?) == "BudgetExhausted");
        }
        ensure!(waiting >= 3, "{waiting} do");
        Ok(())
    })?;
    s.choose("edited", json!({"name": "next"}))?;
    s.carries(&edited, Some(&next))?;
    let mut repaired = 0;
    for i in &drifting {
        repaired += usize::from(s.sandbox().profile_of(i)?.as_ref() == Some(&app));
    }
    assert!(repaired < drifting.len(), "those who waited longer still do");
    Ok(())
}

#[test]
fn passes_come_as_often_as_reads_allow_and_a_metric_says_so() -> Result<()> {
    let interval =
        |world: &world::World| world.controller()?.metric("instancerole_resync_interval_seconds", &[]);
    let rich = quick_world()?;
    // A thousandth of twenty calls a second, and half of that for passes: one call in a hundred seconds.
    let poor = world(&["--resync-interval=1s", "--aws-budget-share=0.001"])?;
    for (world, seconds) in [(&rich, 1.0), (&poor, 100.0)] {
        let s = world.scenario("stretched")?;
        s.sandbox().profile("app")?;
        let i = s.sandbox().instance("running", Some("app"))?;
        s.bind("web", &i, &json!({"name": "app"}))?;
        s.wait_until_ready("web")?;
        eventually_ok("the metric tells the interval", Duration::from_secs(75), || {
            let told = interval(world)?;
            ensure!(told == seconds, "{told}");
            anyhow::Ok(())
        })?;
    }
    Ok(())
}
