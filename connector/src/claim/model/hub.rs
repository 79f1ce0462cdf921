//! A hub whose partitions have one reader each, the one with the highest epoch.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use iothub::{
    Batches, Epoch, Event, EventSource, HubError, MessageSource, Offset, PartitionId,
    PartitionProperties, Position, SourceIdentity,
};
use rand::rngs::StdRng;
use tokio::{sync::Notify, time::sleep};

use super::{choose, member::Access};

/// Devices of each partition; a device's name tells its partition.
const DEVICES: i64 = 3;

/// All partitions.
pub struct Hub {
    partitions: Vec<Partition>,
    stopped: AtomicBool,
    /// The epoch with which a member has opened a partition last.
    opened: Mutex<HashMap<(String, usize), i64>>,
}

#[derive(Default)]
struct Partition {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    events: Vec<Event>,
    /// The highest epoch of a reader that is attached.
    epoch: Option<i64>,
    /// Changes with each reader: the earlier one is out.
    reader: u64,
    attached: bool,
    detach: bool,
}

/// The device of the event with this sequence number.
pub fn device(partition: usize, sequence: i64) -> String {
    format!("{partition}-{}", sequence % DEVICES)
}

impl Hub {
    /// Partitions without events.
    pub fn new(partitions: usize) -> Self {
        Self {
            partitions: (0..partitions).map(|_| Partition::default()).collect(),
            stopped: AtomicBool::new(false),
            opened: Mutex::default(),
        }
    }

    /// Devices begin to send, one event to each partition every `interval`.
    pub fn begin(self: &Arc<Self>, interval: Duration) {
        let hub = self.clone();
        tokio::spawn(async move {
            while !hub.stopped.load(Ordering::Relaxed) {
                for (index, partition) in hub.partitions.iter().enumerate() {
                    let mut state = partition.state.lock().unwrap();
                    let sequence = i64::try_from(state.events.len()).unwrap();
                    state.events.push(event(index, sequence));
                    partition.changed.notify_waiters();
                }
                sleep(interval).await;
            }
        });
    }

    /// Devices send no more.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// How many events each partition has.
    pub fn sent(&self) -> Vec<i64> {
        let count = |one: &Partition| one.state.lock().unwrap().events.len();
        self.partitions
            .iter()
            .map(|one| i64::try_from(count(one)).unwrap())
            .collect()
    }

    /// Whether every partition has a reader.
    pub fn all_read(&self) -> bool {
        self.unread().is_empty()
    }

    /// Partitions without a reader.
    pub fn unread(&self) -> Vec<usize> {
        let read = |one: &Partition| one.state.lock().unwrap().attached;
        let all = self.partitions.iter().enumerate();
        all.filter(|(_, one)| !read(one))
            .map(|(index, _)| index)
            .collect()
    }

    /// Detaches the link of some partition.
    pub fn detach(&self, random: &mut StdRng) {
        if let Some(partition) = choose(random, &self.partitions) {
            partition.state.lock().unwrap().detach = true;
            partition.changed.notify_waiters();
        }
    }

    /// The epoch with which `member` has opened a partition last.
    pub fn epoch_of(&self, member: &str, partition: usize) -> i64 {
        let opened = self.opened.lock().unwrap();
        opened
            .get(&(member.to_owned(), partition))
            .copied()
            .unwrap_or_default()
    }
}

fn event(partition: usize, sequence: i64) -> Event {
    Event {
        partition_offset: Offset::new(sequence.to_string()),
        sequence,
        enqueued_ms: 1_700_000_000_000 + sequence,
        device: Some(device(partition, sequence)),
        module: None,
        source: MessageSource::Telemetry,
        body: format!("{{\"n\":{sequence}}}").into(),
        content_type: None,
        content_encoding: None,
        message_id: None,
        properties: BTreeMap::new(),
    }
}

/// The hub as a member sees it.
pub struct Source {
    /// The hub.
    pub hub: Arc<Hub>,
    /// Whose way to it this is.
    pub access: Arc<Access>,
    /// What it is called.
    pub identity: SourceIdentity,
}

