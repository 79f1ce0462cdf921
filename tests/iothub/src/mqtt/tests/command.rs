//! What the hub has for a device: cloud-to-device messages, direct methods, twins.

use std::{sync::Arc, time::Duration};

use mqttbytes::{
    QoS,
    v4::{Disconnect, Packet, SubscribeReasonCode, Unsubscribe},
};
use serde_json::{Value, json};

use crate::{
    fault::Fault,
    hub::{Etag, MethodRequest},
    receipt::Received,
};

use super::{C2D, Device, SOON, hub, message, received, register};

#[tokio::test]
async fn subscriptions_outlive_a_connection_that_is_not_clean() {
    let hub = hub();
    let (identity, keys) = register(&hub, None);
    let mut device = Device::connect(&hub, &identity, &keys).await;
    for (filter, asked, granted) in [
        (
            C2D,
            QoS::ExactlyOnce,
            SubscribeReasonCode::Success(QoS::AtLeastOnce),
        ),
        (
            "$iothub/twin/res/#",
            QoS::AtMostOnce,
            SubscribeReasonCode::Success(QoS::AtMostOnce),
        ),
        (
            "devices/e/messages/devicebound/#",
            QoS::AtLeastOnce,
            SubscribeReasonCode::Failure,
        ),
        ("#", QoS::AtLeastOnce, SubscribeReasonCode::Failure),
    ] {
        assert_eq!(device.subscribe(filter, asked).await, granted, "{filter}");
    }
    device.say(|buf| Disconnect.write(buf)).await;
    device.closed().await;
    hub.send_c2d(&identity, message("a")).unwrap();

    let mut device = Device::dial(&hub);
    device.login(&identity, &keys, |_| {}).await;
    assert!(device.accepted().await);
    assert_eq!(device.hear_publish().await.payload, "body of a");

    let mut clean = Device::dial(&hub);
    clean
        .login(&identity, &keys, |connect| connect.clean_session = true)
        .await;
    assert!(!clean.accepted().await);
    clean.ping().await;
    assert_eq!(
        clean.subscribe(C2D, QoS::AtLeastOnce).await,
        SubscribeReasonCode::Success(QoS::AtLeastOnce)
    );
    assert_eq!(clean.hear_publish().await.payload, "body of a");
}

#[tokio::test]
async fn a_message_comes_again_when_the_connection_dies_before_its_acknowledgement() {
    let hub = hub();
    let (identity, keys) = register(&hub, None);
    let mut device = Device::connect(&hub, &identity, &keys).await;
    device.subscribe(C2D, QoS::AtLeastOnce).await;
    hub.send_c2d(&identity, message("a")).unwrap();
    hub.send_c2d(&identity, message("b")).unwrap();
    let first = device.hear_publish().await;
    assert_eq!(
        first.topic,
        "devices/d/messages/devicebound/%24.to=%2Fdevices%2Fd%2Fmessages%2Fdevicebound&%24.mid=a&k=v"
    );
    let second = device.hear_publish().await;
    assert_eq!(second.payload, "body of b");
    device.acknowledge(second.pkid).await;
    device.ping().await;
    hub.inject(&Fault::DropConnections {
        face: None,
        device: Some("d".into()),
    });
    device.closed().await;
    assert_eq!(received(&hub).len(), 1);

    let mut device = Device::connect(&hub, &identity, &keys).await;
    let again = device.hear_publish().await;
    assert_eq!(again.payload, "body of a");
    device.acknowledge(again.pkid).await;
    device.ping().await;
    assert!(matches!(&received(&hub)[1], Received::C2d { message_id: Some(id), .. } if id == "a"));
    assert_eq!(hub.get(&identity).unwrap().c2d_depth, 0);
}

#[tokio::test]
async fn ten_messages_are_on_their_way_and_each_acknowledgement_lets_one_more_out() {
    let hub = hub();
    let (identity, keys) = register(&hub, None);
    for n in 0..20 {
        hub.send_c2d(&identity, message(&n.to_string())).unwrap();
    }
    let mut device = Device::connect(&hub, &identity, &keys).await;
    device.subscribe(C2D, QoS::AtLeastOnce).await;
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(device.hear_publish().await.pkid);
    }
    device.ping().await;
    for n in 10..20 {
        device.acknowledge(ids[n - 10]).await;
        let publish = device.hear_publish().await;
        assert_eq!(publish.payload, format!("body of {n}"));
        ids.push(publish.pkid);
    }
}

