//! Hub event → what it says of a Thing. Pure.

use std::sync::Arc;

use compact_str::format_compact;
use connector_config::{Messages, ValueTime};
use iothub::{Event, MessageSource};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::{
    body::{self, BadBody, Body},
    date_time::date_time,
    notice::{self, ConnectionChange, Lifecycle, TwinChange},
    quality::Quality,
    said::{Fields, Said},
};

/// One event, as far as it concerns a Thing.
#[derive(Debug, Clone)]
pub struct Message {
    /// The Thing: named after the device that the hub says the event is from, or about.
    pub thing: Arc<str>,
    /// What it says.
    pub content: Content,
    /// Its place in the partition.
    pub sequence: i64,
    /// What it takes in memory, in bytes, about.
    pub bytes: usize,
    /// The event itself, where it may be needed for a letter.
    pub event: Option<Arc<Event>>,
}

/// What an event says.
#[derive(Debug, Clone)]
pub enum Content {
    /// Values, from the device or a module of it.
    Telemetry(Telemetry),
    /// The twin was changed.
    Twin(TwinChange),
    /// The device was created or deleted.
    Lifecycle(Lifecycle),
    /// The device, or a module of it, has connected or disconnected.
    Connection(ConnectionChange),
}

/// What a device, or a module of it, has said.
#[derive(Debug, Clone, Default)]
pub struct Telemetry {
    /// Sets of values in order: one for an object, one for each element of an array.
    pub rows: Vec<Row>,
    /// What of the body fits nothing, whatever the Thing defines.
    pub wrong: Vec<Wrong>,
}

/// A set of values of the same time.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Remote property name → value.
    pub fields: Fields,
    /// When it was so, in milliseconds since 1970.
    pub time_ms: i64,
    /// How far it can be trusted.
    pub quality: Quality,
}

/// A part of a body that does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The key, or the place in an array.
    pub name: String,
    /// The type that it should have.
    pub wanted: &'static str,
    /// What that type needs, in words.
    pub needed: &'static str,
}

/// Why an event can never be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// The hub did not say which device it is from, or about.
    #[error("the hub names no device for this message")]
    NoDevice,
    /// A kind of event that this connector does not carry.
    #[error("messages of source {0} are not carried")]
    Kind(String),
    /// The body cannot be read.
    #[error(transparent)]
    Body(#[from] BadBody),
    /// The body is JSON, but holds no property values.
    #[error(
        "the body is a JSON {0}; an object of property names and values is needed, or several in an array"
    )]
    NotAnObject(&'static str),
    /// The mapping of the settings fails for it.
    #[error("iotHub.messages.mapping fails: {0}")]
    Unmapped(String),
    /// What the mapping of the settings gives cannot be written.
    #[error("what iotHub.messages.mapping gives: {0}")]
    Mapped(Box<Undecodable>),
}

/// Decodes an event. The device comes from the hub, never from the body. `now_ms` is this moment, in
/// milliseconds since 1970.
///
/// # Errors
/// [`Undecodable`] if the event can never be written.
pub fn decode(event: &Event, settings: &Messages, now_ms: i64) -> Result<Message, Undecodable> {
    let base = base(event, settings, now_ms);
    let (device, content, bytes) = match &event.source {
        MessageSource::Telemetry => {
            let device = event.device.as_deref().ok_or(Undecodable::NoDevice)?;
            let Body { json, bytes } = read(event)?;
            let telemetry = telemetry(event, json, settings, base)?;
            (device, Content::Telemetry(telemetry), bytes)
        }
        MessageSource::Other(name) => return Err(Undecodable::Kind(name.clone())),
        MessageSource::DeviceConnectionStateEvents if settings.connection_property.is_none() => {
            return Err(Undecodable::Kind("deviceConnectionStateEvents".to_owned()));
        }
        MessageSource::DeviceLifecycleEvents
        | MessageSource::TwinChangeEvents
        | MessageSource::DeviceConnectionStateEvents => {
            let device = notice::device(event).ok_or(Undecodable::NoDevice)?;
            let Body { json, bytes } = read(event)?;
            let content = notice::read(event, json, base)
                .ok_or_else(|| Undecodable::Kind(format!("{:?}", event.source)))?;
            (device, content, bytes)
        }
    };
    Ok(Message {
        thing: device.into(),
        content,
        sequence: event.sequence,
        bytes,
        event: None,
    })
}

