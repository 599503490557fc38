//! How a metric comes to stand in the registry. Which ones there are is told in [`metrics`](super::metrics).

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Error, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

/// The label `controller` of the `controller_runtime_` and `workqueue_` metrics, and `name` of the latter: the kind in
/// lower case, as Go controllers name theirs.
const CONTROLLER: &str = "instancerolebinding";

/// Makes metrics and registers them. Each method takes the name in full, so that a search finds it, and the
/// HELP text with the unit.
pub(crate) struct Declare {
    registry: Registry,
}

impl Declare {
    pub(crate) fn on(registry: Registry) -> Self {
        Self { registry }
    }

    pub(crate) fn registry(self) -> Registry {
        self.registry
    }

    /// The `process_` metrics of this process.
    pub(crate) fn process(&self) -> Result<(), Error> {
        self.registry.register(Box::new(ProcessCollector::for_self()))
    }

    /// A series that is 1 and tells by its labels.
    pub(crate) fn constant(&self, name: &str, help: &str, labels: &[(&str, &str)]) -> Result<(), Error> {
        let opts =
            labels.iter().fold(opts(name, help), |opts, (label, value)| opts.const_label(*label, *value));
        self.add(IntGauge::with_opts(opts)).map(|gauge| gauge.set(1))
    }

    pub(crate) fn counter(&self, name: &str, help: &str) -> Result<IntCounter, Error> {
        self.add(IntCounter::with_opts(opts(name, help)))
    }

    pub(crate) fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, Error> {
        self.add(IntCounterVec::new(opts(name, help), labels))
    }

    pub(crate) fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, Error> {
        self.add(IntGauge::with_opts(opts(name, help)))
    }

    pub(crate) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, Error> {
        self.add(IntGaugeVec::new(opts(name, help), labels))
    }

    pub(crate) fn float_gauge(&self, name: &str, help: &str) -> Result<Gauge, Error> {
        self.add(Gauge::with_opts(opts(name, help)))
    }

    pub(crate) fn float_gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec, Error> {
        self.add(GaugeVec::new(opts(name, help), labels))
    }

    pub(crate) fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, Error> {
        self.add(Histogram::with_opts(HistogramOpts::from(opts(name, help)).buckets(buckets.to_vec())))
    }

    pub(crate) fn histograms(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
        labels: &[&str],
    ) -> Result<HistogramVec, Error> {
        self.add(HistogramVec::new(HistogramOpts::from(opts(name, help)).buckets(buckets.to_vec()), labels))
    }

    fn add<C: Collector + Clone + 'static>(&self, metric: Result<C, Error>) -> Result<C, Error> {
        let metric = metric?;
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}

fn opts(name: &str, help: &str) -> Opts {
    let opts = Opts::new(name, help);
    match name.split('_').next() {
        Some("controller") => opts.const_label("controller", CONTROLLER),
        Some("workqueue") => opts.const_label("controller", CONTROLLER).const_label("name", CONTROLLER),
        _ => opts,
    }
}
