//! What `/metrics` shows. Labels are closed sets or the hub's partitions and the platform's nodes;
//! never devices, Things or texts of errors.

use std::time::Duration;

use iothub::{Event, PartitionProperties};
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder, proto::MetricType,
};

use crate::ingress::Mark;

/// Seconds of one step: the buckets of OpenTelemetry's conventions for messaging.
const STEP: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];
/// Seconds that what is read lies behind: from nearly live to the hub's longest retention, 7 days.
const BEHIND: [f64; 11] = [
    0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0, 3600.0, 21_600.0, 86_400.0, 604_800.0,
];
/// Events taken at once.
const EVENTS: [f64; 7] = [1.0, 5.0, 10.0, 50.0, 100.0, 250.0, 500.0];

/// All metrics of a connector. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    /// Events received from the hub, by partition.
    events: IntCounterVec,
    /// Events of each batch.
    batch_events: Histogram,
    /// From the receipt of a batch until all its events are settled.
    batch_seconds: Histogram,
    /// From the hub's taking the last event of a batch to its receipt.
    behind_seconds: Histogram,
    /// Property values that the platform took.
    pub values: IntCounter,
    /// Write requests answered by the platform, by outcome.
    write_seconds: WriteSeconds,
    /// Events passed without being written, by reason.
    pub passed: IntCounterVec,
    /// Letters of passed events, by outcome.
    dead_letters: IntCounterVec,
    /// Processes of the mapping that have ended, by cause.
    mapping_ends: IntCounterVec,
    /// Events missing in a partition's sequence.
    pub gaps: IntCounterVec,
    lag_events: IntGaugeVec,
    lag_seconds: IntGaugeVec,
    read_ahead_events: IntGaugeVec,
    read_ahead_bytes: IntGaugeVec,
    epoch: IntGaugeVec,
    last_event: IntGaugeVec,
    mark_time: IntGaugeVec,
    moves: IntCounterVec,
    /// Checkpoints, by outcome.
    checkpoint_seconds: HistogramVec,
    /// Partitions that this member reads.
    partitions: IntGauge,
    /// Moves of the hub's built-in endpoint that reading has followed.
    pub endpoint_moves: IntCounter,
    /// 1 for each node that is logged in, else 0.
    pub node_up: IntGaugeVec,
    /// 1 for each node that is ill or silent and left alone for a while, else 0.
    pub node_resting: IntGaugeVec,
    /// Names bound on each node beside the member's own and the hub Thing's.
    pub bound_names: IntGaugeVec,
    /// Requests of the platform, by kind and outcome.
    pub requests: IntCounterVec,
    /// Requests of the platform that are being served.
    pub in_flight: IntGauge,
    /// Messages that did not reach their device, by what became of them.
    pub feedback: IntCounterVec,
    /// Devices of imports, by what came of them.
    import_things: IntCounterVec,
}

/// One for each outcome, since every write is observed.
#[derive(Clone)]
struct WriteSeconds {
    taken: Histogram,
    refused: Histogram,
    unanswered: Histogram,
}