/// Decodes a telemetry event by the text that the mapping of the settings has made of its body.
///
/// # Errors
/// As [`decode`].
pub fn decode_mapped(
    event: &Event,
    text: &str,
    settings: &Messages,
    now_ms: i64,
) -> Result<Message, Undecodable> {
    let base = base(event, settings, now_ms);
    let device = event.device.as_deref().ok_or(Undecodable::NoDevice)?;
    let mapped = |fault| Undecodable::Mapped(Box::new(fault));
    let Body { json, bytes } = body::parse(text).map_err(|bad| mapped(bad.into()))?;
    let telemetry = telemetry(event, json, settings, base).map_err(mapped)?;
    Ok(Message {
        thing: device.into(),
        content: Content::Telemetry(telemetry),
        sequence: event.sequence,
        bytes,
        event: None,
    })
}

/// The time of values that have none of their own.
fn base(event: &Event, settings: &Messages, now_ms: i64) -> i64 {
    match settings.time {
        ValueTime::Processing => now_ms,
        ValueTime::Enqueued | ValueTime::Body | ValueTime::Property => event.enqueued_ms,
    }
}

fn read<T: DeserializeOwned>(event: &Event) -> Result<Body<T>, BadBody> {
    let Event {
        body,
        content_type,
        content_encoding,
        ..
    } = event;
    body::read(body, content_type.as_deref(), content_encoding.as_deref())
}

fn telemetry(
    event: &Event,
    body: Said,
    settings: &Messages,
    base: i64,
) -> Result<Telemetry, Undecodable> {
    let mut telemetry = Telemetry::default();
    let field = settings.time_field.as_deref().unwrap_or_default();
    let mut time_ms = base;
    if settings.time == ValueTime::Property
        && let Some(text) = event.properties.get(field)
    {
        match date_time(&Json::from(text.as_str())) {
            Some(ms) => time_ms = ms,
            None => telemetry.wrong.push(no_time(field.to_owned())),
        }
    }
    let elements = match body {
        Said::Many(elements) => elements,
        Said::One(fields) => vec![Some(fields)],
        Said::Other(kind) => return Err(Undecodable::NotAnObject(kind)),
    };
    let many = elements.len() > 1;
    for (index, element) in elements.into_iter().enumerate() {
        let Some(mut fields) = element else {
            telemetry.wrong.push(Wrong {
                name: format!("[{index}]"),
                wanted: "JSON",
                needed: "an object of property names and values",
            });
            continue;
        };
        if settings.time == ValueTime::Body
            && let Some(place) = fields.iter().position(|(name, _)| name == field)
        {
            let (_, own) = fields.remove(place);
            match date_time(&own) {
                Some(ms) => time_ms = ms,
                None if many => telemetry.wrong.push(no_time(format!("[{index}].{field}"))),
                None => telemetry.wrong.push(no_time(field.to_owned())),
            }
        }
        let mut quality = Quality::default();
        if let Some(field) = &settings.quality_field
            && let Some(place) = fields.iter().position(|(name, _)| name == field)
        {
            let (_, own) = fields.remove(place);
            quality = Quality::read(&own).unwrap_or_else(|| {
                telemetry.wrong.push(Wrong {
                    name: field.clone(),
                    wanted: "STRING",
                    needed: "GOOD, BAD, UNKNOWN, OUT_OF_RANGE or UNVERIFIED_SOURCE; UNKNOWN is taken",
                });
                Quality::Unknown
            });
        }
        let fields = match event.module.as_deref() {
            None => fields,
            Some(module) => fields
                .into_iter()
                .map(|(name, value)| (format_compact!("{module}::{name}"), value))
                .collect(),
        };
        telemetry.rows.push(Row {
            fields,
            time_ms,
            quality,
        });
        // What has no time of its own comes a millisecond after what stands before it: the platform
        // keeps one value of a property for each time.
        time_ms = time_ms.saturating_add(1);
    }
    Ok(telemetry)
}

fn no_time(name: String) -> Wrong {
    Wrong {
        name,
        wanted: "DATETIME",
        needed: "milliseconds since 1970 or an ISO 8601 text; another time is taken",
    }
}

#[cfg(test)]
mod tests;
