//! Cloud-to-device messages, and what becomes of them.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use iothub::{
    Ack, C2dMessage, C2dSender, Class, FeedbackRecord, FeedbackStatus, HubError, Taken,
    receive_feedback,
};
use iothub_standin::{
    fault::{FaceName, Fault},
    hub::Subscription,
    operation::Operation,
};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::hub::{Hub, eventually};

const SOON: Duration = Duration::from_secs(20);

fn message(id: &str, ack: Ack) -> C2dMessage {
    C2dMessage {
        device: "d".into(),
        message_id: id.into(),
        content_type: None,
        content_encoding: None,
        body: Bytes::from_static(b"{}"),
        expiry_ms: None,
        ack,
        properties: BTreeMap::new(),
    }
}

fn expiring(id: &str, ack: Ack) -> C2dMessage {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    C2dMessage {
        expiry_ms: i64::try_from(now.as_millis() + 100).ok(),
        ..message(id, ack)
    }
}

struct Ends {
    sender: C2dSender,
    records: mpsc::Receiver<Vec<FeedbackRecord>>,
    _end: DropGuard,
}

/// Sends, and listens for what begins with `ours`.
async fn start(hub: &Hub, ours: &'static str) -> Ends {
    let shutdown = CancellationToken::new();
    let sender = C2dSender::start(hub.amqp("service"), 16, shutdown.clone());
    sender.prove(SOON).await.unwrap();
    let (given, records) = mpsc::channel(4);
    let ours = move |record: &FeedbackRecord| record.message_id.starts_with(ours);
    let listening = receive_feedback(hub.amqp("service"), ours, given, shutdown.clone());
    tokio::spawn(listening);
    Ends {
        sender,
        records,
        _end: shutdown.drop_guard(),
    }
}

impl Ends {
    async fn send(&self, message: C2dMessage) -> Result<(), HubError> {
        self.sender.send(message, Instant::now() + SOON).await
    }

    /// The next records, by message.
    async fn next(&mut self, count: usize) -> BTreeMap<String, FeedbackStatus> {
        let mut found = BTreeMap::new();
        while found.len() < count {
            let batch = tokio::time::timeout(SOON, self.records.recv()).await;
            let batch = batch.unwrap().unwrap();
            found.extend(batch.into_iter().map(|one| (one.message_id, one.status)));
        }
        found
    }
}

