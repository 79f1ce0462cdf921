//! Readers of a partition and their owner levels.
//!
//! Source: Microsoft Learn, "Event Hubs: epoch / exclusive consumers", and the texts that the service
//! sends. Within one consumer group of one partition:
//! * a reader with an epoch evicts readers without one and readers whose epoch is lower or equal;
//! * while a reader with a higher epoch is open, one with a lower epoch is refused;
//! * while a reader with an epoch is open, one without is refused;
//! * at most five readers without an epoch may be open.
//!
//! The epoch is forgotten when its reader closes.

use std::sync::Arc;

use tokio::sync::Notify;

use super::{
    Position, Record,
    partition::{Partition, ReaderView, State},
};

/// Source: Microsoft Learn, "Event Hubs quotas and limits" (per partition and consumer group).
const MAX_READERS: usize = 5;

/// An owner level.
pub type Epoch = i64;

/// What a reader asks for.
#[derive(Debug, Clone)]
pub struct ReaderRequest {
    /// Consumer group.
    pub group: String,
    /// Name that the reader gave itself; shows in the texts.
    pub name: String,
    /// Owner level.
    pub epoch: Option<Epoch>,
    /// Where to start.
    pub position: Position,
    /// Told when there is something to fetch.
    pub wake: Arc<Notify>,
}

/// Why a reader was closed by the service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stolen {
    /// A newer reader has taken the partition.
    #[error(
        "New receiver '{new}' with higher epoch of '{new_epoch}' is created hence current receiver '{old}' with epoch '{old_epoch}' is getting disconnected. If you are recreating the receiver, make sure a higher epoch is used."
    )]
    ByEpoch {
        /// The new reader's name.
        new: String,
        /// Its epoch.
        new_epoch: Epoch,
        /// The evicted reader's name.
        old: String,
        /// Its epoch, or `nil`.
        old_epoch: String,
    },
    /// A test asked for it.
    #[error("The link was force detached by the broker: {0}")]
    Forced(String),
}

/// Why a reader was not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Somebody with a higher epoch reads.
    #[error(
        "Receiver '{holder}' with a higher epoch of '{held}' already exists. Receiver '{name}' with epoch {asked} cannot be created. Make sure you are creating receiver with increasing epoch value to ensure connectivity, or ensure all old epoch receivers are closed or disconnected."
    )]
    LowerEpoch {
        /// Who holds it.
        holder: String,
        /// The held epoch.
        held: Epoch,
        /// Who asked.
        name: String,
        /// The epoch asked with.
        asked: Epoch,
    },
    /// Somebody with an epoch reads, and this reader has none.
    #[error(
        "At least one receiver for the endpoint is created with epoch of '{held}', and so non-epoch receiver is not allowed. Either reconnect with a higher epoch, or make sure all epoch receivers are closed or disconnected."
    )]
    EpochNeeded {
        /// The held epoch.
        held: Epoch,
    },
    /// Too many readers without an epoch.
    #[error(
        "Exceeded the maximum number of allowed receivers per partition in a consumer group which is 5."
    )]
    TooMany,
    /// No such offset yet: the stream is another one.
    #[error("The supplied offset '{asked}' is invalid. The last offset in the system is '{}'", last.map_or("-1".to_owned(), |last| last.to_string()))]
    OffsetBeyondEnd {
        /// The offset asked for.
        asked: u64,
        /// The newest event's.
        last: Option<u64>,
    },
    /// No such sequence number yet: the stream is another one.
    #[error(
        "The supplied sequence number '{asked}' is invalid. The last sequence number in the system is '{last}'"
    )]
    SequenceBeyondEnd {
        /// The number asked for.
        asked: i64,
        /// The newest event's; -1 if there is none.
        last: i64,
    },
}

#[derive(Debug)]
pub(super) struct Entry {
    id: u64,
    group: String,
    name: String,
    epoch: Option<Epoch>,
    next: i64,
    pub(super) wake: Arc<Notify>,
    stolen: Option<Stolen>,
    /// Gets nothing any more.
    stalled: bool,
}

impl Entry {
    pub(super) fn view(&self) -> ReaderView {
        ReaderView {
            group: self.group.clone(),
            name: self.name.clone(),
            epoch: self.epoch,
            next: self.next,
        }
    }

    /// Not evicted: an evicted one stays until its connection has heard of it.
    pub(super) fn is_open(&self) -> bool {
        self.stolen.is_none()
    }

