//! What `/metrics` shows. Labels are closed sets or the hub's partitions and the platform's nodes;
//! never devices, Things or texts of errors.

use prometheus::{
    Encoder, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

/// All metrics of a connector. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    /// Events received from the hub, by partition.
    pub events: IntCounterVec,
    /// Property values that the platform took.
    pub values: IntCounter,
    /// Write requests answered by the platform, by outcome.
    pub writes: IntCounterVec,
    /// Events passed without being written, by reason.
    pub passed: IntCounterVec,
    /// Events missing in a partition's sequence.
    pub gaps: IntCounterVec,
    /// Events between the newest one of a partition and the low-water mark.
    pub lag: IntGaugeVec,
    /// Checkpoints stored, by outcome.
    pub checkpoints: IntCounterVec,
    /// Partitions that this member reads.
    pub partitions: IntGauge,
    /// Moves of the hub's built-in endpoint that reading has followed.
    pub endpoint_moves: IntCounter,
    /// 1 for each node that is logged in, else 0.
    pub node_up: IntGaugeVec,
    /// Requests of the platform, by kind and outcome.
    pub requests: IntCounterVec,
    /// Requests of the platform that are being served.
    pub in_flight: IntGauge,
}

impl Metrics {
    /// Registers all metrics.
    ///
    /// # Errors
    /// If two metrics had the same name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let name = |name: &str| format!("azure_iot_connector_{name}");
        let counters = |of: &str, help: &str, labels: &[&str]| {
            let made = IntCounterVec::new(Opts::new(name(of), help), labels)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let gauges = |of: &str, help: &str, labels: &[&str]| {
            let made = IntGaugeVec::new(Opts::new(name(of), help), labels)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let gauge = |of: &str, help: &str| {
            let made = IntGauge::new(name(of), help)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let counter = |of: &str, help: &str| {
            let made = IntCounter::new(name(of), help)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let values = counter("values_total", "Property values the platform took")?;
        let endpoint_moves = counter(
            "endpoint_moves_total",
            "Moves of the hub's built-in endpoint, followed",
        )?;
        Ok(Self {
            events: counters(
                "events_total",
                "Events received from the hub",
                &["partition"],
            )?,
            values,
            endpoint_moves,
            writes: counters("writes_total", "Write requests, by outcome", &["outcome"])?,
            passed: counters(
                "passed_total",
                "Events passed unwritten, by reason",
                &["reason"],
            )?,
            gaps: counters(
                "gaps_total",
                "Events missing in a partition's sequence",
                &["partition"],
            )?,
            lag: gauges(
                "lag_events",
                "Events behind the newest of a partition",
                &["partition"],
            )?,
            checkpoints: counters("checkpoints_total", "Checkpoints, by outcome", &["outcome"])?,
            partitions: gauge("partitions", "Partitions that this member reads")?,
            node_up: gauges(
                "node_up",
                "1 for each platform node that is logged in",
                &["node"],
            )?,
            requests: counters("requests_total", "Platform requests", &["kind", "outcome"])?,
            in_flight: gauge("requests_in_flight", "Platform requests being served")?,
            registry,
        })
    }

    /// The text form that Prometheus scrapes.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = Vec::new();
        // Writing to memory cannot fail, and a family that could not be encoded is left out.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }
}
