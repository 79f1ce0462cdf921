//! A partition from its claim to its release, with a hub and a claim of the test's own and a platform that
//! behaves as the real one.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    num::NonZeroU8,
    sync::{Arc, Mutex},
};

use alwayson::{BaseType, TlsSettings};
use async_trait::async_trait;
use connector_config::NodeSelection;
use iothub::{
    Batches, Event, EventSource, MessageSource, Offset, PartitionId, PartitionProperties, Position,
    SourceIdentity,
};
use serde_json::Value as Json;
use thingworx_standin::{ClusterSettings, Fault, Property, Remote, Running, Thing};
use tokio::sync::Notify;

use super::*;
use crate::{
    claim::ClaimError,
    identity::Identity,
    ingress::{Memory, Passes, Shapes, Survey},
    metrics::Metrics,
    platform::{Destination, NodesSettings, Platform, start_nodes},
    report::Reporter,
};

const KEY: &str = "key";
const DEVICE: &str = "dev";
const OTHER: &str = "other";
/// Whatever has not happened by then will not, also on a machine that is busy with other things.
const SOON: Duration = Duration::from_secs(120);

struct Key;

impl alwayson::Credentials for Key {
    fn claims(&self) -> Result<Vec<alwayson::Claim>, String> {
        Ok(vec![alwayson::Claim {
            name: "appKey".into(),
            value: KEY.into(),
        }])
    }
}

/// The hub: what it holds, and how it was opened.
#[derive(Default)]
struct Hub {
    events: Mutex<Vec<Event>>,
    added: Notify,
    /// Errors that the next opens, and then the open links, answer with.
    refuse: Mutex<VecDeque<HubError>>,
    cut: Mutex<Option<HubError>>,
    opened: Mutex<Vec<Position>>,
    /// The twin of the device, and how often it was read.
    twin: Mutex<Option<Json>>,
    read: Mutex<u32>,
}

struct Source(Arc<Hub>, SourceIdentity);

#[async_trait]
impl EventSource for Source {
    async fn partitions(&self) -> Result<Vec<PartitionId>, HubError> {
        Ok(vec![PartitionId::new("0")])
    }

    async fn properties(&self, _: &PartitionId) -> Result<PartitionProperties, HubError> {
        let events = self.0.events.lock().unwrap();
        let last = events.last().map_or(-1, |event| event.sequence);
        Ok(PartitionProperties {
            beginning_sequence: 0,
            last_sequence: last,
            last_offset: Offset::new(last.to_string()),
            last_enqueued_ms: 0,
            empty: events.is_empty(),
        })
    }

    async fn survey(
        &self,
        partitions: &[PartitionId],
    ) -> Result<Vec<PartitionProperties>, HubError> {
        Ok(vec![self.properties(&partitions[0]).await?])
    }

    async fn open(
        &self,
        _: &PartitionId,
        position: Position,
        _: iothub::Epoch,
        _: u32,
    ) -> Result<Box<dyn Batches>, HubError> {
        self.0.opened.lock().unwrap().push(position.clone());
        if let Some(error) = self.0.refuse.lock().unwrap().pop_front() {
            return Err(error);
        }
        let after = match position {
            Position::Earliest => -1,
            Position::After(offset) => offset.as_str().parse().unwrap(),
            other => panic!("never opened at {other:?}"),
        };
        Ok(Box::new(Reading {
            hub: self.0.clone(),
            after,
        }))
    }

    fn identity(&self) -> &SourceIdentity {
        &self.1
    }
}

#[async_trait]
impl iothub::TwinReader for Hub {
    async fn twin(&self, device: &str, _: Option<&str>) -> Result<Json, HubError> {
        *self.read.lock().unwrap() += 1;
        let gone = || HubError::DeviceNotFound { id: device.into() };
        self.twin.lock().unwrap().clone().ok_or_else(gone)
    }
}

struct Reading {
    hub: Arc<Hub>,
    after: i64,
}

