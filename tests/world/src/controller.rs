//! The program under test as a child process.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::aws::AwsEnv;
use crate::eventually::eventually_ok;
use crate::http::Http;
use crate::places::binary;
use crate::ports;
use crate::process::Process;
use crate::tap::Tap;

/// How a controller is to be started; can be started several times, as replicas.
#[derive(Debug, Clone)]
pub struct ControllerCommand {
    kubeconfig: PathBuf,
    aws: AwsEnv,
    binary: Option<PathBuf>,
    args: Vec<String>,
    variables: Vec<(String, String)>,
}

impl ControllerCommand {
    /// `instance-role-controller run` with this kubeconfig and this AWS. The binary is the one that the environment
    /// variable `INSTANCE_ROLE_CONTROLLER_BIN` names, else the one built together with the running program.
    pub fn new(kubeconfig: &Path, aws: &AwsEnv) -> Self {
        Self {
            kubeconfig: kubeconfig.to_owned(),
            aws: aws.clone(),
            binary: None,
            args: Vec::new(),
            variables: Vec::new(),
        }
    }

    /// Another binary.
    #[must_use]
    pub fn binary(mut self, binary: &Path) -> Self {
        self.binary = Some(binary.to_owned());
        self
    }

    /// More flags, such as `--resync-interval=2s`. Addresses and log format are set already.
    #[must_use]
    pub fn args<T: Into<String>>(mut self, args: impl IntoIterator<Item = T>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Another environment variable, or another value for one.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// By way of a tap to both its servers.
    #[must_use]
    pub fn through(mut self, tap: &Tap) -> Self {
        self.kubeconfig = tap.kubeconfig().to_owned();
        self.env("AWS_ENDPOINT_URL", tap.aws_url())
    }

    /// Starts it, with its log as `{name}.log` in `dir`, and waits until it says that it is ready.
    ///
    /// # Errors
    /// It is not ready within 30 seconds; the end of its log is told.
    pub fn start(&self, dir: &Path, name: &str) -> Result<Controller> {
        let controller = self.spawn(dir, name)?;
        controller.wait_until_ready(Duration::from_secs(30))?;
        Ok(controller)
    }

    /// Starts it and does not wait.
    ///
    /// # Errors
    /// It has not been built, or cannot be started.
    pub fn spawn(&self, dir: &Path, name: &str) -> Result<Controller> {
        let binary = match &self.binary {
            Some(binary) => binary.clone(),
            None => binary("instance-role-controller", "INSTANCE_ROLE_CONTROLLER_BIN")?,
        };
        let [metrics, health] = ports::free()?;
        let mut command = Command::new(binary);
        self.aws.apply_to(&mut command);
        // Nothing of this machine's Kubernetes, and no switch of ours that a person may have set.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("INSTANCE_ROLE_") || text.starts_with("KUBERNETES_") {
                command.env_remove(&name);
            }
        }
        command
            .env("KUBECONFIG", &self.kubeconfig)
            .env("POD_NAMESPACE", "instance-role-system")
            .env("POD_NAME", name)
            .env("INSTANCE_ROLE_LEADER_ELECT", "false")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .arg("run")
            .arg(format!("--metrics-bind-address=127.0.0.1:{metrics}"))
            .arg(format!("--health-probe-bind-address=127.0.0.1:{health}"))
            .arg("--log-format=json")
            .args(&self.args);
        let process = Process::spawn("the controller", &mut command, &dir.join(format!("{name}.log")))?;
        Ok(Controller {
            process,
            metrics: Http::plain(&format!("http://127.0.0.1:{metrics}")),
            health: Http::plain(&format!("http://127.0.0.1:{health}")),
        })
    }
}

/// A running controller. It is killed when this is dropped, and when the process ends in any way.
#[derive(Debug)]
pub struct Controller {
    process: Process,
    metrics: Http,
    health: Http,
}

