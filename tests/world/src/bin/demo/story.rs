//! The ten steps.

mod apply;
mod outside;
mod refused;

use std::time::Duration;

use anyhow::{Context, Result};
use world::{Grants, World, WorldOptions};

use crate::ledger::Ledger;
use crate::samples::{self, NAMESPACE, Sample};
use crate::screen::{Paint, Screen};
use crate::stage;
use crate::trial::{Ends, Trial};
use crate::watch::Watch;

/// How many there are.
pub const STEPS: usize = 10;

/// How long anything may take that takes some seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// EC2 takes up to a minute or two for these. Here it is seconds: long enough to be seen.
const PACE: [&str; 4] =
    ["associating_ms=1500", "disassociating_ms=1000", "pending_ms=1500", "stopping_ms=1000"];

/// Row, binding, the calls that must be made, and the end.
type Row = (&'static str, &'static str, &'static [&'static str], Ends);

/// The world, and what has been told of it.
#[derive(Debug)]
pub struct Story<'s> {
    screen: &'s Screen,
    world: World,
    samples: Vec<Sample>,
    ledger: Ledger,
}

impl<'s> Story<'s> {
    /// Starts all parts.
    pub fn begin(screen: &'s Screen) -> Result<Self> {
        screen.step(
            "Starting a Kubernetes API server, an EC2, and the controller",
            "etcd, kube-apiserver and kubectl are the real ones; EC2, IAM and STS are tests/ec2-sandbox over the \
             real wire protocol, as strict as what was captured of AWS, only faster. The controller runs as its own \
             service account, with the shipped RBAC and nothing more.",
        );
        let options = WorldOptions {
            own_control_plane: true,
            sandbox_flags: PACE.iter().map(|setting| format!("--set={setting}")).collect(),
            controller_flags: vec!["--resync-interval=3s".to_owned()],
            without_controller: true,
            // deploy/samples brings its own.
            grants: Grants::None,
        };
        screen.line("API server with deploy/kustomize/default, and EC2: about 5 seconds …");
        let mut world = World::new(options)?;
        screen.line(&format!("EC2 listens on {} ({:.1?})", world.sandbox().url(), screen.elapsed()));
        world.start_controller()?;
        screen.line(&format!("the controller is ready, --resync-interval=3s ({:.1?})", screen.elapsed()));
        Ok(Self { screen, world, samples: samples::read()?, ledger: Ledger::default() })
    }

    /// All that happens then.
    pub fn tell(&mut self) -> Result<()> {
        self.before()?;
        self.apply_the_samples()?;
        self.launch()?;
        self.start_the_stopped()?;
        self.drift()?;
        self.replace_by_an_edit()?;
        self.swap_while_stopped()?;
        self.ask_for_what_was_not_granted()?;
        self.describe_and_delete()
    }

    /// Shows the summary. Returns whether each row came out right.
    pub fn summary(&self) -> Result<bool> {
        let screen = self.screen;
        screen.gap();
        screen.line(&screen.paint(Paint::Bold, "Summary"));
        screen.gap();
        let right = self.ledger.summary(&self.world, screen)?;
        screen.gap();
        let seconds = screen.elapsed().as_secs();
        if right {
            screen.aside("Judged by EC2's own journal and state: each write of the controller belongs to one of these rows.");
            screen.line(&screen.paint(Paint::Green, &format!("All rows came out right, in {seconds} s.")));
        } else {
            screen.bad(&format!("Not as it should be ({seconds} s)."));
            let controller = self.world.controller()?;
            screen.line(&controller.process().log_tail(20));
        }
        Ok(right)
    }

    /// The world.
    pub fn world(&self) -> &World {
        &self.world
    }

    fn before(&self) -> Result<()> {
        self.screen.step(
            "What EC2 has before",
            "Ten instances in ten situations, none of them launched or owned by the controller. It will change one \
             thing about them, their instance profile, and only as declared.",
        );
        stage::set(&self.world, &self.samples)?;
        stage::show(&self.world, self.screen, &self.samples)?;
        self.screen.gap();
        self.kubectl(&["get", "instancerolebindings", "-n", NAMESPACE])
    }

    /// A row about the binding of this name, with all calls from the beginning.
    fn trial(&self, (row, binding, calls, ends): Row) -> Result<Trial> {
        let found = self.samples.iter().find(|sample| sample.name == binding);
        let sample = found.with_context(|| format!("deploy/samples has no {binding}"))?.clone();
        Ok(Trial { row, asked: sample.asked.clone(), sample, calls, since: 0, ends })
    }

    /// A row of what happens to this binding from now on.
    fn trial_from_now(&self, row: Row, asked: &str) -> Result<Trial> {
        let since = self.world.sandbox().last_call()?;
        Ok(Trial { since, asked: asked.to_owned(), ..self.trial(row)? })
    }

    /// Runs kubectl before the eyes of the reader.
    fn kubectl(&self, args: &[&str]) -> Result<()> {
        self.screen.command(&format!("kubectl {}", quoted(args)));
        let output = self.world.control_plane().kubectl(args)?;
        let (printed, complaint) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        // A table keeps its form, one line keeps its words.
        if printed.trim_end().lines().count() > 2 {
            self.screen.output(&printed);
        } else {
            self.screen.text(&printed);
        }
        self.screen.text(&complaint);
        anyhow::ensure!(output.status.success(), "kubectl failed: {complaint}");
        Ok(())
    }

    /// Runs the `aws` CLI as a person who is not the controller.
    fn aws(&self, args: &[&str]) -> Result<serde_json::Value> {
        self.screen.command(&format!("aws {}", quoted(args)));
        self.world.sandbox().aws_cli().run(args)
    }

    /// Watches a binding (or all) while something is done, until the rows are as they must be.
    fn follow(
        &self,
        binding: Option<&str>,
        trials: &[Trial],
        deed: impl FnOnce() -> Result<()> + Send,
    ) -> Result<()> {
        let watch = Watch::start(&self.world, self.screen, binding)?;
        if binding.is_some() {
            watch.settle()?;
        }
        std::thread::scope(|scope| {
            let deed = scope.spawn(deed);
            let watched = watch.until(PATIENCE, || Ok(deed.is_finished() && self.are_reached(trials)?));
            let done = deed.join().unwrap_or_else(|_| anyhow::bail!("it panicked"));
            watched.and(done)
        })?;
        self.screen.gap();
        Ok(())
    }

    fn are_reached(&self, trials: &[Trial]) -> Result<bool> {
        self.world.controller()?.process().still_runs()?;
        for trial in trials {
            if !trial.is_reached(&self.world)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Judges rows as they stand.
    fn judge(&mut self, trials: &[Trial]) -> Result<()> {
        for trial in trials {
            self.ledger.judge(&self.world, self.screen, trial)?;
        }
        Ok(())
    }
}

/// Arguments as a shell would need them.
fn quoted(args: &[&str]) -> String {
    let plain = |arg: &&str| !arg.contains(|c: char| c.is_whitespace() || "{}\"'*[]$`".contains(c));
    let word = |arg: &&str| if plain(arg) { (*arg).to_owned() } else { format!("'{arg}'") };
    args.iter().map(word).collect::<Vec<_>>().join(" ")
}
