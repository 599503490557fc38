//! Control plane, sandbox and controller together: the controller starts as its own service account, and stops.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use world::{World, WorldOptions};

#[test]
fn the_controller_gets_ready_as_its_service_account_and_stops_when_asked() -> Result<()> {
    let mut world = World::new(WorldOptions::default())?;
    let controller = world.controller()?;
    assert_eq!(controller.probe("/healthz")?.0, 200);
    assert!(controller.metrics()?.contains("instancerole_build_info"));
    assert!(controller.memory_kib("VmRSS")? > 1000);
    assert!(!controller.log()?.is_empty());

    assert_eq!(world.take_controller()?.terminate()?, 0);
    let calls = world.api_calls()?;
    let refused: Vec<_> = calls.iter().filter(|call| matches!(call.status.code, 401 | 403)).collect();
    assert!(!calls.is_empty() && refused.is_empty(), "the shipped RBAC is too narrow: {refused:#?}");
    Ok(())
}

#[test]
fn a_binding_goes_all_the_way_to_ec2_and_back() -> Result<()> {
    let scenario = World::shared()?.scenario("smoke")?;
    let web = scenario.sandbox().profile("web")?;
    let instance = scenario.sandbox().instance("running", None)?;

    scenario.bind("web", &instance, &json!({"name": "web"}))?;
    let ready = scenario.wait_until_ready("web")?;
    assert_eq!(ready["status"]["observed"]["profileArn"], web);
    assert_eq!(scenario.sandbox().profile_of(&instance)?, Some(web));

    scenario.delete("web")?;
    scenario.wait_until_gone("web")?;
    let writes = scenario.sandbox().writes_to(&instance)?;
    let actions: Vec<_> = writes.iter().map(|call| call.action.as_str()).collect();
    assert_eq!(actions, ["AssociateIamInstanceProfile", "DisassociateIamInstanceProfile"]);
    assert!(!scenario.events("web")?.is_empty());
    Ok(())
}

#[test]
fn what_is_awaited_in_vain_is_told_with_the_conditions_and_the_log() -> Result<()> {
    let scenario = World::shared()?.scenario("in-vain")?;
    scenario.bind("web", "i-00000000000000000", &json!({"name": "no-such-profile"}))?;
    scenario.wait_until("web", "is seen", |object| object["status"]["conditions"].is_array())?;
    let told = scenario.wait_until_within(Duration::ZERO, "web", "is a miracle", |_| false).unwrap_err();
    let told = format!("{told:#}");
    assert!(told.contains("is a miracle: not within 0ns") && told.contains("Ready=False"), "{told}");
    assert!(told.contains("last lines of the controller"), "{told}");
    Ok(())
}

#[test]
fn a_scenario_knows_its_bindings_and_nobody_elses() -> Result<()> {
    let world = World::new(WorldOptions { without_controller: true, ..WorldOptions::default() })?;
    let scenario = world.scenario("by-hand")?;
    let instance = world.sandbox().instance("running", None)?;
    scenario.bind("web", &instance, &json!({"name": "web"}))?;
    assert_eq!(scenario.binding("web")?["spec"]["instanceId"], instance);
    assert_eq!(scenario.events("web")?.len(), 0);
    scenario.delete("web")?;
    scenario.wait_until_gone("web")
}
