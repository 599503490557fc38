//! The sandbox as a program.

use std::io::Write;

use anyhow::{Context, anyhow};
use clap::Parser;
use ec2_sandbox::Sandbox;
use ec2_sandbox::settings::Settings;
use tokio::signal::unix::{SignalKind, signal};

/// A strict, stateful stand-in for the EC2, IAM and STS calls that instance-role-controller makes.
///
/// Any AWS SDK, boto3 or the aws CLI can talk to it: give it the printed URL as the endpoint of all services.
/// Account and user come from the access key (AKIA, 12 digits of account, name), the Region from the signature.
#[derive(Debug, Parser)]
#[command(version, after_long_help = settings_help())]
struct Flags {
    /// Address to listen on; port 0 takes a free one, which is printed on standard output.
    #[arg(long, default_value = "127.0.0.1:0", env = "EC2_SANDBOX_LISTEN")]
    listen: String,

    /// Durations as AWS was seen to take, instead of quick ones.
    #[arg(long)]
    realistic: bool,

    /// Enforce no token buckets.
    #[arg(long)]
    no_throttling: bool,

    /// Set a setting by name; the value is JSON. Can be given several times.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    set: Vec<String>,
}

fn settings_help() -> String {
    let default = serde_json::to_string_pretty(&Settings::default()).unwrap_or_default();
    format!("Settings and their defaults (durations in milliseconds):\n{default}")
}

impl Flags {
    fn settings(&self) -> anyhow::Result<Settings> {
        let mut settings = if self.realistic { Settings::realistic() } else { Settings::default() };
        settings.throttling &= !self.no_throttling;
        for pair in &self.set {
            let (name, value) = pair.split_once('=').with_context(|| format!("--set {pair}: no ="))?;
            let value: serde_json::Value = serde_json::from_str(value)
                .with_context(|| format!("--set {pair}: the value is not JSON"))?;
            settings = settings
                .patched(&serde_json::json!({ name: value }))
                .map_err(|e| anyhow!("--set {pair}: {e}"))?;
        }
        Ok(settings)
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let sandbox = Sandbox::start(&flags.listen, flags.settings()?)
        .await
        .with_context(|| format!("cannot listen on {}", flags.listen))?;
    let mut out = std::io::stdout();
    writeln!(out, "ec2-sandbox listening on {}", sandbox.url())?;
    out.flush()?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
