//! A batch of feedback. Pure.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

use crate::instant;

/// What has become of a message.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FeedbackRecord {
    /// The id that the message was sent with; empty if it had none.
    #[serde(rename = "originalMessageId", default)]
    pub message_id: String,
    /// The device that it was for.
    pub device_id: String,
    /// Tells devices of the same id apart that were made one after the other.
    #[serde(rename = "deviceGenerationId", default)]
    pub generation_id: String,
    /// What has become of it.
    #[serde(rename = "statusCode")]
    pub status: FeedbackStatus,
    /// When that was.
    #[serde(
        rename = "enqueuedTimeUtc",
        default,
        deserialize_with = "instant::optional"
    )]
    pub at: Option<Timestamp>,
    /// The hub's words.
    #[serde(default)]
    pub description: String,
}

/// What can become of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedbackStatus {
    /// The device has taken it.
    Success,
    /// Nobody has fetched it in time.
    Expired,
    /// It was delivered again and again, and never taken.
    DeliveryCountExceeded,
    /// The device does not want it.
    Rejected,
    /// It was removed from the device's queue.
    Purged,
    /// Something else.
    Other(String),
}

impl FeedbackStatus {
    /// As the hub writes it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Success => "Success",
            Self::Expired => "Expired",
            Self::DeliveryCountExceeded => "DeliveryCountExceeded",
            Self::Rejected => "Rejected",
            Self::Purged => "Purged",
            Self::Other(name) => name,
        }
    }
}

impl<'de> Deserialize<'de> for FeedbackStatus {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = String::deserialize(from)?;
        // Microsoft's SDKs compare without case.
        Ok(match name.to_ascii_lowercase().as_str() {
            "success" => Self::Success,
            "expired" => Self::Expired,
            "deliverycountexceeded" => Self::DeliveryCountExceeded,
            "rejected" => Self::Rejected,
            "purged" => Self::Purged,
            _ => Self::Other(name),
        })
    }
}

/// Reads a batch: a JSON array.
pub(super) fn batch(bytes: &[u8]) -> Result<Vec<FeedbackRecord>, serde_json::Error> {
    serde_json::from_slice(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_read_as_the_hub_writes_it() {
        let text = br#"[
            {"originalMessageId": "0987654321", "enqueuedTimeUtc": "2015-07-28T16:24:48.789Z",
             "statusCode": "Success", "description": "Success", "deviceId": "123",
             "deviceGenerationId": "abcdefghijklmnopqrstuvwxyz"},
            {"deviceId": "d", "statusCode": "deliveryCountExceeded"},
            {"deviceId": "d", "statusCode": "Eaten"}
        ]"#;
        let records = batch(text).unwrap();
        assert_eq!(records[0].message_id, "0987654321");
        assert_eq!(records[0].status, FeedbackStatus::Success);
        assert_eq!(records[0].at, "2015-07-28T16:24:48.789Z".parse().ok());
        assert_eq!(records[1].status, FeedbackStatus::DeliveryCountExceeded);
        assert_eq!(records[2].status.name(), "Eaten");
        for text in ["", "{}", "[{}]", "[1]"] {
            assert!(batch(text.as_bytes()).is_err(), "{text}");
        }
    }
}
