//! Lost replies, throttles, errors, silence, lag: the world ends as declared, with no write too many.

use anyhow::Result;
use serde_json::{Value, json};

use crate::stage::{ASSOCIATE, DISASSOCIATE, REPLACE, Story, quick_world, reason, scenario};

#[test]
fn a_lost_reply_to_associate() -> Result<()> {
    let s = scenario("lost-associate")?;
    let app = s.sandbox().profile("lost-associate")?;
    let i = s.sandbox().instance("running", None)?;
    s.sandbox().fault(&json!({"action": ASSOCIATE, "instance": i, "effect": "lostReply"}))?;
    s.bind("web", &i, &json!({"name": "lost-associate"}))?;
    s.reaches("web", "Associated")?;
    assert_eq!(s.sandbox().profile_of(&i)?, Some(app));
    assert_eq!(s.changes(&i)?, [ASSOCIATE]);
    Ok(())
}

#[test]
fn a_lost_reply_to_replace() -> Result<()> {
    let s = scenario("lost-replace")?;
    let app = s.sandbox().profile("lost-replace")?;
    s.sandbox().profile("lost-replace-old")?;
    let i = s.sandbox().instance("running", Some("lost-replace-old"))?;
    s.sandbox().fault(&json!({"action": REPLACE, "instance": i, "effect": "lostReply"}))?;
    s.bind("web", &i, &json!({"name": "lost-replace"}))?;
    let binding = s.reaches("web", "Associated")?;
    assert_eq!(s.sandbox().profile_of(&i)?, Some(app));
    assert_eq!(s.changes(&i)?, [REPLACE]);
    assert_eq!(s.sandbox().gaps(&i)?, []);
    assert_eq!(
        binding["status"]["previous"]["profileArn"],
        "arn:aws:iam::123456789012:instance-profile/lost-replace-old"
    );
    Ok(())
}

#[test]
fn a_lost_reply_to_disassociate() -> Result<()> {
    let s = scenario("lost-detach")?;
    s.sandbox().profile("lost-detach-old")?;
    let i = s.sandbox().instance("running", Some("lost-detach-old"))?;
    s.sandbox().fault(&json!({"action": DISASSOCIATE, "instance": i, "effect": "lostReply"}))?;
    s.bind("web", &i, &json!({"none": {}}))?;
    s.reaches("web", "Disassociated")?;
    assert_eq!(s.sandbox().profile_of(&i)?, None);
    assert_eq!(s.changes(&i)?, [DISASSOCIATE]);
    Ok(())
}

#[test]
fn lost_replies_to_both_halves_of_a_swap() -> Result<()> {
    let s = scenario("lost-swap")?;
    let app = s.sandbox().profile("lost-swap")?;
    s.sandbox().profile("lost-swap-old")?;
    let i = s.sandbox().instance("stopped", Some("lost-swap-old"))?;
    s.sandbox().fault(&json!({"action": DISASSOCIATE, "instance": i, "effect": "lostReply"}))?;
    // The first Associate is the dry run.
    s.sandbox().fault(&json!({"action": ASSOCIATE, "instance": i, "skip": 1, "effect": "lostReply"}))?;
    s.bind("web", &i, &json!({"name": "lost-swap"}))?;
    s.carries(&i, Some(&app))?;
    s.patiently("web", "tells of it", |found| found["status"]["observed"]["profileArn"] == app)?;
    assert_eq!(s.changes(&i)?, [DISASSOCIATE, ASSOCIATE]);
    Ok(())
}

#[test]
fn a_lost_reply_on_deletion() -> Result<()> {
    let s = scenario("lost-delete")?;
    s.sandbox().profile("lost-delete")?;
    let i = s.sandbox().instance("running", None)?;
    s.bind("web", &i, &json!({"name": "lost-delete"}))?;
    s.wait_until_ready("web")?;
    s.sandbox().fault(&json!({"action": DISASSOCIATE, "instance": i, "effect": "lostReply"}))?;
    s.delete("web")?;
    s.vanishes("web")?;
    assert_eq!(s.sandbox().profile_of(&i)?, None);
    assert_eq!(s.changes(&i)?, [ASSOCIATE, DISASSOCIATE]);
    Ok(())
}

