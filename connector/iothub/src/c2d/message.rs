//! A cloud-to-device message.

use std::collections::BTreeMap;

use bytes::Bytes;

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
