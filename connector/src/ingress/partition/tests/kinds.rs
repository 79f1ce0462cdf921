//! Every kind of event, from the hub to the platform.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use serde_json::json;

use super::*;

const HUB_EVENTS: &str = "ConnectionServicesHub";

fn property(base_type: BaseType) -> Property {
    Property {
        base_type,
        remote: Some(Remote::default()),
    }
}

/// One of the hub's own events about the device.
fn notice(sequence: i64, source: MessageSource, operation: &str, body: &Json) -> Event {
    let mut event = event(sequence, &body.to_string());
    event.source = source;
    event.device = None;
    for (name, value) in [("deviceId", DEVICE), ("opType", operation)] {
        event.properties.insert(name.into(), value.into());
    }
    event
}

async fn world_with(
    properties: &[(&str, BaseType)],
    messages: connector_config::Messages,
) -> World {
    let mut world = world(StartPosition::Earliest).await;
    let mut device = Thing::of("RemoteThing");
    for (name, base_type) in properties {
        device
            .properties
            .insert((*name).into(), property(*base_type));
    }
    world.standin.cluster.define(DEVICE, device);
    world
        .standin
        .cluster
        .define(HUB_EVENTS, Thing::of("ConnectionServicesHub"));
    Arc::get_mut(&mut world.ingress).unwrap().messages = Arc::new(messages);
    world
}

impl World {
    fn push(&self, event: Event) {
        self.hub.events.lock().unwrap().push(event);
        self.hub.added.notify_waiters();
    }

    /// What the device's Thing has been given, in order: property, value, and its time since the test's
    /// epoch.
    fn values(&self) -> Vec<(String, Json, i64)> {
        let all = self.standin.cluster.values(DEVICE).into_iter();
        all.map(|entry| {
            let value = serde_json::from_str(&entry.value).unwrap();
            (
                entry.property.to_string(),
                value,
                entry.time_ms - 1_700_000_000_000,
            )
        })
        .collect()
    }

    async fn has(&self, expected: &[(&str, Json, i64)]) {
        let expected: Vec<_> = expected
            .iter()
            .map(|(name, value, time)| ((*name).to_owned(), value.clone(), *time))
            .collect();
        self.eventually(&format!("{expected:?}"), |world| {
            world.values().len() >= expected.len()
        })
        .await;
        assert_eq!(self.values(), expected);
    }

    fn fired(&self, event: &str) -> Vec<Json> {
        let all = self.standin.cluster.fired().into_iter();
        all.filter(|fired| fired.thing == HUB_EVENTS && fired.event == event)
            .map(|fired| fired.data["rows"][0].clone())
            .collect()
    }
}

