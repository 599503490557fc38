//! Every metric of the program, by the names of Go controllers where there is one, so that stock dashboards
//! work, and with the prefix `instancerole_` where there is none.
//!
//! A series whose labels are known exists from the start with 0: a rate over a counter that appears with its
//! first event misses that event. Label words come from [`labels`], never from the outside.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus::core::{MetricVec, MetricVecBuilder};
use prometheus::{
    Error, Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Registry, TextEncoder,
};

use super::declare::Declare;
use super::labels::{self, DriftCause, MutationResult, OPERATIONS, ReconcileResult, WRITES};

/// The buckets of a pass over one binding, as controller-runtime has them.
const RECONCILE_SECONDS: [f64; 31] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25,
    1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 10.0, 20.0, 30.0, 60.0,
];

/// The buckets of one AWS call: a fast reply to the SDK's patience.
const AWS_SECONDS: [f64; 12] = [0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// The buckets of convergence: EC2 takes up to 90 s for one association, and a paced fleet up to an hour.
const CONVERGENCE_SECONDS: [f64; 14] =
    [0.1, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];

/// The buckets of a wait for a pass, and of a pass, as client-go has them.
const QUEUE_SECONDS: [f64; 12] =
    [0.00000001, 0.0000001, 0.000001, 0.00001, 0.0001, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0];

/// What `instancerole_build_info` tells.
#[derive(Debug, Clone, Copy)]
pub struct BuildInfo {
    /// The version of the program.
    pub version: &'static str,
    /// The commit it was built from.
    pub commit: &'static str,
}

/// How many bindings have this condition with this status and reason. The words are static, so that a text
/// that somebody wrote into an object's status cannot become a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindingCount {
    /// The condition's type, such as `Ready`.
    pub condition: &'static str,
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// The condition's reason, such as `Associated`.
    pub reason: &'static str,
    /// The number of bindings; entries with the same words are added.
    pub count: usize,
}

/// Every metric of the process and the registry they stand in. All methods take `&self` and are cheap.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reconciles: Reconciles,
    queue: Workqueue,
    unfinished: Gauge,
    longest: Gauge,
    panics: IntCounter,
    max_concurrent: IntGauge,
    leader: IntGaugeVec,
    kubernetes: IntCounterVec,
    aws_requests: IntCounterVec,
    aws_seconds: HistogramVec,
    aws_throttles: IntCounterVec,
    aws_budget: GaugeVec,
    mutations: IntCounterVec,
    released: IntCounterVec,
    drift: IntCounterVec,
    contention: IntCounter,
    circuits_open: IntGauge,
    convergence: Histogram,
    bindings: IntGaugeVec,
    list_pages: IntGauge,
    list_age: Gauge,
    resync: Gauge,
    /// The last listing of each fleet view. Its lock is held by [`Self::render`] and [`Self::bindings`] too,
    /// so that a scrape never sees half of a set.
    views: Mutex<BTreeMap<String, Listing>>,
}

/// What a pass over one binding feeds.
#[derive(Debug, Clone)]
struct Reconciles {
    total: IntCounterVec,
    errors: IntCounter,
    seconds: Histogram,
    active: IntGauge,
    work: Histogram,
    retries: IntCounter,
    /// When those under way began; as many as there are workers.
    under_way: Arc<Mutex<Vec<Instant>>>,
}

/// What the queue of bindings that wait for a pass feeds.
#[derive(Debug, Clone)]
pub struct Workqueue {
    depth: IntGauge,
    adds: IntCounter,
    seconds: Histogram,
}

impl Workqueue {
    fn declare(to: &Declare) -> Result<Self, Error> {
        Ok(Self {
            depth: to.gauge("workqueue_depth", "Bindings that wait for a pass now.")?,
            adds: to.counter("workqueue_adds_total", "Times that a binding began to wait for a pass.")?,
            seconds: to.histogram(
                "workqueue_queue_duration_seconds",
                "Seconds that a binding waited for its pass.",
                &QUEUE_SECONDS,
            )?,
        })
    }

    /// A binding begins to wait.
    pub fn added(&self) {
        self.adds.inc();
        self.depth.inc();
    }

    /// Its pass begins after this time.
    pub fn taken(&self, waited: Duration) {
        self.depth.dec();
        self.seconds.observe(waited.as_secs_f64());
    }
}

/// One listing of a fleet view.
#[derive(Debug, Clone, Copy)]
struct Listing {
    pages: u64,
    began: Instant,
    interval: Duration,
}

