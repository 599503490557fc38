//! `run`: the controller.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;
use kube::{Client, Config};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::values;
use super::version::BUILD;
use crate::api::binding::{DeletionPolicy, Mode, Operation};
use crate::controller::run::{Awaited, Clients, Replica};
use crate::controller::{self, Settings};
use crate::decide::Ceiling;
use crate::ec2::budget::Limit;
use crate::ec2::cloud::Environment;
use crate::ids::InstanceId;
use crate::lease::elector::identity;
use crate::lease::protocol::Misfit;
use crate::lease::shard::lease_name;
use crate::lease::{Seat, Terms};
use crate::telemetry::{self, LogFormat, Metrics, Readiness, Traces};

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// How often the associations of all instances are listed, so that drift is seen: 500ms, 10s, 5m
    #[arg(long, env = "INSTANCE_ROLE_RESYNC_INTERVAL", default_value = "60s", value_parser = values::duration)]
    resync_interval: Duration,

    /// Watch only this namespace; may be repeated [default: all]
    #[arg(long, env = "INSTANCE_ROLE_WATCH_NAMESPACE", value_name = "NAMESPACE", value_delimiter = ',')]
    watch_namespace: Vec<String>,

    /// Watch only bindings that this label selector matches [default: all]
    #[arg(long, env = "INSTANCE_ROLE_SELECTOR")]
    selector: Option<String>,

    /// Stand for a Lease, so that of several replicas one acts and the others stand by; without it, run one replica alone
    #[arg(long, env = "INSTANCE_ROLE_LEADER_ELECT", default_value = "true", num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    leader_elect: bool,

    /// Namespace of the Lease [default: the pod's, from POD_NAMESPACE, else default]
    #[arg(long, env = "INSTANCE_ROLE_LEASE_NAMESPACE", value_name = "NAMESPACE")]
    lease_namespace: Option<String>,

    /// How long after its last renewal a leader that is gone is waited for: 15s, 1m
    #[arg(long, env = "INSTANCE_ROLE_LEASE_DURATION", default_value = "15s", value_parser = values::duration)]
    lease_duration: Duration,

    /// By when a leader must have renewed the Lease, else it stops writing; shorter than --lease-duration: a write to EC2 has
    /// the difference to end in, 5s at most
    #[arg(long, env = "INSTANCE_ROLE_RENEW_DEADLINE", default_value = "10s", value_parser = values::duration)]
    renew_deadline: Duration,

    /// How often the Lease is renewed, and how soon tried again; shorter than --renew-deadline
    #[arg(long, env = "INSTANCE_ROLE_RETRY_PERIOD", default_value = "2s", value_parser = values::duration)]
    retry_period: Duration,

    /// Address of /metrics; 0 turns it off
    #[arg(
        long,
        env = "INSTANCE_ROLE_METRICS_BIND_ADDRESS",
        default_value = "0.0.0.0:8080",
        value_name = "ADDRESS"
    )]
    metrics_bind_address: String,

    /// Address of /healthz, /readyz and /livez; 0 turns it off
    #[arg(
        long,
        env = "INSTANCE_ROLE_HEALTH_PROBE_BIND_ADDRESS",
        default_value = "0.0.0.0:8081",
        value_name = "ADDRESS"
    )]
    health_probe_bind_address: String,

    /// Share of EC2's published limits per operation (burst and refill) that this controller may use, above 0 up to 1
    #[arg(long, env = "INSTANCE_ROLE_AWS_BUDGET_SHARE", default_value = "0.5", value_parser = values::share, value_name = "SHARE")]
    aws_budget_share: f64,

    /// Limit of an operation in an account where AWS raised it, as Operation=burst,per_second; may be repeated
    #[arg(long, env = "INSTANCE_ROLE_AWS_BUDGET", value_parser = values::budget, value_name = "OPERATION=BURST,PER_SECOND", value_delimiter = ';')]
    aws_budget: Vec<(Operation, Limit)>,

    /// Circuit breaker: where more repairs of drift are due in a namespace in one pass, none of them is made until an
    /// administrator lets them go on; a number, or a share of the namespace's bindings such as 20% (then at least 5). Edits,
    /// deletions and swaps that were begun are never held [default: off]
    #[arg(long, env = "INSTANCE_ROLE_MAX_CHANGES_PER_PASS", value_parser = values::ceiling, value_name = "NUMBER|SHARE%")]
    max_changes_per_pass: Option<Ceiling>,

    /// How many bindings are looked at at the same time
    #[arg(long, env = "INSTANCE_ROLE_MAX_CONCURRENT_RECONCILES", default_value = "16", value_parser = clap::value_parser!(u16).range(1..), value_name = "NUMBER")]
    max_concurrent_reconciles: u16,

    /// Decide and report everything, write nothing to AWS, add and drop no finalizer
    #[arg(long, env = "INSTANCE_ROLE_DRY_RUN", default_value = "false", num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    dry_run: bool,

    /// Deletion policy of bindings that leave it out
    #[arg(
        long,
        env = "INSTANCE_ROLE_DEFAULT_DELETION_POLICY",
        default_value = "Detach",
        value_enum,
        value_name = "POLICY"
    )]
    default_deletion_policy: DeletionPolicyArg,

    /// Mode of bindings that leave it out
    #[arg(
        long,
        env = "INSTANCE_ROLE_DEFAULT_MODE",
        default_value = "Enforce",
        value_enum,
        value_name = "MODE"
    )]
    default_mode: ModeArg,

    /// Touch only instances that carry this tag, whatever grants say, as key=value [default: none]
    #[arg(long, env = "INSTANCE_ROLE_REQUIRE_INSTANCE_TAG", value_parser = values::tag, value_name = "KEY=VALUE")]
    require_instance_tag: Option<(Arc<str>, Arc<str>)>,

    /// The instance that the controller runs on: only a grant that names it by id covers it
    /// [default: the one whose instance metadata gave the AWS credentials, if any]
    #[arg(long, env = "INSTANCE_ROLE_SELF_INSTANCE_ID", value_parser = values::instance, value_name = "ID")]
    self_instance_id: Option<InstanceId>,

    /// Form of the log: json for machines, text for people
    #[arg(long, env = "INSTANCE_ROLE_LOG_FORMAT", default_value = "json", value_name = "FORMAT")]
    log_format: LogFormat,

    /// What is logged, in RUST_LOG's syntax: info, debug, warn,instance_role_controller=debug
    #[arg(long, env = "INSTANCE_ROLE_LOG_LEVEL", default_value = "info", value_name = "LEVEL")]
    log_level: String,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
