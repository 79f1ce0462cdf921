//! A letter and its form: a line of JSON. Pure.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use iothub::{Event, MessageSource, PartitionId};
use jiff::Timestamp;
use serde::Serialize;

use super::super::{notice, pass::Why};

/// Raised when a field changes its meaning.
const FORMAT: u32 = 1;
/// What an event takes in memory beside what the device chose, about: itself, its offset and the device's
/// name.
const BESIDE: usize = 512;

/// A message that can never be written, and why.
#[derive(Debug, Clone)]
pub struct Passed {
    /// The message, as it came.
    pub event: Arc<Event>,
    /// What is wrong with it: seldom more than one reason.
    pub why: Vec<Arc<Why>>,
}

/// A message that can never be written, as it is kept.
#[derive(Debug, Clone)]
pub struct Letter {
    passed: Passed,
    /// Empty if the hub names no device.
    thing: Arc<str>,
    partition: PartitionId,
    at: Timestamp,
}

/// What an event takes in memory, in bytes, about.
#[must_use]
pub fn size(event: &Event) -> usize {
    let texts = event.properties.iter();
    let texts: usize = texts.map(|(name, value)| name.len() + value.len()).sum();
    event.body.len() + texts + BESIDE
}

impl Letter {
    /// The letter of what is passed now.
    #[must_use]
    pub fn of(passed: Passed, thing: Arc<str>, partition: PartitionId) -> Self {
        Self {
            passed,
            thing,
            partition,
            at: Timestamp::now(),
        }
    }

    /// What it takes in memory, in bytes, about.
    #[must_use]
    pub fn size(&self) -> usize {
        size(&self.passed.event)
    }

    /// Its line, with the end of the line. `connector` is the name of the connector's own Thing.
    #[must_use]
    pub fn line(&self, connector: &str) -> Vec<u8> {
        let Self {
            passed: Passed { event, why },
            thing,
            partition,
            at,
        } = self;
        let Event {
            partition_offset,
            sequence,
            enqueued_ms,
            device: _,
            module,
            source,
            body,
            content_type,
            content_encoding,
            message_id,
            properties,
        } = event.as_ref();
        let text = std::str::from_utf8(body).ok();
        let line = Line {
            format: FORMAT,
            passed_at: shown(*at),
            connector,
            why: why.iter().map(|why| Reason::of(why)).collect(),
            thing,
            // Of the hub's own events it is the one that they are about.
            device: match source {
                MessageSource::Telemetry | MessageSource::Other(_) => event.device.as_deref(),
                _ => notice::device(event),
            },
            module: module.as_deref(),
            partition: partition.as_str(),
            sequence_number: *sequence,
            offset: partition_offset.as_str(),
            enqueued_at: Timestamp::from_millisecond(*enqueued_ms).map(shown).ok(),
            source: named(source),
            message_id: message_id.as_deref(),
            content_type: content_type.as_deref(),
            content_encoding: content_encoding.as_deref(),
            properties,
            body: text,
            body_base64: text.is_none().then(|| STANDARD.encode(body)),
        };
        let mut bytes = Vec::with_capacity(body.len() + BESIDE);
        // Texts and numbers always have a form, and memory takes it.
        let _ = serde_json::to_writer(&mut bytes, &line);
        bytes.push(b'\n');
        bytes
    }
}

fn shown(time: Timestamp) -> String {
    format!("{time:.3}")
}

/// The hub's own name of a source.
fn named(source: &MessageSource) -> &str {
    match source {
        MessageSource::Telemetry => "Telemetry",
        MessageSource::DeviceLifecycleEvents => "deviceLifecycleEvents",
        MessageSource::TwinChangeEvents => "twinChangeEvents",
        MessageSource::DeviceConnectionStateEvents => "deviceConnectionStateEvents",
        MessageSource::Other(name) => name,
    }
}

/// The fields in their order; `docs/dead-letters.md` tells of each.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    format: u32,
    passed_at: String,
    connector: &'a str,
    why: Vec<Reason<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    thing: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    module: Option<&'a str>,
    partition: &'a str,
    sequence_number: i64,
    offset: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    enqueued_at: Option<String>,
    source: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_encoding: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    properties: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

