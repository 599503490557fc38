//! What happens in a storm, one deed at a time.

use std::time::{Duration, Instant};

use anyhow::Result;
use fastrand::Rng;
use serde_json::{Value, json};

use super::cast::{Cast, DRIFTS, FOREIGN, Lot, is_leaving};
use super::replicas::Replicas;
use super::{Log, now};
use crate::together::World;

const WRITES: [&str; 3] =
    ["AssociateIamInstanceProfile", "ReplaceIamInstanceProfileAssociation", "DisassociateIamInstanceProfile"];
const READS: [&str; 2] = ["DescribeIamInstanceProfileAssociations", "DescribeInstances"];
/// How late a write may take effect after its client gave it up. The controller reckons with half a minute from the intent.
const LATE_MS: u64 = 12_000;
/// How old a read may be: less than what the controller allows EC2 after a write.
const STALE_MS: u64 = 6_000;

/// Does one thing at random.
pub(super) fn one(
    world: &World,
    cast: &mut Cast<'_>,
    replicas: &mut Replicas<'_>,
    rng: &mut Rng,
    log: &mut Log,
) -> Result<()> {
    let told = match rng.u8(0..100) {
        0..30 => edit(cast, rng),
        30..40 => delete(cast, rng),
        40..50 => drift(cast, rng),
        50..62 => turn(cast, rng),
        62..82 => fault(world, rng),
        82..86 => lag(world, rng),
        86..90 => fickle(cast, rng, log),
        90..93 => replicas.kill(rng.usize(0..2), Duration::from_millis(rng.u64(0..4000))),
        93..94 => replicas.stop(rng.usize(0..2)),
        94..97 => replicas.freeze(rng.usize(0..2), Duration::from_millis(rng.u64(300..9000))),
        97..99 => silence(world, cast, rng, log),
        _ => world.control_plane().restart_api_server().map(|()| "restart the API server".to_owned()),
    }?;
    if !told.is_empty() {
        log.deeds.push((now(), told));
    }
    replicas.tend(Instant::now())
}

/// A member of one of these lots; the first of all, if there is none.
fn member(cast: &Cast<'_>, rng: &mut Rng, wanted: impl Fn(Lot) -> bool) -> usize {
    let fitting: Vec<usize> = (0..cast.members.len())
        .filter(|nth| cast.members.get(*nth).is_some_and(|one| wanted(one.lot)))
        .collect();
    rng.choice(fitting).unwrap_or_default()
}

/// Declares something else, or makes a binding that was deleted.
fn edit(cast: &Cast<'_>, rng: &mut Rng) -> Result<String> {
    let nth = member(cast, rng, |lot| lot != Lot::Untouched);
    cast.bind(nth, rng.usize(0..2), rng)
}

fn delete(cast: &mut Cast<'_>, rng: &mut Rng) -> Result<String> {
    let nth = member(cast, rng, |lot| matches!(lot, Lot::Shared | Lot::Wild | Lot::Fickle));
    let Some(one) = cast.members.get(nth) else { return Ok(String::new()) };
    let which = rng.usize(0..one.bindings.len());
    let found = cast.found(one)?;
    let is_there = |n: usize| found.get(n).is_some_and(|found| !found.is_null() && !is_leaving(found));
    // Of a shared one the other must be there to take over.
    if !is_there(which) || (one.lot == Lot::Shared && !(0..one.bindings.len()).all(is_there)) {
        return Ok(String::new());
    }
    let (Some(name), Some(binding)) = (one.bindings.get(which), found.get(which)) else {
        return Ok(String::new());
    };
    let told = format!("delete {name} of {}: {}", one.id, binding["spec"]["deletionPolicy"]);
    let leaves = binding["spec"]["deletionPolicy"] != "Detach" || binding["spec"]["suspend"] == true;
    if cast.namespace(one.lot).delete(name).is_err() {
        return Ok(String::new()); // its own deletion was quicker
    }
    if let Some(one) = cast.members.get_mut(nth) {
        one.may_be_left |= leaves;
    }
    Ok(told)
}

fn drift(cast: &mut Cast<'_>, rng: &mut Rng) -> Result<String> {
    let nth = member(cast, rng, |lot| !matches!(lot, Lot::Untouched | Lot::Stranger | Lot::Watched));
    let Some(one) = cast.members.get_mut(nth) else { return Ok(String::new()) };
    if one.terminated || one.drifts >= DRIFTS {
        return Ok(String::new());
    }
    one.drifts += 1;
    let profile = if !one.lot.has_no_gap() && rng.bool() { None } else { Some(FOREIGN) };
    let id = one.id.clone();
    cast.granted.sandbox().drift(&id, profile)?;
    Ok(format!("outsider: {id} carries {}", profile.unwrap_or("nothing")))
}

