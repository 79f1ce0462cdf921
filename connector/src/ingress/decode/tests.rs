use std::collections::BTreeMap;

use iothub::Offset;
use proptest::prelude::*;
use serde_json::json;

use super::*;

const ENQUEUED: i64 = 1_700_000_000_000;
const NOW: i64 = 1_800_000_000_000;

fn event(source: MessageSource, body: impl Into<Vec<u8>>) -> Event {
    Event {
        partition_offset: Offset::new("1"),
        sequence: 1,
        enqueued_ms: ENQUEUED,
        device: Some("dev".into()),
        module: None,
        source,
        body: body.into().into(),
        content_type: None,
        content_encoding: None,
        message_id: None,
        properties: BTreeMap::new(),
    }
}

fn said(body: &str) -> Event {
    event(MessageSource::Telemetry, body)
}

/// One of the hub's own events, as its documentation shows them: the device is a property.
fn told(source: MessageSource, operation: &str, body: &Json) -> Event {
    let mut event = event(source, body.to_string());
    event.device = None;
    for (name, value) in [("deviceId", "dev"), ("hubName", "h"), ("opType", operation)] {
        event.properties.insert(name.into(), value.into());
    }
    event
}

fn by(time: ValueTime, field: Option<&str>) -> Messages {
    Messages {
        time,
        time_field: field.map(str::to_owned),
        connection_property: Some("online".into()),
        ..Messages::default()
    }
}

fn telemetry(event: &Event, settings: &Messages) -> Telemetry {
    match decode(event, settings, NOW).unwrap().content {
        Content::Telemetry(telemetry) => telemetry,
        other => panic!("telemetry, not {other:?}"),
    }
}

fn rows(event: &Event, settings: &Messages) -> Vec<(Json, i64)> {
    let rows = telemetry(event, settings).rows.into_iter();
    let object = |row: Row| {
        let fields = row.fields.into_iter();
        Json::Object(fields.map(|(name, value)| (name.into(), value)).collect())
    };
    rows.map(|row| {
        let time_ms = row.time_ms;
        (object(row), time_ms)
    })
    .collect()
}