#[tokio::test]
async fn what_was_asked_for_is_told() {
    let hub = Hub::start().await;
    let device = hub.register("d", None);
    let mut ends = start(&hub, "ours").await;
    // Nobody is connected: what expires, expires; the first before the second.
    for (id, ack) in [("ours-silent", Ack::Positive), ("ours-late", Ack::Negative)] {
        ends.send(expiring(id, ack)).await.unwrap();
    }
    let expected = BTreeMap::from([("ours-late".to_owned(), FeedbackStatus::Expired)]);
    assert_eq!(ends.next(1).await, expected);

    let session = hub.connect(&device);
    session.subscribe(Subscription::C2d { acknowledged: true });
    for ack in [Ack::None, Ack::Positive, Ack::Negative, Ack::Full] {
        ends.send(message(&format!("ours-{ack:?}"), ack))
            .await
            .unwrap();
        let (token, ..) = session.next_c2d().unwrap();
        session.complete_c2d(token);
    }
    let success = |id: &str| (id.to_owned(), FeedbackStatus::Success);
    let expected = [success("ours-Full"), success("ours-Positive")];
    assert_eq!(ends.next(2).await, BTreeMap::from(expected));
    drop(session);

    ends.send(message("ours-purged", Ack::Full)).await.unwrap();
    hub.inside().purge(&device).unwrap();
    let expected = BTreeMap::from([("ours-purged".to_owned(), FeedbackStatus::Purged)]);
    assert_eq!(ends.next(1).await, expected);
    eventually(async || hub.inside().feedback.is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_message_that_is_delivered_too_often_is_told() {
    let hub = Hub::start().await;
    let device = hub.register("d", None);
    let mut ends = start(&hub, "").await;
    ends.send(message("m", Ack::Negative)).await.unwrap();
    for _ in 0..iothub_standin::c2d::MAX_DELIVERIES {
        let session = hub.connect(&device);
        session.subscribe(Subscription::C2d { acknowledged: true });
        assert!(session.next_c2d().is_some());
    }
    let told = BTreeMap::from([("m".to_owned(), FeedbackStatus::DeliveryCountExceeded)]);
    assert_eq!(ends.next(1).await, told);
}

#[tokio::test]
async fn a_batch_without_ours_is_left_to_others() {
    let hub = Hub::start().await;
    hub.register("d", None);
    let ends = start(&hub, "ours").await;
    ends.send(expiring("theirs", Ack::Full)).await.unwrap();
    let waits = async || (!hub.inside().feedback.is_empty()).then_some(());
    eventually(waits).await;
    let mut others = start(&hub, "theirs").await;
    let told = BTreeMap::from([("theirs".to_owned(), FeedbackStatus::Expired)]);
    assert_eq!(others.next(1).await, told);
    let gone = async || hub.inside().feedback.is_empty().then_some(());
    eventually(gone).await;
}

#[tokio::test]
async fn feedback_is_received_again_after_the_connection_is_lost() {
    let hub = Hub::start().await;
    hub.register("d", None);
    let mut ends = start(&hub, "").await;
    ends.send(expiring("a", Ack::Full)).await.unwrap();
    assert!(ends.next(1).await.contains_key("a"));
    // Otherwise it would come again, as it should.
    eventually(async || hub.inside().feedback.is_empty().then_some(())).await;
    hub.fault(&Fault::DropConnections {
        face: Some(FaceName::HubAmqp),
        device: None,
    });
    eventually(async || ends.send(expiring("b", Ack::Full)).await.ok()).await;
    assert!(ends.next(1).await.contains_key("b"));
}

#[tokio::test]
async fn receiving_ends_when_it_should() {
    let hub = Hub::start().await;
    let shutdown = CancellationToken::new();
    let (given, records) = mpsc::channel(1);
    let listening = receive_feedback(hub.amqp("service"), |_| true, given, shutdown.clone());
    let listening = tokio::spawn(listening);
    eventually(async || (hub.inside().connections.count(FaceName::HubAmqp) == 1).then_some(()))
        .await;
    shutdown.cancel();
    tokio::time::timeout(SOON, listening)
        .await
        .unwrap()
        .unwrap();
    drop(records);

    let (given, records) = mpsc::channel(1);
    let running = CancellationToken::new();
    let listening = receive_feedback(hub.amqp("reader"), |_| true, given, running.clone());
    // A policy without the right is tried again and again, until nobody wants records any more.
    let listening = tokio::spawn(listening);
    drop(records);
    tokio::time::timeout(SOON, listening)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_message_whose_answer_is_lost_is_sent_once() {
    let hub = Hub::start().await;
    let device = hub.register("d", None);
    let ends = start(&hub, "").await;
    hub.lose(Operation::C2d);
    let error = ends.send(message("m", Ack::None)).await.unwrap_err();
    assert!(matches!(error, HubError::OutcomeUnknown { .. }), "{error}");
    assert_eq!(error.taken(), Taken::Unknown);
    hub.fault(&Fault::Clear);
    ends.sender.prove(SOON).await.unwrap();
    assert_eq!(hub.inside().get(&device).unwrap().c2d_depth, 1);
    assert_eq!(hub.count(Operation::C2d).accepted, 1);
}

#[tokio::test]
async fn what_a_device_cannot_take_was_not_sent() {
    let hub = Hub::start().await;
    hub.register("d", None);
    let ends = start(&hub, "").await;
    for number in 0..iothub_standin::c2d::MAX_DEPTH {
        ends.send(message(&number.to_string(), Ack::None))
            .await
            .unwrap();
    }
    let full = ends.send(message("more", Ack::None)).await.unwrap_err();
    assert_eq!(full, HubError::QueueFull { id: "d".into() });
    assert_eq!((full.class(), full.taken()), (Class::Throttled, Taken::No));
    hub.fault(&Fault::ThrottleOperations {
        operation: Operation::C2d,
        seconds: crate::hub::LONG,
        retry_after: None,
    });
    let throttled = ends.send(message("more", Ack::None)).await.unwrap_err();
    assert_eq!(throttled, HubError::Throttled { retry_after: None });
    assert_eq!(throttled.taken(), Taken::No);
}
