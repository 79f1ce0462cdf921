//! What the hub itself says of a device: created, deleted, twin changed, connected, disconnected. Pure.
//!
//! Sources: Microsoft Learn, "IoT Hub non-telemetry event schemas"; "React to IoT Hub events by using
//! Event Grid" for connection states.

use std::sync::Arc;

use iothub::{Event, MessageSource};
use serde_json::Value as Json;

use super::{decode::Content, twin::Change};

// Application properties that the hub sets on its own events.
const DEVICE: &str = "deviceId";
const MODULE: &str = "moduleId";
const OPERATION: &str = "opType";

/// A change of a twin.
#[derive(Debug, Clone)]
pub struct TwinChange {
    /// The module; none for the device's own twin.
    pub module: Option<Arc<str>>,
    /// What has changed.
    pub change: Change,
    /// When, in milliseconds since 1970.
    pub time_ms: i64,
}

/// A device was created or deleted.
#[derive(Debug, Clone, PartialEq)]
pub struct Lifecycle {
    /// The hub's word for it, such as `createDeviceIdentity`.
    pub status: String,
    /// The twin at that time.
    pub twin: Json,
}

/// A device, or a module of it, has connected or disconnected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionChange {
    /// The module; none for the device itself.
    pub module: Option<Arc<str>>,
    /// It has connected.
    pub connected: bool,
    /// Orders the changes of one device; none if the hub has not said.
    pub order: Option<Order>,
    /// When, in milliseconds since 1970.
    pub time_ms: i64,
}

/// The hub's `sequenceNumber` of a connection state: a long hexadecimal number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order {
    // In this order, so that comparing the fields compares the numbers.
    length: usize,
    digits: String,
}

/// Longest number that is taken; the hub writes 56 digits.
const MAX_DIGITS: usize = 128;

impl Order {
    fn read(body: &Json) -> Option<Self> {
        let text = body.get("sequenceNumber")?.as_str()?;
        let fits = text.len() <= MAX_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        fits.then(|| {
            let digits = text.trim_start_matches('0').to_ascii_uppercase();
            Self {
                length: digits.len(),
                digits,
            }
        })
    }
}

/// The device that one of the hub's own events is about. Application properties can be believed here:
/// the hub sets the source, and no device can send an event of these sources.
#[must_use]
pub fn device(event: &Event) -> Option<&str> {
    named(event.device.as_deref(), event, DEVICE)
}

fn named<'a>(annotation: Option<&'a str>, event: &'a Event, property: &str) -> Option<&'a str> {
    let property = || event.properties.get(property).map(String::as_str);
    annotation.or_else(property).filter(|name| !name.is_empty())
}

/// Reads one of the hub's own events; `None` if its operation is not known.
#[must_use]
pub fn read(event: &Event, body: Json, time_ms: i64) -> Option<Content> {
    let module = named(event.module.as_deref(), event, MODULE).map(Arc::from);
    let operation = event.properties.get(OPERATION)?;
    let is = |known: &str| operation.eq_ignore_ascii_case(known);
    match event.source {
        MessageSource::DeviceLifecycleEvents => Some(Content::Lifecycle(Lifecycle {
            status: operation.clone(),
            twin: body,
        })),
        MessageSource::TwinChangeEvents => {
            let replace = is("replaceTwin");
            (replace || is("updateTwin")).then(|| {
                Content::Twin(TwinChange {
                    module,
                    change: Change::new(body, replace),
                    time_ms,
                })
            })
        }
        MessageSource::DeviceConnectionStateEvents => {
            let connected = is("deviceConnected") || is("moduleConnected");
            (connected || is("deviceDisconnected") || is("moduleDisconnected")).then(|| {
                Content::Connection(ConnectionChange {
                    module,
                    connected,
                    order: Order::read(&body),
                    time_ms,
                })
            })
        }
        MessageSource::Telemetry | MessageSource::Other(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sequence_numbers_are_compared_as_numbers() {
        let order = |text: &str| Order::read(&json!({ "sequenceNumber": text }));
        let rising = [
            "0",
            "00000000000000000001D4132452F67CE200000002000000000000000000000001",
            "00000000000000000001D4132452F67CE200000002000000000000000000000002",
            "00000000000000000001d4132452f67ce20000000200000000000000000000000a",
            "1000000000000000000000D4132452F67CE200000002000000000000000000000001",
        ];
        for pair in rising.windows(2) {
            assert!(order(pair[0]) < order(pair[1]), "{pair:?}");
        }
        for odd in ["no number", &"1".repeat(MAX_DIGITS + 1)] {
            assert_eq!(order(odd), None);
        }
    }
}
