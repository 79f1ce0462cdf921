//! The partitions that this member reads: one task each, taken up and handed over one by one.

use std::{collections::HashMap, sync::Arc};

use futures::future::BoxFuture;
use iothub::PartitionId;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Ingress, partition};
use crate::claim::{BlobStore, Claim, begun};

/// Starts a task.
type Spawn = dyn Fn(BoxFuture<'static, ()>) -> JoinHandle<()> + Send + Sync;

/// The running partitions.
pub struct Readers {
    ingress: Arc<Ingress>,
    spawn: Box<Spawn>,
    blobs: Option<BlobStore>,
    running: HashMap<PartitionId, Running>,
}

struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Readers {
    /// Reads nothing yet. With `blobs` checkpoints are kept there, and not where the claims are.
    #[must_use]
    pub fn new(ingress: Ingress, blobs: Option<BlobStore>) -> Self {
        Self::spawning(ingress, blobs, tokio::spawn)
    }

    /// Reads nothing yet; starts tasks in a way of the caller's own.
    #[must_use]
    pub fn spawning(
        ingress: Ingress,
        blobs: Option<BlobStore>,
        spawn: impl Fn(BoxFuture<'static, ()>) -> JoinHandle<()> + Send + Sync + 'static,
    ) -> Self {
        Self {
            ingress: Arc::new(ingress),
            spawn: Box::new(spawn),
            blobs,
            running: HashMap::new(),
        }
    }

    /// Reads the claimed partition until it is handed over or the claim is lost.
    pub fn take(&mut self, claim: Box<dyn Claim>) {
        let partition = claim.partition().clone();
        let claim = match &self.blobs {
            Some(blobs) => Box::new(blobs.over(self.ingress.source.identity(), claim)),
            None => claim,
        };
        let stop = CancellationToken::new();
        let ingress = self.ingress.clone();
        let stopped = stop.clone();
        let task = (self.spawn)(Box::pin(async move {
            if let Some(claim) = begun(claim, &stopped).await {
                partition::run(ingress, claim, stopped).await;
            }
        }));
        self.running.insert(partition, Running { stop, task });
    }

    /// Begins to hand over: the task stops reading, settles, checkpoints and releases the claim.
    pub fn hand_over(&self, partition: &PartitionId) {
        if let Some(running) = self.running.get(partition) {
            running.stop.cancel();
        }
    }

    /// Whether a task for this partition is running, be it on its way out.
    pub fn reads(&mut self, partition: &PartitionId) -> bool {
        self.running
            .retain(|_, running| !running.task.is_finished());
        self.running.contains_key(partition)
    }

    /// Hands over everything and waits until that is done; each task bounds its own time.
    pub async fn hand_over_all(&mut self) {
        for running in self.running.values() {
            running.stop.cancel();
        }
        for (partition, running) in self.running.drain() {
            if let Err(error) = running.task.await {
                tracing::error!(%error, partition = partition.as_str(), "a reader failed");
            }
        }
    }
}