impl Source {
    fn index(&self, id: &PartitionId) -> usize {
        id.as_str().parse().unwrap()
    }
}

#[async_trait]
impl EventSource for Source {
    async fn partitions(&self) -> Result<Vec<PartitionId>, HubError> {
        let all = 0..self.hub.partitions.len();
        Ok(all
            .map(|index| PartitionId::new(index.to_string()))
            .collect())
    }

    async fn properties(&self, id: &PartitionId) -> Result<PartitionProperties, HubError> {
        self.access.before_hub().await;
        let state = self.hub.partitions[self.index(id)].state.lock().unwrap();
        let last = state.events.last().map_or(-1, |event| event.sequence);
        Ok(PartitionProperties {
            beginning_sequence: 0,
            last_sequence: last,
            last_offset: Offset::new(last.to_string()),
            last_enqueued_ms: 1_700_000_000_000 + last,
            empty: last < 0,
        })
    }

    async fn survey(&self, all: &[PartitionId]) -> Result<Vec<PartitionProperties>, HubError> {
        let mut held = Vec::new();
        for id in all {
            held.push(self.properties(id).await?);
        }
        Ok(held)
    }

    async fn open(
        &self,
        id: &PartitionId,
        position: Position,
        Epoch(epoch): Epoch,
        _: u32,
    ) -> Result<Box<dyn Batches>, HubError> {
        self.access.before_hub().await;
        let index = self.index(id);
        let partition = &self.hub.partitions[index];
        let mut state = partition.state.lock().unwrap();
        if state.attached && state.epoch.is_some_and(|highest| epoch < highest) {
            let partition = id.as_str().to_owned();
            return Err(HubError::LowerEpoch { partition });
        }
        state.epoch = Some(epoch);
        state.reader += 1;
        state.attached = true;
        partition.changed.notify_waiters();
        let mut opened = self.hub.opened.lock().unwrap();
        opened.insert((self.access.member.clone(), index), epoch);
        let after = match position {
            Position::Earliest => -1,
            Position::After(offset) => offset.as_str().parse().unwrap(),
            other => panic!("never opened at {other:?}"),
        };
        Ok(Box::new(Reading {
            hub: self.hub.clone(),
            access: self.access.clone(),
            index,
            reader: state.reader,
            after,
        }))
    }

    fn identity(&self) -> &SourceIdentity {
        &self.identity
    }
}

struct Reading {
    hub: Arc<Hub>,
    access: Arc<Access>,
    index: usize,
    reader: u64,
    after: i64,
}

#[async_trait]
impl Batches for Reading {
    async fn next(&mut self, max: usize) -> Result<Vec<Event>, HubError> {
        let hub = self.hub.clone();
        let partition = &hub.partitions[self.index];
        loop {
            self.access.before_hub().await;
            let changed = partition.changed.notified();
            {
                let mut state = partition.state.lock().unwrap();
                if state.reader != self.reader {
                    let partition = self.index.to_string();
                    return Err(HubError::Evicted { partition });
                }
                if std::mem::take(&mut state.detach) {
                    state.attached = false;
                    let what = "a detached link".to_owned();
                    return Err(HubError::TimedOut { what });
                }
                let first = usize::try_from(self.after + 1).unwrap();
                let ready = state.events.get(first..).unwrap_or_default();
                if !ready.is_empty() {
                    let taken: Vec<Event> = ready.iter().take(max).cloned().collect();
                    self.after += i64::try_from(taken.len()).unwrap();
                    return Ok(taken);
                }
            }
            changed.await;
        }
    }

    async fn close(self: Box<Self>) -> Result<(), HubError> {
        drop(self);
        // As long as a peer that does not answer delays the end.
        sleep(Duration::from_secs(5)).await;
        Ok(())
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        // The connection ends with its process, or is closed.
        let mut state = self.hub.partitions[self.index].state.lock().unwrap();
        if state.reader == self.reader {
            state.attached = false;
        }
    }
}