#[tokio::test]
async fn arrays_modules_and_compressed_bodies_are_written_in_order() {
    let properties = [("n", BaseType::Integer), ("cam::n", BaseType::Integer)];
    let world = world_with(&properties, connector_config::Messages::default()).await;
    world.push(event(0, r#"[{"n":1},{"n":2}]"#));
    let mut module = event(1, r#"{"n":3}"#);
    module.module = Some("cam".into());
    world.push(module);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(br#"{"n":4}"#).unwrap();
    let mut compressed = event(2, "");
    compressed.body = encoder.finish().unwrap().into();
    compressed.content_encoding = Some("gzip".into());
    world.push(compressed);
    let (stop, task) = world.start(None);
    world
        .has(&[
            ("n", json!(1), 0),
            ("n", json!(2), 1),
            ("cam::n", json!(3), 1),
            ("n", json!(4), 2),
        ])
        .await;
    stop.cancel();
    task.await.unwrap();
    assert_eq!(*world.store.released.lock().unwrap(), Some(Some(2)));
}

#[tokio::test]
async fn changes_of_a_twin_are_merged_and_the_twin_is_read_only_where_one_is_missing() {
    let properties = [
        ("twinReported", BaseType::Json),
        ("twinDesired", BaseType::Json),
    ];
    let world = world_with(&properties, connector_config::Messages::default()).await;
    let change = |sequence, operation: &str, body: &Json| {
        notice(sequence, MessageSource::TwinChangeEvents, operation, body)
    };
    let twin = |version: i64, reported: Json| {
        json!({
            "deviceId": DEVICE, "version": version, "tags": {},
            "properties": {"desired": {"d": 1, "$version": 1}, "reported": reported},
        })
    };
    *world.hub.twin.lock().unwrap() = Some(twin(6, json!({"a": 1, "b": 2, "$metadata": {}})));
    let reported =
        |version: i64, patch: Json| json!({"version": version, "properties": {"reported": patch}});
    world.push(change(0, "updateTwin", &reported(6, json!({"b": 2}))));
    world.push(change(
        1,
        "updateTwin",
        &reported(7, json!({"b": null, "c": {"x": 1}})),
    ));
    world.push(change(
        2,
        "replaceTwin",
        &json!({"version": 8, "properties": {"desired": {"e": 2}}}),
    ));
    let (stop, task) = world.start(None);
    let mut expected = vec![
        ("twinDesired", json!({"d": 1}), 0),
        ("twinReported", json!({"a": 1, "b": 2}), 0),
        ("twinReported", json!({"a": 1, "c": {"x": 1}}), 1),
        ("twinDesired", json!({"e": 2}), 2),
    ];
    world.has(&expected).await;
    assert_eq!(*world.hub.read.lock().unwrap(), 1);

    *world.hub.twin.lock().unwrap() = Some(twin(10, json!({"z": 9})));
    world.push(change(3, "updateTwin", &reported(10, json!({"z": 9}))));
    expected.push(("twinDesired", json!({"d": 1}), 3));
    expected.push(("twinReported", json!({"z": 9}), 3));
    world.has(&expected).await;
    assert_eq!(*world.hub.read.lock().unwrap(), 2, "change 9 was missing");

    // Deleted in the meantime: nothing to write, and nothing to wait for.
    *world.hub.twin.lock().unwrap() = None;
    world.push(change(4, "updateTwin", &reported(20, json!({"z": 1}))));
    world
        .eventually("read again", |world| *world.hub.read.lock().unwrap() == 3)
        .await;
    stop.cancel();
    task.await.unwrap();
    assert_eq!(*world.store.released.lock().unwrap(), Some(Some(4)));
    assert_eq!(world.values().len(), expected.len());
}

/// A hub that cannot be asked for twins holds up telemetry for a while, once.
#[tokio::test]
async fn a_twin_that_cannot_be_read_is_told_and_telemetry_goes_on() {
    let properties = [("n", BaseType::Integer), ("twinReported", BaseType::Json)];
    let world = world_with(&properties, connector_config::Messages::default()).await;
    // Without a version it is no twin.
    *world.hub.twin.lock().unwrap() = Some(json!({}));
    for sequence in 0..3 {
        let body = json!({"version": sequence, "properties": {"reported": {"a": 1}}});
        world.push(notice(
            sequence,
            MessageSource::TwinChangeEvents,
            "updateTwin",
            &body,
        ));
    }
    world.push(event(3, r#"{"n":3}"#));
    let (stop, task) = world.start(None);
    world.has(&[("n", json!(3), 3)]).await;
    world
        .eventually("all are told", |world| {
            world.fired("InternalError").len() == 3
        })
        .await;
    stop.cancel();
    task.await.unwrap();
    assert_eq!(world.fired("InternalError")[0]["ThingName"], "AzureIot-me");
    assert_eq!(*world.store.released.lock().unwrap(), Some(Some(3)));
}

#[tokio::test]
async fn a_thing_without_twin_properties_costs_no_reading_of_twins() {
    let world = world_with(
        &[("n", BaseType::Integer)],
        connector_config::Messages::default(),
    )
    .await;
    let body = json!({"version": 2, "properties": {"reported": {"a": 1}}});
    world.push(notice(
        0,
        MessageSource::TwinChangeEvents,
        "updateTwin",
        &body,
    ));
    world.push(event(1, r#"{"n":1}"#));
    let (stop, task) = world.start(None);
    world.has(&[("n", json!(1), 1)]).await;
    stop.cancel();
    task.await.unwrap();
    assert_eq!(*world.hub.read.lock().unwrap(), 0);
}

#[tokio::test]
async fn a_device_that_is_made_or_deleted_is_told_whether_or_not_it_has_a_thing() {
    let world = world_with(&[], connector_config::Messages::default()).await;
    let twin = json!({"deviceId": "ghost", "version": 1});
    for (sequence, operation) in [(0, "createDeviceIdentity"), (1, "deleteDeviceIdentity")] {
        let mut notice = notice(
            sequence,
            MessageSource::DeviceLifecycleEvents,
            operation,
            &twin,
        );
        notice.properties.insert("deviceId".into(), "ghost".into());
        world.push(notice);
    }
    let (stop, task) = world.start(None);
    world
        .eventually("both are told", |world| {
            world.fired("AzureThingLifecycleEvent").len() == 2
        })
        .await;
    stop.cancel();
    task.await.unwrap();
    let told = world.fired("AzureThingLifecycleEvent");
    assert_eq!(told[0]["deviceId"], "ghost");
    assert_eq!(told[0]["status"], "createDeviceIdentity");
    assert_eq!(told[0]["twin"], twin);
    assert_eq!(told[1]["status"], "deleteDeviceIdentity");
    assert_eq!(world.fired("ThingNotFoundError").len(), 0);
}

#[tokio::test]
async fn connection_states_are_ordered_by_their_own_numbers() {
    let settings = connector_config::Messages {
        connection_property: Some("online".into()),
        ..Default::default()
    };
    let world = world_with(&[("online", BaseType::Boolean)], settings).await;
    for (sequence, operation, number) in [
        (0, "deviceConnected", "0A"),
        (1, "deviceConnected", "0C"),
        (2, "deviceDisconnected", "0B"),
        (3, "deviceDisconnected", "0D"),
    ] {
        world.push(notice(
            sequence,
            MessageSource::DeviceConnectionStateEvents,
            operation,
            &json!({ "sequenceNumber": number }),
        ));
    }
    let (stop, task) = world.start(None);
    world
        .has(&[
            ("online", json!(true), 0),
            ("online", json!(true), 1),
            ("online", json!(false), 3),
        ])
        .await;
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn what_is_passed_is_told_with_what_was_wrong() {
    let world = world_with(
        &[("n", BaseType::Integer), ("p", BaseType::Password)],
        connector_config::Messages::default(),
    )
    .await;
    world.push(event(0, r#"{"n":"warm","p":"hunter2"}"#));
    let mut stranger = event(1, r#"{"n":1}"#);
    stranger.device = Some("ghost".into());
    world.push(stranger);
    let mut bomb = event(2, "no gzip");
    bomb.content_encoding = Some("gzip".into());
    world.push(bomb);
    world.push(event(3, r#"{"n":3}"#));
    let mut other = event(4, "{}");
    other.source = MessageSource::Other("digitalTwinChangeEvents".into());
    world.push(other);
    let (stop, task) = world.start(None);
    world.has(&[("n", json!(3), 3)]).await;
    world
        .eventually("all are told", |world| {
            world.fired("ProtocolError").len() == 2 && world.fired("ThingNotFoundError").len() == 1
        })
        .await;
    stop.cancel();
    task.await.unwrap();
    let told = world.fired("ProtocolError");
    let typed = told.iter().find(|one| one["context"] != json!({})).unwrap();
    assert_eq!(typed["ThingName"], DEVICE);
    assert_eq!(typed["context"], json!({"n": "INTEGER", "p": "PASSWORD"}));
    assert!(!typed.to_string().contains("hunter2"));
    assert_eq!(
        world.fired("ThingNotFoundError")[0]["edgeIdentifier"],
        "ghost"
    );
    let passed = |reason: &str| {
        world
            .ingress
            .metrics
            .passed
            .with_label_values(&[reason])
            .get()
    };
    assert_eq!(
        (
            passed("protocol"),
            passed("thing_not_found"),
            passed("kind")
        ),
        (2, 1, 1)
    );
    assert_eq!(*world.store.released.lock().unwrap(), Some(Some(4)));
}
