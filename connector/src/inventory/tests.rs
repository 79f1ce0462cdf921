//! Members that share devices on a platform with two nodes.

use std::{
    future::ready,
    net::SocketAddr,
    num::NonZeroU8,
    sync::atomic::{AtomicUsize, Ordering},
};

use alwayson::{Claim, Credentials, TlsSettings};
use connector_config::{RoutingGroup, ThingName};
use thingworx_standin::{ClusterSettings, Running, Thing, bind::Policy};
use tokio::time::{sleep, timeout};

use super::*;
use crate::{
    identity::Identity,
    metrics::Metrics,
    platform::{NodesSettings, start_nodes},
    report::Part,
};

const KEY: &str = "a-key";
const DEVICES: usize = 1000;
/// Far beyond any hand-over and any pause after a refusal.
const SOON: Duration = Duration::from_secs(60);

struct Key;

impl Credentials for Key {
    fn claims(&self) -> Result<Vec<Claim>, String> {
        Ok(vec![Claim {
            name: "appKey".into(),
            value: KEY.into(),
        }])
    }
}

async fn platform(policy: Policy, end: &CancellationToken) -> Running {
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    let config = thingworx_standin::Config {
        nodes: vec![any; 2],
        rest: any,
        tls: None,
        cluster: ClusterSettings {
            app_keys: BTreeSet::from([KEY.to_owned()]),
            policy,
            // Nobody is here to answer.
            notify_after: SOON,
            ..ClusterSettings::default()
        },
    };
    let running = thingworx_standin::run(config, end.clone()).await.unwrap();
    running
        .cluster
        .define("Hub", Thing::of("AzureIotHubTemplate"));
    running
}

fn devices() -> impl Iterator<Item = Arc<str>> {
    (0..DEVICES).map(|number| format!("dev-{number}").into())
}

struct Member {
    id: MemberId,
    binder: Binder,
    reporter: Reporter,
    end: CancellationToken,
}

/// A member with its own connections, which has joined.
fn member(platform: &Running, id: &str, members: &watch::Sender<BTreeSet<MemberId>>) -> Member {
    let (id, end) = (MemberId::new(id), CancellationToken::new());
    let url = |node| format!("ws://{node}/Thingworx/WS").parse().unwrap();
    let settings = NodesSettings {
        urls: platform.nodes.iter().map(url).collect(),
        service: None,
        tls: TlsSettings::default(),
        pipes: NonZeroU8::MIN,
        credentials: Arc::new(Key),
    };
    let (requests, _) = tokio::sync::mpsc::channel(1);
    let nodes = start_nodes(settings, requests, end.clone());
    let reporter = Reporter::new(&Identity::from_env());
    let template = ThingName::new("ConnectionServer").unwrap();
    let metrics = Metrics::new().unwrap();
    let binder = Binder::start(
        nodes,
        &id,
        &template,
        reporter.clone(),
        metrics,
        end.clone(),
    );
    let hub = ThingName::new("Hub").unwrap();
    binder.join(&hub, &RoutingGroup::new("Hub").unwrap(), &[]);
    let inventory = Inventory {
        binder: binder.clone(),
        members: Members::new(members.subscribe()),
        own: id.clone(),
        reporter: reporter.clone(),
    };
    let list = || ready(Ok(devices().collect()));
    tokio::spawn(inventory.run(list, end.clone()));
    Member {
        id,
        binder,
        reporter,
        end,
    }
}

/// On how many places each member has bound a name: two names of each device on two nodes.
fn bound(platform: &Running, member: &Member) -> usize {
    let of = |name: &str| {
        let nodes = platform.cluster.binders(name).into_iter();
        nodes
            .flatten()
            .filter(|one| *one == member.id.as_str())
            .count()
    };
    devices().map(|one| of(&one) + of(&format!("*{one}"))).sum()
}

const ALL: usize = DEVICES * 2 * 2;

async fn until(promise: &str, done: impl Fn() -> bool) {
    let reached = timeout(SOON, async {
        while !done() {
            sleep(Duration::from_millis(50)).await;
        }
    });
    assert!(reached.await.is_ok(), "{promise}");
}

#[tokio::test]
async fn members_share_all_devices_and_take_over_those_of_one_that_leaves() {
    let end = CancellationToken::new();
    let platform = platform(Policy::FirstInWins, &end).await;
    let (members, _) = watch::channel(BTreeSet::from([MemberId::new("a")]));
    let a = member(&platform, "a", &members);
    until("one has all", || bound(&platform, &a) == ALL).await;
    let b = member(&platform, "b", &members);
    members.send_replace(BTreeSet::from([a.id.clone(), b.id.clone()]));
    let (of_a, of_b) = (AtomicUsize::new(0), AtomicUsize::new(0));
    until("two have their shares", || {
        of_a.store(bound(&platform, &a), Ordering::Relaxed);
        of_b.store(bound(&platform, &b), Ordering::Relaxed);
        of_a.load(Ordering::Relaxed) + of_b.load(Ordering::Relaxed) == ALL
            && of_b.load(Ordering::Relaxed) > ALL / 3
    })
    .await;
    // First come, first served: had they fought, one of them would say so.
    assert!(!b.reporter.troubles().contains_key(&Part::Devices));
    b.binder.leave();
    members.send_replace(BTreeSet::from([a.id.clone()]));
    until("one has all again", || bound(&platform, &a) == ALL).await;
    b.end.cancel();
    end.cancel();
}

#[tokio::test]
async fn a_name_that_somebody_else_holds_is_said_and_taken_when_it_is_free() {
    // Whether a refused bind binds the rest is not public.
    tokio::join!(held(Policy::FirstInWins), held(Policy::FirstInWinsByName));
}

async fn held(policy: Policy) {
    let end = CancellationToken::new();
    let platform = platform(policy, &end).await;
    platform.cluster.hold("dev-7", true);
    let (members, _) = watch::channel(BTreeSet::from([MemberId::new("a")]));
    let a = member(&platform, "a", &members);
    until("all others are bound", || bound(&platform, &a) == ALL - 2).await;
    until("it is said", || {
        let troubles = a.reporter.troubles();
        let said = troubles.get(&Part::Devices);
        said.is_some_and(|trouble| trouble.message.contains("dev-7"))
    })
    .await;
    assert!(a.reporter.now().is_minor());
    platform.cluster.hold("dev-7", false);
    until("it is taken", || bound(&platform, &a) == ALL).await;
    until("nothing is wrong", || a.reporter.troubles().is_empty()).await;
    a.end.cancel();
    end.cancel();
}
