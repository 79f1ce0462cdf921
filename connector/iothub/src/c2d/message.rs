//! A cloud-to-device message, and its AMQP form.

use std::collections::BTreeMap;

use bytes::Bytes;
use fe2o3_amqp_types::{
    messaging::{ApplicationProperties, Data, Message, Properties},
    primitives::{Binary, Symbol, Timestamp},
};
use percent_encoding::utf8_percent_encode;

use crate::sas::COMPONENT;

/// Largest body (Microsoft Learn, "Send cloud-to-device messages from an IoT hub").
pub(super) const BODY_MAX: usize = 64 * 1024;

/// The application property that asks for feedback.
const ACK: &str = "iothub-ack";

/// What feedback the hub is to give about a message (application property `iothub-ack`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ack {
    /// None.
    #[default]
    None,
    /// When the device has completed it.
    Positive,
    /// When it has expired or was rejected.
    Negative,
    /// In both cases.
    Full,
}

impl Ack {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Positive => "positive",
            Self::Negative => "negative",
            Self::Full => "full",
        }
    }
}

/// A cloud-to-device message. At most 64 KiB with its properties.
#[derive(Debug, Clone, PartialEq)]
pub struct C2dMessage {
    /// The device that gets it.
    pub device: String,
    /// Its id; the same over retries, so that the device can tell.
    pub message_id: String,
    /// Type of the body.
    pub content_type: Option<String>,
    /// Encoding of the body.
    pub content_encoding: Option<String>,
    /// The body.
    pub body: Bytes,
    /// When the hub drops it undelivered, in milliseconds since 1970; else the hub's default (1 h).
    pub expiry_ms: Option<i64>,
    /// What feedback the hub is to give.
    pub ack: Ack,
    /// Properties that the device sees.
    pub properties: BTreeMap<String, String>,
}

/// As it goes over the link `/messages/devicebound`.
pub(super) fn encode(message: C2dMessage) -> Message<Data> {
    let C2dMessage {
        device,
        message_id,
        content_type,
        content_encoding,
        body,
        expiry_ms,
        ack,
        properties,
    } = message;
    let device = utf8_percent_encode(&device, COMPONENT);
    let mut head = Properties::new();
    head.message_id = Some(message_id.into());
    head.to = Some(format!("/devices/{device}/messages/devicebound"));
    head.content_type = content_type.map(Symbol::from);
    head.content_encoding = content_encoding.map(Symbol::from);
    head.absolute_expiry_time = expiry_ms.map(Timestamp::from_milliseconds);
    let mut own = ApplicationProperties::builder();
    for (name, value) in properties {
        own = own.insert(name, value);
    }
    // Last: a property of that name means nothing else to the hub.
    let own = own.insert(ACK, ack.name()).build();
    Message::builder()
        .properties(head)
        .application_properties(own)
        .data(Binary::from(body.to_vec()))
        .build()
}

#[cfg(test)]
mod tests {
    use fe2o3_amqp_types::{messaging::MessageId, primitives::SimpleValue};

    use super::*;

    #[test]
    fn a_message_is_written_as_the_hub_reads_it() {
        let message = encode(C2dMessage {
            device: "pump 1/ä".into(),
            message_id: "m-1".into(),
            content_type: Some("application/json".into()),
            content_encoding: Some("utf-8".into()),
            body: Bytes::from_static(b"{}"),
            expiry_ms: Some(1_764_000_000_000),
            ack: Ack::Negative,
            properties: BTreeMap::from([
                ("colour".into(), "red".into()),
                ("iothub-ack".into(), "full".into()),
            ]),
        });
        let head = message.properties.unwrap();
        assert_eq!(head.message_id, Some(MessageId::String("m-1".into())));
        assert_eq!(
            head.to.as_deref(),
            Some("/devices/pump%201%2F%C3%A4/messages/devicebound")
        );
        assert_eq!(head.content_type, Some(Symbol::from("application/json")));
        assert_eq!(head.content_encoding, Some(Symbol::from("utf-8")));
        assert_eq!(
            head.absolute_expiry_time,
            Some(Timestamp::from_milliseconds(1_764_000_000_000))
        );
        let own = message.application_properties.unwrap();
        let text = |name: &str| match own.get(name) {
            Some(SimpleValue::String(text)) => Some(text.clone()),
            _ => None,
        };
        assert_eq!(text("colour").as_deref(), Some("red"));
        assert_eq!(text("iothub-ack").as_deref(), Some("negative"));
        assert_eq!(message.body.0.as_ref(), b"{}");
    }
}
