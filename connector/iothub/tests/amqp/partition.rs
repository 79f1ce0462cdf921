//! Reading a partition.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use fe2o3_amqp_types::definitions::LinkError;
use iothub::{
    Epoch, EventSource, HubError, HubTls, Offset, PartitionId, Position, SdkSource,
    SdkSourceSettings, Way,
};
use tokio::time::timeout;

use crate::broker::Broker;

const LONG: Duration = Duration::from_secs(10);

async fn source(broker: &Arc<Broker>) -> SdkSource {
    // Another test may have been first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    broker.token_status.store(202, Ordering::SeqCst);
    let address = broker.listen(None).await;
    let text = "Endpoint=sb://localhost/;SharedAccessKeyName=p;SharedAccessKey=c2VjcmV0;\
                EntityPath=hub";
    SdkSource::new(SdkSourceSettings {
        connection: text.parse().unwrap(),
        consumer_group: "thingworx".into(),
        application_id: "test".into(),
        tls: HubTls::default(),
        way: Way::default(),
        custom_endpoint: Some(format!("amqp://{address}")),
        request_timeout: LONG,
    })
    .unwrap()
}

fn zero() -> PartitionId {
    PartitionId::new("0")
}

#[tokio::test]
async fn the_hub_tells_of_its_partitions() {
    let broker = Broker::new();
    broker.events.store(3, Ordering::SeqCst);
    let source = source(&broker).await;
    let ids = source.partitions().await.unwrap();
    assert_eq!(ids, [zero(), PartitionId::new("1")]);
    let now = source.properties(&zero()).await.unwrap();
    assert_eq!((now.beginning_sequence, now.last_sequence), (0, 2));
    assert_eq!(now.last_offset, Offset::new("2"));
    assert_eq!(now.last_enqueued_ms, 1_764_000_000_000);
    assert!(!now.empty);
    broker.token_status.store(401, Ordering::SeqCst);
    let error = source.partitions().await.unwrap_err();
    assert!(matches!(error, HubError::Denied { .. }), "{error}");
}

#[tokio::test]
async fn an_open_reader_is_attached_even_if_there_is_nothing_to_read() {
    let broker = Broker::new();
    let source = source(&broker).await;
    let mut reader = source
        .open(&zero(), Position::Latest, Epoch(7), 100)
        .await
        .unwrap();
    let readers = broker.readers.lock().unwrap().clone();
    assert_eq!(readers.len(), 1);
    assert!(readers[0].contains("@latest"), "{readers:?}");
    let idle = timeout(Duration::from_millis(50), reader.next(10)).await;
    assert!(idle.is_err());
    broker.events.store(4, Ordering::SeqCst);
    let mut got = Vec::new();
    while got.len() < 4 {
        got.extend(timeout(LONG, reader.next(10)).await.unwrap().unwrap());
    }
    let sequences: Vec<_> = got.iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, [0, 1, 2, 3]);
    assert_eq!(got[3].device.as_deref(), Some("pump-1"));
    assert_eq!(got[3].body.as_ref(), b"3");
    timeout(LONG, reader.close()).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_evicted_reader_says_so_after_its_last_event() {
    let broker = Broker::new();
    broker.events.store(2, Ordering::SeqCst);
    let source = source(&broker).await;
    let position = Position::After(Offset::new("x"));
    let mut reader = source.open(&zero(), position, Epoch(7), 100).await.unwrap();
    let mut got = 0;
    while got < 2 {
        got += timeout(LONG, reader.next(10)).await.unwrap().unwrap().len();
    }
    broker.steal.store(true, Ordering::SeqCst);
    let error = timeout(LONG, reader.next(10)).await.unwrap().unwrap_err();
    assert!(matches!(error, HubError::Evicted { .. }), "{error}");
    let closed = timeout(LONG, reader.close()).await;
    assert!(closed.is_ok(), "closing ends");
}

#[tokio::test]
async fn a_refused_reader_does_not_open() {
    let broker = Broker::new();
    let source = source(&broker).await;
    let refuse = |text: &str| {
        *broker.refuse_readers.lock().unwrap() = Some((LinkError::Stolen, text.to_owned()));
    };
    let open = || async {
        let opened = source
            .open(&zero(), Position::Earliest, Epoch(7), 100)
            .await;
        opened.map(|_| ()).unwrap_err()
    };
    refuse("Receiver 'x' with a higher epoch of '9' already exists.");
    let error = open().await;
    assert!(matches!(error, HubError::LowerEpoch { .. }), "{error}");
    refuse("The supplied offset '99' is invalid. The last offset in the system is '5'");
    let error = open().await;
    assert!(matches!(error, HubError::PositionRefused { .. }), "{error}");
}
