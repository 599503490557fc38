//! The EC2 sandbox (`tests/ec2-sandbox`) as a child process, and its admin API.

mod journal;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

pub use journal::Call;

use crate::aws::{ACCOUNT, AwsCli, AwsEnv, REGION};
use crate::eventually::eventually_ok;
use crate::http::Http;
use crate::places::binary;
use crate::process::Process;
use crate::scratch::Scratch;

/// Who changes things at AWS and is not the controller.
const PERSON: &str = "PERSON";

/// A running sandbox. It ends when this is dropped, and when the process ends in any way.
///
/// Methods act in [`ACCOUNT`] and [`REGION`]; for others use [`post`](Self::post) and its kin.
#[derive(Debug)]
pub struct Sandbox {
    process: Process,
    url: String,
    http: Http,
    /// ARNs of the profiles made by [`profile`](Self::profile), by name.
    profiles: Mutex<BTreeMap<String, String>>,
    _scratch: Scratch,
}

impl Sandbox {
    /// Starts one with quick defaults: states that take tenths of a second, EC2's published token buckets.
    ///
    /// # Errors
    /// It has not been built, or does not answer.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// Starts one with flags of its own: `--no-throttling`, `--realistic`, `--set=NAME=VALUE`.
    ///
    /// # Errors
    /// As for [`start`](Self::start), or it does not know a flag.
    pub fn start_with(flags: &[&str]) -> Result<Self> {
        // Worlds share an API server, so no two may have an instance of the same id.
        static STARTED: AtomicU64 = AtomicU64::new(1);
        let seed = format!("--set=seed={}", STARTED.fetch_add(1, Ordering::Relaxed));
        let scratch = Scratch::new("ec2-sandbox")?;
        let mut command = Command::new(binary("ec2-sandbox", "EC2_SANDBOX_BIN")?);
        command.arg(seed).args(flags);
        let process = Process::spawn("ec2-sandbox", &mut command, &scratch.join("ec2-sandbox.log"))?;
        let url =
            eventually_ok(
                "the EC2 sandbox says where it listens",
                Duration::from_secs(10),
                || match process.still_runs() {
                    Ok(()) => address_in(&process.printed()).map(Ok).ok_or_else(|| process.log_tail(5)),
                    Err(ended) => Ok(Err(ended)),
                },
            )??;
        let http = Http::plain(&url);
        Ok(Self { process, url, http, profiles: Mutex::default(), _scratch: scratch })
    }

    /// Its address: the endpoint of all AWS services.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The process, to be paused or killed.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The environment of a client, as the user that the controller is.
    pub fn aws_env(&self) -> AwsEnv {
        AwsEnv::new(&self.url)
    }

    /// The `aws` CLI in the hands of somebody who is not the controller.
    pub fn aws_cli(&self) -> AwsCli {
        AwsCli::new(self.aws_env().as_user(ACCOUNT, PERSON))
    }

