//! Of several replicas one acts: who it is, and what happens when it stops, dies, is frozen or cut off.
//!
//! The times of the Lease are short here, but for the hand-over, which must not depend on them. A change of leader only has to
//! come; `docs/benchmarks.md` has how long it took at the default times.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use world::{Controller, Scenario, World, WorldOptions, eventually_ok};

use crate::stage::{ASSOCIATE, REPLACE, Story, is_observed, reason};

/// The namespace in which the shipped Role lets the controller's account stand for the Lease.
const LEASE: &str =
    "/apis/coordination.k8s.io/v1/namespaces/instance-role-system/leases/instance-role-controller";
const SHORT: [&str; 3] = ["--lease-duration=6s", "--renew-deadline=4s", "--retry-period=500ms"];

/// A world of its own, with the rights as they are shipped and no controller yet.
fn world() -> Result<World> {
    World::new(WorldOptions { own_control_plane: true, without_controller: true, ..WorldOptions::default() })
}

fn start(world: &World, name: &str, flags: &[&str]) -> Result<Controller> {
    let command = world.controller_command().env("INSTANCE_ROLE_LEADER_ELECT", "true");
    command.args(["--resync-interval=1s"]).args(flags.iter().copied()).start(world.scratch().path(), name)
}

fn leads(controller: &Controller) -> Result<bool> {
    Ok(controller.metric("leader_election_master_status", &["name=\"instance-role-controller\""])? == 1.0)
}

fn comes_to_lead(controller: &Controller) -> Result<()> {
    eventually_ok("it leads", Duration::from_secs(60), || {
        ensure!(leads(controller)?, "it stands by");
        Ok(())
    })
}

/// Writes that went out of this process: to EC2, and to bindings.
fn writes(controller: &Controller) -> Result<f64> {
    let to_ec2 = controller.metric("instancerole_mutations_total", &[])?;
    Ok(to_ec2 + controller.metric("rest_client_requests_total", &["method=\"PATCH\""])?)
}

/// A first replica that leads, and a second one that stands by, warm.
fn pair(world: &World, flags: &[&str]) -> Result<(Controller, Controller)> {
    let first = start(world, "first", flags)?;
    comes_to_lead(&first)?;
    let second = start(world, "second", flags)?;
    Ok((first, second))
}

fn holder(world: &World) -> Result<String> {
    let lease = world.control_plane().api().get(LEASE)?;
    Ok(lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned())
}

/// So many bindings that carry `app`.
fn bound(s: &Scenario<'_>, count: usize) -> Result<Vec<(String, String)>> {
    s.sandbox().profile("app")?;
    let mut all = Vec::new();
    for n in 0..count {
        let (name, instance) = (format!("web-{n}"), s.sandbox().instance("running", None)?);
        s.bind(&name, &instance, &json!({"name": "app"}))?;
        all.push((name, instance));
    }
    for (name, _) in &all {
        s.wait_until_ready(name)?;
    }
    Ok(all)
}

#[test]
fn one_of_two_leads_and_the_other_is_ready_and_writes_nothing() -> Result<()> {
    let world = world()?;
    let (first, second) = pair(&world, &SHORT)?;
    let s = world.scenario("two")?;
    bound(&s, 3)?;
    assert!(leads(&first)? && !leads(&second)?);
    assert!(holder(&world)?.starts_with("first_"), "{}", holder(&world)?);
    assert_eq!(second.probe("/readyz")?.0, 200, "a standby is ready");
    assert_eq!(writes(&second)?, 0.0);
    let of_ec2 = |operation: &str| second.metric("instancerole_aws_api_requests_total", &[operation]);
    assert_eq!(of_ec2("operation=\"DescribeIamInstanceProfileAssociations\"")?, 0.0, "and asks EC2 nothing");
    assert_eq!(of_ec2("operation=\"GetCallerIdentity\"")?, 1.0, "but its credentials are tried");
    let lease = world.control_plane().api().get(LEASE)?;
    assert_eq!(lease["spec"]["leaseDurationSeconds"], 6);
    assert_eq!(lease["spec"]["leaseTransitions"], 0);
    let refused: Vec<_> =
        world.api_calls()?.into_iter().filter(|call| matches!(call.status.code, 401 | 403)).collect();
    assert!(refused.is_empty(), "the shipped rights suffice: {refused:#?}");
    Ok(())
}

