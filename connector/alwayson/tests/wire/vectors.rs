//! What other implementations have written is read, and written back byte for byte.

use std::{collections::HashSet, time::Instant};

use alwayson::{
    Assembler, BaseType, Bind, Body, EncodeError, InfoTable, Limits, Message, Request, Response,
    Status, Value, split,
};

use crate::{
    meaning::{answers, asks, built},
    tell,
    vector::{self, Vector},
};

#[test]
fn every_message_is_read_and_written_back() {
    let messages = vector::messages();
    for Vector {
        name, bytes, clean, ..
    } in &messages
    {
        let message = Message::decode(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(&message.encode().unwrap(), clean, "{name}");
        assert_eq!(Message::decode(clean).unwrap(), message, "{name}");
    }
    let names: HashSet<_> = messages.iter().map(|vector| &vector.name).collect();
    assert_eq!(names.len(), messages.len(), "a name is there twice");
    let quirky = messages.iter().filter(|one| one.bytes != one.clean).count();
    assert_eq!((messages.len(), quirky), (65, 3));
    tell(&format!(
        "vectors: {} whole messages, {quirky} of them with stray bytes",
        messages.len()
    ));
}

#[test]
fn every_value_is_read_and_written_back() {
    let expected = [
        ("LONG", Value::Long(-2)),
        (
            "TIMESPAN",
            Value::TimeSpan {
                start: 1_500_000_000_123,
                end: 1_500_000_060_123,
                period: "PT1M".into(),
            },
        ),
        (
            "TIMESPAN_DEFAULT",
            Value::TimeSpan {
                start: -1,
                end: -1,
                period: "00:00:00:00:01:00".into(),
            },
        ),
        ("VEC2", Value::Vec2([1.0, 2.0])),
        ("VEC3", Value::Vec3([1.0, 2.0, 3.0])),
        ("VEC4", Value::Vec4([1.0, 2.0, 3.0, 4.0])),
        (
            "THINGCODE",
            Value::ThingCode {
                domain: 2,
                instance: 1,
            },
        ),
        ("SCHEDULE", Value::string("0 0/1 * * * ?")),
        ("JSON", Value::json(r#"{"a":1}"#)),
        ("VARIANT", Value::Variant(Box::new(Value::Boolean(false)))),
        ("VARIANT_NULL", Value::Variant(Box::new(Value::string("")))),
        (
            "GUID",
            Value::Text(
                BaseType::Guid,
                "11111111-2222-3333-4444-555555555555".into(),
            ),
        ),
    ];
    let vectors = vector::values();
    assert_eq!(vectors.len(), expected.len());
    for (vector, (name, value)) in vectors.iter().zip(expected) {
        assert_eq!(vector.name, name);
        let bytes = vector::result(&vector.bytes);
        let message = Message::decode(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(message.encode().unwrap(), bytes, "{name}");
        assert_eq!(message, answers(1, Response::result(value)), "{name}");
    }
    tell(&format!("vectors: {} values", vectors.len()));
}

#[test]
fn quirks_are_read_as_the_clean_message() {
    let quirks = vector::quirks();
    for Vector {
        name,
        bytes,
        meaning,
        ..
    } in &quirks
    {
        let message = Message::decode(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        let clean = vector::message(meaning);
        assert_ne!(bytes, &clean, "{name} is no quirk");
        assert_eq!(message.encode().unwrap(), clean, "{name}");
    }
    tell(&format!("vectors: {} quirks", quirks.len()));
}

#[test]
fn an_error_text_is_found_wherever_the_peer_has_put_it() {
    let texts = [
        ("ERR_REASON_MARKED", Some("bad")),
        ("ERR_REASON_CONTENT", Some("bad")),
        ("ERR_REASON_CSDK_BUG", None),
        ("JAVA_NOT_FOUND", Some("Unable to find thing")),
    ];
    for (name, text) in texts {
        let Body::Response(response) = decode(&vector::message(name)).body else {
            panic!("{name} is no response");
        };
        assert!(response.is_error());
        assert_eq!(response.error_text().as_deref(), text, "{name}");
    }
    // The C SDK sends the text of a failed service as content, in a field of this name.
    let content = InfoTable::one_row([("reason", Value::string("no oil"))]);
    let mut response = Response {
        status: Status::INTERNAL_ERROR,
        ..Response::with(content)
    };
    assert_eq!(response.error_text().as_deref(), Some("no oil"));
    response.status = Status::SUCCESS;
    assert_eq!(response.error_text(), None);
}

#[test]
fn parts_are_assembled_in_any_order_and_cut_as_the_c_sdk_does() {
    let all = vector::parts();
    for (name, parts) in &all {
        let forward = assemble(parts.iter());
        assert_eq!(forward, assemble(parts.iter().rev()), "{name}");
        match name.as_str() {
            // An exact multiple: the C SDK ends with an empty part, we do not.
            "EXACT" => {
                let result = InfoTable::one_row([("r", Value::string("y".repeat(139)))]);
                assert_eq!(forward, answers(0x21, Response::with(result)));
                assert_eq!(parts.len(), 3);
                let ours = split(&forward, 100).unwrap();
                assert_eq!(ours.len(), 2);
                assert_eq!(assemble(ours.iter()), forward);
            }
            // The platform refuses a bind in parts, so we make none, but a peer may.
            "BIND" => {
                let names: Vec<String> = (1..=14).map(|at| format!("Dev-{at:03}")).collect();
                let bind = Bind::names(names.iter().map(String::as_str));
                assert_eq!(forward, asks(0x20, Body::Bind(bind)));
                assert!(matches!(
                    split(&forward, 100),
                    Err(EncodeError::Unsplittable("BIND", _))
                ));
            }
            _ => assert_eq!(&split(&forward, 100).unwrap(), parts, "{name}"),
        }
    }
    let letters: String = ('a'..='z').cycle().take(150).collect();
    let write = Request::write("Dev-001", "s", Value::string(letters.as_str()));
    assert_eq!(assemble(all[0].1.iter()), asks(0x1e, write));
    let response = Response::result(Value::string(letters));
    assert_eq!(assemble(all[1].1.iter()), answers(0x1f, response));
    let frames: usize = all.iter().map(|(_, parts)| parts.len()).sum();
    assert_eq!((all.len(), frames), (4, 11));
    tell(&format!(
        "vectors: {} messages in {frames} parts",
        all.len()
    ));
}

/// Reading and writing could both be wrong in the same way; building cannot.
#[test]
fn messages_built_from_their_meaning_have_the_same_bytes() {
    let built = built();
    for (name, message) in &built {
        assert_eq!(message.encode().unwrap(), vector::message(name), "{name}");
    }
    tell(&format!(
        "vectors: {} built from their meaning",
        built.len()
    ));
}

fn decode(bytes: &[u8]) -> Message {
    Message::decode(bytes).unwrap()
}

fn assemble<'a>(parts: impl Iterator<Item = &'a Vec<u8>>) -> Message {
    let mut assembler = Assembler::new(Limits::default());
    let mut whole = None;
    for part in parts {
        assert_eq!(whole, None, "complete before the last part");
        whole = assembler.push(Instant::now(), part).unwrap();
    }
    whole.expect("all parts are there")
}
