//! Reading device-to-cloud messages: one partition, one position, one epoch, then batches.

use std::fmt;

use async_trait::async_trait;

use crate::{error::HubError, event::Event};

/// Name of a partition, as the hub lists it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(String);

impl PartitionId {
    /// Takes the name as it is.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Owner level of a reader: a partition has one reader with an epoch, and a higher or equal one evicts
/// it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub i64);

/// Place of an event in its partition. Opaque text: hubs with geo-replication write more than a number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Offset(String);

impl Offset {
    /// Takes the offset as the hub has written it.
    #[must_use]
    pub fn new(offset: impl Into<String>) -> Self {
        Self(offset.into())
    }

    /// The offset as the hub has written it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where reading begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Position {
    /// At the oldest event that the partition still keeps.
    Earliest,
    /// With the first event that arrives after the link is attached.
    Latest,
    /// With the event after this one.
    After(Offset),
    /// With the event after the one of this sequence number.
    AfterSequence(i64),
    /// With the first event that was enqueued at or after this time, in milliseconds since 1970.
    FromTime(i64),
}

/// What a partition holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionProperties {
    /// Sequence number of the oldest event that is kept.
    pub beginning_sequence: i64,
    /// Sequence number of the newest event.
    pub last_sequence: i64,
    /// Offset of the newest event.
    pub last_offset: Offset,
    /// When the newest event was enqueued, in milliseconds since 1970.
    pub last_enqueued_ms: i64,
    /// Nothing is kept.
    pub empty: bool,
}

/// What identifies a stream of positions: offsets mean nothing at another endpoint, and the hub's
/// endpoint changes its name on fail-over to another region.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceIdentity {
    /// Host name of the Event Hubs namespace.
    pub namespace: String,
    /// Event Hubs-compatible name.
    pub hub: String,
    /// Consumer group.
    pub consumer_group: String,
}

/// A hub's device-to-cloud messages.
#[async_trait]
pub trait EventSource: Send + Sync {
    /// The partitions, in the hub's order. Their number never changes during a hub's life.
    async fn partitions(&self) -> Result<Vec<PartitionId>, HubError>;

    /// What a partition holds now.
    async fn properties(&self, partition: &PartitionId) -> Result<PartitionProperties, HubError>;

    /// What each of these partitions holds, in their order, over one connection.
    async fn survey(
        &self,
        partitions: &[PartitionId],
    ) -> Result<Vec<PartitionProperties>, HubError>;

    /// Attaches to a partition. Whoever reads it with a lower or the same epoch is evicted. `ahead`
    /// bounds the events that may be under way, or wait to be taken, at a time.
    async fn open(
        &self,
        partition: &PartitionId,
        position: Position,
        epoch: Epoch,
        ahead: u32,
    ) -> Result<Box<dyn Batches>, HubError>;

    /// What keys this source's positions.
    fn identity(&self) -> &SourceIdentity;
}

/// The events of one partition from one position on.
#[async_trait]
pub trait Batches: Send {
    /// Waits for at least one event, then takes what is ready, up to `max` (at least 1). Has no
    /// time-out of its own. Cancel-safe: an event is in exactly one result.
    ///
    /// After an error the link is dead: close it and open another after the last received event.
    async fn next(&mut self, max: usize) -> Result<Vec<Event>, HubError>;

    /// Detaches and closes what belongs to the link. Needed in every case, also after an error.
    async fn close(self: Box<Self>) -> Result<(), HubError>;
}
