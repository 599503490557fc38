//! The process: how it starts, what it says while it waits, and how it stops.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use world::{World, WorldOptions, eventually_ok};

use crate::stage::{ASSOCIATE, Story, quick_world};

fn without_controller() -> Result<World> {
    World::new(WorldOptions { without_controller: true, ..WorldOptions::default() })
}

#[test]
fn sigterm_stops_it_cleanly() -> Result<()> {
    let mut world = quick_world()?;
    assert_eq!(world.take_controller()?.terminate()?, 0);
    Ok(())
}

#[test]
fn sigterm_lets_a_write_in_flight_finish() -> Result<()> {
    let world = quick_world()?;
    let s = world.scenario("in-flight")?;
    let app = s.sandbox().profile("app")?;
    let i = s.sandbox().instance("running", None)?;
    s.sandbox().fault(&json!({"action": ASSOCIATE, "instance": i, "effect": {"hang": {"ms": 2000}}}))?;
    s.bind("web", &i, &json!({"name": "app"}))?;
    eventually_ok("the write is under way", Duration::from_secs(20), || {
        ensure!(!s.sandbox().writes_to(&i)?.is_empty(), "not yet");
        Ok(())
    })?;
    assert_eq!(s.world().controller()?.terminate()?, 0);
    assert_eq!(s.sandbox().profile_of(&i)?, Some(app));
    let write = s.sandbox().writes_to(&i)?.remove(0);
    assert!(write.delivered, "its reply was heard: {write:?}");
    let noted = s.binding("web")?;
    assert_eq!(noted["status"]["changes"][0]["requestId"], write.request_id, "and noted");
    Ok(())
}

#[test]
fn without_aws_credentials_it_waits_and_says_so() -> Result<()> {
    let world = without_controller()?;
    let command = world.controller_command().env("AWS_ACCESS_KEY_ID", "").env("AWS_SECRET_ACCESS_KEY", "");
    let controller = command.spawn(world.scratch().path(), "no-credentials")?;
    let said = eventually_ok("readyz says what is awaited", Duration::from_secs(20), || {
        let (status, said) = controller.probe("/readyz")?;
        ensure!(status == 503 && said.contains("AWS does not say who we are"), "{status} {said}");
        Ok(said)
    })?;
    assert!(said.contains("aws"), "{said}");
    assert_eq!(controller.probe("/healthz")?.0, 200, "alive, and not to be restarted");
    assert_eq!(controller.probe("/livez")?.0, 200);
    assert!(controller.metrics()?.contains("instancerole_build_info"));
    assert_eq!(controller.terminate()?, 0, "waiting does not keep it from stopping");
    Ok(())
}

#[test]
fn without_an_api_server_it_waits_and_says_so() -> Result<()> {
    let world = without_controller()?;
    let kubeconfig = world.scratch().join("nobody.kubeconfig");
    let nobody = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "clusters": [{"name": "x", "cluster": {"server": "https://127.0.0.1:1", "insecure-skip-tls-verify": true}}],
        "users": [{"name": "x", "user": {"token": "x"}}],
    });
    std::fs::write(&kubeconfig, nobody.to_string())?;
    let command = world.controller_command().env("KUBECONFIG", &kubeconfig.to_string_lossy());
    let controller = command.spawn(world.scratch().path(), "no-api-server")?;
    eventually_ok("readyz says what is awaited", Duration::from_secs(20), || {
        let (status, said) = controller.probe("/readyz")?;
        ensure!(status == 503 && said.contains("bindings cannot be watched"), "{status} {said}");
        Ok(())
    })?;
    assert_eq!(controller.probe("/healthz")?.0, 200);
    assert_eq!(controller.terminate()?, 0);
    Ok(())
}

