//! How the two programs are started: their files, ports and flags. A restart uses the same.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::audit;
use super::certificates::Certificates;
use crate::places::control_plane_programs;
use crate::ports;
use crate::process::Process;

/// Everything that stays the same while the programs come and go.
#[derive(Debug)]
pub(super) struct Launch {
    dir: PathBuf,
    pub(super) programs: PathBuf,
    pub(super) certificates: Certificates,
    etcd_port: u16,
    api_port: u16,
}

impl Launch {
    /// Chooses ports and writes keys, the token file and the audit policy into `dir`.
    pub(super) fn prepare(dir: &Path) -> Result<Self> {
        let [etcd_port, api_port] = ports::free()?;
        let launch = Self {
            dir: dir.to_owned(),
            programs: control_plane_programs()?,
            certificates: Certificates::write(dir)?,
            etcd_port,
            api_port,
        };
        let admin = format!("{},admin,admin,system:masters\n", launch.admin_token());
        std::fs::write(launch.file("tokens.csv"), admin)?;
        std::fs::write(launch.file("audit-policy.yaml"), audit::POLICY)?;
        Ok(launch)
    }

    /// The API server's address.
    pub(super) fn server(&self) -> String {
        format!("https://127.0.0.1:{}", self.api_port)
    }

    /// What the administrator shows to be let in. It opens a server that lives for minutes, on this machine only.
    pub(super) fn admin_token(&self) -> &'static str {
        "admin-of-a-test-control-plane"
    }

    pub(super) fn etcd_data(&self) -> PathBuf {
        self.file("etcd")
    }

    pub(super) fn audit_log(&self) -> PathBuf {
        self.file("audit.log")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(super) fn etcd_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.etcd_port)
    }

    pub(super) fn etcd(&self) -> Result<Process> {
        let mut command = Command::new(self.programs.join("etcd"));
        command
            .arg(format!("--data-dir={}", self.etcd_data().display()))
            .arg(format!("--listen-client-urls={}", self.etcd_url()))
            .arg(format!("--advertise-client-urls={}", self.etcd_url()))
            .arg("--listen-peer-urls=http://127.0.0.1:0") // a cluster of one: nobody calls
            .arg("--unsafe-no-fsync") // what is lost with the machine is lost with the test
            .arg("--log-level=warn");
        Process::spawn("etcd", without_proxies(&mut command), &self.file("etcd.log"))
    }

    pub(super) fn api_server(&self) -> Result<Process> {
        let keys = &self.certificates;
        let mut command = Command::new(self.programs.join("kube-apiserver"));
        command
            .arg(format!("--etcd-servers={}", self.etcd_url()))
            .arg("--bind-address=127.0.0.1")
            .arg("--advertise-address=127.0.0.1")
            .arg(format!("--secure-port={}", self.api_port))
            .arg("--endpoint-reconciler-type=none") // no Endpoints of `kubernetes`: they may not be loopback
            .arg(format!("--cert-dir={}", self.dir.display()))
            .arg(format!("--tls-cert-file={}", keys.server.display()))
            .arg(format!("--tls-private-key-file={}", keys.server_key.display()))
            .arg(format!("--service-account-issuer={}", self.server()))
            .arg(format!("--service-account-key-file={}", keys.token_public_key.display()))
            .arg(format!("--service-account-signing-key-file={}", keys.token_key.display()))
            .arg("--service-cluster-ip-range=10.0.0.0/24")
            .arg("--authorization-mode=RBAC")
            .arg(format!("--token-auth-file={}", self.file("tokens.csv").display()))
            // It would wait for service accounts that only the controller-manager makes.
            .arg("--disable-admission-plugins=ServiceAccount")
            .arg(format!("--audit-policy-file={}", self.file("audit-policy.yaml").display()))
            .arg(format!("--audit-log-path={}", self.audit_log().display()))
            .arg("--profiling=false");
        Process::spawn("kube-apiserver", without_proxies(&mut command), &self.file("kube-apiserver.log"))
    }
}

/// Both speak to loopback addresses only.
fn without_proxies(command: &mut Command) -> &mut Command {
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
        command.env_remove(name);
    }
    command
}
