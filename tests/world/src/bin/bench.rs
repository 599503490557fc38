//! `make bench`: what the controller costs and how quick it is, against a real API server and the EC2 sandbox.
//!
//! Each figure stands beside its goal; nothing here fails for being slow, since machines are shared and noisy.
//! One table on the terminal, and the same as JSON in `target/bench.json`.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use world::{World, WorldOptions, eventually, repository};

/// New bindings whose way to EC2 is timed, one after the other.
const LONE_CHANGES: usize = 60;
/// Passes that are watched while nothing changes.
const PASSES: u32 = 3;
/// The controller's resync interval in the bench; a pass costs the same at any interval.
const RESYNC: Duration = Duration::from_secs(5);

fn main() -> Result<()> {
    let started = Instant::now();
    println!("starting a control plane, the EC2 sandbox and the controller");
    let world = World::new(WorldOptions {
        own_control_plane: true,
        controller_flags: vec![
            format!("--resync-interval={}s", RESYNC.as_secs()),
            "--aws-budget-share=1".into(),
        ],
        ..WorldOptions::default()
    })?;
    let mut bench = Bench { world: &world, figures: Vec::new() };
    bench.lone_changes()?;
    let mut bound = 0;
    for total in [1_000, 10_000] {
        println!("up to {total} bindings");
        bench.bind(bound, total)?;
        bound = total;
        bench.at_rest(total)?;
    }
    bench.print(started.elapsed())
}

/// One figure and its goal.
struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    goal: Option<f64>,
}

struct Bench<'w> {
    world: &'w World,
    figures: Vec<Figure>,
}

