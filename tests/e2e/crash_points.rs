//! The controller is killed at every request that it makes, to the API server and to AWS, one by one: once before the server has
//! seen the request, and once after it was carried out and before the reply arrives. The next process must end the story right.
//!
//! Each story is first told undisturbed, and its requests are counted; then it is told anew for each of them. No case is left out.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};
use world::{Call, Controller, Point, Scenario, Tap, When, World, WorldOptions, eventually_ok};

use crate::stage::{ASSOCIATE, DISASSOCIATE, REPLACE, Story, a_second_later, is_held, is_observed, reason};

/// So many stories of a row are told at a time, and so many of all rows together.
const AT_A_TIME: usize = 8;
const IN_ALL: usize = 24;
/// How long nothing may be asked until a story counts as told to its end.
const SILENCE: Duration = Duration::from_millis(1500);
/// How long a story may take to reach the point at which it is cut, on a busy machine.
const REACHED: Duration = Duration::from_secs(40);

/// A story: what there is, what a person does, and how it has to end, whoever is killed meanwhile.
struct Row {
    name: &'static str,
    /// Whether what there is has come to rest before the requests are counted: the story begins with what is done then.
    at_rest: bool,
    given: fn(&Scenario<'_>) -> Result<String>,
    done: fn(&Scenario<'_>) -> Result<()>,
    /// Fails as long as it has not ended.
    ends: fn(&Scenario<'_>, &str) -> Result<()>,
    /// What EC2 has carried out by then, from the beginning, and nothing else.
    changes: &'static [&'static str],
}

const APP: &str = "arn:aws:iam::123456789012:instance-profile/app";
const OLD: &str = "arn:aws:iam::123456789012:instance-profile/old";

/// The world of these stories: a controller for each, and calls enough for all of them.
fn stage() -> Result<&'static World> {
    static STAGE: OnceLock<Result<World, String>> = OnceLock::new();
    let options = || WorldOptions {
        own_control_plane: true,
        without_controller: true,
        sandbox_flags: vec!["--no-throttling".to_owned()],
        ..WorldOptions::default()
    };
    let made = STAGE.get_or_init(|| {
        let world = World::new(options()).map_err(|error| format!("{error:#}"))?;
        let profiles = ["app", "old"].map(|name| world.sandbox().profile(name));
        profiles.into_iter().try_for_each(|made| made.map(drop)).map_err(|error| format!("{error:#}"))?;
        Ok(world)
    });
    made.as_ref().map_err(|error| anyhow!("the stage of crash points: {error}"))
}

fn start(s: &Scenario<'_>, name: &str, tap: Option<&Tap>, resync: &str) -> Result<Controller> {
    let command = s.world().controller_command();
    let command = tap.map_or(command.clone(), |tap| command.through(tap));
    let flags = [format!("--watch-namespace={}", s.namespace()), format!("--resync-interval={resync}")];
    command.args(flags).spawn(s.world().scratch().path(), &format!("{}-{name}", s.namespace()))
}

/// A story that is under way: its instance, the wire and the process on it.
struct Told<'w> {
    s: Scenario<'w>,
    instance: String,
    tap: Tap,
    first: Controller,
}

/// Tells a story up to what is done in it; `cut` is where its first process is to be stopped.
fn begin<'w>(row: &Row, cut: Option<(&Point, When)>) -> Result<Told<'w>> {
    let world = stage()?;
    let s = world.scenario(row.name)?;
    let tap = world.tap()?;
    let hold = || cut.map_or_else(|| tap.begin(), |(point, when)| tap.hold(point, when));
    let instance = (row.given)(&s)?;
    if !row.at_rest {
        hold();
    }
    // One listing: the others would come at any time, and nothing of these stories depends on them.
    let first = start(&s, "first", Some(&tap), "60s")?;
    if row.at_rest {
        come_to_rest(&s, &tap)?;
        hold();
    }
    (row.done)(&s)?;
    Ok(Told { s, instance, tap, first })
}

/// All bindings are as declared, or stand behind another one, and nothing is asked any more. Waiting for AWS is no rest.
fn come_to_rest(s: &Scenario<'_>, tap: &Tap) -> Result<()> {
    let list = s.world().control_plane().api();
    let path = s.path("");
    eventually_ok("all bindings are told of", Duration::from_secs(75), || {
        let found = list.get(path.trim_end_matches('/'))?;
        let all = found["items"].as_array().context("no list")?;
        let rests = |one| is_observed(one) && matches!(reason(one), "Associated" | "Conflict");
        ensure!(all.iter().all(rests), "{found:#}");
        Ok(())
    })?;
    falls_silent(tap)
}

