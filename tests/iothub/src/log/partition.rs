//! One partition: a bounded, append-only log.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

use super::{
    Position,
    reader::{Entry, Epoch, OpenError, ReaderRequest},
};

/// Where events came from; shared by all of one device's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// `iothub-connection-device-id`.
    pub device: String,
    /// `iothub-connection-module-id`.
    pub module: Option<String>,
    /// `iothub-connection-auth-method`: JSON, as IoT Hub writes it.
    pub auth_method: String,
    /// `iothub-connection-auth-generation-id`.
    pub generation: String,
    /// `iothub-message-source`.
    pub source: String,
}

/// An event on its way in.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// Who sent it.
    pub origin: Arc<Origin>,
    /// Its AMQP sections from the properties on, encoded. One allocation per event.
    pub sections: Bytes,
}

/// An event in the log.
#[derive(Debug, Clone)]
pub struct Record {
    /// Position in the partition: 0, 1, 2…
    pub sequence: i64,
    /// Position in bytes. Grows with each event's size, so that nobody can take it for the sequence.
    pub offset: u64,
    /// When it was stored; Unix milliseconds.
    pub enqueued: i64,
    /// The event.
    pub event: NewEvent,
}

/// The newest event of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Last {
    /// Its sequence number.
    pub sequence: i64,
    /// Its offset.
    pub offset: u64,
    /// When it was stored; Unix milliseconds.
    pub enqueued: i64,
}

/// What can be seen of a partition from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionView {
    /// Number of the partition.
    pub id: u16,
    /// Sequence number of the oldest event kept; of the next one if none is.
    pub begin: i64,
    /// The newest event ever stored.
    pub last: Option<Last>,
    /// Whether no event is kept.
    pub empty: bool,
    /// Open readers.
    pub readers: Vec<ReaderView>,
}

/// An open reader as seen from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaderView {
    /// Consumer group.
    pub group: String,
    /// Name that the reader gave itself.
    pub name: String,
    /// Owner level.
    pub epoch: Option<Epoch>,
    /// Sequence number of the next event it gets.
    pub next: i64,
}

#[derive(Debug)]
pub(super) struct State {
    /// Sequence number of `records[0]`.
    pub(super) begin: i64,
    records: VecDeque<Record>,
    last: Option<Last>,
    next_offset: u64,
    pub(super) readers: Vec<Entry>,
    pub(super) next_reader: u64,
}

/// One partition of the event stream.
#[derive(Debug)]
pub struct Partition {
    id: u16,
    retention: usize,
    state: Mutex<State>,
}

impl Partition {
    /// An empty partition that keeps the newest `retention` events.
    #[must_use]
    pub fn new(id: u16, retention: usize) -> Self {
        Self {
            id,
            retention: retention.max(1),
            state: Mutex::new(State {
                begin: 0,
                records: VecDeque::new(),
                last: None,
                next_offset: 0,
                readers: Vec::new(),
                next_reader: 0,
            }),
        }
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u16 {
        self.id
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // No code under this lock leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores an event and wakes the readers; `now` in Unix milliseconds. Enqueued times never go
    /// back, whatever the clock does.
    pub fn append(&self, event: NewEvent, now: i64) -> Last {
        let mut state = self.lock();
        let last = Last {
            sequence: state.last.map_or(0, |last| last.sequence + 1),
            offset: state.next_offset,
            enqueued: state.last.map_or(now, |last| last.enqueued.max(now)),
        };
        // 64 bytes stand for the envelope; the sum is a byte position as in the real log.
        state.next_offset += event.sections.len() as u64 + 64;
        state.last = Some(last);
        state.records.push_back(Record {
            sequence: last.sequence,
            offset: last.offset,
            enqueued: last.enqueued,
            event,
        });
        state.keep(self.retention);
        for reader in &state.readers {
            reader.wake.notify_one();
        }
        last
    }

    /// Drops all but the newest `keep` events, as retention does.
    pub fn expire(&self, keep: usize) {
        self.lock().keep(keep);
    }

    /// Becomes another, empty stream: sequence numbers and offsets begin again, readers are detached.
    pub fn recreate(&self) {
        let mut state = self.lock();
        (state.begin, state.next_offset, state.last) = (0, 0, None);
        state.records.clear();
        state.detach("the entity is made again", |_| true);
    }

    /// What can be seen of it.
    #[must_use]
    pub fn view(&self) -> PartitionView {
        let state = self.lock();
        PartitionView {
            id: self.id,
            begin: state.begin,
            last: state.last,
            empty: state.records.is_empty(),
            readers: state
                .readers
                .iter()
                .filter(|entry| entry.is_open())
                .map(Entry::view)
                .collect(),
        }
    }

    /// All events that it keeps.
    #[cfg(test)]
    pub(crate) fn kept(&self) -> Vec<Record> {
        self.lock().records.iter().cloned().collect()
    }

    /// Opens a reader by the rules of [`super::reader`] and gives its id and first sequence number.
    pub(super) fn open(&self, request: ReaderRequest) -> Result<(u64, i64), OpenError> {
        let mut state = self.lock();
        // A position that is refused must not have evicted anybody.
        let next = state.resolve(request.position)?;
        let id = state.admit(request, next)?;
        Ok((id, next))
    }
}

impl State {
    fn keep(&mut self, count: usize) {
        while self.records.len() > count {
            self.records.pop_front();
            self.begin += 1;
        }
    }

    /// The event with that sequence number, or the oldest kept if it has gone.
    pub(super) fn at(&self, sequence: i64) -> Option<&Record> {
        let index = usize::try_from((sequence - self.begin).max(0)).ok()?;
        self.records.get(index)
    }

    fn resolve(&self, position: Position) -> Result<i64, OpenError> {
        let last_sequence = self.last.map_or(-1, |last| last.sequence);
        let skipped = match position {
            Position::Earliest => 0,
            Position::Latest => self.records.len(),
            Position::Offset { value, inclusive } => {
                if self.last.is_none_or(|last| last.offset < value) {
                    return Err(OpenError::OffsetBeyondEnd {
                        asked: value,
                        last: self.last.map(|last| last.offset),
                    });
                }
                self.records.partition_point(|record| {
                    record.offset < value || (record.offset == value && !inclusive)
                })
            }
            Position::Sequence { value, inclusive } => {
                if value > last_sequence {
                    return Err(OpenError::SequenceBeyondEnd {
                        asked: value,
                        last: last_sequence,
                    });
                }
                self.records.partition_point(|record| {
                    record.sequence < value || (record.sequence == value && !inclusive)
                })
            }
            Position::Enqueued { value, inclusive } => self.records.partition_point(|record| {
                record.enqueued < value || (record.enqueued == value && !inclusive)
            }),
        };
        Ok(self.begin + i64::try_from(skipped).unwrap_or(i64::MAX))
    }
}