#[test]
fn a_leader_that_is_stopped_hands_over_at_once() -> Result<()> {
    let world = world()?;
    // With a Lease that nobody would live to see run out.
    let (first, second) =
        pair(&world, &["--lease-duration=10m", "--renew-deadline=9m", "--retry-period=1s"])?;
    let s = world.scenario("hand-over")?;
    let app = s.sandbox().profile("app")?;
    let i = s.sandbox().instance("running", None)?;
    let slow = json!({"action": ASSOCIATE, "instance": i, "effect": {"hang": {"ms": 1500}}});
    s.sandbox().fault(&slow)?;
    s.bind("web", &i, &json!({"name": "app"}))?;
    eventually_ok("the write is under way", Duration::from_secs(20), || {
        ensure!(!s.sandbox().writes_to(&i)?.is_empty(), "not yet");
        Ok(())
    })?;
    assert_eq!(first.terminate()?, 0);
    let ended = Instant::now();
    assert!(s.sandbox().writes_to(&i)?.first().is_some_and(|write| write.delivered), "its reply was awaited");
    comes_to_lead(&second)?;
    println!("hand-over: {:?} after the end of the process", ended.elapsed());
    assert!(holder(&world)?.starts_with("second_"), "{}", holder(&world)?);
    s.reaches("web", "Associated")?;
    assert_eq!(s.sandbox().profile_of(&i)?, Some(app));
    assert_eq!(s.changes(&i)?, [ASSOCIATE], "not done twice");
    let j = s.sandbox().instance("running", None)?;
    s.bind("later", &j, &json!({"name": "app"}))?;
    s.wait_until_ready("later")?;
    Ok(())
}

#[test]
fn a_leader_that_dies_after_its_write_is_followed_by_one_that_does_not_do_it_again() -> Result<()> {
    let world = world()?;
    let (first, second) = pair(&world, &SHORT)?;
    let s = world.scenario("dies")?;
    let app = s.sandbox().profile("app")?;
    s.sandbox().profile("old")?;
    let i = s.sandbox().instance("running", Some("old"))?;
    let silent = json!({"late": {"ms": 0, "client": "hang"}});
    s.sandbox().fault(&json!({"action": REPLACE, "instance": i, "effect": silent}))?;
    s.bind("web", &i, &json!({"name": "app"}))?;
    eventually_ok("EC2 has done it", Duration::from_secs(40), || {
        ensure!(s.changes(&i)? == [REPLACE], "not yet");
        Ok(())
    })?;
    first.kill()?;
    let died = Instant::now();
    assert_eq!(s.binding("web")?["status"]["changes"][0]["requestId"], Value::Null, "outcome not known");
    comes_to_lead(&second)?;
    println!("take-over: {:?} after the end of the process, with a Lease of 6 s", died.elapsed());
    s.reaches("web", "Associated")?;
    assert_eq!(s.sandbox().profile_of(&i)?, Some(app));
    assert_eq!(s.changes(&i)?, [REPLACE], "not done twice");
    assert_eq!(s.sandbox().gaps(&i)?, []);
    let old = "arn:aws:iam::123456789012:instance-profile/old";
    assert_eq!(s.binding("web")?["status"]["previous"], json!({"profileArn": old}));
    Ok(())
}

/// The second process started long before the first one wrote: what status tells of that write is news to it all the same.
#[test]
fn a_new_leader_concludes_nothing_from_looks_that_may_show_the_time_before_its_predecessors_write()
-> Result<()> {
    let world = world()?;
    let (first, second) = pair(&world, &SHORT)?;
    let s = world.scenario("past")?;
    let app = s.sandbox().profile("app")?;
    let i = s.sandbox().instance("running", None)?;
    let silent = json!({"late": {"ms": 0, "client": "hang"}});
    s.sandbox().fault(&json!({"action": ASSOCIATE, "instance": i, "effect": silent}))?;
    s.bind("web", &i, &json!({"name": "app"}))?;
    eventually_ok("EC2 has done it", Duration::from_secs(40), || {
        ensure!(s.changes(&i)? == [ASSOCIATE], "not yet");
        Ok(())
    })?;
    first.kill()?;
    assert_eq!(s.sandbox().profile_of(&i)?, Some(app));
    // For a while EC2 shows what was before the write: nothing to take off.
    s.sandbox().settings(&json!({"read_lag_ms": 15000}))?;
    s.delete("web")?;
    comes_to_lead(&second)?;
    s.vanishes("web")?;
    assert_eq!(s.sandbox().profile_of(&i)?, None, "it was taken off before the binding was let go");
    Ok(())
}

