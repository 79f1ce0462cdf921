//! Hub event → telemetry of a device. Pure.

use std::sync::Arc;

use iothub::{Event, MessageSource};
use serde_json::{Map, Value as Json};

/// What a device, or a module of it, has said.
#[derive(Debug, Clone)]
pub struct Telemetry {
    /// The Thing: named after the device that the hub says has sent the message.
    pub thing: Arc<str>,
    /// Remote property name → value.
    pub fields: Map<String, Json>,
    /// When the hub took the message, in milliseconds since 1970.
    pub time_ms: i64,
    /// Its place in the partition.
    pub sequence: i64,
    /// Size of the body.
    pub bytes: usize,
}

/// Why an event is no telemetry that could be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// The hub did not say which device sent it.
    #[error("the hub names no device for this message")]
    NoDevice,
    /// A kind of message that this connector does not carry.
    #[error("messages of source {0} are not carried")]
    Kind(String),
    /// The body is no JSON.
    #[error("the body is no JSON: {0}")]
    NotJson(String),
    /// The body is JSON, but not an object of property names and values.
    #[error("the body is a JSON {0}; an object of property names and values is needed")]
    NotAnObject(&'static str),
}

/// Decodes an event. The device comes from the hub's annotation, never from the body.
///
/// # Errors
/// [`Undecodable`] if the event can never be written.
pub fn decode(event: &Event) -> Result<Telemetry, Undecodable> {
    let device = event.device.as_deref().ok_or(Undecodable::NoDevice)?;
    match &event.source {
        MessageSource::Telemetry => {}
        other => return Err(Undecodable::Kind(format!("{other:?}"))),
    }
    let body: Json = serde_json::from_slice(&event.body)
        .map_err(|error| Undecodable::NotJson(error.to_string()))?;
    let fields = match body {
        Json::Object(fields) => fields,
        Json::Array(_) => return Err(Undecodable::NotAnObject("array")),
        Json::String(_) => return Err(Undecodable::NotAnObject("string")),
        Json::Number(_) => return Err(Undecodable::NotAnObject("number")),
        Json::Bool(_) => return Err(Undecodable::NotAnObject("boolean")),
        Json::Null => return Err(Undecodable::NotAnObject("null")),
    };
    let fields = match event.module.as_deref() {
        None => fields,
        Some(module) => fields
            .into_iter()
            .map(|(name, value)| (format!("{module}::{name}"), value))
            .collect(),
    };
    Ok(Telemetry {
        thing: device.into(),
        fields,
        time_ms: event.enqueued_ms,
        sequence: event.sequence,
        bytes: event.body.len(),
    })
}
