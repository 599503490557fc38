//! `kubectl`, as a person uses it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The program together with the kubeconfig it acts with.
#[derive(Debug, Clone)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    home: PathBuf,
}

impl Kubectl {
    /// `home` is where it keeps what it learned about the API.
    pub(super) fn new(program: &Path, kubeconfig: &Path, home: &Path) -> Self {
        Self { program: program.to_owned(), kubeconfig: kubeconfig.to_owned(), home: home.to_owned() }
    }

    /// The program itself, for a hint to a person.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// A command to add arguments to, when the other methods do not fit (a `--watch` that goes on).
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env("KUBECONFIG", &self.kubeconfig).env("HOME", &self.home).env("NO_PROXY", "*");
        command.env_remove("KUBECACHEDIR");
        command
    }

    /// Runs it to its end and returns whatever it did.
    ///
    /// # Errors
    /// It cannot be run at all.
    pub fn output(&self, args: &[&str], stdin: Option<&str>) -> Result<Output> {
        let mut child = self
            .command()
            .args(args)
            .stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", self.program.display()))?;
        let mut pipe = child.stdin.take();
        let text = stdin.unwrap_or_default().to_owned();
        // From a thread: it may print before it has read all.
        let writer = std::thread::spawn(move || pipe.as_mut().map(|pipe| pipe.write_all(text.as_bytes())));
        let output = child.wait_with_output()?;
        drop(writer.join()); // it may end without reading all: its exit code tells why
        Ok(output)
    }

    /// Runs it and returns what it printed.
    ///
    /// # Errors
    /// It fails; its own words are told.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        self.run_with(args, None)
    }

    /// Runs it with a text on its standard input.
    ///
    /// # Errors
    /// It fails; its own words are told.
    pub fn run_with(&self, args: &[&str], stdin: Option<&str>) -> Result<String> {
        let output = self.output(args, stdin)?;
        if !output.status.success() {
            bail!("`kubectl {}` failed: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs it with `-o json` and returns the object or list.
    ///
    /// # Errors
    /// It fails; its own words are told.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        let args = [args, &["-o", "json"]].concat();
        serde_json::from_str(&self.run(&args)?).context("kubectl printed no JSON")
    }

    /// `kubectl apply -f -`.
    ///
    /// # Errors
    /// The API server refuses; its words are told.
    pub fn apply(&self, yaml: &str) -> Result<String> {
        self.run_with(&["apply", "-f", "-"], Some(yaml))
    }
}