#[test]
fn a_leader_that_was_frozen_past_its_lease_writes_nothing_when_it_thaws() -> Result<()> {
    let world = world()?;
    let (first, second) = pair(&world, &SHORT)?;
    let s = world.scenario("frozen")?;
    let all = bound(&s, 25)?;
    let other = s.sandbox().profile("other")?;
    for (name, _) in &all {
        s.choose(name, json!({"name": "other"}))?;
    }
    eventually_ok("it is at work", Duration::from_secs(20), || {
        ensure!(s.changes(&all[0].1)?.contains(&REPLACE.to_owned()), "not yet");
        Ok(())
    })?;
    first.process().pause()?;
    comes_to_lead(&second)?;
    for (name, instance) in &all {
        s.patiently(name, "is as declared", |found| is_observed(found) && reason(found) == "Associated")?;
        s.carries(instance, Some(&other))?;
    }
    // What the frozen one would like to repair, if it still took itself for the leader.
    s.sandbox().drift(&all[0].1, None)?;
    first.process().resume()?;
    eventually_ok("it has noticed", Duration::from_secs(20), || {
        ensure!(!leads(&first)?, "it takes itself for the leader");
        Ok(())
    })?;
    // What was under way when it froze is counted when its answer is heard.
    std::thread::sleep(Duration::from_secs(2));
    let before = writes(&first)?;
    s.carries(&all[0].1, Some(&other))?;
    s.passes(3)?;
    assert_eq!(writes(&first)?, before, "it stands by");
    assert!(leads(&second)? && !leads(&first)?);
    first.process().still_runs()?;
    for (_, instance) in all.iter().skip(1) {
        assert_eq!(s.changes(instance)?, [ASSOCIATE, REPLACE], "each changed once");
    }
    assert_eq!(first.probe("/readyz")?.0, 200);
    // And it is a good standby: it leads again when it must.
    second.kill()?;
    comes_to_lead(&first)?;
    s.sandbox().drift(&all[1].1, None)?;
    s.carries(&all[1].1, Some(&other))
}

#[test]
fn a_leader_that_is_cut_off_stands_by_in_the_same_process_and_leads_again() -> Result<()> {
    let world = world()?;
    let only = start(&world, "only", &SHORT)?;
    comes_to_lead(&only)?;
    let s = world.scenario("cut-off")?;
    let all = bound(&s, 2)?;
    let pid = only.process().pid();
    world.control_plane().pause_api_server()?;
    let cut = Instant::now();
    eventually_ok("it stands by", Duration::from_secs(30), || {
        ensure!(!leads(&only)?, "it leads");
        Ok(())
    })?;
    println!("stands by {:?} after the API server fell silent, with a deadline of 4 s", cut.elapsed());
    let since = s.sandbox().last_call()?;
    s.sandbox().drift(&all[0].1, None)?;
    // Longer than a listing would take that sees it.
    std::thread::sleep(Duration::from_secs(3));
    let asked: Vec<String> = s.sandbox().calls_since(since)?.into_iter().map(|call| call.action).collect();
    assert!(asked.is_empty(), "who stands by asks EC2 nothing: {asked:?}");
    world.control_plane().resume_api_server()?;
    comes_to_lead(&only)?;
    assert_eq!(only.process().pid(), pid);
    only.process().still_runs()?;
    let app = "arn:aws:iam::123456789012:instance-profile/app";
    s.carries(&all[0].1, Some(app))?;
    let lease = world.control_plane().api().get(LEASE)?;
    assert_eq!(lease["spec"]["leaseTransitions"], 0, "nobody else led in between");
    Ok(())
}