impl Controller {
    /// The process: its pid, log, pause and resume.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Waits until `/readyz` says so.
    ///
    /// # Errors
    /// It does not, or the controller ends; the end of its log is told.
    pub fn wait_until_ready(&self, within: Duration) -> Result<()> {
        let outcome = eventually_ok("the controller is ready", within, || match self.process.still_runs() {
            Ok(()) => self.health.get("/readyz").and_then(|reply| reply.ok()).map(|_| Ok(())),
            Err(ended) => Ok(Err(ended)),
        });
        outcome.unwrap_or_else(|error| Err(error.context(self.process.log_tail(30))))
    }

    /// The status and text of `/healthz`, `/readyz` or `/livez`.
    ///
    /// # Errors
    /// It does not answer.
    pub fn probe(&self, path: &str) -> Result<(u16, String)> {
        let reply = self.health.get(path)?;
        Ok((reply.status, reply.text))
    }

    /// Asks it to stop, as Kubernetes does, waits for its end (12 s at most) and returns its exit code.
    ///
    /// # Errors
    /// It does not stop, or a signal ended it.
    pub fn terminate(&self) -> Result<i32> {
        let status = self.process.terminate(Duration::from_secs(12))?;
        status.code().with_context(|| format!("the controller ended by a signal: {status}"))
    }

    /// Ends it at once (SIGKILL).
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn kill(&self) -> Result<()> {
        self.process.kill()
    }

    /// The text of `/metrics`.
    ///
    /// # Errors
    /// It does not answer.
    pub fn metrics(&self) -> Result<String> {
        self.metrics.get("/metrics")?.ok()
    }

    /// The sum of all series of a metric whose labels contain each of `labels`, written as
    /// `operation="DescribeInstances"`; 0 where there is none.
    ///
    /// # Errors
    /// It does not answer.
    pub fn metric(&self, name: &str, labels: &[&str]) -> Result<f64> {
        Ok(sum(&self.metrics()?, name, labels))
    }

    /// Memory in KiB, as Linux tells it: `VmRSS` is all that is resident, `RssAnon` what of it is no page of a file.
    ///
    /// # Errors
    /// It has ended, or this is not Linux.
    pub fn memory_kib(&self, what: &str) -> Result<u64> {
        let path = format!("/proc/{}/status", self.process.pid());
        let status = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {path}: memory is measured on Linux only"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':'));
        let line = line.with_context(|| format!("no {what} in {path}"))?;
        line.trim().trim_end_matches(" kB").parse().with_context(|| format!("{what}:{line}"))
    }

    /// Its log so far, one JSON object for each line.
    ///
    /// # Errors
    /// A line is not JSON: the controller printed something past its log.
    pub fn log(&self) -> Result<Vec<Value>> {
        let printed = self.process.printed();
        // Without the last line while it is only half written.
        let whole = printed.get(..=printed.rfind('\n').unwrap_or_default()).unwrap_or_default();
        let lines = whole.lines().map(|line| {
            let value: Result<Value, _> = serde_json::from_str(line);
            ensure!(value.is_ok(), "the controller's log has a line that is not JSON: {line}");
            Ok(value?)
        });
        lines.collect()
    }
}

fn sum(metrics: &str, name: &str, labels: &[&str]) -> f64 {
    let series = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (of, value) = rest.rsplit_once(' ')?;
        let fits = of.is_empty() || (of.starts_with('{') && of.ends_with('}'));
        (fits && labels.iter().all(|label| of.contains(label))).then(|| value.parse::<f64>().ok())?
    });
    series.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_the_series_that_fit() {
        let text = "# TYPE a_total counter\na_total{op=\"x\",code=\"ok\"} 2\na_total{op=\"y\",code=\"ok\"} 3\n\
                    a_total_more 100\na_totals{op=\"x\"} 50\nb 7\n";
        assert_eq!(sum(text, "a_total", &[]), 5.0);
        assert_eq!(sum(text, "a_total", &["op=\"x\"", "code=\"ok\""]), 2.0);
        assert_eq!(sum(text, "b", &[]), 7.0);
        assert_eq!(sum(text, "c", &[]), 0.0);
    }
}
