//! Hands out reconciles.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    health::Health,
    lease::Permit,
    metrics::{Load, Metrics},
    observe::Stores,
    queue::{Next, Outcome, Queue},
    reconcile::Reconciler,
    store::ObjectKey,
    watch::Trigger,
};

/// Reconciles at the same time: a reconcile waits for the API server most of its time, and this many
/// keep it busy without crowding out others.
pub const CONCURRENCY: usize = 8;
/// The loop turns at least this often, which proves that it lives.
const TURN: Duration = Duration::from_secs(10);
/// How often it looks whether all first lists have ended.
const UNSYNCED_TURN: Duration = Duration::from_millis(50);
/// After a reconcile all resources are counted this late: that takes longer than a reconcile, and its status
/// comes back by the watch.
const COUNT: Duration = Duration::from_secs(1);
/// A reconcile that has begun may end: two calls, within the pod's grace period of 30 s.
const DRAIN: Duration = Duration::from_secs(20);

/// Reconciles what `triggers` name until `shutdown`, then waits for what has begun.
pub async fn run(
    reconciler: Arc<Reconciler>,
    stores: Stores,
    mut triggers: mpsc::Receiver<Trigger>,
    health: Health,
    metrics: Arc<Metrics>,
    mut permit: Permit,
    shutdown: CancellationToken,
) {
    let mut queue = Queue::default();
    let mut running: JoinSet<(ObjectKey, Outcome)> = JoinSet::new();
    let mut started = BTreeMap::new();
    let (mut synced, mut worked) = (false, false);
    let mut count = Instant::now();
    loop {
        let now = Instant::now();
        health.turn(now);
        synced = synced || health.unready().is_none();
        let leads = permit.check().is_ok();
        let works = synced && leads;
        if works && !worked {
            reconciler.begin();
            // What the last one has left undone nobody will tell.
            for key in stores.connectors.keys() {
                queue.add(key, now);
            }
        }
        worked = works;
        metrics.runtime.leads(leads);
        let mut wake = now + if synced { TURN } else { UNSYNCED_TURN };
        if worked && now >= count {
            reconciler.count();
            queue.forget(&BTreeSet::from_iter(stores.connectors.keys()));
            count = now + TURN;
        }
        if worked {
            wake = wake.min(count);
        }
        loop {
            let next = if works {
                queue.next(Instant::now(), CONCURRENCY)
            } else {
                Next::Idle
            };
            match next {
                Next::Run(key) => {
                    let reconciler = Arc::clone(&reconciler);
                    metrics.runtime.waited(queue.waited());
                    started.insert(key.clone(), Instant::now());
                    running.spawn(async move {
                        let outcome = reconciler.reconcile(&key).await;
                        (key, outcome)
                    });
                }
                Next::At(due) => {
                    wake = wake.min(due);
                    break;
                }
                Next::Idle => break,
            }
        }
        metrics.runtime.load(load(&queue, &started));
        metrics.in_backoff.set(gauge(queue.in_backoff()));
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = permit.changed() => {}
            Some(Trigger { key, after }) = triggers.recv() => queue.add(key, Instant::now() + after),
            // A panic ends the process (`panic = "abort"`), so each reconcile comes back.
            Some(Ok((key, outcome))) = running.join_next() => {
                let now = Instant::now();
                started.remove(&key);
                queue.done(&key, outcome, now);
                for key in reconciler.admitted() {
                    queue.add(key, now);
                }
                count = count.min(now + COUNT);
            }
            () = sleep_until(wake) => {}
        }
    }
    tracing::info!(running = running.len(), "draining");
    let rest = async { while running.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, rest).await.is_err() {
        tracing::warn!("some reconciles did not end in time; the next start does them again");
    }
}

fn load(queue: &Queue, started: &BTreeMap<ObjectKey, Instant>) -> Load {
    let times = || started.values().map(Instant::elapsed);
    Load {
        added: queue.added(),
        depth: queue.depth(),
        active: started.len(),
        unfinished: times().sum(),
        longest: times().max().unwrap_or_default(),
    }
}

fn gauge(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
