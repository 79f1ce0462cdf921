//! Whether the operator sees the cluster, and whether it is alive.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{freshness::Server, metrics::Metrics};

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
    /// When the server last said something to it: an event, a list, the beginning of a watch (every 20 s), a
    /// refusal. A refusal is no fault of this process, and a restart would not end it.
    fresh: Instant,
    kind: &'static str,
}

/// State of all watches and of the loop.
#[derive(Clone)]
pub struct Health {
    watches: Arc<Mutex<BTreeMap<String, Watched>>>,
    turned: Arc<Mutex<Instant>>,
    server: Arc<Mutex<Server>>,
    /// How long a watch may hear nothing while others are answered.
    patience: Duration,
    metrics: Arc<Metrics>,
}

/// One watch's way to say how it is.
#[derive(Clone)]
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
    pub fn new(metrics: Arc<Metrics>, patience: Duration) -> Self {
        let turned = Arc::new(Mutex::new(Instant::now()));
        Self {
            watches: Arc::default(),
            turned,
            server: Arc::default(),
            patience,
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
            fresh: Instant::now(),
            kind,
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

    /// Whether events of a kind come, in all namespaces.
    #[must_use]
    pub fn all_well(&self, kind: &str) -> bool {
        let watches = lock(&self.watches);
        let mut of_kind = watches.values().filter(|watch| watch.kind == kind);
        of_kind.all(|watch| watch.state == State::Well)
    }

    /// The loop has turned.
    pub fn turn(&self, now: Instant) {
        *lock(&self.turned) = now;
    }

    /// The API server has answered somebody as one that works does.
    pub fn answered(&self, now: Instant) {
        lock(&self.server).answered(now);
    }

    /// Whether a restart would help: the loop has stopped turning, or a watch has gone deaf.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn alive(&self, now: Instant) -> Result<(), String> {
        if now.saturating_duration_since(*lock(&self.turned)) >= STALLED {
            return Err("the reconcile loop hangs".to_owned());
        }
        let server = *lock(&self.server);
        let deaf: Vec<String> = lock(&self.watches)
            .iter()
            .filter(|(_, watch)| server.is_deaf(watch.fresh, self.patience, now))
            .map(|(name, _)| name.clone())
            .collect();
        if deaf.is_empty() {
            return Ok(());
        }
        Err(format!(
            "the API server answers, but not these watches: {}",
            deaf.join(", ")
        ))
    }

    /// Measures how long ago each kind was last fresh; of several namespaces the oldest counts.
    pub fn measure(&self, now: Instant) {
        let mut ages: BTreeMap<&'static str, Duration> = BTreeMap::new();
        for watch in lock(&self.watches).values() {
            let age = now.saturating_duration_since(watch.fresh);
            let oldest = ages.entry(watch.kind).or_default();
            *oldest = age.max(*oldest);
        }
        for (kind, age) in ages {
            let gauge = self.metrics.watch_age.with_label_values(&[kind]);
            gauge.set(age.as_secs_f64());
        }
    }
}

impl WatchHealth {
    /// The server has said something to this watch.
    pub fn fresh(&self) {
        if let Some(watch) = lock(&self.health.watches).get_mut(&self.name) {
            watch.fresh = Instant::now();
        }
    }

    /// Events come.
    pub fn well(&self) {
        self.fresh();
        self.set(State::Well, "");
    }

    /// The watch lists again.
    pub fn restarted(&self) {
        let restarts = &self.health.metrics.watch_restarts;
        restarts.with_label_values(&[self.kind]).inc();
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