    /// `GET /_sandbox/{path}`. The admin API is described in `tests/ec2-sandbox/README.md`.
    ///
    /// # Errors
    /// The sandbox refuses; its words are told.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.http.get(&format!("/_sandbox/{path}"))?.json()
    }

    /// `POST /_sandbox/{path}`.
    ///
    /// # Errors
    /// The sandbox refuses; its words are told.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.send("POST", path, Some(body))
    }

    /// `PATCH /_sandbox/{path}`.
    ///
    /// # Errors
    /// The sandbox refuses; its words are told.
    pub fn patch(&self, path: &str, body: &Value) -> Result<Value> {
        self.send("PATCH", path, Some(body))
    }

    /// `DELETE /_sandbox/{path}`.
    ///
    /// # Errors
    /// The sandbox refuses; its words are told.
    pub fn delete(&self, path: &str) -> Result<Value> {
        self.send("DELETE", path, None)
    }

    fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        self.http.send(method, &format!("/_sandbox/{path}"), "application/json", body)?.json()
    }

    /// The ARN of the profile of this name; it is made, with a role of the same name, if it is not there.
    ///
    /// # Errors
    /// It was made by other means than this method, or the name is malformed.
    pub fn profile(&self, name: &str) -> Result<String> {
        let mut profiles = self.profiles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(arn) = profiles.get(name) {
            return Ok(arn.clone());
        }
        let arn = self.add_profile(&json!({"name": name}))?;
        profiles.insert(name.to_owned(), arn.clone());
        Ok(arn)
    }

    /// Makes a profile: `{name, path, roleName, trusted}`. Returns its ARN.
    ///
    /// # Errors
    /// The sandbox refuses; its words are told.
    pub fn add_profile(&self, profile: &Value) -> Result<String> {
        let made = self.post("profiles", &in_region(profile))?;
        text_at(&made, "/profiles/0/arn")
    }

    /// A new instance in this state (`running`, `stopped`), with a profile or none. Returns its id.
    ///
    /// # Errors
    /// There is no such state or profile.
    pub fn instance(&self, state: &str, profile: Option<&str>) -> Result<String> {
        let made = self.add_instances(&json!({"count": 1, "state": state, "profile": profile}))?;
        made.into_iter().next().context("the sandbox made no instance")
    }

    /// Makes instances: `{ids | count, state, profile, tags, managed}`. Returns their ids.
    ///
    /// # Errors
    /// The sandbox refuses; its words are told.
    pub fn add_instances(&self, instances: &Value) -> Result<Vec<String>> {
        let made = self.post("instances", &in_region(instances))?;
        let ids = made.get("instanceIds").cloned().unwrap_or_default();
        serde_json::from_value(ids).context("the sandbox told no instance ids")
    }

    /// Puts a profile on an instance, or takes it off, as somebody else would: drift.
    ///
    /// # Errors
    /// There is no such instance or profile.
    pub fn drift(&self, instance: &str, profile: Option<&str>) -> Result<()> {
        self.change_instance(instance, &json!({"profile": profile}))
    }

    /// Changes an instance at once: `{state, tags, profile}`.
    ///
    /// # Errors
    /// There is no such instance, state or profile.
    pub fn change_instance(&self, instance: &str, change: &Value) -> Result<()> {
        let change = with(&in_region(change), "instanceIds", json!([instance]));
        self.patch("instances", &change).map(drop)
    }

    /// Gives an instance these tags, at once, and takes all others away.
    ///
    /// # Errors
    /// There is no such instance.
    pub fn retag(&self, instance: &str, tags: &Value) -> Result<()> {
        self.change_instance(instance, &json!({"tags": tags}))
    }

    /// The truth about one instance, without lag: `{state, tags, profileArn, rows: […]}`.
    ///
    /// # Errors
    /// There is no such instance.
    pub fn truth(&self, instance: &str) -> Result<Value> {
        let state = self.get(&format!("state?account={ACCOUNT}&region={REGION}&instance={instance}"))?;
        state.pointer("/instances/0").cloned().with_context(|| format!("there is no instance {instance}"))
    }

    /// The ARN of the profile that an instance truly has, if it has one.
    ///
    /// # Errors
    /// There is no such instance.
    pub fn profile_of(&self, instance: &str) -> Result<Option<String>> {
        Ok(self.truth(instance)?.get("profileArn").and_then(Value::as_str).map(str::to_owned))
    }

    /// The stretches in which a workload on the instance that had had credentials had none, as
    /// `(from, to)` in milliseconds; no `to` while one lasts.
    ///
    /// # Errors
    /// There is no such instance.
    pub fn gaps(&self, instance: &str) -> Result<Vec<(u64, Option<u64>)>> {
        let timeline =
            self.get(&format!("timeline?account={ACCOUNT}&region={REGION}&instance={instance}"))?;
        let gaps = timeline.get("gaps").and_then(Value::as_array).context("a timeline without gaps")?;
        let time = |gap: &Value, end| gap.get(end).and_then(Value::as_u64);
        gaps.iter().map(|gap| Ok((time(gap, "fromMs").context("no fromMs")?, time(gap, "toMs")))).collect()
    }

    /// A call of EC2 by somebody who is not the controller: `Action=StopInstances&InstanceId.1=…`. The quick way for many
    /// calls; [`aws_cli`](Self::aws_cli) starts a program for each.
    ///
    /// # Errors
    /// EC2 refuses; its words are told.
    pub fn call(&self, form: &str) -> Result<()> {
        let user = self.aws_env().as_user(ACCOUNT, PERSON);
        // Signatures are demanded, not verified.
        let zeros = "0".repeat(64);
        let scope = format!("Credential={}/20260101/{REGION}/ec2/aws4_request", user.access_key());
        let signature = format!("AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature={zeros}");
        self.http.form(&signature, &format!("{form}&Version=2016-11-15"))?.ok().map(drop)
    }

    /// Sets a fault: `{action, instance, caller, skip, count, effect}`. Returns its number.
    ///
    /// # Errors
    /// The sandbox refuses; its words are told.
    pub fn fault(&self, fault: &Value) -> Result<u64> {
        self.post("faults", fault)?.get("id").and_then(Value::as_u64).context("a fault without id")
    }

    /// Changes settings: `{associating_ms: 50, throttling: false}`.
    ///
    /// # Errors
    /// There is no such setting.
    pub fn settings(&self, patch: &Value) -> Result<()> {
        self.patch("settings", patch).map(drop)
    }
}

fn address_in(printed: &str) -> Option<String> {
    printed.lines().find_map(|line| line.strip_prefix("ec2-sandbox listening on ")).map(str::to_owned)
}

fn in_region(body: &Value) -> Value {
    if body.get("region").is_some() { body.clone() } else { with(body, "region", json!(REGION)) }
}

fn with(body: &Value, name: &str, value: Value) -> Value {
    let mut body = body.clone();
    if let Some(members) = body.as_object_mut() {
        members.insert(name.to_owned(), value);
    }
    body
}

fn text_at(answer: &Value, pointer: &str) -> Result<String> {
    let found = answer.pointer(pointer).and_then(Value::as_str);
    Ok(found.with_context(|| format!("no {pointer} in {answer}"))?.to_owned())
}
