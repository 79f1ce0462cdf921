//! What the operator measures.

use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

/// All metrics. Labels come from closed lists: kinds, classes, outcomes; never from names or texts.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Reconciles by outcome: `changed`, `unchanged` or the class of an error.
    pub reconciles: IntCounterVec,
    /// Duration of a reconcile in seconds.
    pub reconcile_seconds: Histogram,
    /// Writes of children by kind and verb.
    pub child_writes: IntCounterVec,
    /// Writes of a resource's status.
    pub status_writes: IntCounterVec,
    /// Whether this operator holds the Lease.
    pub leads: IntGauge,
    /// Resources waiting for a reconcile.
    pub queue_depth: IntGauge,
    /// Resources whose last reconcile failed.
    pub in_backoff: IntGauge,
    /// Resources by the status of their `Ready` condition.
    pub connectors: IntGaugeVec,
    /// Connectors that replace their pods (`replacing`) or wait for that (`queued`).
    pub rollouts: IntGaugeVec,
    /// Failed tries of watches by kind.
    pub watch_failures: IntCounterVec,
    /// Watches that fail now, by kind.
    pub watch_failing: IntGaugeVec,
}

impl Metrics {
    /// Registers all metrics.
    ///
    /// # Errors
    /// If two have one name, which would be a fault of this program.
    pub fn new() -> Result<Self, prometheus::Error> {
        let name = |name: &str| format!("azureiothub_operator_{name}");
        let counters =
            |short, help, labels: &[&str]| IntCounterVec::new(Opts::new(name(short), help), labels);
        let gauges =
            |short, help, labels: &[&str]| IntGaugeVec::new(Opts::new(name(short), help), labels);
        let metrics = Self {
            registry: Registry::new(),
            reconciles: counters("reconciles_total", "Reconciles by outcome.", &["outcome"])?,
            reconcile_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    name("reconcile_duration_seconds"),
                    "Duration of a reconcile.",
                )
                // From a reconcile without a request to one that waits for time-outs.
                .buckets(vec![0.001, 0.005, 0.025, 0.1, 0.25, 1.0, 5.0, 15.0, 60.0]),
            )?,
            child_writes: counters(
                "child_writes_total",
                "Writes of objects that belong to a connector.",
                &["kind", "verb"],
            )?,
            status_writes: counters(
                "status_writes_total",
                "Writes of a connector's status, by result.",
                &["result"],
            )?,
            leads: IntGauge::new(
                name("leader"),
                "Whether this operator holds the Lease and writes.",
            )?,
            queue_depth: IntGauge::new(name("queue_depth"), "Connectors waiting for a reconcile.")?,
            in_backoff: IntGauge::new(
                name("in_backoff"),
                "Connectors whose last reconcile failed.",
            )?,
            connectors: gauges(
                "connectors",
                "Connectors by their Ready condition.",
                &["ready"],
            )?,
            rollouts: gauges(
                "rollouts",
                "Connectors that replace their pods, or wait until fewer others do.",
                &["state"],
            )?,
            watch_failures: counters(
                "watch_failures_total",
                "Failed tries of watches.",
                &["kind"],
            )?,
            watch_failing: gauges("watch_failing", "Watches that fail now.", &["kind"])?,
        };
        let build = gauges(
            "build_info",
            "Version of the operator; always 1.",
            &["version"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let registry = &metrics.registry;
        registry.register(Box::new(build))?;
        registry.register(Box::new(metrics.reconciles.clone()))?;
        registry.register(Box::new(metrics.reconcile_seconds.clone()))?;
        registry.register(Box::new(metrics.child_writes.clone()))?;
        registry.register(Box::new(metrics.status_writes.clone()))?;
        registry.register(Box::new(metrics.leads.clone()))?;
        registry.register(Box::new(metrics.queue_depth.clone()))?;
        registry.register(Box::new(metrics.in_backoff.clone()))?;
        registry.register(Box::new(metrics.connectors.clone()))?;
        registry.register(Box::new(metrics.rollouts.clone()))?;
        registry.register(Box::new(metrics.watch_failures.clone()))?;
        registry.register(Box::new(metrics.watch_failing.clone()))?;
        Ok(metrics)
    }

    /// An object of a connector was written.
    pub fn wrote(&self, kind: &str, verb: &str) {
        self.child_writes.with_label_values(&[kind, verb]).inc();
    }

    /// All metrics in Prometheus' text format.
    ///
    /// # Errors
    /// If a metric has no text form, which would be a fault of this program.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}