    fn evict(&mut self, why: Stolen) {
        self.stolen.get_or_insert(why);
        self.wake.notify_one();
    }
}

impl State {
    pub(super) fn admit(&mut self, request: ReaderRequest, next: i64) -> Result<u64, OpenError> {
        let rivals = || {
            self.readers
                .iter()
                .filter(|entry| entry.is_open() && entry.group == request.group)
        };
        let highest = rivals()
            .filter_map(|entry| Some((entry.epoch?, entry)))
            .max_by_key(|e| e.0);
        match (request.epoch, highest) {
            (Some(asked), Some((held, holder))) if held > asked => {
                return Err(OpenError::LowerEpoch {
                    holder: holder.name.clone(),
                    held,
                    name: request.name,
                    asked,
                });
            }
            (None, Some((held, _))) => return Err(OpenError::EpochNeeded { held }),
            (None, None) if rivals().count() >= MAX_READERS => return Err(OpenError::TooMany),
            _ => {}
        }
        if let Some(new_epoch) = request.epoch {
            for entry in self
                .readers
                .iter_mut()
                .filter(|entry| entry.group == request.group)
            {
                let why = Stolen::ByEpoch {
                    new: request.name.clone(),
                    new_epoch,
                    old: entry.name.clone(),
                    old_epoch: entry
                        .epoch
                        .map_or("nil".to_owned(), |epoch| epoch.to_string()),
                };
                entry.evict(why);
            }
        }
        let id = self.next_reader;
        self.next_reader += 1;
        self.readers.push(Entry {
            id,
            group: request.group,
            name: request.name,
            epoch: request.epoch,
            next,
            wake: request.wake,
            stolen: None,
            stalled: false,
        });
        Ok(id)
    }

    pub(super) fn detach(&mut self, why: &str, chosen: impl Fn(&ReaderView) -> bool) -> usize {
        let mut count = 0;
        for entry in &mut self.readers {
            if chosen(&entry.view()) {
                entry.evict(Stolen::Forced(why.to_owned()));
                count += 1;
            }
        }
        count
    }
}

/// An open reader. Closes when dropped.
#[derive(Debug)]
pub struct Reader {
    partition: Arc<Partition>,
    id: u64,
}

impl Reader {
    /// Opens a reader of `partition`.
    ///
    /// # Errors
    /// [`OpenError`]; then nobody has been evicted.
    pub fn open(partition: Arc<Partition>, request: ReaderRequest) -> Result<Self, OpenError> {
        let (id, _) = partition.open(request)?;
        Ok(Self { partition, id })
    }

    /// The next event, if there is one. Events that retention has dropped are skipped.
    ///
    /// # Errors
    /// [`Stolen`] once the reader has been evicted: no event is given after the one that evicted it
    /// has been admitted.
    #[expect(
        clippy::should_implement_trait,
        reason = "not an iterator: more may come after a None"
    )]
    pub fn next(&mut self) -> Result<Option<Record>, Stolen> {
        let mut state = self.partition.lock();
        let Some(index) = state.readers.iter().position(|entry| entry.id == self.id) else {
            return Ok(None);
        };
        if let Some(why) = &state.readers[index].stolen {
            return Err(why.clone());
        }
        if state.readers[index].stalled {
            return Ok(None);
        }
        let Some(record) = state.at(state.readers[index].next).cloned() else {
            return Ok(None);
        };
        state.readers[index].next = record.sequence + 1;
        Ok(Some(record))
    }

    /// Why the reader has been evicted, if it has.
    #[must_use]
    pub fn stolen(&self) -> Option<Stolen> {
        let state = self.partition.lock();
        let entry = state.readers.iter().find(|entry| entry.id == self.id)?;
        entry.stolen.clone()
    }

    /// The partition it reads.
    #[must_use]
    pub fn partition(&self) -> &Partition {
        &self.partition
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.partition
            .lock()
            .readers
            .retain(|entry| entry.id != self.id);
    }
}

impl Partition {
    /// Closes the readers that `chosen` picks, as a broker does that moves a partition.
    pub fn detach(&self, why: &str, chosen: impl Fn(&ReaderView) -> bool) -> usize {
        self.lock().detach(why, chosen)
    }

    /// The readers that are open now get nothing any more.
    pub fn stall(&self) {
        for entry in &mut self.lock().readers {
            entry.stalled = true;
        }
    }
}
