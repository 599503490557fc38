//! The wire between a controller and its two servers, the API server and AWS, on which any one request can be held.
//!
//! Whoever wants to know what becomes of a controller that dies at its n-th request needs to stop the world there: before
//! the server has seen the request, or after the server has carried it out and before the reply arrives.

mod request;
mod wire;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use serde_json::json;

/// One request among those that a controller makes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Point {
    /// What is asked: `PATCH instancerolebindings/web/status`, `ec2 DescribeInstances`, `WATCH namespaces`.
    pub request: String,
    /// How many of this kind there were up to this one, itself included.
    pub nth: usize,
}

impl Point {
    /// Whether it asks for a change of something.
    pub fn is_write(&self) -> bool {
        let reads = ["GET ", "LIST ", "WATCH ", "ec2 Describe", "iam Get", "iam List", "sts "];
        !reads.iter().any(|read| self.request.starts_with(read))
    }
}

impl std::fmt::Display for Point {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} #{}", self.request, self.nth)
    }
}

/// Where on its way a request is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum When {
    /// The server has not seen it.
    Before,
    /// The server has carried it out and answered; the answer has not arrived.
    After,
}

/// What becomes of the bodies of AWS' replies, by the request: for replies that nobody would send.
pub type Rewrite = Arc<dyn Fn(&str, Bytes) -> Bytes + Send + Sync>;

/// A wire of one controller's own.
pub struct Tap {
    shared: Arc<Shared>,
    aws_url: String,
    kubeconfig: PathBuf,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    counts: HashMap<String, usize>,
    seen: Vec<Point>,
    hold: Option<(Point, When)>,
    held: bool,
    rewrite: Option<Rewrite>,
}

impl std::fmt::Debug for Tap {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Tap").field("aws_url", &self.aws_url).finish_non_exhaustive()
    }
}

impl Tap {
    /// A wire to the API server that `kubeconfig` names, with its token, and to the AWS at `aws`.
    pub(crate) fn new(kubeconfig: &Path, aws: &str, dir: &Path) -> Result<Self> {
        let mut config: serde_json::Value = serde_yaml::from_slice(&std::fs::read(kubeconfig)?)?;
        let cluster = config.pointer_mut("/clusters/0/cluster").context("a kubeconfig without cluster")?;
        let server = cluster["server"].as_str().context("a cluster without server")?.to_owned();
        let authority = cluster["certificate-authority"].as_str().context("a cluster without authority")?;
        let shared = Arc::new(Shared::default());
        let kube = wire::lay(&server, Some(Path::new(authority)), Arc::clone(&shared))?;
        let aws_url = wire::lay(aws, None, Arc::clone(&shared))?;
        *cluster = json!({"server": kube});
        let port = kube.rsplit(':').next().unwrap_or_default();
        let kubeconfig = dir.join(format!("tap-{port}.kubeconfig"));
        std::fs::write(&kubeconfig, config.to_string())?;
        Ok(Self { shared, aws_url, kubeconfig })
    }

    /// For a controller that shall talk to the API server by this wire.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The endpoint of AWS on this wire.
    pub fn aws_url(&self) -> &str {
        &self.aws_url
    }

    /// Forgets what has been counted so far.
    pub fn begin(&self) {
        let mut state = self.shared.lock();
        state.counts.clear();
        state.seen.clear();
    }

    /// What was asked since [`begin`](Self::begin), in the order in which it came in.
    pub fn requests(&self) -> Vec<Point> {
        self.shared.lock().seen.clone()
    }

    /// Counts anew, and holds the request at this point until [`let_go`](Self::let_go).
    pub fn hold(&self, point: &Point, when: When) {
        self.begin();
        let mut state = self.shared.lock();
        state.hold = Some((point.clone(), when));
        state.held = false;
    }

    /// Waits until it is held; whether it is.
    pub fn is_held_within(&self, within: Duration) -> bool {
        let waited = self.shared.changed.wait_timeout_while(self.shared.lock(), within, |state| !state.held);
        waited.unwrap_or_else(PoisonError::into_inner).0.held
    }

    /// Nothing is held any more. What was gets no reply: its connection closes.
    pub fn let_go(&self) {
        let mut state = self.shared.lock();
        state.hold = None;
        state.held = false;
        drop(state);
        self.shared.changed.notify_all();
    }

    /// From now on AWS' replies are what `rewrite` makes of them; `None` leaves them alone.
    pub fn rewrite(&self, rewrite: Option<Rewrite>) {
        self.shared.lock().rewrite = rewrite;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request.
    fn count(&self, request: &str) -> Point {
        let mut state = self.lock();
        let nth = state.counts.entry(request.to_owned()).or_default();
        *nth += 1;
        let point = Point { request: request.to_owned(), nth: *nth };
        state.seen.push(point.clone());
        point
    }

    /// Whether the request at this point is to be held here.
    fn holds(&self, point: &Point, when: When) -> bool {
        let mut state = self.lock();
        let here = state.hold.as_ref().is_some_and(|(at, then)| at == point && *then == when);
        if here {
            state.held = true;
            drop(state);
            self.changed.notify_all();
        }
        here
    }

    fn is_holding(&self) -> bool {
        self.lock().held
    }

    fn rewriting(&self) -> Option<Rewrite> {
        self.lock().rewrite.clone()
    }
}
