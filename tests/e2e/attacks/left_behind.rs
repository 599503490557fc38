//! A binding that goes without a right: it is never held back, and what the instance carries stays.

use anyhow::Result;
use serde_json::json;
use world::{Grants, Scenario, World, WorldOptions, eventually_ok};

use crate::grants::{Rights, allowing, stranger, with};
use crate::stage::{ASSOCIATE, Story, is_held};

fn released(s: &Scenario<'_>) -> Result<f64> {
    s.world().controller()?.metric("instancerole_released_total", &["outcome=\"LeftInPlace\""])
}

#[test]
fn deleted_after_its_grant() -> Result<()> {
    let s = stranger("left")?;
    let app = s.sandbox().profile("left-behind")?;
    let i = s.sandbox().instance("running", None)?;
    s.grant("own", &allowing(&["left-behind"]))?;
    s.bind("web", &i, &json!({"name": "left-behind"}))?;
    assert!(is_held(&s.is_carried_out("web")?));
    s.revoke("own")?;
    s.loses_its_right("web")?;
    let before = released(&s)?;
    s.delete("web")?;
    s.vanishes("web")?;
    let event = s.event("web", "LeftInPlace")?;
    let note = event["note"].as_str().unwrap_or_default();
    assert!(!note.contains("left-behind"), "what the instance carries is not its business any more: {note}");
    eventually_ok("it is counted", std::time::Duration::from_secs(10), || match released(&s)? {
        after if after > before => Ok(()),
        after => Err(anyhow::anyhow!("{before}, then {after}")),
    })?;
    s.passes(2)?;
    assert_eq!(s.sandbox().profile_of(&i)?, Some(app));
    assert_eq!(s.writes(&i)?, [ASSOCIATE]);
    Ok(())
}

#[test]
fn deleted_together_with_its_grant() -> Result<()> {
    let s = stranger("both")?;
    s.sandbox().profile("both-app")?;
    let i = s.sandbox().instance("running", None)?;
    s.grant("own", &allowing(&["both-app"]))?;
    s.bind("web", &i, &json!({"name": "both-app"}))?;
    s.is_carried_out("web")?;
    s.revoke("own")?;
    s.delete("web")?;
    // Whichever of the two was seen first, it is not held, and what was done was allowed when it was done.
    s.vanishes("web")?;
    Ok(())
}

#[test]
fn deleted_after_its_grant_while_aws_is_away() -> Result<()> {
    let world = World::new(WorldOptions {
        controller_flags: vec!["--resync-interval=1s".into()],
        grants: Grants::None,
        ..WorldOptions::default()
    })?;
    let s = world.scenario("away")?;
    s.sandbox().profile("app")?;
    let (i, j) = (
        s.sandbox().instance("running", None)?,
        s.sandbox().add_instances(&json!({"count": 1, "tags": {"team": "a"}}))?.remove(0),
    );
    s.grant("own", &with(allowing(&["app"]), "instances", json!({"ids": [i]})))?;
    s.grant("tagged", &with(allowing(&["app"]), "instances", json!({"tags": {"team": "a"}})))?;
    s.bind("web", &i, &json!({"name": "app"}))?;
    s.bind("tagged", &j, &json!({"name": "app"}))?;
    s.is_carried_out("web")?;
    s.is_carried_out("tagged")?;
    s.revoke("own")?;
    s.revoke("tagged")?;
    s.loses_its_right("web")?;
    s.loses_its_right("tagged")?;
    s.sandbox().fault(&json!({"action": "*", "count": null, "effect": "drop"}))?;
    s.delete("web")?;
    s.delete("tagged")?;
    // Nothing that AWS could say would change what must be done: nothing.
    s.vanishes("web")?;
    s.vanishes("tagged")?;
    Ok(())
}

#[test]
fn deleted_after_the_tag_is_gone() -> Result<()> {
    let s = stranger("untagged")?;
    let app = s.sandbox().profile("untagged-app")?;
    let i = s.sandbox().add_instances(&json!({"count": 1, "tags": {"team": "a"}}))?.remove(0);
    s.grant("own", &with(allowing(&["untagged-app"]), "instances", json!({"tags": {"team": "a"}})))?;
    s.bind("web", &i, &json!({"name": "untagged-app"}))?;
    s.is_carried_out("web")?;
    // Right before the deletion, so that only the look for it can see it. EC2's own reads lag a little.
    s.sandbox().retag(&i, &json!({"team": "b"}))?;
    std::thread::sleep(std::time::Duration::from_millis(300));
    s.delete("web")?;
    s.vanishes("web")?;
    s.event("web", "LeftInPlace")?;
    assert_eq!(s.sandbox().profile_of(&i)?, Some(app));
    assert_eq!(s.writes(&i)?, [ASSOCIATE]);
    Ok(())
}

