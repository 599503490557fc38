//! `plan`: what `run` would do, told before it is done. Nothing is written, to AWS or to the cluster.

mod cluster;
mod files;
mod print;
mod row;

use std::collections::{BTreeSet, HashMap};
use std::io::{self, IsTerminal, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use self::print::Form;
use self::row::{Row, Verdict};
use super::run::{DeletionPolicyArg, ModeArg};
use super::values;
use super::version::BUILD;
use crate::controller::Settings;
use crate::controller::forecast::{Forecaster, Key, Progress, Sources};
use crate::ec2::again;
use crate::ec2::cloud::Environment;
use crate::ids::InstanceId;
use crate::telemetry::Metrics;

/// Arguments of `plan`.
#[derive(Debug, Args)]
#[command(after_long_help = EXIT_CODES)]
pub struct PlanArgs {
    /// Manifests to plan: files, folders (all .yaml, .yml and .json in them and below), - for standard input; needs no cluster.
    /// Without it, the bindings of the cluster are planned
    #[arg(
        short = 'f',
        long = "filename",
        env = "INSTANCE_ROLE_FILENAME",
        value_name = "PATH",
        num_args = 1..,
        conflicts_with_all = ["all_namespaces", "selector"]
    )]
    filename: Vec<PathBuf>,

    /// Plan the bindings of this namespace [default: the one of the kubeconfig's context]; with --filename, the namespace of
    /// objects that name none [default: default]
    #[arg(short = 'n', long, env = "INSTANCE_ROLE_NAMESPACE", value_name = "NAMESPACE")]
    namespace: Option<String>,

    /// Plan the bindings of all namespaces
    #[arg(short = 'A', long, env = "INSTANCE_ROLE_ALL_NAMESPACES", conflicts_with = "namespace")]
    all_namespaces: bool,

    /// Plan only the bindings that this label selector matches [default: all]
    #[arg(short = 'l', long, env = "INSTANCE_ROLE_SELECTOR", value_name = "SELECTOR")]
    selector: Option<String>,

    /// Form of the plan: table for people, json and yaml for programs, markdown for a comment on a pull request
    #[arg(short = 'o', long, env = "INSTANCE_ROLE_OUTPUT", default_value = "table", value_name = "FORM")]
    output: Form,

    /// As for run: a tag that an instance must carry to be changed, whatever grants say, as key=value [default: none]
    #[arg(long, env = "INSTANCE_ROLE_REQUIRE_INSTANCE_TAG", value_parser = values::tag, value_name = "KEY=VALUE")]
    require_instance_tag: Option<(Arc<str>, Arc<str>)>,

    /// As for run: the instance that the controller runs on, which only a grant that names it by id covers [default: none]
    #[arg(long, env = "INSTANCE_ROLE_SELF_INSTANCE_ID", value_parser = values::instance, value_name = "ID")]
    self_instance_id: Option<InstanceId>,

    /// As for run: mode of bindings that leave it out
    #[arg(
        long,
        env = "INSTANCE_ROLE_DEFAULT_MODE",
        default_value = "Enforce",
        value_enum,
        value_name = "MODE"
    )]
    default_mode: ModeArg,

    /// As for run: deletion policy of bindings that leave it out
    #[arg(
        long,
        env = "INSTANCE_ROLE_DEFAULT_DELETION_POLICY",
        default_value = "Detach",
        value_enum,
        value_name = "POLICY"
    )]
    default_deletion_policy: DeletionPolicyArg,

    /// Share of EC2's published limits that the reads of this command may use (a controller in the same account uses its own),
    /// above 0 up to 1
    #[arg(long, env = "INSTANCE_ROLE_AWS_BUDGET_SHARE", default_value = "0.5", value_parser = values::share, value_name = "SHARE")]
    aws_budget_share: f64,
}

const EXIT_CODES: &str = "Exit codes: 0 nothing to do; 2 changes are pending; 3 something is refused or broken: not authorised, unknown \
profile, conflict, invalid manifest; 1 it could not be told (AWS or the cluster did not answer or denied it), or wrong usage. \
Where several hold: 1 before 3 before 2.\n\nNothing is written: neither to AWS nor to the cluster.";

