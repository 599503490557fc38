//! Instances that cannot be changed now, or ever.

use anyhow::Result;
use serde_json::{Value, json};
use world::{ACCOUNT, OTHER_REGION, eventually_ok};

use crate::stage::{ASSOCIATE, DISASSOCIATE, REPLACE, Story, condition, message, reason, scenario, truth};

#[test]
fn wait_for_running_leaves_a_stopped_instance_alone() -> Result<()> {
    let s = scenario("wait-for-running")?;
    let app = s.sandbox().profile("wfr-app")?;
    let old = s.sandbox().profile("wfr-old")?;
    let i = s.sandbox().instance("stopped", Some("wfr-old"))?;
    let spec =
        json!({"instanceId": i, "instanceProfile": {"name": "wfr-app"}, "whenStopped": "WaitForRunning"});
    s.apply("web", &spec)?;
    let waiting = s.reaches("web", "WaitingForRunning")?;
    assert_eq!(truth(&waiting, "Reconciling"), "True");
    assert_eq!(condition(&waiting, "Stalled"), &Value::Null);
    assert_eq!(s.sandbox().profile_of(&i)?, Some(old));
    assert_eq!(s.sandbox().writes_to(&i)?, []);
    s.sandbox().aws_cli().run(&["ec2", "start-instances", "--instance-ids", &i])?;
    s.reaches("web", "Associated")?;
    assert_eq!(s.sandbox().profile_of(&i)?, Some(app));
    assert_eq!(s.changes(&i)?, [REPLACE]);
    Ok(())
}

#[test]
fn a_starting_instance_is_waited_for() -> Result<()> {
    let s = scenario("pending")?;
    let app = s.sandbox().profile("pending-app")?;
    let i = s.sandbox().instance("pending", None)?;
    s.bind("web", &i, &json!({"name": "pending-app"}))?;
    s.reaches("web", "Associated")?;
    s.carries(&i, Some(&app))?;
    assert_eq!(s.changes(&i)?, [ASSOCIATE]);
    Ok(())
}

#[test]
fn the_states_in_between_are_told() -> Result<()> {
    let world = crate::stage::quick_world()?;
    let s = world.scenario("between")?;
    s.sandbox().profile("app")?;
    let starting = s.sandbox().instance("running", None)?;
    let stopping = s.sandbox().instance("running", None)?;
    // States that are set so last until they are set anew.
    s.sandbox().change_instance(&starting, &json!({"state": "pending"}))?;
    s.sandbox().change_instance(&stopping, &json!({"state": "stopping"}))?;
    s.bind("starting", &starting, &json!({"name": "app"}))?;
    s.bind("stopping", &stopping, &json!({"name": "app"}))?;
    for (binding, awaited) in [("starting", "InstancePending"), ("stopping", "InstanceStopping")] {
        let found = s.wait_for_reason(binding, "Ready", awaited)?;
        assert_eq!(truth(&found, "Reconciling"), "True", "{awaited}");
        assert_eq!(condition(&found, "Stalled"), &Value::Null, "{awaited}");
    }
    // EC2 shows an instance's state late, so one try may have been refused; no more than that.
    assert!(s.sandbox().writes_to(&starting)?.len() <= 1 && s.sandbox().writes_to(&stopping)?.len() <= 1);
    s.sandbox().change_instance(&starting, &json!({"state": "running"}))?;
    s.sandbox().change_instance(&stopping, &json!({"state": "stopped"}))?;
    s.reaches("starting", "Associated")?;
    s.reaches("stopping", "Associating")?;
    s.patiently("stopping", "attached", |found| {
        found["status"]["observed"]["associationState"] == "associating"
    })?;
    assert_eq!(s.changes(&starting)?, [ASSOCIATE]);
    assert_eq!(s.changes(&stopping)?, [ASSOCIATE]);
    Ok(())
}