impl Reconciles {
    fn under_way(&self) -> MutexGuard<'_, Vec<Instant>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn declare(to: &Declare) -> Result<Self, Error> {
        Ok(Self {
            total: to.counters(
                "controller_runtime_reconcile_total",
                "Passes over one binding, by how they ended.",
                &["result"],
            )?,
            errors: to.counter(
                "controller_runtime_reconcile_errors_total",
                "Passes over one binding that ended in an error and are tried again.",
            )?,
            seconds: to.histogram(
                "controller_runtime_reconcile_time_seconds",
                "Seconds that a pass over one binding took.",
                &RECONCILE_SECONDS,
            )?,
            active: to.gauge("controller_runtime_active_workers", "Bindings being looked at now.")?,
            work: to.histogram(
                "workqueue_work_duration_seconds",
                "Seconds that a pass over one binding took.",
                &QUEUE_SECONDS,
            )?,
            retries: to.counter(
                "workqueue_retries_total",
                "Passes over one binding that are made again because they could not be finished.",
            )?,
            under_way: Arc::default(),
        })
    }
}

impl Metrics {
    /// Declares and registers every metric. Fails only if two of them share a name.
    pub fn new(build: BuildInfo) -> Result<Self, Error> {
        let to = Declare::on(Registry::new());
        to.process()?;
        to.constant(
            "instancerole_build_info",
            "Always 1; the labels tell which build runs.",
            &[("version", build.version), ("commit", build.commit)],
        )?;
        // Nothing is terminal here (architecture.md, rule 4): present for the dashboards that add it up.
        to.counter(
            "controller_runtime_terminal_reconcile_errors_total",
            "Always 0: every failure is tried again.",
        )?;
        let metrics = Self {
            reconciles: Reconciles::declare(&to)?,
            queue: Workqueue::declare(&to)?,
            unfinished: to.float_gauge(
                "workqueue_unfinished_work_seconds",
                "Seconds since the passes that are under way began, added up: it grows while some are stuck.",
            )?,
            longest: to.float_gauge(
                "workqueue_longest_running_processor_seconds",
                "Seconds since the oldest pass that is under way began.",
            )?,
            panics: to.counter(
                "controller_runtime_reconcile_panics_total",
                "Passes over one binding that panicked.",
            )?,
            max_concurrent: to.gauge(
                "controller_runtime_max_concurrent_reconciles",
                "Bindings that may be looked at at the same time.",
            )?,
            leader: to.gauges(
                "leader_election_master_status",
                "1 while this process holds the Lease, 0 while it stands by; absent without leader election.",
                &["name"],
            )?,
            kubernetes: to.counters(
                "rest_client_requests_total",
                "Requests to the Kubernetes API server about bindings, and about grants and namespaces before a write, by method \
                 and HTTP status (<error>: no reply). Watches, the Lease and Events are not in it.",
                &["code", "method"],
            )?,
            aws_requests: to.counters(
                "instancerole_aws_api_requests_total",
                "Calls to AWS, each attempt counted, by operation and the reply's error code \
                 (OK: success; Timeout, NoReply: no reply came).",
                &["operation", "code"],
            )?,
            aws_seconds: to.histograms(
                "instancerole_aws_api_request_duration_seconds",
                "Seconds from sending a call to AWS to its reply; waiting for the budget is not in it.",
                &AWS_SECONDS,
                &["operation"],
            )?,
            aws_throttles: to.counters(
                "instancerole_aws_api_throttles_total",
                "Calls that AWS refused for being too many.",
                &["operation"],
            )?,
            aws_budget: to.float_gauges(
                "instancerole_aws_api_budget_ratio",
                "Share of the call budget that is free now, from 0 (used up: calls wait) to 1 (full).",
                &["operation"],
            )?,
            mutations: to.counters(
                "instancerole_mutations_total",
                "Writes to EC2, by operation and what became of them (unknown: no reply came).",
                &["operation", "result"],
            )?,
            released: to.counters(
                "instancerole_released_total",
                "Deleted bindings that were let go, by what became of the instance \
                 (LeftInPlace, NotRestored: the association stays as it was).",
                &["outcome"],
            )?,
            drift: to.counters(
                "instancerole_drift_detected_total",
                "Instances that agreed with their binding and were found to agree no more, by what was found.",
                &["cause"],
            )?,
            contention: to.counter(
                "instancerole_contention_total",
                "Times that a binding was found to be undone again and again by another writer.",
            )?,
            circuits_open: to.gauge(
                "instancerole_circuits_open",
                "Namespaces whose repairs of drift are held: more were due at once than --max-changes-per-pass allows.",
            )?,
            convergence: to.histogram(
                "instancerole_convergence_seconds",
                "Seconds from a change of a binding's spec to the association confirmed at EC2.",
                &CONVERGENCE_SECONDS,
            )?,
            bindings: to.gauges(
                "instancerole_bindings",
                "Bindings, by condition, its status and its reason.",
                &["condition", "status", "reason"],
            )?,
            list_pages: to.gauge(
                "instancerole_list_pages",
                "Pages of the last listing of associations, added over accounts and Regions.",
            )?,
            list_age: to.float_gauge(
                "instancerole_list_age_seconds",
                "Seconds since the last complete listing of associations began: the oldest of all accounts \
                 and Regions; 0 while none is wanted.",
            )?,
            resync: to.float_gauge(
                "instancerole_resync_interval_seconds",
                "Seconds from one listing of associations to the next, the longest of all accounts and Regions: more than \
                 --resync-interval where that would take more than half of the read budget.",
            )?,
            views: Mutex::default(),
            registry: to.registry(),
        };
        metrics.start_at_zero();
        Ok(metrics)
    }