#[test]
fn without_a_kubeconfig_it_ends_with_one_line() -> Result<()> {
    let world = without_controller()?;
    let command = world.controller_command().env("KUBECONFIG", "/nowhere/kubeconfig");
    let controller = command.spawn(world.scratch().path(), "no-kubeconfig")?;
    let ended = eventually_ok("it ends", Duration::from_secs(20), || {
        controller.process().ended()?.context("it still runs")
    })?;
    assert_eq!(ended.code(), Some(1));
    let printed = controller.process().printed();
    let told: Vec<&str> = printed.lines().filter(|line| !line.starts_with('{')).collect();
    assert_eq!(told.len(), 1, "one line for a person: {printed}");
    assert!(told[0].contains("KUBECONFIG"), "{printed}");
    assert!(!printed.contains("panicked") && !printed.contains("backtrace"), "{printed}");
    Ok(())
}

#[test]
fn the_promised_metrics_are_there_from_the_start() -> Result<()> {
    let world = quick_world()?;
    let controller = world.controller()?;
    assert_eq!(controller.probe("/readyz")?.0, 200);
    let metrics = controller.metrics()?;
    let mut missing = vec![
        "controller_runtime_reconcile_total",
        "controller_runtime_reconcile_errors_total",
        "controller_runtime_terminal_reconcile_errors_total",
        "controller_runtime_reconcile_panics_total",
        "controller_runtime_reconcile_time_seconds",
        "controller_runtime_max_concurrent_reconciles",
        "controller_runtime_active_workers",
        "instancerole_aws_api_requests_total",
        "instancerole_aws_api_request_duration_seconds",
        "instancerole_aws_api_throttles_total",
        "instancerole_mutations_total",
        "instancerole_drift_detected_total",
        "instancerole_contention_total",
        "instancerole_list_pages",
        "instancerole_list_age_seconds",
        "instancerole_convergence_seconds",
        "instancerole_build_info",
        "process_resident_memory_bytes",
    ];
    missing.retain(|name| !metrics.contains(&format!("# TYPE {name} ")));
    assert_eq!(missing, [""; 0]);
    let s = world.scenario("metrics")?;
    s.sandbox().profile("app")?;
    let i = s.sandbox().instance("running", None)?;
    s.bind("web", &i, &json!({"name": "app"}))?;
    s.wait_until_ready("web")?;
    let labels = [format!("operation=\"{ASSOCIATE}\""), "result=\"success\"".to_owned()];
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    assert_eq!(controller.metric("instancerole_mutations_total", &labels)?, 1.0);
    s.passes(2)?;
    // These have no series before the first request, write and binding.
    let later = ["rest_client_requests_total", "instancerole_aws_api_budget_ratio", "instancerole_bindings"];
    let metrics = controller.metrics()?;
    for name in later {
        assert!(metrics.contains(&format!("# TYPE {name} ")), "no {name} in\n{metrics}");
    }
    let ready = ["condition=\"Ready\"", "status=\"True\"", "reason=\"Associated\""];
    assert_eq!(controller.metric("instancerole_bindings", &ready)?, 1.0, "{}", controller.metrics()?);
    let series = controller.metrics()?;
    assert!(!series.contains(&i) && !series.contains(s.namespace()), "no name of an object is a label");
    assert_eq!(controller.metric("controller_runtime_reconcile_panics_total", &[])?, 0.0);
    Ok(())
}

#[test]
fn its_log_is_json_and_silent_about_what_is_well() -> Result<()> {
    let world = quick_world()?;
    let s = world.scenario("log")?;
    s.sandbox().profile("app")?;
    let i = s.sandbox().instance("running", None)?;
    s.bind("web", &i, &json!({"name": "app"}))?;
    s.wait_until_ready("web")?;
    s.passes(2)?;
    let controller = world.controller()?;
    let before = controller.log()?;
    let changed = before.iter().find(|line| line.to_string().contains("instance profile changed"));
    let changed = changed.context("no line about the change")?.to_string();
    for word in [i.as_str(), "request_id", ASSOCIATE] {
        assert!(changed.contains(word), "{changed}");
    }
    s.passes(3)?;
    assert_eq!(controller.log()?.len(), before.len(), "a pass that does nothing says nothing");
    assert!(!controller.process().printed().contains("secret-of-a-stand-in"));
    Ok(())
}