fn falls_silent(tap: &Tap) -> Result<()> {
    let (mut asked, mut since) = (tap.requests().len(), Instant::now());
    eventually_ok("nothing more is asked", Duration::from_secs(75), || {
        let now = tap.requests().len();
        if now != asked {
            (asked, since) = (now, Instant::now());
        }
        ensure!(since.elapsed() >= SILENCE, "{now} requests so far");
        Ok(())
    })
}

fn ends(row: &Row, s: &Scenario<'_>, instance: &str) -> Result<()> {
    eventually_ok("the story ends right", Duration::from_secs(240), || (row.ends)(s, instance))
}

/// The requests that the story takes when nobody is killed.
fn undisturbed(row: &Row) -> Result<Vec<Point>> {
    let told = begin(row, None)?;
    ends(row, &told.s, &told.instance)?;
    falls_silent(&told.tap)?;
    let points = told.tap.requests();
    told.first.kill()?;
    is_right(row, &told.s, &told.instance)?;
    Ok(points)
}

/// Tells the story with its process killed at one point, and to its end by another. Whether the point came at all.
fn cut(row: &Row, point: &Point, when: When) -> Result<bool> {
    let Told { s, instance, tap, first } = begin(row, Some((point, when)))?;
    let deadline = Instant::now() + REACHED;
    let mut held = false;
    while !held && Instant::now() < deadline {
        held = tap.is_held_within(Duration::from_millis(500));
        if !held && (row.ends)(&s, &instance).is_ok() {
            held = tap.is_held_within(2 * SILENCE);
            break;
        }
    }
    first.kill()?;
    tap.let_go();
    let second = start(&s, "second", None, "1s")?;
    let outcome = ends(row, &s, &instance)
        .and_then(|()| stays_quiet(&s, &instance, &second))
        .and_then(|()| is_right(row, &s, &instance));
    outcome.map_err(|error| {
        anyhow!("{error:#}\n{}\n{}", first.process().log_tail(15), second.process().log_tail(15))
    })?;
    Ok(held)
}

/// Nothing is written any more, through two listings.
fn stays_quiet(s: &Scenario<'_>, instance: &str, controller: &Controller) -> Result<()> {
    let lists = ["operation=\"DescribeIamInstanceProfileAssociations\""];
    let looks = || controller.metric("instancerole_aws_api_requests_total", &lists);
    let (writes, seen) = (s.sandbox().writes_to(instance)?.len(), looks()?);
    let bound = !s.world().control_plane().api().get(s.path("").trim_end_matches('/'))?["items"]
        .as_array()
        .is_none_or(Vec::is_empty);
    if bound {
        eventually_ok("two more listings", Duration::from_secs(60), || {
            ensure!(looks()? >= seen + 2.0, "not yet");
            Ok(())
        })?;
    }
    ensure!(s.sandbox().writes_to(instance)?.len() == writes, "something was written after the end");
    Ok(())
}

/// What has to hold at the end of each story: each change once, one at a time, and never a moment without a profile where
/// there was one all along.
fn is_right(row: &Row, s: &Scenario<'_>, instance: &str) -> Result<()> {
    let writes = s.sandbox().writes_to(instance)?;
    let done: Vec<&str> =
        writes.iter().filter(|call| call.result == "ok").map(|call| call.action.as_str()).collect();
    ensure!(done == row.changes, "EC2 has carried out {done:?}, not {:?}", row.changes);
    ensure!(one_at_a_time(&writes), "two writes at a time: {writes:#?}");
    if !row.changes.contains(&DISASSOCIATE) {
        let gaps = s.sandbox().gaps(instance)?;
        ensure!(gaps.is_empty(), "without a profile: {gaps:?}");
    }
    Ok(())
}

fn one_at_a_time(writes: &[Call]) -> bool {
    writes.windows(2).all(|pair| pair[0].ended_ms.is_some_and(|ended| ended <= pair[1].started_ms))
}

