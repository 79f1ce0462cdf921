//! Messages as peers send them, and the answers that services give.

use bytes::{Bytes, BytesMut};
use serde_amqp::Value;

use super::{
    decode::{Fields, Map, described, take_value},
    encode::{self, Items},
    error::{AmqpError, condition},
};

const HEADER: u64 = 0x70;
const DELIVERY_ANNOTATIONS: u64 = 0x71;
const MESSAGE_ANNOTATIONS: u64 = 0x72;
const PROPERTIES: u64 = 0x73;
const APPLICATION_PROPERTIES: u64 = 0x74;
const DATA: u64 = 0x75;
const SEQUENCE: u64 = 0x76;
const VALUE: u64 = 0x77;
const FOOTER: u64 = 0x78;

/// A message's body.
#[derive(Debug, Clone, Default)]
pub(crate) enum Body {
    /// None.
    #[default]
    Empty,
    /// Bytes; several data sections are one.
    Data(Bytes),
    /// An AMQP value or sequence.
    Value(Value),
}

/// A message that has arrived.
#[derive(Debug, Clone, Default)]
pub(crate) struct Message {
    /// The section *properties*, by index.
    pub(crate) properties: Fields,
    /// The section *application-properties*.
    pub(crate) application: Map,
    /// The body.
    pub(crate) body: Body,
}

impl Message {
    pub(super) fn decode(mut bytes: Bytes) -> Result<Self, AmqpError> {
        let mut message = Self::default();
        while !bytes.is_empty() {
            let (section, value) = described(take_value(&mut bytes)?)?;
            match (section, value) {
                (HEADER | DELIVERY_ANNOTATIONS | MESSAGE_ANNOTATIONS | FOOTER, _) => {}
                (PROPERTIES, value) => message.properties = Fields::of(value)?,
                (APPLICATION_PROPERTIES, Value::Map(map)) => message.application = map,
                (DATA, Value::Binary(data)) => {
                    message.body = Body::Data(match message.body {
                        Body::Data(first) => [&first[..], &data[..]].concat().into(),
                        Body::Empty | Body::Value(_) => data.to_vec().into(),
                    });
                }
                (SEQUENCE | VALUE, value) => message.body = Body::Value(value),
                _ => {
                    return Err(AmqpError::new(
                        condition::DECODE_ERROR,
                        format!("section {section:#x} is not understood"),
                    ));
                }
            }
        }
        Ok(message)
    }

    /// `message-id`, in the type that it came in.
    pub(crate) fn id(&mut self) -> Value {
        self.properties.take(0)
    }

    /// `reply-to`.
    pub(crate) fn reply_to(&mut self) -> Option<String> {
        self.properties.text(4)
    }
}

/// Encodes the answer to a request: its status, and a map as the body if `fill` is given.
pub(crate) fn answer(
    correlation: &Value,
    status: i32,
    text: &str,
    fill: Option<&dyn Fn(&mut Items<'_>)>,
) -> Bytes {
    let mut out = BytesMut::new();
    encode::described(&mut out, 0x73, |properties| {
        properties.nulls(5).value(correlation).nulls(7);
    });
    encode::described_map(&mut out, 0x74, |map| {
        // Two spellings: `$cbs` and `$management` differ from client to client.
        map.string("status-code").int(status);
        map.string("statusCode").int(status);
        map.string("status-description").string(text);
        map.string("statusDescription").string(text);
    });
    match fill {
        Some(fill) => {
            encode::descriptor(&mut out, 0x77);
            encode::map(&mut out, fill);
        }
        None => {
            encode::descriptor(&mut out, 0x77);
            encode::null(&mut out);
        }
    }
    out.freeze()
}
