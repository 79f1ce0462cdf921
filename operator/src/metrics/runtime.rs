//! The metrics that Kubernetes' own controllers have, with their names and labels, so that dashboards and alerts made
//! for controller-runtime and client-go fit.

use std::time::Duration;

use http::{Method, StatusCode};
use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use crate::queue::Outcome;

/// Name of the only controller and of its queue, as label.
const NAME: &str = "azureiothubconnector";
/// The API server, as label: there is one, and its address says nothing.
const HOST: &str = "kubernetes";
/// controller-runtime's, thinned: from a reconcile without a request to one that waits for time-outs.
const RECONCILE: [f64; 11] = [
    0.001, 0.005, 0.01, 0.025, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0,
];
/// client-go's: powers of ten from a microsecond to a thousand seconds.
const QUEUE: [f64; 10] = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1000.0];

/// The family's metrics.
#[derive(Debug)]
pub struct Runtime {
    reconciles: IntCounterVec,
    errors: IntCounterVec,
    terminal_errors: IntCounterVec,
    seconds: HistogramVec,
    workers: IntGaugeVec,
    depth: IntGaugeVec,
    adds: IntCounterVec,
    queued: HistogramVec,
    worked: HistogramVec,
    unfinished: GaugeVec,
    longest: GaugeVec,
    retries: IntCounterVec,
    requests: IntCounterVec,
    master: IntGauge,
}

/// What the loop is at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Load {
    /// Resources that came to wait, all in all.
    pub added: u64,
    /// Resources that wait.
    pub depth: usize,
    /// Reconciles that run.
    pub active: usize,
    /// How long they have run, all together.
    pub unfinished: Duration,
    /// How long the one that began first has run.
    pub longest: Duration,
}

impl Runtime {
    /// Registers the family; `workers` reconciles may run at a time, and `lease` says who writes.
    ///
    /// # Errors
    /// If two have one name, which would be a fault of this program.
    pub(super) fn new(
        registry: &Registry,
        workers: usize,
        lease: &str,
    ) -> Result<Self, prometheus::Error> {
        let controller = &["controller"][..];
        let queue = &["name", "controller"][..];
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let count = |name: &str, help: &str, labels: &[&str]| {
            let gauge = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = GaugeVec::new(Opts::new(name, help), queue)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let times = |name: &str, help: &str, labels: &[&str], buckets: &[f64]| {
            let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            let times = HistogramVec::new(options, labels)?;
            registry.register(Box::new(times.clone()))?;
            Ok::<_, prometheus::Error>(times)
        };
        let most = count(
            "controller_runtime_max_concurrent_reconciles",
            "Most reconciles at a time.",
            controller,
        )?;
        most.with_label_values(&[NAME]).set(whole(workers));
        let master = count(
            "leader_election_master_status",
            "Whether this operator holds the Lease and writes.",
            &["name"],
        )?;
        let errors = counter(
            "controller_runtime_reconcile_errors_total",
            "Reconciles that failed.",
            controller,
        )?;
        let terminal_errors = counter(
            "controller_runtime_terminal_reconcile_errors_total",
            "Reconciles that failed in a way that only a change of the resource mends.",
            controller,
        )?;
        let retries = counter(
            "workqueue_retries_total",
            "Connectors that wait for another try after a failure.",
            queue,
        )?;
        // There from the beginning, so that the first one is a rise.
        for counter in [&errors, &terminal_errors] {
            counter.with_label_values(&[NAME]);
        }
        retries.with_label_values(&[NAME, NAME]);
        Ok(Self {
            reconciles: counter(
                "controller_runtime_reconcile_total",
                "Reconciles by result.",
                &["controller", "result"],
            )?,
            errors,
            terminal_errors,
            seconds: times(
                "controller_runtime_reconcile_time_seconds",
                "Duration of a reconcile.",
                controller,
                &RECONCILE,
            )?,
            workers: count(
                "controller_runtime_active_workers",
                "Reconciles that run now.",
                controller,
            )?,
            depth: count(
                "workqueue_depth",
                "Connectors that wait for a reconcile.",
                queue,
            )?,
            adds: counter(
                "workqueue_adds_total",
                "Connectors that came to wait.",
                queue,
            )?,
            queued: times(
                "workqueue_queue_duration_seconds",
                "How long a connector that was due waited for its reconcile.",
                queue,
                &QUEUE,
            )?,
            worked: times(
                "workqueue_work_duration_seconds",
                "How long a connector was worked on.",
                queue,
                &QUEUE,
            )?,
            unfinished: gauge(
                "workqueue_unfinished_work_seconds",
                "How long the reconciles that run have run, all together.",
            )?,
            longest: gauge(
                "workqueue_longest_running_processor_seconds",
                "How long the reconcile that began first has run.",
            )?,
            retries,
            requests: counter(
                "rest_client_requests_total",
                "Requests to the API server by the status of the answer.",
                &["code", "method", "host"],
            )?,
            master: master.with_label_values(&[lease]),
        })
    }

    /// A reconcile has ended that took this long.
    pub fn reconciled(&self, outcome: Outcome, took: Duration) {
        let result = match (outcome.failed, outcome.again) {
            (Some(_), _) => "error",
            (None, Some(_)) => "requeue_after",
            (None, None) => "success",
        };
        self.reconciles.with_label_values(&[NAME, result]).inc();
        self.seconds
            .with_label_values(&[NAME])
            .observe(took.as_secs_f64());
        self.worked
            .with_label_values(&[NAME, NAME])
            .observe(took.as_secs_f64());
        if let Some(class) = outcome.failed {
            self.errors.with_label_values(&[NAME]).inc();
            if class.backoff().is_some() {
                self.retries.with_label_values(&[NAME, NAME]).inc();
            } else {
                self.terminal_errors.with_label_values(&[NAME]).inc();
            }
        }
    }

    /// A resource that was due waited this long for its turn.
    pub fn waited(&self, time: Duration) {
        self.queued
            .with_label_values(&[NAME, NAME])
            .observe(time.as_secs_f64());
    }

    /// What the loop is at now.
    pub fn load(&self, load: Load) {
        let Load {
            added,
            depth,
            active,
            unfinished,
            longest,
        } = load;
        self.depth
            .with_label_values(&[NAME, NAME])
            .set(whole(depth));
        let adds = self.adds.with_label_values(&[NAME, NAME]);
        adds.inc_by(added.saturating_sub(adds.get()));
        self.workers.with_label_values(&[NAME]).set(whole(active));
        let seconds = [(&self.unfinished, unfinished), (&self.longest, longest)];
        for (gauge, time) in seconds {
            gauge
                .with_label_values(&[NAME, NAME])
                .set(time.as_secs_f64());
        }
    }

    /// Whether this operator holds its Lease.
    pub fn leads(&self, leads: bool) {
        self.master.set(i64::from(leads));
    }

    /// A request has ended with this status, or without an answer.
    pub fn requested(&self, method: &Method, status: Option<StatusCode>) {
        let code = status.as_ref().map_or("<error>", StatusCode::as_str);
        self.requests
            .with_label_values(&[code, method.as_str(), HOST])
            .inc();
    }
}

fn whole(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
