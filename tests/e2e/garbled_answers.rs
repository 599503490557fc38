//! What comes back from AWS is cut off or torn on its way: nothing is written and nothing concluded by it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use world::{World, WorldOptions};

use crate::stage::{ASSOCIATE, DISASSOCIATE, Story, is_held, quick_world, reason};

/// Tears each listing in another place.
fn torn(request: &str, body: bytes::Bytes) -> bytes::Bytes {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    if !request.contains("Describe") {
        return body;
    }
    let nth = NEXT.fetch_add(1, Ordering::Relaxed);
    let text = String::from_utf8_lossy(&body).into_owned();
    match nth % 4 {
        // Right before the row of the first instance, so that what is left reads like an answer without it.
        0 => text.split("<item>").next().unwrap_or_default().to_owned().into(),
        1 => text.replace("instanceId>", "instance>").into(),
        2 => body.slice(..body.len() * (nth % 7) / 7),
        _ => text.replace("i-", "I-").into(),
    }
}

#[test]
fn torn_answers_move_nothing_and_let_nothing_go() -> Result<()> {
    let world = World::new(WorldOptions { without_controller: true, ..WorldOptions::default() })?;
    let s = world.scenario("torn")?;
    let tap = world.tap()?;
    let controller = world
        .controller_command()
        .args(["--resync-interval=1s"])
        .through(&tap)
        .start(world.scratch().path(), "tapped")?;
    let app = s.sandbox().profile("app")?;
    let (stays, goes) = (s.sandbox().instance("running", None)?, s.sandbox().instance("running", None)?);
    s.bind("stays", &stays, &json!({"name": "app"}))?;
    s.bind("goes", &goes, &json!({"name": "app"}))?;
    s.wait_until_ready("stays")?;
    s.wait_until_ready("goes")?;
    // By now what was written has settled: whoever looks believes what he sees.
    std::thread::sleep(std::time::Duration::from_secs(12));
    tap.rewrite(Some(Arc::new(torn)));
    // The deletion has to look first.
    s.sandbox().fault(&json!({"action": DISASSOCIATE, "instance": goes, "count": null, "effect": "drop"}))?;
    s.delete("goes")?;
    let asked = s.ask("stays")?;
    s.passes(8)?;
    let held = s.binding("goes")?;
    assert!(is_held(&held), "its instance is not known to be bare: {:#}", held["status"]);
    assert_eq!(reason(&s.binding("stays")?), "Associated");
    assert_eq!(s.changes(&stays)?, [ASSOCIATE]);
    tap.rewrite(None);
    s.sandbox().delete("faults")?;
    s.vanishes("goes")?;
    assert_eq!(s.sandbox().profile_of(&goes)?, None);
    s.patiently("stays", "has looked", |found| found["status"]["lastHandledRequestedAt"] == asked)?;
    assert_eq!(s.sandbox().profile_of(&stays)?, Some(app));
    assert_eq!(s.changes(&stays)?, [ASSOCIATE]);
    ensure!(controller.metric("controller_runtime_reconcile_panics_total", &[])? == 0.0, "a pass panicked");
    controller.process().still_runs()
}

/// Whoever has the right to write statuses writes nonsense, of every form that the API server takes.
#[test]
fn nonsense_in_a_status_is_put_right_and_moves_nothing() -> Result<()> {
    let world = quick_world()?;
    let s = world.scenario("nonsense")?;
    let app = s.sandbox().profile("app")?;
    s.sandbox().profile("admin")?;
    let i = s.sandbox().instance("running", Some("app"))?;
    s.bind("web", &i, &json!({"name": "app"}))?;
    s.wait_until_ready("web")?;
    let admin = "arn:aws:iam::123456789012:instance-profile/admin";
    let change = |at: &str, to: &str| json!({"operation": ASSOCIATE, "from": "none", "to": to, "at": at});
    let path = format!("{}/status", s.path("web"));
    for status in [
        json!({"changes": [change("2020-02-30T25:61:61Z", admin)]}),
        json!({"changes": [change("2020-01-01T00:00:00Z", admin), change("9999-12-31T23:59:59Z", "\u{0}")]}),
        json!({"changes": [change("2020-01-01T00:00:00.123456789+14:00", "none")], "previous": {"profileArn": admin, "none": true}}),
        json!({"region": "nowhere", "account": "nobody"}),
        json!({"observedGeneration": i64::MAX, "plan": [{"operation": DISASSOCIATE, "reason": "\u{1b}[2J"}]}),
        json!({"observed": {"profileArn": admin, "associationId": "iip-assoc-0", "associationState": "associated"}, "adopted": false}),
        json!({"desired": {"none": true}, "profile": "none", "lastHandledRequestedAt": "x".repeat(100_000)}),
        json!({"conditions": [{"type": "Ready", "status": "False", "reason": "Stolen", "message": "m", "lastTransitionTime": "2020-01-01T00:00:00Z"}]}),
        Value::Null,
    ] {
        // What its schema refuses never arrives.
        let taken = s.world().control_plane().api().merge(&path, &json!({"status": status}));
        let asked = s.ask("web")?;
        s.patiently("web", "is put right", |found| {
            found["status"]["lastHandledRequestedAt"] == asked
                && (reason(found) == "Associated" || reason(found) == "RegionChanged")
        })?;
        println!("{} {:.80}", if taken.is_ok() { "taken:  " } else { "refused:" }, status.to_string());
        if s.binding("web")?["status"]["region"] == "nowhere" {
            s.world()
                .control_plane()
                .api()
                .merge(&path, &json!({"status": {"region": "eu-west-1", "account": "123456789012"}}))?;
        }
    }
    s.reaches("web", "Associated")?;
    assert_eq!(s.sandbox().writes_to(&i)?, [], "nothing was written");
    assert_eq!(s.sandbox().profile_of(&i)?, Some(app));
    Ok(())
}
