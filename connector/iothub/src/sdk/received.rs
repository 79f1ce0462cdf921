//! An event as the SDK hands it out → [`Event`]. Pure.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use azure_core_amqp::message::{
    AmqpAnnotationKey, AmqpMessageBody, AmqpMessageId, AmqpMessageProperties,
};
use azure_messaging_eventhubs::models::{AmqpMessage, AmqpSimpleValue, AmqpValue};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;

use crate::{Event, HubError, MessageSource, Offset};

// Event Hubs' own annotations.
const OFFSET: &str = "x-opt-offset";
const SEQUENCE: &str = "x-opt-sequence-number";
const ENQUEUED: &str = "x-opt-enqueued-time";
// IoT Hub's (Microsoft Learn, "Read device-to-cloud messages from the built-in endpoint").
const DEVICE: &str = "iothub-connection-device-id";
const MODULE: &str = "iothub-connection-module-id";
const SOURCE: &str = "iothub-message-source";

/// Reads an event. Fails if the hub has not said where it stands in its partition: it could not be
/// checkpointed.
pub(super) fn event(message: &AmqpMessage) -> Result<Event, HubError> {
    let mut offset = None;
    let mut sequence = None;
    let mut enqueued_ms = 0;
    let (mut device, mut module) = (None, None);
    let mut source = MessageSource::Other(String::new());
    let annotations = message.message_annotations.iter();
    for (key, value) in annotations.flat_map(|annotations| annotations.0.iter()) {
        let AmqpAnnotationKey::Symbol(name) = key else {
            continue;
        };
        match name.0.as_str() {
            OFFSET => offset = text(value).map(Offset::new),
            SEQUENCE => sequence = whole(value),
            ENQUEUED => {
                if let AmqpValue::TimeStamp(time) = value {
                    enqueued_ms = time.0.map_or(0, unix_ms);
                }
            }
            DEVICE => device = text(value),
            MODULE => module = text(value),
            SOURCE => source = MessageSource::from(text(value).unwrap_or_default().as_str()),
            _ => {}
        }
    }
    let (Some(partition_offset), Some(sequence)) = (offset, sequence) else {
        return Err(HubError::Unexpected {
            what: "reading a partition".into(),
            answer: "an event without offset or sequence number".into(),
        });
    };
    let head = message.properties.as_ref();
    let symbol =
        |field: fn(&AmqpMessageProperties) -> Option<&String>| head.and_then(field).cloned();
    Ok(Event {
        partition_offset,
        sequence,
        enqueued_ms,
        device,
        module,
        source,
        body: body(&message.body),
        content_type: symbol(|head| head.content_type.as_ref().map(|symbol| &symbol.0)),
        content_encoding: symbol(|head| head.content_encoding.as_ref().map(|symbol| &symbol.0)),
        message_id: head.and_then(|head| head.message_id.as_ref()).map(id),
        properties: properties(message),
    })
}

/// Milliseconds since 1970; what lies before is negative.
pub(super) fn unix_ms(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => {
            i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |before| -before)
        }
    }
}

fn body(body: &AmqpMessageBody) -> Bytes {
    match body {
        AmqpMessageBody::Binary(sections) => match sections.as_slice() {
            [one] => Bytes::copy_from_slice(one),
            _ => Bytes::new(),
        },
        _ => Bytes::new(),
    }
}

fn properties(message: &AmqpMessage) -> BTreeMap<String, String> {
    message
        .application_properties
        .iter()
        .flat_map(|properties| properties.0.iter())
        .map(|(name, value)| (name.clone(), written(value)))
        .collect()
}

/// A text that is not empty.
fn text(value: &AmqpValue) -> Option<String> {
    let text = match value {
        AmqpValue::String(text) => text,
        AmqpValue::Symbol(symbol) => &symbol.0,
        _ => return None,
    };
    Some(text.clone()).filter(|text| !text.is_empty())
}

fn whole(value: &AmqpValue) -> Option<i64> {
    match value {
        AmqpValue::Long(number) => Some(*number),
        AmqpValue::Int(number) => Some(i64::from(*number)),
        AmqpValue::UInt(number) => Some(i64::from(*number)),
        AmqpValue::ULong(number) => i64::try_from(*number).ok(),
        _ => None,
    }
}

fn id(id: &AmqpMessageId) -> String {
    match id {
        AmqpMessageId::String(text) => text.clone(),
        AmqpMessageId::Uuid(uuid) => uuid.to_string(),
        AmqpMessageId::Binary(bytes) => STANDARD.encode(bytes),
        AmqpMessageId::Ulong(number) => number.to_string(),
    }
}

