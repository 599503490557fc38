//! What is broken, hangs or is out of turn holds up nobody else; and what it costs is bounded.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use world::{Call, Scenario, eventually_ok};

use crate::stage::{ASSOCIATE, Story, quick_world, reason, world};

fn writes_since(s: &Scenario<'_>, since: u64) -> Result<Vec<Call>> {
    Ok(s.sandbox().calls_since(since)?.into_iter().filter(Call::is_write).collect())
}

#[test]
fn bindings_that_fail_or_are_slow_in_every_way_slow_no_healthy_one() -> Result<()> {
    let world = quick_world()?;
    let s = world.scenario("among-the-broken")?;
    s.sandbox().profile("app")?;
    let app = &json!({"name": "app"});
    let fault = |instance: &str, effect: Value| {
        let all = json!({"action": ASSOCIATE, "instance": instance, "count": null, "effect": effect});
        s.sandbox().fault(&all).map(drop)
    };
    let refusal =
        |code: &str, status: u16| json!({"error": {"code": code, "status": status, "message": "no"}});
    for n in 0..12 {
        let ids = s.sandbox().add_instances(&json!({"count": 4}))?;
        fault(&ids[0], refusal("UnauthorizedOperation", 403))?;
        fault(&ids[1], refusal("InternalError", 500))?;
        fault(&ids[2], json!("drop"))?;
        for (name, instance) in ["denied", "failing", "lost"].iter().zip(&ids) {
            s.bind(&format!("{name}-{n}"), instance, app)?;
        }
        s.bind(&format!("nowhere-{n}"), &format!("i-{:017x}", 0xdead_0000_u64 + n), app)?;
        s.bind(&format!("unknown-{n}"), &ids[3], &json!({"name": format!("nothing-{n}")}))?;
    }
    for (name, wanted) in
        [("denied", "AccessDenied"), ("nowhere", "InstanceNotFound"), ("unknown", "ProfileNotFound")]
    {
        s.reaches(&format!("{name}-11"), wanted)?;
    }
    let mut beside = 0;
    for n in 0..6 {
        let since = s.sandbox().last_call()?;
        for (slow, instance) in s.sandbox().add_instances(&json!({"count": 4}))?.iter().enumerate() {
            fault(instance, json!({"hang": {"ms": 4500}}))?;
            s.bind(&format!("slow-{n}-{slow}"), instance, app)?;
        }
        eventually_ok("a write hangs", Duration::from_secs(60), || {
            let writes = writes_since(&s, since)?;
            ensure!(writes.iter().any(|call| call.ended_ms.is_none()), "{writes:#?}");
            Ok(())
        })?;
        let well = s.sandbox().instance("running", None)?;
        s.bind(&format!("well-{n}"), &well, app)?;
        s.wait_until_ready(&format!("well-{n}"))?;
        assert_eq!(s.changes(&well)?, [ASSOCIATE], "once, at the first try");
        let all = writes_since(&s, since)?;
        let its = all.iter().find(|call| call.instance.as_deref() == Some(&well)).context("no write")?;
        beside += usize::from(all.iter().any(|call| {
            call.started_ms < its.started_ms && call.ended_ms.is_none_or(|ended| ended > its.started_ms)
        }));
    }
    assert!(beside > 0, "no healthy one was written while another write was under way");
    // The slow ones end well, too, and the broken ones are as they were.
    for n in 0..6 {
        s.wait_until_ready(&format!("slow-{n}-3"))?;
    }
    s.reaches("denied-0", "AccessDenied")?;
    s.reaches("nowhere-0", "InstanceNotFound")?;
    world.controller()?.process().still_runs()
}

#[test]
fn after_its_first_throttle_a_process_spends_nothing_of_the_burst_that_it_believed_in() -> Result<()> {
    // A hundred at once if nobody else has spent them; then one in twenty seconds.
    let world = world(&["--resync-interval=1s", "--aws-budget=AssociateIamInstanceProfile=100,0.05"])?;
    let s = world.scenario("first-throttle")?;
    let app = s.sandbox().profile("app")?;
    // Somebody else has.
    let all: Vec<String> = (0..9).map(|_| s.sandbox().instance("running", None)).collect::<Result<_>>()?;
    s.sandbox().fault(&json!({"action": ASSOCIATE, "count": 1, "effect": "throttle"}))?;
    s.bind("first", &all[0], &json!({"name": "app"}))?;
    eventually_ok("the first is throttled", Duration::from_secs(60), || {
        let tries = s.sandbox().writes_to(&all[0])?;
        ensure!(tries.iter().any(|call| call.result == "RequestLimitExceeded"), "{tries:?}");
        Ok(())
    })?;
    let since = s.sandbox().last_call()?;
    for (n, instance) in all.iter().enumerate().skip(1) {
        s.bind(&format!("next-{n}"), instance, &json!({"name": "app"}))?;
    }
    eventually_ok("all but one or two wait for their turn", Duration::from_secs(60), || {
        let mut waiting = 0;
        for n in 1..all.len() {
            let binding = s.binding(&format!("next-{n}"))?;
            waiting += usize::from(["Throttled", "BudgetExhausted"].contains(&reason(&binding)));
        }
        ensure!(waiting >= all.len() - 3, "{waiting} do");
        Ok(())
    })?;
    let first = s.binding("first")?;
    ensure!(
        ["Throttled", "BudgetExhausted", "Associating", "Associated"].contains(&reason(&first)),
        "a throttle is no error of a binding: {:#}",
        first["status"]
    );
    let tries = writes_since(&s, since)?;
    ensure!(tries.len() <= 3, "of 99 tokens that it might have believed in: {tries:#?}");
    ensure!(tries.iter().all(|call| call.to_profile.as_ref() == Some(&app)));
    Ok(())
}

#[test]
fn iams_profiles_are_listed_once_a_minute_at_most_however_often_is_looked() -> Result<()> {
    let world = quick_world()?;
    let s = world.scenario("listed-once")?;
    for n in 0..4 {
        s.sandbox().profile(&format!("app-{n}"))?;
        let i = s.sandbox().instance("running", None)?;
        s.bind(&format!("web-{n}"), &i, &json!({"name": format!("app-{n}")}))?;
    }
    for n in 0..4 {
        s.wait_until_ready(&format!("web-{n}"))?;
    }
    s.passes(20)?;
    let calls = s.sandbox().calls_since(0)?;
    let listed: Vec<u64> = calls
        .iter()
        .filter(|call| call.action == "ListInstanceProfiles" && !call.params.contains_key("Marker"))
        .map(|call| call.started_ms)
        .collect();
    ensure!(!listed.is_empty(), "ids are known by the listing");
    ensure!(listed.windows(2).all(|pair| pair[1] - pair[0] >= 59_000), "{listed:?}");
    Ok(())
}