#[async_trait]
impl Batches for Reading {
    async fn next(&mut self, max: usize) -> Result<Vec<Event>, HubError> {
        loop {
            let added = self.hub.added.notified();
            if let Some(error) = self.hub.cut.lock().unwrap().take() {
                return Err(error);
            }
            let events: Vec<Event> = {
                let all = self.hub.events.lock().unwrap();
                let ready = all.iter().filter(|event| event.sequence > self.after);
                ready.take(max).cloned().collect()
            };
            if let Some(last) = events.last() {
                self.after = last.sequence;
                return Ok(events);
            }
            added.await;
        }
    }

    async fn close(self: Box<Self>) -> Result<(), HubError> {
        Ok(())
    }
}

/// What the claim's store has seen, and how it answers.
#[derive(Default)]
struct Store {
    marks: Mutex<Vec<i64>>,
    released: Mutex<Option<Option<i64>>>,
    confirms: Mutex<Option<ClaimError>>,
    saves: Mutex<Option<ClaimError>>,
    /// How often it was asked whose the claim is.
    asked: Mutex<u32>,
}

struct Held {
    id: PartitionId,
    mark: Option<Mark>,
    store: Arc<Store>,
}

#[async_trait]
impl Claim for Held {
    fn partition(&self) -> &PartitionId {
        &self.id
    }

    fn epoch(&self) -> iothub::Epoch {
        iothub::Epoch(1)
    }

    fn mark(&self) -> Option<Mark> {
        self.mark.clone()
    }

    fn fence(&self) -> Duration {
        Duration::ZERO
    }

    async fn save(&mut self, mark: &Mark) -> Result<(), ClaimError> {
        if let Some(error) = self.store.saves.lock().unwrap().clone() {
            return Err(error);
        }
        self.store.marks.lock().unwrap().push(mark.sequence);
        Ok(())
    }

    async fn confirm(&mut self) -> Result<(), ClaimError> {
        *self.store.asked.lock().unwrap() += 1;
        match self.store.confirms.lock().unwrap().clone() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    async fn release(&mut self, mark: Option<&Mark>) -> Result<(), ClaimError> {
        let sequence = mark.map(|mark| mark.sequence);
        *self.store.released.lock().unwrap() = Some(sequence);
        Ok(())
    }
}

/// All of it.
struct World {
    hub: Arc<Hub>,
    store: Arc<Store>,
    ingress: Arc<Ingress>,
    platform: Platform,
    standin: Running,
    end: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

fn event(sequence: i64, body: &str) -> Event {
    event_of(DEVICE, sequence, body)
}

fn event_of(device: &str, sequence: i64, body: &str) -> Event {
    Event {
        partition_offset: Offset::new(sequence.to_string()),
        sequence,
        enqueued_ms: 1_700_000_000_000 + sequence,
        device: Some(device.into()),
        module: None,
        source: MessageSource::Telemetry,
        body: body.to_owned().into(),
        content_type: None,
        content_encoding: None,
        message_id: None,
        properties: BTreeMap::new(),
    }
}

async fn world(start: StartPosition) -> World {
    world_of(1, start).await
}

async fn world_of(nodes: usize, start: StartPosition) -> World {
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    let end = CancellationToken::new();
    let config = thingworx_standin::Config {
        nodes: vec![any; nodes],
        rest: any,
        tls: None,
        cluster: ClusterSettings {
            app_keys: BTreeSet::from([KEY.to_owned()]),
            ..ClusterSettings::default()
        },
    };
    let standin = thingworx_standin::run(config, end.clone()).await.unwrap();
    let property = Property {
        base_type: BaseType::Integer,
        remote: Some(Remote::default()),
    };
    let mut device = Thing::of("RemoteThing");
    device.properties.insert("n".into(), property);
    standin.cluster.define(OTHER, device.clone());
    standin.cluster.define(DEVICE, device);
    standin
        .cluster
        .define("Hub", Thing::of("AzureIotHubTemplate"));

    let (requests, _) = tokio::sync::mpsc::channel(1);
    let url = |node| format!("ws://{node}/Thingworx/WS").parse().unwrap();
    let settings = NodesSettings {
        urls: standin.nodes.iter().map(url).collect(),
        service: None,
        tls: TlsSettings::default(),
        pipes: NonZeroU8::MIN,
        credentials: Arc::new(Key),
    };
    let metrics = Metrics::new().unwrap();
    let nodes = start_nodes(settings, requests, end.clone());
    let platform = Platform::new(
        nodes,
        NodeSelection::RoundRobin,
        "Hub",
        metrics.clone(),
        Reporter::new(&Identity::from_env()),
    );
    platform.wait_writable().await;
    let hub = Arc::new(Hub::default());
    let identity = SourceIdentity {
        namespace: "ns".into(),
        hub: "hub".into(),
        consumer_group: "group".into(),
    };
    let destination: Arc<dyn Destination> = Arc::new(platform.clone());
    let source = Arc::new(Source(hub.clone(), identity));
    let partitions = vec![PartitionId::new("0")];
    let ingress = Ingress {
        survey: Survey::start(source.clone(), partitions, end.clone()),
        source,
        twins: hub.clone(),
        messages: Arc::default(),
        letters: None,
        passes: Passes::start(destination.clone(), metrics.clone(), "AzureIot-me"),
        platform: destination,
        start,
        write: connector_config::WriteService::default(),
        catch_up: None,
        memory: Memory::default(),
        shapes: Shapes::default(),
        mapping: None,
        metrics,
        reporter: Reporter::new(&Identity::from_env()),
    };
    World {
        hub,
        store: Arc::default(),
        ingress: Arc::new(ingress),
        platform,
        standin,
        end,
    }
}

impl World {
    fn send(&self, sequences: std::ops::Range<i64>) {
        for sequence in sequences {
            self.send_one(sequence, &format!("{{\"n\":{sequence}}}"));
        }
    }

