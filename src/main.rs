//! The program `instance-role-controller`; see the library and `--help`.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    instance_role_controller::cli::main().await
}