#[test]
fn throttles_and_errors_on_the_way() -> Result<()> {
    let s = scenario("errors")?;
    let internal = json!({"error": {"code": "InternalError", "status": 500, "message": "try again"}});
    let unavailable = json!({"error": {"code": "Unavailable", "status": 503, "message": "try again"}});
    for (name, effect) in [("internal", internal), ("unavailable", unavailable), ("dropped", json!("drop"))] {
        let app = s.sandbox().profile(&format!("errors-{name}"))?;
        let i = s.sandbox().instance("running", None)?;
        s.sandbox().fault(&json!({"action": ASSOCIATE, "instance": i, "count": 2, "effect": effect}))?;
        s.bind(name, &i, &json!({"name": format!("errors-{name}")}))?;
        s.reaches(name, "Associated")?;
        assert_eq!(s.sandbox().profile_of(&i)?, Some(app), "{name}");
        assert_eq!(s.changes(&i)?, [ASSOCIATE], "{name}");
    }
    Ok(())
}

#[test]
fn throttled_writes_are_told_and_made_later() -> Result<()> {
    let world = quick_world()?;
    let s = world.scenario("throttled")?;
    let app = s.sandbox().profile("app")?;
    let i = s.sandbox().instance("running", None)?;
    s.sandbox().fault(&json!({"action": ASSOCIATE, "instance": i, "count": 3, "effect": "throttle"}))?;
    s.bind("web", &i, &json!({"name": "app"}))?;
    s.reaches("web", "Associated")?;
    assert_eq!(s.sandbox().profile_of(&i)?, Some(app));
    let refused = s.sandbox().writes_to(&i)?.iter().filter(|call| call.result != "ok").count();
    assert_eq!(refused, 3, "as often as EC2 said so, and no more");
    let throttles = s.world().controller()?.metric("instancerole_aws_api_throttles_total", &[ASSOCIATE])?;
    assert_eq!(throttles, 3.0);
    Ok(())
}

#[test]
fn silence_is_not_waited_for_without_end() -> Result<()> {
    let s = scenario("silence")?;
    let app = s.sandbox().profile("silence-app")?;
    s.sandbox().profile("silence-old")?;
    let i = s.sandbox().instance("running", Some("silence-old"))?;
    // Longer than the controller waits; carried out at its end, when nobody expects it any more.
    s.sandbox().fault(&json!({"action": REPLACE, "instance": i, "effect": {"hang": {"ms": 8000}}}))?;
    s.bind("web", &i, &json!({"name": "silence-app"}))?;
    s.reaches("web", "Associated")?;
    assert_eq!(s.sandbox().profile_of(&i)?, Some(app));
    assert_eq!(s.sandbox().gaps(&i)?, []);
    assert!(s.changes(&i)?.iter().all(|operation| operation == REPLACE));
    Ok(())
}

#[test]
fn pages_lag_and_disorder() -> Result<()> {
    let world = quick_world()?;
    let s = world.scenario("lag")?;
    let settings =
        json!({"page_size": 2, "read_lag_ms": 300, "read_lag_jitter_ms": 700, "instances_lag_ms": 700});
    s.sandbox().settings(&settings)?;
    let app = s.sandbox().profile("app")?;
    s.sandbox().profile("old")?;
    let mut all = Vec::new();
    for (n, before) in [None, Some("old"), Some("app"), None, Some("old")].into_iter().enumerate() {
        let i = s.sandbox().instance("running", before)?;
        let name = format!("web-{n}");
        s.bind(&name, &i, &json!({"name": "app"}))?;
        all.push((name, i, before));
    }
    for (name, i, before) in all {
        s.reaches(&name, "Associated")?;
        assert_eq!(s.sandbox().profile_of(&i)?.as_ref(), Some(&app), "{name}");
        let expected: &[&str] = match before {
            None => &[ASSOCIATE],
            Some("old") => &[REPLACE],
            Some(_) => &[],
        };
        assert_eq!(s.changes(&i)?, expected, "{name}: no write too many");
        assert_eq!(s.sandbox().gaps(&i)?, [], "{name}");
    }
    Ok(())
}

#[test]
fn an_outage_flips_nothing_that_was_well() -> Result<()> {
    let world = quick_world()?;
    let s = world.scenario("outage")?;
    s.sandbox().profile("app")?;
    let i = s.sandbox().instance("running", Some("app"))?;
    s.bind("web", &i, &json!({"name": "app"}))?;
    s.wait_until_ready("web")?;
    let before = s.binding("web")?["metadata"]["resourceVersion"].clone();
    let since = s.sandbox().last_call()?;
    let error = json!({"error": {"code": "InternalError", "status": 500, "message": "down"}});
    s.sandbox().fault(&json!({"action": "Describe*", "count": 6, "effect": error}))?;
    s.passes(8)?;
    let failed = s.sandbox().calls_since(since)?.iter().filter(|call| call.result == "InternalError").count();
    assert_eq!(failed, 6);
    let after = s.binding("web")?;
    assert_eq!(reason(&after), "Associated");
    assert_eq!(after["metadata"]["resourceVersion"], before, "{:#}", after["status"]);
    assert_ne!(before, Value::Null);
    Ok(())
}
