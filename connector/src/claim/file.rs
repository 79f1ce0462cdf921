//! Checkpoints of a single process, in a local file.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use iothub::{Epoch, PartitionId, SourceIdentity};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Claim, ClaimError};
use crate::ingress::Mark;

/// The file's content: source → partition → mark.
type Marks = BTreeMap<String, BTreeMap<String, StoredMark>>;

#[derive(Clone, Serialize, Deserialize)]
struct StoredMark {
    offset: String,
    sequence: i64,
    enqueued_ms: i64,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileStoreError {
    /// It cannot be read or written.
    #[error("checkpoints.file.path {path}: {source}")]
    Io {
        /// Path of the file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It holds something else.
    #[error(
        "checkpoints.file.path {path} holds no checkpoints: {source}; move it away to start anew"
    )]
    Form {
        /// Path of the file.
        path: String,
        /// Where it is wrong.
        source: serde_json::Error,
    },
}

/// A file of checkpoints. Cheap to clone; all clones write the same file.
#[derive(Clone)]
pub struct FileStore {
    path: Arc<PathBuf>,
    marks: Arc<Mutex<Marks>>,
}

impl FileStore {
    /// Reads the file, or begins a new one.
    ///
    /// # Errors
    /// [`FileStoreError`] if it cannot be read, or written again.
    pub fn open(path: &Path) -> Result<Self, FileStoreError> {
        let io = |source| FileStoreError::Io {
            path: path.display().to_string(),
            source,
        };
        let marks = match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| FileStoreError::Form {
                path: path.display().to_string(),
                source,
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Marks::new(),
            Err(error) => return Err(io(error)),
        };
        write_whole(path, &marks).map_err(io)?;
        Ok(Self {
            path: Arc::new(path.to_owned()),
            marks: Arc::new(Mutex::new(marks)),
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there are checkpoints of the same consumer group at another endpoint.
    #[must_use]
    pub fn is_elsewhere(&self, source: &SourceIdentity) -> bool {
        let here = key(source);
        let group = format!("/{}", source.consumer_group.to_lowercase());
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let other = |source: &String| *source != here && source.ends_with(&group);
        marks.keys().any(other)
    }

    /// A hold on one partition: nobody else shares this file.
    #[must_use]
    pub fn claim(&self, source: &SourceIdentity, partition: PartitionId) -> FileClaim {
        FileClaim {
            store: self.clone(),
            source: key(source),
            partition,
            // Each start evicts what an earlier one has left at the hub.
            epoch: Epoch(Timestamp::now().as_second()),
        }
    }
}

/// Under what a source's checkpoints are kept.
fn key(source: &SourceIdentity) -> String {
    let SourceIdentity {
        namespace,
        hub,
        consumer_group,
    } = source;
    format!("{namespace}/{hub}/{consumer_group}").to_lowercase()
}

/// Replaces the file as a whole, so that a crash leaves the old or the new one.
pub(crate) fn write_whole(path: &Path, content: &impl Serialize) -> std::io::Result<()> {
    let next = path.with_extension("next");
    fs::write(&next, serde_json::to_vec_pretty(content)?)?;
    fs::File::open(&next)?.sync_all()?;
    fs::rename(&next, path)
}

/// A partition of a single process.
pub struct FileClaim {
    store: FileStore,
    source: String,
    partition: PartitionId,
    epoch: Epoch,
}

#[async_trait]
impl Claim for FileClaim {
    fn partition(&self) -> &PartitionId {
        &self.partition
    }

    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn mark(&self) -> Option<Mark> {
        let marks = self
            .store
            .marks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let StoredMark {
            offset,
            sequence,
            enqueued_ms,
        } = marks
            .get(&self.source)?
            .get(self.partition.as_str())?
            .clone();
        Some(Mark {
            offset: offset.into(),
            sequence,
            enqueued_ms,
        })
    }

    fn fence(&self) -> Duration {
        Duration::ZERO
    }

    async fn save(&mut self, mark: &Mark) -> Result<(), ClaimError> {
        let Mark {
            offset,
            sequence,
            enqueued_ms,
        } = mark.clone();
        let stored = StoredMark {
            offset: offset.to_string(),
            sequence,
            enqueued_ms,
        };
        let (store, source) = (self.store.clone(), self.source.clone());
        let partition = self.partition.as_str().to_owned();
        let written = tokio::task::spawn_blocking(move || {
            let mut marks = store.marks.lock().unwrap_or_else(PoisonError::into_inner);
            marks.entry(source).or_default().insert(partition, stored);
            write_whole(&store.path, &*marks)
        });
        match written.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(ClaimError::Unavailable(error.to_string())),
            Err(error) => Err(ClaimError::Unavailable(error.to_string())),
        }
    }

    async fn confirm(&mut self) -> Result<(), ClaimError> {
        Ok(())
    }

    async fn release(&mut self, mark: Option<&Mark>) -> Result<(), ClaimError> {
        match mark {
            Some(mark) => self.save(mark).await,
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_checkpoint_is_there_after_a_restart_and_belongs_to_its_source() {
        let path = std::env::temp_dir().join(format!("marks-{}.json", rand::random::<u64>()));
        let source = |group: &str| SourceIdentity {
            namespace: "ns".into(),
            hub: "hub".into(),
            consumer_group: group.into(),
        };
        let mark = Mark {
            offset: "4096".into(),
            sequence: 7,
            enqueued_ms: 1,
        };
        let store = FileStore::open(&path).unwrap();
        store
            .claim(&source("g"), PartitionId::new("0"))
            .save(&mark)
            .await
            .unwrap();

        let again = FileStore::open(&path).unwrap();
        assert_eq!(
            again.claim(&source("g"), PartitionId::new("0")).mark(),
            Some(mark)
        );
        assert_eq!(
            again.claim(&source("g"), PartitionId::new("1")).mark(),
            None
        );
        assert_eq!(
            again.claim(&source("other"), PartitionId::new("0")).mark(),
            None
        );

        let moved = SourceIdentity {
            hub: "hub-after-fail-over".into(),
            ..source("g")
        };
        assert!(again.is_elsewhere(&moved));
        assert!(!again.is_elsewhere(&source("g")), "only here");
        assert!(!again.is_elsewhere(&source("other")), "of another group");

        fs::write(&path, "not json").unwrap();
        let error = FileStore::open(&path).err().unwrap().to_string();
        assert!(error.contains("holds no checkpoints"), "{error}");
        fs::remove_file(&path).unwrap();
    }
}