#[test]
fn an_object_is_one_set_of_values_and_an_array_several_a_millisecond_apart() {
    let settings = Messages::default();
    assert_eq!(
        rows(&said(r#"{"a":1}"#), &settings),
        [(json!({"a": 1}), ENQUEUED)]
    );
    assert_eq!(
        rows(&said(r#"[{"a":1},{"a":2},{"b":3}]"#), &settings),
        [
            (json!({"a": 1}), ENQUEUED),
            (json!({"a": 2}), ENQUEUED + 1),
            (json!({"b": 3}), ENQUEUED + 2),
        ]
    );
    assert_eq!(rows(&said("[]"), &settings), []);
}

#[test]
fn an_element_that_is_no_object_takes_no_other_with_it() {
    let telemetry = telemetry(&said(r#"[{"a":1},7,{"a":2}]"#), &Messages::default());
    assert_eq!(telemetry.rows.len(), 2);
    assert_eq!(telemetry.wrong[0].name, "[1]");
}

#[test]
fn a_modules_values_carry_its_name() {
    let mut event = said(r#"{"zoom":1}"#);
    event.module = Some("cam".into());
    assert_eq!(
        rows(&event, &Messages::default()),
        [(json!({"cam::zoom": 1}), ENQUEUED)]
    );
}

#[test]
fn the_time_is_taken_from_where_the_settings_say() {
    assert_eq!(
        rows(&said(r#"{"a":1}"#), &by(ValueTime::Processing, None)),
        [(json!({"a": 1}), NOW)]
    );
    let body = by(ValueTime::Body, Some("ts"));
    assert_eq!(
        rows(&said(r#"{"a":1,"ts":"1970-01-01T00:00:05Z"}"#), &body),
        [(json!({"a": 1}), 5000)]
    );
    assert_eq!(
        rows(
            &said(r#"[{"a":1},{"a":2,"ts":70},{"a":3},{"a":4,"ts":5}]"#),
            &body
        ),
        [
            (json!({"a": 1}), ENQUEUED),
            (json!({"a": 2}), 70),
            (json!({"a": 3}), 71),
            (json!({"a": 4}), 5),
        ]
    );
    let property = by(ValueTime::Property, Some("at"));
    let mut event = said(r#"[{"a":1},{"a":2}]"#);
    event.properties.insert("at".into(), "90".into());
    assert_eq!(
        rows(&event, &property),
        [(json!({"a": 1}), 90), (json!({"a": 2}), 91)]
    );
    assert_eq!(rows(&said(r#"{"a":1}"#), &property)[0].1, ENQUEUED);
}

#[test]
fn a_time_that_is_none_is_told_and_loses_no_value() {
    let body = by(ValueTime::Body, Some("ts"));
    let told = telemetry(&said(r#"{"a":1,"ts":"soon"}"#), &body);
    assert_eq!(told.rows[0].time_ms, ENQUEUED);
    assert_eq!(
        (told.wrong[0].name.as_str(), told.wrong[0].wanted),
        ("ts", "DATETIME")
    );
    let many = telemetry(&said(r#"[{"a":1},{"ts":true}]"#), &body);
    assert_eq!(many.wrong[0].name, "[1].ts");
    let mut event = said(r#"{"a":1}"#);
    event.properties.insert("at".into(), "soon".into());
    let told = telemetry(&event, &by(ValueTime::Property, Some("at")));
    assert_eq!((told.rows[0].time_ms, told.wrong.len()), (ENQUEUED, 1));
}

#[test]
fn a_field_gives_the_quality_of_the_values_beside_it() {
    let settings = Messages {
        quality_field: Some("q".into()),
        ..Messages::default()
    };
    let told = telemetry(
        &said(r#"[{"a":1,"q":"bad"},{"a":2},{"a":3,"q":"fine"}]"#),
        &settings,
    );
    let qualities: Vec<Quality> = told.rows.iter().map(|row| row.quality).collect();
    assert_eq!(qualities, [Quality::Bad, Quality::Good, Quality::Unknown]);
    assert!(told.rows.iter().all(|row| row.fields.len() == 1));
    assert_eq!(told.wrong.len(), 1, "what is no quality is told");
    let plain = telemetry(&said(r#"{"q":"bad"}"#), &Messages::default());
    assert_eq!(plain.rows[0].fields.len(), 1, "a property like any other");
}

#[test]
fn the_hubs_own_events_are_of_the_device_that_it_names() {
    let settings = by(ValueTime::Enqueued, None);
    let twin = json!({"deviceId": "dev", "version": 1});
    let read = |event: &Event| {
        let message = decode(event, &settings, NOW).unwrap();
        assert_eq!(message.thing.as_ref(), "dev");
        message.content
    };
    let created = told(
        MessageSource::DeviceLifecycleEvents,
        "createDeviceIdentity",
        &twin,
    );
    let Content::Lifecycle(lifecycle) = read(&created) else {
        panic!("a lifecycle event")
    };
    assert_eq!(lifecycle.status, "createDeviceIdentity");
    assert_eq!(lifecycle.twin, twin);

    let body = json!({"version": 4, "properties": {"reported": {"a": 1}}});
    let mut changed = told(MessageSource::TwinChangeEvents, "updateTwin", &body);
    changed.properties.insert("moduleId".into(), "cam".into());
    let Content::Twin(change) = read(&changed) else {
        panic!("a change of a twin")
    };
    assert_eq!(change.module.as_deref(), Some("cam"));
    assert_eq!(
        (change.change.version, change.change.replace),
        (Some(4), false)
    );
    assert_eq!(change.time_ms, ENQUEUED);
    let replaced = told(MessageSource::TwinChangeEvents, "replaceTwin", &body);
    assert!(matches!(read(&replaced), Content::Twin(change) if change.change.replace));

    let body = json!({"sequenceNumber": "01"});
    let gone = told(
        MessageSource::DeviceConnectionStateEvents,
        "deviceDisconnected",
        &body,
    );
    let Content::Connection(change) = read(&gone) else {
        panic!("a connection state")
    };
    assert!(!change.connected && change.order.is_some());
}

#[test]
fn what_can_never_be_written_has_a_reason() {
    let settings = Messages::default();
    let refused = |event: &Event| decode(event, &settings, NOW).unwrap_err().to_string();
    let mut nobody = said("{}");
    nobody.device = None;
    // A device can name another one in a property of its own; it is not asked.
    nobody.properties.insert("deviceId".into(), "victim".into());
    let state = told(
        MessageSource::DeviceConnectionStateEvents,
        "deviceConnected",
        &json!({}),
    );
    let cases = [
        (nobody, "names no device"),
        (said("7"), "JSON number"),
        (said("null"), "JSON null"),
        (said("no json"), "no JSON"),
        (
            event(MessageSource::Other("digitalTwinChangeEvents".into()), "{}"),
            "not carried",
        ),
        (state, "not carried"),
        (
            told(MessageSource::TwinChangeEvents, "paintTwin", &json!({})),
            "not carried",
        ),
        (
            event(MessageSource::Telemetry, vec![0xff; 256 << 10]),
            "no text in UTF-8",
        ),
        (said(&"[".repeat(256 << 10)), "nested deeper"),
    ];
    for (event, expected) in cases {
        let error = refused(&event);
        assert!(error.contains(expected), "{error:?}, expected {expected:?}");
    }
}

/// A small message that holds a lot counts for a lot, or reading ahead would have no bound.
#[test]
fn a_message_weighs_what_it_takes_in_memory() {
    let weight = |body: &str| {
        decode(&said(body), &Messages::default(), NOW)
            .unwrap()
            .bytes
    };
    assert!(weight(r#"{"a":1}"#) < 1000);
    let many = format!("[{}{{}}]", "{},".repeat(10_000));
    assert!(weight(&many) > 10 * many.len());
}

proptest! {
    #[test]
    fn times_of_an_array_never_stand_still(times in proptest::collection::vec(proptest::option::of(0..1000_i64), 1..20)) {
        let elements: Vec<Json> = times
            .iter()
            .map(|time| time.map_or_else(|| json!({"a": 1}), |ts| json!({"a": 1, "ts": ts})))
            .collect();
        let rows = rows(&said(&Json::from(elements).to_string()), &by(ValueTime::Body, Some("ts")));
        prop_assert_eq!(rows.len(), times.len());
        for (index, (_, time_ms)) in rows.iter().enumerate() {
            match times[index] {
                Some(own) => prop_assert_eq!(*time_ms, own),
                None if index == 0 => prop_assert_eq!(*time_ms, ENQUEUED),
                None => prop_assert_eq!(*time_ms, rows[index - 1].1 + 1),
            }
        }
    }

    #[test]
    fn any_body_is_decoded_or_refused(body in proptest::collection::vec(any::<u8>(), 0..200), source in 0..4) {
        let source = match source {
            0 => MessageSource::Telemetry,
            1 => MessageSource::TwinChangeEvents,
            2 => MessageSource::DeviceLifecycleEvents,
            _ => MessageSource::DeviceConnectionStateEvents,
        };
        let _ = decode(&event(source, body), &by(ValueTime::Body, Some("ts")), NOW);
    }
}

#[test]
fn what_a_mapping_gives_is_read_as_a_body_is() {
    let mut event = said("{\"nested\":{}}");
    event.module = Some("cam".into());
    let mapped = |text: &str, settings: &Messages| {
        decode_mapped(&event, text, settings, NOW).map(|message| match message.content {
            Content::Telemetry(telemetry) => (
                telemetry
                    .rows
                    .into_iter()
                    .map(|row| (row.fields, row.time_ms))
                    .collect::<Vec<_>>(),
                telemetry
                    .wrong
                    .into_iter()
                    .map(|wrong| wrong.name)
                    .collect::<Vec<_>>(),
            ),
            other => panic!("telemetry, not {other:?}"),
        })
    };
    let field = |value: i64| vec![("cam::a".into(), json!(value))];
    let body = by(ValueTime::Body, Some("ts"));
    assert_eq!(
        mapped(r#"[{"a":1,"ts":5000},{"a":2},3]"#, &body),
        Ok((
            vec![(field(1), 5000), (field(2), 5001)],
            vec!["[2]".to_owned()]
        ))
    );
    assert_eq!(
        mapped(r#"{"a":1}"#, &by(ValueTime::Processing, None)),
        Ok((vec![(field(1), NOW)], vec![]))
    );
    let deep = "[".repeat(100);
    for (text, words) in [
        (
            "1",
            "what iotHub.messages.mapping gives: the body is a JSON number",
        ),
        (
            "{\"a\":NaN}",
            "what iotHub.messages.mapping gives: the body is no JSON",
        ),
        ("{1:2}", "no JSON"),
        (deep.as_str(), "nested deeper"),
    ] {
        let told = mapped(text, &body).unwrap_err().to_string();
        assert!(told.contains(words), "{told}");
    }
    event.device = None;
    assert_eq!(
        decode_mapped(&event, "{}", &body, NOW).err(),
        Some(Undecodable::NoDevice)
    );
}
