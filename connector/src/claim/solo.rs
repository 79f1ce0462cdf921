//! A single process reads everything.

use iothub::{PartitionId, SourceIdentity};
use tokio_util::sync::CancellationToken;

use super::FileStore;
use crate::ingress::Readers;

/// Reads all partitions until `shutdown`, then settles and checkpoints them.
pub async fn read_all(
    store: FileStore,
    source: SourceIdentity,
    partitions: Vec<PartitionId>,
    mut readers: Readers,
    shutdown: CancellationToken,
) {
    for partition in partitions {
        readers.take(Box::new(store.claim(&source, partition)));
    }
    shutdown.cancelled().await;
    readers.hand_over_all().await;
}
