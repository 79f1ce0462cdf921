//! A single process reads everything.

use std::time::Duration;

use async_trait::async_trait;
use iothub::{Epoch, PartitionId};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::{Claim, ClaimError};
use crate::ingress::{Mark, Readers};

/// Reads all partitions until `shutdown`, then settles and checkpoints them.
pub async fn read_all(
    claims: impl Iterator<Item = Box<dyn Claim>>,
    mut readers: Readers,
    shutdown: CancellationToken,
) {
    for claim in claims {
        readers.take(claim);
    }
    shutdown.cancelled().await;
    readers.hand_over_all().await;
}

/// A hold on a partition that nobody else wants and that keeps no position.
pub struct SoloClaim {
    partition: PartitionId,
    epoch: Epoch,
}

impl SoloClaim {
    /// A hold on `partition`.
    #[must_use]
    pub fn new(partition: PartitionId) -> Self {
        Self {
            partition,
            // Each start evicts what an earlier one has left at the hub.
            epoch: Epoch(Timestamp::now().as_second()),
        }
    }
}

#[async_trait]
impl Claim for SoloClaim {
    fn partition(&self) -> &PartitionId {
        &self.partition
    }

    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn mark(&self) -> Option<Mark> {
        None
    }

    fn fence(&self) -> Duration {
        Duration::ZERO
    }

    async fn save(&mut self, _: &Mark) -> Result<(), ClaimError> {
        Ok(())
    }

    async fn confirm(&mut self) -> Result<(), ClaimError> {
        Ok(())
    }

    async fn release(&mut self, _: Option<&Mark>) -> Result<(), ClaimError> {
        Ok(())
    }
}