#[tokio::test]
async fn without_qos_a_message_is_done_when_it_is_sent() {
    let hub = hub();
    let (identity, keys) = register(&hub, None);
    let mut device = Device::connect(&hub, &identity, &keys).await;
    device.subscribe(C2D, QoS::AtMostOnce).await;
    hub.send_c2d(&identity, message("a")).unwrap();
    assert_eq!(device.hear_publish().await.qos, QoS::AtMostOnce);
    device.ping().await;
    assert_eq!(
        (received(&hub).len(), hub.get(&identity).unwrap().c2d_depth),
        (1, 0)
    );
    let mut unsubscribe = Unsubscribe::new(C2D);
    unsubscribe.pkid = 3;
    device.say(|buf| unsubscribe.write(buf)).await;
    assert!(matches!(device.hear().await, Packet::UnsubAck(ack) if ack.pkid == 3));
    hub.send_c2d(&identity, message("b")).unwrap();
    device.ping().await;
    assert_eq!(hub.get(&identity).unwrap().c2d_depth, 1);
}

#[tokio::test]
async fn a_method_goes_there_and_back() {
    let hub = hub();
    let (identity, keys) = register(&hub, None);
    let mut device = Device::connect(&hub, &identity, &keys).await;
    device
        .subscribe("$iothub/methods/POST/#", QoS::AtMostOnce)
        .await;
    let request = MethodRequest {
        name: "reboot".into(),
        payload: json!({"delay": 1}),
        response_timeout: SOON,
        connect_timeout: Duration::ZERO,
    };
    let caller = tokio::spawn({
        let (hub, identity) = (Arc::clone(&hub), identity.clone());
        async move { hub.invoke(&identity, request).await }
    });
    let call = device.hear_publish().await;
    let rid = call
        .topic
        .strip_prefix("$iothub/methods/POST/reboot/?$rid=")
        .unwrap();
    assert_eq!(call.payload, r#"{"delay":1}"#);
    device
        .published(
            &format!("$iothub/methods/res/-7/?$rid={rid}"),
            r#"{"ok":true}"#,
        )
        .await;
    let answer = caller.await.unwrap().unwrap();
    assert_eq!((answer.status, answer.payload), (-7, json!({"ok": true})));
    assert!(matches!(&received(&hub)[..], [Received::Method { rid: noted, .. }] if noted == rid));
}

#[tokio::test]
async fn a_twin_is_read_reported_and_desired() {
    let hub = hub();
    let (identity, keys) = register(&hub, None);
    let mut device = Device::connect(&hub, &identity, &keys).await;
    device
        .publish("$iothub/twin/GET/?$rid=0", QoS::AtMostOnce, " ")
        .await;
    device.ping().await;
    device
        .subscribe("$iothub/twin/res/#", QoS::AtMostOnce)
        .await;
    device
        .subscribe("$iothub/twin/PATCH/properties/desired/#", QoS::AtMostOnce)
        .await;

    let reported = "$iothub/twin/PATCH/properties/reported/?$rid=";
    device
        .publish(&format!("{reported}1"), QoS::AtMostOnce, r#"{"a":1}"#)
        .await;
    assert_eq!(
        device.hear_publish().await.topic,
        "$iothub/twin/res/204/?$rid=1&$version=2"
    );
    device
        .publish(&format!("{reported}2"), QoS::AtMostOnce, "{")
        .await;
    assert_eq!(
        device.hear_publish().await.topic,
        "$iothub/twin/res/400/?$rid=2"
    );

    let patch = json!({"properties": {"desired": {"b": 2}}});
    hub.patch_twin(&identity, &patch, &Etag::Any).unwrap();
    let desired = device.hear_publish().await;
    assert_eq!(
        desired.topic,
        "$iothub/twin/PATCH/properties/desired/?$version=2"
    );
    // As JSON: serde_json keeps the order of keys in some builds of the workspace and not in others.
    assert_eq!(
        serde_json::from_slice::<Value>(&desired.payload).unwrap(),
        json!({"$version": 2, "b": 2})
    );

    device
        .publish("$iothub/twin/GET/?$rid=3", QoS::AtMostOnce, " ")
        .await;
    let twin = device.hear_publish().await;
    assert_eq!(twin.topic, "$iothub/twin/res/200/?$rid=3");
    assert_eq!(
        serde_json::from_slice::<Value>(&twin.payload).unwrap(),
        json!({"desired": {"b": 2, "$version": 2}, "reported": {"a": 1, "$version": 2}})
    );
    assert!(matches!(
        &received(&hub)[..],
        [Received::Desired { version: 2, .. }]
    ));
}
