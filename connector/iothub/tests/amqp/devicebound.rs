//! Cloud-to-device messages.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::future::join_all;
use iothub::{Ack, C2dMessage, C2dSender, HubAmqpSettings, HubError, HubTls, Taken, Way};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::broker::{Broker, localhost};

async fn start(broker: &Arc<Broker>) -> (C2dSender, DropGuard) {
    let (tls, ca) = localhost();
    let address = broker.listen(Some(tls)).await;
    let text = "HostName=localhost;SharedAccessKeyName=p;SharedAccessKey=c2VjcmV0";
    let settings = HubAmqpSettings {
        connection: text.parse().unwrap(),
        tls: HubTls {
            ca: Some(ca.into()),
        },
        application_id: "test".into(),
        address: Some(address),
        way: Way::default(),
    };
    let shutdown = CancellationToken::new();
    let sender = C2dSender::start(settings, 256, shutdown.clone());
    (sender, shutdown.drop_guard())
}

pub async fn send(sender: &C2dSender, device: &str, within: Duration) -> Result<(), HubError> {
    let message = C2dMessage {
        device: device.into(),
        message_id: "m".into(),
        content_type: None,
        content_encoding: None,
        body: bytes::Bytes::from_static(b"{}"),
        expiry_ms: None,
        ack: Ack::None,
        properties: BTreeMap::new(),
    };
    sender.send(message, Instant::now() + within).await
}

pub const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn the_answer_is_the_hubs() {
    let broker = Broker::new();
    let (sender, _end) = start(&broker).await;
    sender.prove(LONG).await.unwrap();
    assert_eq!(send(&sender, "pump-1", LONG).await, Ok(()));
    let id = "gone".to_owned();
    assert_eq!(
        send(&sender, "gone", LONG).await,
        Err(HubError::DeviceNotFound { id })
    );
    let error = send(&sender, "mute", SHORT).await.unwrap_err();
    assert_eq!(error.taken(), Taken::Unknown, "{error}");
    assert_eq!(send(&sender, "pump-1", LONG).await, Ok(()));
}

#[tokio::test]
async fn many_messages_are_under_way_at_once() {
    let broker = Broker::new();
    broker.answer_after.store(200, Ordering::SeqCst);
    let (sender, _end) = start(&broker).await;
    sender.prove(LONG).await.unwrap();
    let sent = join_all((0..200).map(|_| send(&sender, "pump-1", LONG))).await;
    assert!(sent.iter().all(Result::is_ok), "{sent:?}");
}

#[tokio::test]
async fn a_lost_connection_leaves_the_outcome_open_and_is_made_anew() {
    let broker = Broker::new();
    let (sender, _end) = start(&broker).await;
    sender.prove(LONG).await.unwrap();
    let (lost, ()) = tokio::join!(send(&sender, "mute", LONG), async {
        tokio::time::sleep(SHORT).await;
        broker.cut.notify_waiters();
    });
    let error = lost.unwrap_err();
    assert!(matches!(error, HubError::OutcomeUnknown { .. }), "{error}");
    assert_eq!(send(&sender, "pump-1", LONG).await, Ok(()));
}

#[tokio::test]
async fn a_refused_token_is_denied_and_nothing_is_sent() {
    let broker = Broker::new();
    broker.token_status.store(401, Ordering::SeqCst);
    let (sender, _end) = start(&broker).await;
    let error = sender.prove(Duration::from_secs(1)).await.unwrap_err();
    assert!(matches!(error, HubError::Denied { .. }), "{error}");
    let error = send(&sender, "pump-1", SHORT).await.unwrap_err();
    assert!(matches!(error, HubError::NotSent { .. }), "{error}");
    broker.token_status.store(202, Ordering::SeqCst);
    sender.prove(LONG).await.unwrap();
}

#[tokio::test]
async fn the_end_is_prompt_and_sends_nothing_more() {
    let broker = Broker::new();
    let (sender, end) = start(&broker).await;
    sender.prove(LONG).await.unwrap();
    drop(end);
    tokio::time::timeout(LONG, async {
        while send(&sender, "pump-1", SHORT).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let error = sender.prove(LONG).await.unwrap_err();
    assert!(matches!(error, HubError::NotSent { .. }), "{error}");
}
