//! The built-in endpoint: its name, where it is, and its partitions. A fail-over replaces it by another.
//!
//! Source: Microsoft Learn, "IoT Hub high availability and disaster recovery": after a fail-over the
//! Event Hubs-compatible name and endpoint are others, and what was not read is lost.

use std::sync::{Arc, PoisonError};

use super::{Hub, HubSettings, now_ms};
use crate::{
    fault::FaceName,
    log::{Last, NewEvent, Partition, partition_of},
};

/// The built-in endpoint as it is between two fail-overs.
#[derive(Debug)]
pub struct Endpoint {
    /// Event Hubs-compatible name.
    pub entity: String,
    /// Host and port; `None` if the hub redirects nobody.
    pub address: Option<(String, u16)>,
    /// The event stream.
    pub partitions: Vec<Arc<Partition>>,
    /// When it was created; Unix milliseconds.
    pub created: i64,
    /// How many there were before it.
    before: usize,
}

impl Endpoint {
    /// The endpoint of a hub that has failed over `before` times. Each has a name of its own, and the
    /// next of the hub's addresses.
    pub(super) fn new(settings: &HubSettings, before: usize) -> Self {
        let HubSettings {
            event_hub,
            partitions,
            retention,
            redirect,
            ..
        } = settings;
        let entity = match before {
            0 => event_hub.clone(),
            times => format!("{event_hub}-after-{times}"),
        };
        Self {
            entity,
            address: redirect.get(before % redirect.len().max(1)).cloned(),
            partitions: (0..(*partitions).max(1))
                .map(|id| Arc::new(Partition::new(id, *retention)))
                .collect(),
            created: now_ms(),
            before,
        }
    }

    /// The partition with that name (`"0"`, `"1"`, …).
    #[must_use]
    pub fn partition(&self, id: &str) -> Option<&Arc<Partition>> {
        // "+1" and "01" parse, but name nothing.
        let index: usize = id.parse().ok()?;
        self.partitions
            .get(index)
            .filter(|_| index.to_string() == id)
    }

    /// Whether this is its Event Hubs-compatible name. Names are compared without case.
    #[must_use]
    pub fn is_named(&self, entity: &str) -> bool {
        self.entity.eq_ignore_ascii_case(entity)
    }
}

impl Hub {
    /// The built-in endpoint as it is now.
    #[must_use]
    pub fn endpoint(&self) -> Arc<Endpoint> {
        let endpoint = self.endpoint.read();
        Arc::clone(&endpoint.unwrap_or_else(PoisonError::into_inner))
    }

    /// Stores an event in its device's partition.
    pub fn append(&self, event: NewEvent) -> (u16, Last) {
        let endpoint = self.endpoint();
        let count = u16::try_from(endpoint.partitions.len()).unwrap_or(u16::MAX);
        let id = partition_of(&event.origin.device, count);
        let partition = &endpoint.partitions[usize::from(id)];
        (id, partition.append(event, now_ms()))
    }

    /// Another endpoint takes this one's place, and services lose their AMQP connections. Devices keep
    /// theirs, so that tests know what was sent before and after.
    pub(super) fn fail_over(&self) {
        let before = self.endpoint().before + 1;
        let next = Arc::new(Endpoint::new(&self.settings, before));
        tracing::info!(entity = next.entity, "failed over");
        *self
            .endpoint
            .write()
            .unwrap_or_else(PoisonError::into_inner) = next;
        for face in [FaceName::EventsAmqp, FaceName::HubAmqp] {
            self.connections.drop_matching(Some(face), None);
        }
    }
}