/// A value as text. Devices send texts; other kinds come from routes and from the hub itself.
fn written(value: &AmqpSimpleValue) -> String {
    match value {
        AmqpSimpleValue::String(text) => text.clone(),
        AmqpSimpleValue::Symbol(symbol) => symbol.0.clone(),
        AmqpSimpleValue::Null => String::new(),
        AmqpSimpleValue::Boolean(value) => value.to_string(),
        AmqpSimpleValue::Char(value) => value.to_string(),
        AmqpSimpleValue::UByte(value) => value.to_string(),
        AmqpSimpleValue::Byte(value) => value.to_string(),
        AmqpSimpleValue::UShort(value) => value.to_string(),
        AmqpSimpleValue::Short(value) => value.to_string(),
        AmqpSimpleValue::UInt(value) => value.to_string(),
        AmqpSimpleValue::Int(value) => value.to_string(),
        AmqpSimpleValue::ULong(value) => value.to_string(),
        AmqpSimpleValue::Long(value) => value.to_string(),
        AmqpSimpleValue::Float(value) => value.to_string(),
        AmqpSimpleValue::Double(value) => value.to_string(),
        AmqpSimpleValue::Uuid(value) => value.to_string(),
        // As milliseconds since 1970, like everywhere here.
        AmqpSimpleValue::TimeStamp(time) => time
            .0
            .map_or_else(String::new, |time| unix_ms(time).to_string()),
        AmqpSimpleValue::Binary(bytes) => STANDARD.encode(bytes),
        AmqpSimpleValue::Decimal128(bytes) => STANDARD.encode(bytes),
        AmqpSimpleValue::Decimal64(bytes) => STANDARD.encode(bytes),
        AmqpSimpleValue::Decimal32(bytes) => STANDARD.encode(bytes),
        AmqpSimpleValue::Described(described) => format!("{described:?}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use azure_core_amqp::{
        AmqpSymbol, AmqpTimestamp,
        message::{AmqpAnnotations, AmqpApplicationProperties},
    };

    use super::*;

    fn at(ms: u64) -> AmqpTimestamp {
        AmqpTimestamp(Some(UNIX_EPOCH + Duration::from_millis(ms)))
    }

    fn annotated(pairs: Vec<(&str, AmqpValue)>) -> AmqpMessage {
        let mut annotations = AmqpAnnotations::new();
        for (name, value) in pairs {
            annotations.insert(AmqpSymbol::from(name), value);
        }
        AmqpMessage {
            message_annotations: Some(annotations),
            ..AmqpMessage::default()
        }
    }

    fn placed() -> Vec<(&'static str, AmqpValue)> {
        vec![
            (OFFSET, AmqpValue::from("4294967296")),
            (SEQUENCE, AmqpValue::Long(17)),
            (ENQUEUED, AmqpValue::TimeStamp(at(1_764_000_000_123))),
        ]
    }

    #[test]
    fn an_event_of_a_device_is_read_whole() {
        let mut pairs = placed();
        pairs.extend([
            (DEVICE, AmqpValue::from("pump-1")),
            (MODULE, AmqpValue::from("m")),
            (SOURCE, AmqpValue::from("Telemetry")),
            ("iothub-enqueuedtime", AmqpValue::TimeStamp(at(1))),
        ]);
        let mut message = annotated(pairs);
        message.body = AmqpMessageBody::Binary(vec![b"{}".to_vec()]);
        let mut own = AmqpApplicationProperties::new();
        own.insert("colour".into(), "red");
        own.insert("count".into(), AmqpSimpleValue::Int(-3));
        own.insert("since".into(), AmqpSimpleValue::TimeStamp(at(5)));
        message.application_properties = Some(own);
        message.properties = Some(AmqpMessageProperties {
            message_id: Some(AmqpMessageId::String("m-1".into())),
            content_type: Some("application/json".into()),
            content_encoding: Some("utf-8".into()),
            ..AmqpMessageProperties::default()
        });
        let texts = [("colour", "red"), ("count", "-3"), ("since", "5")];
        assert_eq!(
            event(&message).unwrap(),
            Event {
                partition_offset: Offset::new("4294967296"),
                sequence: 17,
                enqueued_ms: 1_764_000_000_123,
                device: Some("pump-1".into()),
                module: Some("m".into()),
                source: MessageSource::Telemetry,
                body: Bytes::from_static(b"{}"),
                content_type: Some("application/json".into()),
                content_encoding: Some("utf-8".into()),
                message_id: Some("m-1".into()),
                properties: texts
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect(),
            }
        );
    }

    #[test]
    fn what_is_not_there_is_empty() {
        let mut message = annotated(placed());
        for body in [
            AmqpMessageBody::Empty,
            AmqpMessageBody::Value(AmqpValue::Long(1)),
            AmqpMessageBody::Binary(vec![vec![1], vec![2]]),
        ] {
            message.body = body;
            let event = event(&message).unwrap();
            assert!(event.body.is_empty());
            assert_eq!(event.device, None);
            assert_eq!(event.source, MessageSource::Other(String::new()));
            assert!(event.properties.is_empty());
        }
    }

    #[test]
    fn an_event_without_a_place_is_an_error() {
        for left_out in [OFFSET, SEQUENCE] {
            let mut pairs = placed();
            pairs.retain(|(name, _)| *name != left_out);
            let error = event(&annotated(pairs)).unwrap_err();
            assert!(matches!(error, HubError::Unexpected { .. }));
        }
    }

    #[test]
    fn times_before_1970_are_negative() {
        assert_eq!(unix_ms(UNIX_EPOCH - Duration::from_millis(5)), -5);
        assert_eq!(unix_ms(UNIX_EPOCH), 0);
    }
}