    fn start_at_zero(&self) {
        for result in ReconcileResult::ALL {
            series(&self.reconciles.total, &[result.as_str()], drop);
        }
        for operation in OPERATIONS {
            series(&self.aws_requests, &[operation, labels::OK], drop);
            series(&self.aws_seconds, &[operation], drop);
            series(&self.aws_throttles, &[operation], drop);
        }
        for operation in WRITES {
            for result in MutationResult::ALL {
                series(&self.mutations, &[operation, result.as_str()], drop);
            }
        }
        for outcome in labels::OUTCOMES {
            series(&self.released, &[outcome], drop);
        }
        for cause in DriftCause::ALL {
            series(&self.drift, &[cause.as_str()], drop);
        }
    }

    /// Begins to measure a pass over one binding; see [`ReconcileTimer`].
    pub fn reconcile_timer(&self) -> ReconcileTimer {
        let began = Instant::now();
        self.reconciles.active.inc();
        self.reconciles.under_way().push(began);
        ReconcileTimer { began, result: None, reconciles: self.reconciles.clone() }
    }

    /// What the queue of passes feeds.
    pub fn queue(&self) -> Workqueue {
        self.queue.clone()
    }

    /// Counts a panic that was caught in a pass. The timer of that pass counts its error, not the panic.
    pub fn panic(&self) {
        self.panics.inc();
    }

    /// Tells how many bindings may be looked at at the same time (`--max-concurrent-reconciles`).
    pub fn max_concurrent_reconciles(&self, limit: usize) {
        self.max_concurrent.set(int(limit));
    }

    /// Tells whether this process holds the Lease of this name. Not called without leader election: then there is no series.
    pub fn leader(&self, lease: &str, leads: bool) {
        series(&self.leader, &[lease], |gauge| gauge.set(i64::from(leads)));
    }

    /// Counts one request to the Kubernetes API server; no `status` where no reply came.
    pub fn kubernetes_request(&self, method: &str, status: Option<u16>) {
        let code = status.map_or("<error>".into(), labels::status);
        series(&self.kubernetes, &[&*code, labels::method(method)], |counter| counter.inc());
    }

    /// Counts and measures one attempt of an AWS call: `code` is the reply's error code, [`labels::OK`],
    /// [`labels::TIMEOUT`] or [`labels::NO_REPLY`]. A throttle is told by [`Self::throttled`] besides.
    pub fn aws_request(&self, operation: &str, code: &str, seconds: f64) {
        let operation = labels::operation(operation);
        series(&self.aws_requests, &[operation, labels::code(code)], |counter| counter.inc());
        series(&self.aws_seconds, &[operation], |histogram| histogram.observe(seconds));
    }

    /// Counts a call that AWS refused for being too many.
    pub fn throttled(&self, operation: &str) {
        series(&self.aws_throttles, &[labels::operation(operation)], |counter| counter.inc());
    }

    /// Tells the share of an operation's budget that is free now, 0 to 1.
    pub fn budget(&self, operation: &str, free: f64) {
        series(&self.aws_budget, &[labels::operation(operation)], |gauge| gauge.set(free.clamp(0.0, 1.0)));
    }

    /// Counts one write to EC2 and what became of it.
    pub fn mutation(&self, operation: &str, result: MutationResult) {
        let words = [labels::operation(operation), result.as_str()];
        series(&self.mutations, &words, |counter| counter.inc());
    }

    /// Counts a deleted binding that was let go.
    pub fn released(&self, outcome: &str) {
        series(&self.released, &[labels::outcome(outcome)], |counter| counter.inc());
    }

    /// Counts an instance that agreed with its binding and agrees no more.
    pub fn drift(&self, cause: DriftCause) {
        series(&self.drift, &[cause.as_str()], |counter| counter.inc());
    }

    /// Counts a binding that was found to be undone again and again by another writer.
    pub fn contention(&self) {
        self.contention.inc();
    }