impl Bench<'_> {
    fn figure(&mut self, name: impl Into<String>, value: f64, unit: &'static str, goal: Option<f64>) {
        self.figures.push(Figure { name: name.into(), value, unit, goal });
    }

    /// From sending a new binding to the API server to EC2 receiving the write for it.
    fn lone_changes(&mut self) -> Result<()> {
        println!("timing {LONE_CHANGES} lone changes");
        let sandbox = self.world.sandbox();
        let corner = self.world.scenario("lone")?;
        sandbox.profile("bench")?;
        // What is asked of IAM once a minute, and the first of everything, is not what is timed.
        let warm = sandbox.instance("running", None)?;
        corner.bind("warm", &warm, &json!({"name": "bench"}))?;
        corner.wait_until_ready("warm")?;
        let (mut millis, mut calls) = (Vec::new(), Vec::new());
        for i in 0..LONE_CHANGES {
            let instance = sandbox.instance("running", None)?;
            let since = sandbox.last_call()?;
            let binding = format!("lone-{i}");
            let sent = now_ms()?;
            corner.bind(&binding, &instance, &json!({"name": "bench"}))?;
            corner.wait_until(&binding, "is attached", |object| {
                !object["status"]["observed"]["associationId"].is_null()
            })?;
            let journal = sandbox.get(&format!("journal?since={since}"))?;
            let entries = journal["entries"].as_array().context("a journal without entries")?;
            let of_instance = |entry: &&Value| {
                entry["params"].to_string().contains(&instance) || entry["instance"] == instance.as_str()
            };
            let write = entries
                .iter()
                .filter(of_instance)
                .find(|e| e["action"] == "AssociateIamInstanceProfile")
                .context("no write")?;
            let at = write["startedMs"].as_f64().context("no startedMs")?;
            millis.push(at - sent);
            let before = entries.iter().filter(of_instance).filter(|e| e["startedMs"].as_f64() <= Some(at));
            calls.push(before.count() as f64);
        }
        millis.sort_by(f64::total_cmp);
        self.figure("apply → first EC2 write, idle, p50", quantile(&millis, 0.50), "ms", None);
        self.figure("apply → first EC2 write, idle, p99", quantile(&millis, 0.99), "ms", Some(300.0));
        calls.sort_by(f64::total_cmp);
        self.figure(
            "EC2 calls of a new binding up to and with its write",
            quantile(&calls, 0.5),
            "calls",
            Some(3.0),
        );
        for i in 0..LONE_CHANGES {
            corner.wait_until_ready(&format!("lone-{i}"))?;
        }
        Ok(())
    }

    /// Makes bindings of instances that already carry what is declared, and waits until all are Ready.
    fn bind(&mut self, from: usize, to: usize) -> Result<()> {
        let sandbox = self.world.sandbox();
        let arn = sandbox.profile("bench")?;
        let instances =
            sandbox.add_instances(&json!({"count": to - from, "state": "running", "profile": arn}))?;
        let api = self.world.control_plane().api();
        let corner = self.world.scenario("many")?;
        let list = corner.path("");
        let began = Instant::now();
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|worker| {
                    let (instances, list) = (&instances, list.trim_end_matches('/'));
                    scope.spawn(move || -> Result<()> {
                        for (i, instance) in instances.iter().enumerate().skip(worker).step_by(4) {
                            let object = json!({
                                "apiVersion": "instancerole.dev/v1alpha1", "kind": "InstanceRoleBinding",
                                "metadata": {"name": format!("many-{}", from + i)},
                                "spec": {"instanceId": instance, "instanceProfile": {"name": "bench"}},
                            });
                            api.create(list, &object)?;
                        }
                        Ok(())
                    })
                })
                .collect();
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))?)
        })?;
        println!(
            "  {} made in {:.0} s; waiting until all are Ready",
            to - from,
            began.elapsed().as_secs_f64()
        );
        let ready = || {
            self.world
                .controller()
                .ok()?
                .metric("instancerole_bindings", &["condition=\"Ready\"", "status=\"True\""])
                .ok()
        };
        let wanted = (to + LONE_CHANGES + 1) as f64;
        eventually("all bindings are Ready", Duration::from_secs(600), || {
            ready().filter(|count| *count >= wanted)
        })?;
        println!("  all Ready {:.0} s after the first was made", began.elapsed().as_secs_f64());
        Ok(())
    }

    /// What passes cost while nothing changes.
    fn at_rest(&mut self, total: usize) -> Result<()> {
        let (sandbox, controller) = (self.world.sandbox(), self.world.controller()?);
        std::thread::sleep(RESYNC * 2);
        let (since, writes) =
            (sandbox.last_call()?, controller.metric("rest_client_requests_total", &["method=\"PATCH\""])?);
        let cpu = cpu_seconds(controller.process().pid())?;
        let began = Instant::now();
        std::thread::sleep(RESYNC * PASSES);
        let seconds = began.elapsed().as_secs_f64();
        let calls = sandbox.calls_since(since)?;
        let passes = seconds / RESYNC.as_secs_f64();
        let of = |service: &str| calls.iter().filter(|call| call.action.starts_with(service)).count() as f64;
        let reads = of("DescribeIamInstanceProfileAssociations") + of("DescribeInstances");
        let pages = (total + LONE_CHANGES + 1).div_ceil(1000) as f64;
        self.figure(
            format!("EC2 reads of a no-op pass, {total} bindings"),
            (reads / passes).round(),
            "calls",
            Some(pages),
        );
        let ec2_writes = calls.iter().filter(|call| call.is_write()).count() as f64;
        self.figure(format!("EC2 writes of a no-op pass, {total} bindings"), ec2_writes, "calls", Some(0.0));
        let patches = controller.metric("rest_client_requests_total", &["method=\"PATCH\""])? - writes;
        self.figure(
            format!("Kubernetes writes of a no-op pass, {total} bindings"),
            patches,
            "calls",
            Some(0.0),
        );
        let rss = controller.rss_kib()? as f64 / 1024.0;
        self.figure(
            format!("resident memory, {total} bindings"),
            rss,
            "MiB",
            (total == 10_000).then_some(64.0),
        );
        // Per interval of 60 s, as the controller runs by default.
        let core = (cpu_seconds(controller.process().pid())? - cpu) / passes / 60.0;
        self.figure(format!("processor at rest, {total} bindings, one pass a minute"), core, "cores", None);
        Ok(())
    }

    fn print(&self, took: Duration) -> Result<()> {
        println!("\n{:<62} {:>10} {:<6} {:>8}", "figure", "measured", "", "goal");
        let mut rows = Vec::new();
        for Figure { name, value, unit, goal } in &self.figures {
            let goal_text = goal.map_or_else(String::new, |goal| format!("≤ {goal}"));
            println!("{name:<62} {value:>10.3} {unit:<6} {goal_text:>8}");
            rows.push(json!({"figure": name, "value": value, "unit": unit, "goal": goal}));
        }
        let file = repository().join("target/bench.json");
        std::fs::write(&file, serde_json::to_string_pretty(&json!({"figures": rows}))?)
            .with_context(|| format!("{} cannot be written", file.display()))?;
        println!("\nthe same as JSON: target/bench.json; took {:.0} s", took.as_secs_f64());
        Ok(())
    }
}

/// The time now as the sandbox counts it: milliseconds since 1970; it runs on this machine.
fn now_ms() -> Result<f64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs_f64()
        * 1000.0)
}

fn quantile(sorted: &[f64], share: f64) -> f64 {
    let rank = ((sorted.len() as f64) * share).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
}

/// User and system time of a process so far, as Linux counts it.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .context("processor time is measured on Linux only")?;
    let after_name = stat.rsplit_once(')').context("an unknown form of /proc/pid/stat")?.1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks: Vec<f64> = [11, 12].iter().filter_map(|at| fields.get(*at)?.parse().ok()).collect();
    ensure!(ticks.len() == 2, "an unknown form of /proc/pid/stat");
    // USER_HZ is 100 on every Linux that Rust runs on.
    Ok(ticks.iter().sum::<f64>() / 100.0)
}
