//! AWS throttles, fails, hangs, answers by halves, lies late, and lets credentials run out: reads and writes each, and all of it at
//! once. For longer, and with everything else besides: `make storm`.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use world::{Call, Scenario, eventually_ok};

use crate::stage::{ASSOCIATE, DISASSOCIATE, REPLACE, Story, is_observed, quick_world, reason};

const READS: [&str; 2] = ["DescribeIamInstanceProfileAssociations", "DescribeInstances"];
const WRITES: [&str; 3] = [ASSOCIATE, REPLACE, DISASSOCIATE];
/// How long it lasts.
const WEATHER: Duration = Duration::from_secs(15);

fn error(code: &str, status: u16) -> Value {
    json!({"error": {"code": code, "status": status, "message": "the weather"}})
}

fn on_any() -> Vec<Value> {
    vec![
        json!("throttle"),
        json!("drop"),
        json!("lostReply"),
        json!({"hang": {"ms": 6000}}),
        error("InternalError", 500),
        error("Unavailable", 503),
        error("RequestExpired", 400),
    ]
}

fn on_reads() -> Vec<Value> {
    [on_any(), vec![json!({"partialPage": {"rows": 2}}), json!({"staleRead": {"ms": 3000}})]].concat()
}

fn on_writes() -> Vec<Value> {
    [
        on_any(),
        vec![
            json!({"late": {"ms": 4000, "client": "hang"}}),
            json!({"late": {"ms": 2000, "client": "drop"}}),
        ],
    ]
    .concat()
}

/// A tenth of the calls to these operations meets each of these fates.
fn weather(s: &Scenario<'_>, operations: &[&str], fates: &[Value]) -> Result<()> {
    for (luck, (operation, effect)) in
        operations.iter().flat_map(|operation| fates.iter().map(move |fate| (operation, fate))).enumerate()
    {
        let fault =
            json!({"action": operation, "count": null, "chance": 0.1, "luck": luck, "effect": effect});
        s.sandbox().fault(&fault)?;
    }
    Ok(())
}

/// People edit, outsiders interfere, instances stop and start, while AWS is as it is. Then it is well again, and all has to be
/// as declared, without a moment in which a running instance was bare.
fn weathers(name: &str, on_reads: &[Value], on_writes: &[Value], credentials: bool) -> Result<()> {
    let world = quick_world()?;
    let s = world.scenario(name)?;
    let arns = [s.sandbox().profile("app")?, s.sandbox().profile("batch")?];
    s.sandbox().profile("foreign")?;
    let mut all = Vec::new();
    for nth in 0..16 {
        // One in four is stopped, and swaps by two writes.
        let state = if nth % 4 == 3 { "stopped" } else { "running" };
        let instance = s.sandbox().instance(state, Some("app"))?;
        let binding = format!("web-{nth}");
        s.bind(&binding, &instance, &json!({"name": "app"}))?;
        all.push((binding, instance, state));
    }
    for (binding, instance, _) in &all {
        s.patiently(binding, "is told of", |found| found["status"]["observed"]["profileArn"] == arns[0])?;
        assert_eq!(s.sandbox().writes_to(instance)?, []);
    }
    weather(&s, &READS, on_reads)?;
    weather(&s, &WRITES, on_writes)?;
    let key = s.sandbox().aws_env().access_key().to_owned();
    let began = Instant::now();
    let mut turn = 0;
    while began.elapsed() < WEATHER {
        turn += 1;
        for (nth, (binding, instance, state)) in all.iter().enumerate() {
            if (nth + turn) % 3 == 0 {
                s.choose(binding, json!({"name": if turn % 2 == 0 { "app" } else { "batch" }}))?;
            }
            if nth == turn && *state == "running" {
                s.sandbox().drift(instance, Some("foreign"))?;
            }
        }
        if credentials && turn % 3 == 0 {
            s.sandbox().post("credentials", &json!({"accessKey": key, "state": "expired"}))?;
            std::thread::sleep(Duration::from_secs(1));
            s.sandbox().post("credentials", &json!({"accessKey": key, "state": "active"}))?;
        }
        std::thread::sleep(Duration::from_secs(2));
    }
    s.sandbox().delete("faults")?;
    for (binding, instance, state) in &all {
        let wanted = match s.binding(binding)?["spec"]["instanceProfile"]["name"].as_str() {
            Some("app") => &arns[0],
            _ => &arns[1],
        };
        s.carries(instance, Some(wanted))?;
        s.patiently(binding, "tells how it is", |found| {
            let right = if *state == "stopped" { "Associating" } else { "Associated" };
            is_observed(found)
                && found["status"]["observed"]["profileArn"] == *wanted
                && [right, "Associated"].contains(&reason(found))
        })?;
        if *state == "running" {
            assert_eq!(s.sandbox().gaps(instance)?, [], "{binding}");
            assert!(!s.changes(instance)?.contains(&DISASSOCIATE.to_owned()), "{binding}");
        }
    }
    let last = s.sandbox().last_call()?;
    s.passes(3)?;
    let written: Vec<Call> = s.sandbox().calls_since(last)?.into_iter().filter(Call::is_write).collect();
    assert_eq!(written, [], "all is well, nothing is written");
    let controller = s.world().controller()?;
    ensure!(controller.metric("controller_runtime_reconcile_panics_total", &[])? == 0.0, "a pass panicked");
    controller.process().still_runs()
}

#[test]
fn reads_that_fail_in_every_way_leave_nothing_undone() -> Result<()> {
    weathers("weather-reads", &on_reads(), &[], false)
}

#[test]
fn writes_that_fail_in_every_way_leave_nothing_undone() -> Result<()> {
    weathers("weather-writes", &[], &on_writes(), false)
}

#[test]
fn everything_that_fails_in_every_way_at_once_leaves_nothing_undone() -> Result<()> {
    weathers("weather-all", &on_reads(), &on_writes(), true)
}

#[test]
fn credentials_that_expired_are_told_and_their_return_is_noticed() -> Result<()> {
    let world = quick_world()?;
    let s = world.scenario("expired-token")?;
    let (app, other) = (s.sandbox().profile("app")?, s.sandbox().profile("other")?);
    let i = s.sandbox().instance("running", Some("app"))?;
    s.bind("web", &i, &json!({"name": "app"}))?;
    s.wait_until_ready("web")?;
    let key = s.sandbox().aws_env().access_key().to_owned();
    s.sandbox().post("credentials", &json!({"accessKey": key, "state": "expired"}))?;
    s.choose("web", json!({"name": "other"}))?;
    s.reaches("web", "CredentialsUnavailable")?;
    assert_eq!(s.sandbox().profile_of(&i)?, Some(app));
    s.sandbox().post("credentials", &json!({"accessKey": key, "state": "active"}))?;
    s.carries(&i, Some(&other))?;
    s.reaches("web", "Associated")?;
    eventually_ok("ready again", Duration::from_secs(20), || {
        let (status, said) = s.world().controller()?.probe("/readyz")?;
        ensure!(status == 200, "{said}");
        Ok(())
    })
}
