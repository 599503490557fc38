//! The command line: arguments in, exit code out. Nothing here decides.
//!
//! Every flag has an environment variable; a flag wins. AWS settings are the SDK's own and the cluster is found as
//! kubectl finds it: nothing of ours shadows them.

mod crds;
mod export;
mod plan;
mod run;
mod values;
mod version;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

/// Keeps the IAM instance profile of EC2 instances at a declared state.
///
/// An InstanceRoleBinding says which instance profile one EC2 instance must carry, or that it must carry none;
/// the controller associates, replaces or disassociates until EC2 agrees, and keeps it so.
///
/// AWS is found by the SDK's own settings (AWS_REGION, AWS_PROFILE, web identity, Pod Identity, instance metadata), the cluster
/// as kubectl finds it (KUBECONFIG, in-cluster).
#[derive(Debug, Parser)]
#[command(name = "instance-role-controller", version = version::VERSION, disable_version_flag = false)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the controller
    Run(Box<run::RunArgs>),
    /// Tell what run would do, for manifests or for the bindings of the cluster; writes nothing
    Plan(Box<plan::PlanArgs>),
    /// Print manifests of the associations that exist now, ready to apply; writes nothing
    Export(export::ExportArgs),
    /// Print the CustomResourceDefinitions
    Crds(crds::CrdsArgs),
    /// Print version, commit, and the Kubernetes and CRD versions
    Version,
}

/// Reads the arguments and does what they say.
pub async fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // --help and --version are answers; anything else is wrong usage.
            let _ = error.print();
            let wrong = u8::try_from(error.exit_code()).unwrap_or(2);
            return ExitCode::from(if wrong == 2 { wrong_usage() } else { wrong });
        }
    };
    if let Command::Run(args) = &cli.command
        && let Err(misfit) = args.check()
    {
        let error = Cli::command().error(ErrorKind::ValueValidation, misfit);
        let _ = error.print();
        return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
    }
    let result = match cli.command {
        Command::Run(args) => run::run(*args).await.map(|()| ExitCode::SUCCESS),
        Command::Plan(args) => plan::plan(*args).await,
        Command::Export(args) => export::export(args).await.map(|()| ExitCode::SUCCESS),
        Command::Crds(args) => crds::crds(&args).map(|()| ExitCode::SUCCESS),
        Command::Version => version::version().map(|()| ExitCode::SUCCESS),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("instance-role-controller: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The exit code of wrong usage. Of `plan` it is 1: its 2 says that changes are pending.
fn wrong_usage() -> u8 {
    match std::env::args_os().nth(1) {
        Some(command) if command == "plan" => 1,
        Some(_) | None => 2,
    }
}
