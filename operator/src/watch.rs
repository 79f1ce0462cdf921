//! One task for each watch, with a backoff of its own.
//!
//! Not the runtime's `Controller`: there all watches share one backoff, and while it sleeps for one of
//! them no connection of the others makes progress, so that after an outage of the API server each
//! keeps the others from recovering for minutes.

use std::{collections::BTreeSet, fmt::Debug, sync::Arc, time::Duration};

use futures::StreamExt;
use kube::{
    Api, Resource,
    runtime::watcher::{self, Event, watcher},
};
use serde::de::DeserializeOwned;
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    health::WatchHealth,
    store::{ObjectKey, Store},
};

/// How long the server keeps a watch open. A connection that died in silence is noticed 5 s after
/// that, so it is short; a new watch begins where the old one ended and costs one request.
pub const WATCH_SECONDS: u32 = 20;
/// A list that has not ended by then hangs: the server gives up after 60 s.
const LIST: Duration = Duration::from_secs(65);
/// Objects of one answer to a list. All are in memory at the same time as they are sent, before what nobody
/// reads is dropped, and all kinds are listed at once.
const PAGE: u32 = 100;
/// Waits between tries: short, because after an outage every second counts, and few watches exist.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// A resource that should be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    /// The resource.
    pub key: ObjectKey,
    /// Not at once but after this long, so that a burst of events causes one reconcile.
    pub after: Duration,
}

/// What has changed: an object before and after. One of the two is there.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a, K> {
    /// Before; `None` if it is new.
    pub old: Option<&'a K>,
    /// After; `None` if it is gone.
    pub new: Option<&'a K>,
}

impl<K: Resource> Change<'_, K> {
    /// Whether nothing has changed: an object that is listed again.
    #[must_use]
    pub fn is_none(&self) -> bool {
        match (self.old, self.new) {
            (Some(old), Some(new)) => {
                old.meta().uid == new.meta().uid
                    && old.meta().resource_version == new.meta().resource_version
            }
            _ => false,
        }
    }
}

/// Which resources a change concerns.
pub type Concerns<K> = Box<dyn Fn(&Change<'_, K>) -> Vec<Trigger> + Send + Sync>;

/// A watch of one kind in one namespace, or in all.
pub struct Watch<K: Resource> {
    /// Where the objects are.
    pub api: Api<K>,
    /// Namespace; `None` for all.
    pub scope: Option<String>,
    /// Labels that the objects have; empty for all.
    pub labels: String,
    /// Where they go.
    pub store: Store<K>,
    /// Drops what nobody reads, before it takes memory.
    pub prune: fn(&mut K),
    /// Which resources a change concerns. Called after the store has taken the change in.
    pub concerns: Concerns<K>,
}

impl<K> Watch<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    /// Watches until `shutdown`.
    pub async fn run(
        self,
        triggers: mpsc::Sender<Trigger>,
        health: WatchHealth,
        shutdown: CancellationToken,
    ) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.watch(&triggers, &health) => {}
        }
    }

    async fn watch(&self, triggers: &mpsc::Sender<Trigger>, health: &WatchHealth) {
        let config = watcher::Config::default()
            .labels(&self.labels)
            .page_size(PAGE)
            .timeout(WATCH_SECONDS);
        let mut failures = 0u32;
        for restarts in 0u64.. {
            if restarts > 0 {
                health.restarted();
            }
            let mut stream = std::pin::pin!(watcher(self.api.clone(), config.clone()));
            // What has been listed since the list began; `None` when it has ended.
            let mut listed = Some(BTreeSet::new());
            loop {
                let next = stream.next();
                let event = if listed.is_some() {
                    let Ok(event) = timeout(LIST, next).await else {
                        health.failed("the list did not end");
                        break;
                    };
                    event
                } else {
                    next.await
                };
                match event {
                    Some(Ok(event)) => {
                        failures = 0;
                        for trigger in self.take(event, &mut listed) {
                            if triggers.send(trigger).await.is_err() {
                                return;
                            }
                        }
                        if listed.is_none() {
                            health.well();
                        }
                    }
                    Some(Err(error)) => {
                        health.failed(&error.to_string());
                        let (first, last) = BACKOFF;
                        tokio::time::sleep(first.saturating_mul(1 << failures.min(8)).min(last))
                            .await;
                        failures = failures.saturating_add(1);
                        // Lists again: the end of a list is the one sure sign that all is well, and
                        // what was missed is found.
                        break;
                    }
                    None => break,
                }
            }
        }
    }

    /// Takes an event into the store and says which resources it concerns.
    fn take(&self, event: Event<K>, listed: &mut Option<BTreeSet<ObjectKey>>) -> Vec<Trigger> {
        match event {
            Event::Init => {
                *listed = Some(BTreeSet::new());
                Vec::new()
            }
            Event::InitApply(object) => {
                if let Some(listed) = listed {
                    listed.insert(ObjectKey::of(&object));
                }
                self.changed(object)
            }
            Event::InitDone => {
                let gone = match listed.take() {
                    Some(listed) => self.store.retain(self.scope.as_deref(), &listed),
                    None => Vec::new(),
                };
                gone.iter().flat_map(|old| self.gone(old)).collect()
            }
            Event::Apply(object) => self.changed(object),
            Event::Delete(object) => {
                let old = self.store.remove(&ObjectKey::of(&object));
                self.gone(&old.unwrap_or_else(|| Arc::new(object)))
            }
        }
    }

    fn changed(&self, mut object: K) -> Vec<Trigger> {
        object.meta_mut().managed_fields = None;
        (self.prune)(&mut object);
        let object = Arc::new(object);
        let old = self
            .store
            .insert(ObjectKey::of(&*object), Arc::clone(&object));
        let change = Change {
            old: old.as_deref(),
            new: Some(&*object),
        };
        if change.is_none() {
            Vec::new()
        } else {
            (self.concerns)(&change)
        }
    }

    fn gone(&self, old: &Arc<K>) -> Vec<Trigger> {
        (self.concerns)(&Change {
            old: Some(old),
            new: None,
        })
    }
}