    fn send_one(&self, sequence: i64, body: &str) {
        self.send_from(DEVICE, sequence, body);
    }

    fn send_from(&self, device: &str, sequence: i64, body: &str) {
        let event = event_of(device, sequence, body);
        self.hub.events.lock().unwrap().push(event);
        self.hub.added.notify_waiters();
    }

    fn cut(&self, error: HubError) {
        *self.hub.cut.lock().unwrap() = Some(error);
        self.hub.added.notify_waiters();
    }

    fn start(&self, mark: Option<i64>) -> (CancellationToken, tokio::task::JoinHandle<()>) {
        let claim = Held {
            id: PartitionId::new("0"),
            mark: mark.map(|sequence| Mark {
                offset: sequence.to_string().into(),
                sequence,
                enqueued_ms: 0,
            }),
            store: self.store.clone(),
        };
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(self.ingress.clone(), Box::new(claim), stop.clone()));
        (stop, task)
    }

    /// What the platform took, in the order in which it did.
    fn written(&self) -> Vec<i64> {
        let values = self.standin.cluster.written(DEVICE);
        values.iter().map(|value| value.parse().unwrap()).collect()
    }

    async fn eventually(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let seen = timeout(SOON, async {
            while !holds(self) {
                sleep(Duration::from_millis(5)).await;
            }
        });
        let late = seen.await.is_err();
        assert!(!late, "not in time: {what}; written: {:?}", self.written());
    }

