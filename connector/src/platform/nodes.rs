//! Which nodes there are: a fixed list of URLs, or the addresses behind a headless name.

use std::{collections::BTreeMap, num::NonZeroU8, sync::Arc, time::Duration};

use alwayson::{Credentials, Incoming, Node, NodeSettings, Timings, TlsSettings};
use tokio::{
    net::lookup_host,
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::Nodes;

/// A headless name is resolved again this often, so that a node that joins or moves is found soon.
const RESOLVE: Duration = Duration::from_secs(5);
/// A resolver that does not answer within this is asked again at the next turn.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(4);

/// What every node's connection is made with.
#[derive(Clone)]
pub struct NodesSettings {
    /// URLs of the nodes; empty with `service`.
    pub urls: Vec<Url>,
    /// Headless name and port.
    pub service: Option<(String, u16)>,
    /// How certificates are checked.
    pub tls: TlsSettings,
    /// WebSockets to each node.
    pub pipes: NonZeroU8,
    /// How to log in.
    pub credentials: Arc<dyn Credentials>,
}

/// Connects to all nodes; their requests go to `requests`. Ends with `shutdown`.
pub fn start(
    settings: NodesSettings,
    requests: mpsc::Sender<Incoming>,
    shutdown: CancellationToken,
) -> Nodes {
    let connect = move |url: Url, stop: CancellationToken| {
        let node = NodeSettings {
            name: name(&url).into(),
            url,
            tls: settings.tls.clone(),
            pipes: settings.pipes,
            timings: Timings::default(),
        };
        Node::start(node, settings.credentials.clone(), requests.clone(), stop)
    };
    let (changed, nodes) = watch::channel(Vec::new().into());
    let Some((host, port)) = settings.service else {
        let fixed = settings.urls.into_iter();
        changed.send_replace(fixed.map(|url| connect(url, shutdown.clone())).collect());
        // Whoever watches takes a sender that is gone for the end.
        tokio::spawn(async move {
            shutdown.cancelled().await;
            drop(changed);
        });
        return nodes;
    };
    tokio::spawn(async move {
        let mut known: BTreeMap<Url, (Node, CancellationToken)> = BTreeMap::new();
        while !shutdown.is_cancelled() {
            let found = resolve(&host, port).await;
            // A resolver that finds nobody is more often ill than right: keep the nodes we have.
            if !found.is_empty() && !found.iter().eq(known.keys()) {
                tracing::info!(nodes = found.len(), service = host, "nodes have changed");
                known.retain(|url, (_, stop)| {
                    let stays = found.contains(url);
                    if !stays {
                        stop.cancel();
                    }
                    stays
                });
                for url in found {
                    known.entry(url.clone()).or_insert_with(|| {
                        let stop = shutdown.child_token();
                        (connect(url, stop.clone()), stop)
                    });
                }
                changed.send_replace(known.values().map(|(node, _)| node.clone()).collect());
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep(RESOLVE) => {}
            }
        }
    });
    nodes
}

async fn resolve(host: &str, port: u16) -> Vec<Url> {
    let mut urls: Vec<Url> = match timeout(RESOLVE_TIMEOUT, lookup_host((host, port))).await {
        Ok(Ok(addresses)) => addresses
            .filter_map(|address| Url::parse(&format!("wss://{address}/Thingworx/WS")).ok())
            .collect(),
        Ok(Err(error)) => {
            tracing::debug!(host, %error, "the platform's name could not be resolved");
            Vec::new()
        }
        Err(_) => Vec::new(),
    };
    urls.sort();
    urls.dedup();
    urls
}

/// Host and port: what tells nodes apart in logs and metrics.
fn name(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port_or_known_default() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}
