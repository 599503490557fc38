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

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;
    use crate::pages;

    /// What stands in a flag's help, in one line.
    fn help(arg: &Arg) -> String {
        let text = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn flag(arg: &Arg) -> String {
        let values = arg.get_value_names().unwrap_or_default();
        let values: Vec<String> = values.iter().map(|name| format!("<{name}>")).collect();
        let takes = arg.get_action().takes_values() && !values.is_empty();
        let value = if takes { format!(" {}", values.join(" ")) } else { String::new() };
        match (arg.get_short(), arg.get_long()) {
            (Some(short), Some(long)) => format!("`-{short}`, `--{long}{value}`"),
            (Some(short), None) => format!("`-{short}{value}`"),
            (None, Some(long)) => format!("`--{long}{value}`"),
            (None, None) => format!("`{}`", values.join(" ")),
        }
    }

    /// The page is what `--help` tells, for each command that there is.
    #[test]
    fn the_page_of_the_command_line_tells_each_flag() {
        let mut command = Cli::command();
        command.build();
        let mut page = String::new();
        for command in command.get_subcommands().filter(|command| command.get_name() != "help") {
            let about = command.get_long_about().or(command.get_about());
            let about = about.map(ToString::to_string).unwrap_or_default();
            page +=
                &format!("\n## {}\n\n{}\n", command.get_name(), about.trim_end_matches('.').to_owned() + ".");
            let args = command.get_arguments().filter(|arg| arg.get_id() != "help" && !arg.is_hide_set());
            let rows: Vec<[String; 4]> = args
                .map(|arg| {
                    let code = |text: &str| if text.is_empty() { String::new() } else { format!("`{text}`") };
                    let variable = arg.get_env().map(|name| name.to_string_lossy().into_owned());
                    let default: Vec<String> = arg
                        .get_default_values()
                        .iter()
                        .map(|value| value.to_string_lossy().into_owned())
                        .collect();
                    [flag(arg), code(&variable.unwrap_or_default()), code(&default.join(",")), help(arg)]
                })
                .collect();
            if !rows.is_empty() {
                page += &pages::table(["flag", "environment", "default", ""], rows);
            }
        }
        pages::keep("docs/reference/command-line.md", "flags", &page);
    }
}