    /// Tells in how many namespaces repairs are held.
    pub fn circuits_open(&self, namespaces: usize) {
        self.circuits_open.set(int(namespaces));
    }

    /// Measures one convergence: seconds from the change of a spec to its association confirmed.
    pub fn convergence(&self, seconds: f64) {
        self.convergence.observe(seconds);
    }

    /// Sets the number of bindings by condition, as a whole: a set of words that is not among `counts` is gone
    /// from the next scrape on.
    pub fn bindings(&self, counts: impl IntoIterator<Item = BindingCount>) {
        let _no_scrape_between = self.views();
        self.bindings.reset();
        for BindingCount { condition, status, reason, count } in counts {
            series(&self.bindings, &[condition, status, reason], |gauge| gauge.add(int(count)));
        }
    }

    /// A fleet view is wanted from now on: its age counts, also if no listing ever succeeds. `view` tells the
    /// views apart (account and Region) and never becomes a label. Wanted already: nothing changes.
    pub fn list_wanted(&self, view: &str) {
        let now = Listing { pages: 0, began: Instant::now(), interval: Duration::ZERO };
        self.views().entry(view.to_owned()).or_insert(now);
    }

    /// A complete listing of a view: its pages, and how long ago it began. The age told grows by itself until
    /// the next one.
    pub fn list(&self, view: &str, pages: u64, age: Duration) {
        let now = Instant::now();
        let mut views = self.views();
        let interval = views.get(view).map_or(Duration::ZERO, |listing| listing.interval);
        let listing = Listing { pages, began: now.checked_sub(age).unwrap_or(now), interval };
        views.insert(view.to_owned(), listing);
    }

    /// Tells how long it is from one listing of a view to the next.
    pub fn resync(&self, view: &str, interval: Duration) {
        if let Some(listing) = self.views().get_mut(view) {
            listing.interval = interval;
        }
    }

    /// No binding needs the view any more.
    pub fn list_dropped(&self, view: &str) {
        self.views().remove(view);
    }

    /// The text that `/metrics` answers.
    pub fn render(&self) -> Result<String, Error> {
        let views = self.views();
        self.list_pages.set(views.values().map(|listing| int(listing.pages)).fold(0, i64::saturating_add));
        let longest = views.values().map(|listing| listing.interval).max();
        self.resync.set(longest.unwrap_or_default().as_secs_f64());
        let oldest = views.values().map(|listing| listing.began.elapsed()).max();
        self.list_age.set(oldest.unwrap_or_default().as_secs_f64());
        let under_way: Vec<f64> =
            self.reconciles.under_way().iter().map(|began| began.elapsed().as_secs_f64()).collect();
        self.unfinished.set(under_way.iter().sum());
        self.longest.set(under_way.into_iter().fold(0.0, f64::max));
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    fn views(&self) -> MutexGuard<'_, BTreeMap<String, Listing>> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Measures one pass over one binding: its time and the worker it takes, until dropped; its result as told to
/// [`Self::finish`]. Dropped without a result it was cancelled (only time is counted), or panicked (an error).
#[derive(Debug)]
#[must_use = "dropped at once, it measures nothing"]
pub struct ReconcileTimer {
    began: Instant,
    result: Option<ReconcileResult>,
    reconciles: Reconciles,
}

impl ReconcileTimer {
    /// Ends the measurement with the pass's result.
    pub fn finish(mut self, result: ReconcileResult) {
        self.result = Some(result);
    }
}

impl Drop for ReconcileTimer {
    fn drop(&mut self) {
        let Reconciles { total, errors, seconds, active, work, retries, .. } = &self.reconciles;
        active.dec();
        let took = self.began.elapsed().as_secs_f64();
        seconds.observe(took);
        work.observe(took);
        {
            let mut under_way = self.reconciles.under_way();
            if let Some(at) = under_way.iter().position(|began| *began == self.began) {
                under_way.swap_remove(at);
            }
        }
        let result = self.result.or_else(|| std::thread::panicking().then_some(ReconcileResult::Error));
        let Some(result) = result else { return };
        series(total, &[result.as_str()], |counter| counter.inc());
        if matches!(result, ReconcileResult::Error | ReconcileResult::Requeue) {
            retries.inc();
        }
        if result == ReconcileResult::Error {
            errors.inc();
        }
    }
}

/// Does something with the series of these words. It fails only for a wrong number of words, which the tests
/// would see: each method here is called by one.
fn series<T: MetricVecBuilder>(all: &MetricVec<T>, words: &[&str], then: impl FnOnce(T::M)) {
    if let Ok(one) = all.get_metric_with_label_values(words) {
        then(one);
    }
}

/// A count as a gauge takes it.
fn int(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