/// What another process writes into the Lease by a clock of its own does not matter: only that it goes on writing.
#[test]
fn a_holder_whose_clock_is_wrong_is_waited_for_as_long_as_it_renews_and_not_longer() -> Result<()> {
    let world = world()?;
    let api = world.control_plane().api();
    let renewed = |by: i64, nth: u64| -> Result<()> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let at = i64::try_from(now.as_secs())? + by;
        let time = jiff::Timestamp::new(at, i32::try_from(nth)? * 1000)?;
        let spec = json!({"holderIdentity": "another", "leaseDurationSeconds": 6, "leaseTransitions": 0,
            "acquireTime": format!("{time:.6}"), "renewTime": format!("{time:.6}")});
        let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "instance-role-controller", "namespace": "instance-role-system"}, "spec": spec});
        api.apply(LEASE, &lease).map(drop)
    };
    for skew in [-3600, 3600] {
        renewed(skew, 0)?;
        let controller = start(&world, "candidate", &SHORT)?;
        // Twice as long as its Lease lasts.
        for nth in 1..=12 {
            std::thread::sleep(Duration::from_secs(1));
            renewed(skew, nth)?;
            ensure!(!leads(&controller)?, "it leads beside another one, whose clock is {skew} s off");
        }
        comes_to_lead(&controller)?;
        assert!(holder(&world)?.starts_with("candidate_"), "{}", holder(&world)?);
        controller.kill()?;
    }
    Ok(())
}

#[test]
fn without_the_right_to_the_lease_it_says_so_and_is_not_ready() -> Result<()> {
    let world = world()?;
    let command = world.controller_command().env("INSTANCE_ROLE_LEADER_ELECT", "true");
    let command = command.args(["--lease-namespace=kube-system"]);
    let controller = command.spawn(world.scratch().path(), "no-right")?;
    eventually_ok("readyz says what is awaited", Duration::from_secs(30), || {
        let (status, said) = controller.probe("/readyz")?;
        ensure!(
            status == 503 && said.contains("Lease kube-system/instance-role-controller cannot be read"),
            "{said}"
        );
        Ok(())
    })?;
    assert_eq!(controller.probe("/livez")?.0, 200, "and not to be restarted");
    assert_eq!(controller.terminate()?, 0);
    Ok(())
}

#[test]
fn a_shard_has_a_lease_of_its_own() -> Result<()> {
    let world = world()?;
    let (whole, shard) = (
        start(&world, "whole", &SHORT)?,
        world.controller_command().args(SHORT).args(["--selector=shard=a"]),
    );
    comes_to_lead(&whole)?;
    let shard = shard.env("INSTANCE_ROLE_LEADER_ELECT", "true").spawn(world.scratch().path(), "shard")?;
    let said = eventually_ok("it asks for another Lease", Duration::from_secs(30), || {
        let (_, said) = shard.probe("/readyz")?;
        ensure!(said.contains("cannot be read"), "{said}");
        Ok(said)
    })?;
    let name = said.split("Lease instance-role-system/").nth(1).and_then(|rest| rest.split(' ').next());
    let name = name.context("no Lease is named")?;
    assert!(name.starts_with("instance-role-controller-"), "{said}");
    // As docs/scaling.md says: its name is added to the Role.
    let role = "/apis/rbac.authorization.k8s.io/v1/namespaces/instance-role-system/roles/instance-role-controller-leader-election";
    let mut rules = world.control_plane().api().get(role)?["rules"].take();
    for rule in rules.as_array_mut().into_iter().flatten() {
        if let Some(names) = rule["resourceNames"].as_array_mut() {
            names.push(json!(name));
        }
    }
    world.control_plane().api().merge(role, &json!({"rules": rules}))?;
    eventually_ok("both lead", Duration::from_secs(30), || {
        let leads = shard.metric("leader_election_master_status", &[&format!("name=\"{name}\"")])?;
        ensure!(leads == 1.0, "it does not");
        Ok(())
    })?;
    assert!(leads(&whole)?);
    Ok(())
}

#[test]
fn terms_that_do_not_fit_are_refused_by_the_flags_names() -> Result<()> {
    let world = World::new(WorldOptions { without_controller: true, ..WorldOptions::default() })?;
    for (flags, words) in [
        (["--lease-duration=10s", "--renew-deadline=10s"], ["--lease-duration", "raise"]),
        (["--renew-deadline=2s", "--retry-period=2s"], ["--retry-period", "raise"]),
    ] {
        let command = world.controller_command().env("INSTANCE_ROLE_LEADER_ELECT", "true").args(flags);
        let controller = command.spawn(world.scratch().path(), "misfit")?;
        let ended = eventually_ok("it ends", Duration::from_secs(20), || {
            controller.process().ended()?.context("it still runs")
        })?;
        assert_eq!(ended.code(), Some(2), "wrong usage");
        let said = controller.process().printed();
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
    Ok(())
}
