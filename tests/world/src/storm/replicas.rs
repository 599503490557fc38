//! Two replicas, of which one may lead; they are killed, frozen and started again.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::now;
use crate::controller::Controller;
use crate::eventually::eventually_ok;
use crate::together::World;

/// Short terms, so that the lead changes often. A write has the difference of the first two to end in.
const FLAGS: [&str; 4] =
    ["--lease-duration=6s", "--renew-deadline=4s", "--retry-period=500ms", "--resync-interval=2s"];
/// That difference: for so long a write may be under way.
pub(super) const WRITE_LIMIT_MS: u64 = 2000;

/// One of the two. A new process goes on in the log file of the former one.
#[derive(Debug)]
struct Replica {
    name: &'static str,
    runs: Option<Controller>,
    /// Since when it is frozen, in milliseconds since 1970.
    frozen: Option<u64>,
    /// When it is started again, or thaws.
    back: Instant,
}

/// Both.
pub(super) struct Replicas<'w> {
    world: &'w World,
    both: [Replica; 2],
    /// When one of them was frozen, from and to, in milliseconds since 1970.
    pub(super) frozen: Vec<(u64, u64)>,
}

impl<'w> Replicas<'w> {
    pub(super) fn start(world: &'w World) -> Result<Self> {
        let both =
            ["first", "second"].map(|name| Replica { name, runs: None, frozen: None, back: Instant::now() });
        let mut replicas = Self { world, both, frozen: Vec::new() };
        replicas.tend(Instant::now())?;
        Ok(replicas)
    }

    /// Starts those that were killed and thaws those that are frozen, where that is due by `time`.
    pub(super) fn tend(&mut self, time: Instant) -> Result<()> {
        for replica in self.both.iter_mut().filter(|replica| replica.back <= time) {
            if let (Some(controller), Some(since)) = (&replica.runs, replica.frozen.take()) {
                controller.process().resume()?;
                self.frozen.push((since, now()));
            }
            if replica.runs.is_none() {
                let command = self.world.controller_command().env("INSTANCE_ROLE_LEADER_ELECT", "true");
                replica.runs = Some(command.args(FLAGS).spawn(self.world.scratch().path(), replica.name)?);
            }
        }
        Ok(())
    }

    /// All are started or thaw now.
    pub(super) fn all_back(&mut self) -> Result<()> {
        let latest = self.both.iter().map(|replica| replica.back).max();
        self.tend(latest.unwrap_or_else(Instant::now))
    }

    /// Kills one (SIGKILL), for so long.
    pub(super) fn kill(&mut self, which: usize, time: Duration) -> Result<String> {
        let Some(replica) = self.both.get_mut(which) else { return Ok(String::new()) };
        let Some(controller) = replica.runs.take() else { return Ok(String::new()) };
        controller.process().still_runs()?;
        controller.kill()?;
        self.frozen.extend(replica.frozen.take().map(|since| (since, now())));
        replica.back = Instant::now() + time;
        Ok(format!("kill {} for {time:?}", replica.name))
    }

    /// Asks one to stop (SIGTERM) and waits for that.
    pub(super) fn stop(&mut self, which: usize) -> Result<String> {
        let Some(replica) = self.both.get_mut(which) else { return Ok(String::new()) };
        let Some(controller) = replica.runs.take_if(|_| replica.frozen.is_none()) else {
            return Ok(String::new());
        };
        // It drains for up to ten seconds and then releases the Lease.
        controller.process().terminate(Duration::from_secs(20))?;
        replica.back = Instant::now();
        Ok(format!("stop {}", replica.name))
    }

    /// Freezes one (SIGSTOP), for so long.
    pub(super) fn freeze(&mut self, which: usize, time: Duration) -> Result<String> {
        let Some(replica) = self.both.get_mut(which) else { return Ok(String::new()) };
        let (Some(controller), None) = (&replica.runs, replica.frozen) else { return Ok(String::new()) };
        controller.process().pause()?;
        replica.frozen = Some(now());
        replica.back = Instant::now() + time;
        Ok(format!("freeze {} for {time:?}", replica.name))
    }

    /// Both run and are ready, one of them leads.
    pub(super) fn wait_until_one_leads(&self) -> Result<()> {
        eventually_ok("one leads", Duration::from_secs(60), || {
            let leading: f64 = self.leading()?.iter().sum();
            ensure!(leading == 1.0, "{leading} do");
            Ok(())
        })
    }

    fn leading(&self) -> Result<Vec<f64>> {
        let running = self.both.iter().filter_map(|replica| replica.runs.as_ref());
        running.map(|controller| controller.metric("leader_election_master_status", &[])).collect()
    }

    /// Fails if one of them has ended by itself or panicked.
    pub(super) fn are_sound(&self) -> Result<()> {
        for controller in self.both.iter().filter_map(|replica| replica.runs.as_ref()) {
            controller.process().still_runs()?;
            let panics = controller.metric("controller_runtime_reconcile_panics_total", &[])?;
            ensure!(panics == 0.0, "{panics} passes panicked\n{}", controller.process().log_tail(30));
            ensure!(
                !controller.process().printed().contains("panicked at"),
                "{}",
                controller.process().log_tail(30)
            );
        }
        Ok(())
    }

    /// What both logs say of these words, newest last.
    pub(super) fn logs_about(&self, words: &[&str]) -> String {
        let mut lines = Vec::new();
        for replica in &self.both {
            let printed = replica.runs.as_ref().map(|controller| controller.process().printed());
            for line in printed
                .unwrap_or_default()
                .lines()
                .filter(|line| words.iter().any(|word| line.contains(word)))
            {
                lines.push(format!("{line} ({})", replica.name));
            }
        }
        lines.sort();
        lines.join("\n")
    }

    pub(super) fn log_tails(&self) -> String {
        let running = self.both.iter().filter_map(|replica| replica.runs.as_ref());
        running.map(|controller| controller.process().log_tail(10)).collect::<Vec<_>>().join("\n")
    }
}
