//! Stands for the Lease: carries out the steps of [`protocol`](super::protocol) against the API server.
//!
//! A watch shows at once that the Lease was released, so nobody polls; a timer ends the wait for a leader that is gone.

use std::time::Duration;

use futures::{Stream, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::clock::Clock;
use super::fence::Fence;
use super::protocol::{Answer, Candidate, Record, Step, Terms, Version};

/// Our field manager.
const MANAGER: &str = "instance-role-controller";
/// How long the release may take at the end of the process.
const RELEASE: Duration = Duration::from_secs(2);

/// Which Lease is stood for, by whom and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// The Lease's namespace.
    pub namespace: String,
    /// The Lease's name.
    pub name: String,
    /// Who stands for it; see [`identity`].
    pub identity: String,
    /// The times.
    pub terms: Terms,
}

/// An identity that no other process has: the pod's name, else the host's, and a random word, since a restarted container
/// keeps its pod's name.
pub fn identity(pod: Option<&str>) -> String {
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    let name = pod.map_or_else(host, str::to_owned);
    format!("{name}_{:016x}", fastrand::u64(..))
}

/// What happens to a candidate.
#[derive(Debug, Clone)]
pub enum News {
    /// The API server has answered for the first time.
    Answers,
    /// It never did yet, and why. Who once had an answer stays a good standby.
    Unanswered(String),
    /// This process leads, for as long as the fence is open.
    Leads(Fence),
    /// It leads no more.
    StandsBy,
}

/// Stands for a Lease.
pub struct Elector {
    requests: Api<Lease>,
    watches: Api<Lease>,
    seat: Seat,
    candidate: Candidate,
    fence: Option<Fence>,
    clock: Clock,
    /// Whether the last request failed.
    failing: bool,
    /// Whether there was any answer yet.
    answers: bool,
    /// Who led when it was last told.
    other: Option<String>,
}

impl Elector {
    /// Stands for this seat. The client for requests must not retry by itself.
    pub fn new(requests: Client, watches: Client, seat: Seat, clock: Clock) -> Self {
        Self {
            requests: Api::namespaced(requests, &seat.namespace),
            watches: Api::namespaced(watches, &seat.namespace),
            candidate: Candidate::new(seat.identity.clone(), seat.terms),
            seat,
            fence: None,
            clock,
            failing: false,
            answers: false,
            other: None,
        }
    }

    /// From when `ready` is, leads and stands by, in turns, until `stopped` says that nothing is written any more; then
    /// releases the Lease.
    pub async fn run(
        mut self,
        ready: impl Future<Output = ()>,
        mut tell: impl FnMut(News),
        mut stopped: oneshot::Receiver<()>,
    ) {
        tokio::select! {
            () = ready => {}
            _ = &mut stopped => return,
        }
        let watched = watcher::watch_object(self.watches.clone(), &self.seat.name).default_backoff();
        let mut watched = std::pin::pin!(watched);
        loop {
            tokio::select! {
                biased;
                // Who dropped the sender has ended without a word; that is no reason to let another one begin at once.
                said = &mut stopped => match said {
                    Ok(()) => return self.release(&mut tell).await,
                    Err(_) => return self.stand_down(&mut tell),
                },
                () = self.advance(&mut watched, &mut tell) => {}
            }
        }
    }

