//! A real control plane: etcd and kube-apiserver on free ports, with keys of its own, RBAC on.
//!
//! There is no controller-manager and no kubelet: no garbage collection by owner reference, a deleted namespace
//! stays in `Terminating`, a Deployment makes no pods.

mod api;
mod audit;
mod certificates;
mod kubeconfig;
mod kubectl;
mod launch;

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

pub use api::Api;
pub use audit::ApiCall;
pub use kubectl::Kubectl;

use crate::eventually::eventually_ok;
use crate::http::Http;
use crate::process::Process;
use crate::scratch::Scratch;
use kubeconfig::Kubeconfig;
use launch::Launch;

/// A running etcd and kube-apiserver. Both end when this is dropped, and when the process ends in any way.
#[derive(Debug)]
pub struct ControlPlane {
    api_server: Mutex<Option<Process>>,
    etcd: Mutex<Option<Process>>,
    launch: Launch,
    kubeconfig: PathBuf,
    api: Api,
    // Last, so that the programs have ended when their folder goes.
    scratch: Scratch,
}

impl ControlPlane {
    /// Starts both and waits until they serve: about 3 seconds.
    ///
    /// # Errors
    /// The programs have not been built (`make control-plane`), or do not get ready; the ends of their logs are told.
    pub fn start() -> Result<Self> {
        let mut attempts = 1..=3;
        loop {
            match Self::start_once() {
                // Another program was quicker to take one of the ports that were free a moment ago.
                Err(error) if attempts.next().is_some() && is_port_taken(&error) => {}
                outcome => return outcome,
            }
        }
    }

