//! A device's message as the event stream keeps it: AMQP sections from the properties on.

use bytes::{Bytes, BytesMut};

use crate::amqp::{Items, binary, described, described_map, descriptor};

use super::bag::Bag;

const PROPERTIES: u8 = 0x73;
const APPLICATION_PROPERTIES: u8 = 0x74;
const DATA: u8 = 0x75;

/// Room for constructors, lengths and nulls; a guess that saves growing.
const OVERHEAD: usize = 128;

/// Encodes a message. IoT Hub keeps no retained messages; it marks those that asked for it.
pub(super) fn sections(bag: &Bag, retain: bool, body: &[u8]) -> Bytes {
    let names: usize = bag.custom.iter().map(|(k, v)| k.len() + v.len() + 10).sum();
    let mut out = BytesMut::with_capacity(OVERHEAD + names + body.len());
    described(&mut out, PROPERTIES, |list| {
        text(list, bag.message_id.as_deref());
        match &bag.user_id {
            Some(user) => list.binary(user.as_bytes()),
            None => list.null(),
        };
        // to, subject, reply-to
        list.nulls(3);
        text(list, bag.correlation_id.as_deref());
        symbol(list, bag.content_type.as_deref());
        symbol(list, bag.content_encoding.as_deref());
        time(list, bag.expires);
        time(list, bag.created);
        // group-id, group-sequence, reply-to-group-id
        list.nulls(3);
    });
    if retain || !bag.custom.is_empty() {
        described_map(&mut out, APPLICATION_PROPERTIES, |map| {
            for (name, value) in &bag.custom {
                if !(retain && name == RETAINED) {
                    map.string(name).string(value);
                }
            }
            if retain {
                map.string(RETAINED).string("true");
            }
        });
    }
    descriptor(&mut out, DATA);
    binary(&mut out, body);
    out.freeze()
}

const RETAINED: &str = "mqtt-retain";

fn text(list: &mut Items<'_>, value: Option<&str>) {
    match value {
        Some(value) => list.string(value),
        None => list.null(),
    };
}

fn symbol(list: &mut Items<'_>, value: Option<&str>) {
    match value {
        Some(value) => list.symbol(value),
        None => list.null(),
    };
}

fn time(list: &mut Items<'_>, value: Option<i64>) {
    match value {
        Some(value) => list.timestamp(value),
        None => list.null(),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_message_is_nulls_and_data() {
        let bytes = sections(&Bag::default(), false, b"hi");
        let mut expected = vec![0x00, 0x53, 0x73, 0xd0, 0, 0, 0, 17, 0, 0, 0, 13];
        expected.extend([0x40; 13]);
        expected.extend([0x00, 0x53, 0x75, 0xa0, 2, b'h', b'i']);
        assert_eq!(bytes[..], expected);
    }

    #[test]
    fn properties_stand_where_amqp_has_them() {
        let bag = Bag::parse("$.mid=m&$.uid=u&$.cid=c&$.ct=t&$.ce=e&k=v").unwrap();
        let bytes = sections(&bag, true, b"");
        let list: &[u8] =
            b"\xa1\x01m\xa0\x01u\x40\x40\x40\xa1\x01c\xa3\x01t\xa3\x01e\x40\x40\x40\x40\x40";
        assert_eq!(&bytes[12..12 + list.len()], list);
        let map: &[u8] = b"\xa1\x01k\xa1\x01v\xa1\x0bmqtt-retain\xa1\x04true\x00\x53\x75\xa0\x00";
        assert!(bytes.ends_with(map), "{bytes:?}");
    }
}
