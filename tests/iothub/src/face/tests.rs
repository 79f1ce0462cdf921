//! The Event Hubs-compatible face against Microsoft's own reader for Rust, over plain TCP.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use azure_messaging_eventhubs::{
    ConsumerClient, EventReceiver, OpenReceiverOptions, RetryOptions, StartLocation, StartPosition,
    models::ReceivedEventData,
};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use tokio::{net::TcpListener, time::timeout};

use crate::{
    amqp::{binary, descriptor},
    fault::{FaceName, Fault},
    hub::{Hub, HubSettings},
    log::{NewEvent, Origin},
    policy::Policies,
};

const KEY: &str = "a2V5a2V5a2V5a2V5a2V5a2V5";
const SOON: Duration = Duration::from_secs(20);

fn hub() -> Arc<Hub> {
    Hub::new(HubSettings {
        name: "hub".into(),
        hosts: vec!["hub.example".into(), "events.example".into()],
        event_hub: "telemetry".into(),
        partitions: 2,
        consumer_groups: vec!["thingworx".into()],
        retention: 10_000,
        policies: Policies(vec![
            format!("service:{KEY}:ServiceConnect").parse().unwrap(),
        ]),
        redirect: vec![("events.example".into(), 5671)],
        routes: Vec::new(),
        feedback_every: Duration::from_millis(50),
    })
}

async fn listen(hub: &Arc<Hub>) -> SocketAddr {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let hub = Arc::clone(hub);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let connection = hub.connect(FaceName::EventsAmqp);
            tokio::spawn(super::serve_events(Arc::clone(&hub), stream, connection));
        }
    });
    address
}

async fn client(
    address: SocketAddr,
    key: &str,
    group: &str,
) -> azure_messaging_eventhubs::Result<ConsumerClient> {
    let text = format!(
        "Endpoint=sb://events.example/;SharedAccessKeyName=service;SharedAccessKey={key};EntityPath=telemetry"
    );
    ConsumerClient::builder()
        .with_consumer_group(group.to_owned())
        .with_custom_endpoint(format!("amqp://{address}"))
        .with_retry_options(RetryOptions {
            max_retries: 0,
            ..RetryOptions::default()
        })
        .open_with_connection_string(&text, None)
        .await
}

async fn receiver(client: &ConsumerClient, epoch: i64, location: StartLocation) -> EventReceiver {
    let options = OpenReceiverOptions {
        owner_level: Some(epoch),
        start_position: Some(StartPosition {
            location,
            inclusive: false,
        }),
        ..OpenReceiverOptions::default()
    };
    client
        .open_receiver_on_partition("0".into(), Some(options))
        .await
        .unwrap()
}

/// Puts events `numbers` into partition 0.
fn fill(hub: &Hub, numbers: std::ops::Range<u32>, size: usize) {
    let origin = Arc::new(Origin {
        device: "d".into(),
        module: None,
        auth_method: "{}".into(),
        generation: "1".into(),
        source: "Telemetry".into(),
    });
    for number in numbers {
        let mut sections = BytesMut::new();
        descriptor(&mut sections, 0x75);
        let mut body = number.to_string();
        body.push_str(&" ".repeat(size));
        binary(&mut sections, body.as_bytes());
        let event = NewEvent {
            origin: Arc::clone(&origin),
            sections: sections.freeze(),
        };
        hub.endpoint().partitions[0].append(event, 1000);
    }
}

fn number(event: &ReceivedEventData) -> u32 {
    let body = event.event_data().body().unwrap().to_vec();
    String::from_utf8(Bytes::from(body).to_vec())
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

async fn read(receiver: &EventReceiver, count: usize) -> Vec<u32> {
    let mut stream = receiver.stream_events();
    let mut numbers = Vec::new();
    while numbers.len() < count {
        let event = timeout(SOON, stream.next()).await.expect("events in time");
        numbers.push(number(&event.unwrap().unwrap()));
    }
    numbers
}

#[tokio::test]
async fn a_reader_gets_every_event_from_where_it_asks() {
    let hub = hub();
    fill(&hub, 0..3000, 0);
    let client = client(listen(&hub).await, KEY, "thingworx").await.unwrap();
    let properties = client.get_eventhub_properties().await.unwrap();
    assert_eq!(properties.partition_ids, ["0", "1"]);
    let last = client.get_partition_properties("0").await.unwrap();
    assert_eq!(last.last_enqueued_sequence_number, 2999);

    let all = receiver(&client, 1, StartLocation::Earliest).await;
    assert_eq!(read(&all, 3000).await, (0..3000).collect::<Vec<_>>());
    all.close().await.unwrap();
    let some = receiver(&client, 2, StartLocation::SequenceNumber(2990)).await;
    assert_eq!(read(&some, 9).await, (2991..3000).collect::<Vec<_>>());
    fill(&hub, 3000..3001, 0);
    assert_eq!(
        read(&some, 1).await,
        [3000],
        "what arrives later comes without being asked for"
    );
    some.close().await.unwrap();
    client.close().await.unwrap();
}

#[tokio::test]
async fn events_larger_than_a_frame_arrive_whole() {
    let hub = hub();
    fill(&hub, 0..5, 200_000);
    let client = client(listen(&hub).await, KEY, "thingworx").await.unwrap();
    let receiver = receiver(&client, 1, StartLocation::Earliest).await;
    assert_eq!(read(&receiver, 5).await, [0, 1, 2, 3, 4]);
    receiver.close().await.unwrap();
    client.close().await.unwrap();
}

#[tokio::test]
async fn a_higher_epoch_evicts_and_a_lower_one_is_refused() {
    let hub = hub();
    fill(&hub, 0..10, 0);
    let address = listen(&hub).await;
    let (first, second) = (
        client(address, KEY, "thingworx").await.unwrap(),
        client(address, KEY, "thingworx").await.unwrap(),
    );
    let old = receiver(&first, 1, StartLocation::Earliest).await;
    let mut old = Box::pin(old.stream_events());
    assert!(timeout(SOON, old.next()).await.unwrap().unwrap().is_ok());
    let new = receiver(&second, 2, StartLocation::Earliest).await;
    assert_eq!(read(&new, 10).await.len(), 10);
    let ended = timeout(SOON, async {
        loop {
            match old.next().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => break error.to_string(),
                None => panic!("ended without a reason"),
            }
        }
    });
    let words = ended.await.expect("the old reader is told");
    assert!(!words.is_empty());
    let late = client(address, KEY, "thingworx").await.unwrap();
    let late = receiver(&late, 1, StartLocation::Earliest).await;
    let refused = timeout(SOON, Box::pin(late.stream_events()).next())
        .await
        .unwrap()
        .unwrap();
    assert!(refused.is_err(), "a lower epoch is refused");
}