#[test]
fn deleted_without_ever_having_had_a_right() -> Result<()> {
    let s = stranger("never")?;
    let app = s.sandbox().profile("never-app")?;
    let i = s.sandbox().instance("running", Some("never-app"))?;
    for (n, policy) in ["Detach", "Restore", "Retain"].iter().enumerate() {
        let binding = format!("web-{n}");
        let profile = json!({"name": "never-app"});
        s.apply(&binding, &json!({"instanceId": i, "instanceProfile": profile, "deletionPolicy": policy}))?;
        s.is_refused(&binding)?;
        s.delete(&binding)?;
        assert_eq!(s.world().control_plane().api().find(&s.path(&binding))?, None, "{policy}: gone at once");
    }
    s.passes(2)?;
    assert_eq!(s.sandbox().profile_of(&i)?, Some(app));
    assert_eq!(s.writes(&i)?, [""; 0]);
    assert_eq!(s.questions_about(&i)?, []);
    Ok(())
}

#[test]
fn a_swap_is_ended_whatever_is_edited_in_the_middle_where_no_instance_may_be_bare() -> Result<()> {
    let s = stranger("debt")?;
    let app = s.sandbox().profile("debt-app")?;
    let old = s.sandbox().profile("debt-old")?;
    let rule = with(allowing(&["debt-app", "debt-old"]), "allowNone", json!(false));
    s.grant("own", &rule)?;
    let declared = |i: &str| json!({"instanceId": i, "instanceProfile": {"name": "debt-app"}});
    for (name, member, value) in
        [("suspended", "suspend", json!(true)), ("observing", "mode", json!("Observe"))]
    {
        let i = s.sandbox().instance("stopped", Some("debt-old"))?;
        // The dry run passes; then the second half waits for its turn.
        let throttle =
            json!({"action": ASSOCIATE, "instance": i, "skip": 1, "count": null, "effect": "throttle"});
        let fault = s.sandbox().fault(&throttle)?;
        s.apply(name, &declared(&i))?;
        s.carries(&i, None)?;
        s.apply(name, &with(declared(&i), member, value))?;
        s.sandbox().delete(&format!("faults?id={fault}"))?;
        s.carries(&i, Some(&app))?;
    }
    let i = s.sandbox().instance("stopped", Some("debt-old"))?;
    let throttle =
        json!({"action": ASSOCIATE, "instance": i, "skip": 1, "count": null, "effect": "throttle"});
    let fault = s.sandbox().fault(&throttle)?;
    s.apply("web", &declared(&i))?;
    s.carries(&i, None)?;
    // The right to what was to come is taken away: what was there before comes back.
    s.grant("own", &with(allowing(&["debt-old"]), "allowNone", json!(false)))?;
    s.sandbox().delete(&format!("faults?id={fault}"))?;
    s.carries(&i, Some(&old))?;
    Ok(())
}

#[test]
fn a_deletion_in_the_middle_of_a_swap_does_not_leave_the_instance_bare_where_it_may_not_be() -> Result<()> {
    let s = stranger("debt-gone")?;
    let app = s.sandbox().profile("debt-gone-app")?;
    s.sandbox().profile("debt-gone-old")?;
    let never_bare = with(allowing(&["debt-gone-app", "debt-gone-old"]), "allowNone", json!(false));
    s.grant("own", &never_bare)?;
    for (name, policy) in [("detach", "Detach"), ("retain", "Retain")] {
        let i = s.sandbox().instance("stopped", Some("debt-gone-old"))?;
        let throttle =
            json!({"action": ASSOCIATE, "instance": i, "skip": 1, "count": null, "effect": "throttle"});
        let fault = s.sandbox().fault(&throttle)?;
        let spec =
            json!({"instanceId": i, "instanceProfile": {"name": "debt-gone-app"}, "deletionPolicy": policy});
        s.apply(name, &spec)?;
        s.carries(&i, None)?;
        s.delete(name)?;
        s.sandbox().delete(&format!("faults?id={fault}"))?;
        s.vanishes(name)?;
        s.carries(&i, Some(&app))?;
    }
    Ok(())
}
