//! The promises of an endpoint on a node, kept against a cluster that behaves as the platform does.

// Clippy lets tests panic, but not the functions that tests share.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    num::NonZeroU8,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use alwayson::{
    BindState, Claim, Class, Credentials, DesiredBinds, Gateway, GroupBind, GroupBindStrategy,
    Incoming, Link, Node, NodeSettings, NodeState, Request, RequestError, Response, Status,
    Timings, TlsSettings, Value,
};
use rustls::{ServerConfig, crypto::aws_lc_rs};
use rustls_pki_types::PrivateKeyDer;
use thingworx_standin::{ClusterSettings, Config, Fault, Login, NoAnswer, Running, Thing, run};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;
use url::Url;

const KEY: &str = "a-key-that-is-valid";
const HUB: &str = "Hub";
/// Whatever has not happened by then will not.
const SOON: Duration = Duration::from_secs(20);

/// A cluster of so many nodes, which ends with the test.
struct Platform {
    running: Running,
    scheme: &'static str,
    stop: CancellationToken,
}

impl Drop for Platform {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn platform(nodes: usize, tls: Option<Arc<ServerConfig>>) -> Platform {
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    let stop = CancellationToken::new();
    let scheme = if tls.is_some() { "wss" } else { "ws" };
    let config = Config {
        nodes: vec![any; nodes],
        rest: any,
        tls,
        cluster: ClusterSettings {
            app_keys: BTreeSet::from([KEY.to_owned()]),
            request_timeout: Duration::from_millis(500),
            notify_after: Duration::from_millis(20),
            ..ClusterSettings::default()
        },
    };
    let running = run(config, stop.clone()).await.unwrap();
    running
        .cluster
        .define(HUB, Thing::of("AzureIotHubTemplate"));
    Platform {
        running,
        scheme,
        stop,
    }
}

/// Credentials that count how they fared.
struct Key {
    key: &'static str,
    accepted: AtomicUsize,
    refused: AtomicUsize,
}

impl Key {
    fn new(key: &'static str) -> Arc<Self> {
        Arc::new(Self {
            key,
            accepted: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
        })
    }
}

impl Credentials for Key {
    fn claims(&self) -> Result<Vec<Claim>, String> {
        Ok(vec![Claim {
            name: "appKey".into(),
            value: self.key.into(),
        }])
    }

    fn accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}

/// How an endpoint is made.
struct Made {
    pipes: u8,
    host: &'static str,
    tls: TlsSettings,
    key: Arc<Key>,
}

impl Default for Made {
    fn default() -> Self {
        Self {
            pipes: 1,
            host: "127.0.0.1",
            tls: TlsSettings::default(),
            key: Key::new(KEY),
        }
    }
}

impl Platform {
    /// Starts an endpoint on a node, with what the platform asks of it.
    fn endpoint(&self, node: usize, made: &Made) -> (Node, mpsc::Receiver<Incoming>) {
        let port = self.running.nodes[node].port();
        let url = format!("{}://{}:{port}/Thingworx/WS", self.scheme, made.host);
        let settings = NodeSettings {
            name: format!("node-{node}").into(),
            url: Url::parse(&url).unwrap(),
            tls: made.tls.clone(),
            pipes: NonZeroU8::new(made.pipes).unwrap(),
            timings: Timings {
                backoff: Duration::from_millis(20),
                max_backoff: Duration::from_millis(100),
                refused: Duration::from_millis(100),
                ..Timings::default()
            },
        };
        let (sender, requests) = mpsc::channel(64);
        let credentials: Arc<dyn Credentials> = made.key.clone();
        let node = Node::start(settings, credentials, sender, self.stop.child_token());
        (node, requests)
    }

    /// An endpoint that answers each request with its gateway's name.
    fn pod(&self, node: usize, gateway: &'static str, made: &Made) -> Node {
        let (node, mut requests) = self.endpoint(node, made);
        node.bind(binds(gateway, true));
        tokio::spawn(async move {
            while let Some(incoming) = requests.recv().await {
                incoming.reply(Response::result(Value::string(gateway)));
            }
        });
        node
    }

    fn fault(&self, fault: &Fault) {
        self.running.cluster.fault(fault);
    }

    fn binders(&self, name: &str) -> Vec<Vec<String>> {
        self.running.cluster.binders(name)
    }

