//! moto: an EC2 that nobody here wrote, as a second opinion.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::aws::{AwsCli, AwsEnv};
use crate::eventually::eventually_ok;
use crate::http::Http;
use crate::places::venv_program;
use crate::ports;
use crate::process::Process;
use crate::scratch::Scratch;

/// A running `moto_server`. It ends when this is dropped, and when the process ends in any way.
#[derive(Debug)]
pub struct Moto {
    process: Process,
    url: String,
    _scratch: Scratch,
}

impl Moto {
    /// Starts one and waits until it answers: about 2 seconds.
    ///
    /// # Errors
    /// It is not installed (`make venv`), or does not answer.
    pub fn start() -> Result<Self> {
        let scratch = Scratch::new("moto")?;
        let [port] = ports::free()?;
        let mut command = Command::new(venv_program("moto_server")?);
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        let process = Process::spawn("moto_server", &mut command, &scratch.join("moto.log"))?;
        let url = format!("http://127.0.0.1:{port}");
        let http = Http::plain(&url);
        eventually_ok("moto answers", Duration::from_secs(30), || match process.still_runs() {
            Ok(()) => http.get("/moto-api/data.json").and_then(|reply| reply.ok()).map(|_| Ok(())),
            Err(ended) => Ok(Err(ended)),
        })??;
        Ok(Self { process, url, _scratch: scratch })
    }

    /// Its address: the endpoint of all AWS services.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The process, to be paused or killed.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The environment of a client.
    pub fn aws_env(&self) -> AwsEnv {
        AwsEnv::new(&self.url)
    }

    /// The `aws` CLI, to make instances and profiles and to look at them.
    pub fn aws_cli(&self) -> AwsCli {
        AwsCli::new(self.aws_env())
    }
}