#[derive(Serialize)]
struct Reason<'a> {
    reason: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    values: &'a [String],
}

impl<'a> Reason<'a> {
    fn of(why: &'a Why) -> Self {
        let Why {
            reason,
            message,
            values,
        } = why;
        Self {
            reason: reason.label(),
            message,
            values,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use iothub::Offset;

    use super::{super::super::pass, *};

    /// A letter of the event with this sequence number and body.
    pub fn letter(sequence: i64, body: impl Into<Vec<u8>>) -> Letter {
        let event = Event {
            partition_offset: Offset::new("4294967296"),
            sequence,
            enqueued_ms: 1_700_000_000_005,
            device: Some("pump-1".into()),
            module: None,
            source: MessageSource::Telemetry,
            body: body.into().into(),
            content_type: None,
            content_encoding: None,
            message_id: None,
            properties: BTreeMap::new(),
        };
        let why = Why {
            reason: pass::Reason::Protocol,
            message: "the body is no JSON".into(),
            values: Vec::new(),
        };
        let passed = Passed {
            event: Arc::new(event),
            why: vec![Arc::new(why)],
        };
        let mut letter = Letter::of(passed, "pump-1".into(), PartitionId::new("3"));
        letter.at = Timestamp::from_millisecond(1_700_000_001_000).unwrap();
        letter
    }

    fn line(letter: &Letter) -> String {
        String::from_utf8(letter.line("AzureIot-me")).unwrap()
    }

    const HEAD: &str =
        r#"{"format":1,"passedAt":"2023-11-14T22:13:21.000Z","connector":"AzureIot-me","why":"#;

    #[test]
    fn a_letter_is_one_line_with_the_message_as_it_came() {
        let expected = r#"[{"reason":"protocol","message":"the body is no JSON"}],"thing":"pump-1","device":"pump-1","partition":"3","sequenceNumber":17,"offset":"4294967296","enqueuedAt":"2023-11-14T22:13:20.005Z","source":"Telemetry","body":"no \"JSON\"\n"}"#;
        assert_eq!(
            line(&letter(17, "no \"JSON\"\n")),
            format!("{HEAD}{expected}\n")
        );
    }

    #[test]
    fn a_letter_names_all_that_the_device_said_of_the_message_and_each_reason() {
        let mut full = letter(17, b"\xff\x00".to_vec());
        let event = Arc::get_mut(&mut full.passed.event).unwrap();
        event.module = Some("cam".into());
        event.content_type = Some("application/json".into());
        event.content_encoding = Some("gzip".into());
        event.message_id = Some("m-1".into());
        event.properties.insert("colour".into(), "red".into());
        full.passed.why.push(Arc::new(Why {
            reason: pass::Reason::WriteProperty,
            message: "refused".into(),
            values: vec!["a".into(), "b".into()],
        }));
        let expected = r#"[{"reason":"protocol","message":"the body is no JSON"},{"reason":"write_property","message":"refused","values":["a","b"]}],"thing":"pump-1","device":"pump-1","module":"cam","partition":"3","sequenceNumber":17,"offset":"4294967296","enqueuedAt":"2023-11-14T22:13:20.005Z","source":"Telemetry","messageId":"m-1","contentType":"application/json","contentEncoding":"gzip","properties":{"colour":"red"},"bodyBase64":"/wA="}"#;
        assert_eq!(line(&full), format!("{HEAD}{expected}\n"));
    }

    #[test]
    fn the_hubs_own_events_name_the_device_that_they_are_about() {
        let mut told = letter(1, "{}");
        let event = Arc::get_mut(&mut told.passed.event).unwrap();
        event.device = None;
        event.source = MessageSource::TwinChangeEvents;
        event.properties.insert("deviceId".into(), "pump-2".into());
        let text = line(&told);
        assert!(text.contains(r#""device":"pump-2""#), "{text}");
        assert!(text.contains(r#""source":"twinChangeEvents""#), "{text}");
        let event = Arc::get_mut(&mut told.passed.event).unwrap();
        event.source = MessageSource::Telemetry;
        told.thing = "".into();
        let text = line(&told);
        assert!(
            !text.contains(r#""device":"#) && !text.contains(r#""thing":"#),
            "a device may set any property: {text}"
        );
    }
}