#[tokio::test]
async fn a_wrong_key_another_group_and_a_position_beyond_the_end_are_refused() {
    let hub = hub();
    fill(&hub, 0..10, 0);
    let address = listen(&hub).await;
    let wrong = match client(address, "d3JvbmcK", "thingworx").await {
        Ok(client) => client.get_eventhub_properties().await.map(|_| ()),
        Err(error) => Err(error),
    };
    assert!(wrong.is_err(), "a wrong key is refused");

    for (group, location) in [
        ("nobody", StartLocation::Earliest),
        ("thingworx", StartLocation::Offset("99999999".into())),
    ] {
        let client = client(address, KEY, group).await.unwrap();
        let receiver = receiver(&client, 1, location).await;
        let answer = timeout(SOON, Box::pin(receiver.stream_events()).next())
            .await
            .unwrap()
            .unwrap();
        assert!(answer.is_err(), "{group}");
    }
}

#[tokio::test]
async fn a_forced_detach_and_a_dropped_connection_reach_the_reader() {
    let hub = hub();
    fill(&hub, 0..10, 0);
    let address = listen(&hub).await;
    for fault in [
        Fault::Detach {
            partition: Some("0".into()),
            group: None,
        },
        Fault::DropConnections {
            face: Some(FaceName::EventsAmqp),
            device: None,
        },
    ] {
        let client = client(address, KEY, "thingworx").await.unwrap();
        let receiver = receiver(&client, 1, StartLocation::Earliest).await;
        let mut stream = Box::pin(receiver.stream_events());
        for _ in 0..10 {
            timeout(SOON, stream.next())
                .await
                .unwrap()
                .unwrap()
                .unwrap();
        }
        hub.inject(&fault);
        let next = timeout(SOON, stream.next())
            .await
            .expect("the reader is told");
        assert!(next.is_none_or(|event| event.is_err()), "{fault:?}");
    }
}

#[tokio::test]
async fn a_throttled_reader_is_ended_and_refused_and_then_taken_again() {
    let hub = hub();
    fill(&hub, 0..10, 0);
    let address = listen(&hub).await;
    let first = client(address, KEY, "thingworx").await.unwrap();
    let reading = receiver(&first, 1, StartLocation::Earliest).await;
    assert_eq!(read(&reading, 10).await.len(), 10);
    hub.inject(&Fault::ThrottleEvents { seconds: 3600.0 });
    let second = client(address, KEY, "thingworx").await.unwrap();
    let refused = receiver(&second, 2, StartLocation::Earliest).await;
    for receiver in [reading, refused] {
        let next = timeout(SOON, Box::pin(receiver.stream_events()).next())
            .await
            .expect("the reader is told");
        assert!(next.is_none_or(|event| event.is_err()));
    }
    hub.inject(&Fault::Clear);
    // The SDK uses no client again whose link has failed.
    let third = client(address, KEY, "thingworx").await.unwrap();
    let again = receiver(&third, 3, StartLocation::Earliest).await;
    assert_eq!(read(&again, 10).await.len(), 10);
}

#[tokio::test]
async fn muted_connections_stay_silent_and_new_ones_work() {
    let hub = hub();
    let address = listen(&hub).await;
    let first = client(address, KEY, "thingworx").await.unwrap();
    let old = receiver(&first, 1, StartLocation::Earliest).await;
    let mut old = Box::pin(old.stream_events());
    // Attached, and nothing to read.
    while hub.endpoint().partitions[0].view().readers.is_empty() {
        let _ = timeout(Duration::from_millis(20), old.next()).await;
    }
    hub.inject(&Fault::MuteEvents {});
    fill(&hub, 0..10, 0);
    let second = client(address, KEY, "thingworx").await.unwrap();
    let new = receiver(&second, 2, StartLocation::Earliest).await;
    assert_eq!(read(&new, 10).await.len(), 10);
    let silent = timeout(Duration::from_millis(500), old.next()).await;
    assert!(silent.is_err(), "it is told of nothing, not even its end");
}
