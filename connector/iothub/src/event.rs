//! What a device, or the hub about a device, has said.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::source::Offset;

/// Which of the hub's message sources an event is from: annotation `iothub-message-source`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum MessageSource {
    /// A message that a device has sent.
    Telemetry,
    /// A device was created or deleted.
    DeviceLifecycleEvents,
    /// A twin was changed or replaced.
    TwinChangeEvents,
    /// A device has connected or disconnected.
    DeviceConnectionStateEvents,
    /// Another source, or none named (empty).
    Other(String),
}

impl From<&str> for MessageSource {
    fn from(name: &str) -> Self {
        // The hub writes these names in several cases ("deviceLifecycleEvents", "twinChangeEvents").
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("Telemetry") {
            Self::Telemetry
        } else if is("deviceLifecycleEvents") {
            Self::DeviceLifecycleEvents
        } else if is("twinChangeEvents") {
            Self::TwinChangeEvents
        } else if is("deviceConnectionStateEvents") {
            Self::DeviceConnectionStateEvents
        } else {
            Self::Other(name.to_owned())
        }
    }
}

/// One event of a partition.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Where it stands in its partition; reading goes on after it with `Position::After`.
    pub partition_offset: Offset,
    /// Its number in the partition: without gaps as long as the partition lives.
    pub sequence: i64,
    /// When the partition took it, in milliseconds since 1970 (the hub's clock).
    pub enqueued_ms: i64,
    /// The device that the hub has authenticated; never taken from the body.
    pub device: Option<String>,
    /// The module that the hub has authenticated.
    pub module: Option<String>,
    /// What kind of event it is.
    pub source: MessageSource,
    /// The body as the device has sent it; empty if it is not one piece of bytes.
    pub body: Bytes,
    /// Type of the body, as the device has declared it.
    pub content_type: Option<String>,
    /// Encoding of the body, as the device has declared it.
    pub content_encoding: Option<String>,
    /// Id that the device has given the message.
    pub message_id: Option<String>,
    /// Properties that the device has added; values that are no text are written as text.
    pub properties: BTreeMap<String, String>,
}
