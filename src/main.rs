//! The program `instance-role-controller`; see the library and `--help`.

use std::process::ExitCode;

/// Many small strings that come and go by the thousand: with the system's allocator what was freed stays with the process.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    instance_role_controller::cli::main().await
}
