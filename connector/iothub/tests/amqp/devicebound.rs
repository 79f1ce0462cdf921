//! Cloud-to-device messages.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::future::join_all;
use iothub::{Ack, C2dMessage, C2dSender, HubAmqpSettings, HubError, HubTls, Taken, Way};
use tokio::{runtime::Builder, task::JoinSet, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::broker::{Broker, localhost};

/// Has the broker listen, in the runtime that this is called in.
async fn listening(broker: &Arc<Broker>) -> HubAmqpSettings {
    let (tls, ca) = localhost();
    let address = broker.listen(Some(tls)).await;
    let text = "HostName=localhost;SharedAccessKeyName=p;SharedAccessKey=c2VjcmV0";
    HubAmqpSettings {
        connection: text.parse().unwrap(),
        tls: HubTls {
            ca: Some(ca.into()),
        },
        application_id: "test".into(),
        address: Some(address),
        way: Way::default(),
    }
}

fn sender(settings: HubAmqpSettings) -> (C2dSender, DropGuard) {
    let shutdown = CancellationToken::new();
    let sender = C2dSender::start(settings, PLACES, shutdown.clone());
    (sender, shutdown.drop_guard())
}

async fn start(broker: &Arc<Broker>) -> (C2dSender, DropGuard) {
    sender(listening(broker).await)
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

/// Messages that may wait.
const PLACES: usize = 256;
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

/// A hub on threads of its own answers at once, while the sender still works. With its tasks on several workers about one
/// answer in ten thousand is lost.
fn all_answers_are_heard(workers: usize) {
    let runtime = |workers| {
        let mut runtime = Builder::new_multi_thread();
        runtime
            .worker_threads(workers)
            .enable_all()
            .build()
            .unwrap()
    };
    let (hub, own) = (runtime(2), runtime(workers));
    let broker = Broker::new();
    let settings = hub.block_on(listening(&broker));
    let sent = own.block_on(async {
        let (sender, _end) = sender(settings);
        sender.prove(LONG).await.unwrap();
        let mut sending = JoinSet::new();
        for _ in 0..2 {
            let sender = sender.clone();
            sending.spawn(async move {
                let mut sent = Vec::new();
                for _ in 0..2000 {
                    sent.push(send(&sender, "pump-1", LONG).await);
                }
                sent
            });
        }
        sending.join_all().await.concat()
    });
    let unheard: Vec<_> = sent.iter().filter(|sent| sent.is_err()).collect();
    assert!(unheard.is_empty(), "of {}: {unheard:?}", sent.len());
}

#[test]
fn every_answer_is_heard_by_one_worker() {
    all_answers_are_heard(1);
}

#[test]
fn every_answer_is_heard_by_several_workers() {
    all_answers_are_heard(4);
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