    /// One step.
    async fn advance(
        &mut self,
        watched: &mut (impl Stream<Item = watcher::Result<Option<Lease>>> + Unpin),
        tell: &mut impl FnMut(News),
    ) {
        match self.candidate.step(self.clock.now()) {
            Step::StandDown => {
                self.candidate.stands_down();
                tracing::warn!(lease = self.seat.name, "the Lease could not be renewed in time");
            }
            Step::Rest(until) => {
                let wait = until.saturating_sub(self.clock.now());
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    Some(event) = watched.next() => match event {
                        Ok(lease) => self.candidate.watched(lease.as_ref().map(read), self.clock.now()),
                        Err(error) => tracing::debug!(%error, "the watch of the Lease broke off; taking it up again"),
                    },
                }
            }
            Step::Read => {
                self.candidate.reads(self.clock.now());
                let reading = self.requests.get_opt(&self.seat.name);
                let answer = match timeout(self.patience(), reading).await {
                    Ok(Ok(lease)) => Answer::Found(lease.as_ref().map(read)),
                    Ok(Err(error)) => self.failed("read", &error, tell),
                    Err(_) => self.failed("read", &"no answer in time", tell),
                };
                self.answered(answer, tell);
            }
            Step::Bid => {
                let (record, version) = self.candidate.bid(self.clock.now(), wall());
                let answer = match timeout(self.patience(), self.write(&record, version)).await {
                    Ok(Ok(version)) => Answer::Taken(version),
                    Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => Answer::Refused,
                    Ok(Err(error)) => self.failed("written", &error, tell),
                    Err(_) => self.failed("written", &"no answer in time", tell),
                };
                self.answered(answer, tell);
            }
        }
        self.follow(tell);
    }

    /// A request may take no longer than until the deadline.
    fn patience(&self) -> Duration {
        let limit = self.seat.terms.request_limit();
        let left = self.candidate.leads_until().map(|end| end.saturating_sub(self.clock.now()));
        left.map_or(limit, |left| limit.min(left))
    }

    fn answered(&mut self, answer: Answer, tell: &mut impl FnMut(News)) {
        let known = !matches!(answer, Answer::Failed);
        self.candidate.answered(answer, self.clock.now());
        if known {
            self.failing = false;
            if !std::mem::replace(&mut self.answers, true) {
                tell(News::Answers);
            }
        }
    }

    /// Told once until there is an answer again.
    fn failed(&mut self, what: &str, error: &dyn std::fmt::Display, tell: &mut impl FnMut(News)) -> Answer {
        let lease = format!("{}/{}", self.seat.namespace, self.seat.name);
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(lease, %error, "the Lease cannot be {what} (is the API server there, is RBAC?); trying on");
        }
        if !self.answers {
            tell(News::Unanswered(format!("Lease {lease} cannot be {what}: {error}")));
        }
        Answer::Failed
    }

    /// Brings the fence in line with what the candidate is, and tells what has changed.
    fn follow(&mut self, tell: &mut impl FnMut(News)) {
        let lease = format!("{}/{}", self.seat.namespace, self.seat.name);
        match (self.candidate.leads_until(), self.fence.take()) {
            (Some(until), Some(fence)) => {
                fence.extend(until);
                self.fence = Some(fence);
            }
            (Some(until), None) => {
                let fence = Fence::open_until(until, self.clock.clone());
                self.fence = Some(fence.clone());
                self.other = None;
                tracing::info!(lease, identity = self.seat.identity, "leading");
                tell(News::Leads(fence));
            }
            (None, Some(fence)) => {
                fence.close();
                tracing::warn!(lease, "leading no more; standing by");
                tell(News::StandsBy);
            }
            (None, None) => {}
        }
        let other = self.candidate.other();
        if self.fence.is_none() && other.is_some() && other != self.other.as_deref() {
            self.other = other.map(str::to_owned);
            tracing::info!(lease, leader = self.other, "standing by");
        }
    }

    fn stand_down(&mut self, tell: &mut impl FnMut(News)) {
        self.candidate.stands_down();
        self.follow(tell);
    }

    /// Leads no more, and lets the next one begin at once.
    async fn release(mut self, tell: &mut impl FnMut(News)) {
        let released = self.candidate.release(wall());
        self.stand_down(tell);
        let Some((record, version)) = released else { return };
        match timeout(RELEASE, self.write_release(&record, version)).await {
            Ok(Ok(())) => tracing::info!(lease = self.seat.name, "released the Lease"),
            Ok(Err(error)) => tracing::warn!(%error, "the Lease cannot be released; it runs out by itself"),
            Err(_) => tracing::warn!("the Lease cannot be released in time; it runs out by itself"),
        }
    }

    async fn write_release(&self, record: &Record, version: Version) -> Result<(), kube::Error> {
        match self.write(record, Some(version)).await {
            // A renewal that was given up has landed after all, or somebody else leads.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let Some(lease) = self.requests.get_opt(&self.seat.name).await? else { return Ok(()) };
                let (there, version) = read(&lease);
                if there.holder.as_deref() == Some(&self.seat.identity) {
                    self.write(record, Some(version)).await?;
                }
                Ok(())
            }
            written => written.map(drop),
        }
    }

    /// Writes the Lease: makes it, or changes the one of this version. Its version then.
    async fn write(&self, record: &Record, version: Option<Version>) -> Result<Version, kube::Error> {
        let written = match version {
            None => {
                let mut lease = Lease::default();
                lease.metadata.name = Some(self.seat.name.clone());
                lease.spec = serde_json::from_value(spec(record)).map_err(kube::Error::SerdeError)?;
                let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
                self.requests.create(&params, &lease).await?
            }
            Some(version) => {
                // A patch leaves alone what others put there.
                let patch = json!({"metadata": {"resourceVersion": version}, "spec": spec(record)});
                let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
                self.requests.patch(&self.seat.name, &params, &Patch::Merge(&patch)).await?
            }
        };
        Ok(written.resource_version().unwrap_or_default())
    }
}

/// The time for people, as a Lease can hold it.
fn wall() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}

fn read(lease: &Lease) -> (Record, Version) {
    let spec = lease.spec.clone().unwrap_or_default();
    let record = Record {
        holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
        duration: spec
            .lease_duration_seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map(Duration::from_secs),
        acquired: spec.acquire_time.map(|time| time.0),
        renewed: spec.renew_time.map(|time| time.0),
        transitions: spec.lease_transitions.unwrap_or_default(),
    };
    (record, lease.resource_version().unwrap_or_default())
}

fn spec(record: &Record) -> Value {
    json!({
        "holderIdentity": record.holder.clone().unwrap_or_default(),
        "leaseDurationSeconds": record.duration.map(|duration| duration.as_secs()),
        "acquireTime": record.acquired.map(MicroTime),
        "renewTime": record.renewed.map(MicroTime),
        "leaseTransitions": record.transitions,
    })
}

#[cfg(test)]
mod tests;
