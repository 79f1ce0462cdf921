//! Claims: a member's hold on one partition, with an epoch and the checkpoint.
//!
//! With Kubernetes a claim is a Lease ([`lease`]); every write of it carries the `resourceVersion` that
//! was last seen, so a claim that was lost cannot be written. A single process holds all partitions
//! ([`solo`]) and keeps its checkpoints in a file ([`file`]). Over either kind of hold, the checkpoint can
//! be kept in a blob of Azure Storage instead ([`blob`]).

mod begin;
mod blob;
mod file;
mod keeper;
mod lease;
mod observe;
mod plan;
mod solo;

use std::time::Duration;

use async_trait::async_trait;
use iothub::{Epoch, PartitionId};

use crate::ingress::Mark;

pub use begin::begun;
pub use blob::BlobStore;
pub(crate) use file::write_whole;
pub use file::{FileStore, FileStoreError};
pub use keeper::{Keeper, Lags};
pub use lease::Claims;
pub(crate) use lease::call;
#[cfg(test)]
pub(crate) use lease::tests::api as lease_api;
pub(crate) use observe::Observer;
pub use solo::{SoloClaim, read_all};

/// Why a claim could not be written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClaimError {
    /// Another member holds it now.
    #[error("the claim belongs to another member")]
    Lost,
    /// The store cannot be reached or refuses.
    #[error("{0}")]
    Unavailable(String),
}

/// A claim that is held.
#[async_trait]
pub trait Claim: Send {
    /// What is claimed.
    fn partition(&self) -> &PartitionId;
    /// Raised at each claim; the hub evicts readers with a lower one.
    fn epoch(&self) -> Epoch;
    /// Where to resume; `None` if never checkpointed.
    fn mark(&self) -> Option<Mark>;
    /// How long to wait after attaching before the first write, until whatever an earlier owner has in
    /// flight is done.
    fn fence(&self) -> Duration;
    /// Makes the claim ready to be read: [`Self::mark`] counts only after it. Tried again while the store
    /// is away.
    async fn begin(&mut self) -> Result<(), ClaimError> {
        Ok(())
    }
    /// Stores the low-water mark.
    async fn save(&mut self, mark: &Mark) -> Result<(), ClaimError>;
    /// Whether the claim still names us.
    async fn confirm(&mut self) -> Result<(), ClaimError>;
    /// Stores the exact next position and lets go.
    async fn release(&mut self, mark: Option<&Mark>) -> Result<(), ClaimError>;
}

#[cfg(test)]
mod model;