#[value(rename_all = "PascalCase")]
pub(super) enum DeletionPolicyArg {
    Detach,
    Retain,
    Restore,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
#[value(rename_all = "PascalCase")]
pub(super) enum ModeArg {
    Enforce,
    Observe,
}

impl From<DeletionPolicyArg> for DeletionPolicy {
    fn from(policy: DeletionPolicyArg) -> Self {
        match policy {
            DeletionPolicyArg::Detach => Self::Detach,
            DeletionPolicyArg::Retain => Self::Retain,
            DeletionPolicyArg::Restore => Self::Restore,
        }
    }
}

impl From<ModeArg> for Mode {
    fn from(mode: ModeArg) -> Self {
        match mode {
            ModeArg::Enforce => Self::Enforce,
            ModeArg::Observe => Self::Observe,
        }
    }
}

/// Runs the controller until it is asked to stop.
pub async fn run(args: RunArgs) -> anyhow::Result<()> {
    let traces = Traces::from_environment()?;
    telemetry::logs::init(args.log_format, &args.log_level, &[crate::ec2::QUIET], traces.as_ref())?;
    let metrics = Arc::new(Metrics::new(BUILD).context("the metrics cannot be declared")?);
    let readiness = Readiness::new();
    let awaited = Awaited {
        aws: readiness.check("aws", "AWS credentials are awaited"),
        kubernetes: readiness.check("kubernetes", "the API server and the CRDs are awaited"),
        lease: args.leader_elect.then(|| readiness.check("lease", "an answer about the Lease is awaited")),
    };
    let stop = stopped_by_signal()?;
    let ended = |stop: &watch::Receiver<bool>| {
        let mut stop = stop.clone();
        async move {
            let _ = stop.wait_for(|stop| *stop).await;
        }
    };
    let serving = [
        telemetry::serve_metrics(&args.metrics_bind_address, Arc::clone(&metrics), ended(&stop)).await?,
        telemetry::serve_health(&args.health_probe_bind_address, Arc::clone(&readiness), ended(&stop))
            .await?,
    ];
    let clients = clients().await?;
    let environment = Environment::load().await?;
    tracing::info!(version = BUILD.version, commit = BUILD.commit, dry_run = args.dry_run, "starting");
    let pod = variable("POD_NAME");
    let replica = Replica { seat: args.seat(pod.as_deref())?, pod };
    controller::run(settings(args), clients, environment, awaited, metrics, replica, stop).await;
    for server in serving.into_iter().flatten() {
        server.stopped().await;
    }
    tracing::info!("stopped");
    if let Some(traces) = traces {
        traces.end().await;
    }
    Ok(())
}

/// An environment variable that is set to something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl RunArgs {
    /// What clap cannot see: flags that do not go together, and what to do about it.
    pub fn check(&self) -> Result<(), Misfit> {
        self.terms().map(drop)
    }

