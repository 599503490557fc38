//! How a client of AWS is pointed at a stand-in: environment variables, and the `aws` CLI with them.

use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::places::venv_program;

/// The account that everything belongs to unless told otherwise.
pub const ACCOUNT: &str = "123456789012";

/// The Region that everything lies in unless told otherwise.
pub const REGION: &str = "eu-west-1";

/// The environment of an AWS SDK or of the `aws` CLI: an endpoint, a Region, keys, and nothing of this machine.
#[derive(Debug, Clone)]
pub struct AwsEnv {
    endpoint: String,
    region: String,
    access_key: String,
}

impl AwsEnv {
    /// All services at `endpoint`, in [`REGION`], as the user `TEST` of [`ACCOUNT`].
    pub fn new(endpoint: &str) -> Self {
        let env =
            Self { endpoint: endpoint.to_owned(), region: REGION.to_owned(), access_key: String::new() };
        env.as_user(ACCOUNT, "TEST")
    }

    /// The same in another Region.
    #[must_use]
    pub fn in_region(mut self, region: &str) -> Self {
        self.region = region.to_owned();
        self
    }

    /// The same as another user. The sandbox reads account and user from the access key; the name is of capitals
    /// and digits.
    #[must_use]
    pub fn as_user(mut self, account: &str, user: &str) -> Self {
        self.access_key = format!("AKIA{account}{user}");
        self
    }

    /// The access key: how the sandbox's journal tells callers apart.
    pub fn access_key(&self) -> &str {
        &self.access_key
    }

    /// Names and values.
    pub fn variables(&self) -> [(&'static str, &str); 10] {
        [
            ("AWS_ENDPOINT_URL", &self.endpoint),
            ("AWS_REGION", &self.region),
            ("AWS_DEFAULT_REGION", &self.region), // the CLI and boto3 read only this one
            ("AWS_ACCESS_KEY_ID", &self.access_key),
            ("AWS_SECRET_ACCESS_KEY", "secret-of-a-stand-in"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("AWS_CONFIG_FILE", "/dev/null"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
            ("AWS_PAGER", ""),
            ("NO_PROXY", "*"),
        ]
    }

    /// Gives these variables to a command, and takes away those that would contradict them.
    pub fn apply_to<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("AWS_") || text.to_ascii_lowercase().ends_with("_proxy") {
                command.env_remove(&name);
            }
        }
        command.envs(self.variables())
    }
}

/// The `aws` CLI of the Python environment (`make venv`).
#[derive(Debug, Clone)]
pub struct AwsCli {
    env: AwsEnv,
}

impl AwsCli {
    /// The CLI with this environment.
    pub fn new(env: AwsEnv) -> Self {
        Self { env }
    }

    /// Runs `aws ARGS --output json` and returns what it printed, `null` where that is nothing.
    ///
    /// # Errors
    /// It fails; its own words are told.
    pub fn run(&self, args: &[&str]) -> Result<Value> {
        let mut command = Command::new(venv_program("aws")?);
        self.env.apply_to(&mut command).args(args).args(["--output", "json"]);
        let output = command.output().context("cannot run the aws CLI")?;
        if !output.status.success() {
            bail!("`aws {}` failed: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        if output.stdout.trim_ascii().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&output.stdout).context("the aws CLI printed no JSON")
    }
}