#[test]
fn a_terminated_instance_needs_a_person() -> Result<()> {
    let s = scenario("terminated")?;
    s.sandbox().profile("terminated-app")?;
    let i = s.sandbox().instance("running", None)?;
    s.bind("web", &i, &json!({"name": "terminated-app"}))?;
    s.wait_until_ready("web")?;
    s.sandbox().aws_cli().run(&["ec2", "terminate-instances", "--instance-ids", &i])?;
    let binding = s.reaches("web", "InstanceTerminated")?;
    assert_eq!(truth(&binding, "Stalled"), "True");
    assert!(message(&binding).contains("delete this binding"), "{}", message(&binding));
    s.event("web", "InstanceTerminated")?;
    s.delete("web")?;
    s.vanishes("web")?;
    assert_eq!(s.changes(&i)?, [ASSOCIATE], "nothing is asked of an instance that is gone");
    Ok(())
}

#[test]
fn a_managed_instance_is_left_alone() -> Result<()> {
    let s = scenario("managed")?;
    s.sandbox().profile("managed-app")?;
    let ids = s.sandbox().add_instances(&json!({"count": 1, "managed": true}))?;
    let i = &ids[0];
    s.bind("web", i, &json!({"name": "managed-app"}))?;
    let binding = s.reaches("web", "InstanceProtected")?;
    assert_eq!(truth(&binding, "Stalled"), "True");
    assert_eq!(s.sandbox().writes_to(i)?, [], "not even tried");
    s.delete("web")?;
    s.vanishes("web")?;
    Ok(())
}

#[test]
fn an_id_that_ec2_calls_malformed_disturbs_nobody() -> Result<()> {
    let world = crate::stage::quick_world()?;
    let s = world.scenario("malformed")?;
    s.sandbox().profile("app")?;
    let good: Vec<String> = s.sandbox().add_instances(&json!({"count": 3}))?;
    s.bind("bad", "i-00000000000000000", &json!({"name": "app"}))?;
    for (n, i) in good.iter().enumerate() {
        s.bind(&format!("good-{n}"), i, &json!({"name": "app"}))?;
    }
    for n in 0..good.len() {
        s.wait_until_ready(&format!("good-{n}"))?;
    }
    let binding = s.patiently("bad", "is stalled: no such instance can ever come", |found| {
        reason(found) == "InstanceNotFound" && truth(found, "Stalled") == "True"
    })?;
    assert!(message(&binding).contains("malformed"), "{}", message(&binding));
    // Nor later: drift of the others is seen and repaired.
    s.sandbox().drift(&good[0], None)?;
    s.patiently("good-0", "repaired", |found| {
        found["status"]["changes"].as_array().is_some_and(|all| all.len() == 2)
            && reason(found) == "Associated"
    })?;
    s.delete("bad")?;
    s.vanishes("bad")?;
    Ok(())
}

#[test]
fn an_instance_of_another_region() -> Result<()> {
    let s = scenario("region")?;
    s.sandbox().profile("region-app")?;
    let region = OTHER_REGION;
    let ids = s.sandbox().add_instances(&json!({"count": 1, "region": region}))?;
    let i = &ids[0];
    s.apply("web", &json!({"instanceId": i, "region": region, "instanceProfile": {"name": "region-app"}}))?;
    let binding = s.wait_until_ready("web")?;
    assert_eq!(binding["status"]["region"], region);
    assert_eq!(binding["status"]["account"], ACCOUNT);
    let there = format!("state?account={ACCOUNT}&region={region}&instance={i}");
    let carried = |there: &str| -> Result<Value> {
        Ok(s.sandbox().get(there)?.pointer("/instances/0/profileArn").cloned().unwrap_or_default())
    };
    assert_eq!(carried(&there)?, s.sandbox().profile("region-app")?);
    assert_eq!(s.changes(i)?, [ASSOCIATE]);
    // The same id in the controller's own Region is another instance, which is not there.
    s.bind("here", i, &json!({"name": "region-app"}))?;
    s.reaches("here", "InstanceNotFound")?;
    s.delete("web")?;
    s.vanishes("web")?;
    eventually_ok("taken off there", std::time::Duration::from_secs(5), || match carried(&there)? {
        Value::Null => Ok(()),
        found => Err(anyhow::anyhow!("{found}")),
    })?;
    assert_eq!(s.changes(i)?, [ASSOCIATE, DISASSOCIATE]);
    Ok(())
}
