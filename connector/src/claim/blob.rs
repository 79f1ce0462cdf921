//! Checkpoints in blobs of Azure Storage, where KEDA and Microsoft's SDKs look for them.
//!
//! Who holds a partition is decided elsewhere, with Kubernetes by its Lease; the blob keeps only the
//! position. Each write names the version that was last seen, and taking a claim writes first: after that
//! an earlier owner's writes are refused, whenever they arrive.

mod record;
#[cfg(test)]
mod tests;

use std::time::Duration;

use async_trait::async_trait;
use iothub::{Epoch, PartitionId, SourceIdentity};
use object_store::{UpdateVersion, path::Path};

use self::record::{Record, is_behind, later};
use super::{Claim, ClaimError};
use crate::{
    identity::MemberId,
    ingress::Mark,
    report::{Part, Reporter},
    storage::{Container, StorageError, Wrote},
};

/// Tries of one write against others that write. With one owner two are enough: one to see that its own
/// last write had arrived, one to write.
const TRIES: usize = 5;

/// The blobs of one connector. Cheap to clone.
#[derive(Clone)]
pub struct BlobStore {
    container: Container,
    member: MemberId,
    reporter: Reporter,
}

impl BlobStore {
    /// Checkpoints of `member` in a container.
    #[must_use]
    pub fn new(container: Container, member: MemberId, reporter: Reporter) -> Self {
        Self {
            container,
            member,
            reporter,
        }
    }

    /// Shows that checkpoints of `source` can be written and read.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn prove(&self, source: &SourceIdentity) -> Result<(), StorageError> {
        self.container.prove(&record::proof(source)).await
    }

    /// `claim`, with its checkpoint in a blob.
    #[must_use]
    pub fn over(&self, source: &SourceIdentity, claim: Box<dyn Claim>) -> BlobClaim {
        BlobClaim {
            store: self.clone(),
            path: record::path(source, claim.partition()),
            claim,
            seen: None,
        }
    }

    /// A blob as it is now.
    async fn look(&self, path: &Path) -> Result<Option<Seen>, ClaimError> {
        let found = self.container.read(path).await;
        Ok(self.told(found)?.map(|blob| Seen {
            record: Record::read(&blob.attributes),
            version: blob.version,
        }))
    }

    /// Tells how the store fares.
    fn told<T>(&self, done: Result<T, StorageError>) -> Result<T, ClaimError> {
        match done {
            Ok(done) => {
                self.reporter.well(Part::Checkpoints);
                Ok(done)
            }
            Err(error) => {
                let text = error.to_string();
                self.reporter.trouble(Part::Checkpoints, error.into());
                Err(ClaimError::Unavailable(text))
            }
        }
    }
}

/// A blob as it was read or written.
struct Seen {
    record: Record,
    version: UpdateVersion,
}

/// A claim whose checkpoint is a blob.
pub struct BlobClaim {
    store: BlobStore,
    path: Path,
    claim: Box<dyn Claim>,
    /// The blob as it was last read or written. Only what leaves the claim to us may get here, since a
    /// write from there on succeeds.
    seen: Option<Seen>,
}

impl BlobClaim {
    /// Writes the blob if it is as it was last seen; whether it was.
    async fn put(&mut self, mark: Option<Mark>) -> Result<bool, ClaimError> {
        let record = Record {
            mark,
            epoch: self.claim.epoch().0,
            owner: self.store.member.as_str().to_owned(),
        };
        let seen = self.seen.as_ref().map(|seen| seen.version.clone());
        let container = &self.store.container;
        let wrote = container.write(&self.path, seen, record.attributes()).await;
        match self.store.told(wrote)? {
            Wrote::Version(version) => {
                self.seen = Some(Seen { record, version });
                Ok(true)
            }
            Wrote::Conflict => Ok(false),
        }
    }

    fn stored(&self) -> Option<&Mark> {
        self.seen.as_ref()?.record.mark.as_ref()
    }

    fn is_ours(&self, record: &Record) -> bool {
        record.epoch == self.claim.epoch().0 && record.owner == self.store.member.as_str()
    }

    /// Whether somebody else's record, found in the place of ours, leaves the claim to us.
    async fn still_ours(&mut self, found: Option<&Seen>) -> Result<(), ClaimError> {
        match found {
            // Our own write, whose answer was lost.
            Some(seen) if self.is_ours(&seen.record) => Ok(()),
            Some(seen) if seen.record.epoch > self.claim.epoch().0 => Err(ClaimError::Lost),
            // An earlier owner's last one, or somebody removed the blob.
            _ => self.claim.confirm().await,
        }
    }
}

fn contended<T>() -> Result<T, ClaimError> {
    let what = "another program writes this checkpoint's blob all the time";
    Err(ClaimError::Unavailable(what.into()))
}

#[async_trait]
impl Claim for BlobClaim {
    fn partition(&self) -> &PartitionId {
        self.claim.partition()
    }

    fn epoch(&self) -> Epoch {
        self.claim.epoch()
    }

    /// The later one of blob and claim: a connector that changed its store, or whose blob could not be
    /// written when it handed over, has the exact position in the claim.
    fn mark(&self) -> Option<Mark> {
        later(self.stored().cloned(), self.claim.mark())
    }

    fn fence(&self) -> Duration {
        self.claim.fence()
    }

    /// Reads the position and stamps the blob with our epoch, which shuts out earlier owners.
    async fn begin(&mut self) -> Result<(), ClaimError> {
        self.claim.begin().await?;
        for _ in 0..TRIES {
            let found = self.store.look(&self.path).await?;
            let newer = |found: &Seen| found.record.epoch > self.claim.epoch().0;
            if found.as_ref().is_some_and(newer) {
                // Of a later claim, or of one that was deleted since and counted from another clock.
                self.claim.confirm().await?;
            }
            self.seen = found;
            if self.put(self.mark()).await? {
                return Ok(());
            }
            // An earlier owner was faster; or a later one, who then holds the claim.
            self.claim.confirm().await?;
        }
        contended()
    }

    async fn save(&mut self, mark: &Mark) -> Result<(), ClaimError> {
        for _ in 0..TRIES {
            // Never backwards.
            let target = match self.stored() {
                Some(stored) if is_behind(mark, stored) => stored.clone(),
                _ => mark.clone(),
            };
            let stands = |seen: &Seen| {
                self.is_ours(&seen.record) && seen.record.mark.as_ref() == Some(&target)
            };
            if self.seen.as_ref().is_some_and(stands) {
                return Ok(());
            }
            if self.put(Some(target)).await? {
                return Ok(());
            }
            let found = self.store.look(&self.path).await?;
            self.still_ours(found.as_ref()).await?;
            self.seen = found;
        }
        contended()
    }

    async fn confirm(&mut self) -> Result<(), ClaimError> {
        self.claim.confirm().await
    }

    async fn release(&mut self, mark: Option<&Mark>) -> Result<(), ClaimError> {
        if let Some(mark) = mark {
            let mut saved = self.save(mark).await;
            if matches!(saved, Err(ClaimError::Unavailable(_))) {
                // Once more: there is no later, and an idle connection may just have been closed.
                saved = self.save(mark).await;
            }
            match saved {
                Ok(()) => {}
                Err(ClaimError::Lost) => return Err(ClaimError::Lost),
                Err(ClaimError::Unavailable(error)) => {
                    let partition = self.partition().as_str();
                    tracing::warn!(
                        partition,
                        error,
                        "handed over without a checkpoint in its blob"
                    );
                }
            }
        }
        // The claim takes the position along.
        self.claim.release(mark).await
    }
}