    fn opened(&self) -> Vec<Position> {
        self.hub.opened.lock().unwrap().clone()
    }
}

fn after(sequence: i64) -> Position {
    Position::After(Offset::new(sequence.to_string()))
}

#[tokio::test]
async fn everything_is_written_once_in_order_and_the_release_names_the_next_position() {
    let world = world(StartPosition::Earliest).await;
    world.send(0..1000);
    let (stop, task) = world.start(Some(99));
    world
        .eventually("all is written", |world| world.written().len() >= 900)
        .await;
    stop.cancel();
    task.await.unwrap();
    assert_eq!(world.written(), (100..1000).collect::<Vec<_>>());
    assert_eq!(*world.store.released.lock().unwrap(), Some(Some(999)));
    let again = "once more, when the size of the events was known";
    assert_eq!(world.opened(), [after(99), after(599)], "{again}");
}

#[tokio::test]
async fn nothing_that_the_platform_did_not_take_is_checkpointed() {
    let world = world(StartPosition::Earliest).await;
    world.send(0..10);
    let (stop, task) = world.start(None);
    world
        .eventually("the first are written", |world| world.written().len() == 10)
        .await;
    // The platform is ill: every write fails, and that of the probe as well.
    let ill = |on| Fault::FailAll { node: None, on };
    world.standin.cluster.fault(&ill(true));
    world.send(10..20);
    world
        .eventually("a mark is stored", |world| {
            world.store.marks.lock().unwrap().contains(&9)
        })
        .await;
    stop.cancel();
    task.await.unwrap();
    assert_eq!(world.written().len(), 10);
    assert_eq!(world.store.marks.lock().unwrap().last(), Some(&9));
    assert_eq!(
        *world.store.released.lock().unwrap(),
        Some(Some(9)),
        "the low-water mark"
    );

    // Whoever comes next reads it, and nothing is skipped.
    world.standin.cluster.fault(&ill(false));
    let (stop, task) = world.start(Some(9));
    world
        .eventually("the rest is written", |world| world.written().len() == 20)
        .await;
    stop.cancel();
    task.await.unwrap();
    assert_eq!(world.written(), (0..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_can_never_be_written_is_passed_and_holds_up_nothing() {
    let world = world(StartPosition::Earliest).await;
    world.send_one(0, "no json");
    world.send_one(1, "{\"n\":\"warm\"}");
    world.send_one(2, "{\"n\":2,\"unknown\":true}");
    let (stop, task) = world.start(None);
    world
        .eventually("the good one is written", |world| world.written() == [2])
        .await;
    stop.cancel();
    task.await.unwrap();
    assert_eq!(*world.store.released.lock().unwrap(), Some(Some(2)));
    let passed = world
        .ingress
        .metrics
        .passed
        .with_label_values(&["protocol"]);
    assert_eq!(passed.get(), 2);
}

/// A probe that went to a healthy node blamed the Thing for the ill node's refusals.
#[tokio::test]
async fn nothing_is_passed_because_one_node_refuses_everything() {
    let world = world_of(2, StartPosition::Earliest).await;
    world
        .eventually("both nodes take data", |world| {
            let nodes = world.platform.nodes();
            let all = nodes.borrow().clone();
            all.iter().all(alwayson::Node::writable)
        })
        .await;
    let ill = |on| Fault::FailAll { node: Some(0), on };
    world.standin.cluster.fault(&ill(true));
    let (stop, task) = world.start(None);
    for sequence in 0..200 {
        let device = if sequence % 2 == 0 { DEVICE } else { OTHER };
        world.send_from(device, sequence, &format!("{{\"n\":{sequence}}}"));
        sleep(Duration::from_millis(10)).await;
    }
    world
        .eventually("all is written to the node that is well", |world| {
            let other = world.standin.cluster.written(OTHER).len();
            world.written().len() == 100 && other == 100
        })
        .await;
    stop.cancel();
    task.await.unwrap();
    assert_eq!(
        world.written(),
        (0..200).step_by(2).collect::<Vec<_>>(),
        "in order"
    );
    let passed = &world.ingress.metrics.passed;
    for reason in ["thing_not_found", "write_property", "protocol"] {
        assert_eq!(passed.with_label_values(&[reason]).get(), 0, "{reason}");
    }
}

#[tokio::test]
async fn a_link_that_fails_is_opened_after_the_last_received_event() {
    let world = world(StartPosition::Earliest).await;
    world.send(0..5);
    let (stop, task) = world.start(None);
    world
        .eventually("the first are written", |world| world.written().len() == 5)
        .await;
    world.cut(HubError::TimedOut {
        what: "reading".into(),
    });
    world
        .eventually("opened again", |world| world.opened().len() == 2)
        .await;
    world.send(5..10);
    world
        .eventually("all are written", |world| world.written().len() == 10)
        .await;
    stop.cancel();
    task.await.unwrap();
    assert_eq!(world.opened(), [Position::Earliest, after(4)]);
    assert_eq!(world.written(), (0..10).collect::<Vec<_>>());
}

/// With `latest` it began at the end of the new stream, and skipped what was there.
#[tokio::test]
async fn a_refused_position_means_earliest_whatever_the_start() {
    for start in [StartPosition::Earliest, StartPosition::Latest] {
        let world = world(start).await;
        world.send(0..5);
        let refused = HubError::PositionRefused {
            partition: "0".into(),
            answer: "the offset is unknown".into(),
        };
        world.hub.refuse.lock().unwrap().push_back(refused);
        let (stop, task) = world.start(Some(1_000_000));
        world
            .eventually("all are written", |world| world.written().len() == 5)
            .await;
        stop.cancel();
        task.await.unwrap();
        assert_eq!(world.opened(), [after(1_000_000), Position::Earliest]);
        assert_eq!(*world.store.released.lock().unwrap(), Some(Some(4)));
    }
}

/// Without that a crash before the first checkpoint moved "latest" past what had arrived since.
#[tokio::test]
async fn latest_is_stored_before_anything_is_read() {
    let world = world(StartPosition::Latest).await;
    world.send(0..5);
    *world.store.saves.lock().unwrap() = Some(ClaimError::Unavailable("away".into()));
    let (stop, task) = world.start(None);
    sleep(Duration::from_millis(700)).await;
    assert_eq!(world.opened(), [], "not read while it cannot be stored");
    *world.store.saves.lock().unwrap() = None;
    world
        .eventually("opened", |world| !world.opened().is_empty())
        .await;
    assert_eq!(*world.store.marks.lock().unwrap(), [4]);
    world.send(5..7);
    world
        .eventually("the new ones are written", |world| {
            world.written() == [5, 6]
        })
        .await;
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn a_lost_claim_ends_the_reader_without_a_release() {
    let evicted = || HubError::Evicted {
        partition: "0".into(),
    };
    let world = world(StartPosition::Earliest).await;
    world.send(0..5);
    let (_stop, task) = world.start(None);
    world
        .eventually("all are written", |world| world.written().len() == 5)
        .await;
    *world.store.confirms.lock().unwrap() = Some(ClaimError::Lost);
    world.cut(evicted());
    timeout(SOON, task).await.unwrap().unwrap();
    assert_eq!(*world.store.released.lock().unwrap(), None);
}

/// Cut off from the API server it went on writing, though another member may have taken over.
#[tokio::test]
async fn an_evicted_reader_that_cannot_confirm_its_claim_drops_what_is_unsent() {
    let world = world(StartPosition::Earliest).await;
    world.send(0..5);
    let (stop, task) = world.start(None);
    world
        .eventually("the first are written", |world| world.written().len() == 5)
        .await;
    world.standin.cluster.fault(&Fault::FailAll {
        node: None,
        on: true,
    });
    world.send(5..8);
    *world.store.confirms.lock().unwrap() = Some(ClaimError::Unavailable("away".into()));
    // Received, and under way.
    sleep(Duration::from_millis(300)).await;
    world.cut(HubError::Evicted {
        partition: "0".into(),
    });
    // What is unsent is dropped after the first question, and before the second.
    world
        .eventually("the claim is asked for", |world| {
            *world.store.asked.lock().unwrap() >= 2
        })
        .await;
    world.standin.cluster.fault(&Fault::FailAll {
        node: None,
        on: false,
    });
    // Longer than the pause between two tries of a write.
    sleep(Duration::from_secs(3)).await;
    assert_eq!(world.written(), (0..5).collect::<Vec<_>>());
    assert_eq!(world.opened().len(), 1, "no epoch war");
    stop.cancel();
    task.await.unwrap();
    assert_eq!(*world.store.released.lock().unwrap(), Some(Some(4)));
}

mod kinds;
mod letters;
mod mapped;
