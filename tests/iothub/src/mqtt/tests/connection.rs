//! Coming, sending telemetry, and going.

use std::time::Duration;

use mqttbytes::{
    QoS,
    v4::{Connect, ConnectReturnCode, Disconnect, Packet, PingReq},
};
use tokio::{io::AsyncWriteExt as _, time::timeout};

use crate::{
    fault::{FaceName, Fault},
    hub::Keys,
    identity::Identity,
    sas::{KeyForm, sign},
};

use super::{C2D, Device, TELEMETRY, bodies, hub, message, register};

#[tokio::test]
async fn what_a_device_publishes_is_in_the_log_before_it_is_acknowledged() {
    let hub = hub();
    let (identity, keys) = register(&hub, None);
    let mut device = Device::connect(&hub, &identity, &keys).await;
    device
        .published("devices/d/messages/events/%24.mid=m1&k=v", "first")
        .await;
    assert_eq!(bodies(&hub).len(), 1);
    device.publish(TELEMETRY, QoS::AtMostOnce, "second").await;
    device.ping().await;
    let bodies = bodies(&hub);
    assert!(bodies[0].ends_with(b"first") && bodies[1].ends_with(b"second"));
    assert!(bodies[0].windows(2).any(|pair| pair == b"m1"));
    assert_eq!(hub.get(&identity).unwrap().telemetry, 2);
    device.say(|buf| Disconnect.write(buf)).await;
    device.closed().await;
    assert!(!hub.get(&identity).unwrap().connected);
}

#[tokio::test]
async fn a_module_publishes_as_itself() {
    let hub = hub();
    register(&hub, None);
    let (module, keys) = register(&hub, Some("m"));
    let mut device = Device::connect(&hub, &module, &keys).await;
    device
        .published("devices/d/modules/m/messages/events/", "x")
        .await;
    assert_eq!(bodies(&hub).len(), 1);
    device.publish(TELEMETRY, QoS::AtLeastOnce, "x").await;
    device.closed().await;
    assert_eq!(bodies(&hub).len(), 1);
}

#[tokio::test]
async fn logins_are_refused_with_the_hubs_codes() {
    let hub = hub();
    let (identity, keys) = register(&hub, None);
    let other = Identity::device("nobody").unwrap();
    let elsewhere = sign(
        "hub.example/devices/e",
        &keys.primary,
        KeyForm::Decoded,
        i64::MAX,
        None,
    );
    let expired = sign(
        "hub.example/devices/d",
        &keys.primary,
        KeyForm::Decoded,
        1,
        None,
    );
    let unauthorized = ConnectReturnCode::NotAuthorized;
    let malformed = ConnectReturnCode::BadUserNamePassword;
    type Edit<'e> = Box<dyn FnOnce(&mut Connect) + 'e>;
    let password = |password: String| -> Edit<'_> {
        Box::new(|connect| connect.login.as_mut().unwrap().password = password)
    };
    let user = |user: &'static str| -> Edit<'_> {
        Box::new(move |connect| connect.login.as_mut().unwrap().username = user.into())
    };
    let cases: Vec<(&str, &Identity, Keys, Edit<'_>, ConnectReturnCode)> = vec![
        (
            "key",
            &identity,
            Keys::generate(),
            Box::new(|_| {}),
            unauthorized,
        ),
        (
            "device",
            &other,
            keys.clone(),
            Box::new(|_| {}),
            unauthorized,
        ),
        (
            "resource",
            &identity,
            keys.clone(),
            password(elsewhere),
            unauthorized,
        ),
        (
            "expiry",
            &identity,
            keys.clone(),
            password(expired),
            unauthorized,
        ),
        (
            "password",
            &identity,
            keys.clone(),
            password("secret".into()),
            malformed,
        ),
        (
            "no login",
            &identity,
            keys.clone(),
            Box::new(|c| c.login = None),
            malformed,
        ),
        ("user", &identity, keys.clone(), user("d"), malformed),
        (
            "host",
            &identity,
            keys.clone(),
            user("x.example/d/?api-version=1"),
            unauthorized,
        ),
        (
            "client id",
            &identity,
            keys.clone(),
            Box::new(|c| c.client_id.clear()),
            ConnectReturnCode::BadClientId,
        ),
    ];
    for (name, identity, keys, edit, code) in cases {
        let mut device = Device::dial(&hub);
        device.login(identity, &keys, edit).await;
        assert_eq!(device.refused().await, code, "{name}");
    }
    hub.inject(&Fault::RejectTokens { seconds: 60.0 });
    let mut device = Device::dial(&hub);
    device.login(&identity, &keys, |_| {}).await;
    assert_eq!(device.refused().await, unauthorized);
}

