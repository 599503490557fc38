//! What has to hold after a storm, and all through it.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

use super::cast::{Cast, FOREIGN, Lot, Member, is_leaving};
use super::replicas::{Replicas, WRITE_LIMIT_MS};
use super::{Log, now};
use crate::eventually::eventually_ok;
use crate::sandbox::Call;
use crate::scenario::condition;
use crate::together::World;

/// How old what is known of a grant may be when a write leaves, and how long its way may take: rights are read at most a second
/// before, and the pass goes on from there.
const GRANT_SEEN_MS: u64 = 4000;
/// How long it is watched that nothing is written.
const QUIET: Duration = Duration::from_secs(6);
/// By when no object changes any more. The slowest looks are minutes apart.
const RESTS: Duration = Duration::from_secs(120);

/// Judges; what there is to tell, in words.
pub(super) fn judge(
    world: &World,
    cast: &Cast<'_>,
    replicas: &Replicas<'_>,
    log: &Log,
    within: Duration,
) -> Result<String> {
    let began = Instant::now();
    // At every moment.
    let all_through = |writes: &[Call]| all_through(world, cast, replicas, log, writes);
    // In the end.
    for member in &cast.members {
        let left = within.saturating_sub(began.elapsed()).max(Duration::from_secs(1));
        let at_rest = eventually_ok("it comes to rest as declared", left, || at_rest(cast, member));
        at_rest.map_err(|error| error.context(story(world, replicas, log, member)))?;
    }
    let calmed = began.elapsed();
    stays_quiet(world, cast, replicas, log)?;
    replicas.are_sound()?;
    let calls = world.sandbox().calls_since(0)?;
    let writes: Vec<Call> = calls.iter().filter(|call| is_ours(world, call)).cloned().collect();
    if let Err((member, error)) = all_through(&writes) {
        return Err(error.context(story(world, replicas, log, member)));
    }
    let done = writes.iter().filter(|call| call.result == "ok").count();
    Ok(format!(
        "{} calls of AWS, {} writes, {done} carried out; as declared {:.1} s after the calm",
        calls.len(),
        writes.len(),
        calmed.as_secs_f64()
    ))
}

/// Whether it is a change of an association by the controller; a dry run changes nothing.
fn is_ours(world: &World, call: &Call) -> bool {
    call.is_write()
        && call.access_key == world.sandbox().aws_env().access_key()
        && !call.params.contains_key("DryRun")
}

/// The bindings of an instance as the API server has them, the one that wins first.
fn bindings(cast: &Cast<'_>, member: &Member) -> Result<Vec<Value>> {
    let mut found = cast.found(member)?;
    found.retain(|binding| !binding.is_null());
    let age = |binding: &Value| {
        let text = |field: &str| binding["metadata"][field].as_str().unwrap_or_default().to_owned();
        (text("creationTimestamp"), text("uid"))
    };
    found.sort_by_key(age);
    Ok(found)
}

/// The ARN of what a binding declares; nothing for `none`.
fn declared(binding: &Value) -> Option<String> {
    let choice = &binding["spec"]["instanceProfile"];
    let name = choice["name"].as_str().or(choice["roleName"].as_str());
    let arn = name.map(|name| format!("arn:aws:iam::{}:instance-profile/{name}", crate::ACCOUNT));
    arn.or_else(|| choice["arn"].as_str().map(str::to_owned))
}

/// Fails as long as an instance is not as it has to be, or its bindings do not say how it is.
fn at_rest(cast: &Cast<'_>, member: &Member) -> Result<()> {
    let found = bindings(cast, member)?;
    for binding in &found {
        ensure!(!is_leaving(binding), "still in deletion: {:#}", binding["status"]);
        let (generation, observed) =
            (&binding["metadata"]["generation"], &binding["status"]["observedGeneration"]);
        ensure!(
            generation == observed,
            "generation {generation}, told of {observed}: {:#}",
            binding["status"]
        );
    }
    let truth = cast.granted.sandbox().truth(&member.id)?;
    let (state, carried) = (truth["state"].as_str().unwrap_or_default(), truth["profileArn"].as_str());
    if matches!(state, "shutting-down" | "terminated") {
        return Ok(());
    }
    ensure!(matches!(state, "running" | "stopped"), "it is {state}");
    match found.first() {
        None => {
            let of_others = carried.is_none_or(|arn| arn.ends_with(FOREIGN) || arn.ends_with("/found"));
            // Where the grant was gone, what the binding attached had to stay.
            let may_be_left = member.may_be_left || member.lot == Lot::Fickle;
            ensure!(of_others || may_be_left, "its bindings are gone, it carries {carried:?}");
            Ok(())
        }
        Some(_) if !member.lot.may_be_written() => Ok(()),
        Some(winner) if winner["spec"]["suspend"] == true => Ok(()),
        Some(winner) => {
            let waits = state == "stopped" && winner["spec"]["whenStopped"] == "WaitForRunning";
            let wanted = declared(winner);
            let says = || format!("{:#}", winner["status"]);
            ensure!(
                waits || carried == wanted.as_deref(),
                "it carries {carried:?}, declared is {wanted:?}: {}",
                says()
            );
            tells(winner, state, carried, waits)
        }
    }
}