    fn logins(&self) -> Vec<Login> {
        self.running.cluster.logins()
    }
}

fn binds(gateway: &str, hub: bool) -> DesiredBinds {
    let gateway = Gateway {
        name: gateway.into(),
        template: "ConnectionServer".into(),
    };
    let group = GroupBind {
        thing: HUB.into(),
        routing_group: "Group".into(),
        strategy: GroupBindStrategy::Plain,
    };
    DesiredBinds {
        gateway: Some(gateway),
        group: hub.then_some(group),
        ..DesiredBinds::default()
    }
}

async fn until(node: &Node, what: &str, wanted: impl Fn(&NodeState) -> bool) -> NodeState {
    let mut state = node.state();
    let seen = timeout(SOON, state.wait_for(|state| wanted(state))).await;
    match seen {
        Ok(state) => state.unwrap().clone(),
        Err(_) => panic!("not {what} in time: {:?}", node.state().borrow()),
    }
}

/// What the node does after the endpoint is done with it has no event to wait for.
async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let seen = timeout(SOON, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    seen.await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

fn bound(state: &NodeState) -> bool {
    (&state.link, &state.gateway, &state.group) == (&Link::Up, &BindState::Bound, &BindState::Bound)
}

/// A harmless question of an edge to the platform.
fn question() -> Request {
    Request::call(HUB, "GetConfiguration", None)
}

async fn answered(node: &Node) -> Response {
    node.request(&question(), SOON).await.unwrap()
}

#[tokio::test]
async fn pods_on_every_node_bind_one_thing_together_and_requests_go_both_ways() {
    let platform = platform(2, None).await;
    let made = Made {
        pipes: 3,
        ..Made::default()
    };
    let mut pods = Vec::new();
    for gateway in ["pod-a", "pod-b"] {
        for node in 0..2 {
            pods.push(platform.pod(node, gateway, &made));
        }
    }
    for pod in &pods {
        until(pod, "bound", bound).await;
        assert_eq!(answered(pod).await.status, Status::SUCCESS);
        pod.ping(SOON).await.unwrap();
    }
    for node in platform.binders(HUB) {
        let gateways: BTreeSet<_> = node.iter().map(String::as_str).collect();
        assert_eq!(gateways, BTreeSet::from(["pod-a", "pod-b"]));
    }
    let mut served = BTreeSet::new();
    for _ in 0..64 {
        let request = Request::call(HUB, "Anything", None);
        let answer = platform.running.cluster.ask(request).await.unwrap();
        let content = answer.content.unwrap();
        served.insert(
            content
                .get(0, "result")
                .unwrap()
                .as_text()
                .unwrap()
                .to_owned(),
        );
    }
    assert_eq!(served.len(), 2, "each pod is drawn sometimes");
    for pod in &pods {
        pod.close().await;
    }
    eventually("nothing is left behind", || {
        platform.binders(HUB).iter().all(Vec::is_empty)
    })
    .await;
}

#[tokio::test]
async fn several_pipes_are_one_endpoint() {
    let platform = platform(1, None).await;
    let key = Key::new(KEY);
    let made = Made {
        pipes: 4,
        key: key.clone(),
        ..Made::default()
    };
    let pod = platform.pod(0, "pod", &made);
    until(&pod, "bound", bound).await;
    eventually("all pipes log in", || platform.logins().len() == 4).await;
    let logins = platform.logins();
    assert_eq!(logins[0].presented, -1, "the first joins nothing");
    let id = logins[0].given;
    assert!(
        logins[1..]
            .iter()
            .all(|login| (login.presented, login.given) == (id, id)),
        "the others join it: {logins:?}"
    );
    // Over whichever pipe.
    for _ in 0..16 {
        assert_eq!(answered(&pod).await.status, Status::SUCCESS);
    }
    assert_eq!(key.refused.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_wrong_key_is_denied_and_told() {
    let platform = platform(1, None).await;
    let made = Made {
        key: Key::new("another"),
        ..Made::default()
    };
    let (node, _requests) = platform.endpoint(0, &made);
    let denied = |state: &NodeState| matches!(&state.link, Link::Down { error: Some(error) } if error.class() == Class::Denied);
    until(&node, "denied", denied).await;
    assert!(made.key.refused.load(Ordering::Relaxed) > 0);
    assert_eq!(made.key.accepted.load(Ordering::Relaxed), 0);
    assert!(!node.writable());
    let asked = node.request(&question(), SOON).await;
    assert_eq!(asked, Err(RequestError::NotSent));
}

#[tokio::test]
async fn a_node_that_leaves_and_returns_is_bound_again_with_the_old_id_presented() {
    let platform = platform(2, None).await;
    let pods = [
        platform.pod(0, "pod", &Made::default()),
        platform.pod(1, "pod", &Made::default()),
    ];
    for pod in &pods {
        until(pod, "bound", bound).await;
    }
    let before = platform.logins().len();
    let id = platform
        .logins()
        .iter()
        .find(|one| one.node == 0)
        .unwrap()
        .given;
    platform.fault(&Fault::Leave { node: Some(0) });
    let down = until(&pods[0], "down", |state| {
        matches!(state.link, Link::Down { .. })
    })
    .await;
    assert_eq!(down.group, BindState::Pending);
    assert!(
        bound(&pods[1].state().borrow()),
        "the other node is not touched"
    );
    platform.fault(&Fault::Return { node: Some(0) });
    until(&pods[0], "bound again", bound).await;
    let again = platform.logins()[before];
    assert_eq!(
        (again.node, again.presented),
        (0, id),
        "the old id is presented"
    );
    assert_eq!(platform.binders(HUB), [["pod"], ["pod"]]);
    assert_eq!(answered(&pods[0]).await.status, Status::SUCCESS);
}

#[tokio::test]
async fn requests_have_a_time_out_in_both_directions() {
    let platform = platform(1, None).await;
    let (node, mut requests) = platform.endpoint(0, &Made::default());
    node.bind(binds("pod", true));
    until(&node, "bound", bound).await;

    platform.fault(&Fault::LoseAnswers {
        node: None,
        on: true,
    });
    let short = Duration::from_millis(100);
    let lost = node.request(&question(), short).await;
    assert_eq!(lost, Err(RequestError::TimedOut));
    platform.fault(&Fault::LoseAnswers {
        node: None,
        on: false,
    });
    assert_eq!(
        answered(&node).await.status,
        Status::SUCCESS,
        "and nothing is confused"
    );

    // The platform's own requests: kept too long, and dropped.
    let (kept, told) = mpsc::channel(64);
    tokio::spawn(async move {
        while let Some(incoming) = requests.recv().await {
            match incoming.request.target.as_str() {
                "Keep" => kept.send(incoming).await.unwrap(),
                _ => drop(incoming),
            }
        }
    });
    let ask = |service| {
        platform
            .running
            .cluster
            .ask(Request::call(HUB, service, None))
    };
    assert_eq!(ask("Keep").await, Err(NoAnswer::TimedOut));
    let dropped = ask("Drop").await.unwrap();
    assert_eq!(
        dropped.status,
        Status::INTERNAL_ERROR,
        "never left unanswered"
    );
    drop(told);
}

#[tokio::test]
async fn a_lost_session_is_renewed_and_the_request_repeated_once() {
    let platform = platform(1, None).await;
    let key = Key::new(KEY);
    let made = Made {
        pipes: 2,
        key: key.clone(),
        ..Made::default()
    };
    let pod = platform.pod(0, "pod", &made);
    until(&pod, "bound", bound).await;
    let (first, second) = (question(), question());
    for round in 0..3 {
        platform.fault(&Fault::EndSessions { node: None });
        let before = key.accepted.load(Ordering::Relaxed);
        // At the same time: they share one login.
        let (one, two) = tokio::join!(pod.request(&first, SOON), pod.request(&second, SOON));
        assert_eq!(one.unwrap().status, Status::SUCCESS, "round {round}");
        assert_eq!(two.unwrap().status, Status::SUCCESS, "round {round}");
        assert!(key.accepted.load(Ordering::Relaxed) > before);
        assert!(
            bound(&pod.state().borrow()),
            "the connection and its binds stay"
        );
    }
}

#[tokio::test]
async fn a_session_that_cannot_be_renewed_ends_the_connection_and_is_told() {
    let platform = platform(1, None).await;
    let made = Made::default();
    let pod = platform.pod(0, "pod", &made);
    until(&pod, "bound", bound).await;
    platform.running.cluster.revoke(KEY);
    platform.fault(&Fault::EndSessions { node: None });
    let answer = answered(&pod).await;
    assert_eq!(
        answer.status,
        Status::UNAUTHORIZED,
        "answered, and repeated no more"
    );
    let denied = |state: &NodeState| matches!(&state.link, Link::Down { error: Some(error) } if error.class() == Class::Denied);
    until(&pod, "denied", denied).await;
}

#[tokio::test]
async fn what_is_no_longer_wanted_is_unbound_before_it_is_called_so() {
    let platform = platform(1, None).await;
    let pod = platform.pod(0, "pod", &Made::default());
    until(&pod, "bound", bound).await;
    pod.bind(binds("pod", false));
    until(&pod, "unbound", |state| state.group == BindState::Unwanted).await;
    assert_eq!(platform.binders(HUB), [[""; 0]]);
    assert_eq!(platform.binders("pod"), [["pod"]], "its own Thing stays");
    pod.bind(DesiredBinds::default());
    until(&pod, "unbound", |state| {
        state.gateway == BindState::Unwanted
    })
    .await;
    assert_eq!(platform.binders("pod"), [[""; 0]]);
}

/// A bind was under way when it was no longer wanted; its answer was taken for that of nothing, so the
/// node kept it and went on sending requests to a pod that was leaving.
#[tokio::test]
async fn a_bind_under_way_is_undone_when_it_is_no_longer_wanted() {
    let platform = platform(1, None).await;
    let pod = platform.pod(0, "pod", &Made::default());
    until(&pod, "bound", bound).await;
    pod.bind(binds("pod", false));
    until(&pod, "unbound", |state| state.group == BindState::Unwanted).await;

    let freeze = |ms| platform.fault(&Fault::Freeze { node: None, ms });
    freeze(3_600_000);
    pod.bind(binds("pod", true));
    until(&pod, "asked for", |state| state.group == BindState::Pending).await;
    pod.bind(binds("pod", false));
    freeze(0);
    // Not before the node has both bound and unbound it; the pong comes after what was sent before.
    until(&pod, "unbound", |state| state.group == BindState::Unwanted).await;
    pod.ping(SOON).await.unwrap();
    assert_eq!(platform.binders(HUB), [[""; 0]]);
}

#[tokio::test]
async fn a_gateway_of_another_is_refused_with_the_platforms_words() {
    let platform = platform(1, None).await;
    platform
        .running
        .cluster
        .define("Taken", Thing::of("RemoteThing"));
    let (node, _requests) = platform.endpoint(0, &Made::default());
    node.bind(binds("Taken", true));
    let state = until(&node, "refused", |state| {
        matches!(state.gateway, BindState::Refused { .. })
    })
    .await;
    let BindState::Refused { reason } = state.gateway else {
        panic!("waited for that")
    };
    assert!(reason.contains("Taken"), "{reason}");
}

// ---- TLS ----

/// A server with a certificate for `name`, and the PEM of the authority that signed it.
fn certified(name: &str) -> (Arc<ServerConfig>, Vec<u8>) {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    (Arc::new(config), pem.into_bytes())
}

async fn tls_refused(platform: &Platform, host: &'static str, tls: TlsSettings) -> String {
    let made = Made {
        host,
        tls,
        ..Made::default()
    };
    let (node, _requests) = platform.endpoint(0, &made);
    let state = until(&node, "refused", |state| {
        matches!(&state.link, Link::Down { error: Some(_) })
    })
    .await;
    assert_eq!(
        made.key.accepted.load(Ordering::Relaxed),
        0,
        "no key was shown"
    );
    assert!(
        platform.logins().is_empty(),
        "nobody logs in over such a connection"
    );
    match state.link {
        Link::Down { error: Some(error) } => {
            assert_eq!(error.class(), Class::User, "{error}");
            error.to_string()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_node_is_known_by_its_authority_and_its_name() {
    let (config, ca) = certified("localhost");
    let platform = platform(1, Some(config)).await;
    let tls = |ca: Option<&[u8]>, name: Option<&str>| TlsSettings {
        ca: ca.map(<[u8]>::to_vec),
        server_name: name.map(str::to_owned),
    };
    // The address is not in the certificate.
    let wrong_name = tls_refused(&platform, "127.0.0.1", tls(Some(&ca), None)).await;
    assert!(wrong_name.contains("certificate"), "{wrong_name}");
    tls_refused(
        &platform,
        "localhost",
        tls(Some(&ca), Some("another.example")),
    )
    .await;
    let (_, other_ca) = certified("localhost");
    tls_refused(&platform, "localhost", tls(Some(&other_ca), None)).await;
    tls_refused(&platform, "localhost", tls(None, None)).await;
    let no_ca = tls_refused(&platform, "localhost", tls(Some(b"nothing"), None)).await;
    assert!(no_ca.contains("CA"), "{no_ca}");

    for (host, name) in [("localhost", None), ("127.0.0.1", Some("localhost"))] {
        let made = Made {
            host,
            tls: tls(Some(&ca), name),
            ..Made::default()
        };
        let pod = platform.pod(0, "pod", &made);
        until(&pod, "bound", bound).await;
        pod.close().await;
    }
}