/// What has come of a request to the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteOutcome {
    /// A node has carried it out.
    Taken,
    /// A node has refused.
    Refused,
    /// No answer in time.
    Unanswered,
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
        let by_partition = |of: &str, help: &str| gauges(of, help, &["partition"]);
        let gauge = |of: &str, help: &str| {
            let made = IntGauge::new(name(of), help)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let options = |of: &str, help: &str, buckets: &[f64]| {
            HistogramOpts::new(name(of), help).buckets(buckets.to_vec())
        };
        let histogram = |of: &str, help: &str, buckets: &[f64]| {
            let made = Histogram::with_opts(options(of, help, buckets))?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let by_outcome = |of: &str, help: &str| {
            let made = HistogramVec::new(options(of, help, &STEP), &["outcome"])?;
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
            batch_events: histogram("batch_events", "Events taken from the hub at once", &EVENTS)?,
            batch_seconds: histogram(
                "batch_seconds",
                "From the receipt of a batch of events until all of it is written or passed",
                &STEP,
            )?,
            behind_seconds: histogram(
                "behind_latest_seconds",
                "From the hub's taking the last event of a batch to its receipt here",
                &BEHIND,
            )?,
            values,
            endpoint_moves,
            write_seconds: {
                let all = by_outcome("write_seconds", "Requests to the platform, by outcome")?;
                let one = |outcome: &str| all.with_label_values(&[outcome]);
                WriteSeconds {
                    taken: one("taken"),
                    refused: one("refused"),
                    unanswered: one("unanswered"),
                }
            },
            passed: counters(
                "passed_total",
                "Events passed unwritten, by reason",
                &["reason"],
            )?,
            dead_letters: counters(
                "dead_letters_total",
                "Letters of passed events: stored, or lost because the store did not take them",
                &["outcome"],
            )?,
            mapping_ends: counters(
                "mapping_restarts_total",
                "Processes that run the mapping of the settings, ended by a message and started again",
                &["cause"],
            )?,
            gaps: counters(
                "gaps_total",
                "Events missing in a partition's sequence",
                &["partition"],
            )?,
            lag_events: by_partition(
                "partition_lag_events",
                "Events behind the newest one; also of partitions that nobody reads",
            )?,
            lag_seconds: by_partition(
                "partition_lag_seconds",
                "Seconds behind the newest event, by the hub's times; also of partitions that nobody reads",
            )?,
            read_ahead_events: by_partition(
                "read_ahead_events",
                "Events that are read and not yet settled",
            )?,
            read_ahead_bytes: by_partition(
                "read_ahead_bytes",
                "Memory of events that are read and not yet settled",
            )?,
            epoch: by_partition(
                "partition_epoch",
                "Epoch with which this pod reads a partition",
            )?,
            last_event: by_partition(
                "partition_last_event_timestamp_seconds",
                "When the newest received event was taken by the hub",
            )?,
            mark_time: by_partition(
                "partition_checkpoint_timestamp_seconds",
                "When a checkpoint was stored last",
            )?,
            moves: counters(
                "partition_moves_total",
                "Partitions taken and given up",
                &["kind"],
            )?,
            checkpoint_seconds: by_outcome("checkpoint_seconds", "Checkpoints, by outcome")?,
            partitions: gauge("partitions", "Partitions that this pod reads")?,
            node_up: gauges(
                "node_up",
                "1 for each platform node that is logged in",
                &["node"],
            )?,
            node_resting: gauges(
                "node_resting",
                "1 for each platform node that is ill or silent and left alone for a while",
                &["node"],
            )?,
            bound_names: gauges(
                "bound_names",
                "Names that this pod has bound on each platform node, beside its own Thing and the hub's",
                &["node"],
            )?,
            requests: counters("requests_total", "Platform requests", &["kind", "outcome"])?,
            in_flight: gauge("requests_in_flight", "Platform requests being served")?,
            feedback: counters(
                "messages_failed_total",
                "Messages that did not reach their device, by the hub's feedback",
                &["status"],
            )?,
            import_things: counters(
                "import_things_total",
                "Devices that were imported: their Thing was created, was there already, or could not be made",
                &["outcome"],
            )?,
            registry,
        })
    }

    /// This pod reads `partition` from now on.
    pub fn owned(&self, partition: &str, epoch: i64) {
        self.partitions.inc();
        self.epoch.with_label_values(&[partition]).set(epoch);
        self.moved("taken");
    }

    /// This pod no longer reads `partition`; what it has told of it is forgotten.
    pub fn disowned(&self, partition: &str) {
        self.partitions.dec();
        for gauges in [
            &self.epoch,
            &self.read_ahead_events,
            &self.read_ahead_bytes,
            &self.last_event,
            &self.mark_time,
        ] {
            // There is nothing to remove where nothing was told.
            let _ = gauges.remove_label_values(&[partition]);
        }
        self.no_lag(partition);
    }

    /// Another pod tells the lag of `partition`.
    pub fn no_lag(&self, partition: &str) {
        let _ = self.lag_events.remove_label_values(&[partition]);
        let _ = self.lag_seconds.remove_label_values(&[partition]);
    }

    /// So many dead letters were stored.
    pub fn letters_stored(&self, letters: usize) {
        self.letters("stored", letters);
    }

    /// So many dead letters were given up.
    pub fn letters_lost(&self, letters: usize) {
        self.letters("lost", letters);
    }

    fn letters(&self, outcome: &str, letters: usize) {
        self.dead_letters
            .with_label_values(&[outcome])
            .inc_by(letters as u64);
    }

    /// Dead letters by outcome, for tests.
    #[cfg(test)]
    pub fn letters_of(&self, outcome: &str) -> u64 {
        self.dead_letters.with_label_values(&[outcome]).get()
    }

    /// A partition was `taken`, `handed_over` or `lost`.
    pub fn moved(&self, kind: &str) {
        self.moves.with_label_values(&[kind]).inc();
    }

    /// The Thing of a device was `created`, was `existing`, or the import has `failed` to make it.
    pub fn imported(&self, outcome: &str) {
        self.import_things.with_label_values(&[outcome]).inc();
    }

    /// A process of the mapping has ended: for lack of `time` or `memory`, by a `fault`, or `unclear`.
    pub fn mapping_ended(&self, cause: &str) {
        self.mapping_ends.with_label_values(&[cause]).inc();
    }

    /// A batch was received, at this time in milliseconds since 1970.
    pub fn batch(&self, partition: &str, events: &[Event], now_ms: i64) {
        let Some(last) = events.last() else {
            return;
        };
        let count = events.len() as u64;
        self.events.with_label_values(&[partition]).inc_by(count);
        self.last_event
            .with_label_values(&[partition])
            .set(last.enqueued_ms / 1000);
        // Both are far below 2^52.
        #[allow(clippy::cast_precision_loss)]
        let (count, behind) = (count as f64, (now_ms - last.enqueued_ms).max(0) as f64);
        self.batch_events.observe(count);
        self.behind_seconds.observe(behind / 1000.0);
    }

    /// All events of a batch are settled, so long after its receipt.
    pub fn batch_settled(&self, took: Duration) {
        self.batch_seconds.observe(took.as_secs_f64());
    }

    /// A request to the platform has ended.
    pub fn wrote(&self, outcome: WriteOutcome, took: Duration) {
        let WriteSeconds {
            taken,
            refused,
            unanswered,
        } = &self.write_seconds;
        let seconds = match outcome {
            WriteOutcome::Taken => taken,
            WriteOutcome::Refused => refused,
            WriteOutcome::Unanswered => unanswered,
        };
        seconds.observe(took.as_secs_f64());
    }

    /// Storing a checkpoint has ended.
    pub fn checkpointed(&self, partition: &str, outcome: &str, took: Duration) {
        self.checkpoint_seconds
            .with_label_values(&[outcome])
            .observe(took.as_secs_f64());
        if outcome == "stored" {
            self.mark_time
                .with_label_values(&[partition])
                .set(jiff::Timestamp::now().as_second());
        }
    }

    /// What is read of `partition` and not yet settled.
    pub fn read_ahead(&self, partition: &str, events: usize, bytes: usize) {
        let whole = |number| i64::try_from(number).unwrap_or(i64::MAX);
        let label = &[partition];
        self.read_ahead_events
            .with_label_values(label)
            .set(whole(events));
        self.read_ahead_bytes
            .with_label_values(label)
            .set(whole(bytes));
    }

    /// How far `mark` is behind what the partition holds; gives the seconds.
    pub fn partition_lag(
        &self,
        partition: &str,
        mark: Option<&Mark>,
        holds: &PartitionProperties,
    ) -> i64 {
        let (events, seconds) = lag(mark, holds);
        self.lag_events.with_label_values(&[partition]).set(events);
        self.lag_seconds
            .with_label_values(&[partition])
            .set(seconds);
        seconds
    }

    /// Each series: its name with its labels, what it means, and its value; of a histogram the count and the
    /// sum.
    #[must_use]
    pub fn values(&self) -> Vec<(String, String, f64)> {
        let mut values = Vec::new();
        for family in self.registry.gather() {
            for metric in family.get_metric() {
                let labels: Vec<String> = metric
                    .get_label()
                    .iter()
                    .map(|label| format!("{}={}", label.name(), label.value()))
                    .collect();
                let name = |suffix: &str| match labels.as_slice() {
                    [] => format!("{}{suffix}", family.name()),
                    labels => format!("{}{suffix}{{{}}}", family.name(), labels.join(",")),
                };
                let mut add = |suffix: &str, value| {
                    values.push((name(suffix), family.help().to_owned(), value));
                };
                match family.get_field_type() {
                    MetricType::HISTOGRAM => {
                        let histogram = metric.get_histogram();
                        #[expect(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
                        add("_count", histogram.get_sample_count() as f64);
                        add("_sum", histogram.get_sample_sum());
                    }
                    MetricType::GAUGE => add("", metric.get_gauge().get_value()),
                    _ => add("", metric.get_counter().get_value()),
                }
            }
        }
        values
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

/// Events and seconds that `mark` is behind. Both times are the hub's.
fn lag(mark: Option<&Mark>, holds: &PartitionProperties) -> (i64, i64) {
    if holds.empty {
        return (0, 0);
    }
    // What is no longer kept cannot be caught up with.
    let first = holds.beginning_sequence - 1;
    let read = mark.map_or(first, |mark| mark.sequence.max(first));
    let events = (holds.last_sequence - read).max(0);
    let since = mark.map_or(holds.last_enqueued_ms, |mark| mark.enqueued_ms);
    let seconds = (holds.last_enqueued_ms - since).max(0) / 1000;
    (events, if events == 0 { 0 } else { seconds })
}

#[cfg(test)]
mod tests {
    use iothub::Offset;

    use super::*;

    #[test]
    fn lag_counts_what_the_hub_still_keeps_by_its_own_times() {
        let holds = |first, last| PartitionProperties {
            beginning_sequence: first,
            last_sequence: last,
            last_offset: Offset::new("x"),
            last_enqueued_ms: 60_000,
            empty: last < first,
        };
        let mark = |sequence, enqueued_ms| Mark {
            offset: "y".into(),
            sequence,
            enqueued_ms,
        };
        assert_eq!(lag(None, &holds(0, -1)), (0, 0));
        assert_eq!(
            lag(None, &holds(0, 9)),
            (10, 0),
            "how old they are is not known"
        );
        assert_eq!(lag(Some(&mark(4, 50_000)), &holds(0, 9)), (5, 10));
        assert_eq!(lag(Some(&mark(4, 50_000)), &holds(7, 9)), (3, 10));
        assert_eq!(lag(Some(&mark(9, 60_000)), &holds(0, 9)), (0, 0));
        assert_eq!(
            lag(Some(&mark(12, 61_000)), &holds(0, 9)),
            (0, 0),
            "the survey is older"
        );
    }
}
