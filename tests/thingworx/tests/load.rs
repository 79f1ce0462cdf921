//! A load against an edge over real sockets: what the edge answers is what is counted.

// Clippy lets tests panic, but not the functions that tests share.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU8,
    sync::Arc,
    time::Duration,
};

use alwayson::{
    BindState, Claim, Credentials, DesiredBinds, Gateway, GroupBind, GroupBindStrategy, Incoming,
    Method, Node, NodeSettings, Response, Status, Timings, TlsSettings,
};
use serde_json::json;
use thingworx_standin::{ClusterSettings, Config, Kind, Load, Running, Thing, run};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;
use url::Url;

const KEY: &str = "a-key";
const HUB: &str = "Hub";
/// Whatever has not happened by then will not.
const SOON: Duration = Duration::from_secs(20);

struct Key;

impl Credentials for Key {
    fn claims(&self) -> Result<Vec<Claim>, String> {
        Ok(vec![Claim {
            name: "appKey".into(),
            value: KEY.into(),
        }])
    }
}

/// A platform with ten devices behind a hub Thing.
async fn platform(stop: &CancellationToken) -> Running {
    let config = Config {
        nodes: vec![([127, 0, 0, 1], 0).into()],
        rest: ([127, 0, 0, 1], 0).into(),
        tls: None,
        cluster: ClusterSettings {
            app_keys: BTreeSet::from([KEY.to_owned()]),
            ..ClusterSettings::default()
        },
    };
    let running = run(config, stop.clone()).await.unwrap();
    let hub = Thing::of("AzureIotHubTemplate");
    running.cluster.define(HUB, hub);
    let device = json!({
        "gatewayThing": HUB,
        "properties": {"setpoint": {"baseType": "INTEGER", "remote": {}}},
        "services": {"run": {}}
    });
    let device = serde_json::from_value(device).unwrap();
    running.cluster.generate("device-", 10, vec![device]);
    running
}

/// An edge that has bound the hub Thing.
async fn edge(running: &Running, stop: &CancellationToken) -> (Node, mpsc::Receiver<Incoming>) {
    let url = format!("ws://{}/Thingworx/WS", running.nodes[0]);
    let settings = NodeSettings {
        name: "node".into(),
        url: Url::parse(&url).unwrap(),
        tls: TlsSettings::default(),
        pipes: NonZeroU8::MIN,
        timings: Timings::default(),
    };
    let (sender, requests) = mpsc::channel(64);
    let node = Node::start(settings, Arc::new(Key), sender, stop.clone());
    node.bind(DesiredBinds {
        gateway: Some(Gateway {
            name: "edge".into(),
            template: "ConnectionServer".into(),
        }),
        group: Some(GroupBind {
            thing: HUB.into(),
            routing_group: HUB.into(),
            strategy: GroupBindStrategy::Plain,
        }),
        ..DesiredBinds::default()
    });
    let mut state = node.state();
    let bound = state.wait_for(|state| state.group == BindState::Bound);
    timeout(SOON, bound).await.unwrap().unwrap();
    (node, requests)
}

fn load(kind: Kind, target: &str) -> Load {
    Load {
        kind,
        prefix: "device-".into(),
        things: 10,
        target: target.into(),
        per_second: 200,
        seconds: 1,
        at_once: 1000,
    }
}

#[tokio::test]
async fn writes_and_calls_reach_the_edge_and_are_counted_by_what_it_answers() {
    let stop = CancellationToken::new();
    let running = platform(&stop).await;
    let (_node, mut requests) = edge(&running, &stop).await;
    // Writes are done, except those of one device; there are no services.
    tokio::spawn(async move {
        while let Some(incoming) = requests.recv().await {
            let device = incoming.request.entity.clone();
            let answer = match incoming.request.method {
                Method::Put if device != "device-3" => Response::ok(),
                Method::Put => {
                    let reason = format!("the queue for device {device} is full");
                    Response::error(Status::SERVICE_UNAVAILABLE, reason)
                }
                _ => Response::error(Status::NOT_FOUND, "no such service"),
            };
            incoming.reply(answer);
        }
    });
    let cluster = &running.cluster;
    let (writes, calls) = tokio::join!(
        load(Kind::Write, "setpoint").send(cluster),
        load(Kind::Call, "run").send(cluster)
    );
    let (writes, calls) = (writes.unwrap(), calls.unwrap());
    assert_eq!((writes.due, writes.not_started), (200, 0));
    let full = "SERVICE_UNAVAILABLE: the queue for device … is full";
    let outcomes = BTreeMap::from([("SUCCESS".into(), 180), (full.to_owned(), 20)]);
    assert_eq!(writes.outcomes, outcomes);
    assert_eq!(writes.done.iter().sum::<u64>(), 180);
    assert!(writes.took.max_us > 0 && writes.took.p50_us <= writes.took.max_us);
    let outcomes = BTreeMap::from([("NOT_FOUND: no such service".to_owned(), 200)]);
    assert_eq!(calls.outcomes, outcomes);
    stop.cancel();
}

#[tokio::test]
async fn requests_do_not_wait_for_each_other_and_those_without_room_are_counted() {
    let stop = CancellationToken::new();
    let running = platform(&stop).await;
    let (_node, mut requests) = edge(&running, &stop).await;
    let mut load = load(Kind::Write, "setpoint");
    load.at_once = 5;
    let cluster = Arc::clone(&running.cluster);
    let sent = tokio::spawn(async move { load.send(&cluster).await });
    // As many as may be come although none is answered.
    let mut held = Vec::new();
    while held.len() < 5 {
        let incoming = timeout(SOON, requests.recv()).await.unwrap().unwrap();
        if incoming.request.method == Method::Put {
            held.push(incoming);
        }
    }
    for incoming in held {
        incoming.reply(Response::ok());
    }
    // Whatever finds room after that is done as well.
    tokio::spawn(async move {
        while let Some(incoming) = requests.recv().await {
            incoming.reply(Response::ok());
        }
    });
    let sent = timeout(SOON, sent).await.unwrap().unwrap().unwrap();
    assert_eq!(sent.due, 200);
    let done = sent.outcomes["SUCCESS"];
    assert!(done >= 5 && done + sent.not_started == 200, "{sent:?}");
    stop.cancel();
}