    fn terms(&self) -> Result<Terms, Misfit> {
        Terms::new(self.lease_duration, self.renew_deadline, self.retry_period)
    }

    /// The Lease to stand for: a shard has its own.
    fn seat(&self, pod: Option<&str>) -> Result<Option<Seat>, Misfit> {
        if !self.leader_elect {
            return Ok(None);
        }
        let namespace = self.lease_namespace.clone().or_else(|| variable("POD_NAMESPACE"));
        Ok(Some(Seat {
            namespace: namespace.unwrap_or_else(|| "default".to_owned()),
            name: lease_name(&self.watch_namespace, self.selector.as_deref()),
            identity: identity(pod),
            terms: self.terms()?,
        }))
    }
}

fn settings(args: RunArgs) -> Settings {
    Settings {
        resync: args.resync_interval,
        dry_run: args.dry_run,
        default_mode: args.default_mode.into(),
        default_deletion_policy: args.default_deletion_policy.into(),
        share: args.aws_budget_share,
        limits: args.aws_budget.into_iter().collect(),
        concurrency: args.max_concurrent_reconciles,
        namespaces: args.watch_namespace,
        selector: args.selector,
        required_tag: args.require_instance_tag,
        ceiling: args.max_changes_per_pass,
        self_instance: args.self_instance_id,
    }
}

/// The cluster as kubectl finds it. kube 5 sets no time-out on reads and retries some errors for minutes by itself; both are ours
/// to decide.
pub(super) async fn cluster() -> anyhow::Result<Config> {
    let mut config = Config::infer()
        .await
        // Its words hold those of its causes.
        .map_err(|error| {
            anyhow!("no cluster: set KUBECONFIG, or run in a pod with a service account: {error}")
        })?;
    config.connect_timeout = Some(Duration::from_secs(5));
    config.default_retry = false;
    Ok(config)
}

async fn clients() -> anyhow::Result<Clients> {
    let mut config = cluster().await?;
    // A watch is renewed by the server within 290 s.
    config.read_timeout = Some(Duration::from_secs(300));
    config.reset_reader_on_write = true;
    let client =
        |config: Config| Client::try_from(config).context("the cluster's configuration cannot be used");
    let watch = client(config.clone())?;
    config.read_timeout = Some(Duration::from_secs(15));
    Ok(Clients { watch, request: client(config.clone())?, lease: client(config)? })
}

/// The first SIGTERM or SIGINT asks to stop; a second one ends the process at once.
fn stopped_by_signal() -> anyhow::Result<watch::Receiver<bool>> {
    let listen = |kind| signal(kind).context("signals cannot be received");
    let (mut term, mut int) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        either(&mut term, &mut int).await;
        tracing::info!("asked to stop: no new work, a write in flight is let finish");
        let _ = stop.send(true);
        either(&mut term, &mut int).await;
        tracing::warn!("asked again: stopping at once");
        std::process::exit(1);
    });
    Ok(stopped)
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}
