//! Property bags: a message's properties, written at the end of its topic like a query.
//!
//! Source: Microsoft Learn, "Communicate with an IoT hub using the MQTT protocol", sections on
//! sending and receiving messages. System properties have names that begin with `$.`; SDKs differ in
//! whether they encode the `$`.

use std::collections::HashMap;

use jiff::{Timestamp, civil, tz::TimeZone};
use percent_encoding::{
    AsciiSet, NON_ALPHANUMERIC, PercentEncode, percent_decode_str, utf8_percent_encode,
};

use crate::c2d::C2dMessage;

/// What RFC 3986 leaves unescaped.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// What a device says about a message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Bag {
    /// `$.mid`.
    pub(super) message_id: Option<String>,
    /// `$.cid`.
    pub(super) correlation_id: Option<String>,
    /// `$.uid`.
    pub(super) user_id: Option<String>,
    /// `$.ct`; ASCII.
    pub(super) content_type: Option<String>,
    /// `$.ce`; ASCII.
    pub(super) content_encoding: Option<String>,
    /// `$.exp`; Unix milliseconds.
    pub(super) expires: Option<i64>,
    /// `$.ctime`; Unix milliseconds.
    pub(super) created: Option<i64>,
    /// All others; each name once.
    pub(super) custom: Vec<(String, String)>,
}

/// Not a property bag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadBag;

impl Bag {
    /// Reads a bag. Of a name that comes twice the last counts; a name alone has the value "".
    pub(super) fn parse(text: &str) -> Result<Self, BadBag> {
        let mut bag = Self::default();
        let mut places = HashMap::new();
        // Slashes within names and values are encoded; one at the end is the topic's.
        let text = text.strip_prefix('?').unwrap_or(text);
        let text = text.strip_suffix('/').unwrap_or(text);
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            match name.as_str() {
                "$.mid" => bag.message_id = Some(value),
                "$.cid" => bag.correlation_id = Some(value),
                "$.uid" => bag.user_id = Some(value),
                "$.ct" => bag.content_type = Some(ascii(value)?),
                "$.ce" => bag.content_encoding = Some(ascii(value)?),
                "$.exp" => bag.expires = Some(milliseconds(&value)?),
                "$.ctime" => bag.created = Some(milliseconds(&value)?),
                // Outputs of edge modules, interfaces: names that only other services read.
                system if system.starts_with("$.") => {}
                _ => match places.get(&name) {
                    Some(&place) => {
                        let (_, old): &mut (String, String) = &mut bag.custom[place];
                        *old = value;
                    }
                    None => {
                        places.insert(name.clone(), bag.custom.len());
                        bag.custom.push((name, value));
                    }
                },
            }
        }
        Ok(bag)
    }
}

fn decode(text: &str) -> Result<String, BadBag> {
    // `+` stands for itself: the SDKs write a space as %20.
    let text = percent_decode_str(text).decode_utf8().map_err(|_| BadBag)?;
    Ok(text.into_owned())
}

/// What becomes an AMQP symbol.
fn ascii(text: String) -> Result<String, BadBag> {
    if text.is_ascii() {
        Ok(text)
    } else {
        Err(BadBag)
    }
}

/// ISO 8601; without a zone it is UTC, as Python's `isoformat` of a naive time means here.
fn milliseconds(text: &str) -> Result<i64, BadBag> {
    let instant = text.parse::<Timestamp>().or_else(|_| {
        let civil: civil::DateTime = text.parse()?;
        TimeZone::UTC.to_timestamp(civil)
    });
    instant.map(Timestamp::as_millisecond).map_err(|_| BadBag)
}

/// Percent-encodes a name or value.
pub(super) fn encode(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, UNRESERVED)
}

/// Writes the bag of a cloud-to-device message.
pub(super) fn of_c2d(message: &C2dMessage) -> String {
    let expires = message
        .expires
        .and_then(|at| Timestamp::from_millisecond(at).ok())
        .map(|at| format!("{at:.3}"));
    let system = [
        ("$.to", Some(&message.to)),
        ("$.mid", message.message_id.as_ref()),
        ("$.exp", expires.as_ref()),
        ("$.cid", message.correlation_id.as_ref()),
        ("$.uid", message.user_id.as_ref()),
        ("$.ct", message.content_type.as_ref()),
        ("$.ce", message.content_encoding.as_ref()),
    ];
    let custom = message.properties.iter();
    system
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?.as_str())))
        .chain(custom.map(|(name, value)| (name.as_str(), value.as_str())))
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect::<Vec<_>>()
        .join("&")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn custom(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect()
    }

    #[test]
    fn reads_what_the_sdks_write() {
        for (text, expected) in [
            ("", Bag::default()),
            ("/", Bag::default()),
            (
                "%24.mid=m%201&%24.cid=c&$.uid=u&%24%2Ect=application%2Fjson&$.ce=utf-8&a=1&b%26=%3D",
                Bag {
                    message_id: Some("m 1".into()),
                    correlation_id: Some("c".into()),
                    user_id: Some("u".into()),
                    content_type: Some("application/json".into()),
                    content_encoding: Some("utf-8".into()),
                    custom: custom(&[("a", "1"), ("b&", "=")]),
                    ..Bag::default()
                },
            ),
            (
                "?$.ctime=2026-01-02T03%3A04%3A05.678Z&$.exp=2026-01-02T03:04:05/",
                Bag {
                    created: Some(1_767_323_045_678),
                    expires: Some(1_767_323_045_000),
                    ..Bag::default()
                },
            ),
            (
                "alone&empty=&&a=1&a=2&plus=1+1&eq=a=b&$.on=out",
                Bag {
                    custom: custom(&[
                        ("alone", ""),
                        ("empty", ""),
                        ("a", "2"),
                        ("plus", "1+1"),
                        ("eq", "a=b"),
                    ]),
                    ..Bag::default()
                },
            ),
        ] {
            assert_eq!(Bag::parse(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn refuses_what_has_no_meaning() {
        for text in ["a=%ff", "$.ct=%C3%A9", "$.ctime=yesterday", "$.exp=1"] {
            assert_eq!(Bag::parse(text), Err(BadBag), "{text}");
        }
    }

    #[test]
    fn writes_as_the_hub_does() {
        let mut message = C2dMessage {
            message_id: Some("m/1".into()),
            to: "/devices/d/messages/devicebound".into(),
            correlation_id: None,
            user_id: None,
            content_type: None,
            content_encoding: None,
            expires: Some(1_767_323_045_678),
            properties: custom(&[("iothub-ack", "full"), ("ä b", "+")]),
            body: Bytes::new(),
        };
        assert_eq!(
            of_c2d(&message),
            "%24.to=%2Fdevices%2Fd%2Fmessages%2Fdevicebound&%24.mid=m%2F1\
             &%24.exp=2026-01-02T03%3A04%3A05.678Z&iothub-ack=full&%C3%A4%20b=%2B"
        );
        message.expires = Some(i64::MAX);
        assert!(!of_c2d(&message).contains("exp"), "no such time");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let _ = Bag::parse(&text);
        }

        #[test]
        fn any_name_and_value_come_through(name in "[^$].*", value in ".*") {
            let text = format!("{}={}", encode(&name), encode(&value));
            prop_assert_eq!(Bag::parse(&text).unwrap().custom, vec![(name, value)]);
        }
    }
}
