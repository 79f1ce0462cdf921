//! Stand-in for a ThingWorx cluster: several nodes, each with an AlwaysOn face of its own, that share one
//! model; and a REST face to define Things, to call them, and to look at what has happened.
//!
//! It exists so that a connector's promises can be tested without a licence, and is as strict as the
//! platform is known to be: what it does follows the observed behaviour of the platform (6.5, 9.x) towards
//! the published Edge SDKs. Where the platform's behaviour is not public, as for the group bind, the
//! stand-in's own rule is written at [`bind`].

pub mod bind;
mod cluster;
mod draw;
mod entity;
mod execute;
mod fault;
mod load;
mod log;
mod model;
mod node;
mod rest;
mod right;
mod socket;
mod tally;
mod times;

pub use cluster::{Cluster, ClusterSettings, Login};
pub use draw::NoAnswer;
pub use fault::Fault;
pub use load::{BadLoad, Kind, Load, LoadView};
pub use model::{Property, Remote, Service, Thing};
pub use right::Rights;
pub use tally::TallyView;
pub use times::TimesView;

use std::{net::SocketAddr, sync::Arc};

use rustls::ServerConfig;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// How the stand-in is started.
#[derive(Debug, Clone)]
pub struct Config {
    /// Addresses of the nodes' AlwaysOn faces.
    pub nodes: Vec<SocketAddr>,
    /// Address of the REST face (plain HTTP).
    pub rest: SocketAddr,
    /// Certificate of the nodes; `None` for `ws://`.
    pub tls: Option<Arc<ServerConfig>>,
    /// What they share.
    pub cluster: ClusterSettings,
}

/// A running stand-in.
pub struct Running {
    /// Where the nodes listen.
    pub nodes: Vec<SocketAddr>,
    /// Where the REST face listens.
    pub rest: SocketAddr,
    /// The cluster behind them.
    pub cluster: Arc<Cluster>,
    tasks: JoinSet<()>,
}

impl Running {
    /// Waits until everything has ended after the shutdown token was cancelled.
    pub async fn ended(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Starts all faces; they end with `shutdown`.
///
/// # Errors
/// If an address cannot be bound.
pub async fn run(config: Config, shutdown: CancellationToken) -> std::io::Result<Running> {
    let Config {
        nodes,
        rest,
        tls,
        cluster,
    } = config;
    let cluster = Arc::new(Cluster::new(nodes.len(), cluster));
    let mut tasks = JoinSet::new();
    let mut bound = Vec::new();
    for (index, address) in nodes.into_iter().enumerate() {
        let listener = TcpListener::bind(address).await?;
        bound.push(listener.local_addr()?);
        let cluster = cluster.clone();
        let acceptor = tls.clone().map(tokio_rustls::TlsAcceptor::from);
        let shutdown = shutdown.clone();
        tasks.spawn(node::serve(listener, index, cluster, acceptor, shutdown));
    }
    let listener = TcpListener::bind(rest).await?;
    let rest = listener.local_addr()?;
    let app = rest::router(cluster.clone());
    tasks.spawn(async move {
        let server = axum::serve(listener, app)
            .with_graceful_shutdown(async move { shutdown.cancelled().await });
        if let Err(error) = server.await {
            tracing::error!(%error, "the REST face failed");
        }
    });
    Ok(Running {
        nodes: bound,
        rest,
        cluster,
        tasks,
    })
}
