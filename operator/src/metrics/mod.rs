//! What the operator measures.

mod runtime;

use prometheus::{
    Encoder, GaugeVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::controller::CONCURRENCY;

pub use runtime::{Load, Runtime};

/// All metrics. Labels come from closed lists: kinds, classes, outcomes; never from names or texts.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// What all controllers measure.
    pub runtime: Runtime,
    /// Reconciles by outcome: `changed`, `unchanged` or the class of an error.
    pub reconciles: IntCounterVec,
    /// Writes of children by kind and verb.
    pub child_writes: IntCounterVec,
    /// Writes of a resource's status.
    pub status_writes: IntCounterVec,
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
    /// Lists after the first, by kind.
    pub watch_restarts: IntCounterVec,
    /// How long ago a kind was last fresh, in seconds.
    pub watch_age: GaugeVec,
}

impl Metrics {
    /// Registers all metrics of an operator with the Lease of this name.
    ///
    /// # Errors
    /// If two have one name, which would be a fault of this program.
    pub fn new(lease: &str) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let name = |name: &str| format!("azureiothub_operator_{name}");
        let counters =
            |short, help, labels: &[&str]| IntCounterVec::new(Opts::new(name(short), help), labels);
        let gauges =
            |short, help, labels: &[&str]| IntGaugeVec::new(Opts::new(name(short), help), labels);
        let metrics = Self {
            runtime: Runtime::new(&registry, CONCURRENCY, lease)?,
            registry,
            reconciles: counters("reconciles_total", "Reconciles by outcome.", &["outcome"])?,
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
            watch_restarts: counters(
                "watch_restarts_total",
                "Lists of watches after their first.",
                &["kind"],
            )?,
            watch_age: GaugeVec::new(
                Opts::new(
                    name("watch_last_event_age_seconds"),
                    "How long ago the API server last said something to the watches of a kind.",
                ),
                &["kind"],
            )?,
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
        registry.register(Box::new(metrics.child_writes.clone()))?;
        registry.register(Box::new(metrics.status_writes.clone()))?;
        registry.register(Box::new(metrics.in_backoff.clone()))?;
        registry.register(Box::new(metrics.connectors.clone()))?;
        registry.register(Box::new(metrics.rollouts.clone()))?;
        registry.register(Box::new(metrics.watch_failures.clone()))?;
        registry.register(Box::new(metrics.watch_failing.clone()))?;
        registry.register(Box::new(metrics.watch_restarts.clone()))?;
        registry.register(Box::new(metrics.watch_age.clone()))?;
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