/// Fails unless the winner says how the instance is.
fn tells(winner: &Value, state: &str, carried: Option<&str>, waits: bool) -> Result<()> {
    let status = &winner["status"];
    let ready = condition(winner, "Ready").map(|ready| ready["status"].clone()).unwrap_or_default();
    ensure!(waits || state == "stopped" && carried.is_some() || ready == "True", "not Ready: {status:#}");
    ensure!(status["observed"]["profileArn"].as_str() == carried, "it carries {carried:?}: {status:#}");
    ensure!(status["plan"].is_null() || waits, "something is due: {status:#}");
    Ok(())
}

/// Nothing is written to EC2 any more, and in the end no object changes either: words may, when a slow look tells more.
fn stays_quiet(world: &World, cast: &Cast<'_>, replicas: &Replicas<'_>, log: &Log) -> Result<()> {
    let last = world.sandbox().last_call()?;
    let began = Instant::now();
    loop {
        let before = objects(cast)?;
        std::thread::sleep(QUIET);
        let calls = world.sandbox().calls_since(last)?;
        if let Some(write) = calls.iter().find(|call| is_ours(world, call)) {
            let of = cast.members.iter().find(|one| Some(&one.id) == write.instance.as_ref());
            let story = of.map(|member| story(world, replicas, log, member)).unwrap_or_default();
            bail!("a write after all had come to rest: {write:#?}\n{story}");
        }
        let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
        let after = objects(cast)?;
        let changed = before.iter().zip(&after).find(|(one, other)| version(one) != version(other));
        let Some((one, other)) = changed else { return Ok(()) };
        ensure!(began.elapsed() < RESTS, "no rest: {:#} became {:#}", one["status"], other["status"]);
    }
}

/// All bindings.
fn objects(cast: &Cast<'_>) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for member in &cast.members {
        all.extend(bindings(cast, member)?);
    }
    Ok(all)
}

/// What has to hold at every moment; whose it is, and how it was broken.
fn all_through<'c>(
    world: &World,
    cast: &'c Cast<'_>,
    replicas: &Replicas<'_>,
    log: &Log,
    writes: &[Call],
) -> Result<(), (&'c Member, anyhow::Error)> {
    for member in &cast.members {
        let its: Vec<&Call> =
            writes.iter().filter(|call| call.instance.as_ref() == Some(&member.id)).collect();
        let judged = || -> Result<()> {
            ensure!(member.lot.may_be_written() || its.is_empty(), "nobody may write to it: {its:#?}");
            for pair in its.windows(2) {
                let [one, next] = pair else { continue };
                let over = one.ended_ms.unwrap_or(u64::MAX).min(one.started_ms + WRITE_LIMIT_MS);
                ensure!(over <= next.started_ms, "two writes at a time: {one:#?} {next:#?}");
            }
            if member.lot.has_no_gap() {
                let gaps = world.sandbox().gaps(&member.id)?;
                ensure!(gaps.is_empty(), "without credentials: {gaps:?}");
            }
            for write in its.iter().filter(|_| member.lot == Lot::Fickle) {
                ensure!(
                    is_covered(log, replicas, write),
                    "no grant covered it: {write:#?}\n{:?}",
                    log.revoked
                );
            }
            Ok(())
        };
        judged().map_err(|error| (member, error))?;
    }
    Ok(())
}

/// Whether a grant was there a moment before the write began, as far as that can be told: a process that stands still in between
/// may send what it has already been let through with.
fn is_covered(log: &Log, replicas: &Replicas<'_>, write: &Call) -> bool {
    let began = write.started_ms;
    let revoked = log.revoked.iter().find(|(from, to)| *from < began && to.is_none_or(|to| began < to));
    revoked.is_none_or(|(from, _)| {
        let frozen = replicas.frozen.iter().any(|(stop, go)| *stop < began && *from < *go);
        began < from + GRANT_SEEN_MS || frozen
    })
}

/// All that is known of an instance, for the text of a failure.
fn story(world: &World, replicas: &Replicas<'_>, log: &Log, member: &Member) -> String {
    let mut lines: Vec<(u64, String)> = Vec::new();
    for (at, deed) in &log.deeds {
        let concerns = deed.contains(&member.id) || !deed.contains("i-");
        lines.extend(concerns.then(|| (*at, deed.clone())));
    }
    for call in world.sandbox().calls_since(0).unwrap_or_default() {
        if call.is_write() && call.instance.as_ref() == Some(&member.id) {
            let (from, to) = (&call.from_profile, &call.to_profile);
            let times = format!("effect {:?}, end {:?}", call.effect_ms, call.ended_ms);
            lines.push((
                call.started_ms,
                format!(
                    "  {} {from:?} -> {to:?}: {}, {times}, {:?}",
                    call.action,
                    call.result,
                    json!(call.params)
                ),
            ));
        }
    }
    lines.sort();
    let told: Vec<String> =
        lines.into_iter().map(|(at, line)| format!("{} {line}", at % 10_000_000)).collect();
    let truth = world.sandbox().truth(&member.id).unwrap_or_default();
    let names: Vec<&str> =
        std::iter::once(member.id.as_str()).chain(member.bindings.iter().map(String::as_str)).collect();
    format!(
        "{} ({:?}), now {}\n{}\ntruth: {truth}\ntimeline: {}\nlogs:\n{}",
        member.id,
        member.lot,
        now() % 10_000_000,
        told.join("\n"),
        world
            .sandbox()
            .get(&format!("timeline?region={}&instance={}", crate::REGION, member.id))
            .unwrap_or_default(),
        replicas.logs_about(&names),
    )
}