/// How long a plan takes before its progress is shown.
const PATIENCE: Duration = Duration::from_secs(1);

/// What was found, from files or from the cluster.
#[derive(Debug, Default)]
struct Given {
    sources: Sources,
    /// The bindings to plan, and where each stands.
    asked: Vec<(Key, String)>,
    /// Rows for what is not even a binding.
    problems: Vec<Row>,
    /// What people are told beside the plan.
    notes: Vec<String>,
    /// What is added to the row of a binding that loses to another one.
    on_conflict: Option<&'static str>,
}

/// Prints the plan; its exit code tells what stands in it.
///
/// # Errors
/// It could not be told: exit code 1.
pub async fn plan(args: PlanArgs) -> anyhow::Result<ExitCode> {
    let given = if args.filename.is_empty() {
        cluster::given(args.namespace.as_deref(), args.all_namespaces, args.selector.as_deref()).await?
    } else {
        files::given(&args.filename, args.namespace.as_deref())?
    };
    for line in given.notes.iter().chain(given.problems.iter().filter_map(|row| row.told.as_ref())) {
        eprintln!("{line}");
    }
    let form = args.output;
    let Given { sources, asked, problems: mut rows, on_conflict, .. } = given;
    if !asked.is_empty() {
        rows.extend(decided(args, sources, &asked, on_conflict).await?);
    }
    rows.sort_by(|a, b| a.place().cmp(&b.place()));
    for failure in rows.iter().filter_map(|row| row.failure.as_ref()).collect::<BTreeSet<_>>() {
        eprintln!("instance-role-controller: {failure}");
    }
    let printed = print::print(&rows, form, coloured())?;
    io::stdout().lock().write_all(printed.as_bytes()).context("the plan cannot be printed")?;
    Ok(ExitCode::from(Verdict::of(&rows).exit_code()))
}

async fn decided(
    args: PlanArgs,
    sources: Sources,
    asked: &[(Key, String)],
    on_conflict: Option<&'static str>,
) -> anyhow::Result<Vec<Row>> {
    let environment = Environment::load().await?;
    let metrics = Arc::new(Metrics::new(BUILD).context("the metrics cannot be declared")?);
    let identity = again(|| environment.identity(Arc::clone(&metrics)))
        .await
        .context("AWS does not say who we are (credentials, network, AWS_REGION)")?;
    let forecaster = Forecaster::new(settings(args), environment, &identity, metrics, sources);
    let keys: Vec<Key> = asked.iter().map(|(key, _)| key.clone()).collect();
    let progress = Progress::default();
    let forecasts = tokio::select! {
        forecasts = forecaster.forecast(&keys, &progress) => forecasts,
        never = show(&progress) => match never {},
    };
    if io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
    let mut places = asked.iter();
    let mut rows = Vec::new();
    for forecast in forecasts {
        // Forecasts come in the order of the keys.
        let place = places.find(|(key, _)| *key == forecast.key).map(|(_, place)| place.clone());
        rows.extend(row::rows(forecast, place.unwrap_or_default(), on_conflict));
    }
    Ok(rows)
}

/// Shows how far it is, on a terminal and where it takes long.
async fn show(progress: &Progress) -> std::convert::Infallible {
    let terminal = io::stderr().is_terminal();
    tokio::time::sleep(PATIENCE).await;
    loop {
        if terminal {
            let (decided, all) = progress.counts();
            eprint!("\rplanning: {decided} of {all} bindings\x1b[K\r");
        }
        tokio::time::sleep(PATIENCE / 4).await;
    }
}

fn settings(args: PlanArgs) -> Settings {
    Settings {
        // Nothing is looked at for a second time, nothing watched, nothing written.
        resync: Duration::MAX,
        dry_run: false,
        limits: HashMap::new(),
        concurrency: 1,
        namespaces: Vec::new(),
        selector: None,
        default_mode: args.default_mode.into(),
        default_deletion_policy: args.default_deletion_policy.into(),
        share: args.aws_budget_share,
        required_tag: args.require_instance_tag,
        self_instance: args.self_instance_id,
        // How many repairs are due at once depends on the moment: that is no plan.
        ceiling: None,
    }
}

/// Colour is for people at a terminal who did not ask for none (no-color.org).
fn coloured() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal() && !unwanted
}
