//! The operator's life: client, watches, reconciles, drain.

use std::{future::Future, sync::Arc, time::Duration};

use kube::Client;
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    admin,
    apply::Applier,
    args::{ElectionArgs, OperatorArgs},
    client, controller,
    health::Health,
    heard::heard,
    lease::{Election, Grant, Lost, Timing, guarded},
    manager::OperatorId,
    metrics::Metrics,
    observe::Stores,
    reconcile::{Policy, Reconciler},
    retained::Retained,
    watches::Watches,
};

/// Triggers that wait for the loop, which takes them in microseconds; when it is full the watches wait.
const TRIGGERS: usize = 1024;

/// Why the operator ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The port of probes and metrics cannot be opened.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Neither a kubeconfig nor a pod's service account can be used.
    #[error("cannot reach Kubernetes: {0}")]
    Client(String),
    /// A metric has a bad name: a fault of this program.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// Another operator may write now. What this one knows and has begun is void; started again it
    /// stands by.
    #[error(transparent)]
    Lost(#[from] Lost),
}

/// Runs the operator with the kubeconfig or service account of its surroundings.
///
/// # Errors
/// [`RunError`], if it cannot start.
pub async fn run(args: OperatorArgs, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
    let client = client::connect().await.map_err(RunError::Client)?;
    let address = args.listen;
    let listener = admin::bind(address)
        .await
        .map_err(|source| RunError::Listen { address, source })?;
    let version = env!("CARGO_PKG_VERSION");
    // One that stands by says nothing else.
    tracing::info!(version, %address, "starting");
    run_with(client, listener, args, shutdown).await
}

/// Runs the operator with this client and port until `shutdown`; then ends what has begun.
///
/// # Errors
/// [`RunError`], if it cannot start.
pub async fn run_with(
    client: Client,
    listener: TcpListener,
    args: OperatorArgs,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let metrics = Arc::new(Metrics::new(&args.election.lease_name)?);
    let deaf = Duration::from_secs(args.deaf_seconds);
    let health = Health::new(Arc::clone(&metrics), deaf);
    let (told, counted) = (health.clone(), Arc::clone(&metrics));
    let client = heard(client, move |(method, status)| {
        counted.runtime.requested(&method, status);
        if status.is_some_and(|status| status.is_success()) {
            told.answered(Instant::now());
        }
    });
    let stores = Stores::new();
    let (triggers, triggered) = mpsc::channel(TRIGGERS);
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    Watches {
        client: &client,
        stores: &stores,
        triggers: &triggers,
        health: &health,
        shutdown: &stop,
    }
    .start(&args.watch_namespaces, &mut tasks);
    let served = admin::serve(listener, health.clone(), Arc::clone(&metrics), stop.clone());
    tasks.spawn(async move {
        if let Err(error) = served.await {
            tracing::error!(%error, "probes and metrics are no longer served");
        }
    });
    let (grant, permit) = Grant::new();
    let release = CancellationToken::new();
    let own = client.default_namespace().to_owned();
    let namespace = args.election.lease_namespace.as_ref().unwrap_or(&own);
    let elected = elected(&client, namespace, &args.election, grant, release.clone());
    let writer = guarded(client.clone(), permit.clone());
    let retained = Retained {
        client: client.clone(),
        applier: Applier::new(writer.clone(), Arc::clone(&metrics)),
        stores: stores.clone(),
        health: health.clone(),
        scopes: args.watch_namespaces.clone(),
        age: Duration::from_secs(args.retain_seconds),
    };
    tasks.spawn(retained.run(permit.clone(), stop.clone()));
    let policy = Policy {
        defaults: args.connector.into(),
        me: OperatorId::new(namespace, &args.election.lease_name),
        rollouts: args.max_concurrent_rollouts.get(),
        stale_member: Duration::from_secs(args.stale_member_seconds),
    };
    let reconciler = Reconciler::new(writer, stores.clone(), policy, Arc::clone(&metrics));
    let loop_ = controller::run(
        Arc::new(reconciler),
        stores,
        triggered,
        health,
        metrics,
        permit,
        stop.clone(),
    );
    let signal = async {
        shutdown.await;
        stop.cancel();
    };
    tokio::pin!(elected);
    tokio::select! {
        lost = &mut elected => {
            // What is under way is dropped here.
            stop.cancel();
            return Ok(lost?);
        }
        _ = async { tokio::join!(loop_, signal) } => {}
    }
    // Nothing is written any more: another may.
    release.cancel();
    elected.await?;
    while tasks.join_next().await.is_some() {}
    Ok(())
}

/// Takes part in the election until `release`; without one, everything is allowed until then.
async fn elected(
    client: &Client,
    namespace: &str,
    args: &ElectionArgs,
    grant: Grant,
    release: CancellationToken,
) -> Result<(), Lost> {
    if !args.leader_elect {
        grant.for_ever();
        release.cancelled().await;
        return Ok(());
    }
    // A process that was started again is another one: what it had begun is over.
    let me = format!("{}-{:08x}", args.identity, rand::random::<u32>());
    Election::new(
        client.clone(),
        namespace,
        &args.lease_name,
        &me,
        Timing::default(),
        grant,
    )
    .run(release)
    .await
}