#[tokio::test]
async fn what_the_hub_does_not_take_closes_the_connection() {
    let hub = hub();
    let (identity, keys) = register(&hub, None);
    for (topic, qos, payload) in [
        (TELEMETRY, QoS::ExactlyOnce, vec![]),
        (TELEMETRY, QoS::AtMostOnce, vec![0; 256 * 1024 + 1]),
        ("devices/e/messages/events/", QoS::AtMostOnce, vec![]),
        ("devices/d/messages/events/%ff", QoS::AtMostOnce, vec![]),
        ("any/topic", QoS::AtMostOnce, vec![]),
    ] {
        let mut device = Device::connect(&hub, &identity, &keys).await;
        device.publish(topic, qos, payload).await;
        device.closed().await;
    }
    let mut device = Device::connect(&hub, &identity, &keys).await;
    device.login(&identity, &keys, |_| {}).await;
    device.closed().await;
    let mut device = Device::dial(&hub);
    device.say(|buf| PingReq.write(buf)).await;
    device.closed().await;
    assert!(bodies(&hub).is_empty());
}

#[tokio::test]
async fn a_body_of_exactly_256_kib_is_taken() {
    let hub = hub();
    let (identity, keys) = register(&hub, None);
    let mut device = Device::connect(&hub, &identity, &keys).await;
    device.published(TELEMETRY, &"x".repeat(256 * 1024)).await;
}

#[tokio::test]
async fn the_newest_connection_wins() {
    let hub = hub();
    let (identity, keys) = register(&hub, None);
    let mut old = Device::connect(&hub, &identity, &keys).await;
    let mut new = Device::connect(&hub, &identity, &keys).await;
    old.closed().await;
    new.ping().await;
    assert!(hub.get(&identity).unwrap().connected);
}

/// What is kept for a peer that asks without reading has a bound, and nothing is lost.
#[tokio::test]
async fn a_peer_that_does_not_read_is_not_read_from() {
    let hub = hub();
    let (identity, keys) = register(&hub, None);
    let mut device = Device::connect(&hub, &identity, &keys).await;
    let pings = [0xc0, 0x00].repeat(8 * 1024);
    let mut sent = 0;
    let patience = Duration::from_millis(200);
    while let Ok(count) = timeout(patience, device.stream.write(&pings[sent % 2..])).await {
        sent += count.unwrap();
        assert!(sent < 1024 * 1024, "the hub takes all there is");
    }
    for _ in 0..sent / 2 {
        assert_eq!(device.hear().await, Packet::PingResp);
    }
}

#[tokio::test]
async fn a_silent_face_neither_reads_nor_writes_and_then_goes_on() {
    let hub = hub();
    let (identity, keys) = register(&hub, None);
    let mut device = Device::connect(&hub, &identity, &keys).await;
    device.subscribe(C2D, QoS::AtLeastOnce).await;
    hub.inject(&Fault::Silence {
        face: FaceName::Mqtt,
        seconds: 3600.0,
    });
    // Read before it saw the fault, at most; so the connection is given what it must not deal with.
    device.publish(TELEMETRY, QoS::AtLeastOnce, "x").await;
    hub.send_c2d(&identity, message("a")).unwrap();
    let quiet = timeout(Duration::from_millis(100), device.hear()).await;
    assert!(quiet.is_err());
    assert!(bodies(&hub).is_empty());
    hub.inject(&Fault::Clear);
    let (mut acknowledged, mut delivered) = (false, false);
    while !(acknowledged && delivered) {
        match device.hear().await {
            Packet::PubAck(_) => acknowledged = true,
            Packet::Publish(_) => delivered = true,
            other => panic!("{other:?}"),
        }
    }
}