/// Tells a story once for each request and each side of it.
fn survives(row: &Row) -> Result<()> {
    let points = undisturbed(row).with_context(|| format!("{}, undisturbed", row.name))?;
    let cases = points.iter().flat_map(|point| [(point, When::Before), (point, When::After)]);
    let queue: Mutex<VecDeque<(&Point, When)>> = Mutex::new(cases.collect());
    let (failures, missed) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let began = Instant::now();
    std::thread::scope(|threads| {
        for _ in 0..AT_A_TIME {
            threads.spawn(|| {
                while let Some((point, when)) = next() {
                    let case = format!("{when:?} {point}");
                    match told_in_turn(row, point, when) {
                        Ok(true) => {}
                        Ok(false) => {
                            missed.lock().unwrap_or_else(PoisonError::into_inner).push((point, case))
                        }
                        Err(error) => failures
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(format!("killed {case}: {error:#}")),
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    let missed = missed.into_inner().unwrap_or_else(PoisonError::into_inner);
    let told = points.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    println!("{}: killed at {} points in {:?}: {told}", row.name, 2 * points.len(), began.elapsed());
    // How often is looked may differ from one telling to the next, and whether an object that has just been written is written
    // again before the watch has told of it; what has to be written may not.
    for (point, case) in &missed {
        println!("{}: {case} did not come again", row.name);
        ensure!(
            !point.is_write() || point.nth > 1 || !is_always_there(row, point)?,
            "{}: a write did not come again: {case}",
            row.name
        );
    }
    ensure!(
        failures.is_empty(),
        "{}: {} of {} cases\n{}",
        row.name,
        failures.len(),
        2 * points.len(),
        failures.join("\n\n")
    );
    Ok(())
}

/// Whether this request is part of the story whenever it is told undisturbed: in a hand-over the one that leaves may or may
/// not have time to say that it waits.
fn is_always_there(row: &Row, point: &Point) -> Result<bool> {
    for _ in 0..3 {
        if !undisturbed(row)?.contains(point) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Waits for one of the places that all rows share. A look that did not come is waited for in two more tellings.
fn told_in_turn(row: &Row, point: &Point, when: When) -> Result<bool> {
    static FREE: (Mutex<usize>, Condvar) = (Mutex::new(IN_ALL), Condvar::new());
    let free = FREE.0.lock().unwrap_or_else(PoisonError::into_inner);
    let mut free = FREE.1.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
    *free -= 1;
    drop(free);
    let mut outcome = Ok(false);
    for _ in 0..3 {
        outcome = cut(row, point, when);
        if !matches!(outcome, Ok(false)) {
            break;
        }
    }
    *FREE.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    FREE.1.notify_one();
    outcome
}

fn bind(s: &Scenario<'_>, before: Option<&str>, state: &str, more: Value) -> Result<String> {
    let instance = s.sandbox().instance(state, before)?;
    let mut spec = json!({"instanceId": instance, "instanceProfile": {"name": "app"}});
    for (member, value) in more.as_object().into_iter().flatten() {
        spec[member] = value.clone();
    }
    s.apply("web", &spec)?;
    Ok(instance)
}

fn nothing(_: &Scenario<'_>) -> Result<()> {
    Ok(())
}

/// The binding says so, EC2 has it, and it is held where its deletion will have work to do.
fn is_ready(s: &Scenario<'_>, name: &str, instance: &str, profile: Option<&str>, wanted: &str) -> Result<()> {
    let found = s.binding(name)?;
    let status = &found["status"];
    ensure!(is_observed(&found) && reason(&found) == wanted, "{status:#}");
    let carried = s.sandbox().profile_of(instance)?;
    ensure!(carried.as_deref() == profile, "it carries {carried:?}");
    ensure!(status["observed"]["profileArn"].as_str() == profile, "{status:#}");
    ensure!(is_held(&found) == profile.is_some(), "{:#}", found["metadata"]["finalizers"]);
    // What was begun is told of, as done or as begun.
    let newest = &status["changes"][0];
    ensure!(newest.is_null() || newest["to"] == profile.unwrap_or("none"), "{status:#}");
    Ok(())
}

fn was(s: &Scenario<'_>, previous: &Value) -> Result<()> {
    let found = s.binding("web")?;
    ensure!(found["status"]["previous"] == *previous, "{:#}", found["status"]);
    Ok(())
}

fn is_gone(s: &Scenario<'_>, name: &str, instance: &str, profile: Option<&str>) -> Result<()> {
    ensure!(s.world().control_plane().api().find(&s.path(name))?.is_none(), "{name} is still there");
    let carried = s.sandbox().profile_of(instance)?;
    ensure!(carried.as_deref() == profile, "it carries {carried:?}");
    Ok(())
}

#[test]
fn attaching_survives_a_kill_at_every_request() -> Result<()> {
    survives(&Row {
        name: "cut-attach",
        at_rest: false,
        given: |s| bind(s, None, "running", json!({})),
        done: nothing,
        ends: |s, i| {
            is_ready(s, "web", i, Some(APP), "Associated").and_then(|()| was(s, &json!({"none": true})))
        },
        changes: &[ASSOCIATE],
    })
}

#[test]
fn replacing_on_a_running_instance_survives_a_kill_at_every_request() -> Result<()> {
    survives(&Row {
        name: "cut-replace",
        at_rest: false,
        given: |s| bind(s, Some("old"), "running", json!({})),
        done: nothing,
        ends: |s, i| {
            is_ready(s, "web", i, Some(APP), "Associated").and_then(|()| was(s, &json!({"profileArn": OLD})))
        },
        changes: &[REPLACE],
    })
}

#[test]
fn an_edit_of_what_is_ready_survives_a_kill_at_every_request() -> Result<()> {
    survives(&Row {
        name: "cut-edit",
        at_rest: true,
        given: |s| bind(s, None, "running", json!({})),
        done: |s| s.choose("web", json!({"name": "old"})).map(drop),
        ends: |s, i| {
            is_ready(s, "web", i, Some(OLD), "Associated").and_then(|()| was(s, &json!({"none": true})))
        },
        changes: &[ASSOCIATE, REPLACE],
    })
}

#[test]
fn a_swap_on_a_stopped_instance_survives_a_kill_at_every_request() -> Result<()> {
    survives(&Row {
        name: "cut-swap",
        at_rest: false,
        given: |s| bind(s, Some("old"), "stopped", json!({})),
        done: nothing,
        ends: |s, i| {
            is_ready(s, "web", i, Some(APP), "Associating").and_then(|()| was(s, &json!({"profileArn": OLD})))
        },
        changes: &[DISASSOCIATE, ASSOCIATE],
    })
}

#[test]
fn detaching_survives_a_kill_at_every_request() -> Result<()> {
    survives(&Row {
        name: "cut-detach",
        at_rest: false,
        given: |s| bind(s, Some("old"), "running", json!({"instanceProfile": {"none": {}}})),
        done: nothing,
        ends: |s, i| {
            is_ready(s, "web", i, None, "Disassociated").and_then(|()| was(s, &json!({"profileArn": OLD})))
        },
        changes: &[DISASSOCIATE],
    })
}

#[test]
fn a_first_finalizer_survives_a_kill_at_every_request() -> Result<()> {
    survives(&Row {
        name: "cut-adopt",
        at_rest: false,
        given: |s| bind(s, Some("app"), "running", json!({})),
        done: nothing,
        ends: |s, i| is_ready(s, "web", i, Some(APP), "Associated"),
        changes: &[],
    })
}

#[test]
fn a_deletion_with_detach_survives_a_kill_at_every_request() -> Result<()> {
    survives(&Row {
        name: "cut-delete",
        at_rest: true,
        given: |s| bind(s, Some("old"), "running", json!({})),
        done: |s| s.delete("web"),
        ends: |s, i| is_gone(s, "web", i, None),
        changes: &[REPLACE, DISASSOCIATE],
    })
}

#[test]
fn a_deletion_with_restore_survives_a_kill_at_every_request() -> Result<()> {
    survives(&Row {
        name: "cut-restore",
        at_rest: true,
        given: |s| bind(s, Some("old"), "running", json!({"deletionPolicy": "Restore"})),
        done: |s| s.delete("web"),
        ends: |s, i| is_gone(s, "web", i, Some(OLD)),
        changes: &[REPLACE, REPLACE],
    })
}

/// Nothing is to be done on deletion, so it is the edit to Retain that has work to do: the finalizer goes.
#[test]
fn a_deletion_with_retain_survives_a_kill_at_every_request() -> Result<()> {
    survives(&Row {
        name: "cut-retain",
        at_rest: true,
        given: |s| bind(s, Some("old"), "running", json!({})),
        done: |s| {
            s.edit("web", json!({"deletionPolicy": "Retain"}))?;
            s.delete("web")
        },
        ends: |s, i| is_gone(s, "web", i, Some(APP)),
        changes: &[REPLACE],
    })
}

#[test]
fn a_hand_over_survives_a_kill_at_every_request() -> Result<()> {
    survives(&Row {
        name: "cut-heir",
        at_rest: true,
        given: |s| {
            let instance = bind(s, None, "running", json!({}))?;
            a_second_later()?;
            s.bind("heir", &instance, &json!({"name": "old"}))?;
            Ok(instance)
        },
        done: |s| s.delete("web"),
        ends: |s, i| {
            ensure!(s.world().control_plane().api().find(&s.path("web"))?.is_none(), "web is still there");
            is_ready(s, "heir", i, Some(OLD), "Associated")
        },
        changes: &[ASSOCIATE, REPLACE],
    })
}