    /// One that all tests of this process share; it lives until the process ends.
    ///
    /// # Errors
    /// As for [`start`](Self::start); every caller is told the same.
    pub fn shared() -> Result<&'static Self> {
        static SHARED: OnceLock<Result<ControlPlane, String>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| Self::start().map_err(|error| format!("{error:#}")));
        shared.as_ref().map_err(|error| anyhow::anyhow!("the shared control plane: {error}"))
    }

    fn start_once() -> Result<Self> {
        let scratch = Scratch::new("control-plane")?;
        let launch = Launch::prepare(scratch.path())?;
        let admin = Kubeconfig::admin(&launch);
        let kubeconfig = admin.write(&scratch.join("admin.kubeconfig"))?;
        let etcd = launch.etcd()?;
        let api_server = launch.api_server()?;
        let api = Api::new(&launch.server(), &launch.certificates, launch.admin_token())?;
        let plane = Self {
            api_server: Mutex::new(Some(api_server)),
            etcd: Mutex::new(Some(etcd)),
            launch,
            kubeconfig,
            api,
            scratch,
        };
        plane.wait_until_ready()?;
        Ok(plane)
    }

    /// The kubeconfig of an administrator (`system:masters`).
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A kubeconfig with a token of a service account, valid for a day: whoever uses it is bound by RBAC.
    ///
    /// # Errors
    /// There is no such service account.
    pub fn kubeconfig_for(&self, namespace: &str, service_account: &str) -> Result<PathBuf> {
        let args = ["create", "token", service_account, "--namespace", namespace, "--duration", "24h"];
        let token = self.admin().run(&args)?;
        let file = self.scratch.join(&format!("{namespace}.{service_account}.kubeconfig"));
        Kubeconfig::with_token(&self.launch, service_account, token.trim()).write(&file)
    }

    /// `kubectl` as the administrator.
    pub fn admin(&self) -> Kubectl {
        self.kubectl_with(&self.kubeconfig)
    }

    /// `kubectl` with another kubeconfig, such as one of [`kubeconfig_for`](Self::kubeconfig_for).
    pub fn kubectl_with(&self, kubeconfig: &Path) -> Kubectl {
        Kubectl::new(&self.launch.programs.join("kubectl"), kubeconfig, self.scratch.path())
    }

    /// Runs `kubectl` as the administrator and returns whatever it did: exit code, both outputs.
    ///
    /// # Errors
    /// It cannot be run at all.
    pub fn kubectl(&self, args: &[&str]) -> Result<Output> {
        self.admin().output(args, None)
    }

    /// `kubectl apply -f -` as the administrator, as a person would.
    ///
    /// # Errors
    /// The API server refuses; its words are told.
    pub fn apply(&self, yaml: &str) -> Result<String> {
        self.admin().apply(yaml)
    }

    /// The API without a `kubectl` process for each call: for many objects, and for figures.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// Every request that service accounts have made, oldest first. What is still under way (a watch) is not there.
    ///
    /// # Errors
    /// The audit log cannot be read.
    pub fn calls_of_service_accounts(&self) -> Result<Vec<ApiCall>> {
        audit::read(&self.launch.audit_log())
    }

    /// Stops the API server at once; whoever talks to it sees the connection break.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn stop_api_server(&self) -> Result<()> {
        stop(&mut lock(&self.api_server))
    }

    /// Starts a stopped API server on its old port and waits until it serves.
    ///
    /// # Errors
    /// It does not get ready.
    pub fn start_api_server(&self) -> Result<()> {
        start(&mut lock(&self.api_server), || self.launch.api_server())?;
        self.wait_until_ready()
    }

    /// Stops it and starts it again, on the same port and the same data.
    ///
    /// # Errors
    /// As for the two.
    pub fn restart_api_server(&self) -> Result<()> {
        self.stop_api_server()?;
        self.start_api_server()
    }

    /// The API server accepts connections and says nothing, until [`resume_api_server`](Self::resume_api_server).
    ///
    /// # Errors
    /// It does not run.
    pub fn pause_api_server(&self) -> Result<()> {
        lock(&self.api_server).as_ref().context("the API server is stopped")?.pause()
    }

    /// Ends [`pause_api_server`](Self::pause_api_server).
    ///
    /// # Errors
    /// It does not run.
    pub fn resume_api_server(&self) -> Result<()> {
        lock(&self.api_server).as_ref().context("the API server is stopped")?.resume()
    }

    /// A copy of all data as it is now, for [`restore`](Self::restore). Both programs are down for a moment.
    ///
    /// # Errors
    /// They do not get ready again, or the disk is full.
    pub fn backup(&self) -> Result<PathBuf> {
        let copy = self.scratch.join("backup");
        self.with_both_stopped(|data| copy_folder(data, &copy))?;
        Ok(copy)
    }

    /// Puts the data back to a [`backup`](Self::backup): the API server knows nothing of what came after it.
    ///
    /// # Errors
    /// As for `backup`.
    pub fn restore(&self, backup: &Path) -> Result<()> {
        self.with_both_stopped(|data| copy_folder(backup, data))
    }

    fn with_both_stopped(&self, act: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        stop(&mut lock(&self.api_server))?;
        stop(&mut lock(&self.etcd))?;
        act(&self.launch.etcd_data())?;
        start(&mut lock(&self.etcd), || self.launch.etcd())?;
        self.start_api_server()
    }

    /// Lets etcd forget what there was before now: a watch from an older version expires (`410 Gone`), once the API server has
    /// lost its own memory as well, by a restart.
    ///
    /// # Errors
    /// etcd does not answer.
    pub fn compact(&self) -> Result<()> {
        let etcd = Http::plain(&self.launch.etcd_url());
        let post = |path: &str, body: &Value| -> Result<Value> {
            etcd.send("POST", path, "application/json", Some(body))?.json()
        };
        // Any key tells the revision; this one is `/`.
        let now = post("/v3/kv/range", &json!({"key": "Lw=="}))?;
        let revision = now.pointer("/header/revision").context("etcd tells no revision")?;
        post("/v3/kv/compaction", &json!({"revision": revision, "physical": true})).map(drop)
    }

    /// Waits until `/readyz` says so; a program that ends meanwhile fails it at once.
    fn wait_until_ready(&self) -> Result<()> {
        let outcome = eventually_ok("the API server is ready", Duration::from_secs(120), || {
            match self.both_run() {
                Ok(()) => self.api.ready().map(Ok),
                Err(ended) => Ok(Err(ended)), // no use in waiting
            }
        });
        outcome.unwrap_or_else(|error| Err(error.context(self.log_tails())))
    }

    fn both_run(&self) -> Result<()> {
        for process in [&self.etcd, &self.api_server] {
            lock(process).as_ref().map_or(Ok(()), Process::still_runs)?;
        }
        Ok(())
    }

    /// The ends of both logs, for the text of a failure.
    pub fn log_tails(&self) -> String {
        let tail = |process| lock(process).as_ref().map(|process| process.log_tail(15)).unwrap_or_default();
        format!("{}\n{}", tail(&self.etcd), tail(&self.api_server))
    }
}

fn lock(process: &Mutex<Option<Process>>) -> MutexGuard<'_, Option<Process>> {
    process.lock().unwrap_or_else(PoisonError::into_inner)
}

fn stop(process: &mut Option<Process>) -> Result<()> {
    process.take().map_or(Ok(()), |process| process.kill())
}

fn start(process: &mut Option<Process>, launch: impl FnOnce() -> Result<Process>) -> Result<()> {
    if process.is_none() {
        *process = Some(launch()?);
    }
    Ok(())
}

fn is_port_taken(error: &anyhow::Error) -> bool {
    format!("{error:#}").contains("address already in use")
}

/// Makes `to` a copy of `from`, files and folders.
fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        std::fs::remove_dir_all(to)?;
    }
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