/// Starts, stops, and now and then ends an instance.
fn turn(cast: &mut Cast<'_>, rng: &mut Rng) -> Result<String> {
    let nth = member(cast, rng, |lot| lot == Lot::Wild);
    let Some(one) = cast.members.get_mut(nth) else { return Ok(String::new()) };
    let action = match rng.u8(0..20) {
        0 => "TerminateInstances",
        1..10 => "StopInstances",
        _ => "StartInstances",
    };
    let id = one.id.clone();
    let done = cast.granted.sandbox().call(&format!("Action={action}&InstanceId.1={id}"));
    if action == "TerminateInstances" && done.is_ok() {
        one.terminated = true;
    }
    Ok(if done.is_ok() { format!("{action} {id}") } else { String::new() })
}

fn fault(world: &World, rng: &mut Rng) -> Result<String> {
    let of_writes = rng.bool();
    let action = if of_writes { rng.choice(WRITES) } else { rng.choice(READS) }.unwrap_or_default();
    let error =
        |code: &str, status: u16| json!({"error": {"code": code, "status": status, "message": "a storm"}});
    let effect = match rng.u8(0..9) {
        0 => json!("throttle"),
        1 => error("InternalError", 500),
        2 => error("Unavailable", 503),
        3 => json!("drop"),
        4 => json!("lostReply"),
        5 => json!({"hang": {"ms": rng.u64(500..7000)}}),
        6 | 7 if of_writes => {
            json!({"late": {"ms": rng.u64(500..LATE_MS), "client": rng.choice(["hang", "drop"])}})
        }
        6 => json!({"partialPage": {"rows": rng.u8(1..4)}}),
        _ if !of_writes => json!({"staleRead": {"ms": rng.u64(500..STALE_MS)}}),
        _ => error("RequestLimitExceeded", 503),
    };
    let (chance, count) = (f64::from(rng.u8(20..90)) / 100.0, rng.u64(1..12));
    let (skip, luck) = (rng.u64(0..3), rng.u64(..));
    let fault = json!({"action": action, "skip": skip, "count": count, "chance": chance, "luck": luck, "effect": effect});
    world.sandbox().fault(&fault)?;
    Ok(format!("fault {fault}"))
}

fn lag(world: &World, rng: &mut Rng) -> Result<String> {
    let settings = json!({
        "read_lag_ms": rng.u64(0..1500), "read_lag_jitter_ms": rng.u64(0..1500), "instances_lag_ms": rng.u64(0..1500),
        "associating_ms": rng.u64(50..2000), "disassociating_ms": rng.u64(50..2000),
        "stopping_ms": rng.u64(100..2000), "page_size": rng.choice([2, 5, 1000]),
    });
    world.sandbox().settings(&settings)?;
    Ok(format!("settings {settings}"))
}

/// The grant of the fickle namespace goes or comes.
fn fickle(cast: &mut Cast<'_>, rng: &mut Rng, log: &mut Log) -> Result<String> {
    if cast.is_granted {
        if rng.bool() {
            cast.fickle.revoke("fickle")?;
        } else {
            cast.fickle.edit_grant("fickle", &json!({"namespaces": {"names": ["elsewhere"]}}))?;
        }
        cast.is_granted = false;
        log.revoked.push((now(), None));
        return Ok("the grant goes".to_owned());
    }
    granted_again(cast, log)?;
    Ok("the grant comes".to_owned())
}

fn granted_again(cast: &mut Cast<'_>, log: &mut Log) -> Result<()> {
    if let Some((_, until @ None)) = log.revoked.last_mut() {
        *until = Some(now());
    }
    cast.grant()
}

/// The API server takes connections and says nothing, while the world goes on.
fn silence(world: &World, cast: &mut Cast<'_>, rng: &mut Rng, log: &mut Log) -> Result<String> {
    let time = Duration::from_millis(rng.u64(300..6000));
    log.deeds.push((now(), "the API server falls silent".to_owned()));
    world.control_plane().pause_api_server()?;
    let began = Instant::now();
    while began.elapsed() < time {
        let told = match rng.u8(0..3) {
            0 => drift(cast, rng),
            1 => turn(cast, rng),
            _ => fault(world, rng),
        }?;
        log.deeds.extend((!told.is_empty()).then(|| (now(), told)));
        std::thread::sleep(Duration::from_millis(rng.u64(100..1000)));
    }
    world.control_plane().resume_api_server()?;
    Ok(format!("the API server was silent for {time:?}"))
}

/// The storm is over: nothing fails any more, nobody is away, and the fickle namespace is granted.
pub(super) fn calm(
    world: &World,
    cast: &mut Cast<'_>,
    replicas: &mut Replicas<'_>,
    log: &mut Log,
) -> Result<()> {
    world.sandbox().delete("faults")?;
    let usual: Value = json!({
        "read_lag_ms": 0, "read_lag_jitter_ms": 200, "instances_lag_ms": 100, "associating_ms": 300,
        "disassociating_ms": 300, "stopping_ms": 200, "page_size": 1000,
    });
    world.sandbox().settings(&usual)?;
    if !cast.is_granted {
        granted_again(cast, log)?;
    }
    replicas.all_back()?;
    log.deeds.push((now(), "calm".to_owned()));
    replicas.wait_until_one_leads()
}
