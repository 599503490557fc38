//! AWS takes no credentials for a while: they expired, the clock is wrong, the Region was switched off. The process says so, stays
//! alive, and goes on by itself.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use world::{ACCOUNT, World, WorldOptions, eventually_ok};

use crate::stage::{ASSOCIATE, REPLACE, Story, condition, message, quick_world, truth};

/// Code and status of the reply, and what a person is told to look at.
const REFUSALS: [(&str, u16, &str); 4] = [
    ("RequestExpired", 400, "clock"),
    ("OptInRequired", 401, "the Region is not enabled"),
    ("AuthFailure", 401, "its role"),
    ("UnrecognizedClientException", 403, "its role"),
];

fn refusing(action: &str, code: &str, status: u16) -> Value {
    let error = json!({"code": code, "status": status, "message": "in AWS's own words"});
    json!({"action": action, "count": null, "effect": {"error": error}})
}

#[test]
fn all_calls_are_refused_for_a_while() -> Result<()> {
    let world = quick_world()?;
    let s = world.scenario("refused")?;
    s.sandbox().profile("app")?;
    let (i, j) = (s.sandbox().instance("running", None)?, s.sandbox().instance("running", None)?);
    s.bind("well", &i, &json!({"name": "app"}))?;
    s.wait_until_ready("well")?;
    for (code, status, cure) in REFUSALS {
        let fault = s.sandbox().fault(&refusing("*", code, status))?;
        let told = s.reaches("well", "CredentialsUnavailable")?;
        assert_eq!((truth(&told, "Ready"), truth(&told, "Stalled")), ("False", "True"), "{code}");
        let words = message(&told);
        assert!(words.contains(code) && words.contains(cure), "{words}");
        let controller = world.controller()?;
        assert_eq!((controller.probe("/healthz")?.0, controller.probe("/livez")?.0), (200, 200));
        s.sandbox().delete(&format!("faults?id={fault}"))?;
        let healed = s.reaches("well", "Associated")?;
        assert_eq!(condition(&healed, "Stalled"), &Value::Null);
    }
    s.bind("new", &j, &json!({"name": "app"}))?;
    s.wait_until_ready("new")?;
    assert_eq!((s.changes(&i)?, s.changes(&j)?), (vec![ASSOCIATE.to_owned()], vec![ASSOCIATE.to_owned()]));
    Ok(())
}

#[test]
fn a_process_that_starts_meanwhile_waits_and_says_why() -> Result<()> {
    let world = World::new(WorldOptions { without_controller: true, ..WorldOptions::default() })?;
    let code = "ExpiredToken";
    let fault = world.sandbox().fault(&refusing("GetCallerIdentity", code, 403))?;
    let controller = world.controller_command().spawn(world.scratch().path(), "early")?;
    eventually_ok("readyz says what is awaited", Duration::from_secs(20), || {
        let (status, said) = controller.probe("/readyz")?;
        ensure!(status == 503 && said.contains(code), "{status} {said}");
        Ok(())
    })?;
    assert_eq!(controller.probe("/livez")?.0, 200, "not to be restarted");
    world.sandbox().delete(&format!("faults?id={fault}"))?;
    controller.wait_until_ready(Duration::from_secs(40))?;
    assert_eq!(controller.terminate()?, 0);
    Ok(())
}

#[test]
fn keys_that_are_rotated_in_their_file_are_taken_up_without_a_restart() -> Result<()> {
    let world = World::new(WorldOptions { without_controller: true, ..WorldOptions::default() })?;
    let s = world.scenario("rotated")?;
    let file = world.scratch().join("credentials");
    let keys = |user: &str| world.sandbox().aws_env().as_user(ACCOUNT, user).access_key().to_owned();
    let write = |key: &str| {
        std::fs::write(
            &file,
            format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = secret\n"),
        )
    };
    let (old, new) = (keys("OLD"), keys("NEW"));
    write(&old)?;
    let controller = world
        .controller_command()
        .env("AWS_SHARED_CREDENTIALS_FILE", &file.display().to_string())
        .env("AWS_ACCESS_KEY_ID", "")
        .env("AWS_SECRET_ACCESS_KEY", "")
        .args(["--resync-interval=1s"])
        .start(world.scratch().path(), "rotated")?;
    s.sandbox().profile("app")?;
    let next = s.sandbox().profile("next")?;
    let i = s.sandbox().instance("running", None)?;
    s.bind("web", &i, &json!({"name": "app"}))?;
    s.wait_until_ready("web")?;
    // As rotation does it: the new key is put in place, then the old one is made inactive.
    write(&new)?;
    s.sandbox().post("credentials", &json!({"accessKey": old, "state": "inactive"}))?;
    s.choose("web", json!({"name": "next"}))?;
    s.carries(&i, Some(&next))?;
    s.reaches("web", "Associated")?;
    let done = s.sandbox().writes_in_any_role_to(&i)?.into_iter().filter(|call| call.result == "ok");
    let done: Vec<(String, String)> = done.map(|call| (call.action, call.access_key)).collect();
    assert_eq!(done, [(ASSOCIATE.to_owned(), old), (REPLACE.to_owned(), new)]);
    controller.process().still_runs()
}
