//! Whether the operator sees the cluster, and whether it is alive.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::metrics::Metrics;

/// The loop that hands out reconciles turns at least every few seconds; when it has not for this long,
/// the process hangs.
const STALLED: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// The first list has not ended.
    Listing,
    /// Events come.
    Well,
    /// The last try failed.
    Failing,
}

#[derive(Debug)]
struct Watched {
    state: State,
    /// A complete list has been seen once.
    synced: bool,
}

/// State of all watches and of the loop.
#[derive(Clone)]
pub struct Health {
    watches: Arc<Mutex<BTreeMap<String, Watched>>>,
    turned: Arc<Mutex<Instant>>,
    metrics: Arc<Metrics>,
}

/// One watch's way to say how it is.
pub struct WatchHealth {
    name: String,
    kind: &'static str,
    health: Health,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked while writing left a whole value.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Health {
    /// Nothing is watched yet.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        let turned = Arc::new(Mutex::new(Instant::now()));
        Self {
            watches: Arc::default(),
            turned,
            metrics,
        }
    }

    /// A watch of `kind` in a namespace, or in all.
    #[must_use]
    pub fn watch(&self, kind: &'static str, scope: Option<&str>) -> WatchHealth {
        let name = scope.map_or_else(|| kind.to_owned(), |scope| format!("{kind} in {scope}"));
        let watched = Watched {
            state: State::Listing,
            synced: false,
        };
        lock(&self.watches).insert(name.clone(), watched);
        WatchHealth {
            name,
            kind,
            health: self.clone(),
        }
    }

    /// Watches whose first list has not ended, as text; `None` when the operator knows the cluster.
    #[must_use]
    pub fn unready(&self) -> Option<String> {
        let watches = lock(&self.watches);
        let missing: Vec<&str> = watches
            .iter()
            .filter(|(_, watch)| !watch.synced)
            .map(|(name, _)| &**name)
            .collect();
        (!missing.is_empty()).then(|| format!("not listed yet: {}", missing.join(", ")))
    }

    /// The loop has turned.
    pub fn turn(&self, now: Instant) {
        *lock(&self.turned) = now;
    }

    /// Whether the loop still turns.
    #[must_use]
    pub fn alive(&self, now: Instant) -> bool {
        now.saturating_duration_since(*lock(&self.turned)) < STALLED
    }
}

impl WatchHealth {
    /// Events come.
    pub fn well(&self) {
        self.set(State::Well, "");
    }

    /// A try failed.
    pub fn failed(&self, why: &str) {
        self.health
            .metrics
            .watch_failures
            .with_label_values(&[self.kind])
            .inc();
        self.set(State::Failing, why);
    }

    fn set(&self, state: State, why: &str) {
        let mut watches = lock(&self.health.watches);
        let Some(watch) = watches.get_mut(&self.name) else {
            return;
        };
        if watch.state == state {
            return;
        }
        let metric = self
            .health
            .metrics
            .watch_failing
            .with_label_values(&[self.kind]);
        match (&watch.state, &state) {
            (_, State::Failing) => {
                metric.inc();
                tracing::warn!(watch = self.name, why, "watch failed; trying again");
            }
            (State::Failing, _) => {
                metric.dec();
                tracing::info!(watch = self.name, "watch recovered");
            }
            _ => {}
        }
        watch.synced |= state == State::Well;
        watch.state = state;
    }
}
