//! Messages that a device has refused or let expire → `EdgeError` on `ConnectionServicesHub`.

use std::sync::Arc;

use alwayson::{InfoTable, Request, Value};
use iothub::{FeedbackRecord, FeedbackStatus, HubAmqpSettings, receive_feedback};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::operation::Mark;
use crate::{
    metrics::Metrics,
    platform::{Destination, HUB, Kind},
};

/// Batches that wait to be reported; more stay with the hub, which gives them again.
const QUEUE: usize = 16;
/// Longest text of the hub that a report shows.
const SHOWN: usize = 200;

/// What reads the hub's feedback.
pub struct Feedback {
    /// The way to the hub.
    pub hub: HubAmqpSettings,
    /// Which messages are ours.
    pub mark: Mark,
    /// Where failures are reported.
    pub platform: Arc<dyn Destination>,
    /// What is counted.
    pub metrics: Metrics,
}

impl Feedback {
    /// Reads and reports until `end`.
    pub async fn run(self, end: CancellationToken) {
        let Self {
            hub,
            mark,
            platform,
            metrics,
        } = self;
        let (sender, mut records) = mpsc::channel(QUEUE);
        let ours = |record: &FeedbackRecord| mark.property(&record.message_id).is_some();
        let read = receive_feedback(hub, ours, sender, end);
        let report = async {
            while let Some(batch) = records.recv().await {
                let failed = batch.iter().filter(|record| failed(record) && ours(record));
                for record in failed {
                    let feedback = &metrics.feedback;
                    feedback.with_label_values(&[label(&record.status)]).inc();
                    let request = Request::event(HUB, "EdgeError", table(record, &mark));
                    if let Err(error) = platform.ask(Kind::Read, &request).await.outcome {
                        tracing::debug!(%error, "the platform did not take an EdgeError");
                    }
                }
            }
        };
        tokio::join!(read, report);
    }
}

fn failed(record: &FeedbackRecord) -> bool {
    record.status != FeedbackStatus::Success
}

/// Label of the metric: a closed set.
fn label(status: &FeedbackStatus) -> &'static str {
    match status {
        FeedbackStatus::Success => "success",
        FeedbackStatus::Expired => "expired",
        FeedbackStatus::DeliveryCountExceeded => "delivery_count_exceeded",
        FeedbackStatus::Rejected => "rejected",
        FeedbackStatus::Purged => "purged",
        FeedbackStatus::Other(_) => "other",
    }
}

/// The fields of PTC's Data Shape `CXSEvent.EdgeError`.
fn table(record: &FeedbackRecord, mark: &Mark) -> InfoTable {
    let FeedbackRecord {
        message_id,
        device_id,
        status,
        description,
        ..
    } = record;
    let property = mark.property(message_id).unwrap_or_default();
    let of = match property {
        "" => "a message".to_owned(),
        property => format!("the new value of property {property}"),
    };
    let what = match status {
        FeedbackStatus::Expired => "was not fetched by the device in time and is dropped",
        FeedbackStatus::DeliveryCountExceeded => "was delivered too often and is dropped",
        FeedbackStatus::Rejected => "was refused by the device",
        FeedbackStatus::Purged => "was removed from the device's queue",
        FeedbackStatus::Success | FeedbackStatus::Other(_) => "did not arrive",
    };
    let said: String = description.chars().take(SHOWN).collect();
    let context = json!({"property": property, "status": status.name(), "description": said});
    InfoTable::one_row([
        ("id", Value::string(message_id.as_str())),
        ("message", Value::string(format!("{of} {what}"))),
        ("ThingName", Value::string(device_id.as_str())),
        ("context", Value::json(context.to_string())),
    ])
}

#[cfg(test)]
mod tests {
    use alwayson::json::table_to_json;
    use connector_config::ThingName;

    use super::*;

    #[test]
    fn a_failure_names_device_and_property() {
        let mark = Mark::new(&ThingName::new("Hub").unwrap());
        let record = FeedbackRecord {
            message_id: mark.id(Some("setpoint")),
            device_id: "pump".into(),
            generation_id: String::new(),
            status: FeedbackStatus::Expired,
            at: None,
            description: "Expired".into(),
        };
        assert!(failed(&record));
        let row = &table_to_json(&table(&record, &mark))["rows"][0];
        assert_eq!(row["ThingName"], "pump");
        let message = "the new value of property setpoint was not fetched by the device in time and is dropped";
        assert_eq!(row["message"], message);
        assert_eq!(row["context"]["property"], "setpoint");
    }
}
